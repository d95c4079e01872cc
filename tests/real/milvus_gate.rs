//! `upgrade` asks a real Milvus whether it serves again what it had loaded. Nodes are played: the
//! components that roll are not the server that is asked, so what happens to it is in the test's
//! hand. The servers are large and downloaded: `make test-milvus`.

use std::{
    io::Read as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    Chart, guard,
    migration_cluster::Running,
    roll::{DEADLINE, RELEASE, Roll, Seen, Watch},
    run,
};
use milvus_guard_core::milvus::Component;
use milvus_guard_testbed::{Helm, Milvus, MilvusStore, MilvusVersion, expect_success, wait_until};
use rstest::rstest;
use serde_json::Value;

const NAMESPACE: &str = "milvus";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milvus/books.py");
/// The password of `root` that Milvus begins with.
const PASSWORD: &str = "Milvus";

struct ServedRelease {
    roll: Roll,
    server: Milvus,
}

impl ServedRelease {
    /// Milvus 2.4.5 as far as Kubernetes knows, and a server with three loaded collections.
    fn start(wheel: MilvusVersion) -> Self {
        Self::start_with(wheel, &[])
    }

    fn start_with(wheel: MilvusVersion, values: &[&str]) -> Self {
        let server = MilvusStore::new().with_authorization().serve(wheel);
        let (roll, chart) = (Roll::start(), Chart::compact("4.1.34"));
        roll.install(
            Helm::V4,
            NAMESPACE,
            &chart,
            "v2.4.5",
            &[&["mixCoordinator.enabled=true"], values].concat(),
        );
        let setup = Self { roll, server };
        setup.script("write");
        setup
    }

    fn script(&self, verb: &str) {
        expect_success(self.server.python(
            Path::new(SCRIPT),
            [verb, &self.server.port().to_string(), PASSWORD],
        ));
    }

    fn upgrade(&self, password: &str, more: &[&str]) -> Command {
        let mut command = self.roll.upgrade(NAMESPACE, "2.4.24");
        command
            .args(["--milvus", &self.server.endpoint()])
            .args(more);
        command
            .env("MILVUS_GUARD_MILVUS_USER", "root")
            .env("MILVUS_GUARD_MILVUS_PASSWORD", password);
        command
    }

    fn status(&self) -> Value {
        self.roll.run(NAMESPACE)["status"].clone()
    }

    fn has_moved(&self, component: &str) -> bool {
        self.roll.tag(NAMESPACE, component) == "v2.4.24"
    }

    /// Goes forward until the query nodes move.
    fn begin(&self) -> Running {
        let mut running = Running::spawn(self.upgrade(PASSWORD, &[]));
        let there = wait_until(DEADLINE, || {
            self.has_moved("querynode") || running.0.try_wait().unwrap().is_some()
        });
        assert!(there, "the query nodes move");
        running
    }

    /// Waits until the run's record says that it waits for this.
    fn await_reason(&self, running: &mut Running, part: &str) {
        let says = || {
            self.status()["step"]["waitingFor"]
                .as_str()
                .is_some_and(|on| on.contains(part))
        };
        let there = wait_until(DEADLINE, || {
            says() || running.0.try_wait().unwrap().is_some()
        });
        assert!(there && says(), "{part}: {:#}", self.status());
        assert_eq!(self.status()["step"]["id"], "update-querynode");
    }

    /// Everything as before, by Helm.
    fn reset(&self) {
        let (chart, tag) = (Chart::compact("4.1.34"), "image.all.tag=v2.4.5");
        let args = [
            "upgrade",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--reuse-values",
            "--set",
            tag,
        ];
        expect_success(self.roll.cluster.helm(Helm::V4, args));
        self.roll.await_complete(NAMESPACE);
    }
}

/// Its end: code, and what it said on both.
fn ended(mut running: Running) -> (Option<i32>, String) {
    assert!(
        wait_until(2 * DEADLINE, || running.0.try_wait().unwrap().is_some()),
        "it ends"
    );
    let mut text = String::new();
    running
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    (running.0.wait().unwrap().code(), text)
}

#[rstest]
#[case(MilvusVersion::V2_2_16)]
#[case(MilvusVersion::V2_3_5)]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_query_node_step_ends_when_milvus_serves_again_what_it_had_loaded(
    #[case] wheel: MilvusVersion,
) {
    let setup = ServedRelease::start(wheel);
    // Kubernetes is content at once. Milvus lists the nodes that served before, and one collection
    // is released.
    let mut first = setup.begin();
    setup.script("release");
    setup.await_reason(
        &mut first,
        "collection books: was loaded before, but is not loaded now",
    );
    let before = setup.status()["loaded"].clone();
    assert_eq!(
        (
            &before["step"],
            before["collections"].as_array().unwrap().len()
        ),
        (&"update-querynode".into(), 3),
        "{before}"
    );
    assert!(
        before["collections"][0]["newest"].as_i64().unwrap() > 1 << 53,
        "a number that is not a double: {before}"
    );
    drop(first);

    // Killed, the same command resumes, and compares Milvus against what was there before the one
    // that was killed.
    let (code, _, stderr) = run(&mut setup.upgrade(PASSWORD, &["--step-timeout", "8s"]));
    let said = stderr.contains(
        "not done within 8 s; it waited for Milvus to serve again what it had loaded: collection \
         books: was",
    );
    assert!(code == 3 && said && !setup.has_moved("proxy"), "{stderr}");
    assert_eq!(setup.status()["loaded"], before);

    // Its query node is replaced, as the step would.
    let mut last = Running::spawn(setup.upgrade(PASSWORD, &[]));
    setup.server.daemon().stop();
    setup.await_reason(&mut last, "did not answer");
    setup.server.daemon().restart();
    setup.await_reason(
        &mut last,
        "collection books: was loaded before, but is not loaded now",
    );
    let (_, status, _) = run(guard()
        .arg("status")
        .arg("--kubeconfig")
        .arg(setup.roll.cluster.kubeconfig())
        .args(["-i", RELEASE, "-n", NAMESPACE]));
    assert!(
        status.contains("Milvus to serve again what it had loaded: collection books"),
        "{status}"
    );
    assert!(!setup.has_moved("proxy"));
    setup.script("load");
    let (code, text) = ended(last);
    eprintln!("{}: {text}", wheel.name());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("Milvus serves all 3 collections that it had loaded"),
        "{text}"
    );
    assert!(
        setup.has_moved("proxy") && setup.status()["loaded"].is_null(),
        "{:#}",
        setup.status()
    );

    // Somebody who may not ask is told so once, and loses no time.
    setup.reset();
    let begin = Instant::now();
    let (code, stdout, stderr) = run(&mut setup.upgrade("wrong-password", &[]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(
        stderr.matches("could not ask Milvus whether").count(),
        1,
        "{stderr}"
    );
    assert!(
        stderr.contains("refused the user or password") && !stderr.contains("wrong-password"),
        "{stderr}"
    );
    eprintln!(
        "{}: without an answer in {:?}",
        wheel.name(),
        begin.elapsed()
    );
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn nodes_that_milvus_lists_although_they_were_replaced_are_not_believed_for_a_minute() {
    let setup = ServedRelease::start(MilvusVersion::V2_3_5);
    let mut running = setup.begin();
    setup.await_reason(
        &mut running,
        "without nodes that are gone, which Milvus still lists",
    );
    let since = Instant::now();
    let (code, text) = ended(running);
    assert!(
        code == Some(0) && text.contains("Milvus serves all 3 collections that it had loaded"),
        "{text}"
    );
    let waited = since.elapsed();
    assert!(
        (Duration::from_secs(40)..Duration::from_secs(90)).contains(&waited),
        "{waited:?}"
    );
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn the_next_old_query_node_ends_only_when_milvus_is_whole_again() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=3"]);
    let watch = setup.roll.watch(NAMESPACE);
    let mut running = setup.begin();
    setup.script("release");
    // One new pod came in addition to the old ones, and Milvus lacks a collection.
    setup.await_reason(
        &mut running,
        "collection books: was loaded before, but is not loaded now",
    );
    let query_nodes = |watch: &Watch| {
        let events = watch.events().into_iter();
        events
            .filter(|event| event.component == Component::QueryNode)
            .collect::<Vec<_>>()
    };
    let spec = setup.roll.deployment(NAMESPACE, "querynode")["spec"].clone();
    assert!(spec["minReadySeconds"].as_i64().unwrap() > 3600, "{spec:#}");
    // Longer than a new pod must be ready before an old one ends.
    let (held, kept) = (Instant::now(), Duration::from_secs(15));
    let ends = |events: &[Seen]| {
        let mut gone = events.iter().filter(|event| event.is_gone);
        gone.any(|event| event.at > held)
    };
    assert!(wait_until(DEADLINE, || {
        assert!(!ends(&query_nodes(&watch)), "Milvus lacks a collection");
        held.elapsed() > kept
    }));
    setup.script("load");
    let (code, text) = ended(running);
    assert_eq!(code, Some(0), "{text}");

    // Each old pod ended after one more new pod had been ready for a while.
    let events = query_nodes(&watch);
    let is_new = |event: &Seen| event.image.ends_with(":v2.4.24");
    let mut ready: Vec<(&str, Instant)> = Vec::new();
    let mut ended = 0;
    for event in &events {
        if is_new(event) && event.is_ready && !ready.iter().any(|(name, _)| *name == event.name) {
            ready.push((&event.name, event.at));
        } else if event.is_gone && !is_new(event) {
            ended += 1;
            assert!(ready.len() >= ended, "{events:#?}");
            let since = event.at.duration_since(ready[ended - 1].1);
            assert!(since >= Duration::from_secs(9), "{since:?}: {events:#?}");
        }
    }
    assert_eq!(ended, 3, "{events:#?}");
    let early = events
        .iter()
        .filter(|event| event.is_gone && event.at < held);
    assert!(early.count() < 3, "the question came after all of them");
    let spec = setup.roll.deployment(NAMESPACE, "querynode")["spec"].clone();
    assert_eq!(spec["minReadySeconds"].as_i64().unwrap_or(0), 0, "{spec:#}");
    assert_eq!(spec["progressDeadlineSeconds"], 600, "{spec:#}");
    assert_eq!(setup.roll.owned_by_runs(NAMESPACE), Vec::<String>::new());
}
