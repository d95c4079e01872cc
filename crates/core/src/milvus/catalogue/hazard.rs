//! Changes of behavior between two releases that need an action of the user.

use super::verdict::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::version::{Range, Version};

/// Charts that hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hazard {
    /// Unique name of the row.
    pub id: String,
    /// Target chart inside `charts`, or an upgrade that crosses `at`.
    pub kind: HazardKind,
    /// For a range.
    #[serde(default)]
    pub charts: Option<Range>,
    /// For a boundary: the first chart with the change.
    #[serde(default)]
    pub at: Option<Version>,
    /// Rule that reports it; absent for facts that only plans mention.
    #[serde(default)]
    pub rule: Option<String>,
    /// How bad.
    pub verdict: Verdict,
    /// When it matters: `queue`, `topology` and similar ones.
    #[serde(default)]
    pub when: std::collections::BTreeMap<String, String>,
    /// What happens.
    pub effect: String,
    /// Values that avoid it, as `--set` takes them.
    #[serde(default)]
    pub pin: Vec<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// Range or boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HazardKind {
    /// Charts inside a range.
    Range,
    /// Crossing a version.
    Boundary,
}
