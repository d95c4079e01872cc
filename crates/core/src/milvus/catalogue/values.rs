//! Values that the Milvus charts read, by chart version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    vendor::Vendor,
    version::{Range, Version},
};

use super::Catalogue;

/// A value that some versions of a chart read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChartValue {
    /// Path with dots, such as `standalone.messageQueue`.
    pub path: String,
    /// The chart; absent means the one of the Milvus project.
    #[serde(default)]
    pub chart: ChartName,
    /// Chart versions that read the value.
    pub charts: Range,
    /// Key of Milvus' configuration that the value decides.
    #[serde(default)]
    pub sets: Option<String>,
    /// Whether it does so only for a dependency outside the release (true) or inside it (false).
    #[serde(default)]
    pub external: Option<bool>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// A chart that the table knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChartName {
    /// The chart of the Milvus project.
    #[default]
    #[serde(rename = "zilliztech/milvus")]
    Zilliz,
    /// The chart of Bitnami.
    #[serde(rename = "bitnami/milvus")]
    Bitnami,
}

impl ChartValue {
    fn is_read_by(&self, vendor: Vendor, version: Version) -> bool {
        let same = match vendor {
            Vendor::Zilliz => self.chart == ChartName::Zilliz,
            Vendor::Bitnami => self.chart == ChartName::Bitnami,
            Vendor::Other => false,
        };
        same && self.charts.contains(version)
    }
}

impl Catalogue {
    /// Whether a chart version reads a value, as far as the table knows.
    #[must_use]
    pub fn reads(&self, vendor: Vendor, version: Version, path: &str) -> bool {
        self.chart_values
            .iter()
            .any(|row| row.path == path && row.is_read_by(vendor, version))
    }

    /// The value of a chart that decides a key of Milvus' configuration; `external` says whether
    /// the dependency that the key is about lies outside the release.
    #[must_use]
    pub fn value_for(
        &self,
        vendor: Vendor,
        version: Version,
        key: &str,
        external: bool,
    ) -> Option<&ChartValue> {
        self.chart_values.iter().find(|row| {
            row.sets.as_deref() == Some(key)
                && row.external.is_none_or(|only| only == external)
                && row.is_read_by(vendor, version)
        })
    }
}
