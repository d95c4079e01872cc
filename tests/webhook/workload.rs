//! The workload gate on a real API server: kubectl, Helm after the release gate, and tools that
//! apply object by object.

use std::time::{Duration, Instant};

use crate::common::{
    Chart,
    kubelet::Nodes,
    webhook::{GUARD, Webhook, stored_memory, wait_until, write_as_guard},
};
use milvus_guard_core::{
    manifest::documents,
    milvus::{
        Version,
        catalogue::{Catalogue, OrderTopology},
    },
};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";

/// Installs chart 4.1.34 with the images of a version.
fn install(webhook: &Webhook, with: Helm, tag: &str) -> Chart {
    let chart = Chart::compact("4.1.34");
    let tag = format!("image.all.tag={tag}");
    let (done, text) = webhook.helm(
        with,
        &[
            "upgrade",
            "--install",
            "my-release",
            chart.path(),
            "-n",
            NAMESPACE,
            "--create-namespace",
            "--set",
            &tag,
        ],
    );
    assert!(done, "{text}");
    chart
}

fn deployments(webhook: &Webhook) -> Vec<Value> {
    webhook
        .cluster
        .get_json(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"))["items"]
        .as_array()
        .unwrap()
        .clone()
}

fn wait_settled(webhook: &Webhook) {
    wait_until(
        "every component is rolled out",
        Duration::from_secs(60),
        || {
            deployments(webhook).iter().all(|item| {
                let status = &item["status"];
                status["observedGeneration"] == item["metadata"]["generation"]
                    && status["updatedReplicas"] == item["spec"]["replicas"]
                    && status["availableReplicas"] == item["spec"]["replicas"]
                    && status["replicas"] == item["spec"]["replicas"]
            })
        },
    );
}

fn set_image(webhook: &Webhook, component: &str, image: &str) -> (bool, String) {
    let deployment = format!("deployment/my-release-milvus-{component}");
    webhook.kubectl(&[
        "-n",
        NAMESPACE,
        "set",
        "image",
        &deployment,
        &format!("{component}={image}"),
    ])
}

#[test]
fn kubectl_can_change_components_only_in_order() {
    let webhook = Webhook::start();
    let _nodes = Nodes::start(&webhook.cluster, "");
    install(&webhook, Helm::V4, "v2.3.22");
    wait_settled(&webhook);

    let (done, text) = set_image(&webhook, "querynode", "milvusdb/milvus:v2.4.5");
    assert!(!done && text.contains("MG201 component-order"), "{text}");
    assert!(
        text.contains("milvus-guard upgrade -i my-release -n milvus -t 2.4.5"),
        "{text}"
    );
    // Changes without a version stay possible: labels, replicas, resources.
    let querynode = "deployment/my-release-milvus-querynode";
    for args in [
        &["label", querynode, "team=search"][..],
        &["scale", querynode, "--replicas=2"],
        &["scale", querynode, "--replicas=1"],
        &["set", "resources", querynode, "--limits=memory=8Gi"],
    ] {
        let mut all = vec!["-n", NAMESPACE];
        all.extend(args);
        let (done, text) = webhook.kubectl(&all);
        assert!(done, "{args:?}: {text}");
    }
    wait_settled(&webhook);
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "scale", querynode, "--replicas=0"]);
    assert!(done && text.contains("MG205"), "{text}");
    webhook.kubectl(&["-n", NAMESPACE, "scale", querynode, "--replicas=1"]);
    wait_settled(&webhook);

    // A wrong image is denied for every kind of request.
    let (done, text) = set_image(&webhook, "rootcoord", "milvusdb/milvus:v2.4.13");
    assert!(!done && text.contains("MG104"), "{text}");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "rootcoord", "image": "milvusdb/milvus:v2.2.16"}]}}}});
    let (done, text) = webhook.kubectl(&[
        "-n",
        NAMESPACE,
        "patch",
        "deployment/my-release-milvus-rootcoord",
        "-p",
        &patch.to_string(),
    ]);
    assert!(!done && text.contains("MG103 downgrade"), "{text}");

    // An annotation accepts the finding for one request.
    let accepted = json!({"metadata": {"annotations": {"guard.milvus.io/accept": "MG201"}},
        "spec": {"template": {"spec": {"containers": [{"name": "querynode", "image": "milvusdb/milvus:v2.4.5"}]}}}});
    let (done, text) = webhook.kubectl(&[
        "-n",
        NAMESPACE,
        "patch",
        querynode,
        "-p",
        &accepted.to_string(),
    ]);
    assert!(done && text.contains("MG201 was accepted"), "{text}");
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "rollout", "undo", querynode]);
    assert!(done, "a rollback must be allowed: {text}");
}

#[test]
fn removing_labels_does_not_hide_a_workload() {
    let webhook = Webhook::start();
    let _nodes = Nodes::start(&webhook.cluster, "");
    install(&webhook, Helm::V4, "v2.3.22");
    wait_settled(&webhook);
    let name = "deployment/my-release-milvus-proxy";
    let changed = |labels: &Value| {
        let patch = json!({"metadata": {"labels": labels},
            "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "milvusdb/milvus:v2.4.5"}]}}}});
        webhook.kubectl(&["-n", NAMESPACE, "patch", name, "-p", &patch.to_string()])
    };
    let none = json!({"app.kubernetes.io/name": null, "app.kubernetes.io/instance": null, "component": null, "helm.sh/chart": null,
        "app.kubernetes.io/managed-by": null});
    let (done, text) = changed(&none);
    assert!(
        !done && text.contains("MG201"),
        "in the same request: {text}"
    );
    let (done, text) = webhook.kubectl(&[
        "-n",
        NAMESPACE,
        "label",
        name,
        "app.kubernetes.io/name-",
        "app.kubernetes.io/instance-",
        "component-",
        "helm.sh/chart-",
    ]);
    assert!(done, "{text}");
    let (done, text) = changed(&json!({}));
    assert!(!done && text.contains("MG201"), "removed before: {text}");
    // A new Deployment of the same release without any label of it.
    let twin = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "my-release-milvus-streamingnode", "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "x", "image": "milvusdb/milvus:v2.6.11", "args": ["milvus", "run", "streamingnode"]}]}}}});
    let output = webhook
        .cluster
        .kubectl_with_input(["create", "-f", "-"], &twin.to_string());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("MG102 unsupported-path"),
        "{text}"
    );
}

#[test]
fn an_upgrade_accepted_at_the_release_gate_completes() {
    let webhook = Webhook::start();
    let nodes = Nodes::start(&webhook.cluster, "");
    for (with, revision) in [(Helm::V4, 2), (Helm::V3, 2)] {
        let chart = install(&webhook, with, "v2.3.22");
        wait_settled(&webhook);
        let upgrade = |more: &[&str]| {
            let mut args = vec![
                "upgrade",
                "my-release",
                chart.path(),
                "-n",
                NAMESPACE,
                "--set",
                "image.all.tag=v2.4.5",
            ];
            args.extend(more);
            webhook.helm(with, &args)
        };
        let (done, text) = upgrade(&[]);
        assert!(!done && text.contains("MG201"), "{text}");
        let label = format!("guard.milvus.io/accept=MG201-r{revision}");
        assert!(
            text.contains(&format!("--labels {label}")),
            "the denial must contain the label: {text}"
        );
        assert!(
            webhook
                .images(NAMESPACE)
                .iter()
                .all(|image| image.ends_with("v2.3.22")),
            "no image may change"
        );
        let (done, text) = upgrade(&["--labels", "guard.milvus.io/accept=MG201-r9"]);
        assert!(
            !done,
            "a label for another revision must not be accepted: {text}"
        );
        let (done, text) = upgrade(&["--labels", &label]);
        assert!(done, "{text}");
        assert!(
            webhook
                .images(NAMESPACE)
                .iter()
                .all(|image| image.ends_with("v2.4.5")),
            "{:?}",
            webhook.images(NAMESPACE)
        );
        wait_settled(&webhook);
        for deployment in deployments(&webhook) {
            assert_eq!(
                deployment["metadata"]["labels"]["guard.milvus.io/version"],
                "2.4.5"
            );
        }
        // Helm inherits labels of a release; the acceptance must not be inherited.
        let (done, text) = webhook.upgrade(with, &chart, &["--set", "image.all.tag=v2.5.12"]);
        assert!(!done && text.contains("MG201"), "{text}");
        let (done, text) = webhook.helm(
            with,
            &["uninstall", "my-release", "-n", NAMESPACE, "--wait"],
        );
        assert!(done, "{text}");
        webhook.kubectl(&["-n", NAMESPACE, "delete", "pvc", "--all"]);
    }
    drop(nodes);
}

#[test]
fn a_failed_upgrade_can_be_rolled_back() {
    let webhook = Webhook::start();
    let _nodes = Nodes::start(&webhook.cluster, "v2.4.5");
    let chart = install(&webhook, Helm::V4, "v2.3.22");
    wait_settled(&webhook);
    wait_until(
        "the guard has stored the available version",
        Duration::from_secs(20),
        || stored_memory(&webhook.cluster, NAMESPACE).contains(r#""settled":"2.3.22""#),
    );
    let ways: [(&str, &[&str]); 3] = [
        (
            "helm rollback",
            &["rollback", "my-release", "1", "-n", NAMESPACE],
        ),
        (
            "the corrected upgrade",
            &[
                "upgrade",
                "my-release",
                chart.path(),
                "-n",
                NAMESPACE,
                "--set",
                "image.all.tag=v2.3.22",
            ],
        ),
        ("kubectl", &[]),
    ];
    for (way, args) in ways {
        let (_, history) = webhook.helm(
            Helm::V4,
            &["history", "my-release", "-n", NAMESPACE, "-o", "json"],
        );
        let revision = serde_json::from_str::<Value>(&history)
            .unwrap()
            .as_array()
            .unwrap()
            .last()
            .unwrap()["revision"]
            .as_i64()
            .unwrap();
        let label = format!("guard.milvus.io/accept=MG201-r{}", revision + 1);
        let (done, text) = webhook.upgrade(
            Helm::V4,
            &chart,
            &["--set", "image.all.tag=v2.4.5", "--labels", &label],
        );
        assert!(done, "{way}: {text}");
        wait_until(
            "the new pods exist and are not ready",
            Duration::from_secs(30),
            || {
                deployments(&webhook).iter().all(|item| {
                    item["status"]["observedGeneration"] == item["metadata"]["generation"]
                })
            },
        );
        if args.is_empty() {
            for deployment in deployments(&webhook) {
                let name = format!(
                    "deployment/{}",
                    deployment["metadata"]["name"].as_str().unwrap()
                );
                let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "rollout", "undo", &name]);
                assert!(done, "{way}: {text}");
            }
        } else {
            let (done, text) = webhook.helm(Helm::V4, args);
            assert!(done, "{way}: {text}");
        }
        assert!(
            webhook
                .images(NAMESPACE)
                .iter()
                .all(|image| image.ends_with("v2.3.22")),
            "{way}"
        );
        wait_settled(&webhook);
    }
}

/// A tool without an order of components: the reverse of the right order.
const WORST: [&str; 8] = [
    "proxy",
    "querynode",
    "datanode",
    "indexnode",
    "querycoord",
    "indexcoord",
    "datacoord",
    "rootcoord",
];

#[test]
fn a_tool_that_applies_object_by_object_and_retries_upgrades_in_order() {
    let webhook = Webhook::start();
    let _nodes = Nodes::slow(&webhook.cluster, "", 5);
    expect_success(webhook.cluster.kubectl(["create", "namespace", NAMESPACE]));
    let chart = Chart::compact("4.1.34");
    let values = ["image.all.tag=v2.3.22", "mixCoordinator.enabled=false"];
    let render = |tag: &str| {
        let text = chart.render(Helm::V4, &[&format!("image.all.tag={tag}"), values[1]]);
        let mut objects: Vec<Value> = documents(&text)
            .map(|document| document.unwrap().root.to_json())
            .filter(Value::is_object)
            .collect();
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(NAMESPACE);
        }
        let rank = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            WORST
                .iter()
                .position(|component| name.ends_with(component))
                .map_or(0, |at| at + 1)
        };
        objects.sort_by_key(rank);
        objects
    };
    let apply = |object: &Value| {
        let output = webhook.cluster.kubectl_with_input(
            [
                "apply",
                "--server-side",
                "--field-manager=argocd-controller",
                "--force-conflicts",
                "-f",
                "-",
            ],
            &object.to_string(),
        );
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for object in render("v2.3.22") {
        let (done, text) = apply(&object);
        assert!(done, "an installation must be allowed in any order: {text}");
    }
    wait_settled(&webhook);

    let wanted = render("v2.4.5");
    let mut moved: Vec<String> = Vec::new();
    let begun = Instant::now();
    let mut reasons = std::collections::BTreeSet::new();
    while begun.elapsed() < Duration::from_secs(120) {
        let mut denied = false;
        for object in &wanted {
            let (done, text) = apply(object);
            let name = object["metadata"]["name"].as_str().unwrap();
            let is_component = object["kind"] == "Deployment";
            if !done {
                denied = true;
                reasons.extend(
                    ["MG201", "MG206"]
                        .into_iter()
                        .filter(|rule| text.contains(rule)),
                );
                assert!(text.contains("MG201") || text.contains("MG206"), "{text}");
            } else if is_component && !moved.contains(&name.to_owned()) {
                moved.push(name.to_owned());
            }
        }
        if !denied {
            break;
        }
    }
    let order = Catalogue::embedded()
        .order(
            Version::new(2, 3, 22),
            Version::new(2, 4, 5),
            OrderTopology::Separate,
        )
        .unwrap();
    let wanted: Vec<String> = order
        .steps
        .iter()
        .flat_map(|step| &step.components)
        .map(|component| format!("my-release-milvus-{component}"))
        .collect();
    assert_eq!(moved, wanted);
    assert!(
        reasons.contains("MG201") && reasons.contains("MG206"),
        "both rules must have denied: {reasons:?}"
    );
    assert!(
        webhook
            .images(NAMESPACE)
            .iter()
            .all(|image| image.ends_with("v2.4.5"))
    );
}

#[test]
fn after_an_uninstallation_the_content_of_the_volumes_is_remembered() {
    let webhook = Webhook::start();
    let _nodes = Nodes::start(&webhook.cluster, "");
    let old = Chart::compact("3.2.18");
    for with in [Helm::V4, Helm::V3] {
        let args = [
            "upgrade",
            "--install",
            "my-release",
            old.path(),
            "-n",
            NAMESPACE,
            "--create-namespace",
        ];
        let (done, text) = webhook.helm(with, &args);
        assert!(done, "{text}");
        let claims = || {
            webhook.cluster.get_json(&format!(
                "/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
            ))["items"]
                .as_array()
                .unwrap()
                .len()
        };
        wait_until("etcd has its volume", Duration::from_secs(30), || {
            claims() > 0
        });
        let memory = || stored_memory(&webhook.cluster, NAMESPACE);
        wait_until(
            "the guard has stored the release",
            Duration::from_secs(20),
            || memory().contains("my-release") && memory().contains("v2.1.4"),
        );
        // Volumes of a running release cannot be deleted; an uninstallation is allowed.
        let (done, text) =
            webhook.kubectl(&["-n", NAMESPACE, "delete", "pvc", "--all", "--wait=false"]);
        assert!(!done && text.contains("MG305"), "{text}");
        let (done, text) = webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "delete",
            "statefulset",
            "--all",
            "--wait=false",
        ]);
        assert!(!done && text.contains("MG401"), "{text}");
        let (done, text) = webhook.helm(with, &["uninstall", "my-release", "-n", NAMESPACE]);
        assert!(done, "{text}");
        wait_until(
            "all workloads were deleted",
            Duration::from_secs(30),
            || deployments(&webhook).is_empty(),
        );
        assert!(claims() > 0);

        let new = Chart::compact("4.0.31");
        let (done, text) = webhook.helm(
            with,
            &["install", "my-release", new.path(), "-n", NAMESPACE],
        );
        assert!(
            !done && text.contains("MG101") && text.contains("2.1.4 would become 2.2.13"),
            "{text}"
        );
        let rendered = new.render(with, &[]);
        let output = webhook
            .cluster
            .kubectl_with_input(["-n", NAMESPACE, "apply", "-f", "-"], &rendered);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains("MG101"),
            "object by object: {text}"
        );
        webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "delete",
            "statefulsets,configmaps,services",
            "--all",
            "--wait=false",
        ]);
        wait_until(
            "the volumes may be deleted",
            Duration::from_secs(30),
            || {
                webhook.kubectl(&["-n", NAMESPACE, "delete", "pvc", "--all"]);
                claims() == 0
            },
        );
        wait_until(
            "a release without volumes is forgotten",
            Duration::from_secs(20),
            || !memory().contains("my-release"),
        );
        webhook.install(with, &new, &[]);
        webhook.kubectl(&["delete", "namespace", NAMESPACE]);
    }
}

#[test]
fn a_running_migration_locks_the_release() {
    let webhook = Webhook::start();
    let chart = install(&webhook, Helm::V4, "v2.3.22");
    let run = json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": GUARD},
        "spec": {"kind": "Migration", "release": "my-release", "namespace": NAMESPACE, "from": "2.1.4", "to": "2.2.16",
            "plan": [{"id": "backup", "title": "", "action": "Backup"}, {"id": "start", "title": "", "action": "Start"}],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
        "status": {"phase": "Running", "step": {"id": "backup", "index": 0, "stage": "Begun", "since": "2026-01-01T00:00:00Z"}},
    });
    write_as_guard(&webhook.cluster, &run);
    let proxy = "deployment/my-release-milvus-proxy";
    wait_until("the lock holds", Duration::from_secs(10), || {
        let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "scale", proxy, "--replicas=3"]);
        assert!(done || text.contains("MG208 upgrade-locked"), "{text}");
        !done
    });
    let (done, text) = set_image(&webhook, "proxy", "milvusdb/milvus:v2.3.21");
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", proxy]);
    assert!(!done && text.contains("MG208"), "{text}");
    let (done, text) = webhook.upgrade(Helm::V4, &chart, &["--set", "image.all.tag=v2.3.21"]);
    assert!(!done && text.contains("MG208"), "{text}");
    // Scaling to zero is part of a migration.
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "scale", proxy, "--replicas=0"]);
    assert!(done, "{text}");
    // Steps of the Job that the run plans are allowed, but not during the backup, and not with
    // another image.
    let rights = [
        "create",
        "clusterrolebinding",
        "job",
        "--clusterrole=cluster-admin",
        "--serviceaccount=milvus-guard:milvus-guard-job",
    ];
    expect_success(webhook.cluster.kubectl(rights));
    let job = webhook
        .cluster
        .kubeconfig_for_service_account(GUARD, "milvus-guard-job");
    let by_job = |args: &[&str]| {
        let mut command = webhook.cluster.kubectl_command();
        let output = command
            .arg("--kubeconfig")
            .arg(&job)
            .args(["-n", NAMESPACE])
            .args(args)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (done, text) = by_job(&["scale", proxy, "--replicas=1"]);
    assert!(!done && text.contains("MG208"), "{text}");
    let mut started = run.clone();
    started["status"]["step"]["id"] = json!("start");
    write_as_guard(&webhook.cluster, &started);
    let (done, text) = by_job(&["scale", proxy, "--replicas=1"]);
    assert!(done, "{text}");
    let (done, text) = by_job(&["set", "image", proxy, "proxy=milvusdb/milvus:v2.3.21"]);
    assert!(!done && text.contains("MG208"), "{text}");
    // A namespace can be deleted with everything in it.
    expect_success(
        webhook
            .cluster
            .kubectl(["delete", "namespace", NAMESPACE, "--timeout=60s"]),
    );
}
