//! The settings that decide where Milvus' data lies, in comparable form.
//!
//! Charts and people spell the same thing in several ways; comparing text would raise false alarms,
//! so each setting is brought into one form first. Which settings count, how they are compared and
//! what Milvus takes where they are absent is data (`configuration.yaml`).
//!
//! | module | holds |
//! |---|---|
//! | `located`, `release` | the configuration of one component, and of a release |
//! | `queue`, `stores` | message queue, metadata store, object storage |
//! | `conditions` | which settings count |
//! | `reading`, `comparable` | effective values, and how they are compared |

mod comparable;
mod conditions;
mod located;
mod queue;
mod reading;
mod release;
mod stores;

pub(super) use comparable::cleaned;
pub use comparable::{Comparable, Difference, Effective, Known};
pub use located::Located;
pub use queue::{Queue, QueueKind};
pub use release::Metadata;

/// Keys that decide which queue, which metadata store and which storage Milvus uses.
pub(super) const DECIDING_KEYS: [&str; 11] = [
    "mq.type",
    "messageQueue",
    "pulsar.address",
    "pulsar.port",
    "kafka.brokerList",
    "metastore.type",
    "etcd.use.embed",
    "etcd.endpoints",
    "common.storageType",
    "woodpecker.storage.type",
    "minio.bucketName",
];
