//! The intended differences between this migration and the official tool.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One difference from the official tool. Without it, the tool's end state is reproduced, including
/// its defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deviation {
    /// Segments below the index threshold get their own build ids. The official tool writes all
    /// of them as build 0, so that two indexes of one segment overwrite each other.
    UniqueBuildIds,
    /// Tombstones among indexes (of clusters created with 2.0.0-rc7) are skipped. The official tool
    /// stops.
    SkipIndexTombstones,
    /// Index records without a reference from a live record are dropped with a note. The official
    /// tool stops.
    TolerateOrphans,
    /// Loaded partitions of a collection without an index are not carried over: 2.2 could not load
    /// them. The official tool does so for collections only.
    DropUnindexedPartitionLoads,
    /// An index that was dropped is not used as the one to load.
    IgnoreDeletedIndexes,
    /// Load records of 2.0 have 0 replicas, which 2.2 interprets as released; they become 1.
    MendReplicaNumber,
    /// Load records of 2.1 are deleted. Nothing reads them any more; off by default.
    DeleteOldLoads,
    /// Collections with fewer partition names or times than partitions are filled up. The official
    /// tool crashes.
    PadPartitions,
    /// Collections keep fields that are unknown to us. The official tool loses them.
    KeepUnknownFields,
}

/// Options of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// The differences from the official tool.
    pub deviations: BTreeSet<Deviation>,
    /// Also migrate metadata on which 2.2 has already run. Indexes that were rebuilt there may be
    /// replaced.
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
    /// Options that reproduce the end state of the official tool.
    #[must_use]
    pub const fn strict_upstream() -> Self {
        Self {
            deviations: BTreeSet::new(),
            force_mixed: false,
        }
    }

    /// Adds a deviation.
    #[must_use]
    pub fn with(mut self, deviation: Deviation) -> Self {
        self.deviations.insert(deviation);
        self
    }

    /// Removes a deviation.
    #[must_use]
    pub fn without(mut self, deviation: Deviation) -> Self {
        self.deviations.remove(&deviation);
        self
    }

    /// Whether this deviation is on.
    #[must_use]
    pub fn has(&self, deviation: Deviation) -> bool {
        self.deviations.contains(&deviation)
    }
}
