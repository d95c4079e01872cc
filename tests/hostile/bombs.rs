//! Small requests that would build much: whatever comes up to the accepted size, the webhook's
//! memory stays bounded, the request is answered with its uid, and honest reviews in addition to it
//! are checked before their deadline.

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

/// What a replica may take beyond what it takes idle: 200 MiB in all, of which the released program
/// takes 32 idle (a debug build takes 60).
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

    /// Sends one review and returns what it was told.
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

/// Sends each bomb to a fresh server: the memory stays bounded, and the answer says what is due.
fn are_bounded(all: &[Bomb]) {
    let _machine = shared();
    let wrong: Vec<String> = all.iter().flat_map(faults).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with how a fresh server bears one bomb.
fn faults(bomb: &Bomb) -> Vec<String> {
    let Bomb {
        what,
        body,
        is_refused,
    } = bomb;
    assert!(
        body.len() <= 7 * MIB,
        "{what}: {} bytes are refused for their size",
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
fn a_manifest_builds_no_more_than_its_budget() {
    are_bounded(&bombs::manifests());
}

#[test]
fn anchors_and_scalars_build_no_more_than_their_budget() {
    are_bounded(&bombs::anchors_and_scalars());
}

#[test]
fn fields_outside_of_the_manifest_stay_within_their_budget() {
    are_bounded(&bombs::outside_of_the_manifest());
}

#[test]
fn settings_build_no_more_than_their_budget() {
    are_bounded(&bombs::settings());
}

#[test]
fn an_object_builds_no_more_than_its_budget() {
    are_bounded(&bombs::objects());
}

/// Bombs from several connections, one after the other, during a stream of honest reviews: each of
/// these is checked before its deadline.
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
                    // A bomb may be answered late or not at all; only the others count.
                    let _ = target.connect().post("/validate?timeout=10s", bomb);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut connection = target.connect();
        for round in 0..300 {
            // A release waits for the bomb that has the large room; one in thirty rounds is enough
            // to see how long.
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
    assert!(sent.load(Ordering::Relaxed) >= 8, "the bombs were there");
    // Each honest review was checked within the time that it names: otherwise its answer is
    // another one. How long it took is printed; it depends on what else this machine does.
    assert!(
        peak - idle < MAX_GROWTH_KIB,
        "{} -> {} MiB",
        idle / 1024,
        peak / 1024
    );
}
