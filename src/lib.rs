//! # milvus-guard
//!
//! Prevents unsafe upgrades of Milvus on Kubernetes. This package is the program: [`cli`] has one
//! file for each verb. What it does is in five crates, which know each other in one direction
//! only:
//!
//! ```text
//! milvus-guard (cli) --> operations --> metadata --> sources --> core
//!                    `-> webhook  ------------------'
//! ```
//!
//! `docs/ARCHITECTURE.md` has the map; `cargo xtask graph` prints the modules and who uses whom.

pub mod cli;
