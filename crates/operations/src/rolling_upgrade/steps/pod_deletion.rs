//! Ends one very pod, sooner than Kubernetes would.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use crate::{
    engine::{self, ApiError, StepError},
    rolling_upgrade::context::SessionRun,
};

/// What became of a request to end a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ends, or no longer exists.
    Yes,
    /// We may not, and why.
    Refused(String),
}

/// Ends the pod of this name and UID, which gets `grace` seconds for it; `None` if as many as its
/// own specification says.
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
