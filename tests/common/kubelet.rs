//! The smallest thing that plays a node honestly: the real controllers make pods, and this says of
//! each that it is ready, unless its image is one that never gets so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use milvus_guard_testbed::ControlPlane;
use serde_json::{Value, json};

/// Says that pods are ready until it is dropped.
pub struct Nodes {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nodes {
    /// Plays for every pod whose image does not contain this text.
    pub fn start(cluster: &ControlPlane, never_ready: &str) -> Self {
        Self::slow(cluster, never_ready, 0)
    }

    /// The same, with pods that take this many seconds.
    pub fn slow(cluster: &ControlPlane, never_ready: &str, seconds: i64) -> Self {
        Self::play(cluster, never_ready, seconds, false)
    }

    /// The same, with pods that do not start before each ConfigMap that they mount exists, as on a
    /// real node.
    pub fn with_mounts(cluster: &ControlPlane, never_ready: &str) -> Self {
        Self::play(cluster, never_ready, 0, true)
    }

    fn play(
        cluster: &ControlPlane,
        never_ready: &str,
        seconds: i64,
        waits_for_mounts: bool,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kubectl = {
            let command = cluster.kubectl_command();
            (
                command.get_program().to_owned(),
                command
                    .get_args()
                    .map(ToOwned::to_owned)
                    .collect::<Vec<_>>(),
                envs(&command),
            )
        };
        let (flag, never_ready) = (Arc::clone(&stop), never_ready.to_owned());
        let thread = thread::spawn(move || {
            let run = |args: &[&str]| {
                let mut command = std::process::Command::new(&kubectl.0);
                command
                    .args(&kubectl.1)
                    .envs(kubectl.2.clone())
                    .args(args)
                    .output()
                    .expect("kubectl runs")
            };
            while !flag.load(Ordering::Relaxed) {
                let listed = run(&["get", "pods", "-A", "-o", "json"]);
                let list: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
                let configs = if waits_for_mounts {
                    let args = [
                        "get",
                        "configmaps",
                        "-A",
                        "-o",
                        "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}",
                    ];
                    String::from_utf8_lossy(&run(&args).stdout).into_owned()
                } else {
                    String::new()
                };
                for pod in list["items"].as_array().into_iter().flatten() {
                    let image = pod["spec"]["containers"][0]["image"]
                        .as_str()
                        .unwrap_or_default();
                    let ready = pod["status"]["conditions"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|condition| condition["type"] == "Ready");
                    let created: Option<jiff::Timestamp> = pod["metadata"]["creationTimestamp"]
                        .as_str()
                        .and_then(|text| text.parse().ok());
                    let young = created.is_none_or(|created| {
                        jiff::Timestamp::now().as_second() - created.as_second() < seconds
                    });
                    let has_mounts = !waits_for_mounts
                        || pod["spec"]["volumes"]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .all(|volume| {
                                let namespace =
                                    pod["metadata"]["namespace"].as_str().unwrap_or_default();
                                let name = volume["configMap"]["name"]
                                    .as_str()
                                    .map(|name| format!("{namespace}/{name}"));
                                name.is_none_or(|name| configs.split(' ').any(|one| one == name))
                            });
                    if ready
                        || young
                        || !has_mounts
                        || (!never_ready.is_empty() && image.contains(&never_ready))
                    {
                        continue;
                    }
                    // Without this time, a Deployment with minReadySeconds never calls the pod available.
                    let since = jiff::Timestamp::now()
                        .strftime("%Y-%m-%dT%H:%M:%SZ")
                        .to_string();
                    let status = json!({"status": {"phase": "Running", "conditions": [
                        {"type": "Ready", "status": "True", "lastTransitionTime": since}, {"type": "ContainersReady", "status": "True"}]}});
                    let (namespace, name) = (
                        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
                        pod["metadata"]["name"].as_str().unwrap_or_default(),
                    );
                    run(&[
                        "-n",
                        namespace,
                        "patch",
                        "pod",
                        name,
                        "--subresource=status",
                        "--type=merge",
                        "-p",
                        &status.to_string(),
                    ]);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

fn envs(command: &std::process::Command) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect()
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
