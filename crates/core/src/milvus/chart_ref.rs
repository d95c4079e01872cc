//! The chart that a release was rendered from, by name and version.

use super::version::Version;

/// A chart and its version, as the label `helm.sh/chart` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartRef {
    /// Name (`milvus`, or an alias).
    pub name: String,
    /// Version.
    pub version: Version,
}
