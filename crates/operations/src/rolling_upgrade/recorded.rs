//! The plan of a run in progress, read from its record. Pure.

use milvus_guard_core::{
    api::{RunStep, StepAction, UpgradeRun},
    milvus::{
        Build, Release,
        catalogue::{Catalogue, Gate, Situation},
    },
};

use crate::engine::ReleaseName;

use super::{
    plan::{Move, MoveKind, Rollout, Templates, mark},
    step::Step,
    through_helm::plan::recall,
};

/// The plan that a run began with, from its record; `None` if a later version wrote it.
#[must_use]
pub fn rollout(run: &UpgradeRun, release: &Release, catalogue: &Catalogue) -> Option<Rollout> {
    let spec = &run.spec;
    let (from, to) = (Build::of(spec.from), Build::of(spec.to));
    let route = catalogue.route(&from, &to, &Situation::of(release));
    let point = route.point_of_no_return();
    let mut moves = Vec::new();
    let mut configure = false;
    let mut templates = Templates::FromRun;
    for step in &spec.plan {
        let kind = match step.action {
            StepAction::Configure => {
                configure = true;
                continue;
            }
            StepAction::Hold => {
                templates = Templates::FromHelm;
                continue;
            }
            StepAction::Check | StepAction::Record | StepAction::HandOver | StepAction::CleanUp => {
                continue;
            }
            StepAction::Update => MoveKind::Update,
            StepAction::Start => MoveKind::Create,
            StepAction::Stop => MoveKind::Remove,
            _ => return None,
        };
        let (component, workload) = (step.component?, step.workload.clone());
        let (gate, note) = (Gate::Ready, None);
        moves.push(Move {
            component,
            workload,
            kind,
            gate,
            note,
            at_once_with_next: false,
            point_of_no_return: false,
        });
    }
    mark(&mut moves, point);
    let mut plan = Rollout {
        release: ReleaseName {
            name: spec.release.clone(),
            namespace: spec.namespace.clone(),
        },
        from,
        to,
        image: spec.image.clone()?,
        order: String::new(),
        moves,
        templates,
        configure,
        point_of_no_return: point,
        lost: route.text(|row| &row.lost).to_owned(),
        interruption: String::new(),
        notes: Vec::new(),
    };
    if templates == Templates::FromHelm {
        recall(&mut plan, catalogue);
    }
    let ids = |steps: &[RunStep]| steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>();
    let own: Vec<RunStep> = plan
        .steps(&release.fullname)
        .iter()
        .map(Step::describe)
        .collect();
    (ids(&own) == ids(&spec.plan)).then_some(plan)
}
