//! # milvus-guard
//!
//! Prevents unsafe upgrades of Milvus on Kubernetes. This package is the program: [`cli`] has one
//! file for each verb. The work is done by five crates, which depend on each other in one direction
//! only:
//!
//! ```text
//! milvus-guard (cli) --> operations --> metadata --> sources --> core
//!                    `-> webhook  ------------------'
//! ```
//!
//! `docs/ARCHITECTURE.md` has the map; `cargo xtask graph` prints modules and dependencies.

pub mod cli;
