//! An upgrade whose new templates Helm brings: the Deployments are paused, Helm applies its change,
//! and the run releases them in order. So components can be added and removed, and values change.
//!
//! | module | holds |
//! |---|---|
//! | [`change`] | pure: what one `helm upgrade` does to a release, from the manifests before and after |
//! | [`plan`] | pure: the order data applied to the components before and after |
//!
//! The steps are in [`super::steps`]: `helm` pauses and waits for Helm, `leaving` deletes at the
//! end what Helm kept.

pub mod change;
pub mod plan;

pub use change::HelmChange;

/// Annotation of what a run paused, created or keeps until its end; its value is the run.
pub const MARK: &str = "guard.milvus.io/upgrade-run";

/// What the process that runs Helm passes to the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelmTurn {
    /// What Helm changes.
    pub change: HelmChange,
    /// Whether Helm has made it.
    pub progress: HelmProgress,
    /// Who runs Helm.
    pub caller: HelmCaller,
}

/// Who runs Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmCaller {
    /// The command of the user, or its Job.
    Command,
    /// The user; Helm runs this process as a hook.
    User,
}

/// Whether Helm has made its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmProgress {
    /// Helm will make it when everything is paused.
    Ahead,
    /// Helm has made it in this command.
    Made,
}
