//! The Job that upgrades in the cluster, and what it may do there. Nothing here touches Milvus.

use serde_json::{Value, json};

use crate::{
    engine::{End, Home, Link, Store},
    kubernetes_job::{self, JobSpec, Mounted, Rights},
};

use super::{
    perform::{choose, refuses},
    settings::{Operation, Settings},
};

/// Folder of Milvus' credentials in the pod.
const MILVUS_CREDENTIALS: &str = "/etc/milvus-guard/milvus";
/// Folder of etcd's.
const ETCD_CREDENTIALS: &str = "/etc/milvus-guard/etcd";

/// How the Job is to be.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Our image; absent means the guard's, where it is installed.
    pub image: Option<String>,
    /// Service account; absent means the guard's for jobs, else one made for the run.
    pub account: Option<String>,
    /// Secret with a user of Milvus.
    pub milvus_secret: Option<String>,
    /// Secret with the credentials of etcd.
    pub etcd_secret: Option<String>,
    /// What is merged into the Job.
    pub overrides: Option<Value>,
    /// Whether the Job is removed afterwards.
    pub delete: bool,
}

/// What the Job needs in the namespace of the release.
#[must_use]
pub fn rules_in_release() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "patch", "create", "delete"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["services", "persistentvolumeclaims"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list"]},
    ])
}

/// Makes the Job, or finds the one that is at work, and follows it to its end.
pub async fn remote(
    link: &Link,
    settings: Settings,
    operation: Operation,
    options: &JobOptions,
) -> End {
    match try_remote(link, settings, operation, options).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_remote(
    link: &Link,
    mut settings: Settings,
    operation: Operation,
    options: &JobOptions,
) -> Result<End, End> {
    let home = Home::find(link, &settings.release, settings.run_namespace.as_deref()).await?;
    let known = Store::runs(link, &home, &settings.release).await?;
    let name = choose(link, &known, &settings, operation).await?;
    if operation == Operation::Update && !known.iter().any(|run| run.metadata.name == name) {
        // A person waits less, and nothing is made.
        refuses(link, &settings).await?;
    }
    settings.requested_by = kubernetes_job::asker(link).await;
    let suffix = match operation {
        Operation::Update => String::new(),
        Operation::Rollback | Operation::Abort => format!("-{}", operation.name()),
    };
    let spec = JobSpec {
        name: format!("{name}{suffix}"),
        verb: "upgrade",
        operation: operation.name(),
        intent: operation.intent(),
        args: args(&settings, operation, options),
        image: kubernetes_job::image(link, &home, options.image.as_ref()).await?,
        claim: None,
        account: options
            .account
            .clone()
            .or_else(|| home.guarded_by.clone())
            .unwrap_or_else(|| name.clone()),
        makes_account: options.account.is_none() && home.guarded_by.is_none(),
        rights: options.account.is_none().then(|| Rights {
            in_release: rules_in_release(),
            at_home: json!([]),
        }),
        secrets: secrets(options),
        overrides: options.overrides.clone(),
        home: home.namespace.clone(),
        run: name,
        release: settings.release.clone(),
    };
    kubernetes_job::run(link, &spec, options.delete).await
}

fn secrets(options: &JobOptions) -> Vec<Mounted> {
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

/// The same command, to be done where it stands.
fn args(settings: &Settings, operation: Operation, options: &JobOptions) -> Vec<String> {
    let seconds = |time: std::time::Duration| format!("{}s", time.as_secs());
    let mut args = vec![
        format!("--target-version={}", settings.target),
        format!("--operation={}", operation.name()),
        format!("--step-timeout={}", seconds(settings.step)),
        format!("--timeout={}", seconds(settings.total)),
        format!("--give-up-after={}", seconds(settings.hopeless)),
        format!("--lock-holds={}", seconds(settings.lock)),
    ];
    args.extend(
        settings
            .image
            .iter()
            .map(|image| format!("--image={image}")),
    );
    args.extend(
        settings
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
    if settings.back_on_failure {
        args.push("--on-failure=rollback".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::ReleaseName,
        rolling_upgrade::{AskMilvus, EtcdAccess, MilvusAccess},
    };
    use milvus_guard_sources::milvus::Login;

    #[test]
    fn the_job_asks_where_the_command_was_told_to_and_no_secret_is_in_its_arguments() {
        let login = Login::Password {
            user: "root".into(),
            password: "hunter2".into(),
        };
        let milvus = MilvusAccess {
            ask: AskMilvus::At("milvus.example:19530".into()),
            server_name: Some("localhost".into()),
            login,
            tls: None,
        };
        let settings = Settings {
            release: ReleaseName {
                name: "my-release".into(),
                namespace: "milvus".into(),
            },
            target: "2.5.12".parse().unwrap(),
            image: None,
            milvus,
            etcd: EtcdAccess {
                addresses: vec!["a:2379".into(), "b:2379".into()],
                tls: None,
                user: None,
            },
            back_on_failure: false,
            run: None,
            run_namespace: None,
            requested_by: None,
            total: Duration::from_secs(3),
            step: Duration::from_secs(2),
            hopeless: Duration::from_secs(1),
            lock: Duration::from_secs(1),
        };
        let options = JobOptions {
            image: None,
            account: None,
            milvus_secret: Some("milvus-root".into()),
            etcd_secret: Some("etcd-root".into()),
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
