//! `upgrade`: the ordered rolling upgrade, as steps for [`crate::engine`].
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what the command line asks for |
//! | [`plan`] | pure: which component moves when, from the order data; its hash and its text |
//! | [`through_helm`] | an upgrade whose new templates Helm brings, with components that come and go |
//! | [`recorded`] | pure: the plan of a run in progress, from its record |
//! | `path` | pure: the same as a path, for documents with a diagram |
//! | [`preconditions`] | pure: why a release cannot be rolled as it is |
//! | [`verdict`] | pure: what the rules say of it, asked as `check` asks |
//! | [`standby`] | pure: active-standby of the coordinators in a configuration file |
//! | [`serving`] | pure: which moves replace those who serve searches, and when Milvus is asked whether it is whole |
//! | [`capacity`] | pure: whether some node has room for a new pod in addition to the old ones |
//! | [`active`] | pure: which coordinator is active, by the sessions in etcd |
//! | [`ended`] | pure: which sessions in etcd are of pods that have ended |
//! | [`ticks`] | pure: whether time ticks go on after a takeover, by the metrics of pods |
//! | [`target_updates`] | pure: when an old query node ends best |
//! | [`proxy_address`] | where the proxies of Milvus are |
//! | [`milvus`], [`sessions`] | the ways to Milvus itself and to its sessions |
//! | [`step`] | pure: a step, and a component that moves |
//! | [`execution`], [`steps`] | how the steps are carried out, one file each |
//! | [`context`] | what the steps work with |
//! | [`messages`] | what is said when a run stops, and the Helm command that agrees with what runs |
//! | [`procedure`] | what the life cycle of a run asks: plan, preconditions, state at an abort |
//! | [`preview`] | what a run would do, and why it would be refused; changes nothing |
//! | [`job`] | pure: what the Job gets that does the same in the cluster, and what it may do |
//!
//! A component moves only when all before it run the target, rolled out completely, with no pod of
//! the old image left. The gate is asked of Kubernetes by watching, and where query nodes moved of
//! Milvus too; nothing sleeps between a component that is ready and the next.

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
    AskMilvus, MilvusAccess, Operation, RunLocation, SearchedCollections, SessionHelp, Settings,
};
