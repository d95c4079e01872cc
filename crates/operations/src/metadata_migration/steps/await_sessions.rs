//! No component is registered any more: what Kubernetes calls gone may still be alive to etcd, and
//! the other way round.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
    },
};
use milvus_guard_metadata::executor;

/// Waits for the end of every session. Its own deadline is the step's.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let limit = cx.data.settings.run.step_timeout;
    executor::await_sessions(&cx.data.target, limit, &MetadataEvents::of_run(cx.client))
        .await
        .map_err(|error| failed(&error))
}
