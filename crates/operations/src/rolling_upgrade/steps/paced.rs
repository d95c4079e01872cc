//! Query nodes one by one: the next old pod ends only when Milvus serves all that it had loaded.
//!
//! Kubernetes calls a query node available before it has its segments, and a Deployment then ends
//! old pods. A `minReadySeconds` that is longer than the step keeps every old pod; the run ends one
//! after the other by scaling its `ReplicaSet`. The controller of a Deployment does not scale an old
//! `ReplicaSet` up again. If this process ends in between, the remaining old pods stay.
//! A collection in several replicas needs as many new pods first: Milvus gives each new node to one
//! replica, and a replica whose only node ends answers nothing until it has another. Measured with
//! 2 replicas on 2 query nodes of Milvus 2.3: 2.7 s of wrong answers per old pod instead of 9.
//!
//! During a rollback the same is done, but for a limited time: if Milvus does not serve all in
//! time, the remaining pods are replaced at Kubernetes' own pace. A `minReadySeconds` does not keep
//! the first of them: pods that were always ready are available at once when their template
//! returns, and surplus pods of the Deployment end. Measured with Kubernetes 1.36: in 18 of 30
//! rollbacks within 3 s. So Milvus is asked before the template returns.

use std::time::Duration;

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ListParams;
use tokio::time::{sleep, timeout};

use crate::{
    engine::{StepError, display::took, originals},
    rolling_upgrade::{
        context::{Direction, StepContext},
        plan::Move,
        steps::{alive, emptied, loaded, pod_deletion::Ended, replica_set, searched, temporary},
        target_updates::until_turn,
    },
};
use milvus_guard_core::{api::Original, milvus::catalogue::Catalogue, text::count};
use milvus_guard_sources::kubernetes::{
    rollout::{self, ByTemplate, Wanted, Watched},
    workloads::Change,
};

/// Time for the other new pods after the first ones are ready: there may be no room for them.
const OTHERS: Duration = Duration::from_secs(60);
/// How much longer than the step old pods are kept.
const MARGIN: Duration = Duration::from_secs(600);
/// Limit of the time, because Kubernetes counts seconds in 32 bits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The pace that keeps every old pod; the current pace is recorded. Returns the Deployment's own
/// pace if Milvus cannot be asked in between, or does not serve all before the template returns.
pub(crate) async fn begin(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    deployment: &Deployment,
    turn: Turn,
) -> Result<Change, StepError> {
    if !loaded::can_ask_between(cx, one, turn.direction()).await?
        || deployment.spec.replicas.unwrap_or(1) < 1
    {
        return Ok(temporary::own_pace(original));
    }
    if turn == Turn::Returns && !may_end_first(cx, one, deployment).await? {
        return Ok(temporary::own_pace(original));
    }
    temporary::remember_pace(cx, original, deployment).await?;
    Ok(keep(cx))
}

/// What happens to the template of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It gets the new image.
    Comes,
    /// It gets the image from before.
    Returns,
    /// It has the image from before already.
    Returned,
}

impl Turn {
    fn direction(self) -> Direction {
        match self {
            Self::Comes => Direction::Forward,
            Self::Returns | Self::Returned => Direction::Back,
        }
    }
}

/// If pods would end as soon as the template returns: waits until they may; returns whether.
async fn may_end_first(
    cx: &StepContext<'_>,
    one: &Move,
    deployment: &Deployment,
) -> Result<bool, StepError> {
    let pods = pods(cx, deployment).await?;
    if surplus(deployment, &pods) == 0 {
        return Ok(true);
    }
    emptied::next(cx, one, &pods.new).await?;
    let is_whole = is_whole(cx, Direction::Back).await?;
    if !is_whole {
        warn_unpaced(cx, one);
    }
    Ok(is_whole)
}

fn warn_unpaced(cx: &StepContext<'_>, one: &Move) {
    cx.reporter().warn(format!(
        "the remaining pods of {} go back without a pause between them",
        one.component
    ));
}

/// Replaces the pods of a Deployment one by one, if [`begin`] set the pace. May be called again at
/// any point.
pub(crate) async fn through(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    direction: Direction,
) -> Result<(), StepError> {
    let Some(recorded) = kept(cx, original).await? else {
        return Ok(());
    };
    if direction == Direction::Back && !loaded::can_ask_between(cx, one, direction).await? {
        let own = temporary::own_pace(&recorded);
        return originals::set(cx, original, &own).await.map(drop);
    }
    let hopeless = cx.data.hopeless(direction);
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
        // This check is the last one, right before the old pod ends.
        if !is_whole(cx, direction).await? {
            warn_unpaced(cx, one);
            break;
        }
        before_an_update(cx, direction).await?;
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

/// What was recorded of a Deployment whose old pods are kept; `None` if they end at another pace.
pub(super) async fn kept(
    cx: &StepContext<'_>,
    original: &Original,
) -> Result<Option<Original>, StepError> {
    let recorded = recorded(cx, original);
    if !is_paced(&recorded) {
        return Ok(None);
    }
    let live = originals::live(cx, original).await?;
    // An earlier attempt may have had another time limit for a step.
    let is_kept = live.spec.min_ready_seconds >= Some(seconds(MARGIN));
    Ok(is_kept.then_some(recorded))
}

/// Waits until Milvus serves all that it had, and searches find it; during a rollback for a limited
/// time. Returns whether it is so.
async fn is_whole(cx: &StepContext<'_>, direction: Direction) -> Result<bool, StepError> {
    Ok(loaded::between(cx, direction).await? && searched::between(cx, direction).await?)
}

/// Waits for the time at which an old query node can end with the least harm, if it is known.
async fn before_an_update(cx: &StepContext<'_>, direction: Direction) -> Result<(), StepError> {
    if direction == Direction::Back {
        return Ok(());
    }
    let row = Catalogue::embedded().target_update(cx.data.rollout.to.version);
    let (Some(row), Some(since)) = (row, cx.data.takeover.since()) else {
        return Ok(());
    };
    let set = cx.data.release.config.value(&row.setting);
    let seconds = set.map_or(Some(row.seconds), |text| text.trim().parse().ok());
    let Some(seconds) = seconds else {
        return Ok(());
    };
    let wait = until_turn(since.elapsed(), Duration::from_secs(seconds.into()));
    cx.waiting(format!(
        "the query coordinator to be about to update its target: until it does, a new leader of a \
         shard finds nothing ({})",
        took(wait)
    ));
    sleep(wait).await;
    cx.going_on();
    // The state may have changed during the wait.
    loaded::between(cx, direction).await.map(drop)
}

/// A Deployment while its pods are replaced.
pub(super) struct Seen {
    /// Wanted replicas.
    replicas: usize,
    /// Additional pods that it may have.
    surge: usize,
    /// Pods of another template that have not ended.
    pub(super) old: Vec<Pod>,
    pub(super) watched: [Watched; 1],
}

impl Seen {
    /// Number of new pods with this surge.
    fn new_with(&self, surge: usize) -> usize {
        let all = self.replicas + surge.min(self.surge);
        all.saturating_sub(self.old.len()).min(self.replicas)
    }

    pub(super) fn all_new(&self) -> Wanted {
        Wanted::Surged(self.new_with(self.surge))
    }
}

/// The current state, after the controller has observed the last change.
pub(super) async fn seen(cx: &StepContext<'_>, original: &Original) -> Result<Seen, StepError> {
    let watched = [Watched::of(&originals::live(cx, original).await?)];
    let any = Wanted::Old(usize::MAX);
    originals::wait_for(cx, &watched, any, Duration::MAX).await?;
    let deployment = originals::live(cx, original).await?;
    let old = pods(cx, &deployment).await?.old;
    Ok(Seen {
        replicas: replicas(&deployment),
        surge: max_surge(&deployment),
        old,
        watched,
    })
}

/// The pods of a Deployment that have not ended.
pub(super) async fn pods(
    cx: &StepContext<'_>,
    deployment: &Deployment,
) -> Result<ByTemplate, StepError> {
    let watched = [Watched::of(deployment)];
    let pods = alive::pods(cx, &watched, &ListParams::default()).await?;
    Ok(rollout::by_template(deployment, pods))
}

/// How many new pods Kubernetes ends at once if the template from before returns now: the old pods
/// count as available, and all pods above the wanted number may end.
pub(super) fn surplus(deployment: &Deployment, pods: &ByTemplate) -> usize {
    let (new, old) = (pods.new.len(), pods.old.len());
    (new + old)
        .saturating_sub(replicas(deployment))
        .min(new)
        .min(old)
}

/// Keeps every old pod for longer than a step may take.
pub(super) fn keep(cx: &StepContext<'_>) -> Change {
    let time = cx.data.settings.run.step_timeout.min(LONGEST) + MARGIN;
    Change {
        min_ready_seconds: Some(seconds(time)),
        progress_deadline_seconds: Some(seconds(time + MARGIN)),
        ..Change::default()
    }
}

/// Additional pods while a Deployment is replaced: one for each replica in memory if pods are
/// replaced one by one.
pub(crate) fn surge(cx: &StepContext<'_>, original: &Original, deployment: &Deployment) -> usize {
    if is_paced(&recorded(cx, original)) {
        loaded::copies(&cx.run().status).clamp(1, replicas(deployment).max(1))
    } else {
        1
    }
}

/// A Deployment with everything that was recorded of it so far.
pub(super) fn recorded(cx: &StepContext<'_>, original: &Original) -> Original {
    let mut originals = cx.run().status.originals.into_iter();
    let is_it = |known: &Original| {
        known.kind == original.kind && known.name == original.name && known.uid == original.uid
    };
    originals.find(is_it).unwrap_or_else(|| original.clone())
}

fn is_paced(recorded: &Original) -> bool {
    temporary::remembered(recorded, temporary::DEADLINE).is_some()
}

fn replicas(deployment: &Deployment) -> usize {
    usize::try_from(deployment.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

/// `maxSurge` as a number; 1 if it is not a number.
fn max_surge(deployment: &Deployment) -> usize {
    let strategy = deployment.spec.strategy.as_ref();
    let surge = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.as_ref());
    match surge {
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(1).max(1),
        _ => 1,
    }
}

/// Seconds as Kubernetes stores them.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
