//! The Job that upgrades in the cluster, and its rights. Pure.

use serde_json::{Value, json};

use crate::kubernetes_job::{JobOptions, Mounted, Rights};

use super::{
    settings::{Operation, SessionHelp, Settings},
    through_helm::HelmProgress,
};

/// Folder of Milvus' credentials in the pod.
const MILVUS_CREDENTIALS: &str = "/etc/milvus-guard/milvus";
/// Folder of etcd's credentials in the pod.
const ETCD_CREDENTIALS: &str = "/etc/milvus-guard/etcd";

/// The rights of the Job in the namespace of the release.
#[must_use]
pub fn rules_in_release() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "patch", "create", "delete"]},
        {"apiGroups": ["apps"], "resources": ["replicasets/scale"], "verbs": ["patch"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["services", "persistentvolumeclaims"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch", "delete"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list"]},
    ])
}

/// Additional rights if Helm brings the templates: removed objects are kept, then deleted.
#[must_use]
pub fn rules_through_helm() -> Value {
    let leaving = ["configmaps", "services", "serviceaccounts"];
    json!([{"apiGroups": [""], "resources": leaving, "verbs": ["get", "patch", "delete"]}])
}

/// The rights of the Job.
#[must_use]
pub fn rights(settings: &Settings) -> Rights {
    let mut in_release = rules_in_release();
    if settings.helm.is_some()
        && let (Some(rules), Some(more)) =
            (in_release.as_array_mut(), rules_through_helm().as_array())
    {
        rules.extend_from_slice(more);
    }
    Rights {
        in_release,
        at_home: json!([]),
    }
}

/// The Secrets of the Job.
#[must_use]
pub fn secrets(options: &JobOptions) -> Vec<Mounted> {
    let all = [
        (&options.milvus_secret, MILVUS_CREDENTIALS),
        (&options.etcd_secret, ETCD_CREDENTIALS),
    ];
    all.into_iter()
        .filter_map(|(name, folder)| {
            Some(Mounted {
                name: name.clone()?,
                folder,
            })
        })
        .collect()
}

/// The arguments of the command, without `--local`, for the process of the Job.
#[must_use]
pub fn args(settings: &Settings, operation: Operation, options: &JobOptions) -> Vec<String> {
    let seconds = |time: std::time::Duration| format!("{}s", time.as_secs());
    let mut args = vec![
        format!("--operation={}", operation.name()),
        format!("--step-timeout={}", seconds(settings.run.step_timeout)),
        format!("--timeout={}", seconds(settings.run.timeout)),
        format!("--give-up-after={}", seconds(settings.hopeless)),
        format!("--lock-holds={}", seconds(settings.run.lock_duration)),
    ];
    let target = settings.target.iter();
    args.extend(target.map(|version| format!("--target-version={version}")));
    args.extend(
        settings
            .image
            .iter()
            .map(|image| format!("--image={image}")),
    );
    args.extend(
        settings
            .run
            .requested_by
            .iter()
            .map(|asker| format!("--requested-by={asker}")),
    );
    args.extend(
        settings
            .milvus
            .ask
            .typed()
            .map(|address| format!("--milvus={address}")),
    );
    args.extend(
        settings
            .milvus
            .server_name
            .iter()
            .map(|name| format!("--milvus-server-name={name}")),
    );
    let searched = settings.milvus.searched.typed();
    args.extend(
        searched
            .iter()
            .map(|name| format!("--probe-collection={name}")),
    );
    args.extend(
        options
            .milvus_secret
            .iter()
            .map(|_| format!("--milvus-credentials={MILVUS_CREDENTIALS}")),
    );
    if !settings.etcd.addresses.is_empty() {
        args.push(format!("--etcd={}", settings.etcd.addresses.join(",")));
    }
    args.extend(
        options
            .etcd_secret
            .iter()
            .map(|_| format!("--etcd-credentials={ETCD_CREDENTIALS}")),
    );
    if let Some(turn) = &settings.helm {
        let change = serde_json::to_string(&turn.change).unwrap_or_default();
        args.push(format!("--helm-change={change}"));
        if turn.progress == HelmProgress::Made {
            args.push("--helm-made".into());
        }
    }
    if settings.session_help == SessionHelp::Off {
        args.push("--no-session-help".into());
    }
    let order = settings.candidate_order.iter();
    args.extend(order.map(|id| format!("--candidate-order={id}")));
    if settings.run.rolls_back_on_failure {
        args.push("--on-failure=rollback".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::{EtcdAccess, RunLocation, RunSettings},
        rolling_upgrade::{AskMilvus, MilvusAccess, SearchedCollections},
    };
    use milvus_guard_sources::milvus::Login;

    #[test]
    fn the_job_gets_the_addresses_of_the_command_and_no_secret_is_in_its_arguments() {
        let login = Login::Password {
            user: "root".into(),
            password: "hunter2".into(),
        };
        let milvus = MilvusAccess {
            ask: AskMilvus::At("milvus.example:19530".into()),
            server_name: Some("localhost".into()),
            login,
            tls: None,
            searched: SearchedCollections::typed_as(&["shop/books".into(), "drafts".into()])
                .unwrap(),
        };
        let settings = Settings {
            run: RunSettings::sample(),
            target: "2.5.12".parse().ok(),
            image: None,
            milvus,
            etcd: EtcdAccess {
                addresses: vec!["a:2379".into(), "b:2379".into()],
                tls: None,
                user: None,
            },
            session_help: SessionHelp::Off,
            candidate_order: None,
            location: RunLocation::Job,
            hopeless: Duration::from_secs(1),
            helm: None,
        };
        let options = JobOptions {
            image: None,
            account: None,
            milvus_secret: Some("milvus-root".into()),
            etcd_secret: Some("etcd-root".into()),
            backup: None,
            overrides: None,
            delete: false,
        };
        let args = args(&settings, Operation::Update, &options);
        for arg in [
            "--milvus=milvus.example:19530",
            "--milvus-server-name=localhost",
            "--milvus-credentials=/etc/milvus-guard/milvus",
            "--etcd=a:2379,b:2379",
            "--etcd-credentials=/etc/milvus-guard/etcd",
            "--no-session-help",
            "--probe-collection=shop/books",
            "--probe-collection=drafts",
        ] {
            assert!(
                args.iter().any(|known| known == arg),
                "{arg} is not in {args:?}"
            );
        }
        assert!(
            !args
                .iter()
                .any(|arg| arg.contains("hunter2") || arg.contains("milvus-root")),
            "{args:?}"
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
        let mounted: Vec<(String, &str)> = secrets(&options)
            .into_iter()
            .map(|one| (one.name, one.folder))
            .collect();
        assert_eq!(
            mounted,
            [
                ("milvus-root".to_owned(), MILVUS_CREDENTIALS),
                ("etcd-root".to_owned(), ETCD_CREDENTIALS)
            ]
        );
    }
}
