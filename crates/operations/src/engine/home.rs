//! The namespace of a run: that of the guard if it is installed, so that users with rights in the
//! release's namespace cannot act as the Job; else that of the release.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::ListParams};
use serde_json::Value;
use sha2::{Digest, Sha256};

use milvus_guard_core::{
    api::{API_VERSION, UPGRADE_RUN},
    text::hexadecimal,
};
use milvus_guard_sources::kubernetes::{
    ClusterError,
    guard::{GUARD_NAMESPACE, JOB_ACCOUNT},
};

use super::{ApiError, RetryingClient};

/// The command that installs or updates the definitions of our kinds.
pub(crate) const INSTALL_DEFINITIONS: &str = "milvus-guard crds | kubectl apply --server-side -f -";
/// Characters of a release's name that names of our objects repeat; the rest is in the digest.
const READABLE: usize = 30;

/// A release, by name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReleaseName {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl ReleaseName {
    /// Name of the Lease that locks the release.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("milvus-guard-run-{}", self.short(""))
    }

    /// A name for an object of a run: unique to the release and this seed, and short enough for a
    /// label's value.
    #[must_use]
    pub fn short(&self, seed: &str) -> String {
        let digest = Sha256::digest(format!("{}/{}/{seed}", self.namespace, self.name));
        let readable: String = self.name.chars().take(READABLE).collect();
        let digest = hexadecimal(&digest[..4]);
        format!(
            "{}-{digest}",
            readable.trim_end_matches(['-', '.']).replace('.', "-")
        )
    }
}

/// The namespace of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The namespace of its objects.
    pub namespace: String,
    /// The guard's account for Jobs, if the guard is installed.
    pub guarded_by: Option<String>,
}

/// Why no namespace for the run was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// The definitions are not installed.
    #[error(
        "the kind UpgradeRun, which stores the state of a run, is not installed in the \
             cluster"
    )]
    NoDefinitions,
    /// The cluster cannot be queried.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Home {
    /// Finds the home of a run about this release: what the caller names, else the guard's
    /// namespace, else the release's. For a caller who may not look for the guard it counts as
    /// absent; if that is wrong, the guard itself denies the run.
    ///
    /// # Errors
    /// If the definitions of the guard's objects are not installed, or the cluster cannot be
    /// queried.
    pub async fn find(
        client: &RetryingClient,
        of: &ReleaseName,
        named: Option<&str>,
    ) -> Result<Self, HomeError> {
        let path = format!("/apis/{API_VERSION}");
        let found = client
            .call("the definitions of the guard's objects", async || {
                let request = http::Request::get(&path)
                    .body(Vec::new())
                    .map_err(kube::Error::HttpError)?;
                client.cluster.client().request::<Value>(request).await
            })
            .await;
        let served = match found {
            Ok(list) => list["resources"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["name"] == UPGRADE_RUN.plural)),
            Err(ApiError::NotFound { what }) if client.cluster.is_foreign().await => {
                let server = client.cluster.server().to_owned();
                let foreign = ClusterError::NotKubernetes {
                    server,
                    what: path.clone(),
                };
                let reason = foreign.to_string();
                return Err(ApiError::Refused { what, reason }.into());
            }
            Err(ApiError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if !served {
            return Err(HomeError::NoDefinitions);
        }
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client.kube());
        let params = ListParams::default().labels("app.kubernetes.io/name=milvus-guard");
        let guards = match client
            .call("the guard's registration", async || api.list(&params).await)
            .await
        {
            Ok(list) => list.items,
            Err(ApiError::Refused { .. } | ApiError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let guard = guards.iter().find_map(of_guard);
        Ok(match named {
            None => guard.unwrap_or_else(|| Self {
                namespace: of.namespace.clone(),
                guarded_by: None,
            }),
            Some(named) => {
                let here = guard.filter(|guard| guard.namespace == named);
                here.unwrap_or_else(|| Self {
                    namespace: named.to_owned(),
                    guarded_by: None,
                })
            }
        })
    }
}

/// What the guard's registration contains. Charts older than these annotations name the namespace
/// only at the Service.
fn of_guard(configuration: &ValidatingWebhookConfiguration) -> Option<Home> {
    let annotation = |key: &str| {
        configuration
            .metadata
            .annotations
            .as_ref()?
            .get(key)
            .cloned()
    };
    let of_service = || {
        Some(
            configuration
                .webhooks
                .as_ref()?
                .first()?
                .client_config
                .service
                .as_ref()?
                .namespace
                .clone(),
        )
    };
    let namespace = annotation(GUARD_NAMESPACE).or_else(of_service)?;
    let account = annotation(JOB_ACCOUNT).unwrap_or_else(|| "milvus-guard-job".into());
    Some(Home {
        namespace,
        guarded_by: Some(account),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_objects_are_short_and_unique() {
        let long = ReleaseName {
            name: "a.".repeat(26),
            namespace: "n".into(),
        };
        assert!(
            long.lease().len() <= 63 && !long.lease().contains('.'),
            "{}",
            long.lease()
        );
        let other = ReleaseName {
            namespace: "m".into(),
            ..long.clone()
        };
        assert_ne!(long.lease(), other.lease());
        assert_ne!(long.short("1"), long.short("2"));
    }

    #[test]
    fn the_guard_is_found_by_its_registration() {
        let of = |value: Value| of_guard(&serde_json::from_value(value).unwrap());
        let webhook = |client: Value| json!([{"name": "a.b.c", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"]}]);
        let by_service = of(
            json!({"metadata": {}, "webhooks": webhook(json!({"service": {"name": "s", "namespace": "guard"}}))}),
        );
        assert_eq!(by_service.unwrap().namespace, "guard");
        let annotations = json!({GUARD_NAMESPACE: "own", JOB_ACCOUNT: "robot"});
        let annotated = of(
            json!({"metadata": {"annotations": annotations}, "webhooks": webhook(json!({"url": "https://x"}))}),
        );
        assert_eq!(
            annotated,
            Some(Home {
                namespace: "own".into(),
                guarded_by: Some("robot".into())
            })
        );
        assert_eq!(
            of(json!({"metadata": {}, "webhooks": webhook(json!({"url": "https://x"}))})),
            None
        );
    }
}
