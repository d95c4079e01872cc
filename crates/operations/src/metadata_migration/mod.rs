//! `migrate`: the official procedure from 2.1 to 2.2 on Kubernetes, as steps for [`crate::engine`].
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | the settings that the command line gives, and which are refused |
//! | [`survey`] | the running state: the release, its etcd, the target image |
//! | [`migratable`] | pure: why a release cannot be migrated |
//! | [`order`] | pure: the order in which components start |
//! | [`plan`] | the steps as a list, and its hash |
//! | [`procedure`] | plan, preconditions and state at an abort, for the life cycle of a run |
//! | `step`, [`steps`] | how the engine carries out a step; one file for each step |
//! | [`context`] | what the steps work with |
//! | [`events`] | events of the work on etcd, as events of a run |
//! | [`messages`] | the messages of a run that stops, and the Helm command that agrees with the running state |
//! | [`preview`] | what a run would do, and why it would be refused; changes nothing |
//! | [`job`] | the arguments and the rights of the Job |
//!
//! Milvus is stopped from the step `stop` to the step `start`. Only
//! [`milvus_guard_metadata::executor`] changes metadata; it holds its own lock in etcd.

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
