//! Inputs of `check`: parts of a release, other namespaces, printed output of Helm, JSON of
//! Terraform, other encodings, and files of other kinds.

use std::{fs, io::Write, path::Path};

use crate::common::{file, guard, run};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use milvus_guard_core::manifest::documents;
use milvus_guard_sources::files::{Role, objects::Collector, part};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

/// A standalone Milvus, its configuration and its etcd, as three documents.
fn stack(tag: &str, etcd: bool) -> String {
    let milvus = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: milvus, namespace: search}}\nspec:\n  selector: {{matchLabels: {{app: milvus}}}}\n  template:\n    metadata: {{labels: {{app: milvus}}}}\n    spec:\n      containers:\n      - name: milvus\n        image: milvusdb/milvus:{tag}\n        command: [milvus, run, standalone]\n        env: [{{name: ETCD_ENDPOINTS, value: 'milvus-etcd:2379'}}]\n"
    );
    let store = "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: milvus-etcd, namespace: search}\nspec:\n  serviceName: milvus-etcd\n  selector: {matchLabels: {app: etcd}}\n  template:\n    metadata: {labels: {app: etcd}}\n    spec:\n      containers: [{name: etcd, image: 'quay.io/coreos/etcd:v3.5.18'}]\n  volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1Gi}}}}]\n";
    if etcd {
        format!("{milvus}{store}")
    } else {
        milvus
    }
}

/// The report on a change; both sides are given as text.
fn judged(before: &str, after: &str, more: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (
        file(folder.path(), "before.yaml", before),
        file(folder.path(), "after.yaml", after),
    );
    let (code, stdout, stderr) = run(guard()
        .args([
            "check", "--before", &before, "--after", &after, "--format", "json",
        ])
        .args(more));
    (
        code,
        serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stderr,
    )
}

fn denies(report: &Value, rule: &str) -> bool {
    let findings = report["findings"].as_array().expect("findings");
    findings
        .iter()
        .any(|finding| finding["rule"] == rule && finding["action"] == "deny")
}

fn notes(report: &Value) -> String {
    report["inputs"][1]["notes"]
        .as_array()
        .map(|notes| notes.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// Error of `check --after` with one file, which is refused.
fn refused(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let (code, stdout, stderr) = run(guard()
        .current_dir(folder.path())
        .args(["check", "--after", name]));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    stderr
}

#[test]
fn one_file_for_kubectl_apply_is_merged_as_a_part() {
    let (before, after) = (stack("v2.6.1", true), stack("v2.6.22", false));
    let (_, report, stderr) = judged(&before, &after, &[]);
    assert!(!denies(&report, "MG401"), "{stderr}");
    let note = notes(&report);
    assert!(
        note.starts_with(
            "after is a part: 1 object merged into the state before; 1 stay \
                          unchanged"
        ),
        "{note}"
    );
    assert!(note.contains("--whole"), "{note}");
    assert_eq!(
        (report["from"].as_str(), report["to"].as_str()),
        (Some("2.6.1"), Some("2.6.22"))
    );

    let (code, report, _) = judged(&before, &after, &["--whole"]);
    assert!(
        code == 1 && denies(&report, "MG401") && notes(&report).is_empty(),
        "{report}"
    );
    let (_, report, _) = judged(&before, &after, &["--part"]);
    assert!(
        !denies(&report, "MG401") && !notes(&report).contains("assumed"),
        "{report}"
    );
}

#[test]
fn the_text_report_states_that_the_input_is_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let before = file(folder.path(), "before.yaml", &stack("v2.6.1", true));
    let after = file(folder.path(), "after.yaml", &stack("v2.6.22", false));
    let (_, stdout, _) = run(guard().args(["check", "--before", &before, "--after", &after]));
    assert!(
        stdout.contains("after is a part: 1 object merged into the state before"),
        "{stdout}"
    );
}

#[test]
fn a_patch_is_merged_into_the_object() {
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: milvus}\nspec:\n  template:\n    spec:\n      containers: [{name: milvus, image: 'milvusdb/milvus:v2.6.22'}]\n";
    let (code, report, stderr) = judged(&stack("v2.6.1", true), patch, &[]);
    assert_eq!(code, 0, "{report} {stderr}");
    assert_eq!(report["to"], "2.6.22");
    assert!(
        !denies(&report, "MG302") && !denies(&report, "MG401"),
        "{report}"
    );
}

#[rstest]
#[case(&["--whole", "--part"])]
#[case(&["--part", "-t", "2.6.22"])]
#[case(&["--whole", "-t", "2.6.22"])]
#[case(&["--whole", "--after", "live"])]
#[case(&["--part", "--after", "release:x"])]
#[case(&["--part", "--after", "version:2.6.22"])]
fn whole_and_part_are_only_for_files(#[case] flags: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let before = file(folder.path(), "before.yaml", &stack("v2.6.1", true));
    let (code, _, stderr) = run(guard().args(["check", "--before", &before]).args(flags));
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn a_part_requires_a_state_before() {
    let folder = tempfile::tempdir().unwrap();
    let after = file(folder.path(), "after.yaml", &stack("v2.6.1", true));
    let (code, _, stderr) = run(guard().args(["check", "--part", "--after", &after]));
    assert!(code == 2 && stderr.contains("--before"), "{stderr}");
}

#[test]
fn objects_of_other_namespaces_are_left_out() {
    let second = stack("v2.3.0", true).replace("namespace: search", "namespace: test");
    let folder = tempfile::tempdir().unwrap();
    let both = file(
        folder.path(),
        "both.yaml",
        &format!("{}---\n{second}", stack("v2.6.1", true)),
    );
    let (code, stdout, stderr) = run(guard().args([
        "audit", "--before", &both, "-n", "search", "--format", "json",
    ]));
    let report: Value = serde_json::from_str(&stdout).expect(&stderr);
    assert_eq!(
        report["releases"].as_array().unwrap().len(),
        1,
        "{code} {report}"
    );
    assert_eq!(report["releases"][0]["namespace"], "search");
    assert!(
        stdout.contains("2 objects of other namespaces (test) left out by -n search"),
        "{stdout}"
    );

    let (code, _, stderr) = run(guard().args(["check", "--after", &both, "-n", "prod"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("does not contain objects in namespace prod")
            && stderr.contains("search (2 objects), test (2 objects)"),
        "{stderr}"
    );

    let unnamed = file(
        folder.path(),
        "unnamed.yaml",
        &stack("v2.6.1", true).replace(", namespace: search", ""),
    );
    let (_, stdout, stderr) = run(guard().args([
        "check", "--after", &unnamed, "-n", "prod", "--format", "json",
    ]));
    let report: Value = serde_json::from_str(&stdout).expect(&stderr);
    assert_eq!(
        report["releases"][0]["namespace"], "prod",
        "objects without a namespace must get this one"
    );
}

/// Two standalones with separate metadata, whose names have this prefix.
fn two(prefix: &str, tags: [&str; 2]) -> String {
    let one = |name: &str, tag: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {prefix}{name}, namespace: n}}\n\
             spec:\n  selector: {{matchLabels: {{app: {prefix}{name}}}}}\n  template:\n    metadata: \
             {{labels: {{app: {prefix}{name}}}}}\n    spec:\n      containers:\n      - name: milvus\n        \
             image: milvusdb/milvus:{tag}\n        command: [milvus, run, standalone]\n        env: \
             [{{name: ETCD_ENDPOINTS, value: 'etcd:2379'}}, {{name: ETCD_ROOT_PATH, value: {name}}}]\n---\n"
        )
    };
    one("a", tags[0]) + &one("b", tags[1])
}

#[test]
fn a_release_that_is_missing_in_a_whole_input_is_an_error() {
    let before = two("", ["v2.5.27", "v2.6.22"]);
    let only_a = before.split_inclusive("---\n").next().unwrap();
    let (code, report, text) = judged(&before, only_a, &["--whole"]);
    assert_eq!((code, &report), (2, &Value::Null), "{text}");
    assert!(text.contains("does not contain n/b"), "{text}");
    // The commands that the error names.
    for more in [&["--part"][..], &["--whole", "-i", "n/a"]] {
        let (code, report, text) = judged(&before, only_a, more);
        assert_eq!(code, 0, "{report} {text}");
    }
}

#[test]
fn several_releases_may_be_renamed_with_a_prefix() {
    let (before, after) = (
        two("", ["v2.5.27", "v2.6.22"]),
        two("x-", ["v2.4.24", "v2.6.24"]),
    );
    let (code, report, text) = judged(&before, &after, &["--whole"]);
    assert_eq!(code, 1, "{text}");
    assert!(denies(&report, "MG103"), "{report}");
    assert!(denies(&report, "MG204"), "{report}");
}

#[test]
fn a_whole_input_without_milvus_is_refused() {
    let etcd = stack("v2.6.1", true)
        .split("---\n")
        .nth(1)
        .unwrap()
        .replace(
            "name: milvus-etcd, ",
            "name: milvus-etcd, labels: {helm.sh/chart: etcd-6.3.3}, ",
        );
    let (code, _, stderr) = judged(&stack("v2.6.1", true), &etcd, &[]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("does not contain Milvus")
            && stderr.contains("StatefulSet/milvus-etcd")
            && stderr.contains("--part"),
        "{stderr}"
    );
    let (code, report, stderr) = judged(&stack("v2.6.1", true), &etcd, &["--part"]);
    assert_eq!((code, denies(&report, "MG401")), (0, false), "{stderr}");
}

#[test]
fn the_error_names_what_a_namespace_filter_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let web = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n";
    let path = file(
        folder.path(),
        "a.yaml",
        &format!("{}{web}", stack("v2.6.1", true)),
    );
    let (code, _, stderr) = run(guard().args(["audit", "--before", &path, "-n", "shop"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("Service/web")
            && stderr.contains("2 objects of other namespaces (search) left out"),
        "{stderr}"
    );
}

#[test]
fn aliases_of_one_umbrella_chart_are_selected_by_release_and_alias() {
    let alias = |alias: &str, tag: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: up-{alias}-standalone}}\nspec:\n  selector: {{matchLabels: {{app.kubernetes.io/instance: up, app.kubernetes.io/name: {alias}, component: standalone}}}}\n  template:\n    spec:\n      containers: [{{name: standalone, image: 'milvusdb/milvus:{tag}', args: [milvus, run, standalone]}}]\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        folder.path(),
        "a.yaml",
        &(alias("docs", "v2.5.12") + &alias("chat", "v2.6.1")),
    );
    let (_, stdout, stderr) = run(guard().args([
        "check", "--after", &path, "-i", "up/chat", "--format", "json",
    ]));
    let report: Value = serde_json::from_str(&stdout).expect(&stderr);
    assert_eq!(
        (
            report["releases"].as_array().unwrap().len(),
            report["to"].as_str()
        ),
        (1, Some("2.6.1"))
    );
    let (code, _, stderr) = run(guard().args(["check", "--after", &path, "-i", "down"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("up/chat, up/docs"), "{stderr}");
    let (_, _, stderr) = run(guard().args(["plan", "--before", &path, "--to", "2.6.22"]));
    assert!(stderr.contains("up/chat, up/docs"), "{stderr}");
}

#[rstest]
#[case::dry_run("", "HOOKS:\n", "")]
#[case::with_values(
    "USER-SUPPLIED VALUES:\nminio:\n  secretKey: hunter2\n\nCOMPUTED VALUES:\na: 1\n\n",
    "HOOKS:\n",
    "\nNOTES:\nkind: nonsense: [\n"
)]
#[case::get_all("CHART: milvus\nVERSION: 5.0.1\n", "", "")]
fn the_printed_output_of_helm_is_read(
    #[case] values: &str,
    #[case] hooks: &str,
    #[case] notes: &str,
) {
    let manifest = stack("v2.6.22", true).replace(", namespace: search", "");
    let text = format!(
        "Release \"r\" has been upgraded. Happy Helming!\nNAME: r\nLAST DEPLOYED: Sat Nov 28 10:00:00 2026\nNAMESPACE: search\nSTATUS: pending-upgrade\nREVISION: 2\nTEST SUITE: None\n{values}{hooks}MANIFEST:\n---\n# Source: milvus/templates/a.yaml\n{manifest}{notes}"
    );
    let (code, report, stderr) = judged(&stack("v2.6.1", true), &text, &[]);
    assert_eq!(
        (
            report["to"].as_str(),
            report["releases"][0]["namespace"].as_str()
        ),
        (Some("2.6.22"), Some("search")),
        "{code} {stderr}"
    );
    assert!(!report.to_string().contains("hunter2"));
    assert_eq!(report["inputs"][1]["notRead"], json!([]));
}

#[test]
fn the_json_output_of_helm_is_read() {
    let release = json!({
        "name": "r", "namespace": "search", "version": 2, "info": {"status": "pending-upgrade"},
        "config": {"minio": {"secretKey": "hunter2"}}, "manifest": stack("v2.6.22", true),
    });
    let (_, report, stderr) = judged(&stack("v2.6.1", true), &release.to_string(), &[]);
    assert_eq!(report["to"], "2.6.22", "{stderr}");
    assert!(!report.to_string().contains("hunter2"));
}

#[test]
fn a_milvus_that_the_namespace_leaves_out_does_not_count_as_unchanged() {
    // A chart of MinIO names no namespace; the render was made without `-n search`.
    let after = stack("v2.4.24", true)
        .replace(
            "name: milvus, namespace: search",
            "name: milvus, namespace: default",
        )
        .replace("name: milvus-etcd, namespace: search", "name: milvus-etcd");
    let (code, _, stderr) = judged(&stack("v2.6.1", true), &after, &["-n", "search"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("does not contain Milvus")
            && stderr.contains("1 object of other namespaces (default) left out by -n search")
            && !stderr.contains("--part"),
        "{stderr}"
    );
}

/// One of Helm's records, as a cluster lists it.
fn record(status: &str, manifest: &str) -> Value {
    let release = json!({
        "name": "r", "namespace": "search", "version": 3, "info": {"status": status},
        "config": {}, "manifest": manifest,
    });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(release.to_string().as_bytes()).unwrap();
    let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(gzip.finish().unwrap()));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.r.v3", "namespace": "search",
            "labels": {"owner": "helm", "name": "r", "version": "3", "status": status}},
        "data": {"release": payload},
    })
}

#[rstest]
// `kubectl set image` was used after the last `helm upgrade`: the running object counts.
#[case::record_first(true)]
#[case::record_last(false)]
fn an_object_that_runs_counts_above_the_record_of_helm(#[case] is_first: bool) {
    let (listed, record) = (
        stack("v2.6.22", true),
        record("deployed", &stack("v2.5.16", true)),
    );
    let input = if is_first {
        format!("{record}\n---\n{listed}")
    } else {
        format!("{listed}---\n{record}\n")
    };
    let (code, report, stderr) = judged(&input, &stack("v2.5.27", true), &[]);
    assert_eq!(
        (code, report["from"].as_str()),
        (1, Some("2.6.22")),
        "{stderr}"
    );
    assert!(denies(&report, "MG103"));
    let (code, report, stderr) = judged(&stack("v2.6.1", true), &input, &[]);
    assert_eq!(
        (code, report["to"].as_str()),
        (0, Some("2.6.22")),
        "{stderr}"
    );
    assert_ne!(report["releases"][0]["checks"]["MG106"], "warn");
}

#[test]
fn a_pending_record_counts_after_a_change() {
    let record = record("pending-upgrade", &stack("v2.6.22", true));
    let input = format!("{}---\n{record}\n", stack("v2.6.1", true));
    let (_, report, stderr) = judged(&stack("v2.6.1", true), &input, &[]);
    assert_eq!(report["to"], "2.6.22", "{stderr}");
    assert_ne!(report["releases"][0]["checks"]["MG106"], "warn");
}

/// etcd, MinIO and Milvus in one pod, on one claim.
fn one_pod(etcd: &str, folder: &str, with_etcd: bool) -> String {
    let store = format!(
        "      - name: etcd\n        image: quay.io/coreos/etcd:{etcd}\n        command: [etcd, --data-dir, /etcd]\n        volumeMounts: [{{name: data, mountPath: /etcd, subPath: {folder}}}]\n"
    );
    let store = if with_etcd { store.as_str() } else { "" };
    format!(
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: vectordb, namespace: ai}}\nspec:\n  serviceName: vectordb\n  selector: {{matchLabels: {{app: vectordb}}}}\n  template:\n    metadata: {{labels: {{app: vectordb}}}}\n    spec:\n      containers:\n{store}      - name: minio\n        image: quay.io/minio/minio:RELEASE.2023-03-20T20-16-18Z\n        command: [minio, server, /minio]\n        volumeMounts: [{{name: data, mountPath: /minio, subPath: minio}}]\n      - name: milvus\n        image: milvusdb/milvus:v2.5.27\n        command: [milvus, run, standalone]\n        env: [{{name: ETCD_ENDPOINTS, value: 'localhost:2379'}}, {{name: MINIO_ADDRESS, value: 'localhost:9000'}}]\n        volumeMounts: [{{name: data, mountPath: /var/lib/milvus, subPath: milvus}}]\n  volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{resources: {{requests: {{storage: 1Gi}}}}}}}}]\n"
    )
}

#[rstest]
#[case::the_same("v3.5.18", "etcd", true, None)]
#[case::another_folder("v3.5.18", "other", true, Some("MG305"))]
#[case::downgraded("v3.4.30", "etcd", true, Some("MG403"))]
#[case::removed("v3.5.18", "etcd", false, Some("MG401"))]
fn systems_in_the_pod_of_milvus_are_dependencies(
    #[case] etcd: &str,
    #[case] folder: &str,
    #[case] with_etcd: bool,
    #[case] rule: Option<&str>,
) {
    let before = one_pod("v3.5.18", "etcd", true);
    let (code, report, stderr) = judged(&before, &one_pod(etcd, folder, with_etcd), &[]);
    assert_eq!(code, i32::from(rule.is_some()), "{report} {stderr}");
    assert!(rule.is_none_or(|rule| denies(&report, rule)), "{report}");
}

#[test]
fn the_json_forms_of_terraform_are_read() {
    let wanted: Vec<Value> = documents(&stack("v2.6.22", true))
        .map(|document| document.unwrap().root.to_json())
        .collect();
    let map = json!({"deployment.apps/apps/v1/milvus": wanted[0], "statefulset.apps/apps/v1/milvus-etcd": wanted[1]});
    let module =
        |resources: Value| json!({"root_module": {"child_modules": [{"resources": resources}]}});
    let plan = |resources: Value| json!({"format_version": "1.2", "planned_values": module(resources), "prior_state": {"values": module(json!([]))}});
    let helm = json!([{"address": "helm_release.milvus", "mode": "managed", "type": "helm_release", "values": {"name": "milvus", "manifest": map.to_string()}}]);
    let each: Vec<Value> = wanted
        .iter()
        .map(|object| json!({"type": "kubernetes_manifest", "values": {"manifest": object}}))
        .collect();
    for after in [
        map.clone(),
        json!(wanted),
        plan(helm.clone()),
        plan(json!(each)),
        json!({"format_version": "1.0", "values": module(helm)}),
    ] {
        let (code, report, stderr) = judged(&stack("v2.6.1", true), &after.to_string(), &[]);
        assert_eq!(
            (report["to"].as_str(), denies(&report, "MG401")),
            (Some("2.6.22"), false),
            "{code} {after} {stderr}"
        );
    }
    let unknown = plan(
        json!([{"address": "helm_release.milvus", "type": "helm_release", "values": {"name": "milvus"}}, {"type": "kubernetes_manifest", "values": {"manifest": wanted[0]}}]),
    );
    let (_, report, _) = judged(&stack("v2.6.1", true), &unknown.to_string(), &[]);
    assert!(
        report["inputs"][1]["notRead"]
            .to_string()
            .contains("experiments"),
        "{report}"
    );
}

#[test]
fn utf16_of_powershell_is_read() {
    let text = stack("v2.6.22", true).replace('\n', "\r\n");
    let folder = tempfile::tempdir().unwrap();
    for (name, mark) in [("marked.yaml", "\u{feff}"), ("plain.yaml", "")] {
        let bytes: Vec<u8> = format!("{mark}{text}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        fs::write(folder.path().join(name), bytes).unwrap();
        let (_, stdout, stderr) = run(guard()
            .current_dir(folder.path())
            .args(["check", "--after", name, "--format", "json"]));
        let report: Value = serde_json::from_str(&stdout).expect(&stderr);
        assert_eq!(report["to"], "2.6.22");
    }
}

#[test]
fn what_ansible_read_is_a_list_of_objects() {
    let returned = |tag: &str| {
        let objects = stack(tag, true)
            .split("---\n")
            .map(|object| format!("- {}\n", object.trim_end().replace('\n', "\n  ")))
            .collect::<String>();
        format!("api_found: true\nchanged: false\nresources:\n{objects}")
    };
    let (code, report, errors) = judged(&returned("v2.5.16"), &returned("v2.4.24"), &[]);
    assert_eq!(code, 1, "{errors}");
    assert!(denies(&report, "MG103"), "{report}");
}

#[test]
fn merge_keys_are_read() {
    let text = "x-common: &common\n  image: milvusdb/milvus:v2.4.24\n  command: [milvus, run, standalone]\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: milvus}\nspec:\n  selector: {matchLabels: {app: milvus}}\n  template:\n    spec:\n      containers:\n      - <<: *common\n        name: standalone\n";
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "a.yaml", text);
    let (_, stdout, stderr) = run(guard().args(["check", "--after", &path, "--format", "json"]));
    let report: Value = serde_json::from_str(&stdout).expect(&stderr);
    assert_eq!(report["to"], "2.4.24");
}

#[rstest]
#[case::milvus_cr("apiVersion: milvus.io/v1beta1\nkind: Milvus\nmetadata: {name: m, namespace: db}\nspec: {components: {image: 'milvusdb/milvus:v2.5.27'}}\n",
    &["Milvus m is a custom resource of milvus-operator", "milvus-guard check -i m -n db -t 2.5.27", "kubectl get deployments,statefulsets"])]
#[case::milvus_cr_without_image("apiVersion: milvus.io/v1alpha1\nkind: MilvusCluster\nmetadata: {name: m}\n", &["milvus-operator", "-n NAMESPACE"])]
#[case::kubedb("apiVersion: kubedb.com/v1alpha2\nkind: Milvus\nmetadata: {name: m, namespace: db}\n", &["KubeDB", "petsets.apps.k8s.appscode.com"])]
#[case::kubeblocks("apiVersion: apps.kubeblocks.io/v1\nkind: Cluster\nmetadata: {name: m, namespace: db}\n", &["KubeBlocks", "instancesets.workloads.kubeblocks.io"])]
#[case::argo("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: m}\nspec: {source: {repoURL: 'https://charts.example', chart: milvus, targetRevision: 4.2.57, helm: {releaseName: rel}}, destination: {namespace: db}}\n",
    &["Argo CD Application", "argocd app manifests m", "helm template rel milvus --repo https://charts.example --version 4.2.57 -n db"])]
#[case::argo_registry("apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: m}\nspec: {sources: [{ref: values}, {repoURL: registry.example/charts, chart: milvus}]}\n",
    &["helm template m oci://registry.example/charts/milvus -f values.yaml"])]
#[case::flux("apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: m, namespace: flux}\nspec: {targetNamespace: db, chart: {spec: {chart: milvus, version: 4.2.57}}}\n",
    &["Flux HelmRelease", "flux debug helmrelease m -n flux --show-values", "helm template m milvus", "-n db"])]
#[case::values("cluster:\n  enabled: false\nstandalone:\n  messageQueue: rocksmq\n", &["Helm values", "helm template NAME zilliztech/milvus", "-f input.yaml"])]
#[case::umbrella_values("milvus:\n  cluster: {enabled: false}\n  etcd: {replicaCount: 1}\n", &["Helm values", "helm template NAME CHART"])]
#[case::milvus_yaml("etcd: {endpoints: [a]}\nrootCoord: {port: 1}\n", &["Milvus' own configuration", "kubectl create configmap"])]
#[case::chart("apiVersion: v2\nname: milvus\nversion: 4.2.57\n", &["Chart.yaml of the Helm chart milvus", "helm template NAME ."])]
#[case::compose("services:\n  standalone: {image: 'milvusdb/milvus:v2.4.5'}\n", &["Docker Compose", "milvus-guard plan --from 2.4.5"])]
#[case::kustomization("resources: [a.yaml]\nimages: [{name: milvusdb/milvus, newTag: v2.5.1}]\n", &["kustomization", "kustomize build ."])]
#[case::kustomization_with_kind("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n", &["kustomize build ."])]
#[case::helmfile("releases:\n- {name: m, chart: zilliztech/milvus}\n", &["helmfile template -f input.yaml"])]
#[case::empty_list("apiVersion: v1\nkind: List\nitems: []\n", &["an empty list", "-n"])]
#[case::null_list("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": null}", &["an empty list"])]
#[case::status("{\"apiVersion\": \"v1\", \"kind\": \"Status\", \"status\": \"Failure\", \"metadata\": {}}", &["error \
    response of the API server"])]
#[case::html("<!DOCTYPE html>\n<html><body>502</body></html>\n", &["HTML"])]
#[case::kubectl_error("Error from server (NotFound): namespaces \"x\" not found\n", &["error message of kubectl"])]
#[case::helm_error("Error: INSTALLATION FAILED: hunter2 {{\n", &["error message of kubectl or Helm"])]
#[case::nothing_found("No resources found in milvus namespace.\n", &["No resources found"])]
#[case::table("NAME      READY   STATUS\nmilvus-0  1/1     Running\n", &["table for human readers", "-o yaml"])]
#[case::template("{{- if .Values.standalone }}\nkind: Deployment\n{{- end }}\n", &["not rendered", "helm template"])]
#[case::terraform("resource \"helm_release\" \"milvus\" {\n  name = \"milvus\"\n}\n", &["terraform show -json"])]
#[case::status_output("NAME: r\nNAMESPACE: a\nSTATUS: deployed\nREVISION: 1\nTEST SUITE: None\nNOTES:\nx\n", &["helm status", "helm get all"])]
#[case::empty("", &["it is empty"])]
#[case::others("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n", &["does not contain Milvus", "Service/web, Deployment/web"])]
fn inputs_of_another_kind_are_refused_with_a_hint(#[case] text: &str, #[case] expected: &[&str]) {
    let stderr = refused("input.yaml", text.as_bytes());
    for words in expected {
        assert!(stderr.contains(words), "'{words}' is missing: {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn folders_of_charts_and_kustomizations_are_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("chart/templates")).unwrap();
    fs::write(path("chart/Chart.yaml"), "name: milvus\n").unwrap();
    fs::create_dir(path("overlay")).unwrap();
    fs::write(path("overlay/kustomization.yaml"), "resources: [a.yaml]\n").unwrap();
    fs::write(path("overlay/a.yaml"), stack("v2.6.1", true)).unwrap();
    for (name, words) in [
        ("chart", "helm template"),
        ("overlay", "kustomize build"),
        (".", "helm template"),
    ] {
        let (code, _, stderr) = run(guard()
            .current_dir(folder.path())
            .args(["check", "--after", name]));
        assert_eq!(code, 2);
        assert!(stderr.contains(words), "{stderr}");
    }
    // A folder with policies may also be a kustomization.
    fs::write(path("overlay/a.yaml"), "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec: {rules: [{id: MG101, action: Warn}]}\n").unwrap();
    let (_, stdout, stderr) = run(guard()
        .current_dir(folder.path())
        .args(["policy", "lint", "overlay"]));
    assert!(
        !format!("{stdout}{stderr}").contains("kustomize build"),
        "{stdout}{stderr}"
    );
}

#[test]
fn a_mixed_input_reports_what_was_left_out() {
    let text = format!(
        "{}---\napiVersion: milvus.io/v1beta1\nkind: Milvus\nmetadata: {{name: m}}\n",
        stack("v2.6.1", true)
    );
    let (code, report, stderr) = judged(&stack("v2.6.1", true), &text, &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        report["inputs"][1]["notRead"]
            .to_string()
            .contains("Milvus m is a custom resource"),
        "{report}"
    );
}

#[test]
fn text_of_a_document_cannot_inject_commands() {
    let text = "apiVersion: milvus.io/v1beta1\nkind: Milvus\nmetadata: {name: \"x; rm -rf ~ #\\n\", namespace: \"a' b\"}\n";
    let stderr = refused("input.yaml", text.as_bytes());
    assert!(
        stderr.contains("'x; rm -rf ~ # '") && stderr.contains("-n 'a'\\'' b'"),
        "{stderr}"
    );
    let login = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: m}\nspec: {source: {repoURL: 'https://user:hunter2@charts.example', chart: milvus}}\n";
    assert!(!refused("input.yaml", login.as_bytes()).contains("hunter2"));
}

/// Parts of every input format, in any order.
fn anything() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("---\n"),
        Just("NAME: r\n"),
        Just("STATUS: x\n"),
        Just("REVISION: 1\n"),
        Just("MANIFEST:\n"),
        Just("HOOKS:\n"),
        Just("NOTES:\n"),
        Just("USER-SUPPLIED VALUES:\n"),
        Just("a: &a {b: 1}\n"),
        Just("c: {<<: *a}\n"),
        Just("  <<: [*a, {d: 1}]\n"),
        Just("kind: List\n"),
        Just("items: []\n"),
        Just("items:\n- "),
        Just("kind: Deployment\n"),
        Just("apiVersion: apps/v1\n"),
        Just("metadata: {name: x, namespace: y}\n"),
        Just("spec: {replicas: 1}\n"),
        Just(
            "{\"format_version\": 1, \"planned_values\": {\"root_module\": {\"resources\": [{}]}}}\n"
        ),
        Just("services: {a: {image: b}}\n"),
        Just("kind: Milvus\n"),
        Just("apiVersion: milvus.io/v1\n"),
        Just("{{ .Values.a }}\n"),
        Just("name: r\nmanifest: |\n  kind: A\ninfo: {}\n"),
        Just("# Source: a\n"),
        Just("\u{feff}"),
        Just("<html>"),
        Just("NAME READY\n"),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn read(role: Role, text: &str) -> Option<milvus_guard_sources::files::Loaded> {
    let mut collector = Collector::new(role, None).only(Some("y"));
    collector.add_text(text, "x").ok()?;
    let content = collector.content("x").ok()?;
    Some(milvus_guard_sources::files::Loaded {
        snapshot: content.builder().build(),
        content,
        ..Default::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_input_is_read_or_refused(before in anything(), after in anything()) {
        let before = read(Role::Before, &before);
        if let (Some(before), Some(mut after)) = (before, read(Role::After, &after)) {
            let _ = part::settle(&before, &mut after, part::Choice::Seen);
        }
    }

    #[test]
    fn merge_keys_follow_the_specification(own in entries(), first in entries(), second in entries(), late in any::<bool>()) {
        let flow = |entries: &[(String, u8)]| entries.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ");
        let body = if late { format!("{}<<: [*f, *s]", own.iter().map(|(key, value)| format!("{key}: {value}, ")).collect::<String>()) }
            else { format!("<<: [*f, *s]{}", own.iter().map(|(key, value)| format!(", {key}: {value}")).collect::<String>()) };
        let text = format!("f: &f {{{}}}\ns: &s {{{}}}\nm: {{{body}}}\n", flow(&first), flow(&second));
        let document = documents(&text).next().unwrap().unwrap();
        let mut expected = serde_json::Map::new();
        for (key, value) in second.iter().chain(&first).chain(&own) {
            expected.insert(key.clone(), json!(value));
        }
        prop_assert_eq!(document.root.get("m").unwrap().to_json(), Value::Object(expected));
    }
}

fn entries() -> impl Strategy<Value = Vec<(String, u8)>> {
    proptest::collection::vec(("[a-e]", any::<u8>()), 0..5)
}

/// The demos of the repository contain complete releases.
#[test]
fn demos_are_complete_releases() {
    let demos = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    for case in fs::read_dir(demos)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("before.yaml").is_file())
    {
        let (before, after) = (case.join("before.yaml"), case.join("after.yaml"));
        if !after.is_file() {
            continue;
        }
        let (_, stdout, stderr) = run(guard()
            .args(["check", "--format", "json", "--before"])
            .arg(before)
            .arg("--after")
            .arg(after));
        let report: Value = serde_json::from_str(&stdout).expect(&stderr);
        assert!(
            !notes(&report).contains("after is a part"),
            "{}: {}",
            case.display(),
            notes(&report)
        );
    }
}
