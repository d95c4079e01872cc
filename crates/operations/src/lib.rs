//! The runs of milvus-guard in a cluster.
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | steps, the record of a run, its lock, events and displays |
//! | [`metadata_migration`] | the steps of `migrate` |
//! | [`rolling_upgrade`] | the steps of `upgrade` |
//! | [`held_upgrade`] | releases the changes that the webhook holds |
//! | [`verification`] | whether a release is complete after an upgrade |
//! | [`kubernetes_job`] | the Job that carries out a run in the cluster |

pub mod engine;
pub mod held_upgrade;
pub mod kubernetes_job;
pub mod metadata_migration;
pub mod rolling_upgrade;
pub mod verification;
