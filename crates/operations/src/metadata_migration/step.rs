//! How the engine carries out a step. The steps themselves are in `steps`, one file each.

use std::time::Duration;

use milvus_guard_core::api::RunStep;

use super::{
    context::{MigrationData, StepContext},
    messages,
    plan::Step,
    steps,
};
use crate::engine::{StepError, StopMessage};

impl crate::engine::Step for Step {
    type Data = MigrationData;

    fn describe(&self) -> RunStep {
        RunStep {
            id: self.id().into(),
            title: self.title().into(),
            component: None,
            workload: None,
            action: self.action(),
        }
    }

    fn touches(&self) -> bool {
        !matches!(self, Self::Check | Self::CheckMigrated | Self::Record)
    }

    fn winds_down(&self) -> bool {
        matches!(
            self,
            Self::Backup | Self::Migrate | Self::MigrateByTool | Self::Verify
        )
    }

    fn deadline(&self, data: &MigrationData) -> Duration {
        data.settings.run.step_timeout
    }

    fn stop_message(&self, data: &MigrationData, back: bool) -> StopMessage {
        messages::stop_message(*self, data, back)
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // Boxed: work in etcd holds whole pages and transactions, and would make every step as
        // large.
        match self {
            Self::Check => Box::pin(steps::check::apply(cx)).await,
            Self::CheckMigrated => Box::pin(steps::check_migrated::apply(cx)).await,
            Self::Record => steps::record::apply(cx).await,
            Self::Stop => steps::stop::apply(cx).await,
            Self::AwaitSessions => Box::pin(steps::await_sessions::apply(cx)).await,
            Self::Backup => Box::pin(steps::backup::apply(cx)).await,
            Self::Migrate => Box::pin(steps::migrate::apply(cx)).await,
            Self::MigrateByTool => Box::pin(steps::official_tool::apply(cx)).await,
            Self::Verify => Box::pin(steps::verify::apply(cx)).await,
            Self::RecordEvidence => steps::record_evidence::apply(cx).await,
            Self::Start(tier) => steps::start::apply(cx, *tier).await,
            Self::StartByHelm => steps::start_by_helm::apply(cx).await,
            Self::HandOver => steps::hand_over::apply(cx).await,
            Self::CleanUp => steps::clean_up::apply(cx).await,
        }
    }

    async fn gate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Stop => steps::stop::gate(cx).await,
            Self::Start(tier) => steps::start::gate(cx, *tier).await,
            Self::StartByHelm => steps::start_by_helm::gate(cx).await,
            _ => Ok(()),
        }
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Record => steps::hand_over::apply(cx).await,
            Self::Stop => steps::stop::undo(cx).await,
            Self::Migrate | Self::MigrateByTool => Box::pin(steps::migrate::undo(cx)).await,
            Self::RecordEvidence => steps::record_evidence::undo(cx).await,
            Self::Start(tier) => steps::start::undo(cx, *tier).await,
            Self::StartByHelm => steps::start_by_helm::undo(cx).await,
            // These steps change nothing that would have to be undone, and backups are kept.
            Self::Check
            | Self::CheckMigrated
            | Self::AwaitSessions
            | Self::Backup
            | Self::Verify
            | Self::HandOver
            | Self::CleanUp => Ok(()),
        }
    }
}
