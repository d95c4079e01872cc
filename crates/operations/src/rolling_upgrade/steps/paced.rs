//! Query nodes one by one: the next old pod ends only when Milvus serves all that it had loaded.
//!
//! A Deployment replaces its pods as soon as new ones are available, and Kubernetes calls a query
//! node available before it has its segments. So a long `minReadySeconds` keeps every old pod, and
//! a short one lets exactly one go: the new pod before it has been ready for that time, the one
//! after it has not. Where this process ends in between, the Deployment continues without it after
//! that time.
//!
//! During a rollback the same happens, but nothing is held up for long: as soon as Milvus is not whole
//! again in time, the remaining pods go back at Kubernetes' own pace.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{Direction, StepContext},
        plan::Move,
        steps::{emptied, loaded, searched, temporary},
    },
};
use milvus_guard_core::{api::Original, text::count};
use milvus_guard_sources::kubernetes::{
    pods::is_pod_of,
    rollout::{self, STEADY, Wanted, Watched},
    workloads::{Change, progress_deadline},
};

/// How much longer than a step old pods are kept where nothing is let go.
const MARGIN: Duration = Duration::from_secs(600);
/// ... at most, because Kubernetes counts 32 bits of seconds.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The pace that keeps every old pod; what the Deployment has now is recorded. Its own pace where
/// Milvus cannot be asked in between.
pub(crate) async fn begin(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    deployment: &Deployment,
    direction: Direction,
) -> Result<Change, StepError> {
    if !loaded::can_ask_between(cx, one, direction).await?
        || deployment.spec.replicas.unwrap_or(1) < 1
    {
        return Ok(temporary::own_pace(original));
    }
    let now = deployment.spec.min_ready_seconds.unwrap_or(0);
    temporary::remember(cx, original, temporary::MIN_READY, now).await?;
    let now = progress_deadline(deployment);
    temporary::remember(cx, original, temporary::DEADLINE, now).await?;
    Ok(keep(cx))
}

/// Leads a Deployment from its first new pod to its last, where [`begin`] set the pace. May be
/// called again at any point.
pub(crate) async fn through(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    direction: Direction,
) -> Result<(), StepError> {
    let status = cx.run().status;
    let recorded = status.originals.iter().find(|known| {
        known.kind == original.kind && known.name == original.name && known.uid == original.uid
    });
    if recorded.is_none_or(|known| temporary::remembered(known, temporary::DEADLINE).is_none()) {
        return Ok(());
    }
    let recorded = recorded.cloned().unwrap_or_default();
    if direction == Direction::Back && !loaded::can_ask_between(cx, one, direction).await? {
        let own = temporary::own_pace(&recorded);
        return originals::set(cx, original, &own).await.map(drop);
    }
    let hopeless = match direction {
        Direction::Forward => cx.data.settings.hopeless,
        Direction::Back => Duration::MAX,
    };
    loop {
        let Seen {
            replicas,
            old,
            watched,
        } = seen(cx, original).await?;
        if old.is_empty() {
            emptied::forget_gone(cx, &[]).await?;
            break;
        }
        originals::set(cx, original, &keep(cx)).await?;
        let new = Wanted::Surged(replicas.saturating_sub(old.len()) + 1);
        originals::wait_for(cx, &watched, new, hopeless).await?;
        emptied::next(cx, one, &old).await?;
        // Asked last, right before the old pod ends.
        if !is_whole(cx, direction).await? {
            cx.reporter().warn(format!(
                "the remaining pods of {} go back without a pause between them",
                one.component
            ));
            break;
        }
        originals::set(cx, original, &let_one_go(&recorded)).await?;
        let rest = old.len() - 1;
        originals::wait_for(cx, &watched, Wanted::Old(rest), hopeless).await?;
        let left = count(rest, "old pod");
        cx.reporter()
            .note(format!("an old pod of {} ends: {left} left", one.component));
    }
    let own = temporary::own_pace(&recorded);
    originals::set(cx, original, &own).await.map(drop)
}

/// Waits until Milvus serves all that it had, and searches find it. During a rollback for a while
/// only; whether it is so.
async fn is_whole(cx: &StepContext<'_>, direction: Direction) -> Result<bool, StepError> {
    Ok(loaded::between(cx, direction).await? && searched::between(cx, direction).await?)
}

/// A Deployment in between.
struct Seen {
    /// Wanted replicas.
    replicas: usize,
    /// Living pods of another template.
    old: Vec<Pod>,
    watched: [Watched; 1],
}

/// What there is, once the controller knows of the last change.
async fn seen(cx: &StepContext<'_>, original: &Original) -> Result<Seen, StepError> {
    let watched = [Watched::of(&originals::live(cx, original).await?)];
    let any = Wanted::Old(usize::MAX);
    originals::wait_for(cx, &watched, any, Duration::MAX).await?;
    let deployment = originals::live(cx, original).await?;
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let params = ListParams::default().labels(&watched[0].selector);
    let pods = cx
        .client
        .call("pods", async || api.list(&params).await)
        .await?;
    let own = pods
        .items
        .into_iter()
        .filter(|pod| is_pod_of(pod, &original.name));
    Ok(Seen {
        replicas: usize::try_from(deployment.spec.replicas.unwrap_or(1)).unwrap_or(0),
        old: rollout::old_pods(&deployment, own),
        watched,
    })
}

/// Every old pod stays, for longer than a step may take.
fn keep(cx: &StepContext<'_>) -> Change {
    let time = cx.data.settings.run.step_timeout.min(LONGEST) + MARGIN;
    Change {
        min_ready_seconds: Some(seconds(time)),
        progress_deadline_seconds: Some(seconds(time + MARGIN)),
        ..Change::default()
    }
}

/// One old pod goes, because the new one has been ready for long enough.
fn let_one_go(recorded: &Original) -> Change {
    let own = temporary::remembered(recorded, temporary::MIN_READY).unwrap_or_default();
    Change {
        min_ready_seconds: Some(own.max(seconds(STEADY))),
        ..Change::default()
    }
}

/// As Kubernetes takes it.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
