//! # milvus-guard
//!
//! Prevents unsafe upgrades of Milvus on Kubernetes. Every judgement takes one way:
//!
//! ```text
//! manifest files  \                                                      /  text, JSON, SARIF, JUnit, Markdown ...
//! live cluster     >-- Snapshot (before, after) -- rules -- findings -- policy -- verdict
//! Helm storage    /        + Facts (evidence)                            \  plan
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`manifest`] | text to Kubernetes objects, bounded |
//! | [`milvus`] | versions, images, components, configuration, releases, and the data about them |
//! | [`facts`], [`upgrade`] | what a rule judges |
//! | [`rules`] | one file a rule |
//! | [`policy`] | findings to actions: policies and exceptions |
//! | [`objects`] | the objects of the API group `guard.milvus.io` |
//! | [`schemas`] | JSON Schemas of everything that people write or programs read |
//! | [`text`] | counts and plurals, and text of others without control characters |
//! | [`judge`] | all of it in a row: snapshots in, judgement out |
//! | [`audit`] | the same of what already runs |
//! | [`migration`] | the metadata of 2.1 to that of 2.2: plan, transactions, backup, restore |
//! | [`meta`] | the same carried out on etcd, safely and resumably |
//! | [`plan`] | the path from A to B as numbered steps |
//! | [`report`] | a judgement for people and machines, one file a format |
//! | [`admission`] | reviews to rulings: the gates of the webhook |
//! | [`helm`] | Helm's records and values |
//! | [`inputs`] | adapters: files, folders, Helm output |
//! | [`cluster`] | adapter: a live Kubernetes cluster |
//! | [`etcd`] | adapter: etcd |
//! | [`run`] | the engine of `migrate` and `upgrade`: steps, state, lock, events |
//! | [`migrate`] | the steps of `migrate` |
//! | [`job`] | the Job that makes a run in the cluster |
//! | [`rollout`] | the steps of `upgrade` |
//! | [`milvus_api`] | what a running Milvus says: health, version, what is loaded |
//! | [`server`] | the webhook around it: connections, caches, leader, metrics |
//! | [`certs`] | the server's certificate: read, followed, made, rotated |
//! | [`cli`] | one file a verb |
//!
//! The core does no I/O, reads no clock and knows no Kubernetes client: `manifest`, `milvus`, `facts`, `upgrade`, `rules`, `policy`,
//! `objects`, `schemas`, `text`, `judge`, `audit`, `migration`, `plan`, `helm` and `admission`. `tests/house.rs` checks that. The other modules are
//! adapters: they read or write, and decide nothing.

pub mod admission;
pub mod audit;
pub mod certs;
pub mod cli;
pub mod cluster;
pub mod etcd;
pub mod facts;
pub mod helm;
pub mod inputs;
pub mod job;
pub mod judge;
pub mod manifest;
pub mod meta;
pub mod migrate;
pub mod migration;
pub mod milvus;
pub mod milvus_api;
mod mounted;
pub mod objects;
pub mod plan;
pub mod policy;
mod reason;
pub mod report;
pub mod rollout;
pub mod rules;
pub mod run;
pub mod schemas;
pub mod server;
pub mod text;
pub mod upgrade;
