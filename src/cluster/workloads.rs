//! Changes Deployments of a release and leaves no field of theirs under our name.
//!
//! A field that a chart renders must not stay ours: under server-side apply the next `helm upgrade` would meet a conflict,
//! even where the value is the old one again (`FIELD_MANAGER` would be its other owner). So after each change our entry in
//! `managedFields` is taken away, and the fields belong to nobody until Helm applies them again.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

/// As whom runs write.
pub const FIELD_MANAGER: &str = "milvus-guard-run";

/// What is to become of a Deployment. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Wanted replicas.
    pub replicas: Option<i32>,
    /// Images by container; containers that it does not have are no error here, because they would be added.
    pub images: Vec<(String, String)>,
}

impl Change {
    /// Whether the Deployment is that way already.
    #[must_use]
    pub fn is_made(&self, deployment: &Deployment) -> bool {
        let spec = &deployment.spec;
        let containers =
            spec.template.spec.iter().flat_map(|pod| pod.containers.iter().chain(pod.init_containers.iter().flatten()));
        let image = |name: &str| containers.clone().find(|one| one.name == name).and_then(|one| one.image.as_deref());
        self.replicas.is_none_or(|replicas| spec.replicas.unwrap_or(1) == replicas)
            && self.images.iter().all(|(name, wanted)| image(name).is_none_or(|image| image == wanted))
    }

    /// A strategic merge patch, for containers that the Deployment really has.
    fn patch(&self, deployment: &Deployment) -> Value {
        let mut spec = json!({});
        if let Some(replicas) = self.replicas {
            spec["replicas"] = replicas.into();
        }
        let pod = deployment.spec.template.spec.as_ref();
        let among = |names: Vec<&String>| -> Vec<Value> {
            let wanted = self.images.iter().filter(|(name, _)| names.contains(&name));
            wanted.map(|(name, image)| json!({"name": name, "image": image})).collect()
        };
        if let Some(pod) = pod {
            let containers = among(pod.containers.iter().map(|one| &one.name).collect());
            let init = among(pod.init_containers.iter().flatten().map(|one| &one.name).collect());
            for (field, images) in [("containers", containers), ("initContainers", init)] {
                if !images.is_empty() {
                    spec["template"]["spec"][field] = images.into();
                }
            }
        }
        // The object that was read, and no other of its name.
        json!({"metadata": {"uid": deployment.metadata.uid}, "spec": spec})
    }
}

/// Makes a change, where it is not made already.
///
/// # Errors
/// As the API server answers; another object of the same name is a conflict.
pub async fn change(client: &Client, namespace: &str, deployment: &Deployment, change: &Change) -> Result<(), kube::Error> {
    if change.is_made(deployment) {
        return Ok(());
    }
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(&deployment.name_any(), &params, &Patch::Strategic(change.patch(deployment))).await.map(|_| ())
}

/// Whether any field of an object is under our name.
#[must_use]
pub fn is_ours(deployment: &Deployment) -> bool {
    deployment.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

/// Takes our name off a Deployment, where it is on it.
///
/// # Errors
/// As the API server answers; a change that came in between is a conflict.
pub async fn hand_over(client: &Client, namespace: &str, deployment: &Deployment) -> Result<(), kube::Error> {
    if !is_ours(deployment) {
        return Ok(());
    }
    let mut kept = deployment.managed_fields().to_vec();
    kept.retain(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        // Makes the change fail where somebody else was faster, as client-go's own upgrade of managed fields does.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": deployment.metadata.resource_version},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(&deployment.name_any(), &params, &Patch::Json::<()>(patch)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        let containers = json!([{"name": "sidecar", "image": "x:1"}, {"name": "proxy", "image": "milvus:1"}]);
        let pod = json!({"spec": {"containers": containers, "initContainers": [{"name": "config", "image": "tool:1"}]}});
        let spec = json!({"replicas": 2, "selector": {}, "template": pod});
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_patch_names_containers_that_are_there_and_no_other() {
        let images = [("proxy", "milvus:2"), ("config", "tool:2"), ("absent", "a:1")];
        let images = images.map(|(name, image)| (name.to_owned(), image.to_owned())).to_vec();
        let change = Change { replicas: Some(0), images };
        let spec = json!({"containers": [{"name": "proxy", "image": "milvus:2"}], "initContainers": [{"name": "config", "image": "tool:2"}]});
        let expected = json!({"metadata": {"uid": "u"}, "spec": {"replicas": 0, "template": {"spec": spec}}});
        assert_eq!(change.patch(&deployment()), expected);
        assert!(!change.is_made(&deployment()));
    }

    #[test]
    fn what_is_so_already_is_not_changed_again() {
        let same = Change { replicas: Some(2), images: vec![("proxy".into(), "milvus:1".into())] };
        assert!(same.is_made(&deployment()));
        assert!(!Change { replicas: Some(3), ..same }.is_made(&deployment()));
    }
}
