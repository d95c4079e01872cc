//! What the guard says about a policy or an exception.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meta::Condition;

/// Condition of policies and exceptions: True where they are in force.
pub const READY: &str = "Ready";

/// Status of an `UpgradePolicy` or an `UpgradeException`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Generation of the spec that the guard has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Observations; `Ready` is True where the document is in force, and its reason says why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What `milvus-guard policy lint` says about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lints: Vec<LintEntry>,
}

/// How bad a lint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LintSeverity {
    /// The document does not do what it says.
    Error,
    /// It may not do what was meant.
    Warning,
}

/// One remark about a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LintEntry {
    /// How bad it is.
    pub severity: LintSeverity,
    /// What is wrong, in words.
    pub message: String,
}
