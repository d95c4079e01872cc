//! Simulates the sessions of a Milvus 2.3 in etcd, as observed on a real one: the lease of a
//! stopped process lasts on, a standby ignores SIGTERM for a while and still competes for the
//! active key, and only query nodes revoke their session. Used together with [`super::roll`], which
//! makes pods ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use etcd_client::{Client as EtcdClient, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use serde_json::json;

/// Chart value that enables active-standby for coordinators.
pub const STANDBY: &str = "extraConfigFiles.user\\.yaml=rootCoord:\n  enableActiveStandby: true\n\
                       dataCoord:\n  enableActiveStandby: true\nindexCoord:\n  \
                       enableActiveStandby: true\nqueryCoord:\n  enableActiveStandby: true\n";
const ROOT: &str = "by-dev/meta/session/";
/// Finalizer that keeps a deleted pod until its process has ended, as a kubelet does.
const HOLD: &str = "tests.milvus.io/process";
/// Coordinators, and the keys for which their processes compete.
const COORDINATORS: [(&str, &[&str]); 4] = [
    ("rootcoord", &["rootcoord"]),
    ("datacoord", &["datacoord", "indexcoord"]),
    ("querycoord", &["querycoord"]),
    (
        "mixcoord",
        &["rootcoord", "datacoord", "indexcoord", "querycoord"],
    ),
];
/// How long a standby ignores SIGTERM; 30 s in a real Milvus.
const STUBBORN: Duration = Duration::from_secs(8);
/// How long a process takes to start. A pod that is deleted earlier has no session.
const START: Duration = Duration::from_millis(500);
/// How long the API server still lists a pod whose containers have ended, as with a kubelet.
const LISTED: Duration = Duration::from_millis(1500);
/// How long a query node takes to move its segments away.
const GRACE: Duration = Duration::from_secs(2);

/// A coordinator became active.
#[derive(Clone, Debug)]
pub struct Takeover {
    pub role: String,
    pub host: String,
    pub version: String,
    /// Whether its pod was terminating.
    pub is_ending: bool,
    /// How long no coordinator was active before.
    pub after: Duration,
}

/// What the simulation observed.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub takeovers: Vec<Takeover>,
    /// Pods that lost their session while they were live, or earlier than allowed.
    pub robbed: Vec<String>,
}

/// Simulates until it is dropped.
pub struct Sessions {
    story: Arc<Mutex<Story>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The end of a pod. A later deletion does not shorten the grace period of the first one.
#[derive(Clone, Copy)]
struct Ending {
    since: Instant,
    grace: Duration,
}

/// A pod that is ready for the first time.
struct Starting {
    since: Instant,
    namespace: String,
    role: String,
    version: String,
}

struct Process {
    role: String,
    version: String,
    namespace: String,
    lease: i64,
    ending: Option<Ending>,
    /// When its containers ended.
    over: Option<Instant>,
    was_active: bool,
}

impl Sessions {
    /// `seconds` is the TTL of the leases.
    pub fn start(kubeconfig: &Path, etcd: &str, seconds: i64) -> Self {
        let (story, stop): (Arc<Mutex<Story>>, _) =
            (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (into, flag) = (Arc::clone(&story), Arc::clone(&stop));
        let (kubeconfig, etcd) = (kubeconfig.to_owned(), etcd.to_owned());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let access = Access {
                    kubeconfig: Some(kubeconfig),
                    context: None,
                };
                let client = Cluster::connect(&access).await.unwrap().client().clone();
                let etcd = EtcdClient::connect([etcd], None).await.unwrap();
                let milvus = Milvus {
                    client,
                    etcd,
                    seconds,
                    starting: BTreeMap::new(),
                    processes: BTreeMap::new(),
                    vacant: BTreeMap::new(),
                    renewed: Instant::now(),
                    story: into,
                };
                Box::pin(milvus.play(&flag)).await;
            });
        });
        Self {
            story,
            stop,
            thread: Some(thread),
        }
    }

    /// What was observed until now.
    pub fn story(&self) -> Story {
        self.story.lock().unwrap().clone()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Milvus {
    client: Client,
    etcd: EtcdClient,
    seconds: i64,
    /// Pods whose process has no session yet.
    starting: BTreeMap<String, Starting>,
    processes: BTreeMap<String, Process>,
    /// Since when a role has no active coordinator.
    vacant: BTreeMap<String, Instant>,
    renewed: Instant,
    story: Arc<Mutex<Story>>,
}

impl Milvus {
    async fn play(mut self, stop: &AtomicBool) {
        let mut events = std::pin::pin!(
            watcher(Api::<Pod>::all(self.client.clone()), Config::default()).default_backoff()
        );
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while !stop.load(Ordering::Relaxed) {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::InitApply(pod) | Event::Apply(pod))) => self.saw(&pod).await,
                    Some(Ok(Event::Delete(pod))) => drop(self.processes.remove(&pod.name_any())),
                    _ => {}
                },
                _ = tick.tick() => {
                    self.start().await;
                    self.live().await;
                }
            }
        }
        for (host, process) in &self.processes {
            self.let_go(&process.namespace, host).await;
        }
    }

    async fn saw(&mut self, pod: &Pod) {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let image = container.image.clone().unwrap_or_default();
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap());
        if !image.contains("milvusdb/milvus:") {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            if let Some(process) = self.processes.get_mut(&name) {
                let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
                process.ending.get_or_insert_with(|| Ending {
                    since: Instant::now(),
                    grace: Duration::from_secs(grace.try_into().unwrap()),
                });
            } else {
                self.starting.remove(&name);
                self.let_go(&namespace, &name).await;
            }
            return;
        }
        if !pod.finalizers().iter().any(|one| one == HOLD) {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let hold = Patch::Merge(json!({"metadata": {"finalizers": [HOLD]}}));
            let _ = api.patch(&name, &PatchParams::default(), &hold).await;
        }
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions
            .into_iter()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        if is_ready && !self.processes.contains_key(&name) {
            self.starting.entry(name).or_insert_with(|| Starting {
                since: Instant::now(),
                namespace,
                role: container.name.clone(),
                version: image.rsplit(":v").next().unwrap().to_owned(),
            });
        }
    }

    /// Registers the processes that have started.
    async fn start(&mut self) {
        let started = |one: &Starting| one.since.elapsed() > START;
        let waiting = std::mem::take(&mut self.starting);
        let (started, waiting) = waiting.into_iter().partition(|(_, one)| started(one));
        self.starting = waiting;
        let started: BTreeMap<String, Starting> = started;
        for (host, one) in started {
            self.begin(&host, one.namespace, one.role, one.version)
                .await;
        }
    }

    async fn begin(&mut self, host: &str, namespace: String, role: String, version: String) {
        let lease = self
            .etcd
            .lease_grant(self.seconds, None)
            .await
            .unwrap()
            .id();
        let process = Process {
            role,
            version,
            namespace,
            lease,
            ending: None,
            over: None,
            was_active: false,
        };
        // From 2.3 on an index coordinator is a part of the data coordinator.
        if process.role != "indexcoord" {
            let key = format!("{ROOT}{}-{lease}", process.role);
            let options = PutOptions::new().with_lease(lease);
            let value = said(host, &process);
            self.etcd.put(key, value, Some(options)).await.unwrap();
        }
        self.processes.insert(host.to_owned(), process);
    }

    async fn live(&mut self) {
        let everything = GetOptions::new().with_prefix();
        let answer = self.etcd.get(ROOT, Some(everything)).await.unwrap();
        let mut active: BTreeMap<String, i64> = BTreeMap::new();
        let mut leases: BTreeSet<i64> = BTreeSet::new();
        for pair in answer.kvs() {
            leases.insert(pair.lease());
            let role = pair
                .key_str()
                .unwrap()
                .strip_prefix(ROOT)
                .unwrap()
                .to_owned();
            active.insert(role, pair.lease());
        }
        self.vacant.retain(|role, _| !active.contains_key(role));
        let renew = self.renewed.elapsed() > Duration::from_secs(1);
        if renew {
            self.renewed = Instant::now();
        }
        let hosts: Vec<String> = self.processes.keys().cloned().collect();
        for host in hosts {
            let Some(process) = self.processes.get_mut(&host) else {
                continue;
            };
            if let Some(over) = process.over {
                if over.elapsed() > LISTED {
                    let namespace = process.namespace.clone();
                    self.processes.remove(&host);
                    self.let_go(&namespace, &host).await;
                }
                continue;
            }
            let is_robbed = process.role != "indexcoord" && !leases.contains(&process.lease);
            if renew {
                let _ = self.etcd.lease_keep_alive(process.lease).await;
            }
            let is_active = active
                .iter()
                .any(|(key, lease)| !key.contains('-') && *lease == process.lease);
            let is_coordinator = process.role.ends_with("coord");
            process.was_active |= is_active;
            let (was_active, is_ending) = (process.was_active, process.ending.is_some());
            let ended = match process.ending {
                None => false,
                Some(ending) if process.role == "querynode" => ending.since.elapsed() > GRACE,
                // With or without its session.
                Some(Ending { since, grace }) if is_coordinator && !was_active => {
                    since.elapsed() > grace.min(STUBBORN)
                }
                Some(_) => true,
            };
            // The guard may have seen the deletion of the pod before our watch.
            let may_be_robbed =
                is_coordinator && (is_ending || is_robbed && self.is_terminating(&host).await);
            if is_robbed && !may_be_robbed {
                self.story.lock().unwrap().robbed.push(host.clone());
            }
            if ended {
                self.end(&host).await;
            } else if is_robbed && !is_ending {
                // A process that lost its session exits, and Kubernetes restarts it.
                let Process {
                    namespace,
                    role,
                    version,
                    ..
                } = self.processes.remove(&host).unwrap();
                self.begin(&host, namespace, role, version).await;
            }
        }
        for (_, roles) in COORDINATORS {
            for role in roles.iter().filter(|role| !active.contains_key(**role)) {
                self.compete(role).await;
            }
        }
    }

    /// Whether the pod is terminating in the API server now.
    async fn is_terminating(&self, host: &str) -> bool {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.processes[host].namespace);
        let pod = api.get_opt(host).await.ok().flatten();
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    /// Terminating pods try first.
    async fn compete(&mut self, role: &str) {
        let since = *self
            .vacant
            .entry(role.to_owned())
            .or_insert_with(Instant::now);
        let may = |process: &Process| {
            process.over.is_none()
                && COORDINATORS
                    .iter()
                    .any(|(component, roles)| process.role == *component && roles.contains(&role))
        };
        let mut candidates: Vec<(&String, &Process)> = self
            .processes
            .iter()
            .filter(|(_, process)| may(process))
            .collect();
        candidates.sort_by_key(|(_, process)| process.ending.is_none());
        for (host, process) in candidates {
            let key = format!("{ROOT}{role}");
            let options = PutOptions::new().with_lease(process.lease);
            let txn = Txn::new()
                .when([Compare::version(key.clone(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key, said(host, process), Some(options))]);
            // A revoked lease cannot hold a key.
            if self
                .etcd
                .clone()
                .txn(txn)
                .await
                .is_ok_and(|answer| answer.succeeded())
            {
                let takeover = Takeover {
                    role: role.to_owned(),
                    host: host.clone(),
                    version: process.version.clone(),
                    is_ending: process.ending.is_some(),
                    after: since.elapsed(),
                };
                self.story.lock().unwrap().takeovers.push(takeover);
                self.vacant.remove(role);
                return;
            }
        }
    }

    async fn end(&mut self, host: &str) {
        let process = self.processes.get_mut(host).unwrap();
        process.over = Some(Instant::now());
        if process.role == "querynode" {
            let _ = self.etcd.lease_revoke(process.lease).await;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &process.namespace);
        let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
        let _ = api
            .patch_status(host, &PatchParams::default(), &ended)
            .await;
    }

    async fn let_go(&self, namespace: &str, host: &str) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let _ = api.patch(host, &PatchParams::default(), &free).await;
    }
}

fn said(host: &str, process: &Process) -> String {
    let Process {
        role,
        version,
        lease,
        ..
    } = process;
    json!({"ServerID": lease, "ServerName": role, "Address": "10.9.9.9:53100", "Exclusive": false,
        "Version": version, "LeaseID": lease, "HostName": host})
    .to_string()
}
