//! The program for its user: the command line, its inputs, checks and advice. `advice`,
//! `helm_plugin`, `live` and `post_renderer` start a control plane, `charts` and `values` call
//! Helm; the others only need Rust.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod advice;
mod answers;
mod cases;
mod catalogue;
mod charts;
mod cli;
mod first_hour;
mod helm_plugin;
mod inputs;
mod live;
mod post_renderer;
mod properties;
mod review_properties;
mod values;
