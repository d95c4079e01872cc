//! The Job that migrates in the cluster. Nothing here touches Milvus or its metadata.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use serde_json::Value;

use crate::{
    engine::{End, Home, Link, Store},
    kubernetes_job::{self as cluster_job, JobSpec, Mounted},
};
use milvus_guard_core::api::{RunPhase, UpgradeRun};

use super::{
    fitness, job,
    perform::{choose, unabortable, unsurveyed},
    settings::{Operation, Settings},
    survey::survey,
    words,
};

/// How the Job is to be.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Our image; absent means the guard's, where it is installed.
    pub image: Option<String>,
    /// Service account; absent means the guard's for jobs, else one made for the run.
    pub account: Option<String>,
    /// Secret with etcd's credentials.
    pub etcd_secret: Option<String>,
    /// What is merged into the Job.
    pub overrides: Option<Value>,
    /// Storage class of the backup's claim.
    pub storage_class: Option<String>,
    /// Size of it.
    pub size: String,
    /// Whether the Job is removed afterwards.
    pub delete: bool,
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
    let run = known.iter().find(|run| run.metadata.name == name);
    check(link, &settings, operation, &known, run).await?;
    settings.requested_by = cluster_job::asker(link).await;
    let claim = claim(link, &home, &name, operation).await?;
    let spec = JobSpec {
        name: job::name(&name, operation),
        verb: "migrate",
        operation: operation.name(),
        intent: operation.intent(),
        args: job::args(
            &settings,
            operation,
            claim.as_deref(),
            options.etcd_secret.is_some(),
        ),
        image: cluster_job::image(link, &home, options.image.as_ref()).await?,
        claim: job::claim(claim, options),
        account: options
            .account
            .clone()
            .or_else(|| home.guarded_by.clone())
            .unwrap_or_else(|| name.clone()),
        makes_account: options.account.is_none() && home.guarded_by.is_none(),
        rights: options
            .account
            .is_none()
            .then(|| job::rights(settings.tool_image.is_some())),
        secrets: options
            .etcd_secret
            .clone()
            .map(|name| Mounted {
                name,
                folder: job::CREDENTIALS_DIR,
            })
            .into_iter()
            .collect(),
        overrides: options.overrides.clone(),
        home: home.namespace.clone(),
        run: name,
        release: settings.release.clone(),
    };
    cluster_job::run(link, &spec, options.delete).await
}

/// Refuses early what the Job would refuse: a person waits less, and nothing is made.
async fn check(
    link: &Link,
    settings: &Settings,
    operation: Operation,
    known: &[UpgradeRun],
    run: Option<&UpgradeRun>,
) -> Result<(), End> {
    if operation == Operation::Abort {
        return match run.and_then(unabortable) {
            None => Ok(()),
            Some(why) => Err(End::Refused(format!(
                "The run is not aborted: {why}. Nothing was changed. Next: {} (resumes), or {} \
                 (rolls back)",
                words::command(settings, ""),
                words::command(settings, "-o rollback ")
            ))),
        };
    }
    let survey = survey(link, settings, operation)
        .await
        .map_err(|error| unsurveyed(error, settings))?;
    let again = known
        .iter()
        .any(|run| run.status.phase == RunPhase::Aborted);
    let why = match (operation, run) {
        (Operation::Migrate, None) => {
            fitness::not_now(&survey.release, &survey.facts, settings.source, again)
        }
        _ => None,
    };
    match why {
        None => Ok(()),
        Some(why) => Err(End::Refused(format!(
            "Refused: {why}. Nothing was changed. Next: {}",
            words::command(settings, "")
        ))),
    }
}

/// The claim of the backup: a migration makes it, a way back needs it where there is one.
async fn claim(
    link: &Link,
    home: &Home,
    run: &str,
    operation: Operation,
) -> Result<Option<String>, End> {
    match operation {
        Operation::Migrate => Ok(Some(run.to_owned())),
        Operation::Record | Operation::Abort => Ok(None),
        Operation::Rollback => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(link.client(), &home.namespace);
            let found = link
                .call(&format!("PersistentVolumeClaim {run}"), async || {
                    api.get_opt(run).await
                })
                .await;
            Ok(found?.map(|_| run.to_owned()))
        }
    }
}
