//! `migrate`: the official procedure from 2.1 to 2.2 on Kubernetes, as steps for [`crate::engine`].
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what the command line asks for, and what it must not ask for |
//! | [`survey`] | the running state: the release, its etcd, the target image |
//! | [`migratable`] | pure: why a release cannot be migrated as it is |
//! | [`order`] | pure: who starts after whom |
//! | [`plan`] | the steps as a list, and its hash |
//! | [`procedure`] | what the life cycle of a run asks: plan, preconditions, state at an abort |
//! | `step`, [`steps`] | how the engine carries a step out; one file for each step |
//! | [`context`] | what the steps work with |
//! | [`events`] | what happens in etcd, as events of a run |
//! | [`messages`] | what is said when a run stops, and the Helm command that agrees with the running state |
//! | [`preview`] | what a run would do, and why it would be refused; changes nothing |
//! | [`job`] | what the Job gets that does the same in the cluster, and what it may do |
//!
//! Milvus is stopped from `stop` to `start`. Metadata is touched by
//! [`milvus_guard_metadata::executor`] alone, which holds its own lock in etcd.

pub mod context;
pub mod events;
pub mod job;
pub mod messages;
pub mod migratable;
pub mod order;
pub mod plan;
pub mod preview;
pub mod procedure;
pub mod settings;
mod step;
pub mod steps;
pub mod survey;

pub use procedure::Migration;
pub use settings::{Operation, Settings, StartBy};
