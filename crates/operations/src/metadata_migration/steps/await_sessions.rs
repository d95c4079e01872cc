//! Waits until no component is registered in etcd: a component that has ended for Kubernetes may
//! still have a session in etcd, and the other way round.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
    },
};
use milvus_guard_metadata::executor;

/// Waits for the end of every session, at most until the deadline of the step.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let limit = cx.data.settings.run.step_timeout;
    executor::await_sessions(&cx.data.target, limit, &MetadataEvents::of_run(cx.client))
        .await
        .map_err(|error| failed(&error))
}
