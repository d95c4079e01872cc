//! How far a run is: what it has done, and all that is needed to resume or to roll back.
//!
//! The status is written before each side effect and after it, so that anyone who comes next knows
//! where things stand.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::milvus::{Component, Version};

use super::{loaded::LoadedBefore, meta::Condition, searches::SearchBefore};

/// Condition that MG101 accepts as evidence: the metadata was migrated and verified. A rollback
/// sets it False.
pub const METADATA_MIGRATED: &str = "MetadataMigrated";
/// Condition of a run that waits for one `helm upgrade`: of a migration, to start the new version;
/// of a rolling upgrade, to bring the new templates. The webhook lets that one through.
pub const WAITS_FOR_HELM: &str = "WaitsForHelm";
/// Pods kept in a status: those of a large release several times over, in about 150 kB.
pub const PODS_LIMIT: usize = 1000;
/// Events kept in a status: several for each step of the longest plan (12 components), and far
/// below what etcd stores in one object.
pub const HISTORY_LIMIT: usize = 100;

/// The phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Written, nothing done.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// Waits for a person.
    Paused,
    /// Stopped by a failure; the same command resumes.
    Stopped,
    /// Reached its plan.
    Succeeded,
    /// Rolling back.
    RollingBack,
    /// Went back to where it began.
    RolledBack,
    /// Ended by a person where it stood.
    Aborted,
    /// Ended before anything was touched.
    Refused,
    /// Something that a later version knows; it counts as in progress.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Other,
}

impl RunPhase {
    /// Whether the run no longer holds its release.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::RolledBack | Self::Aborted | Self::Refused
        )
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Paused => "Paused",
            Self::Stopped => "Stopped",
            Self::Succeeded => "Succeeded",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Aborted => "Aborted",
            Self::Refused => "Refused",
            Self::Other => "Other",
        }
    }
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The phase of the whole run.
    #[serde(default)]
    pub phase: RunPhase,
    /// Its position in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepCursor>,
    /// Generation of the spec that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When this status was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub updated_at: Option<Timestamp>,
    /// Who works on it: the holder of the Lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Transitions of the Lease when it was written: a writer with a smaller number has lost the
    /// lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// What it changes, as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub originals: Vec<Original>,
    /// Pods of the recorded Deployments, as the run saw them, until its end: a session in etcd is
    /// released only if it is of one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<SeenPod>,
    /// What Milvus had loaded before the step that replaces those who serve it, until the end of
    /// the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<LoadedBefore>,
    /// What searches found before anything moved, until the end of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<SearchBefore>,
    /// Query nodes on which Milvus puts nothing until they end, because the run asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<SuspendedNode>,
    /// What a run that upgrades through Helm must know of Helm's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmRecord>,
    /// The saved metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// Observations, such as `MetadataMigrated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What a migration was proved for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// What happened, oldest first; the oldest are dropped beyond 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<RunEvent>,
    /// The state in one sentence, and the next command where it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl RunStatus {
    /// Adds an event; beyond [`HISTORY_LIMIT`] the oldest go.
    pub fn remember(&mut self, event: RunEvent) {
        self.history.push(event);
        let surplus = self.history.len().saturating_sub(HISTORY_LIMIT);
        self.history.drain(..surplus);
    }

    /// Adds pods; beyond [`PODS_LIMIT`] those that were seen first go.
    pub fn see(&mut self, pods: &[SeenPod]) {
        for pod in pods {
            if !self.pods.contains(pod) {
                self.pods.push(pod.clone());
            }
        }
        let surplus = self.pods.len().saturating_sub(PODS_LIMIT);
        self.pods.drain(..surplus);
    }
}

/// A pod that a run has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenPod {
    /// Name, which is the host name in its sessions.
    pub name: String,
    /// Identity: a later pod may have the same name.
    pub uid: String,
    /// Deployment that it belongs to.
    pub workload: String,
}

/// A query node on which Milvus was told to put nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendedNode {
    /// Its id in Milvus.
    pub node: i64,
    /// Its pod.
    pub pod: String,
}

/// What a run that upgrades through Helm must know of Helm's release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelmRecord {
    /// The revision that was deployed before.
    #[serde(default)]
    pub revision: u64,
    /// Objects that the new chart does not have: Helm keeps them, and the run deletes them at its
    /// end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<LeavingObject>,
}

/// An object of the release that the new chart does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeavingObject {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// The position of a run in its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepCursor {
    /// Step of the plan.
    pub id: String,
    /// Its place in the plan, from 0.
    pub index: u32,
    /// Whether its side effects were begun or are done.
    pub stage: StepStage,
    /// How often it was begun.
    #[serde(default)]
    pub attempts: u32,
    /// Since when it is there.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// What blocks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// Whether the side effects of a step were begun or are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepStage {
    /// Written before the side effects: any of them may have been made.
    Begun,
    /// Written after the side effects: all of them were made.
    Done,
}

/// One object that a run changes, as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// `Deployment`, `StatefulSet`, `HorizontalPodAutoscaler`, `ConfigMap` and so on.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Identity: another object of the same name is not the recorded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Component, of a workload of Milvus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// Wanted replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Images by container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ContainerImage>,
    /// `strategy` or `updateStrategy`, as Kubernetes has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Value>,
    /// Other fields that the run changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<OriginalField>,
}

/// A field that a run changes, as it was. A list of these, and no map with nulls: a merge patch
/// would drop them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OriginalField {
    /// JSON pointer within the object, such as `/spec/minReadySeconds`.
    pub path: String,
    /// Its value; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The image of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Container.
    pub container: String,
    /// Image.
    pub image: String,
    /// Whether it is an init container.
    #[serde(default, skip_serializing_if = "is_false")]
    pub init: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Where the saved metadata is, and how to know that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Where it is, such as `pvc/my-release-backup/2026-01-31.bak`.
    pub location: String,
    /// Digest of the whole file, in hexadecimal.
    pub sha256: String,
    /// etcd revision at which everything was read.
    pub revision: i64,
    /// Number of key-value pairs.
    pub records: u64,
}

/// What a migration was proved for; where any of it no longer fits, the proof is void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// Version before.
    pub from: Version,
    /// Version after.
    pub to: Version,
    /// Root path of the metadata in etcd.
    pub root_path: String,
    /// Identity of the etcd cluster.
    #[serde(default)]
    pub etcd_cluster_id: String,
    /// etcd endpoints, as the configuration spells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// UIDs of the Milvus workloads at that time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload_uids: Vec<String>,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEvent {
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Timestamp,
    /// What, in one word for programs, such as `StepDone`.
    pub reason: String,
    /// Step that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded() {
        let mut status = RunStatus::default();
        for number in 0..=HISTORY_LIMIT {
            let time = "2026-01-01T00:00:00Z".parse().unwrap();
            status.remember(RunEvent {
                time,
                reason: "StepDone".into(),
                step: None,
                message: number.to_string(),
            });
        }
        assert_eq!(
            (status.history.len(), status.history[0].message.as_str()),
            (HISTORY_LIMIT, "1")
        );
    }

    #[test]
    fn pods_are_bounded_and_kept_once() {
        let pod = |number: usize| SeenPod {
            name: format!("pod-{number}"),
            uid: number.to_string(),
            workload: "proxy".into(),
        };
        let mut status = RunStatus::default();
        for number in 0..=PODS_LIMIT {
            status.see(&[pod(number), pod(number)]);
        }
        assert_eq!(status.pods.len(), PODS_LIMIT);
        assert_eq!(status.pods[0], pod(1));
    }

    #[test]
    fn ended_phases_are_those_of_the_contract() {
        let ended: Vec<&str> = [
            RunPhase::Pending,
            RunPhase::Running,
            RunPhase::Paused,
            RunPhase::Stopped,
            RunPhase::Succeeded,
            RunPhase::RollingBack,
            RunPhase::RolledBack,
            RunPhase::Aborted,
            RunPhase::Refused,
            RunPhase::Other,
        ]
        .into_iter()
        .filter(|phase| phase.is_ended())
        .map(RunPhase::name)
        .collect();
        assert_eq!(ended, ["Succeeded", "RolledBack", "Aborted", "Refused"]);
    }
}
