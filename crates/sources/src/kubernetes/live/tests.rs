//! Reading a running cluster.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::kubernetes::Access;

/// The answer for a path: status and body.
type Answer = fn(&str) -> (u16, Value);

/// A fake API server, enough to test how answers become facts. `tests/testbed` has a real API
/// server.
async fn cluster(answer: Answer) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let (status, body) = answer(text.split(' ').nth(1).unwrap_or_default());
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c"}}]});
    std::fs::write(file.path(), config.to_string()).unwrap();
    Cluster::connect(&Access {
        kubeconfig: Some(file.path().into()),
        context: None,
    })
    .await
    .unwrap()
}

fn failure(code: u16) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "x", "code": code}),
    )
}

fn list(items: &Value) -> (u16, Value) {
    (200, json!({"metadata": {}, "items": items}))
}

fn proxy(image: &str) -> Value {
    json!({
        "metadata": {"name": "r-milvus-proxy", "namespace": "milvus", "generation": 1,
            "labels": {"app.kubernetes.io/instance": "r", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"argocd.argoproj.io/tracking-id": "app:apps/Deployment:milvus/r-milvus-proxy"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "proxy", "image": image, "args": ["milvus", "run", "proxy"]}]}}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1},
    })
}

fn stored() -> Value {
    let mut workload = proxy("milvusdb/milvus:v2.3.0");
    workload["kind"] = json!("Deployment");
    let release = json!({"name": "r", "namespace": "milvus", "version": 3, "info": {"status": "deployed"}, "manifest": workload.to_string()});
    let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(release.to_string()));
    json!({"metadata": {"name": "sh.helm.release.v1.r.v3", "labels": {"version": "3", "status": "deployed"}},
        "type": "helm.sh/release.v1", "data": {"release": payload}})
}

fn healthy(path: &str) -> (u16, Value) {
    match path.split('?').next().unwrap_or_default() {
        "/version" => (200, json!({"gitVersion": "v1.28.4+k3s1"})),
        "/apis/apps/v1/namespaces/milvus/deployments" if path.contains("continue=two") => {
            list(&json!([]))
        }
        "/apis/apps/v1/namespaces/milvus/deployments" => (
            200,
            json!({"metadata": {"continue": "two"}, "items": [proxy("milvusdb/milvus:v2.3.1")]}),
        ),
        "/api/v1/namespaces/milvus/configmaps" if path.contains("owner") => list(&Value::Null),
        "/api/v1/namespaces/milvus/secrets" => list(&json!([stored()])),
        "/api/v1/namespaces/milvus/secrets/sh.helm.release.v1.r.v3" => (200, stored()),
        "/apis/autoscaling/v2/namespaces/milvus/horizontalpodautoscalers" => failure(404),
        "/apis/argoproj.io/v1alpha1/applications" => {
            list(&json!([{"metadata": {"name": "app", "namespace": "argocd"},
            "spec": {"destination": {"namespace": "milvus"}, "syncPolicy": {"automated": {"selfHeal": true}}}}]))
        }
        other if other.contains("keda") || other.contains("fluxcd") => failure(404),
        _ => list(&json!([])),
    }
}

#[tokio::test]
async fn workloads_and_facts_of_a_namespace_are_read() {
    let reading = cluster(healthy).await.read("milvus", true).await.unwrap();
    assert_eq!(reading.not_read, []);
    let release = &reading.snapshot.releases[0];
    assert_eq!(
        (
            release.name.as_str(),
            release.helm.as_ref().map(|helm| helm.revision)
        ),
        ("r", Some(3))
    );
    let facts = reading.facts;
    assert_eq!(facts.kubernetes.unwrap().to_string(), "1.28.4");
    assert!(facts.rollouts.unwrap()[0].complete);
    assert_eq!(facts.autoscalers, Some(Vec::new()));
    let deployers = facts.deployers.unwrap();
    assert_eq!(
        (
            deployers[0].name.as_str(),
            deployers[0].self_heal,
            deployers.len()
        ),
        ("app", true, 1)
    );
    let drift = facts.drift.unwrap();
    assert_eq!(
        (
            drift.len(),
            drift[0].what.as_str(),
            drift[0].revision.as_str()
        ),
        (1, "image", "milvusdb/milvus:v2.3.0")
    );
}

#[tokio::test]
async fn objects_without_read_permission_are_listed() {
    let answer = |path: &str| match path {
        path if path.contains("/apis/apps/") => healthy(path),
        "/apis/keda.sh" | "/apis/helm.toolkit.fluxcd.io" => failure(404),
        _ => failure(403),
    };
    let reading = cluster(answer).await.read("milvus", true).await.unwrap();
    assert_eq!(reading.snapshot.releases.len(), 1);
    assert_eq!(
        (
            reading.facts.kubernetes,
            reading.facts.autoscalers,
            reading.facts.drift
        ),
        (None, None, None)
    );
    let deployers = reading.facts.deployers.unwrap();
    assert_eq!(
        (deployers[0].name.as_str(), deployers[0].self_heal),
        ("app", true),
        "the workload's mark is enough"
    );
    let listed: Vec<&str> = reading
        .not_read
        .iter()
        .map(|not_read| not_read.what.as_str())
        .collect();
    for what in [
        "configmaps in namespace milvus",
        "the API server's version",
        "release r in Helm's storage",
    ] {
        assert!(listed.contains(&what), "{listed:?}");
    }
    assert!(
        !listed
            .iter()
            .any(|what| what.contains("scaledobjects") || what.contains("helmreleases")),
        "{listed:?}"
    );
    assert!(
        reading
            .not_read
            .iter()
            .all(|not_read| not_read.reason.starts_with("not allowed to ")),
        "{:?}",
        reading.not_read
    );
}

#[tokio::test]
async fn no_drift_is_a_fact_only_if_everything_was_compared() {
    let answer = |path: &str| match path {
        path if path.contains("/secrets/") => {
            let mut object = stored();
            let release = json!({"name": "r", "version": 3, "manifest": ""});
            object["data"]["release"] =
                json!(BASE64_STANDARD.encode(BASE64_STANDARD.encode(release.to_string())));
            (200, object)
        }
        path => healthy(path),
    };
    let reading = cluster(answer).await.read("milvus", true).await.unwrap();
    assert_eq!(
        reading.facts.drift, None,
        "the stored manifest contains no Milvus"
    );
    assert_eq!(
        cluster(healthy)
            .await
            .read("milvus", false)
            .await
            .unwrap()
            .facts
            .drift,
        None,
        "Helm's storage was not requested"
    );
}

#[tokio::test]
async fn it_is_an_error_if_workloads_cannot_be_read() {
    let error = cluster(|_| failure(403))
        .await
        .read("milvus", false)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ClusterError::Forbidden {
            verb: "list",
            what: "deployments in namespace milvus".into()
        }
    );
}

#[tokio::test]
async fn the_error_about_a_missing_revision_lists_the_existing_ones() {
    let error = cluster(healthy)
        .await
        .helm_release("milvus", "r", Some(9))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no revision 9 of release r in namespace milvus; it has 3 (deployed)"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_a_kubernetes_list_is_an_error() {
    let error = cluster(|_| (200, json!({"hello": 1})))
        .await
        .read("milvus", false)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the answer is not a list"),
        "{error}"
    );
}
