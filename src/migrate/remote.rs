//! Makes the Job that migrates in the cluster, and follows it. Nothing here touches Milvus or its metadata.

use k8s_openapi::api::{
    apps::v1::Deployment,
    authentication::v1::SelfSubjectReview,
    batch::v1::Job,
    core::v1::{Namespace, PersistentVolumeClaim},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use crate::{
    cluster::workloads::FIELD_MANAGER,
    objects::UpgradeRun,
    run::{ApiError, End, Home, Link, Store},
};

use super::{
    fitness, follow,
    job::{JobSpec, OPERATION_LABEL, RUN_LABEL},
    perform::{choose, no_home, unabortable, unanswered, unread, unsurveyed},
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
pub async fn remote(link: &Link, settings: Settings, operation: Operation, options: &JobOptions) -> End {
    match try_remote(link, settings, operation, options).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_remote(link: &Link, mut settings: Settings, operation: Operation, options: &JobOptions) -> Result<End, End> {
    let home = Home::find(link, &settings.release, settings.run_namespace.as_deref()).await.map_err(no_home)?;
    let known = Store::runs(link, &home, &settings.release).await.map_err(unread)?;
    let name = choose(&known, &settings, operation)?;
    let run = known.iter().find(|run| run.metadata.name == name);
    check(link, &settings, operation, &known, run).await?;
    settings.requested_by = asker(link).await;
    let spec = JobSpec {
        operation,
        image: image(link, &home, options).await?,
        claim: claim(link, &home, &name, operation).await?,
        account: options.account.clone().or_else(|| home.guarded_by.clone()).unwrap_or_else(|| name.clone()),
        makes_account: options.account.is_none() && home.guarded_by.is_none(),
        grants: options.account.is_none(),
        storage_class: options.storage_class.clone(),
        size: options.size.clone(),
        etcd_secret: options.etcd_secret.clone(),
        overrides: options.overrides.clone(),
        home: home.namespace.clone(),
        run: name,
        settings,
    };
    let jobs: Api<Job> = Api::namespaced(link.client(), &spec.home);
    if attach(link, &jobs, &spec).await? {
        link.reporter.note(format!("Job {}/{} is at work already; following it", spec.home, spec.name()));
    } else {
        make(link, &jobs, &spec).await?;
        link.reporter.note(format!(
            "made Job {}/{}; kubectl logs -n {} job/{} shows its own words",
            spec.home,
            spec.name(),
            spec.home,
            spec.name()
        ));
    }
    let end = follow::follow(link, &spec).await?;
    // While the Job may still be at work it needs its rights.
    if let Some(end) = &end {
        clean_up(link, &jobs, &spec, options.delete && matches!(end, End::Reached(_) | End::Waits(_))).await;
    }
    Ok(end.unwrap_or_else(|| {
        End::Stopped(format!(
            "Stopped following Job {}/{}, which goes on by itself. Next: milvus-guard status -i {} -n {} --wait",
            spec.home,
            spec.name(),
            spec.settings.release.name,
            spec.settings.release.namespace
        ))
    }))
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
                "The run is not ended: {why}. Nothing was changed. Next: {} (goes on), or {} (goes back)",
                words::command(settings, ""),
                words::command(settings, "-o rollback ")
            ))),
        };
    }
    let survey = survey(link, settings, operation).await.map_err(|error| unsurveyed(error, settings))?;
    let again = !known.is_empty();
    let why = match (operation, run) {
        (Operation::Migrate, None) => fitness::not_now(&survey.release, &survey.facts, settings.source, again),
        _ => None,
    };
    match why {
        None => Ok(()),
        Some(why) => Err(End::Refused(format!("Refused: {why}. Nothing was changed. Next: {}", words::command(settings, "")))),
    }
}

/// Who asks, as the API server knows him; only for the record.
async fn asker(link: &Link) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(link.client());
    let review = SelfSubjectReview::default();
    let answer = link.call("who asks", async || api.create(&PostParams::default(), &review).await).await.ok()?;
    answer.status?.user_info?.username
}

/// Our image: as given, else the one that the installed guard runs.
async fn image(link: &Link, home: &Home, options: &JobOptions) -> Result<String, End> {
    if let Some(image) = &options.image {
        return Ok(image.clone());
    }
    let api: Api<Deployment> = Api::namespaced(link.client(), &home.namespace);
    let params = ListParams::default().labels("app.kubernetes.io/name=milvus-guard");
    let found = match link.call("the guard's Deployment", async || api.list(&params).await).await {
        Ok(found) => found.items,
        Err(_) => Vec::new(),
    };
    let image = found.into_iter().find_map(|one| one.spec.template.spec?.containers.into_iter().next()?.image);
    image.ok_or_else(|| {
        End::Refused(
            "Refused: nothing tells which image of milvus-guard the Job is to run. Nothing was changed. Next: the same command with \
             --job-image IMAGE, or with --local where etcd can be reached from here"
                .into(),
        )
    })
}

/// The claim of the backup: a migration makes it, a way back needs it where there is one.
async fn claim(link: &Link, home: &Home, run: &str, operation: Operation) -> Result<Option<String>, End> {
    match operation {
        Operation::Migrate => Ok(Some(run.to_owned())),
        Operation::Record | Operation::Abort => Ok(None),
        Operation::Rollback => {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(link.client(), &home.namespace);
            let found = link.call(&format!("PersistentVolumeClaim {run}"), async || api.get_opt(run).await).await;
            Ok(found.map_err(|error| unanswered(&error))?.map(|_| run.to_owned()))
        }
    }
}

/// Whether a Job is at work that does what is asked for. One that does something else with the run is ended: its process stops
/// at the next safe point. One that has ended makes room.
async fn attach(link: &Link, jobs: &Api<Job>, spec: &JobSpec) -> Result<bool, End> {
    let params = ListParams::default().labels(&format!("{RUN_LABEL}={}", spec.run));
    let found = link.call("Jobs of the run", async || jobs.list(&params).await).await.map_err(|error| unanswered(&error))?;
    for job in found.items {
        let same = job.labels().get(OPERATION_LABEL).map(String::as_str) == Some(spec.operation.name());
        if same && !follow::has_ended(&job) {
            return Ok(true);
        }
        let name = job.name_any();
        let what = format!("Job {name}");
        // In the foreground: the Job is gone when its pods are.
        match link.call(&what, async || jobs.delete(&name, &DeleteParams::foreground()).await).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(unanswered(&error)),
        }
        while link.call(&what, async || jobs.get_opt(&name).await).await.map_err(|error| unanswered(&error))?.is_some() {
            link.wait_for(format!("Job {name} to end"));
            tokio::select! {
                () = tokio::time::sleep(follow::LOOK) => {}
                halt = link.halting.halted() => return Err(unanswered(&ApiError::Halted(halt))),
            }
        }
        link.go_on();
    }
    Ok(false)
}

/// Makes account, rights, claim and Job.
async fn make(link: &Link, jobs: &Api<Job>, spec: &JobSpec) -> Result<(), End> {
    let namespaces: Api<Namespace> = Api::all(link.client());
    if let Ok(None) = link.call("the run's namespace", async || namespaces.get_opt(&spec.home).await).await {
        return Err(End::Refused(format!(
            "Refused: there is no namespace {}. Nothing was changed. Next: name another with --run-namespace",
            spec.home
        )));
    }
    for object in spec.access().iter().chain(spec.claim().as_ref()) {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(link, object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = link.call(&format!("{kind} {name}"), async || api.patch(name, &params, &Patch::Apply(object)).await).await;
        applied.map_err(|error| unmade(&error, spec))?;
    }
    let job: Job = serde_json::from_value(spec.job()).map_err(|error| {
        End::Refused(format!(
            "Refused: with --job-overrides it is no Job any more ({error}). Nothing was changed. Next: correct that file"
        ))
    })?;
    match link.call(&format!("Job {}", spec.name()), async || jobs.create(&PostParams::default(), &job).await).await {
        Ok(_) | Err(ApiError::Conflict { .. }) => Ok(()),
        Err(error) => Err(unmade(&error, spec)),
    }
}

fn unmade(error: &ApiError, spec: &JobSpec) -> End {
    End::Stopped(format!(
        "Stopped: {error}. Milvus and its metadata were not touched. Next: the same command with the right to make this in namespace {}, or \
         with --job-service-account and an account that has the rights of docs/migrate.md",
        spec.home
    ))
}

/// Takes account and rights back, and the Job where that was asked for. What cannot be taken back is said.
async fn clean_up(link: &Link, jobs: &Api<Job>, spec: &JobSpec, delete_job: bool) {
    for object in spec.access().iter().rev() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(link, object);
        let deleted = link.call(&format!("{kind} {name}"), async || api.delete(name, &DeleteParams::default()).await).await;
        if let Err(error) = deleted.map(drop)
            && !matches!(error, ApiError::NotFound { .. })
        {
            link.reporter.warn(format!("{error}; remove it by hand"));
        }
    }
    if delete_job {
        let name = spec.name();
        let deleted = link.call(&format!("Job {name}"), async || jobs.delete(&name, &DeleteParams::background()).await).await;
        if let Err(error) = deleted.map(drop)
            && !matches!(error, ApiError::NotFound { .. })
        {
            link.reporter.warn(format!("{error}; remove it by hand"));
        }
    }
}

fn api_of(link: &Link, object: &Value) -> Api<DynamicObject> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    Api::namespaced_with(link.client(), namespace, &resource)
}
