//! `upgrade`: the ordered rolling upgrade, as steps for [`crate::engine`].
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | the settings that the command line gives |
//! | [`plan`] | pure: which component moves when, from the order data; its hash and its text |
//! | [`through_helm`] | an upgrade whose new templates Helm brings, with added and removed components |
//! | [`recorded`] | pure: the plan of a run in progress, from its record |
//! | `path` | pure: the plan as a path, for documents with a diagram |
//! | [`preconditions`] | pure: why a release cannot be upgraded by rolling |
//! | [`verdict`] | pure: what the rules find in the upgrade, with the input of `check` |
//! | [`standby`] | pure: active-standby of the coordinators in a configuration file |
//! | [`serving`] | pure: which moves replace query nodes, and when Milvus is asked whether it serves all |
//! | [`capacity`] | pure: whether some node has room for a new pod in addition to the old ones |
//! | [`active`] | pure: which coordinator is active, according to the sessions in etcd |
//! | [`ended`] | pure: which sessions in etcd are of pods that have ended |
//! | [`ticks`] | pure: whether time ticks resume after a takeover, by the metrics of pods |
//! | [`target_updates`] | pure: the best time for an old query node to end |
//! | [`proxy_address`] | the address of Milvus' proxies |
//! | [`milvus`], [`sessions`] | the connections to Milvus and to its sessions |
//! | [`step`] | pure: a step, and a component that moves |
//! | [`execution`], [`steps`] | how the steps are carried out, one file each |
//! | [`context`] | what the steps work with |
//! | [`messages`] | the messages of a run that stops, and the Helm command that agrees with what runs |
//! | [`procedure`] | plan, preconditions and state at an abort, for the life cycle of a run |
//! | [`preview`] | what a run would do, and why it would be refused; changes nothing |
//! | [`job`] | pure: the arguments and the rights of the Job |
//!
//! A component moves only when all components before it run the target, are completely rolled out,
//! and have no pod of the old image left. The gate watches Kubernetes, and asks Milvus too if query
//! nodes moved. There is no fixed pause between two components.

pub mod active;
pub mod capacity;
pub mod context;
pub mod ended;
pub mod execution;
pub mod job;
pub mod messages;
pub mod milvus;
mod path;
pub mod plan;
pub mod preconditions;
pub mod preview;
pub mod procedure;
pub mod proxy_address;
pub mod recorded;
pub mod serving;
pub mod sessions;
pub mod settings;
pub mod standby;
pub mod step;
pub mod steps;
pub mod target_updates;
pub mod through_helm;
pub mod ticks;
pub mod verdict;

pub use procedure::RollingUpgrade;
pub use settings::{
    AskMilvus, MilvusAccess, Operation, SearchedCollections, SessionHelp, Settings,
};
