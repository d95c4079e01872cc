//! The webhook's server: everything around [`milvus_guard_core::admission`] that does I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`listen`] | connections: TLS, HTTP/1.1 and HTTP/2, limits, draining |
//! | [`guests`] | who is connected, and who has to go |
//! | [`intake`] | bodies on their way in |
//! | [`routes`] | paths to functions |
//! | [`answer`] | one review to one answer, in time, whatever happens |
//! | [`callers`] | who may ask: the secret in the webhook's path |
//! | [`world`] | what is known: from files, or from a cluster |
//! | [`share`] | readings of the cluster that many reviews share |
//! | [`store`] | the cluster's objects in memory, reduced to what rules read |
//! | [`watch`] | keeps the store up to date |
//! | [`memory`] | what ran before it was uninstalled |
//! | [`leader`] | who does what only one may do |
//! | [`duties`] | what is done beside reviews |
//! | [`presence`] | the Lease of this replica, and the runs that it knows |
//! | [`registration`] | the leader's registration at the API server |
//! | [`events`] | Kubernetes Events about denials |
//! | [`metrics`] | what is counted |
//! | [`refresh`] | gauges that are read off when somebody asks |
//! | [`probe`] | whether the server could be asked |
//! | [`life`] | readiness and the way down |

pub mod answer;
pub mod callers;
pub mod data;
pub mod duties;
pub mod events;
pub mod guests;
pub mod intake;
pub mod leader;
pub mod life;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod presence;
pub mod probe;
pub mod refresh;
pub mod registration;
pub mod routes;
pub mod share;
pub mod shelf;
pub mod store;
pub mod watch;
pub mod world;

/// The field manager of the server's own writes. Registrations have another one.
const MANAGER: &str = "milvus-guard";
