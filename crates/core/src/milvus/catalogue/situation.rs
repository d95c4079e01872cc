//! What is known of a release when a table is asked, and the conditions of rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    component::{Coordinators, Topology},
    queue_kind::QueueKind,
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
    /// Whether Pulsar's tenant or namespace is not the default.
    pub pulsar_tenant: Option<PulsarTenant>,
    /// What the images are built for: `gpu`, `arm64` ...
    pub variants: Vec<String>,
}

/// Key and default of the storage of Woodpecker's log.
pub(in crate::milvus) const WOODPECKER_STORAGE: (&str, &str) = ("woodpecker.storage.type", "minio");

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
    /// Which tenant and namespace of Pulsar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulsar_tenant: Option<PulsarTenant>,
}

/// Tenant and namespace of Pulsar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PulsarTenant {
    /// `public` and `default`.
    Default,
    /// One of the two is another.
    Other,
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
    /// Whether this may be the situation. An unknown topology, queue or tenant may be any. An unknown
    /// storage of Woodpecker's log counts as Milvus' default: no one has another one who did
    /// not set it.
    #[must_use]
    pub fn may_be(&self, situation: &Situation) -> bool {
        let on = |queue: &QueueKind| situation.queue.is_none_or(|known| known == *queue);
        self.topology
            .is_none_or(|topology| situation.topology.is_none_or(|known| known == topology))
            && self
                .pulsar_tenant
                .is_none_or(|tenant| situation.pulsar_tenant.is_none_or(|known| known == tenant))
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
