//! Readings of the cluster that many reviews share, so that a flood of reviews does not become a
//! flood of requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use milvus_guard_sources::kubernetes::ClusterError;

/// Keys of [`Readings`] that are remembered. Those in use come on top.
const MAX_KEYS: usize = 256;

/// How old a reading may be for anyone who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It begins after the question.
    None,
    /// It began at most so long before the question.
    Within(Duration),
}

/// Why the cluster did not answer. Everybody who shares a reading gets it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The time for the review was over first.
    #[error("the API server did not respond in time")]
    Late,
    /// This server ends.
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

/// One thing that is read: one reading at a time, and a pause between the begins of two.
pub struct Reading<T> {
    /// The last one, with its begin. Anyone who holds this reads; the others wait, and share what
    /// begins after they came.
    last: tokio::sync::Mutex<Option<(Instant, Option<Outcome<T>>)>>,
    every: Duration,
}

impl<T> Reading<T> {
    /// One that begins at most once in this time.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            last: tokio::sync::Mutex::new(None),
            every,
        }
    }

    /// What is read now, or what was read recently enough.
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
        // Where the asker goes away meanwhile, the next one in the row reads, after the same pause.
        *last = Some((begun, None));
        let outcome = read.await.map(Arc::new);
        *last = Some((begun, Some(outcome.clone())));
        outcome
    }

    /// Forgets what was read, not when.
    fn forget(&self) {
        if let Ok(mut last) = self.last.try_lock()
            && let Some((_, known)) = &mut *last
        {
            *known = None;
        }
    }
}

/// Readings of many things of one sort.
pub struct Readings<T> {
    all: Mutex<HashMap<String, Arc<Reading<T>>>>,
    every: Duration,
    /// Readings in progress at the same time, of any kind.
    turns: tokio::sync::Semaphore,
}

impl<T> Readings<T> {
    /// Those of which each begins at most once in this time, and so many are in progress at once.
    #[must_use]
    pub fn new(every: Duration, at_once: usize) -> Self {
        Self {
            all: Mutex::default(),
            every,
            turns: tokio::sync::Semaphore::new(at_once),
        }
    }

    /// What is read now about a key, shared by all who asked before it began.
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
        // The map's and this one: no one waits for what was read, and it may be large.
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

    /// Counts begins, takes a while, and says the how-manieth it was.
    async fn slow(count: &AtomicUsize) -> Result<usize, Unanswered> {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(LONG).await;
        Ok(number)
    }

    #[tokio::test]
    async fn all_who_came_before_it_began_share_a_reading() {
        let count = AtomicUsize::new(0);
        let reading = Reading::new(EVERY);
        let ask = async || *reading.get(Age::None, slow(&count)).await.unwrap();
        let first = ask();
        // These come while the first is in progress: what it sees may be older than what they ask
        // about.
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
    async fn readings_begin_no_more_often_than_said() {
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
        assert_eq!(again, 4, "young enough");
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_no_gap_and_an_error_is_shared_too() {
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
    async fn a_flood_over_many_keys_is_bounded_in_number_and_in_what_is_kept() {
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
