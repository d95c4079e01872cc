//! Reads the state of a running Milvus through its proxy (gRPC).
//!
//! Kubernetes reports a query node as ready before its segments are loaded. Searches then return no
//! rows or a part of them, without an error. So a change of query nodes must check Milvus, not only
//! Kubernetes.
//!
//! | module | holds |
//! |---|---|
//! | [`proxy`] | address and login of the proxy, the calls with their limits |
//! | `message` | the few messages of Milvus's protocol that are needed |
//! | [`error`] | why there is no answer, as messages for people |
//! | [`read`] | health, version, what is loaded, users and roles |
//! | [`search`] | searches in a collection of the users, whose answer can be compared with a later one |
//! | [`probe`] | writes, searches and drops a small collection |
//! | [`loaded`] | pure: what is loaded and what is missing, also against an earlier [`Baseline`](milvus_guard_core::api::loaded::Baseline) |
//!
//! Nothing here decides. Only [`probe`] writes, and only to its own collection: all other calls read.

pub mod error;
pub mod loaded;
mod message;
pub mod probe;
pub mod proxy;
pub mod read;
pub mod search;

pub use error::ApiError;
pub use loaded::{CollectionLoad, Loaded, Replica, Served, ShardLeader};
pub use probe::{ProbeFailure, ProbeOutcome, probe};
pub use proxy::{Login, Proxy};
pub use read::{Health, Principals, health, loaded, principals, version};
pub use search::{CollectionName, NotACollection, NotSearchable, Search, prepare, search};
