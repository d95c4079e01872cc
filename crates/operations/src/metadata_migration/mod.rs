//! `migrate`: the official procedure from 2.1 to 2.2 on Kubernetes, as steps for [`crate::engine`].
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what the command line asks for, and what it must not ask for |
//! | [`survey`] | what runs: the release, its etcd, the image to come |
//! | [`fitness`] | pure: why a release cannot be migrated as it stands |
//! | [`order`] | pure: who starts after whom |
//! | [`plan`] | the steps as a list, and its hash |
//! | [`steps`] | one file a step |
//! | [`world`] | what the steps work with |
//! | [`words`] | what is said when a run stops, and the Helm command that agrees with what runs |
//! | [`preview`] | what a run would do, and why it would be refused; changes nothing |
//! | [`perform`] | all of it in this process: migrate, roll back, abort, record |
//! | [`job`] | pure: what the Job does that does the same in the cluster, and what it may do |
//! | [`remote`] | makes that Job by [`crate::kubernetes_job`] |
//!
//! Milvus is stopped from `stop` to `start`. Metadata is touched by
//! [`milvus_guard_metadata::executor`] alone, which holds its own lock in etcd.

pub mod fitness;
pub mod job;
pub mod order;
pub mod perform;
pub mod plan;
pub mod preview;
pub mod remote;
pub mod settings;
pub mod steps;
pub mod survey;
pub mod words;
pub mod world;

pub use perform::perform;
pub use preview::{Preview, preview};
pub use remote::{JobOptions, remote};
pub use settings::{Operation, Settings, StartBy};
