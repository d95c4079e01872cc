//! The webhook in a cluster: a real API server calls the real binary through the objects of its
//! chart.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock},
    time::Duration,
};

use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, helm};
use milvus_guard_webhook::server::watch_cache::{MEMORY_KEY, memory_name};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{
    Chart, guard,
    https::{Https, trusting},
};

/// The guard's namespace.
pub const GUARD: &str = "milvus-guard";
/// File name of the template of the registration.
pub const TEMPLATE: &str = "webhooks.yaml";
/// Kinds of the chart's objects that are useless without a node.
const LEFT_OUT: [&str; 7] = [
    "Deployment",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "CustomResourceDefinition",
    "ResourceQuota",
    "Pod",
];

/// A cluster with the webhook installed.
pub struct Webhook {
    pub cluster: ControlPlane,
    pub folder: tempfile::TempDir,
    /// The running server.
    pub server: Server,
}

/// A client that calls one replica on the registered path, as the API server does.
pub struct Caller {
    pub config: Arc<ClientConfig>,
    pub url: String,
    /// `/validate/SECRET`.
    pub path: String,
}

/// One running `serve`.
pub struct Server {
    child: Child,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// `http://127.0.0.1:PORT/metrics`.
    pub metrics: String,
    log: PathBuf,
}

impl Webhook {
    /// A new cluster with controllers and the webhook.
    pub fn start() -> Self {
        Self::with(
            ControlPlane::builder().controller_manager(true).start(),
            &[],
        )
    }

    /// The webhook in this cluster, with further flags.
    pub fn with(cluster: ControlPlane, flags: &[&str]) -> Self {
        Self::at(cluster, flags, None)
    }

    fn at(cluster: ControlPlane, flags: &[&str], authority: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some(authority) = authority {
            fs::write(folder.path().join("ca.crt"), authority).unwrap();
        }
        prepare(&cluster);
        let server = Server::start(&cluster, folder.path(), "127.0.0.1:0", flags);
        let webhook = Self {
            cluster,
            folder,
            server,
        };
        webhook.register();
        webhook
    }

    /// The webhook with a certificate of this authority.
    pub fn with_authority(cluster: ControlPlane, flags: &[&str], authority: &[u8]) -> Self {
        Self::at(cluster, flags, Some(authority))
    }

    /// Makes the running server register itself as in a cluster, but with its address.
    pub fn register(&self) {
        write_template(&self.folder.path().join(TEMPLATE), &self.server.url, &[]);
        // The API server calls a new webhook with a delay. It does once it refuses to create a run,
        // which only the guard may write.
        wait_until("the webhook is called", Duration::from_secs(60), || {
            let run = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
                "metadata": {"name": "probe", "namespace": "default"},
                "spec": {"kind": "Rolling", "release": "a", "namespace": "b", "from": "2.4.5", "to": "2.5.12",
                    "plan": [], "planHash": "sha256:00"}});
            let path = "/apis/guard.milvus.io/v1alpha1/namespaces/default/upgraderuns?dryRun=All";
            let said = self.cluster.post(path, &run).message();
            said.contains("are written by milvus-guard itself")
        });
    }

    /// Runs Helm; returns whether it succeeded, and its output.
    pub fn helm(&self, with: Helm, args: &[&str]) -> (bool, String) {
        let output = self.cluster.helm(with, args);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    }

    /// Installs Milvus as `my-release` in the namespace `milvus`; the guard must allow that.
    pub fn install(&self, with: Helm, chart: &Chart, more: &[&str]) {
        let args = ["install", "my-release", chart.path(), "-n", "milvus"];
        let args = [&args[..], &["--create-namespace"], more].concat();
        let (done, text) = self.helm(with, &args);
        assert!(done, "{text}");
    }

    /// Upgrades that release; returns whether that succeeded, and the output.
    pub fn upgrade(&self, with: Helm, chart: &Chart, more: &[&str]) -> (bool, String) {
        let args = ["upgrade", "my-release", chart.path(), "-n", "milvus"];
        self.helm(with, &[&args[..], more].concat())
    }

    /// Runs kubectl; returns whether it succeeded, and its output.
    pub fn kubectl(&self, args: &[&str]) -> (bool, String) {
        let output = self.cluster.kubectl(args);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    }

    /// Images of the Deployments of a namespace.
    pub fn images(&self, namespace: &str) -> Vec<String> {
        let list = self
            .cluster
            .get_json(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"));
        let images = list["items"].as_array().unwrap().iter();
        images
            .map(|item| {
                item["spec"]["template"]["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// A Deployment as the API server returns it, which is what a review contains.
    pub fn deployment(&self, namespace: &str, name: &str) -> Value {
        self.cluster.get_json(&format!(
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        ))
    }

    /// Sets the status of every Deployment of a namespace as its controller would after a complete
    /// rollout.
    pub fn roll_out(&self, namespace: &str) {
        let list = self
            .cluster
            .get_json(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"));
        for item in list["items"].as_array().unwrap() {
            self.complete(namespace, item);
        }
    }

    /// The same for one Deployment.
    pub fn complete(&self, namespace: &str, deployment: &Value) {
        let replicas = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        let status = json!({"status": {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
        }});
        let name = deployment["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/status");
        self.cluster.merge(&path, &status);
    }

    /// A value of the metrics; 0 if it is missing.
    pub fn metric(&self, name: &str) -> f64 {
        self.server.metric(name)
    }
}

impl Caller {
    /// A caller of this replica, whose CA is in this folder, on the path that is registered now.
    pub fn of(cluster: &ControlPlane, server: &Server, folder: &std::path::Path) -> Self {
        let config = trusting(&[&fs::read_to_string(folder.join("ca.crt")).unwrap()]);
        Self {
            config,
            url: server.url.clone(),
            path: registered(cluster).unwrap(),
        }
    }

    pub fn connect(&self) -> Https {
        Https::connect(&self.url, &self.config).unwrap()
    }

    /// The response of the replica to this review.
    pub fn ask(&self, review: &Value) -> Value {
        let reply = self
            .connect()
            .post(
                &format!("{}?timeout=10s", self.path),
                review.to_string().as_bytes(),
            )
            .unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            answer["response"]["uid"], review["request"]["uid"],
            "{answer}"
        );
        answer["response"].clone()
    }
}

/// The release history that the guard has stored for a namespace; empty if there is none.
pub fn stored_memory(cluster: &ControlPlane, namespace: &str) -> String {
    let answer = cluster.get(&format!(
        "/api/v1/namespaces/{GUARD}/configmaps/{}",
        memory_name(namespace)
    ));
    let object: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    object["data"][MEMORY_KEY]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The path that is registered now, `/validate/SECRET`.
pub fn registered(cluster: &ControlPlane) -> Option<String> {
    let answer = cluster
        .get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard");
    let object: Value = serde_json::from_str(&answer.body)
        .ok()
        .filter(|_| answer.status == 200)?;
    let url = object["webhooks"][0]["clientConfig"]["url"]
        .as_str()?
        .to_owned();
    url.find("/validate").map(|at| url[at..].to_owned())
}

/// A review of a change of a Deployment.
pub fn update(old: &Value, new: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "name": old["metadata"]["name"], "namespace": old["metadata"]["namespace"], "operation": "UPDATE",
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "userInfo": {"username": "me"}, "object": new, "oldObject": old, "dryRun": true,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions", "fieldManager": "kubectl-edit"}}})
}

impl Server {
    /// Starts the server with the rights of its chart.
    pub fn start(
        cluster: &ControlPlane,
        folder: &std::path::Path,
        listen: &str,
        flags: &[&str],
    ) -> Self {
        let kubeconfig = cluster.kubeconfig_for_service_account(GUARD, "milvus-guard");
        Self::start_through(&kubeconfig, folder, listen, flags)
    }

    /// The same with this kubeconfig, which must have the rights of the chart.
    pub fn start_through(
        kubeconfig: &std::path::Path,
        folder: &std::path::Path,
        listen: &str,
        flags: &[&str],
    ) -> Self {
        Self::spawn_ready(serve(kubeconfig, folder, listen, flags), folder)
    }

    /// Starts this `serve` command, with its log in the folder, and waits until it is ready.
    pub fn spawn_ready(command: Command, folder: &std::path::Path) -> Self {
        let server = Self::spawn(command, folder.join("serve.log"));
        wait_until("the server is ready", Duration::from_secs(60), || {
            server.is_ready()
        });
        server
    }

    /// Starts `serve` without a cluster, and returns a client configuration that trusts its CA.
    pub fn alone(folder: &std::path::Path, flags: &[&str]) -> (Self, Arc<ClientConfig>) {
        let authority = folder.join("ca.crt");
        let mut command = guard();
        command
            .args([
                "serve",
                "--no-cluster",
                "--listen",
                "127.0.0.1:0",
                "--metrics-listen",
                "127.0.0.1:0",
            ])
            .args(["--tls-self-signed", "--tls-ca-out"])
            .arg(&authority)
            .args(flags);
        let server = Self::spawn(command, folder.join("serve.log"));
        wait_until("the server is ready", Duration::from_secs(30), || {
            server.is_ready()
        });
        let config = trusting(&[&fs::read_to_string(&authority).unwrap()]);
        (server, config)
    }

    /// Peak resident memory of the process, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Current resident memory of the process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// Starts a `serve` with the variables of the chart, and reads its address from its log.
    pub fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let from = file.metadata().unwrap().len();
        let mut child = command
            .envs(chart_variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut found = None;
        wait_until("the server listens", Duration::from_secs(60), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "serve ended ({status}): {}",
                    fs::read_to_string(&log).unwrap()
                );
            }
            let text = fs::read(&log).unwrap();
            let new = BufReader::new(&text[usize::try_from(from).unwrap()..]);
            found = new.lines().map_while(Result::ok).find_map(|line| {
                if let Some((url, metrics)) = line
                    .strip_prefix("milvus-guard: serving on ")
                    .and_then(|rest| rest.split_once(", metrics on "))
                {
                    return Some((url.to_owned(), metrics.to_owned()));
                }
                let line: Value = serde_json::from_str(&line)
                    .ok()
                    .filter(|line: &Value| line["message"] == "serving")?;
                let address = |key: &str| line[key].as_str().map(str::to_owned);
                Some((
                    format!("https://{}", address("address")?),
                    format!("http://{}/metrics", address("metrics")?),
                ))
            });
            found.is_some()
        });
        let (url, metrics) = found.unwrap();
        Self {
            child,
            url,
            metrics,
            log,
        }
    }

    /// Status and text of the readiness probe.
    pub fn readiness(&self) -> (u16, String) {
        curl(&self.metrics.replace("/metrics", "/readyz")).unwrap_or_default()
    }

    /// A value of the metrics; 0 if it is missing.
    pub fn metric(&self, name: &str) -> f64 {
        self.get_metrics()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    pub fn is_ready(&self) -> bool {
        curl(&format!("{}/readyz", self.url)).is_some_and(|(code, _)| code == 200)
    }

    pub fn get_metrics(&self) -> String {
        curl(&self.metrics)
            .map(|(_, text)| text)
            .unwrap_or_default()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn stop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }

    /// Waits until the process has ended; another process stops it.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of the server's log ---");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// The `serve` command for this cluster, with its files in a folder.
pub fn serve(
    kubeconfig: &std::path::Path,
    folder: &std::path::Path,
    listen: &str,
    flags: &[&str],
) -> Command {
    let mut command = guard();
    command
        .args([
            "serve",
            "--listen",
            listen,
            "--metrics-listen",
            "127.0.0.1:0",
            "--namespace",
            GUARD,
            "--shutdown-delay",
            "0",
        ])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(flags);
    if !flags.iter().any(|flag| flag.starts_with("--tls")) {
        command
            .args(["--tls-self-signed", "--tls-ca-out"])
            .arg(folder.join("ca.crt"));
    }
    command
        .args(["--webhook-owner", "milvus-guard", "--webhook-registration"])
        .arg(folder.join(TEMPLATE));
    if !flags.contains(&"--tls-managed") {
        command.arg("--webhook-ca-file").arg(folder.join("ca.crt"));
    }
    command
}

/// Status and body of a GET; the certificate is not verified.
pub fn curl(url: &str) -> Option<(u16, String)> {
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "5", "-w", "\n%{http_code}", url])
        .output()
        .expect("curl must be installed");
    let text = String::from_utf8(output.stdout).ok()?;
    let (body, code) = text.rsplit_once('\n')?;
    Some((
        code.parse().ok().filter(|code| *code != 0)?,
        body.to_owned(),
    ))
}

/// Installs the definitions and those objects of the chart that work without a node.
pub fn prepare(cluster: &ControlPlane) {
    super::install_definitions(cluster);
    expect_success(cluster.kubectl(["create", "namespace", GUARD]));
    let mut objects = rendered_with(&["hold.enabled=true"], |kind| !LEFT_OUT.contains(&kind));
    for object in &mut objects {
        // Helm would set the namespace of these objects.
        if ["ServiceAccount", "Role", "RoleBinding"].contains(&object["kind"].as_str().unwrap()) {
            object["metadata"]["namespace"] = json!(GUARD);
        }
    }
    cluster.apply(&in_yaml(&objects));
}

/// The objects of the guard's chart whose kind passes the filter.
pub fn rendered(wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    rendered_with(&[], wanted)
}

fn rendered_with(values: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    rendered_by(&[], values, wanted)
}

/// The same for this Kubernetes version and these values.
pub fn rendered_for(
    kubernetes: &str,
    values: &[&str],
    wanted: impl Fn(&str) -> bool,
) -> Vec<Value> {
    rendered_by(&["--kube-version", kubernetes], values, wanted)
}

fn rendered_by(flags: &[&str], values: &[&str], wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/milvus-guard");
    let mut command = Command::new(helm(Helm::V4));
    command.args(["template", "--no-hooks", "milvus-guard", chart, "-n", GUARD]);
    command.args(["--set", "image.repository=milvus-guard"]);
    let output = command
        .args(flags)
        .args(values.iter().flat_map(|value| ["--set", value]))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    documents(&text)
        .map(|document| document.unwrap().root.to_json())
        .filter(|object| object["kind"].as_str().is_some_and(&wanted))
        .collect()
}

/// The variables that the chart sets for a replica. They include settings of the allocator that
/// halve the memory under attack, so the tests need them too.
fn chart_variables() -> Vec<(String, String)> {
    static VARIABLES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let deployments = rendered(|kind| kind == "Deployment");
        let container = &deployments[0]["spec"]["template"]["spec"]["containers"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let variables = container["env"].as_array().unwrap().iter();
        variables
            .filter_map(|one| Some((text(&one["name"])?, text(&one["value"])?)))
            .collect()
    });
    assert!(!VARIABLES.is_empty(), "the chart must set variables");
    VARIABLES.clone()
}

/// The webhook configurations of the guard's chart: the template that its leader completes.
pub fn template(values: &[&str]) -> Vec<Value> {
    let maps = rendered_with(values, |kind| kind == "ConfigMap");
    let map = maps
        .iter()
        .find(|map| map["metadata"]["name"] == "milvus-guard-webhooks")
        .unwrap();
    let text = map["data"]["webhooks.yaml"].as_str().unwrap();
    documents(text)
        .map(|document| document.unwrap().root.to_json())
        .collect()
}

/// Writes the template for a server at this address.
pub fn write_template(file: &std::path::Path, url: &str, values: &[&str]) {
    write_template_with(file, values, |config| {
        let path = config["service"]["path"].as_str().unwrap();
        *config = json!({"url": format!("{url}{path}")});
    });
}

/// Writes the template for this port of the Service.
pub fn write_service_template(file: &std::path::Path, port: u16) {
    write_template_with(file, &[], |config| config["service"]["port"] = json!(port));
}

fn write_template_with(file: &std::path::Path, values: &[&str], change: impl Fn(&mut Value)) {
    let mut configurations = template(values);
    for configuration in &mut configurations {
        configuration["webhooks"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|webhook| change(&mut webhook["clientConfig"]));
    }
    // Atomically, as the kubelet does.
    let part = file.with_extension("part");
    fs::write(&part, in_yaml(&configurations)).unwrap();
    fs::rename(part, file).unwrap();
}

fn in_yaml(objects: &[Value]) -> String {
    objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect()
}

/// Writes an object by the account of the guard.
pub fn write_as_guard(cluster: &ControlPlane, object: &Value) {
    let kubeconfig = cluster.kubeconfig_for_service_account(GUARD, "milvus-guard");
    for subresource in [None, Some("--subresource=status")] {
        let mut command = cluster.kubectl_command();
        command
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .args(subresource);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), object.to_string().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Waits for a condition; the panic names it if it does not come true in time.
pub fn wait_until(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(
        milvus_guard_testbed::wait_until(deadline, condition),
        "not within {deadline:?}: {what}"
    );
}
