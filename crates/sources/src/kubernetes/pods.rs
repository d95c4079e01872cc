//! Reads the metadata and the status of pods.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;

use milvus_guard_core::error_text;

/// Waiting reasons of a container that rarely end without a change by a person.
const HOPELESS: [&str; 7] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// Whether a pod belongs to this Deployment: its `ReplicaSet` is named after the Deployment and the
/// hash of the template. The selector alone is not enough if another Deployment has the same labels
/// and more, as groups of query nodes have.
#[must_use]
pub fn is_pod_of(pod: &Pod, deployment: &str) -> bool {
    is_owned_by(&pod.metadata, deployment)
}

/// The same, with only the metadata of the pod.
#[must_use]
pub fn is_owned_by(pod: &ObjectMeta, deployment: &str) -> bool {
    let labels = pod.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get("pod-template-hash"));
    let (Some(hash), Some(owner)) = (hash, replica_set(pod)) else {
        return true;
    };
    owner
        .strip_prefix(deployment)
        .and_then(|rest| rest.strip_prefix('-'))
        == Some(hash)
}

/// Name of the `ReplicaSet` that controls a pod, if any.
#[must_use]
pub fn replica_set(pod: &ObjectMeta) -> Option<&str> {
    let owners = pod.owner_references.iter().flatten();
    let mut sets =
        owners.filter(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet");
    sets.next().map(|owner| owner.name.as_str())
}

pub(super) fn phase(pod: &Pod) -> Option<&str> {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
}

/// Whether a pod is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Since when a pod is ready; `None` if it is not ready.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|one| one.type_ == "Ready" && one.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// Whether the status of a pod shows that it is not ready, or that a container has ended.
pub(super) fn has_failed(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let unready = status
        .conditions
        .iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "False");
    let ended = |container: &ContainerStatus| {
        container
            .state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some())
    };
    unready || status.container_statuses.iter().flatten().any(ended)
}

pub(super) fn is_hopeless(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    containers
        .filter_map(|container| {
            container
                .state
                .as_ref()?
                .waiting
                .as_ref()?
                .reason
                .as_deref()
        })
        .any(|reason| HOPELESS.contains(&reason))
}

/// Whether no container of the pod has a readiness probe or a startup probe.
pub(super) fn is_unprobed(pod: &Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    !containers
        .any(|container| container.readiness_probe.is_some() || container.startup_probe.is_some())
}

pub(super) fn start(container: &ContainerStatus) -> Option<Timestamp> {
    Some(
        container
            .state
            .as_ref()?
            .running
            .as_ref()?
            .started_at
            .as_ref()?
            .0,
    )
}

/// When the previous process of a restarted container ended.
pub(super) fn last_end(container: &ContainerStatus) -> Option<Timestamp> {
    let ended = container
        .last_state
        .as_ref()?
        .terminated
        .as_ref()?
        .finished_at
        .as_ref()?;
    (container.restart_count > 0).then_some(ended.0)
}

pub(super) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

/// Why a pod does not start, if its status shows it: `ImagePullBackOff`, `CrashLoopBackOff`, or no
/// node with enough capacity.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    let waiting = |container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let why = waiting
            .reason
            .as_deref()
            .filter(|why| !matches!(*why, "ContainerCreating" | "PodInitializing"))?;
        let message = waiting
            .message
            .as_deref()
            .map_or_else(String::new, |message| {
                format!(": {}", error_text::line(message))
            });
        Some(format!("{} {why}{message}", pod.name_any()))
    };
    containers.find_map(waiting).or_else(|| {
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
        let message = unscheduled
            .message
            .as_deref()
            .unwrap_or("it cannot be scheduled");
        Some(format!("{}: {}", pod.name_any(), error_text::line(message)))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(image: &str, more: &Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "proxy", "image": image}]}});
        json_patch::merge(&mut pod, more);
        serde_json::from_value(pod).unwrap()
    }

    #[rstest]
    #[case("a-querynode", true)]
    #[case("a-querynode-rg1", false)]
    #[case("a", false)]
    fn a_pod_belongs_to_the_deployment_of_its_replica_set(
        #[case] deployment: &str,
        #[case] its: bool,
    ) {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-querynode-5f4c", "uid": "1", "controller": true});
        let owned = pod(
            "milvus:2",
            &json!({"metadata": {"labels": {"pod-template-hash": "5f4c"}, "ownerReferences": [owner]}}),
        );
        assert_eq!(is_pod_of(&owned, deployment), its);
        assert!(
            is_pod_of(&pod("milvus:2", &json!({})), deployment),
            "a pod without an owner"
        );
    }
}
