//! Sessions of pods that have ended are released while a step waits. Milvus up to 2.3 keeps the
//! session of a coordinator or proxy that has stopped until its lease ends (60 s): until then no
//! other coordinator takes over, and the root coordinator waits for the time tick of the proxy.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use tokio::{sync::Notify, time::sleep};

use crate::{
    engine::{self, Event, StepError},
    rolling_upgrade::{
        context::SessionRun,
        ended::{self, ListedPod, PodState, Release},
        settings::SessionHelp,
    },
};
use milvus_guard_core::{
    api::{RunStatus, SeenPod},
    error_text,
    milvus::Component,
};
use milvus_guard_metadata::executor::Registered;
use milvus_guard_sources::kubernetes::{pods::is_owned_by, rollout::Watched};

/// Shortest interval between two looks; after a long look the interval is as long as the look.
const PAUSE: Duration = Duration::from_millis(200);

/// Does the work, and meanwhile releases sessions of ended pods of these Deployments. A failure to
/// release does not stop the work.
pub(crate) async fn during<T, D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    let done = Notify::new();
    let work = async {
        let result = work.await;
        done.notify_one();
        result
    };
    let help = async {
        loop {
            let began = Instant::now();
            // The work meets the same error and reports it.
            if round(cx, watched).await.is_err() {
                return;
            }
            tokio::select! {
                () = done.notified() => return,
                () = sleep(began.elapsed().max(PAUSE)) => {}
            }
        }
    };
    // A look that has begun is completed, so that what it released is reported.
    let (result, ()) = tokio::join!(Box::pin(work), Box::pin(help));
    result
}

/// Records the pods that these Deployments have now, and returns them: sessions of pods that are
/// not recorded are never released. Does nothing without etcd.
pub(crate) async fn see<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
) -> Result<Vec<ListedPod>, StepError> {
    if !cx.data.sessions().is_reached(cx).await {
        return Ok(Vec::new());
    }
    let known = cx.run().status.pods;
    let (mut listed, mut new) = (Vec::new(), Vec::new());
    for one in watched {
        for pod in list(cx, &ListParams::default().labels(&one.selector)).await? {
            let seen = SeenPod {
                name: pod.name_any(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                workload: one.name.clone(),
            };
            if is_owned_by(&pod.metadata, &one.name) && !known.contains(&seen) {
                new.push(seen);
            }
            listed.push(listed_pod(&pod));
        }
    }
    if !new.is_empty() {
        cx.record(|status| status.see(&new)).await?;
    }
    Ok(listed)
}

/// Sessions in etcd whose pods have ended or are terminating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// These sessions, each with its pod, as text. Also empty if etcd cannot be reached at all.
    Sessions(Vec<String>),
    /// etcd can be reached, but did not answer this time.
    Unread,
}

/// One look: sessions first, then pods, so that a pod that existed when its session was read is
/// among them. Returns what is left.
pub(crate) async fn round<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
) -> Result<Leftover, StepError> {
    if !cx.data.sessions().is_reached(cx).await {
        return Ok(Leftover::Sessions(Vec::new()));
    }
    let Some(sessions) = cx.data.sessions().registered(cx).await else {
        return Ok(Leftover::Unread);
    };
    cx.data.see(&sessions);
    let listed = see(cx, watched).await?;
    let status = cx.run().status;
    let seen: Vec<SeenPod> = status
        .pods
        .iter()
        .filter(|pod| watched.iter().any(|watched| watched.name == pod.workload))
        .cloned()
        .collect();
    let mut by_pod: BTreeMap<&str, PodState> = BTreeMap::new();
    for pod in sessions.iter().filter_map(|one| ended::holder(one, &seen)) {
        if by_pod.contains_key(&*pod.name) {
            continue;
        }
        let state = match ended::pod_state(&pod.name, &listed) {
            // A pod with other labels may have the name, too.
            PodState::Gone => state(cx, pod).await?,
            state => state,
        };
        by_pod.insert(&pod.name, state);
    }
    let state_of = |pod: &SeenPod| by_pod.get(&*pod.name).copied().unwrap_or(PodState::Lives);
    let release_of = |pod: &SeenPod| release_of(cx.data, &status, pod);
    let waiting = ended::waiting(&sessions, &seen, state_of, release_of);
    let mut left: Vec<String> = waiting.into_iter().map(shown).collect();
    for (group, state) in ended::releasable(&sessions, &seen, state_of, release_of) {
        if !release(cx, &group, state).await? {
            left.extend(group.iter().map(|one| shown(one)));
        }
    }
    Ok(Leftover::Sessions(left))
}

/// Releases the sessions of one process; returns whether they were removed.
async fn release<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    group: &[&Registered],
    state: PodState,
) -> Result<bool, StepError> {
    if cx.data.session_help() == SessionHelp::Off || cx.data.is_release_refused() {
        return Ok(false);
    }
    cx.permit().await?;
    match cx.data.sessions().release(cx, group).await {
        Ok(true) => {
            for one in group {
                cx.reporter().emit(&Event::SessionReleased {
                    session: error_text::line(&one.session.key),
                    pod: error_text::line(one.session.host.as_deref().unwrap_or_default()),
                    why: state.why().into(),
                });
            }
            Ok(true)
        }
        Ok(false) => Ok(false),
        Err(why) => {
            if cx.data.refuse_release() {
                cx.reporter().warn(format!(
                    "could not remove {} from etcd, whose pod has ended ({why}): the run waits \
                     until sessions end by themselves",
                    shown(group[0])
                ));
            }
            Ok(false)
        }
    }
}

/// When sessions of this pod may be released.
fn release_of(run: &impl SessionRun, status: &RunStatus, pod: &SeenPod) -> Release {
    let of = run.component(status, &pod.workload);
    if of.is_some_and(Component::is_coordinator) {
        Release::AtTermination
    } else {
        Release::AtTheEnd
    }
}

/// The current state of a pod, asked of the API server.
async fn state<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    pod: &SeenPod,
) -> Result<PodState, StepError> {
    let found = named(cx, &pod.name).await?;
    let listed: Vec<ListedPod> = found.iter().map(listed_pod).collect();
    Ok(ended::pod_state(&pod.name, &listed))
}

fn listed_pod(pod: &PartialObjectMeta<Pod>) -> ListedPod {
    ListedPod {
        name: pod.name_any(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
    }
}

/// The pod with this name in its current state, if it exists.
pub(super) async fn named<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    name: &str,
) -> Result<Option<PartialObjectMeta<Pod>>, StepError> {
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(list(cx, &params).await?.into_iter().next())
}

/// Lists the pods. Without a resource version, the API server reads the current state from etcd.
pub(super) async fn list<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    params: &ListParams,
) -> Result<Vec<PartialObjectMeta<Pod>>, StepError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.name().namespace);
    let listed = cx
        .client
        .call("pods", async || api.list_metadata(params).await)
        .await?;
    Ok(listed.items)
}

/// `proxy-7 of my-release-milvus-proxy-5f4c-x2x4z`.
fn shown(one: &Registered) -> String {
    let session = &one.session;
    format!(
        "session {} of pod {}",
        error_text::line(session.key.trim_start_matches("session/")),
        error_text::line(session.host.as_deref().unwrap_or_default())
    )
}
