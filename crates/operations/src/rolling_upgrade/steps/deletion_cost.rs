//! Sets which pod of a Deployment ends first or last, by an annotation of the pod. The annotation
//! is recorded before it is set, and restored on pods that still exist.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use crate::{
    engine::{ApiError, StepError},
    rolling_upgrade::context::StepContext,
};
use milvus_guard_core::api::{Original, OriginalField};
use milvus_guard_sources::kubernetes::workloads::FIELD_MANAGER;

use super::release;

/// Kind of the recorded object.
const POD: &str = "Pod";
/// Annotation by which a `ReplicaSet` chooses the pods to end first; 0 if it is absent.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// When a pod ends, among the pods of its `ReplicaSet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

impl Turn {
    /// The annotation's value.
    const fn cost(self) -> &'static str {
        match self {
            Self::First => "-1000",
            Self::Last => "1000",
        }
    }

    fn is_ours(cost: &str) -> bool {
        [Self::First, Self::Last]
            .iter()
            .any(|turn| turn.cost() == cost)
    }
}

/// Whether a pod was marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    /// The pod was marked.
    Yes,
    /// The pod no longer exists, or was replaced.
    Gone,
    /// The API server refused, and why.
    Refused(String),
}

/// Marks a pod.
pub(crate) async fn mark(
    cx: &StepContext<'_>,
    pod: &PartialObjectMeta<Pod>,
    turn: Turn,
) -> Result<Marked, StepError> {
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
    match annotate(cx, &original, &json!(turn.cost())).await {
        Ok(()) => Ok(Marked::Yes),
        Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => Ok(Marked::Gone),
        Err(ApiError::Refused { reason, .. }) => Ok(Marked::Refused(reason)),
        Err(error) => Err(error.into()),
    }
}

/// Restores the annotations of pods that still exist, and removes them from the record.
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

/// Whether the recorded pod exists and has our mark.
async fn ours(cx: &StepContext<'_>, original: &Original) -> Result<bool, StepError> {
    let found = release::named(cx, &original.name).await?;
    let marked = |annotations: &BTreeMap<String, String>| {
        annotations
            .get(COST)
            .is_some_and(|cost| Turn::is_ours(cost))
    };
    Ok(found.is_some_and(|pod| pod.metadata.uid == original.uid && marked(pod.annotations())))
}

/// Sets the annotation of exactly this pod.
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
