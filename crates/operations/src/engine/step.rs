//! The interface of a step.

use std::time::Duration;

use milvus_guard_core::api::RunStep;
use milvus_guard_sources::kubernetes::rollout::NoHope;

use super::{ApiError, CancelReason, RunRecordError, StepContext, release::SurveyError};

/// One step of a plan, as a value.
///
/// `apply`, `gate` and `undo` may be called any number of times, and may be cancelled at every
/// await: by a signal, a lost lock, or the end of the process. The step then counts as begun.
#[allow(
    async_fn_in_trait,
    reason = "an engine awaits its steps where it stands; nothing is sent to another thread"
)]
pub trait Step {
    /// What the steps of this verb work with: the release, the plan, the clients of Milvus.
    type Data;

    /// The step as it is stored in the `UpgradeRun`. Always the same value for the same step,
    /// because the plan's hash is computed from it.
    fn describe(&self) -> RunStep;

    /// Whether it changes anything outside the run's own objects. A failure before the first such
    /// step is a refusal.
    fn touches(&self) -> bool {
        true
    }

    /// Whether it gets time to reach a safe point when the process is asked to end. Other steps are
    /// cancelled at once.
    fn winds_down(&self) -> bool {
        false
    }

    /// How long it may take; then it fails, naming what it waited for.
    fn deadline(&self, data: &Self::Data) -> Duration;

    /// The message if the run stops at this step.
    fn stop_message(&self, data: &Self::Data, back: bool) -> StopMessage;

    /// Does the step, or what is missing of it.
    ///
    /// # Errors
    /// If it cannot be done, or must not be done.
    async fn apply(&self, context: &StepContext<'_, Self::Data>) -> Result<(), StepError>;

    /// Waits until the change has taken effect. Reports through [`StepContext::waiting`] for what.
    ///
    /// # Errors
    /// If the change can certainly never take effect.
    async fn gate(&self, _context: &StepContext<'_, Self::Data>) -> Result<(), StepError> {
        Ok(())
    }

    /// Why the run can no longer be rolled back from this step; `None` if it can.
    ///
    /// # Errors
    /// If that cannot be determined.
    async fn no_way_back(
        &self,
        _context: &StepContext<'_, Self::Data>,
    ) -> Result<Option<String>, StepError> {
        Ok(None)
    }

    /// Undoes the step, as far as it was done, and waits until that has taken effect.
    ///
    /// # Errors
    /// If it cannot be undone, or must not be undone.
    async fn undo(&self, _context: &StepContext<'_, Self::Data>) -> Result<(), StepError> {
        Ok(())
    }
}

/// The message for users when a run stops, in whole sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopMessage {
    /// The state of the data.
    pub data_state: String,
    /// The next command.
    pub next_command: String,
}

/// Why a step did not complete. Texts are fragments that fit after a colon, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A precondition is not met.
    #[error("{0}")]
    Refused(String),
    /// Something went wrong; trying again may help.
    #[error("{0}")]
    Failed(String),
    /// The run waits for another client, as planned; the text names it and what to do.
    #[error("{0}")]
    Waits(String),
    /// Another run works on the same data.
    #[error("{0}")]
    Locked(String),
    /// The run must stop.
    #[error("stopped")]
    Cancelled(CancelReason),
}

impl From<ApiError> for StepError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Cancelled { cause, .. } => Self::Cancelled(cause),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<SurveyError> for StepError {
    fn from(error: SurveyError) -> Self {
        match error {
            SurveyError::Api(error) => error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<NoHope> for StepError {
    fn from(error: NoHope) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<RunRecordError> for StepError {
    fn from(error: RunRecordError) -> Self {
        match error {
            RunRecordError::Api(error) => error.into(),
            RunRecordError::Fenced { by } => Self::Cancelled(CancelReason::LockLost { by }),
            other => Self::Failed(other.to_string()),
        }
    }
}
