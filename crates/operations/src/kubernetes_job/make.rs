//! Creates the Job of a run in the cluster, and follows it. Nothing here changes Milvus or its
//! metadata.

use k8s_openapi::api::{
    apps::v1::Deployment, authentication::v1::SelfSubjectReview, batch::v1::Job,
    core::v1::Namespace,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use crate::engine::{ApiError, End, Home, RetryingClient};
use milvus_guard_sources::kubernetes::{typed, workloads::FIELD_MANAGER};

use super::{
    follow,
    spec::{JobSpec, OPERATION_LABEL, RUN_LABEL},
};

/// Creates the Job, or finds the one that is running, and follows it to its end. `delete` removes
/// it if it ended well.
///
/// # Errors
/// If it cannot be created or followed.
pub async fn run(client: &RetryingClient, spec: &JobSpec, delete: bool) -> Result<End, End> {
    let jobs: Api<Job> = Api::namespaced(client.kube(), &spec.home);
    if attach(client, &jobs, spec).await? {
        client.reporter.note(format!(
            "Job {}/{} is already running; following it",
            spec.home, spec.name
        ));
    } else {
        make(client, &jobs, spec).await?;
        client.reporter.note(format!(
            "created Job {}/{}; kubectl logs -n {} job/{} shows its output",
            spec.home, spec.name, spec.home, spec.name
        ));
    }
    let end = follow::follow(client, spec).await?;
    // Until the Job has ended, it needs its rights.
    if let Some(end) = &end {
        clean_up(
            client,
            &jobs,
            spec,
            delete && matches!(end, End::Reached(_) | End::Waits(_)),
        )
        .await;
    }
    Ok(end.unwrap_or_else(|| {
        End::Stopped(format!(
            "Stopped following Job {}/{}, which continues without this command. Next: \
             milvus-guard status -i {} -n {} --wait",
            spec.home, spec.name, spec.release.name, spec.release.namespace
        ))
    }))
}

/// The user name of the caller, as the API server knows it; for the record only.
pub async fn asker(client: &RetryingClient) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.kube());
    let review = SelfSubjectReview::default();
    let answer = client
        .call("who asks", async || {
            api.create(&PostParams::default(), &review).await
        })
        .await
        .ok()?;
    answer.status?.user_info?.username
}

/// The image of milvus-guard: as given, else the one that the installed guard runs.
///
/// # Errors
/// If no image is known.
pub async fn image(
    client: &RetryingClient,
    home: &Home,
    given: Option<&String>,
) -> Result<String, End> {
    if let Some(image) = given {
        return Ok(image.clone());
    }
    let api: Api<Deployment> = Api::namespaced(client.kube(), &home.namespace);
    let params = ListParams::default().labels("app.kubernetes.io/name=milvus-guard");
    let found = match client
        .call("the guard's Deployment", async || api.list(&params).await)
        .await
    {
        Ok(found) => found.items,
        Err(_) => Vec::new(),
    };
    let image = found
        .into_iter()
        .find_map(|one| one.spec.template.spec?.containers.into_iter().next()?.image);
    image.ok_or_else(|| {
        End::Refused(
            "Refused: the milvus-guard image for the Job is unknown. Nothing was changed. Next: \
             the same command with --job-image IMAGE, or with --local, in this process"
                .into(),
        )
    })
}

/// Whether a Job that does what is requested is running. A Job that does something else with the
/// run is deleted: its process stops at the next safe point. So is a Job that has ended.
async fn attach(client: &RetryingClient, jobs: &Api<Job>, spec: &JobSpec) -> Result<bool, End> {
    let params = ListParams::default().labels(&format!("{RUN_LABEL}={}", spec.run));
    let found = client
        .call("Jobs of the run", async || jobs.list(&params).await)
        .await?;
    for job in found.items {
        let same = job.labels().get(OPERATION_LABEL).map(String::as_str) == Some(spec.operation);
        if same && !follow::has_ended(&job) {
            return Ok(true);
        }
        let name = job.name_any();
        let what = format!("Job {name}");
        // Foreground deletion: the Job is deleted after its pods.
        match client
            .call(&what, async || {
                jobs.delete(&name, &DeleteParams::foreground()).await
            })
            .await
        {
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        while client
            .call(&what, async || jobs.get_opt(&name).await)
            .await?
            .is_some()
        {
            client.wait_for(format!("Job {name} to end"));
            tokio::select! {
                () = tokio::time::sleep(follow::LOOK) => {}
                cause = client.cancellation.cancelled() => return Err(ApiError::cancelled(cause).into()),
            }
        }
        client.go_on();
    }
    Ok(false)
}

/// Creates the account, the rights, the claim and the Job.
async fn make(client: &RetryingClient, jobs: &Api<Job>, spec: &JobSpec) -> Result<(), End> {
    let namespaces: Api<Namespace> = Api::all(client.kube());
    if let Ok(None) = client
        .call("the run's namespace", async || {
            namespaces.get_opt(&spec.home).await
        })
        .await
    {
        return Err(End::Refused(format!(
            "Refused: namespace {} does not exist. Nothing was changed. Next: choose another with \
             --run-namespace",
            spec.home
        )));
    }
    for object in spec.access().iter().chain(spec.volume_claim().as_ref()) {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(client, object);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = client
            .call(&format!("{kind} {name}"), async || {
                api.patch(name, &params, &Patch::Apply(object)).await
            })
            .await;
        applied.map_err(|error| unmade(&error, spec))?;
    }
    let job: Job = typed(&spec.job()).map_err(|error| {
        End::Refused(format!(
            "Refused: with --job-overrides the result is not a valid Job ({error}). Nothing was \
             changed. Next: correct that file"
        ))
    })?;
    match client
        .call(&format!("Job {}", spec.name), async || {
            jobs.create(&PostParams::default(), &job).await
        })
        .await
    {
        Ok(_) | Err(ApiError::Conflict { .. }) => Ok(()),
        Err(error) => Err(unmade(&error, spec)),
    }
}

fn unmade(error: &ApiError, spec: &JobSpec) -> End {
    End::Stopped(format!(
        "Stopped: {error}. Milvus and its metadata were not touched. Next: the same command with \
         permission to create this in namespace {}, or with --job-service-account and an account \
         that has the permissions in docs/{}.md",
        spec.home, spec.verb
    ))
}

/// Deletes the account and the rights, and the Job if requested. Reports what could not be deleted.
async fn clean_up(client: &RetryingClient, jobs: &Api<Job>, spec: &JobSpec, delete_job: bool) {
    for object in spec.access().iter().rev() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = api_of(client, object);
        let deleted = client
            .call(&format!("{kind} {name}"), async || {
                api.delete(name, &DeleteParams::default()).await
            })
            .await;
        if let Err(error) = deleted.map(drop)
            && !matches!(error, ApiError::NotFound { .. })
        {
            client.reporter.warn(format!("{error}; delete it manually"));
        }
    }
    if delete_job {
        let name = &spec.name;
        let deleted = client
            .call(&format!("Job {name}"), async || {
                jobs.delete(name, &DeleteParams::background()).await
            })
            .await;
        if let Err(error) = deleted.map(drop)
            && !matches!(error, ApiError::NotFound { .. })
        {
            client.reporter.warn(format!("{error}; delete it manually"));
        }
    }
}

fn api_of(client: &RetryingClient, object: &Value) -> Api<DynamicObject> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    Api::namespaced_with(client.kube(), namespace, &resource)
}
