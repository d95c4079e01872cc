//! The program as its user meets it: the command line, what it reads, what it judges and advises.
//! `advice`, `helm_plugin`, `live` and `post_renderer` start a control plane, `charts` and `values`
//! call Helm; the others need Rust alone.
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
