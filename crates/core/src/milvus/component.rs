//! The parts of a Milvus cluster and the layouts in which they come.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One role of Milvus, as charts name its workload, its container and its `component` label.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are Milvus' own")]
pub enum Component {
    RootCoord,
    DataCoord,
    IndexCoord,
    QueryCoord,
    MixCoord,
    IndexNode,
    DataNode,
    QueryNode,
    StreamingNode,
    Proxy,
    Standalone,
    Cdc,
}

use Component::{
    Cdc, DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord, QueryNode,
    RootCoord, Standalone, StreamingNode,
};

impl Component {
    /// Every component.
    pub const ALL: [Self; 12] = [
        RootCoord,
        DataCoord,
        IndexCoord,
        QueryCoord,
        MixCoord,
        IndexNode,
        DataNode,
        QueryNode,
        StreamingNode,
        Proxy,
        Standalone,
        Cdc,
    ];

    /// The name in labels, container names and `milvus run` (except for the mixed coordinator:
    /// `milvus run mixture`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RootCoord => "rootcoord",
            DataCoord => "datacoord",
            IndexCoord => "indexcoord",
            QueryCoord => "querycoord",
            MixCoord => "mixcoord",
            IndexNode => "indexnode",
            DataNode => "datanode",
            QueryNode => "querynode",
            StreamingNode => "streamingnode",
            Proxy => "proxy",
            Standalone => "standalone",
            Cdc => "cdc",
        }
    }

    /// One of the four coordinators that run on their own.
    #[must_use]
    pub const fn is_separate_coordinator(self) -> bool {
        matches!(self, RootCoord | DataCoord | IndexCoord | QueryCoord)
    }

    /// Any coordinator, mixed or separate.
    #[must_use]
    pub const fn is_coordinator(self) -> bool {
        self.is_separate_coordinator() || matches!(self, MixCoord)
    }

    /// Whether it is a coordinator or, as a standalone, contains them all.
    #[must_use]
    pub const fn coordinates(self) -> bool {
        self.is_coordinator() || matches!(self, Standalone)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Component {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == text)
            .ok_or(())
    }
}

/// Whether Milvus runs as one process or as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One process.
    Standalone,
    /// One workload a role.
    Cluster,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Cluster => "cluster",
        })
    }
}

/// How the coordinators of a cluster are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Coordinators {
    /// One workload for each of the four.
    Separate,
    /// One workload for all.
    Mixed,
    /// Both at once, which no version supports.
    Both,
    /// None (a standalone, or an incomplete input).
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for component in Component::ALL {
            assert_eq!(component.name().parse(), Ok(component));
        }
    }
}
