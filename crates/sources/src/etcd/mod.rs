//! etcd, where Milvus keeps its metadata: connections, paged reads at one revision, guarded
//! transactions, leases.

use std::time::Duration;

pub mod connect;
pub mod connection;
pub mod failure;
pub mod range;
pub mod settings;

pub use connect::{Endpoint, Tls};
pub use settings::settings;

/// Limit for everything that is read for one verdict. A webhook never reads etcd.
pub const TOTAL_DEADLINE: Duration = Duration::from_secs(15);
