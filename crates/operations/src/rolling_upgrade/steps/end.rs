//! The end of a run and of a rollback: no session of a pod that has ended is left, and Milvus
//! answers. Then what was needed only during the run is removed from the record.

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::context::StepContext,
};
use milvus_guard_core::api::Original;
use milvus_guard_sources::kubernetes::rollout::Watched;

use super::alive::{self, Moved};

/// Waits for it, for a limited time.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let mut watched = Vec::new();
    let recorded = cx.run().status.originals;
    let deployments = |one: &&Original| one.component.is_some() && one.uid.is_some();
    for original in recorded.iter().filter(deployments) {
        watched.push(Watched::of(&originals::live(cx, original).await?));
    }
    alive::ask(cx, &Moved::all(cx), &watched).await?;
    cx.record(|status| {
        status.loaded = None;
        status.searches.clear();
        status.pods.clear();
    })
    .await?;
    Ok(())
}
