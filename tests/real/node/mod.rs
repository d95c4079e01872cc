//! Our image and our chart on a real node with kubelet, containerd and running pods. Root only:
//! `make test-node`.
//!
//! | module | what it holds |
//! |---|---|
//! | `jobs` | Jobs of our image: a migration, and a rolling upgrade of real pods |
//! | `network_policy` | The NetworkPolicy of the chart, with a firewall that enforces it |
#![allow(clippy::too_many_lines)]

mod jobs;
mod network_policy;

use std::{process::Output, time::Duration};

use crate::common::{
    Chart, ERAS,
    installed::{build_bare_image, build_guard_image, install_guard},
    migration_cluster::NAMESPACE,
    webhook::GUARD,
};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, Node, expect_success, wait_for};
use serde_json::json;

/// For a pod on a busy machine of 2 cores.
const DEADLINE: Duration = Duration::from_secs(120);

/// The chart's Deployments and configuration, without the probes, which no container here answers,
/// and without the init container, which only Milvus needs.
fn milvus_manifests(chart: &'static str, values: &[&str]) -> String {
    let rendered = Chart::compact(chart).render(Helm::V4, values);
    let objects = documents(&rendered).map(|document| document.unwrap().root.to_json());
    let kept = objects.filter(|object| {
        object["kind"] == "Deployment" || object["metadata"]["name"] == "my-release-milvus"
    });
    kept.map(|mut object| {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        if object["kind"] == "Deployment" {
            let pod = &mut object["spec"]["template"]["spec"];
            pod["terminationGracePeriodSeconds"] = json!(1);
            pod.as_object_mut().unwrap().remove("initContainers");
            let container = pod["containers"][0].as_object_mut().unwrap();
            container.remove("readinessProbe");
            container.remove("livenessProbe");
        }
        format!("---\n{object}\n")
    })
    .collect()
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_binary_runs_in_a_pod() {
    let node = Node::start();
    build_bare_image(&node, "localhost/bare:1");
    node.apply(
        r"
apiVersion: v1
kind: Pod
metadata: {name: rules, namespace: default}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532}
  containers:
  - name: rules
    image: localhost/bare:1
    args: [rules, list]
",
    );
    node.wait_for_phase("default", "rules", "Succeeded", DEADLINE);
    let log = node.logs("default", "rules");
    assert!(log.contains("MG101"), "{log}");
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_guard_installed_by_its_chart_refuses_a_forbidden_upgrade() {
    let node = Node::start();
    build_guard_image(&node);
    install_guard(&node, 2, &[]);
    let helm = |verb: &str, (version, app): (&'static str, &str)| {
        let (chart, tag) = (Chart::compact(version), format!("image.all.tag=v{app}"));
        node.helm(
            Helm::V4,
            [
                verb,
                "my-release",
                chart.path(),
                "-n",
                "milvus",
                "--create-namespace",
                "--set",
                &tag,
            ],
        )
    };
    let refused = |output: &Output| {
        let message = String::from_utf8_lossy(&output.stderr);
        let denied = !output.status.success()
            && message.contains("denied the request")
            && message.contains("MG101");
        assert!(denied, "{message}{}", node.describe(GUARD));
    };
    let rootcoord = "my-release-milvus-rootcoord";
    let image = || {
        let path = format!("/apis/apps/v1/namespaces/milvus/deployments/{rootcoord}");
        node.get_json(&path)["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    let installed = helm("install", ERAS[0]);
    assert!(
        installed.status.success(),
        "{}{}",
        String::from_utf8_lossy(&installed.stderr),
        node.describe(GUARD)
    );
    assert!(image().ends_with(":v2.1.4"), "{}", image());

    // Both gates: a single object by hand, and a whole upgrade, which would require a migration of
    // the metadata.
    let deployment = format!("deployment/{rootcoord}");
    refused(&node.kubectl([
        "set",
        "image",
        "-n",
        "milvus",
        &deployment,
        "*=milvusdb/milvus:v2.2.16",
    ]));
    refused(&helm("upgrade", ("4.0.31", "2.2.16")));
    assert!(image().ends_with(":v2.1.4"), "{}", image());
    let history = expect_success(node.helm(
        Helm::V4,
        ["history", "my-release", "-n", "milvus", "-o", "json"],
    ));
    assert_eq!(history.matches("\"revision\"").count(), 1, "{history}");

    // The guard cannot be uninstalled while a run needs it.
    let run = r#"{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "run-1", "namespace": "milvus-guard"},
        "spec": {"kind": "Rolling", "release": "my-release", "namespace": "milvus", "from": "2.4.5", "to": "2.5.12", "plan": [],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}}"#;
    let guard = "--as=system:serviceaccount:milvus-guard:milvus-guard";
    expect_success(node.kubectl_with_input(["create", guard, "-f", "-"], run));
    wait_for("the policy to see the run", DEADLINE, || {
        let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "milvus-guard-uninstall"}}"#;
        !node
            .kubectl_with_input(["create", "--dry-run=server", "-n", GUARD, "-f", "-"], map)
            .status
            .success()
    });
    let uninstall = || {
        node.helm(
            Helm::V4,
            ["uninstall", GUARD, "-n", GUARD, "--timeout", "3m"],
        )
    };
    let kept = uninstall();
    assert!(!kept.status.success(), "{}", node.describe(GUARD));
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(
        said.contains("run run-1 of milvus/my-release is in progress (Pending)"),
        "{said}"
    );
    refused(&node.kubectl([
        "set",
        "image",
        "-n",
        "milvus",
        &deployment,
        "*=milvusdb/milvus:v2.2.16",
    ]));
    expect_success(node.kubectl(["delete", guard, "-n", GUARD, "upgraderun", "run-1"]));
    expect_success(uninstall());
}
