//! Admission logic: turns an `AdmissionReview` into a decision. No server, no cluster, no clock:
//! those are in the server.
//!
//! | module | holds |
//! |---|---|
//! | [`review`] | the request of the API server, and the response |
//! | `gate`, [`task`] | which gate a review belongs to, and what is left to judge |
//! | `object` | the object of a review |
//! | [`review_state`] | what is known at that moment |
//! | [`release_gate`] | Helm's release records: the one clean "no" |
//! | [`workload_gate`] | single objects: the backstop |
//! | [`documents_gate`] | the guard's own documents |
//! | [`mutate`] | the version label |
//! | [`hold`] | what is paused until the components before it have moved |
//! | [`decision`] | what the release gate allowed, object by object |
//! | [`acceptance`] | acceptances, set by a Helm label or an annotation |
//! | [`ruling`] | findings to the words of a denial |

pub mod acceptance;
#[cfg(test)]
mod attacks;
pub mod decision;
pub mod documents_gate;
mod envelope;
mod gate;
pub mod hold;
pub mod mutate;
mod object;
#[cfg(any(test, feature = "testkit"))]
pub mod parity;
mod partial_object;
pub mod release_gate;
pub mod review;
pub mod review_state;
pub mod ruling;
pub mod task;
#[cfg(test)]
mod variants;
pub mod workload_gate;

pub use gate::Gate;
pub use review::{Response, Review};
pub use review_state::ReviewState;
pub use ruling::Ruling;
pub use task::Task;
