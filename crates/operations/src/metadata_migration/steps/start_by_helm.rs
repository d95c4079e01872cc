//! Waits for one `helm upgrade` by another client, which starts the new version. Until then the run
//! stays open, so that nothing of the old version can start on migrated metadata.

use std::time::Duration;

use crate::{
    engine::{
        StepError,
        originals::{recorded, wait_for},
    },
    metadata_migration::{context::StepContext, messages, survey},
};
use milvus_guard_core::{
    api::{ConditionStatus, Original},
    milvus::Release,
};
use milvus_guard_sources::kubernetes::rollout::{Wanted, Watched};

use super::start;

/// Reports that it is Helm's turn, unless Helm has made its change already.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (release, _) = survey::read(cx.client, &cx.data.settings).await?;
    if is_started(&release, cx) {
        return Ok(());
    }
    cx.record_waits_for_helm(ConditionStatus::True, "MetadataMigrated")
        .await?;
    Err(StepError::Waits(messages::turn_of_helm(cx.data)))
}

/// Waits until everything that Helm started is complete.
pub(crate) async fn gate(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (release, _) = survey::read(cx.client, &cx.data.settings).await?;
    let watched: Vec<Watched> = release
        .components
        .iter()
        .map(|component| Watched {
            name: component.workload.meta.object.name.clone(),
            selector: component
                .workload
                .selector
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(","),
        })
        .collect();
    wait_for(cx, &watched, Wanted::Complete, Duration::MAX).await?;
    cx.record_waits_for_helm(ConditionStatus::False, "Started")
        .await?;
    Ok(())
}

/// Stops what Helm started, and restores the old images.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    cx.record_waits_for_helm(ConditionStatus::False, "RolledBack")
        .await?;
    let originals: Vec<Original> = recorded(cx)?;
    start::stop(cx, &originals).await
}

fn is_started(release: &Release, cx: &StepContext<'_>) -> bool {
    let target = cx.data.settings.target;
    release.components.iter().any(|component| {
        component.is_running()
            && component
                .version()
                .build()
                .is_some_and(|build| build.version == target)
    })
}
