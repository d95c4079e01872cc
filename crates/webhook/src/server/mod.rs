//! The webhook's server: everything around [`milvus_guard_core::admission`] that does I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`listen`] | connections: TLS, HTTP/1.1 and HTTP/2, limits, draining |
//! | [`connections`] | the open connections, and which one is closed if all places are taken |
//! | [`body_budget`] | memory for incoming bodies |
//! | [`routes`] | the HTTP routes |
//! | [`answer`] | answers each review, in time, in every case |
//! | [`callers`] | which callers are answered: the secret in the webhook's path |
//! | [`state_source`] | the state on which reviews are judged: from files, or from a cluster |
//! | [`shared_readings`] | readings of the cluster that many reviews share |
//! | [`watch_cache`] | the cluster's objects in memory, reduced to what rules read |
//! | [`watch`] | keeps the cache up to date |
//! | [`release_history`] | releases that were uninstalled |
//! | [`leader`] | leader election |
//! | [`leader_tasks`] | tasks in addition to reviews |
//! | `running_audit` | the periodic audit of the running releases |
//! | `policy_reports` | results of the audit, as objects of the OpenReports project |
//! | [`release_metrics`] | results of the audit, as gauges |
//! | [`replica_lease`] | the Lease of this replica, and the runs that it knows |
//! | [`registration`] | the leader's registration at the API server |
//! | [`events`] | Kubernetes Events about denials |
//! | [`metrics`] | the metrics |
//! | [`gauges`] | gauges that are updated at each scrape |
//! | [`self_check`] | checks the server with connections to its own port |
//! | [`lifecycle`] | readiness and shutdown |

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
