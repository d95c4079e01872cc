//! `upgrade` on a real control plane: the order in which pods really change, the rollback, and Helm
//! afterwards.

use std::time::{Duration, Instant};

use crate::common::{
    Chart, guard,
    roll::{RELEASE, Roll},
    run,
};
use milvus_guard_core::milvus::{
    Component, Version,
    catalogue::{Catalogue, OrderTopology},
};
use milvus_guard_testbed::{Helm, Terminal, expect_success};
use serde_json::json;

/// The order data for one upgrade: for each component, those that must move before it.
fn data(from: &str, to: &str, topology: OrderTopology) -> impl Fn(Component) -> Vec<Component> {
    let version = |text: &str| text.parse::<Version>().unwrap();
    let order = Catalogue::embedded()
        .order(version(from), version(to), topology)
        .unwrap()
        .clone();
    move |component| order.before(component).collect()
}

/// Runs the printed `helm upgrade`, with a local copy of the chart.
fn agree(roll: &Roll, with: Helm, namespace: &str, chart: &Chart, printed: &str) {
    let command = printed
        .lines()
        .find_map(|line| line.strip_prefix("Next: helm "))
        .expect("a helm command");
    let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let at = words
        .iter()
        .position(|word| word == "zilliztech/milvus")
        .expect("a chart");
    chart.path().clone_into(&mut words[at]);
    let version = words
        .iter()
        .position(|word| word == "--version")
        .expect("the chart that is installed");
    assert_eq!(words[version + 1], chart.version);
    words.drain(version..version + 2);
    expect_success(roll.cluster.helm(with, &words));
    assert!(roll.deployments(namespace).len() > 1);
}

/// The question follows the plan and its warnings, and nothing is drawn over it. Any answer except
/// yes changes nothing.
fn assert_asks_at_a_terminal(roll: &Roll, namespace: &str, more: &[&str], planned: &str) {
    let before = roll.runs(namespace);
    let mut command = guard();
    command
        .arg("upgrade")
        .arg("--kubeconfig")
        .arg(roll.cluster.kubeconfig())
        .args(["-i", RELEASE, "-n", namespace, "-t", "2.3.22", "--local"])
        .args(more)
        .env("TERM", "xterm");
    let mut terminal = Terminal::start(&mut command);
    terminal.expect("Continue? [y/N] ");
    let plan = terminal.screen();
    assert!(plan.contains(planned), "{plan}");
    terminal.type_line("n");
    assert_eq!(terminal.wait().code(), Some(1), "{}", terminal.screen());
    let screen = terminal.screen();
    let after = screen.split("[y/N] ").nth(1).unwrap();
    let echoed = after.split('\n').next().unwrap();
    assert_eq!(echoed.trim_end(), "n", "{screen:?}");
    assert_eq!(roll.runs(namespace), before, "nothing was done");
}

/// A dry run of a rollback or an abort showed the plan of an upgrade, even if there was no run.
fn assert_dry_run(roll: &Roll, namespace: &str, operation: &str, code: i32, text: &str) {
    let before = roll.runs(namespace);
    let (found, stdout, stderr) = run(roll.end(namespace, operation).arg("--dry-run"));
    assert!(
        found == code && format!("{stdout}{stderr}").contains(text),
        "{operation}: {found}: {stdout}{stderr}"
    );
    assert_eq!(roll.runs(namespace), before, "nothing was done");
}

/// A user who may only view the namespace got an error instead of the plan.
#[test]
fn a_viewer_gets_the_plan_and_a_line_about_runs_that_may_not_be_read() {
    let roll = Roll::start();
    let namespace = "viewed";
    roll.install(
        Helm::V3,
        namespace,
        &Chart::compact("4.0.31"),
        "v2.2.16",
        &[],
    );
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}],
    });
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
    let answer = roll.cluster.post(&path, &binding);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let viewer = roll.cluster.kubeconfig_for("viewer", &[]);
    let preview = |more: &[&str]| {
        let mut command = guard();
        command
            .arg("upgrade")
            .arg("--kubeconfig")
            .arg(&viewer)
            .args(["-i", RELEASE, "-n", namespace, "--dry-run"]);
        run(command.args(more))
    };
    let (code, stdout, stderr) = preview(&["-t", "2.3.22"]);
    let all = format!("{stdout}{stderr}");
    assert_eq!(code, 0, "{all}");
    assert!(all.contains("Move rootcoord to 2.3.22"), "{all}");
    assert!(
        all.contains("it is unknown whether a run is in progress"),
        "{all}"
    );
    // A rollback cannot be planned without the run.
    let (code, stdout, stderr) = preview(&["-o", "rollback"]);
    assert_eq!(code, 3, "{stdout}{stderr}");
    assert!(stderr.contains("Next: "), "{stdout}{stderr}");
}

#[test]
fn a_cluster_rolls_in_order_and_helm_agrees_afterwards() {
    let roll = Roll::start();
    for (namespace, with) in [("three", Helm::V3), ("four", Helm::V4)] {
        let chart = Chart::compact("4.0.31");
        roll.install(
            with,
            namespace,
            &chart,
            "v2.2.16",
            &["querynode.replicas=2"],
        );
        let (shape, config) = (roll.shape(namespace), roll.config(namespace));
        let (code, stdout, _) = run(roll.upgrade(namespace, "2.3.22").arg("--dry-run"));
        println!("{stdout}");
        assert!(
            code == 0
                && stdout.contains("  4  Move rootcoord to 2.3.22 (my-release-milvus-rootcoord)"),
            "{stdout}"
        );
        assert!(
            stdout.contains("Rollback      possible until the first new coordinator is ready"),
            "{stdout}"
        );
        assert!(roll.runs(namespace).is_empty(), "nothing was done");
        assert_asks_at_a_terminal(&roll, namespace, &[], "Move rootcoord to 2.3.22");
        let none = "There is no run of";
        assert_dry_run(&roll, namespace, "rollback", 1, none);
        assert_dry_run(&roll, namespace, "abort", 1, none);
        let watch = roll.watch(namespace);
        let (code, stdout, stderr) = run(&mut roll.upgrade(namespace, "2.3.22"));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        println!("{stderr}{stdout}");
        assert!(
            stdout.contains("my-release runs 2.3.22, every component of it."),
            "{stdout}"
        );
        let undone = "Undo: Move rootcoord to 2.3.22";
        assert_asks_at_a_terminal(&roll, namespace, &["-o", "rollback"], undone);
        assert_dry_run(&roll, namespace, "rollback", 0, undone);
        assert_dry_run(&roll, namespace, "abort", 1, none);
        let image = "milvusdb/milvus:v2.3.22";
        let expected = [
            Component::RootCoord,
            Component::IndexCoord,
            Component::DataCoord,
            Component::QueryCoord,
            Component::QueryNode,
            Component::IndexNode,
            Component::DataNode,
            Component::Proxy,
        ];
        assert_eq!(watch.order(image), expected);
        watch.assert_order(
            image,
            data("2.2.16", "2.3.22", OrderTopology::Separate),
            &[],
        );
        println!(
            "longest pause between components: {:?}",
            watch.longest_pause(image)
        );
        let after: Vec<String> = shape
            .iter()
            .map(|line| line.replace("v2.2.16", "v2.3.22"))
            .collect();
        assert_eq!(
            roll.shape(namespace),
            after,
            "nothing but the image differs"
        );
        assert_eq!(roll.config(namespace), config);
        assert_eq!(roll.owned_by_runs(namespace), [""; 0]);
        assert_eq!(roll.run(namespace)["status"]["phase"], "Succeeded");

        let pods = roll.pods(namespace);
        agree(&roll, with, namespace, &chart, &stdout);
        roll.await_complete(namespace);
        assert_eq!(roll.pods(namespace), pods, "nothing rolls");
        assert_eq!(roll.shape(namespace), after);

        let (code, stdout, _) = run(&mut roll.upgrade(namespace, "2.3.22"));
        assert_eq!((code, roll.runs(namespace).len()), (0, 1), "{stdout}");
        assert!(stdout.contains("runs 2.3.22 already"), "{stdout}");
        assert_eq!(RELEASE, "my-release");
    }
}

/// What the official script does, by `kubectl`: sets the image of one Deployment after another, and
/// waits for `rollout status`.
fn by_kubectl(roll: &Roll, namespace: &str, order: &[&str], tag: &str) -> Duration {
    let began = Instant::now();
    for component in order {
        let deployment = format!("deployment/{RELEASE}-milvus-{component}");
        let image = format!("{component}=milvusdb/milvus:{tag}");
        expect_success(roll.cluster.kubectl([
            "-n",
            namespace,
            "set",
            "image",
            &deployment,
            &image,
        ]));
        expect_success(
            roll.cluster
                .kubectl(["-n", namespace, "rollout", "status", &deployment]),
        );
    }
    began.elapsed()
}

#[test]
fn no_time_is_lost_between_components() {
    let (roll, namespace) = (Roll::start(), "pace");
    roll.install(
        Helm::V4,
        namespace,
        &Chart::compact("4.0.31"),
        "v2.2.9",
        &[],
    );
    let order = [
        "rootcoord",
        "datacoord",
        "indexcoord",
        "querycoord",
        "indexnode",
        "datanode",
        "querynode",
        "proxy",
    ];
    let watch = roll.watch(namespace);
    let script = by_kubectl(&roll, namespace, &order, "v2.2.12");
    let began = Instant::now();
    let (code, stdout, stderr) = run(&mut roll.upgrade(namespace, "2.2.16"));
    let ours = began.elapsed();
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let [slow, pause] =
        ["v2.2.12", "v2.2.16"].map(|tag| watch.longest_pause(&format!("milvusdb/milvus:{tag}")));
    eprintln!(
        "8 components: {script:?} by kubectl and rollout status, {ours:?} by this run; longest \
         pause between components {slow:?} and {pause:?}"
    );
    // On a busy machine everything takes longer, including the baseline.
    assert!(
        pause < Duration::from_secs(2).max(slow * 3),
        "{pause:?}, kubectl {slow:?}"
    );
    // Checks, records and cleanup add to the total; users notice the time between components. A new
    // proxy must be ready for 10 s, and the old one leaves its Services 4 s before it ends.
    let worst = stdout
        .lines()
        .find_map(|line| line.split("that was ready and the next: ").nth(1))
        .expect("a measure");
    assert!(worst.contains(" ms."), "{worst}");
    assert!(
        ours < script * 2 + Duration::from_secs(18),
        "{script:?} {ours:?}"
    );
}
