//! An upgrade whose new templates Helm brings: the Deployments are paused, Helm applies its change,
//! and the run releases them in order. So components come and go, and values change.
//!
//! | module | holds |
//! |---|---|
//! | [`change`] | pure: what one `helm upgrade` does to a release, from the manifests before and after |
//! | [`plan`] | pure: the order data laid over the components before and after |
//!
//! The steps are in [`super::steps`]: `helm` pauses and waits for Helm, `leaving` deletes at the
//! end what Helm kept.

pub mod change;
pub mod plan;

pub use change::HelmChange;

/// Annotation of what a run paused, made or keeps until its end; its value is the run.
pub const MARK: &str = "guard.milvus.io/upgrade-run";

/// What the process that runs Helm tells the run.
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
    /// The command that the user gave, or its Job for it.
    Command,
    /// The user, and Helm runs this process as a hook.
    User,
}

/// Whether Helm has made its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmProgress {
    /// It will, when everything is paused.
    Ahead,
    /// It has, in this command.
    Made,
}
