//! What is to be planned, and the position that a path has reached.

use crate::milvus::{Build, Coordinators, Manager, Topology, catalogue::Situation};

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct PathRequest {
    /// Release.
    pub release: String,
    /// Namespace.
    pub namespace: String,
    /// Version before.
    pub from: Build,
    /// Version after.
    pub to: Build,
    /// Topology.
    pub topology: Topology,
    /// Layout of the coordinators; nothing means what a default chart of that version renders.
    pub coordinators: Option<Coordinators>,
    /// Metastore, where it is known.
    pub metastore: Option<String>,
    /// Root path in etcd, where it is known.
    pub root_path: Option<String>,
    /// Who manages the release: commands are printed only where they fit.
    pub manager: Manager,
    /// Message queue, as the value of `standalone.messageQueue`, where it is known.
    pub queue: Option<String>,
    /// Where Woodpecker keeps its log (`minio`, `local`, `service`), where it is known.
    pub woodpecker_storage: Option<String>,
}

impl PathRequest {
    /// What is known where the coordinators have this layout.
    pub(super) fn situation(&self, coordinators: Coordinators) -> Situation {
        Situation {
            topology: Some(self.topology),
            coordinators: Some(coordinators),
            metastore: self.metastore.clone(),
            queue: self.queue.as_deref().and_then(|queue| queue.parse().ok()),
            woodpecker_storage: self.woodpecker_storage.clone(),
            pulsar_tenant: None,
            variants: self.from.suffixes.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) build: Build,
    pub(super) coordinators: Coordinators,
}
