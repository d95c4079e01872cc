//! Starts the guard with the arguments of the chart's Deployment.

use std::{path::Path, time::Duration};

use super::{MUTATING, NAMESPACE, VALIDATING, one};
use crate::common::{
    guard,
    webhook::{Server, TEMPLATE, write_template},
};
use milvus_guard_testbed::{ControlPlane, wait_for};
use serde_json::{Value, json};

/// Runs the server with the arguments of the Deployment, with files instead of mounts, and
/// registers it by its address.
pub(super) fn start_as_charted(
    cluster: &ControlPlane,
    folder: &Path,
    documents: &[Value],
    values: &[&str],
) -> Server {
    let args = one(documents, "Deployment")
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap();
    let files = folder.to_str().unwrap();
    let mut command = guard();
    command
        .env("RUST_LOG", "milvus_guard=debug")
        .arg("--color=never");
    for arg in args.as_array().unwrap() {
        let arg = arg
            .as_str()
            .unwrap()
            .replace("0.0.0.0:8443", "127.0.0.1:0")
            .replace("0.0.0.0:9090", "127.0.0.1:0");
        let arg = arg
            .replace("$(POD_NAMESPACE)", NAMESPACE)
            .replace("/etc/milvus-guard/webhooks", files);
        command.arg(
            arg.replace("/etc/milvus-guard/tls", files)
                .replace("/etc/milvus-guard/client-ca", files),
        );
    }
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard"));
    let server = Server::spawn(command, folder.join("serve.log"));
    wait_for("the server to be ready", Duration::from_secs(60), || {
        server.is_ready()
    });
    assert_eq!(
        cluster.get(VALIDATING).status,
        404,
        "the guard must not register without a template"
    );
    write_template(&folder.join(TEMPLATE), &server.url, values);
    server
}

pub(super) fn is_registered(cluster: &ControlPlane) -> bool {
    [VALIDATING, MUTATING]
        .iter()
        .all(|path| cluster.get(path).status == 200)
}

/// The gates are in force: the documents gate refuses an object.
pub(super) fn is_asked(cluster: &ControlPlane) -> bool {
    let wrong = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy",
        "metadata": {"name": "mine"}, "spec": {"rules": [{"id": "MG000", "action": "Warn"}]}});
    let path = "/apis/guard.milvus.io/v1alpha1/upgradepolicies?dryRun=All";
    let said = cluster.post(path, &wrong).message();
    said.contains("\"documents.guard.milvus.io\" denied the request")
}
