//! Reports of `audit` on running releases.

use crate::{
    common,
    common::{file, guard, run},
};
use serde_json::Value;

#[test]
fn the_running_state_is_audited() {
    let folder = tempfile::tempdir().unwrap();
    let running = std::fs::read_to_string("examples/demo/2-good-upgrade/before.yaml").unwrap();
    let good = common::file(folder.path(), "good.yaml", &running);
    let (code, stdout, stderr) =
        common::run(common::guard().args(["audit", "--before", &good, "--format", "json"]));
    let report: serde_json::Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(
        (code, report["verdict"].as_str().unwrap() == "deny"),
        (0, false),
        "{report:#}"
    );
    let tag = running
        .lines()
        .find_map(|line| line.split("milvusdb/milvus:").nth(1))
        .unwrap()
        .trim_matches(['"', '\'', '}', ' ', ',']);
    let unknown = common::file(
        folder.path(),
        "unknown.yaml",
        &running.replace(&format!("milvusdb/milvus:{tag}"), "milvusdb/milvus:latest"),
    );
    let (code, stdout, _) =
        common::run(common::guard().args(["audit", "--before", &unknown, "--fail-on", "warn"]));
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("MG105"), "{stdout}");
    let (code, _, stderr) =
        common::run(common::guard().args(["audit", "--before", "version:2.5.12"]));
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn several_releases_are_a_table_and_findings_are_shown_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let one = std::fs::read_to_string("examples/demo/3-queue-swap/before.yaml").unwrap();
    let other = std::fs::read_to_string("examples/demo/1-skipped-migration/before.yaml").unwrap();
    let both = format!("{one}\n---\n{}", other.replace("my-release", "second"));
    let both = file(folder.path(), "both.yaml", &both);
    let audit = |args: &[&str]| run(guard().args(["audit", "--before", &both]).args(args));
    let (code, table, stderr) = audit(&[]);
    assert_eq!(code, 0, "{table}{stderr}");
    let title = table.lines().next().unwrap();
    for column in ["RELEASE", "VERSION", "NEWEST", "TARGET", "DENY", "LAST RUN"] {
        assert!(title.contains(column), "{column}: {table}");
    }
    for release in ["my-release", "second"] {
        let row = table.lines().find(|line| line.contains(release));
        assert!(row.is_some_and(|row| row.contains(" 3.0.")), "{table}");
    }
    assert!(
        !table.contains("MG"),
        "findings were not requested: {table}"
    );
    assert!(table.contains("--show warn"), "{table}");
    let (_, shown, _) = audit(&["--show", "all"]);
    assert!(shown.starts_with(title) && shown.contains("MG"), "{shown}");
    let (_, json, _) = audit(&["--format", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    for release in report["releases"].as_array().unwrap() {
        for field in ["target", "newestOfLine", "newestOfLinePublished"] {
            assert!(
                release["standing"][field].is_string(),
                "{field}: {release:#}"
            );
        }
        assert!(release["findings"]["deny"].is_u64(), "{release:#}");
    }
}

#[test]
fn an_audit_without_milvus_lists_other_workloads() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = ["Deployment", "Deployment", "StatefulSet"];
    let text: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(number, kind)| {
            format!(
                "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web-{number}}}\nspec: {{}}\n"
            )
        })
        .collect();
    let other = file(folder.path(), "other.yaml", &text.join("---\n"));
    let (code, stdout, stderr) = common::run(common::guard().args(["audit", "--before", &other]));
    assert_eq!((code, &*stdout), (2, ""), "{stderr}");
    for word in [
        "Milvus",
        "Deployment",
        "web-0",
        "web-1",
        "StatefulSet",
        "web-2",
    ] {
        assert!(stderr.contains(word), "{word} is not named: {stderr}");
    }
    let good = "examples/demo/2-good-upgrade/before.yaml";
    let (code, _, stderr) =
        common::run(common::guard().args(["audit", "--before", good, "-i", "nobody"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("no Milvus release 'nobody'; found: "),
        "{stderr}"
    );
}

#[test]
fn an_audit_takes_data_and_a_time_as_a_check_does() {
    let folder = tempfile::tempdir().unwrap();
    let running = "examples/demo/2-good-upgrade/before.yaml";
    let rows = "releases:\n  - {id: ours, versions: '=2.4.24', verdict: deny, why: it failed our \
                tests, use: '2.5.27', source: [ticket 42]}\n";
    let rows = file(folder.path(), "rows.yaml", rows);
    let exception = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: \
                     {name: a}\nspec:\n  rules: [MG104]\n  namespace: milvus\n  release: \
                     my-release\n  reason: known\n  owner: a@example.com\n  expires: \
                     2026-05-10T12:00:00Z\n";
    let exception = file(folder.path(), "exception.yaml", exception);
    let audit = |args: &[&str]| {
        let base = [
            "audit",
            "--before",
            running,
            "-n",
            "milvus",
            "--fail-on=warn",
        ];
        let (_, stdout, stderr) = run(guard().args(base).args(args));
        assert_eq!(stderr, "", "{args:?}");
        stdout.contains("\n× MG104 ")
    };
    assert!(!audit(&[]));
    assert!(audit(&["--data", &rows]));
    let excepted = ["--data", &rows, "--policy", &exception, "--now"];
    assert!(!audit(&[&excepted[..], &["2026-05-10T11:59:59Z"]].concat()));
    assert!(audit(&[&excepted[..], &["2026-05-10T12:00:00Z"]].concat()));
}
