//! A proxy before etcd that stops the world at an exact revision.
//!
//! It passes bytes both ways. Before it passes an answer of etcd on, it asks etcd for its revision:
//! once that has reached the one it waits for, the write is made, and the answer that acknowledges
//! it is either kept back or passed on as the last one. From then on nothing passes in either
//! direction, so that whoever kills the client then kills it exactly there.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use etcd_client::Client;
use tokio::runtime::Handle;

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each test uses a part")]
pub enum When {
    /// The write is made, its acknowledgement never arrives.
    BeforeAcknowledgement,
    /// The acknowledgement is the last thing to arrive.
    AfterAcknowledgement,
}

pub struct Proxy {
    port: u16,
    gate: Arc<Gate>,
}

struct Gate {
    upstream: u16,
    client: Client,
    runtime: Handle,
    /// Never, where it is the highest number.
    revision: AtomicI64,
    when: When,
    /// Nothing passes any more.
    closed: AtomicBool,
    reached: Mutex<bool>,
    told: Condvar,
}

#[allow(dead_code, reason = "each test uses a part")]
impl Proxy {
    /// Before the etcd at `upstream`; stops at this revision.
    pub fn start(
        upstream: u16,
        client: Client,
        runtime: Handle,
        revision: i64,
        when: When,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate {
            upstream,
            client,
            runtime,
            revision: AtomicI64::new(revision),
            when,
            closed: AtomicBool::new(false),
            reached: Mutex::new(false),
            told: Condvar::new(),
        });
        let accepting = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if Arc::strong_count(&accepting) == 1 {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", accepting.upstream)) else {
                    continue;
                };
                accepting.carry(client, server);
            }
        });
        Self { port, gate }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until nothing changes any more; returns whether that happened.
    pub fn wait(&self, at_most: Duration) -> bool {
        let reached = self.gate.reached.lock().unwrap();
        *self
            .gate
            .told
            .wait_timeout_while(reached, at_most, |reached| !*reached)
            .unwrap()
            .0
    }

    /// Lets everything pass again, on new connections.
    pub fn open(&self) {
        self.gate.revision.store(i64::MAX, Ordering::SeqCst);
        self.gate.closed.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Wakes the thread that accepts, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Gate {
    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let (requests, answers) = (Arc::clone(self), Arc::clone(self));
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            pass(&mut from, &mut to, |bytes, to| {
                !requests.is_closed() && to.write_all(bytes).is_ok()
            });
        });
        let (mut from, mut to) = (server, client);
        thread::spawn(move || pass(&mut from, &mut to, |bytes, to| answers.answer(bytes, to)));
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn answer(&self, bytes: &[u8], to: &mut TcpStream) -> bool {
        if self.is_closed() {
            return false;
        }
        let awaited = self.revision.load(Ordering::SeqCst);
        let has_reached = awaited != i64::MAX && self.current() >= awaited;
        if has_reached {
            self.closed.store(true, Ordering::SeqCst);
        }
        let passed = (has_reached && self.when == When::BeforeAcknowledgement)
            || to.write_all(bytes).is_ok();
        if has_reached {
            *self.reached.lock().unwrap() = true;
            self.told.notify_all();
        }
        passed && !has_reached
    }

    fn current(&self) -> i64 {
        let answer = self
            .runtime
            .block_on(self.client.kv_client().get("x", None))
            .unwrap();
        answer.header().unwrap().revision()
    }
}

/// Passes bytes on until there are none, or `each` has enough. Connections are then left open, as
/// those of a machine that hangs; they end with the client.
fn pass(
    from: &mut TcpStream,
    to: &mut TcpStream,
    mut each: impl FnMut(&[u8], &mut TcpStream) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            Ok(read) => {
                if !each(&buffer[..read], to) {
                    // Swallow what still comes until the other side goes away.
                    while matches!(from.read(&mut buffer), Ok(read) if read > 0) {}
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }
}
