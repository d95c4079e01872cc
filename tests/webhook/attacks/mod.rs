//! Attacks on a real API server: a user with some rights in a cluster must not get a change of
//! Milvus allowed that the guard denies otherwise.
//!
//! | module | what it holds |
//! |---|---|
//! | `memory` | What the guard stores about the running state and uninstalled releases |
//! | `records` | Records of Helm, the decisions about them, and manifests in other forms |

mod memory;
mod records;

use std::{fs, time::Duration};

use crate::common::{
    Chart, file,
    webhook::{GUARD, Webhook, stored_memory, wait_until},
};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, expect_success};
use records::chart_of;
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";

fn install(webhook: &Webhook, with: Helm, chart: &Chart, more: &[&str]) {
    webhook.install(with, chart, more);
    remembered(webhook);
}

/// A values file with another etcd.
fn etcd_values(webhook: &Webhook, address: &str) -> String {
    let text = format!(
        "extraConfigFiles:\n  user.yaml: |\n    etcd:\n      endpoints: [\"{address}\"]\n      rootPath: by-dev\n"
    );
    file(webhook.folder.path(), "etcd-values.yaml", &text)
}

/// Waits until the guard has stored the running state.
fn remembered(webhook: &Webhook) {
    wait_until(
        "the running state is remembered",
        Duration::from_secs(30),
        || stored_memory(&webhook.cluster, NAMESPACE).contains("my-release-milvus"),
    );
}

fn objects(text: &str, kind: &str) -> Vec<Value> {
    let all = documents(text).map(|document| document.unwrap().root.to_json());
    all.filter(|object| object["kind"] == kind).collect()
}

fn apply(webhook: &Webhook, objects: &[Value], more: &[&str]) -> (bool, String) {
    let text = objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect::<String>();
    let mut args = vec!["-n", NAMESPACE, "apply", "-f", "-"];
    args.extend(more);
    let output = webhook.cluster.kubectl_with_input(args, &text);
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn assert_stays(webhook: &Webhook, tag: &str) {
    let images = webhook.images(NAMESPACE);
    assert!(
        !images.is_empty() && images.iter().all(|image| image.ends_with(tag)),
        "{images:?}"
    );
}

#[test]
fn another_release_name_does_not_bypass_the_guard() {
    let webhook = Webhook::start();
    for with in [Helm::V3, Helm::V4] {
        let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
        install(&webhook, with, &old, &[]);
        // The same objects under another release name.
        let rendered = new.render(with, &[]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        fs::write(
            folder.path().join("Chart.yaml"),
            "apiVersion: v2\nname: ghost\nversion: 1.0.0\n",
        )
        .unwrap();
        fs::write(folder.path().join("templates/all.yaml"), &rendered).unwrap();
        let chart = folder.path().to_str().unwrap();
        for name in ["ghost", "zz-ghost"] {
            let (done, text) = webhook.helm(
                with,
                &["install", name, chart, "-n", NAMESPACE, "--take-ownership"],
            );
            assert!(!done && text.contains("MG101"), "{text}");
            assert_stays(&webhook, ":v2.1.4");
        }
        // One component is enough for the denial.
        let one = objects(&rendered, "Deployment").remove(0);
        fs::write(folder.path().join("templates/all.yaml"), one.to_string()).unwrap();
        let (done, text) = webhook.helm(
            with,
            &[
                "install",
                "ghost",
                chart,
                "-n",
                NAMESPACE,
                "--take-ownership",
            ],
        );
        assert!(!done && text.contains("MG101"), "{text}");
        // Another release with separate objects, but the same metadata.
        let values = etcd_values(&webhook, "my-release-etcd:2379");
        let (done, text) = webhook.helm(
            with,
            &[
                "install",
                "other",
                new.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(!done && text.contains("MG101"), "{text}");
        assert_stays(&webhook, ":v2.1.4");
        webhook.helm(with, &["uninstall", "my-release", "-n", NAMESPACE]);
        webhook.kubectl(&["delete", "namespace", NAMESPACE]);
    }
}

#[test]
fn another_address_of_the_same_etcd_does_not_bypass_the_guard() {
    let webhook = Webhook::start();
    let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
    install(&webhook, Helm::V3, &old, &[]);
    let service = |name: &str| -> Value {
        let args = ["-n", NAMESPACE, "get", "service", name, "-o", "json"];
        serde_json::from_str(&expect_success(webhook.cluster.kubectl(args))).unwrap()
    };
    webhook.kubectl(&["create", "namespace", "team"]);
    let pods =
        json!({"app.kubernetes.io/name": "etcd", "app.kubernetes.io/instance": "my-release"});
    let etcd = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-release-etcd", "namespace": NAMESPACE},
        "spec": {"selector": pods, "ports": [{"port": 2379}]}});
    let apply_one = |object: &Value| {
        let args = ["apply", "-f", "-"];
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(args, &object.to_string()),
        );
    };
    apply_one(&etcd);
    let etcd = service("my-release-etcd");
    let ip = etcd["spec"]["clusterIP"].as_str().unwrap();
    let front = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": NAMESPACE},
        "spec": {"selector": etcd["spec"]["selector"], "ports": [{"port": 80, "targetPort": 2379}]}});
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias", "namespace": "team"},
        "spec": {"type": "ExternalName", "externalName": format!("my-release-etcd.{NAMESPACE}.svc.cluster.local")}});
    // A user may claim the address of another team's Service; it must not count as that etcd.
    let claim = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "claim", "namespace": "team"},
        "spec": {"selector": {"app": "own-etcd"}, "externalIPs": [ip], "ports": [{"port": 2379}]}});
    for object in [&front, &alias, &claim] {
        let args = ["apply", "-f", "-"];
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(args, &object.to_string()),
        );
    }
    let front_ip = service("front")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let install_on = |namespace: &str, address: &str| {
        let values = etcd_values(&webhook, address);
        let args = [
            "install",
            "other",
            new.path(),
            "-n",
            namespace,
            "-f",
            &values,
        ];
        webhook.helm(Helm::V3, &args)
    };
    let denied = |namespace: &str, address: &str| {
        wait_until(
            &format!("{address} is known in {namespace}"),
            Duration::from_secs(10),
            || {
                let (done, text) = install_on(namespace, address);
                if done {
                    // The watch has not shown the Service yet.
                    webhook.helm(Helm::V3, &["uninstall", "other", "-n", namespace]);
                }
                !done && text.contains("MG101")
            },
        );
    };
    for namespace in [NAMESPACE, "team"] {
        for address in [
            format!("{ip}:2379"),
            format!("front.{NAMESPACE}:80"),
            format!("{front_ip}:80"),
            "alias.team.svc:2379".to_owned(),
        ] {
            denied(namespace, &address);
        }
    }
    let (done, text) = install_on("team", "claim:2379");
    assert!(done, "an upgrade of separate data must be allowed: {text}");
    assert_stays(&webhook, ":v2.1.4");
}

#[test]
fn every_rule_applies_to_tools_with_other_names_than_kubectl() {
    let webhook = Webhook::start();
    install(
        &webhook,
        Helm::V4,
        &Chart::compact("4.1.34"),
        &["--set", "image.all.tag=v2.3.22"],
    );
    webhook.roll_out(NAMESPACE);
    webhook.kubectl(&["-n", GUARD, "delete", "releasedecisions", "--all"]);
    for manager in ["lens", "argocd-controller", "terraform", "k9s"] {
        let manager = format!("--field-manager={manager}");
        let image = "proxy=milvusdb/milvus:v2.4.23";
        let (done, text) = webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            image,
            &manager,
        ]);
        assert!(!done && text.contains("MG201"), "{manager}: {text}");
    }
    assert_stays(&webhook, ":v2.3.22");
}

#[test]
fn an_object_of_a_release_cannot_be_taken_over_with_other_data() {
    let webhook = Webhook::start();
    let chart = Chart::compact("4.1.34");
    install(&webhook, Helm::V4, &chart, &[]);
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        claims().contains("etcd")
    });
    let rendered = chart.render(Helm::V4, &[]);
    let config = objects(&rendered, "ConfigMap")
        .into_iter()
        .find(|object| object["metadata"]["name"] == "my-release-milvus")
        .unwrap();
    let set = objects(&rendered, "StatefulSet")
        .into_iter()
        .find(|object| object["metadata"]["name"] == "my-release-etcd")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut other_root = config.clone();
    other_root["data"]["user.yaml"] = json!("etcd: {rootPath: elsewhere}\n");
    let mut none = set.clone();
    none["spec"]["replicas"] = json!(0);
    let mut deleting = set.clone();
    deleting["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete"});
    for (object, rule) in [
        (&other_root, "MG302"),
        (&none, "MG407"),
        (&deleting, "MG305"),
    ] {
        let taken = chart_of(folder.path(), &object.to_string());
        for with in [Helm::V3, Helm::V4] {
            let (done, text) = webhook.helm(
                with,
                &[
                    "install",
                    "ghost",
                    &taken,
                    "-n",
                    NAMESPACE,
                    "--take-ownership",
                ],
            );
            assert!(!done && text.contains(rule), "{rule} with {with:?}: {text}");
            expect_success(webhook.cluster.kubectl([
                "-n",
                NAMESPACE,
                "delete",
                "secrets",
                "-l",
                "owner=helm,name=ghost",
            ]));
        }
        let (done, text) = apply(
            &webhook,
            std::slice::from_ref(object),
            &["--server-side", "--force-conflicts", "--field-manager=helm"],
        );
        assert!(!done && text.contains(rule), "{rule}: {text}");
    }
    // All claims in one request.
    for query in [
        "",
        "?labelSelector=app.kubernetes.io%2Finstance%3Dmy-release",
        "?propagationPolicy=Orphan&gracePeriodSeconds=0",
    ] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims{query}");
        let (done, text) = webhook.kubectl(&["delete", "--raw", &path]);
        assert!(!done && text.contains("MG305"), "{query}: {text}");
    }
    // Every object with data.
    let path =
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets?propagationPolicy=Foreground");
    let (done, text) = webhook.kubectl(&["delete", "--raw", &path]);
    assert!(!done && text.contains("MG401"), "{text}");
    assert!(claims().contains("etcd"));
    let (done, text) = apply(
        &webhook,
        &[config, set],
        &["--server-side", "--force-conflicts", "--field-manager=helm"],
    );
    assert!(done, "unchanged objects must be allowed: {text}");
}
