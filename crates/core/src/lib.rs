//! The decisions of milvus-guard. This crate does no I/O, reads no clock and has no Kubernetes
//! client.
//!
//! ```text
//! before, after (releases) and evidence -- rules -- findings -- policy -- verdict -- report
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`manifest`] | text to Kubernetes objects, bounded |
//! | [`milvus`] | versions, images, components, configuration, releases, and the data about them |
//! | [`helm`] | Helm's records and values |
//! | [`api`] | the objects of the API group `guard.milvus.io` |
//! | [`change`], [`evidence`] | what a rule judges |
//! | [`rules`] | one file for each rule |
//! | [`policy`] | findings to actions: policies and exceptions |
//! | [`evaluate`] | judges a change or a running state: releases in, verdict out |
//! | [`audit`] | the same for a release that runs already |
//! | [`inventory`] | the standing of a running release, and its last run |
//! | [`upgrade_path`] | the path from one version to another as numbered steps |
//! | [`verification`] | the result of `verify` for a release after an upgrade |
//! | [`admission`] | admission reviews to decisions: the gates of the webhook |
//! | `page` | the frame of pages for a browser and for paper |
//! | [`report`] | a report for people and machines, one file for each format |
//! | [`project`] | name, address and documentation of the project |
//! | [`schemas`] | JSON Schemas of everything that people write or programs read |
//! | [`layout`] | text in lines of a width |
//! | [`text`], [`error_text`] | counts and plurals; text of others without control characters; error chains |
//!
//! The feature `testkit` exports the fixtures of the rules' tests to the tests of the other crates.

pub mod admission;
pub mod api;
pub mod audit;
pub mod change;
pub mod error_text;
pub mod evaluate;
pub mod evidence;
pub mod helm;
pub mod inventory;
pub mod layout;
pub mod manifest;
pub mod milvus;
mod page;
pub mod policy;
pub mod project;
pub mod report;
pub mod rules;
pub mod schemas;
pub mod text;
pub mod upgrade_path;
pub mod verification;
