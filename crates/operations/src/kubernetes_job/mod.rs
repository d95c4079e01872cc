//! The Job that carries out a run in the cluster: one for `migrate` and `upgrade`.
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | pure: the Job, its account and its rights as objects |
//! | [`make`] | creates it, or finds the one that is running |
//! | [`run`] | what a verb brings, and how a command becomes a Job |
//! | [`follow`] | reports the events of its run, and how it ended |

pub mod follow;
pub mod make;
pub mod run;
pub mod spec;

pub use run::{BackupVolume, InJob, JobOptions, JobRequirements, lacking, run_in_job};
pub use spec::{Claim, JobSpec, Mounted, Rights};
