//! Readiness and shutdown.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// What must hold before the server accepts reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Every kind of object has been read once.
    Caches,
    /// Policies and exceptions are compiled.
    Policies,
    /// A certificate is served, and it is valid.
    Certificate,
    /// The server's own port answers.
    Port,
    /// Runs can see this replica.
    ReplicaLease,
    /// The state of the cluster is current: the secret path was read recently, and every kind is
    /// watched.
    Cluster,
}

impl Condition {
    const fn name(self) -> &'static str {
        match self {
            Self::Caches => "caches filled",
            Self::Policies => "policies compiled",
            Self::Certificate => "certificate valid",
            Self::Port => "TLS port answers",
            Self::ReplicaLease => "Lease written",
            Self::Cluster => "cluster answers",
        }
    }
}

type Conditions = BTreeMap<Condition, Result<(), String>>;

/// Whether the server is ready, and whether it shuts down.
pub struct Lifecycle {
    conditions: Mutex<Conditions>,
    draining: AtomicBool,
    stop: watch::Sender<bool>,
}

impl Lifecycle {
    /// A server for which none of these conditions holds yet.
    #[must_use]
    pub fn new(conditions: &[Condition]) -> Self {
        let waiting = conditions
            .iter()
            .map(|condition| (*condition, Err("not yet".to_owned())))
            .collect();
        Self {
            conditions: Mutex::new(waiting),
            draining: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        }
    }

    /// Records that a condition holds, or why not.
    pub fn set(&self, condition: Condition, state: Result<(), String>) {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = conditions.get_mut(&condition)
            && *known != state
        {
            match &state {
                Ok(()) => tracing::info!(condition = condition.name(), "ready"),
                Err(reason) => tracing::warn!(condition = condition.name(), reason, "not ready"),
            }
            *known = state;
        }
    }

    /// Each condition as text, and whether all of them hold.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (condition, state) in conditions.iter() {
            match state {
                Ok(()) => text.push_str(&format!("[+] {}\n", condition.name())),
                Err(reason) => {
                    text.push_str(&format!("[-] {}: {reason}\n", condition.name()));
                }
            }
        }
        if self.is_draining() {
            text.push_str("[-] shutting down\n");
        }
        (self.are_ready(&conditions), text)
    }

    /// Whether all of them hold, and the server does not shut down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.are_ready(
            &self
                .conditions
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn are_ready(&self, conditions: &Conditions) -> bool {
        !self.is_draining() && conditions.values().all(Result::is_ok)
    }

    /// Whether the server will soon accept no new connections.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins the shutdown: the server keeps serving, but tells every client to close.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Stops to accept connections.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns when [`Self::stop`] was called.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender exists as long as `self`.
        let _ = stop.wait_for(|stopped| *stopped).await;
    }
}

/// Waits for SIGTERM or SIGINT, then drains: reports not ready, keeps serving while endpoints
/// remove this pod, stops.
pub async fn until_told(life: &Lifecycle, delay: Duration) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!(
        seconds = delay.as_secs(),
        "shutting down: no longer ready, still serving"
    );
    life.drain();
    tokio::time::sleep(delay).await;
    life.stop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_server_is_ready_if_all_conditions_hold_and_it_does_not_drain() {
        let life = Lifecycle::new(&[Condition::Caches, Condition::Certificate]);
        assert!(!life.report().0);
        life.set(Condition::Caches, Ok(()));
        life.set(Condition::Port, Ok(()));
        life.set(Condition::Certificate, Err("it expired".into()));
        assert_eq!(
            life.report(),
            (
                false,
                "[+] caches filled\n[-] certificate valid: it expired\n".into()
            )
        );
        assert!(!life.is_ready());
        life.set(Condition::Certificate, Ok(()));
        assert!(life.report().0 && life.is_ready());
        life.drain();
        assert!(!life.report().0 && life.is_draining());
        life.stop();
        life.stopped().await;
    }
}
