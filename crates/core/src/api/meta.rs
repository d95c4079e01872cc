//! What Kubernetes has in every object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part of Kubernetes' metadata that the guard uses; the rest is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Name.
    pub name: String,
    /// Namespace; absent in cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Identity, given by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Changes with every write; a write that carries it is refused when another came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts changes of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub creation_timestamp: Option<Timestamp>,
    /// When its deletion was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub deletion_timestamp: Option<Timestamp>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Objects with whose deletion it goes too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

/// An object with whose deletion another goes too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// `batch/v1`.
    pub api_version: String,
    /// `Job`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Whether it is the one that manages the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Unknown.
    Unknown,
}

/// One observation about an object, as Kubernetes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, such as `MetadataMigrated`.
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When `status` last changed.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_transition_time: Timestamp,
    /// Generation of the spec that was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// Puts a condition among others: it replaces the one of its type, whose time stays where the
    /// status is the same.
    pub fn set(mut self, conditions: &mut Vec<Self>) {
        match conditions
            .iter_mut()
            .find(|condition| condition.r#type == self.r#type)
        {
            Some(old) => {
                if old.status == self.status {
                    self.last_transition_time = old.last_transition_time;
                }
                *old = self;
            }
            None => conditions.push(self),
        }
    }

    /// Whether the condition of a type holds.
    #[must_use]
    pub fn holds(conditions: &[Self], r#type: &str) -> bool {
        conditions.iter().any(|condition| {
            condition.r#type == r#type && condition.status == ConditionStatus::True
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, at: &str) -> Condition {
        Condition {
            r#type: "Ready".into(),
            status,
            reason: "Tested".into(),
            message: String::new(),
            last_transition_time: at.parse().unwrap(),
            observed_generation: None,
        }
    }

    #[test]
    fn a_conditions_time_moves_only_with_its_status() {
        let (first, later) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let mut conditions = Vec::new();
        ready(ConditionStatus::True, first).set(&mut conditions);
        ready(ConditionStatus::True, later).set(&mut conditions);
        assert_eq!(conditions, [ready(ConditionStatus::True, first)]);
        assert!(Condition::holds(&conditions, "Ready") && !Condition::holds(&conditions, "Other"));
        ready(ConditionStatus::False, later).set(&mut conditions);
        assert_eq!(conditions, [ready(ConditionStatus::False, later)]);
        assert!(!Condition::holds(&conditions, "Ready"));
    }
}
