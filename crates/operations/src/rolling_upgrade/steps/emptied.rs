//! Empties the query node of the old pod that ends next: Milvus is told to put nothing more on it,
//! and to move its segments and channels to other nodes. A node that ends empty takes no data away.
//! This is done only if Milvus offers it (`management.yaml`) and a proxy can be reached. Otherwise,
//! or if it takes too long, a node ends as Kubernetes ends it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::ListParams,
    core::{ObjectMeta, PartialObjectMeta},
};
use tokio::time::{sleep, timeout};

use crate::{
    engine::{StepError, display::took},
    rolling_upgrade::{
        context::StepContext,
        plan::Move,
        steps::{
            alive,
            deletion_cost::{self, Marked, Turn},
            management::{Distribution, Management, ManagementError, QueryNode},
            pod_http, proxies,
        },
    },
};
use milvus_guard_core::{
    api::SuspendedNode,
    milvus::{
        Component,
        catalogue::{Catalogue, ManagementCall},
    },
    text::count,
};
use milvus_guard_sources::kubernetes::pods::is_ready;

/// Interval between two looks at what a node has.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a node may have as much as before until Milvus is asked again to empty it.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a node may have as much as before until the run no longer waits for it. A segment is
/// loaded in seconds; one of some gigabytes takes longer.
const STALLED: Duration = Duration::from_secs(60);
/// Time limit to tell a node that it is used again; nothing depends on it.
const RESUME: Duration = Duration::from_secs(5);
/// Maximum number of proxies that are tried.
const TRIED: usize = 3;

/// Chooses the old pod that ends next, and empties its query node, as far as Milvus can do that.
/// Returns the pod that is marked to end first; `None` if any pod may end.
pub(crate) async fn next<'a>(
    cx: &StepContext<'_>,
    one: &Move,
    old: &'a [Pod],
) -> Result<Option<&'a Pod>, StepError> {
    forget_gone(cx, old).await?;
    if one.component != Component::QueryNode || !is_offered(cx) {
        return Ok(None);
    }
    let Some((management, nodes)) = reached(cx).await? else {
        return Ok(None);
    };
    let Some((pod, node)) = choose(&cx.run().status.suspended, &nodes, old) else {
        cx.reporter().note(format!(
            "Milvus lists no query node at the address of an old pod of {}: none is emptied",
            one.component
        ));
        return Ok(None);
    };
    let metadata = PartialObjectMeta {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            annotations: pod.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        ..PartialObjectMeta::default()
    };
    match deletion_cost::mark(cx, &metadata, Turn::First).await? {
        Marked::Yes => {}
        Marked::Gone => return Ok(None),
        Marked::Refused(reason) => {
            if cx.data.connections.give_up_on_management() {
                cx.reporter().warn(format!(
                    "may not mark pod {} to end first, so no query node is emptied before it \
                     ends: {reason}",
                    pod.name_any()
                ));
            }
            return Ok(None);
        }
    }
    let suspended = SuspendedNode {
        node: node.id,
        pod: pod.name_any(),
    };
    cx.record(|status| {
        if !status.suspended.contains(&suspended) {
            status.suspended.push(suspended.clone());
        }
    })
    .await?;
    cx.permit().await?;
    let mut suspension = Suspension {
        management,
        node: node.id,
        lasts: false,
    };
    let began = Instant::now();
    match empty(cx, management, &suspended).await {
        Ok(()) => {
            suspension.lasts = true;
            cx.going_on();
            cx.reporter().note(format!(
                "query node {} of {} was emptied in {}, and ends next",
                node.id,
                pod.name_any(),
                took(began.elapsed())
            ));
        }
        Err(why) => {
            suspension.lasts = true;
            cx.going_on();
            cx.reporter().warn(format!(
                "query node {} of {} could not be emptied before it ends: {why}",
                node.id,
                pod.name_any()
            ));
            resume(cx, management, &suspended).await?;
        }
    }
    Ok(Some(pod))
}

/// Uses nodes again that an earlier attempt suspended.
pub(crate) async fn use_again(cx: &StepContext<'_>) -> Result<(), StepError> {
    let suspended = cx.run().status.suspended;
    if suspended.is_empty() {
        return Ok(());
    }
    let Some((management, _)) = reached(cx).await? else {
        for node in &suspended {
            cx.reporter().warn(still_suspended(node));
        }
        return Ok(());
    };
    for node in &suspended {
        resume(cx, management, node).await?;
    }
    Ok(())
}

/// The warning about a node that was left suspended.
pub(crate) fn still_suspended(node: &SuspendedNode) -> String {
    format!(
        "query node {} of pod {} may still be suspended in Milvus: it takes nothing until the form \
         node_id={} is posted to {} at the port for metrics of a proxy ({} if it has not been \
         changed)",
        node.node,
        node.pod,
        node.node,
        ManagementCall::ResumeNode.path(),
        pod_http::PORT
    )
}

/// Removes nodes whose pods have ended from the record.
pub(crate) async fn forget_gone(cx: &StepContext<'_>, old: &[Pod]) -> Result<(), StepError> {
    let lives = |node: &SuspendedNode| old.iter().any(|pod| pod.name_any() == node.pod);
    if cx.run().status.suspended.iter().all(lives) {
        return Ok(());
    }
    cx.record(|status| status.suspended.retain(lives)).await?;
    Ok(())
}

/// Whether both versions have the calls: proxies and the coordinator may run either version.
fn is_offered(cx: &StepContext<'_>) -> bool {
    let rollout = &cx.data.rollout;
    let catalogue = Catalogue::embedded();
    [rollout.from.version, rollout.to.version]
        .iter()
        .all(|version| catalogue.empties_query_nodes(*version).is_some())
        && cx.data.connections.reach_management()
}

/// A proxy that accepts the calls, and the nodes that it lists.
async fn reached(cx: &StepContext<'_>) -> Result<Option<(Management, Vec<QueryNode>)>, StepError> {
    let mut why = "no proxy is ready".to_owned();
    for place in proxies(cx).await?.into_iter().take(TRIED) {
        let management = Management { place };
        match management.nodes().await {
            Ok(nodes) => return Ok(Some((management, nodes))),
            Err(error) => {
                why = error.to_string();
                if error.is_lasting() {
                    break;
                }
            }
        }
    }
    if cx.data.connections.give_up_on_management() {
        cx.reporter().note(format!(
            "query nodes are not emptied before they end: the management calls of Milvus were not \
             reached from here ({why})"
        ));
    }
    Ok(None)
}

/// The addresses of ready proxies.
async fn proxies(cx: &StepContext<'_>) -> Result<Vec<(std::net::IpAddr, u16)>, StepError> {
    let pods = alive::pods(cx, &proxies::deployments(cx).await?, &ListParams::default()).await?;
    let ready = pods.iter().filter(|pod| is_ready(pod));
    Ok(ready.filter_map(pod_http::place).collect())
}

/// The next pod with its node: one that was begun before, else the first that Milvus lists.
fn choose<'p, 'n>(
    begun: &[SuspendedNode],
    nodes: &'n [QueryNode],
    old: &'p [Pod],
) -> Option<(&'p Pod, &'n QueryNode)> {
    let mut known: Vec<(&Pod, &QueryNode)> = old
        .iter()
        .filter_map(|pod| {
            let (ip, _) = pod_http::place(pod)?;
            let node = nodes.iter().find(|node| node.ip() == Some(ip))?;
            Some((pod, node))
        })
        .collect();
    let is_begun = |pod: &Pod| begun.iter().any(|node| node.pod == pod.name_any());
    known.sort_by_key(|(pod, _)| (!is_begun(pod), pod.name_any()));
    known.into_iter().next()
}

/// Suspends a node and waits until it is empty. Returns why it is not, if nothing moves for a
/// while.
async fn empty(
    cx: &StepContext<'_>,
    management: Management,
    of: &SuspendedNode,
) -> Result<(), NotEmptied> {
    management.suspend(of.node).await?;
    management.transfer_all(of.node).await?;
    let mut progress = Progress::new(Instant::now());
    loop {
        let why = match management.distribution(of.node).await {
            Ok(has) if has.len() == 0 => return Ok(()),
            Ok(has) => {
                progress.see(has, Instant::now());
                NotEmptied::Has(has)
            }
            Err(error) => error.into(),
        };
        match progress.next(Instant::now()) {
            Next::GiveUp => return Err(why),
            Next::AskAgain => drop(management.transfer_all(of.node).await),
            Next::Wait => {}
        }
        cx.waiting(format!(
            "query node {} of {} to be empty: {why}",
            of.node, of.pod
        ));
        sleep(PAUSE).await;
    }
}

/// Why a node is not empty.
#[derive(Debug, thiserror::Error)]
enum NotEmptied {
    #[error(transparent)]
    NoAnswer(#[from] ManagementError),
    #[error("it still has {} and {}", count(.0.channels, "channel"), count(.0.segments, "segment"))]
    Has(Distribution),
}

/// The progress of emptying a node.
struct Progress {
    least: usize,
    since: Instant,
    asked_again: bool,
}

/// What to do with a node that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    AskAgain,
    GiveUp,
}

impl Progress {
    const fn new(now: Instant) -> Self {
        Self {
            least: usize::MAX,
            since: now,
            asked_again: false,
        }
    }

    /// Notes what the node has now.
    fn see(&mut self, has: Distribution, now: Instant) {
        if has.len() < self.least {
            (self.least, self.since, self.asked_again) = (has.len(), now, false);
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        let stalled = now.saturating_duration_since(self.since);
        if stalled >= STALLED {
            Next::GiveUp
        } else if stalled >= AGAIN && !self.asked_again {
            self.asked_again = true;
            Next::AskAgain
        } else {
            Next::Wait
        }
    }
}

/// Uses a node again, and removes it from the record.
async fn resume(
    cx: &StepContext<'_>,
    management: Management,
    node: &SuspendedNode,
) -> Result<(), StepError> {
    cx.permit().await?;
    if let Err(error) = management.resume(node.node).await {
        cx.reporter()
            .warn(format!("{} ({error})", still_suspended(node)));
    }
    cx.record(|status| status.suspended.retain(|known| known != node))
        .await?;
    Ok(())
}

/// A node that is suspended. If the run stops while the node is emptied, Milvus is told that it is
/// used again; the record stays, so that the next attempt begins with it.
struct Suspension {
    management: Management,
    node: i64,
    lasts: bool,
}

impl Drop for Suspension {
    fn drop(&mut self) {
        if self.lasts {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (management, node) = (self.management, self.node);
            runtime.spawn(async move { timeout(RESUME, management.resume(node)).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"podIP": ip}}))
            .unwrap()
    }

    fn node(id: i64, address: &str) -> QueryNode {
        QueryNode {
            id,
            address: address.into(),
        }
    }

    #[test]
    fn the_pod_that_an_attempt_began_with_is_next() {
        let old = [
            pod("c", "10.0.0.3"),
            pod("a", "10.0.0.1"),
            pod("b", "10.0.0.2"),
        ];
        let nodes = [
            node(1, "10.0.0.1:21123"),
            node(2, "10.0.0.2:21123"),
            node(9, "10.0.0.9:21123"),
        ];
        let chosen = |begun: &[SuspendedNode]| {
            choose(begun, &nodes, &old).map(|(pod, node)| (pod.name_any(), node.id))
        };
        let begun = |pod: &str| SuspendedNode {
            node: 7,
            pod: pod.into(),
        };
        assert_eq!(chosen(&[]), Some(("a".into(), 1)));
        assert_eq!(chosen(&[begun("b")]), Some(("b".into(), 2)));
        // Milvus does not list this node.
        assert_eq!(chosen(&[begun("c")]), Some(("a".into(), 1)));
        assert_eq!(choose(&[], &nodes[2..], &old), None);
    }

    #[test]
    fn the_wait_ends_only_if_nothing_moves_from_a_node() {
        let has = |segments| Distribution {
            channels: 1,
            segments,
        };
        let begin = Instant::now();
        let mut progress = Progress::new(begin);
        progress.see(has(9), begin);
        assert_eq!(progress.next(begin + AGAIN), Next::AskAgain);
        assert_eq!(progress.next(begin + AGAIN), Next::Wait, "asked once");
        // Something moved, then nothing.
        let later = begin + Duration::from_secs(50);
        progress.see(has(8), later);
        progress.see(has(9), later + PAUSE);
        assert_eq!(progress.next(begin + STALLED), Next::Wait);
        assert_eq!(progress.next(later + AGAIN), Next::AskAgain);
        assert_eq!(progress.next(later + STALLED), Next::GiveUp);
    }
}
