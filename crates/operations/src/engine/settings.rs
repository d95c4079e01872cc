//! The settings that all kinds of runs share.

use std::time::Duration;

use super::ReleaseName;

/// Where a run is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunLocation {
    /// In a Job in the cluster.
    #[default]
    Job,
    /// In the process of the command (`--local`).
    Local,
}

/// The settings that all kinds of runs share.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The release that the run is about.
    pub release: ReleaseName,
    /// Name of a new run; `None` lets the run choose one. A Job gets its name here.
    pub name: Option<String>,
    /// Namespace of the run; `None` means the guard's, else the release's ([`super::Home`]).
    pub namespace: Option<String>,
    /// Account that requested the run; `None` means the account of this process.
    pub requested_by: Option<String>,
    /// Time for the whole run; then it stops.
    pub timeout: Duration,
    /// Time for one step; then the run stops.
    pub step_timeout: Duration,
    /// Time for which the lock is valid without renewal.
    pub lock_duration: Duration,
    /// Whether a failure is rolled back at once.
    pub rolls_back_on_failure: bool,
}

#[cfg(test)]
impl RunSettings {
    /// Settings for release `my-release` in namespace `milvus`, for tests.
    pub(crate) fn sample() -> Self {
        Self {
            release: ReleaseName {
                name: "my-release".into(),
                namespace: "milvus".into(),
            },
            name: None,
            namespace: None,
            requested_by: None,
            timeout: Duration::from_secs(3),
            step_timeout: Duration::from_secs(2),
            lock_duration: Duration::from_secs(1),
            rolls_back_on_failure: false,
        }
    }
}
