//! The runtime of verbs that talk to a cluster or to etcd.

use tokio::runtime::{Builder, Runtime};

use milvus_guard_operations::engine::Cancellation;

use super::exit::Failure;

/// A runtime on this thread.
///
/// # Errors
/// If the system does not provide its resources.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    built(&mut Builder::new_current_thread())
}

/// A runtime of two threads, for work that computes while it waits.
///
/// # Errors
/// If the system does not provide its resources.
pub(super) fn of_two_threads() -> Result<Runtime, Failure> {
    built(Builder::new_multi_thread().worker_threads(2))
}

fn built(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::no_verdict(format!("cannot start the runtime: {error}")))
}

/// A token that SIGTERM and SIGINT trigger, for work on the runtime.
///
/// # Errors
/// If signals cannot be listened to.
pub(super) fn on_signals() -> Result<Cancellation, Failure> {
    Cancellation::on_signals()
        .map_err(|error| Failure::no_verdict(format!("cannot listen for signals: {error}")))
}
