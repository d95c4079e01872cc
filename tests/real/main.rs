//! Pods on a real node, a database for Helm, real Milvus servers. Most tests are ignored by
//! default, because they need root, packages of the machine or large downloads: `make test-node`,
//! `make test-milvus`, `make test-roll`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod helm_sql;
mod milvus;
mod milvus_api;
mod milvus_gate;
mod milvus_verify;
mod node;
mod roll;
mod roll_compare;
mod roll_short;
