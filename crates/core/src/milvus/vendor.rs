//! Who publishes a chart of Milvus.

/// Whose Milvus chart it is. Each has its own value paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vendor {
    /// The chart of the Milvus project (`zilliztech/milvus`).
    #[default]
    Zilliz,
    /// `bitnami/milvus`.
    Bitnami,
    /// Another chart, such as a fork under another name.
    Other,
}
