//! The guard's own objects in a cluster: policies, exceptions and runs. If their kinds are not
//! installed, the lists are empty.

use kube::core::ApiResource;
use serde_json::Value;

use milvus_guard_core::{
    api::{
        self, API_VERSION, Condition, DecisionSpec, Kind, RunKind, RunPhase, StepAction, StepStage,
        UpgradeRun,
        progress::{METADATA_MIGRATED, WAITS_FOR_HELM},
    },
    evidence::{self, Facts, MigrationRecord, RunFact},
    manifest::Tree,
    policy::{
        PolicyDocument,
        read::{PolicyError, from_node},
        resolve::{HOLD_SCOPE, HoldScope, Holding},
    },
};

use super::{
    client::{Cluster, Resource},
    error::ClusterError,
};

const fn resource(kind: Kind) -> Resource {
    Resource::new(API_VERSION, kind.plural, kind.kind)
}

/// The API resource of a kind of the guard, for callers that write.
#[must_use]
pub fn api_resource(kind: Kind) -> ApiResource {
    ApiResource {
        group: api::GROUP.into(),
        version: api::VERSION.into(),
        api_version: API_VERSION.into(),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
    }
}

/// Annotation of the guard's webhook registration: the guard's namespace, the home of runs.
pub const GUARD_NAMESPACE: &str = "guard.milvus.io/namespace";
/// Annotation of the guard's webhook registration: the service account of jobs, in that namespace.
pub const JOB_ACCOUNT: &str = "guard.milvus.io/job-service-account";

const REGISTRATION: Resource = Resource::new(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
);

/// Phase that is reported for a run that cannot be read.
const UNREADABLE: &str = "unreadable";

impl Cluster {
    /// Policies and exceptions that apply, and remarks about unusable ones.
    ///
    /// # Errors
    /// If the API may not be read; an API that is not installed is not an error.
    pub async fn policies(&self) -> Result<(Vec<PolicyDocument>, Vec<String>), ClusterError> {
        let (mut documents, mut unusable) = (Vec::new(), Vec::new());
        for resource in [api::UPGRADE_POLICY, api::UPGRADE_EXCEPTION].map(resource) {
            for mut object in installed(self.list(resource, None, None).await)? {
                match document(&mut object, resource.kind) {
                    Ok(document) => documents.push(document),
                    Err(error) => unusable.push(error.to_string()),
                }
            }
        }
        Ok((documents, unusable))
    }

    /// The namespaces in which a guard of this cluster holds changes: its webhook registration.
    ///
    /// # Errors
    /// If the registration may not be read.
    pub async fn holding(&self) -> Result<Holding, ClusterError> {
        let registrations = self.list(REGISTRATION, None, None).await?;
        let mut annotations = registrations
            .iter()
            .map(|object| &object["metadata"]["annotations"][HOLD_SCOPE]);
        let scope = annotations.find_map(Value::as_str);
        Ok(scope.map_or(HoldScope::Nowhere, HoldScope::parse).into())
    }

    /// Policies and exceptions as the API server has them, each with its kind.
    ///
    /// # Errors
    /// If the API may not be read; an API that is not installed is not an error.
    pub async fn policy_objects(&self) -> Result<Vec<Value>, ClusterError> {
        let mut found = Vec::new();
        for resource in [api::UPGRADE_POLICY, api::UPGRADE_EXCEPTION].map(resource) {
            found.extend(installed(self.list(resource, None, None).await)?);
        }
        Ok(found)
    }

    /// Facts from runs of the guard: runs in progress, and proved migrations.
    ///
    /// # Errors
    /// If the API may not be read; an API that is not installed is not an error.
    pub async fn runs(&self) -> Result<Facts, ClusterError> {
        let found = installed(self.list(resource(api::UPGRADE_RUN), None, None).await)?;
        Ok(run_facts(&found))
    }

    /// Every run that can be read, including ended ones.
    ///
    /// # Errors
    /// If the API may not be read; an API that is not installed is not an error.
    pub async fn all_runs(&self) -> Result<Vec<UpgradeRun>, ClusterError> {
        let found = installed(self.list(resource(api::UPGRADE_RUN), None, None).await)?;
        Ok(found.iter().filter_map(upgrade_run).collect())
    }

    /// Recent decisions of the release gate.
    ///
    /// # Errors
    /// If the API may not be read; an API that is not installed is not an error.
    pub async fn decisions(&self, namespace: &str) -> Result<Vec<DecisionSpec>, ClusterError> {
        let found = installed(
            self.list(resource(api::RELEASE_DECISION), Some(namespace), None)
                .await,
        )?;
        Ok(found.iter().filter_map(decision).collect())
    }
}

/// A policy or an exception as its author wrote it, without the fields that the API server adds.
///
/// # Errors
/// If the object is neither.
pub fn document(object: &mut Value, kind: &str) -> Result<PolicyDocument, PolicyError> {
    if let Value::Object(fields) = object {
        fields.insert("apiVersion".into(), API_VERSION.into());
        fields.insert("kind".into(), kind.into());
        fields.remove("status");
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels" | "annotations"));
        }
    }
    from_node(&Tree::from_json(object), "cluster")
}

/// Parses an `UpgradeRun`; `None` if it cannot be read.
#[must_use]
pub fn upgrade_run(object: &Value) -> Option<UpgradeRun> {
    read(object).ok()
}

/// Parses a `ReleaseDecision`; `None` if it cannot be read: such a decision allows nothing.
#[must_use]
pub fn decision(object: &Value) -> Option<DecisionSpec> {
    serde_json::from_value(object.get("spec")?.clone()).ok()
}

/// Facts from `UpgradeRun` objects: runs in progress, and proved migrations.
#[must_use]
pub fn run_facts<'a>(found: impl IntoIterator<Item = &'a Value>) -> Facts {
    let (mut runs, mut migrations) = (Vec::new(), Vec::new());
    for object in found {
        match read(object) {
            Ok(run) => {
                runs.extend(under_way(&run));
                migrations.extend(migration(&run));
            }
            // It proves no migration, and it may still be in progress.
            Err(_) => runs.extend(unreadable(object)),
        }
    }
    Facts {
        runs: Some(runs),
        migrations: Some(migrations),
        ..Facts::default()
    }
}

fn installed(objects: Result<Vec<Value>, ClusterError>) -> Result<Vec<Value>, ClusterError> {
    match objects {
        Err(ClusterError::NotFound(_)) => Ok(Vec::new()),
        other => other,
    }
}

fn read(object: &Value) -> Result<UpgradeRun, serde_json::Error> {
    let mut object = object.clone();
    if let Value::Object(fields) = &mut object {
        // Items of a list may lack kind and API version.
        fields.insert("apiVersion".into(), API_VERSION.into());
        fields.insert("kind".into(), api::UPGRADE_RUN.kind.into());
    }
    serde_json::from_value(object)
}

fn under_way(run: &UpgradeRun) -> Option<RunFact> {
    run.is_under_way().then(|| RunFact {
        run: run.full_name(),
        release: run.spec.release.clone(),
        namespace: run.spec.namespace.clone(),
        kind: match run.spec.kind {
            RunKind::Migration => evidence::RunKind::Migration,
            RunKind::Hold => evidence::RunKind::Hold,
            RunKind::Rolling | RunKind::Other => evidence::RunKind::Rolling,
        },
        phase: run.status.phase.name().to_owned(),
        from: Some(run.spec.from),
        to: Some(run.spec.to),
        action: action(run),
        waits_for_helm: Condition::holds(&run.status.conditions, WAITS_FOR_HELM),
    })
}

/// A run that cannot be read counts as in progress for the release that it names, unless its phase
/// shows that it has ended.
fn unreadable(object: &Value) -> Option<RunFact> {
    let phase = object.pointer("/status/phase").cloned().unwrap_or_default();
    if serde_json::from_value(phase).is_ok_and(RunPhase::is_ended) {
        return None;
    }
    let object = &Tree::from_json(object);
    let text = |path: &[&str]| object.text_at(path).map(str::to_owned);
    let name = text(&["metadata", "name"])?;
    Some(RunFact {
        run: text(&["metadata", "namespace"])
            .map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}")),
        release: text(&["spec", "release"])?,
        namespace: text(&["spec", "namespace"])?,
        kind: match object.text_at(&["spec", "kind"]) {
            Some("Migration") => evidence::RunKind::Migration,
            Some("Hold") => evidence::RunKind::Hold,
            _ => evidence::RunKind::Rolling,
        },
        phase: UNREADABLE.to_owned(),
        from: None,
        to: None,
        action: None,
        waits_for_helm: false,
    })
}

/// The action of the current step of a run; `None` if the step is done.
fn action(run: &UpgradeRun) -> Option<StepAction> {
    let cursor = run
        .status
        .step
        .as_ref()
        .filter(|cursor| cursor.stage == StepStage::Begun)?;
    let step = run.spec.plan.iter().find(|step| step.id == cursor.id)?;
    Some(step.action).filter(|action| *action != StepAction::Other)
}

fn migration(run: &UpgradeRun) -> Option<MigrationRecord> {
    let evidence = run.status.evidence.clone()?;
    Some(MigrationRecord {
        run: run.full_name(),
        release: evidence.release,
        namespace: evidence.namespace,
        from: evidence.from,
        to: evidence.to,
        root_path: evidence.root_path,
        etcd_cluster_id: evidence.etcd_cluster_id,
        endpoints: evidence.endpoints,
        workload_uids: evidence.workload_uids,
        migrated: Condition::holds(&run.status.conditions, METADATA_MIGRATED),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, phase: &str, migrated: &str) -> Value {
        json!({
            "metadata": {"name": "run-1", "namespace": "guard"},
            "spec": {"release": "my-release", "namespace": "milvus", "kind": kind, "from": "2.1.4", "to": "2.2.16",
                "planHash": "sha256:1", "plan": [{"id": "stop", "title": "Stop all", "action": "Stop"}]},
            "status": {"phase": phase,
                "conditions": [{"type": "MetadataMigrated", "status": migrated, "reason": "Verified", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "evidence": {"release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16", "rootPath": "by-dev",
                    "etcdClusterId": "cdf818194e3a8c32", "endpoints": ["etcd:2379"], "workloadUids": ["u1"]}}
        })
    }

    #[test]
    fn phases_show_runs_in_progress_and_conditions_prove_migrations() {
        let run = |phase: &str, status: &str| read(&object("Migration", phase, status)).unwrap();
        let held = under_way(&run("Running", "True")).unwrap();
        assert_eq!(
            (held.run.as_str(), held.namespace.as_str(), held.kind),
            ("guard/run-1", "milvus", evidence::RunKind::Migration)
        );
        assert_eq!(under_way(&run("Succeeded", "True")), None);
        let proved = migration(&run("Succeeded", "True")).unwrap();
        assert!(proved.migrated);
        assert_eq!(
            (proved.root_path.as_str(), proved.etcd_cluster_id.as_str()),
            ("by-dev", "cdf818194e3a8c32")
        );
        assert_eq!(
            (proved.endpoints, proved.workload_uids),
            (vec!["etcd:2379".to_owned()], vec!["u1".to_owned()])
        );
        assert!(!migration(&run("RolledBack", "False")).unwrap().migrated);
        assert!(!migration(&run("Succeeded", "Unknown")).unwrap().migrated);
    }

    #[test]
    fn only_runs_in_the_four_final_phases_are_not_in_progress() {
        let held = |phase: &str| under_way(&read(&object("Hold", phase, "False")).unwrap());
        for phase in [
            "Pending",
            "Running",
            "Paused",
            "Stopped",
            "RollingBack",
            "OfALaterVersion",
        ] {
            assert_eq!(
                held(phase).unwrap().kind,
                evidence::RunKind::Hold,
                "{phase}"
            );
        }
        for phase in ["Succeeded", "RolledBack", "Aborted", "Refused"] {
            assert_eq!(held(phase), None, "{phase}");
        }
    }

    #[test]
    fn a_run_without_a_status_is_pending_and_proves_nothing() {
        let mut object = object("Migration", "Running", "True");
        object.as_object_mut().unwrap().remove("status");
        let run = read(&object).unwrap();
        assert_eq!(
            (under_way(&run).unwrap().phase.as_str(), migration(&run)),
            ("Pending", None)
        );
    }

    #[test]
    fn a_run_that_cannot_be_read_counts_as_in_progress() {
        let mut broken = object("Migration", "Running", "True");
        broken["spec"]["to"] = json!("latest");
        assert!(read(&broken).is_err());
        let held = unreadable(&broken).unwrap();
        assert_eq!(
            (held.release.as_str(), held.phase.as_str(), held.kind),
            ("my-release", "unreadable", evidence::RunKind::Migration)
        );
    }
}
