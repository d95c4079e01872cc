//! A problem in a rolling upgrade stops it at that point, with the reason, and a rollback restores
//! the state before the run.

use std::{process::Command, sync::OnceLock, time::Duration};

use crate::common::{
    Chart, guard, install_definitions,
    migration_cluster::Running,
    roll::{DEADLINE, RELEASE, Roll},
    run,
};
use milvus_guard_testbed::{Helm, Terminal, expect_success, wait_until};
use serde_json::{Value, json};

/// One cluster for all tests of this file; each test has a separate namespace.
fn roll() -> &'static Roll {
    static ROLL: OnceLock<Roll> = OnceLock::new();
    ROLL.get_or_init(Roll::start)
}

/// Milvus 2.4.5 with a mixed coordinator: index nodes move first, then the coordinator.
fn install(namespace: &str) -> Vec<String> {
    let values = ["mixCoordinator.enabled=true", "querynode.replicas=2"];
    roll().install(
        Helm::V4,
        namespace,
        &Chart::compact("4.1.34"),
        "v2.4.5",
        &values,
    );
    roll().shape(namespace)
}

fn upgrade(namespace: &str, more: &[&str]) -> Command {
    let mut command = roll().upgrade(namespace, "2.4.24");
    command.args(more);
    command
}

fn is_back(namespace: &str, shape: &[String]) {
    roll().await_complete(namespace);
    assert_eq!(roll().shape(namespace), shape);
    assert_eq!(roll().owned_by_runs(namespace), [""; 0]);
    assert!(
        !roll()
            .config(namespace)
            .contains_key("user.yaml.before-milvus-guard")
    );
}

/// Waits until the run reports that it waits for a condition with this text.
fn waits_for(namespace: &str, text: &str) {
    let waits = || {
        roll()
            .runs(namespace)
            .last()
            .is_some_and(|run| run["status"]["step"].to_string().contains(text))
    };
    assert!(
        wait_until(DEADLINE, waits),
        "{text}: {:#}",
        roll().run(namespace)["status"]
    );
}

#[test]
fn a_wrong_image_stops_at_the_first_component_and_is_rolled_back() {
    let namespace = "wrong-image";
    let shape = install(namespace);
    let image = "milvusdb/milvus:no-such-tag";
    let (code, stdout, stderr) = run(&mut upgrade(
        namespace,
        &["-w", image, "--give-up-after", "2s"],
    ));
    assert_eq!(code, 3, "{stdout}\n{stderr}");
    assert!(
        stderr.contains("ImagePullBackOff")
            && stderr.contains("Untouched: mixcoord, querynode, datanode, proxy"),
        "{stderr}"
    );
    let moved: Vec<String> = roll()
        .shape(namespace)
        .into_iter()
        .filter(|line| line.contains("no-such"))
        .collect();
    assert!(
        moved.len() == 1 && moved[0].contains("indexnode"),
        "{moved:?}"
    );
    // A different image makes a different plan.
    let (code, _, stderr) = run(&mut upgrade(namespace, &["-w", "milvusdb/milvus:v2.4.24"]));
    assert!(
        code == 1 && stderr.contains("another plan") && stderr.contains("-o abort"),
        "{code} {stderr}"
    );
    let (code, stdout, stderr) = run(&mut roll().end(namespace, "rollback"));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(
        stdout.contains("runs 2.4.5 with the images and strategies that were recorded"),
        "{stdout}"
    );
    is_back(namespace, &shape);
    assert_eq!(roll().run(namespace)["status"]["phase"], "RolledBack");
    // Then with the right image.
    let (code, stdout, stderr) = run(&mut upgrade(namespace, &[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(roll().tag(namespace, "proxy"), "v2.4.24");
}

#[test]
fn a_crash_loop_is_rolled_back_if_requested() {
    let namespace = "crash";
    let shape = install(namespace);
    let more = [
        "-w",
        "milvusdb/milvus:crash",
        "--give-up-after",
        "2s",
        "--on-failure",
        "rollback",
    ];
    let (code, stdout, stderr) = run(&mut upgrade(namespace, &more));
    assert_eq!(code, 4, "{stdout}\n{stderr}");
    assert!(stderr.contains("CrashLoopBackOff"), "{stderr}");
    is_back(namespace, &shape);
}

#[test]
fn a_pod_that_never_gets_ready_runs_out_of_time() {
    let namespace = "never-ready";
    install(namespace);
    let (code, _, stderr) = run(&mut upgrade(
        namespace,
        &["-w", "milvusdb/milvus:never-ready", "--step-timeout", "6s"],
    ));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("it was not done within 6 s; it waited for my-release-milvus-indexnode"),
        "{stderr}"
    );
    let (code, stdout, _) = run(&mut roll().end(namespace, "abort"));
    assert_eq!(code, 0);
    assert!(
        stdout.contains(
            "What runs: mixcoord milvusdb/milvus:v2.4.5, indexnode milvusdb/milvus:never-ready"
        ) && stdout.contains("-n never-ready -t 2.4.24 --local starts a new run"),
        "{stdout}"
    );
    assert_eq!(roll().run(namespace)["status"]["phase"], "Aborted");
}

#[test]
fn a_terminating_pod_delays_the_next_component_and_a_second_run_is_locked_out() {
    let namespace = "hanging";
    install(namespace);
    let pods = roll()
        .cluster
        .get_json(&format!("/api/v1/namespaces/{namespace}/pods"));
    let pods = pods["items"].as_array().unwrap().iter();
    let names = pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned());
    let pod = names
        .into_iter()
        .find(|name| name.contains("indexnode"))
        .unwrap();
    let finalizer = |list: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
        expect_success(roll().cluster.kubectl([
            "-n",
            namespace,
            "patch",
            "pod",
            &pod,
            "--type=merge",
            "-p",
            &patch,
        ]));
    };
    finalizer(r#"["test.milvus.io/hangs"]"#);
    let mut running = Running::spawn(upgrade(namespace, &[]));
    waits_for(namespace, "1 old pod is left");
    assert_eq!(
        roll().tag(namespace, "mixcoord"),
        "v2.4.5",
        "the next component must wait"
    );
    let (code, _, stderr) = run(&mut upgrade(namespace, &[]));
    assert!(
        code == 5 && stderr.contains("holds the lock of this release"),
        "{code} {stderr}"
    );
    // What the on-call engineer sees: a live view on a terminal, plain text elsewhere.
    let status = |more: &[&str]| {
        let mut command = guard();
        command
            .arg("status")
            .arg("--kubeconfig")
            .arg(roll().cluster.kubeconfig())
            .args(["-i", RELEASE, "-n", namespace]);
        command.args(more);
        command
    };
    let mut narrow = status(&["--wait"]);
    let mut live = Terminal::start(narrow.env("TERM", "xterm").env("COLUMNS", "60"));
    live.expect("my-release-milvus-indexnode: 1 old pod is left");
    // A row for each component; the one in progress is marked.
    live.expect("COMPONENT  PODS        NEW  OLD  READY  NO POD");
    live.expect(" indexnode  ");
    live.expect("measured   none in ");
    let lines = tempfile::NamedTempFile::new().unwrap();
    let mut log = status(&["--watch"]);
    let mut log = Running(log.stdout(lines.reopen().unwrap()).spawn().unwrap());
    assert!(
        wait_until(DEADLINE, || {
            std::fs::read_to_string(lines.path()).unwrap().contains(
                "Z  Running, at 4 of 10: Move indexnode to 2.4.24; waits for my-release-milvus-indexnode: 1 old \
                 pod is left",
            )
        }),
        "{}",
        std::fs::read_to_string(lines.path()).unwrap()
    );
    let (code, stdout, _) = run(&mut status(&[]));
    assert_eq!(code, 3, "it is under way: {stdout}");
    let shown = |name: &str| {
        stdout
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{stdout}"))
            .to_owned()
    };
    assert!(
        shown("step  ").contains("at 4 of 10: Move indexnode to 2.4.24"),
        "{stdout}"
    );
    assert!(
        shown("milvus-indexnode  ").contains(
            "milvusdb/milvus:v2.4.24  1 with this image, 0 with another, 1 of 1 available"
        ),
        "{stdout}"
    );
    assert!(
        shown("milvus-querynode  ").contains(
            "milvusdb/milvus:v2.4.5   2 with this image, 0 with another, 2 of 2 available"
        ),
        "{stdout}"
    );
    // Without a release: every run, in any namespace.
    let every = |more: &[&str]| {
        let kubeconfig = roll().cluster.kubeconfig();
        run(guard()
            .arg("status")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(more))
    };
    let (code, stdout, stderr) = every(&[]);
    let listing = format!("of {namespace}/{RELEASE} (2.4.5 → 2.4.24): Running");
    assert!(
        code == 3 && stdout.contains(&listing),
        "{code} {stdout}{stderr}"
    );
    let (code, stdout, _) = every(&["--all", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let runs = listed["underWay"].as_array().unwrap();
    assert!(
        code == 3 && runs.iter().any(|run| run["namespace"] == namespace),
        "{stdout}"
    );
    let (code, stdout, _) = every(&["--format", "yaml"]);
    assert!(code == 3 && stdout.contains("\nunderWay:"), "{stdout}");
    finalizer("null");
    assert!(live.wait().success(), "{}", live.screen());
    live.expect("phase      Succeeded");
    assert!(log.0.wait().unwrap().success());
    let lines = std::fs::read_to_string(lines.path()).unwrap();
    assert!(
        !lines.contains('\u{1b}') && lines.contains("phase      Succeeded\n"),
        "{lines}"
    );
    assert!(lines.contains("\nmeasured   none in "), "{lines}");
    live_view_leaves_no_lines_behind(&live.screen());
    assert!(running.succeeds());
    assert_eq!(roll().tag(namespace, "proxy"), "v2.4.24");
}

/// Lines of the live view that were longer than the terminal used to pile up: the view removed
/// fewer lines than the terminal showed.
fn live_view_leaves_no_lines_behind(screen: &str) {
    let drawings: Vec<&str> = screen.split("\u{1b}[J").collect();
    assert!(drawings.len() > 1, "{screen}");
    for drawing in &drawings[..drawings.len() - 1] {
        let (lines, up) = drawing.rsplit_once("\u{1b}[").unwrap();
        let removed: usize = up.strip_suffix('A').unwrap().parse().unwrap();
        assert_eq!(lines.matches('\n').count(), removed, "{screen}");
        for line in lines.lines() {
            assert!(line.chars().count() <= 60, "{line}");
        }
    }
}

#[test]
fn a_paused_deployment_is_refused_before_a_run_and_named_during_it() {
    let namespace = "paused";
    install(namespace);
    let kubectl =
        |args: &[&str]| expect_success(roll().cluster.kubectl([&["-n", namespace], args].concat()));
    kubectl(&["rollout", "pause", "deployment/my-release-milvus-proxy"]);
    let (code, _, stderr) = run(&mut upgrade(namespace, &[]));
    assert!(
        code == 1 && stderr.contains("kubectl rollout resume deployment/my-release-milvus-proxy"),
        "{code} {stderr}"
    );
    let (code, stdout, _) = run(&mut upgrade(namespace, &["--dry-run"]));
    assert!(
        code == 1 && stdout.contains("Refused       Deployment my-release-milvus-proxy is paused"),
        "{code} {stdout}"
    );
    // The same as Markdown for an issue, and as HTML for a change ticket.
    for (format, parts) in [
        (
            "markdown",
            [
                "```mermaid\nflowchart TD\n",
                "> ⛔ **This run would be refused:** Deployment my-release-milvus-proxy is paused",
            ],
        ),
        (
            "html",
            [
                "<table class=\"lanes\">",
                "<p>Deployment my-release-milvus-proxy is paused",
            ],
        ),
    ] {
        let (code, stdout, stderr) =
            run(&mut upgrade(namespace, &["--dry-run", "--format", format]));
        assert_eq!(code, 1, "{stdout}{stderr}");
        assert!(parts.iter().all(|part| stdout.contains(part)), "{stdout}");
        assert!(stderr.contains("Nothing was changed"), "{stderr}");
        let (code, _, stderr) = run(&mut upgrade(namespace, &["--format", format]));
        assert!(
            code == 2 && stderr.contains("give --dry-run too"),
            "{code} {stderr}"
        );
    }
    kubectl(&["rollout", "resume", "deployment/my-release-milvus-proxy"]);
    roll().await_complete(namespace);

    kubectl(&["create", "quota", "room", "--hard=pods=6"]);
    let mut running = Running::spawn(upgrade(namespace, &[]));
    waits_for(namespace, "exceeded quota");
    kubectl(&["rollout", "pause", "deployment/my-release-milvus-querynode"]);
    kubectl(&["delete", "quota", "room"]);
    waits_for(namespace, "it is paused: kubectl rollout resume");
    kubectl(&[
        "rollout",
        "resume",
        "deployment/my-release-milvus-querynode",
    ]);
    assert!(running.succeeds());
}

#[test]
fn autoscalers_and_disruption_budgets_do_not_block_and_edits_of_the_configuration_are_noticed() {
    let namespace = "around";
    install(namespace);
    let kubectl =
        |args: &[&str]| expect_success(roll().cluster.kubectl([&["-n", namespace], args].concat()));
    kubectl(&[
        "autoscale",
        "deployment/my-release-milvus-querynode",
        "--min=2",
        "--max=4",
    ]);
    kubectl(&[
        "create",
        "pdb",
        "all",
        "--selector=component=querynode",
        "--max-unavailable=0",
    ]);
    let mut running = Running::spawn(upgrade(namespace, &[]));
    let configured = || {
        roll()
            .config(namespace)
            .contains_key("user.yaml.before-milvus-guard")
    };
    assert!(wait_until(DEADLINE, configured));
    assert!(roll().config(namespace)["user.yaml"].contains("enableActiveStandby: true"));
    let patch = r#"{"data":{"user.yaml":"log: {level: debug}\n"}}"#;
    kubectl(&[
        "patch",
        "configmap",
        "my-release-milvus",
        "--type=merge",
        "-p",
        patch,
    ]);
    kubectl(&[
        "scale",
        "deployment/my-release-milvus-querynode",
        "--replicas=3",
    ]);
    assert!(running.succeeds());
    let config = roll().config(namespace);
    assert_eq!(
        config["user.yaml"], "log: {level: debug}\n",
        "the user's edit must be kept"
    );
    assert!(!config.contains_key("user.yaml.before-milvus-guard"));
    assert_eq!(
        roll().deployment(namespace, "querynode")["spec"]["replicas"],
        3
    );
    assert!(
        roll().run(namespace)["status"]["history"]
            .to_string()
            .contains("was changed by another client")
    );
}

#[test]
fn after_the_point_of_no_return_a_rollback_is_refused_with_what_it_would_lose() {
    let namespace = "no-return";
    roll().install(
        Helm::V3,
        namespace,
        &Chart::compact("4.2.40"),
        "v2.4.24",
        &[],
    );
    let upgrade = |more: &[&str]| {
        let mut command = roll().upgrade(namespace, "2.5.27");
        command.args(more);
        command
    };
    let mut running = Running::spawn(upgrade(&[]));
    assert!(wait_until(DEADLINE, || roll().tag(namespace, "querynode") == "v2.5.27"));
    let _ = running.0.kill();
    drop(running);
    let (code, _, stderr) = run(&mut upgrade(&["-o", "rollback"]));
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("the way back from 2.5.27 to 2.4.24 ended when the new mixcoord was ready"),
        "{stderr}"
    );
    assert!(stderr.contains("going back would lose"), "{stderr}");
    let (code, stdout, stderr) = run(&mut upgrade(&[]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let (code, _, stderr) = run(&mut upgrade(&["-o", "rollback"]));
    assert!(code == 1 && stderr.contains("ended when"), "{stderr}");
    // Nothing is left for that run to do.
    assert!(
        !stderr.contains("(resumes)") && stderr.contains("going back would lose"),
        "{stderr}"
    );
}

#[test]
fn a_silent_watch_is_not_taken_for_a_lost_api_server() {
    let namespace = "quiet";
    install(namespace);
    let more = ["-w", "milvusdb/milvus:never-ready", "--step-timeout", "36s"];
    let (code, _, stderr) = run(&mut upgrade(namespace, &more));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("it was not done within 36 s"), "{stderr}");
    assert!(!stderr.contains("the API server"), "{stderr}");
    // The command that the message names asks the same etcd, from the same machine.
    let etcd = ["-e", "http://127.0.0.1:1", "--no-session-help"];
    let (_, _, stderr) = run(&mut upgrade(
        namespace,
        &[&more[..2], &etcd, &["--step-timeout", "1s"]].concat(),
    ));
    let named = "-e http://127.0.0.1:1 --no-session-help --local (resumes)";
    assert!(stderr.contains(named), "{stderr}");
}

#[test]
fn a_signal_stops_the_run_and_helm_agrees_after_the_rollback() {
    let namespace = "signal";
    let shape = install(namespace);
    let mut running = Running::spawn(upgrade(namespace, &[]));
    assert!(wait_until(DEADLINE, || roll().tag(namespace, "querynode") == "v2.4.24"));
    expect_success(
        Command::new("kill")
            .arg(running.0.id().to_string())
            .output()
            .unwrap(),
    );
    assert!(wait_until(Duration::from_secs(20), || running.has_ended()));
    assert_eq!(running.0.wait().unwrap().code(), Some(3));
    let (code, stdout, stderr) = run(&mut upgrade(namespace, &["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    is_back(namespace, &shape);
    let pods = roll().pods(namespace);
    let chart = Chart::compact("4.1.34");
    let args = [
        "upgrade",
        RELEASE,
        chart.path(),
        "-n",
        namespace,
        "--reuse-values",
    ];
    expect_success(roll().cluster.helm(Helm::V4, args));
    roll().await_complete(namespace);
    assert_eq!(
        (roll().shape(namespace), roll().pods(namespace)),
        (shape, pods),
        "nothing rolls"
    );
}

#[test]
fn a_node_without_capacity_is_reported_before_the_run() {
    let namespace = "room";
    install(namespace);
    let kubectl = |args: &[&str]| expect_success(roll().cluster.kubectl(args));
    kubectl(&[
        "-n",
        namespace,
        "set",
        "resources",
        "deployment/my-release-milvus-querynode",
        "--requests=cpu=3,memory=1Gi",
    ]);
    roll().await_complete(namespace);
    roll()
        .cluster
        .apply("apiVersion: v1\nkind: Node\nmetadata: {name: only-one}\n");
    let status = r#"{"status":{"allocatable":{"cpu":"2","memory":"8Gi"}}}"#;
    kubectl(&[
        "patch",
        "node",
        "only-one",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ]);
    let (_, stdout, _) = run(&mut upgrade(namespace, &["--dry-run"]));
    assert!(
        !stdout.contains("no node has room"),
        "a new node is cordoned until a person uncordons it: {stdout}"
    );
    kubectl(&[
        "patch",
        "node",
        "only-one",
        "--type=merge",
        "-p",
        r#"{"spec":{"taints":null}}"#,
    ]);
    let (code, stdout, stderr) = run(&mut upgrade(namespace, &["--dry-run"]));
    kubectl(&["delete", "node", "only-one"]);
    let words = "no node has room for another pod of my-release-milvus-querynode (3 CPU, 1024 \
                 MiB): most is 2 CPU, 8192 MiB";
    assert!(
        code == 0 && stdout.contains(words),
        "{code} {stdout}{stderr}"
    );
}

#[test]
fn a_definition_that_drops_fields_of_the_record_stops_the_run_before_any_change() {
    let roll = Roll::start();
    let chart = Chart::compact("4.1.34");
    roll.install(Helm::V4, "older", &chart, "v2.4.5", &[]);
    let shape = roll.shape("older");
    // A definition as it was before the run recorded the pods that it has seen; the second field
    // tells when the API server uses it.
    let (code, definitions, stderr) = run(guard().arg("crds"));
    assert_eq!(code, 0, "{stderr}");
    let as_json = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let as_json = expect_success(roll.cluster.kubectl_with_input(as_json, &definitions));
    let mut of_runs = serde_json::Deserializer::from_str(&as_json)
        .into_iter::<Value>()
        .map(Result::unwrap)
        .find(|one| one["spec"]["names"]["kind"] == "UpgradeRun")
        .unwrap();
    let fields = &mut of_runs["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for (part, field) in [("status", "originals"), ("spec", "requestedBy")] {
        let all = fields[part]["properties"].as_object_mut().unwrap();
        assert!(all.remove(field).is_some(), "{part}.{field}");
    }
    roll.cluster.apply(&of_runs.to_string());
    let probe = json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "probe", "namespace": "older"},
        "spec": {
            "kind": "Rolling", "release": "other", "namespace": "older", "from": "2.4.5", "to": "2.4.24",
            "plan": [], "planHash": "0", "requestedBy": "someone"
        }
    });
    let runs = "/apis/guard.milvus.io/v1alpha1/namespaces/older/upgraderuns";
    let is_used = wait_until(DEADLINE, || {
        let answer = roll.cluster.post(&format!("{runs}?dryRun=All"), &probe);
        assert_eq!(answer.status, 201, "{answer:?}");
        !answer.body.contains("requestedBy")
    });
    assert!(is_used, "the API server does not use the definition");
    let (code, stdout, stderr) = run(&mut roll.upgrade("older", "2.4.24"));
    let said = format!("{stdout}{stderr}");
    assert_ne!(code, 0, "{said}");
    assert!(
        said.contains("does not keep status.originals")
            && said.contains("milvus-guard crds | kubectl apply --server-side -f -"),
        "{said}"
    );
    assert_eq!(roll.shape("older"), shape, "{said}");

    // The command that the message names is enough.
    install_definitions(&roll.cluster);
    let (code, stdout, stderr) = run(&mut roll.upgrade("older", "2.4.24"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!(roll.tag("older", "proxy"), "v2.4.24");
}
