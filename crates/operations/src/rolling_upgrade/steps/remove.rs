//! A component that the target does not have is stopped; Helm deletes it later.

use std::time::Duration;

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{StepContext, originals_of},
        plan::Move,
    },
};
use milvus_guard_sources::kubernetes::{rollout::Wanted, workloads::Change};

use super::release;

/// Scales the component to zero.
pub(crate) async fn apply(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    for original in originals_of(cx, one)? {
        originals::set(
            cx,
            &original,
            &Change {
                replicas: Some(0),
                ..Change::default()
            },
        )
        .await?;
    }
    Ok(())
}

/// Waits until no pod is left.
pub(crate) async fn gate(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let originals = originals_of(cx, one)?;
    let watched = originals::watched(cx, &originals).await?;
    let wait = originals::wait_for(cx, &watched, Wanted::Gone, Duration::MAX);
    release::during(cx, &watched, wait).await.map(|_| ())
}

/// Starts the component again.
pub(crate) async fn undo(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let originals = originals_of(cx, one)?;
    for original in &originals {
        originals::set(
            cx,
            original,
            &Change {
                replicas: original.replicas,
                ..Change::default()
            },
        )
        .await?;
    }
    originals::wait(cx, &originals, Wanted::Complete).await
}
