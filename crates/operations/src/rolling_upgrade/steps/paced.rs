//! Query nodes one by one: the next old pod ends only when Milvus serves all that it had loaded.
//!
//! Kubernetes calls a query node available before it has its segments, and a Deployment then ends
//! old pods. A `minReadySeconds` that is longer than the step keeps every old pod; the run ends one
//! after the other by scaling its `ReplicaSet`. The controller of a Deployment does not scale an old
//! `ReplicaSet` up again. Where this process ends in between, the old pods that are left stay.
//!
//! A collection in several replicas needs as many new pods at first: Milvus gives each new node to
//! one replica, and a replica whose only node ends answers nothing until it has another. Measured
//! with 2 replicas on 2 query nodes, Milvus 2.3: 2.7 s of wrong answers for each old pod instead of 9.
//!
//! During a rollback the same happens, but nothing is held up for long: as soon as Milvus is not whole
//! again in time, the remaining pods go back at Kubernetes' own pace.

use std::time::Duration;

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, api::ListParams};
use tokio::time::timeout;

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{Direction, StepContext},
        plan::Move,
        steps::{emptied, loaded, pod_deletion::Ended, replica_set, searched, temporary},
    },
};
use milvus_guard_core::{
    api::{Original, RunStatus},
    text::count,
};
use milvus_guard_sources::kubernetes::{
    pods::is_pod_of,
    rollout::{self, Wanted, Watched},
    workloads::{Change, progress_deadline},
};

/// For the other new pods once the first of them are ready: a node may not have room for them.
const OTHERS: Duration = Duration::from_secs(60);
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
    let recorded = recorded(&status, original);
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
    let mut is_spread = false;
    loop {
        let seen = seen(cx, original).await?;
        if seen.old.is_empty() {
            emptied::forget_gone(cx, &[]).await?;
            break;
        }
        originals::set(cx, original, &keep(cx)).await?;
        let first = Wanted::Surged(seen.new_with(1));
        originals::wait_for(cx, &seen.watched, first, hopeless).await?;
        let all = originals::wait_for(cx, &seen.watched, seen.all_new(), hopeless);
        let is_there = match timeout(OTHERS, all).await {
            Ok(there) => there.map(|_| true)?,
            Err(_) => false,
        };
        if is_there && !is_spread {
            loaded::spread(cx, one).await?;
            is_spread = true;
        }
        let pod = emptied::next(cx, one, &seen.old).await?;
        // Asked last, right before the old pod ends.
        if !is_whole(cx, direction).await? {
            cx.reporter().warn(format!(
                "the remaining pods of {} go back without a pause between them",
                one.component
            ));
            break;
        }
        if let Ended::Refused(reason) = replica_set::end(cx, pod, &seen.old).await? {
            cx.reporter().warn(format!(
                "may not scale the ReplicaSet of {}: {reason}. Its old pods end at Kubernetes' own \
                 pace, and searches may miss data until their data is loaded again",
                one.component
            ));
            break;
        }
        let rest = seen.old.len() - 1;
        originals::wait_for(cx, &seen.watched, Wanted::Old(rest), hopeless).await?;
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
    /// Pods that it may have in addition.
    surge: usize,
    /// Living pods of another template.
    old: Vec<Pod>,
    watched: [Watched; 1],
}

impl Seen {
    /// New pods that there are with this surge.
    fn new_with(&self, surge: usize) -> usize {
        let all = self.replicas + surge.min(self.surge);
        all.saturating_sub(self.old.len()).min(self.replicas)
    }

    fn all_new(&self) -> Wanted {
        Wanted::Surged(self.new_with(self.surge))
    }
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
        replicas: replicas(&deployment),
        surge: max_surge(&deployment),
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

/// Pods in addition to the wanted ones while a Deployment is replaced: one for each replica in
/// memory where pods are replaced one by one.
pub(crate) fn surge(cx: &StepContext<'_>, original: &Original, deployment: &Deployment) -> usize {
    let status = cx.run().status;
    let is_paced = recorded(&status, original)
        .is_some_and(|known| temporary::remembered(known, temporary::DEADLINE).is_some());
    if is_paced {
        loaded::copies(&status).clamp(1, replicas(deployment).max(1))
    } else {
        1
    }
}

fn recorded<'s>(status: &'s RunStatus, original: &Original) -> Option<&'s Original> {
    status.originals.iter().find(|known| {
        known.kind == original.kind && known.name == original.name && known.uid == original.uid
    })
}

fn replicas(deployment: &Deployment) -> usize {
    usize::try_from(deployment.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

/// `maxSurge` as a number; 1 where it is not one.
fn max_surge(deployment: &Deployment) -> usize {
    let strategy = deployment.spec.strategy.as_ref();
    let surge = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.as_ref());
    match surge {
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(1).max(1),
        _ => 1,
    }
}

/// As Kubernetes takes it.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
