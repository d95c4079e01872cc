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

/// What must be so before the server takes reviews.
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
    /// What is known of the cluster is current: the secret path was read a moment ago, and every
    /// kind is watched.
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

/// Whether the server is ready, and whether it is going down.
pub struct Lifecycle {
    conditions: Mutex<Conditions>,
    draining: AtomicBool,
    stop: watch::Sender<bool>,
}

impl Lifecycle {
    /// Nothing is so yet.
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

    /// Notes that a condition holds, or why not.
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

    /// Whether all of them hold, and the server does not go down.
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

    /// Whether the server takes no new connections soon.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says that the server goes down; it keeps serving, but tells every client to close.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends the accepting of connections.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns when [`Self::stop`] was called.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as this.
        let _ = stop.wait_for(|stopped| *stopped).await;
    }
}

/// Waits for SIGTERM or SIGINT, then lets clients go: not ready, keep serving while endpoints
/// forget this pod, stop.
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
    async fn ready_is_when_all_is_so_and_nobody_said_stop() {
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
