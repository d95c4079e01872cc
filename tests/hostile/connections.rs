//! Connections that are held open without requests: the server closes them, and meanwhile no honest
//! review is lost or late.

use std::{
    io::{self, Read},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    https::Https,
    machine::{Alone, alone},
    webhook::{Server, curl, wait_until},
};
use rustls::ClientConfig;
use serde_json::{Value, json};

/// Default timeout of an API server for a webhook.
const LATE: Duration = Duration::from_secs(10);

struct Bed {
    server: Server,
    config: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
    _machine: Alone,
}

impl Bed {
    fn start() -> Self {
        let machine = alone();
        let folder = tempfile::tempdir().unwrap();
        let (server, config) = Server::alone(folder.path(), &[]);
        Self {
            server,
            config,
            _folder: folder,
            _machine: machine,
        }
    }

    fn tls(&self) -> io::Result<Https> {
        Https::connect(&self.server.url, &self.config)
    }

    fn tcp(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.server.url.trim_start_matches("https://"))
    }

    /// A connection that has sent these bytes after the handshake.
    fn after(&self, bytes: &[u8]) -> io::Result<Https> {
        let mut connection = self.tls()?;
        connection.send(bytes)?;
        Ok(connection)
    }

    fn peak_mib(&self) -> u64 {
        self.server.peak_kib() / 1024
    }
}

fn head(length: usize) -> Vec<u8> {
    format!("POST /validate?timeout=10s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
        .into_bytes()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn review(uid: &str, letters: usize) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": uid, "name": "web", "namespace": "milvus", "operation": "CREATE",
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "userInfo": {"username": "me"},
        "object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations": {"a": "x".repeat(letters)}},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "web", "image": "nginx:1"}]}}}}}})
    .to_string()
}

#[test]
fn connections_without_a_request_are_closed() {
    let bed = Bed::start();
    let half = [PREFACE, SETTINGS].concat();
    let ways: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("one byte", b"P"),
        ("half a request line", b"POST /validate HT"),
        ("half a preface", &PREFACE[..20]),
        ("a preface", PREFACE),
        ("HTTP/2 without a request", &half),
    ];
    let mut open: Vec<(&str, Https)> = ways
        .iter()
        .map(|(name, bytes)| (*name, bed.after(bytes).unwrap()))
        .collect();
    let mut bare = bed.tcp().unwrap();
    bare.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut buffer = Vec::new();
    assert!(bare.read_to_end(&mut buffer).is_ok(), "no handshake");
    for (name, connection) in &mut open {
        // Whatever the server sends first, it must close the connection.
        let begun = Instant::now();
        let end = loop {
            match connection.receive() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(
            !matches!(
                end.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            "{name}: {end} after {:?}",
            begun.elapsed()
        );
    }
    // A connection that has sent a request may stay longer.
    let mut warm = bed.tls().unwrap();
    assert_eq!(
        warm.post("/validate", review("1", 10).as_bytes())
            .unwrap()
            .status,
        200
    );
    let mut other = bed.tcp().unwrap();
    other
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert!(other.read_to_end(&mut buffer).is_ok());
    assert_eq!(
        warm.post("/validate", review("2", 10).as_bytes())
            .unwrap()
            .status,
        200,
        "a connection with a request must outlive one without"
    );
}

/// One honest client. Returns the longest duration of a review.
fn honest(bed: &Bed, over: &AtomicBool, answered: &AtomicUsize) -> Duration {
    let mut longest = Duration::ZERO;
    let mut connection: Option<(Https, usize)> = None;
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let uid = format!("uid-{count}");
        // Every 16th review is large.
        let body = review(&uid, if count % 16 == 0 { 1_000_000 } else { 1000 });
        let begun = Instant::now();
        let reply = loop {
            let (mut open, used) = connection.take().unwrap_or_else(|| {
                (
                    bed.tls().expect("an honest client must be able to connect"),
                    0,
                )
            });
            match open.post("/validate?timeout=10s", body.as_bytes()) {
                Ok(reply) => {
                    connection = (used < 20).then_some((open, used + 1));
                    break reply;
                }
                // A connection ended between two reviews: the API server also retries.
                Err(error) if used > 0 => eprintln!("a connection ended after {used}: {error}"),
                Err(error) => panic!("a review was lost on a new connection: {error}"),
            }
        };
        longest = longest.max(begun.elapsed());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(
            answer["response"]["uid"] == uid.as_str() && answer["response"]["allowed"] == true,
            "{answer}"
        );
        answered.fetch_add(1, Ordering::Relaxed);
        count += 1;
    }
    longest
}

#[test]
fn honest_reviews_continue_during_hostile_connections() {
    let bed = Bed::start();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let longest = thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| honest(&bed, &over, &answered)))
            .collect();
        let all =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&bed, &answered)));
        over.store(true, Ordering::Relaxed);
        let longest = callers
            .into_iter()
            .map(|caller| caller.join().expect("no review may be lost"))
            .max()
            .unwrap();
        all.unwrap();
        longest
    });
    eprintln!(
        "{} honest reviews, the longest took {longest:?}; peak {} MiB",
        answered.into_inner(),
        bed.peak_mib()
    );
    assert!(longest < LATE, "{longest:?}");
    assert!(bed.peak_mib() < 200, "{} MiB", bed.peak_mib());
    assert!(!bed.server.log().contains("panicked"));
}

/// Every way to hold connections open, one after the other and then all at once.
fn attack(bed: &Bed, answered: &AtomicUsize) {
    let more = |what: &str| {
        let from = answered.load(Ordering::Relaxed);
        wait_until(
            &format!("honest reviews continue during {what}"),
            Duration::from_secs(60),
            || answered.load(Ordering::Relaxed) >= from + 40,
        );
        let ready = bed.server.metrics.replace("/metrics", "/readyz");
        for url in [ready, format!("{}/readyz", bed.server.url)] {
            assert_eq!(
                curl(&url).map(|(code, _)| code),
                Some(200),
                "{url} during {what}"
            );
        }
        eprintln!("during {what}: peak {} MiB", bed.peak_mib());
    };
    more("nothing");
    let silent: Vec<_> = (0..700).filter_map(|_| bed.tcp().ok()).collect();
    more("silent connections, more than there are places");
    let idle: Vec<_> = (0..100)
        .filter_map(|number| bed.after(if number % 2 == 0 { b"" } else { b"P" }).ok())
        .collect();
    more("idle TLS");
    let prefaces: Vec<_> = (0..40)
        .filter_map(|number| {
            bed.after(&PREFACE[..if number % 2 == 0 { 20 } else { 24 }])
                .ok()
        })
        .collect();
    more("prefaces");
    let announced: Vec<_> = (0..40)
        .filter_map(|_| bed.after(&head(7 * 1024 * 1024 - 1)).ok())
        .collect();
    more("bodies that are only announced");
    let part = vec![b' '; 1_500_000];
    let slow: Vec<_> = (0..40)
        .filter_map(|_| {
            let mut connection = bed.after(&head(7 * 1024 * 1024 - 1)).ok()?;
            // The server may close the connection meanwhile.
            let _ = connection.send(&part);
            Some(connection)
        })
        .collect();
    more("bodies that stop half-way");
    drop((silent, idle, prefaces, announced, slow));
    more("nothing again");
}
