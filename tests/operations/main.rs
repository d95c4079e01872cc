//! Runs in a cluster and on etcd: the metadata migration, the rolling upgrade and their engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod etcd;
mod helm_site;
mod meta_crash;
mod meta_migrate;
mod meta_restore;
mod meta_sessions;
mod meta_trouble;
mod migrate;
mod migrate_crash;
mod migrate_guarded;
mod migrate_inputs;
mod migrate_job;
mod migration_of_real_metadata;
mod run_engine;
mod session_release;
mod story;
mod upgrade;
mod upgrade_by_hooks;
mod upgrade_crash;
mod upgrade_failures;
mod upgrade_gate;
mod upgrade_guarded;
mod upgrade_many;
mod upgrade_orders;
mod upgrade_proxies;
mod upgrade_sessions;
mod upgrade_through_helm;
mod upgrade_ticks;
mod verify;
