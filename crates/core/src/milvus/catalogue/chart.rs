//! Published charts, and what they read, no longer read or read otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::version::Version;

/// A chart version and what it ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chart {
    /// Chart version.
    pub version: Version,
    /// appVersion as written.
    pub app_version: String,
    /// Tag of the default image.
    pub tag: String,
    /// How it can be had.
    pub published: Published,
    /// Where that is known from, where not from the chart itself.
    #[serde(default)]
    pub source: Vec<String>,
}

/// How a chart version can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Published {
    /// In the chart repository's index.
    Index,
    /// As a git tag only.
    TagOnly,
    /// As a file of a GitHub release only.
    ReleaseAsset,
    /// Inferred from its neighbours.
    Inferred,
}

/// A value that charts from 4.0.0 on no longer read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovedValue {
    /// Dotted path, or the beginning of one.
    pub path: String,
    /// Key of Milvus' configuration that replaces it.
    #[serde(default)]
    pub became: Option<String>,
    /// What is at stake.
    pub danger: Danger,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// What is at stake when a value is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Danger {
    /// Data.
    Data,
    /// Access to data.
    Security,
    /// Performance.
    Tuning,
}

/// A default that flipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultFlip {
    /// First chart with the new default.
    pub at: Version,
    /// What flips.
    pub text: String,
    /// Values that keep the old behaviour.
    pub pins: Vec<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}
