//! Inputs of `check`: standard input, lists, reviews, folders, versions.

use std::{io::Write, process::Stdio};

use rstest::rstest;

use super::{WARNED, demo};
use crate::common::{Judged, file, guard};
use serde_json::Value;

fn piped(args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = guard()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn standard_input_lists_and_json_are_read() {
    let before = demo(WARNED, "before");
    let after = std::fs::read_to_string(demo(WARNED, "after")).unwrap();
    let (code, stdout, stderr) = piped(
        &[
            "check", "--before", &before, "--after", "-", "-n", "milvus", "--format", "json",
        ],
        &after,
    );
    assert_eq!(code, 0, "{stderr}");
    let from_stdin: Value = serde_json::from_str(&stdout).unwrap();

    let items: Vec<Value> = milvus_guard_core::manifest::documents(&after)
        .map(|document| document.unwrap().root.to_json())
        .collect();
    let list = serde_json::to_string_pretty(
        &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}),
    )
    .unwrap();
    let (code, stdout, stderr) = piped(
        &[
            "check", "--before", &before, "--after", "-", "-n", "milvus", "--format", "json",
        ],
        &list,
    );
    assert_eq!(code, 0, "{stderr}");
    let from_list: Value = serde_json::from_str(&stdout).unwrap();
    let rules = |report: &Value| {
        report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["rule"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(&from_stdin), rules(&from_list));

    let (code, _, stderr) = piped(&["check", "--before", "-", "--after", "-"], &after);
    assert_eq!(code, 2);
    assert!(stderr.contains("only one input"), "{stderr}");
}

#[test]
fn what_is_validated_can_come_from_standard_input() {
    let policy = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec:\n  rules:\n    - {id: MG999, action: Warn}\n";
    let (code, stdout, stderr) = piped(&["policy", "lint", "-"], policy);
    assert!(
        code == 1 && stdout.starts_with("stdin:6: error:"),
        "{stdout}{stderr}"
    );
    let rows = "landing:\n  - {line: '2.6', version: wrong}\n";
    let (code, stdout, stderr) = piped(&["data", "validate", "-"], rows);
    assert!(code == 1 && stdout.contains("stdin:2:"), "{stdout}{stderr}");
}

#[test]
fn an_admission_review_is_read_on_both_sides() {
    let deployment = |tag: &str| {
        serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "my-release-milvus-standalone", "namespace": "milvus"},
            "spec": {"selector": {"matchLabels": {"app.kubernetes.io/instance": "my-release", "component": "standalone"}},
                "template": {"spec": {"containers": [{"name": "standalone", "image": format!("milvusdb/milvus:{tag}"), "args": ["milvus", "run", "standalone"]}]}}}})
    };
    let review = serde_json::json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "1", "namespace": "milvus", "operation": "UPDATE", "object": deployment("v2.6.22"), "oldObject": deployment("v2.4.24")}});
    let folder = tempfile::tempdir().unwrap();
    let review = file(folder.path(), "review.json", &review.to_string());
    let judged = Judged::of(&["--before", &review, "--after", &review]);
    assert_eq!(
        (judged.report["from"].as_str(), judged.report["to"].as_str()),
        (Some("2.4.24"), Some("2.6.22"))
    );
    assert!(judged.rules("deny").contains(&"MG102".to_owned()));
}

#[test]
fn a_folder_and_a_version_are_inputs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    file(
        folder.path(),
        "inner/milvus.yaml",
        &std::fs::read_to_string(demo(WARNED, "before")).unwrap(),
    );
    file(folder.path(), "notes.txt", "not for us");
    let judged = Judged::of(&[
        "--before",
        folder.path().to_str().unwrap(),
        "--after",
        "version:2.6.22",
        "-n",
        "milvus",
    ]);
    assert_eq!(judged.report["to"], "2.6.22");
    assert!(judged.rules("deny").contains(&"MG102".to_owned()));
    assert!(
        judged.report["inputs"][0]["notRead"]
            .to_string()
            .contains("notes.txt")
    );
}

#[test]
fn several_releases_and_other_objects_in_one_input_are_separated() {
    let text = std::fs::read_to_string(demo(WARNED, "before")).unwrap();
    let other = text
        .replace("my-release", "other")
        .replace("v2.4.24", "v2.5.27");
    let stranger = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers: [{name: web, image: \"nginx:latest\"}]\n";
    let folder = tempfile::tempdir().unwrap();
    let both = file(
        folder.path(),
        "both.yaml",
        &format!("{text}{other}{stranger}"),
    );
    let judged = Judged::of(&["--before", &both, "--after", &both, "-n", "milvus"]);
    assert_eq!(judged.verdict(), "allow", "{:#}", judged.report["findings"]);
    assert_eq!(judged.report["releases"].as_array().unwrap().len(), 2);
    assert_eq!(judged.report["from"], Value::Null, "releases differ");
    let only = Judged::of(&[
        "--before", &both, "--after", &both, "-n", "milvus", "-i", "other",
    ]);
    assert_eq!(only.report["from"], "2.5.27");
}

/// A standalone with this name, namespace, address of etcd, root path and number of replicas.
fn standalone((name, namespace, etcd, root, replicas): (&str, &str, &str, &str, u8)) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers:\n        - name: milvus\n          image: milvusdb/milvus:v2.5.27\n          args: [milvus, run, standalone]\n          env: [{{name: ETCD_ENDPOINTS, value: \"{etcd}\"}}, {{name: ETCD_ROOTPATH, value: {root}}}, {{name: MINIO_ADDRESS, value: minio.s3}}]\n---\n"
    )
}

#[rstest]
#[case::one_etcd(("two", "a", "etcd:2379", "by-dev", 1), 1)]
#[case::from_another_namespace(("two", "b", "etcd.a.svc:2379", "by-dev", 1), 1)]
#[case::one_address_in_common(("two", "a", "other:2379,etcd.a:2379", "by-dev", 1), 1)]
#[case::another_root_path(("two", "a", "etcd:2379", "two", 1), 0)]
#[case::the_etcd_of_another_namespace(("two", "b", "etcd:2379", "by-dev", 1), 0)]
#[case::that_does_not_run(("two", "a", "etcd:2379", "by-dev", 0), 0)]
fn a_second_milvus_on_the_metadata_of_a_running_one_is_denied(
    #[case] second: (&str, &str, &str, &str, u8),
    #[case] denied: usize,
) {
    let folder = tempfile::tempdir().unwrap();
    let first = |replicas| standalone(("one", "a", "etcd:2379", "by-dev", replicas));
    let file = |name: &str, text: &str| file(folder.path(), name, text);
    let before = file("before.yaml", &first(1));
    let both = file("both.yaml", &(first(1) + &standalone(second)));
    let stopped = file("stopped.yaml", &(first(0) + &standalone(second)));
    let rules = |before: &[&str], after: &str| {
        let judged = Judged::of(&[before, &["--after", after]].concat());
        let mut rules = judged.rules("deny");
        rules.retain(|rule| rule == "MG202");
        rules.len()
    };
    assert_eq!(rules(&["--before", &before], &both), denied, "a new one");
    assert_eq!(rules(&[], &both), denied, "two new ones");
    assert_eq!(rules(&["--before", &both], &both), 0, "both run already");
    assert_eq!(rules(&["--before", &before], &stopped), 0, "one stops");
}

/// A standalone with this name in namespace `a`, its own metadata, these variables and a claim.
fn with_own_metadata(name: &str, variables: &str, claim: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: a}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      volumes: [{{name: d, persistentVolumeClaim: {{claimName: {claim}}}}}]\n      containers:\n        - name: milvus\n          image: milvusdb/milvus:v2.5.27\n          args: [milvus, run, standalone]\n          volumeMounts: [{{name: d, mountPath: /var/lib/milvus}}]\n          env: [{{name: ETCD_ENDPOINTS, value: \"etcd:2379\"}}, {{name: ETCD_ROOTPATH, value: {name}}}, {variables}]\n---\n"
    )
}

const OBJECTS: &str = "{name: MINIO_ADDRESS, value: minio.s3}, {name: MINIO_BUCKETNAME, value: b}, {name: MINIO_ROOTPATH, value: r}";
const CHANNELS: &str = "{name: MQ_TYPE, value: pulsar}, {name: PULSAR_ADDRESS, value: pulsar.q}";

#[rstest]
#[case::objects(OBJECTS, OBJECTS, "c", Some("MG303"))]
#[case::another_spelling(
    OBJECTS,
    "{name: MINIO_ADDRESS, value: 'minio.s3.svc.cluster.local:9000'}, {name: MINIO_BUCKETNAME, value: b}, {name: MINIO_ROOTPATH, value: r/}",
    "c",
    Some("MG303")
)]
#[case::another_bucket(
    OBJECTS,
    "{name: MINIO_ADDRESS, value: minio.s3}, {name: MINIO_BUCKETNAME, value: c}, {name: MINIO_ROOTPATH, value: r}",
    "c",
    None
)]
#[case::another_root_path(
    OBJECTS,
    "{name: MINIO_ADDRESS, value: minio.s3}, {name: MINIO_BUCKETNAME, value: b}, {name: MINIO_ROOTPATH, value: s}",
    "c",
    None
)]
#[case::another_store(
    OBJECTS,
    "{name: MINIO_ADDRESS, value: other.s3}, {name: MINIO_BUCKETNAME, value: b}, {name: MINIO_ROOTPATH, value: r}",
    "c",
    None
)]
#[case::a_region_of_one_provider(
    "{name: MINIO_ADDRESS, value: s3.amazonaws.com}, {name: MINIO_BUCKETNAME, value: b}",
    "{name: MINIO_ADDRESS, value: s3.eu-west-1.amazonaws.com}, {name: MINIO_BUCKETNAME, value: b}",
    "c",
    Some("MG303")
)]
#[case::channels(CHANNELS, CHANNELS, "c", Some("MG301"))]
#[case::another_prefix(
    CHANNELS,
    "{name: MQ_TYPE, value: pulsar}, {name: PULSAR_ADDRESS, value: pulsar.q}, {name: MSGCHANNEL_CHANNAMEPREFIX_CLUSTER, value: two}",
    "c",
    None
)]
#[case::another_tenant(
    CHANNELS,
    "{name: MQ_TYPE, value: pulsar}, {name: PULSAR_ADDRESS, value: pulsar.q}, {name: PULSAR_TENANT, value: two}",
    "c",
    None
)]
#[case::a_claim("{name: X, value: y}", "{name: X, value: y}", "one", Some("MG305"))]
fn a_second_milvus_shares_no_data_with_a_running_one(
    #[case] first: &str,
    #[case] second: &str,
    #[case] claim: &str,
    #[case] denied: Option<&str>,
) {
    let folder = tempfile::tempdir().unwrap();
    let one = with_own_metadata("one", first, "one");
    let both = one.clone() + &with_own_metadata("two", second, claim);
    let before = file(folder.path(), "before.yaml", &one);
    let both = file(folder.path(), "both.yaml", &both);
    let rules = |before: &str| {
        let judged = Judged::of(&["--before", before, "--after", &both]);
        let mut rules = judged.rules("deny");
        rules.retain(|rule| ["MG202", "MG301", "MG303", "MG305"].contains(&rule.as_str()));
        rules
    };
    let expected: Vec<&str> = denied.into_iter().collect();
    assert_eq!(rules(&before), expected);
    assert!(rules(&both).is_empty(), "both run already");
}

/// A standalone whose `milvus.yaml` is the image's own, or this text.
fn with_file(text: Option<&str>) -> String {
    let (mount, volume, config) = text.map_or_else(Default::default, |text| {
        (
            "{name: c, mountPath: /milvus/configs/milvus.yaml, subPath: milvus.yaml}",
            "{name: c, configMap: {name: c}}",
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: a}}\ndata:\n  milvus.yaml: '{text}'\n"),
        )
    });
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: m, namespace: a}}\nspec:\n  selector: {{matchLabels: {{app: m}}}}\n  template:\n    metadata: {{labels: {{app: m}}}}\n    spec:\n      volumes: [{volume}]\n      containers:\n        - name: milvus\n          image: milvusdb/milvus:v2.5.27\n          args: [milvus, run, standalone]\n          volumeMounts: [{mount}]\n          env: [{{name: ETCD_ENDPOINTS, value: \"etcd:2379\"}}, {{name: MINIO_ADDRESS, value: \"minio:9000\"}}]\n---\n{config}"
    )
}

#[rstest]
#[case::hidden(None, Some("log: {level: info}"), true)]
#[case::hidden_and_set(None, Some("minio: {rootPath: files}"), false)]
#[case::shown(Some("log: {level: info}"), None, true)]
#[case::set_where_it_was_hidden(Some("log: {level: info}"), Some("minio: {rootPath: files}"), true)]
#[case::hidden_twice(Some("log: {level: info}"), Some("log: {level: debug}"), false)]
#[case::spaces(None, Some("minio: {rootPath: \"files \"}"), true)]
#[case::set_to_nothing(Some("log: {level: info}"), Some("minio: {rootPath: \"\"}"), false)]
fn a_file_that_replaces_that_of_the_image_takes_its_defaults_away(
    #[case] before: Option<&str>,
    #[case] after: Option<&str>,
    #[case] denied: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let before = file(folder.path(), "before.yaml", &with_file(before));
    let after = file(folder.path(), "after.yaml", &with_file(after));
    let judged = Judged::of(&["--before", &before, "--after", &after]);
    let rules = judged.rules("deny");
    assert_eq!(
        rules.iter().any(|rule| rule == "MG303"),
        denied,
        "{rules:?}"
    );
}
