//! A cluster with Milvus 2.1, as far as a migration can observe: a real control plane with
//! controllers, a real etcd with metadata of 2.1, and a simulation of nodes and Milvus: pods become
//! ready, and register in etcd while they exist.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{
    Certificate, Client as EtcdClient, ConnectOptions, GetOptions, Identity, PutOptions, TlsOptions,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use milvus_guard_metadata::model::sample::{Sample, Size};
use milvus_guard_operations::engine::ReleaseName;
use milvus_guard_testbed::{ControlPlane, Etcd, EtcdOptions, Helm, expect_success, wait_until};
use serde_json::{Value, json};

use super::{
    Chart,
    background::{Background, block_on},
    guard,
    kubelet::{is_ready, ready, set_status},
    webhook::Webhook,
};

/// Release under test.
pub const RELEASE: &str = "my-release";
pub const NAMESPACE: &str = "milvus";
/// Prefix of its metadata in etcd.
pub const ROOT: &str = "by-dev/meta/";
/// For any event on a busy machine of 2 cores.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A cluster with Milvus 2.1.
pub struct MigrationCluster {
    // First, so that it is dropped before the two that it writes to.
    milvus: Option<Player>,
    ground: ControlPlaneKind,
    pub etcd: Etcd,
    /// How the test itself connects to etcd.
    connect: ConnectOptions,
    pub folder: tempfile::TempDir,
}

/// The control plane, with the guard or without it.
enum ControlPlaneKind {
    Plain(Box<ControlPlane>),
    Guarded(Box<Webhook>),
}

impl MigrationCluster {
    /// A cluster with the definitions, and Milvus 2.1.4 installed by this Helm.
    pub fn start(with: Helm) -> Self {
        Self::start_on(with, &sample())
    }

    /// The same with other metadata.
    pub fn start_on(with: Helm, sample: &Sample) -> Self {
        let setup = Self::bare();
        super::install_definitions(setup.cluster());
        setup.install_on(with, &[], sample);
        setup
    }

    /// The same with the guard, installed before Milvus.
    pub fn guarded(with: Helm) -> Self {
        let setup = Self::on(
            ControlPlaneKind::Guarded(Box::new(Webhook::start())),
            &EtcdOptions::default(),
        );
        setup.install(with, &[]);
        setup
    }

    /// The same with a guard that holds changes.
    pub fn holding(with: Helm) -> Self {
        let cluster = ControlPlane::builder().controller_manager(true).start();
        let webhook = Webhook::with(cluster, &["--hold"]);
        let setup = Self::on(
            ControlPlaneKind::Guarded(Box::new(webhook)),
            &EtcdOptions::default(),
        );
        setup.install(with, &[]);
        setup
    }

    /// A cluster without Milvus and without the definitions.
    pub fn bare() -> Self {
        Self::on(Self::plain(), &EtcdOptions::default())
    }

    /// Like [`Self::start`], with an etcd that requires a client certificate and this user and
    /// password.
    pub fn secured(with: Helm, user: &str, password: &str) -> Self {
        let auth = Some((user.to_owned(), password.to_owned()));
        let setup = Self::on(
            Self::plain(),
            &EtcdOptions {
                tls: true,
                auth,
                ..EtcdOptions::default()
            },
        );
        super::install_definitions(setup.cluster());
        setup.install(with, &[]);
        setup
    }

    fn plain() -> ControlPlaneKind {
        ControlPlaneKind::Plain(Box::new(
            ControlPlane::builder().controller_manager(true).start(),
        ))
    }

    fn on(ground: ControlPlaneKind, etcd: &EtcdOptions) -> Self {
        let (etcd, connect) = start_etcd(etcd);
        let mut setup = Self {
            ground,
            etcd,
            connect,
            folder: tempfile::tempdir().unwrap(),
            milvus: None,
        };
        setup.milvus = Some(Player::start_with(
            setup.cluster().kubeconfig(),
            &setup.etcd.endpoint(),
            setup.connect.clone(),
        ));
        setup
    }

    pub fn cluster(&self) -> &ControlPlane {
        match &self.ground {
            ControlPlaneKind::Plain(cluster) => cluster,
            ControlPlaneKind::Guarded(webhook) => &webhook.cluster,
        }
    }

    /// Installs Milvus 2.1.4, fills its etcd, and waits until it runs and is registered.
    pub fn install(&self, with: Helm, values: &[&str]) {
        self.install_on(with, values, &sample());
    }

    fn install_on(&self, with: Helm, values: &[&str], sample: &Sample) {
        self.put(sample);
        let chart = Chart::compact("3.2.18");
        let mut args = vec![
            "install",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--create-namespace",
            "--set",
            "querynode.replicas=2",
        ];
        for value in values {
            args.extend(["--set", value]);
        }
        expect_success(self.cluster().helm(with, args));
        self.await_running();
    }

    /// Waits until every Deployment is complete and every role registered.
    pub fn await_running(&self) {
        let complete = || {
            let list = self.deployments();
            !list.is_empty()
                && list
                    .iter()
                    .all(|one| one["status"]["availableReplicas"] == one["spec"]["replicas"])
        };
        assert!(wait_until(DEADLINE, complete), "{:#?}", self.deployments());
        assert!(
            wait_until(DEADLINE, || self.sessions().len() >= 8),
            "{:?}",
            self.sessions()
        );
    }

    pub fn deployments(&self) -> Vec<Value> {
        let list = self
            .cluster()
            .get_json(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"));
        list["items"].as_array().unwrap().clone()
    }

    /// `name image replicas` of every Deployment.
    pub fn shape(&self) -> Vec<String> {
        let mut shape: Vec<String> = self
            .deployments()
            .iter()
            .map(|one| {
                let image = one["spec"]["template"]["spec"]["containers"][0]["image"]
                    .as_str()
                    .unwrap();
                format!(
                    "{} {image} {}",
                    one["metadata"]["name"].as_str().unwrap(),
                    one["spec"]["replicas"]
                )
            })
            .collect();
        shape.sort();
        shape
    }

    /// Names of Deployments that have a field owned by a run; a finished run leaves none.
    pub fn owned_by_runs(&self) -> Vec<String> {
        let ours = |one: &&Value| {
            let managers = one["metadata"]["managedFields"]
                .as_array()
                .into_iter()
                .flatten();
            managers
                .clone()
                .any(|entry| entry["manager"] == "milvus-guard-run")
        };
        self.deployments()
            .iter()
            .filter(ours)
            .map(|one| one["metadata"]["name"].to_string())
            .collect()
    }

    /// Every run, the newest last.
    pub fn runs(&self, namespace: &str) -> Vec<Value> {
        let path = format!("/apis/guard.milvus.io/v1alpha1/namespaces/{namespace}/upgraderuns");
        // A new kind is not served at once.
        assert!(wait_until(DEADLINE, || self.cluster().get(&path).status == 200));
        let list = self.cluster().get_json(&path);
        let mut items = list["items"].as_array().unwrap().clone();
        super::oldest_first(&mut items);
        items
    }

    /// The last run.
    pub fn run(&self) -> Value {
        self.runs(NAMESPACE).pop().expect("a run")
    }

    /// All metadata, without sessions and the record of a run.
    pub fn metadata(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        metadata_with(&self.etcd.endpoint(), self.connect.clone())
    }

    /// Keys of live sessions.
    pub fn sessions(&self) -> Vec<String> {
        let (endpoint, connect) = (self.etcd.endpoint(), self.connect.clone());
        block_on(async move {
            let mut client = EtcdClient::connect([endpoint], Some(connect))
                .await
                .unwrap();
            let answer = client
                .get(
                    format!("{ROOT}session/"),
                    Some(GetOptions::new().with_prefix()),
                )
                .await
                .unwrap();
            answer
                .kvs()
                .iter()
                .map(|pair| pair.key_str().unwrap().to_owned())
                .filter(|key| !key.ends_with("/id"))
                .collect()
        })
    }

    /// Writes these records into etcd.
    pub fn put(&self, sample: &Sample) {
        put_with(&self.etcd.endpoint(), self.connect.clone(), sample);
    }

    /// `migrate` with `--local`, in the process of the command.
    pub fn migrate(&self) -> Command {
        let mut command = self.bare_migrate();
        command.args(["-s", "2.1.4", "-t", "2.2.16"]);
        command
    }

    /// `migrate` as users run it: the command creates a Job and follows it.
    pub fn migrate_in_job(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .args(["migrate", "--yes"])
            .arg("--kubeconfig")
            .arg(self.cluster().kubeconfig())
            .args(["-i", RELEASE, "-n", NAMESPACE])
            .args(["-s", "2.1.4", "-t", "2.2.16", "-e", &self.etcd.endpoint()])
            .args(["--lock-holds", "2s", "--job-image", "milvus-guard:test"])
            .args(more);
        command
    }

    /// Migrates the metadata by hand, without a run, with a backup of this name.
    pub fn migrate_by_hand(&self, more: &[&str], backup: &str) {
        let mut command = guard();
        command
            .args(["meta", "migrate", "-s", "2.1.4", "-t", "2.2.16", "--yes"])
            .args(["--etcd", &self.etcd.endpoint()])
            .args(more)
            .arg("--backup")
            .arg(self.folder.path().join(backup));
        let (code, _, stderr) = super::run(&mut command);
        assert_eq!(code, 0, "{stderr}");
    }

    /// The same as [`Self::migrate`], with another etcd (each `-e` adds one).
    pub fn migrate_on(&self, etcd: &str) -> Command {
        let mut command = self.migrate_with(etcd);
        command.args(["-s", "2.1.4", "-t", "2.2.16"]);
        command
    }

    /// The same without versions.
    pub fn bare_migrate(&self) -> Command {
        self.migrate_with(&self.etcd.endpoint())
    }

    fn migrate_with(&self, etcd: &str) -> Command {
        let mut command = guard();
        command
            .args(["migrate", "--yes"])
            .arg("--kubeconfig")
            .arg(self.cluster().kubeconfig());
        command.args([
            "-i",
            RELEASE,
            "-n",
            NAMESPACE,
            "-e",
            etcd,
            "--local",
            "--lock-holds",
            "2s",
            "--backup-dir",
        ]);
        command.arg(self.folder.path());
        command
    }

    /// `status` of the release.
    pub fn status(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .arg("status")
            .arg("--kubeconfig")
            .arg(self.cluster().kubeconfig())
            .args(["-i", RELEASE, "-n", NAMESPACE])
            .args(more);
        command
    }

    /// Backup files in the folder of the test.
    pub fn backups(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "milvus-meta")
            })
            .collect()
    }

    /// From now on no pod becomes ready, and none registers.
    pub fn freeze(&mut self) {
        self.milvus = None;
    }
}

fn start_etcd(options: &EtcdOptions) -> (Etcd, ConnectOptions) {
    let (etcd, mut connect) = (Etcd::start_with(options), ConnectOptions::new());
    if options.tls {
        let read = |path: &Path| std::fs::read(path).unwrap();
        let identity =
            Identity::from_pem(read(etcd.client_cert_path()), read(etcd.client_key_path()));
        connect = connect.with_tls(
            TlsOptions::new()
                .ca_certificate(Certificate::from_pem(read(etcd.ca_path())))
                .identity(identity),
        );
    }
    if let Some((user, password)) = &options.auth {
        connect = connect.with_user(user, password);
    }
    (etcd, connect)
}

/// All metadata of an etcd, without sessions.
pub fn metadata_in(endpoint: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    metadata_with(endpoint, ConnectOptions::new())
}

fn metadata_with(endpoint: &str, connect: ConnectOptions) -> BTreeMap<Vec<u8>, Vec<u8>> {
    block_on(async move {
        let mut client = EtcdClient::connect([endpoint], Some(connect))
            .await
            .unwrap();
        let answer = client
            .get(ROOT, Some(GetOptions::new().with_prefix()))
            .await
            .unwrap();
        let pairs = answer.kvs().iter().filter(|pair| pair.lease() == 0);
        pairs
            .map(|pair| (pair.key().to_vec(), pair.value().to_vec()))
            .collect()
    })
}

/// Writes metadata into an etcd.
pub fn put_into(endpoint: &str, sample: &Sample) {
    put_with(endpoint, ConnectOptions::new(), sample);
}

fn put_with(endpoint: &str, connect: ConnectOptions, sample: &Sample) {
    let records = sample.records();
    block_on(async move {
        let mut client = EtcdClient::connect([endpoint], Some(connect))
            .await
            .unwrap();
        for record in records.into_iter().filter(|record| !record.leased) {
            let key = [ROOT.as_bytes(), record.key()].concat();
            client
                .put(key, record.value().to_vec(), None)
                .await
                .unwrap();
        }
    });
}

/// The metadata that most tests migrate.
pub fn sample() -> Sample {
    Sample::random(
        7,
        Size {
            collections: 6,
            segments: 4,
            has_oddities: true,
        },
    )
}

/// Metadata that the official tool can migrate.
pub fn sample_for_the_official_tool() -> Sample {
    Sample::random(
        7,
        Size {
            collections: 6,
            segments: 4,
            has_oddities: false,
        },
    )
}

/// The release, by name.
pub fn release() -> ReleaseName {
    ReleaseName {
        name: RELEASE.into(),
        namespace: NAMESPACE.into(),
    }
}

/// A process that is killed when this value is dropped.
pub struct Running(pub Child);

impl Running {
    pub fn spawn(mut command: Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    /// Sends SIGTERM to the process.
    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(status.unwrap().success(), "the process has already ended");
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits until the process ends; returns whether it succeeded.
    pub fn succeeds(&mut self) -> bool {
        assert!(
            wait_until(DEADLINE, || self.has_ended()),
            "the process does not end"
        );
        self.0.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Simulates nodes and Milvus until it is dropped.
pub struct Player {
    _background: Background,
}

impl Player {
    pub fn start(kubeconfig: &Path, etcd: &str) -> Self {
        Self::start_with(kubeconfig, etcd, ConnectOptions::new())
    }

    fn start_with(kubeconfig: &Path, etcd: &str, connect: ConnectOptions) -> Self {
        let etcd = etcd.to_owned();
        Self {
            _background: Background::start(kubeconfig, async move |client| {
                let etcd = EtcdClient::connect([etcd], Some(connect)).await.unwrap();
                Box::pin(play(client, etcd)).await;
            }),
        }
    }
}

async fn play(client: kube::Client, mut etcd: EtcdClient) {
    let mut leases: BTreeMap<String, i64> = BTreeMap::new();
    let mut events = std::pin::pin!(
        watcher(Api::<Pod>::all(client.clone()), Config::default()).default_backoff()
    );
    let mut listed: Vec<String> = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.push(pod.name_any());
                seen(&client, &mut etcd, &mut leases, pod).await;
            }
            Ok(Event::Apply(pod)) => seen(&client, &mut etcd, &mut leases, pod).await,
            Ok(Event::InitDone) => {
                let gone: Vec<String> = leases
                    .keys()
                    .filter(|name| !listed.contains(*name))
                    .cloned()
                    .collect();
                for name in gone {
                    etcd.lease_revoke(leases.remove(&name).unwrap())
                        .await
                        .unwrap();
                }
            }
            Ok(Event::Delete(pod)) => {
                if let Some(lease) = leases.remove(&pod.name_any()) {
                    etcd.lease_revoke(lease).await.unwrap();
                }
            }
            Err(_) => {}
        }
    }
}

/// Handles an existing pod: makes it ready, unless its image must never be ready, and registers it
/// if it runs Milvus.
async fn seen(
    client: &kube::Client,
    etcd: &mut EtcdClient,
    leases: &mut BTreeMap<String, i64>,
    pod: Pod,
) {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let image = container.image.clone().unwrap_or_default();
    if image.contains("never-ready") {
        return;
    }
    // Pods of Jobs have a separate kubelet, which also reports their end.
    let of_job = pod.owner_references().iter().any(|one| one.kind == "Job");
    if !is_ready(&pod) && !of_job {
        set_status(client, &pod, ready()).await;
    }
    if image.contains("milvusdb/milvus:") && !leases.contains_key(&pod.name_any()) {
        let lease = etcd.lease_grant(600, None).await.unwrap().id();
        leases.insert(pod.name_any(), lease);
        let role = &container.name;
        let key = if role.ends_with("coord") {
            format!("{ROOT}session/{role}")
        } else {
            format!("{ROOT}session/{role}-{lease}")
        };
        let value =
            json!({"ServerID": lease, "ServerName": role, "Address": "10.0.0.1:1"}).to_string();
        etcd.put(key, value, Some(PutOptions::new().with_lease(lease)))
            .await
            .unwrap();
    }
}
