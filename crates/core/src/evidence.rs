//! What can be known about an upgrade in addition to the manifests: `--facts FILE`, or gathered
//! from a cluster and from etcd.
//!
//! A fact that is absent is unknown, and a rule that needs it is not evaluated; an empty list is known to be empty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{RunPhase, StepAction},
    milvus::{Component, Version},
};

/// Facts about one cluster and its Milvus releases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// Version of the Kubernetes API server, such as `1.28.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Version>,
    /// Version of the Helm that will make the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<Version>,
    /// Format of the metadata in etcd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<MetadataFact>,
    /// Evidence of migrations, from `UpgradeRun` objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Vec<MigrationRecord>>,
    /// Rollout state of the components that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollouts: Option<Vec<RolloutFact>>,
    /// The last version at which every component of a release was available together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Vec<SettledFact>>,
    /// Runs of `upgrade` or `migrate` that are in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunFact>>,
    /// Autoscalers that own replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscalers: Option<Vec<AutoscalerFact>>,
    /// Room that is left for more pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Vec<RoomFact>>,
    /// Argo CD or Flux objects that apply Milvus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployers: Option<Vec<DeployerFact>>,
    /// Differences between the running state and the last Helm revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Vec<DriftFact>>,
}

impl Facts {
    /// Whether the metadata of a release was migrated beyond what a version can read. A namespace
    /// that no one named is any.
    #[must_use]
    pub fn is_migrated_past(
        &self,
        release: &str,
        namespace: Option<&str>,
        version: Version,
    ) -> bool {
        self.migrations.iter().flatten().any(|record| {
            record.migrated
                && record.release == release
                && namespace.is_none_or(|namespace| namespace == record.namespace)
                && version.line() < record.to.line()
        })
    }
}

/// State of Milvus' metadata in one etcd root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataFact {
    /// Release that the fact is about; absent means every checked release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Root path under which it was read, such as `by-dev`.
    pub root_path: String,
    /// What was seen.
    pub state: MetadataState,
    /// Where it was read, without credentials.
    pub source: String,
}

/// Format of the metadata under one root path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "format", content = "detail")]
pub enum MetadataState {
    /// Nothing but sessions.
    Empty,
    /// Written by 2.1 and not migrated.
    V21,
    /// 2.1 without any index: nothing tells whether it was migrated, and nothing but the load state
    /// would change.
    V21NoIndex,
    /// Written or migrated for 2.2.
    V22,
    /// 2.2 has run on metadata that was never migrated.
    MixedSkipped,
    /// A migration of this tool was interrupted.
    PartialApply,
    /// The official tool died after it had deleted the old metadata.
    PartialCleaned,
    /// The official tool died while it wrote the new metadata.
    PartialSaved,
    /// It could not be read; the reason.
    Unreadable(String),
}

/// A migration that was made and verified, as an `UpgradeRun` records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationRecord {
    /// `namespace/name` of the record.
    pub run: String,
    /// Release that was migrated.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// Version before.
    pub from: Version,
    /// Version after.
    pub to: Version,
    /// Root path that was migrated.
    pub root_path: String,
    /// Identity of the etcd cluster.
    pub etcd_cluster_id: String,
    /// etcd endpoints, as the configuration spells them.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// UIDs of the Milvus workloads at that time.
    #[serde(default)]
    pub workload_uids: Vec<String>,
    /// Whether the condition `MetadataMigrated` is still True (a rollback sets it False).
    pub migrated: bool,
}

/// Rollout state of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutFact {
    /// Release.
    pub release: String,
    /// Component.
    pub component: Component,
    /// Workload name.
    pub workload: String,
    /// Whether it is completely rolled out and available.
    pub complete: bool,
    /// Whether the running image has ever been available.
    pub ever_available: bool,
    /// What is missing, as text (`1 of 3 pods available`).
    pub detail: String,
}

/// The last state of a release in which every component was available: what a failed upgrade may go
/// back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettledFact {
    /// Release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// Version that all components had.
    pub version: Version,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunFact {
    /// `namespace/name` of the run.
    pub run: String,
    /// Release that it works on.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// What it does.
    pub kind: RunKind,
    /// Its phase.
    pub phase: String,
    /// Version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// Version after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Version>,
    /// What its current step does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<StepAction>,
    /// Whether it waits for Helm to start the version after.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waits_for_helm: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl RunFact {
    /// Whether it keeps others from changing its release. A held change does not: what is changed
    /// meanwhile is held as well.
    #[must_use]
    pub fn locks(&self) -> bool {
        self.kind != RunKind::Hold
    }

    /// The version that images may get by the run's own steps now; `None` if none may.
    #[must_use]
    pub fn plans_images(&self) -> Option<Version> {
        match self.action {
            _ if self.is_rolling_back() => self.from,
            Some(StepAction::Start | StepAction::Update) => self.to,
            _ => None,
        }
    }

    /// Whether the run's own steps may start components now.
    #[must_use]
    pub fn plans_starts(&self) -> bool {
        self.is_rolling_back()
            || matches!(
                self.action,
                Some(StepAction::Start | StepAction::Update | StepAction::Release)
            )
    }

    /// Whether it goes back to where it began.
    #[must_use]
    pub fn is_rolling_back(&self) -> bool {
        self.phase == RunPhase::RollingBack.name()
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// Metadata migration.
    Migration,
    /// Ordered rolling upgrade.
    Rolling,
    /// The ordered release of a change that the webhook holds.
    Hold,
}

/// An autoscaler that owns the replicas of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoscalerFact {
    /// Release.
    pub release: String,
    /// Name of the autoscaler.
    pub name: String,
    /// Workload that it scales.
    pub workload: String,
}

/// Room that something leaves for more pods: a `ResourceQuota`, or the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomFact {
    /// Namespace that it is for; absent means every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What sets the bound, such as `ResourceQuota/compute` or `nodes`.
    pub bound: String,
    /// Memory that more pods may request, as a quantity such as `12Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPU that more pods may request, as a quantity such as `3500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// How many more pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u64>,
}

/// Argo CD or Flux object that applies a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeployerFact {
    /// Release.
    pub release: String,
    /// `argo-cd` or `flux`.
    pub tool: String,
    /// Name of its object.
    pub name: String,
    /// Whether it reverts what others change.
    pub self_heal: bool,
    /// How often it retries; -1 is without end, absent is the tool's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_limit: Option<i64>,
}

/// One difference between the running state and the last Helm revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftFact {
    /// Release.
    pub release: String,
    /// Object that differs, as `Kind/name`.
    pub object: String,
    /// What differs: `image`, or a configuration key.
    pub what: String,
    /// In the last revision.
    pub revision: String,
    /// The running state.
    pub live: String,
}
