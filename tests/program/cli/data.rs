//! `data`: the embedded rows about Milvus releases, and rows of the user's files.

use crate::common::{file, guard, run};
use serde_json::Value;

/// Rows of a user's file: one is new, one replaces a row of the embedded data.
const OWN_ROWS: &str = r#"asOf: "2027-01-02"
released:
  - {version: "2.6.26", date: "2026-12-20"}
landing:
  - {line: "2.6", version: "2.6.26", source: [ours]}
releases:
  - {id: ours, versions: "=2.6.24", verdict: deny, why: it failed our own tests, use: "2.6.26", source: [ticket 42]}
"#;

#[test]
fn data_list_shows_the_day_and_the_changes_by_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), "own.yaml", OWN_ROWS);
    let (code, version, _) = run(guard().arg("--version"));
    assert_eq!(code, 0);
    let day = version
        .trim()
        .strip_prefix("milvus-guard 0.1.0 (data of ")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap();
    let (code, text, _) = run(guard().args(["data", "list"]));
    assert_eq!(code, 0);
    assert!(text.starts_with(&format!("data of {day}\n")), "{text}");
    assert!(
        text.contains("releases")
            && text.contains("paths")
            && text.contains("from embedded: data of"),
        "{text}"
    );
    let (code, text, _) = run(guard().args(["data", "list", "--data", &own]));
    assert_eq!(code, 0);
    assert!(
        text.starts_with("data of 2027-01-02\n") && text.contains("own.yaml: data of 2027-01-02"),
        "{text}"
    );
    assert!(
        text.contains("landing          0 added, 1 replaced")
            && text.contains("releases         1 added, 0 replaced"),
        "{text}"
    );
    let (_, json, _) = run(guard().args(["data", "list", "--format", "json", "--data", &own]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["asOf"], &json["sources"][0]["asOf"]),
        (&"2027-01-02".into(), &day.into()),
        "{json:#}"
    );
    let rows = |table: &str| {
        let tables = json["tables"].as_array().unwrap();
        tables
            .iter()
            .find(|entry| entry["table"] == table)
            .and_then(|entry| entry["rows"].as_u64())
            .unwrap()
    };
    assert!(rows("charts") > 200 && rows("paths") > 40);
    let (code, _, stderr) = run(guard().args(["data", "list", "--data", "/nonexistent.yaml"]));
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn rows_are_shown_by_name_version_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let own = file(folder.path(), "own.yaml", OWN_ROWS);
    let show = |args: &[&str]| run(guard().args(["data", "show"]).args(args));
    let rows = |args: &[&str]| -> Vec<(String, String)> {
        let (code, json, stderr) = show(&[args, &["--format", "json"]].concat());
        assert_eq!(code, 0, "{args:?}: {stderr}");
        let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
        rows.iter()
            .map(|row| {
                (
                    row["table"].as_str().unwrap().to_owned(),
                    row["key"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    };
    let pair = |table: &str, key: &str| (table.to_owned(), key.to_owned());
    assert_eq!(rows(&["chart", "5.0.28"]), [pair("charts", "5.0.28")]);
    assert_eq!(rows(&["5.0.28"]), [pair("charts", "5.0.28")]);
    assert_eq!(
        rows(&["path", "2.4.24", "2.6.24"]),
        [pair("paths", "2.4-to-2.6")]
    );
    assert_eq!(rows(&["2.4-to-2.6"]), [pair("paths", "2.4-to-2.6")]);
    assert_eq!(rows(&["landing", "2.6"]), [pair("landing", "2.6")]);
    let about = rows(&["release", "2.4.13"]);
    for row in [
        pair("released", "2.4.13"),
        pair("releases", "2.4.13-lost-collections"),
        pair("charts", "4.2.13"),
    ] {
        assert!(about.contains(&row), "{row:?} is missing in {about:?}");
    }
    assert!(rows(&["2.6.24", "--data", &own]).contains(&pair("releases", "ours")));
    assert!(rows(&["releases"]).len() > 40 && rows(&["table", "orders"]).len() > 5);
    let (code, text, _) = show(&["2.4.13-lost-collections"]);
    assert_eq!(code, 0);
    assert!(
        text.starts_with("releases: 2.4.13-lost-collections\n") && text.contains("milvus-helm#156"),
        "{text}"
    );
    let (_, yaml, _) = show(&["2.4-to-2.5", "--format", "yaml"]);
    assert!(yaml.contains("2.5 follows 2.4 directly"), "{yaml}");
    let (code, _, stderr) = show(&["lost-collections"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("2.4.13-lost-collections"), "{stderr}");
    assert_eq!(show(&["9.9.9"]).0, 1);
    assert_eq!(show(&["release", "latest"]).0, 2);
    assert_eq!(show(&["nonsense", "2.5.1"]).0, 2);
    assert_eq!(show(&[]).0, 2);
}

#[test]
fn own_rows_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.yaml", OWN_ROWS);
    let wrong = file(
        folder.path(),
        "wrong.yaml",
        "releases:\n  - id: x\n    versions: '=2.5.1'\n    verdict: wrn\n",
    );
    let broken = file(folder.path(), "broken.yaml", "releases: [\n");
    let validate = |args: &[&str]| run(guard().args(["data", "validate"]).args(args));
    let (code, text, _) = validate(&[&good]);
    assert_eq!((code, text.as_str()), (0, "1 file, every row is valid\n"));
    let (code, text, _) = validate(&[&good, &wrong]);
    assert_eq!(code, 1);
    assert!(
        text.contains("wrong.yaml:")
            && text.contains("releases[0] (x): ")
            && text.contains("did you mean 'warn'?"),
        "{text}"
    );
    let (code, json, _) = validate(&[&wrong, "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, json[0]["line"].as_u64(), json[0]["row"].as_str()),
        (1, Some(4), Some("releases[0] (x)")),
        "{json:#}"
    );
    assert_eq!(validate(&[&broken]).0, 2);
    assert_eq!(validate(&["/nonexistent.yaml"]).0, 2);
}
