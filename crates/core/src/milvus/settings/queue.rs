//! The message queue that a component uses.

use super::{comparable::ComparableValue, located::Located};
use crate::milvus::{component::Topology, config::Unknown, endpoint::Host, queue_kind::QueueKind};
use std::collections::BTreeSet;

/// The message queue with everything that decides which topics are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue<'a> {
    /// Which system.
    pub kind: ComparableValue<'a, QueueKind>,
    /// Its brokers; empty for embedded queues.
    pub endpoints: ComparableValue<'a, BTreeSet<Host>>,
}

pub(super) fn default_queue(topology: Topology, has_kafka: bool) -> QueueKind {
    match topology {
        Topology::Standalone => QueueKind::RocksMq,
        Topology::Cluster if has_kafka => QueueKind::Kafka,
        Topology::Cluster => QueueKind::Pulsar,
    }
}

impl<'a> Located<'a> {
    /// The message queue. The type is `mq.type` or `messageQueue` where one is set (not `default`);
    /// charts up to 3.3.1 write neither, and then Milvus takes RocksMQ in a standalone, and in
    /// a cluster Pulsar before Kafka.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn queue(&self) -> Result<ComparableValue<'a, QueueKind>, &'a Unknown> {
        for key in ["mq.type", "messageQueue"] {
            if let Some(setting) = self.value(key)?
                && let Some(value) = QueueKind::named(setting.value)
            {
                return Ok(ComparableValue {
                    value,
                    setting: Some(setting),
                });
            }
        }
        let has_kafka = match self.release.topology() {
            Topology::Standalone => false,
            Topology::Cluster => {
                self.value("pulsar.address")?.is_none() && self.value("kafka.brokerList")?.is_some()
            }
        };
        Ok(ComparableValue {
            value: default_queue(self.release.topology(), has_kafka),
            setting: None,
        })
    }
}
