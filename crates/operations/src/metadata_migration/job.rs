//! The Job that migrates in the cluster, where etcd can be reached, and what it may do there. Pure.

use serde_json::{Value, json};

use crate::kubernetes_job::{Claim, Rights};

use super::{
    remote::JobOptions,
    settings::{Operation, Settings, StartBy},
};

/// Folder of the backup volume in the pod.
const BACKUP_DIR: &str = "/backup";
/// Folder of etcd's credentials in the pod.
pub(super) const CREDENTIALS_DIR: &str = "/etc/milvus-guard/etcd";

/// What the Job needs in the namespace of the release.
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

/// What the Job needs; with the official tool, that tool's pod and configuration too.
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

/// Name of the Job.
#[must_use]
pub fn name(run: &str, operation: Operation) -> String {
    match operation {
        Operation::Migrate | Operation::Record => run.to_owned(),
        Operation::Rollback | Operation::Abort => format!("{run}-{}", operation.name()),
    }
}

/// The claim of the backup.
#[must_use]
pub fn claim(name: Option<String>, options: &JobOptions) -> Option<Claim> {
    let (class, size) = (options.storage_class.clone(), options.size.clone());
    name.map(|name| Claim {
        name,
        folder: BACKUP_DIR,
        class,
        size,
    })
}

/// The same command, to be done where it stands.
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
    flag("step-timeout", &format!("{}s", settings.step.as_secs()));
    flag("timeout", &format!("{}s", settings.total.as_secs()));
    flag("lock-holds", &format!("{}s", settings.lock.as_secs()));
    for (name, value) in [
        ("root-path", &settings.root_path),
        ("image", &settings.image),
        ("migration-image", &settings.tool_image),
        ("requested-by", &settings.requested_by),
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
    if !settings.etcd.is_empty() {
        flag("etcd", &settings.etcd.join(","));
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
    if settings.back_on_failure {
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
    use crate::metadata_migration::words::tests::settings;

    #[test]
    fn the_job_does_the_same_command_in_place() {
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
        assert_eq!(name("run-1", Operation::Rollback), "run-1-rollback");
    }
}
