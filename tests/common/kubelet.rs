//! Simulates nodes: the real controllers create pods, and this makes each pod ready, unless its
//! image must never be ready.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use milvus_guard_testbed::ControlPlane;
use serde_json::{Value, json};

use super::background::Background;

/// Between two listings of all pods.
const PERIOD: Duration = Duration::from_millis(100);

/// Makes pods ready until it is dropped.
pub struct Nodes {
    _background: Background,
}

/// How the nodes differ from nodes that start every pod at once.
#[derive(Default)]
struct Manner {
    /// A pod whose image contains this text never becomes ready.
    never_ready: String,
    /// Seconds from the creation of a pod until it is ready.
    seconds: i64,
    /// Whether a pod waits for each `ConfigMap` that it mounts.
    waits_for_mounts: bool,
}

impl Nodes {
    /// Makes every pod ready whose image does not contain this text.
    pub fn start(cluster: &ControlPlane, never_ready: &str) -> Self {
        Self::slow(cluster, never_ready, 0)
    }

    /// The same, after this many seconds.
    pub fn slow(cluster: &ControlPlane, never_ready: &str, seconds: i64) -> Self {
        let never_ready = never_ready.to_owned();
        Self::play(
            cluster,
            Manner {
                never_ready,
                seconds,
                ..Manner::default()
            },
        )
    }

    /// The same; a pod is not ready before every ConfigMap that it mounts exists, as on a real
    /// node.
    pub fn with_mounts(cluster: &ControlPlane, never_ready: &str) -> Self {
        let never_ready = never_ready.to_owned();
        Self::play(
            cluster,
            Manner {
                never_ready,
                waits_for_mounts: true,
                ..Manner::default()
            },
        )
    }

    fn play(cluster: &ControlPlane, manner: Manner) -> Self {
        Self {
            _background: Background::start(cluster.kubeconfig(), async move |client| {
                loop {
                    manner.look(&client).await;
                    tokio::time::sleep(PERIOD).await;
                }
            }),
        }
    }
}

impl Manner {
    /// If the API server is unavailable, no pod becomes ready.
    async fn look(&self, client: &Client) {
        let everything = ListParams::default();
        let Ok(pods) = Api::<Pod>::all(client.clone()).list(&everything).await else {
            return;
        };
        let mut configs = BTreeSet::new();
        if self.waits_for_mounts {
            let api = Api::<ConfigMap>::all(client.clone());
            let Ok(list) = api.list_metadata(&everything).await else {
                return;
            };
            configs.extend(list.iter().map(|one| (one.namespace(), one.name_any())));
        }
        for pod in pods.iter().filter(|pod| !has_ready_condition(pod)) {
            let image = pod.spec.as_ref().unwrap().containers[0].image.as_deref();
            let is_stuck = !self.never_ready.is_empty()
                && image.is_some_and(|image| image.contains(&self.never_ready));
            let created = pod.creation_timestamp().map_or(0, |at| at.0.as_second());
            let is_young = jiff::Timestamp::now().as_second() - created < self.seconds;
            let misses = |name: String| !configs.contains(&(pod.namespace(), name));
            let waits = self.waits_for_mounts && mounts(pod).any(misses);
            if !is_stuck && !is_young && !waits {
                set_status(client, pod, ready()).await;
            }
        }
    }
}

/// Names of the `ConfigMap`s that a pod mounts.
fn mounts(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
}

fn has_ready_condition(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter());
    conditions.flatten().any(|one| one.type_ == "Ready")
}

/// Whether the pod's condition `Ready` is true.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter());
    conditions
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The status of a running, ready pod.
pub fn ready() -> Value {
    // Without this time, a Deployment with minReadySeconds never reports the pod as available.
    let since = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": since},
        {"type": "ContainersReady", "status": "True"},
    ]})
}

/// Sets the status of a pod, if it still exists.
pub async fn set_status(client: &Client, pod: &Pod, status: Value) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    let status = Patch::Merge(json!({"status": status}));
    let _ = api
        .patch_status(&pod.name_any(), &PatchParams::default(), &status)
        .await;
}
