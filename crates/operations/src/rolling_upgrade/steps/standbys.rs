//! Standbys of a coordinator that are terminating. A standby ignores SIGTERM for its whole grace
//! period (30 s). As long as it lives, a Deployment with the strategy `Recreate` starts no new pod,
//! and a standby may become active although it ends. It serves nothing, so its pod is ended at once.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use kube::{ResourceExt, api::ListParams};
use tokio::time::sleep;

use crate::{
    engine::{self, StepError},
    rolling_upgrade::{active, context::SessionRun, settings::SessionHelp},
};
use milvus_guard_core::milvus::{Component, Version};
use milvus_guard_metadata::model::sessions::Session;
use milvus_guard_sources::kubernetes::{pods::is_owned_by, rollout::Watched};

use super::{
    pod_deletion::{self, Ended},
    release::{self, list},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a standby may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds that it gets then.
const GRACE: u32 = 1;

/// A pod that was a standby when it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandbyPod {
    name: String,
    uid: String,
}

/// The standbys among the pods of a Deployment of this component, whose pods run `version`. Empty if
/// the sessions in etcd do not tell which pod is active.
pub(crate) async fn of<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &Watched,
    component: Component,
    version: Version,
) -> Result<Vec<StandbyPod>, StepError> {
    if !component.is_coordinator() || cx.data.session_help() == SessionHelp::Off {
        return Ok(Vec::new());
    }
    let Some(registered) = cx.data.sessions().registered(cx).await else {
        return Ok(Vec::new());
    };
    let sessions: Vec<Session> = registered.into_iter().map(|one| one.session).collect();
    let active = active::hosts(&sessions, component, version);
    let pods = list(cx, &ListParams::default().labels(&watched.selector)).await?;
    let own: Vec<_> = pods
        .into_iter()
        .filter(|pod| is_owned_by(&pod.metadata, &watched.name))
        .collect();
    // The active one may be of another Deployment, or its session names no pod.
    if !own.iter().any(|pod| active.contains(&pod.name_any())) {
        return Ok(Vec::new());
    }
    let standbys = own
        .into_iter()
        .filter(|pod| !active.contains(&pod.name_any()));
    Ok(standbys
        .map(|pod| StandbyPod {
            name: pod.name_any(),
            uid: pod.metadata.uid.unwrap_or_default(),
        })
        .collect())
}

/// Does the work, and meanwhile ends those of these standbys that are terminating.
pub(crate) async fn ended_during<T, D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
    standbys: &[StandbyPod],
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    tokio::select! {
        biased;
        result = work => result,
        never = end_terminating(cx, watched, standbys) => match never {},
    }
}

async fn end_terminating<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
    standbys: &[StandbyPod],
) -> Infallible {
    let mut since: BTreeMap<&str, Instant> = BTreeMap::new();
    let mut left: Vec<&StandbyPod> = standbys.iter().collect();
    loop {
        if left.is_empty() {
            std::future::pending::<()>().await;
        }
        // The work meets the same trouble, and says it: this is help only.
        let listed = release::see(cx, watched).await.unwrap_or_default();
        for pod in listed.iter().filter(|pod| pod.is_ending) {
            let Some(one) = left.iter().find(|one| one.uid == pod.uid).copied() else {
                continue;
            };
            let began = *since.entry(&one.uid).or_insert_with(Instant::now);
            if began.elapsed() < PATIENCE {
                continue;
            }
            match pod_deletion::end(cx, &one.name, Some(one.uid.clone()), GRACE).await {
                Ok(Ended::Yes) => {
                    cx.reporter().note(format!(
                        "{} was a standby and is terminating: its pod is ended",
                        one.name
                    ));
                    left.retain(|other| other.uid != one.uid);
                }
                Ok(Ended::Refused(reason)) => {
                    cx.reporter().note(format!(
                        "may not end standby {}, which is terminating: {reason}",
                        one.name
                    ));
                    left.clear();
                }
                Err(_) => {}
            }
        }
        sleep(PAUSE).await;
    }
}
