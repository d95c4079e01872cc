//! Finds proxies that report no time tick to a new root coordinator, for which all searches wait
//! (see [`ticks`](crate::rolling_upgrade::ticks)). Such a pod is ended; its Deployment replaces it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use tokio::time::sleep;

use crate::{
    engine::{self, StepError, originals},
    rolling_upgrade::{
        active,
        context::{SessionRun, StepContext},
        ticks::{self, Reports, Ticks},
    },
};
use milvus_guard_core::milvus::Component;
use milvus_guard_sources::kubernetes::{pods::is_ready, rollout::Watched};

use super::{
    alive,
    pod_deletion::{self, Ended},
    pod_http, release,
};

/// Interval between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Maximum number of pods of a Deployment that are looked at; more are ignored.
const MAX_PODS: u32 = 64;
/// Pods that are asked at the same time.
const AT_ONCE: usize = 4;
/// Maximum bytes of metrics that are read of one pod: the leader of the guard, which has little
/// memory, reads them too.
const MAX_METRICS: usize = 4 * 1024 * 1024;
/// How long a step waits for ticks: longer than a client of Milvus repeats a request (52.8 s).
const LIMIT: Duration = Duration::from_secs(60);
/// How long the run waits for a coordinator to take over: a standby needs less than 1 s (measured).
const TAKEOVER: Duration = Duration::from_secs(5);
/// Seconds that a pod gets to end.
const GRACE: u32 = 2;

/// The Deployments that a takeover of the root coordinator is about.
pub(crate) struct Deployments {
    /// Those with the root coordinator.
    pub(crate) coordinators: Vec<Watched>,
    /// Those of the proxies.
    pub(crate) proxies: Vec<Watched>,
}

/// The recorded Deployments of proxies.
pub(crate) async fn deployments(cx: &StepContext<'_>) -> Result<Vec<Watched>, StepError> {
    let mut proxies = originals::recorded(cx)?;
    proxies.retain(|original| original.component == Some(Component::Proxy));
    originals::watched(cx, &proxies).await
}

/// Whether pods of this component send time ticks.
pub(crate) const fn sends_ticks(component: Component) -> bool {
    matches!(component, Component::RootCoord | Component::MixCoord)
}

/// Waits for the gate of this component, and meanwhile ends proxies that hold up the searches of
/// all clients.
pub(crate) async fn during<T, D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    component: Component,
    deployments: impl Future<Output = Result<Deployments, StepError>>,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    if !sends_ticks(component) {
        return work.await;
    }
    let done = AtomicBool::new(false);
    let work = async {
        let result = Box::pin(work).await;
        done.store(true, Ordering::Relaxed);
        result
    };
    let known = Known {
        // A mixed coordinator of later versions has no session as a root coordinator.
        has_active: component == Component::RootCoord,
        ..Known::default()
    };
    // The work meets the same error and reports it, so it is ignored here.
    let help = Box::pin(async { follow_ticks(cx, &deployments.await?, &done, known).await });
    let (result, _) = tokio::join!(work, help);
    result
}

/// What is known of the ticks of a root coordinator after a takeover.
#[derive(Default)]
struct Known {
    /// Whether sessions show the active root coordinator in this version.
    has_active: bool,
    /// Whether they show none now.
    lacks_active: bool,
    ticks: Option<Ticks>,
    looked: Option<Instant>,
    /// Reports of the proxies, by the UIDs of their pods.
    reports: BTreeMap<String, Reports>,
    /// How many pods were ended.
    ended: usize,
    /// The highest number of ready proxies in one look.
    ready: usize,
    /// Whether the API server refused to end a pod.
    refused: bool,
}

impl Known {
    /// Whether the ticks of the new coordinator are still awaited at this time after the work was
    /// done. For a short time between two coordinators none is active.
    fn lack_ticks(&self, since: Duration) -> bool {
        let is_between = self.has_active && self.lacks_active && since < TAKEOVER;
        is_between || self.ticks.as_ref().is_some_and(Ticks::are_missing)
    }
}

/// Looks at the ticks until the work is done and ticks are sent, and ends proxies that stop them.
async fn follow_ticks<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    deployments: &Deployments,
    done: &AtomicBool,
    mut known: Known,
) -> Result<(), StepError> {
    let proxies = &deployments.proxies;
    let mut over = None;
    loop {
        let is_known = look_at_ticks(cx, &deployments.coordinators, &mut known).await?;
        if !is_known {
            return Ok(());
        }
        let stopped = known.ticks.as_ref().is_some_and(Ticks::are_missing);
        if stopped && !known.refused {
            help_ticks(cx, proxies, &mut known).await?;
        }
        if known.ended > 0 {
            release::round(cx, proxies).await?;
        }
        if done.load(Ordering::Relaxed) {
            let waits = *over.get_or_insert_with(Instant::now);
            if !known.lack_ticks(waits.elapsed()) {
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

/// Looks once at the active root coordinator; returns whether that is possible.
async fn look_at_ticks<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    coordinators: &[Watched],
    known: &mut Known,
) -> Result<bool, StepError> {
    if !cx.data.reach_pods() {
        return Ok(false);
    }
    let Some(sessions) = cx.data.sessions().read(cx).await else {
        return Ok(false);
    };
    let hosts = active::hosts(&sessions, Component::RootCoord, cx.data.target());
    known.lacks_active = hosts.is_empty();
    let Some(host) = hosts.first() else {
        return Ok(true);
    };
    known.has_active = true;
    if known.ticks.as_ref().is_none_or(|ticks| !ticks.is_of(host)) {
        (known.ticks, known.looked) = (Some(Ticks::of(host)), None);
        known.reports.clear();
    }
    let pods = alive::pods(cx, coordinators, &some()).await?;
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

/// Looks at the proxies, and ends one that reported nothing, if another proxy is ready.
async fn help_ticks<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    proxies: &[Watched],
    known: &mut Known,
) -> Result<(), StepError> {
    let pods = alive::pods(cx, proxies, &some()).await?;
    let looks = pods.iter().map(async |pod| (pod, metrics(pod).await));
    let looks: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    for (pod, metrics) in looks {
        let reports = known.reports.entry(uid(pod)).or_default();
        reports.look(metrics.as_deref().and_then(ticks::lag));
    }
    if !known.ticks.as_ref().is_some_and(Ticks::have_stopped) {
        return Ok(());
    }
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    known.ready = known.ready.max(ready);
    if ready < known.ready {
        // First the successor of the proxy that was ended must be ready.
        return Ok(());
    }
    let Some(stuck) = ended_first(&pods, &known.reports) else {
        return Ok(());
    };
    release::see(cx, proxies).await?;
    let name = stuck.name_any();
    if end(cx, stuck).await? {
        cx.reporter().note(format!(
            "proxy {name} reports no time tick to the new root coordinator, which all searches wait \
             for: its pod is ended, and its Deployment starts another one"
        ));
        known.ended += 1;
    } else {
        known.refused = true;
    }
    Ok(())
}

/// A proxy that reports nothing, if another is ready: searches of all proxies wait for it alike.
fn ended_first<'p>(pods: &'p [Pod], reports: &BTreeMap<String, Reports>) -> Option<&'p Pod> {
    let has_stopped = |pod: &&Pod| reports.get(&uid(pod)).is_some_and(Reports::have_stopped);
    let stuck = pods.iter().find(has_stopped)?;
    let is_another = |pod: &Pod| is_ready(pod) && uid(pod) != uid(stuck);
    pods.iter().any(is_another).then_some(stuck)
}

/// The pods of a Deployment that are looked at.
fn some() -> ListParams {
    ListParams::default().limit(MAX_PODS)
}

async fn metrics(pod: &Pod) -> Option<String> {
    let place = pod_http::place(pod)?;
    let (status, text) = pod_http::get(place, "/metrics", MAX_METRICS).await.ok()?;
    status.is_success().then_some(text)
}

/// Ends exactly this pod soon; returns whether that is allowed.
async fn end<D: SessionRun>(cx: &engine::StepContext<'_, D>, pod: &Pod) -> Result<bool, StepError> {
    let name = pod.name_any();
    let ended = pod_deletion::end(cx, &name, pod.metadata.uid.clone(), Some(GRACE)).await?;
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// What is known of a proxy.
    #[derive(Clone, Copy)]
    enum Proxy {
        Reports,
        Unready,
        Silent,
        Repeats,
    }
    use Proxy::{Repeats, Silent, Unready};

    impl Proxy {
        fn pod(self, uid: &str) -> Pod {
            let is_ready = if matches!(self, Unready) {
                "False"
            } else {
                "True"
            };
            serde_json::from_value(json!({
                "metadata": {"uid": uid, "name": uid},
                "status": {"conditions": [{"type": "Ready", "status": is_ready}]},
            }))
            .unwrap()
        }

        fn reports(self) -> Reports {
            let mut reports = Reports::default();
            for look in 0..6 {
                reports.look(Some(match self {
                    Self::Reports | Unready => f64::from(100 + look % 2),
                    Silent => 127.0,
                    Repeats => f64::from(127 + look * 300),
                }));
            }
            reports
        }
    }

    #[rstest]
    #[case::a_silent_one(&[Proxy::Reports, Silent], Some(1))]
    #[case::beside_one_that_recovers_soon(&[Repeats, Silent], Some(1))]
    #[case::one_that_recovers_soon(&[Repeats, Proxy::Reports], None)]
    #[case::all_are_silent(&[Silent, Silent], Some(0))]
    #[case::the_only_one(&[Silent], None)]
    #[case::no_other_one_is_ready(&[Silent, Unready], None)]
    #[case::none_is_stuck(&[Proxy::Reports, Proxy::Reports], None)]
    fn a_proxy_is_ended_only_if_another_one_is_ready(
        #[case] proxies: &[Proxy],
        #[case] ended: Option<usize>,
    ) {
        let uids: Vec<String> = (0..proxies.len()).map(|at| at.to_string()).collect();
        let both = || uids.iter().zip(proxies);
        let pods: Vec<Pod> = both().map(|(uid, proxy)| proxy.pod(uid)).collect();
        let reports = both()
            .map(|(uid, proxy)| (uid.clone(), proxy.reports()))
            .collect();
        let found = ended_first(&pods, &reports).map(uid);
        assert_eq!(found, ended.map(|at| at.to_string()));
    }
}
