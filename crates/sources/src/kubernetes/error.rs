//! Why a cluster could not be read, as messages for the user.

use milvus_guard_core::{error_text, helm::CodecError, manifest::ParseError};

/// Why a cluster could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no cluster: there is no kubeconfig (--kubeconfig, KUBECONFIG or ~/.kube/config) and this \
         is not a pod"
    )]
    NoCluster,
    /// A kubeconfig that cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(String),
    /// A kubeconfig without a current context.
    #[error("{}", no_context(.0))]
    NoContext(String),
    /// A context that the kubeconfig does not have.
    #[error("context {name:?} does not exist in the kubeconfig; it has {known}")]
    UnknownContext {
        /// The requested context.
        name: String,
        /// The contexts that exist.
        known: String,
    },
    /// The helper program that fetches a login failed. Its output may hold a token and is not
    /// shown.
    #[error("the credential plugin of this kubeconfig failed; does `kubectl version` work?")]
    Login,
    /// The API server did not answer.
    #[error("the cluster at {server} did not answer: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The login was refused.
    #[error("the cluster does not accept this login (401); it may have expired")]
    Unauthorized,
    /// A permission is missing.
    #[error("not allowed to {verb} {what}; request that permission or use another context")]
    Forbidden {
        /// The verb of the permission.
        verb: &'static str,
        /// Resource and place.
        what: String,
    },
    /// The API server returned another error, or an unexpected answer.
    #[error("cannot read {what}: {reason}")]
    Api {
        /// Resource and place.
        what: String,
        /// The message of the API server.
        reason: String,
    },
    /// The API does not exist in this cluster, or the object does not.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The server lacks an API that every API server has.
    #[error(
        "{server} does not answer like a Kubernetes API server (404 for {what}); check the address \
         in the kubeconfig"
    )]
    NotKubernetes {
        /// Its address.
        server: String,
        /// Resource and place.
        what: String,
    },
    /// Helm's storage does not have the release.
    #[error("Helm has no {wanted} of release {release} in namespace {namespace}; {hint}")]
    NoRelease {
        /// The release.
        release: String,
        /// The searched namespace.
        namespace: String,
        /// `deployed revision` or `revision 7`.
        wanted: String,
        /// What there is instead.
        hint: String,
    },
    /// A stored release that cannot be decoded.
    #[error("{object} cannot be decoded: {source}")]
    Codec {
        /// Name of the Secret or `ConfigMap`.
        object: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A stored manifest that is not valid YAML.
    #[error("the manifest stored in {object} cannot be read: {source}")]
    Manifest {
        /// Name of the revision.
        object: String,
        /// What is wrong with it.
        source: ParseError,
    },
}

impl ClusterError {
    /// Converts an error of the client.
    #[must_use]
    pub fn of(error: &kube::Error, verb: &'static str, what: &str, server: &str) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized,
                403 => Self::Forbidden {
                    verb,
                    what: what.to_owned(),
                },
                404 => Self::NotFound(what.to_owned()),
                code => {
                    let message = if status.message.is_empty() {
                        &status.reason
                    } else {
                        &status.message
                    };
                    Self::Api {
                        what: what.to_owned(),
                        reason: format!("{} ({code})", error_text::line(message)),
                    }
                }
            },
            // The text of this error contains the helper's standard output.
            kube::Error::Auth(_) => Self::Login,
            kube::Error::Service(error) if is_login(error.as_ref()) => Self::Login,
            kube::Error::Service(error) => Self::Unreachable {
                server: server.to_owned(),
                reason: error_text::chain(error.as_ref()),
            },
            kube::Error::HyperError(error) => Self::Unreachable {
                server: server.to_owned(),
                reason: error_text::chain(error),
            },
            // The message of serde_json may quote the answer.
            kube::Error::SerdeError(_) => Self::Api {
                what: what.to_owned(),
                reason: "the response is not a Kubernetes API response".into(),
            },
            other => Self::Api {
                what: what.to_owned(),
                reason: error_text::chain(other),
            },
        }
    }
}

/// The list of contexts if there are none.
pub(super) const NO_CONTEXTS: &str = "none";

fn no_context(known: &str) -> String {
    if known == NO_CONTEXTS {
        "the kubeconfig has no contexts; give another one with --kubeconfig or KUBECONFIG".into()
    } else {
        format!("the kubeconfig names no current context; choose one with --context: {known}")
    }
}

/// Whether a login helper failed, anywhere in the chain of causes.
fn is_login(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if error.is::<kube::client::AuthError>()
            || matches!(error.downcast_ref(), Some(kube::Error::Auth(_)))
        {
            return true;
        }
        current = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        401,
        "the cluster does not accept this login (401); it may have expired"
    )]
    #[case(
        403,
        "not allowed to list deployments in namespace milvus; request that permission or use \
         another context"
    )]
    #[case(404, "deployments in namespace milvus does not exist")]
    #[case(500, "cannot read deployments in namespace milvus: boom (500)")]
    fn api_errors_become_messages(#[case] code: u16, #[case] text: &str) {
        let error = kube::Error::Api(Status::failure("boom", "x").with_code(code).boxed());
        assert_eq!(
            ClusterError::of(
                &error,
                "list",
                "deployments in namespace milvus",
                "https://c"
            )
            .to_string(),
            text
        );
    }

    #[test]
    fn contexts_are_offered_only_if_there_are_any() {
        let text = |known: &str| ClusterError::NoContext(known.into()).to_string();
        assert!(text("a, b").ends_with("choose one with --context: a, b"));
        let none = text(NO_CONTEXTS);
        assert!(
            none.starts_with("the kubeconfig has no contexts") && !none.contains("--context"),
            "{none}"
        );
    }

    #[test]
    fn an_unreachable_server_is_named() {
        let error = kube::Error::Service(Box::new(std::io::Error::other("connection refused")));
        let text = ClusterError::of(&error, "list", "x", "https://c:6443/").to_string();
        assert_eq!(
            text,
            "the cluster at https://c:6443/ did not answer: connection refused"
        );
    }

    #[test]
    fn the_output_of_a_login_helper_is_never_shown() {
        let error = kube::Error::Service(Box::new(kube::client::AuthError::AuthExec(
            "token hunter2".into(),
        )));
        assert_eq!(
            ClusterError::of(&error, "list", "x", "https://c"),
            ClusterError::Login
        );
    }
}
