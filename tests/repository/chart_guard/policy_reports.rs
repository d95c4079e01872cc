//! Reports of the OpenReports project, which the audit writes.

use std::{path::Path, time::Duration};

use super::{NAMESPACE, apply_all, namespace, rendered, serving::start_as_charted, text};
use crate::common::{Chart, install_definitions, webhook::Server};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, wait_for};
use serde_json::Value;

/// The kind `Report` as the OpenReports project defines it.
const OPEN_REPORTS: &str = include_str!("../../fixtures/openreports/reports.yaml");

/// A guard that audits each second and writes Reports, with the rights of the chart.
fn start_with_reports(cluster: &ControlPlane, folder: &Path) -> Server {
    for name in [NAMESPACE, "milvus", "other"] {
        namespace(cluster, name);
    }
    let chart = Chart::compact("4.1.34");
    expect_success(cluster.helm(
        Helm::V4,
        ["install", "my-release", chart.path(), "-n", "milvus"],
    ));
    install_definitions(cluster);
    let documents = rendered(&["auditInterval=1s", "openReports.enabled=true"]);
    apply_all(cluster, &documents);
    // The Service of the certificate does not exist here, so the gates are disabled.
    let without_gate = ["workloadGate.enabled=false"];
    start_as_charted(cluster, folder, &documents, &without_gate)
}

fn policy_report(cluster: &ControlPlane) -> Option<Value> {
    let get = [
        "get",
        "reports",
        "milvus-guard",
        "-n",
        "milvus",
        "-o",
        "json",
    ];
    serde_json::from_slice(&cluster.kubectl(get).stdout).ok()
}

#[test]
fn policy_reports_are_deleted_when_the_option_is_disabled() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    let folder = tempfile::tempdir().unwrap();
    cluster.apply(OPEN_REPORTS);
    let _server = start_with_reports(&cluster, folder.path());
    wait_for("the report", Duration::from_secs(60), || {
        policy_report(&cluster).is_some()
    });
    let with = rendered(&["openReports.enabled=true"]);
    let without = rendered(&[]);
    let key = |object: &Value| [text(object, "/kind"), text(object, "/metadata/name")].join("/");
    let kept: Vec<String> = without.iter().map(key).collect();
    let removed: Vec<String> = with
        .iter()
        .map(key)
        .filter(|key| !kept.contains(key))
        .collect();
    assert_eq!(removed.len(), 2, "{removed:?}");
    expect_success(
        cluster.kubectl(
            ["delete"]
                .into_iter()
                .chain(removed.iter().map(|key| &**key)),
        ),
    );
    wait_for("the report to go", Duration::from_secs(120), || {
        policy_report(&cluster).is_none()
    });
}

#[test]
fn the_audit_writes_policy_reports_if_the_kind_is_served() {
    let cluster = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    let server = start_with_reports(&cluster, folder.path());
    let info = "milvus_guard_release_info{release_namespace=\"milvus\",release=\"my-release\"";
    wait_for("an audit without the kind", Duration::from_secs(60), || {
        server.get_metrics().contains(info)
    });

    cluster.apply(OPEN_REPORTS);
    let found = || policy_report(&cluster);
    wait_for("the report", Duration::from_secs(60), || found().is_some());
    let report = found().unwrap();
    let results = report["results"].as_array().unwrap();
    let counted: u64 = ["pass", "fail", "warn", "error", "skip"]
        .iter()
        .map(|kind| report["summary"][kind].as_u64().unwrap())
        .sum();
    assert_eq!(counted, results.len() as u64, "{report:#}");
    let passed = results
        .iter()
        .find(|result| result["result"] == "pass")
        .unwrap();
    assert_eq!(passed["properties"]["release"], "my-release", "{passed:#}");
    assert!(
        text(passed, "/properties/docs").contains(text(passed, "/policy")),
        "{passed:#}"
    );
    assert!(
        passed["timestamp"]["seconds"].as_u64().unwrap() > 0,
        "{passed:#}"
    );

    // A deleted Report is written again; an unchanged one is not.
    let version = text(&report, "/metadata/resourceVersion");
    let audits = || {
        let name = "milvus_guard_audit_last_run_timestamp_seconds ";
        let metrics = server.get_metrics();
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))
    };
    let before = audits();
    wait_for("another audit", Duration::from_secs(60), || {
        audits() != before
    });
    let after = found().unwrap();
    assert_eq!(text(&after, "/metadata/resourceVersion"), version);
    expect_success(cluster.kubectl(["delete", "reports", "--all", "-n", "milvus"]));
    wait_for("the report again", Duration::from_secs(60), || {
        found().is_some()
    });

    expect_success(cluster.kubectl(["delete", "deployments", "--all", "-n", "milvus"]));
    wait_for("no report without Milvus", Duration::from_secs(60), || {
        let reports = cluster.get_json("/apis/openreports.io/v1alpha1/reports");
        reports["items"].as_array().is_some_and(Vec::is_empty)
    });
    wait_for("no series without Milvus", Duration::from_secs(60), || {
        !server.get_metrics().contains(info)
    });
    let log = server.log();
    assert!(
        !log.contains("policy reports could not be written"),
        "{log}"
    );
}
