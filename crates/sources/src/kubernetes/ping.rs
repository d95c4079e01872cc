//! Checks whether the API server reaches the guard, with a dry run that only the guard refuses.
//! It reports the answer of the API server, not why a network blocks a call.

use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use serde_json::json;

use milvus_guard_core::api::{self, API_VERSION};
use milvus_guard_core::error_text;

use super::{
    client::{Cluster, named},
    error::ClusterError,
    guard::api_resource,
};

/// The webhook that judges the guard's own objects, as the chart registers it.
const WEBHOOK: &str = "documents.guard.milvus.io";

/// The result of the dry run of an `UpgradeRun`, which only the guard may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pong {
    /// The guard refused it: the API server calls the guard, and the guard answers.
    Answers,
    /// It was accepted: the guard was not called, or its failure policy allowed the request.
    NotAsked,
    /// The API server does not know the kinds of the guard.
    NotInstalled,
    /// The API server could not call the guard; the reason that it reports.
    NotReached(String),
}

impl Cluster {
    /// Creates an `UpgradeRun` in this namespace as a dry run. Nothing is stored.
    ///
    /// # Errors
    /// If the account may not create runs there, or the namespace does not exist.
    pub async fn ping_guard(&self, namespace: &str) -> Result<Pong, ClusterError> {
        named(namespace)?;
        let kind = api_resource(api::UPGRADE_RUN);
        let runs: Api<DynamicObject> =
            Api::namespaced_with(self.client().clone(), namespace, &kind);
        let run = DynamicObject {
            types: None,
            metadata: kube::core::ObjectMeta {
                generate_name: Some("ping-".into()),
                ..Default::default()
            },
            data: json!({
                "apiVersion": API_VERSION,
                "kind": api::UPGRADE_RUN.kind,
                "spec": {"kind": "Rolling", "release": "ping", "namespace": namespace,
                    "from": "2.5.0", "to": "2.5.1", "plan": [], "planHash": "sha256:00"},
            }),
        };
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match runs.create(&dry_run, &run).await {
            Ok(_) => Ok(Pong::NotAsked),
            Err(error) => {
                let what = format!("{} in namespace {namespace}", kind.plural);
                match refused(&error) {
                    Some(Pong::NotInstalled) if self.is_foreign().await => {
                        let server = self.server().to_owned();
                        Err(ClusterError::NotKubernetes { server, what })
                    }
                    Some(pong) => Ok(pong),
                    None => Err(ClusterError::of(&error, "create", &what, self.server())),
                }
            }
        }
    }
}

/// The result if the refusal is about the guard; else `None`.
fn refused(error: &kube::Error) -> Option<Pong> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let message = &status.message;
    if message.contains(&format!(
        "admission webhook \"{WEBHOOK}\" denied the request"
    )) {
        Some(Pong::Answers)
    } else if message.contains(&format!("failed calling webhook \"{WEBHOOK}\"")) {
        Some(Pong::NotReached(error_text::line(message)))
    } else if status.code == 404 && !message.contains("namespaces \"") {
        // A missing namespace is also a 404, but its details name the namespace.
        Some(Pong::NotInstalled)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(message: &str) -> Option<Pong> {
        answer_with(403, message)
    }

    fn answer_with(code: u16, message: &str) -> Option<Pong> {
        refused(&kube::Error::Api(Box::new(Status {
            message: message.into(),
            code,
            ..Status::default()
        })))
    }

    #[test]
    fn a_refusal_of_the_guard_is_distinguished_from_others() {
        let denied = r#"admission webhook "documents.guard.milvus.io" denied the request: no"#;
        assert_eq!(answer(denied), Some(Pong::Answers));
        let failed = r#"Internal error occurred: failed calling webhook "documents.guard.milvus.io": failed to call webhook: Post "https://milvus-guard.milvus-guard.svc:443/validate/x?timeout=5s": context deadline exceeded"#;
        assert_eq!(answer(failed), Some(Pong::NotReached(failed.into())));
        for other in [
            r#"admission webhook "policies.example.org" denied the request: no"#,
            r#"upgraderuns.guard.milvus.io is forbidden: User "a" cannot create resource"#,
        ] {
            assert_eq!(answer(other), None, "{other}");
        }
        let unknown = "404 page not found";
        assert_eq!(answer_with(404, unknown), Some(Pong::NotInstalled));
        let nowhere = r#"namespaces "typo" not found"#;
        assert_eq!(answer_with(404, nowhere), None);
    }
}
