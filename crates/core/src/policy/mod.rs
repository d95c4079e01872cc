//! Who decides what a finding does: policies and exceptions, and their resolution.
//!
//! The same documents work as files (`--policy`) and, in a cluster, as objects of the API group
//! `guard.milvus.io`.

pub mod lint;
pub mod read;
pub mod resolve;

pub use crate::api::policy::{
    ExceptionSpec, PolicyAction, PolicyDocument, PolicySpec, UpgradeException, UpgradePolicy,
};
pub use resolve::{Action, Applied, PolicySet};
