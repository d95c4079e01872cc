//! `upgrade` and the sessions of Milvus in etcd: a coordinator hands over at once, the sessions of
//! deleted proxies are released, and a live pod never loses its session.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    Chart,
    migration_cluster::Running,
    roll::{DEADLINE, Roll},
    run,
    sessions::{STANDBY, Sessions},
};
use milvus_guard_testbed::{Etcd, Helm, expect_success, wait_until};
use serde_json::{Value, json};

/// Session TTL in seconds. Longer than any test: a session that ends in time was released.
const FOREVER: i64 = 3600;

/// Fields are dropped in this order.
struct ReleaseWithSessions {
    sessions: Sessions,
    roll: Roll,
    etcd: Etcd,
    namespace: &'static str,
}

impl ReleaseWithSessions {
    /// Milvus 2.3.2 with this number of pods for each component.
    fn start(namespace: &'static str, seconds: i64, values: &[&str]) -> Self {
        Self::start_on(Etcd::start(), namespace, seconds, values)
    }

    fn start_on(etcd: Etcd, namespace: &'static str, seconds: i64, values: &[&str]) -> Self {
        let roll = Roll::start();
        let sessions = Sessions::start(roll.cluster.kubeconfig(), &etcd.endpoint(), seconds);
        let chart = Chart::compact("4.0.31");
        roll.install(Helm::V4, namespace, &chart, "v2.3.2", values);
        let setup = Self {
            sessions,
            roll,
            etcd,
            namespace,
        };
        // An index coordinator of 2.3 has no separate session.
        let all = || setup.hosts().len() + setup.pods_of("indexcoord") == setup.pods().len();
        assert!(wait_until(DEADLINE, all), "{:?}", setup.hosts());
        setup
    }

    fn upgrade(&self, more: &[&str]) -> Command {
        let mut command = self.roll.upgrade(self.namespace, "2.3.5");
        command.args(["--etcd", &self.etcd.endpoint()]).args(more);
        command
    }

    /// Pods by name, and whether each is terminating.
    fn pods(&self) -> BTreeMap<String, bool> {
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let list = self.roll.cluster.get_json(&path);
        let pods = list["items"].as_array().unwrap().iter().filter(|pod| {
            let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
            image.contains("milvusdb/milvus:")
        });
        pods.map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            (name, pod["metadata"]["deletionTimestamp"].is_string())
        })
        .collect()
    }

    fn pods_of(&self, component: &str) -> usize {
        let of = format!("-{component}-");
        self.pods().keys().filter(|name| name.contains(&of)).count()
    }

    /// Sessions by key, with their values.
    fn registered(&self) -> BTreeMap<String, Value> {
        let answer = self
            .etcd
            .etcdctl(["get", "--prefix", "by-dev/meta/session/", "-w", "json"]);
        assert!(answer.status.success());
        let text: Value = serde_json::from_slice(&answer.stdout).unwrap();
        let decode = |text: &Value| {
            use base64::{Engine as _, prelude::BASE64_STANDARD};
            BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()
        };
        let pairs = text["kvs"].as_array().cloned().unwrap_or_default();
        pairs
            .iter()
            .map(|pair| {
                let key = String::from_utf8(decode(&pair["key"])).unwrap();
                let name = key.rsplit('/').next().unwrap().to_owned();
                (
                    name,
                    serde_json::from_slice(&decode(&pair["value"])).unwrap(),
                )
            })
            .collect()
    }

    fn hosts(&self) -> BTreeSet<String> {
        let all = self.registered();
        all.values()
            .map(|one| one["HostName"].as_str().unwrap().to_owned())
            .collect()
    }

    fn history(&self, reason: &str) -> Vec<String> {
        let run = self.roll.run(self.namespace);
        let all = run["status"]["history"].as_array().unwrap().clone();
        all.iter()
            .filter(|event| event["reason"] == reason)
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Replicas, strategy and `minReadySeconds` of every Deployment, and pods with a deletion cost.
    fn settings(&self) -> Vec<String> {
        let of = |one: &Value| {
            let spec = &one["spec"];
            let name = &one["metadata"]["name"];
            format!(
                "{name} {} {} {}",
                spec["replicas"], spec["strategy"], spec["minReadySeconds"]
            )
        };
        let mut all: Vec<String> = self
            .roll
            .deployments(self.namespace)
            .iter()
            .map(of)
            .collect();
        let path = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let pods = self.roll.cluster.get_json(&path);
        let marked = pods["items"].as_array().unwrap().iter().filter(|pod| {
            pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].is_string()
        });
        all.extend(marked.map(|pod| format!("marked {}", pod["metadata"]["name"])));
        all.sort();
        all
    }

    /// Only live pods have sessions, and none of them lost its session during the run.
    fn assert_clean(&self) {
        let live: BTreeSet<String> = self.pods().into_keys().collect();
        let hosts = self.hosts();
        assert!(hosts.is_subset(&live), "{hosts:?} {live:?}");
        assert_eq!(self.sessions.story().robbed, [""; 0]);
    }
}

fn ends(running: &mut Running) -> (bool, String) {
    assert!(wait_until(DEADLINE * 2, || running.has_ended()));
    let mut stderr = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    (running.0.wait().unwrap().success(), stderr)
}

#[test]
fn coordinators_with_a_standby_hand_over_at_once_in_upgrade_and_rollback() {
    let setup = ReleaseWithSessions::start("standby", FOREVER, &["replicas=2", STANDBY]);
    let (roll, namespace) = (&setup.roll, setup.namespace);
    let (settings, before) = (setup.settings(), setup.sessions.story().takeovers.len());
    let began = Instant::now();
    let mut running = Running::spawn(setup.upgrade(&[]));
    let halfway = || {
        let step = roll
            .runs(namespace)
            .last()
            .map(|run| run["status"]["step"]["id"].clone());
        step.is_some_and(|id| id == "update-querynode") || running.has_ended()
    };
    assert!(
        wait_until(DEADLINE, halfway),
        "{:#}",
        roll.run(namespace)["status"]
    );
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    eprintln!("five components in {:?}", began.elapsed());
    let told = setup.history("Note");
    for role in ["rootcoord", "datacoord", "querycoord"] {
        let of_role = |text: &String| {
            text.contains(&format!("-{role}-")) && text.contains("is a standby: its pod is ended")
        };
        assert!(told.iter().any(of_role), "{role}: {told:?}");
    }
    let takeovers = setup.sessions.story().takeovers;
    for one in &takeovers[before..] {
        assert_eq!(
            (one.version.as_str(), one.is_ending),
            ("2.3.5", false),
            "{one:?}"
        );
        assert!(
            one.after < Duration::from_secs(15),
            "its session ends in an hour: {one:?}"
        );
    }
    let roles = |takeovers: &[crate::common::sessions::Takeover]| {
        takeovers
            .iter()
            .map(|one| one.role.clone())
            .collect::<Vec<_>>()
    };
    let mut moved = roles(&takeovers[before..]);
    moved.sort();
    assert_eq!(
        moved,
        ["datacoord", "indexcoord", "querycoord", "rootcoord"],
        "{takeovers:?}"
    );

    let (code, stdout, stderr) = run(&mut setup.upgrade(&["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(
        !stderr.contains("warn   ") || !stderr.contains("the run continues"),
        "{stderr}"
    );
    let back = setup.sessions.story().takeovers[takeovers.len()..].to_vec();
    for one in &back {
        assert_eq!(
            (one.version.as_str(), one.is_ending),
            ("2.3.2", false),
            "{one:?}"
        );
    }
    assert_eq!(back.len(), 4, "{back:?}");
    assert_eq!(setup.settings(), settings, "all settings must be restored");
    assert_eq!(roll.tag(namespace, "rootcoord"), "v2.3.2");
    assert_eq!(roll.owned_by_runs(namespace), [""; 0]);
    setup.assert_clean();
}

#[test]
fn a_run_completes_only_when_no_session_of_a_deleted_pod_is_left() {
    let setup = ReleaseWithSessions::start("gone", FOREVER, &["replicas=2", STANDBY]);
    let settings = setup.settings();
    let (code, stdout, stderr) = run(&mut setup.upgrade(&[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    eprintln!("{stderr}{stdout}");
    setup.assert_clean();
    assert!(!stderr.contains("the run continues"), "{stderr}");
    assert_eq!(setup.settings(), settings);
    let released = setup.history("SessionReleased");
    for what in [
        "session/proxy-",
        "session/datanode-",
        "session/rootcoord of pod",
    ] {
        assert!(
            released.iter().any(|text| text.contains(what)),
            "{what}: {released:?}"
        );
    }
    // Query nodes release their sessions after they have moved their segments away.
    assert!(
        !released.iter().any(|text| text.contains("querynode")),
        "{released:?}"
    );
    assert!(stderr.contains("released session/proxy-"), "{stderr}");
    let events = setup
        .roll
        .cluster
        .kubectl(["get", "events", "-A", "-o", "json"]);
    assert!(String::from_utf8_lossy(&events.stdout).contains("SessionReleased"));
    assert!(setup.roll.run("gone")["status"]["pods"].is_null());
}

#[test]
fn a_single_coordinator_is_replaced_without_waiting_for_its_lease() {
    let setup = ReleaseWithSessions::start("single", FOREVER, &[]);
    let before = setup.sessions.story().takeovers.len();
    let (code, stdout, stderr) = run(&mut setup.upgrade(&[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let takeovers = setup.sessions.story().takeovers;
    assert_eq!(takeovers.len(), before + 4, "{takeovers:?}");
    assert!(!stderr.contains("the run continues"), "{stderr}");
    setup.assert_clean();
}

#[test]
fn without_session_help_sessions_end_with_their_lease() {
    let setup = ReleaseWithSessions::start("no-help", 6, &["replicas=2", STANDBY]);
    let settings = setup.settings();
    let (code, stdout, stderr) = run(&mut setup.upgrade(&["--no-session-help"]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(setup.history("SessionReleased"), [""; 0]);
    assert!(
        stderr.contains("which has ended, is still in etcd"),
        "{stderr}"
    );
    assert_eq!(setup.settings(), settings);
    setup.assert_clean();
}

#[test]
fn a_run_killed_while_only_the_active_coordinator_runs_resumes() {
    let setup = ReleaseWithSessions::start("alone", FOREVER, &["replicas=2", STANDBY]);
    let (roll, namespace, settings) = (&setup.roll, setup.namespace, setup.settings());
    let mut running = Running::spawn(setup.upgrade(&[]));
    let alone =
        || roll.deployment(namespace, "rootcoord")["spec"]["replicas"] == 1 || running.has_ended();
    assert!(wait_until(DEADLINE, alone));
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert!(
        setup
            .settings()
            .iter()
            .any(|line| line.starts_with("marked "))
    );
    let mut again = Running::spawn(setup.upgrade(&[]));
    let (success, stderr) = ends(&mut again);
    assert!(success, "{stderr}");
    assert_eq!(setup.settings(), settings);
    assert_eq!(roll.tag(namespace, "proxy"), "v2.3.5");
    setup.assert_clean();
    expect_success(setup.etcd.etcdctl(["endpoint", "health"]));
}

#[test]
fn etcd_is_reached_by_a_pod_address_if_its_name_does_not_resolve() {
    let (etcd, namespace) = (Etcd::start(), "by-address");
    let port = etcd.port();
    let config = format!(
        "extraConfigFiles.user\\.yaml=etcd:\n  endpoints: real-etcd.{namespace}.svc:{port}\n"
    );
    let setup = ReleaseWithSessions::start_on(etcd, namespace, FOREVER, &[&config]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "real-etcd-0", "namespace": namespace, "labels": {"app": "real-etcd"}},
        "spec": {"containers": [{"name": "etcd", "image": "etcd"}]}});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "real-etcd", "namespace": namespace},
        "spec": {"clusterIP": "None", "selector": {"app": "real-etcd"}, "ports": [{"port": port}]}});
    setup
        .roll
        .cluster
        .apply(&format!("---\n{pod}\n---\n{service}\n"));
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    expect_success(setup.roll.cluster.kubectl([
        "-n",
        namespace,
        "patch",
        "pod",
        "real-etcd-0",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]));
    let (code, stdout, stderr) = run(&mut setup.roll.upgrade(namespace, "2.3.5"));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(!stderr.contains("could not ask etcd"), "{stderr}");
    assert!(stderr.contains("released session/proxy-"), "{stderr}");
    setup.assert_clean();
}
