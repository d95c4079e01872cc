//! How each step of an upgrade is carried out, awaited and undone.

use std::time::Duration;

use crate::engine::{StepError, StopMessage};
use milvus_guard_core::api::RunStep;

use super::{
    context::{StepContext, UpgradeData},
    messages,
    step::{MoveKind, Step},
    steps,
};

impl crate::engine::Step for Step {
    type Data = UpgradeData;

    fn describe(&self) -> RunStep {
        Self::describe(self)
    }

    fn touches(&self) -> bool {
        !matches!(self, Self::Check | Self::Record)
    }

    fn deadline(&self, data: &UpgradeData) -> Duration {
        data.settings.run.step_timeout
    }

    fn stop_message(&self, data: &UpgradeData, back: bool) -> StopMessage {
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
            // These steps change nothing that would have to be undone.
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
