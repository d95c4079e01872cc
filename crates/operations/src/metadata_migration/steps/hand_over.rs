//! No field that the chart renders stays under our name, or the next `helm upgrade` would meet a
//! conflict.

use crate::{
    engine::{StepError, originals},
    metadata_migration::context::StepContext,
};

/// Takes our name off every recorded Deployment. Each change did so already; this is for changes
/// that a crash cut off.
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
