//! The open connections, and which one is closed when a new one needs its place.
//!
//! Every client that reaches the port can hold connections open. They must not keep the API server
//! out: a connection without requests is closed after a time limit, and if all places are taken, a
//! new connection gets the place of an idle one.

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

/// Limit from the begin of a connection to the first request, including the TLS handshake.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Limit between two requests. An API server closes a connection after 90 s without use. The API
/// server must close first: a request on a connection that we close would have to be sent again.
pub const NEXT_REQUEST: Duration = Duration::from_secs(120);
/// Pause between two attempts to get a place while all connections are being answered.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The connections to one port.
pub struct Connections {
    all: Mutex<HashMap<u64, Arc<Connection>>>,
    most: usize,
    left: Notify,
}

/// One connection.
pub struct Connection {
    peer: IpAddr,
    doing: Mutex<Doing>,
    /// Signals that another client needs the place.
    evicted: Notify,
    /// Signals that a request has ended.
    rested: Notify,
}

struct Doing {
    /// When the connection began, or its last request ended.
    since: Instant,
    asked: bool,
    /// Whether a review was answered on it.
    served: bool,
    /// Requests that have begun and are not answered.
    requests: usize,
    /// How many of them have arrived completely.
    arrived: usize,
}

impl Connections {
    /// A list with this many places.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Mutex::default(),
            most,
            left: Notify::new(),
        })
    }

    /// A place for a new connection. If there is none, an idle connection is closed: first those
    /// without an answered review, of these one of the address with most connections, of these the
    /// longest idle one. A connection that is being answered stays.
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
        // The id of an evicted connection may be used again, so a guard checks on drop whether the
        // place still belongs to its connection.
        let id = all.keys().max().map_or(0, |last| last + 1);
        let guest = Arc::new(Connection::new(peer));
        all.insert(id, Arc::clone(&guest));
        Some(ConnectionGuard {
            connections: Arc::clone(self),
            id,
            guest,
        })
    }

    /// Returns when there is no connection.
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
    /// The connection in this place.
    #[must_use]
    pub const fn guest(&self) -> &Arc<Connection> {
        &self.guest
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut all = self.connections.lock();
        // An evicted connection has no place any more, and another one may have its id.
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

    /// Records the begin of a request.
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

    /// Records that a review was answered: the client is probably an API server.
    pub fn served(&self) {
        self.lock().served = true;
    }

    /// Returns when the connection must end: it was idle for too long, or another client needs
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

/// One request of a connection, until it is answered.
pub struct RequestGuard {
    guest: Arc<Connection>,
    arrived: AtomicBool,
}

impl RequestGuard {
    /// Records that the whole request has arrived; from now on the server must answer.
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
    async fn a_new_connection_replaces_the_longest_idle_one_of_the_address_with_most() {
        let connections = Connections::new(5);
        let lone = connections.admit(ip(1)).await;
        let mut greedy = Vec::new();
        for _ in 0..4 {
            greedy.push(connections.admit(ip(2)).await);
        }
        // The first connection is the oldest, but the only one of its address, so it stays.
        let newcomer = connections.admit(ip(3)).await;
        assert!(
            is_evicted(&greedy[0]).await
                && !is_evicted(&greedy[1]).await
                && !is_evicted(&lone).await
        );
        // A further connection of the same address replaces one of that address.
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
    async fn connections_without_an_answer_are_closed_first_and_busy_ones_never() {
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
            "no other connection is idle, and the API server can connect again"
        );
        let last = another.guest.ask();
        last.arrived();
        let waiting = tokio::time::timeout(LOOK_AGAIN * 3, connections.admit(ip(1))).await;
        assert!(waiting.is_err(), "all connections are being answered");
        drop(answered);
        let _stay = connections.admit(ip(1)).await;
        assert!(is_evicted(&at_work).await);
        drop(body_on_its_way);
    }

    #[tokio::test]
    async fn idle_connections_end_before_the_first_request_and_after_the_last() {
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
        assert!(!overstays(&asking).await, "its request is being answered");
        drop(visit);
        silent_for(&asking, FIRST_REQUEST * 2);
        assert!(
            !overstays(&asking).await,
            "the limit for the next request counts"
        );
        silent_for(&asking, NEXT_REQUEST);
        assert!(overstays(&asking).await);
    }
}
