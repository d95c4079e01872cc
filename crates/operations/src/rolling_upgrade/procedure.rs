//! The rolling upgrade as a procedure of the engine.

use std::sync::Arc;

use crate::{
    engine::{
        End, Home, Intent, RetryingClient, RunSettings,
        life_cycle::deployment_uids,
        procedure::{Preparation, Prepared, Procedure, RunToPrepare},
        release::{self, ImageError},
    },
    kubernetes_job::{InJob, JobOptions, JobRequirements},
};
use milvus_guard_core::{
    api::{Original, RunKind, RunSpec, StepAction, UpgradeRun},
    milvus::{Build, ImageRef, Release, Version, catalogue::Catalogue},
};

use super::{
    context::{Connections, Pace, UpgradeData},
    job, messages,
    plan::{MoveKind, PlanError, Rollout, Templates, Wish, plan},
    preconditions::{self, UnknownSource},
    recorded,
    settings::{Operation, Settings},
    standby::{self, Standby},
    step::Step,
    steps::{emptied, proxy_drain, temporary},
    target_updates::Takeover,
    through_helm::{self, HelmCaller, HelmTurn, plan::HelmPlanError},
};

/// `upgrade` with its settings.
#[derive(Clone, Debug)]
pub struct RollingUpgrade {
    /// The settings of the command.
    pub settings: Settings,
    /// What the command does with its run.
    pub operation: Operation,
}

impl RollingUpgrade {
    /// An upgrade whose flags do not contradict each other.
    ///
    /// # Errors
    /// If the image has another version than `-t`.
    pub fn new(settings: Settings, operation: Operation) -> Result<Self, ImageError> {
        if let (Some(image), Some(target), Operation::Update) =
            (&settings.image, settings.target, operation)
        {
            release::image_fits(image, "-t", target)?;
        }
        Ok(Self {
            settings,
            operation,
        })
    }
}

impl Procedure for RollingUpgrade {
    type Step = Step;

    const KIND: RunKind = RunKind::Rolling;
    const VERB: &'static str = "upgrade";

    fn run_settings(&self) -> &RunSettings {
        &self.settings.run
    }

    fn intent(&self) -> Intent {
        self.operation.intent()
    }

    fn command(&self, flags: &str) -> String {
        messages::command(&self.settings, flags)
    }

    async fn prepare(
        &self,
        client: &RetryingClient,
        to_prepare: RunToPrepare<'_>,
    ) -> Result<Prepared<Step>, End> {
        let mut settings = self.settings.clone();
        let (release, _) = release::read(client, &settings.run.release)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let (rollout, standby) = match (to_prepare.run, self.operation) {
            (Some(run), Operation::Rollback) => {
                settings.target = Some(run.spec.to);
                let rollout = recorded::rollout(run, &release, Catalogue::embedded())
                    .ok_or_else(|| foreign(run))?;
                (rollout, resumed(run, &release))
            }
            (Some(run), _) if is_by_helm(run) => {
                let rollout = recorded::rollout(run, &release, Catalogue::embedded())
                    .ok_or_else(|| foreign(run))?;
                if let Some(turn) = &settings.helm {
                    check_same(turn, &rollout).map_err(|why| self.refused(&why.to_string()))?;
                }
                let standby = helm_standby(settings.helm.as_ref());
                (rollout, standby)
            }
            (run, _) => planned(&release, &settings, run)
                .map_err(|why| self.impossible(&why.to_string()))?,
        };
        let by_image = rollout.templates == Templates::FromRun;
        if to_prepare.run.is_none() && by_image && is_there(&release, &rollout) {
            return Ok(Prepared::Done(format!(
                "{} runs {} already, every component of it. Nothing was changed.\n{}",
                settings.run.release.name,
                rollout.to,
                messages::agree_if_needed(&release, &rollout)
            )));
        }
        let steps = rollout.steps(&release.fullname);
        let spec = RunSpec {
            kind: RunKind::Rolling,
            release: settings.run.release.name.clone(),
            namespace: settings.run.release.namespace.clone(),
            from: rollout.from.version,
            to: rollout.to.version,
            plan: steps.iter().map(Step::describe).collect(),
            plan_hash: rollout.hash(
                &release.fullname,
                &deployment_uids(&release, to_prepare.run),
            ),
            image: Some(rollout.image.clone()),
            requested_by: settings.run.requested_by.clone(),
        };
        let name = &settings.run.release.name;
        let title = match self.operation {
            Operation::Rollback => format!("Roll {name} back to {}", rollout.from),
            Operation::Update | Operation::Abort => {
                format!("Upgrade {name} from {} to {}", rollout.from, rollout.to)
            }
        };
        let resume = messages::command(&settings, "");
        let data = UpgradeData {
            release,
            rollout,
            standby,
            run: format!("{}/{}", to_prepare.namespace, to_prepare.name),
            home: to_prepare.namespace.to_owned(),
            pace: Pace::default(),
            takeover: Takeover::default(),
            connections: Connections::default(),
            settings,
        };
        let ready = Preparation {
            title,
            steps,
            data,
            spec,
            resume,
        };
        Ok(ready.into())
    }

    async fn left_behind(&self, client: &RetryingClient, run: &UpgradeRun) -> Result<String, End> {
        let settings = &Settings {
            target: self.settings.target.or(Some(run.spec.to)),
            ..self.settings.clone()
        };
        let (release, _) = release::read(client, &settings.run.release)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let pods = proxy_drain::of_run(client, run).await.map_err(End::from)?;
        Ok(left_behind(run, &release, settings, &pods))
    }
}

impl InJob for RollingUpgrade {
    fn operation(&self) -> &'static str {
        self.operation.name()
    }

    fn set_requested_by(&mut self, user: Option<String>) {
        self.settings.run.requested_by = user;
    }

    async fn check(
        &self,
        client: &RetryingClient,
        _known: &[UpgradeRun],
        run: Option<&UpgradeRun>,
    ) -> Result<(), End> {
        if self.operation != Operation::Update || run.is_some() {
            return Ok(());
        }
        let planned = self.preview(client).await?;
        planned
            .refusals
            .first()
            .map_or(Ok(()), |why| Err(self.refused(why)))
    }

    async fn needs(
        &self,
        _link: &RetryingClient,
        _home: &Home,
        _run: &str,
        options: &JobOptions,
    ) -> Result<JobRequirements, End> {
        Ok(JobRequirements {
            args: job::args(&self.settings, self.operation, options),
            claim: None,
            rights: job::rights(&self.settings),
            secrets: job::secrets(options),
        })
    }
}

/// Why a release cannot be upgraded as requested, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    /// This verb does not support the release.
    #[error("{0}")]
    Unsupported(String),
    /// An upgrade without a version.
    #[error("the target version is missing. Give it with -t")]
    NoTarget,
    /// The running version is unknown.
    #[error(transparent)]
    Source(#[from] UnknownSource),
    /// The image for the version cannot be determined.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The data has no order for these versions and components.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The data has no order for the change that Helm makes.
    #[error(transparent)]
    HelmPlan(#[from] HelmPlanError),
}

/// The plan for the running release; for a run in progress, the plan from its record.
fn planned(
    release: &Release,
    settings: &Settings,
    run: Option<&UpgradeRun>,
) -> Result<(Rollout, Standby), Impossible> {
    let originals = run.map_or(&[][..], |run| &run.status.originals);
    let release = &as_recorded(release, originals);
    if let Some(why) = preconditions::unsupported(release) {
        return Err(Impossible::Unsupported(why));
    }
    let target = settings.target.ok_or(Impossible::NoTarget)?;
    let from = match run {
        Some(run) => Build::of(run.spec.from),
        None => preconditions::source(release)?,
    };
    let image = match (&settings.image, run.and_then(|run| run.spec.image.clone())) {
        (Some(image), _) => image.clone(),
        (None, Some(image)) => image,
        (None, None) => release::image_at(release, target)?,
    };
    let standby = match run {
        Some(run) => resumed(run, release),
        None => standby::of(release, target),
    };
    let to = to(&image, target);
    let wish = Wish {
        name: &settings.run.release,
        release,
        from: &from,
        to: &to,
        image: &image,
        standby,
        candidate_order: settings.candidate_order.as_deref(),
    };
    let catalogue = Catalogue::embedded();
    if let Some(turn) = &settings.helm {
        let rollout = through_helm::plan::plan(&wish, &turn.change, catalogue)?;
        if turn.caller == HelmCaller::User {
            through_helm::plan::check_arrivals(&rollout)?;
        }
        return Ok((rollout, helm_standby(Some(turn))));
    }
    Ok((plan(&wish, catalogue)?, standby))
}

/// Whether Helm brings the templates of a run.
fn is_by_helm(run: &UpgradeRun) -> bool {
    let mut plan = run.spec.plan.iter();
    plan.any(|step| step.action == StepAction::Hold)
}

/// Whether coordinators hand over by active-standby, if only the chart configures it.
fn helm_standby(turn: Option<&HelmTurn>) -> Standby {
    match turn {
        Some(turn) if turn.change.hands_over => Standby::On,
        _ => Standby::Unknown,
    }
}

/// The change of Helm differs from the one that the run in progress began with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a run is in progress that brings {} with image {} and {} Deployments; this change brings {} \
     with image {} and {} Deployments. Finish that run, or end it with -o rollback or -o abort",
    .begun.to, .begun.image, .begun.deployments, .asked.to, .asked.image, .asked.deployments
)]
struct AnotherChange {
    begun: Brought,
    asked: Brought,
}

/// The content of a Helm change, as far as it is compared in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brought {
    to: Build,
    image: String,
    /// Number of Deployments of Milvus after the change.
    deployments: usize,
}

/// Refuses a Helm change that differs from the one that the run began with.
fn check_same(turn: &HelmTurn, rollout: &Rollout) -> Result<(), Box<AnotherChange>> {
    let after = |name: &str| {
        let mut moves = rollout.moves.iter();
        moves.any(|one| one.kind != MoveKind::Remove && one.workload.as_deref() == Some(name))
    };
    let change = &turn.change;
    let stays = rollout
        .moves
        .iter()
        .filter(|one| one.kind != MoveKind::Remove)
        .count();
    let same = change.to == rollout.to.version
        && change.image == rollout.image
        && change.workloads.len() == stays
        && change.workloads.iter().all(|one| after(&one.name));
    if same {
        return Ok(());
    }
    Err(Box::new(AnotherChange {
        begun: Brought {
            to: rollout.to.clone(),
            image: rollout.image.clone(),
            deployments: stays,
        },
        asked: Brought {
            to: Build::of(change.to),
            image: change.image.clone(),
            deployments: change.workloads.len(),
        },
    }))
}

/// The build of an image, if its tag names one.
fn to(image: &str, target: Version) -> Build {
    let said = ImageRef::parse(image).build();
    said.filter(|build| build.version == target)
        .unwrap_or_else(|| Build::of(target))
}

/// Whether coordinators hand over in a run that was begun: as planned.
fn resumed(run: &UpgradeRun, release: &Release) -> Standby {
    let configures = run
        .spec
        .plan
        .iter()
        .any(|step| step.action == StepAction::Configure);
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

/// Whether every component of the plan has the image already.
fn is_there(release: &Release, rollout: &Rollout) -> bool {
    release
        .components
        .iter()
        .filter(|one| one.is_running())
        .all(|one| one.image().to_string() == rollout.image)
}

/// The running versions after a run was ended at its current step.
fn left_behind(
    run: &UpgradeRun,
    release: &Release,
    settings: &Settings,
    detached: &[String],
) -> String {
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
    let alone = run.status.originals.iter().filter_map(|original| {
        let replicas = temporary::remembered(original, temporary::REPLICAS)?;
        Some(format!(
            " {} was scaled to 1 from {replicas} for the time of its step.",
            original.name
        ))
    });
    let alone: String = alone.collect();
    let suspended = run.status.suspended.iter().map(emptied::still_suspended);
    let suspended: String = suspended.map(|text| format!(" Note: {text}.")).collect();
    let namespace = &settings.run.release.namespace;
    let detached = detached.iter();
    let detached: String = detached
        .map(|pod| format!(" {}.", proxy_drain::left_behind(pod, namespace)))
        .collect();
    let paused: Vec<&str> = release
        .components
        .iter()
        .filter(|one| one.workload.paused)
        .map(|one| &*one.workload.meta.object.name)
        .collect();
    let paused = if paused.is_empty() {
        String::new()
    } else {
        format!(
            " Still paused: {}. Each rolls to the template that Helm gave it on kubectl rollout \
             resume deployment/NAME -n {}.",
            paused.join(", "),
            settings.run.release.namespace
        )
    };
    format!(
        "What runs: {}.{standby}{alone}{suspended}{detached}{paused} Next: {} starts a new run from here, {} rolls the aborted run \
         back.",
        shown.join(", "),
        messages::command(settings, ""),
        messages::command(settings, "-o rollback ")
    )
}

fn foreign(run: &UpgradeRun) -> End {
    End::Stopped(format!(
        "Run {} was planned by a later version of milvus-guard, or its Deployments have other \
         names now. Nothing was changed. Next: use that version.",
        run.full_name()
    ))
}
