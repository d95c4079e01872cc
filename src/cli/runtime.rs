//! The runtime of verbs that talk to a cluster or to etcd.

use tokio::runtime::{Builder, Runtime};

use super::exit::Failure;

/// A runtime on this thread.
///
/// # Errors
/// If the system does not give what it needs.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::no_verdict(format!("cannot start the runtime: {error}")))
}
