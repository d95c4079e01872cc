//! Migrates the metadata; the undo restores it exactly.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed, until_safe},
        events::MetadataEvents,
    },
};
use milvus_guard_core::text::count;
use milvus_guard_metadata::executor::{self, MigrateOptions, Outcome, RestoreOptions};

/// Migrates, or resumes a migration.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let settings = &cx.data.settings;
    cx.permit().await?;
    let options = MigrateOptions {
        source: settings.source.to_string(),
        target: settings.target.to_string(),
        backup: Some(cx.data.backup_file()),
        strict_upstream: false,
        dry_run: false,
        wait_sessions: Some(settings.run.step_timeout),
        approved_plan: None,
    };
    let events = MetadataEvents::of_run(cx.client);
    let done = until_safe(
        cx,
        Box::pin(executor::migrate(&cx.data.target, &options, &events)),
    )
    .await
    .map_err(|error| failed(&error))?;
    match done.outcome {
        Outcome::Migrated | Outcome::AlreadyMigrated => {}
        Outcome::NothingToDo | Outcome::Compatible | Outcome::Planned => {
            cx.reporter().note("the metadata did not have to change");
        }
    }
    Ok(())
}

/// Restores the backup.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    let Some(backup) = cx.run().status.backup else {
        return Ok(());
    };
    let settings = &cx.data.settings;
    cx.permit().await?;
    let file = cx.data.backup_file();
    if !file.exists() {
        let location = &backup.location;
        return Err(StepError::Refused(format!(
            "the backup {location} was not found at {}; copy it there (sha256 {}), or restore it \
             manually with milvus-guard meta restore",
            file.display(),
            backup.sha256
        )));
    }
    let options = RestoreOptions {
        accept_data_loss: settings.accept_data_loss,
        other_root: false,
        dry_run: false,
        wait_sessions: Some(settings.run.step_timeout),
    };
    let events = MetadataEvents::of_run(cx.client);
    let restored = until_safe(
        cx,
        Box::pin(executor::restore(&cx.data.target, &file, &options, &events)),
    )
    .await
    .map_err(|error| failed(&error))?;
    if restored.backup.sha256 != backup.sha256 {
        return Err(StepError::Refused(format!(
            "{} is not the file that the run recorded (sha256 {})",
            file.display(),
            backup.sha256
        )));
    }
    cx.reporter().note(format!(
        "restored {}, deleted {} of 2.2",
        count(restored.puts + restored.rewrites, "record"),
        count(restored.deletes, "record")
    ));
    Ok(())
}
