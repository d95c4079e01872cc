//! All of it in this process: upgrade, go on, roll back, abort, or only say what would be done.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::{
    self, End, Engine, Home, Link, Lock, Options, Step as _, Store,
    choice::Request,
    home::HomeError,
    recorder::recording,
    release::{self, SurveyError},
    store::History,
};
use milvus_guard_core::{
    api::{ObjectMeta, Original, RunKind, RunSpec, UpgradeRun},
    evidence::Facts,
    milvus::{Build, Release, Version, catalogue::Catalogue},
};

use super::{
    fitness,
    plan::{Rollout, Wish, plan},
    settings::{Operation, Settings},
    standby::{self, Standby},
    step::Step,
    steps::check,
    verdict::Said,
    words,
    world::{Pace, Ways, World},
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
    // A new run keeps the name that the Lease already says.
    let name = if run.is_some() { again.as_str() } else { name };
    let (release, _) = release::read(link, &settings.release)
        .await
        .map_err(|error| unsurveyed(error, &settings))?;
    if let (Operation::Abort, Some(run)) = (operation, run) {
        return abort(link, &settings, home, lock, run, &release, history).await;
    }
    let mut settings = settings;
    let (rollout, standby) = match (run, operation) {
        (Some(run), Operation::Rollback) => {
            settings.target = run.spec.to;
            let rollout = Rollout::recorded(run, &release, Catalogue::embedded())
                .ok_or_else(|| foreign(run))?;
            (rollout, resumed(run, &release))
        }
        (run, _) => planned(&release, &settings, run).map_err(|why| refused(&why, &settings))?,
    };
    let uids = uids(&release, run);
    let steps = rollout.steps(&release.fullname);
    if run.is_none() && is_there(&release, &rollout) {
        return Ok(End::Reached(format!(
            "{} runs {} already, every component of it. Nothing was changed.\n{}",
            settings.release.name,
            rollout.to,
            words::agree(&release, &rollout)
        )));
    }
    let full_name = format!("{}/{name}", home.namespace);
    let hash = rollout.hash(&release.fullname, &uids);
    let store = match run {
        Some(run) => {
            if operation == Operation::Update {
                same_plan(run, &settings, &hash)?;
            }
            Store::open(link, home, name, lock, history).await?
        }
        None => {
            Store::create(
                link,
                home,
                &new_run(name, &settings, &rollout, &steps, hash),
                lock,
                history,
            )
            .await?
        }
    };
    let (home, pace, ways) = (home.namespace.clone(), Pace::default(), Ways::default());
    let world = World {
        release,
        rollout,
        standby,
        run: full_name,
        home,
        pace,
        ways,
        settings,
    };
    let link = recording(link, &store);
    let settings = &world.settings;
    let title = match operation {
        Operation::Rollback => format!(
            "Roll {} back to {}",
            settings.release.name, world.rollout.from
        ),
        _ => format!(
            "Upgrade {} from {} to {}",
            settings.release.name, world.rollout.from, world.rollout.to
        ),
    };
    let options = Options {
        total: settings.total,
        back_on_failure: settings.back_on_failure,
    };
    let engine = Engine {
        title,
        steps: &steps,
        world: &world,
        store: &store,
        lock,
        link: &link,
        options,
    };
    if operation == Operation::Rollback {
        if let Some(why) = engine.no_way_back().await {
            return Err(End::Refused(format!(
                "Refused: {why}. Nothing was changed. Next: {} (resumes), or restore the backups \
                 that were made before",
                words::command(settings, "")
            )));
        }
        return Ok(Box::pin(engine.back()).await);
    }
    Ok(Box::pin(engine.forward()).await)
}

/// The plan from what runs; where a run is under way, from what it recorded of the beginning.
fn planned(
    release: &Release,
    settings: &Settings,
    run: Option<&UpgradeRun>,
) -> Result<(Rollout, Standby), String> {
    let originals = run.map_or(&[][..], |run| &run.status.originals);
    let release = &as_recorded(release, originals);
    if let Some(why) = fitness::never(release) {
        return Err(why);
    }
    let from = match run {
        Some(run) => Build::of(run.spec.from),
        None => fitness::source(release)?,
    };
    let image = match (&settings.image, run.and_then(|run| run.spec.image.clone())) {
        (Some(image), _) => image.clone(),
        (None, Some(image)) => image,
        (None, None) => release::image_at(release, settings.target)?,
    };
    let standby = match run {
        Some(run) => resumed(run, release),
        None => standby::of(release, settings.target),
    };
    let to = to(&image, settings.target);
    let wish = Wish {
        name: &settings.release,
        release,
        from: &from,
        to: &to,
        image: &image,
        standby,
    };
    Ok((plan(&wish, Catalogue::embedded())?, standby))
}

/// The build that an image is, where its tag says so.
fn to(image: &str, target: Version) -> Build {
    let said = milvus_guard_core::milvus::ImageRef::parse(image).build();
    said.filter(|build| build.version == target)
        .unwrap_or_else(|| Build::of(target))
}

/// How coordinators hand over in a run that was begun: as it planned.
fn resumed(run: &UpgradeRun, release: &Release) -> Standby {
    let configures = run
        .spec
        .plan
        .iter()
        .any(|step| step.action == milvus_guard_core::api::StepAction::Configure);
    match standby::of(release, run.spec.to) {
        _ if configures => Standby::Off,
        Standby::Off => Standby::Unknown,
        other => other,
    }
}

/// The release with the components and replicas that a run found.
fn as_recorded(release: &Release, originals: &[Original]) -> Release {
    let mut release = release.clone();
    let of = |name: &str| {
        originals
            .iter()
            .find(|original| original.component.is_some() && original.name == name)
    };
    release.components.retain(|one| {
        of(&one.workload.meta.object.name).is_none_or(|original| original.uid.is_some())
    });
    for one in &mut release.components {
        if let Some(original) = of(&one.workload.meta.object.name) {
            Arc::make_mut(&mut one.workload).replicas = original.replicas.map(i64::from);
        }
    }
    release
}

/// Identities of the Deployments that move, as the run found them.
fn uids(release: &Release, run: Option<&UpgradeRun>) -> Vec<String> {
    let recorded: Vec<String> = run
        .iter()
        .flat_map(|run| &run.status.originals)
        .filter(|original| original.component.is_some())
        .filter_map(|original| original.uid.clone())
        .collect();
    if recorded.is_empty() {
        release
            .components
            .iter()
            .filter_map(|one| one.workload.meta.uid.as_deref().map(str::to_owned))
            .collect()
    } else {
        recorded
    }
}

/// Whether every component that moves has the image already.
fn is_there(release: &Release, rollout: &Rollout) -> bool {
    release
        .components
        .iter()
        .filter(|one| one.is_running())
        .all(|one| one.image().to_string() == rollout.image)
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
        kind: RunKind::Rolling,
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
        "upgrade-{}",
        settings
            .release
            .short(&jiff::Timestamp::now().as_nanosecond().to_string())
    )
}

fn new_run(
    name: &str,
    settings: &Settings,
    rollout: &Rollout,
    steps: &[Step],
    hash: String,
) -> UpgradeRun {
    let spec = RunSpec {
        kind: RunKind::Rolling,
        release: settings.release.name.clone(),
        namespace: settings.release.namespace.clone(),
        from: rollout.from.version,
        to: rollout.to.version,
        plan: steps.iter().map(Step::describe).collect(),
        plan_hash: hash,
        image: Some(rollout.image.clone()),
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

/// A run resumes only with the plan that it began with, on the workloads that it began with.
fn same_plan(run: &UpgradeRun, settings: &Settings, hash: &str) -> Result<(), End> {
    let spec = &run.spec;
    if spec.plan_hash == hash {
        return Ok(());
    }
    Err(End::Refused(format!(
        "Run {} is under way with another plan ({} to {}, image {}, {} steps), or the Deployments \
         are not the same any more. Nothing was changed. Next: give the same flags as the first \
         time, or go back with {}, or end it with {}",
        run.full_name(),
        spec.from,
        spec.to,
        spec.image.as_deref().unwrap_or("unknown"),
        spec.plan.len(),
        words::command(settings, "-o rollback "),
        words::command(settings, "-o abort ")
    )))
}

/// Ends a run where it stands.
async fn abort(
    link: &Link,
    settings: &Settings,
    home: &Home,
    lock: &Lock,
    run: &UpgradeRun,
    release: &Release,
    history: History,
) -> Result<End, End> {
    let message = format!(
        "Run {} was aborted where it was. {}",
        run.full_name(),
        condition(run, release, settings)
    );
    let store = Store::open(link, home, &run.metadata.name, lock, history).await?;
    store.abort(link, &message).await?;
    Ok(End::Reached(message))
}

/// What runs what, in words.
fn condition(run: &UpgradeRun, release: &Release, settings: &Settings) -> String {
    if run.status.originals.is_empty() {
        return "Nothing was changed.".into();
    }
    let shown = release.components.iter().filter(|one| one.is_running());
    let shown: Vec<String> = shown
        .map(|one| format!("{} {}", one.component, one.image()))
        .collect();
    let configured = run
        .status
        .originals
        .iter()
        .any(|original| original.kind == "ConfigMap");
    let standby = if configured {
        " Active-standby of the coordinators may still be turned on in the ConfigMap; the next \
         helm upgrade takes it out."
    } else {
        ""
    };
    format!(
        "What runs: {}.{standby} Next: {} starts a new run from here, {} rolls the aborted run \
         back.",
        shown.join(", "),
        words::command(settings, ""),
        words::command(settings, "-o rollback ")
    )
}

fn foreign(run: &UpgradeRun) -> End {
    End::Stopped(format!(
        "Run {} was planned by a later version of milvus-guard, or its Deployments have other \
         names now. Nothing was changed. Next: use that version.",
        run.full_name()
    ))
}

fn refused(why: &str, settings: &Settings) -> End {
    End::Refused(format!(
        "Refused: {}. Nothing was changed. Next: {}",
        why.trim_end_matches('.'),
        words::command(settings, "")
    ))
}

fn unsurveyed(error: SurveyError, settings: &Settings) -> End {
    match error {
        SurveyError::Refused(why) => refused(&why, settings),
        SurveyError::Api(error) => error.into(),
    }
}

/// What would be done, and what speaks against it.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The plan for people.
    pub text: String,
    /// The plan for programs.
    pub json: Value,
    /// What the rules say.
    pub said: Said,
}

/// Refuses early what a run would refuse.
pub(super) async fn refuses(link: &Link, settings: &Settings) -> Result<(), End> {
    let said = preview(link, settings).await?.said;
    said.refusals
        .first()
        .map_or(Ok(()), |why| Err(refused(why, settings)))
}

/// Plans without doing anything.
///
/// # Errors
/// Where there is no plan, or the cluster cannot be asked.
pub async fn preview(link: &Link, settings: &Settings) -> Result<Preview, End> {
    let (release, facts): (Release, Facts) = release::read(link, &settings.release)
        .await
        .map_err(|error| unsurveyed(error, settings))?;
    let (rollout, _) = planned(&release, settings, None).map_err(|why| refused(&why, settings))?;
    // Where runs cannot be kept, none can be in the way.
    let runs = match Home::find(link, &settings.release, settings.run_namespace.as_deref()).await {
        Ok(home) => Store::runs(link, &home, &settings.release).await?,
        Err(HomeError::NoDefinitions) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let said = check::ask(link, &release, facts, &runs, &rollout, "").await?;
    let uids = uids(&release, None);
    Ok(Preview {
        text: rollout.text(&release.fullname),
        json: rollout.json(&release.fullname, &uids),
        said,
    })
}
