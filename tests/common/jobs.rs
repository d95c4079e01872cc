//! Simulates the kubelet for the pods of our Jobs: starts the real binary with the pod's arguments
//! and account, and reports how it ended. The pod's volumes are in a folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use milvus_guard_testbed::ControlPlane;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{
    background::{Background, connect},
    guard,
    migration_cluster::MigrationCluster,
};

/// Between two listings of the pods of our Jobs.
const PERIOD: Duration = Duration::from_millis(100);

/// Simulates until it is dropped; then its processes end too.
pub struct Kubelet {
    shared: Arc<Shared>,
    background: Option<Background>,
}

#[derive(Default)]
struct Shared {
    processes: Mutex<BTreeMap<String, Child>>,
    log: Mutex<Vec<String>>,
    order: Mutex<Vec<String>>,
}

impl Kubelet {
    pub fn start(setup: &MigrationCluster) -> Self {
        Self::on(setup.cluster(), setup.folder.path())
    }

    /// Starts in this cluster, with its files in this folder.
    pub fn on(cluster: &ControlPlane, folder: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let world = JobEnvironment {
            client: runtime.block_on(connect(cluster.kubeconfig().to_owned())),
            runtime,
            kubectl: command_line(&cluster.kubectl_command()),
            folder: folder.to_owned(),
            kubeconfig: std::fs::read_to_string(cluster.kubeconfig()).unwrap(),
        };
        let played = Arc::clone(&shared);
        let background = Background::repeat(PERIOD, move || world.look(&played));
        Self {
            shared,
            background: Some(background),
        }
    }

    /// The output of the processes that have ended.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Pods that were started so far.
    pub fn pods(&self) -> usize {
        self.shared.order.lock().unwrap().len()
    }

    /// Sends SIGKILL to the process that was started last.
    pub fn kill_last(&self) {
        let last = self.shared.order.lock().unwrap().last().cloned().unwrap();
        self.shared
            .processes
            .lock()
            .unwrap()
            .get_mut(&last)
            .unwrap()
            .kill()
            .unwrap();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        drop(self.background.take());
        for child in self.shared.processes.lock().unwrap().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- output of the Jobs ---\n{}", self.log().join("\n"));
        }
    }
}

type CommandLine = (
    std::ffi::OsString,
    Vec<(std::ffi::OsString, std::ffi::OsString)>,
);

fn command_line(command: &Command) -> CommandLine {
    let envs = command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    (command.get_program().to_owned(), envs)
}

struct JobEnvironment {
    runtime: Runtime,
    client: Client,
    kubectl: CommandLine,
    folder: PathBuf,
    kubeconfig: String,
}

impl JobEnvironment {
    fn kubectl(&self, args: &[&str]) -> String {
        let output = Command::new(&self.kubectl.0)
            .envs(self.kubectl.1.clone())
            .args(args)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn set_status(&self, namespace: &str, name: &str, status: &Value) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(status));
        let _ = self
            .runtime
            .block_on(api.patch_status(name, &params, &patch));
    }

    fn look(&self, shared: &Shared) {
        let api = Api::<Pod>::all(self.client.clone());
        let ours = ListParams::default().labels("guard.milvus.io/run");
        let list = self.runtime.block_on(api.list(&ours));
        let list = list.map_or(Value::Null, |list| json!({"items": list.items}));
        let mut processes = shared.processes.lock().unwrap();
        for pod in list["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let ended = matches!(
                pod["status"]["phase"].as_str(),
                Some("Succeeded" | "Failed")
            );
            if let Some(child) = processes.get_mut(&name) {
                if pod["metadata"]["deletionTimestamp"].is_string() {
                    let _ = Command::new("kill").arg(child.id().to_string()).status();
                }
            } else if !ended && pod["metadata"]["deletionTimestamp"].is_null() {
                processes.insert(name.clone(), self.spawn(pod, shared));
                shared.order.lock().unwrap().push(name.clone());
            }
        }
        // A pod that is missing from the list was deleted without a grace period.
        let there = |name: &str| {
            list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|pod| pod["metadata"]["name"] == *name)
        };
        processes.retain(|name, child| {
            if !there(name) && list["items"].is_array() {
                let _ = Command::new("kill").arg(child.id().to_string()).status();
            }
            let Some(status) = child.try_wait().unwrap() else { return true };
            let said = std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
            shared.log.lock().unwrap().push(format!("{name} ended ({status}):\n{said}"));
            let pod = list["items"].as_array().into_iter().flatten().find(|pod| pod["metadata"]["name"] == *name);
            let Some(pod) = pod else { return false };
            let (namespace, container) = (pod["metadata"]["namespace"].as_str().unwrap(), &pod["spec"]["containers"][0]["name"]);
            let message = std::fs::read_to_string(self.folder.join(format!("{name}.end"))).unwrap_or(said);
            let code = status.code().unwrap_or(137);
            let status = json!({"status": {
                "phase": if code == 0 { "Succeeded" } else { "Failed" },
                "containerStatuses": [{"name": container, "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "message": message}}}],
            }});
            self.set_status(namespace, name, &status);
            false
        });
    }

    /// Folders with the secrets of a pod, by their mount paths.
    fn secrets(&self, pod: &Value) -> BTreeMap<String, PathBuf> {
        let (name, namespace) = (
            pod["metadata"]["name"].as_str().unwrap(),
            pod["metadata"]["namespace"].as_str().unwrap(),
        );
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let mounts = &pod["spec"]["containers"][0]["volumeMounts"];
        let mounts = mounts.as_array().cloned().unwrap_or_default();
        let mut folders = BTreeMap::new();
        for (volume, secret) in
            volumes.filter_map(|volume| Some((volume, volume["secret"]["secretName"].as_str()?)))
        {
            let mount = mounts
                .iter()
                .find(|mount| mount["name"] == volume["name"])
                .unwrap();
            let folder = self
                .folder
                .join(format!("{name}.{}", volume["name"].as_str().unwrap()));
            std::fs::create_dir_all(&folder).unwrap();
            let object: Value = serde_json::from_str(
                &self.kubectl(&["-n", namespace, "get", "secret", secret, "-o", "json"]),
            )
            .unwrap();
            for (key, value) in object["data"].as_object().unwrap() {
                std::fs::write(
                    folder.join(key),
                    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap(),
                )
                .unwrap();
            }
            folders.insert(mount["mountPath"].as_str().unwrap().to_owned(), folder);
        }
        folders
    }

    /// Starts the pod's process.
    fn spawn(&self, pod: &Value, shared: &Shared) -> Child {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        let token = self.kubectl(&["-n", namespace, "create", "token", account]);
        assert!(!token.is_empty(), "no token for {namespace}/{account}");
        let mut config: Value = milvus_guard_core::manifest::documents(&self.kubeconfig)
            .next()
            .unwrap()
            .unwrap()
            .root
            .to_json();
        config["users"][0]["user"] = json!({"token": token.trim()});
        let kubeconfig = self.folder.join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        let secrets = self.secrets(pod);
        let args =
            container["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|arg| match arg.as_str().unwrap() {
                    "--backup-dir=/backup" => format!("--backup-dir={}", self.folder.display()),
                    "--end-file=/dev/termination-log" => format!(
                        "--end-file={}",
                        self.folder.join(format!("{name}.end")).display()
                    ),
                    other => match other
                        .split_once('=')
                        .and_then(|(flag, path)| Some((flag, secrets.get(path)?)))
                    {
                        Some((flag, folder)) => format!("{flag}={}", folder.display()),
                        None => other.to_owned(),
                    },
                });
        let args: Vec<String> = args.collect();
        shared
            .log
            .lock()
            .unwrap()
            .push(format!("{name}: {}", args.join(" ")));
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        self.set_status(namespace, name, &json!({"status": {"phase": "Running"}}));
        let mut command = guard();
        command
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("HOSTNAME", name)
            .env("HOME", &self.folder);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}
