//! The guard's own objects in a cluster: policies, exceptions and runs. A cluster without them has none.

use serde_json::Value;

use crate::{
    facts::{Facts, MigrationRecord, RunFact, RunKind},
    manifest::Node,
    policy::{PolicyDocument, read::from_node},
};

use super::{
    client::{Cluster, Resource},
    error::ClusterError,
};

const API: &str = "guard.milvus.io/v1alpha1";
const POLICIES: Resource = Resource::new(API, "upgradepolicies", "UpgradePolicy");
const EXCEPTIONS: Resource = Resource::new(API, "upgradeexceptions", "UpgradeException");
const RUNS: Resource = Resource::new(API, "upgraderuns", "UpgradeRun");

/// Phases after which a run no longer holds its release.
const ENDED: [&str; 4] = ["Succeeded", "RolledBack", "Aborted", "Refused"];

impl Cluster {
    /// Policies and exceptions in force, and what could not be used.
    ///
    /// # Errors
    /// Where the API may not be read; an API that is not installed is no error.
    pub async fn policies(&self) -> Result<(Vec<PolicyDocument>, Vec<String>), ClusterError> {
        let (mut documents, mut unusable) = (Vec::new(), Vec::new());
        for resource in [POLICIES, EXCEPTIONS] {
            for mut object in installed(self.list(resource, None, None).await)? {
                if let Value::Object(fields) = &mut object {
                    fields.insert("apiVersion".into(), API.into());
                    fields.insert("kind".into(), resource.kind.into());
                    // What the API server adds is no part of the document.
                    fields.remove("status");
                    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                        metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels" | "annotations"));
                    }
                }
                match from_node(&Node::from_json(&object), "cluster") {
                    Ok(document) => documents.push(document),
                    Err(error) => unusable.push(error.to_string()),
                }
            }
        }
        Ok((documents, unusable))
    }

    /// Runs of the guard: which are under way, and what migrations they have proved.
    ///
    /// # Errors
    /// Where the API may not be read; an API that is not installed is no error.
    pub async fn runs(&self) -> Result<Facts, ClusterError> {
        let objects = installed(self.list(RUNS, None, None).await)?;
        let (mut runs, mut migrations) = (Vec::new(), Vec::new());
        for object in objects.iter().map(Node::from_json) {
            runs.extend(run(&object));
            migrations.extend(migration(&object));
        }
        Ok(Facts { runs: Some(runs), migrations: Some(migrations), ..Facts::default() })
    }
}

fn installed(objects: Result<Vec<Value>, ClusterError>) -> Result<Vec<Value>, ClusterError> {
    match objects {
        Err(ClusterError::NotFound(_)) => Ok(Vec::new()),
        other => other,
    }
}

fn name(object: &Node) -> Option<String> {
    let name = object.text_at(&["metadata", "name"])?;
    Some(match object.text_at(&["metadata", "namespace"]) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    })
}

fn run(object: &Node) -> Option<RunFact> {
    let phase = object.text_at(&["status", "phase"]).unwrap_or("Pending");
    if ENDED.contains(&phase) {
        return None;
    }
    Some(RunFact {
        run: name(object)?,
        release: object.text_at(&["spec", "release"])?.to_owned(),
        namespace: object.text_at(&["spec", "namespace"])?.to_owned(),
        kind: match object.text_at(&["spec", "kind"]) {
            Some("Migration" | "migration") => RunKind::Migration,
            _ => RunKind::Rolling,
        },
        phase: phase.to_owned(),
    })
}

fn migration(object: &Node) -> Option<MigrationRecord> {
    let evidence = object.at(&["status", "evidence"])?;
    let text = |key: &str| evidence.text_at(&[key]).map(str::to_owned);
    let list = |key: &str| evidence.items_at(&[key]).filter_map(Node::as_str).map(str::to_owned).collect();
    let migrated = object.items_at(&["status", "conditions"]).any(|condition| {
        condition.text_at(&["type"]) == Some("MetadataMigrated") && condition.text_at(&["status"]) == Some("True")
    });
    Some(MigrationRecord {
        run: name(object)?,
        release: text("release")?,
        namespace: text("namespace")?,
        from: text("from")?.parse().ok()?,
        to: text("to")?.parse().ok()?,
        root_path: text("rootPath")?,
        etcd_cluster_id: text("etcdClusterId").unwrap_or_default(),
        endpoints: list("endpoints"),
        workload_uids: list("workloadUids"),
        migrated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_held_by_its_phase_and_proves_by_its_condition() {
        let object = |phase: &str, status: &str| {
            Node::from_json(&serde_json::json!({
                "metadata": {"name": "run-1", "namespace": "milvus"},
                "spec": {"release": "my-release", "namespace": "milvus", "kind": "Migration"},
                "status": {"phase": phase, "conditions": [{"type": "MetadataMigrated", "status": status}],
                    "evidence": {"release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16", "rootPath": "by-dev"}}
            }))
        };
        assert_eq!(run(&object("Running", "True")).unwrap().kind, RunKind::Migration);
        assert_eq!(run(&object("Succeeded", "True")), None);
        assert!(migration(&object("Succeeded", "True")).unwrap().migrated);
        assert!(!migration(&object("RolledBack", "False")).unwrap().migrated);
    }
}
