//! `migrate` on a real control plane with a real etcd, in the process of the command (`--local`).

use crate::common::{
    Chart, await_definitions,
    migration_cluster::{
        DEADLINE, MigrationCluster, NAMESPACE, RELEASE, Running, sample_for_the_official_tool,
    },
    run,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_testbed::{Helm, Terminal, expect_success, wait_until};
use serde_json::{Value, json};

/// Migrates, and expects to reach the plan.
fn migrated(setup: &MigrationCluster) {
    let runs = setup.runs(NAMESPACE).len();
    let (code, stdout, stderr) = run(setup.migrate().arg("--dry-run"));
    assert!(
        code == 0
            && stdout.contains("2.1.4 → 2.2.16, metadata included")
            && stdout.contains("Back up the metadata"),
        "{code} {stdout}{stderr}"
    );
    assert_eq!(setup.runs(NAMESPACE).len(), runs, "nothing was done");
    let (code, stdout, stderr) = run(&mut setup.migrate());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(
        stdout.contains("my-release runs 2.2.16: the metadata is that of 2.2, verified."),
        "{stdout}"
    );
    assert!(
        stdout.contains("helm upgrade my-release zilliztech/milvus -n milvus --version 4.0."),
        "{stdout}"
    );
}

/// Whether a line of the shape is of this version and has the replicas that were installed.
fn at(version: &str) -> impl Fn(&String) -> bool {
    let image = format!(" milvusdb/milvus:{version} ");
    move |line: &String| {
        line.contains(&image)
            && line.ends_with(if line.contains("querynode") {
                " 2"
            } else {
                " 1"
            })
    }
}

#[test]
fn a_cluster_is_migrated_rolled_back_and_migrated_again() {
    for with in [Helm::V3, Helm::V4] {
        let setup = MigrationCluster::start(with);
        let (before, shape) = (setup.metadata(), setup.shape());
        migrated(&setup);
        assert!(
            setup.shape().iter().all(at("v2.2.16")),
            "{:#?}",
            setup.shape()
        );
        assert_ne!(setup.metadata(), before);
        assert_eq!(setup.owned_by_runs(), [""; 0]);
        let run_object = setup.run();
        let status = &run_object["status"];
        assert_eq!(status["phase"], "Succeeded", "{status:#}");
        assert_eq!(status["conditions"][0]["type"], "MetadataMigrated");
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(
            status["evidence"]["endpoints"],
            json!(["my-release-etcd:2379"])
        );
        assert_eq!(
            status["evidence"]["workloadUids"].as_array().unwrap().len(),
            8
        );

        // The same command does not repeat a migration that is complete.
        let metadata = setup.metadata();
        let (code, stdout, stderr) = run(&mut setup.migrate());
        assert!(
            code == 0 && stdout.contains("Nothing to do: run milvus/migrate-my-release-"),
            "{code} {stdout}{stderr}"
        );
        assert!(setup.metadata() == metadata && setup.runs(NAMESPACE).len() == 1);
        // Nor after a later run that was refused.
        let (code, _, stderr) = run(setup.bare_migrate().args(["-s", "2.1.4", "-t", "2.2.12"]));
        assert_eq!(
            (code, &setup.run()["status"]["phase"]),
            (1, &json!("Refused")),
            "{stderr}"
        );
        let (code, stdout, stderr) = run(&mut setup.migrate());
        assert!(
            code == 0 && stdout.contains("Nothing to do: run milvus/migrate-my-release-"),
            "{code} {stdout}{stderr}"
        );
        let refused = setup.run()["metadata"]["name"].as_str().unwrap().to_owned();
        expect_success(setup.cluster().kubectl([
            "-n",
            NAMESPACE,
            "delete",
            "upgraderun",
            &refused,
        ]));

        let (code, stdout, stderr) =
            run(setup
                .migrate()
                .args(["-o", "rollback", "--accept-data-loss"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(stdout.contains("Milvus is restored"), "{stdout}");
        assert_eq!((setup.metadata(), setup.shape()), (before.clone(), shape));
        assert_eq!(setup.owned_by_runs(), [""; 0]);
        let rolled_back = setup.run();
        assert_eq!(rolled_back["status"]["phase"], "RolledBack");
        assert_eq!(rolled_back["status"]["conditions"][0]["status"], "False");

        migrated(&setup);
        assert_eq!(setup.runs(NAMESPACE).len(), 2);
        // Every field that the chart renders has no other owner, so Helm's own apply meets no
        // conflict.
        let (chart, tag) = (Chart::compact("4.0.31"), "image.all.tag=v2.2.16");
        expect_success(setup.cluster().helm(
            with,
            [
                "upgrade",
                RELEASE,
                chart.path(),
                "-n",
                NAMESPACE,
                "--set",
                tag,
                "--set",
                "querynode.replicas=2",
            ],
        ));
        assert!(
            setup.shape().iter().all(at("v2.2.16")),
            "{:#?}",
            setup.shape()
        );
    }
}

#[test]
fn only_helm_may_start_the_new_version() {
    for with in [Helm::V3, Helm::V4] {
        let setup = MigrationCluster::start(with);
        let (code, stdout, stderr) = run(setup.migrate().args(["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(
            stdout.contains("Milvus is stopped until Helm starts it. Run: helm upgrade my-release"),
            "{stdout}"
        );
        assert!(
            setup.shape().iter().all(|line| line.ends_with(":v2.1.4 0")),
            "{:#?}",
            setup.shape()
        );
        let status = setup.run()["status"].clone();
        assert_eq!(
            (&status["phase"], &status["step"]["id"]),
            (&json!("Paused"), &json!("start-by-helm"))
        );
        assert_eq!(setup.owned_by_runs(), [""; 0]);
        // Until Helm has started the new version, the same command prints the same text.
        let (code, again, _) = run(setup.migrate().args(["--start", "helm"]));
        assert_eq!((code, again), (0, stdout));
        let (code, text, _) = run(&mut setup.status(&[]));
        assert_eq!(code, 3, "{text}");
        assert!(
            text.contains("phase      Paused") && text.contains("lock       free"),
            "{text}"
        );

        let (chart, tag) = (Chart::compact("4.0.31"), "image.all.tag=v2.2.16");
        let upgrade = [
            "upgrade",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--set",
            tag,
            "--set",
            "querynode.replicas=2",
        ];
        expect_success(setup.cluster().helm(with, upgrade));
        let (code, stdout, stderr) = run(setup.migrate().args(["--start", "helm"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(
            stdout.starts_with("my-release runs 2.2.16")
                && !stdout.contains(
                    "Helm's values still \
                have"
                ),
            "{stdout}"
        );
        assert_eq!(setup.run()["status"]["phase"], "Succeeded");
        assert_eq!(run(&mut setup.status(&[])).0, 0);
    }
}

#[test]
fn a_run_can_be_aborted_only_if_the_metadata_is_complete() {
    let setup = MigrationCluster::start(Helm::V4);
    let (before, shape) = (setup.metadata(), setup.shape());
    // The new version never becomes ready, so the run stops while it starts.
    let never = ["-w", "milvusdb/milvus:never-ready", "--step-timeout", "20s"];
    let (code, _, stderr) = run(setup.migrate().args(never));
    assert_eq!(code, 3, "{stderr}");
    for part in [
        "Stopped at step start-coordinators: it was not done within 20 s; it waited for \
         my-release-milvus-rootcoord: 0 of 1 pods available",
        "The metadata is that of 2.2, verified; 2.1 must not start on it.",
        "-o rollback",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
    let (code, text, _) = run(&mut setup.status(&["--format", "json"]));
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &status["phase"], &status["step"]["id"]),
        (3, &json!("Stopped"), &json!("start-coordinators"))
    );
    // Other flags make another plan.
    let (code, _, stderr) = run(setup.migrate().args(["-w", "milvusdb/milvus:v2.2.16"]));
    assert!(
        code == 1 && stderr.contains("is in progress with another plan"),
        "{code} {stderr}"
    );
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "abort"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("was aborted where it was. The metadata is that of 2.2.16, verified"),
        "{stdout}"
    );
    assert_eq!(setup.run()["status"]["phase"], "Aborted");
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "abort"]));
    assert!(
        code == 0 && stdout.contains("is already ended. Run "),
        "{code}: {stdout}{stderr}"
    );
    // An aborted run can still be rolled back.
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((setup.metadata(), setup.shape()), (before, shape));
    // A client that lost the last response repeats the command.
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "rollback"]));
    assert!(
        code == 0 && stdout.contains("is already rolled back. Milvus is restored"),
        "{code}: {stdout}{stderr}"
    );
    let (code, _, stderr) = run(setup.migrate().args(["-o", "abort"]));
    assert!(
        code == 1 && stderr.contains("There is no run of milvus/my-release to end"),
        "{stderr}"
    );
}

#[test]
fn a_failure_is_rolled_back_if_requested() {
    let setup = MigrationCluster::start(Helm::V4);
    let (before, shape) = (setup.metadata(), setup.shape());
    let never = [
        "-w",
        "milvusdb/milvus:never-ready",
        "--step-timeout",
        "20s",
        "--on-failure",
        "rollback",
    ];
    let (code, _, stderr) = run(setup.migrate().args(never));
    assert_eq!(code, 4, "{stderr}");
    assert!(
        stderr.contains("The run was rolled back: Milvus is restored"),
        "{stderr}"
    );
    assert_eq!((setup.metadata(), setup.shape()), (before, shape));
    assert_eq!(run(&mut setup.status(&[])).0, 4);
}

#[test]
fn evidence_of_a_migration_by_hand_is_recorded() {
    let setup = MigrationCluster::start(Helm::V4);
    let (code, _, stderr) = run(setup.migrate().arg("--record-only"));
    assert!(
        code == 1 && stderr.contains("still runs milvusdb/milvus:v2.1.4"),
        "{stderr}"
    );
    expect_success(setup.cluster().kubectl([
        "-n",
        NAMESPACE,
        "scale",
        "deployment",
        "--all",
        "--replicas=0",
    ]));
    assert!(wait_until(DEADLINE, || setup.sessions().is_empty()));
    let (code, _, stderr) = run(setup.migrate().arg("--record-only"));
    assert!(
        code == 1 && stderr.contains("is not that of 2.2"),
        "{stderr}"
    );
    setup.migrate_by_hand(&[], "by-hand");
    let metadata = setup.metadata();
    let (code, stdout, stderr) = run(setup.migrate().arg("--record-only"));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("the evidence is recorded"), "{stdout}");
    assert_eq!(setup.metadata(), metadata);
    let run_object = setup.run();
    assert_eq!(run_object["status"]["conditions"][0]["status"], "True");
    assert_eq!(
        run_object["status"]["evidence"]["workloadUids"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
}

#[test]
fn a_second_run_is_refused_and_names_the_holder_of_the_lock() {
    let setup = MigrationCluster::start(Helm::V4);
    let mut first = setup.migrate();
    first.args(["-w", "milvusdb/milvus:never-ready"]);
    let mut first = Running::spawn(first);
    let starts = || {
        setup
            .runs(NAMESPACE)
            .last()
            .is_some_and(|run| run["status"]["step"]["id"] == "start-coordinators")
    };
    assert!(wait_until(DEADLINE, starts), "{:#}", setup.run());
    let (code, _, stderr) = run(setup.migrate().args(["-w", "milvusdb/milvus:never-ready"]));
    assert_eq!(code, 5, "{stderr}");
    assert!(
        stderr.contains("Locked: run milvus/migrate-my-release-") && stderr.contains(" since "),
        "{stderr}"
    );
    let waits = || {
        run(&mut setup.status(&[]))
            .1
            .contains("waits for  my-release-milvus-rootcoord: 0 of 1 pods available")
    };
    assert!(
        wait_until(DEADLINE, waits),
        "{}",
        run(&mut setup.status(&[])).1
    );
    // After SIGTERM the run stops cleanly, and its lock is free at once.
    let _ = std::process::Command::new("kill")
        .arg(first.0.id().to_string())
        .status();
    let mut code = None;
    assert!(wait_until(DEADLINE, || {
        code = first.0.try_wait().unwrap();
        code.is_some()
    }));
    assert_eq!(code.unwrap().code(), Some(3));
    assert_eq!(setup.run()["status"]["phase"], "Stopped");
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
}

/// Helm 4 does report a field of another owner as a conflict, so its silence in other tests means
/// something.
#[test]
fn a_field_of_another_owner_is_a_conflict() {
    let setup = MigrationCluster::start(Helm::V4);
    let proxy = [
        "-n",
        NAMESPACE,
        "scale",
        "deployment",
        "my-release-milvus-proxy",
        "--replicas=3",
    ];
    expect_success(setup.cluster().kubectl(proxy));
    let chart = Chart::compact("3.2.18");
    let output = setup.cluster().helm(
        Helm::V4,
        [
            "upgrade",
            RELEASE,
            chart.path(),
            "-n",
            NAMESPACE,
            "--set",
            "querynode.replicas=2",
        ],
    );
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("conflict"),
        "{output:?}"
    );
}

/// KEDA scales up from zero, so it is paused while Milvus is stopped, and resumed afterwards.
#[test]
fn autoscalers_that_start_from_zero_are_paused() {
    let setup = MigrationCluster::start(Helm::V4);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": {"kind": "ScaledObject", "plural": "scaledobjects"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    setup.cluster().apply(&definition.to_string());
    await_definitions(setup.cluster(), &["scaledobjects.keda.sh"]);
    let target = json!({"name": "my-release-milvus-querynode"});
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "querynodes", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": target, "minReplicaCount": 0},
    });
    setup.cluster().apply(&object.to_string());
    let path = format!("/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledobjects/querynodes");
    let paused = || {
        setup.cluster().get_json(&path)["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"].clone()
    };
    let (code, stdout, stderr) = run(setup.migrate().args(["--start", "helm"]));
    assert_eq!((code, paused()), (0, json!("0")), "{stdout}{stderr}");
    let (code, stdout, stderr) = run(setup.migrate().args(["-o", "rollback"]));
    assert_eq!((code, paused()), (0, Value::Null), "{stdout}{stderr}");
    migrated(&setup);
    assert_eq!(paused(), Value::Null);
    // A HorizontalPodAutoscaler of Kubernetes starts from zero only if configured to.
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "proxies", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "my-release-milvus-proxy"}, "minReplicas": 1, "maxReplicas": 3},
    });
    let (code, _, stderr) = run(setup.migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stderr}");
    setup.cluster().apply(&autoscaler.to_string());
    migrated(&setup);
}

#[test]
fn the_live_view_shows_the_step_and_what_the_run_waits_for() {
    let setup = MigrationCluster::start(Helm::V4);
    let mut migrate = setup.migrate();
    let run_on_terminal = Terminal::start(
        migrate
            .args(["-w", "milvusdb/milvus:never-ready"])
            .env("TERM", "xterm"),
    );
    run_on_terminal.expect("[6/13] Migrate the metadata (");
    run_on_terminal.expect("waiting for my-release-milvus-rootcoord");
    let status = Terminal::start(setup.status(&["--wait"]).env("TERM", "xterm"));
    status.expect("waits for  my-release-milvus-rootcoord: 0 of 1 pods available");
    let screen = status.screen();
    assert!(
        screen.contains("at 9 of 13: Start the coordinators of the new version"),
        "{screen}"
    );
    // The live view is redrawn in place, not appended below.
    assert!(
        wait_until(DEADLINE, || status.screen().contains("\u{1b}[J")),
        "{}",
        status.screen()
    );
    drop(run_on_terminal);
}

/// The official tool is not available here. Our own migration runs in the tool's pod and leaves the
/// state that the tool leaves (`--strict-upstream`); tested are the steps before and after it.
#[test]
fn the_official_tool_rewrites_between_our_backup_and_our_verification() {
    let setup = MigrationCluster::start_on(Helm::V4, &sample_for_the_official_tool());
    let (before, shape) = (setup.metadata(), setup.shape());
    let migrate = || {
        let mut command = setup.migrate();
        command.args(["-m", "milvusdb/meta-migration:v2.2.0"]);
        command
    };
    let pods = || {
        let list = setup
            .cluster()
            .get_json(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
        let tools = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pod| pod["metadata"]["name"].as_str().unwrap().ends_with("-tool"));
        tools.cloned().collect::<Vec<_>>()
    };
    let end = |phase: &str| {
        let name = pods()[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let status = json!({"status": {"phase": phase}}).to_string();
        let patch = [
            "-n",
            NAMESPACE,
            "patch",
            "pod",
            &name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        expect_success(setup.cluster().kubectl(patch));
    };
    // If the tool fails, the run stops; its next attempt begins with the backup.
    let mut first = Running::spawn(migrate());
    assert!(wait_until(DEADLINE, || !pods().is_empty()));
    let pod = pods().remove(0);
    assert_eq!(
        pod["spec"]["containers"][0]["image"],
        "milvusdb/meta-migration:v2.2.0"
    );
    let secret = pod["spec"]["volumes"][0]["secret"]["secretName"]
        .as_str()
        .unwrap();
    let secret = setup
        .cluster()
        .get_json(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{secret}"));
    let config = String::from_utf8(
        BASE64_STANDARD
            .decode(secret["data"]["migration.yaml"].as_str().unwrap())
            .unwrap(),
    )
    .unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (
            &config["config"]["sourceVersion"],
            &config["etcd"]["rootPath"]
        ),
        (&json!("2.1.4"), &json!("by-dev"))
    );
    end("Failed");
    assert!(wait_until(DEADLINE, || first.has_ended()));
    assert_eq!(first.0.wait().unwrap().code(), Some(3));
    assert!(
        setup.run()["status"]["message"]
            .as_str()
            .unwrap()
            .contains("the official tool failed; kubectl logs"),
        "{:#}",
        setup.run()
    );

    let mut second = Running::spawn(migrate());
    let is_back = || {
        pods()
            .first()
            .is_some_and(|new| new["metadata"]["uid"] != pod["metadata"]["uid"])
    };
    assert!(wait_until(DEADLINE, is_back));
    setup.migrate_by_hand(&["--strict-upstream"], "of-the-tool");
    end("Succeeded");
    assert!(wait_until(DEADLINE, || second.has_ended()));
    assert_eq!(
        second.0.wait().unwrap().code(),
        Some(0),
        "{:#}",
        setup.run()["status"]
    );
    assert_eq!(setup.run()["status"]["phase"], "Succeeded");
    assert!(
        wait_until(DEADLINE, || pods().is_empty()),
        "its pod was deleted"
    );
    let (code, stdout, stderr) = run(migrate().args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(setup.metadata() == before && setup.shape() == shape);
}
