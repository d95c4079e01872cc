//! The status that the guard writes into a policy or an exception.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::PolicySpec;

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
    /// What a policy's rules do, in one line: the API server can show no column of all entries of
    /// a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// The findings of `milvus-guard policy lint`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lints: Vec<LintEntry>,
}

/// A policy's rules in one line, such as `MG201=Warn MG206=Off`.
#[must_use]
pub fn rules_in_words(spec: &PolicySpec) -> String {
    let words: Vec<String> = spec
        .rules
        .iter()
        .map(|setting| format!("{}={:?}", setting.id, setting.action))
        .collect();
    words.join(" ")
}

/// How bad a lint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LintSeverity {
    /// The document does not have the effect that it describes.
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
    /// What is wrong, as text.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_one_line() {
        let spec = serde_json::json!({"rules": [{"id": "MG201", "action": "Warn"}, {"id": "MG206", "action": false}]});
        assert_eq!(
            rules_in_words(&serde_json::from_value(spec).unwrap()),
            "MG201=Warn MG206=Off"
        );
    }
}
