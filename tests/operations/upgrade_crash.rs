//! `upgrade` is killed, disconnected, hit by conflicts and left without an API server or its lock:
//! the same command again completes the plan, or `-o rollback` restores the beginning. Without
//! `MILVUS_GUARD_FULL` only a seeded sample of the crash points is tried.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    Chart,
    faults::{Fault, Faults, places},
    guard, is_full,
    migration_cluster::Running,
    roll::{DEADLINE, RELEASE, Roll},
    run,
};
use milvus_guard_testbed::{Helm, expect_success, wait_until};

const NAMESPACE: &str = "milvus";
/// Crash points that are tried without `MILVUS_GUARD_FULL`.
const SAMPLE: usize = 6;

struct Crash {
    roll: Roll,
    faults: Faults,
    chart: Chart,
    shape: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Crash {
    /// Milvus 2.4.5 with a mixed coordinator; within a minor a rollback is possible until the end.
    fn start() -> Self {
        let (roll, chart, folder) = (
            Roll::start(),
            Chart::compact("4.1.34"),
            tempfile::tempdir().unwrap(),
        );
        roll.install(
            Helm::V4,
            NAMESPACE,
            &chart,
            "v2.4.5",
            &["mixCoordinator.enabled=true"],
        );
        let faults = Faults::start(roll.cluster.kubeconfig(), folder.path());
        let shape = roll.shape(NAMESPACE);
        Self {
            roll,
            faults,
            chart,
            shape,
            _folder: folder,
        }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .args(["upgrade", "--yes"])
            .arg("--kubeconfig")
            .arg(self.faults.kubeconfig());
        command
            .args([
                "-i",
                RELEASE,
                "-n",
                NAMESPACE,
                "-t",
                "2.4.24",
                "--local",
                "--lock-holds",
                "1s",
            ])
            .args(more);
        command
    }

    fn run_to_the_end(&self, more: &[&str]) {
        let (code, stdout, stderr) = run(&mut self.command(more));
        assert_eq!(
            code,
            0,
            "{more:?}: {stdout}\n{stderr}\n{:#?}",
            self.faults.log()
        );
    }

    /// Restores the start by Helm: an upgrade that has completed cannot be rolled back by a run.
    fn reset(&self) {
        self.faults.set(Fault::None);
        self.helm_upgrade("v2.4.5");
    }

    fn helm_upgrade(&self, tag: &str) {
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
        expect_success(self.roll.cluster.helm(Helm::V4, args));
        self.roll.await_complete(NAMESPACE);
    }

    fn is_clean(&self, why: &str) {
        assert_eq!(self.roll.owned_by_runs(NAMESPACE), [""; 0], "{why}");
        assert!(
            !self
                .roll
                .config(NAMESPACE)
                .contains_key("user.yaml.before-milvus-guard"),
            "{why}"
        );
        assert!(
            !self.roll.config(NAMESPACE)["user.yaml"].contains("enableActiveStandby"),
            "{why}"
        );
    }

    fn is_back(&self, why: &str) {
        assert_eq!(self.roll.shape(NAMESPACE), self.shape, "{why}");
        self.is_clean(why);
    }

    fn is_there(&self, why: &str) {
        let expected: Vec<String> = self
            .shape
            .iter()
            .map(|line| line.replace(":v2.4.5 ", ":v2.4.24 "))
            .collect();
        assert_eq!(self.roll.shape(NAMESPACE), expected, "{why}");
        assert_eq!(
            self.roll.run(NAMESPACE)["status"]["phase"],
            "Succeeded",
            "{why}"
        );
        self.is_clean(why);
    }

    /// Kills the command at a write of this number; `again` restores the state that it starts from.
    fn kill_at(&self, number: usize, more: &[&str], again: impl Fn()) -> String {
        let why = format!(
            "{:?}",
            self.faults.kill_at(number, || self.command(more), again)
        );
        eprintln!("{why}");
        why
    }

    /// Runs the command until the component has the new image, and kills it there.
    fn stop_at(&self, component: &str) {
        let mut running = Running::spawn(self.command(&[]));
        let there = wait_until(DEADLINE, || {
            self.roll.tag(NAMESPACE, component) == "v2.4.24" || running.has_ended()
        });
        assert!(there && self.roll.run(NAMESPACE)["status"]["phase"] == "Running");
        drop(running);
    }
}

#[test]
fn killed_at_any_write_an_upgrade_resumes_or_is_rolled_back() {
    let crash = Crash::start();
    crash.faults.set(Fault::None);
    crash.run_to_the_end(&[]);
    let (writes, log) = (crash.faults.writes(), crash.faults.log());
    crash.is_there("without trouble");
    eprintln!("{writes} writes for 5 components");
    assert!((20..500).contains(&writes), "{log:#?}");
    for number in places(writes, SAMPLE, 1) {
        crash.reset();
        let why = crash.kill_at(number, &[], || crash.reset());
        let status = crash.roll.runs(NAMESPACE).pop().unwrap()["status"].clone();
        let under_way = status["phase"] == "Running" && !status["originals"].is_null();
        if number % 3 == 0 && under_way {
            crash.run_to_the_end(&["-o", "rollback"]);
            crash.is_back(&why);
        } else {
            crash.run_to_the_end(&[]);
            crash.is_there(&why);
        }
    }
}

#[test]
fn killed_at_any_write_a_rollback_resumes() {
    let crash = Crash::start();
    crash.stop_at("querynode");
    crash.faults.set(Fault::None);
    crash.run_to_the_end(&["-o", "rollback"]);
    crash.is_back("without trouble");
    let writes = crash.faults.writes();
    // A client that lost the last response repeats the command.
    crash.faults.set(Fault::None);
    let (code, stdout, stderr) = run(&mut crash.command(&["-o", "rollback"]));
    assert!(
        code == 0 && stdout.contains("is already rolled back"),
        "{code}: {stdout}{stderr}"
    );
    assert_eq!(crash.faults.writes(), 0, "{:#?}", crash.faults.log());
    for number in places(writes, SAMPLE, 2) {
        crash.stop_at("querynode");
        let why = crash.kill_at(number, &["-o", "rollback"], || crash.stop_at("querynode"));
        crash.run_to_the_end(&["-o", "rollback"]);
        crash.is_back(&why);
    }
    // A release that was rolled back and then upgraded by Helm cannot be rolled back again.
    crash.helm_upgrade("v2.4.24");
    let (code, stdout, stderr) = run(&mut crash.command(&["-o", "rollback"]));
    assert!(
        code == 1 && stderr.contains("There is no run of milvus/my-release to roll back"),
        "{code}: {stdout}{stderr}"
    );
}

#[test]
fn a_run_completes_despite_conflicts_and_lost_responses() {
    let crash = Crash::start();
    for fault in [Fault::Conflicts, Fault::AnswersLost] {
        crash.faults.set(fault);
        crash.run_to_the_end(&[]);
        crash.is_there(&format!("{fault:?}"));
        crash.reset();
        crash.stop_at("mixcoord");
        crash.faults.set(fault);
        crash.run_to_the_end(&["-o", "rollback"]);
        crash.is_back(&format!("{fault:?}"));
    }
}

#[test]
fn a_run_survives_an_outage_of_the_api_server_and_stops_without_its_lock() {
    let crash = Crash::start();
    let full = is_full();
    let (away, components) = if full {
        (
            60,
            &["indexnode", "mixcoord", "querynode", "datanode", "proxy"][..],
        )
    } else {
        (10, &["mixcoord"][..])
    };
    for component in components {
        let mut running = Running::spawn(crash.command(&[]));
        assert!(wait_until(DEADLINE, || crash
            .roll
            .tag(NAMESPACE, component)
            == "v2.4.24"));
        crash.roll.cluster.api_server().kill();
        let since = Instant::now();
        let gave_up = wait_until(Duration::from_secs(away), || running.has_ended());
        assert!(!gave_up, "it gave up after {:?}", since.elapsed());
        crash.roll.cluster.api_server().restart();
        assert!(
            running.succeeds(),
            "{:#}",
            crash.roll.run(NAMESPACE)["status"]
        );
        crash.is_there(component);
        crash.reset();
    }
    // Another client takes the lock away.
    let mut running = Running::spawn(crash.command(&[]));
    assert!(wait_until(DEADLINE, || crash
        .roll
        .tag(NAMESPACE, "mixcoord")
        == "v2.4.24"));
    let leases = crash.roll.cluster.get_json(&format!(
        "/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    ));
    let name = leases["items"][0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let patch = r#"{"spec":{"holderIdentity":"another-client","leaseTransitions":99}}"#;
    expect_success(crash.roll.cluster.kubectl([
        "-n",
        NAMESPACE,
        "patch",
        "lease",
        &name,
        "--type=merge",
        "-p",
        patch,
    ]));
    assert!(wait_until(DEADLINE, || running.has_ended()));
    let code = running.0.wait().unwrap().code();
    // A run that completed before it noticed is not a failure.
    assert!(
        code == Some(3) || crash.roll.run(NAMESPACE)["status"]["phase"] == "Succeeded",
        "{code:?}"
    );
    expect_success(
        crash
            .roll
            .cluster
            .kubectl(["-n", NAMESPACE, "delete", "lease", &name]),
    );
    crash.run_to_the_end(&[]);
    assert_eq!(crash.roll.tag(NAMESPACE, "proxy"), "v2.4.24");
    crash.is_clean("after the lost lock");
}
