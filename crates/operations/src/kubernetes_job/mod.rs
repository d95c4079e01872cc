//! The Job that makes a run in the cluster: one for `migrate` and `upgrade`.
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | pure: the Job, its account and its rights as objects |
//! | [`make`] | makes it, or finds the one that is at work |
//! | [`follow`] | tells what its run records as if it happened here, and how it ended |

pub mod follow;
pub mod make;
pub mod spec;

pub use make::{asker, image, run};
pub use spec::{Claim, JobSpec, Mounted, Rights};
