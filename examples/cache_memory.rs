//! Resident memory of the webhook's store with many Deployments of Milvus in it: `cargo run
//! --release --example cache_memory [N]`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a measurement says what is wrong by panicking"
)]

use jiff::Timestamp;
use milvus_guard_core::manifest::documents;
use milvus_guard_webhook::server::watch_cache::{WatchCache, Watched};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(10_000, |count| count.parse().expect("a number"));
    let text = std::fs::read_to_string("examples/demo/1-skipped-migration/before.yaml").unwrap();
    let deployment = documents(&text)
        .map(|document| document.unwrap().root.to_json())
        .find(|object| object["kind"] == "Deployment")
        .expect("a Deployment");
    let store = WatchCache::new("milvus-guard");
    let before = resident_kib();
    store.begin(Watched::Deployments);
    for number in 0..count {
        let mut object = deployment.clone();
        object["metadata"]["name"] = format!("release-{number}-milvus-proxy").into();
        object["metadata"]["namespace"] = format!("team-{}", number % 200).into();
        store.put(Watched::Deployments, object, Timestamp::UNIX_EPOCH);
    }
    store.finish(Watched::Deployments);
    let stored = resident_kib();
    // What a first look at every namespace adds.
    let releases: usize = (0..200)
        .map(|number| {
            store
                .picture(&format!("team-{number}"))
                .view
                .place
                .snapshot
                .releases
                .len()
        })
        .sum();
    println!(
        "{count} Deployments ({} bytes of JSON each): {} MiB stored, {} MiB with the pictures of \
         all {} releases",
        deployment.to_string().len(),
        (stored - before) / 1024,
        (resident_kib() - before) / 1024,
        releases
    );
}
