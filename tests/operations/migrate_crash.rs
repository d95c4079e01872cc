//! `migrate` is killed, disconnected, hit by conflicts and left without an API server: the same
//! command again completes the plan, or `-o rollback` restores the beginning. Without
//! `MILVUS_GUARD_FULL` only a seeded sample of the crash points is tried.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    faults::{Fault, Faults, places},
    guard, is_full,
    migration_cluster::{DEADLINE, MigrationCluster, NAMESPACE, RELEASE, Running},
    run,
};
use milvus_guard_testbed::{Helm, wait_until};

/// Crash points that are tried without `MILVUS_GUARD_FULL`.
const SAMPLE: usize = 3;

struct Crash {
    setup: MigrationCluster,
    faults: Faults,
    before: BTreeMap<Vec<u8>, Vec<u8>>,
    shape: Vec<String>,
    after: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Crash {
    /// A cluster, and its metadata after an undisturbed migration.
    fn start() -> Self {
        let setup = MigrationCluster::start(Helm::V4);
        let faults = Faults::start(setup.cluster().kubeconfig(), setup.folder.path());
        let (before, shape) = (setup.metadata(), setup.shape());
        let mut crash = Self {
            setup,
            faults,
            before,
            shape,
            after: BTreeMap::new(),
        };
        crash.run_to_the_end(&[]);
        crash.after = crash.setup.metadata();
        assert_ne!(crash.after, crash.before);
        crash
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .args(["migrate", "--yes"])
            .arg("--kubeconfig")
            .arg(self.faults.kubeconfig());
        command.args([
            "-i",
            RELEASE,
            "-n",
            NAMESPACE,
            "-s",
            "2.1.4",
            "-t",
            "2.2.16",
            "-e",
            &self.setup.etcd.endpoint(),
            "--local",
        ]);
        command
            .args(["--lock-holds", "1s", "--accept-data-loss", "--backup-dir"])
            .arg(self.setup.folder.path())
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

    /// Everything as before the migration.
    fn is_back(&self, why: &str) {
        assert_eq!(self.setup.shape(), self.shape, "{why}");
        assert!(
            self.setup.metadata() == self.before,
            "{why}: the metadata differs from before the migration"
        );
        assert_eq!(self.setup.owned_by_runs(), [""; 0], "{why}");
    }

    /// The state after an undisturbed migration.
    fn is_there(&self, why: &str) {
        assert!(
            self.setup
                .shape()
                .iter()
                .all(|line| line.contains(":v2.2.16 ") && !line.ends_with(" 0")),
            "{why}: {:#?}",
            self.setup.shape()
        );
        assert!(
            self.setup.metadata() == self.after,
            "{why}: the metadata differs from the plan"
        );
        assert_eq!(self.setup.owned_by_runs(), [""; 0], "{why}");
        assert_eq!(self.setup.run()["status"]["phase"], "Succeeded", "{why}");
    }

    fn roll_back(&self, why: &str) {
        self.faults.set(Fault::None);
        self.run_to_the_end(&["-o", "rollback"]);
        self.is_back(why);
        self.setup.await_running();
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
}

#[test]
fn killed_at_any_write_a_migration_resumes_or_is_rolled_back() {
    let crash = Crash::start();
    crash.roll_back("at the beginning");
    crash.faults.set(Fault::None);
    crash.run_to_the_end(&[]);
    let writes = crash.faults.writes();
    assert!(writes > 50, "{:#?}", crash.faults.log());
    crash.roll_back("after the count");
    for number in places(writes, SAMPLE, 1) {
        let why = crash.kill_at(number, &[], || {
            crash.roll_back("after a run with fewer writes");
        });
        // Alternates between resuming and rolling back.
        if number % 3 == 0
            && !crash.setup.runs(NAMESPACE).is_empty()
            && crash.setup.run()["status"]["phase"] != "RolledBack"
        {
            crash.roll_back(&why);
        } else {
            crash.run_to_the_end(&[]);
            crash.is_there(&why);
            crash.roll_back(&why);
        }
    }
}

#[test]
fn killed_at_any_write_a_rollback_resumes() {
    let crash = Crash::start();
    crash.faults.set(Fault::None);
    crash.run_to_the_end(&["-o", "rollback"]);
    let writes = crash.faults.writes();
    assert!(writes > 50, "{:#?}", crash.faults.log());
    for number in places(writes, SAMPLE, 2) {
        let migrate = || {
            crash.setup.await_running();
            crash.run_to_the_end(&[]);
        };
        migrate();
        let why = crash.kill_at(number, &["-o", "rollback"], migrate);
        crash.roll_back(&why);
    }
}

#[test]
fn a_run_completes_despite_conflicts_and_lost_responses() {
    let crash = Crash::start();
    crash.is_there("without trouble");
    crash.roll_back("without trouble");
    for fault in [Fault::Conflicts, Fault::AnswersLost] {
        crash.faults.set(fault);
        crash.run_to_the_end(&[]);
        crash.is_there(&format!("{fault:?}"));
        crash.faults.set(fault);
        crash.run_to_the_end(&["-o", "rollback"]);
        crash.is_back(&format!("{fault:?}"));
        crash.setup.await_running();
    }
}

#[test]
fn a_run_survives_an_outage_of_the_api_server() {
    let crash = Crash::start();
    crash.roll_back("at the beginning");
    // An outage of 10 s in each phase: while Milvus stops, between, and while it starts.
    let places: &[usize] = if is_full() { &[6, 24, 40, 60] } else { &[24] };
    for &number in places {
        crash.faults.set(Fault::None);
        let mut running = Running::spawn(crash.command(&["--progress", "plain"]));
        assert!(
            wait_until(DEADLINE, || crash.faults.writes() >= number),
            "write {number} was not reached"
        );
        crash.setup.cluster().api_server().kill();
        let away = Instant::now();
        assert!(
            !wait_until(Duration::from_secs(10), || running.has_ended()),
            "it gave up after {:?}",
            away.elapsed()
        );
        crash.setup.cluster().api_server().restart();
        let mut code = None;
        let ended = wait_until(DEADLINE, || {
            code = running.0.try_wait().unwrap();
            code.is_some()
        });
        assert!(
            ended && code.unwrap().success(),
            "{code:?} {:#?}",
            crash.setup.run()["status"]
        );
        crash.is_there(&format!("away at {number}"));
        crash.roll_back(&format!("away at {number}"));
    }
}
