//! A client of an API server that may be unavailable for some minutes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use tokio::time::timeout;

use milvus_guard_core::error_text;
use milvus_guard_sources::kubernetes::{Cluster, ClusterError};

use super::{CancelReason, Cancellation, Event, Reporter};

/// How long the API server may be unavailable before a run stops. It is unavailable for minutes
/// while the control plane is upgraded.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a command that only reads waits for the API server. Including the last attempt, it ends
/// within 10 s.
pub const READING: Duration = Duration::from_secs(5);
/// Time for one attempt. The API server itself waits less for webhooks and etcd.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Shortest pause between attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A client that repeats requests, and reports meanwhile what it waits for. Cheap to clone.
#[derive(Clone)]
pub struct RetryingClient {
    /// The connection.
    pub cluster: Cluster,
    /// Receives the events.
    pub reporter: Reporter,
    /// Ends the retries.
    pub cancellation: Cancellation,
    /// How long the API server may be unavailable.
    pub patience: Duration,
    waiting: Arc<Mutex<Option<Wait>>>,
}

/// What the run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Description of it.
    pub on: String,
    /// Start of the wait.
    pub since: Instant,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The run must stop.
    #[error("{cause}{}", .during.as_ref().map_or_else(String::new, |during| format!(" while {during}")))]
    Cancelled {
        /// The reason for the stop.
        cause: CancelReason,
        /// What the run was doing, if known: `waiting for ...`.
        during: Option<String>,
    },
    /// The API server was unavailable for longer than the client retries.
    #[error("the API server at {server} did not respond for {seconds} s ({what}): {reason}")]
    Away {
        /// Its address.
        server: String,
        /// What was requested.
        what: String,
        /// Error of the last attempt.
        reason: String,
        /// How long it was unavailable.
        seconds: u64,
    },
    /// Another client wrote first.
    #[error("{what}: another client changed it at the same time")]
    Conflict {
        /// What was requested.
        what: String,
    },
    /// The object or its API does not exist.
    #[error("{what}: it does not exist")]
    NotFound {
        /// What was requested.
        what: String,
    },
    /// The API server refuses: no right, a webhook's denial, an invalid object.
    #[error("{what}: {reason}")]
    Refused {
        /// What was requested.
        what: String,
        /// The reason that the server gave.
        reason: String,
    },
}

impl ApiError {
    /// The run must stop while it waits for nothing.
    #[must_use]
    pub const fn cancelled(cause: CancelReason) -> Self {
        Self::Cancelled {
            cause,
            during: None,
        }
    }
}

/// What the run waited for before the first retry of a request.
struct BeforeRetry(Option<Wait>);

impl RetryingClient {
    /// A client that retries for [`PATIENCE`].
    #[must_use]
    pub fn new(cluster: Cluster, reporter: Reporter, cancellation: Cancellation) -> Self {
        Self {
            cluster,
            reporter,
            cancellation,
            patience: PATIENCE,
            waiting: Arc::default(),
        }
    }

    /// A client for a command that only reads: it fails if the cluster does not answer within
    /// [`READING`].
    #[must_use]
    pub fn for_reading(cluster: Cluster, reporter: Reporter, cancellation: Cancellation) -> Self {
        Self {
            patience: READING,
            ..Self::new(cluster, reporter, cancellation)
        }
    }

    /// The client.
    #[must_use]
    pub fn kube(&self) -> Client {
        self.cluster.client().clone()
    }

    /// Sends a request, and repeats it while the API server is unavailable. The request must be
    /// safe to repeat: an attempt may have succeeded although its response was lost.
    ///
    /// # Errors
    /// If the server refuses or stays unavailable for too long, or the run must stop.
    pub async fn call<T, E: Trouble>(
        &self,
        what: &str,
        request: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, ApiError> {
        self.call_if(what, async || Ok(()), request).await
    }

    /// The same, but each attempt needs a permit: a retry may come long after the first attempt.
    ///
    /// # Errors
    /// As [`Self::call`], and that of the permit.
    pub async fn call_if<T, E: Trouble>(
        &self,
        what: &str,
        permit: impl AsyncFn() -> Result<(), ApiError>,
        request: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, ApiError> {
        let mut before = None;
        let result = self.attempts(what, permit, request, &mut before).await;
        let has_answer = !matches!(
            result,
            Err(ApiError::Away { .. } | ApiError::Cancelled { .. })
        );
        if has_answer && let Some(BeforeRetry(wait)) = before {
            self.restore(wait);
        }
        result
    }

    async fn attempts<T, E: Trouble>(
        &self,
        what: &str,
        permit: impl AsyncFn() -> Result<(), ApiError>,
        request: impl AsyncFn() -> Result<T, E>,
        before: &mut Option<BeforeRetry>,
    ) -> Result<T, ApiError> {
        let began = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            permit().await?;
            let attempt = ATTEMPT.min(self.patience.max(SHORTEST_PAUSE));
            let reason = match timeout(attempt, request()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => match error.passing() {
                    Some(reason) => reason,
                    None => return Err(error.for_good(what)),
                },
                Err(_) => format!("no answer within {} s", attempt.as_secs()),
            };
            // The first attempt is always made: a run that was asked to stop still writes its
            // position.
            let server = self.cluster.server();
            let cancelled = |cause, reason: &str| ApiError::Cancelled {
                cause,
                during: Some(format!(
                    "waiting for the API server at {server} ({what}): {reason}"
                )),
            };
            if let Some(cause) = self.cancellation.reason() {
                return Err(cancelled(cause, &reason));
            }
            if began.elapsed() >= self.patience {
                return Err(ApiError::Away {
                    server: server.to_owned(),
                    what: what.to_owned(),
                    reason,
                    seconds: began.elapsed().as_secs(),
                });
            }
            before.get_or_insert_with(|| BeforeRetry(self.waiting_for()));
            self.wait_for(format!("the API server ({what}): {reason}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                cause = self.cancellation.cancelled() => return Err(cancelled(cause, &reason)),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reports what the run waits for; the same text is not reported twice in a row.
    pub fn wait_for(&self, on: impl Into<String>) {
        let on = on.into();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.as_ref().is_some_and(|wait| wait.on == on) {
                return;
            }
            *waiting = Some(Wait {
                on: on.clone(),
                since: Instant::now(),
            });
        }
        self.reporter.emit(&Event::Waiting { on });
    }

    /// Ends the wait.
    pub fn go_on(&self) {
        self.restore(None);
    }

    /// What the run waits for, if anything.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Wait> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn restore(&self, wait: Option<Wait>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = wait;
    }
}

/// An error of a request: whether a retry may help.
pub trait Trouble {
    /// The reason, if a retry may help. That includes a webhook that cannot be called.
    fn passing(&self) -> Option<String>;
    /// The error of the run, if a retry does not help.
    fn for_good(&self, what: &str) -> ApiError;
}

impl Trouble for kube::Error {
    fn passing(&self) -> Option<String> {
        let passing = match self {
            Self::Api(status) => matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Service(_) | Self::HyperError(_) | Self::ReadEvents(_) => true,
            _ => false,
        };
        passing.then(|| match ClusterError::of(self, "ask for", "", "") {
            // The library's name for the layer does not help a user.
            ClusterError::Unreachable { reason, .. } => reason,
            // The library's text of the error contains the output of the login helper.
            login @ ClusterError::Login => login.to_string(),
            _ => error_text::chain(self),
        })
    }

    fn for_good(&self, what: &str) -> ApiError {
        let what = what.to_owned();
        match self {
            Self::Api(status) if status.code == 409 => ApiError::Conflict { what },
            Self::Api(status) if status.code == 404 => ApiError::NotFound { what },
            Self::Api(status) if status.code == 401 => ApiError::Refused {
                what,
                reason: ClusterError::Unauthorized.to_string(),
            },
            Self::Api(status) => {
                let text = if status.message.is_empty() {
                    &status.reason
                } else {
                    &status.message
                };
                ApiError::Refused {
                    what,
                    reason: text.trim().to_owned(),
                }
            }
            other => ApiError::Refused {
                reason: match ClusterError::of(other, "ask for", &what, "") {
                    ClusterError::Api { reason, .. } => reason,
                    other => other.to_string(),
                },
                what,
            },
        }
    }
}

impl Trouble for ClusterError {
    fn passing(&self) -> Option<String> {
        match self {
            Self::Unreachable { reason, .. } => Some(reason.clone()),
            _ => None,
        }
    }

    fn for_good(&self, what: &str) -> ApiError {
        let what = what.to_owned();
        match self {
            Self::NotFound(_) => ApiError::NotFound { what },
            other => ApiError::Refused {
                what,
                reason: other.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;
    use milvus_guard_sources::kubernetes::Access;

    use super::*;

    /// A client whose requests are those of the test: it never connects.
    async fn client() -> RetryingClient {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(
            &kubeconfig,
            "{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: a, cluster: \
             {server: 'http://127.0.0.1:1'}}], users: [{name: a, user: {}}], contexts: [{name: a, \
             context: {cluster: a, user: a}}]}",
        )
        .unwrap();
        let access = Access {
            kubeconfig: Some(kubeconfig),
            ..Access::default()
        };
        let cluster = Cluster::connect(&access).await.unwrap();
        RetryingClient::new(cluster, Reporter::default(), Cancellation::default())
    }

    /// A write was repeated for up to five minutes with the permit of its first attempt, although
    /// another process could have taken the lock meanwhile.
    #[tokio::test]
    async fn each_attempt_needs_a_permit() {
        let client = client().await;
        let (attempts, permits) = (Cell::new(0), Cell::new(0));
        let lost = CancelReason::LockLost { by: None };
        let permit = async || {
            permits.set(permits.get() + 1);
            if permits.get() > 2 {
                return Err(ApiError::cancelled(lost.clone()));
            }
            Ok(())
        };
        let result: Result<(), _> = client
            .call_if("a write", permit, async || {
                attempts.set(attempts.get() + 1);
                Err(api(503, "away"))
            })
            .await;
        assert_eq!(result, Err(ApiError::cancelled(lost.clone())));
        assert_eq!((attempts.get(), permits.get()), (2, 3));
    }

    /// A retry that ended with an answer, such as 404, left "the API server" as what the run waits
    /// for.
    #[tokio::test]
    async fn after_any_answer_the_run_waits_for_the_same_as_before() {
        let client = client().await;
        for answer in [Ok(()), Err(404)] {
            client.wait_for("the proxy");
            let attempts = Cell::new(0);
            let result = client
                .call("a read", async || {
                    attempts.set(attempts.get() + 1);
                    match answer {
                        _ if attempts.get() == 1 => Err(api(503, "away")),
                        Ok(()) => Ok(()),
                        Err(code) => Err(api(code, "gone")),
                    }
                })
                .await;
            assert_eq!(result.is_ok(), answer.is_ok());
            assert_eq!(
                client.waiting_for().map(|wait| wait.on).as_deref(),
                Some("the proxy")
            );
        }
    }

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, message).with_code(code).boxed())
    }

    /// The texts of the client library ("Unauthorized", "Error deserializing response",
    /// `ServiceError`) do not help a user.
    #[test]
    fn errors_of_the_client_library_have_texts_for_users() {
        assert_eq!(
            api(401, "Unauthorized").for_good("the runs").to_string(),
            "the runs: the cluster does not accept this login (401); it may have expired"
        );
        let page = serde_json::from_str::<u8>("<html>").unwrap_err();
        assert_eq!(
            kube::Error::SerdeError(page)
                .for_good("the runs")
                .to_string(),
            "the runs: the response is not a Kubernetes API response"
        );
        let refused = std::io::Error::other("connection refused");
        assert_eq!(
            kube::Error::Service(Box::new(refused)).passing().as_deref(),
            Some("connection refused")
        );
        assert_eq!(
            api(403, "no right").for_good("the runs").to_string(),
            "the runs: no right"
        );
        assert!(
            api(503, "away")
                .passing()
                .is_some_and(|text| text.contains("away"))
        );
    }

    #[test]
    fn the_output_of_a_login_helper_is_never_shown() {
        let error = kube::Error::Service(Box::new(kube::client::AuthError::AuthExec(
            "token hunter2".into(),
        )));
        let text = error.passing().unwrap();
        assert!(text.contains("credential plugin"), "{text}");
    }

    #[test]
    fn an_interruption_is_reported_with_its_cause() {
        let during = Some("waiting for the API server at https://c (the runs): refused".to_owned());
        let cancelled = ApiError::Cancelled {
            cause: CancelReason::Terminated,
            during,
        };
        assert_eq!(
            cancelled.to_string(),
            "interrupted by a signal while waiting for the API server at https://c (the runs): \
             refused"
        );
        let lost = CancelReason::LockLost {
            by: Some("other".into()),
        };
        assert_eq!(
            ApiError::cancelled(lost).to_string(),
            "the lock was lost to other"
        );
    }
}
