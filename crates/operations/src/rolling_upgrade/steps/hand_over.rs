//! Leaves no field that the chart renders owned by our field manager. Otherwise the next
//! `helm upgrade` would fail with a conflict.

use crate::{engine::StepError, rolling_upgrade::context::StepContext};
use milvus_guard_core::api::Original;

use super::{deletion_cost, temporary};

/// Restores what was changed for the time of a step, and removes our field manager from every
/// recorded Deployment. Each step did so already; this is for changes that a crash interrupted.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let originals = cx.run().status.originals;
    let deployments: Vec<Original> = originals
        .into_iter()
        .filter(|original| original.component.is_some())
        .collect();
    temporary::put_back(cx, &deployments).await?;
    deletion_cost::restore(cx).await
}
