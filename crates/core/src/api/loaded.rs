//! What Milvus served before a run replaced those who serve, so that a run that continues after a
//! crash does not take the half-loaded state for the whole.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Collections that are kept: some 100 kB, far below what etcd stores in one object.
pub const MAX_COLLECTIONS: usize = 500;
/// Segments of a collection, not served even before, that are kept. Of a collection with more of
/// them, segments are not judged.
pub const MAX_LAGGING: usize = 20;
/// Nodes that are kept.
pub const MAX_NODES: usize = 1000;

/// What was loaded before something was changed. It is small, so that a run can keep it: figures
/// per collection, no segments but those that were missing already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The collections.
    pub collections: Vec<CollectionBaseline>,
}

/// What was loaded of one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionBaseline {
    /// Its name, with its database where it is not the default one.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// In percent.
    pub progress: i64,
    /// Copies in memory; none where Milvus could not tell.
    pub replicas: usize,
    /// Whether every shard of every replica had a leader.
    pub led: bool,
    /// Rows that each replica served from sealed segments at least.
    pub rows: i64,
    /// Flushed segments that not every replica served, for example because their index was being
    /// built.
    #[schemars(with = "Vec<i64>")]
    pub lagging: BTreeSet<i64>,
    /// The highest id of a flushed segment: ids only grow.
    pub newest: i64,
}

/// What Milvus had loaded before a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadedBefore {
    /// The step.
    pub step: String,
    /// Ids of the nodes that served, where none of them may be left after the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_nodes: Vec<i64>,
    /// The collections with the most rows.
    #[serde(default)]
    pub collections: Vec<CollectionBaseline>,
    /// How many more there were.
    #[serde(default)]
    pub left_out: u32,
}

impl LoadedBefore {
    /// What is kept of a baseline.
    #[must_use]
    pub fn new(
        step: &str,
        baseline: Baseline,
        replaced_nodes: impl IntoIterator<Item = i64>,
    ) -> Self {
        let mut collections = baseline.collections;
        collections.sort_by_key(|collection| std::cmp::Reverse(collection.rows));
        let left_out =
            u32::try_from(collections.len().saturating_sub(MAX_COLLECTIONS)).unwrap_or(u32::MAX);
        collections.truncate(MAX_COLLECTIONS);
        for collection in collections
            .iter_mut()
            .filter(|collection| collection.lagging.len() > MAX_LAGGING)
        {
            // As if every segment had come since then.
            collection.lagging.clear();
            (collection.rows, collection.newest) = (0, -1);
        }
        let mut replaced_nodes: Vec<i64> = replaced_nodes.into_iter().collect();
        replaced_nodes.truncate(MAX_NODES);
        Self {
            step: step.to_owned(),
            replaced_nodes,
            collections,
            left_out,
        }
    }

    /// To hold a later state against.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        Baseline {
            collections: self.collections.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(id: i64, rows: i64, lagging: i64) -> CollectionBaseline {
        CollectionBaseline {
            name: id.to_string(),
            id,
            rows,
            newest: 1000,
            lagging: (0..lagging).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_largest_collections_are_kept() {
        let all = (0..i64::try_from(MAX_COLLECTIONS).unwrap() + 7)
            .map(|id| collection(id, id, 0))
            .collect();
        let kept = LoadedBefore::new("update-querynode", Baseline { collections: all }, 0..5000);
        assert_eq!(
            (
                kept.collections.len(),
                kept.left_out,
                kept.replaced_nodes.len()
            ),
            (MAX_COLLECTIONS, 7, MAX_NODES)
        );
        assert!(
            kept.collections
                .iter()
                .all(|collection| collection.rows >= 7)
        );
    }
}
