//! A cluster in which Milvus rolls, as far as an upgrade can observe: a real control plane with
//! controllers, and simulated nodes. Tags of images select how a pod fails: `never-ready`,
//! `no-such` (cannot be pulled), `crash`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use milvus_guard_core::milvus::Component;
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, wait_until};
use serde_json::{Value, json};

use super::{
    Chart,
    background::Background,
    guard,
    kubelet::{is_ready, ready, set_status},
    oldest_first,
    ticks::Ticks,
    webhook::Webhook,
};

/// Release under test.
pub const RELEASE: &str = "my-release";
/// For any event on a busy machine of 2 cores.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Components whose new pods do not become ready.
type Unready = Arc<Mutex<BTreeSet<String>>>;

/// A cluster in which Milvus rolls.
pub struct Roll {
    pub cluster: NamespaceState,
    unready: Unready,
    _nodes: Background,
}

/// A control plane, without the guard or with it.
pub enum NamespaceState {
    Bare(Box<ControlPlane>),
    Guarded(Box<Webhook>),
}

impl Deref for NamespaceState {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Self::Bare(cluster) => cluster,
            Self::Guarded(webhook) => &webhook.cluster,
        }
    }
}

/// Whether every pod of a Deployment has its current template and is available.
pub fn is_complete(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|key| status[key].as_i64().unwrap_or(0) == wanted)
}

impl Roll {
    /// A cluster with the definitions.
    pub fn start() -> Self {
        let roll = Self::on(NamespaceState::Bare(Box::new(
            ControlPlane::builder().controller_manager(true).start(),
        )));
        super::install_definitions(&roll.cluster);
        roll
    }

    /// The same; pods have addresses where they serve their time-tick metrics.
    pub fn start_with(ticks: Arc<Ticks>) -> Self {
        let cluster = ControlPlane::builder().controller_manager(true).start();
        super::install_definitions(&cluster);
        Self::telling(NamespaceState::Bare(Box::new(cluster)), Some(ticks))
    }

    /// A cluster with the guard.
    pub fn guarded() -> Self {
        Self::on(NamespaceState::Guarded(Box::new(Webhook::start())))
    }

    /// A cluster with a guard that holds changes.
    pub fn holding(flags: &[&str]) -> Self {
        Self::on(Self::holder(flags))
    }

    /// The same; pods have addresses where they serve their time-tick metrics.
    pub fn holding_with(ticks: Arc<Ticks>) -> Self {
        Self::telling(Self::holder(&[]), Some(ticks))
    }

    fn holder(flags: &[&str]) -> NamespaceState {
        let cluster = ControlPlane::builder().controller_manager(true).start();
        let flags = [&["--hold"], flags].concat();
        NamespaceState::Guarded(Box::new(Webhook::with(cluster, &flags)))
    }

    fn on(cluster: NamespaceState) -> Self {
        Self::telling(cluster, None)
    }

    fn telling(cluster: NamespaceState, ticks: Option<Arc<Ticks>>) -> Self {
        let unready = Unready::default();
        let nodes = {
            let unready = unready.clone();
            Background::start(cluster.kubeconfig(), |client| play(client, ticks, unready))
        };
        Self {
            cluster,
            unready,
            _nodes: nodes,
        }
    }

    /// From now on no new pod of a component becomes ready, so that its step does not end.
    pub fn hold_up(&self, component: &str) {
        self.unready.lock().unwrap().insert(component.to_owned());
    }

    /// Lets the pods of a component become ready again.
    pub fn let_go(&self, namespace: &str, component: &str) {
        self.unready.lock().unwrap().remove(component);
        // The nodes look at a pod when it changes.
        let selector = format!("component={component}");
        let touch = [
            "annotate",
            "pods",
            "-n",
            namespace,
            "-l",
            &selector,
            "touched=yes",
        ];
        expect_success(self.cluster.kubectl(touch));
    }

    /// Installs Milvus and waits until it runs.
    pub fn install(&self, with: Helm, namespace: &str, chart: &Chart, tag: &str, values: &[&str]) {
        self.install_as(RELEASE, with, namespace, chart, tag, values);
    }

    /// The same for another release name.
    pub fn install_as(
        &self,
        release: &str,
        with: Helm,
        namespace: &str,
        chart: &Chart,
        tag: &str,
        values: &[&str],
    ) {
        let tag = format!("image.all.tag={tag}");
        let mut args = vec![
            "install",
            release,
            chart.path(),
            "-n",
            namespace,
            "--create-namespace",
            "--set",
            &tag,
        ];
        for value in values {
            args.extend(["--set", value]);
        }
        expect_success(self.cluster.helm(with, args));
        self.await_complete(namespace);
    }

    /// Waits until every Deployment is complete.
    pub fn await_complete(&self, namespace: &str) {
        let complete = || {
            let list = self.deployments(namespace);
            !list.is_empty() && list.iter().all(is_complete)
        };
        assert!(
            wait_until(DEADLINE, complete),
            "{:#?}",
            self.deployments(namespace)
        );
    }

    /// Waits until the controller has seen that a component is paused.
    pub fn await_paused(&self, namespace: &str, component: &str) {
        let is_paused = || {
            let one = self.deployment(namespace, component);
            let seen = one["status"]["observedGeneration"] == one["metadata"]["generation"];
            seen && one["spec"]["paused"] == true
        };
        let one = || self.deployment(namespace, component);
        assert!(wait_until(DEADLINE, is_paused), "{:#}", one());
    }

    pub fn deployments(&self, namespace: &str) -> Vec<Value> {
        let list = self
            .cluster
            .get_json(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"));
        list["items"].as_array().unwrap().clone()
    }

    pub fn deployment(&self, namespace: &str, component: &str) -> Value {
        let end = format!("-{component}");
        let mut all = self.deployments(namespace);
        all.retain(|one| one["metadata"]["name"].as_str().unwrap().ends_with(&end));
        all.pop()
            .unwrap_or_else(|| panic!("no {component} in {namespace}"))
    }

    /// `name image replicas strategy` of every Deployment.
    pub fn shape(&self, namespace: &str) -> Vec<String> {
        let mut shape: Vec<String> = self
            .deployments(namespace)
            .iter()
            .map(|one| {
                let spec = &one["spec"];
                let image = spec["template"]["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap();
                format!(
                    "{} {image} {} {}",
                    one["metadata"]["name"].as_str().unwrap(),
                    spec["replicas"],
                    spec["strategy"]["type"]
                )
            })
            .collect();
        shape.sort();
        shape
    }

    /// Tag of a component's image.
    pub fn tag(&self, namespace: &str, component: &str) -> String {
        let image = self.deployment(namespace, component)["spec"]["template"]["spec"]["containers"]
            [0]["image"]
            .clone();
        image
            .as_str()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned()
    }

    /// Names of objects that have a field owned by a run; a finished run leaves none.
    pub fn owned_by_runs(&self, namespace: &str) -> Vec<String> {
        let maps = self
            .cluster
            .get_json(&format!("/api/v1/namespaces/{namespace}/configmaps"));
        let all = self
            .deployments(namespace)
            .into_iter()
            .chain(maps["items"].as_array().unwrap().clone());
        let ours = |one: &Value| {
            let managers = one["metadata"]["managedFields"]
                .as_array()
                .into_iter()
                .flatten();
            managers
                .clone()
                .any(|entry| entry["manager"] == "milvus-guard-run")
        };
        all.filter(ours)
            .map(|one| one["metadata"]["name"].to_string())
            .collect()
    }

    /// Every run, the newest last.
    pub fn runs(&self, namespace: &str) -> Vec<Value> {
        let list = self.cluster.get_json(&format!(
            "/apis/guard.milvus.io/v1alpha1/namespaces/{namespace}/upgraderuns"
        ));
        let mut items = list["items"].as_array().unwrap().clone();
        oldest_first(&mut items);
        items
    }

    /// The last run.
    pub fn run(&self, namespace: &str) -> Value {
        self.runs(namespace).pop().expect("a run")
    }

    /// Names and identities of the pods.
    pub fn pods(&self, namespace: &str) -> Vec<String> {
        let list = self
            .cluster
            .get_json(&format!("/api/v1/namespaces/{namespace}/pods"));
        let mut names: Vec<String> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// `user.yaml` and the keys of the release's `ConfigMap`.
    pub fn config(&self, namespace: &str) -> BTreeMap<String, String> {
        let map = self.cluster.get_json(&format!(
            "/api/v1/namespaces/{namespace}/configmaps/{RELEASE}-milvus"
        ));
        serde_json::from_value(map["data"].clone()).unwrap()
    }

    /// `upgrade` with `--local`, in the process of the command.
    pub fn upgrade(&self, namespace: &str, target: &str) -> Command {
        self.upgrade_of(RELEASE, namespace, target)
    }

    /// The same for another release name.
    pub fn upgrade_of(&self, release: &str, namespace: &str, target: &str) -> Command {
        let mut command = self.upgrade_without_target(release, namespace);
        command.args(["-t", target]);
        command
    }

    /// `upgrade` with another operation, which finds the version in the record of the run.
    pub fn end(&self, namespace: &str, operation: &str) -> Command {
        let mut command = self.upgrade_without_target(RELEASE, namespace);
        command.args(["-o", operation]);
        command
    }

    fn upgrade_without_target(&self, release: &str, namespace: &str) -> Command {
        let mut command = guard();
        command
            .args(["upgrade", "--yes"])
            .arg("--kubeconfig")
            .arg(self.cluster.kubeconfig());
        command.args([
            "-i",
            release,
            "-n",
            namespace,
            "--local",
            "--lock-holds",
            "2s",
            "--progress",
            "plain",
        ]);
        command
    }

    /// Records changes of the pods of a namespace until the value is dropped.
    pub fn watch(&self, namespace: &str) -> Watch {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let ready = Arc::new(AtomicBool::new(false));
        let (into, listed, namespace) =
            (Arc::clone(&seen), Arc::clone(&ready), namespace.to_owned());
        let background = Background::start(self.cluster.kubeconfig(), move |client| {
            record(client, namespace, into, listed)
        });
        assert!(
            wait_until(DEADLINE, || ready.load(Ordering::Relaxed)),
            "the watch must have listed the pods"
        );
        Watch {
            seen,
            _background: background,
        }
    }
}

/// A change of a pod.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub name: String,
    pub component: Component,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub is_ready: bool,
    /// Whether the pod was deleted.
    pub is_gone: bool,
}

/// A recording of changes of pods.
pub struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    _background: Background,
}

impl Watch {
    /// All changes until now.
    pub fn events(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The components in the order in which their first pod with this image appeared.
    pub fn order(&self, image: &str) -> Vec<Component> {
        let mut order = Vec::new();
        for seen in self
            .events()
            .iter()
            .filter(|seen| seen.image == image && !seen.is_gone)
        {
            if !order.contains(&seen.component) {
                order.push(seen.component);
            }
        }
        order
    }

    /// Fails if a pod with the new image appeared while a component that must precede it had a pod
    /// with another image, or one not ready. Pods of `needs_not_be_ready` only had to exist.
    pub fn assert_order(
        &self,
        image: &str,
        before: impl Fn(Component) -> Vec<Component>,
        needs_not_be_ready: &[Component],
    ) {
        let mut pods: BTreeMap<String, Seen> = BTreeMap::new();
        for seen in self.events() {
            let is_new = seen.image == image && !seen.is_gone && !pods.contains_key(&seen.name);
            if is_new {
                for earlier in before(seen.component) {
                    let of: Vec<&Seen> = pods
                        .values()
                        .filter(|pod| pod.component == earlier)
                        .collect();
                    let late = of.iter().find(|pod| {
                        pod.image != image
                            || !(pod.is_ready || needs_not_be_ready.contains(&earlier))
                    });
                    assert!(
                        late.is_none(),
                        "{} moved while {late:?} existed",
                        seen.component
                    );
                }
            }
            if seen.is_gone {
                pods.remove(&seen.name);
            } else {
                pods.insert(seen.name.clone(), seen);
            }
        }
    }

    /// The longest time from a completely new component to the first pod of the next one.
    pub fn longest_pause(&self, image: &str) -> Duration {
        let (mut pods, mut last, mut longest) = (
            BTreeMap::new(),
            None::<(Component, Instant)>,
            Duration::ZERO,
        );
        for seen in self.events() {
            let is_new = seen.image == image && !seen.is_gone && !pods.contains_key(&seen.name);
            if is_new
                && let Some((component, at)) = last
                && component != seen.component
            {
                longest = longest.max(seen.at.duration_since(at));
                last = None;
            }
            let component = seen.component;
            let at = seen.at;
            if seen.is_gone {
                pods.remove(&seen.name);
            } else {
                pods.insert(seen.name.clone(), seen);
            }
            let mut of = pods
                .values()
                .filter(|pod| pod.component == component)
                .peekable();
            if of.peek().is_some() && of.all(|pod| pod.image == image && pod.is_ready) {
                last.get_or_insert((component, at));
            }
        }
        longest
    }
}

async fn record(
    client: Client,
    namespace: String,
    into: Arc<Mutex<Vec<Seen>>>,
    listed: Arc<AtomicBool>,
) {
    let mut events = std::pin::pin!(
        watcher(
            Api::<Pod>::namespaced(client, &namespace),
            Config::default()
        )
        .default_backoff()
    );
    while let Some(event) = events.next().await {
        let (pod, is_gone) = match event {
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => (pod, false),
            Ok(Event::Delete(pod)) => (pod, true),
            Ok(Event::InitDone) => {
                listed.store(true, Ordering::Relaxed);
                continue;
            }
            _ => continue,
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let Ok(component) = container.name.parse() else {
            continue;
        };
        let image = container.image.clone().unwrap_or_default();
        let seen = Seen {
            at: Instant::now(),
            name: pod.name_any(),
            component,
            image,
            labels: pod.labels().clone(),
            is_ready: is_ready(&pod),
            is_gone,
        };
        into.lock().unwrap().push(seen);
    }
}

/// Sets the status of every pod as a node would.
async fn play(client: Client, ticks: Option<Arc<Ticks>>, unready: Unready) {
    let mut events = std::pin::pin!(
        watcher(Api::<Pod>::all(client.clone()), Config::default()).default_backoff()
    );
    while let Some(event) = events.next().await {
        if let (Ok(Event::Delete(pod)), Some(ticks)) = (&event, &ticks) {
            ticks.is_gone(&pod.name_any());
        }
        if let Ok(Event::InitApply(pod) | Event::Apply(pod)) = event {
            let told = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                != Some("Pending")
                || pod
                    .status
                    .as_ref()
                    .is_some_and(|status| status.container_statuses.is_some());
            let component = &pod.spec.as_ref().unwrap().containers[0].name;
            let is_unready = unready.lock().unwrap().contains(component);
            if told || is_unready || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let mut status = status(&pod);
            if let Some(ticks) = &ticks {
                let address = ticks.answer_as(&pod).await;
                status["podIP"] = json!(address);
                status["podIPs"] = json!([{"ip": address}]);
            }
            set_status(&client, &pod, status).await;
        }
    }
}

fn status(pod: &Pod) -> Value {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let image = container.image.clone().unwrap_or_default();
    let waiting = |reason: &str, message: &str, restarts: i32| {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        let one = json!({"name": container.name, "image": image, "imageID": "", "ready": false, "restartCount": restarts, "state": state});
        json!({"phase": "Pending", "containerStatuses": [one]})
    };
    if image.contains("never-ready") {
        json!({"phase": "Running"})
    } else if image.contains("no-such") {
        waiting("ImagePullBackOff", "Back-off pulling image", 0)
    } else if image.contains("crash") {
        waiting(
            "CrashLoopBackOff",
            "back-off 10s restarting failed container",
            3,
        )
    } else {
        ready()
    }
}
