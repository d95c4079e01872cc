//! Objects that the new chart does not have: Helm is told to keep them, and the run deletes them at
//! its end, when no pod needs them any more.

use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::{GroupVersionKind, PartialObjectMeta},
};
use serde_json::{Value, json};

use crate::{
    engine::{ApiError, StepError},
    rolling_upgrade::{
        context::StepContext,
        through_helm::{MARK, change::RESOURCE_POLICY},
    },
};
use milvus_guard_core::api::LeavingObject;
use milvus_guard_sources::kubernetes::workloads::{self, FIELD_MANAGER};

/// Tells Helm to keep them. Objects that a user keeps already are not marked.
pub(crate) async fn keep(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (policy, keep) = RESOURCE_POLICY;
    for one in recorded(cx) {
        let wanted = json!({(policy): keep, (MARK): cx.data.run});
        let is_open = |found: &Found| annotation(found, policy).is_none();
        annotate(cx, &one, &wanted, is_open).await?;
    }
    Ok(())
}

/// Removes our marks.
pub(crate) async fn release(cx: &StepContext<'_>) -> Result<(), StepError> {
    for one in recorded(cx) {
        let wanted = json!({(RESOURCE_POLICY.0): null, (MARK): null});
        annotate(cx, &one, &wanted, is_marked).await?;
    }
    Ok(())
}

/// Deletes the objects.
pub(crate) async fn delete(cx: &StepContext<'_>) -> Result<(), StepError> {
    for one in recorded(cx) {
        let (api, what) = (api(cx, &one), format!("{} {}", one.kind, one.name));
        let Some(found) = find(cx, &one).await?.filter(is_marked) else {
            continue;
        };
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: found.metadata.uid,
            resource_version: None,
        });
        let request = async || api.delete(&one.name, &params).await;
        match cx.write(&what, request).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// They cannot be created again here, because Helm creates them.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    for one in recorded(cx) {
        if find(cx, &one).await?.is_none() {
            let revision = cx.run().status.helm.unwrap_or_default().revision;
            let release = &cx.data.settings.run.release;
            return Err(StepError::Refused(format!(
                "{} {} was deleted, as the change of Helm asked for; helm rollback {} {revision} \
                 -n {} makes it again",
                one.kind, one.name, release.name, release.namespace
            )));
        }
    }
    Ok(())
}

type Found = PartialObjectMeta<DynamicObject>;

fn recorded(cx: &StepContext<'_>) -> Vec<LeavingObject> {
    cx.run().status.helm.unwrap_or_default().leaving
}

fn annotation<'a>(found: &'a Found, key: &str) -> Option<&'a String> {
    found.metadata.annotations.as_ref()?.get(key)
}

fn is_marked(found: &Found) -> bool {
    annotation(found, MARK).is_some()
}

/// Changes annotations of an object if it exists and matches, and leaves no field of it owned by
/// our field manager.
async fn annotate(
    cx: &StepContext<'_>,
    one: &LeavingObject,
    wanted: &Value,
    fits: impl Fn(&Found) -> bool,
) -> Result<(), StepError> {
    let (api, what) = (api(cx, one), format!("{} {}", one.kind, one.name));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let mut is_changed = false;
    loop {
        let Some(found) = find(cx, one).await? else {
            return Ok(());
        };
        let result = if !is_changed && fits(&found) {
            let metadata = json!({
                "annotations": wanted, "uid": found.metadata.uid,
                "resourceVersion": found.metadata.resource_version,
            });
            let patch = Patch::Merge(json!({"metadata": metadata}));
            let request = async || api.patch_metadata(&one.name, &params, &patch).await;
            cx.write(&what, request).await.map(drop)
        } else if workloads::is_ours(&found.metadata) {
            let request = async || workloads::hand_over(&api, &found.metadata).await;
            cx.write(&what, request).await
        } else {
            return Ok(());
        };
        match result {
            Ok(()) => is_changed = true,
            Err(ApiError::Conflict { .. }) => {}
            Err(ApiError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn find(cx: &StepContext<'_>, one: &LeavingObject) -> Result<Option<Found>, StepError> {
    let (api, what) = (api(cx, one), format!("{} {}", one.kind, one.name));
    let request = async || api.get_metadata_opt(&one.name).await;
    Ok(cx.client.call(&what, request).await?)
}

fn api(cx: &StepContext<'_>, one: &LeavingObject) -> Api<DynamicObject> {
    let (group, version) = one
        .api_version
        .split_once('/')
        .unwrap_or(("", &one.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &one.kind));
    let namespace = &cx.data.settings.run.release.namespace;
    Api::namespaced_with(cx.client.kube(), namespace, &resource)
}
