//! The settings that decide where Milvus' data lies, in comparable form.
//!
//! Charts and people spell the same thing in several ways; comparing text would raise false alarms,
//! so each setting is brought into one form first. Which settings count, how they are compared and
//! what Milvus takes where they are absent is data (`configuration.yaml`).
//!
//! | module | holds |
//! |---|---|
//! | `located`, `release` | the configuration of one component, and of a release |
//! | `situation` | what a release says of itself to the tables of the data |
//! | `queue`, `stores` | message queue, metadata store, object storage |
//! | `conditions` | which settings count |
//! | `reading`, `comparable` | effective values, and how they are compared |

mod comparable;
mod conditions;
mod located;
mod queue;
mod reading;
mod release;
mod situation;
mod stores;

pub use super::queue_kind::QueueKind;
pub(super) use comparable::cleaned;
pub use comparable::{Comparable, ComparableValue, Difference, Effective};
pub use conditions::Conditions;
pub use located::Located;
pub use queue::Queue;
pub use release::Metadata;
