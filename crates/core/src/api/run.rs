//! A run of `upgrade`, `migrate` or Hold, and what it will do.

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{Component, Version};

use super::{API_VERSION, UPGRADE_RUN, meta::ObjectMeta, progress::RunStatus};

/// A run of `upgrade`, `migrate` or Hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeRun {
    /// `guard.milvus.io/v1alpha1`.
    pub api_version: String,
    /// `UpgradeRun`.
    pub kind: String,
    /// Name and place.
    pub metadata: ObjectMeta,
    /// The plan; it does not change.
    pub spec: RunSpec,
    /// How far it is.
    #[serde(default)]
    pub status: RunStatus,
}

impl UpgradeRun {
    /// A run that has not begun.
    #[must_use]
    pub fn new(metadata: ObjectMeta, spec: RunSpec) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: UPGRADE_RUN.kind.into(),
            metadata,
            spec,
            status: RunStatus::default(),
        }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match &self.metadata.namespace {
            Some(namespace) => format!("{namespace}/{}", self.metadata.name),
            None => self.metadata.name.clone(),
        }
    }

    /// Whether it still holds its release.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        !self.status.phase.is_ended()
    }
}

/// What a run does. Only `requestedBy` may change once it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "guard.milvus.io",
    version = "v1alpha1",
    kind = "UpgradeRun",
    root = "StoredRun",
    shortname = "urun",
    category = "milvus-guard",
    label("app.kubernetes.io/part-of", "milvus-guard"),
    schema = "disabled",
    namespaced,
    status = "RunStatus",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step.id"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// What kind of run it is.
    pub kind: RunKind,
    /// Helm release that it works on.
    pub release: String,
    /// Namespace of the release; the run itself may live elsewhere.
    pub namespace: String,
    /// Version before.
    pub from: Version,
    /// Version after.
    pub to: Version,
    /// Steps, in order.
    pub plan: Vec<RunStep>,
    /// Digest of the plan and of what it was made from; a run resumes only where it is still the
    /// same.
    pub plan_hash: String,
    /// Image that the components get; absent means the running repository at the target version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
}

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunKind {
    /// Migration of metadata with everything stopped.
    Migration,
    /// Ordered rolling upgrade.
    Rolling,
    /// Ordered rolling upgrade of a change that the webhook admitted: components that must wait are
    /// paused.
    Hold,
    /// Something that a later version knows.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Other,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStep {
    /// Unique within the plan, such as `update-querynode`.
    pub id: String,
    /// What it does, for people.
    pub title: String,
    /// Component that it is about; absent means the whole release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// Workload that it is about, where a component has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// What it does, for programs.
    pub action: StepAction,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StepAction {
    /// Checks what must be true before anything is touched.
    Check,
    /// Records the originals.
    Record,
    /// Changes configuration.
    Configure,
    /// Pauses workloads that must wait.
    Hold,
    /// Lets a paused workload go on.
    Release,
    /// Scales to zero.
    Stop,
    /// Waits until no session of Milvus is left in etcd.
    AwaitSessions,
    /// Saves the metadata.
    Backup,
    /// Rewrites the metadata.
    Migrate,
    /// Reads back and compares.
    Verify,
    /// Records evidence.
    Attest,
    /// Scales back to the recorded replicas.
    Start,
    /// Gives a workload its new image.
    Update,
    /// Waits until a component is completely on its new version and healthy.
    Gate,
    /// Puts metadata, images, replicas or strategies back as they were recorded.
    Restore,
    /// Gives the changed fields back to the tool that owns them.
    HandOver,
    /// Removes what the run needed only while it ran.
    CleanUp,
    /// Something that a later version knows; it must not be skipped.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::{super::progress::RunPhase, *};

    #[test]
    fn what_a_later_version_wrote_is_read_and_never_written_back() {
        let object = serde_json::json!({
            "apiVersion": API_VERSION, "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": "milvus", "selfLink": "/x"},
            "spec": {"kind": "Teleport", "release": "r", "namespace": "n", "from": "2.1.4", "to": "2.2.16", "planHash": "h", "speed": 1,
                "plan": [{"id": "a", "title": "A", "action": "Beam", "height": 3}]},
            "status": {"phase": "Dreaming", "mood": "fine"},
        });
        let run: UpgradeRun = serde_json::from_value(object).unwrap();
        assert_eq!(
            (run.spec.kind, run.spec.plan[0].action, run.status.phase),
            (RunKind::Other, StepAction::Other, RunPhase::Other)
        );
        assert!(
            run.is_under_way(),
            "what is not understood holds the release"
        );
        assert!(serde_json::to_value(&run).is_err());
    }

    #[test]
    fn a_run_without_a_status_is_pending() {
        let spec = serde_json::json!({"kind": "Rolling", "release": "r", "namespace": "n", "from": "2.5.4", "to": "2.5.12", "planHash": "h", "plan": []});
        let run = UpgradeRun::new(
            ObjectMeta {
                name: "run-1".into(),
                ..ObjectMeta::default()
            },
            serde_json::from_value(spec).unwrap(),
        );
        assert_eq!(
            (
                run.status.phase,
                run.is_under_way(),
                run.full_name().as_str()
            ),
            (RunPhase::Pending, true, "run-1")
        );
        let mut value = serde_json::to_value(&run).unwrap();
        value.as_object_mut().unwrap().remove("status");
        assert_eq!(serde_json::from_value::<UpgradeRun>(value).unwrap(), run);
    }
}
