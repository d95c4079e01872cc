//! Talking to an API server that may be away for a while.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use tokio::time::timeout;

use milvus_guard_core::error_text;
use milvus_guard_sources::kubernetes::{Cluster, ClusterError};

use super::{CancelReason, Cancellation, Event, Reporter};

/// How long the API server may be away before a run stops. A control plane that is being upgraded
/// is away for minutes.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a command that only reads waits for the API server. With the last attempt it ends
/// within 10 s.
pub const READING: Duration = Duration::from_secs(5);
/// For one attempt. The API server itself gives webhooks and etcd less.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Between attempts: from this ...
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// ... to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The cluster, with patience, and everybody who is told what happens meanwhile. Cheap to clone.
#[derive(Clone)]
pub struct RetryingClient {
    /// The connection.
    pub cluster: Cluster,
    /// Who is told.
    pub reporter: Reporter,
    /// What ends the patience.
    pub cancellation: Cancellation,
    /// How long the API server may be away.
    pub patience: Duration,
    waiting: Arc<Mutex<Option<Wait>>>,
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For what.
    pub on: String,
    /// Since when.
    pub since: Instant,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The run must stop.
    #[error("{cause}{}", .during.as_ref().map_or_else(String::new, |during| format!(" while {during}")))]
    Cancelled {
        /// Why.
        cause: CancelReason,
        /// What was going on, where that is known: `waiting for ...`.
        during: Option<String>,
    },
    /// The API server was away for longer than we have patience.
    #[error("the API server at {server} did not respond for {seconds} s ({what}): {reason}")]
    Away {
        /// Its address.
        server: String,
        /// What was asked for.
        what: String,
        /// What the last attempt met.
        reason: String,
        /// For how long.
        seconds: u64,
    },
    /// Another client wrote first.
    #[error("{what}: another client changed it at the same time")]
    Conflict {
        /// What was asked for.
        what: String,
    },
    /// The object or its API does not exist.
    #[error("{what}: it does not exist")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The API server refuses: no right, a webhook's denial, an invalid object.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its words.
        reason: String,
    },
}

impl ApiError {
    /// The run must stop, and nothing was being waited for.
    #[must_use]
    pub const fn cancelled(cause: CancelReason) -> Self {
        Self::Cancelled {
            cause,
            during: None,
        }
    }
}

impl RetryingClient {
    /// A client with the usual patience.
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

    /// A client for a command that only reads: it gives up on a cluster that does not answer within
    /// [`READING`], and says so.
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

    /// Sends a request, again and again while the API server is away. The request must be one that
    /// may be repeated: its first attempt may have succeeded without our knowing.
    ///
    /// # Errors
    /// Where the server refuses, stays away for too long, or the run must stop.
    pub async fn call<T, E: Trouble>(
        &self,
        what: &str,
        request: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, ApiError> {
        let began = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        let mut before: Option<Option<Wait>> = None;
        loop {
            let attempt = ATTEMPT.min(self.patience.max(SHORTEST_PAUSE));
            let reason = match timeout(attempt, request()).await {
                Ok(Ok(value)) => {
                    if let Some(wait) = before {
                        self.restore(wait);
                    }
                    return Ok(value);
                }
                Ok(Err(error)) => match error.passing() {
                    Some(reason) => reason,
                    None => return Err(error.for_good(what)),
                },
                Err(_) => format!("no answer within {} s", attempt.as_secs()),
            };
            // The first attempt is always made: a run that was asked to stop still writes where it
            // stands.
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
            before.get_or_insert_with(|| self.waiting_for());
            self.wait_for(format!("the API server ({what}): {reason}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                cause = self.cancellation.cancelled() => return Err(cancelled(cause, &reason)),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says what is being waited for; the same words again are not reported.
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

    /// Waits for nothing any more.
    pub fn go_on(&self) {
        self.restore(None);
    }

    /// What is being waited for.
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

/// An answer that is none: may it help to ask again?
pub trait Trouble {
    /// Why there was no answer, where asking again may help. A webhook that cannot be called is
    /// such a case too.
    fn passing(&self) -> Option<String>;
    /// What it comes to where asking again does not help.
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
            // The client's own name for the layer does not help a reader.
            ClusterError::Unreachable { reason, .. } => reason,
            // The output of a login helper is part of the error's own text.
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
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, message).with_code(code).boxed())
    }

    /// The client's own words ("Unauthorized", "Error deserializing response", `ServiceError`)
    /// tell a person nothing.
    #[test]
    fn errors_of_the_client_are_worded_for_people() {
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
    fn the_output_of_a_login_helper_never_shows() {
        let error = kube::Error::Service(Box::new(kube::client::AuthError::AuthExec(
            "token hunter2".into(),
        )));
        let text = error.passing().unwrap();
        assert!(text.contains("credential plugin"), "{text}");
    }

    #[test]
    fn an_interruption_says_so() {
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
