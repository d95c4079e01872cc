//! What Milvus offers to empty a query node before it ends, and when it may end best.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::version::{Range, Version};

use super::Catalogue;

/// The management calls of some versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Management {
    /// Unique name of the row.
    pub id: String,
    /// Versions that have them.
    pub versions: Range,
    /// The calls that they have.
    pub calls: Vec<ManagementCall>,
    /// What to know.
    #[serde(default)]
    pub note: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// A call at the management port of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ManagementCall {
    /// Query nodes with id, address and state.
    ListNodes,
    /// Nothing new is put on a node.
    SuspendNode,
    /// A node is used again.
    ResumeNode,
    /// Sealed segments go to other nodes of the same replica.
    TransferSegments,
    /// Channels, with the leaders of their shards, go to other nodes of the same replica.
    TransferChannels,
    /// What a node has.
    NodeDistribution,
}

impl ManagementCall {
    /// All that are needed to empty a node.
    pub const ALL: [Self; 6] = [
        Self::ListNodes,
        Self::SuspendNode,
        Self::ResumeNode,
        Self::TransferSegments,
        Self::TransferChannels,
        Self::NodeDistribution,
    ];

    /// Its path (internal/http/router.go of milvus-io/milvus).
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ListNodes => "/management/querycoord/node/list",
            Self::SuspendNode => "/management/querycoord/node/suspend",
            Self::ResumeNode => "/management/querycoord/node/resume",
            Self::TransferSegments => "/management/querycoord/transfer/segment",
            Self::TransferChannels => "/management/querycoord/transfer/channel",
            Self::NodeDistribution => "/management/querycoord/distribution/get",
        }
    }
}

/// How versions update the target of what query nodes serve, where a new leader of a shard answers
/// with nothing until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetUpdate {
    /// Unique name of the row.
    pub id: String,
    /// Versions of the query coordinator.
    pub versions: Range,
    /// The setting that says how many seconds there are between two updates.
    pub setting: String,
    /// Its default, in seconds.
    pub seconds: u32,
    /// What to know.
    #[serde(default)]
    pub note: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

impl Catalogue {
    /// How a query coordinator of this version updates its target; `None` if new leaders do not wait
    /// for it, or if that is not known.
    #[must_use]
    pub fn target_update(&self, version: Version) -> Option<&TargetUpdate> {
        self.target_updates
            .iter()
            .find(|row| row.versions.contains(version))
    }

    /// The row of a version that has all calls to empty a query node.
    #[must_use]
    pub fn empties_query_nodes(&self, version: Version) -> Option<&Management> {
        let has_all = |row: &&Management| {
            ManagementCall::ALL
                .iter()
                .all(|call| row.calls.contains(call))
        };
        self.management
            .iter()
            .find(|row| row.versions.contains(version))
            .filter(has_all)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2.2.16", None)]
    #[case("2.3.5", None)]
    #[case("2.3.13", None)]
    #[case("2.3.14", Some("query-nodes-2.3"))]
    #[case("2.3.22", Some("query-nodes-2.3"))]
    #[case("2.4.0", Some("query-nodes-2.4"))]
    #[case("2.4.24", Some("query-nodes-2.4"))]
    #[case("2.5.27", Some("query-nodes-2.5"))]
    #[case("2.6.0", Some("query-nodes-2.6"))]
    #[case("3.0.0", None)]
    fn a_version_has_the_calls_of_its_row(#[case] version: &str, #[case] row: Option<&str>) {
        let version = version.parse().unwrap();
        let found = Catalogue::embedded().empties_query_nodes(version);
        assert_eq!(found.map(|row| &*row.id), row);
    }

    #[rstest]
    #[case("2.2.16", None)]
    #[case("2.3.0", Some(10))]
    #[case("2.3.22", Some(10))]
    #[case("2.4.0", None)]
    fn a_target_is_updated_as_its_row_says(#[case] version: &str, #[case] seconds: Option<u32>) {
        let catalogue = Catalogue::embedded();
        let row = catalogue.target_update(version.parse().unwrap());
        assert_eq!(row.map(|row| row.seconds), seconds);
        assert!(
            catalogue
                .target_updates
                .iter()
                .all(|row| !row.source.is_empty())
        );
    }

    #[test]
    fn every_row_counts_somewhere_and_names_its_source() {
        let catalogue = Catalogue::embedded();
        for row in &catalogue.management {
            let released = catalogue.released.iter().map(|one| one.version);
            let mut own = released.filter(|version| {
                let found = catalogue.empties_query_nodes(*version);
                found.is_some_and(|found| found.id == row.id)
            });
            assert!(own.next().is_some(), "{}", row.id);
            assert!(!row.source.is_empty(), "{}", row.id);
        }
    }

    #[test]
    fn a_row_without_a_call_that_is_needed_empties_nothing() {
        let own = "management: [{id: query-nodes-2.5, versions: '>=2.5.0,<2.6.0', \
                   calls: [list-nodes], source: [our own build]}]";
        let catalogue = Catalogue::with("own", own).unwrap();
        let empties = |version: &str| {
            let version = version.parse().unwrap();
            catalogue.empties_query_nodes(version).is_some()
        };
        assert!(!empties("2.5.27") && empties("2.4.24"));
    }
}
