//! The record of the state before an upgrade, kept in a ConfigMap of the release's namespace: for
//! hooks and Jobs, whose files end with their pods.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::engine::{ApiError, ReleaseName, RetryingClient};
use milvus_guard_core::verification::Record;

/// Key of the ConfigMap.
pub const KEY: &str = "record.json";
/// Field manager of the key, so that labels of other clients are kept.
const MANAGER: &str = "milvus-guard-verify";
/// Maximum bytes of a record: the limit of an object [Kubernetes: 1 MiB], less room for metadata.
const LIMIT: usize = 1_000_000;

/// Why a record cannot be read or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// The cluster could not be queried, or refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It is too large.
    #[error("the record has {0} bytes; a ConfigMap holds at most {LIMIT}. Use a file")]
    TooLarge(usize),
}

/// The text of the record in this ConfigMap; `None` if there is none.
///
/// # Errors
/// If the cluster could not be queried.
pub async fn read(
    client: &RetryingClient,
    of: &ReleaseName,
    name: &str,
) -> Result<Option<String>, ApiError> {
    let api: Api<ConfigMap> = Api::namespaced(client.kube(), &of.namespace);
    let request = async || api.get_opt(name).await;
    let found = client.call(&format!("ConfigMap {name}"), request).await?;
    Ok(found.and_then(|map| map.data?.remove(KEY)))
}

/// Stores a record in this ConfigMap, in place of an earlier one.
///
/// # Errors
/// If it is too large, or if the cluster does not accept it.
pub async fn write(
    client: &RetryingClient,
    of: &ReleaseName,
    name: &str,
    record: &Record,
) -> Result<(), KeepError> {
    let text = record.text();
    if text.len() > LIMIT {
        return Err(KeepError::TooLarge(text.len()));
    }
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": of.namespace},
        "data": {KEY: text},
    });
    let api: Api<ConfigMap> = Api::namespaced(client.kube(), &of.namespace);
    let params = PatchParams::apply(MANAGER).force();
    let request = async || api.patch(name, &params, &Patch::Apply(&object)).await;
    client.call(&format!("ConfigMap {name}"), request).await?;
    Ok(())
}
