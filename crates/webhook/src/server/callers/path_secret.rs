//! The Secret in the cluster with the path secrets: created, renewed, and read by every replica.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::certs::api::{Answer, answer, words};
use milvus_guard_sources::kubernetes::ClusterError;

use super::{
    super::MANAGER,
    accepted::AcceptedSecrets,
    last_read::{LastRead, POLL, RETRY},
    tokens::{NoRandomness, Times, Tokens},
};

/// Attempts if other replicas write the Secret at the same time.
const TRIES: usize = 8;
/// Limit for one reading. Even a slow API server answers within this time.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why the Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// No secret could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// Other clients changed the Secret during every attempt.
    #[error("Secret {0} was changed by others each time it was read")]
    Contended(String),
    /// The cluster refused or did not answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The Secret with the path secrets.
#[derive(Clone)]
pub struct PathSecret {
    /// The cluster.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Durations of the phases of a secret.
    pub times: Times,
}

impl PathSecret {
    /// The secrets; makes one if there is none. If several replicas start at once, only one of them
    /// makes it.
    ///
    /// # Errors
    /// If the Secret may not be read or written.
    pub async fn ensure(&self, now: Timestamp) -> Result<Tokens, CallersError> {
        self.renewed(now, |tokens| !tokens.has_own()).await
    }

    /// The same, with a new secret if the newest is too old, or older than `not_before`.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn rotated(
        &self,
        now: Timestamp,
        not_before: Option<Timestamp>,
    ) -> Result<Tokens, CallersError> {
        self.renewed(now, |tokens| tokens.is_due(now, &self.times, not_before))
            .await
    }

    async fn renewed(
        &self,
        now: Timestamp,
        is_due: impl Fn(&Tokens) -> bool,
    ) -> Result<Tokens, CallersError> {
        for _ in 0..TRIES {
            let (version, tokens) = self.read().await?;
            if !is_due(&tokens) {
                return Ok(tokens);
            }
            let tokens = tokens.with_another(now)?;
            if self.write(version.as_deref(), &tokens).await? == Answer::Written {
                return Ok(tokens);
            }
        }
        Err(CallersError::Contended(self.name.clone()))
    }

    /// Deletes the secrets older than this one, which has been registered for long enough.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn forget_before(&self, token: &str) -> Result<(), CallersError> {
        let (version, tokens) = self.read().await?;
        let kept = tokens.up_to(token);
        if kept != tokens && version.is_some() {
            // If another client was faster, the next check tries again.
            self.write(version.as_deref(), &kept).await?;
        }
        Ok(())
    }

    /// Accepts the secrets in the Secret, until the process ends. After a failure it tries again;
    /// accepted secrets stay accepted.
    pub async fn follow(self, known: AcceptedSecrets, last: LastRead) {
        let settle = Duration::try_from(self.times.settle).unwrap_or(POLL);
        let every = POLL.min(settle / 6).max(Duration::from_millis(50));
        let mut complaint = None;
        loop {
            tokio::time::sleep(if complaint.is_none() {
                every
            } else {
                every.min(RETRY)
            })
            .await;
            let (now, begun) = (Timestamp::now(), Instant::now());
            let read = timeout(DEADLINE, self.ensure(now)).await;
            if matches!(
                read,
                Ok(Err(CallersError::Cluster(ClusterError::Forbidden { .. })))
            ) {
                // The cluster answers. All replicas have the same permissions, so no replica makes
                // another secret.
                last.note(begun);
            }
            match read.map_or_else(
                |_| Err("no answer in time".to_owned()),
                |read| read.map_err(|error| error.to_string()),
            ) {
                Ok(tokens) => {
                    known.accept(&tokens, now, self.times.keep());
                    last.note(begun);
                    complaint = None;
                }
                Err(reason) => {
                    if complaint.as_ref() != Some(&reason) {
                        tracing::warn!(
                            reason,
                            "the secret path could not be read; the previous paths remain accepted"
                        );
                        complaint = Some(reason);
                    }
                }
            }
        }
    }

    fn what(&self) -> String {
        format!("Secret {} in namespace {}", self.name, self.namespace)
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Resource version and content; no version if the Secret does not exist.
    async fn read(&self) -> Result<(Option<String>, Tokens), ClusterError> {
        let found = self
            .api()
            .get_opt(&self.name)
            .await
            .map_err(|error| words(&error, "get", &self.what()))?;
        Ok(match found {
            None => (None, Tokens::default()),
            Some(found) => (
                found.metadata.resource_version,
                Tokens::of(&found.data.unwrap_or_default()),
            ),
        })
    }

    async fn write(&self, version: Option<&str>, tokens: &Tokens) -> Result<Answer, ClusterError> {
        let Some(version) = version else {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some([("app.kubernetes.io/managed-by".into(), MANAGER.into())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(tokens.data()),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            let created = self.api().create(&params, &secret).await;
            return answer(created.map(|_| ()), "create", &self.what());
        };
        let patch = json!({"metadata": {"resourceVersion": version}, "data": tokens.data()});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patched = self
            .api()
            .patch(&self.name, &params, &Patch::Merge(patch))
            .await;
        answer(patched.map(|_| ()), "patch", &self.what())
    }
}
