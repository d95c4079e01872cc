//! The Job that migrates in the cluster, where etcd can be reached, and its rights.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use serde_json::{Value, json};

use crate::{
    engine::{End, Home, RetryingClient},
    kubernetes_job::{BackupVolume, Claim, JobOptions, Mounted, Rights},
};

use super::settings::{Operation, Settings, StartBy};

/// Folder of the backup volume in the pod.
const BACKUP_DIR: &str = "/backup";
/// Folder of etcd's credentials in the pod.
const CREDENTIALS_DIR: &str = "/etc/milvus-guard/etcd";

/// The rights of the Job in the namespace of the release.
#[must_use]
pub fn rules_in_release() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps", "services", "persistentvolumeclaims"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list", "patch"]},
    ])
}

/// The rights of the Job; with the official tool, also those for the tool's pod and configuration.
#[must_use]
pub fn rights(with_tool: bool) -> Rights {
    let tool = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create", "delete"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "delete"]},
    ]);
    Rights {
        in_release: rules_in_release(),
        at_home: if with_tool { tool } else { json!([]) },
    }
}

/// The name of the claim of the backup: a migration creates it, a rollback needs it if it exists.
///
/// # Errors
/// [`End::Stopped`] if the cluster does not answer.
pub async fn claim_name(
    client: &RetryingClient,
    home: &Home,
    run: &str,
    operation: Operation,
) -> Result<Option<String>, End> {
    match operation {
        Operation::Migrate => Ok(Some(run.to_owned())),
        Operation::Record | Operation::Abort => Ok(None),
        Operation::Rollback => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client.kube(), &home.namespace);
            let found = client
                .call(&format!("PersistentVolumeClaim {run}"), async || {
                    api.get_opt(run).await
                })
                .await;
            Ok(found?.map(|_| run.to_owned()))
        }
    }
}

/// The claim of the backup.
#[must_use]
pub fn claim(name: Option<String>, volume: Option<&BackupVolume>) -> Option<Claim> {
    name.zip(volume).map(|(name, volume)| Claim {
        name,
        folder: BACKUP_DIR,
        class: volume.storage_class.clone(),
        size: volume.size.clone(),
    })
}

/// The Secret with the credentials of etcd.
#[must_use]
pub fn secrets(options: &JobOptions) -> Vec<Mounted> {
    let mounted = |name: &String| Mounted {
        name: name.clone(),
        folder: CREDENTIALS_DIR,
    };
    options.etcd_secret.iter().map(mounted).collect()
}

/// The arguments of the command for the process of the Job.
#[must_use]
pub fn args(
    settings: &Settings,
    operation: Operation,
    claim: Option<&str>,
    has_secret: bool,
) -> Vec<String> {
    let mut args = Vec::new();
    let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}"));
    flag("source-version", &settings.source.to_string());
    flag("target-version", &settings.target.to_string());
    flag(
        "step-timeout",
        &format!("{}s", settings.run.step_timeout.as_secs()),
    );
    flag("timeout", &format!("{}s", settings.run.timeout.as_secs()));
    flag(
        "lock-holds",
        &format!("{}s", settings.run.lock_duration.as_secs()),
    );
    for (name, value) in [
        ("root-path", &settings.root_path),
        ("image", &settings.image),
        ("migration-image", &settings.tool_image),
        ("requested-by", &settings.run.requested_by),
        ("backup-claim", &claim.map(str::to_owned)),
    ] {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    if claim.is_some() {
        flag("backup-dir", BACKUP_DIR);
    } else {
        flag("backup-dir", "/tmp");
    }
    if !settings.etcd.addresses.is_empty() {
        flag("etcd", &settings.etcd.addresses.join(","));
    }
    if has_secret {
        flag("etcd-credentials", CREDENTIALS_DIR);
    }
    match operation {
        Operation::Migrate => {}
        Operation::Rollback | Operation::Abort => flag("operation", operation.name()),
        Operation::Record => args.push("--record-only".into()),
    }
    if settings.start == StartBy::Helm {
        args.push("--start=helm".into());
    }
    if settings.run.rolls_back_on_failure {
        args.push("--on-failure=rollback".into());
    }
    if settings.accept_data_loss {
        args.push("--accept-data-loss".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata_migration::messages::tests::settings;

    #[test]
    fn the_job_carries_out_the_same_command_in_its_pod() {
        let args = args(&settings(), Operation::Migrate, Some("run-1"), true);
        for arg in [
            "--source-version=2.1.4",
            "--target-version=2.2.16",
            "--backup-claim=run-1",
            "--backup-dir=/backup",
        ] {
            assert!(
                args.iter().any(|known| known == arg),
                "{arg} is not in {args:?}"
            );
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--operation")));
        let back = super::args(&settings(), Operation::Rollback, None, false);
        assert!(
            back.contains(&"--operation=rollback".to_owned()),
            "{back:?}"
        );
    }
}
