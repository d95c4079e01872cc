//! Readings of the cluster that many reviews share, so that a flood of reviews does not become a
//! flood of requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use milvus_guard_sources::kubernetes::ClusterError;

/// Most keys of [`Readings`] that are kept, in addition to those in use.
const MAX_KEYS: usize = 256;

/// How old a reading may be for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It begins after the call.
    None,
    /// It began at most this long before the call.
    Within(Duration),
}

/// Why the cluster did not answer. All callers that share a reading get it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The deadline of the review came first.
    #[error("the API server did not respond in time")]
    Late,
    /// This server shuts down.
    #[error("going down")]
    GoingDown,
    /// The request failed, with the reason.
    #[error("{0}")]
    Failed(String),
}

impl From<ClusterError> for Unanswered {
    fn from(error: ClusterError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A reading, or why there is none.
type Outcome<T> = Result<Arc<T>, Unanswered>;

/// One shared reading: only one is in progress at a time, with a pause between two begins.
pub struct Reading<T> {
    /// The last reading, with its begin. The caller that holds the lock reads; the others wait, and
    /// share a reading that began after their call.
    last: tokio::sync::Mutex<Option<(Instant, Option<Outcome<T>>)>>,
    every: Duration,
}

impl<T> Reading<T> {
    /// A reading that begins at most once in this time.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            last: tokio::sync::Mutex::new(None),
            every,
        }
    }

    /// A new reading, or the last one if it is recent enough.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn get(
        &self,
        age: Age,
        read: impl Future<Output = Result<T, Unanswered>>,
    ) -> Outcome<T> {
        let mut oldest = Some(Instant::now());
        if let Age::Within(age) = age {
            oldest = oldest.and_then(|now| now.checked_sub(age));
        }
        let mut last = self.last.lock().await;
        if let Some((begun, Some(known))) = &*last
            && oldest.is_none_or(|oldest| *begun >= oldest)
        {
            return known.clone();
        }
        if let Some((begun, _)) = &*last {
            tokio::time::sleep_until((*begun + self.every).into()).await;
        }
        let begun = Instant::now();
        // If this caller is cancelled, the next waiting one reads, after the same pause.
        *last = Some((begun, None));
        let outcome = read.await.map(Arc::new);
        *last = Some((begun, Some(outcome.clone())));
        outcome
    }

    /// Drops the last reading, but keeps its begin.
    fn forget(&self) {
        if let Ok(mut last) = self.last.try_lock()
            && let Some((_, known)) = &mut *last
        {
            *known = None;
        }
    }
}

/// Shared readings by key.
pub struct Readings<T> {
    all: Mutex<HashMap<String, Arc<Reading<T>>>>,
    every: Duration,
    /// Limit for readings in progress at the same time, of all keys.
    turns: tokio::sync::Semaphore,
}

impl<T> Readings<T> {
    /// Readings that begin at most once in `every` for each key, `at_once` at the same time.
    #[must_use]
    pub fn new(every: Duration, at_once: usize) -> Self {
        Self {
            all: Mutex::default(),
            every,
            turns: tokio::sync::Semaphore::new(at_once),
        }
    }

    /// A new reading of a key, shared by all callers that asked before it began.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn get(
        &self,
        key: &str,
        read: impl Future<Output = Result<T, Unanswered>>,
    ) -> Outcome<T> {
        let reading = self.reading(key);
        let outcome = reading
            .get(Age::None, async {
                let _turn = self
                    .turns
                    .acquire()
                    .await
                    .map_err(|_| Unanswered::GoingDown)?;
                read.await
            })
            .await;
        // Only the map and this call hold it: no other caller waits, and it may be large.
        if Arc::strong_count(&reading) <= 2 {
            reading.forget();
        }
        outcome
    }

    fn reading(&self, key: &str) -> Arc<Reading<T>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(key) {
            return Arc::clone(known);
        }
        if all.len() >= MAX_KEYS {
            all.retain(|_, reading| Arc::strong_count(reading) > 1);
        }
        let new = Arc::new(Reading::new(self.every));
        all.insert(key.to_owned(), Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const EVERY: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_millis(30);

    /// A slow reading that counts begins, and returns its own number.
    async fn slow(count: &AtomicUsize) -> Result<usize, Unanswered> {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(LONG).await;
        Ok(number)
    }

    #[tokio::test]
    async fn callers_from_before_its_begin_share_a_reading() {
        let count = AtomicUsize::new(0);
        let reading = Reading::new(EVERY);
        let ask = async || *reading.get(Age::None, slow(&count)).await.unwrap();
        let first = ask();
        // These calls come while the first reading is in progress: its data may be older than the
        // calls.
        let others = async {
            tokio::time::sleep(LONG / 3).await;
            futures::future::join_all((0..500).map(|_| ask())).await
        };
        let (first, others) = tokio::join!(first, others);
        assert_eq!(first, 1);
        assert!(others.iter().all(|seen| *seen == 2), "{others:?}");
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn readings_have_the_minimum_pause_between_their_begins() {
        let count = AtomicUsize::new(0);
        let reading = Reading::new(EVERY);
        let begun = Instant::now();
        for number in 1..=4 {
            assert_eq!(*reading.get(Age::None, slow(&count)).await.unwrap(), number);
        }
        assert!(begun.elapsed() >= EVERY * 3, "{:?}", begun.elapsed());
        let again = *reading
            .get(Age::Within(Duration::from_secs(60)), slow(&count))
            .await
            .unwrap();
        assert_eq!(again, 4, "the last reading is recent enough");
    }

    #[tokio::test]
    async fn after_a_cancelled_caller_the_next_one_reads_and_errors_are_shared() {
        let count = AtomicUsize::new(0);
        let reading = Arc::new(Reading::new(EVERY));
        let gone = tokio::time::timeout(LONG / 3, reading.get(Age::None, slow(&count))).await;
        assert!(gone.is_err());
        assert_eq!(*reading.get(Age::None, slow(&count)).await.unwrap(), 2);
        let failing = || {
            reading.get(Age::None, async {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(LONG).await;
                Err(Unanswered::Failed("no".to_owned()))
            })
        };
        let both = tokio::join!(failing(), failing());
        let failed = Unanswered::Failed("no".to_owned());
        assert_eq!(both, (Err(failed.clone()), Err(failed)));
    }

    #[tokio::test]
    async fn readings_of_many_keys_are_limited_in_number_and_in_memory() {
        let (count, now, most) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let readings = Readings::new(EVERY, 4);
        let ask = async |key: usize| {
            let read = async {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let seen = slow(&count).await;
                now.fetch_sub(1, Ordering::SeqCst);
                seen
            };
            readings.get(&format!("team-{key}"), read).await.unwrap()
        };
        futures::future::join_all((0..600).map(|number| ask(number % 30))).await;
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert!(count.load(Ordering::SeqCst) <= 60, "{count:?}");
        futures::future::join_all((100..100 + 2 * MAX_KEYS).map(&ask)).await;
        ask(0).await;
        let all = readings.all.lock().unwrap();
        assert!(all.len() <= MAX_KEYS + 1, "{}", all.len());
        assert!(all.values().all(|reading| {
            reading
                .last
                .try_lock()
                .unwrap()
                .as_ref()
                .is_none_or(|(_, known)| known.is_none())
        }));
    }
}
