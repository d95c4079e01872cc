//! No component is registered any more: what Kubernetes calls gone may still be alive to etcd, and the other way round.

use crate::{
    meta,
    migrate::world::{Cx, Told, failed},
    run::StepError,
};

/// Waits for the end of every session. Its own deadline is the step's.
pub(crate) async fn apply(cx: &Cx<'_>) -> Result<(), StepError> {
    let limit = cx.world.settings.step;
    meta::await_sessions(&cx.world.target, limit, &Told::new(cx.link)).await.map_err(|error| failed(&error))
}
