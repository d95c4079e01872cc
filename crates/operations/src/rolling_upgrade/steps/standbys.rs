//! Standbys of a coordinator, before their Deployment changes. A standby of Milvus 2.3 ignores
//! SIGTERM for its whole grace period (30 s). Until it ends, a Deployment with the strategy
//! `Recreate` starts no new pod, and the standby may become active although it is terminating.
//!
//! So each standby is deleted with a short grace period. That must be its first deletion: a kubelet
//! (seen with 1.36) keeps the grace period of the first deletion, and ignores that of a later one.
//! The change of the Deployment ends the pod that the `ReplicaSet` starts in its place, before that
//! pod runs.

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams, core::PartialObjectMeta};

use crate::{
    engine::{self, StepError},
    rolling_upgrade::{active, context::SessionRun, settings::SessionHelp},
};
use milvus_guard_core::milvus::{Component, Version};
use milvus_guard_metadata::model::sessions::Session;
use milvus_guard_sources::kubernetes::{pods::is_owned_by, rollout::Watched};

use super::{
    pod_deletion::{self, Ended},
    release::list,
};

/// Seconds that a standby gets to end. It serves no requests and has nothing to write.
const GRACE: u32 = 1;

/// Deletes these standbys. The change of their Deployment must follow within milliseconds, or be
/// made at the same time.
pub(crate) async fn end<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    standbys: &[PartialObjectMeta<Pod>],
) -> Result<(), StepError> {
    for pod in standbys {
        let (name, uid) = (pod.name_any(), pod.metadata.uid.clone());
        match pod_deletion::end(cx, &name, uid, Some(GRACE)).await? {
            Ended::Yes => cx.reporter().note(format!(
                "{name} is a standby: its pod is ended before the new one starts"
            )),
            Ended::Refused(reason) => {
                cx.reporter().note(format!(
                    "may not end standby {name}, which can take its whole grace period to end: \
                     {reason}"
                ));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The standbys of a coordinator whose pods run `version`: running pods of its Deployment that hold
/// no role, if another one holds it. None if the sessions in etcd do not show it, or if session
/// help is off.
pub(crate) async fn of<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &Watched,
    component: Component,
    version: Version,
) -> Result<Vec<PartialObjectMeta<Pod>>, StepError> {
    if !component.is_coordinator() || cx.data.session_help() == SessionHelp::Off {
        return Ok(Vec::new());
    }
    let Some(registered) = cx.data.sessions().registered(cx).await else {
        return Ok(Vec::new());
    };
    let sessions: Vec<Session> = registered.into_iter().map(|one| one.session).collect();
    let active = active::hosts(&sessions, component, version);
    let mut own = list(cx, &ListParams::default().labels(&watched.selector)).await?;
    own.retain(|pod| {
        is_owned_by(&pod.metadata, &watched.name) && pod.metadata.deletion_timestamp.is_none()
    });
    // The active pod may be of another Deployment, or its session names no pod.
    if !own.iter().any(|pod| active.contains(&pod.name_any())) {
        return Ok(Vec::new());
    }
    own.retain(|pod| !active.contains(&pod.name_any()));
    Ok(own)
}
