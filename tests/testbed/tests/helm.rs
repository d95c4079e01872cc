//! Both versions of Helm install and upgrade a small chart.

#![expect(
    clippy::expect_used,
    reason = "functions that tests share fail the test as well"
)]

use std::fs;
use std::path::Path;

use milvus_guard_testbed::{
    ControlPlane, HELM_3_VERSION, HELM_4_VERSION, Helm, expect_success, helm,
};
use tempfile::TempDir;

fn chart() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).expect("a file of the chart");
    };
    // The constraint tests the version that the API server reports: Helm refuses a server that was
    // built without one.
    write(
        "Chart.yaml",
        "{apiVersion: v2, name: tiny, version: 0.1.0, kubeVersion: '>=1.30.0'}",
    );
    write("values.yaml", "{word: hello}");
    fs::create_dir(dir.path().join("templates")).expect("a directory");
    write(
        "templates/configmap.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\ndata: {word: '{{ .Values.word }}'}\n",
    );
    dir
}

fn install_and_upgrade(cluster: &ControlPlane, version: Helm, chart: &Path, release: &str) {
    let chart = chart.to_str().expect("a path in UTF-8");
    expect_success(cluster.helm(version, ["install", release, chart]));
    expect_success(cluster.helm(version, ["upgrade", release, chart, "--set", "word=bye"]));
    let object = cluster.get_json(&format!("/api/v1/namespaces/default/configmaps/{release}"));
    assert_eq!(object["data"]["word"], "bye");
    let history = expect_success(cluster.helm(version, ["history", release, "--output=json"]));
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    assert_eq!(
        (&history[0]["status"], &history[1]["status"]),
        (&"superseded".into(), &"deployed".into())
    );
}

#[test]
fn both_helms_install_a_chart() {
    let (cluster, chart) = (ControlPlane::start(), chart());
    install_and_upgrade(&cluster, Helm::V3, chart.path(), "three");
    install_and_upgrade(&cluster, Helm::V4, chart.path(), "four");

    let output = cluster
        .helm_command(Helm::V3)
        .env("HELM_DRIVER", "configmap")
        .args(["list", "--short"])
        .output();
    assert_eq!(expect_success(output.expect("helm runs")), "");
}

#[test]
fn helm_reports_its_version() {
    let cache = tempfile::tempdir().expect("a directory");
    for (version, expected) in [(Helm::V3, HELM_3_VERSION), (Helm::V4, HELM_4_VERSION)] {
        let mut command = std::process::Command::new(helm(version));
        let output = command
            .args(["version", "--short"])
            .env("HOME", cache.path())
            .output()
            .expect("helm runs");
        assert!(expect_success(output).starts_with(expected));
    }
}
