//! Whether the run may still be rolled back: only before the point of no return of its path.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{StepContext, originals_of},
        plan::Rollout,
    },
};
use milvus_guard_core::{
    api::{RunPhase, StepStage, UpgradeRun},
    milvus::catalogue::PointOfNoReturn,
};
use milvus_guard_sources::kubernetes::{
    pods::{is_pod_of, is_ready},
    rollout::Watched,
};

/// Why a rollback is no longer possible; `None` if it is.
pub(crate) async fn barred(cx: &StepContext<'_>) -> Result<Option<String>, StepError> {
    let data = cx.data;
    match passed(&cx.run(), &data.rollout, &data.release.fullname) {
        Passed::No => Ok(None),
        Passed::Yes => Ok(Some(text(&data.rollout))),
        Passed::Perhaps(at) => {
            for original in originals_of(cx, &data.rollout.moves[at])? {
                let deployment = originals::live(cx, &original).await?;
                let api: Api<Pod> =
                    Api::namespaced(cx.client.kube(), &data.settings.run.release.namespace);
                let params = ListParams::default().labels(&Watched::of(&deployment).selector);
                let pods = cx
                    .client
                    .call("pods", async || api.list(&params).await)
                    .await?;
                let new = |pod: &Pod| {
                    pod.spec
                        .iter()
                        .flat_map(|spec| &spec.containers)
                        .any(|one| one.image.as_deref() == Some(&data.rollout.image))
                };
                if pods
                    .items
                    .iter()
                    .any(|pod| is_pod_of(pod, &original.name) && new(pod) && is_ready(pod))
                {
                    return Ok(Some(text(&data.rollout)));
                }
            }
            Ok(None)
        }
    }
}

/// Whether the point of no return is passed, according to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    No,
    /// The move after which no rollback is possible was begun.
    Perhaps(usize),
    Yes,
}

fn passed(run: &UpgradeRun, rollout: &Rollout, fullname: &str) -> Passed {
    let status = &run.status;
    match (rollout.point_of_no_return, status.phase) {
        // A rollback that has begun may also continue after the point.
        (_, RunPhase::RollingBack) | (PointOfNoReturn::None, _) => return Passed::No,
        (_, RunPhase::Succeeded) => return Passed::Yes,
        _ => {}
    }
    let Some(at) = rollout.moves.iter().position(|one| one.point_of_no_return) else {
        return Passed::No;
    };
    let id = rollout.moves[at].id(fullname);
    let place = run.spec.plan.iter().position(|step| step.id == id);
    let Some((place, cursor)) = place.zip(status.step.as_ref()) else {
        return Passed::No;
    };
    let index = usize::try_from(cursor.index).unwrap_or(0);
    match (index.cmp(&place), cursor.stage) {
        (std::cmp::Ordering::Less, _) => Passed::No,
        (std::cmp::Ordering::Equal, StepStage::Begun) => Passed::Perhaps(at),
        _ => Passed::Yes,
    }
}

fn text(rollout: &Rollout) -> String {
    let at = rollout.moves.iter().find(|one| one.point_of_no_return);
    let at = at.map_or_else(
        || "the upgrade was finished".to_owned(),
        |one| format!("the new {} was ready", one.component),
    );
    let lost = if rollout.lost.is_empty() {
        "; what going back would lose is not known".to_owned()
    } else {
        format!(
            "; going back would lose: {}",
            rollout.lost.trim_end_matches('.')
        )
    };
    format!(
        "the way back from {} to {} ended when {at}{lost}",
        rollout.to, rollout.from
    )
}
