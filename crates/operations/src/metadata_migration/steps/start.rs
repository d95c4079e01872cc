//! Starts the new version, tier by tier: image and replicas in one write, so that nothing of the
//! old version can start.

use crate::{
    engine::{
        StepError,
        originals::{live, recorded, set, wait},
    },
    metadata_migration::{context::StepContext, order::Tier},
};
use milvus_guard_core::api::Original;
use milvus_guard_sources::kubernetes::{rollout::Wanted, workloads::Change};

/// The Deployments of a tier.
pub(super) fn of(originals: &[Original], tier: Tier) -> impl Iterator<Item = &Original> {
    originals.iter().filter(move |original| {
        original
            .component
            .is_some_and(|component| Tier::of(component) == tier)
    })
}

/// The recorded images with this number of replicas.
pub(super) fn as_recorded(original: &Original, replicas: Option<i32>) -> Change {
    let images = original
        .images
        .iter()
        .map(|one| (one.container.clone(), one.image.clone()))
        .collect();
    Change {
        replicas,
        images,
        ..Change::default()
    }
}

/// Starts the tier.
pub(crate) async fn apply(cx: &StepContext<'_>, tier: Tier) -> Result<(), StepError> {
    let originals = recorded(cx)?;
    for original in of(&originals, tier) {
        // Once it runs, an autoscaler or a user may change its replicas.
        let runs = live(cx, original).await?.spec.replicas != Some(0);
        let images = original
            .images
            .iter()
            .map(|one| (one.container.clone(), cx.data.image.clone()))
            .collect();
        set(
            cx,
            original,
            &Change {
                replicas: original.replicas.filter(|_| !runs),
                images,
                ..Change::default()
            },
        )
        .await?;
    }
    Ok(())
}

/// Waits until the tier is complete.
pub(crate) async fn gate(cx: &StepContext<'_>, tier: Tier) -> Result<(), StepError> {
    let originals: Vec<Original> = of(&recorded(cx)?, tier).cloned().collect();
    wait(cx, &originals, Wanted::Complete).await
}

/// Stops the tier and restores its old images.
pub(crate) async fn undo(cx: &StepContext<'_>, tier: Tier) -> Result<(), StepError> {
    let originals: Vec<Original> = of(&cx.run().status.originals, tier).cloned().collect();
    stop(cx, &originals).await
}

/// Stops these Deployments, restores their old images, and waits until no pod is left.
pub(super) async fn stop(cx: &StepContext<'_>, originals: &[Original]) -> Result<(), StepError> {
    for original in originals {
        set(cx, original, &as_recorded(original, Some(0))).await?;
    }
    if originals.is_empty() {
        Ok(())
    } else {
        wait(cx, originals, Wanted::Gone).await
    }
}
