//! The admission webhook and its certificates; most tests use real API servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod appliers;
mod attacks;
mod audit;
mod callers;
mod certs;
mod certs_client;
mod certs_managed;
mod faults;
mod fresh;
mod hold;
mod label;
mod life;
mod registration;
mod release;
mod soak;
mod static_manifests;
mod workload;
