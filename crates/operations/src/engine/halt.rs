//! Why a run must stop now.

use tokio::sync::watch;

/// Why a run must stop now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The process was asked to end (SIGTERM, SIGINT).
    Terminated,
    /// Another client holds the lock, or took it away.
    LockLost {
        /// Who, where that is known.
        by: Option<String>,
    },
}

/// Hears of a halt; cheap to clone.
#[derive(Clone, Debug)]
pub struct Halting {
    sender: watch::Sender<Option<Halt>>,
}

impl Default for Halting {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(None),
        }
    }
}

impl Halting {
    /// A token that SIGTERM and SIGINT trigger.
    ///
    /// # Errors
    /// Where signals cannot be listened to.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let halting = Self::default();
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let told = halting.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            told.halt(Halt::Terminated);
        });
        Ok(halting)
    }

    /// Says so; the first reason counts, except that a lost lock outweighs a signal, because
    /// nothing may be written any more.
    pub fn halt(&self, why: Halt) {
        self.sender.send_if_modified(|current| {
            let outweighs = match (&*current, &why) {
                (None, _) | (Some(Halt::Terminated), Halt::LockLost { .. }) => true,
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
    pub fn reason(&self) -> Option<Halt> {
        self.sender.borrow().clone()
    }

    /// Waits until there is a reason.
    pub async fn halted(&self) -> Halt {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(halt) = receiver.borrow_and_update().clone() {
                return halt;
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
        let halting = Halting::default();
        assert_eq!(halting.reason(), None);
        halting.halt(Halt::Terminated);
        assert_eq!(halting.halted().await, Halt::Terminated);
        let lost = Halt::LockLost {
            by: Some("other".into()),
        };
        halting.halt(lost.clone());
        halting.halt(Halt::Terminated);
        assert_eq!(halting.halted().await, lost);
    }
}
