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
        /// Who, where that is known.
        by: Option<String>,
    },
}

/// Whether a run was asked to stop, and why; clones share it.
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
    /// Where signals cannot be listened to.
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

    /// Says so; the first reason counts, except that a lost lock outweighs a signal, because
    /// nothing may be written any more.
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

    /// Why, where there is a reason.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        self.sender.borrow().clone()
    }

    /// Waits until there is a reason.
    pub async fn cancelled(&self) -> CancelReason {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(cause) = receiver.borrow_and_update().clone() {
                return cause;
            }
            // The sender lives as long as this value.
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
    async fn a_lost_lock_outweighs_a_signal_and_not_the_other_way_round() {
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
