//! The kinds of objects that are watched.

/// Kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Watched {
    Deployments,
    StatefulSets,
    ConfigMaps,
    Claims,
    Services,
    Autoscalers,
    Namespaces,
    Policies,
    Exceptions,
    Runs,
    Decisions,
}

impl Watched {
    /// All watched kinds.
    pub const ALL: [Self; 11] = [
        Self::Deployments,
        Self::StatefulSets,
        Self::ConfigMaps,
        Self::Claims,
        Self::Services,
        Self::Autoscalers,
        Self::Namespaces,
        Self::Policies,
        Self::Exceptions,
        Self::Runs,
        Self::Decisions,
    ];

    /// Documents that decide what is allowed, independent of the running state.
    pub const DECISIVE: [Self; 4] = [
        Self::Policies,
        Self::Exceptions,
        Self::Runs,
        Self::Decisions,
    ];

    /// Name of the kind.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Deployments => "Deployment",
            Self::StatefulSets => "StatefulSet",
            Self::ConfigMaps => "ConfigMap",
            Self::Claims => "PersistentVolumeClaim",
            Self::Services => "Service",
            Self::Autoscalers => "HorizontalPodAutoscaler",
            Self::Namespaces => "Namespace",
            Self::Policies => "UpgradePolicy",
            Self::Exceptions => "UpgradeException",
            Self::Runs => "UpgradeRun",
            Self::Decisions => "ReleaseDecision",
        }
    }
}
