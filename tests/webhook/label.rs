//! The version label: set by the webhook, which is called only if there is something to do, or by a
//! `MutatingAdmissionPolicy` in the API server.

use std::{fs, process::Command, time::Duration};

use milvus_guard_core::admission::{mutate::mutate, review::Review};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::{Value, json};

use crate::common::{
    Chart,
    webhook::{Webhook, rendered_for, wait_until},
};

const MINUTE: Duration = Duration::from_secs(60);
const OURS: &str = "guard.milvus.io/version";
const COMMON: &str = "app.kubernetes.io/version";

/// A cluster with the policy of the chart, but without the guard.
fn with_policy() -> ControlPlane {
    let cluster = ControlPlane::start();
    let values = ["hold.enabled=false", "versionLabel.by=policy"];
    let objects = rendered_for("1.36.3", &values, |kind| {
        kind.starts_with("MutatingAdmission")
    });
    assert_eq!(objects.len(), 2);
    for object in objects {
        cluster.apply(&object.to_string());
    }
    let probe = deployment("probe", "milvusdb/milvus:v2.4.5", &json!({}));
    wait_until("the policy labels", MINUTE, || {
        label(&tried(&cluster, std::slice::from_ref(&probe))[0], OURS).is_some()
    });
    cluster
}

fn deployment(name: &str, image: &str, labels: &Value) -> Value {
    pod_of(name, labels, &json!({"containers": [container(image)]}))
}

fn container(image: &str) -> Value {
    json!({"name": "proxy", "image": image, "args": ["/milvus/tools/run.sh", "milvus", "run", "proxy"]})
}

fn pod_of(name: &str, labels: &Value, pod: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}})
}

/// The objects as the API server would store them, by a dry run.
fn tried(cluster: &ControlPlane, objects: &[Value]) -> Vec<Value> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let text = expect_success(cluster.kubectl_with_input(
        ["create", "--dry-run=server", "-o", "json", "-f", "-"],
        &list,
    ));
    printed(&text)
}

/// The objects that kubectl printed, one after the other.
fn printed(text: &str) -> Vec<Value> {
    let objects = serde_json::Deserializer::from_str(text).into_iter();
    objects.map(Result::unwrap).collect()
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// The object with the label that the guard's own code sets.
fn by_webhook(object: &Value) -> Value {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "operation": "CREATE",
        "namespace": "default", "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "object": object}})
    .to_string();
    let response = mutate(&Review::parse(review.as_bytes()).unwrap());
    let patch: json_patch::Patch =
        serde_json::from_value(serde_json::to_value(&response.patch).unwrap()).unwrap();
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

/// Images whose version the policy must recognize.
const CLEAR: [&str; 13] = [
    "milvusdb/milvus:v2.4.5",
    "milvusdb/milvus:2.4.5",
    "docker.io/milvusdb/milvus:v2.5.27-gpu",
    "milvusdb/milvus:v2.5.27-gpu-arm64",
    "milvusdb/milvus:v2.3.1-amd64",
    "milvusdb/milvus:v2.4.13-hotfix",
    "milvusdb/milvus:v2.4.13-hotfix-gpu",
    "registry.example.com:5000/mirror/milvusdb/milvus:v2.6.22",
    "registry.example.com:5000/milvusdb-milvus:v2.6.22",
    "registry.example.com/milvus-gpu:v2.4.5",
    "milvusdb/milvus:v2.1.0@sha256:1e8e05b1d5e8d54b8e8fb0f5a0a7e2f24bbd5a1b8b3e7a8b07a3c52a6f9c4d21",
    "milvus:v3.0.0",
    "milvusdb/milvus:V2.4.5",
];

/// Images whose version the policy may omit; a version that it sets must be the webhook's.
const OTHERS: [&str; 27] = [
    "milvusdb/milvus:latest",
    "milvusdb/milvus",
    "milvusdb/milvus@sha256:1e8e05b1d5e8d54b8e8fb0f5a0a7e2f24bbd5a1b8b3e7a8b07a3c52a6f9c4d21",
    "registry.example.com:5000/milvusdb/milvus",
    "milvusdb/milvus:master-20250101-abcdef12",
    "milvusdb/milvus:v2.5.0-beta",
    "milvusdb/milvus:v2.6.0-rc1",
    "milvusdb/milvus:v2.6.0-RC1-gpu",
    "milvusdb/milvus:v2.4.0-rc.1",
    "milvusdb/milvus:v3.0-beta",
    "milvusdb/milvus:v2.0.0-rc8-20211104-d1f4106",
    "milvusdb/milvus:2.4.5-debian-12-r0",
    "milvusdb/milvus:v2.5.12-secure",
    "milvusdb/milvus:2.5.12-r1",
    "milvusdb/milvus:v2.5.12_company3",
    "milvusdb/milvus:v2.5.12-20250701",
    "milvusdb/milvus:v2.5.12-4-gabcdef1",
    "milvusdb/milvus:v2.5.5-dev",
    "milvusdb/milvus:2.6-20260604-7aac2a2c",
    "milvusdb/milvus:v2.5.27-20250101-abcdef12",
    "milvusdb/milvus:2.2.0-20230404-c4ea59bf",
    "milvusdb/milvus:2.5-latest",
    "milvusdb/milvus:v2.5",
    "milvusdb/milvus:v02.4.5",
    "milvusdb/milvus:v2.4.5.6",
    "milvusdb/milvus-config-tool:v0.1.3",
    "registry.example.com/team/search:v2.4.5",
];

/// Pods that run Milvus in other ways than the chart.
fn pods() -> Vec<(&'static str, Value)> {
    let milvus = |image: &str, more: Value| {
        let mut one = json!({"name": "milvus", "image": image});
        one.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        one
    };
    let named = |name: &str, mut one: Value| {
        one["name"] = json!(name);
        one
    };
    let old = "milvusdb/milvus:v2.3.0";
    let new = "milvusdb/milvus:v2.4.5";
    let plain = container(new);
    vec![
        (
            "image-alone",
            json!({"containers": [milvus(new, json!({}))]}),
        ),
        (
            "a-tool",
            json!({"containers": [milvus(new, json!({"command": ["sleep", "1d"]}))]}),
        ),
        (
            "a-script",
            json!({"containers": [milvus(new, json!({"command": ["sh", "-c", "./start"]}))]}),
        ),
        (
            "entrypoint",
            json!({"containers": [milvus(new, json!({"args": ["run", "proxy"]}))]}),
        ),
        (
            "shell",
            json!({"containers": [milvus(new, json!({"command": ["sh", "-c", "exec milvus run proxy"]}))]}),
        ),
        (
            "two-versions",
            json!({"containers": [plain, named("other", container(old))]}),
        ),
        (
            "same-twice",
            json!({"containers": [plain, named("other", container(new))]}),
        ),
        (
            "config-tool",
            json!({"containers": [plain], "initContainers": [
            {"name": "config", "image": "milvusdb/milvus-config-tool:v0.1.3",
             "command": ["/cp", "/run-helm.sh,/merge", "/milvus/tools/run-helm.sh,/milvus/tools/merge"]}]}),
        ),
        (
            "init-copies",
            json!({"containers": [plain], "initContainers": [
            {"name": "copy", "image": old, "command": ["cp", "/a", "/b"]}]}),
        ),
        (
            "init-only",
            json!({"containers": [{"name": "web", "image": "nginx:1"}], "initContainers": [
            {"name": "copy", "image": new, "command": ["cp", "/a", "/b"]}]}),
        ),
        (
            "wrapper",
            json!({"containers": [{"name": "a", "image": "corp/search:v9.9.9", "args": ["milvus", "run", "proxy"]}]}),
        ),
        (
            "wrapper-beside",
            json!({"containers": [
            {"name": "a", "image": "corp/search:v9.9.9", "args": ["milvus", "run", "proxy"]}, named("b", plain.clone())]}),
        ),
        (
            "wrapper-in-quotes",
            json!({"containers": [
            {"name": "a", "image": "corp/search:v9.9.9", "command": ["sh", "-c", "'/x/milvus' 'run' proxy"]},
            milvus(new, json!({"name": "b"}))]}),
        ),
        (
            "wrapper-by-variable",
            json!({"containers": [
            {"name": "a", "image": "corp/search:v9.9.9", "command": ["sh", "-c", "$BIN run proxy"],
             "env": [{"name": "BIN", "value": "/bin/milvus"}]}, milvus(new, json!({"name": "b"}))]}),
        ),
        (
            "wrapper-entrypoint",
            json!({"containers": [
            {"name": "a", "image": "corp/search:v9.9.9", "args": ["run", "proxy"], "env": [{"name": "MILVUSCONF", "value": "/c"}]},
            milvus(new, json!({"name": "b"}))]}),
        ),
        (
            "server",
            json!({"containers": [
            {"name": "a", "image": "corp/search:v9.9.9", "command": ["/x/milvus_server"]}, milvus(new, json!({"name": "b"}))]}),
        ),
        (
            "tool-beside",
            json!({"containers": [
            milvus(old, json!({"name": "b", "command": ["curl", "x"]})), plain]}),
        ),
        (
            "upper-case-argument",
            json!({"containers": [milvus(new, json!({"args": ["milvus", "run", "-alias", "x", "proxy"]}))]}),
        ),
        (
            "exporter",
            json!({"containers": [plain, {"name": "exporter", "image": "corp/exporter:1", "args": ["--target", "milvus:9091"]}]}),
        ),
        (
            "sidecar-first",
            json!({"containers": [{"name": "mesh", "image": "istio/proxyv2:1.2.3", "args": ["run", "sidecar"]}, plain]}),
        ),
    ]
}

#[test]
fn the_policy_never_sets_another_version_than_the_webhook() {
    let cluster = with_policy();
    let images = CLEAR.iter().chain(&OTHERS);
    let mut objects: Vec<Value> = images
        .enumerate()
        .map(|(at, image)| deployment(&format!("image-{at}"), image, &json!({})))
        .collect();
    objects.extend(
        pods()
            .iter()
            .map(|(name, pod)| pod_of(name, &json!({}), pod)),
    );
    let declared = json!({"guard.milvus.io/declared-version": "2.4.5 for milvusdb/milvus:latest"});
    let mut object = deployment("declared", "milvusdb/milvus:latest", &json!({}));
    object["metadata"]["annotations"] = declared;
    objects.push(object);
    // A label that a user wrote is corrected or removed.
    objects.push(deployment(
        "wrong",
        "milvusdb/milvus:v2.4.5",
        &json!({OURS: "2.3.0"}),
    ));
    objects.push(deployment(
        "stale",
        "milvusdb/milvus:latest",
        &json!({OURS: "2.3.0", COMMON: "2.3.0"}),
    ));
    objects.push(deployment(
        "chart",
        "milvusdb/milvus:v2.4.5",
        &json!({COMMON: "9.9.9"}),
    ));
    let made = tried(&cluster, &objects);
    assert_eq!(made.len(), objects.len());
    let mut silent = Vec::new();
    for (object, made) in objects.iter().zip(&made) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let what = format!("{name}: {}", object["spec"]["template"]["spec"]);
        let expected = by_webhook(object);
        match label(made, OURS) {
            None => silent.push(what.clone()),
            said => {
                assert_eq!(said, label(&expected, OURS), "{what}");
                assert_eq!(label(made, COMMON), label(&expected, COMMON), "{what}");
            }
        }
    }
    let is_silent = |name: &str| {
        silent
            .iter()
            .any(|what| what.starts_with(&format!("{name}: ")))
    };
    for at in 0..CLEAR.len() {
        assert!(!is_silent(&format!("image-{at}")), "{silent:#?}");
    }
    for name in [
        "image-alone",
        "entrypoint",
        "shell",
        "same-twice",
        "config-tool",
        "exporter",
        "wrong",
        "chart",
        "upper-case-argument",
    ] {
        assert!(!is_silent(name), "{name}: {silent:#?}");
    }
    assert!(
        is_silent("stale") && is_silent("declared") && is_silent("two-versions"),
        "{silent:#?}"
    );
}

#[test]
fn the_labels_of_the_policy_follow_the_image_without_conflicts() {
    let cluster = with_policy();
    let apply = |object: &Value, manager: &str| {
        let flag = format!("--field-manager={manager}");
        expect_success(cluster.kubectl_with_input(
            ["apply", "--server-side", &flag, "-f", "-"],
            &object.to_string(),
        ));
        cluster.get_json("/apis/apps/v1/namespaces/default/deployments/m")
    };
    let both =
        |object: &Value| [OURS, COMMON].map(|key| label(object, key).unwrap_or("none").to_owned());
    let at = |tag: &str| deployment("m", &format!("milvusdb/milvus:{tag}"), &json!({}));
    assert_eq!(both(&apply(&at("v2.4.5"), "one")), ["2.4.5", "2.4.5"]);
    // The policy owns no field, so another tool meets no conflict.
    let moved = apply(&at("v2.4.24"), "one");
    assert_eq!(both(&moved), ["2.4.24", "2.4.24"]);
    let again = apply(&at("v2.4.24"), "one");
    assert_eq!(
        again["metadata"]["resourceVersion"],
        moved["metadata"]["resourceVersion"]
    );
    // For an unknown version the label of the old one is removed.
    assert_eq!(both(&apply(&at("latest"), "one"))[0], "none");
    // A label that a chart owns is not changed.
    let owned = deployment("m", "milvusdb/milvus:v2.4.5", &json!({COMMON: "2.4.5"}));
    apply(&owned, "one");
    let owned = deployment("m", "milvusdb/milvus:v2.4.24", &json!({COMMON: "2.4.5"}));
    assert_eq!(both(&apply(&owned, "one")), ["2.4.24", "2.4.5"]);
}

#[test]
fn the_policy_labels_the_workloads_of_every_chart() {
    let cluster = with_policy();
    for version in ["3.2.18", "4.1.34", "5.0.14"] {
        let chart = Chart::real_or_compact(version);
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = chart.render_in("default", Helm::V4, &["image.all.tag=v2.4.5"]);
        // Old charts contain objects of dependencies whose APIs no longer exist.
        let deployments: Vec<&str> = text
            .split("\n---")
            .filter(|document| document.contains("\nkind: Deployment\n"))
            .collect();
        fs::write(file.path(), deployments.join("\n---")).unwrap();
        let file = file.path().to_str().unwrap();
        let made = expect_success(cluster.kubectl([
            "create",
            "--dry-run=server",
            "-o",
            "json",
            "-f",
            file,
        ]));
        let made = printed(&made);
        let deployments: Vec<&Value> = made
            .iter()
            .filter(|object| object["kind"] == "Deployment")
            .collect();
        assert!(!deployments.is_empty());
        for object in deployments {
            let expected = by_webhook(object);
            assert_eq!(
                label(object, OURS),
                label(&expected, OURS),
                "{version}: {object}"
            );
        }
    }
}

/// Sends a signal to the guard: STOP freezes it, CONT resumes it.
fn signal(webhook: &Webhook, name: &str) {
    let pid = webhook.server.pid().to_string();
    let mut kill = Command::new("kill");
    assert!(kill.args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn the_webhook_is_called_only_if_there_is_something_to_label_or_to_hold() {
    let webhook = Webhook::start();
    let calls = || -> f64 {
        webhook
            .server
            .get_metrics()
            .lines()
            .filter(|line| line.starts_with("milvus_guard_reviews_total{gate=\"mutate\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let object = || {
        webhook
            .cluster
            .get_json("/apis/apps/v1/namespaces/default/deployments/m")
    };
    let patch = |patch: &Value| {
        let before = calls();
        let (done, text) = webhook.kubectl(&["patch", "deployment", "m", "-p", &patch.to_string()]);
        assert!(done, "{text}");
        calls() - before > 0.5
    };
    let first = deployment("m", "milvusdb/milvus:v2.4.1", &json!({}));
    webhook.cluster.apply(&first.to_string());
    assert_eq!(label(&object(), OURS), Some("2.4.1"));
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": image}]}}}});
    for (what, change, is_called) in [
        ("replicas", json!({"spec": {"replicas": 0}}), false),
        (
            "annotation",
            json!({"metadata": {"annotations": {"a": "b"}}}),
            false,
        ),
        (
            "pod annotation",
            json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}),
            false,
        ),
        ("another image", image("milvusdb/milvus:v2.4.15"), true),
        (
            "its label",
            json!({"metadata": {"labels": {OURS: "2.4.1"}}}),
            true,
        ),
        (
            "a label",
            json!({"metadata": {"labels": {"team": "search"}}}),
            true,
        ),
        ("unknown version", image("milvusdb/milvus:latest"), true),
        (
            "each change while the version is unknown",
            json!({"spec": {"replicas": 1}}),
            true,
        ),
        (
            "declared",
            json!({"metadata": {"annotations": {"guard.milvus.io/declared-version": "2.4.15 for milvusdb/milvus:latest"}}}),
            true,
        ),
    ] {
        assert_eq!(patch(&change), is_called, "{what}");
    }
    assert_eq!(label(&object(), OURS), Some("2.4.15"), "declared");
    // After a failed call the next change corrects the label: 2.4.1 is not 2.4.15.
    assert!(patch(&image("milvusdb/milvus:v2.4.15")));
    signal(&webhook, "STOP");
    let unseen = json!({"metadata": {"labels": {OURS: "2.4.1"}}});
    let (done, text) = webhook.kubectl(&["patch", "deployment", "m", "-p", &unseen.to_string()]);
    signal(&webhook, "CONT");
    assert!(done, "a failed label must not refuse the change: {text}");
    assert_eq!(label(&object(), OURS), Some("2.4.1"));
    assert!(patch(&json!({"spec": {"replicas": 0}})));
    assert_eq!(label(&object(), OURS), Some("2.4.15"));
}
