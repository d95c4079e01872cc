//! Who is connected, and who has to go when there is no room for someone new.
//!
//! Anyone who can reach the port can hold connections open. None of them may keep the API server
//! out: a connection that asks nothing is closed after a while, and when all places are taken, the
//! newcomer gets the place of one that waits.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// From the first byte of a connection to the first request, the TLS handshake included.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Between two requests. An API server gives up a connection that it has not used for 90 s; it must
/// be the one who closes, since a request that meets a closing connection has to be sent again.
pub const NEXT_REQUEST: Duration = Duration::from_secs(120);
/// Between two looks for a place, when everybody is being answered.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Everybody who is connected to one port.
pub struct Connections {
    all: Mutex<HashMap<u64, Arc<Connection>>>,
    most: usize,
    left: Notify,
}

/// One connection.
pub struct Connection {
    peer: IpAddr,
    doing: Mutex<Doing>,
    /// Another client needs the place.
    evicted: Notify,
    /// A request has ended.
    rested: Notify,
}

struct Doing {
    /// When the connection began, or its last request ended.
    since: Instant,
    asked: bool,
    /// A review came and was answered.
    served: bool,
    /// Requests that have begun and are not answered.
    requests: usize,
    /// Those of them that have arrived as a whole.
    arrived: usize,
}

impl Connections {
    /// Room for so many.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Mutex::default(),
            most,
            left: Notify::new(),
        })
    }

    /// A place for a newcomer. Where there is none, one of those who wait has to go: first who
    /// never asked for a review, of them the peer that holds most, of its connections the one
    /// that has waited longest. Who is being answered stays.
    pub async fn admit(self: &Arc<Self>, peer: IpAddr) -> ConnectionGuard {
        loop {
            if let Some(stay) = self.try_admit(peer) {
                return stay;
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, self.left.notified()).await;
        }
    }

    fn try_admit(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionGuard> {
        let mut all = self.lock();
        if all.len() >= self.most {
            let victim = victim(&all)?;
            if let Some(guest) = all.remove(&victim) {
                guest.evicted.notify_one();
            }
        }
        // The number of one who was evicted may come again; anyone who leaves looks whether the
        // place is still his.
        let id = all.keys().max().map_or(0, |last| last + 1);
        let guest = Arc::new(Connection::new(peer));
        all.insert(id, Arc::clone(&guest));
        Some(ConnectionGuard {
            connections: Arc::clone(self),
            id,
            guest,
        })
    }

    /// Returns when no one is connected.
    pub async fn gone(&self) {
        while !self.lock().is_empty() {
            let _ = tokio::time::timeout(LOOK_AGAIN, self.left.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn victim(all: &HashMap<u64, Arc<Connection>>) -> Option<u64> {
    let mut held: HashMap<IpAddr, usize> = HashMap::new();
    for guest in all.values() {
        *held.entry(guest.peer).or_default() += 1;
    }
    let waiting = all.iter().filter_map(|(id, guest)| {
        let doing = guest.lock();
        (doing.arrived == 0).then(|| {
            (
                (
                    doing.served,
                    Reverse(held.get(&guest.peer).copied()),
                    doing.since,
                ),
                *id,
            )
        })
    });
    waiting.min().map(|(_, id)| id)
}

/// A place that is free again when this is dropped.
pub struct ConnectionGuard {
    connections: Arc<Connections>,
    id: u64,
    guest: Arc<Connection>,
}

impl ConnectionGuard {
    /// Who has it.
    #[must_use]
    pub const fn guest(&self) -> &Arc<Connection> {
        &self.guest
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut all = self.connections.lock();
        // Anyone who was evicted has no place any more, and the number may be another's.
        if all
            .get(&self.id)
            .is_some_and(|known| Arc::ptr_eq(known, &self.guest))
        {
            all.remove(&self.id);
        }
        drop(all);
        self.connections.left.notify_one();
    }
}

impl Connection {
    fn new(peer: IpAddr) -> Self {
        let doing = Doing {
            since: Instant::now(),
            asked: false,
            served: false,
            requests: 0,
            arrived: 0,
        };
        Self {
            peer,
            doing: Mutex::new(doing),
            evicted: Notify::new(),
            rested: Notify::new(),
        }
    }

    /// A request begins.
    #[must_use]
    pub fn ask(self: &Arc<Self>) -> Arc<RequestGuard> {
        let mut doing = self.lock();
        doing.requests += 1;
        doing.asked = true;
        drop(doing);
        Arc::new(RequestGuard {
            guest: Arc::clone(self),
            arrived: AtomicBool::new(false),
        })
    }

    /// A review was answered: this is probably an API server.
    pub fn served(&self) {
        self.lock().served = true;
    }

    /// Returns when the connection has to end: it has been silent for too long, or someone needs
    /// the place.
    pub async fn overstays(&self) {
        loop {
            let until = {
                let doing = self.lock();
                let silence = if doing.asked {
                    NEXT_REQUEST
                } else {
                    FIRST_REQUEST
                };
                (doing.requests == 0).then_some(doing.since + silence)
            };
            let silent = async {
                match until {
                    Some(until) if until > Instant::now() => {
                        tokio::time::sleep_until(until.into()).await;
                        false
                    }
                    Some(_) => true,
                    None => {
                        self.rested.notified().await;
                        false
                    }
                }
            };
            tokio::select! {
                () = self.evicted.notified() => return,
                is_over = silent => if is_over { return },
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request of a guest, until it is answered.
pub struct RequestGuard {
    guest: Arc<Connection>,
    arrived: AtomicBool,
}

impl RequestGuard {
    /// The whole request is here; from now on it is for us to answer.
    pub fn arrived(&self) {
        if !self.arrived.swap(true, Ordering::Relaxed) {
            self.guest.lock().arrived += 1;
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut doing = self.guest.lock();
        doing.requests -= 1;
        doing.arrived -= usize::from(self.arrived.load(Ordering::Relaxed));
        doing.since = Instant::now();
        drop(doing);
        self.guest.rested.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    async fn is_evicted(stay: &ConnectionGuard) -> bool {
        tokio::time::timeout(Duration::from_millis(1), stay.guest.evicted.notified())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_whoever_holds_most_and_waits_longest() {
        let connections = Connections::new(5);
        let lone = connections.admit(ip(1)).await;
        let mut greedy = Vec::new();
        for _ in 0..4 {
            greedy.push(connections.admit(ip(2)).await);
        }
        // Alone with its address, and the oldest of all: the greedy one has to go nevertheless.
        let newcomer = connections.admit(ip(3)).await;
        assert!(
            is_evicted(&greedy[0]).await
                && !is_evicted(&greedy[1]).await
                && !is_evicted(&lone).await
        );
        // More of the same push out their own.
        let more = connections.admit(ip(2)).await;
        assert!(
            is_evicted(&greedy[1]).await
                && !is_evicted(&lone).await
                && !is_evicted(&newcomer).await
        );
        drop((lone, more));
        assert_eq!(connections.lock().len(), 3);
        drop((greedy, newcomer));
        connections.gone().await;
    }

    #[tokio::test]
    async fn from_one_address_those_who_were_never_answered_go_first_and_nobody_who_is_being_answered()
     {
        let connections = Connections::new(3);
        let api_server = connections.admit(ip(1)).await;
        let visit = api_server.guest.ask();
        visit.arrived();
        api_server.guest.served();
        drop(visit);
        let slow = connections.admit(ip(1)).await;
        let body_on_its_way = slow.guest.ask();
        let at_work = connections.admit(ip(1)).await;
        let answered = at_work.guest.ask();
        answered.arrived();
        let newcomer = connections.admit(ip(1)).await;
        assert!(
            is_evicted(&slow).await
                && !is_evicted(&api_server).await
                && !is_evicted(&at_work).await
        );
        let busy = newcomer.guest.ask();
        busy.arrived();
        let another = connections.admit(ip(1)).await;
        assert!(
            is_evicted(&api_server).await,
            "no one else waits, and the API server can come back"
        );
        let last = another.guest.ask();
        last.arrived();
        let waiting = tokio::time::timeout(LOOK_AGAIN * 3, connections.admit(ip(1))).await;
        assert!(waiting.is_err(), "everybody is being answered");
        drop(answered);
        let _stay = connections.admit(ip(1)).await;
        assert!(is_evicted(&at_work).await);
        drop(body_on_its_way);
    }

    #[tokio::test]
    async fn silence_has_an_end_before_the_first_request_and_after_the_last() {
        let connections = Connections::new(3);
        let overstays = async |stay: &ConnectionGuard| {
            tokio::time::timeout(Duration::from_millis(50), stay.guest.overstays())
                .await
                .is_ok()
        };
        let silent_for = |stay: &ConnectionGuard, time: Duration| {
            stay.guest.lock().since = Instant::now().checked_sub(time).unwrap();
        };
        let silent = connections.admit(ip(1)).await;
        assert!(!overstays(&silent).await);
        silent_for(&silent, FIRST_REQUEST);
        assert!(overstays(&silent).await);
        let asking = connections.admit(ip(1)).await;
        let visit = asking.guest.ask();
        silent_for(&asking, NEXT_REQUEST * 2);
        assert!(!overstays(&asking).await, "it is being answered");
        drop(visit);
        silent_for(&asking, FIRST_REQUEST * 2);
        assert!(!overstays(&asking).await, "it may ask again");
        silent_for(&asking, NEXT_REQUEST);
        assert!(overstays(&asking).await);
    }
}
