//! Fields that a Deployment has only while it is replaced: replicas, strategy, `minReadySeconds`
//! with `progressDeadlineSeconds`. Each is recorded before it is changed, and restored when the
//! component is complete.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::context::{StepContext, own_strategy},
};
use milvus_guard_core::api::{Original, OriginalField, RunStatus};
use milvus_guard_sources::kubernetes::workloads::{Change, progress_deadline};

/// Path of the replicas of a coordinator that was scaled to its active pod.
pub(crate) const REPLICAS: &str = "/spec/replicas";
/// Path of the time for which a new pod must be ready before an old one ends.
pub(crate) const MIN_READY: &str = "/spec/minReadySeconds";
/// Path of the time after which Kubernetes calls a rollout stuck; must be longer than the former.
pub(crate) const DEADLINE: &str = "/spec/progressDeadlineSeconds";

/// The recorded value, if any.
pub(crate) fn remembered(original: &Original, path: &str) -> Option<i32> {
    let field = original.fields.iter().find(|field| field.path == path)?;
    field
        .value
        .as_ref()
        .and_then(Value::as_i64)
        .and_then(|value| i32::try_from(value).ok())
}

/// Records the current value, unless that was done before.
pub(crate) async fn remember(
    cx: &StepContext<'_>,
    original: &Original,
    path: &str,
    value: i32,
) -> Result<(), StepError> {
    cx.record(|status| {
        if let Some(known) = known(status, original)
            && remembered(known, path).is_none()
        {
            known.fields.push(OriginalField {
                path: path.to_owned(),
                value: Some(json!(value)),
            });
        }
    })
    .await?;
    Ok(())
}

/// Records the pace of a Deployment, unless that was done before.
pub(crate) async fn remember_pace(
    cx: &StepContext<'_>,
    original: &Original,
    deployment: &Deployment,
) -> Result<(), StepError> {
    let now = deployment.spec.min_ready_seconds.unwrap_or(0);
    remember(cx, original, MIN_READY, now).await?;
    remember(cx, original, DEADLINE, progress_deadline(deployment)).await
}

/// The pace that a Deployment had before, as far as it was recorded.
pub(crate) fn own_pace(original: &Original) -> Change {
    Change {
        min_ready_seconds: remembered(original, MIN_READY),
        progress_deadline_seconds: remembered(original, DEADLINE),
        ..Change::default()
    }
}

/// Restores what was changed for the time of a step, unless another client has changed it since.
/// Returns whether pods must be started for that.
pub(crate) async fn put_back(
    cx: &StepContext<'_>,
    originals: &[Original],
) -> Result<bool, StepError> {
    let mut scaled = false;
    for original in originals.iter().filter(|original| original.uid.is_some()) {
        let mut status = cx.run().status;
        let Some(recorded) = known(&mut status, original).cloned() else {
            continue;
        };
        let mut change = Change {
            strategy: own_strategy(&recorded).strategy,
            ..own_pace(&recorded)
        };
        if let Some(replicas) = remembered(&recorded, REPLICAS) {
            // Another client has set any other number on purpose.
            let now = originals::live(cx, original).await?.spec.replicas;
            change.replicas = (now == Some(1)).then_some(replicas);
            scaled = true;
        }
        originals::set(cx, original, &change).await?;
        if change.min_ready_seconds.is_some() || remembered(&recorded, REPLICAS).is_some() {
            cx.record(|status| {
                if let Some(known) = known(status, original) {
                    known
                        .fields
                        .retain(|field| ![REPLICAS, MIN_READY, DEADLINE].contains(&&*field.path));
                }
            })
            .await?;
        }
    }
    Ok(scaled)
}

fn known<'s>(status: &'s mut RunStatus, original: &Original) -> Option<&'s mut Original> {
    status
        .originals
        .iter_mut()
        .find(|known| known.kind == original.kind && known.name == original.name)
}
