//! Sessions are released in etcd while pods come and go. In every order of events, a live pod keeps
//! its session, and a pod that the run has seen has none after its end. The decision and the
//! transaction are the product's; the list of pods is simulated.

use std::{cell::RefCell, collections::BTreeMap};

use etcd_client::{Client, DeleteOptions, GetOptions, PutOptions};
use milvus_guard_core::api::SeenPod;
use milvus_guard_metadata::executor::{Registered, Registry, Target};
use milvus_guard_operations::rolling_upgrade::ended::{self, ListedPod, Release};
use milvus_guard_sources::etcd::Endpoint;
use milvus_guard_testbed::Etcd;
use proptest::prelude::*;
use serde_json::json;

const ROOT: &str = "by-dev/meta/";
/// Names of pods: few, so that they are reused.
const NAMES: [&str; 3] = ["rootcoord-a", "rootcoord-b", "proxy-a"];

/// The next event.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A pod of this name is created, if there is none, and its process registers.
    Make(usize),
    /// The process of the pod ends and another one starts in the same pod, under a new lease.
    Restart(usize),
    /// The process was paused until its lease ended, resumes, and registers under the same key.
    ComeBack(usize),
    /// Another key is attached to the lease of the process.
    Attach(usize),
    /// The pod is deleted, and still terminating.
    Terminate(usize),
    /// The pod no longer exists.
    Remove(usize),
    /// The run reads the sessions.
    Read,
    /// The run lists the pods.
    List,
    /// The run releases the sessions that it may release.
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => name.clone().prop_map(Act::Make),
        2 => name.clone().prop_map(Act::Restart),
        1 => name.clone().prop_map(Act::ComeBack),
        1 => name.clone().prop_map(Act::Attach),
        2 => name.clone().prop_map(Act::Terminate),
        2 => name.prop_map(Act::Remove),
        3 => Just(Act::Read),
        3 => Just(Act::List),
        4 => Just(Act::Release),
    ]
}

#[derive(Clone, Debug)]
struct Pod {
    name: &'static str,
    uid: String,
    is_ending: bool,
    lease: i64,
}

/// State of the run: it reads sessions, then lists pods, then releases.
#[derive(Default)]
struct Run {
    seen: Vec<SeenPod>,
    sessions: Option<Vec<Registered>>,
    listed: Option<Vec<ListedPod>>,
}

struct Model {
    etcd: Client,
    registry: Registry,
    pods: Vec<Pod>,
    /// Keys that etcd must have, and their leases.
    keys: BTreeMap<String, i64>,
    /// Pods by all leases that their processes have had.
    owners: BTreeMap<i64, String>,
    run: Run,
    made: usize,
    released: usize,
}

impl Model {
    async fn start(endpoint: &str) -> Self {
        let mut etcd = Client::connect([endpoint], None).await.unwrap();
        let all = DeleteOptions::new().with_prefix();
        etcd.delete("by-dev/", Some(all)).await.unwrap();
        // Without a lease: it never expires.
        let forever = format!("{ROOT}session/datanode-1");
        let said = json!({"ServerID": 1, "HostName": "proxy-a"}).to_string();
        etcd.put(forever.clone(), said, None).await.unwrap();
        let target = Target::new(Endpoint {
            addresses: vec![endpoint.to_owned()],
            root_path: "by-dev".into(),
            meta_sub_path: "meta".into(),
            ..Endpoint::default()
        });
        Self {
            etcd,
            registry: Registry::connect(&target).await.unwrap(),
            pods: Vec::new(),
            keys: [(forever, 0)].into(),
            owners: BTreeMap::new(),
            run: Run::default(),
            made: 0,
            released: 0,
        }
    }

    async fn register(&mut self, name: &'static str) {
        let lease = self.etcd.lease_grant(600, None).await.unwrap().id();
        let pod = self.pods.iter_mut().find(|pod| pod.name == name).unwrap();
        pod.lease = lease;
        self.owners.insert(lease, pod.uid.clone());
        let role = name.split('-').next().unwrap();
        let said = json!({"ServerID": lease, "LeaseID": lease, "HostName": name}).to_string();
        // The key of an active coordinator has no number, so one coordinator may overwrite
        // another's.
        let mut keys = vec![format!("{ROOT}session/{role}-{lease}")];
        if role == "rootcoord" {
            keys.push(format!("{ROOT}session/rootcoord"));
        }
        for key in keys {
            let options = PutOptions::new().with_lease(lease);
            self.etcd
                .put(key.clone(), said.clone(), Some(options))
                .await
                .unwrap();
            self.keys.insert(key, lease);
        }
    }

    async fn act(&mut self, act: Act) {
        let at = |pods: &[Pod], index: usize| pods.iter().position(|pod| pod.name == NAMES[index]);
        match act {
            Act::Make(index) if at(&self.pods, index).is_none() => {
                self.made += 1;
                self.pods.push(Pod {
                    name: NAMES[index],
                    uid: self.made.to_string(),
                    is_ending: false,
                    lease: 0,
                });
                self.register(NAMES[index]).await;
            }
            // The old process has ended; its lease has not.
            Act::Restart(index) if self.lives(index) => self.register(NAMES[index]).await,
            Act::ComeBack(index) if self.lives(index) => {
                let lease = self.pods[at(&self.pods, index).unwrap()].lease;
                self.etcd.lease_revoke(lease).await.unwrap();
                self.keys.retain(|_, other| *other != lease);
                self.register(NAMES[index]).await;
            }
            Act::Attach(index) if self.lives(index) => {
                let lease = self.pods[at(&self.pods, index).unwrap()].lease;
                let key = format!("by-dev/other/{lease}");
                let options = PutOptions::new().with_lease(lease);
                self.etcd
                    .put(key.clone(), "x", Some(options))
                    .await
                    .unwrap();
                self.keys.insert(key, lease);
            }
            Act::Terminate(index) => {
                if let Some(at) = at(&self.pods, index) {
                    self.pods[at].is_ending = true;
                }
            }
            Act::Remove(index) => {
                if let Some(at) = at(&self.pods, index) {
                    self.pods.remove(at);
                }
            }
            Act::Read => {
                self.run.sessions = Some(self.registry.read().await.unwrap());
                self.run.listed = None;
            }
            Act::List if self.run.sessions.is_some() => self.list(),
            Act::Release => self.release().await,
            _ => {}
        }
    }

    fn lives(&self, index: usize) -> bool {
        self.pods
            .iter()
            .any(|pod| pod.name == NAMES[index] && !pod.is_ending)
    }

    fn list(&mut self) {
        let listed = self.pods.iter().map(|pod| ListedPod {
            name: pod.name.to_owned(),
            uid: pod.uid.clone(),
            is_ending: pod.is_ending,
        });
        self.run.listed = Some(listed.collect());
        for pod in &self.pods {
            let seen = SeenPod {
                name: pod.name.to_owned(),
                uid: pod.uid.clone(),
                workload: pod.name.split('-').next().unwrap().to_owned(),
            };
            if !self.run.seen.contains(&seen) {
                self.run.seen.push(seen);
            }
        }
    }

    async fn release(&mut self) {
        let (Some(sessions), Some(listed)) = (&self.run.sessions, &self.run.listed) else {
            return;
        };
        let when = |pod: &SeenPod| {
            if pod.workload == "rootcoord" {
                Release::AtTermination
            } else {
                Release::AtTheEnd
            }
        };
        let state = |pod: &SeenPod| ended::pod_state(&pod.name, listed);
        let groups = ended::releasable(sessions, &self.run.seen, state, when);
        for (group, _) in groups {
            if !self.registry.release(&group).await.unwrap() {
                continue;
            }
            for one in group {
                let key = format!("{ROOT}{}", one.session.key);
                let owner = self
                    .pods
                    .iter()
                    .find(|pod| pod.uid == self.owners[&one.lease]);
                let may = owner.is_none_or(|pod| pod.is_ending && pod.name != "proxy-a");
                assert!(may, "{key} of {owner:?}");
                assert_eq!(self.keys.remove(&key), Some(one.lease), "{key}");
                self.released += 1;
            }
        }
    }

    /// The run sees every pod, all pods end, and the run releases once more.
    async fn end(&mut self) {
        self.act(Act::Read).await;
        self.act(Act::List).await;
        self.pods.clear();
        self.act(Act::Read).await;
        self.act(Act::List).await;
        self.act(Act::Release).await;
    }

    /// Sessions with a lease, of pods that the run has seen.
    async fn kept(&self) -> Vec<String> {
        let sessions = self.registry.read().await.unwrap();
        sessions
            .iter()
            .filter(|one| ended::holder(one, &self.run.seen).is_some())
            .map(|one| one.session.key.clone())
            .collect()
    }

    async fn assert_true(&mut self) {
        let all = GetOptions::new().with_prefix();
        let answer = self.etcd.get("by-dev/", Some(all)).await.unwrap();
        let there: BTreeMap<String, i64> = answer
            .kvs()
            .iter()
            .map(|pair| (pair.key_str().unwrap().to_owned(), pair.lease()))
            .collect();
        assert_eq!(there, self.keys);
    }
}

#[test]
fn a_live_pod_keeps_its_session_and_a_deleted_pod_loses_it() {
    let (etcd, released) = (Etcd::start(), RefCell::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let acts = proptest::collection::vec(act(), 10..60);
    proptest!(config, |(acts in acts)| {
        runtime.block_on(async {
            let mut world = Model::start(&etcd.endpoint()).await;
            for act in acts {
                world.act(act).await;
            }
            world.assert_true().await;
            *released.borrow_mut() += world.released;
            let alive = world.pods.iter().filter(|pod| !pod.is_ending).count();
            let before = world.released;
            world.end().await;
            world.assert_true().await;
            assert_eq!(world.kept().await, [""; 0]);
            assert!(world.released >= before + alive);
        });
    });
    // Nearly every case releases a session. If none does, the events no longer fit the product.
    assert!(released.into_inner() > 0);
}
