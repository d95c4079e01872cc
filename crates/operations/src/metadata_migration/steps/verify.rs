//! Checks that etcd contains what the plan from the backup contains.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
    },
};
use milvus_guard_metadata::executor::{self, VerifyOptions};

use super::record_evidence;

/// Plans again from the backup and compares every record.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let options = VerifyOptions {
        strict_upstream: cx.data.settings.tool_image.is_some(),
    };
    let file = cx.data.backup_file();
    let verified = executor::verify(
        &cx.data.target,
        &file,
        &options,
        &MetadataEvents::of_run(cx.client),
    )
    .await
    .map_err(|error| failed(&error))?;
    let recorded = cx.run().status.backup.map(|backup| backup.sha256);
    if recorded
        .as_ref()
        .is_some_and(|sha256| *sha256 != verified.backup.sha256)
    {
        return Err(StepError::Refused(format!(
            "{} is not the file that the run recorded",
            file.display()
        )));
    }
    record_evidence::draft(cx, verified.cluster_id).await
}
