//! Why a run must stop now.

use tokio::sync::watch;

/// Why a run must stop now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelReason {
    /// The process was asked to end (SIGTERM, SIGINT).
    #[error("interrupted by a signal")]
    Terminated,
    /// Another client holds the lock, or took it away.
    #[error("the lock was lost{}", .by.as_ref().map_or_else(String::new, |by| format!(" to {by}")))]
    LockLost {
        /// The other client, if known.
        by: Option<String>,
    },
}

/// The request that a run stop, with its reason; clones share it.
#[derive(Clone, Debug)]
pub struct Cancellation {
    sender: watch::Sender<Option<CancelReason>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(None),
        }
    }
}

impl Cancellation {
    /// A token that SIGTERM and SIGINT trigger.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let cancellation = Self::default();
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let told = cancellation.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            told.cancel(CancelReason::Terminated);
        });
        Ok(cancellation)
    }

    /// Requests the stop. The first reason is kept, but a lost lock replaces a signal, because
    /// nothing may be written after it.
    pub fn cancel(&self, why: CancelReason) {
        self.sender.send_if_modified(|current| {
            let outweighs = match (&*current, &why) {
                (None, _) | (Some(CancelReason::Terminated), CancelReason::LockLost { .. }) => true,
                (Some(_), _) => false,
            };
            if outweighs {
                *current = Some(why);
            }
            outweighs
        });
    }

    /// The reason, if a stop was requested.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        self.sender.borrow().clone()
    }

    /// Waits until a stop is requested.
    pub async fn cancelled(&self) -> CancelReason {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(cause) = receiver.borrow_and_update().clone() {
                return cause;
            }
            // Cannot happen: the sender exists as long as this value.
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_lock_replaces_a_signal_but_a_signal_does_not_replace_a_lost_lock() {
        let cancellation = Cancellation::default();
        assert_eq!(cancellation.reason(), None);
        cancellation.cancel(CancelReason::Terminated);
        assert_eq!(cancellation.cancelled().await, CancelReason::Terminated);
        let lost = CancelReason::LockLost {
            by: Some("other".into()),
        };
        cancellation.cancel(lost.clone());
        cancellation.cancel(CancelReason::Terminated);
        assert_eq!(cancellation.cancelled().await, lost);
    }
}
