//! `upgrade` with the guard installed, by the account of its jobs: the webhook allows what the run
//! plans, denies other clients, and leaves autoscalers alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{
    Chart,
    faults::{Blind, Faults},
    guard,
    jobs::Kubelet,
    migration_cluster::Running,
    roll::{DEADLINE, NamespaceState, RELEASE, Roll},
    run,
    webhook::{GUARD, Server, TEMPLATE, write_template},
};
use milvus_guard_operations::{
    kubernetes_job::spec::rules_at_home, rolling_upgrade::job::rules_in_release,
};
use milvus_guard_testbed::{ControlPlane, Helm, wait_until};
use serde_json::json;

const NAMESPACE: &str = "milvus";

/// The account of the guard's jobs, with only the rights that a run is granted.
fn job_account(cluster: &ControlPlane) -> PathBuf {
    for (namespace, rules) in [(NAMESPACE, rules_in_release()), (GUARD, rules_at_home())] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "job", "namespace": namespace}, "rules": rules});
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "job", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "job"},
            "subjects": [{"kind": "ServiceAccount", "name": "milvus-guard-job", "namespace": GUARD}],
        });
        cluster.apply(&format!("---\n{role}\n---\n{binding}\n"));
    }
    cluster.kubeconfig_for_service_account(GUARD, "milvus-guard-job")
}

fn upgrade(kubeconfig: &Path, target: &str, more: &[&str]) -> Command {
    let mut command = guard();
    command
        .args(["upgrade", "--yes"])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["-i", RELEASE, "-n", NAMESPACE, "-t", target]);
    command
        .args([
            "--run-namespace",
            GUARD,
            "--local",
            "--lock-holds",
            "2s",
            "--progress",
            "plain",
        ])
        .args(more);
    command
}

#[test]
fn the_guard_allows_the_run_and_denies_everyone_else() {
    let roll = Roll::guarded();
    let NamespaceState::Guarded(webhook) = &roll.cluster else {
        unreachable!("the cluster must have the guard")
    };
    let chart = Chart::compact("4.1.34");
    roll.install(
        Helm::V4,
        NAMESPACE,
        &chart,
        "v2.4.5",
        &["mixCoordinator.enabled=true", "querynode.replicas=2"],
    );
    let shape = roll.shape(NAMESPACE);
    let account = job_account(&webhook.cluster);
    let kubectl = |args: &[&str]| webhook.kubectl(&[&["-n", NAMESPACE], args].concat());
    let image = |component: &str, tag: &str| {
        let (deployment, image) = (
            format!("deployment/{RELEASE}-milvus-{component}"),
            format!("{component}=milvusdb/milvus:{tag}"),
        );
        kubectl(&["set", "image", &deployment, &image])
    };

    // A run that waits: no pod of the new image becomes ready.
    let mut running = Running::spawn(upgrade(
        &account,
        "2.4.24",
        &["-w", "milvusdb/milvus:never-ready"],
    ));
    assert!(wait_until(DEADLINE, || roll.tag(NAMESPACE, "indexnode")
        == "never-ready"
        || running.has_ended()));
    let (done, text) = image("proxy", "v2.4.24");
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = webhook.helm(
        Helm::V4,
        &[
            "upgrade",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--set",
            "image.all.tag=v2.4.24",
        ],
    );
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = kubectl(&[
        "scale",
        "deployment/my-release-milvus-querynode",
        "--replicas=3",
    ]);
    assert!(done, "changes by an autoscaler must be allowed: {text}");
    let (done, text) = kubectl(&[
        "scale",
        "deployment/my-release-milvus-querynode",
        "--replicas=2",
    ]);
    assert!(done, "{text}");
    running.terminate();
    assert!(wait_until(DEADLINE, || running.has_ended()));
    let (code, stdout, stderr) = run(&mut upgrade(&account, "2.4.24", &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(roll.shape(NAMESPACE), shape);

    // The user's own account cannot write a run in the namespace where the guard trusts runs.
    let (code, _, stderr) = run(&mut upgrade(webhook.cluster.kubeconfig(), "2.4.24", &[]));
    assert!(
        code == 3 && stderr.contains("are written by milvus-guard itself"),
        "{code} {stderr}"
    );

    // Across a minor version, where the guard denies other clients because of the order.
    let (code, stdout, stderr) = run(&mut upgrade(&account, "2.4.24", &[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let (done, text) = image("proxy", "v2.5.27");
    assert!(!done && text.contains("MG201"), "{text}");
    let (code, stdout, stderr) = run(&mut upgrade(&account, "2.5.27", &[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(
        roll.shape(NAMESPACE)
            .iter()
            .all(|line| line.contains(":v2.5.27 ")),
        "{:#?}",
        roll.shape(NAMESPACE)
    );
    assert_eq!(roll.owned_by_runs(NAMESPACE), [""; 0]);
}

#[test]
fn no_component_moves_before_every_replica_has_seen_the_run() {
    let roll = Roll::guarded();
    let NamespaceState::Guarded(webhook) = &roll.cluster else {
        unreachable!("the cluster must have the guard")
    };
    roll.install(
        Helm::V4,
        NAMESPACE,
        &Chart::compact("4.1.34"),
        "v2.4.5",
        &["mixCoordinator.enabled=true"],
    );
    let (account, shape) = (job_account(&webhook.cluster), roll.shape(NAMESPACE));
    let leases = || {
        webhook
            .kubectl(&[
                "-n",
                GUARD,
                "get",
                "leases",
                "-l",
                "guard.milvus.io/replica",
                "-o",
                "name",
            ])
            .1
    };
    // A second replica, which cannot read runs.
    let folder = tempfile::tempdir().unwrap();
    write_template(&folder.path().join(TEMPLATE), "https://127.0.0.1:1", &[]);
    let faults = Faults::start(
        &webhook
            .cluster
            .kubeconfig_for_service_account(GUARD, "milvus-guard"),
        folder.path(),
    );
    let mut second = Server::start_through(
        faults.kubeconfig(),
        folder.path(),
        "127.0.0.1:0",
        &["--watch-timeout", "1s"],
    );
    assert_eq!(
        leases().lines().count(),
        2,
        "every ready replica must have a Lease: {}",
        leases()
    );
    faults.blind(Some(Blind::Unreadable(&["upgraderuns"])));
    assert!(
        wait_until(DEADLINE, || second.log().contains("in trouble")),
        "{}",
        second.log()
    );
    let mut running = Running::spawn(upgrade(&account, "2.4.24", &[]));
    let waits = || {
        let run = roll.runs(GUARD).pop().unwrap_or_default();
        run["status"]["step"]["waitingFor"]
            .as_str()
            .is_some_and(|on| on.ends_with(" of milvus-guard to know of this run"))
    };
    assert!(wait_until(DEADLINE, || waits() || running.has_ended()));
    assert!(waits() && !running.has_ended());
    assert_eq!(roll.shape(NAMESPACE), shape, "nothing has moved");
    faults.blind(None);
    assert!(
        running.succeeds(),
        "{:#}",
        roll.runs(GUARD).pop().unwrap()["status"]
    );
    assert_ne!(roll.shape(NAMESPACE), shape);
    // A replica that ends deletes its Lease, so the next run does not wait for it.
    second.stop();
    assert!(
        wait_until(DEADLINE, || leases().lines().count() == 1),
        "{}",
        leases()
    );
}

#[test]
fn the_command_makes_a_job_and_follows_it() {
    let roll = Roll::guarded();
    let folder = tempfile::tempdir().unwrap();
    let kubelet = Kubelet::on(&roll.cluster, folder.path());
    roll.install(
        Helm::V3,
        NAMESPACE,
        &Chart::compact("4.1.34"),
        "v2.4.5",
        &["mixCoordinator.enabled=true"],
    );
    let shape = roll.shape(NAMESPACE);
    let command = |more: &[&str]| {
        let mut command = guard();
        command
            .args(["upgrade", "--yes"])
            .arg("--kubeconfig")
            .arg(roll.cluster.kubeconfig());
        command.args([
            "-i",
            RELEASE,
            "-n",
            NAMESPACE,
            "-t",
            "2.4.24",
            "--job-image",
            "milvus-guard:test",
            "--lock-holds",
            "2s",
        ]);
        command.args(more);
        command
    };
    let (code, _, stderr) = run(&mut command(&[
        "-w",
        "milvusdb/milvus:no-such",
        "--give-up-after",
        "2s",
        "--on-failure",
        "rollback",
    ]));
    assert_eq!(code, 4, "{stderr}\n{:?}", kubelet.log());
    assert!(stderr.contains("ImagePullBackOff"), "{stderr}");
    assert_eq!(roll.shape(NAMESPACE), shape);
    let (code, stdout, stderr) = run(&mut command(&["--delete-job"]));
    assert_eq!(code, 0, "{stdout}\n{stderr}\n{:?}", kubelet.log());
    assert!(
        stdout.contains("my-release runs 2.4.24, every component of it."),
        "{stdout}"
    );
    assert!(
        stderr.contains("created Job milvus-guard/upgrade-my-release-"),
        "{stderr}"
    );
    let done = roll.runs(GUARD).pop().unwrap();
    assert_eq!(
        (&done["status"]["phase"], &done["spec"]["requestedBy"]),
        (&json!("Succeeded"), &json!("admin"))
    );
    // The rights are taken back.
    for namespace in [NAMESPACE, GUARD] {
        let roles = roll.cluster.get_json(&format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"
        ));
        let ours = roles["items"].as_array().unwrap().iter().filter(|one| {
            one["metadata"]["name"]
                .to_string()
                .contains("upgrade-my-release")
        });
        assert_eq!(ours.count(), 0);
    }
}
