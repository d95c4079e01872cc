//! Records replicas and images before anything is scaled, for use after a crash.

use crate::{
    engine::{Home, RunRecord, StepError, originals},
    metadata_migration::{context::StepContext, migratable::KEDA, survey},
};
use milvus_guard_core::{
    api::{Original, OriginalField},
    milvus::release::ComponentWorkload,
};

/// Annotation by which KEDA keeps a workload at this number of pods.
pub(super) const KEDA_PAUSED: &str = "autoscaling.keda.sh/paused-replicas";

/// Records every Deployment and every autoscaler that would start it from zero.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    if !cx.run().status.originals.is_empty() {
        // An earlier attempt recorded them: the current state may be the result of our own changes.
        return Ok(());
    }
    let (release, _) = survey::read(cx.client, &cx.data.settings).await?;
    let earlier = if release.is_stopped() {
        earlier(cx).await?
    } else {
        Vec::new()
    };
    let mut originals: Vec<Original> = release
        .components
        .iter()
        .map(|component| original(component, &earlier))
        .collect();
    originals.extend(
        release
            .autoscalers
            .iter()
            .filter(|one| one.meta.object.kind == KEDA)
            .map(|one| Original {
                kind: KEDA.into(),
                name: one.meta.object.name.clone(),
                uid: one.meta.uid.as_deref().map(str::to_owned),
                fields: vec![OriginalField {
                    path: format!("/metadata/annotations/{}", KEDA_PAUSED.replace('/', "~1")),
                    value: one.meta.annotation(KEDA_PAUSED).map(Into::into),
                }],
                ..Original::default()
            }),
    );
    cx.record(|status| status.originals.clone_from(&originals))
        .await?;
    Ok(())
}

fn original(component: &ComponentWorkload, earlier: &[Original]) -> Original {
    let now = originals::original(component);
    // An earlier run that stopped it was aborted; what that run recorded is the wanted state.
    let before = earlier
        .iter()
        .find(|other| other.name == now.name && other.uid == now.uid);
    Original {
        replicas: before.and_then(|before| before.replicas).or(now.replicas),
        ..now
    }
}

/// The originals that the last run of this release recorded.
async fn earlier(cx: &StepContext<'_>) -> Result<Vec<Original>, StepError> {
    let home = Home {
        namespace: cx.data.home.clone(),
        guarded_by: None,
    };
    let runs = RunRecord::runs(cx.client, &home, &cx.data.settings.run.release).await?;
    let other = runs
        .into_iter()
        .rev()
        .find(|run| run.metadata.name != cx.data.run && !run.status.originals.is_empty());
    Ok(other.map(|run| run.status.originals).unwrap_or_default())
}
