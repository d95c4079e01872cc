//! The message queue that a component uses.

use std::{collections::BTreeSet, fmt};

use super::{comparable::Known, located::Located};
use crate::milvus::{component::Topology, config::Unknown, endpoint::Host};

/// A message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Milvus' own")]
pub enum QueueKind {
    Pulsar,
    Kafka,
    RocksMq,
    NatsMq,
    Woodpecker,
}

impl QueueKind {
    /// The name in Milvus' configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pulsar => "pulsar",
            Self::Kafka => "kafka",
            Self::RocksMq => "rocksmq",
            Self::NatsMq => "natsmq",
            Self::Woodpecker => "woodpecker",
        }
    }

    fn named(text: &str) -> Option<Self> {
        [
            Self::Pulsar,
            Self::Kafka,
            Self::RocksMq,
            Self::NatsMq,
            Self::Woodpecker,
        ]
        .into_iter()
        .find(|kind| text.trim().eq_ignore_ascii_case(kind.name()))
    }
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The message queue with everything that decides which topics are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue<'a> {
    /// Which system.
    pub kind: Known<'a, QueueKind>,
    /// Its brokers; empty for embedded queues.
    pub endpoints: Known<'a, BTreeSet<Host>>,
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
    pub fn queue(&self) -> Result<Known<'a, QueueKind>, &'a Unknown> {
        for key in ["mq.type", "messageQueue"] {
            if let Some(setting) = self.value(key)?
                && let Some(value) = QueueKind::named(setting.value)
            {
                return Ok(Known {
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
        Ok(Known {
            value: default_queue(self.release.topology(), has_kafka),
            setting: None,
        })
    }
}
