//! Waits until Deployments are what was asked for, by watching them and their pods.
//!
//! What Kubernetes itself calls complete is not enough: pods of an old template that still end are alive to Milvus, and a
//! status may be of a generation before the last change.

use std::collections::BTreeMap;

use futures::{StreamExt, stream::SelectAll};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};

use crate::reason;

/// A Deployment to look at, and the selector of its pods as `kubectl -l` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// `a=b,c=d`.
    pub selector: String,
}

/// What is to become of Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every pod is of the current template and available, and no other is left, ending ones included.
    Complete,
    /// No pod is left, ending ones included.
    Gone,
}

/// What was seen of one Deployment.
#[derive(Clone, Debug, Default)]
struct Seen {
    deployment: Option<Deployment>,
    pods: BTreeMap<String, Pod>,
    /// Whether both lists were read once: until then nothing is known.
    listed: [bool; 2],
}

enum News {
    Deployment(Event<Deployment>),
    Pod(Event<Pod>),
    Trouble(String),
}

/// Returns when all of these Deployments are as wanted; `tell` hears what is missing, whenever it may have changed. Never
/// gives up: the caller knows how long to wait.
pub async fn until(client: &Client, namespace: &str, watched: &[Watched], wanted: Wanted, mut tell: impl FnMut(String)) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut news = SelectAll::new();
    for (index, one) in watched.iter().enumerate() {
        let config = Config::default().fields(&format!("metadata.name={}", one.name));
        let stream = watcher(deployments.clone(), config).default_backoff();
        news.push(
            stream.map(move |event| (index, event.map_or_else(|e| News::Trouble(reason::chain(&e)), News::Deployment))).boxed(),
        );
        let stream = watcher(pods.clone(), Config::default().labels(&one.selector)).default_backoff();
        news.push(stream.map(move |event| (index, event.map_or_else(|e| News::Trouble(reason::chain(&e)), News::Pod))).boxed());
    }
    let mut all: Vec<Seen> = vec![Seen::default(); watched.len()];
    while let Some((index, event)) = news.next().await {
        match event {
            News::Deployment(event) => all[index].of_deployment(event),
            News::Pod(event) => all[index].of_pod(event),
            News::Trouble(reason) => {
                tell(format!("the API server (watch of {}): {reason}", watched[index].name));
                continue;
            }
        }
        if all.iter().any(|seen| seen.listed != [true, true]) {
            continue;
        }
        let missing: Vec<String> = watched
            .iter()
            .zip(&all)
            .filter_map(|(one, seen)| {
                let pods: Vec<&Pod> = seen.pods.values().collect();
                Some(format!("{}: {}", one.name, missing(seen.deployment.as_ref(), &pods, wanted)?))
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        tell(missing.join("; "));
    }
}

impl Seen {
    fn of_deployment(&mut self, event: Event<Deployment>) {
        match event {
            Event::Init => self.deployment = None,
            Event::InitApply(object) | Event::Apply(object) => self.deployment = Some(object),
            Event::InitDone => self.listed[0] = true,
            Event::Delete(_) => self.deployment = None,
        }
    }

    fn of_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => {
                self.listed[1] = false;
                self.pods.clear();
            }
            Event::InitApply(pod) | Event::Apply(pod) => drop(self.pods.insert(pod.name_any(), pod)),
            Event::InitDone => self.listed[1] = true,
            Event::Delete(pod) => drop(self.pods.remove(&pod.name_any())),
        }
    }
}

/// What a Deployment lacks; nothing where it is as wanted.
#[must_use]
pub fn missing(deployment: Option<&Deployment>, pods: &[&Pod], wanted: Wanted) -> Option<String> {
    let Some(deployment) = deployment else {
        return (wanted == Wanted::Complete).then(|| "the Deployment does not exist".into());
    };
    // What ended leaves no process behind.
    let pods: Vec<&&Pod> = pods.iter().filter(|pod| !has_ended(pod)).collect();
    let spec = &deployment.spec;
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("its controller has not seen the last change yet".into());
    }
    let replicas = spec.replicas.unwrap_or(1);
    if wanted == Wanted::Gone {
        let left = pods.len();
        return match (left, replicas) {
            (0, 0) => None,
            (0, replicas) => Some(format!("somebody scaled it to {replicas}")),
            (1, _) => Some(format!("1 pod is left ({})", pods[0].name_any())),
            (left, _) => Some(format!("{left} pods are left")),
        };
    }
    let image =
        |pod: &Pod| pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|one| one.image.clone()).collect::<Vec<_>>();
    let template: Vec<String> =
        spec.template.spec.iter().flat_map(|spec| &spec.containers).filter_map(|one| one.image.clone()).collect();
    let old = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() || image(pod) != template).count();
    let [updated, ready, available] =
        [status.updated_replicas, status.ready_replicas, status.available_replicas].map(|count| count.unwrap_or(0));
    let paused = if spec.paused == Some(true) { " (it is paused)" } else { "" };
    let trouble = pods.iter().find_map(|pod| trouble(pod)).map_or_else(String::new, |trouble| format!(" ({trouble})"));
    if updated < replicas {
        Some(format!("{updated} of {replicas} pods have the current template{paused}{trouble}"))
    } else if old > 0 {
        Some(format!("{old} old {} left", if old == 1 { "pod is" } else { "pods are" }))
    } else if ready < replicas || available < replicas {
        Some(format!("{available} of {replicas} pods available{trouble}"))
    } else if status.replicas.unwrap_or(0) != replicas || pods.len() != usize::try_from(replicas).unwrap_or(0) {
        Some(format!(
            "{} pods where {replicas} are wanted",
            pods.len().max(usize::try_from(status.replicas.unwrap_or(0)).unwrap_or(0))
        ))
    } else {
        None
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Why a pod does not start, where Kubernetes says so: `ImagePullBackOff`, `CrashLoopBackOff`, no room.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = |container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let why = waiting.reason.as_deref().filter(|why| !matches!(*why, "ContainerCreating" | "PodInitializing"))?;
        let message = waiting.message.as_deref().map_or_else(String::new, |message| format!(": {}", reason::line(message)));
        Some(format!("{} {why}{message}", pod.name_any()))
    };
    containers.find_map(waiting).or_else(|| {
        let unscheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
        let message = unscheduled.message.as_deref().unwrap_or("it finds no node");
        Some(format!("{}: {}", pod.name_any(), reason::line(message)))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(replicas: i64, status: &Value) -> Deployment {
        let template = json!({"spec": {"containers": [{"name": "proxy", "image": "milvus:2"}]}});
        let spec = json!({"replicas": replicas, "selector": {}, "template": template});
        serde_json::from_value(json!({"metadata": {"generation": 2}, "spec": spec, "status": status})).unwrap()
    }

    fn status(seen: i64, all: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": seen, "replicas": all, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available})
    }

    fn pod(image: &str, more: &Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "proxy", "image": image}]}});
        json_patch::merge(&mut pod, more);
        serde_json::from_value(pod).unwrap()
    }

    #[rstest]
    #[case::whole(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({}))], None)]
    #[case::unseen(status(1, 1, 1, 1), vec![pod("milvus:2", &json!({}))], Some("its controller has not seen the last change yet"))]
    #[case::old(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({})), pod("milvus:1", &json!({}))], Some("1 old pod is left"))]
    #[case::ending(
        status(2, 1, 1, 1),
        vec![pod("milvus:2", &json!({})), pod("milvus:2", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
        Some("1 old pod is left")
    )]
    #[case::done(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({})), pod("milvus:1", &json!({"status": {"phase": "Failed"}}))], None)]
    #[case::unready(status(2, 1, 1, 0), vec![pod("milvus:2", &json!({}))], Some("0 of 1 pods available"))]
    #[case::unpulled(
        status(2, 1, 1, 0),
        vec![pod("milvus:2", &json!({"status": {"containerStatuses": [{"name": "proxy", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}))],
        Some("0 of 1 pods available (p ImagePullBackOff)")
    )]
    fn a_deployment_is_complete_or_says_what_is_missing(
        #[case] status: Value,
        #[case] pods: Vec<Pod>,
        #[case] expected: Option<&str>,
    ) {
        let pods: Vec<&Pod> = pods.iter().collect();
        assert_eq!(missing(Some(&deployment(1, &status)), &pods, Wanted::Complete).as_deref(), expected);
    }

    #[test]
    fn gone_means_without_any_pod() {
        let none = deployment(0, &json!({"observedGeneration": 2}));
        let ending = pod("milvus:2", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert_eq!(missing(Some(&none), &[], Wanted::Gone), None);
        assert_eq!(missing(None, &[], Wanted::Gone), None);
        assert_eq!(missing(Some(&none), &[&ending], Wanted::Gone).as_deref(), Some("1 pod is left (p)"));
        let up = deployment(1, &json!({"observedGeneration": 2}));
        assert_eq!(missing(Some(&up), &[], Wanted::Gone).as_deref(), Some("somebody scaled it to 1"));
    }
}
