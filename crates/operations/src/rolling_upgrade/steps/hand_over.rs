//! No field that the chart renders stays under our name, or the next `helm upgrade` would meet a
//! conflict.

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::context::{StepContext, own_strategy},
};

/// Puts strategies back and takes our name off every recorded Deployment. Each change did so
/// already; this is for changes that a crash cut off.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    for original in cx
        .run()
        .status
        .originals
        .iter()
        .filter(|original| original.component.is_some() && original.uid.is_some())
    {
        originals::set(cx, original, &own_strategy(original)).await?;
    }
    Ok(())
}
