//! One review in the process, without the network: the time of the guard in addition to reading it.
//! The baseline only reads the uid, like the minimal server of `benches/load.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

mod reviews;

use std::{
    hint::black_box,
    sync::{Arc, Mutex},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use milvus_guard_core::{admission::review_state::Accounts, evidence::Facts, policy::PolicySet};
use milvus_guard_sources::files::load_place;
use milvus_guard_webhook::server::{
    answer::{Answerer, FailurePolicies, FailurePolicy, Path},
    data::Data,
    metrics::Metrics,
    state_source::{Files, StateSource},
};
use serde::Deserialize;

/// The same allocator as in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct OnlyUid<'a> {
    #[serde(borrow)]
    request: Uid<'a>,
}

#[derive(Deserialize)]
struct Uid<'a> {
    uid: &'a str,
}

fn answerer() -> Answerer {
    let folder = tempfile::tempdir().unwrap();
    let running = folder.path().join("running.json");
    reviews::write_running(&running);
    let files = Files {
        place: Arc::new(load_place(running.to_str().unwrap(), None).unwrap()),
        facts: Facts {
            runs: Some(Vec::new()),
            ..Facts::default()
        },
        policies: PolicySet::default(),
        accounts: Accounts::default(),
        catalogue: Data::default(),
        decisions: Mutex::default(),
    };
    let failure = FailurePolicies {
        release: FailurePolicy::Ignore,
        workload: FailurePolicy::Fail,
    };
    Answerer::new(
        StateSource::Files(Box::new(files)),
        Arc::new(Metrics::new()),
        None,
        failure,
    )
}

fn answering(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let answerer = answerer();
    let cases = [
        ("unrelated", reviews::unrelated()),
        ("metadata only", reviews::labelled()),
        ("judged", reviews::judged()),
        ("release of 1 MB", reviews::release()),
    ];
    let mut group = criterion.benchmark_group("review");
    for (name, body) in &cases {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("{name}, only the uid (baseline)"), |bencher| {
            bencher.iter(|| {
                black_box(
                    serde_json::from_slice::<OnlyUid<'_>>(body)
                        .unwrap()
                        .request
                        .uid,
                )
            });
        });
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                black_box(
                    runtime
                        .block_on(answerer.answer(Path::Validate, body, Some("10s")))
                        .unwrap(),
                )
            });
        });
    }
    group.finish();
}

criterion_group!(benches, answering);
criterion_main!(benches);
