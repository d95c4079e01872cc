//! The runs of milvus-guard in a cluster.
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | steps, the record of a run, its lock, events and displays |
//! | [`metadata_migration`] | the steps of `migrate` |
//! | [`rolling_upgrade`] | the steps of `upgrade` |
//! | [`held_upgrade`] | the release of what the webhook holds |
//! | [`verification`] | whether a release is whole after an upgrade |
//! | [`kubernetes_job`] | the Job that makes a run in the cluster |

pub mod engine;
pub mod held_upgrade;
pub mod kubernetes_job;
pub mod metadata_migration;
pub mod rolling_upgrade;
pub mod verification;
