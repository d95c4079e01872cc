//! `migrate` with the guard installed, by its Job and by the Job's account: the webhook allows
//! what the run plans, keeps everybody else out, and believes the evidence afterwards.

use std::{path::PathBuf, process::Command};

use crate::common::{
    Chart, guard,
    jobs::Kubelet,
    run,
    stand::{DEADLINE, NAMESPACE, RELEASE, Running, Stand},
    webhook::GUARD,
};
use milvus_guard_operations::{
    kubernetes_job::spec::rules_at_home, metadata_migration::job::rules_in_release,
};
use milvus_guard_testbed::{Helm, expect_success, wait_until};
use serde_json::{Value, json};

/// The account of the guard's jobs, with the rights that the documentation lists and no other.
fn job_account(stand: &Stand) -> PathBuf {
    for (namespace, rules) in [(NAMESPACE, rules_in_release()), (GUARD, rules_at_home())] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "job", "namespace": namespace}, "rules": rules});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "job", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "job"},
            "subjects": [{"kind": "ServiceAccount", "name": "milvus-guard-job", "namespace": GUARD}],
        });
        stand
            .cluster()
            .apply(&format!("---\n{role}\n---\n{binding}\n"));
    }
    stand
        .cluster()
        .kubeconfig_for_service_account(GUARD, "milvus-guard-job")
}

fn as_job(stand: &Stand, account: &PathBuf, more: &[&str]) -> Command {
    let mut command = guard();
    command
        .args(["migrate", "--yes"])
        .arg("--kubeconfig")
        .arg(account)
        .args([
            "-i", RELEASE, "-n", NAMESPACE, "-s", "2.1.4", "-t", "2.2.16",
        ]);
    command.args([
        "--run-namespace",
        GUARD,
        "-e",
        &stand.etcd.endpoint(),
        "--local",
        "--lock-holds",
        "2s",
        "--backup-dir",
    ]);
    command.arg(stand.folder.path()).args(more);
    command
}

fn upgrade(stand: &Stand, with: Helm, tag: &str) -> (bool, String) {
    let (chart, tag) = (Chart::compact("4.0.31"), format!("image.all.tag={tag}"));
    let output = stand.cluster().helm(
        with,
        [
            "upgrade",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--set",
            &tag,
            "--set",
            "querynode.replicas=2",
        ],
    );
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn kubectl(stand: &Stand, args: &[&str]) -> (bool, String) {
    let output = stand.cluster().kubectl([&["-n", NAMESPACE], args].concat());
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn the_run_passes_and_nobody_else_does() {
    let stand = Stand::guarded(Helm::V4);
    let (before, shape) = (stand.metadata(), stand.shape());
    // Whoever is not the job cannot write a run where the guard believes it.
    let (code, _, stderr) = run(&mut stand.migrate());
    assert!(
        code == 3 && stderr.contains("are written by milvus-guard itself"),
        "{code} {stderr}"
    );
    assert_eq!(stand.shape(), shape);

    let account = job_account(&stand);
    let (denied, text) = upgrade(&stand, Helm::V4, "v2.2.16");
    assert!(!denied && text.contains("MG101"), "{text}");
    // While it is in progress, at a place where it waits.
    let mut running = Running::spawn(as_job(
        &stand,
        &account,
        &["-w", "milvusdb/milvus:never-ready"],
    ));
    let starts = || {
        stand
            .runs(GUARD)
            .last()
            .is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators")
    };
    assert!(wait_until(DEADLINE, || starts()
        || running.0.try_wait().unwrap().is_some()));
    assert!(starts(), "{:#}", stand.runs(GUARD).last().unwrap());
    let (done, text) = upgrade(&stand, Helm::V4, "v2.2.16");
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = kubectl(
        &stand,
        &[
            "scale",
            "deployment/my-release-milvus-proxy",
            "--replicas=1",
        ],
    );
    assert!(!done && text.contains("MG208"), "{text}");
    let _ = Command::new("kill")
        .arg(running.0.id().to_string())
        .status();
    assert!(wait_until(DEADLINE, || running
        .0
        .try_wait()
        .unwrap()
        .is_some()));
    // Back, although the version goes down.
    let (code, stdout, stderr) = run(&mut as_job(&stand, &account, &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((stand.metadata(), stand.shape()), (before, shape));
    let (done, text) = upgrade(&stand, Helm::V4, "v2.2.16");
    assert!(!done && text.contains("was rolled back"), "{text}");

    let (code, stdout, stderr) = run(&mut as_job(&stand, &account, &[]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    // Now the evidence counts, and what goes down is what must not.
    let (done, text) = kubectl(
        &stand,
        &[
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            "proxy=milvusdb/milvus:v2.1.4",
        ],
    );
    assert!(!done && text.contains("MG103"), "{text}");
    let (done, text) = upgrade(&stand, Helm::V4, "v2.2.16");
    assert!(done, "{text}");
}

#[test]
fn the_one_upgrade_by_helm_passes_the_lock() {
    for with in [Helm::V3, Helm::V4] {
        let stand = Stand::guarded(with);
        let account = job_account(&stand);
        let (code, stdout, stderr) = run(&mut as_job(&stand, &account, &["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}{stderr}");
        let (done, text) = kubectl(
            &stand,
            &[
                "scale",
                "deployment/my-release-milvus-rootcoord",
                "--replicas=1",
            ],
        );
        assert!(
            !done && text.contains("MG208"),
            "the old version must not start: {text}"
        );
        let (done, text) = upgrade(&stand, with, "v2.2.13");
        assert!(!done && text.contains("MG208"), "{text}");
        let (done, text) = upgrade(&stand, with, "v2.2.16");
        assert!(done, "{text}");
        let (code, stdout, stderr) = run(&mut as_job(&stand, &account, &["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(
            stand.runs(GUARD).last().unwrap()["status"]["phase"],
            "Succeeded"
        );
    }
}

/// What a person runs: the command makes the Job and follows it.
fn command(stand: &Stand, more: &[&str]) -> Command {
    let mut command = guard();
    command
        .args(["migrate", "--yes"])
        .arg("--kubeconfig")
        .arg(stand.cluster().kubeconfig())
        .args(["-i", RELEASE, "-n", NAMESPACE]);
    command.args([
        "-s",
        "2.1.4",
        "-t",
        "2.2.16",
        "-e",
        &stand.etcd.endpoint(),
        "--lock-holds",
        "2s",
        "--job-image",
        "milvus-guard:test",
    ]);
    command.args(more);
    command
}

fn names(stand: &Stand, namespace: &str, path: &str) -> Vec<String> {
    let list = stand
        .cluster()
        .get_json(&format!("{path}/namespaces/{namespace}/{}", kinds(path)));
    let items = list["items"].as_array().unwrap().iter();
    let mine = items.filter(|one| one["metadata"]["labels"]["guard.milvus.io/run"].is_string());
    mine.map(|one| one["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn kinds(path: &str) -> &'static str {
    match path {
        "/apis/batch/v1" => "jobs",
        "/apis/rbac.authorization.k8s.io/v1" => "roles",
        _ => "persistentvolumeclaims",
    }
}

#[test]
fn a_job_does_it_where_the_guard_lives() {
    let stand = Stand::guarded(Helm::V4);
    let kubelet = Kubelet::start(&stand);
    let (before, shape) = (stand.metadata(), stand.shape());
    let (code, stdout, stderr) = run(&mut command(&stand, &["-d", "true"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("my-release runs 2.2.16") && stdout.contains("pvc/migrate-my-release-"),
        "{stdout}"
    );
    assert!(
        stderr.contains("[6/13] Migrate the metadata")
            && stderr.contains("created Job milvus-guard/migrate-my-release-"),
        "{stderr}"
    );
    let done = stand.runs(GUARD).pop().unwrap();
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["spec"]["requestedBy"], "admin");
    // Rights go, the Job too where that was asked for; the backup stays.
    assert!(wait_until(DEADLINE, || names(
        &stand,
        GUARD,
        "/apis/batch/v1"
    )
    .is_empty()));
    for namespace in [GUARD, NAMESPACE] {
        assert_eq!(
            names(&stand, namespace, "/apis/rbac.authorization.k8s.io/v1"),
            [""; 0]
        );
    }
    assert_eq!(names(&stand, GUARD, "/api/v1").len(), 1);

    let (code, stdout, stderr) = run(&mut command(&stand, &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("Milvus is restored"), "{stdout}");
    assert_eq!((stand.metadata(), stand.shape()), (before, shape));
    drop(kubelet);
}

#[test]
fn the_command_goes_on_with_the_job_that_is_there_and_replaces_a_dead_one() {
    let stand = Stand::start(Helm::V4);
    let kubelet = Kubelet::start(&stand);
    let never = ["-w", "milvusdb/milvus:never-ready"];
    let mut first = Running::spawn(command(&stand, &never));
    let starts = || {
        stand
            .runs(NAMESPACE)
            .last()
            .is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators")
    };
    assert!(wait_until(DEADLINE, || starts()
        || first.0.try_wait().unwrap().is_some()));
    assert!(starts(), "{:?}", kubelet.log());
    // The command that follows may end; the Job continues, and the next command follows it.
    let _ = Command::new("kill").arg(first.0.id().to_string()).status();
    let mut code = None;
    assert!(wait_until(DEADLINE, || {
        code = first.0.try_wait().unwrap();
        code.is_some()
    }));
    assert_eq!(code.unwrap().code(), Some(3));
    assert_eq!(stand.run()["status"]["phase"], "Running");
    let second = Running::spawn(command(&stand, &never));
    // Its process is killed, as by a lost node: the Job makes another pod, which resumes.
    let pods = kubelet.pods();
    kubelet.kill_last();
    assert!(
        wait_until(DEADLINE, || kubelet.pods() > pods),
        "{:?}",
        kubelet.log()
    );
    let again = || stand.run()["status"]["step"]["attempts"].as_i64() >= Some(2);
    assert!(wait_until(DEADLINE, again), "{:#}", stand.run()["status"]);
    drop(second);
    // A rollback ends the Job that is at work, and takes its place.
    let (code, stdout, stderr) = run(&mut command(&stand, &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}{:?}", kubelet.log());
    assert!(
        stand
            .shape()
            .iter()
            .all(|line| line.contains(":v2.1.4 ") && !line.ends_with(" 0")),
        "{:#?}",
        stand.shape()
    );
}

#[test]
fn without_a_way_to_make_the_job_nothing_is_touched() {
    let stand = Stand::start(Helm::V4);
    let shape = stand.shape();
    let mut command = guard();
    command
        .args(["migrate", "--yes"])
        .arg("--kubeconfig")
        .arg(stand.cluster().kubeconfig());
    let (code, _, stderr) = run(command.args([
        "-i", RELEASE, "-n", NAMESPACE, "-s", "2.1.4", "-t", "2.2.16",
    ]));
    assert!(
        code == 1 && stderr.contains("--job-image IMAGE"),
        "{code} {stderr}"
    );
    let nobody = stand.cluster().kubeconfig_for("nobody", &[]);
    let mut command = guard();
    command
        .args(["migrate", "--yes"])
        .arg("--kubeconfig")
        .arg(&nobody)
        .args(["--job-image", "x"]);
    let (code, _, stderr) = run(command.args([
        "-i", RELEASE, "-n", NAMESPACE, "-s", "2.1.4", "-t", "2.2.16",
    ]));
    assert!(
        code == 3 && stderr.contains("Nothing was changed"),
        "{code} {stderr}"
    );
    assert_eq!(stand.shape(), shape);
    let runs: Vec<Value> = stand.runs(NAMESPACE);
    assert!(runs.is_empty());
    expect_success(stand.cluster().kubectl(["get", "namespaces"]));
}
