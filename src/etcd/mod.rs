//! etcd, read only: which format Milvus' metadata has there.
//!
//! [`crate::migration::format`] decides (pure), [`client`] reads. What cannot be read is a fact too: nothing here returns
//! an error.

pub mod client;

pub use client::{Endpoint, Tls, inspect};
