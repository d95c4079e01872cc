//! The steps as values.

use std::time::Duration;

use crate::engine::{StepError, StopMessage};
use milvus_guard_core::api::{RunStep, StepAction};

use super::{
    context::{StepContext, UpgradeContext},
    messages,
    plan::{Move, MoveKind},
    steps,
};

/// One step of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What must be true before anything is touched.
    Check,
    /// Images, strategies and labels as they are.
    Record,
    /// What Helm changes is paused, then Helm changes it.
    Helm,
    /// Active-standby of the coordinators, for the time of the run.
    Configure,
    /// One component, as the plan has it, and its move.
    Move(RunStep, Move),
    /// No field under our name.
    HandOver,
    /// What was needed only meanwhile.
    CleanUp,
    /// Objects that the chart does not have any more.
    DeleteLeaving,
}

impl Step {
    fn plain(id: &str, title: &str, action: StepAction) -> RunStep {
        RunStep {
            id: id.into(),
            title: title.into(),
            component: None,
            workload: None,
            action,
        }
    }
}

impl crate::engine::Step for Step {
    type Data = UpgradeContext;

    fn describe(&self) -> RunStep {
        match self {
            Self::Check => {
                Self::plain("check", "Check the release and the path", StepAction::Check)
            }
            Self::Record => {
                Self::plain("record", "Record images and strategies", StepAction::Record)
            }
            Self::Helm => Self::plain(
                "helm",
                "Pause every component, then let Helm apply its change",
                StepAction::Hold,
            ),
            Self::Configure => Self::plain(
                "configure",
                "Turn active-standby on until the end",
                StepAction::Configure,
            ),
            Self::Move(step, _) => step.clone(),
            Self::HandOver => Self::plain(
                "hand-over",
                "Give every changed field back to Helm",
                StepAction::HandOver,
            ),
            Self::CleanUp => Self::plain(
                "clean-up",
                "Put back what was changed only meanwhile",
                StepAction::CleanUp,
            ),
            Self::DeleteLeaving => Self::plain(
                "delete-leaving",
                "Delete what the chart does not have any more",
                StepAction::CleanUp,
            ),
        }
    }

    fn touches(&self) -> bool {
        !matches!(self, Self::Check | Self::Record)
    }

    fn deadline(&self, data: &UpgradeContext) -> Duration {
        data.settings.run.step_timeout
    }

    fn stop_message(&self, data: &UpgradeContext, back: bool) -> StopMessage {
        messages::stop_message(self, data, back)
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Check => Box::pin(steps::check::apply(cx)).await,
            Self::Record => steps::record::apply(cx).await,
            Self::Helm => Box::pin(steps::helm::apply(cx)).await,
            Self::DeleteLeaving => Box::pin(steps::leaving::delete(cx)).await,
            Self::Configure => Box::pin(steps::configure::apply(cx)).await,
            Self::Move(_, one) => match one.kind {
                MoveKind::Update => Box::pin(steps::update::apply(cx, one)).await,
                MoveKind::Create => Box::pin(steps::create::apply(cx, one)).await,
                MoveKind::Remove => steps::remove::apply(cx, one).await,
            },
            Self::HandOver => steps::hand_over::apply(cx).await,
            Self::CleanUp => {
                Box::pin(steps::configure::restore(cx)).await?;
                Box::pin(steps::end::apply(cx)).await
            }
        }
    }

    async fn gate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Move(_, one) => match one.kind {
                MoveKind::Update => steps::update::gate(cx, one).await,
                MoveKind::Create => Box::pin(steps::create::gate(cx, one)).await,
                MoveKind::Remove => steps::remove::gate(cx, one).await,
            },
            _ => Ok(()),
        }
    }

    async fn no_way_back(&self, cx: &StepContext<'_>) -> Result<Option<String>, StepError> {
        steps::way_back::barred(cx).await
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            // These leave nothing behind that would be in the way.
            Self::Check | Self::HandOver | Self::CleanUp => Ok(()),
            Self::DeleteLeaving => steps::leaving::undo(cx).await,
            Self::Helm => Box::pin(steps::helm::undo(cx)).await,
            Self::Record => {
                steps::hand_over::apply(cx).await?;
                Box::pin(steps::end::apply(cx)).await
            }
            Self::Configure => Box::pin(steps::configure::restore(cx)).await,
            Self::Move(_, one) => match one.kind {
                MoveKind::Update => steps::update::undo(cx, one).await,
                MoveKind::Create => Box::pin(steps::create::undo(cx, one)).await,
                MoveKind::Remove => steps::remove::undo(cx, one).await,
            },
        }
    }
}
