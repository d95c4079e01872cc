//! Inputs that `migrate` must refuse before it changes anything.
#![allow(clippy::too_many_lines)]

use crate::common::{
    self, Chart, guard,
    migration_cluster::{DEADLINE, MigrationCluster, NAMESPACE, RELEASE, sample},
    run,
};
use milvus_guard_testbed::{Helm, expect_success, wait_until};
use rstest::rstest;
use serde_json::json;

/// Invalid usage is reported without a cluster.
#[rstest]
#[case(&["-i", "a", "-s", "2.2.3", "-t", "2.2.16"], "2.2.3 already has the metadata of 2.2")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.3.0"], "metadata can be migrated to 2.2 only, not to 2.3.0")]
#[case(&["-i", "a", "-s", "2.0.2", "-t", "2.2.16"], "upgrade Milvus to 2.1.4 first")]
#[case(&["-i", "a", "-s", "latest", "-t", "2.2.16"], "'latest' is not a version")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.2.16", "-w", "milvusdb/milvus:v2.2.0"], "is 2.2.0, but -t is 2.2.16")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.2.16", "-o", "rollback", "-w", "milvusdb/milvus:v2.2.16"], "is 2.2.16, but -s is 2.1.4")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.2.16", "-o", "restart"], "invalid value 'restart'")]
#[case(&["-i", "a", "-t", "2.2.16"], "--source-version <VERSION>")]
#[case(&["-i", "a", "-s", "2.1.4"], "--target-version <VERSION>")]
#[case(&["-s", "2.1.4", "-t", "2.2.16"], "--instance <NAME>")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.2.16", "--step-timeout", "soon"], "'soon' is not a valid duration")]
#[case(&["-i", "a", "-s", "2.1.4", "-t", "2.2.16", "--job-overrides", "/does/not/exist"], "/does/not/exist")]
fn invalid_usage_is_reported_without_a_cluster(#[case] args: &[&str], #[case] part: &str) {
    let (code, _, stderr) = run(guard().arg("migrate").args(args));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains(part), "{part:?} is not in {stderr}");
}

#[test]
fn unsupported_releases_are_refused_before_anything_changes() {
    let setup = MigrationCluster::bare();
    setup.put(&sample());
    let before = setup.metadata();
    let refused = |args: &[&str], code: i32, part: &str| {
        let shape = setup.shape();
        let (found, _, stderr) = match args {
            ["-e", etcd] => run(&mut setup.migrate_on(etcd)),
            _ => run(setup.migrate().args(args)),
        };
        assert_eq!(found, code, "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
        assert!(stderr.contains("Nothing was changed."), "{stderr}");
        assert_eq!(setup.shape(), shape);
        assert!(setup.metadata() == before);
    };
    // Without the definitions, no run starts.
    refused(
        &[],
        3,
        "milvus-guard crds | kubectl apply --server-side -f -",
    );
    common::install_definitions(setup.cluster());

    refused(
        &[],
        1,
        "Milvus my-release does not exist in namespace milvus; found: no Milvus",
    );
    setup.install(Helm::V4, &[]);
    refused(
        &["-i", "other"],
        1,
        "Milvus other does not exist in namespace milvus; found: my-release",
    );
    refused(
        &["-r", "other"],
        1,
        "-r is other, but my-release is configured with etcd.rootPath by-dev",
    );
    refused(&["-s", "2.1.2"], 1, "runs 2.1.4, but -s is 2.1.2");
    refused(&["-e", "http://127.0.0.1:1"], 1, "etcd cannot be used");
    // An etcd of another release.
    let other = milvus_guard_testbed::Etcd::start();
    refused(
        &["-e", &other.endpoint()],
        1,
        "the path by-dev/meta in etcd",
    );

    // A release that is not healthy.
    let image = [
        "-n",
        NAMESPACE,
        "set",
        "image",
        "deployment/my-release-milvus-proxy",
        "proxy=milvusdb/milvus:never-ready-v2.1.4",
    ];
    expect_success(setup.cluster().kubectl(image));
    refused(&[], 1, "my-release-milvus-proxy");
    expect_success(setup.cluster().kubectl([
        "-n",
        NAMESPACE,
        "rollout",
        "undo",
        "deployment/my-release-milvus-proxy",
    ]));
    setup.await_running();
    expect_success(setup.cluster().kubectl([
        "-n",
        NAMESPACE,
        "rollout",
        "pause",
        "deployment/my-release-milvus-proxy",
    ]));
    refused(&[], 1, "Deployment my-release-milvus-proxy is paused");
    expect_success(setup.cluster().kubectl([
        "-n",
        NAMESPACE,
        "rollout",
        "resume",
        "deployment/my-release-milvus-proxy",
    ]));

    // A release that an operator manages.
    let mine = |name: &str, patch: &str| {
        expect_success(setup.cluster().kubectl([
            "-n",
            NAMESPACE,
            "patch",
            "deployment",
            name,
            "--type=merge",
            "-p",
            patch,
        ]));
    };
    let manage = |by: &str| {
        let label =
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": by}}}).to_string();
        for one in setup.deployments() {
            mine(one["metadata"]["name"].as_str().unwrap(), &label);
        }
    };
    manage("milvus-operator");
    refused(&[], 1, "is managed by milvus-operator");
    // Helm removes only objects that are labeled as managed by Helm.
    manage("Helm");
    expect_success(
        setup
            .cluster()
            .helm(Helm::V4, ["uninstall", RELEASE, "-n", NAMESPACE]),
    );
    assert!(wait_until(DEADLINE, || setup.deployments().is_empty()));

    // A standalone, and metadata elsewhere.
    let chart = Chart::compact("3.2.18");
    let standalone = [
        "install",
        RELEASE,
        chart.path(),
        "-n",
        NAMESPACE,
        "--set",
        "cluster.enabled=false",
    ];
    expect_success(setup.cluster().helm(Helm::V4, standalone));
    refused(&[], 1, "is a standalone");
    expect_success(
        setup
            .cluster()
            .helm(Helm::V4, ["uninstall", RELEASE, "-n", NAMESPACE]),
    );
    expect_success(setup.cluster().helm(
        Helm::V4,
        ["install", RELEASE, chart.path(), "-n", NAMESPACE],
    ));
    let config = setup.cluster().get_json(&format!(
        "/api/v1/namespaces/{NAMESPACE}/configmaps/my-release-milvus"
    ));
    let text = format!(
        "metastore:\n  type: mysql\n{}",
        config["data"]["milvus.yaml"].as_str().unwrap()
    );
    let patch = json!({"data": {"milvus.yaml": text}}).to_string();
    expect_success(setup.cluster().kubectl([
        "-n",
        NAMESPACE,
        "patch",
        "configmap",
        "my-release-milvus",
        "--type=merge",
        "-p",
        &patch,
    ]));
    refused(&[], 1, "stores its metadata in mysql");
    // A run that was refused before it had a plan leaves no record.
    assert!(
        setup
            .runs(NAMESPACE)
            .iter()
            .all(|run| run["status"]["phase"] == "Refused")
    );
}
