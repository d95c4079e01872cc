//! Leaves no field that the chart renders owned by our field manager. Otherwise the next
//! `helm upgrade` would fail with a conflict.

use crate::{
    engine::{StepError, originals},
    metadata_migration::context::StepContext,
};

/// Removes our field manager from every recorded Deployment. Each change did so already; this is
/// for changes that a crash interrupted.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    for original in cx
        .run()
        .status
        .originals
        .iter()
        .filter(|original| original.component.is_some())
    {
        originals::hand_over(cx, original, None).await?;
    }
    Ok(())
}
