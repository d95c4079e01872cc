//! Webhooks in files of the API server (KEP-5793), which cannot be removed through the API.

use std::{fs, time::Duration};

use crate::common::{
    Chart, file,
    webhook::{GUARD, Webhook, template, wait_until},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";
const NAME: &str = "milvus-guard.static.k8s.io";
/// A secret of an administrator: `openssl rand -hex 32`.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The chart's webhooks in the form of such a file: by URL, with a constant secret.
fn manifest(webhook: &Webhook) -> Value {
    let mut configuration = template(&[])
        .into_iter()
        .find(|one| one["kind"] == "ValidatingWebhookConfiguration")
        .unwrap();
    configuration["metadata"] = json!({"name": NAME});
    let authority = BASE64_STANDARD.encode(fs::read(webhook.folder.path().join("ca.crt")).unwrap());
    let webhooks = configuration["webhooks"].as_array_mut().unwrap();
    // The others depend on the namespaces that contain Milvus.
    webhooks.retain(|one| {
        ["release", "workload", "documents"]
            .iter()
            .any(|gate| *gate == gate_of(one))
    });
    assert_eq!(webhooks.len(), 3);
    for one in webhooks {
        one["name"] = json!(format!("{}.static.guard.milvus.io", gate_of(one)));
        one["clientConfig"] = json!({"url": format!("{}/validate/{SECRET}", webhook.server.url), "caBundle": authority});
    }
    configuration
}

fn gate_of(webhook: &Value) -> String {
    webhook["name"]
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn webhooks_in_files_of_the_api_server_survive_the_deletion_of_all_registrations() {
    let files = tempfile::tempdir().unwrap();
    let manifests = files.path().join("validating");
    fs::create_dir(&manifests).unwrap();
    let plugin = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": "", "staticManifestsDir": manifests});
    let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": plugin}]});
    let configuration = file(files.path(), "admission.json", &configuration.to_string());
    let cluster = ControlPlane::builder()
        .controller_manager(true)
        .api_server_arg("--feature-gates=ManifestBasedAdmissionControlConfig=true")
        .api_server_arg(format!("--admission-control-config-file={configuration}"))
        .start();
    let webhook = Webhook::with(cluster, &[]);
    let old = Chart::compact("3.2.18");
    webhook.install(Helm::V4, &old, &[]);
    let own = json!({"stringData": {"static": SECRET}}).to_string();
    expect_success(webhook.cluster.kubectl([
        "-n",
        GUARD,
        "patch",
        "secret",
        "milvus-guard-path",
        "--type=merge",
        "-p",
        &own,
    ]));
    fs::write(
        manifests.join("milvus-guard.yaml"),
        manifest(&webhook).to_string(),
    )
    .unwrap();
    webhook.cluster.api_server().restart();

    // By an administrator with all rights.
    let unregister = || webhook.kubectl(&["delete", "validatingwebhookconfigurations", "--all"]);
    let upgrade = || {
        let image = "proxy=milvusdb/milvus:v2.2.16";
        webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            image,
        ])
    };
    wait_until(
        "the webhook of the file must deny",
        Duration::from_secs(60),
        || {
            unregister();
            let (done, text) = upgrade();
            assert!(!done, "{text}");
            text.contains("workload.static.guard.milvus.io") && text.contains("MG101")
        },
    );
    let next = Chart::compact("4.0.31");
    wait_until(
        "the release gate of the file must deny",
        Duration::from_secs(60),
        || {
            unregister();
            let (done, text) = webhook.upgrade(Helm::V4, &next, &[]);
            assert!(!done && text.contains("MG101"), "{text}");
            text.contains("release.static.guard.milvus.io")
        },
    );
    // It is not an object: it cannot be deleted, and an object of its name cannot replace it.
    let (_, text) = webhook.kubectl(&["get", "validatingwebhookconfigurations", "-o", "name"]);
    assert!(!text.contains("static"), "{text}");
    let (done, text) = webhook.kubectl(&["delete", "validatingwebhookconfiguration", NAME]);
    assert!(!done && text.contains("not found"), "{text}");
    let mut twin = manifest(&webhook);
    twin["webhooks"] = json!([]);
    let output = webhook
        .cluster
        .kubectl_with_input(["create", "-f", "-"], &twin.to_string());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("static.k8s.io"),
        "{text}"
    );
    let (done, text) = upgrade();
    assert!(!done && text.contains("MG101"), "{text}");
    assert!(
        webhook
            .images(NAMESPACE)
            .iter()
            .all(|image| image.ends_with(":v2.1.4"))
    );
}
