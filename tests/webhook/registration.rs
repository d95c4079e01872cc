//! The guard registers itself for kinds with pods, and for the namespaces that contain Milvus; the
//! API server calls it only for these.

use std::time::Duration;

use crate::common::{
    Chart,
    webhook::{Server, Webhook, wait_until},
};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";
const MINUTE: Duration = Duration::from_secs(60);

/// Namespaces of a webhook's selector with this operator, the last one; `None` if the webhook is
/// not registered.
fn namespaces(webhook: &Webhook, name: &str, operator: &str) -> Option<Vec<String>> {
    let object = webhook.cluster.get_json(VALIDATING);
    let all = object["webhooks"].as_array().unwrap();
    let found = all
        .iter()
        .find(|one| one["name"] == format!("{name}.guard.milvus.io"))?;
    let expressions = found["namespaceSelector"]["matchExpressions"]
        .as_array()
        .unwrap();
    let last = expressions
        .iter()
        .rev()
        .find(|one| one["operator"] == operator)?;
    Some(
        last["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

fn stateful(name: &str) -> String {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {"serviceName": name,
        "selector": {"matchLabels": {"app.kubernetes.io/name": "etcd"}},
        "template": {"metadata": {"labels": {"app.kubernetes.io/name": "etcd"}},
            "spec": {"containers": [{"name": "etcd", "image": "bitnami/etcd:3.5.0"}]}}}})
    .to_string()
}

#[test]
fn dependencies_are_blocked_only_in_namespaces_with_milvus() {
    let mut webhook = Webhook::start();
    let address = webhook
        .server
        .url
        .strip_prefix("https://")
        .unwrap()
        .to_owned();
    assert_eq!(
        namespaces(&webhook, "dependencies", "In"),
        None,
        "without Milvus, no namespace may be registered"
    );
    for space in ["milvus", "other"] {
        expect_success(webhook.cluster.kubectl(["create", "namespace", space]));
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(["create", "-n", space, "-f", "-"], &stateful("etcd")),
        );
    }
    let chart = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &chart, &[]);
    wait_until("the namespace in the registration", MINUTE, || {
        namespaces(&webhook, "dependencies", "In").is_some_and(|names| names == ["milvus"])
            && namespaces(&webhook, "elsewhere", "NotIn")
                .is_some_and(|names| names.contains(&"milvus".to_owned()))
    });

    webhook.server.kill();
    let scaled = |webhook: &Webhook| {
        webhook
            .kubectl(&["-n", "milvus", "scale", "statefulset/etcd", "--replicas=2"])
            .1
    };
    wait_until("etcd of Milvus to wait", MINUTE, || {
        scaled(&webhook).contains("failed calling webhook")
    });
    for change in [
        &[
            "patch",
            "statefulset/etcd",
            "-p",
            r#"{"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}"#,
        ][..],
        &[
            "create",
            "configmap",
            "neutral",
            "--from-literal=user.yaml=a",
        ],
        &["delete", "statefulset/etcd"],
    ] {
        let here = webhook.kubectl(&[&["-n", "milvus"], change].concat());
        assert!(
            !here.0 && here.1.contains("failed calling webhook"),
            "{change:?}: {}",
            here.1
        );
        let there = webhook.kubectl(&[&["-n", "other"], change].concat());
        assert!(
            there.0,
            "the etcd of another team must not be blocked, {change:?}: {}",
            there.1
        );
    }
    webhook.server = Server::start(&webhook.cluster, webhook.folder.path(), &address, &[]);
    wait_until("the guard to be back", MINUTE, || {
        !scaled(&webhook).contains("failed calling webhook")
    });

    // After Milvus is uninstalled, its namespace is removed from the registration.
    let (done, text) = webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", "milvus"]);
    assert!(done, "{text}");
    expect_success(
        webhook
            .cluster
            .kubectl(["-n", "milvus", "delete", "pvc,statefulset", "--all"]),
    );
    wait_until("the namespace to be like others", MINUTE, || {
        namespaces(&webhook, "dependencies", "In").is_none()
    });
}

#[test]
fn every_kind_with_pods_of_milvus_is_reviewed() {
    let webhook = Webhook::start();
    expect_success(webhook.cluster.kubectl(["create", "namespace", "milvus"]));
    wait_until("the namespace's account", MINUTE, || {
        webhook
            .kubectl(&["-n", "milvus", "get", "serviceaccount", "default"])
            .0
    });
    let reviews = || -> f64 {
        let text = webhook.server.get_metrics();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("milvus_guard_reviews_total{gate=\"workload\""));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let container = json!({"name": "standalone", "image": "milvusdb/milvus:v2.1.4", "args": ["milvus", "run", "standalone"]});
    let pod = json!({"containers": [container]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod});
    let selected = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let mut once = pod.clone();
    once["restartPolicy"] = json!("Never");
    let job = json!({"template": {"spec": once}});
    let objects: [(&str, &str, Value, &str); 7] = [
        ("v1", "Pod", pod.clone(), "/spec"),
        (
            "apps/v1",
            "DaemonSet",
            selected.clone(),
            "/spec/template/spec",
        ),
        (
            "apps/v1",
            "ReplicaSet",
            selected.clone(),
            "/spec/template/spec",
        ),
        (
            "apps/v1",
            "StatefulSet",
            selected.clone(),
            "/spec/template/spec",
        ),
        (
            "v1",
            "ReplicationController",
            json!({"selector": {"a": "b"}, "template": template}),
            "/spec/template/spec",
        ),
        (
            "batch/v1",
            "CronJob",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}),
            "/spec/jobTemplate/spec/template/spec",
        ),
        ("batch/v1", "Job", job, ""),
    ];
    for (version, kind, spec, at) in objects {
        let name = format!("m-{}", kind.to_lowercase());
        let object =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        let before = reviews();
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(["create", "-n", "milvus", "-f", "-"], &object.to_string()),
        );
        assert!(
            reviews() > before,
            "{kind} must be reviewed when it is created"
        );
        if at.is_empty() {
            continue;
        }
        let before = reviews();
        let place = format!("{at}/containers/0/image");
        let patch = json!([{"op": "replace", "path": place, "value": "milvusdb/milvus:v2.2.16"}])
            .to_string();
        let (done, text) = webhook.kubectl(&[
            "-n",
            "milvus",
            "patch",
            &kind.to_lowercase(),
            &name,
            "--type=json",
            "-p",
            &patch,
        ]);
        assert!(
            reviews() > before,
            "{kind} must be reviewed for another image: {text}"
        );
        assert!(
            !done && text.contains("MG101"),
            "{kind} must be denied without the migration: {text}"
        );
    }
}
