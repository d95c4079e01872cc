//! A proxy in front of etcd that stops all traffic at an exact revision.
//!
//! It forwards bytes in both directions. Before it forwards a response of etcd, it reads etcd's
//! revision. If that has reached the requested revision, the write is made; the response with the
//! acknowledgement is either dropped or forwarded as the last one. Then all traffic stops, so a
//! client that is killed afterwards is killed exactly at this point.

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
    /// The write is made; its acknowledgement never arrives.
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
    /// The revision at which to stop; `i64::MAX` for never.
    revision: AtomicI64,
    when: When,
    /// All traffic is stopped.
    closed: AtomicBool,
    reached: Mutex<bool>,
    told: Condvar,
}

#[allow(dead_code, reason = "each test uses a part")]
impl Proxy {
    /// In front of the etcd on port `upstream`; stops at this revision.
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

    /// Waits until all traffic is stopped; returns whether that happened in time.
    pub fn wait(&self, at_most: Duration) -> bool {
        let reached = self.gate.reached.lock().unwrap();
        *self
            .gate
            .told
            .wait_timeout_while(reached, at_most, |reached| !*reached)
            .unwrap()
            .0
    }

    /// Forwards again, on new connections.
    pub fn open(&self) {
        self.gate.revision.store(i64::MAX, Ordering::SeqCst);
        self.gate.closed.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Wakes the accepting thread, which then ends.
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

/// Forwards bytes until the end of the stream, or until `each` returns false. The connection then
/// stays open, as on a machine that hangs, until the client closes it.
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
                    // Discard further bytes until the sender closes the connection.
                    while matches!(from.read(&mut buffer), Ok(read) if read > 0) {}
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }
}
