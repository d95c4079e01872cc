//! All of it in this process: migrate, go on, roll back, abort, record.

use crate::engine::{
    self, End, Engine, Home, Link, Lock, Options, Store, choice::Request, recorder::recording,
    store::History,
};
use milvus_guard_core::api::{
    Condition, ObjectMeta, RunKind, RunPhase, RunSpec, StepStage, UpgradeRun,
    progress::METADATA_MIGRATED,
};

use super::{
    plan::{self, Step},
    settings::{self, Operation, Settings},
    survey::{SurveyError, survey},
    words,
    world::World,
};

/// Makes, resumes, rolls back or ends the run. `history` must be one of the link's listeners.
pub async fn perform(
    link: &Link,
    settings: Settings,
    operation: Operation,
    history: History,
) -> End {
    match Box::pin(try_perform(link, settings, operation, history)).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_perform(
    link: &Link,
    settings: Settings,
    operation: Operation,
    history: History,
) -> Result<End, End> {
    let home = Home::find(link, &settings.release, settings.run_namespace.as_deref()).await?;
    let known = Store::runs(link, &home, &settings.release).await?;
    let name = choose(link, &known, &settings, operation).await?;
    if operation != Operation::Abort && !known.iter().any(|run| run.metadata.name == name) {
        // What is not there needs no lock, and its namespace may not be there either.
        survey(link, &settings, operation)
            .await
            .map_err(|error| unsurveyed(error, &settings))?;
    }
    let lock = Lock::for_run(link, &home, &settings.release, &name, settings.lock, &known).await?;
    let end = Box::pin(under_lock(
        link, settings, operation, history, &home, &lock, &name,
    ))
    .await;
    lock.give_back().await;
    end
}

/// What happens while the lock is ours.
async fn under_lock(
    link: &Link,
    settings: Settings,
    operation: Operation,
    history: History,
    home: &Home,
    lock: &Lock,
    name: &str,
) -> Result<End, End> {
    // Anyone who held the lock before us may have ended what we found, so all of it is looked at
    // again.
    let known = Store::runs(link, home, &settings.release).await?;
    let again = choose(link, &known, &settings, operation).await?;
    let run = known.iter().find(|run| run.metadata.name == again);
    if let (Operation::Abort, Some(run)) = (operation, run) {
        return abort(link, &settings, home, lock, run, history).await;
    }
    // A new run keeps the name that the Lease already says.
    let name = if run.is_some() { again.as_str() } else { name };
    let was_stopped = known
        .iter()
        .any(|run| run.status.phase == RunPhase::Aborted);
    let mut settings = settings;
    if let Some(image) = run.and_then(|run| run.spec.image.clone())
        && settings.image.is_none()
        && operation == Operation::Migrate
    {
        settings.image = Some(image);
    }
    let survey = survey(link, &settings, operation)
        .await
        .map_err(|error| unsurveyed(error, &settings))?;
    let endpoint = &survey.endpoint;
    let root = (endpoint.root_path.clone(), endpoint.meta_sub_path.clone());
    let live: Vec<String> = survey
        .release
        .components
        .iter()
        .filter_map(|one| one.workload.meta.uid.as_deref().map(str::to_owned))
        .collect();
    let image = survey.image.clone();
    let world = World::new(
        settings,
        operation,
        survey,
        name,
        &home.namespace,
        was_stopped,
    );
    let settings = &world.settings;
    if run.is_none()
        && operation == Operation::Migrate
        && let Some(done) = known
            .iter()
            .rev()
            .find(|run| run.status.phase != RunPhase::Refused)
            .filter(|last| is_done(last, &world))
    {
        return Ok(End::Reached(format!(
            "Nothing to do: run {} has done it. {}",
            done.full_name(),
            done.status.message.clone().unwrap_or_default()
        )));
    }
    let (store, steps) = if let Some(run) = run {
        let steps = plan::recorded(&run.spec.plan).ok_or_else(|| {
            End::Stopped(format!(
                "Run {name} was planned by a later version of milvus-guard. Next: use that one."
            ))
        })?;
        if operation != Operation::Rollback {
            same_plan(
                run,
                settings,
                &plan::steps(settings, operation),
                &image,
                (&root.0, &root.1),
                live,
            )?;
        }
        (Store::open(link, home, name, lock, history).await?, steps)
    } else {
        let steps = plan::steps(settings, operation);
        let run = new_run(name, settings, &steps, &image, (&root.0, &root.1), &live);
        (Store::create(link, home, &run, lock, history).await?, steps)
    };
    let link = recording(link, &store);
    let verb = match operation {
        Operation::Migrate => format!(
            "Migrate {} from {} to {}",
            settings.release.name, settings.source, settings.target
        ),
        Operation::Rollback => {
            format!("Roll {} back to {}", settings.release.name, settings.source)
        }
        Operation::Record | Operation::Abort => {
            format!("Record the migration of {}", settings.release.name)
        }
    };
    let options = Options {
        total: settings.total,
        back_on_failure: settings.back_on_failure,
    };
    let (world, store, link) = (&world, &store, &link);
    let engine = Engine {
        title: verb,
        steps: &steps,
        world,
        store,
        lock,
        link,
        options,
    };
    Ok(if operation == Operation::Rollback {
        Box::pin(engine.back()).await
    } else {
        Box::pin(engine.forward()).await
    })
}

/// The name of the run that the command is about.
///
/// # Errors
/// As [`engine::choose`].
pub(super) async fn choose(
    link: &Link,
    known: &[UpgradeRun],
    settings: &Settings,
    operation: Operation,
) -> Result<String, End> {
    let command = |flags: &str| words::command(settings, flags);
    let intent = operation.intent();
    let request = Request {
        kind: RunKind::Migration,
        intent,
        release: &settings.release,
        command: &command,
    };
    let chosen = engine::choose(link, known, &request).await?;
    Ok(chosen
        .map(|run| run.metadata.name.clone())
        .or_else(|| settings.run.clone())
        .unwrap_or_else(|| new_name(settings)))
}

/// A name for a new run.
#[must_use]
pub fn new_name(settings: &Settings) -> String {
    format!(
        "migrate-{}",
        settings
            .release
            .short(&jiff::Timestamp::now().as_nanosecond().to_string())
    )
}

fn new_run(
    name: &str,
    settings: &Settings,
    steps: &[Step],
    image: &str,
    root: (&str, &str),
    uids: &[String],
) -> UpgradeRun {
    let spec = RunSpec {
        kind: RunKind::Migration,
        release: settings.release.name.clone(),
        namespace: settings.release.namespace.clone(),
        from: settings.source,
        to: settings.target,
        plan: steps.iter().map(crate::engine::Step::describe).collect(),
        plan_hash: plan::hash(settings, steps, image, root, uids),
        image: Some(image.to_owned()),
        requested_by: settings.requested_by.clone(),
    };
    UpgradeRun::new(
        ObjectMeta {
            name: name.to_owned(),
            ..ObjectMeta::default()
        },
        spec,
    )
}

/// Whether this run has done already what is asked for, and no one has changed that since.
fn is_done(run: &UpgradeRun, world: &World) -> bool {
    let Settings { source, target, .. } = &world.settings;
    let uids = run
        .status
        .evidence
        .as_ref()
        .map(|evidence| &evidence.workload_uids);
    run.status.phase == RunPhase::Succeeded
        && (run.spec.from, run.spec.to) == (*source, *target)
        && Condition::holds(&run.status.conditions, METADATA_MIGRATED)
        && world.release.components.iter().all(|component| {
            let runs = component
                .version()
                .build()
                .is_some_and(|build| build.version == *target);
            let same = component
                .workload
                .meta
                .uid
                .as_deref()
                .is_none_or(|uid| uids.is_some_and(|uids| uids.iter().any(|one| one == uid)));
            runs && same
        })
}

/// A run resumes only with the plan that it began with, on the workloads that it began with.
fn same_plan(
    run: &UpgradeRun,
    settings: &Settings,
    steps: &[Step],
    image: &str,
    root: (&str, &str),
    live: Vec<String>,
) -> Result<(), End> {
    let recorded: Vec<String> = run
        .status
        .originals
        .iter()
        .filter(|one| one.component.is_some())
        .filter_map(|one| one.uid.clone())
        .collect();
    let uids = if recorded.is_empty() { live } else { recorded };
    if plan::hash(settings, steps, image, root, &uids) == run.spec.plan_hash {
        return Ok(());
    }
    let spec = &run.spec;
    Err(End::Refused(format!(
        "Run {} is under way with another plan ({} to {}, image {}, {} steps), or the Deployments \
         were deleted and created again since. Nothing was changed. Next: give the same flags as \
         the first time, or end it with {}",
        run.full_name(),
        spec.from,
        spec.to,
        spec.image.as_deref().unwrap_or("unknown"),
        spec.plan.len(),
        words::command(settings, "-o rollback ")
    )))
}

/// Ends a run where it stands, unless the metadata is between two forms there.
async fn abort(
    link: &Link,
    settings: &Settings,
    home: &Home,
    lock: &Lock,
    run: &UpgradeRun,
    history: History,
) -> Result<End, End> {
    if let Some(why) = unabortable(run) {
        return Err(End::Refused(format!(
            "Run {} is not aborted: {why}. Nothing was changed. Next: {} (resumes), or {} (rolls \
             back)",
            run.full_name(),
            words::command(settings, ""),
            words::command(settings, "-o rollback ")
        )));
    }
    let message = format!(
        "Run {} was aborted where it was. {}",
        run.full_name(),
        condition(run, settings)
    );
    let store = Store::open(link, home, &run.metadata.name, lock, history).await?;
    store.abort(link, &message).await?;
    Ok(End::Reached(message))
}

/// The steps between the first write of metadata and its verification.
const REWRITING: [&str; 3] = ["migrate", "migrate-by-tool", "verify"];

/// Why a run must not be ended where it stands; `None` if it may.
#[must_use]
pub fn unabortable(run: &UpgradeRun) -> Option<String> {
    let cursor = run.status.step.as_ref()?;
    let back = run.status.phase == RunPhase::RollingBack;
    let rewriting = REWRITING.contains(&&*cursor.id);
    let whole = if back {
        // Before the metadata is touched, and after it is restored.
        cursor.id == "verify" || (rewriting && cursor.stage == StepStage::Done)
    } else {
        cursor.id == "verify" && cursor.stage == StepStage::Done
    };
    (rewriting && !whole)
        .then(|| "its metadata may be between 2.1 and 2.2, and nothing may start on it".to_owned())
}

/// The condition of the data of a run that ends.
fn condition(run: &UpgradeRun, settings: &Settings) -> String {
    let done = |id: &str| {
        let place = |id: &str| run.spec.plan.iter().position(|step| step.id == id);
        let cursor = run.status.step.as_ref();
        cursor.zip(place(id)).is_some_and(|(cursor, place)| {
            let index = usize::try_from(cursor.index).unwrap_or(0);
            index > place || (index == place && cursor.stage == StepStage::Done)
        })
    };
    let back = words::command(settings, "-o rollback ");
    let rolling_back = run.status.phase == RunPhase::RollingBack;
    if done("verify") && !rolling_back {
        format!(
            "The metadata is that of {}, verified: nothing older must start on it. Start stopped components with Helm, or roll back with {back}",
            run.spec.to
        )
    } else if run.status.originals.is_empty() {
        "Nothing was changed.".into()
    } else {
        format!(
            "The metadata is that of {}, unchanged. Components may be stopped; {back} starts them as they were.",
            run.spec.from
        )
    }
}

pub(super) fn unsurveyed(error: SurveyError, settings: &Settings) -> End {
    match error {
        SurveyError::Refused(why) => End::Refused(format!(
            "Refused: {why}. Nothing was changed. Next: {}",
            words::command(settings, "")
        )),
        SurveyError::Api(error) => error.into(),
    }
}

/// Refuses flags that contradict each other; what this says is wrong usage.
///
/// # Errors
/// What is wrong.
pub fn usable(settings: &Settings, operation: Operation) -> Result<(), String> {
    let Some(image) = &settings.image else {
        return Ok(());
    };
    match operation {
        // As in the official example, the image of a rollback is the old one.
        Operation::Rollback => settings::image(image, "-s", settings.source),
        _ => settings::image(image, "-t", settings.target),
    }
}
