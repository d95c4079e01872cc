//! Small requests that expand to large data. For any request up to the accepted size, the webhook's
//! memory stays bounded, the request is answered with its uid, and honest reviews are checked
//! before their deadline meanwhile.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    bombs::{self, Bomb, MIB, RUNNING, WORKLOAD, deployment, manifest, raw_body},
    https::Https,
    machine::{alone, shared},
    webhook::Server,
};
use rustls::ClientConfig;
use serde_json::{Value, json};

/// Memory of a replica beyond its idle memory: 200 MiB in all, of which the idle released program
/// uses 32 (a debug build 60).
const MAX_GROWTH_KIB: u64 = (200 - 32) * 1024;

struct Target {
    server: Server,
    config: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
}

impl Target {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, config) = Server::alone(folder.path(), &["--before", RUNNING]);
        Self {
            server,
            config,
            _folder: folder,
        }
    }

    fn connect(&self) -> Https {
        Https::connect(&self.server.url, &self.config).unwrap()
    }

    /// Sends one review and returns the response.
    fn told(&self, what: &str, body: &[u8]) -> Value {
        let reply = self
            .connect()
            .post("/validate?timeout=30s", body)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["response"]["uid"], "u-1", "{what}");
        answer["response"].clone()
    }
}

/// Sends each bomb to a fresh server: the memory stays bounded, and the answer is as expected.
fn are_bounded(all: &[Bomb]) {
    let _machine = shared();
    let wrong: Vec<String> = all.iter().flat_map(faults).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sends one bomb to a fresh server, and returns what went wrong.
fn faults(bomb: &Bomb) -> Vec<String> {
    let Bomb {
        what,
        body,
        is_refused,
    } = bomb;
    assert!(
        body.len() <= 7 * MIB,
        "{what}: {} bytes would be refused for their size",
        body.len()
    );
    let target = Target::start();
    let idle = target.server.peak_kib();
    let started = Instant::now();
    let told = target.told(what, body);
    let (took, peak) = (started.elapsed(), target.server.peak_kib());
    let message = told["status"]["message"]
        .as_str()
        .or_else(|| told["warnings"][0].as_str())
        .unwrap_or("nothing");
    let said: String = message.chars().take(220).collect();
    eprintln!(
        "{what}: {} KiB sent, {} -> {} MiB, {took:.1?}, {said}",
        body.len() / 1024,
        idle / 1024,
        peak / 1024
    );
    assert!(
        !target.server.log().contains("panicked"),
        "{what}: {}",
        target.server.log()
    );
    let mut wrong = Vec::new();
    if peak - idle >= MAX_GROWTH_KIB {
        wrong.push(format!("{what}: {} MiB", peak / 1024));
    }
    if *is_refused && !message.contains("too large to check") {
        wrong.push(format!("{what}: {told}"));
    }
    wrong
}

#[test]
fn a_manifest_stays_within_its_memory_budget() {
    are_bounded(&bombs::manifests());
}

#[test]
fn anchors_and_scalars_stay_within_their_memory_budget() {
    are_bounded(&bombs::anchors_and_scalars());
}

#[test]
fn fields_outside_of_the_manifest_stay_within_their_memory_budget() {
    are_bounded(&bombs::outside_of_the_manifest());
}

#[test]
fn settings_stay_within_their_memory_budget() {
    are_bounded(&bombs::settings());
}

#[test]
fn an_object_stays_within_its_memory_budget() {
    are_bounded(&bombs::objects());
}

/// Several connections send bombs, one after the other, during a stream of honest reviews: each
/// honest review is checked before its deadline.
#[test]
fn honest_reviews_during_bombs_are_checked() {
    let _machine = alone();
    let target = Target::start();
    let idle = target.server.peak_kib();
    let (old, mut new) = (deployment(), deployment());
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let name = old["metadata"]["name"].as_str().unwrap().to_owned();
    let honest = [
        raw_body(
            "deployments",
            "UPDATE",
            &name,
            &new.to_string(),
            &old.to_string(),
        ),
        manifest(&[(&fs::read_to_string(RUNNING).unwrap(), 1)]),
    ];
    let bombs = [
        manifest(&[("milvus: [", 1), ("1,", 15_500_000), ("1]\n", 1)]),
        manifest(&[(WORKLOAD, 1), ("# milvus\n", 3_300_000)]),
        manifest(&[(WORKLOAD, 1), ("---\n", 6_600_000)]),
        raw_body(
            "deployments",
            "CREATE",
            &name,
            &format!(r#"{{"x":[{}1]}}"#, "1, ".repeat(1_000_000)),
            "null",
        ),
    ];
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut worst = [Duration::ZERO; 3];
    thread::scope(|scope| {
        for turn in 0..8 {
            let (target, bombs, over, sent) = (&target, &bombs, &over, &sent);
            scope.spawn(move || {
                for bomb in bombs.iter().cycle().skip(turn) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A bomb may be answered late or not at all; only honest reviews count.
                    let _ = target.connect().post("/validate?timeout=10s", bomb);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut connection = target.connect();
        for round in 0..300 {
            // A release waits for the bomb that holds the slot for large requests; one in thirty
            // rounds is enough to measure that.
            let kinds = if round % 30 == 0 { 2 } else { 1 };
            for (kind, body) in honest.iter().enumerate().take(kinds) {
                let started = Instant::now();
                let reply = connection.post("/validate?timeout=10s", body).unwrap();
                worst[kind] = worst[kind].max(started.elapsed());
                let answer: Value = serde_json::from_slice(&reply.body).unwrap();
                let message = answer["response"]["status"]["message"]
                    .as_str()
                    .unwrap_or_default();
                if kind == 0 {
                    assert!(message.contains("MG101"), "{round}: {answer}");
                } else {
                    assert_eq!(answer["response"]["allowed"], true, "{round}: {answer}");
                    assert!(
                        !answer.to_string().contains("did not check"),
                        "{round}: {answer}"
                    );
                }
            }
            let started = Instant::now();
            assert_eq!(target.connect().get("/healthz").unwrap().status, 200);
            worst[2] = worst[2].max(started.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    let peak = target.server.peak_kib();
    eprintln!(
        "{} bombs; worst of Deployments, releases, /healthz: {worst:.1?}; peak {} MiB",
        sent.load(Ordering::Relaxed),
        peak / 1024
    );
    assert!(
        !target.server.log().contains("panicked"),
        "{}",
        target.server.log()
    );
    assert!(sent.load(Ordering::Relaxed) >= 8, "too few bombs were sent");
    // An honest review that is not checked within its timeout gets another answer, and fails above.
    // The duration is only printed, because it depends on the load of this machine.
    assert!(
        peak - idle < MAX_GROWTH_KIB,
        "{} -> {} MiB",
        idle / 1024,
        peak / 1024
    );
}
