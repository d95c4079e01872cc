//! The lock that prevents a second run: a Lease named after the release.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{sync::Notify, task::JoinHandle};

use milvus_guard_core::{api::UpgradeRun, error_text};
use milvus_guard_sources::kubernetes::lease::{Claim, Holder, Seen, Slot};

use super::{ApiError, CancelReason, Cancellation, Home, ReleaseName, RetryingClient};

/// How long the lock is valid without renewal. After a crash, the next run waits this long.
pub const HOLDS: Duration = Duration::from_secs(15);
/// Annotation of the Lease: the run that holds it.
const NOTE: &str = "guard.milvus.io/upgrade-run";
/// Interval between two looks at a Lease that another client holds.
const LOOKS: Duration = Duration::from_millis(500);

/// The lock, held until this value is given back or its process ends.
pub struct Lock {
    slot: Slot,
    fence: i64,
    /// When it was last renewed, by our own clock.
    renewed: Arc<Mutex<Instant>>,
    again: Arc<Notify>,
    client: RetryingClient,
    renewal: JoinHandle<()>,
}

/// Why the lock could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("{}", held(.by, .since.as_ref(), .run.as_deref()))]
    Held {
        /// The holder.
        by: String,
        /// When the holder took it.
        since: Option<Timestamp>,
        /// The run of the holder.
        run: Option<String>,
    },
    /// The Lease cannot be read or written.
    #[error(transparent)]
    Api(#[from] ApiError),
}

fn held(by: &str, since: Option<&Timestamp>, run: Option<&str>) -> String {
    let run = run.map_or_else(|| "another run".to_owned(), |run| format!("run {run}"));
    let since = since.map_or_else(String::new, |since| format!(" since {since:.0}"));
    format!("{run} holds the lock of this release: {by}{since}")
}

impl Lock {
    /// Takes the lock of a release for a run, with a fence above those of all runs that are known.
    ///
    /// # Errors
    /// [`LockError::Held`] if another run holds it, [`LockError::Api`] if the API server refuses or
    /// does not answer.
    pub async fn for_run(
        client: &RetryingClient,
        home: &Home,
        of: &ReleaseName,
        run: &str,
        holds: Duration,
        known: &[UpgradeRun],
    ) -> Result<Self, LockError> {
        let floor = known
            .iter()
            .filter_map(|run| run.status.fence)
            .max()
            .map_or(0, |fence| fence + 1);
        let full_name = format!("{}/{run}", home.namespace);
        Self::take(client, home, of, &full_name, holds, floor).await
    }

    /// Takes the lock. If its holder does not renew it, waits until it expires; if its holder does,
    /// fails at once. The fence is at least `floor`: the highest fence of any run of the release,
    /// plus one.
    ///
    /// # Errors
    /// If another run holds it, or the API server refuses.
    pub async fn take(
        client: &RetryingClient,
        home: &Home,
        of: &ReleaseName,
        run: &str,
        holds: Duration,
        floor: i64,
    ) -> Result<Self, LockError> {
        let identity = identity();
        let slot = Slot::new(
            client.kube(),
            &home.namespace,
            &of.lease(),
            &identity,
            holds,
        )
        .noting(NOTE, run)
        .from(floor);
        let seen = Mutex::new(Seen::default());
        loop {
            let claim = client
                .call(
                    &format!("Lease {}/{}", home.namespace, of.lease()),
                    async || {
                        let mut now = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        let claim = slot.attempt(&mut now).await;
                        *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
                        claim
                    },
                )
                .await?;
            match claim {
                Claim::Mine { transitions } => {
                    client.go_on();
                    return Ok(Self::keep(slot, transitions, client.clone()));
                }
                Claim::Theirs(holder) if holder.renewed => {
                    let Holder {
                        identity: by,
                        since,
                        note: run,
                        ..
                    } = holder;
                    return Err(LockError::Held { by, since, run });
                }
                Claim::Theirs(holder) => {
                    client.wait_for(format!(
                        "the lock held by {}: to see whether it is renewed",
                        holder.identity
                    ));
                    tokio::select! {
                        () = tokio::time::sleep(LOOKS.min(holder.left)) => {}
                        cause = client.cancellation.cancelled() => return Err(ApiError::cancelled(cause).into()),
                    }
                }
                Claim::Contended => {}
            }
        }
    }

    fn keep(slot: Slot, fence: i64, client: RetryingClient) -> Self {
        let renewed = Arc::new(Mutex::new(Instant::now()));
        let again = Arc::new(Notify::new());
        let task = renew(
            slot.clone(),
            fence,
            Arc::clone(&renewed),
            Arc::clone(&again),
            client.cancellation.clone(),
        );
        Self {
            slot,
            fence,
            renewed,
            again,
            client,
            renewal: tokio::spawn(task),
        }
    }

    /// Grows with every holder, so that an earlier holder cannot overwrite what a later one wrote.
    #[must_use]
    pub const fn fence(&self) -> i64 {
        self.fence
    }

    /// The identity of the holder: this process.
    #[must_use]
    pub fn holder(&self) -> &str {
        self.slot.identity()
    }

    /// Waits until this process certainly holds the lock. Await it before each write: while the API
    /// server was unavailable, another client may have taken the lock.
    ///
    /// # Errors
    /// If the run must stop, or the API server stays unavailable.
    pub async fn permit(&self) -> Result<(), ApiError> {
        let began = Instant::now();
        loop {
            if let Some(cause) = self.client.cancellation.reason() {
                return Err(ApiError::cancelled(cause));
            }
            let age = self
                .renewed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed();
            // The remaining third is a margin for the write itself.
            if age < self.slot.holds() * 2 / 3 {
                return Ok(());
            }
            if began.elapsed() > self.client.patience {
                let reason = "the lock could not be renewed".to_owned();
                return Err(ApiError::Away {
                    server: self.client.cluster.server().to_owned(),
                    what: "the lock".into(),
                    reason,
                    seconds: began.elapsed().as_secs(),
                });
            }
            self.client
                .wait_for("the lock to be renewed: the API server does not respond");
            tokio::select! {
                () = self.again.notified() => {}
                () = tokio::time::sleep(LOOKS) => {}
                cause = self.client.cancellation.cancelled() => return Err(ApiError::cancelled(cause)),
            }
        }
    }

    /// Gives the lock back, so that the next client need not wait until it expires.
    pub async fn give_back(self) {
        self.renewal.abort();
        // If this fails, the next client waits until the lock expires.
        let _ = tokio::time::timeout(self.slot.holds(), self.slot.give_back()).await;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(
    slot: Slot,
    fence: i64,
    last: Arc<Mutex<Instant>>,
    again: Arc<Notify>,
    cancellation: Cancellation,
) {
    let every = slot.holds() / 3;
    let mut seen = Seen::default();
    loop {
        let before = Instant::now();
        match tokio::time::timeout(every, slot.attempt(&mut seen)).await {
            Ok(Ok(Claim::Mine { transitions })) if transitions == fence => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = before;
                again.notify_waiters();
            }
            // The Lease was deleted and created again: someone broke the lock.
            Ok(Ok(Claim::Mine { .. })) => {
                return cancellation.cancel(CancelReason::LockLost { by: None });
            }
            Ok(Ok(Claim::Theirs(holder))) => {
                return cancellation.cancel(CancelReason::LockLost {
                    by: Some(holder.identity),
                });
            }
            Ok(Ok(Claim::Contended)) => continue,
            Ok(Err(error)) => tracing::debug!(
                reason = error_text::chain(&error),
                "the lock could not be renewed"
            ),
            Err(_) => {}
        }
        tokio::time::sleep(every).await;
    }
}

/// A unique identity of this process: a restarted process must not take the lock of its predecessor
/// for its own.
fn identity() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into());
    let started = Timestamp::now().as_millisecond();
    format!("{host}_{}_{started:x}", std::process::id())
}
