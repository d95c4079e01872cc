//! Proxies that report no time tick to a new root coordinator, which all searches wait for (see
//! [`ticks`](crate::rolling_upgrade::ticks)). Such a pod is ended; its Deployment replaces it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::sleep;

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        active,
        context::StepContext,
        plan::Move,
        ticks::{self, Reports, Ticks},
    },
};
use milvus_guard_core::{api::Original, milvus::Component};
use milvus_guard_sources::kubernetes::{pods::is_ready, rollout::Watched};

use super::{
    alive,
    pod_deletion::{self, Ended},
    pod_http, release,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Pods that are asked at once.
const AT_ONCE: usize = 16;
/// Bytes of metrics that are read of one pod.
const MAX_METRICS: usize = 16 * 1024 * 1024;
/// How long a step waits for ticks: longer than a client of Milvus repeats a request (52.8 s).
const LIMIT: Duration = Duration::from_secs(60);
/// Seconds that a pod gets to end.
const GRACE: u32 = 2;

/// Does the work of a gate, and meanwhile ends proxies that hold up the searches of all clients.
pub(crate) async fn during<T>(
    cx: &StepContext<'_>,
    one: &Move,
    watched: &[Watched],
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let done = AtomicBool::new(false);
    let work = async {
        let result = Box::pin(work).await;
        done.store(true, Ordering::Relaxed);
        result
    };
    // The work meets the same trouble, and says it: this is help only.
    match one.component {
        Component::RootCoord | Component::MixCoord => {
            let help = Box::pin(follow_ticks(cx, one.component, watched, &done));
            let (result, _) = tokio::join!(work, help);
            result
        }
        _ => work.await,
    }
}

/// What is known of the ticks of a root coordinator that took over.
#[derive(Default)]
struct Known {
    ticks: Option<Ticks>,
    looked: Option<Instant>,
    /// By the UIDs of pods.
    reports: BTreeMap<String, Reports>,
    ended: BTreeSet<String>,
    /// Whether a pod may not be ended.
    refused: bool,
}

/// Looks at the ticks until the work is done and they go on, and ends proxies that hold them up.
async fn follow_ticks(
    cx: &StepContext<'_>,
    component: Component,
    coordinators: &[Watched],
    done: &AtomicBool,
) -> Result<(), StepError> {
    let of_proxies: Vec<Original> = originals::recorded(cx)?
        .into_iter()
        .filter(|original| original.component == Some(Component::Proxy))
        .collect();
    let proxies = originals::watched(cx, &of_proxies).await?;
    let (mut known, mut over) = (Known::default(), None);
    loop {
        let is_known = look_at_ticks(cx, component, coordinators, &mut known).await?;
        if !is_known {
            return Ok(());
        }
        let stopped = known.ticks.as_ref().is_some_and(Ticks::are_missing);
        if stopped && !known.refused {
            help_ticks(cx, &proxies, &mut known).await?;
        }
        if !known.ended.is_empty() {
            release::round(cx, &proxies).await?;
        }
        if done.load(Ordering::Relaxed) {
            let waits = *over.get_or_insert_with(Instant::now);
            if known
                .ticks
                .as_ref()
                .is_none_or(|ticks| !ticks.are_missing())
            {
                cx.going_on();
                return Ok(());
            }
            if waits.elapsed() >= LIMIT {
                cx.going_on();
                cx.reporter().warn(
                    "the new root coordinator sends no time ticks: searches with bounded \
                     consistency may fail; the run continues",
                );
                return Ok(());
            }
            cx.waiting("time ticks of the new root coordinator");
        }
        sleep(PAUSE).await;
    }
}

/// One look at the active root coordinator; whether there is a way to look.
async fn look_at_ticks(
    cx: &StepContext<'_>,
    component: Component,
    coordinators: &[Watched],
    known: &mut Known,
) -> Result<bool, StepError> {
    if !cx.data.connections.reach_pods() {
        return Ok(false);
    }
    let Some(sessions) = cx.data.connections.sessions.read(cx).await else {
        return Ok(false);
    };
    let to = cx.data.rollout.to.version;
    let hosts = active::hosts(&sessions, Component::RootCoord, to);
    let Some(host) = hosts.first() else {
        return Ok(component == Component::RootCoord);
    };
    if known.ticks.as_ref().is_none_or(|ticks| !ticks.is_of(host)) {
        (known.ticks, known.looked) = (Some(Ticks::of(host)), None);
        known.reports.clear();
    }
    let pods = alive::pods(cx, coordinators).await?;
    let metrics = match pods.iter().find(|pod| pod.name_any() == *host) {
        Some(pod) => metrics(pod).await,
        None => None,
    };
    let since = known.looked.replace(Instant::now());
    let since = since.map_or(Duration::ZERO, |at| at.elapsed());
    if let Some(ticks) = &mut known.ticks {
        ticks.look(metrics.as_deref().and_then(ticks::rounds), since);
    }
    Ok(true)
}

/// Looks at the proxies, and ends one that has reported nothing, if another one serves.
async fn help_ticks(
    cx: &StepContext<'_>,
    proxies: &[Watched],
    known: &mut Known,
) -> Result<(), StepError> {
    let pods = alive::pods(cx, proxies).await?;
    let looks = pods.iter().map(async |pod| (pod, metrics(pod).await));
    let looks: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    for (pod, metrics) in looks {
        let reports = known.reports.entry(uid(pod)).or_default();
        reports.look(metrics.as_deref().and_then(ticks::lag));
    }
    if !known.ticks.as_ref().is_some_and(Ticks::have_stopped) {
        return Ok(());
    }
    let is_stuck = |pod: &&Pod| {
        known
            .reports
            .get(&uid(pod))
            .is_some_and(Reports::have_stopped)
    };
    let serves = pods.iter().any(|pod| is_ready(pod) && !is_stuck(&pod));
    let Some(stuck) = pods.iter().find(is_stuck).filter(|_| serves) else {
        return Ok(());
    };
    release::see(cx, proxies).await?;
    let name = stuck.name_any();
    if end(cx, stuck).await? {
        cx.reporter().note(format!(
            "proxy {name} did not report to the new root coordinator, which all searches wait \
             for: its pod is ended, and its Deployment starts another one"
        ));
        known.ended.insert(uid(stuck));
    } else {
        known.refused = true;
    }
    Ok(())
}

async fn metrics(pod: &Pod) -> Option<String> {
    let place = pod_http::place(pod)?;
    let (status, text) = pod_http::get(place, "/metrics", MAX_METRICS).await.ok()?;
    status.is_success().then_some(text)
}

/// Ends this very pod soon; whether we may.
async fn end(cx: &StepContext<'_>, pod: &Pod) -> Result<bool, StepError> {
    let name = pod.name_any();
    let ended = pod_deletion::end(cx, &name, pod.metadata.uid.clone(), GRACE).await?;
    if let Ended::Refused(reason) = &ended {
        cx.reporter().warn(format!(
            "may not end pod {name}, which fails for its clients: {reason}"
        ));
    }
    Ok(ended == Ended::Yes)
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
