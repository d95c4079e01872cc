//! The documents that policy teams write.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    manifest::{Node, Origin},
    milvus::{Range, Version},
};

/// API group and version of every document.
pub const API_VERSION: &str = "guard.milvus.io/v1alpha1";

/// How strict a rule is, strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub enum PolicyAction {
    /// Each case has the default action of the rule.
    Enforce,
    /// MG201 only: the webhook admits the change and holds the components that must wait.
    Hold,
    /// Denials become warnings.
    Warn,
    /// Everything is only reported.
    Audit,
    /// Nothing is reported.
    Off,
}

impl<'de> Deserialize<'de> for PolicyAction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: [&str; 5] = ["Enforce", "Hold", "Warn", "Audit", "Off"];
        struct Action;
        impl de::Visitor<'_> for Action {
            type Value = PolicyAction;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Enforce, Hold, Warn, Audit or Off")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PolicyAction, E> {
                match text {
                    "Enforce" => Ok(PolicyAction::Enforce),
                    "Hold" => Ok(PolicyAction::Hold),
                    "Warn" => Ok(PolicyAction::Warn),
                    "Audit" => Ok(PolicyAction::Audit),
                    "Off" => Ok(PolicyAction::Off),
                    _ => Err(E::unknown_variant(text, &NAMES)),
                }
            }

            // kubectl reads an unquoted `Off` as YAML 1.1 does: as false.
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<PolicyAction, E> {
                if flag {
                    Err(E::invalid_value(de::Unexpected::Bool(flag), &self))
                } else {
                    Ok(PolicyAction::Off)
                }
            }
        }
        deserializer.deserialize_any(Action)
    }
}

impl PolicyAction {
    /// Greater is stricter.
    #[must_use]
    pub const fn strictness(self) -> u8 {
        match self {
            Self::Enforce => 4,
            Self::Hold => 3,
            Self::Warn => 2,
            Self::Audit => 1,
            Self::Off => 0,
        }
    }
}

/// Name of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What rules do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradePolicy {
    /// `guard.milvus.io/v1alpha1`.
    pub api_version: String,
    /// `UpgradePolicy`.
    pub kind: String,
    /// Name.
    pub metadata: Metadata,
    /// Content.
    pub spec: PolicySpec,
}

/// Content of a policy.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource,
)]
#[kube(
    group = "guard.milvus.io",
    version = "v1alpha1",
    kind = "UpgradePolicy",
    root = "StoredPolicy",
    shortname = "upol",
    category = "milvus-guard",
    label("app.kubernetes.io/part-of", "milvus-guard"),
    schema = "disabled",
    status = "super::PolicyStatus",
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Rules", type_ = "string", json_path = ".status.rules"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// Which releases it is about; absent means all.
    #[serde(default)]
    pub r#match: Match,
    /// The highest priority that names a rule wins; the stricter one at a tie.
    #[serde(default)]
    pub priority: i32,
    /// What rules do.
    #[serde(default)]
    pub rules: Vec<RuleSetting>,
    /// Rules that the deployer may accept himself; absent means the built-in list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_accept: Option<Vec<String>>,
}

/// Which releases a policy is about. Every part that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Exact names of namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Labels of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Exact names of releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<String>,
}

/// A label selector as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions that must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// Label.
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// With what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// What one rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSetting {
    /// Rule id.
    pub id: String,
    /// Ceiling for its findings.
    pub action: PolicyAction,
    /// Adjustments.
    #[serde(default)]
    pub params: Params,
}

/// Adjustments of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Params {
    /// Raises the rule's warnings to denials.
    #[serde(default)]
    pub strict: bool,
}

/// One release is allowed, for a reason and until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeException {
    /// `guard.milvus.io/v1alpha1`.
    pub api_version: String,
    /// `UpgradeException`.
    pub kind: String,
    /// Name.
    pub metadata: Metadata,
    /// Content.
    pub spec: ExceptionSpec,
}

/// Content of an exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "guard.milvus.io",
    version = "v1alpha1",
    kind = "UpgradeException",
    root = "StoredException",
    shortname = "uex",
    category = "milvus-guard",
    label("app.kubernetes.io/part-of", "milvus-guard"),
    schema = "disabled",
    status = "super::PolicyStatus",
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace"),
    printcolumn(name = "Rules", type_ = "string", json_path = ".spec.rules"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expires"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionSpec {
    /// Rules that do not count.
    pub rules: Vec<String>,
    /// Exact namespace.
    pub namespace: String,
    /// Exact release.
    pub release: String,
    /// Source versions; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<VersionMatch>,
    /// Target versions; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<VersionMatch>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until when, at most 30 days ahead (RFC 3339).
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

/// One version, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum VersionMatch {
    /// This version.
    Exactly(Version),
    /// Any of these.
    Range(Range),
}

impl VersionMatch {
    /// Whether it holds a version.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        match self {
            Self::Exactly(exactly) => *exactly == version,
            Self::Range(range) => range.contains(version),
        }
    }
}

impl<'de> Deserialize<'de> for VersionMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = VersionMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a version in quotes (like \"2.5.12\") or a range (like \">=2.5.16,<2.6.0\")",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VersionMatch, E> {
                if let Ok(version) = text.parse() {
                    return Ok(VersionMatch::Exactly(version));
                }
                text.parse()
                    .map(VersionMatch::Range)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Where a document and its values stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Places {
    /// Where the document begins.
    pub origin: Origin,
    tree: Option<Node>,
}

impl Places {
    /// The places of a document that was read from text.
    #[must_use]
    pub const fn new(origin: Origin, tree: Node) -> Self {
        Self {
            origin,
            tree: Some(tree),
        }
    }

    /// Where the value at a path such as `spec.rules.0.id` begins; of a path that is not there, its
    /// deepest part that is.
    #[must_use]
    pub fn at(&self, path: &str) -> Origin {
        let Some(mut node) = self.tree.as_ref() else {
            return self.origin.clone();
        };
        for step in path.split('.') {
            let next = match step.parse::<usize>() {
                Ok(index) => node.items().nth(index),
                Err(_) => node
                    .entries()
                    .find(|(key, _)| *key == step)
                    .map(|(_, value)| value),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        self.origin.at_line(node.line)
    }
}

/// A document whose values have no positions, as an API server returns it.
impl From<Origin> for Places {
    fn from(origin: Origin) -> Self {
        Self { origin, tree: None }
    }
}

/// A document with its places, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyDocument {
    /// A policy.
    Policy(Box<UpgradePolicy>, Places),
    /// An exception.
    Exception(Box<UpgradeException>, Places),
}

impl PolicyDocument {
    /// `UpgradePolicy` or `UpgradeException`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Policy(..) => "UpgradePolicy",
            Self::Exception(..) => "UpgradeException",
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Policy(policy, _) => &policy.metadata.name,
            Self::Exception(exception, _) => &exception.metadata.name,
        }
    }

    /// Its position.
    #[must_use]
    pub const fn places(&self) -> &Places {
        match self {
            Self::Policy(_, places) | Self::Exception(_, places) => places,
        }
    }
}
