//! `migrate` with the guard installed, by its Job and by the Job's account: the webhook allows what
//! the run plans, denies other clients, and trusts the evidence afterwards.

use std::{path::PathBuf, process::Command};

use crate::common::{
    Chart, guard,
    jobs::Kubelet,
    migration_cluster::{DEADLINE, MigrationCluster, NAMESPACE, RELEASE, Running},
    run,
    webhook::GUARD,
};
use milvus_guard_operations::{
    kubernetes_job::spec::rules_at_home, metadata_migration::job::rules_in_release,
};
use milvus_guard_testbed::{Helm, expect_success, wait_until};
use serde_json::{Value, json};

/// The account of the guard's jobs, with only the rights that the documentation lists.
fn job_account(setup: &MigrationCluster) -> PathBuf {
    for (namespace, rules) in [(NAMESPACE, rules_in_release()), (GUARD, rules_at_home())] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "job", "namespace": namespace}, "rules": rules});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "job", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "job"},
            "subjects": [{"kind": "ServiceAccount", "name": "milvus-guard-job", "namespace": GUARD}],
        });
        setup
            .cluster()
            .apply(&format!("---\n{role}\n---\n{binding}\n"));
    }
    setup
        .cluster()
        .kubeconfig_for_service_account(GUARD, "milvus-guard-job")
}

fn as_job(setup: &MigrationCluster, account: &PathBuf, more: &[&str]) -> Command {
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
        &setup.etcd.endpoint(),
        "--local",
        "--lock-holds",
        "2s",
        "--backup-dir",
    ]);
    command.arg(setup.folder.path()).args(more);
    command
}

fn upgrade(setup: &MigrationCluster, with: Helm, tag: &str) -> (bool, String) {
    let (chart, tag) = (Chart::compact("4.0.31"), format!("image.all.tag={tag}"));
    let output = setup.cluster().helm(
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

fn kubectl(setup: &MigrationCluster, args: &[&str]) -> (bool, String) {
    let output = setup.cluster().kubectl([&["-n", NAMESPACE], args].concat());
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn the_guard_allows_the_run_and_denies_everyone_else() {
    let setup = MigrationCluster::guarded(Helm::V4);
    let (before, shape) = (setup.metadata(), setup.shape());
    // An account other than the Job's cannot write a run in the namespace where the guard trusts
    // runs.
    let (code, _, stderr) = run(&mut setup.migrate());
    assert!(
        code == 3 && stderr.contains("are written by milvus-guard itself"),
        "{code} {stderr}"
    );
    assert_eq!(setup.shape(), shape);

    let account = job_account(&setup);
    let (denied, text) = upgrade(&setup, Helm::V4, "v2.2.16");
    assert!(!denied && text.contains("MG101"), "{text}");
    // While the run is in progress, at a step where it waits.
    let mut running = Running::spawn(as_job(
        &setup,
        &account,
        &["-w", "milvusdb/milvus:never-ready"],
    ));
    let starts = || {
        setup
            .runs(GUARD)
            .last()
            .is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators")
    };
    assert!(wait_until(DEADLINE, || starts() || running.has_ended()));
    assert!(starts(), "{:#}", setup.runs(GUARD).last().unwrap());
    let (done, text) = upgrade(&setup, Helm::V4, "v2.2.16");
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = kubectl(
        &setup,
        &[
            "scale",
            "deployment/my-release-milvus-proxy",
            "--replicas=1",
        ],
    );
    assert!(!done && text.contains("MG208"), "{text}");
    running.terminate();
    assert!(wait_until(DEADLINE, || running.has_ended()));
    // Rollback, although the version becomes older.
    let (code, stdout, stderr) = run(&mut as_job(&setup, &account, &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((setup.metadata(), setup.shape()), (before, shape));
    let (done, text) = upgrade(&setup, Helm::V4, "v2.2.16");
    assert!(!done && text.contains("was rolled back"), "{text}");

    let (code, stdout, stderr) = run(&mut as_job(&setup, &account, &[]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    // Now the evidence counts, and the guard denies the version of 2.1.
    let (done, text) = kubectl(
        &setup,
        &[
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            "proxy=milvusdb/milvus:v2.1.4",
        ],
    );
    assert!(!done && text.contains("MG103"), "{text}");
    let (done, text) = upgrade(&setup, Helm::V4, "v2.2.16");
    assert!(done, "{text}");
}

#[test]
fn the_planned_upgrade_by_helm_is_allowed_during_the_run() {
    for with in [Helm::V3, Helm::V4] {
        let setup = MigrationCluster::guarded(with);
        let account = job_account(&setup);
        let (code, stdout, stderr) = run(&mut as_job(&setup, &account, &["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}{stderr}");
        let (done, text) = kubectl(
            &setup,
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
        let (done, text) = upgrade(&setup, with, "v2.2.13");
        assert!(!done && text.contains("MG208"), "{text}");
        let (done, text) = upgrade(&setup, with, "v2.2.16");
        assert!(done, "{text}");
        let (code, stdout, stderr) = run(&mut as_job(&setup, &account, &["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(
            setup.runs(GUARD).last().unwrap()["status"]["phase"],
            "Succeeded"
        );
    }
}

fn names(setup: &MigrationCluster, namespace: &str, path: &str) -> Vec<String> {
    let list = setup
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
fn a_job_migrates_in_the_namespace_of_the_guard() {
    let setup = MigrationCluster::guarded(Helm::V4);
    let kubelet = Kubelet::start(&setup);
    let (before, shape) = (setup.metadata(), setup.shape());
    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&["-d", "true"]));
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
    let done = setup.runs(GUARD).pop().unwrap();
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["spec"]["requestedBy"], "admin");
    // The rights are deleted, the Job too if requested; the backup stays.
    assert!(wait_until(DEADLINE, || names(
        &setup,
        GUARD,
        "/apis/batch/v1"
    )
    .is_empty()));
    for namespace in [GUARD, NAMESPACE] {
        assert_eq!(
            names(&setup, namespace, "/apis/rbac.authorization.k8s.io/v1"),
            [""; 0]
        );
    }
    assert_eq!(names(&setup, GUARD, "/api/v1").len(), 1);

    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("Milvus is restored"), "{stdout}");
    assert_eq!((setup.metadata(), setup.shape()), (before, shape));
    drop(kubelet);
}

#[test]
fn the_command_follows_an_existing_job_and_replaces_a_failed_one() {
    let setup = MigrationCluster::start(Helm::V4);
    let kubelet = Kubelet::start(&setup);
    let never = ["-w", "milvusdb/milvus:never-ready"];
    let mut first = Running::spawn(setup.migrate_in_job(&never));
    let starts = || {
        setup
            .runs(NAMESPACE)
            .last()
            .is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators")
    };
    assert!(wait_until(DEADLINE, || starts() || first.has_ended()));
    assert!(starts(), "{:?}", kubelet.log());
    // The following command may end; the Job continues, and the next command follows it.
    first.terminate();
    let mut code = None;
    assert!(wait_until(DEADLINE, || {
        code = first.0.try_wait().unwrap();
        code.is_some()
    }));
    assert_eq!(code.unwrap().code(), Some(3));
    assert_eq!(setup.run()["status"]["phase"], "Running");
    let second = Running::spawn(setup.migrate_in_job(&never));
    // The process is killed, as by a lost node: the Job creates another pod, which resumes.
    let pods = kubelet.pods();
    kubelet.kill_last();
    assert!(
        wait_until(DEADLINE, || kubelet.pods() > pods),
        "{:?}",
        kubelet.log()
    );
    let again = || setup.run()["status"]["step"]["attempts"].as_i64() >= Some(2);
    assert!(wait_until(DEADLINE, again), "{:#}", setup.run()["status"]);
    drop(second);
    // A rollback ends the active Job and replaces it.
    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}{:?}", kubelet.log());
    assert!(
        setup
            .shape()
            .iter()
            .all(|line| line.contains(":v2.1.4 ") && !line.ends_with(" 0")),
        "{:#?}",
        setup.shape()
    );
}

#[test]
fn if_the_job_cannot_be_created_nothing_is_changed() {
    let setup = MigrationCluster::start(Helm::V4);
    let shape = setup.shape();
    let mut command = guard();
    command
        .args(["migrate", "--yes"])
        .arg("--kubeconfig")
        .arg(setup.cluster().kubeconfig());
    let (code, _, stderr) = run(command.args([
        "-i", RELEASE, "-n", NAMESPACE, "-s", "2.1.4", "-t", "2.2.16",
    ]));
    assert!(
        code == 1 && stderr.contains("--job-image IMAGE"),
        "{code} {stderr}"
    );
    let nobody = setup.cluster().kubeconfig_for("nobody", &[]);
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
    assert_eq!(setup.shape(), shape);
    let runs: Vec<Value> = setup.runs(NAMESPACE);
    assert!(runs.is_empty());
    expect_success(setup.cluster().kubectl(["get", "namespaces"]));
}
