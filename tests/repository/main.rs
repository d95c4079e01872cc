//! Files that the repository publishes: generated texts, schemas, definitions and charts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod builds;
mod chart_conventions;
mod chart_guard;
mod chart_upgrade;
mod crds;
mod docs;
mod house;
mod pipelines;
mod release;
mod schemas;

/// Gives snapshot files the names in the tests, without the module path, until the returned value
/// is dropped.
fn plain_snapshot_names() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.bind_to_scope()
}
