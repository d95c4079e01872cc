//! Held upgrades: releases, in order, the Deployments that the webhook paused when they changed.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | pure: which Deployment is released when |
//! | [`step`] | one Deployment: released, and waited for |
//! | [`procedure`] | the plan, the preconditions and the messages for the life cycle of a run |
//! | [`controller`] | starts and resumes the runs of all releases while this replica leads |
//!
//! A run changes only `spec.paused` and our annotation of a Deployment. Its gates are those of
//! Kubernetes: every pod has the new template and is available, and no other pod is left. If etcd
//! can be reached, sessions of ended pods are removed from it as `upgrade` does it, and a step
//! waits until none is left.

pub mod controller;
pub mod plan;
pub mod procedure;
pub mod step;

pub use controller::Controller;
pub use procedure::{HeldUpgrade, HoldSettings};
