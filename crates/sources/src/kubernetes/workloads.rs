//! Changes Deployments of a release and leaves no field owned by our field manager.
//!
//! A field that a chart renders must not stay ours: with server-side apply the next `helm upgrade`
//! would report a conflict, even if the value is the old one again (`FIELD_MANAGER` would be
//! another owner). So after each change our entry in `managedFields` is removed, and the fields
//! have no owner until Helm applies them again.

use k8s_openapi::{
    api::apps::v1::Deployment,
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Field manager of all runs.
pub const FIELD_MANAGER: &str = "milvus-guard-run";

/// A change of a Deployment. Fields that are `None` or empty stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Wanted replicas.
    pub replicas: Option<i32>,
    /// Images by container. Containers that the Deployment does not have are ignored: a patch would
    /// add them.
    pub images: Vec<(String, String)>,
    /// `spec.strategy`, as Kubernetes has it.
    pub strategy: Option<Value>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: Option<i32>,
    /// `spec.progressDeadlineSeconds`, which must be above `minReadySeconds`.
    pub progress_deadline_seconds: Option<i32>,
    /// Labels of the Deployment itself; `None` removes one.
    pub labels: Vec<(String, Option<String>)>,
    /// Annotations of the Deployment itself; `None` removes one.
    pub annotations: Vec<(String, Option<String>)>,
    /// Whether rollouts are paused (`spec.paused`). `false` removes the field, so that the object
    /// is as its chart renders it.
    pub paused: Option<bool>,
}

impl Change {
    /// Whether the Deployment already has this change.
    #[must_use]
    pub fn is_made(&self, deployment: &Deployment) -> bool {
        let spec = &deployment.spec;
        let containers = spec.template.spec.iter().flat_map(|pod| {
            pod.containers
                .iter()
                .chain(pod.init_containers.iter().flatten())
        });
        let image = |name: &str| {
            containers
                .clone()
                .find(|one| one.name == name)
                .and_then(|one| one.image.as_deref())
        };
        self.replicas
            .is_none_or(|replicas| spec.replicas.unwrap_or(1) == replicas)
            && self
                .min_ready_seconds
                .is_none_or(|seconds| spec.min_ready_seconds.unwrap_or(0) == seconds)
            && self
                .progress_deadline_seconds
                .is_none_or(|seconds| progress_deadline(deployment) == seconds)
            && self
                .images
                .iter()
                .all(|(name, wanted)| image(name).is_none_or(|image| image == wanted))
            && self
                .strategy
                .as_ref()
                .is_none_or(|wanted| strategy(deployment).as_ref() == Some(wanted))
            && self
                .labels
                .iter()
                .all(|(key, wanted)| deployment.labels().get(key) == wanted.as_ref())
            && self
                .annotations
                .iter()
                .all(|(key, wanted)| deployment.annotations().get(key) == wanted.as_ref())
            && self
                .paused
                .is_none_or(|paused| is_paused(deployment) == paused)
    }

    /// A strategic merge patch, for containers that the Deployment really has.
    fn patch(&self, deployment: &Deployment) -> Value {
        let mut spec = json!({});
        if let Some(replicas) = self.replicas {
            spec["replicas"] = replicas.into();
        }
        if let Some(seconds) = self.min_ready_seconds {
            spec["minReadySeconds"] = seconds.into();
        }
        if let Some(seconds) = self.progress_deadline_seconds {
            spec["progressDeadlineSeconds"] = seconds.into();
        }
        if let Some(paused) = self.paused {
            spec["paused"] = if paused { true.into() } else { Value::Null };
        }
        let pod = deployment.spec.template.spec.as_ref();
        let among = |names: Vec<&String>| -> Vec<Value> {
            let wanted = self.images.iter().filter(|(name, _)| names.contains(&name));
            wanted
                .map(|(name, image)| json!({"name": name, "image": image}))
                .collect()
        };
        if let Some(pod) = pod {
            let containers = among(pod.containers.iter().map(|one| &one.name).collect());
            let init = among(
                pod.init_containers
                    .iter()
                    .flatten()
                    .map(|one| &one.name)
                    .collect(),
            );
            for (field, images) in [("containers", containers), ("initContainers", init)] {
                if !images.is_empty() {
                    spec["template"]["spec"][field] = images.into();
                }
            }
        }
        if let Some(strategy) = &self.strategy {
            spec["strategy"] = strategy.clone();
            // Fields of another strategy type must be removed, or the API refuses the patch.
            let keys: Vec<&String> = strategy
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::keys)
                .collect();
            spec["strategy"]["$retainKeys"] = json!(keys);
        }
        // Only the object that was read, not a new one of the same name: the caller must first
        // read such a new object.
        let mut metadata = json!({"uid": deployment.metadata.uid});
        if let Some(version) = &deployment.metadata.resource_version {
            metadata["resourceVersion"] = json!(version);
        }
        if !self.labels.is_empty() {
            metadata["labels"] = self
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
        }
        if !self.annotations.is_empty() {
            metadata["annotations"] = self
                .annotations
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
        }
        json!({"metadata": metadata, "spec": spec})
    }
}

/// Whether rollouts of a Deployment are paused.
#[must_use]
pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.paused == Some(true)
}

/// A Deployment's `progressDeadlineSeconds`; 600, the default, if it is not set.
#[must_use]
pub fn progress_deadline(deployment: &Deployment) -> i32 {
    const DEFAULT: i32 = 600;
    deployment.spec.progress_deadline_seconds.unwrap_or(DEFAULT)
}

/// Whether the Deployment's status shows that all its pods are updated and available; pods of the
/// old template may still be terminating.
#[must_use]
pub fn is_complete(deployment: &Deployment) -> bool {
    let updated = deployment
        .status
        .as_ref()
        .and_then(|status| status.updated_replicas);
    is_available(deployment) && updated.unwrap_or(0) == deployment.spec.replicas.unwrap_or(1)
}

/// Whether the Deployment's status shows that all its pods are available, of any template.
#[must_use]
pub fn is_available(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    status.observed_generation >= deployment.metadata.generation
        && all(status.replicas)
        && all(status.available_replicas)
}

/// A Deployment's `spec.strategy`, as JSON.
#[must_use]
pub fn strategy(deployment: &Deployment) -> Option<Value> {
    deployment
        .spec
        .strategy
        .as_ref()
        .and_then(|strategy| serde_json::to_value(strategy).ok())
}

/// Makes a change, unless it is made already. Returns the Deployment after it.
///
/// # Errors
/// The error of the API server. It is a conflict if the object was replaced or changed since it
/// was read.
pub async fn change(
    api: &Api<Deployment>,
    deployment: &Deployment,
    change: &Change,
) -> Result<Option<Deployment>, kube::Error> {
    if change.is_made(deployment) {
        return Ok(None);
    }
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    api.patch(
        &deployment.name_any(),
        &params,
        &Patch::Strategic(change.patch(deployment)),
    )
    .await
    .map(Some)
}

/// Whether any field of an object is owned by our field manager.
#[must_use]
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    metadata
        .managed_fields
        .iter()
        .flatten()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

/// Removes our field manager from an object, if it owns any fields.
///
/// # Errors
/// The error of the API server; a change since the object was read is a conflict.
pub async fn hand_over<K>(api: &Api<K>, metadata: &ObjectMeta) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    if !is_ours(metadata) {
        return Ok(());
    }
    let mut kept = metadata.managed_fields.clone().unwrap_or_default();
    kept.retain(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    set_managed_fields(api, metadata, &json!(kept)).await
}

/// Makes another client the owner of what we set on an object, as if it had set it. `except` names
/// fields that get no owner, in the form of managed fields (`f:spec`).
///
/// # Errors
/// The error of the API server; a change since the object was read is a conflict.
pub async fn give_to<K>(
    api: &Api<K>,
    metadata: &ObjectMeta,
    owner: &ManagedFieldsEntry,
    except: &[&[&str]],
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut given = metadata.clone();
    for entry in given.managed_fields.iter_mut().flatten() {
        if entry.manager.as_deref() != Some(FIELD_MANAGER) {
            continue;
        }
        entry.manager.clone_from(&owner.manager);
        entry.operation.clone_from(&owner.operation);
        for path in except {
            if let Some(FieldsV1(fields)) = &mut entry.fields_v1 {
                remove(fields, path);
            }
        }
    }
    set_managed_fields(api, metadata, &json!(given.managed_fields)).await
}

/// Removes a field, if it exists.
fn remove(fields: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut parents = parents.iter();
    let parent = parents.try_fold(fields, |at, key| at.get_mut(*key));
    if let Some(parent) = parent.and_then(Value::as_object_mut) {
        parent.remove(*last);
    }
}

async fn set_managed_fields<K>(
    api: &Api<K>,
    metadata: &ObjectMeta,
    managed: &Value,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": managed},
        // Fails if another client was faster, as client-go's upgrade of managed fields does.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let name = metadata.name.as_deref().unwrap_or_default();
    api.patch(name, &params, &Patch::Json::<()>(patch))
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        let containers =
            json!([{"name": "sidecar", "image": "x:1"}, {"name": "proxy", "image": "milvus:1"}]);
        let pod = json!({"spec": {"containers": containers, "initContainers": [{"name": "config", "image": "tool:1"}]}});
        let spec = json!({"replicas": 2, "selector": {}, "template": pod});
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn a_field_is_removed_from_managed_fields() {
        let mut fields = json!({"f:spec": {"f:paused": {}, "f:replicas": {}}});
        remove(&mut fields, &["f:spec", "f:paused"]);
        remove(&mut fields, &["f:metadata", "f:annotations"]);
        assert_eq!(fields, json!({"f:spec": {"f:replicas": {}}}));
    }

    #[test]
    fn a_patch_names_only_containers_of_the_deployment() {
        let images = [
            ("proxy", "milvus:2"),
            ("config", "tool:2"),
            ("absent", "a:1"),
        ];
        let images = images
            .map(|(name, image)| (name.to_owned(), image.to_owned()))
            .to_vec();
        let change = Change {
            replicas: Some(0),
            images,
            ..Change::default()
        };
        let spec = json!({"containers": [{"name": "proxy", "image": "milvus:2"}], "initContainers": [{"name": "config", "image": "tool:2"}]});
        let expected =
            json!({"metadata": {"uid": "u"}, "spec": {"replicas": 0, "template": {"spec": spec}}});
        assert_eq!(change.patch(&deployment()), expected);
        assert!(!change.is_made(&deployment()));
    }

    #[test]
    fn missing_min_ready_seconds_equal_zero() {
        let seconds = |seconds| Change {
            min_ready_seconds: Some(seconds),
            ..Change::default()
        };
        assert!(seconds(0).is_made(&deployment()) && !seconds(8).is_made(&deployment()));
        let patch = seconds(8).patch(&deployment());
        assert_eq!(patch["spec"], json!({"minReadySeconds": 8}));
    }

    #[test]
    fn a_change_that_is_made_is_detected() {
        let same = Change {
            replicas: Some(2),
            images: vec![("proxy".into(), "milvus:1".into())],
            ..Change::default()
        };
        assert!(same.is_made(&deployment()));
        assert!(
            !Change {
                replicas: Some(3),
                ..same
            }
            .is_made(&deployment())
        );
    }

    #[test]
    fn a_patch_drops_fields_of_the_other_strategy_and_removes_labels() {
        let change = Change {
            strategy: Some(json!({"type": "Recreate"})),
            labels: vec![("a".into(), Some("1".into())), ("b".into(), None)],
            ..Change::default()
        };
        let patch = change.patch(&deployment());
        assert_eq!(
            patch["spec"]["strategy"],
            json!({"type": "Recreate", "$retainKeys": ["type"]})
        );
        assert_eq!(patch["metadata"]["labels"], json!({"a": "1", "b": null}));
        let mut done = deployment();
        done.metadata.labels = Some([("a".to_owned(), "1".to_owned())].into());
        done.spec.strategy = serde_json::from_value(json!({"type": "Recreate"})).unwrap();
        assert!(change.is_made(&done) && !change.is_made(&deployment()));
    }
}
