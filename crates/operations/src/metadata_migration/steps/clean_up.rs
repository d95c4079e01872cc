//! What was needed only while Milvus stood still.

use crate::{engine::StepError, metadata_migration::context::StepContext};

use super::{official_tool, stop};

/// Lets autoscalers go on, and removes the official tool's pod.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    stop::hold_autoscalers(cx, false).await?;
    official_tool::clean_up(cx).await
}
