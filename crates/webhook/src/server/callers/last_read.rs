//! When the Secret was last read, and how old this reading may be.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::tokens::Times;

/// Longest time between two readings of the Secret.
pub(super) const POLL: Duration = Duration::from_secs(10);
/// The same after a failed reading.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// When the Secret was last read; clones share it.
#[derive(Clone)]
pub struct LastRead {
    at: Arc<Mutex<Instant>>,
    limit: Duration,
}

/// The secrets of the path were read too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret path was not read for {seconds} s")]
pub struct Stale {
    /// Age of the reading in seconds.
    pub seconds: u64,
}

impl LastRead {
    fn now(limit: Duration) -> Self {
        Self {
            at: Arc::new(Mutex::new(Instant::now())),
            limit,
        }
    }

    pub(super) fn note(&self, at: Instant) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Checks that every secret that may be registered now was read. A replica that also has an
    /// unwatched kind has less time: it can only judge by old data.
    ///
    /// # Errors
    /// If the last reading is so old that another secret may be registered soon.
    pub fn check(&self, is_unwatched: bool) -> Result<(), Stale> {
        let age = self
            .at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        let limit = if is_unwatched {
            self.limit.min(POLL + POLL / 2)
        } else {
            self.limit
        };
        let seconds = age.as_secs();
        if age < limit {
            Ok(())
        } else {
            Err(Stale { seconds })
        }
    }
}

impl Times {
    /// Age limit of the last reading of the Secret. A secret is registered once it has settled:
    /// the other half of that time is for kubelets and the Service to remove a replica that does
    /// not know it.
    #[must_use]
    fn stale(&self) -> Duration {
        Duration::try_from(self.settle / 2)
            .unwrap_or_default()
            .max(RETRY)
    }

    /// Records a reading that began now.
    #[must_use]
    pub fn read_now(&self) -> LastRead {
        LastRead::now(self.stale())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::{super::testing::TIMES, *};

    #[test]
    fn a_stale_reading_is_reported_before_another_secret_can_be_registered() {
        assert!(TIMES.stale() < Duration::try_from(TIMES.settle).unwrap());
        let last = TIMES.read_now();
        assert_eq!(last.check(true), Ok(()));
        last.note(Instant::now().checked_sub(TIMES.stale() / 2).unwrap());
        assert_eq!(last.check(false), Ok(()));
        assert_eq!(last.check(true), Err(Stale { seconds: 15 }));
        last.note(Instant::now().checked_sub(TIMES.stale()).unwrap());
        assert_eq!(last.check(false), Err(Stale { seconds: 30 }));
        assert!(
            Times {
                settle: SignedDuration::ZERO,
                ..TIMES
            }
            .stale()
                >= RETRY,
            "a replica can become ready"
        );
    }
}
