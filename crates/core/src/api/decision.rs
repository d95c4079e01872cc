//! What the release gate allowed, so that the workload gate lets it through too.

use jiff::{SignedDuration, Timestamp};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, RELEASE_DECISION, meta::ObjectMeta};

/// How long a decision counts: longer than Helm takes to apply a release, shorter than anyone could
/// wait to misuse it.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(30);

/// One revision of a Helm release that was judged and allowed. Written by the guard alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseDecision {
    /// `guard.milvus.io/v1alpha1`.
    pub api_version: String,
    /// `ReleaseDecision`.
    pub kind: String,
    /// Name and place.
    pub metadata: ObjectMeta,
    /// Content.
    pub spec: DecisionSpec,
}

impl ReleaseDecision {
    /// A new decision.
    #[must_use]
    pub fn new(metadata: ObjectMeta, spec: DecisionSpec) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: RELEASE_DECISION.kind.into(),
            metadata,
            spec,
        }
    }
}

/// What was judged and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "guard.milvus.io",
    version = "v1alpha1",
    kind = "ReleaseDecision",
    root = "StoredDecision",
    shortname = "udec",
    category = "milvus-guard",
    label("app.kubernetes.io/part-of", "milvus-guard"),
    schema = "disabled",
    namespaced,
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".spec.verdict"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expires"),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct DecisionSpec {
    /// Helm release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// Revision that Helm is about to make.
    pub revision: i64,
    /// Where Helm keeps its revisions.
    pub driver: HelmDriver,
    /// How it was judged.
    pub verdict: DecisionVerdict,
    /// Rules that found something and were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_rules: Vec<AcceptedRule>,
    /// Objects of the revision, as they were judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<JudgedObject>,
    /// Until when it counts, 30 minutes after the judgement.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires: Timestamp,
}

impl DecisionSpec {
    /// The name of its object: one for each release, so that the newest takes the place of the one
    /// before.
    #[must_use]
    pub fn object_name(&self) -> String {
        format!("{}.{}", self.namespace, self.release)
    }

    /// Whether it still counts.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        now < self.expires
    }
}

/// Where Helm keeps its revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HelmDriver {
    /// In Secrets, Helm's default.
    Secret,
    /// In `ConfigMaps`.
    ConfigMap,
}

/// How a revision was judged. What was denied has no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecisionVerdict {
    /// Nothing to say.
    Allow,
    /// Let through with warnings.
    Warn,
}

/// A rule that found something and was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRule {
    /// Rule id.
    pub rule: String,
    /// What accepted it.
    pub by: AcceptedBy,
    /// Which one: the text of the label or annotation, or the name of the exception, policy or
    /// run.
    pub reference: String,
}

/// What can accept a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceptedBy {
    /// A label of the Helm release.
    Label,
    /// An annotation of the request.
    Annotation,
    /// An `UpgradeException`.
    Exception,
    /// An `UpgradePolicy`.
    Policy,
    /// An `UpgradeRun` that planned it.
    Run,
    /// The rollback to the last state that worked.
    Rollback,
    /// Hooks of the Helm release that roll its components in order.
    Hook,
    /// Something that a later version knows.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Other,
}

/// One object of a judged revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgedObject {
    /// `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Digest of its image and configuration as judged (`sha256:...`).
    pub digest: String,
    /// Digest of the object that ran when the revision was judged; `None` if there was none. The
    /// decision counts only as long as the object is in this state or in the judged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}
