//! Hostile input: files, reviews and connections that are meant to cause damage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod connections;
mod input;
mod load;
mod reviews;
