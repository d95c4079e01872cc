//! The webhook's server: everything around [`milvus_guard_core::admission`] that does I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`listen`] | connections: TLS, HTTP/1.1 and HTTP/2, limits, draining |
//! | [`connections`] | who is connected, and who has to go |
//! | [`body_budget`] | bodies on their way in |
//! | [`routes`] | paths to functions |
//! | [`answer`] | one review to one answer, in time, in every case |
//! | [`callers`] | who may ask: the secret in the webhook's path |
//! | [`state_source`] | what is known: from files, or from a cluster |
//! | [`shared_readings`] | readings of the cluster that many reviews share |
//! | [`watch_cache`] | the cluster's objects in memory, reduced to what rules read |
//! | [`watch`] | keeps the store up to date |
//! | [`release_history`] | what ran before it was uninstalled |
//! | [`leader`] | who does what only one may do |
//! | [`leader_tasks`] | what is done in addition to reviews |
//! | `running_audit` | the periodic audit of the running releases |
//! | `policy_reports` | what that found, as objects of the OpenReports project |
//! | [`release_metrics`] | what that found, as gauges |
//! | [`replica_lease`] | the Lease of this replica, and the runs that it knows |
//! | [`registration`] | the leader's registration at the API server |
//! | [`events`] | Kubernetes Events about denials |
//! | [`metrics`] | what is counted |
//! | [`gauges`] | gauges that are read off when someone asks |
//! | [`self_check`] | whether the server could be asked |
//! | [`lifecycle`] | readiness and the way down |

pub mod answer;
pub mod body_budget;
pub mod cache_budget;
pub mod callers;
pub mod connections;
pub mod data;
pub mod events;
pub mod gauges;
pub mod leader;
pub mod leader_tasks;
pub mod lifecycle;
pub mod listen;
pub mod metrics;
mod policy_reports;
pub mod registration;
pub mod release_history;
pub mod release_metrics;
pub mod replica_lease;
pub mod routes;
mod running_audit;
pub mod self_check;
pub mod shared_readings;
pub mod state_source;
pub mod watch;
pub mod watch_cache;

pub use policy_reports::PolicyReportsOwner;

/// The field manager of the server's own writes. Registrations have another one.
const MANAGER: &str = "milvus-guard";
