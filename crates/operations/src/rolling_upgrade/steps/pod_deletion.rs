//! Ends one particular pod, sooner than Kubernetes would.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use crate::{
    engine::{self, ApiError, StepError},
    rolling_upgrade::context::SessionRun,
};

/// The result of a request to end a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ends, or no longer exists.
    Yes,
    /// The API server refused, and why.
    Refused(String),
}

/// Ends the pod with this name and UID within `grace` seconds; `None` means the grace period in its
/// specification.
pub(crate) async fn end<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    name: &str,
    uid: Option<String>,
    grace: Option<u32>,
) -> Result<Ended, StepError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.name().namespace);
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let what = format!("pod {name}");
    let deletion = cx.write(&what, async || api.delete(name, &params).await.map(drop));
    match deletion.await {
        Ok(()) | Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => Ok(Ended::Yes),
        Err(ApiError::Refused { reason, .. }) => Ok(Ended::Refused(reason)),
        Err(error) => Err(error.into()),
    }
}
