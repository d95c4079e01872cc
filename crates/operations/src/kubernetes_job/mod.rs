//! The Job that makes a run in the cluster: one for `migrate` and `upgrade`.
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | pure: the Job, its account and its rights as objects |
//! | [`make`] | makes it, or finds the one that is at work |
//! | [`run`] | what a verb brings, and the way from a command to its Job |
//! | [`follow`] | tells what its run records as if it happened here, and how it ended |

pub mod follow;
pub mod make;
pub mod run;
pub mod spec;

pub use run::{BackupVolume, InJob, JobOptions, JobRequirements, run_in_job};
pub use spec::{Claim, JobSpec, Mounted, Rights};
