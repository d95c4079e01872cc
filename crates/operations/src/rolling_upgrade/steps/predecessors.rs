//! Before a component moves, all its predecessors must be completely on the target.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{StepContext, is_of, originals_of},
        plan::{Move, MoveKind, Templates},
    },
};
use milvus_guard_core::{api::Original, milvus::catalogue::Gate};
use milvus_guard_sources::kubernetes::{
    rollout::{Wanted, Watched},
    workloads::{is_complete, is_paused},
};

/// The recorded Deployments of a component, once all components before it are on the target.
pub(crate) async fn originals_after_others(
    cx: &StepContext<'_>,
    one: &Move,
) -> Result<Vec<Original>, StepError> {
    await_predecessors(cx, one).await?;
    originals_of(cx, one)
}

/// Waits until all predecessors of a component are completely on the target. The gates checked that
/// already; this is for later changes: by a user, by an eviction, or by a crash of milvus-guard.
async fn await_predecessors(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let data = cx.data;
    let earlier: Vec<&Move> = data
        .rollout
        .moves
        .iter()
        .take_while(|other| *other != one)
        .collect();
    if earlier.is_empty() {
        return Ok(());
    }
    let recorded = originals::recorded(cx)?;
    let api: Api<Deployment> =
        Api::namespaced(cx.client.kube(), &data.settings.run.release.namespace);
    let live = cx
        .client
        .call("Deployments", async || {
            api.list(&ListParams::default()).await
        })
        .await?;
    let mut incomplete = Vec::new();
    for other in earlier
        .iter()
        .filter(|other| other.kind != MoveKind::Remove)
    {
        for original in recorded.iter().filter(|original| is_of(original, other)) {
            let Some(deployment) = live
                .items
                .iter()
                .find(|one| one.name_any() == original.name)
            else {
                return Err(StepError::Failed(format!(
                    "Deployment {} of {} is gone",
                    original.name, other.component
                )));
            };
            if let Some(image) = off_target(deployment, original, &data.rollout.image) {
                return Err(StepError::Failed(format!(
                    "{} has the image {image} again, set by another client: {} must not move \
                     before it runs {}; correct it, or roll back",
                    original.name, one.component, data.rollout.image
                )));
            }
            if is_paused(deployment) && data.rollout.templates == Templates::FromHelm {
                return Err(StepError::Failed(format!(
                    "{} was paused again by another client: {} must not move before it is \
                     complete; resume it (kubectl rollout resume deployment/{} -n {})",
                    original.name,
                    one.component,
                    original.name,
                    data.settings.run.release.namespace
                )));
            }
            if other.gate != Gate::Running && !is_complete(deployment) {
                incomplete.push(Watched::of(deployment));
            }
        }
    }
    if !incomplete.is_empty() {
        originals::wait_for(cx, &incomplete, Wanted::Complete, data.settings.hopeless).await?;
    }
    Ok(())
}

/// An image of Milvus in the Deployment that is not the target's.
pub(super) fn off_target(
    deployment: &Deployment,
    original: &Original,
    target: &str,
) -> Option<String> {
    let pod = deployment.spec.template.spec.as_ref()?;
    let mine = |name: &str| match (&original.images[..], original.component) {
        ([], component) => component.is_some_and(|component| component.name() == name),
        (images, _) => images.iter().any(|image| image.container == name),
    };
    let containers = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten());
    let images = containers
        .filter(|container| mine(&container.name))
        .filter_map(|container| container.image.clone());
    images.into_iter().find(|image| image != target)
}
