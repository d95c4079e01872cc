//! Removes what was needed only while Milvus was stopped.

use crate::{engine::StepError, metadata_migration::context::StepContext};

use super::{official_tool, stop};

/// Resumes autoscalers, and removes the official tool's pod.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    stop::hold_autoscalers(cx, false).await?;
    official_tool::clean_up(cx).await
}
