//! A migration against one Put for each key and against plain transactions of the same bytes, on
//! the same etcd in the same run. Ratios count, not seconds.
//!
//! `cargo bench --bench meta [-- SEGMENTS]`; SEGMENTS (100000) is the number of segment-index
//! records.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark"
)]

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use etcd_client::{Client, Txn, TxnOp};
use futures::{StreamExt as _, stream};
use milvus_guard_metadata::{
    executor::Stage,
    model::{
        Dump, Options, Phase, Plan, Root, plan,
        sample::{Sample, Size},
    },
};
use milvus_guard_testbed::{Etcd, EtcdOptions};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The stages of a migration.
const STAGES: [Stage; 8] = [
    Stage::Read,
    Stage::Plan,
    Stage::Backup,
    Stage::CheckBackup,
    Stage::Write,
    Stage::CheckWritten,
    Stage::Delete,
    Stage::Verify,
];
/// Records of each collection.
const SEGMENTS: usize = 10_000;
/// Transactions in progress at the same time, as in the migration.
const IN_FLIGHT: usize = 8;
/// Rounds of all three variants; the median counts.
const ROUNDS: usize = 3;
const QUOTA: u64 = 8 * 1024 * 1024 * 1024;

struct Ours {
    write: f64,
    /// Seconds of writing and deleting.
    changes: f64,
    whole: f64,
    /// Seconds of reading, planning, and both comparisons.
    thinking: f64,
    peak_mib: f64,
}

fn main() {
    // `cargo test --all-targets` runs benchmarks too, without --bench.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let segments: usize = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(100_000);
    let rounds = if segments > 200_000 { 1 } else { ROUNDS };
    let sample = Sample::large(Size {
        collections: segments.div_ceil(SEGMENTS),
        segments: SEGMENTS.min(segments),
        has_oddities: false,
    });
    let dump = sample.dump().unwrap();
    drop(sample);
    let plan = plan(&dump, &Options::default()).unwrap();
    println!(
        "{} records, {} puts, {} rewrites, {} deletes",
        dump.records().len(),
        plan.puts().len(),
        plan.rewrites().len(),
        plan.deletes().len()
    );
    let etcd = Etcd::start_with(&EtcdOptions {
        quota_bytes: Some(QUOTA),
        ..EtcdOptions::default()
    });
    let runtime = Runtime::new().unwrap();
    let client = runtime
        .block_on(Client::connect([etcd.endpoint()], None))
        .unwrap();
    let (mut puts, mut bare, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        puts.push(runtime.block_on(one_by_one(&client, &plan, &root(round, "put"))));
        bare.push(runtime.block_on(transactions(&client, &plan, &root(round, "txn"))));
        let root = root(round, "own");
        runtime.block_on(fill(&client, &dump, &root));
        ours.push(migrate(&etcd, &root));
        println!(
            "round {round}: one Put per key {:.2} s, bare transactions {:.2} s, ours {:.2} s \
             writing, {:.2} s in all",
            puts[round], bare[round], ours[round].write, ours[round].whole
        );
    }
    let (puts, bare) = (median(puts), median(bare));
    let of = |pick: fn(&Ours) -> f64| median(ours.iter().map(pick).collect());
    let (write, whole, thinking) = (
        of(|ours| ours.write),
        of(|ours| ours.whole),
        of(|ours| ours.thinking),
    );
    println!(
        "writing, against one Put per key:      {:.1} x   (bound 12 x)",
        puts / write
    );
    println!(
        "whole run, against one Put per key:    {:.1} x   (bound 6 x)",
        puts / whole
    );
    println!(
        "writing, rate of bare transactions:    {:.2} x  (bound 0.7 x)",
        bare / write
    );
    let changes = of(|ours| ours.changes);
    println!(
        "reading, planning, comparing, against writing: {:.2} x; against writing and deleting: \
         {:.2} x (bound 1 x)",
        thinking / write,
        thinking / changes
    );
    println!(
        "peak resident memory:                  {:.0} MiB",
        of(|ours| ours.peak_mib)
    );
}

/// A root path. All have the same length, so that all variants write the same bytes.
fn root(round: usize, name: &str) -> Root {
    Root::new(&format!("b{round}{name}"), "meta").unwrap()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// One Put for each key, like the official tool.
async fn one_by_one(client: &Client, plan: &Plan<'_>, root: &Root) -> f64 {
    let began = Instant::now();
    let mut kv = client.kv_client();
    for put in plan.puts() {
        kv.put(root.absolute(put.key()), put.value(), None)
            .await
            .unwrap();
    }
    for rewrite in plan.rewrites() {
        kv.put(root.absolute(rewrite.record.key()), &*rewrite.value, None)
            .await
            .unwrap();
    }
    began.elapsed().as_secs_f64()
}

async fn transactions(client: &Client, plan: &Plan<'_>, root: &Root) -> f64 {
    let began = Instant::now();
    let batches = plan
        .batches()
        .filter(|batch| batch.phase != Phase::Delete)
        .map(|batch| {
            let put = |key: &[u8], value: &[u8]| TxnOp::put(root.absolute(key), value, None);
            let puts = batch
                .operations
                .iter()
                .map(|operation| put(operation.key, operation.value.unwrap()));
            let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
            async move { client.kv_client().txn(txn).await.unwrap() }
        });
    stream::iter(batches)
        .buffer_unordered(IN_FLIGHT)
        .for_each(|_| async {})
        .await;
    began.elapsed().as_secs_f64()
}

async fn fill(client: &Client, dump: &Dump, root: &Root) {
    let chunks: Vec<Txn> = dump
        .records()
        .chunks(100)
        .map(|chunk| {
            let saved = chunk.iter().filter(|record| !record.leased);
            let puts =
                saved.map(|record| TxnOp::put(root.absolute(record.key()), record.value(), None));
            Txn::new().and_then(puts.collect::<Vec<_>>())
        })
        .collect();
    let filling = chunks
        .into_iter()
        .map(|txn| async move { client.kv_client().txn(txn).await.unwrap() });
    stream::iter(filling)
        .buffer_unordered(IN_FLIGHT)
        .for_each(|_| async {})
        .await;
}

fn migrate(etcd: &Etcd, root: &Root) -> Ours {
    let folder = tempfile::tempdir().unwrap();
    let progress = folder.path().join("progress");
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_milvus-guard"))
        .args([
            "meta",
            "migrate",
            "-s",
            "2.1.4",
            "-t",
            "2.2.16",
            "--yes",
            "--backup",
            "a.backup",
            "--progress",
            "json",
        ])
        .args(["--etcd", &etcd.endpoint(), "--root-path", root.root_path()])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&progress).unwrap())
        .spawn()
        .unwrap();
    let mut peak_kib = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        peak_kib = peak.unwrap_or(peak_kib);
        thread::sleep(Duration::from_millis(5));
    };
    let whole = began.elapsed().as_secs_f64();
    let events = fs::read_to_string(&progress).unwrap();
    assert!(status.success(), "{events}");
    let seconds = |wanted: Stage| -> f64 {
        let events = events
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is_wanted =
            |event: &Value| event["event"] == "PartDone" && event["what"] == wanted.title();
        let took: Vec<f64> = events
            .filter(is_wanted)
            .map(|event| event["tookMs"].as_f64().unwrap() / 1000.0)
            .collect();
        assert!(!took.is_empty(), "{wanted} is missing");
        took.iter().sum()
    };
    let stages = STAGES.map(|stage| format!("{stage} {:.2}", seconds(stage)));
    println!("{}", stages.join("  "));
    let thinking = [Stage::Read, Stage::Plan, Stage::CheckWritten, Stage::Verify];
    Ours {
        write: seconds(Stage::Write),
        changes: seconds(Stage::Write) + seconds(Stage::Delete),
        whole,
        thinking: thinking.map(seconds).iter().sum(),
        peak_mib: peak_kib / 1024.0,
    }
}
