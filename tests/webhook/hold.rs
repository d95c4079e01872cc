//! Hold: a plain change of the version, made with any tool, rolls in order.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::Command,
    sync::Arc,
    time::Duration,
};

use crate::common::{
    Chart, Judged, guard,
    migration_cluster::Running,
    roll::{DEADLINE, NamespaceState, RELEASE, Roll, Watch, is_complete},
    sessions::{STANDBY, Sessions, Story, Takeover},
    ticks::{Stuck, Ticks},
    webhook::{GUARD, Server, Webhook, stored_memory, wait_until},
};
use milvus_guard_core::milvus::{Component, catalogue::Catalogue};
use milvus_guard_testbed::{Etcd, Helm, expect_success};
use rstest::rstest;
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";
const HELD_FROM: &str = "guard.milvus.io/held-from";
const ORDER: [&str; 5] = ["indexnode", "mixcoord", "querynode", "datanode", "proxy"];
/// Values of a release with one mixed coordinator.
const MIXED: [&str; 1] = ["mixCoordinator.enabled=true"];

struct Site {
    roll: Roll,
    chart: Chart,
}

impl Site {
    /// A release of this version, and a guard with Hold.
    fn new(with: Helm, tag: &str) -> Self {
        let site = Self {
            roll: Roll::holding(&[]),
            chart: Chart::compact("4.1.34"),
        };
        site.roll.install(with, NAMESPACE, &site.chart, tag, &MIXED);
        // A rollback is allowed to a version at which the guard has seen every component available.
        let settled = format!(r#""settled":"{}""#, tag.trim_start_matches('v'));
        wait_until("the guard remembers the version", DEADLINE, || {
            stored_memory(&site.webhook().cluster, NAMESPACE).contains(&settled)
        });
        site
    }

    fn webhook(&self) -> &Webhook {
        match &self.roll.cluster {
            NamespaceState::Guarded(webhook) => webhook,
            NamespaceState::Bare(_) => unreachable!("the cluster must have the guard"),
        }
    }

    fn helm(&self, with: Helm, args: &[&str]) -> (bool, String) {
        self.webhook().helm(with, args)
    }

    fn upgrade(&self, with: Helm, tag: &str, more: &[&str]) -> (bool, String) {
        let tag = format!("image.all.tag={tag}");
        let args = [
            "upgrade",
            RELEASE,
            self.chart.path(),
            "-n",
            NAMESPACE,
            "--reuse-values",
            "--set",
            &tag,
        ];
        self.helm(with, &[&args, more].concat())
    }

    fn kubectl(&self, args: &[&str]) -> (bool, String) {
        self.webhook().kubectl(&[&["-n", NAMESPACE], args].concat())
    }

    /// The manifest of this version.
    fn rendered(&self, tag: &str) -> String {
        let tag = format!("image.all.tag={tag}");
        let chart = self.chart.path();
        let args = ["template", RELEASE, chart, "-n", NAMESPACE];
        let values = ["--set", MIXED[0], "--set", &tag];
        self.helm(Helm::V4, &[&args[..], &values].concat()).1
    }

    fn guard(&mut self) -> &mut Webhook {
        match &mut self.roll.cluster {
            NamespaceState::Guarded(webhook) => webhook,
            NamespaceState::Bare(_) => unreachable!("the cluster must have the guard"),
        }
    }

    /// Names of the components that are held.
    fn held(&self) -> Vec<String> {
        let deployments = self.roll.deployments(NAMESPACE);
        let mut held: Vec<String> = deployments
            .iter()
            .filter(|one| is_held(one))
            .map(|one| {
                let name = one["metadata"]["name"].as_str().unwrap();
                name.rsplit('-').next().unwrap().to_owned()
            })
            .collect();
        held.sort();
        held
    }

    fn await_end(&self, phase: &str) -> Value {
        let ended = milvus_guard_testbed::wait_until(DEADLINE, || {
            self.roll
                .runs(GUARD)
                .last()
                .is_some_and(|run| run["spec"]["kind"] == "Hold" && run["status"]["phase"] == phase)
        });
        let (runs, log) = (self.roll.runs(GUARD), self.webhook().server.log());
        assert!(ended, "held {:?}, runs {runs:#?}, log {log}", self.held());
        self.roll.await_complete(NAMESPACE);
        self.roll.run(GUARD)
    }

    /// Creates or deletes the quota that keeps pods from starting.
    fn quota(&self, verb: &str, more: &[&str]) {
        let (done, text) = self.kubectl(&[&[verb, "quota", "no-pods"], more].concat());
        assert!(done, "{text}");
    }

    /// Waits until the run has reached the step of a component. On a busy machine it may already be
    /// past that step.
    fn await_step(&self, component: &str) {
        let is_of = |id: &Value| id.as_str().is_some_and(|id| id.ends_with(component));
        wait_until("the step is reached", DEADLINE, || {
            let runs = self.roll.runs(GUARD);
            let Some(status) = runs.last().map(|run| &run["status"]) else {
                return false;
            };
            let mut history = status["history"].as_array().into_iter().flatten();
            is_of(&status["step"]["id"]) || history.any(|event| is_of(&event["step"]))
        });
    }
}

/// Asserts that the components moved to this version in order.
#[track_caller]
fn assert_order(watch: &Watch, tag: &str) {
    let order = watch.order(&image(tag));
    let names: Vec<&str> = order.iter().map(|one| one.name()).collect();
    assert_eq!(names, ORDER);
}

fn is_held(deployment: &Value) -> bool {
    deployment["spec"]["paused"] == true
        && deployment["metadata"]["annotations"][HELD_FROM].is_string()
}

fn image(tag: &str) -> String {
    format!("milvusdb/milvus:{tag}")
}

/// The repository of an image that never becomes ready.
const BROKEN: &str = "image.all.repository=registry.example/never-ready/milvus";

#[rstest]
#[case::helm_3_across_minors(Helm::V3, "v2.4.24", "v2.5.27")]
#[case::helm_4_across_minors(Helm::V4, "v2.4.24", "v2.5.27")]
#[case::helm_4_within_a_minor(Helm::V4, "v2.4.17", "v2.4.24")]
fn a_plain_helm_upgrade_rolls_in_order(#[case] with: Helm, #[case] from: &str, #[case] to: &str) {
    let site = Site::new(with, from);
    let watch = site.roll.watch(NAMESPACE);
    let (done, text) = site.upgrade(with, to, &[]);
    assert!(done, "{text}");
    assert!(text.contains("MG201") && text.contains("--wait"), "{text}");
    let run = site.await_end("Succeeded");
    assert_order(&watch, to);
    let version = |tag: &str| tag.trim_start_matches('v').parse().unwrap();
    let order = Catalogue::embedded()
        .order(
            version(from),
            version(to),
            milvus_guard_core::milvus::catalogue::OrderTopology::Mixed,
        )
        .unwrap();
    watch.assert_order(&image(to), |one| order.before(one).collect(), &[]);
    assert_eq!(site.held(), Vec::<String>::new());
    assert_eq!(run["spec"]["from"], from.trim_start_matches('v'));
    let ids = |list: &Value, key: &str| -> Vec<Value> {
        let all = list.as_array().unwrap().iter();
        all.map(|one| one[key].clone()).collect()
    };
    let history = run["status"]["history"].as_array().unwrap().iter();
    let done = history.filter(|event| event["reason"] == "StepDone");
    let done: Value = done.cloned().collect();
    assert_eq!(
        ids(&done, "step"),
        ids(&run["spec"]["plan"], "id"),
        "{run:#}"
    );
    // No field of the guard is left, and the next upgrade meets no conflict.
    for one in site.roll.deployments(NAMESPACE) {
        assert_eq!(one["spec"]["paused"], Value::Null, "{one:#}");
        assert_eq!(one["metadata"]["annotations"][HELD_FROM], Value::Null);
    }
    let (done, text) = site.upgrade(with, to, &["--set", "querynode.replicas=2"]);
    assert!(done, "{text}");
    site.roll.await_complete(NAMESPACE);
}

#[rstest]
#[case::client_side(&["apply", "-f"])]
#[case::server_side(&["apply", "--server-side", "--force-conflicts", "-f"])]
fn kubectl_apply_rolls_in_order(#[case] apply: &[&str]) {
    let site = Site::new(Helm::V4, "v2.4.24");
    let watch = site.roll.watch(NAMESPACE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("milvus.yaml");
    std::fs::write(&file, site.rendered("v2.5.27")).unwrap();
    let file = file.to_str().unwrap();
    let (done, text) = site.kubectl(&[apply, &[file]].concat());
    assert!(done, "{text}");
    site.await_end("Succeeded");
    assert_order(&watch, "v2.5.27");
    let flags = apply.iter().filter(|flag| !["apply", "-f"].contains(flag));
    let diff: Vec<&str> = ["diff"]
        .iter()
        .chain(flags)
        .chain(&["-f", file])
        .copied()
        .collect();
    let (done, text) = site.kubectl(&diff);
    assert!(done, "kubectl diff must be empty afterwards: {text}");
}

#[test]
fn check_reports_that_a_change_would_be_held() {
    let site = Site::new(Helm::V4, "v2.4.24");
    let check = |more: &[&str]| {
        let mut command = guard();
        command
            .args(["check", "-i", RELEASE, "-n", NAMESPACE, "-t", "2.5.27"])
            .arg("--kubeconfig")
            .arg(site.webhook().cluster.kubeconfig())
            .args(more);
        Judged::with(&mut command)
    };
    let judged = check(&[]);
    assert_eq!(
        (judged.verdict(), judged.rules("hold")),
        ("warn", vec!["MG201".into()])
    );
    let judged = check(&["--no-cluster-policy"]);
    assert_eq!(
        (judged.verdict(), judged.rules("deny")),
        ("deny", vec!["MG201".into()])
    );
}

#[test]
fn a_corrected_upgrade_during_a_run_is_held_again() {
    let site = Site::new(Helm::V4, "v2.4.24");
    let (done, text) = site.upgrade(Helm::V4, "v2.5.26", &["--set", BROKEN]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    assert_eq!(site.held(), ["datanode", "mixcoord", "proxy", "querynode"]);
    let watch = site.roll.watch(NAMESPACE);
    let correct = "image.all.repository=milvusdb/milvus";
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", correct]);
    assert!(done, "{text}");
    site.await_end("Succeeded");
    assert_order(&watch, "v2.5.27");
    let phases: Vec<String> = site
        .roll
        .runs(GUARD)
        .iter()
        .map(|run| run["status"]["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(phases, ["Aborted", "Succeeded"]);
}

#[rstest]
#[case(Helm::V3)]
#[case(Helm::V4)]
fn helm_rollback_during_a_run_returns_to_the_old_version(#[case] with: Helm) {
    let site = Site::new(with, "v2.4.24");
    let shape = site.roll.shape(NAMESPACE);
    let (done, text) = site.upgrade(with, "v2.5.27", &["--set", BROKEN]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    let pods = |component: &str| site.roll.deployment(NAMESPACE, component)["status"].clone();
    let before = pods("proxy");
    let (done, text) = site.helm(with, &["rollback", RELEASE, "1", "-n", NAMESPACE]);
    assert!(done, "{text}");
    wait_until("nothing is held", DEADLINE, || site.held().is_empty());
    site.roll.await_complete(NAMESPACE);
    assert_eq!(site.roll.shape(NAMESPACE), shape);
    assert_eq!(
        pods("proxy")["replicas"],
        before["replicas"],
        "the proxy never moved"
    );
    wait_until("no run is in progress", DEADLINE, || {
        site.roll
            .runs(GUARD)
            .iter()
            .all(|run| ["Aborted", "Succeeded"].contains(&run["status"]["phase"].as_str().unwrap()))
    });
}

#[test]
fn a_component_that_a_user_resumes_is_left_to_the_user() {
    let site = Site::new(Helm::V4, "v2.4.24");
    let watch = site.roll.watch(NAMESPACE);
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", BROKEN]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    let proxy = format!("deployment/{RELEASE}-milvus-proxy");
    let (done, text) = site.kubectl(&["rollout", "resume", &proxy]);
    assert!(done, "{text}");
    wait_until("the proxy rolls", DEADLINE, || {
        watch
            .events()
            .iter()
            .any(|seen| seen.component == Component::Proxy && seen.image.contains("never-ready"))
    });
    assert_eq!(site.held(), ["datanode", "mixcoord", "querynode"]);
}

#[test]
fn a_new_leader_resumes_the_run_of_a_killed_leader() {
    let mut site = Site::new(Helm::V4, "v2.4.24");
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", BROKEN]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    let held = site.held();
    site.guard().server.kill();
    assert_eq!(site.held(), held, "no component may move without a leader");
    let webhook = site.guard();
    let (cluster, folder) = (&webhook.cluster, webhook.folder.path());
    webhook.server = Server::start(cluster, folder, "127.0.0.1:0", &["--hold"]);
    webhook.register();
    // The component that was released becomes ready with a working image.
    let correct = "image.all.repository=milvusdb/milvus";
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", correct]);
    assert!(done, "{text}");
    site.await_end("Succeeded");
    assert_eq!(site.held(), Vec::<String>::new());
}

/// The guard's leader creates the run of a held change after the change, and resumes a stopped one.
/// A waiting pipeline must not end because there is no run yet, or because the run has stopped.
#[test]
fn status_waits_for_a_held_change_until_it_has_ended() {
    let roll = Roll::start();
    let chart = Chart::compact("4.1.34");
    roll.install(Helm::V4, NAMESPACE, &chart, "v2.4.24", &MIXED);
    let patch = |what: &[&str], patch: &Value| {
        let (args, patch) = (
            ["-n", NAMESPACE, "patch", "--type=merge", "-p"],
            patch.to_string(),
        );
        expect_success(roll.cluster.kubectl([&args[..], &[&patch], what].concat()));
    };
    let proxy = format!("deployment/{RELEASE}-milvus-proxy");
    let held = json!({"metadata": {"annotations": {HELD_FROM: image("v2.4.24")}}, "spec": {"paused": true}});
    patch(&[&proxy], &held);
    let mut waiting = Running::spawn(status(&roll));
    let mut said = String::new();
    let mut stderr = BufReader::new(waiting.0.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert_eq!(
        said,
        "my-release in milvus is held; waiting for the guard to release it\n"
    );
    roll.cluster.apply(&format!(
        r#"{{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {{"name": "hold-1", "namespace": "{NAMESPACE}"}},
        "spec": {{"kind": "Hold", "release": "{RELEASE}", "namespace": "{NAMESPACE}", "from": "2.4.24", "to": "2.5.27", "plan": [],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}}}}"#
    ));
    let phase = |phase: &str| {
        let run = ["upgraderun/hold-1", "--subresource=status"];
        patch(&run, &json!({"status": {"phase": phase}}));
    };
    phase("Stopped");
    let mut phases = BufReader::new(waiting.0.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["phase"].clone());
    assert!(phases.any(|phase| phase == "Stopped"));
    phase("Succeeded");
    patch(
        &[&proxy],
        &json!({"metadata": {"annotations": {HELD_FROM: null}}, "spec": {"paused": null}}),
    );
    assert_eq!(phases.last(), Some(json!("Succeeded")));
    assert!(waiting.0.wait().unwrap().success());
}

/// A release of 2.3.2 with two coordinators of each kind and two proxies. As in Milvus 2.3,
/// sessions outlast their processes.
fn with_sessions(etcd: &Etcd, roll: Roll) -> (Site, Sessions) {
    let forever = 3600;
    let sessions = Sessions::start(roll.cluster.kubeconfig(), &etcd.endpoint(), forever);
    let address = etcd.endpoint().replace("http://", "");
    let endpoints = format!("externalEtcd.endpoints={{{address}}}");
    let values = [
        "replicas=2",
        STANDBY,
        "externalEtcd.enabled=true",
        &endpoints,
        "etcd.enabled=false",
    ];
    let chart = Chart::compact("4.0.31");
    roll.install(Helm::V4, NAMESPACE, &chart, "v2.3.2", &values);
    (Site { roll, chart }, sessions)
}

// Otherwise searches of all clients would wait for 50 s.
#[test]
fn a_proxy_that_holds_up_time_ticks_is_replaced_during_a_held_change() {
    let (etcd, ticks) = (
        Etcd::start(),
        Arc::new(Ticks::with_stuck_proxy(Stuck::Silent, None)),
    );
    let (site, sessions) = with_sessions(&etcd, Roll::holding_with(Arc::clone(&ticks)));
    let (done, text) = site.upgrade(Helm::V4, "v2.3.5", &[]);
    assert!(done, "{text}");
    let run = site.await_end("Succeeded");
    let stuck = ticks.stuck();
    let stuck = stuck.unwrap_or_else(|| panic!("no proxy was stuck: {run:#}"));
    let said = format!("proxy {stuck} reports no time tick");
    let history = run["status"]["history"].as_array().unwrap().iter();
    let texts: Vec<&str> = history
        .filter_map(|event| event["message"].as_str())
        .collect();
    let place = |wanted: &str| texts.iter().position(|text| text.contains(wanted));
    assert!(place(&said).is_some(), "{texts:#?}");
    assert!(
        place(&said) < place("Release proxy"),
        "before the proxies move: {texts:#?}"
    );
    assert_eq!(sessions.story().robbed, [""; 0]);
}

/// Otherwise no coordinator would take over.
#[test]
fn sessions_of_ended_pods_are_removed_during_a_held_change() {
    let etcd = Etcd::start();
    let (site, sessions) = with_sessions(&etcd, Roll::holding(&[]));
    let before = sessions.story().takeovers.len();
    let (done, text) = site.upgrade(Helm::V4, "v2.3.5", &[]);
    assert!(done, "{text}");
    let run = site.await_end("Succeeded");
    let Story { takeovers, robbed } = sessions.story();
    assert_eq!(robbed, [""; 0], "no live pod may lose its session");
    for role in ["rootcoord", "datacoord", "querycoord"] {
        let mut of_role = takeovers[before..].iter().filter(|one| one.role == role);
        let is_new = |one: &Takeover| one.version == "2.3.5" && !one.is_ending;
        assert!(of_role.any(is_new), "{role}: {takeovers:?}");
    }
    let history = run["status"]["history"].as_array().unwrap().iter();
    let released: Vec<&str> = history
        .filter(|event| event["reason"] == "SessionReleased")
        .filter_map(|event| event["message"].as_str())
        .collect();
    let history = run["status"]["history"].as_array().unwrap().iter();
    let mut texts = history.filter_map(|event| event["message"].as_str());
    assert!(
        texts
            .any(|text| text.contains("-rootcoord-")
                && text.contains("is a standby: its pod is ended")),
        "{run:#}"
    );
    for what in ["session/proxy-", "session/rootcoord of pod"] {
        assert!(
            released.iter().any(|text| text.contains(what)),
            "{released:?}"
        );
    }
    assert_eq!(run["status"]["pods"], Value::Null);
    let left = expect_success(etcd.etcdctl(["get", "--prefix", "by-dev/meta/session/"]));
    // Index nodes are first in the order, so they are not paused: their old pods may end before the
    // guard has seen them, and it only removes sessions of pods that it has seen.
    let mut left_of_others = left.lines().filter(|line| !line.contains("-indexnode-"));
    assert!(
        left_of_others.all(|line| !line.contains("\"2.3.2\"")),
        "a completed run must leave no session of an old pod: {left}"
    );
}

fn status(roll: &Roll) -> Command {
    let mut command = guard();
    command.args(["status", "-i", RELEASE, "-n", NAMESPACE, "--wait"]);
    command.args(["--format", "json", "--kubeconfig"]);
    command.arg(roll.cluster.kubeconfig());
    command
}

/// Like Argo CD: applies all objects repeatedly, under a separate field manager, until there is no
/// difference.
#[rstest]
#[case::server_side(&["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller"])]
#[case::client_side(&["apply", "--field-manager=argocd-controller"])]
fn a_tool_that_applies_repeatedly_rolls_in_order(#[case] apply: &[&str]) {
    let site = Site::new(Helm::V4, "v2.4.24");
    let watch = site.roll.watch(NAMESPACE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("milvus.yaml");
    std::fs::write(&file, site.rendered("v2.5.27")).unwrap();
    let sync = [apply, &["-f", file.to_str().unwrap()]].concat();
    let syncs = || {
        let (done, text) = site.kubectl(&sync);
        assert!(done, "{text}");
    };
    // No pod starts before two syncs were made while components are held.
    site.quota("create", &["--hard=pods=0"]);
    syncs();
    for _ in 0..2 {
        assert_eq!(site.held(), ["datanode", "mixcoord", "proxy", "querynode"]);
        syncs();
    }
    site.quota("delete", &[]);
    wait_until("the held change is complete", DEADLINE, || {
        syncs();
        let ended = |run: &Value| run["status"]["phase"] == "Succeeded";
        site.roll.runs(GUARD).last().is_some_and(ended)
    });
    assert_order(&watch, "v2.5.27");
    let runs = site.roll.runs(GUARD);
    assert_eq!(
        runs.len(),
        1,
        "later syncs must not start another run: {runs:#?}"
    );
}

#[test]
fn without_any_replica_no_component_moves_and_the_next_replica_resumes() {
    let mut site = Site::new(Helm::V4, "v2.4.24");
    let watch = site.roll.watch(NAMESPACE);
    // No pod starts before the guard is killed, so the guard cannot release another component.
    site.quota("create", &["--hard=pods=0"]);
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &[]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    site.guard().server.kill();
    site.quota("delete", &[]);
    // Released components complete their rollout; held ones stay held.
    wait_until("what was released is complete", DEADLINE, || {
        let deployments = site.roll.deployments(NAMESPACE);
        deployments
            .iter()
            .all(|one| is_held(one) || is_complete(one))
    });
    assert_eq!(site.held(), ["datanode", "mixcoord", "proxy", "querynode"]);
    let moved = watch.order(&image("v2.5.27"));
    let moved: Vec<&str> = moved.iter().map(|component| component.name()).collect();
    assert_eq!(moved, ["indexnode"]);
    let webhook = site.guard();
    let (cluster, folder) = (&webhook.cluster, webhook.folder.path());
    webhook.server = Server::start(cluster, folder, "127.0.0.1:0", &["--hold"]);
    webhook.register();
    site.await_end("Succeeded");
    assert_order(&watch, "v2.5.27");
}

/// As after an expired certificate: API servers do not trust the certificate of the guard.
#[test]
fn with_an_untrusted_certificate_no_component_moves_out_of_order() {
    let mut site = Site::new(Helm::V4, "v2.4.24");
    let watch = site.roll.watch(NAMESPACE);
    let authority = site.guard().folder.path().join("ca.crt");
    let trusted = std::fs::read(&authority).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", BROKEN]);
    assert!(done, "{text}");
    site.await_step("indexnode");
    let held = site.held();
    std::fs::write(&authority, other.cert.pem()).unwrap();
    let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}"#;
    let proxy = format!("deployment/{RELEASE}-milvus-proxy");
    let mut said = String::new();
    wait_until("changes of Milvus are refused", DEADLINE, || {
        let (done, text) = site.kubectl(&["patch", &proxy, "--dry-run=server", "-p", patch]);
        said = text;
        !done && said.contains("failed calling webhook")
    });
    assert_eq!(site.held(), held, "{said}");
    std::fs::write(&authority, trusted).unwrap();
    wait_until("changes of Milvus are judged again", DEADLINE, || {
        let (_, text) = site.kubectl(&["patch", &proxy, "--dry-run=server", "-p", patch]);
        !text.contains("failed calling webhook")
    });
    let correct = "image.all.repository=milvusdb/milvus";
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", correct]);
    assert!(done, "{text}");
    site.await_end("Succeeded");
    assert_order(&watch, "v2.5.27");
}

#[test]
fn a_stuck_hold_is_reported_with_the_command_that_resumes_it() {
    let site = Site {
        roll: Roll::holding(&["--hold-stuck-after", "2s"]),
        chart: Chart::compact("4.1.34"),
    };
    site.roll
        .install(Helm::V4, NAMESPACE, &site.chart, "v2.4.24", &MIXED);
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", BROKEN]);
    assert!(done, "{text}");
    let events = || {
        let (_, text) = site
            .webhook()
            .kubectl(&["get", "events", "-n", GUARD, "-o", "json"]);
        text
    };
    let reported = milvus_guard_testbed::wait_until(DEADLINE, || {
        let text = events();
        text.contains("is stuck") && text.contains("kubectl rollout resume")
    });
    assert!(reported, "{} {}", events(), site.webhook().server.log());
    let output = guard()
        .args([
            "status",
            "-i",
            RELEASE,
            "-n",
            NAMESPACE,
            "--run-namespace",
            GUARD,
        ])
        .arg("--kubeconfig")
        .arg(site.webhook().cluster.kubeconfig())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Release indexnode"), "{text}");
    assert!(site.webhook().metric("milvus_guard_held_deployments") >= 4.0);
    wait_until("it is counted as stuck", DEADLINE, || {
        site.webhook().metric("milvus_guard_stuck_holds") >= 1.0
    });
    // A corrected change is not reported as stuck.
    let correct = "image.all.repository=milvusdb/milvus";
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", correct]);
    assert!(done, "{text}");
    site.await_end("Succeeded");
    wait_until("nothing is stuck", DEADLINE, || {
        site.webhook().metric("milvus_guard_stuck_holds") < 1.0
    });
}

#[test]
fn components_that_need_not_wait_are_not_held() {
    let site = Site::new(Helm::V4, "v2.4.24");
    let set_image = |component: &str, tag: &str| {
        let deployment = format!("deployment/{RELEASE}-milvus-{component}");
        let image = format!("{component}={}", image(tag));
        site.kubectl(&["set", "image", &deployment, &image])
    };
    // The first component in the order.
    assert!(set_image("indexnode", "v2.5.27").0);
    assert_eq!(site.held(), Vec::<String>::new());
    site.roll.await_complete(NAMESPACE);
    // Not the first in the order.
    let (done, text) = set_image("proxy", "v2.5.27");
    assert!(done && text.contains("MG201"), "{text}");
    assert_eq!(site.held(), ["proxy"]);
    // The proxy waits for the components before it, which a user changes one by one.
    for component in ["mixcoord", "querynode", "datanode"] {
        let (done, text) = set_image(component, "v2.5.27");
        assert!(done, "{text}");
        site.await_step(component);
    }
    site.await_end("Succeeded");
    // The deployer accepts the findings.
    let label = "guard.milvus.io/accept=MG201_MG206-r2";
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--labels", label]);
    assert!(done, "{text}");
    assert_eq!(site.held(), Vec::<String>::new());
    site.roll.await_complete(NAMESPACE);
    // A change that keeps the version.
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--set", "querynode.replicas=2"]);
    assert!(done, "{text}");
    assert_eq!(site.held(), Vec::<String>::new());
}

#[test]
fn a_policy_that_enforces_the_order_denies() {
    let site = Site::new(Helm::V4, "v2.4.24");
    site.webhook().cluster.apply(
        "{apiVersion: guard.milvus.io/v1alpha1, kind: UpgradePolicy, metadata: {name: order}, spec: {rules: [{id: MG201, action: Enforce}]}}",
    );
    wait_until("the policy is in force", Duration::from_secs(30), || {
        let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &["--dry-run=client"]);
        assert!(done, "{text}");
        site.webhook()
            .metric("milvus_guard_policies_loaded{kind=\"policy\",state=\"good\"}")
            >= 1.0
    });
    let (done, text) = site.upgrade(Helm::V4, "v2.5.27", &[]);
    assert!(!done && text.contains("MG201"), "{text}");
    let shape: BTreeMap<String, Value> = site
        .roll
        .deployments(NAMESPACE)
        .into_iter()
        .map(|one| {
            (
                one["metadata"]["name"].to_string(),
                one["spec"]["paused"].clone(),
            )
        })
        .collect();
    assert!(shape.values().all(|paused| *paused == Value::Null));
}
