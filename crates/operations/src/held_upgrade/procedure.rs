//! A held change as a procedure of the engine.

use std::{cell::Cell, time::Duration};

use crate::engine::{
    End, EtcdAccess, Intent, ReleaseName, RetryingClient, RunSettings, Step as _,
    life_cycle::deployment_uids,
    lock,
    procedure::{Preparation, Prepared, Procedure, RunToPrepare},
    release,
};
use crate::rolling_upgrade::{SessionHelp, context::Sessions};
use milvus_guard_core::{
    api::{RunKind, RunSpec, UpgradeRun},
    milvus::catalogue::Catalogue,
};

use super::{
    plan::HeldPlan,
    step::{HeldData, NO_LIMIT, Step, Stuck, status_command},
};

/// The release of a held change.
#[derive(Clone, Debug)]
pub struct HeldUpgrade {
    run: RunSettings,
    intent: Intent,
    settings: HoldSettings,
    stuck: Stuck,
}

/// How held changes are released.
#[derive(Clone, Debug)]
pub struct HoldSettings {
    /// Time after which a Deployment that does not become complete counts as stuck.
    pub stuck_after: Duration,
    /// Whether sessions of ended pods are removed from etcd.
    pub session_help: SessionHelp,
    /// How to connect to etcd, if it can be reached.
    pub etcd: EtcdAccess,
}

impl HeldUpgrade {
    /// A held change of this release; the run is stored in the namespace `home`.
    #[must_use]
    pub fn new(release: ReleaseName, home: &str, settings: HoldSettings, stuck: Stuck) -> Self {
        Self {
            run: RunSettings {
                release,
                name: None,
                namespace: Some(home.to_owned()),
                requested_by: None,
                timeout: NO_LIMIT,
                step_timeout: NO_LIMIT,
                lock_duration: lock::HOLDS,
                rolls_back_on_failure: false,
            },
            intent: Intent::Forward,
            settings,
            stuck,
        }
    }

    /// The same procedure, but it ends the run at its current step.
    #[must_use]
    pub fn ending(self) -> Self {
        Self {
            intent: Intent::End,
            ..self
        }
    }
}

impl Procedure for HeldUpgrade {
    type Step = Step;

    const KIND: RunKind = RunKind::Hold;
    const VERB: &'static str = "hold";

    fn run_settings(&self) -> &RunSettings {
        &self.run
    }

    fn intent(&self) -> Intent {
        self.intent
    }

    fn command(&self, _flags: &str) -> String {
        status_command(&self.run.release)
    }

    async fn prepare(
        &self,
        client: &RetryingClient,
        to_prepare: RunToPrepare<'_>,
    ) -> Result<Prepared<Step>, End> {
        let (found, _) = release::read(client, &self.run.release)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let catalogue = Catalogue::embedded();
        let plan = match to_prepare.run {
            Some(run) => {
                let (spec, image) = (&run.spec, run.spec.image.clone().unwrap_or_default());
                let versions = (spec.from, spec.to);
                Some(HeldPlan::resumed(&found, catalogue, versions, &image))
            }
            None => HeldPlan::of(&found, catalogue),
        };
        let name = &self.run.release.name;
        let Some(plan) = plan else {
            return Ok(Prepared::Done(format!("Nothing of {name} is held.")));
        };
        let workloads: Vec<String> = plan.moves.iter().map(|one| one.workload.clone()).collect();
        let mut steps: Vec<Step> = plan.moves.iter().cloned().map(Step::Release).collect();
        steps.push(Step::CheckReleased);
        let spec = RunSpec {
            kind: RunKind::Hold,
            release: name.clone(),
            namespace: self.run.release.namespace.clone(),
            from: plan.from,
            to: plan.to,
            plan_hash: plan.hash(&self.run.release, &deployment_uids(&found, to_prepare.run)),
            plan: steps.iter().map(Step::describe).collect(),
            image: Some(plan.image.clone()),
            requested_by: None,
        };
        let data = HeldData {
            release: self.run.release.clone(),
            found,
            etcd: self.settings.etcd.clone(),
            sessions: Sessions::default(),
            session_help: self.settings.session_help,
            is_release_refused: Cell::new(false),
            image: plan.image,
            workloads,
            stuck_after: self.settings.stuck_after,
            stuck: self.stuck.clone(),
            from: plan.from,
            to: plan.to,
        };
        Ok(Preparation {
            title: format!(
                "Release the held change of {name} from {} to {}",
                plan.from, plan.to
            ),
            resume: status_command(&self.run.release),
            steps,
            data,
            spec,
        }
        .into())
    }

    async fn left_behind(&self, _link: &RetryingClient, _run: &UpgradeRun) -> Result<String, End> {
        Ok(format!(
            "A later change replaced it. Next: {}",
            status_command(&self.run.release)
        ))
    }
}
