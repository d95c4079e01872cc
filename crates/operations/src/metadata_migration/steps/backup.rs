//! The metadata of 2.1, to a file that is read back and compared.

use crate::{
    engine::StepError,
    metadata_migration::context::{EventForwarder, StepContext, failed},
};
use milvus_guard_core::api::Backup;
use milvus_guard_metadata::executor::{self, Form};

/// Saves the metadata, and records where.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    let file = data.backup_file();
    let saved = executor::backup(
        &data.target,
        &file,
        Form::Own,
        &EventForwarder::new(cx.client),
    )
    .await
    .map_err(|error| failed(&error))?;
    let backup = Backup {
        location: data.backup_location(),
        sha256: saved.sha256.clone(),
        revision: saved.revision,
        records: saved.records,
    };
    cx.record(|status| status.backup = Some(backup.clone()))
        .await?;
    cx.reporter().note(format!(
        "the backup is {} ({} records, sha256 {})",
        data.backup_location(),
        saved.records,
        saved.sha256
    ));
    Ok(())
}
