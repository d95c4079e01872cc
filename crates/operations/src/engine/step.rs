//! What a step is.

use std::time::Duration;

use milvus_guard_core::api::RunStep;
use milvus_guard_sources::kubernetes::rollout::NoHope;

use super::{ApiError, CancelReason, RunRecordError, StepContext, release::SurveyError};

/// One step of a plan, as a value.
///
/// All three of `apply`, `gate` and `undo` may be called any number of times and may be cut off at
/// every await: by a signal, a lost lock, or the end of the process. Whatever they did then counts
/// as begun.
#[allow(
    async_fn_in_trait,
    reason = "an engine awaits its steps where it stands; nothing is sent to another thread"
)]
pub trait Step {
    /// What the steps of this verb work with: the release, the plan, the ways to Milvus.
    type Data;

    /// As it is in the `UpgradeRun`. The same value for the same step, always: the plan's hash
    /// is made of it.
    fn describe(&self) -> RunStep;

    /// Whether it changes anything outside the run's own objects. A failure before the first such
    /// step is a refusal.
    fn touches(&self) -> bool {
        true
    }

    /// Whether it reaches a safe point on its own when the process is asked to end, and is given
    /// time for that. Everything else is cut off where it stands.
    fn winds_down(&self) -> bool {
        false
    }

    /// How long it may take; then it fails, naming what it waited for.
    fn deadline(&self, data: &Self::Data) -> Duration;

    /// What to say if the run stops here.
    fn stop_message(&self, data: &Self::Data, back: bool) -> StopMessage;

    /// Does it, or what is missing of it.
    ///
    /// # Errors
    /// Where it cannot be done, or must not.
    async fn apply(&self, context: &StepContext<'_, Self::Data>) -> Result<(), StepError>;

    /// Waits until the change has taken effect. Says through [`StepContext::waiting`] for what.
    ///
    /// # Errors
    /// Where it certainly never will.
    async fn gate(&self, _context: &StepContext<'_, Self::Data>) -> Result<(), StepError> {
        Ok(())
    }

    /// Why the run can no longer go back from this step; `None` if it can.
    ///
    /// # Errors
    /// Where that cannot be found out.
    async fn no_way_back(
        &self,
        _context: &StepContext<'_, Self::Data>,
    ) -> Result<Option<String>, StepError> {
        Ok(None)
    }

    /// Undoes it, as far as it was done, and waits until that has taken effect.
    ///
    /// # Errors
    /// Where it cannot be taken back, or must not.
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

/// Why a step did not come to its end. Texts are fragments that fit after a colon, without a full
/// stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// What must be true is not.
    #[error("{0}")]
    Refused(String),
    /// Something went wrong; trying again may help.
    #[error("{0}")]
    Failed(String),
    /// It is another client's turn, as planned; the text says whose and what to do.
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
