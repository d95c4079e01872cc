//! The migration as a procedure of the engine.

use crate::{
    engine::{
        End, Home, Intent, RetryingClient, RunSettings, Step as _,
        life_cycle::deployment_uids,
        procedure::{Preparation, Prepared, Procedure, RunToPrepare},
        release::ImageError,
    },
    kubernetes_job::{InJob, JobOptions, JobRequirements},
};
use milvus_guard_core::api::{
    Condition, RunKind, RunPhase, RunSpec, StepStage, UpgradeRun, progress::METADATA_MIGRATED,
};

use super::{
    context::MigrationData,
    job, messages, migratable,
    plan::{self, Step},
    settings::{self, Operation, Settings},
    survey::survey,
};

/// `migrate` with its settings.
#[derive(Clone, Debug)]
pub struct Migration {
    /// The settings of the command.
    pub settings: Settings,
    /// What the command does with its run.
    pub operation: Operation,
}

impl Migration {
    /// A migration whose flags do not contradict each other.
    ///
    /// # Errors
    /// If the image has another version than the flags.
    pub fn new(settings: Settings, operation: Operation) -> Result<Self, ImageError> {
        if let Some(image) = &settings.image {
            match operation {
                // As in the official example, the image of a rollback is the old image.
                Operation::Rollback => settings::image(image, "-s", settings.source)?,
                _ => settings::image(image, "-t", settings.target)?,
            }
        }
        Ok(Self {
            settings,
            operation,
        })
    }
}

impl Procedure for Migration {
    type Step = Step;

    const KIND: RunKind = RunKind::Migration;
    const VERB: &'static str = "migrate";

    fn run_settings(&self) -> &RunSettings {
        &self.settings.run
    }

    fn intent(&self) -> Intent {
        self.operation.intent()
    }

    fn command(&self, flags: &str) -> String {
        messages::command(&self.settings, flags)
    }

    async fn preflight(&self, client: &RetryingClient) -> Result<(), End> {
        survey(client, &self.settings, self.operation)
            .await
            .map(drop)
            .map_err(|error| self.unsurveyed(error))
    }

    async fn prepare(
        &self,
        client: &RetryingClient,
        to_prepare: RunToPrepare<'_>,
    ) -> Result<Prepared<Step>, End> {
        let (mut settings, operation) = (self.settings.clone(), self.operation);
        if operation == Operation::Migrate && settings.image.is_none() {
            settings.image = to_prepare.run.and_then(|run| run.spec.image.clone());
        }
        let survey = survey(client, &settings, operation)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let planned = plan::steps(&settings, operation);
        let endpoint = &survey.endpoint;
        let spec = RunSpec {
            kind: RunKind::Migration,
            release: settings.run.release.name.clone(),
            namespace: settings.run.release.namespace.clone(),
            from: settings.source,
            to: settings.target,
            plan: planned.iter().map(Step::describe).collect(),
            plan_hash: plan::hash(
                &settings,
                &planned,
                &survey.image,
                (&endpoint.root_path, &endpoint.meta_sub_path),
                &deployment_uids(&survey.release, to_prepare.run),
            ),
            image: Some(survey.image.clone()),
            requested_by: settings.run.requested_by.clone(),
        };
        let was_stopped = to_prepare
            .known
            .iter()
            .any(|run| run.status.phase == RunPhase::Aborted);
        let place = (to_prepare.name, to_prepare.namespace);
        let data = MigrationData::new(settings, operation, survey, place, was_stopped);
        let Some(run) = to_prepare.run else {
            return Ok(match done_before(to_prepare.known, &data) {
                Some(message) => Prepared::Done(message),
                None => ready(data, planned, spec).into(),
            });
        };
        let steps = plan::recorded(&run.spec.plan).ok_or_else(|| {
            End::Stopped(format!(
                "Run {} was planned by a later version of milvus-guard. Next: use that version.",
                to_prepare.name
            ))
        })?;
        Ok(ready(data, steps, spec).into())
    }

    fn unabortable(&self, run: &UpgradeRun) -> Option<String> {
        unabortable(run)
    }

    async fn left_behind(&self, _link: &RetryingClient, run: &UpgradeRun) -> Result<String, End> {
        Ok(left_behind(run, &self.settings))
    }
}

impl InJob for Migration {
    fn operation(&self) -> &'static str {
        self.operation.name()
    }

    fn set_requested_by(&mut self, user: Option<String>) {
        self.settings.run.requested_by = user;
    }

    async fn check(
        &self,
        client: &RetryingClient,
        known: &[UpgradeRun],
        run: Option<&UpgradeRun>,
    ) -> Result<(), End> {
        let (settings, operation) = (&self.settings, self.operation);
        if operation == Operation::Abort {
            return Ok(());
        }
        let survey = survey(client, settings, operation)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let was_stopped = known
            .iter()
            .any(|run| run.status.phase == RunPhase::Aborted);
        let why = (operation == Operation::Migrate && run.is_none())
            .then(|| {
                let (release, facts) = (&survey.release, &survey.facts);
                migratable::blocked(release, facts, settings.source, was_stopped)
            })
            .flatten();
        why.map_or(Ok(()), |why| Err(self.refused(&why)))
    }

    async fn needs(
        &self,
        client: &RetryingClient,
        home: &Home,
        run: &str,
        options: &JobOptions,
    ) -> Result<JobRequirements, End> {
        let claim = job::claim_name(client, home, run, self.operation).await?;
        let has_secret = options.etcd_secret.is_some();
        Ok(JobRequirements {
            args: job::args(&self.settings, self.operation, claim.as_deref(), has_secret),
            claim: job::claim(claim, options.backup.as_ref()),
            rights: job::rights(self.settings.tool_image.is_some()),
            secrets: job::secrets(options),
        })
    }
}

fn ready(data: MigrationData, steps: Vec<Step>, spec: RunSpec) -> Preparation<Step> {
    let Settings {
        run: RunSettings { release, .. },
        source,
        target,
        ..
    } = &data.settings;
    let title = match data.operation {
        Operation::Migrate => format!("Migrate {} from {source} to {target}", release.name),
        Operation::Rollback => format!("Roll {} back to {source}", release.name),
        Operation::Record | Operation::Abort => {
            format!("Record the migration of {}", release.name)
        }
    };
    Preparation {
        title,
        resume: messages::command(&data.settings, ""),
        steps,
        data,
        spec,
    }
}

/// The message if the last run already did what is requested.
fn done_before(known: &[UpgradeRun], data: &MigrationData) -> Option<String> {
    if data.operation != Operation::Migrate {
        return None;
    }
    let done = known
        .iter()
        .rev()
        .find(|run| run.status.phase != RunPhase::Refused)
        .filter(|last| is_done(last, data))?;
    Some(format!(
        "Nothing to do: run {} has already done this. {}",
        done.full_name(),
        done.status.message.as_deref().unwrap_or_default()
    ))
}

/// Whether this run already did what is requested, and nothing has changed since.
fn is_done(run: &UpgradeRun, data: &MigrationData) -> bool {
    let Settings { source, target, .. } = &data.settings;
    let uids = run
        .status
        .evidence
        .as_ref()
        .map(|evidence| &evidence.workload_uids);
    run.status.phase == RunPhase::Succeeded
        && (run.spec.from, run.spec.to) == (*source, *target)
        && Condition::holds(&run.status.conditions, METADATA_MIGRATED)
        && data.release.components.iter().all(|component| {
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

/// The steps between the first write of metadata and its verification.
const REWRITING: [&str; 3] = ["migrate", "migrate-by-tool", "verify"];

/// Why a run must not be ended at its current step; `None` if it may.
#[must_use]
pub fn unabortable(run: &UpgradeRun) -> Option<String> {
    let cursor = run.status.step.as_ref()?;
    let back = run.status.phase == RunPhase::RollingBack;
    let rewriting = REWRITING.contains(&&*cursor.id);
    let whole = if back {
        // Before the metadata is changed, and after it is restored.
        cursor.id == "verify" || (rewriting && cursor.stage == StepStage::Done)
    } else {
        cursor.id == "verify" && cursor.stage == StepStage::Done
    };
    (rewriting && !whole)
        .then(|| "its metadata may be between 2.1 and 2.2, and nothing may start on it".to_owned())
}

/// The state of the data after a run was ended at its current step.
fn left_behind(run: &UpgradeRun, settings: &Settings) -> String {
    let done = |id: &str| {
        let place = |id: &str| run.spec.plan.iter().position(|step| step.id == id);
        let cursor = run.status.step.as_ref();
        cursor.zip(place(id)).is_some_and(|(cursor, place)| {
            let index = usize::try_from(cursor.index).unwrap_or(0);
            index > place || (index == place && cursor.stage == StepStage::Done)
        })
    };
    let back = messages::command(settings, "-o rollback ");
    let rolling_back = run.status.phase == RunPhase::RollingBack;
    if done("verify") && !rolling_back {
        format!(
            "The metadata is that of {}, verified: an older version must not start on it. Start \
             stopped components with Helm, or roll back with {back}",
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
