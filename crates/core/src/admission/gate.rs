//! The admission gates.

/// Which admission gate handles a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Helm's release records.
    Release,
    /// Single objects of Milvus.
    Workload,
    /// The guard's own documents.
    Documents,
    /// The version label.
    Mutate,
}

impl Gate {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Workload => "workload",
            Self::Documents => "documents",
            Self::Mutate => "mutate",
        }
    }
}
