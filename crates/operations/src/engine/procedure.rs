//! What a verb brings to the life cycle of a run.

use serde_json::Value;
use sha2::{Digest, Sha256};

use milvus_guard_core::{
    api::{RunKind, RunSpec, UpgradeRun},
    text::hexadecimal,
};

use super::{End, Intent, RetryingClient, RunSettings, Step, release::SurveyError};

/// A verb that makes runs: its plan, its preconditions and its messages. The life cycle
/// ([`super::life_cycle`]) does the rest.
#[allow(
    async_fn_in_trait,
    reason = "a life cycle awaits its procedure where it stands; nothing is sent to another thread"
)]
pub trait Procedure {
    /// The steps of its plan.
    type Step: Step;

    /// Kind of its runs.
    const KIND: RunKind;
    /// The verb of the command line; names of new runs begin with it.
    const VERB: &'static str;

    /// The settings that all kinds of runs share.
    fn run_settings(&self) -> &RunSettings;

    /// What the command does with its run.
    fn intent(&self) -> Intent;

    /// This command again, with these flags added; flags end with a space.
    fn command(&self, flags: &str) -> String;

    /// The end of a command that is refused for this reason.
    fn refused(&self, why: &str) -> End {
        End::Refused(format!(
            "Refused: {}. Nothing was changed. When that is resolved: {}",
            why.trim_end_matches('.'),
            self.command("")
        ))
    }

    /// The end of a command that can never succeed; the reason names a command that can.
    fn impossible(&self, why: &str) -> End {
        End::Refused(format!(
            "Refused: {}. Nothing was changed.",
            why.trim_end_matches('.')
        ))
    }

    /// The end of a command whose release could not be surveyed.
    fn unsurveyed(&self, error: SurveyError) -> End {
        match error {
            SurveyError::Refused(why) => self.refused(&why),
            SurveyError::Unsupported(why) => self.impossible(&why),
            SurveyError::NotFound(error) => End::Refused(format!(
                "Refused: {error}. Nothing was changed.\nNext: milvus-guard audit --all-namespaces"
            )),
            SurveyError::Api(error) => error.into(),
        }
    }

    /// Looks at the cluster before a new run takes the lock.
    ///
    /// # Errors
    /// [`End::Refused`] if the run could not begin.
    async fn preflight(&self, _link: &RetryingClient) -> Result<(), End> {
        Ok(())
    }

    /// Plans a new run, or finds the plan of one that was begun.
    ///
    /// # Errors
    /// [`End::Refused`] if the run must not begin, [`End::Stopped`] if the cluster does not answer
    /// or a later version of milvus-guard planned the run.
    async fn prepare(
        &self,
        client: &RetryingClient,
        run: RunToPrepare<'_>,
    ) -> Result<Prepared<Self::Step>, End>;

    /// Why a run must not be ended at its current step; `None` if it may.
    fn unabortable(&self, _run: &UpgradeRun) -> Option<String> {
        None
    }

    /// The state that a run leaves if it is ended at its current step, and the next command.
    ///
    /// # Errors
    /// [`End::Stopped`] if the cluster does not answer.
    async fn left_behind(&self, client: &RetryingClient, run: &UpgradeRun) -> Result<String, End>;
}

/// What is known of the run when it is prepared.
#[derive(Clone, Copy, Debug)]
pub struct RunToPrepare<'a> {
    /// The run that is resumed or rolled back; `None` for a new one.
    pub run: Option<&'a UpgradeRun>,
    /// Every run of the release, the oldest first.
    pub known: &'a [UpgradeRun],
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// How a command begins.
pub enum Prepared<S: Step> {
    /// There is nothing to do; the message says why.
    Done(String),
    /// A run with these steps.
    Ready(Box<Preparation<S>>),
}

/// A run that is ready to begin.
pub struct Preparation<S: Step> {
    /// What it does, in one line.
    pub title: String,
    /// Its steps.
    pub steps: Vec<S>,
    /// What the steps work with.
    pub data: S::Data,
    /// The record of a new run. Its hash is compared with that of a run that is resumed.
    pub spec: RunSpec,
    /// The command that resumes it.
    pub resume: String,
}

impl<S: Step> From<Preparation<S>> for Prepared<S> {
    fn from(ready: Preparation<S>) -> Self {
        Self::Ready(Box::new(ready))
    }
}

/// The hash of a plan, computed from all its inputs.
#[must_use]
pub fn plan_hash(made_from: &Value) -> String {
    let digest = Sha256::digest(made_from.to_string());
    format!("sha256:{}", hexadecimal(&digest))
}
