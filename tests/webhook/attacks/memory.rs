//! What the guard stores about the running state and uninstalled releases.

use std::time::Duration;

use super::{NAMESPACE, apply, etcd_values, install, objects, remembered};
use crate::common::{
    Chart,
    webhook::{GUARD, Server, TEMPLATE, Webhook, wait_until, write_template},
};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

#[test]
fn a_history_that_cannot_be_stored_counts_on_every_replica() {
    let mut webhook = Webhook::start();
    let folder = tempfile::tempdir().unwrap();
    write_template(&folder.path().join(TEMPLATE), "https://127.0.0.1:1", &[]);
    let other = Server::start(&webhook.cluster, folder.path(), "127.0.0.1:0", &[]);
    // The guard gets no right to store its release history.
    let role = webhook.cluster.get_json(&format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{GUARD}/roles/milvus-guard"
    ));
    let mut less = role.clone();
    less["metadata"] = json!({"name": "milvus-guard", "namespace": GUARD});
    less["rules"]
        .as_array_mut()
        .unwrap()
        .retain(|rule| rule["resources"] != json!(["configmaps"]));
    assert_ne!(less["rules"], role["rules"]);
    webhook.cluster.apply(&less.to_string());

    let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
    let values = etcd_values(&webhook, "etcd.example.com:2379");
    webhook.install(Helm::V4, &old, &["-f", &values]);
    let is_seen = |metrics: &str| metrics.contains("milvus_guard_memory_unsaved 1");
    wait_until("both replicas say so", Duration::from_secs(30), || {
        is_seen(&webhook.server.get_metrics()) && is_seen(&other.get_metrics())
    });
    assert!(webhook.metric("milvus_guard_memory_failures_total") > 0.0);
    let (done, text) = webhook.helm(
        Helm::V4,
        &["uninstall", "my-release", "-n", NAMESPACE, "--wait"],
    );
    assert!(done, "{text}");
    let is_denied = |webhook: &Webhook| {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                "my-release",
                new.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(
            !done && text.contains("MG101") && text.contains("2.1.4 would become 2.2.13"),
            "{text}"
        );
    };
    is_denied(&webhook);
    webhook.server.kill();
    webhook.server = other;
    let _values = std::mem::replace(&mut webhook.folder, folder);
    webhook.register();
    is_denied(&webhook);

    // The history is stored as soon as that is possible.
    less["rules"] = role["rules"].clone();
    webhook.cluster.apply(&less.to_string());
    remembered(&webhook);
    wait_until("nothing is left", Duration::from_secs(30), || {
        webhook
            .server
            .get_metrics()
            .contains("milvus_guard_memory_unsaved 0")
    });
    is_denied(&webhook);
}

#[test]
fn deleted_objects_are_remembered() {
    let webhook = Webhook::start();
    let values = etcd_values(&webhook, "etcd.example.com:2379");
    install(
        &webhook,
        Helm::V4,
        &Chart::compact("4.1.34"),
        &["-f", &values],
    );
    let get = |kind: &str, name: &str| {
        let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]);
        assert!(done, "{text}");
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object.as_object_mut().unwrap().remove("status");
        for key in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            object["metadata"].as_object_mut().unwrap().remove(key);
        }
        object
    };
    // The ConfigMap, deleted and created again with another root path.
    let mut config = get("configmap", "my-release-milvus");
    let text = config.to_string();
    assert!(text.contains("by-dev"), "{text}");
    config = serde_json::from_str(&text.replace("by-dev", "elsewhere")).unwrap();
    let replace = |object: &Value| {
        let output = webhook.cluster.kubectl_with_input(
            ["-n", NAMESPACE, "replace", "--force", "-f", "-"],
            &object.to_string(),
        );
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (done, text) = replace(&config);
    assert!(!done && text.contains("MG302"), "{text}");
    let (done, text) = apply(&webhook, &[config.clone()], &[]);
    assert!(
        !done && text.contains("MG302"),
        "a later creation must be denied: {text}"
    );
    let (done, text) = apply(
        &webhook,
        &[serde_json::from_str(&config.to_string().replace("elsewhere", "by-dev")).unwrap()],
        &[],
    );
    assert!(done, "the old ConfigMap must be allowed: {text}");
    // Every Deployment, deleted and created again with another version.
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", "deployment", "--all"]);
    assert!(done, "{text}");
    wait_until("no Deployment is left", Duration::from_secs(30), || {
        webhook.images(NAMESPACE).is_empty()
    });
    let chart = Chart::compact("4.0.31");
    let (_, rendered) = webhook.helm(
        Helm::V4,
        &["template", "my-release", chart.path(), "-f", &values],
    );
    let (done, text) = apply(&webhook, &objects(&rendered, "Deployment"), &[]);
    assert!(!done && text.contains("MG103"), "{text}");
    // The release, uninstalled and installed under the same and under another name.
    let (done, text) = webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    assert!(done, "{text}");
    for name in ["my-release", "ghost"] {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                name,
                chart.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(!done && text.contains("MG103"), "{name}: {text}");
    }
    // From another namespace with the same data.
    wait_until("another namespace knows", Duration::from_secs(20), || {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                "far",
                chart.path(),
                "-n",
                "far",
                "--create-namespace",
                "-f",
                &values,
            ],
        );
        !done && text.contains("MG103")
    });
    let old = Chart::compact("4.1.34");
    let (done, text) = webhook.helm(
        Helm::V4,
        &[
            "install",
            "my-release",
            old.path(),
            "-n",
            NAMESPACE,
            "-f",
            &values,
        ],
    );
    assert!(done, "the same version must be allowed: {text}");
}

#[test]
fn another_namespace_cannot_fill_the_stored_history() {
    let webhook = Webhook::start();
    expect_success(webhook.cluster.kubectl(["create", "namespace", "foreign"]));
    let decoy = |name: &str| {
        let image = format!("milvusdb/milvus:{}", "x".repeat(600_000));
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "foreign"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "a", "image": image, "args": ["milvus", "run", "standalone"]}]}}}})
    };
    for name in ["one", "two", "three"] {
        let output = webhook
            .cluster
            .kubectl_with_input(["create", "-f", "-"], &decoy(name).to_string());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    install(&webhook, Helm::V4, &Chart::compact("3.2.18"), &[]);
    assert!(webhook.metric("milvus_guard_memory_unsaved") < 1.0);
    wait_until("the flood is seen", Duration::from_secs(20), || {
        webhook.metric("milvus_guard_memory_incomplete") > 0.0
    });
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        !claims().trim().is_empty()
    });
    webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    let new = Chart::compact("4.0.31");
    let (done, text) = webhook.helm(
        Helm::V4,
        &["install", "my-release", new.path(), "-n", NAMESPACE],
    );
    assert!(!done && text.contains("MG101"), "{text}");
}

#[test]
fn owner_references_and_deletions_that_would_lose_data_are_denied() {
    let webhook = Webhook::start();
    install(&webhook, Helm::V4, &Chart::compact("4.1.34"), &[]);
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        claims().contains("etcd")
    });
    let claim = claims()
        .lines()
        .find(|name| name.contains("etcd"))
        .unwrap()
        .to_owned();
    let set = "statefulset.apps/my-release-etcd";
    let missing = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let owned = json!({"metadata": {"ownerReferences": missing}});
    let labelled = json!({"metadata": {"ownerReferences": missing, "labels": {"a": "b"}}});
    let patch = |name: &str, patch: &Value| {
        webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "patch",
            name,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ])
    };
    for (name, rule) in [(claim.as_str(), "MG305"), (set, "MG401")] {
        for change in [&owned, &labelled] {
            let (done, text) = patch(name, change);
            assert!(
                !done && text.contains(rule) && text.contains("garbage collector"),
                "{name}: {text}"
            );
        }
        let (done, text) = patch(name, &json!({"metadata": {"labels": {"a": "b"}}}));
        assert!(done, "{name}: {text}");
    }
    for field in ["whenScaled", "whenDeleted"] {
        let policy = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {field: "Delete"}}});
        let (done, text) = patch(set, &policy);
        assert!(!done && text.contains("MG305"), "{field}: {text}");
    }
    // First the Services of etcd, then its StatefulSet.
    let (_, services) = webhook.kubectl(&["-n", NAMESPACE, "get", "services", "-o", "name"]);
    for service in services.lines().filter(|name| name.contains("etcd")) {
        let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", service]);
        assert!(done, "{text}");
    }
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", set, "--wait=false"]);
    assert!(!done && text.contains("MG401"), "{text}");
    assert!(claims().contains("etcd"));
    let (done, text) = webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    assert!(done, "an uninstallation must be allowed: {text}");
}
