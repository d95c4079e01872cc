//! The time of judging alone, and of reading text into a snapshot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::{fs, hint::black_box, path::Path};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use milvus_guard_core::{
    evaluate::{EvaluationInput, judge},
    evidence::Facts,
    manifest::documents,
    milvus::{Snapshot, catalogue::Catalogue},
    policy::PolicySet,
};
use milvus_guard_sources::files::{Role, objects::Collector};

fn demo(side: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/demo/1-skipped-migration")
        .join(side);
    fs::read_to_string(path).unwrap()
}

fn snapshot(text: &str) -> Snapshot {
    let mut collector = Collector::new(Role::After, Some("milvus"));
    collector.add_text(text, "bench").unwrap();
    collector.finish("bench").unwrap().0
}

fn judging(criterion: &mut Criterion) {
    let (before, after) = (
        snapshot(&demo("before.yaml")),
        snapshot(&demo("after.yaml")),
    );
    let (facts, policies) = (Facts::default(), PolicySet::default());
    let catalogue = Catalogue::embedded();
    criterion.bench_function(
        "judge/all rules, a cluster of eight components",
        |bencher| {
            bencher.iter(|| {
                black_box(judge(&EvaluationInput {
                    before: Some(&before),
                    after: &after,
                    facts: &facts,
                    catalogue,
                    policies: &policies,
                    is_rollback: false,
                    deletes: None,
                    accepted: &[],
                    overdue: None,
                }))
            });
        },
    );
}

fn reading(criterion: &mut Criterion) {
    let text = demo("before.yaml");
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("documents only (baseline)", |bencher| {
        bencher.iter(|| documents(&text).map(Result::unwrap).count());
    });
    group.bench_function("documents to a snapshot", |bencher| {
        bencher.iter(|| black_box(snapshot(&text)));
    });
    group.finish();
}

fn scale(criterion: &mut Criterion) {
    let text = demo("before.yaml");
    let one = text
        .split("---\n")
        .find(|document| document.contains("kind: Deployment"))
        .unwrap();
    let mut group = criterion.benchmark_group("scale");
    group.sample_size(10);
    for count in [1_000_u32, 3_000, 10_000] {
        let many: String = (0..count)
            .map(|number| {
                format!(
                    "---\n{}",
                    one.replace("my-release", &format!("release-{number}"))
                )
            })
            .collect();
        group.throughput(Throughput::Bytes(many.len() as u64));
        group.bench_function(format!("{count} documents"), |bencher| {
            bencher.iter(|| black_box(snapshot(&many)));
        });
    }
    group.finish();
}

criterion_group!(benches, judging, reading, scale);
criterion_main!(benches);
