//! What the steps work with.

use std::path::PathBuf;

use crate::engine::{self, StepError};
use milvus_guard_core::milvus::Release;
use milvus_guard_metadata::executor;

use super::{
    settings::{Operation, Settings},
    survey::Survey,
};

/// What the steps work with.
pub struct MigrationData {
    /// The settings of the command.
    pub settings: Settings,
    /// What the command does with the run.
    pub operation: Operation,
    /// The release as it was when this process began.
    pub release: Release,
    /// Image of the new version.
    pub image: String,
    /// etcd's addresses as written in the configuration.
    pub configured: Vec<String>,
    /// The metadata in etcd.
    pub target: executor::Target,
    /// Name of the run.
    pub run: String,
    /// Namespace of the run.
    pub home: String,
    /// Whether an earlier run was aborted, so that Milvus may be stopped already.
    pub again: bool,
}

/// The step context of a migration.
pub type StepContext<'a> = engine::StepContext<'a, MigrationData>;

impl MigrationData {
    /// From the settings and the running state.
    #[must_use]
    pub fn new(
        settings: Settings,
        operation: Operation,
        survey: Survey,
        (run, home): (&str, &str),
        again: bool,
    ) -> Self {
        let target = executor::Target::new(survey.endpoint);
        Self {
            operation,
            release: survey.release,
            image: survey.image,
            configured: survey.configured,
            target,
            run: run.to_owned(),
            home: home.to_owned(),
            again,
            settings,
        }
    }

    /// The file of the backup.
    #[must_use]
    pub fn backup_file(&self) -> PathBuf {
        self.settings
            .backup_dir
            .join(format!("{}.milvus-meta", self.run))
    }

    /// The location of the backup, as the run records it.
    #[must_use]
    pub fn backup_location(&self) -> String {
        let file = self.backup_file();
        match &self.settings.backup_claim {
            Some(claim) => format!(
                "pvc/{claim}/{}",
                file.file_name().unwrap_or_default().to_string_lossy()
            ),
            None => format!("file:{}", file.display()),
        }
    }
}

/// Gives work on the metadata time to reach a safe point when the process is asked to end.
pub async fn until_safe<T>(cx: &StepContext<'_>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        _ = cx.client.cancellation.cancelled() => cx.data.target.stop.ask(),
    }
    work.await
}

/// An error of etcd as the error of a step.
#[must_use]
pub fn failed(error: &executor::MetaError) -> StepError {
    let why = error.why();
    match error {
        executor::MetaError::Locked(_) => StepError::Locked(why),
        executor::MetaError::Usage(_)
        | executor::MetaError::Refused { .. }
        | executor::MetaError::Unread { .. } => StepError::Refused(why),
        executor::MetaError::Stopped { data, .. } => StepError::Failed(format!("{why}. {data}")),
    }
}
