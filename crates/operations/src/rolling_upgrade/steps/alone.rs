//! Leaves the active coordinator alone, before its Deployment gets another image. A terminating
//! standby may become active, and then holds the key until its lease expires. So the standby is
//! ended first, while the active pod serves; then only the new pod can take over.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{ResourceExt, api::ListParams, core::PartialObjectMeta};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        active,
        context::StepContext,
        plan::Move,
        settings::SessionHelp,
        standby::Standby,
        steps::{
            deletion_cost::{self, Marked, Turn},
            release, standbys, temporary,
        },
    },
};
use milvus_guard_core::{api::Original, milvus::Version};
use milvus_guard_sources::kubernetes::{
    pods::is_owned_by,
    rollout::{Wanted, Watched},
    workloads::{Change, is_available, is_complete, is_paused},
};

/// Scales a coordinator to its active pod and waits until the standby's pod has ended, if that is
/// possible. `now` is the running version.
pub(crate) async fn leave(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    deployment: &Deployment,
    now: Version,
) -> Result<(), StepError> {
    let watched = [Watched::of(deployment)];
    let began = temporary::remembered(original, temporary::REPLICAS).is_some();
    if !began {
        let Some(pod) = active_pod(cx, one, deployment, now).await? else {
            return Ok(());
        };
        match deletion_cost::mark(cx, &pod, Turn::Last).await? {
            Marked::Yes => {}
            Marked::Gone => return Ok(()),
            Marked::Refused(reason) => {
                cx.reporter().warn(format!(
                    "may not mark pod {} to be kept, so its standby stays while it is replaced: \
                     {reason}",
                    pod.name_any()
                ));
                return Ok(());
            }
        }
        let replicas = deployment.spec.replicas.unwrap_or(1);
        temporary::remember(cx, original, temporary::REPLICAS, replicas).await?;
        cx.reporter().note(format!(
            "{} of {} is active: the others go before the new one comes",
            pod.name_any(),
            one.component
        ));
    }
    let alone = Change {
        replicas: Some(1),
        ..Change::default()
    };
    let standbys = standbys::of(cx, &watched[0], one.component, now).await?;
    standbys::end(cx, &standbys).await?;
    originals::set(cx, original, &alone).await?;
    let hopeless = cx.data.settings.hopeless;
    let wait = async {
        if !is_paused(deployment) {
            return originals::wait_for(cx, &watched, Wanted::Complete, hopeless).await;
        }
        // Its template is new already, so it is never complete before the pause is removed.
        originals::wait_for(cx, &watched, Wanted::Old(1), hopeless).await?;
        originals::wait_for(cx, &watched, Wanted::Surged(0), hopeless).await
    };
    release::during(cx, &watched, wait).await.map(|_| ())
}

/// The pod of the active coordinator among several, if the others can be ended: all are ready, and
/// the sessions in etcd show the active one and may be released.
async fn active_pod(
    cx: &StepContext<'_>,
    one: &Move,
    deployment: &Deployment,
    now: Version,
) -> Result<Option<PartialObjectMeta<Pod>>, StepError> {
    let several = deployment.spec.replicas.unwrap_or(1) > 1;
    let may = cx.data.standby == Standby::On
        && cx.data.settings.session_help == SessionHelp::On
        && one.component.is_coordinator();
    let is_up = is_complete(deployment) || is_paused(deployment) && is_available(deployment);
    if !(may && several && is_up) {
        return Ok(None);
    }
    let Some(sessions) = cx.data.connections.sessions.read(cx).await else {
        return Ok(None);
    };
    let selector = Watched::of(deployment).selector;
    let pods = release::list(cx, &ListParams::default().labels(&selector)).await?;
    let own = pods.into_iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && is_owned_by(&pod.metadata, &deployment.name_any())
    });
    let hosts = active::hosts(&sessions, one.component, now);
    let held = |pod: &PartialObjectMeta<Pod>| {
        let name = pod.name_any();
        hosts.iter().filter(|host| **host == name).count()
    };
    Ok(own.filter(|pod| held(pod) > 0).max_by_key(held))
}
