//! The Deployments that a run recorded: found again, changed, handed back, waited for.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use milvus_guard_core::{
    api::{ContainerImage, Original},
    milvus::release::ComponentWorkload,
};
use milvus_guard_sources::kubernetes::{
    rollout::{self, Wanted, Watched},
    workloads::{self, Change},
};

use super::{ApiError, StepContext, StepError};

/// The current state of a component's workload: its images of Milvus and its replicas.
#[must_use]
pub fn original(component: &ComponentWorkload) -> Original {
    let workload = &component.workload;
    let image = component.image().to_string();
    let same = |containers: &[milvus_guard_core::manifest::object::Container],
                init: bool|
     -> Vec<ContainerImage> {
        let milvus = containers
            .iter()
            .filter(|container| container.image == image);
        milvus
            .map(|one| ContainerImage {
                container: one.name.clone(),
                image: image.clone(),
                init,
            })
            .collect()
    };
    Original {
        kind: workload.meta.object.kind.clone(),
        name: workload.meta.object.name.clone(),
        uid: workload.meta.uid.as_deref().map(str::to_owned),
        component: Some(component.component),
        replicas: i32::try_from(workload.replicas.unwrap_or(1)).ok(),
        images: [
            same(&workload.pod.containers, false),
            same(&workload.pod.init_containers, true),
        ]
        .concat(),
        ..Original::default()
    }
}

/// The Deployments that the run recorded, with what was recorded of each.
///
/// # Errors
/// If nothing was recorded.
pub fn recorded<D>(cx: &StepContext<'_, D>) -> Result<Vec<Original>, StepError> {
    let originals = cx.run().status.originals;
    let found: Vec<Original> = originals
        .into_iter()
        .filter(|original| original.component.is_some())
        .collect();
    if found.is_empty() {
        Err(StepError::Refused(
            "the run has recorded no Deployment".into(),
        ))
    } else {
        Ok(found)
    }
}

/// A recorded Deployment as it is now.
///
/// # Errors
/// If it no longer exists, or another one has its name.
pub async fn live<D>(
    cx: &StepContext<'_, D>,
    original: &Original,
) -> Result<Deployment, StepError> {
    let api: Api<Deployment> = Api::namespaced(cx.client.kube(), &cx.run().spec.namespace);
    let what = format!("Deployment {}", original.name);
    let found = match cx
        .client
        .call(&what, async || api.get(&original.name).await)
        .await
    {
        Ok(found) => found,
        Err(ApiError::NotFound { .. }) => {
            return Err(StepError::Refused(format!(
                "{what} was deleted since the run began; install the release again first"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if original.uid.is_some() && found.metadata.uid != original.uid {
        return Err(StepError::Refused(format!(
            "{what} is not the one that the run recorded: it was deleted and created again"
        )));
    }
    Ok(found)
}

/// Changes a recorded Deployment, and leaves no field owned by our field manager. Returns whether
/// anything had to be changed.
///
/// # Errors
/// If it cannot be changed, or must not be changed.
pub async fn set<D>(
    cx: &StepContext<'_, D>,
    original: &Original,
    change: &Change,
) -> Result<bool, StepError> {
    // Boxed: the future holds whole Deployments and would make every step as large.
    Box::pin(try_set(cx, original, change)).await
}

async fn try_set<D>(
    cx: &StepContext<'_, D>,
    original: &Original,
    change: &Change,
) -> Result<bool, StepError> {
    let what = format!("Deployment {}", original.name);
    let api: Api<Deployment> = Api::namespaced(cx.client.kube(), &cx.run().spec.namespace);
    loop {
        let deployment = live(cx, original).await?;
        if change.is_made(&deployment) {
            hand_over(cx, original, Some(deployment)).await?;
            return Ok(false);
        }
        match cx
            .write(&what, async || {
                workloads::change(&api, &deployment, change).await
            })
            .await
        {
            Ok(changed) => {
                hand_over(cx, original, changed).await?;
                return Ok(true);
            }
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes our field manager from a recorded Deployment; `seen` is its last known state, if any.
///
/// # Errors
/// If that cannot be done.
pub async fn hand_over<D>(
    cx: &StepContext<'_, D>,
    original: &Original,
    seen: Option<Deployment>,
) -> Result<(), StepError> {
    Box::pin(try_hand_over(cx, original, seen)).await
}

async fn try_hand_over<D>(
    cx: &StepContext<'_, D>,
    original: &Original,
    seen: Option<Deployment>,
) -> Result<(), StepError> {
    let what = format!("managed fields of Deployment {}", original.name);
    let api: Api<Deployment> = Api::namespaced(cx.client.kube(), &cx.run().spec.namespace);
    let mut seen = seen;
    loop {
        let deployment = match seen.take() {
            Some(deployment) => deployment,
            None => live(cx, original).await?,
        };
        if !workloads::is_ours(&deployment.metadata) {
            return Ok(());
        }
        match cx
            .write(&what, async || {
                workloads::hand_over(&api, &deployment.metadata).await
            })
            .await
        {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What to watch of recorded Deployments.
///
/// # Errors
/// If one of them no longer exists or was replaced.
pub async fn watched<D>(
    cx: &StepContext<'_, D>,
    originals: &[Original],
) -> Result<Vec<Watched>, StepError> {
    let mut watched = Vec::new();
    for original in originals {
        watched.push(Watched::of(&live(cx, original).await?));
    }
    Ok(watched)
}

/// Waits until these Deployments are as wanted.
///
/// # Errors
/// If one of them no longer exists or was replaced.
pub async fn wait<D>(
    cx: &StepContext<'_, D>,
    originals: &[Original],
    wanted: Wanted,
) -> Result<(), StepError> {
    wait_for(cx, &watched(cx, originals).await?, wanted, Duration::MAX)
        .await
        .map(|_| ())
}

/// Waits until these Deployments are as wanted, and returns when they were. The wait fails if pods
/// cannot pull their image or crash repeatedly for longer than `hopeless`.
///
/// # Errors
/// If a pod fails for longer than `hopeless`.
pub async fn wait_for<D>(
    cx: &StepContext<'_, D>,
    watched: &[Watched],
    wanted: Wanted,
    hopeless: Duration,
) -> Result<Instant, StepError> {
    let namespace = cx.run().spec.namespace;
    let client = cx.client.kube();
    let result = rollout::until(&client, &namespace, watched, wanted, hopeless, |missing| {
        cx.waiting(missing);
    })
    .await;
    cx.going_on();
    Ok(result?)
}
