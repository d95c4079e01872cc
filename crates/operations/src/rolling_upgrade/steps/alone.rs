//! The active coordinator alone, before its Deployment gets another image. A standby that is
//! terminating may become active, and then holds the key until its lease ends. So the standby goes
//! first, while the active pod serves; the new pod is then the only one that can take over.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use crate::{
    engine::{ApiError, StepError, originals},
    rolling_upgrade::{
        active,
        context::StepContext,
        plan::Move,
        settings::SessionHelp,
        standby::Standby,
        steps::{release, temporary},
    },
};
use milvus_guard_core::{
    api::{Original, OriginalField},
    milvus::Version,
};
use milvus_guard_sources::kubernetes::{
    pods::is_owned_by,
    rollout::{Wanted, Watched},
    workloads::{Change, FIELD_MANAGER, is_complete},
};

/// Kind of the recorded object.
const POD: &str = "Pod";
/// Annotation by which a `ReplicaSet` chooses the pods that go first; 0 if it is absent.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Its value on the active pod.
const DEAR: &str = "1000";

/// Scales a coordinator to its active pod and waits until the standby's pod has ended, where that is
/// possible. `now` is the version that runs.
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
        if !keep(cx, &pod).await? {
            return Ok(());
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
    originals::set(cx, original, &alone).await?;
    let wait = originals::wait_for(cx, &watched, Wanted::Complete, cx.data.settings.hopeless);
    release::during(cx, &watched, wait).await.map(|_| ())
}

/// The pod of the active coordinator among several, if the others can go: all are up, and the
/// sessions in etcd tell which it is and may be released.
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
    if !(may && several && is_complete(deployment)) {
        return Ok(None);
    }
    let Some(sessions) = cx.data.connections.sessions.read(cx).await else {
        return Ok(None);
    };
    let pods = pods(cx, &Watched::of(deployment).selector).await?;
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

/// Makes a pod the last one that is scaled away; whether we may.
async fn keep(cx: &StepContext<'_>, pod: &PartialObjectMeta<Pod>) -> Result<bool, StepError> {
    let name = pod.name_any();
    let before = pod.annotations().get(COST).map(|cost| json!(cost));
    let original = Original {
        kind: POD.into(),
        name: name.clone(),
        uid: pod.metadata.uid.clone(),
        fields: vec![OriginalField {
            path: format!("/metadata/annotations/{}", COST.replace('/', "~1")),
            value: before,
        }],
        ..Original::default()
    };
    cx.record(|status| {
        let known = |known: &Original| known.kind == POD && known.uid == original.uid;
        if !status.originals.iter().any(known) {
            status.originals.push(original.clone());
        }
    })
    .await?;
    match annotate(cx, &original, &json!(DEAR)).await {
        Ok(()) => Ok(true),
        Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => Ok(false),
        Err(ApiError::Refused { reason, .. }) => {
            cx.reporter().warn(format!(
                "may not mark pod {name} to be kept, so its standby stays while it is replaced: \
                 {reason}"
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Puts the annotations of pods back that are still there, and forgets them.
pub(crate) async fn restore(cx: &StepContext<'_>) -> Result<(), StepError> {
    let originals = cx.run().status.originals;
    for original in originals.iter().filter(|original| original.kind == POD) {
        let before = original
            .fields
            .first()
            .and_then(|field| field.value.clone());
        let still_ours = ours(cx, original).await?;
        if still_ours {
            match annotate(cx, original, &before.unwrap_or(Value::Null)).await {
                Ok(()) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        cx.record(|status| {
            status
                .originals
                .retain(|known| known.kind != POD || known.uid != original.uid);
        })
        .await?;
    }
    Ok(())
}

/// Whether the recorded pod is there with our mark.
async fn ours(cx: &StepContext<'_>, original: &Original) -> Result<bool, StepError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let params = ListParams::default().fields(&format!("metadata.name={}", original.name));
    let found = cx
        .client
        .call("pods", async || api.list_metadata(&params).await)
        .await?;
    let marked = |annotations: &BTreeMap<String, String>| {
        annotations.get(COST).is_some_and(|cost| cost == DEAR)
    };
    Ok(found
        .items
        .iter()
        .any(|pod| pod.metadata.uid == original.uid && marked(pod.annotations())))
}

/// Sets the annotation of this very pod.
async fn annotate(cx: &StepContext<'_>, original: &Original, cost: &Value) -> Result<(), ApiError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let patch =
        Patch::Merge(json!({"metadata": {"uid": original.uid, "annotations": {COST: cost}}}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    cx.write(&format!("pod {}", original.name), async || {
        api.patch_metadata(&original.name, &params, &patch).await
    })
    .await
    .map(|_| ())
}

async fn pods(
    cx: &StepContext<'_>,
    selector: &str,
) -> Result<Vec<PartialObjectMeta<Pod>>, StepError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let params = ListParams::default().labels(selector);
    let listed = cx
        .client
        .call("pods", async || api.list_metadata(&params).await)
        .await?;
    Ok(listed.items)
}
