//! Migrates with the official tool, in a pod of its image, between our backup and our verification.
//!
//! The tool deletes before it computes, and cannot resume after a crash. So each attempt begins
//! with a restore of our backup, and its pod never runs twice.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    engine::{ApiError, StepError},
    metadata_migration::context::{MigrationData, StepContext},
};
use milvus_guard_sources::kubernetes::{pods::trouble, typed, workloads::FIELD_MANAGER};

use super::migrate;

/// Interval between two looks at the pod, which takes seconds to minutes.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs the tool on the metadata of 2.1.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    if data.settings.etcd.user.is_some() || data.settings.etcd.tls.is_some() {
        return Err(StepError::Refused(
            "the official tool (-m) does not support users or the certificates of \
             --etcd-secret; remove -m"
                .into(),
        ));
    }
    remove(cx).await?;
    // Records that an earlier attempt of the tool left are not a valid starting state.
    migrate::undo(cx).await?;
    let secrets: Api<Secret> = Api::namespaced(cx.client.kube(), &data.home);
    let pods: Api<Pod> = Api::namespaced(cx.client.kube(), &data.home);
    let name = name(data);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let what = format!("Secret {}/{name}", data.home);
    cx.write(&what, async || {
        secrets
            .patch(&name, &params, &Patch::Apply(secret(data)))
            .await
    })
    .await?;
    let wanted: Pod = typed(&pod(data)).map_err(|error| StepError::Failed(error.to_string()))?;
    let what = format!("Pod {}/{name}", data.home);
    match cx
        .write(&what, async || {
            pods.create(&PostParams::default(), &wanted).await
        })
        .await
    {
        Ok(_) | Err(ApiError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        let Ok(found) = cx.client.call(&what, async || pods.get(&name).await).await else {
            return Err(StepError::Failed(format!(
                "{what} of the official tool was deleted before it ended"
            )));
        };
        let phase = found
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default();
        match phase.as_str() {
            "Succeeded" => return Ok(()),
            "Failed" => {
                return Err(StepError::Failed(format!(
                    "the official tool failed; kubectl logs -n {} {name} shows why",
                    data.home
                )));
            }
            _ => cx.waiting(
                trouble(&found)
                    .unwrap_or_else(|| format!("the official tool (pod {})", found.name_any())),
            ),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes the tool's pod and its configuration.
pub(crate) async fn clean_up(cx: &StepContext<'_>) -> Result<(), StepError> {
    if cx.data.settings.tool_image.is_none() {
        return Ok(());
    }
    remove(cx).await?;
    let secrets: Api<Secret> = Api::namespaced(cx.client.kube(), &cx.data.home);
    let name = name(cx.data);
    gone(
        cx.write(&format!("Secret {name}"), async || {
            secrets.delete(&name, &DeleteParams::default()).await
        })
        .await
        .map(drop),
    )
}

/// Removes the tool's pod, and waits until it no longer exists, so that the success of an old pod
/// does not count for a new one.
async fn remove(cx: &StepContext<'_>) -> Result<(), StepError> {
    let pods: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.home);
    let name = name(cx.data);
    let what = format!("Pod {name}");
    gone(
        cx.write(&what, async || {
            pods.delete(&name, &DeleteParams::default()).await
        })
        .await
        .map(drop),
    )?;
    while cx
        .client
        .call(&what, async || pods.get_opt(&name).await)
        .await?
        .is_some()
    {
        cx.waiting(format!("pod {name} of an earlier attempt to end"));
        tokio::time::sleep(LOOK).await;
    }
    cx.going_on();
    Ok(())
}

fn gone(deleted: Result<(), ApiError>) -> Result<(), StepError> {
    match deleted {
        Ok(()) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn name(data: &MigrationData) -> String {
    format!("{}-tool", data.run)
}

/// The tool's configuration, in the format of its documentation.
fn secret(data: &MigrationData) -> Value {
    let endpoint = &data.target.endpoint;
    let plain = |address: &String| {
        address
            .split_once("://")
            .map_or(address.as_str(), |(_, rest)| rest)
            .to_owned()
    };
    let config = json!({
        "cmd": {"type": "run", "runWithBackup": false},
        "config": {
            "sourceVersion": data.settings.source.to_string(),
            "targetVersion": data.settings.target.to_string(),
            "backupFilePath": "/tmp/migration.bak",
        },
        "metastore": {"type": "etcd"},
        "etcd": {
            "endpoints": endpoint.addresses.iter().map(plain).collect::<Vec<_>>(),
            "rootPath": endpoint.root_path, "metaSubPath": endpoint.meta_sub_path, "kvSubPath": "kv",
        },
    });
    // JSON is valid YAML.
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name(data), "namespace": data.home},
        "stringData": {"migration.yaml": config.to_string()},
    })
}

fn pod(data: &MigrationData) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name(data), "labels": {"app.kubernetes.io/managed-by": "milvus-guard"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "meta-migration",
                "image": data.settings.tool_image,
                "command": ["/milvus/bin/meta-migration"],
                "args": ["-config=/milvus/configs/migration.yaml"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
                "volumeMounts": [{"name": "config", "mountPath": "/milvus/configs/migration.yaml", "subPath": "migration.yaml"}],
            }],
            "volumes": [{"name": "config", "secret": {"secretName": name(data)}}],
        },
    })
}
