//! Kinds of message queues.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::{VersionError, serde_as_text};

/// A message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
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

    pub(super) fn named(text: &str) -> Option<Self> {
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

impl FromStr for QueueKind {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Pulsar,
            Self::Kafka,
            Self::RocksMq,
            Self::NatsMq,
            Self::Woodpecker,
        ]
        .into_iter()
        .find(|kind| kind.to_string() == text)
        .ok_or_else(|| VersionError {
            text: text.into(),
            expected: "message queue (pulsar, kafka, rocksmq, natsmq or woodpecker)",
        })
    }
}

serde_as_text!(QueueKind);
