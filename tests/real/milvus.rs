//! Real Milvus servers: 2.2.16 serves data of 2.1.0 after the migration, and 2.1.0 serves it again
//! after the restore. The servers are large downloads: `make test-milvus`.

use std::io::Write as _;
use std::path::Path;
use std::{env, fs, io};

use crate::common::{guard, run};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use milvus_guard_testbed::{Milvus, MilvusStore, MilvusVersion, expect_success};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milvus/data.py");
const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/metadata/milvus-2.1.0.json"
);
/// Each release has its own version of the search library, which may sum up distances in another
/// order.
const TOLERANCE: f64 = 1e-5;

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn data_of_2_1_is_served_by_2_2_after_the_migration_and_by_2_1_after_the_restore() {
    let server = MilvusStore::new().serve(MilvusVersion::V2_1_0);
    say("2.1.0 runs");
    ask(&server, "write");
    let written = read(&server);
    assert!(differences(&written, &written).is_empty());
    let store = server.stop();
    update_fixture(&store);
    let original = metadata(&store);
    say("2.1.0 has written and answered");

    let server = store.twin().serve(MilvusVersion::V2_2_16);
    indexes_are_lost(&written, &read(&server));
    drop(server);
    say("2.2.16 has lost the indexes without a migration");

    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    migrate(&store, &backup);
    say("migrated");
    let (server, answers) = serve_migrated(store);
    assert_eq!(differences(&written, &answers), Vec::<String>::new());
    ask(&server, "add");
    let store = server.stop();
    say("2.2.16 has answered as 2.1.0 did");

    restore(&store, &backup);
    assert_eq!(metadata(&store), original, "restored metadata");
    say("restored");
    let server = store.serve(MilvusVersion::V2_1_0);
    assert_eq!(differences(&written, &read(&server)), Vec::<String>::new());
    say("2.1.0 has answered as before");
}

/// Shows that the comparison can fail: without a migration, 2.2.16 has the collections and their
/// rows, but not their indexes.
fn indexes_are_lost(written: &Value, served: &Value) {
    assert_eq!(
        names(&served["collections"]),
        names(&written["collections"])
    );
    for (name, collection) in served["collections"].as_object().unwrap() {
        assert_eq!(
            collection["rows"], written["collections"][name]["rows"],
            "{name}"
        );
        assert_eq!(collection["indexes"], json!([]), "{name}");
    }
    assert_eq!(served["loaded"], json!({}));
    let answers = &served["neighbours"];
    for name in names(answers) {
        let error = answers[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} was searched without an index: {answers:#}"));
        let expected = [
            "index doesn't exist",
            "collection not loaded",
            "not been loaded",
        ];
        assert!(
            expected.iter().any(|text| error.contains(text)),
            "{name}: {error}"
        );
    }
    assert!(!differences(written, served).is_empty());
}

/// Differences between two answers, by JSON path; distances may differ by rounding.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all
}

fn compare(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) if names(expected) == names(found) => {
            left.iter().for_each(|(key, value)| {
                compare(&format!("{path}/{key}"), value, &right[key], differences);
            });
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (at, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}/{at}"), left, right, differences);
            }
        }
        (Value::Number(left), Value::Number(right)) if left.is_f64() && right.is_f64() => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            if (left - right).abs() > TOLERANCE * left.abs().max(1.0) {
                differences.push(format!("{path}: {left}, now {right}"));
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path}: {expected}, now {found}")),
    }
}

fn names(object: &Value) -> Vec<&String> {
    object
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {object}"))
        .keys()
        .collect()
}

/// Runs the script against the server.
fn ask(server: &Milvus, verb: &str) -> String {
    expect_success(server.python(Path::new(SCRIPT), [verb, &server.port().to_string()]))
}

fn read(server: &Milvus) -> Value {
    serde_json::from_str(&ask(server, "read")).unwrap()
}

/// Serves with 2.2.16 and reads. Its first start after 2.1 may crash (see the test bed); it is then
/// started again.
fn serve_migrated(mut store: MilvusStore) -> (Milvus, Value) {
    for _ in 0..3 {
        let server = store.serve(MilvusVersion::V2_2_16);
        let output = server.python(Path::new(SCRIPT), ["read", &server.port().to_string()]);
        if server.daemon().pid().is_some() {
            let answers = serde_json::from_str(&expect_success(output)).unwrap();
            return (server, answers);
        }
        say(&format!(
            "2.2.16 crashed while it was read; starting it again. The end of its log:\n{}",
            server.daemon().log_tail(12)
        ));
        store = server.stop();
    }
    panic!("2.2.16 crashed three times while it was read");
}

fn migrate(store: &MilvusStore, backup: &Path) {
    let (code, stdout, stderr) = run(guard()
        .args(["meta", "migrate", "-s", "2.1.0", "-t", "2.2.16", "--yes"])
        .args(target(store))
        .arg("--backup")
        .arg(backup));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("bare") || stderr.contains("bare"),
        "a collection without an index is not named: {stdout}{stderr}"
    );
    let (code, stdout, stderr) = run(guard()
        .args(["meta", "verify"])
        .args(target(store))
        .arg("--backup")
        .arg(backup));
    assert_eq!(code, 0, "{stdout}{stderr}");
}

fn restore(store: &MilvusStore, backup: &Path) {
    let command = |flags: &[&str]| {
        run(guard()
            .args(["meta", "restore", "--yes"])
            .arg(backup)
            .args(target(store))
            .args(flags))
    };
    let (code, stdout, stderr) = command(&[]);
    assert_eq!(
        code, 1,
        "data that 2.2 wrote may be lost only with consent: \
         {stdout}{stderr}"
    );
    assert!(
        stdout.contains("added") || stderr.contains("added"),
        "what would be lost is not named: {stdout}{stderr}"
    );
    let (code, stdout, stderr) = command(&["--accept-data-loss"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
}

fn target(store: &MilvusStore) -> [String; 4] {
    [
        "--etcd".to_owned(),
        store.etcd().endpoint(),
        "--root-path".to_owned(),
        MilvusStore::ROOT_PATH.to_owned(),
    ]
}

/// All records, as etcdctl prints them.
fn records(store: &MilvusStore) -> Value {
    let output = store.etcd().etcdctl([
        "get",
        "--prefix",
        MilvusStore::ROOT_PATH,
        "--write-out=json",
    ]);
    serde_json::from_str(&expect_success(output)).unwrap()
}

/// Keys and values of the metadata, without the session counter, which is never restored.
fn metadata(store: &MilvusStore) -> Vec<(String, String)> {
    let records = records(store);
    let records = records["kvs"].as_array().unwrap().iter();
    let records = records.map(|record| {
        (
            key(record),
            record["value"].as_str().unwrap_or_default().to_owned(),
        )
    });
    let prefix = format!("{}/meta/", MilvusStore::ROOT_PATH);
    records
        .filter(|(key, _)| key.starts_with(&prefix) && !key.ends_with("/session/id"))
        .collect()
}

fn key(record: &Value) -> String {
    String::from_utf8(
        BASE64_STANDARD
            .decode(record["key"].as_str().unwrap())
            .unwrap(),
    )
    .unwrap()
}

/// Replaces the fixture that unit tests read, if `UPDATE_GENERATED` is set.
fn update_fixture(store: &MilvusStore) {
    if env::var_os("UPDATE_GENERATED").is_none() {
        return;
    }
    let answer = records(store);
    let lines: Vec<String> = answer["kvs"].as_array().unwrap().iter().map(|record| {
        assert!(record.get("lease").is_none(), "a stopped server has no lease");
        json!({"key": key(record), "mod_revision": record["mod_revision"], "value": record["value"].as_str().unwrap_or_default()})
            .to_string()
    }).collect();
    let header = &answer["header"];
    let text = format!(
        "{{\"milvus\": \"2.1.0\", \"root\": \"{}\", \"cluster_id\": {}, \"revision\": {}, \"records\": [\n{}\n]}}\n",
        MilvusStore::ROOT_PATH,
        header["cluster_id"],
        header["revision"],
        lines.join(",\n"),
    );
    fs::write(FIXTURE, text).unwrap();
}

/// Progress for a user who waits for minutes.
fn say(what: &str) {
    // Not eprintln: libtest would capture it.
    let mut stderr = io::stderr();
    writeln!(stderr, "test-milvus: {what}").unwrap();
}
