//! The webhook under load, against a minimal server of the same crates in the same run: the same
//! listener, the same TLS settings, but it only reads the uid and returns it. Ratios count, not
//! milliseconds.
//!
//! `cargo bench --bench load [-- REVIEWS]`; REVIEWS (200000) is the number of reviews in the run
//! that measures memory; each sample has a twentieth of it, at most 4000.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../tests/common/https.rs"]
mod https;
mod reviews;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::header, routing::post};
use https::{Https, trusting};
use milvus_guard_webhook::{
    certs::{CertStore, Certificate, authority::self_signed, server_config},
    server::{
        lifecycle::Lifecycle,
        listen::{Port, Transport},
    },
};
use rustls::ClientConfig;
use serde::Deserialize;

const CONNECTIONS: usize = 16;
/// Samples of each server. The servers alternate, so that a busy machine affects both equally.
const SAMPLES: usize = 5;

/// A server in a separate process.
struct Target {
    child: Child,
    url: String,
    config: Arc<ClientConfig>,
}

impl Target {
    fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let authority = folder.join(name);
        command.arg(&authority).env_remove("RUST_LOG");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                Some(
                    line.strip_prefix("milvus-guard: serving on ")?
                        .split(',')
                        .next()?
                        .to_owned(),
                )
            })
            .expect("the server prints its address");
        // The log is dropped, but must be read: the server must not stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let config = trusting(&[&fs::read_to_string(&authority).unwrap()]);
        Self { child, url, config }
    }

    fn guard(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-guard"));
        command.args([
            "serve",
            "--no-cluster",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
        ]);
        let running = folder.join("running.json");
        reviews::write_running(&running);
        command
            .arg("--before")
            .arg(running)
            .args(["--tls-self-signed", "--tls-ca-out"]);
        Self::start(command, folder, "guard.crt")
    }

    fn bare(folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--bare");
        Self::start(command, folder, "bare.crt")
    }

    fn rss_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }

    /// Sends reviews over keep-alive connections, each as soon as the previous one is answered.
    fn load(&self, body: &[u8], reviews: usize, connections: usize) -> Sample {
        let left = AtomicUsize::new(reviews);
        let mut held: Vec<Https> = (0..connections)
            .map(|_| Https::connect(&self.url, &self.config).unwrap())
            .collect();
        let started = Instant::now();
        let mut took: Vec<Duration> = std::thread::scope(|scope| {
            let workers: Vec<_> = held
                .iter_mut()
                .map(|connection| {
                    scope.spawn(|| {
                        let mut took = Vec::new();
                        while left.try_update_one() {
                            let started = Instant::now();
                            let reply = connection.post("/validate?timeout=10s", body).unwrap();
                            took.push(started.elapsed());
                            assert_eq!(reply.status, 200, "{}", reply.text());
                            assert!(
                                reply
                                    .text()
                                    .contains(r#""uid":"00000000-0000-4000-8000-000000000001""#)
                            );
                        }
                        took
                    })
                })
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap())
                .collect()
        });
        let rate = reviews as f64 / started.elapsed().as_secs_f64();
        took.sort();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        Sample {
            rate,
            p50: at(50),
            p99: at(99),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes one from a counter of remaining reviews.
trait TakeOne {
    fn try_update_one(&self) -> bool;
}

impl TakeOne for AtomicUsize {
    fn try_update_one(&self) -> bool {
        self.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        })
        .is_ok()
    }
}

/// Reviews per second, and latencies in milliseconds.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    p50: f64,
    p99: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Deserialize)]
struct OnlyUid<'a> {
    #[serde(borrow)]
    request: Uid<'a>,
}

#[derive(Deserialize)]
struct Uid<'a> {
    uid: &'a str,
}

/// The baseline: the cost of any webhook on these crates.
fn bare(authority: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let made = self_signed(&["localhost".to_owned()], jiff::Timestamp::now()).unwrap();
        fs::write(authority, &made.ca_pem).unwrap();
        let store = CertStore::new();
        store.put(Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes()).unwrap());
        let transport = Transport::tls(server_config(store, None).unwrap());
        let echo = async |body: Bytes| {
            let review: OnlyUid<'_> = serde_json::from_slice(&body).unwrap();
            let uid = review.request.uid;
            let answer = format!(
                r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true}}}}"#
            );
            ([(header::CONTENT_TYPE, "application/json")], answer)
        };
        let router = Router::new().route("/validate", post(echo));
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        eprintln!("milvus-guard: serving on https://{}, bare", port.address);
        port.serve(transport, router, Arc::new(Lifecycle::new(&[])), Duration::ZERO).await;
    });
}

fn compare(guard: &Target, bare: &Target, name: &str, body: &[u8], sample: usize) {
    for target in [guard, bare] {
        target.load(body, sample / 4, CONNECTIONS);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        ours.push(guard.load(body, sample, CONNECTIONS));
        theirs.push(bare.load(body, sample, CONNECTIONS));
    }
    let of =
        |samples: &[Sample], what: fn(&Sample) -> f64| median(samples.iter().map(what).collect());
    let ratio = |what: fn(&Sample) -> f64| of(&ours, what) / of(&theirs, what);
    println!(
        "{name} ({} bytes, {CONNECTIONS} connections): {:.0}/s against {:.0}/s, ratio {:.2}; p50 \
         {:.2} ms, {:.2} x; p99 {:.2} ms, {:.2} x",
        body.len(),
        of(&ours, |sample| sample.rate),
        of(&theirs, |sample| sample.rate),
        ratio(|sample| sample.rate),
        of(&ours, |sample| sample.p50),
        ratio(|sample| sample.p50),
        of(&ours, |sample| sample.p99),
        ratio(|sample| sample.p99),
    );
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .peekable();
    if args.next_if(|arg| arg == "--bare").is_some() {
        return bare(&args.next().unwrap());
    }
    // `cargo test --all-targets` runs benchmarks too, without --bench.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let long: usize = args.find_map(|arg| arg.parse().ok()).unwrap_or(200_000);
    let sample = (long / 20).clamp(100, 4_000);
    let folder = tempfile::tempdir().unwrap();
    let (guard, bare) = (Target::guard(folder.path()), Target::bare(folder.path()));
    std::thread::sleep(Duration::from_secs(1));
    println!(
        "idle: {:.1} MiB resident, the bare server {:.1} MiB",
        guard.rss_mib(),
        bare.rss_mib()
    );

    let judged = reviews::judged();
    compare(
        &guard,
        &bare,
        "unrelated object",
        &reviews::unrelated(),
        sample,
    );
    compare(&guard, &bare, "Milvus Deployment, judged", &judged, sample);
    compare(
        &guard,
        &bare,
        "Milvus Deployment, metadata only",
        &reviews::labelled(),
        sample,
    );
    let release = reviews::release();
    guard.load(&release, 20, 1);
    let alone = guard.load(&release, 300, 1);
    println!(
        "Helm release of 1 MB ({} bytes packed), one at a time: p50 {:.1} ms, p99 {:.1} ms",
        release.len(),
        alone.p50,
        alone.p99
    );

    let mut seen = vec![guard.rss_mib()];
    for _ in 0..4 {
        guard.load(&judged, long / 8, CONNECTIONS);
        guard.load(&reviews::unrelated(), long / 8, CONNECTIONS);
        seen.push(guard.rss_mib());
    }
    let seen: Vec<String> = seen.iter().map(|mib| format!("{mib:.1}")).collect();
    println!(
        "resident MiB over {long} more reviews, each quarter: {}",
        seen.join(", ")
    );
}
