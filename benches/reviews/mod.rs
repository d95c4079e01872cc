//! Reviews for the benchmarks, as an API server sends them.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::{fs, io::Write, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use milvus_guard_core::manifest::documents;
use serde_json::{Value, json};

/// A rendered cluster of 2.1.4.
pub const RUNNING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/demo/1-skipped-migration/before.yaml"
);
/// One of its Deployments with 120 variables, as Kubernetes 1.36.3 stored it after a server-side
/// apply (including `managedFields`). A review of it has 35 KB.
const DEPLOYMENT: &str = include_str!("deployment.json");

fn review(group: &str, resource: &str, operation: &str, object: &Value, old: &Value) -> Vec<u8> {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "00000000-0000-4000-8000-000000000001", "name": object["metadata"]["name"], "namespace": "milvus",
        "resource": {"group": group, "version": "v1", "resource": resource}, "operation": operation,
        "userInfo": {"username": "system:serviceaccount:ci:deployer", "groups": ["system:authenticated"]},
        "object": object, "oldObject": old, "dryRun": false, "options": {"fieldManager": "kubectl"},
    }})
    .to_string()
    .into_bytes()
}

/// A review of 2 KB about an object unrelated to Milvus, of a kind that the guard reviews.
pub fn unrelated() -> Vec<u8> {
    let environment: Vec<Value> = (0..12)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": "some value of it"}))
        .collect();
    let deployment = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "milvus"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image, "env": environment}]}}}})
    };
    review(
        "apps",
        "deployments",
        "UPDATE",
        &deployment("nginx:1.29.1"),
        &deployment("nginx:1.29.0"),
    )
}

/// The objects of [`RUNNING`], with [`DEPLOYMENT`] in its place.
pub fn running() -> Vec<Value> {
    let text = fs::read_to_string(RUNNING).unwrap();
    let kept: Value = serde_json::from_str(DEPLOYMENT).unwrap();
    let mut all: Vec<Value> = documents(&text)
        .map(|document| document.unwrap().root.to_json())
        .collect();
    for (at, object) in all.iter_mut().enumerate() {
        object["metadata"]["namespace"] = json!("milvus");
        if object["kind"] == "Deployment" && object["metadata"]["name"] == kept["metadata"]["name"]
        {
            *object = kept.clone();
        } else if object["kind"] == "Deployment" {
            // As the API server stores it.
            object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-0000000001{at:02}"));
            object["metadata"]["generation"] = json!(1);
            object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
        }
    }
    assert!(all.contains(&kept));
    all
}

/// Writes the running state to a file for `--before`: the guard's state contains the Deployment
/// that changes.
pub fn write_running(path: &Path) {
    fs::write(
        path,
        json!({"apiVersion": "v1", "kind": "List", "items": running()}).to_string(),
    )
    .unwrap();
}

/// A change of [`DEPLOYMENT`], with the fields of the API server in their order.
fn changed(from: &str, to: &str) -> Vec<u8> {
    assert!(DEPLOYMENT.contains(from));
    let (new, old) = (DEPLOYMENT.replacen(from, to, 1), DEPLOYMENT);
    let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
    let resource = r#"{"group":"apps","version":"v1","resource":"deployments"}"#;
    [
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"00000000-0000-4000-8000-000000000001","#,
        &format!(r#""kind":{kind},"resource":{resource},"requestKind":{kind},"requestResource":{resource},"#),
        r#""name":"my-release-milvus-datacoord","namespace":"milvus","operation":"UPDATE","#,
        r#""userInfo":{"username":"system:serviceaccount:ci:deployer","groups":["system:authenticated"]},"#,
        &format!(r#""object":{new},"oldObject":{old},"dryRun":false,"#),
        r#""options":{"kind":"UpdateOptions","apiVersion":"meta.k8s.io/v1","fieldManager":"kubectl-edit"}}}"#,
    ]
    .concat()
    .into_bytes()
}

/// Helm's next revision: the running manifest and other objects, up to a megabyte of JSON.
pub fn release() -> Vec<u8> {
    let mut manifest = fs::read_to_string(RUNNING).unwrap();
    let one = manifest.len();
    let mut at = 0;
    while manifest.len() < 950_000 {
        // Other workloads with similar text, as in a large chart.
        let text = fs::read_to_string(RUNNING)
            .unwrap()
            .replace("my-release", &format!("other-{at}"))
            .replace("milvus", "web");
        manifest.push_str(&text);
        at += 1;
    }
    assert!(one < manifest.len());
    let stored = json!({"name": "my-release", "namespace": "milvus", "version": 2, "info": {"status": "pending-upgrade"},
        "chart": {"metadata": {"name": "milvus", "version": "3.2.18"}}, "config": {}, "manifest": manifest, "hooks": []});
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(stored.to_string().as_bytes()).unwrap();
    let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(encoder.finish().unwrap()));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.my-release.v2", "namespace": "milvus",
            "labels": {"owner": "helm", "name": "my-release", "status": "pending-upgrade", "version": "2"}},
        "data": {"release": payload},
    });
    review("", "secrets", "CREATE", &secret, &Value::Null)
}

/// A change that is judged.
pub fn judged() -> Vec<u8> {
    changed(r#""value":"a value""#, r#""value":"another value""#)
}

/// A change of metadata only.
pub fn labelled() -> Vec<u8> {
    changed(r#""labels":{"#, r#""labels":{"team":"search","#)
}
