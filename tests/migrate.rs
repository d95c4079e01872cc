//! `migrate` on a real control plane with a real etcd, in this process's place (`--local`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

mod common;

use common::{
    Chart, run,
    stand::{NAMESPACE, RELEASE, Stand},
};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::json;

/// Migrates, and expects to reach the plan.
fn migrated(stand: &Stand) {
    let (code, stdout, stderr) = run(&mut stand.migrate());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(stdout.contains("my-release runs 2.2.16: the metadata is that of 2.2, verified."), "{stdout}");
    assert!(stdout.contains("helm upgrade my-release zilliztech/milvus -n milvus --version 4.0."), "{stdout}");
}

fn at(image: &str, replicas: u32) -> impl Fn(&String) -> bool {
    let end = format!(" milvusdb/milvus:{image} {replicas}");
    move |line: &String| line.ends_with(&end) || line.contains("querynode")
}

#[test]
fn a_cluster_is_migrated_rolled_back_and_migrated_again() {
    for with in [Helm::V3, Helm::V4] {
        let stand = Stand::start(with);
        let (before, shape) = (stand.metadata(), stand.shape());
        migrated(&stand);
        assert!(stand.shape().iter().all(at("v2.2.16", 2)), "{:#?}", stand.shape());
        assert_ne!(stand.metadata(), before);
        assert_eq!(stand.owned_by_runs(), [""; 0]);
        let run_object = stand.run();
        let status = &run_object["status"];
        assert_eq!(status["phase"], "Succeeded", "{status:#}");
        assert_eq!(status["conditions"][0]["type"], "MetadataMigrated");
        assert_eq!(status["conditions"][0]["status"], "True");
        assert_eq!(status["evidence"]["endpoints"], json!(["my-release-etcd:2379"]));
        assert_eq!(status["evidence"]["workloadUids"].as_array().unwrap().len(), 8);

        let (code, stdout, stderr) = run(stand.migrate().args(["-o", "rollback", "--accept-data-loss"]));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        assert!(stdout.contains("Everything is as it was"), "{stdout}");
        assert_eq!((stand.metadata(), stand.shape()), (before.clone(), shape));
        assert_eq!(stand.owned_by_runs(), [""; 0]);
        let rolled_back = stand.run();
        assert_eq!(rolled_back["status"]["phase"], "RolledBack");
        assert_eq!(rolled_back["status"]["conditions"][0]["status"], "False");

        migrated(&stand);
        assert_eq!(stand.runs(NAMESPACE).len(), 2);
        // Nothing of what the chart renders has another owner, so Helm's own apply meets no conflict.
        let (chart, tag) = (Chart::compact("4.0.31"), "image.all.tag=v2.2.16");
        expect_success(
            stand.cluster.helm(with, ["upgrade", RELEASE, chart.path(), "-n", NAMESPACE, "--set", tag, "--set", "replicas=2"]),
        );
        assert!(stand.shape().iter().all(at("v2.2.16", 2)), "{:#?}", stand.shape());
    }
}
