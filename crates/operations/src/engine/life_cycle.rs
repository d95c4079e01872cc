//! The life cycle of a run: it is started or resumed, rolled back or ended, while this process
//! holds the lock of its release.

use milvus_guard_core::{
    api::{ObjectMeta, RunPhase, RunSpec, UpgradeRun},
    milvus::Release,
    text::count,
};

use super::{
    End, Engine, Home, Intent, Lock, LockError, Options, RetryingClient, RunRecord,
    choice::{self, Request},
    history::History,
    procedure::{Prepared, Procedure, RunToPrepare},
    recorder::recording,
};

/// Starts, resumes, rolls back or ends the run in this process. `history` must be one of the
/// client's listeners.
pub async fn run_locally<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    history: History,
) -> End {
    match Box::pin(try_run(client, procedure, history)).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_run<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    history: History,
) -> Result<End, End> {
    let settings = procedure.run_settings();
    let home = Home::find(client, &settings.release, settings.namespace.as_deref()).await?;
    let known = RunRecord::runs(client, &home, &settings.release).await?;
    let name = name_of(client, &known, procedure).await?;
    let is_new = !known.iter().any(|run| run.metadata.name == name);
    if is_new && procedure.intent() != Intent::End {
        // A release that does not exist needs no lock, and its namespace may not exist either.
        procedure.preflight(client).await?;
    }
    let lock = Lock::for_run(
        client,
        &home,
        &settings.release,
        &name,
        settings.lock_duration,
        &known,
    )
    .await
    .map_err(|error| locked(error, procedure))?;
    let end = Box::pin(under_lock(
        client,
        procedure,
        history,
        (&home, &lock),
        &name,
    ))
    .await;
    lock.give_back().await;
    end
}

/// The part that needs the lock.
async fn under_lock<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    history: History,
    (home, lock): (&Home, &Lock),
    name: &str,
) -> Result<End, End> {
    let settings = procedure.run_settings();
    // The previous holder of the lock may have ended the run, so everything is read again.
    let known = RunRecord::runs(client, home, &settings.release).await?;
    let again = name_of(client, &known, procedure).await?;
    let run = known.iter().find(|run| run.metadata.name == again);
    if let (Intent::End, Some(run)) = (procedure.intent(), run) {
        return abort(client, procedure, history, (home, lock), run).await;
    }
    // A new run keeps the name that is already in the Lease.
    let name = if run.is_some() { again.as_str() } else { name };
    let to_prepare = RunToPrepare {
        run,
        known: &known,
        name,
        namespace: &home.namespace,
    };
    let ready = match procedure.prepare(client, to_prepare).await? {
        Prepared::Done(message) => return Ok(End::Reached(message)),
        Prepared::Ready(ready) => *ready,
    };
    let record = match run {
        Some(run) => {
            if procedure.intent() == Intent::Forward && run.spec.plan_hash != ready.spec.plan_hash {
                return Err(other_plan(run, procedure));
            }
            RunRecord::open(client, home, name, lock, history).await?
        }
        None => RunRecord::create(client, home, &new_run(name, ready.spec), lock, history).await?,
    };
    let engine = Engine {
        title: ready.title,
        steps: &ready.steps,
        data: &ready.data,
        record: &record,
        lock,
        client: &recording(client, &record),
        options: Options {
            total: settings.timeout,
            back_on_failure: settings.rolls_back_on_failure,
        },
    };
    if procedure.intent() != Intent::Back {
        return Ok(Box::pin(engine.forward()).await);
    }
    if let Some(why) = engine.no_way_back().await {
        let next = if record.run().status.phase == RunPhase::Succeeded {
            // The run has nothing left to do.
            "restore the backups that were made before".to_owned()
        } else {
            format!(
                "{} (resumes), or restore the backups that were made before",
                ready.resume
            )
        };
        return Err(End::Refused(format!(
            "Refused: {why}. Nothing was changed. Next: {next}"
        )));
    }
    Ok(Box::pin(engine.back()).await)
}

/// The name of the run that a command is about, or that a new one gets.
///
/// # Errors
/// As [`choice::choose`].
pub async fn name_of<P: Procedure>(
    client: &RetryingClient,
    known: &[UpgradeRun],
    procedure: &P,
) -> Result<String, End> {
    let settings = procedure.run_settings();
    let request = Request {
        kind: P::KIND,
        intent: procedure.intent(),
        release: &settings.release,
        command: &|flags| procedure.command(flags),
    };
    let chosen = choice::choose(client, known, &request).await?;
    let new_name = || {
        let now = jiff::Timestamp::now().as_nanosecond().to_string();
        format!("{}-{}", P::VERB, settings.release.short(&now))
    };
    Ok(chosen
        .map(|run| run.metadata.name.clone())
        .or_else(|| settings.name.clone())
        .unwrap_or_else(new_name))
}

fn new_run(name: &str, spec: RunSpec) -> UpgradeRun {
    let metadata = ObjectMeta {
        name: name.to_owned(),
        ..ObjectMeta::default()
    };
    UpgradeRun::new(metadata, spec)
}

/// UIDs of the Deployments that a run recorded, else of those that exist now.
#[must_use]
pub fn deployment_uids(release: &Release, run: Option<&UpgradeRun>) -> Vec<String> {
    let recorded: Vec<String> = run
        .iter()
        .flat_map(|run| &run.status.originals)
        .filter(|original| original.component.is_some())
        .filter_map(|original| original.uid.clone())
        .collect();
    if !recorded.is_empty() {
        return recorded;
    }
    let live = release
        .components
        .iter()
        .filter_map(|one| one.workload.meta.uid.as_deref().map(str::to_owned));
    live.collect()
}

/// The refusal to resume a run with another plan, or on other Deployments, than it began with.
pub(super) fn other_plan<P: Procedure>(run: &UpgradeRun, procedure: &P) -> End {
    let spec = &run.spec;
    let abort = match procedure.unabortable(run) {
        None => format!(", or end it with {}", procedure.command("-o abort ")),
        Some(_) => String::new(),
    };
    End::Refused(format!(
        "Run {} is in progress with another plan ({} to {}, image {}, {}), or the \
         Deployments were deleted and created again since. Nothing was changed. Next: use the same \
         flags as the first time, or roll it back with {}{abort}",
        run.full_name(),
        spec.from,
        spec.to,
        spec.image.as_deref().unwrap_or("unknown"),
        count(spec.plan.len(), "step"),
        procedure.command("-o rollback "),
    ))
}

/// Refuses to end a run that must not be ended at its current step.
///
/// # Errors
/// [`End::Refused`] with the reason.
pub fn check_abort<P: Procedure>(run: &UpgradeRun, procedure: &P) -> Result<(), End> {
    let Some(why) = procedure.unabortable(run) else {
        return Ok(());
    };
    Err(End::Refused(format!(
        "Run {} is not aborted: {why}. Nothing was changed. Next: {} (resumes), or {} (rolls back)",
        run.full_name(),
        procedure.command(""),
        procedure.command("-o rollback ")
    )))
}

/// Ends a run at its current step.
async fn abort<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    history: History,
    (home, lock): (&Home, &Lock),
    run: &UpgradeRun,
) -> Result<End, End> {
    check_abort(run, procedure)?;
    let message = format!(
        "Run {} was aborted where it was. {}",
        run.full_name(),
        procedure.left_behind(client, run).await?
    );
    let record = RunRecord::open(client, home, &run.metadata.name, lock, history).await?;
    record.abort(client, &message).await?;
    Ok(End::Reached(message))
}

/// Why the lock could not be taken.
fn locked<P: Procedure>(error: LockError, procedure: &P) -> End {
    let of = &procedure.run_settings().release;
    match error {
        LockError::Held { .. } => End::Locked(format!(
            "Locked: {error}. Nothing was changed. Next: milvus-guard status -i {} -n {}",
            of.name, of.namespace
        )),
        LockError::Api(error) => error.into(),
    }
}
