//! A plan that is not carried out.

use milvus_guard_core::{api::UpgradeRun, upgrade_path::Plan};
use serde_json::{Value, json};

use super::{
    End, Home, Intent, Procedure, RetryingClient, RunRecord, Step,
    executor::{begun, next},
    home::HomeError,
    life_cycle::{check_abort, name_of, other_plan},
    procedure::{Preparation, Prepared, RunToPrepare},
    retrying_client::ApiError,
    run_record::RunRecordError,
};

/// What a run would do, and the objections to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The plan for people; several lines.
    pub text: String,
    /// The plan for programs.
    pub json: Value,
    /// The plan for documents with a diagram, if components move one after the other.
    pub path: Option<Plan>,
    /// What the rules warn about.
    pub warnings: Vec<String>,
    /// Why the run would be refused; empty if nothing is known that would refuse it.
    pub refusals: Vec<String>,
}

impl Preview {
    const fn of(text: String) -> Self {
        Self {
            text,
            json: Value::Null,
            path: None,
            warnings: Vec::new(),
            refusals: Vec::new(),
        }
    }
}

/// Every run of the release, the oldest first; none if the kind `UpgradeRun` is not installed.
///
/// # Errors
/// [`End::Stopped`] if the cluster does not answer.
pub async fn known_runs<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
) -> Result<Vec<UpgradeRun>, End> {
    let settings = procedure.run_settings();
    match Home::find(client, &settings.release, settings.namespace.as_deref()).await {
        Ok(home) => Ok(RunRecord::runs(client, &home, &settings.release).await?),
        Err(HomeError::NoDefinitions) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The runs of a release as far as the user may read them.
pub(crate) struct ReadableRuns {
    /// Every run, the oldest first; empty if they may not be read.
    pub runs: Vec<UpgradeRun>,
    /// The warning if they may not be read: the plan does not depend on them then.
    pub unread: Option<String>,
}

/// The runs of the release for a plan. A user who may not read them gets the plan of a new run with
/// a warning; a command that ends a run needs them.
///
/// # Errors
/// [`End::Stopped`] if the cluster does not answer, or a command that ends a run may not read them.
pub(crate) async fn readable_runs<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
) -> Result<ReadableRuns, End> {
    let settings = procedure.run_settings();
    let of = &settings.release;
    let home = match Home::find(client, of, settings.namespace.as_deref()).await {
        Ok(home) => home,
        Err(HomeError::NoDefinitions) => return Ok(ReadableRuns::of(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    match RunRecord::runs(client, &home, of).await {
        Err(RunRecordError::Api(error @ ApiError::Refused { .. }))
            if procedure.intent() == Intent::Forward =>
        {
            Ok(ReadableRuns {
                runs: Vec::new(),
                unread: Some(unread(&error)),
            })
        }
        runs => Ok(ReadableRuns::of(runs?)),
    }
}

impl ReadableRuns {
    const fn of(runs: Vec<UpgradeRun>) -> Self {
        Self { runs, unread: None }
    }
}

/// The warning about runs that may not be read.
fn unread(error: &ApiError) -> String {
    format!(
        "it is unknown whether a run is in progress, and this is the plan of a new run: {error}. The \
         command itself needs the permission to read and write UpgradeRuns"
    )
}

/// What a command would do with the run of its release.
pub(crate) enum Ahead<S: Step> {
    /// It would start a run, or resume this one.
    Forward(Box<Preparation<S>>, Option<Box<UpgradeRun>>),
    /// It would roll a run back, or abort it.
    Ending(Box<Preview>),
}

/// What a command would do: the same choice, the same plan and the same refusals as those of the
/// command itself, without the lock and without a write.
///
/// # Errors
/// The end of the command if it would not change anything.
pub(crate) async fn ahead<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    known: &[UpgradeRun],
) -> Result<Ahead<P::Step>, End> {
    let name = name_of(client, known, procedure).await?;
    let run = known.iter().find(|run| run.metadata.name == name);
    let intent = procedure.intent();
    if let (Intent::End, Some(run)) = (intent, run) {
        check_abort(run, procedure)?;
        return Ok(Ahead::Ending(Box::new(abort(run))));
    }
    let namespace = run.and_then(|run| run.metadata.namespace.as_deref());
    let to_prepare = RunToPrepare {
        run,
        known,
        name: &name,
        namespace: namespace.unwrap_or_default(),
    };
    let ready = match procedure.prepare(client, to_prepare).await? {
        Prepared::Done(message) => return Err(End::Reached(message)),
        Prepared::Ready(ready) => ready,
    };
    match run {
        Some(run) if intent == Intent::Back => Ok(Ahead::Ending(Box::new(rollback(run, &ready)))),
        Some(run) if run.spec.plan_hash != ready.spec.plan_hash => Err(other_plan(run, procedure)),
        run => Ok(Ahead::Forward(ready, run.cloned().map(Box::new))),
    }
}

/// The first line of the plan of a run that is resumed.
pub(crate) fn resumes<S: Step>(run: &UpgradeRun, steps: &[S]) -> String {
    let at = next(&run.status);
    let title = steps.get(at).map(|step| step.describe().title);
    format!(
        "Resumes run {} ({}) at step {} of {}: {}",
        run.full_name(),
        run.status.phase.name(),
        at + 1,
        steps.len(),
        title.unwrap_or_default()
    )
}

fn rollback<S: Step>(run: &UpgradeRun, ready: &Preparation<S>) -> Preview {
    let undone = ready.steps.iter().take(begun(&run.status)).rev();
    let undone: Vec<_> = undone.map(Step::describe).collect();
    let mut text = format!(
        "{}: run {} ({})\n\n",
        ready.title,
        run.full_name(),
        run.status.phase.name()
    );
    for (number, step) in undone.iter().enumerate() {
        text.push_str(&format!("{:>3}  Undo: {}\n", number + 1, step.title));
    }
    if undone.is_empty() {
        text.push_str("  No step was begun: nothing is to be undone.\n");
    }
    Preview {
        json: json!({"operation": "rollback", "run": run.full_name(), "undoes": undone}),
        ..Preview::of(text)
    }
}

fn abort(run: &UpgradeRun) -> Preview {
    let of = &run.spec;
    let text = format!(
        "{} in {}: abort run {} ({}); nothing is rolled back\n",
        of.release,
        of.namespace,
        run.full_name(),
        run.status.phase.name()
    );
    Preview {
        json: json!({"operation": "abort", "run": run.full_name()}),
        ..Preview::of(text)
    }
}
