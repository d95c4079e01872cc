//! Saves the metadata of 2.1 to a file that is read back and compared.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
    },
};
use milvus_guard_core::{api::Backup, text::count};
use milvus_guard_metadata::executor::{self, Form};

/// Saves the metadata, and records the location.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    let file = data.backup_file();
    let saved = executor::backup(
        &data.target,
        &file,
        Form::Own,
        &MetadataEvents::of_run(cx.client),
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
        "the backup is {} ({}, sha256 {})",
        data.backup_location(),
        count(saved.records, "record"),
        saved.sha256
    ));
    Ok(())
}
