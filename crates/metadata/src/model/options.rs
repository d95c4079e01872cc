//! Where this migration differs from the official tool on purpose.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One difference from the official tool. Without it, its end state is reproduced, its defects
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deviation {
    /// Segments below the index threshold get their own build ids. The official tool writes all
    /// of them as build 0, so that two indexes of one segment overwrite each other.
    UniqueBuildIds,
    /// Tombstones among indexes (clusters born at 2.0.0-rc7 have them) are passed over. The
    /// official tool stops.
    SkipIndexTombstones,
    /// Index records that nothing living refers to are dropped with a note. The official tool
    /// stops.
    TolerateOrphans,
    /// Loaded partitions of a collection without an index are not carried over: 2.2 could not load
    /// them. The official tool does so for collections only.
    DropUnindexedPartitionLoads,
    /// An index that was dropped is not named as the one to load.
    IgnoreDeletedIndexes,
    /// Load records of 2.0 say 0 replicas, which 2.2 takes for released; they become 1.
    MendReplicaNumber,
    /// Load records of 2.1 are deleted. Nothing reads them any more; off unless asked for.
    DeleteOldLoads,
    /// Collections with fewer partition names or times than partitions are filled up. The official
    /// tool crashes.
    PadPartitions,
    /// Collections keep the fields that we do not know. The official tool loses them.
    KeepUnknownFields,
}

/// How to migrate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// What to do otherwise than the official tool.
    pub deviations: BTreeSet<Deviation>,
    /// Also migrate metadata on which 2.2 has already run. Indexes that were built again there may
    /// be replaced.
    #[serde(default)]
    pub force_mixed: bool,
}

impl Default for Options {
    fn default() -> Self {
        let deviations = [
            Deviation::UniqueBuildIds,
            Deviation::SkipIndexTombstones,
            Deviation::TolerateOrphans,
            Deviation::DropUnindexedPartitionLoads,
            Deviation::IgnoreDeletedIndexes,
            Deviation::MendReplicaNumber,
            Deviation::PadPartitions,
            Deviation::KeepUnknownFields,
        ];
        Self {
            deviations: deviations.into(),
            force_mixed: false,
        }
    }
}

impl Options {
    /// The end state of the official tool.
    #[must_use]
    pub const fn strict_upstream() -> Self {
        Self {
            deviations: BTreeSet::new(),
            force_mixed: false,
        }
    }

    /// With one more deviation.
    #[must_use]
    pub fn with(mut self, deviation: Deviation) -> Self {
        self.deviations.insert(deviation);
        self
    }

    /// With one deviation less.
    #[must_use]
    pub fn without(mut self, deviation: Deviation) -> Self {
        self.deviations.remove(&deviation);
        self
    }

    /// Whether to deviate so.
    #[must_use]
    pub fn has(&self, deviation: Deviation) -> bool {
        self.deviations.contains(&deviation)
    }
}
