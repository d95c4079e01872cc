//! `migrate` on a real control plane with a real etcd, in this process's place (`--local`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

mod common;

use common::{
    Chart, guard, run,
    stand::{DEADLINE, NAMESPACE, RELEASE, Running, Stand},
};
use milvus_guard_testbed::{Helm, expect_success, wait_until};
use serde_json::{Value, json};

/// Migrates, and expects to reach the plan.
fn migrated(stand: &Stand) {
    let (code, stdout, stderr) = run(&mut stand.migrate());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(stdout.contains("my-release runs 2.2.16: the metadata is that of 2.2, verified."), "{stdout}");
    assert!(stdout.contains("helm upgrade my-release zilliztech/milvus -n milvus --version 4.0."), "{stdout}");
}

/// Whether a line of the shape is of this version and has the replicas that were installed.
fn at(version: &str) -> impl Fn(&String) -> bool {
    let image = format!(" milvusdb/milvus:{version} ");
    move |line: &String| line.contains(&image) && line.ends_with(if line.contains("querynode") { " 2" } else { " 1" })
}

#[test]
fn a_cluster_is_migrated_rolled_back_and_migrated_again() {
    for with in [Helm::V3, Helm::V4] {
        let stand = Stand::start(with);
        let (before, shape) = (stand.metadata(), stand.shape());
        migrated(&stand);
        assert!(stand.shape().iter().all(at("v2.2.16")), "{:#?}", stand.shape());
        assert_ne!(stand.metadata(), before);
        assert_eq!(stand.owned_by_runs(), [""; 0]);
        let run_object = stand.run();
        let status = &run_object["status"];
        assert_eq!(status["phase"], "Succeeded", "{status:#}");
        assert_eq!(status["conditions"][0]["type"], "MetadataMigrated");
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(status["evidence"]["endpoints"], json!(["my-release-etcd:2379"]));
        assert_eq!(status["evidence"]["workloadUids"].as_array().unwrap().len(), 8);

        // What is done already is not done again.
        let metadata = stand.metadata();
        let (code, stdout, stderr) = run(&mut stand.migrate());
        assert!(code == 0 && stdout.contains("Nothing to do: run milvus/migrate-my-release-"), "{code} {stdout}{stderr}");
        assert!(stand.metadata() == metadata && stand.runs(NAMESPACE).len() == 1);

        let (code, stdout, stderr) = run(stand.migrate().args(["-o", "rollback", "--accept-data-loss"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(stdout.contains("Everything is as it was"), "{stdout}");
        assert_eq!((stand.metadata(), stand.shape()), (before.clone(), shape));
        assert_eq!(stand.owned_by_runs(), [""; 0]);
        let rolled_back = stand.run();
        assert_eq!(rolled_back["status"]["phase"], "RolledBack");
        assert_eq!(rolled_back["status"]["conditions"][0]["status"], "False");

        migrated(&stand);
        assert_eq!(stand.runs(NAMESPACE).len(), 2);
        // Nothing of what the chart renders has another owner, so Helm's own apply meets no conflict.
        let (chart, tag) = (Chart::compact("4.0.31"), "image.all.tag=v2.2.16");
        expect_success(
            stand
                .cluster()
                .helm(with, ["upgrade", RELEASE, chart.path(), "-n", NAMESPACE, "--set", tag, "--set", "querynode.replicas=2"]),
        );
        assert!(stand.shape().iter().all(at("v2.2.16")), "{:#?}", stand.shape());
    }
}

#[test]
fn helm_may_start_the_new_version_and_nobody_else() {
    for with in [Helm::V3, Helm::V4] {
        let stand = Stand::start(with);
        let (code, stdout, stderr) = run(stand.migrate().args(["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(stdout.contains("Milvus stands still until Helm starts it. Run: helm upgrade my-release"), "{stdout}");
        assert!(stand.shape().iter().all(|line| line.ends_with(":v2.1.4 0")), "{:#?}", stand.shape());
        let status = stand.run()["status"].clone();
        assert_eq!((&status["phase"], &status["step"]["id"]), (&json!("Paused"), &json!("start-by-helm")));
        assert_eq!(stand.owned_by_runs(), [""; 0]);
        // As long as Helm has not come, the same command says the same.
        let (code, again, _) = run(stand.migrate().args(["--start", "helm"]));
        assert_eq!((code, again), (0, stdout));
        let (code, text, _) = run(&mut stand.status(&[]));
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("phase      Paused") && text.contains("lock       free"), "{text}");

        let (chart, tag) = (Chart::compact("4.0.31"), "image.all.tag=v2.2.16");
        let upgrade = ["upgrade", RELEASE, chart.path(), "-n", NAMESPACE, "--set", tag, "--set", "querynode.replicas=2"];
        expect_success(stand.cluster().helm(with, upgrade));
        let (code, stdout, stderr) = run(stand.migrate().args(["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(stdout.starts_with("my-release runs 2.2.16") && !stdout.contains("Helm does not know"), "{stdout}");
        assert_eq!(stand.run()["status"]["phase"], "Succeeded");
        assert_eq!(run(&mut stand.status(&[])).0, 0);
    }
}

#[test]
fn a_run_is_ended_only_where_the_metadata_is_whole() {
    let stand = Stand::start(Helm::V4);
    let (before, shape) = (stand.metadata(), stand.shape());
    // The new version never gets ready, so the run stops while it starts.
    let never = ["-w", "milvusdb/milvus:never-ready", "--step-timeout", "5s"];
    let (code, _, stderr) = run(stand.migrate().args(never));
    assert_eq!(code, 3, "{stderr}");
    for part in [
        "Stopped at step start-coordinators: it was not done within 5 s; it waited for my-release-milvus-rootcoord: 0 of 1 pods available",
        "The metadata is that of 2.2, verified; 2.1 must not start on it.",
        "-o rollback",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
    let (code, text, _) = run(&mut stand.status(&["--format", "json"]));
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["phase"], &status["step"]["id"]), (3, &json!("Stopped"), &json!("start-coordinators")));
    // Other flags are another plan.
    let (code, _, stderr) = run(stand.migrate().args(["-w", "milvusdb/milvus:v2.2.16"]));
    assert!(code == 1 && stderr.contains("is under way with another plan"), "{code} {stderr}");
    let (code, stdout, stderr) = run(stand.migrate().args(["-o", "abort"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("was ended where it stood. The metadata is that of 2.2.16, verified"), "{stdout}");
    assert_eq!(stand.run()["status"]["phase"], "Aborted");
    // A run that was ended can still be taken back.
    let (code, stdout, stderr) = run(stand.migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((stand.metadata(), stand.shape()), (before, shape));
    let (code, _, stderr) = run(stand.migrate().args(["-o", "rollback"]));
    assert!(code == 1 && stderr.contains("There is no run of milvus/my-release to take back"), "{stderr}");
}

#[test]
fn a_failure_is_taken_back_where_that_was_asked_for() {
    let stand = Stand::start(Helm::V4);
    let (before, shape) = (stand.metadata(), stand.shape());
    let never = ["-w", "milvusdb/milvus:never-ready", "--step-timeout", "5s", "--on-failure", "rollback"];
    let (code, _, stderr) = run(stand.migrate().args(never));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("The run was rolled back: Everything is as it was"), "{stderr}");
    assert_eq!((stand.metadata(), stand.shape()), (before, shape));
    assert_eq!(run(&mut stand.status(&[])).0, 4);
}

#[test]
fn evidence_of_a_migration_by_hand_is_recorded() {
    let stand = Stand::start(Helm::V4);
    let (code, _, stderr) = run(stand.migrate().arg("--record-only"));
    assert!(code == 1 && stderr.contains("still runs milvusdb/milvus:v2.1.4"), "{stderr}");
    expect_success(stand.cluster().kubectl(["-n", NAMESPACE, "scale", "deployment", "--all", "--replicas=0"]));
    assert!(wait_until(DEADLINE, || stand.sessions().is_empty()));
    let (code, _, stderr) = run(stand.migrate().arg("--record-only"));
    assert!(code == 1 && stderr.contains("is not that of 2.2"), "{stderr}");
    let mut by_hand = guard();
    by_hand.args(["meta", "migrate", "-s", "2.1.4", "-t", "2.2.16", "--yes", "--etcd", &stand.etcd.endpoint()]);
    let (code, _, stderr) = run(by_hand.arg("--backup").arg(stand.folder.path().join("by-hand")));
    assert_eq!(code, 0, "{stderr}");
    let metadata = stand.metadata();
    let (code, stdout, stderr) = run(stand.migrate().arg("--record-only"));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("the evidence is recorded"), "{stdout}");
    assert_eq!(stand.metadata(), metadata);
    let run_object = stand.run();
    assert_eq!(run_object["status"]["conditions"][0]["status"], "True");
    assert_eq!(run_object["status"]["evidence"]["workloadUids"].as_array().unwrap().len(), 8);
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    let stand = Stand::start(Helm::V4);
    let mut first = stand.migrate();
    first.args(["-w", "milvusdb/milvus:never-ready"]);
    let mut first = Running::spawn(first);
    let starts = || stand.runs(NAMESPACE).last().is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators");
    assert!(wait_until(DEADLINE, starts), "{:#}", stand.run());
    let (code, _, stderr) = run(stand.migrate().args(["-w", "milvusdb/milvus:never-ready"]));
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("Locked: run milvus/migrate-my-release-") && stderr.contains(" since "), "{stderr}");
    let waits = || run(&mut stand.status(&[])).1.contains("waits for  my-release-milvus-rootcoord: 0 of 1 pods available");
    assert!(wait_until(DEADLINE, waits), "{}", run(&mut stand.status(&[])).1);
    // Asked to end, it stops cleanly, and its lock is free at once.
    let _ = std::process::Command::new("kill").arg(first.0.id().to_string()).status();
    let mut code = None;
    assert!(wait_until(DEADLINE, || {
        code = first.0.try_wait().unwrap();
        code.is_some()
    }));
    assert_eq!(code.unwrap().code(), Some(3));
    assert_eq!(stand.run()["status"]["phase"], "Stopped");
    let (code, stdout, stderr) = run(stand.migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
}

/// Helm 4 does complain about a field of another owner, so that its silence elsewhere says something.
#[test]
fn a_field_of_another_owner_is_a_conflict() {
    let stand = Stand::start(Helm::V4);
    let proxy = ["-n", NAMESPACE, "scale", "deployment", "my-release-milvus-proxy", "--replicas=1"];
    expect_success(stand.cluster().kubectl(proxy));
    let chart = Chart::compact("3.2.18");
    let output =
        stand.cluster().helm(Helm::V4, ["upgrade", RELEASE, chart.path(), "-n", NAMESPACE, "--set", "querynode.replicas=2"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("conflict"), "{output:?}");
}
