//! What is known of a release when a table is asked, and the conditions of rows.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    component::{Coordinators, Topology},
    release::Release,
    settings::QueueKind,
    version::{VersionError, serde_as_text},
};

/// What is known of a release when a table is asked. `None` means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// Standalone or cluster.
    pub topology: Option<Topology>,
    /// Layout of the coordinators that run.
    pub coordinators: Option<Coordinators>,
    /// Metastore.
    pub metastore: Option<String>,
    /// Message queue.
    pub queue: Option<QueueKind>,
    /// Where Woodpecker keeps its log: `minio`, `local` or `service`.
    pub woodpecker_storage: Option<String>,
    /// What the images are built for: `gpu`, `arm64` ...
    pub variants: Vec<String>,
}

/// Key and default of the storage of Woodpecker's log.
const WOODPECKER_STORAGE: (&str, &str) = ("woodpecker.storage.type", "minio");

impl Situation {
    /// What a release says of itself. Without a configuration the queue and the metastore are
    /// unknown.
    #[must_use]
    pub fn of(release: &Release) -> Self {
        let has_config = release.has_config();
        let mut variants: Vec<String> = Vec::new();
        for build in release
            .components
            .iter()
            .filter_map(|component| component.version().into_build())
        {
            for suffix in build.suffixes {
                if !variants.contains(&suffix) {
                    variants.push(suffix);
                }
            }
        }
        Self {
            topology: Some(release.topology()),
            coordinators: Some(release.coordinators()),
            metastore: has_config.then(|| release.metadata().metastore.value.into_owned()),
            queue: has_config.then(|| release.queue().kind.value),
            woodpecker_storage: has_config.then(|| {
                release
                    .config
                    .value(WOODPECKER_STORAGE.0)
                    .unwrap_or(WOODPECKER_STORAGE.1)
                    .to_ascii_lowercase()
            }),
            variants,
        }
    }

    /// The situation after a change: what the wanted release says, and for what it leaves open what
    /// runs.
    #[must_use]
    pub fn after(before: Option<&Release>, after: &Release) -> Self {
        let wanted = Self::of(after);
        let Some(running) = before.map(Self::of) else {
            return wanted;
        };
        Self {
            metastore: wanted.metastore.or(running.metastore),
            queue: wanted.queue.or(running.queue),
            woodpecker_storage: wanted.woodpecker_storage.or(running.woodpecker_storage),
            ..wanted
        }
    }
}

/// When a row about a release matters; absent means always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Circumstances {
    /// Standalone or cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// One of these message queues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub queue: Vec<QueueKind>,
    /// Where Woodpecker keeps its log: `minio`, `local` or `service`. Says nothing about releases
    /// on another queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woodpecker_storage: Option<WoodpeckerStorage>,
}

/// Where Woodpecker keeps its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WoodpeckerStorage {
    /// In the object storage.
    Minio,
    /// On a local volume.
    Local,
    /// In a separate service.
    Service,
}

impl WoodpeckerStorage {
    const fn name(self) -> &'static str {
        match self {
            Self::Minio => "minio",
            Self::Local => "local",
            Self::Service => "service",
        }
    }
}

impl Circumstances {
    /// Whether this may be the situation. An unknown topology or queue may be any. An unknown
    /// storage of Woodpecker's log counts as Milvus' default: no one has another one who did
    /// not set it.
    #[must_use]
    pub fn may_be(&self, situation: &Situation) -> bool {
        let on = |queue: &QueueKind| situation.queue.is_none_or(|known| known == *queue);
        self.topology
            .is_none_or(|topology| situation.topology.is_none_or(|known| known == topology))
            && (self.queue.is_empty() || self.queue.iter().any(on))
            && self.woodpecker_storage.is_none_or(|storage| {
                on(&QueueKind::Woodpecker)
                    && situation
                        .woodpecker_storage
                        .as_deref()
                        .unwrap_or(WOODPECKER_STORAGE.1)
                        == storage.name()
            })
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
