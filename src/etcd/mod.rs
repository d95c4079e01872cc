//! etcd, where Milvus keeps its metadata.
//!
//! [`client`] reads just enough to tell the format and never returns an error: what cannot be read is a fact too.
//! [`store`] is the whole of it for those who migrate: paged reads at one revision, guarded transactions, leases.
//! [`crate::migration`] decides (pure).

pub mod client;
pub mod connect;
pub mod failure;
pub mod range;
pub mod store;

pub use client::inspect;
pub use connect::{Endpoint, Tls};
