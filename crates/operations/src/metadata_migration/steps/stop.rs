//! Scales every component to zero, in reverse order of the start; the undo starts the old version.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;

use crate::{
    engine::{
        ApiError, StepError,
        originals::{recorded, set, wait},
    },
    metadata_migration::{context::StepContext, migratable::KEDA, order::Tier},
};
use milvus_guard_core::api::Original;
use milvus_guard_sources::kubernetes::{
    rollout::Wanted,
    workloads::{Change, FIELD_MANAGER},
};

use super::{record::KEDA_PAUSED, start};

/// Pauses autoscalers, then scales to zero.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    hold_autoscalers(cx, true).await?;
    let originals = recorded(cx)?;
    for tier in Tier::ALL.into_iter().rev() {
        for original in start::of(&originals, tier) {
            set(
                cx,
                original,
                &Change {
                    replicas: Some(0),
                    ..Change::default()
                },
            )
            .await?;
        }
    }
    Ok(())
}

/// Waits until no pod is left.
pub(crate) async fn gate(cx: &StepContext<'_>) -> Result<(), StepError> {
    wait(cx, &recorded(cx)?, Wanted::Gone).await
}

/// Starts the old version again, tier by tier.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    let originals = cx.run().status.originals;
    for tier in Tier::ALL {
        let tier: Vec<Original> = start::of(&originals, tier).cloned().collect();
        for original in &tier {
            set(
                cx,
                original,
                &start::as_recorded(original, original.replicas),
            )
            .await?;
        }
        if !tier.is_empty() {
            wait(cx, &tier, Wanted::Complete).await?;
        }
    }
    hold_autoscalers(cx, false).await
}

/// Tells KEDA to keep its workloads at zero, or to scale them again. Kubernetes' own autoscalers do
/// not change workloads at zero.
pub(crate) async fn hold_autoscalers(cx: &StepContext<'_>, hold: bool) -> Result<(), StepError> {
    let resource = ApiResource {
        group: "keda.sh".into(),
        version: "v1alpha1".into(),
        api_version: "keda.sh/v1alpha1".into(),
        kind: KEDA.into(),
        plural: "scaledobjects".into(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(
        cx.client.kube(),
        &cx.data.settings.run.release.namespace,
        &resource,
    );
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    for original in cx
        .run()
        .status
        .originals
        .iter()
        .filter(|original| original.kind == KEDA)
    {
        let before = original
            .fields
            .first()
            .and_then(|field| field.value.clone());
        let value = if hold { Some("0".into()) } else { before };
        let patch = Patch::Merge(json!({"metadata": {"annotations": {KEDA_PAUSED: value}}}));
        let what = format!("{KEDA} {}", original.name);
        match cx
            .write(&what, async || {
                api.patch(&original.name, &params, &patch).await
            })
            .await
        {
            Ok(_) => {}
            // A deleted autoscaler can start nothing.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
