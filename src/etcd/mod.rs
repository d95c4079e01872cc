//! etcd, read only: which format Milvus' metadata has there.
//!
//! [`mod@format`] decides (pure), [`client`] reads. What cannot be read is a fact too: nothing here returns an error.

pub mod client;
pub mod format;

pub use client::{Endpoint, Tls, inspect};
