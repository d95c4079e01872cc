//! Hold: releases, in order, what the webhook paused in the request that changed it.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | pure: which Deployment is released when |
//! | [`step`] | one Deployment: released, and waited for |
//! | [`procedure`] | what the life cycle of a run asks |
//! | [`controller`] | starts and resumes the runs of all releases while this replica leads |
//!
//! A run changes nothing of a Deployment but `spec.paused` and its own annotation. It reads
//! nothing but Kubernetes, so its gates are those of Kubernetes: every pod has the new template and
//! is available, and no other pod is left.

pub mod controller;
pub mod plan;
pub mod procedure;
pub mod step;

pub use controller::Controller;
pub use procedure::HeldUpgrade;
