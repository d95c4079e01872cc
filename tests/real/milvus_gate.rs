//! `upgrade` asks a real Milvus whether it serves all collections that it had loaded. Nodes are
//! simulated: the pods that roll are not the server that is asked, so the test controls what
//! happens to the server. The servers are large downloads: `make test-milvus`.

use std::{
    io::Read as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    Chart, guard,
    management::{Call, Management},
    metadata::signal,
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
/// The initial password of `root`.
const PASSWORD: &str = "Milvus";

struct ServedRelease {
    roll: Roll,
    server: Milvus,
}

impl ServedRelease {
    /// Kubernetes has a Milvus 2.4.5; the server of another version has three loaded collections.
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

    /// Starts an upgrade, and waits until the query nodes move.
    fn begin(&self) -> Running {
        self.begin_with(&[])
    }

    fn begin_with(&self, more: &[&str]) -> Running {
        let mut running = Running::spawn(self.upgrade(PASSWORD, more));
        let there = wait_until(DEADLINE, || {
            self.has_moved("querynode") || running.has_ended()
        });
        assert!(there, "the query nodes must move");
        running
    }

    /// Waits until the run's record shows that it waits for this.
    fn await_reason(&self, running: &mut Running, part: &str) {
        self.await_reason_of(running, "Running", part);
    }

    /// The same, for a run in this phase.
    fn await_reason_of(&self, running: &mut Running, phase: &str, part: &str) {
        let says = || {
            let status = self.status();
            let reason = status["step"]["waitingFor"].as_str();
            status["phase"] == phase && reason.is_some_and(|on| on.contains(part))
        };
        let there = wait_until(DEADLINE, || says() || running.has_ended());
        assert!(there && says(), "{part}: {:#}", self.status());
        assert_eq!(self.status()["step"]["id"], "update-querynode");
    }

    /// Restores the state before the upgrade by Helm.
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

/// Waits for the end: exit code, and stdout and stderr together.
fn ended(mut running: Running) -> (Option<i32>, String) {
    assert!(
        wait_until(2 * DEADLINE, || running.has_ended()),
        "the command must end"
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
fn a_query_node_step_ends_when_milvus_serves_all_that_it_had_loaded(#[case] wheel: MilvusVersion) {
    let setup = ServedRelease::start(wheel);
    // Kubernetes reports the rollout complete at once. Milvus lists the nodes that served before,
    // and one collection is released.
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

    // After a kill, the same command resumes, and compares Milvus with the state that the killed
    // command recorded.
    let (code, _, stderr) = run(&mut setup.upgrade(PASSWORD, &["--step-timeout", "8s"]));
    let said = stderr.contains(
        "not done within 8 s; it waited for Milvus to serve again what it had loaded: collection \
         books: was",
    );
    assert!(code == 3 && said && !setup.has_moved("proxy"), "{stderr}");
    assert_eq!(setup.status()["loaded"], before);

    // The query node of the server is replaced, as the step would do.
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

    // A run without access to Milvus warns once, and loses no time.
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
fn replaced_nodes_that_milvus_still_lists_are_ignored_for_a_minute() {
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
fn the_next_query_node_ends_only_when_all_collections_are_served() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=3"]);
    let watch = setup.roll.watch(NAMESPACE);
    let mut running = setup.begin();
    setup.script("release");
    // One new pod was added to the old ones, and Milvus has released a collection.
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
    // Longer than a new pod must be ready before an old pod ends.
    let (held, kept) = (Instant::now(), Duration::from_secs(15));
    let ends = |events: &[Seen]| {
        let mut gone = events.iter().filter(|event| event.is_gone);
        gone.any(|event| event.at > held)
    };
    assert!(wait_until(DEADLINE, || {
        assert!(
            !ends(&query_nodes(&watch)),
            "no query node may end while a collection is released"
        );
        held.elapsed() > kept
    }));
    setup.script("load");
    let (code, text) = ended(running);
    assert_eq!(code, Some(0), "{text}");

    // Each old pod ended after another new pod had been ready for at least 9 s.
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
    assert!(
        early.count() < 3,
        "at least one old pod must end after the wait"
    );
    let spec = setup.roll.deployment(NAMESPACE, "querynode")["spec"].clone();
    assert_eq!(spec["minReadySeconds"].as_i64().unwrap_or(0), 0, "{spec:#}");
    assert_eq!(spec["progressDeadlineSeconds"], 600, "{spec:#}");
    assert_eq!(setup.roll.owned_by_runs(NAMESPACE), Vec::<String>::new());
}

/// Waits longer than a new pod must be ready before an old pod ends. Fails if a query node ends
/// meanwhile.
fn no_query_node_ends(watch: &Watch) {
    let (held, kept) = (Instant::now(), Duration::from_secs(15));
    assert!(wait_until(DEADLINE, || {
        let ends = |event: &Seen| {
            event.component == Component::QueryNode && event.is_gone && event.at > held
        };
        assert!(
            !watch.events().iter().any(ends),
            "no query node may end while searches are incomplete"
        );
        held.elapsed() > kept
    }));
}

#[rstest]
#[case(MilvusVersion::V2_2_16)]
#[case(MilvusVersion::V2_3_5)]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn the_next_query_node_ends_only_when_searches_are_complete(#[case] wheel: MilvusVersion) {
    let setup = ServedRelease::start_with(wheel, &["queryNode.replicas=2"]);
    let watch = setup.roll.watch(NAMESPACE);
    let mut running = setup.begin_with(&["--probe-collection", "books"]);
    let before = setup.status()["searches"].clone();
    assert_eq!(
        (
            &before[0]["collection"],
            &before[0]["chosenBy"],
            &before[0]["found"]
        ),
        (&"books".into(), &"User".into(), &100.into()),
        "{before}"
    );
    // Milvus serves all segments of the collection, and a search finds fewer rows.
    setup.script("thin");
    setup.await_reason(
        &mut running,
        "searches to find again what they found before: a search in collection books finds 50 of \
         100 rows",
    );
    no_query_node_ends(&watch);
    setup.script("fill");
    let (code, text) = ended(running);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("searches in books must find after each step what they find now")
            && text.contains("searches find again what they found before, "),
        "{text}"
    );
    assert!(setup.status()["searches"].is_null(), "{:#}", setup.status());
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn searches_that_stay_incomplete_stop_the_run_before_the_next_query_node_ends() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=2"]);
    let unknown = setup.upgrade(PASSWORD, &["--probe-collection", "shop/none"]);
    let (code, text) = ended(Running::spawn(unknown));
    assert!(
        code == Some(1) && text.contains("collection shop/none cannot be searched"),
        "{text}"
    );
    let watch = setup.roll.watch(NAMESPACE);
    let running = setup.begin_with(&["--probe-collection", "books"]);
    setup.script("thin");
    let (code, text) = ended(running);
    let told = "searches are still not complete 120 s after the first that was not: a search in \
                collection books finds 50 of 100 rows";
    assert!(code == Some(3) && text.contains(told), "{text}");
    assert!(
        text.contains("resume with --probe-collection none")
            && text.contains("--probe-collection books"),
        "{text}"
    );
    let gone = |event: &Seen| event.component == Component::QueryNode && event.is_gone;
    assert!(!watch.events().iter().any(gone), "{:#?}", watch.events());
    // The test deleted the rows.
    let resumed = setup.upgrade(PASSWORD, &["--probe-collection", "none"]);
    let (code, text) = ended(Running::spawn(resumed));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_query_node_is_emptied_before_it_ends_if_milvus_supports_that() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=3"]);
    let played = Management::start(&setup.roll, NAMESPACE, true);
    let watch = setup.roll.watch(NAMESPACE);
    let (code, text) = ended(Running::spawn(setup.upgrade(PASSWORD, &[])));
    assert_eq!(code, Some(0), "{text}");
    let events = watch.events();
    let gone = events
        .iter()
        .filter(|event| event.component == Component::QueryNode && event.is_gone);
    let mut old = 0;
    for event in gone.filter(|event| event.image.ends_with(":v2.4.5")) {
        old += 1;
        let calls: Vec<Call> = played
            .calls()
            .into_iter()
            .filter(|call| call.pod == event.name)
            .collect();
        let paths: Vec<&str> = calls.iter().map(|call| &*call.path).collect();
        assert_eq!(
            paths[..4],
            [
                "node/suspend",
                "transfer/segment",
                "transfer/channel",
                "distribution/get"
            ],
            "{calls:#?}"
        );
        assert!(!paths.contains(&"node/resume"), "{calls:#?}");
        assert!(
            calls[1..3]
                .iter()
                .all(|call| call.form.ends_with("&copy_mode=false")),
            "{calls:#?}"
        );
        let last = calls.last().unwrap();
        assert!(last.left == 0 && last.at < event.at, "{event:?} {calls:#?}");
    }
    assert_eq!(old, 3, "{events:#?}");
    // Each old node was suspended once, and no new node.
    let suspended: Vec<Call> = played
        .calls()
        .into_iter()
        .filter(|call| call.path == "node/suspend")
        .collect();
    assert_eq!(suspended.len(), 3, "{suspended:#?}");
    assert_eq!(text.matches(" was emptied in ").count(), 3, "{text}");
    let status = setup.status();
    assert!(
        status["suspended"].is_null() && !status["originals"].to_string().contains("\"Pod\""),
        "{status:#}"
    );
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_query_node_that_cannot_be_emptied_is_resumed() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=1"]);
    let played = Management::start(&setup.roll, NAMESPACE, false);
    let count = |path: &str| {
        let calls = played.calls();
        calls.iter().filter(|call| call.path == path).count()
    };
    // The run is stopped by a signal while it waits.
    let mut running = setup.begin();
    setup.await_reason(
        &mut running,
        "to be empty: it still has 2 channels and 4 segments",
    );
    signal(&running.0, "TERM");
    let (code, text) = ended(running);
    assert_eq!(code, Some(3), "{text}");
    assert_eq!(count("node/resume"), 1, "{:#?}", played.calls());
    assert_eq!(
        setup.status()["suspended"].as_array().map(Vec::len),
        Some(1),
        "{:#}",
        setup.status()
    );
    // Nothing moves away for a minute: the node ends as usual.
    let (code, text) = ended(Running::spawn(setup.upgrade(PASSWORD, &[])));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("could not be emptied before it ends: it still has 2 channels"),
        "{text}"
    );
    assert_eq!((count("node/suspend"), count("node/resume")), (2, 2));
    assert!(count("transfer/segment") >= 3, "asked again");
    assert!(
        setup.status()["suspended"].is_null(),
        "{:#}",
        setup.status()
    );
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_rollback_waits_for_all_collections_before_the_next_query_node_ends_but_only_once() {
    let setup = ServedRelease::start_with(MilvusVersion::V2_3_5, &["queryNode.replicas=3"]);
    let mut running = setup.begin();
    // The first new pod is ready, and the run ends there.
    setup.script("release");
    setup.await_reason(&mut running, "collection books: was loaded before");
    drop(running);
    let watch = setup.roll.watch(NAMESPACE);
    let mut running = Running::spawn(setup.upgrade(PASSWORD, &["-o", "rollback"]));
    setup.await_reason_of(
        &mut running,
        "RollingBack",
        "collection books: was loaded before",
    );
    let ended_new = || {
        let events = watch.events();
        let new = |event: &Seen| {
            event.component == Component::QueryNode
                && event.is_gone
                && event.image.ends_with(":v2.4.24")
        };
        events.iter().any(new)
    };
    // Without the rollback, Kubernetes would end a new pod in this time.
    let is_early = wait_until(Duration::from_secs(10), ended_new);
    assert!(!is_early, "{:#?}", watch.events());
    setup.script("load");
    let (code, text) = ended(running);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Milvus serves all 3 collections"), "{text}");
    let spec = setup.roll.deployment(NAMESPACE, "querynode")["spec"].clone();
    assert_eq!(spec["minReadySeconds"].as_i64().unwrap_or(0), 0, "{spec:#}");
    assert_eq!(spec["progressDeadlineSeconds"], 600, "{spec:#}");
    assert!(ended_new(), "{:#?}", watch.events());
    assert_eq!(setup.roll.owned_by_runs(NAMESPACE), Vec::<String>::new());

    // The rollback waits only once for a collection that stays released.
    setup.reset();
    let mut running = setup.begin();
    setup.script("release");
    setup.await_reason(&mut running, "collection books: was loaded before");
    drop(running);
    let begin = Instant::now();
    let (code, text) = ended(Running::spawn(setup.upgrade(PASSWORD, &["-o", "rollback"])));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("go back without a pause between them")
            && begin.elapsed() < Duration::from_secs(300),
        "{:?}: {text}",
        begin.elapsed()
    );
    assert!(!setup.has_moved("querynode"));
}
