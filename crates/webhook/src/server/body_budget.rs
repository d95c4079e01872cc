//! Bodies on their way in: each holds room for what it has sent, never for what it announces.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::timeout_at,
};

use milvus_guard_core::admission::review::MAX_REVIEW_BYTES;

/// Bytes of bodies that are in memory at once, all requests together.
const ROOM: usize = 24 * 1024 * 1024;
/// For a body to arrive. The API server sends it in one go.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// For room to become free.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);
/// A body that has been arriving for longer gives way when others need room.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a part of a body that comes in many frames.
const PART: usize = 64 * 1024;
/// Between two askings to give way.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Why a body was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than a review may be.
    TooLarge,
    /// It took too long to arrive.
    TooSlow,
    /// There was no room for it.
    NoRoom,
    /// It broke off.
    Broken,
}

/// Room for bodies.
pub struct BodyBudget {
    room: Semaphore,
    arriving: Mutex<Arrivals>,
}

/// Bodies on their way, the oldest first.
type Arrivals = BTreeMap<(Instant, u64), Arc<Arrival>>;

/// A body on its way.
#[derive(Default)]
struct Arrival {
    /// Whether it takes any room.
    holds: AtomicBool,
    /// Others need its room.
    gives_way: Notify,
}

/// A body that has arrived, with the room that it takes.
pub struct Taken<'a> {
    /// What was sent.
    pub bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'a>>,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl BodyBudget {
    fn with_room(bytes: usize) -> Self {
        Self {
            room: Semaphore::new(bytes),
            arriving: Mutex::default(),
        }
    }

    /// Takes a body in.
    ///
    /// # Errors
    /// Where it is too large or too slow, or where there is no room.
    pub async fn take(&self, mut body: Body) -> Result<Taken<'_>, Refusal> {
        let place = self.arrive();
        let end = tokio::time::Instant::from_std(place.key.0 + BODY_DEADLINE);
        let mut parts = Parts::default();
        let mut held: Option<SemaphorePermit<'_>> = None;
        loop {
            let frame = tokio::select! {
                frame = timeout_at(end, body.frame()) => frame.map_err(|_| Refusal::TooSlow)?,
                () = place.arrival.gives_way.notified() => return Err(Refusal::NoRoom),
            };
            let Some(frame) = frame else {
                return Ok(Taken {
                    bytes: parts.joined(),
                    _room: held,
                });
            };
            let Ok(data) = frame.map_err(|_| Refusal::Broken)?.into_data() else {
                continue;
            };
            if parts.length + data.len() > MAX_REVIEW_BYTES {
                return Err(Refusal::TooLarge);
            }
            let more = self.room(data.len(), &place).await?;
            match &mut held {
                Some(held) => held.merge(more),
                none => *none = Some(more),
            }
            place.arrival.holds.store(true, Ordering::Relaxed);
            parts.add(&data);
        }
    }

    async fn room(&self, bytes: usize, place: &Place<'_>) -> Result<SemaphorePermit<'_>, Refusal> {
        let bytes = u32::try_from(bytes).map_err(|_| Refusal::TooLarge)?;
        if let Ok(room) = self.room.try_acquire_many(bytes) {
            return Ok(room);
        }
        let end = tokio::time::Instant::now() + ROOM_DEADLINE;
        let mut room = std::pin::pin!(self.room.acquire_many(bytes));
        let mut again = tokio::time::interval(ASK_AGAIN);
        loop {
            tokio::select! {
                room = &mut room => return room.map_err(|_| Refusal::NoRoom),
                _ = again.tick() => self.ask_the_slowest(place),
                () = place.arrival.gives_way.notified() => return Err(Refusal::NoRoom),
                () = tokio::time::sleep_until(end) => return Err(Refusal::NoRoom),
            }
        }
    }

    /// Makes the body that has been arriving longest of those that hold room give way, if it has
    /// had its time.
    fn ask_the_slowest(&self, mine: &Place<'_>) {
        let mut arriving = self.lock();
        let holds = |arrival: &Arrival| arrival.holds.load(Ordering::Relaxed);
        let slowest = arriving
            .iter()
            .find(|(key, arrival)| **key != mine.key && holds(arrival))
            .map(|(key, _)| *key);
        if let Some(slowest) = slowest.filter(|(begun, _)| begun.elapsed() > PATIENCE)
            && let Some(arrival) = arriving.remove(&slowest)
        {
            arrival.gives_way.notify_one();
        }
    }

    fn arrive(&self) -> Place<'_> {
        let arrival = Arc::new(Arrival::default());
        let mut arriving = self.lock();
        let now = Instant::now();
        let number = arriving
            .last_key_value()
            .map_or(0, |((_, last), _)| last + 1);
        let key = (now, number);
        arriving.insert(key, Arc::clone(&arrival));
        Place {
            intake: self,
            key,
            arrival,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has arrived so far. One vector that grows would be copied again and again, and leave holes
/// behind.
#[derive(Default)]
struct Parts {
    all: Vec<Vec<u8>>,
    length: usize,
}

impl Parts {
    /// Copied, since the bytes of a frame keep the buffer of the whole connection.
    fn add(&mut self, data: &[u8]) {
        self.length += data.len();
        if let Some(last) = self.all.last_mut()
            && last.capacity() - last.len() >= data.len()
        {
            last.extend_from_slice(data);
            return;
        }
        // Most bodies are one frame.
        let mut part = Vec::with_capacity(if self.all.is_empty() {
            data.len()
        } else {
            data.len().max(PART)
        });
        part.extend_from_slice(data);
        self.all.push(part);
    }

    fn joined(mut self) -> Vec<u8> {
        match self.all.pop() {
            Some(only) if self.all.is_empty() => only,
            None => Vec::new(),
            Some(last) => {
                let mut whole = Vec::with_capacity(self.length);
                for part in self.all.drain(..) {
                    whole.extend_from_slice(&part);
                }
                whole.extend_from_slice(&last);
                whole
            }
        }
    }
}

/// A body's place among those that arrive.
struct Place<'a> {
    intake: &'a BodyBudget,
    key: (Instant, u64),
    arrival: Arc<Arrival>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.intake.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures::{StreamExt, stream};

    use super::*;

    const CHUNK: usize = 1000;

    /// So many chunks, and then nothing more, without an end.
    fn stalled(chunks: usize) -> Body {
        let sent = stream::iter(
            (0..chunks).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; CHUNK]))),
        );
        Body::from_stream(sent.chain(stream::pending()))
    }

    #[tokio::test]
    async fn what_is_only_announced_holds_nothing_and_what_is_slow_gives_way() {
        let intake = BodyBudget::with_room(10 * CHUNK);
        let silent =
            futures::future::select_all((0..400).map(|_| Box::pin(intake.take(stalled(0)))));
        let slow = futures::future::join_all((0..5).map(|_| intake.take(stalled(2))));
        let honest = async {
            tokio::time::sleep(PATIENCE / 5).await;
            let begun = Instant::now();
            let taken = intake
                .take(Body::from(vec![b'x'; 9 * CHUNK]))
                .await
                .map(|taken| taken.bytes.len());
            (taken, begun.elapsed())
        };
        tokio::select! {
            biased;
            _ = silent => panic!("no one asks those to go who hold nothing, before their time"),
            (slow, (honest, took)) = async { tokio::join!(slow, honest) } => {
                assert_eq!(honest, Ok(9 * CHUNK));
                assert!(took < ROOM_DEADLINE, "{took:?}");
                assert!(slow.iter().all(|refused| matches!(refused, Err(Refusal::NoRoom))));
            }
        }
        assert_eq!(intake.room.available_permits(), 10 * CHUNK);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told_in_time() {
        let intake = BodyBudget::with_room(CHUNK);
        let first = intake.take(Body::from(vec![b'x'; CHUNK])).await.unwrap();
        let begun = Instant::now();
        let second = intake
            .take(Body::from(vec![b'x'; CHUNK]))
            .await
            .map(|taken| taken.bytes.len());
        assert_eq!(
            second,
            Err(Refusal::NoRoom),
            "what has arrived is being judged, and keeps its room"
        );
        assert!(begun.elapsed() < ROOM_DEADLINE * 2);
        drop(first);
        assert!(intake.take(Body::from(vec![b'x'; CHUNK])).await.is_ok());
        assert_eq!(
            intake
                .take(Body::from(vec![0; MAX_REVIEW_BYTES + 1]))
                .await
                .map(|_| ()),
            Err(Refusal::TooLarge)
        );
        assert!(intake.lock().is_empty());
    }
}
