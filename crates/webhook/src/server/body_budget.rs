//! Memory for incoming bodies: each takes memory for the received bytes, not for its length.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use milvus_guard_core::admission::review::MAX_REVIEW_BYTES;

/// Most bytes of bodies in memory at the same time, for all requests together.
const ROOM: usize = 24 * 1024 * 1024;
/// Limit for a body to arrive. The API server sends it without pauses.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Limit to wait for free memory.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);
/// Waiting time for a sender, in total, after which its body gives way if others need memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a buffer for a body with many frames.
const PART: usize = 64 * 1024;
/// Pause before other bodies are asked again to give way.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Why a body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than a review may be.
    TooLarge,
    /// It took too long to arrive.
    TooSlow,
    /// There was no memory for it.
    NoRoom,
    /// The connection ended before its end.
    Broken,
}

/// The memory for bodies.
pub struct BodyBudget {
    room: Semaphore,
    arriving: Mutex<Arrivals>,
}

/// Bodies that are arriving.
#[derive(Default)]
struct Arrivals {
    bodies: BTreeMap<u64, Arrival>,
    /// The number of the next body.
    next: u64,
}

/// A body that is arriving.
struct Arrival {
    /// Bytes of memory that it takes.
    holds: usize,
    /// Bytes of memory that it waits for.
    needs: usize,
    /// How long its sender kept the server waiting so far. Time in which the body waits for memory
    /// does not count.
    late: Duration,
    /// Since when the server waits for its sender; `None` while the body waits for memory.
    waiting_since: Option<Instant>,
    /// Tells it to give way, because other bodies need its memory.
    gives_way: Arc<Notify>,
    /// Whether it was told to give way, so that its memory is about to become free.
    asked: bool,
}

impl Arrival {
    fn late_at(&self, now: Instant) -> Duration {
        let current = self
            .waiting_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.late + current
    }
}

impl Arrivals {
    /// Tells bodies to give way until enough memory becomes free for the waiting ones.
    fn make_room_for(&mut self, asking: u64, now: Instant) {
        let sum = |asked, bytes: fn(&Arrival) -> usize| -> usize {
            let bodies = self.bodies.values().filter(|body| body.asked == asked);
            bodies.map(bytes).sum()
        };
        let needed = sum(false, |body| body.needs);
        let mut leaving = sum(true, |body| body.holds);
        while leaving < needed {
            let number = self.latest(asking, now);
            // No sender is slow, but too many bodies wait for memory. Drop one at a time.
            let number = number.or_else(|| self.largest_waiting(asking).filter(|_| leaving == 0));
            let Some(body) = number.and_then(|number| self.bodies.get_mut(&number)) else {
                return;
            };
            body.asked = true;
            body.gives_way.notify_one();
            leaving += body.holds;
        }
    }

    fn others(&self, asking: u64) -> impl Iterator<Item = (u64, &Arrival)> {
        let bodies = self.bodies.iter().map(|(number, body)| (*number, body));
        bodies.filter(move |(number, body)| *number != asking && body.holds > 0 && !body.asked)
    }

    /// The body whose sender kept the server waiting longest, if longer than [`PATIENCE`].
    fn latest(&self, asking: u64, now: Instant) -> Option<u64> {
        self.others(asking)
            .filter(|(_, body)| body.waiting_since.is_some() && body.late_at(now) > PATIENCE)
            .max_by_key(|(_, body)| body.late_at(now))
            .map(|(number, _)| number)
    }

    /// The largest body, if all wait for memory and it is larger than the asking one. Of bodies of
    /// one size the newest counts as the largest: otherwise all of them would wait until their
    /// deadlines, which end at the same time.
    fn largest_waiting(&self, asking: u64) -> Option<u64> {
        let mine = self.bodies.get(&asking).map_or(0, |body| body.holds);
        let all_wait = self
            .others(asking)
            .all(|(_, body)| body.waiting_since.is_none());
        self.others(asking)
            .map(|(number, body)| (body.holds, number))
            .max()
            .filter(|largest| all_wait && *largest > (mine, asking))
            .map(|(_, number)| number)
    }
}

/// A body that has arrived, with its reserved memory.
pub struct Taken<'a> {
    /// The body.
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

    /// Receives a body.
    ///
    /// # Errors
    /// If it is too large or too slow, or if there is no memory for it.
    pub async fn take(&self, mut body: Body) -> Result<Taken<'_>, Refusal> {
        let place = self.arrive();
        let end = Instant::now() + BODY_DEADLINE;
        let mut parts = Parts::default();
        let mut held: Option<SemaphorePermit<'_>> = None;
        loop {
            let frame = tokio::select! {
                frame = timeout_at(end, body.frame()) => frame.map_err(|_| Refusal::TooSlow)?,
                () = place.gives_way.notified() => return Err(Refusal::NoRoom),
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
            parts.add(&data);
            place.holds(parts.length);
        }
    }

    async fn room(
        &self,
        bytes: usize,
        place: &ArrivalGuard<'_>,
    ) -> Result<SemaphorePermit<'_>, Refusal> {
        let permits = u32::try_from(bytes).map_err(|_| Refusal::TooLarge)?;
        if let Ok(room) = self.room.try_acquire_many(permits) {
            return Ok(room);
        }
        place.waits_for_room(bytes);
        let end = Instant::now() + ROOM_DEADLINE;
        let mut room = std::pin::pin!(self.room.acquire_many(permits));
        let mut again = tokio::time::interval(ASK_AGAIN);
        loop {
            tokio::select! {
                room = &mut room => return room.map_err(|_| Refusal::NoRoom),
                _ = again.tick() => self.lock().make_room_for(place.number, Instant::now()),
                () = place.gives_way.notified() => return Err(Refusal::NoRoom),
                () = tokio::time::sleep_until(end) => return Err(Refusal::NoRoom),
            }
        }
    }

    fn arrive(&self) -> ArrivalGuard<'_> {
        let gives_way = Arc::new(Notify::new());
        let mut arriving = self.lock();
        let number = arriving.next;
        arriving.next += 1;
        let body = Arrival {
            holds: 0,
            needs: 0,
            late: Duration::ZERO,
            waiting_since: Some(Instant::now()),
            gives_way: Arc::clone(&gives_way),
            asked: false,
        };
        arriving.bodies.insert(number, body);
        ArrivalGuard {
            budget: self,
            number,
            gives_way,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts that have arrived so far. A single growing vector would be copied repeatedly and
/// fragment the memory.
#[derive(Default)]
struct Parts {
    all: Vec<Vec<u8>>,
    length: usize,
}

impl Parts {
    /// Copies the bytes: those of a frame keep the buffer of the whole connection in memory.
    fn add(&mut self, data: &[u8]) {
        self.length += data.len();
        if let Some(last) = self.all.last_mut()
            && last.capacity() - last.len() >= data.len()
        {
            last.extend_from_slice(data);
            return;
        }
        // Most bodies have only one frame.
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

/// The entry of a body among the arriving ones; removed on drop.
struct ArrivalGuard<'a> {
    budget: &'a BodyBudget,
    number: u64,
    gives_way: Arc<Notify>,
}

impl ArrivalGuard<'_> {
    /// Records that the body holds this many bytes, and that the server waits for its sender.
    fn holds(&self, bytes: usize) {
        self.change(|body, now| {
            body.holds = bytes;
            body.needs = 0;
            body.late = body.late_at(now);
            body.waiting_since = Some(now);
        });
    }

    fn waits_for_room(&self, bytes: usize) {
        self.change(|body, now| {
            body.needs = bytes;
            body.late = body.late_at(now);
            body.waiting_since = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Arrival, Instant)) {
        if let Some(body) = self.budget.lock().bodies.get_mut(&self.number) {
            change(body, Instant::now());
        }
    }
}

impl Drop for ArrivalGuard<'_> {
    fn drop(&mut self) {
        self.budget.lock().bodies.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures::{StreamExt, stream};

    use super::*;

    // Time is paused in these tests: it advances when every body waits, also on a slow machine.
    const CHUNK: usize = 1000;

    /// A body that sends `chunks` chunks and then stalls.
    fn stalled(chunks: usize) -> Body {
        let sent = stream::iter(
            (0..chunks).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; CHUNK]))),
        );
        Body::from_stream(sent.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn announced_bytes_take_no_memory_and_slow_bodies_give_way() {
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
            _ = silent => panic!("a body without memory was dropped before its deadline"),
            (slow, (honest, took)) = async { tokio::join!(slow, honest) } => {
                assert_eq!(honest, Ok(9 * CHUNK));
                assert!(took < ROOM_DEADLINE, "{took:?}");
                assert!(slow.iter().all(|refused| matches!(refused, Err(Refusal::NoRoom))));
            }
        }
        assert_eq!(intake.room.available_permits(), 10 * CHUNK);
    }

    /// A body that sends one chunk, and the rest after 0.2 s, when others have taken the memory.
    fn in_two_parts(chunks: usize) -> Body {
        let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; CHUNK])) });
        let rest = stream::once(async move {
            tokio::time::sleep(PATIENCE / 5).await;
            Ok(Bytes::from(vec![b'x'; (chunks - 1) * CHUNK]))
        });
        Body::from_stream(first.chain(rest))
    }

    /// A body that sends one frame after this time and then stalls.
    fn stalled_after(time: Duration, bytes: usize) -> Body {
        let frame = stream::once(async move {
            tokio::time::sleep(time).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]))
        });
        Body::from_stream(frame.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_with_a_fast_sender_is_not_told_to_give_way() {
        let intake = BodyBudget::with_room(10 * CHUNK);
        // It is the oldest body. It waits for memory, and many others ask for memory after it.
        let honest = intake.take(in_two_parts(4));
        let before = (0..4).map(|_| stalled_after(Duration::ZERO, 3 * CHUNK));
        let after = (0..36).map(|_| stalled_after(PATIENCE / 2, 3 * CHUNK));
        let slow = futures::future::join_all(before.chain(after).map(|body| intake.take(body)));
        tokio::select! {
            honest = honest => assert_eq!(honest.map(|taken| taken.bytes.len()), Ok(4 * CHUNK)),
            slow = slow => panic!("{} slow bodies ended first", slow.len()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn some_of_many_large_waiting_bodies_arrive_in_time() {
        let intake = BodyBudget::with_room(10 * CHUNK);
        let bodies = (0..6).map(|_| intake.take(in_two_parts(6)));
        let arrived = futures::future::join_all(bodies.map(async |body| {
            let taken = body.await.map(|taken| taken.bytes.len());
            taken == Ok(6 * CHUNK)
        }));
        let begun = Instant::now();
        let arrived = arrived.await;
        assert!(arrived.iter().any(|arrived| *arrived), "{arrived:?}");
        assert!(begun.elapsed() < ROOM_DEADLINE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_memory_is_refused_before_the_deadline() {
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
            "a body that has arrived is being judged, and keeps its memory"
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
        assert!(intake.lock().bodies.is_empty());
    }
}
