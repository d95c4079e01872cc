//! Writes to the API server: who writes, and what its answer means.

use milvus_guard_sources::kubernetes::ClusterError;

/// Under which name the API server notes who owns a field.
pub(super) const MANAGER: &str = "milvus-guard";

/// How a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Written,
    /// Another client was faster; read again.
    Outdated,
}

/// An error of the client as a message for people.
pub(crate) fn words(error: &kube::Error, verb: &'static str, what: &str) -> ClusterError {
    ClusterError::of(error, verb, what, "its usual address")
}

/// Tells a write that came too late from one that failed.
pub(crate) fn answer(
    done: Result<(), kube::Error>,
    verb: &'static str,
    what: &str,
) -> Result<Answer, ClusterError> {
    match done {
        Ok(()) => Ok(Answer::Written),
        // 409: it exists by now, or has another version. 404: it was there when it was read.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Outdated),
        Err(kube::Error::Api(status)) if status.code == 404 && verb == "patch" => {
            Ok(Answer::Outdated)
        }
        Err(error) => Err(words(&error, verb, what)),
    }
}
