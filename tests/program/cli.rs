//! The command line as its user meets it: exit codes, formats, stdout and stderr.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::common::{self, Judged, file, guard, run};
use serde_json::Value;

fn demo(case: &str, side: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/demo")
        .join(case)
        .join(format!("{side}.yaml"))
        .to_str()
        .unwrap()
        .to_owned()
}

fn check(case: &str, more: &[&str]) -> (i32, String, String) {
    let (before, after) = (demo(case, "before"), demo(case, "after"));
    run(guard()
        .args([
            "check", "--before", &before, "--after", &after, "-n", "milvus",
        ])
        .args(more))
}

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

const DENIED: &str = "1-skipped-migration";
const WARNED: &str = "2-good-upgrade";

#[test]
fn the_exit_code_is_the_same_in_every_format() {
    for format in [
        "text",
        "json",
        "yaml",
        "markdown",
        "html",
        "junit",
        "sarif",
        "github",
        "openreports",
    ] {
        assert_eq!(check(DENIED, &["--format", format]).0, 1, "{format}");
        assert_eq!(check(WARNED, &["--format", format]).0, 0, "{format}");
        assert_eq!(
            check(WARNED, &["--format", format, "--fail-on", "warn"]).0,
            1,
            "{format}"
        );
        assert_eq!(
            check(DENIED, &["--format", format, "--fail-on", "never"]).0,
            0,
            "{format}"
        );
    }
}

#[test]
fn stdout_holds_only_the_report() {
    let (_, stdout, stderr) = check(DENIED, &["--format", "json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["schemaVersion"], "guard.milvus.io/report/v1");
    assert_eq!(report["tool"]["name"], "milvus-guard");
    assert_eq!(
        (report["from"].as_str(), report["to"].as_str()),
        (Some("2.1.4"), Some("2.2.16"))
    );
    assert_eq!(stderr, "");
    let location = &report["findings"][0]["location"];
    assert!(
        location["source"].as_str().unwrap().ends_with("after.yaml")
            && location["line"].as_u64().unwrap() > 1,
        "{location}"
    );
}

#[test]
fn several_formats_go_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (sarif, junit) = (
        format!("sarif={}", path("a.sarif")),
        format!("junit={}", path("a.xml")),
    );
    let (code, stdout, _) = check(
        DENIED,
        &["--format", "text", "--format", &sarif, "--format", &junit],
    );
    assert_eq!(code, 1);
    assert!(
        stdout.ends_with("-t 2.2.16\n"),
        "the next command stands last"
    );
    assert!(
        std::fs::read_to_string(path("a.sarif"))
            .unwrap()
            .contains("\"2.1.0\"")
    );
    assert!(
        std::fs::read_to_string(path("a.xml"))
            .unwrap()
            .contains("<testsuites")
    );
    let (code, stdout, stderr) = check(DENIED, &["--format", "text", "--format", "json"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("standard output"), "{stderr}");
}

#[test]
fn findings_name_file_and_line() {
    let judged = Judged::of(&[
        "--before",
        &demo("3-queue-swap", "before"),
        "--after",
        &demo("3-queue-swap", "after"),
        "-n",
        "milvus",
    ]);
    let location = &judged.finding("MG301")["location"];
    assert_eq!(location["source"], demo("3-queue-swap", "after"));
    let text = std::fs::read_to_string(demo("3-queue-swap", "after")).unwrap();
    let line = usize::try_from(location["line"].as_u64().unwrap()).unwrap();
    assert!(
        text.lines().nth(line - 1).unwrap().contains("woodpecker"),
        "line {line} is not the setting"
    );
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
fn several_releases_and_strangers_in_one_input_are_kept_apart() {
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

#[test]
fn policies_exceptions_and_their_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let policy = file(
        folder.path(),
        "policy.yaml",
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: team}\nspec:\n  match: {namespaces: [milvus]}\n  rules:\n    - {id: MG502, action: Warn}\n---\napiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: {name: moved}\nspec:\n  rules: [MG301]\n  namespace: milvus\n  release: my-release\n  reason: flushed, ticket 7\n  owner: a@example.com\n  expires: 2026-05-10T12:00:00Z\n",
    );
    let judge = |now: &str| {
        Judged::of(&[
            "--before",
            &demo("3-queue-swap", "before"),
            "--after",
            &demo("3-queue-swap", "after"),
            "-n",
            "milvus",
            "--policy",
            &policy,
            "--now",
            now,
        ])
    };
    let in_force = judge("2026-05-10T11:59:59Z");
    assert_eq!(in_force.code, 0, "{:?}", in_force.rules("deny"));
    assert_eq!(in_force.report["exceptions"][0]["rule"], "MG301");
    assert_eq!(in_force.report["policies"][0], "team");
    assert_eq!(in_force.finding("MG502")["action"], "warn");
    let expired = judge("2026-05-10T12:00:00Z");
    assert_eq!(
        expired.rules("deny"),
        ["MG301"],
        "an exception ends to the second"
    );
}

#[test]
fn policy_lint_and_test() {
    let folder = tempfile::tempdir().unwrap();
    let bad = file(
        folder.path(),
        "bad.yaml",
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec:\n  rules:\n    - {id: MG999, action: Warn}\n",
    );
    let (code, stdout, _) = run(guard().args(["policy", "lint", &bad]));
    assert_eq!(code, 1);
    assert!(
        stdout.contains("bad.yaml:6: error:") && stdout.contains("MG999"),
        "{stdout}"
    );

    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    let (code, stdout, stderr) = run(guard().args(["policy", "test"]).arg(&cases));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.ends_with("3 cases passed, 0 failed\n"), "{stdout}");
    let off = file(
        folder.path(),
        "off.yaml",
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec:\n  rules:\n    - {id: MG101, action: Off}\n",
    );
    let (code, stdout, _) = run(guard()
        .args(["policy", "test", "--policy", &off, "--format", "junit"])
        .arg(&cases));
    assert_eq!(
        code, 1,
        "a policy that switches MG101 off must fail the case"
    );
    assert!(stdout.contains("MG101 with deny was not found"), "{stdout}");
    let (code, _, stderr) = run(guard().args(["policy", "test"]).arg(folder.path()));
    assert_eq!(code, 2, "no case is not a success: {stderr}");
}

#[test]
fn rules_are_listed_and_explained() {
    let (code, stdout, _) = run(guard().args(["rules", "list", "--format", "json"]));
    assert_eq!(code, 0);
    let rules: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        rules.as_array().unwrap().len(),
        milvus_guard_core::rules::ALL.len()
    );
    for id in ["MG101", "mg101", "skipped-metadata-migration"] {
        assert!(
            run(guard().args(["rules", "explain", id]))
                .1
                .contains("skipped-metadata-migration")
        );
    }
    let (code, _, stderr) = run(guard().args(["rules", "explain", "MG110x"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("did you mean MG110"), "{stderr}");
}

#[test]
fn plans_in_every_format() {
    let args = ["plan", "--from", "2.1.4", "--to", "2.5.27", "-n", "milvus"];
    let (code, text, _) = run(guard().args(args));
    assert_eq!(code, 0);
    assert!(
        text.contains("point of no return")
            && text.contains("milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16")
    );
    let (_, json, _) = run(guard().args(args).args(["--format", "json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap()["stops"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert!(
        run(guard().args(args).args(["--format", "markdown"]))
            .1
            .contains("- [ ] back up")
    );
    let (_, markdown, _) = run(guard().args(args).args(["--format", "markdown"]));
    assert!(
        markdown.contains("```mermaid\nflowchart TD\n"),
        "{markdown}"
    );
    assert_eq!(
        run(guard().args(["plan", "--from", "1.1.1", "--to", "2.5.27"])).0,
        1,
        "there is no way"
    );
    assert_eq!(
        run(guard().args(["plan", "--from", "latest", "--to", "2.5.27"])).0,
        2
    );
    let (code, stdout, stderr) = run(guard().args(["plan", "--from", "2.4.5", "--to", "2.5"]));
    assert!(
        code == 0
            && stdout.contains("2.4.5 → 2.5.27")
            && stderr.starts_with("note: 2.5 means 2.5.27,"),
        "{stdout}{stderr}"
    );
    let (code, stdout, stderr) = run(guard().args(["plan", "--from", "2.4.5", "--to", "2.7.0"]));
    assert!(
        code == 2 && stdout.is_empty() && stderr.contains("the nearest is 2.6."),
        "{stdout}{stderr}"
    );
}

#[test]
fn completions_and_man_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(guard().args(["completions", shell]));
        assert!(code == 0 && stdout.contains("milvus-guard"));
    }
    assert!(run(guard().arg("man")).1.contains(".TH milvus-guard"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(guard().args(["man", "--out"]).arg(folder.path())).0, 0);
    assert!(folder.path().join("milvus-guard-check.1").is_file());
}

#[test]
fn colour_is_for_terminals_and_can_be_switched() {
    assert!(!check(DENIED, &[]).1.contains('\u{1b}'));
    assert!(check(DENIED, &["--color", "always"]).1.contains('\u{1b}'));
    let (before, after) = (demo(DENIED, "before"), demo(DENIED, "after"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-guard"));
    command
        .args(["check", "--before", &before, "--after", &after])
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR");
    assert!(run(&mut command).1.contains('\u{1b}'));
    assert!(
        !run(command.env("NO_COLOR", "1")).1.contains('\u{1b}'),
        "NO_COLOR wins"
    );
}

#[test]
fn facts_files_are_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let facts = file(
        folder.path(),
        "facts.yaml",
        "kubernetes: 1.19.3\nmetadata:\n  - {rootPath: by-dev, source: etcd, state: {format: v22}}\n",
    );
    let judged = Judged::of(&[
        "--before",
        &demo(DENIED, "before"),
        "--after",
        &demo(DENIED, "after"),
        "-n",
        "milvus",
        "--facts",
        &facts,
    ]);
    assert_eq!(judged.rules("deny"), ["MG701"]);
    let bad = file(folder.path(), "bad.yaml", "kubernetez: 1.19\n");
    let (code, _, stderr) = check(DENIED, &["--facts", &bad]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("bad.yaml") && stderr.contains("kubernetez"),
        "{stderr}"
    );
}

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
fn several_releases_are_a_table_and_their_findings_come_when_asked_for() {
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
        "findings were not asked for: {table}"
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
fn an_audit_of_nothing_says_what_is_there() {
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
fn serve_says_what_it_lacks() {
    let (code, _, stderr) = common::run(common::guard().args([
        "serve",
        "--no-cluster",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("the webhook needs a certificate"),
        "{stderr}"
    );
    let (code, _, stderr) = common::run(common::guard().args([
        "serve",
        "--tls-self-signed",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ]));
    assert!(
        code == 2 && stderr.contains("--webhook-registration <FILE>"),
        "{code} {stderr}"
    );
    let (code, _, stderr) = common::run(common::guard().args([
        "serve",
        "--tls-self-signed",
        "--webhook-registration",
        "webhooks.yaml",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ]));
    assert_eq!(code, 3, "no cluster: {stderr}");
}

/// Own rows: one that is new, one that replaces a row of the embedded data.
const OWN_ROWS: &str = r#"asOf: "2027-01-02"
released:
  - {version: "2.6.26", date: "2026-12-20"}
landing:
  - {line: "2.6", version: "2.6.26", source: [ours]}
releases:
  - {id: ours, versions: "=2.6.24", verdict: deny, why: it failed our own tests, use: "2.6.26", source: [ticket 42]}
"#;

#[test]
fn data_is_listed_with_its_day_and_what_own_files_change() {
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

/// A kubeconfig of a cluster at this address.
fn kubeconfig_of(folder: &Path, address: &str) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u, namespace: search}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Without a terminal nothing is changed unless `--yes` says so, whatever the operation is. No
/// request is sent: nothing listens at the address.
#[test]
fn without_a_terminal_a_change_of_the_cluster_needs_yes() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig_of(folder.path(), "127.0.0.1:1");
    let upgrade = ["upgrade", "-i", "a", "-t", "2.5.27"];
    let migrate = ["migrate", "-i", "a", "-s", "2.1.4", "-t", "2.2.16"];
    let operations: [(&[&str], &[&str]); 7] = [
        (&upgrade, &[]),
        (&upgrade, &["-o", "rollback"]),
        (&upgrade, &["-o", "abort", "--local"]),
        (&migrate, &[]),
        (&migrate, &["-o", "rollback", "--local"]),
        (&migrate, &["-o", "abort"]),
        (&migrate, &["--record-only"]),
    ];
    for (verb, more) in operations {
        let (code, stdout, stderr) = run(guard()
            .args(verb)
            .args(more)
            .arg("--kubeconfig")
            .arg(&kubeconfig));
        assert!(
            code == 2
                && stdout.is_empty()
                && stderr.contains("--yes")
                && stderr.contains("Nothing was changed"),
            "{verb:?} {more:?}: {code} {stderr}"
        );
    }
}

/// A server that accepts connections and never answers.
#[test]
fn what_only_reads_gives_up_on_a_cluster_that_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig_of(folder.path(), &silent.local_addr().unwrap().to_string());
    let readers: [&[&str]; 4] = [
        &["status"],
        &["status", "-i", "a"],
        &["upgrade", "-i", "a", "-t", "2.5.27", "--dry-run"],
        &[
            "migrate",
            "-i",
            "a",
            "-s",
            "2.1.4",
            "-t",
            "2.2.16",
            "--dry-run",
        ],
    ];
    std::thread::scope(|scope| {
        for verb in readers {
            let kubeconfig = &kubeconfig;
            scope.spawn(move || {
                let (code, _, stderr) = run(guard().args(verb).arg("--kubeconfig").arg(kubeconfig));
                assert!(
                    code == 3 && stderr.contains("no answer within 5 s"),
                    "{verb:?}: {code} {stderr}"
                );
            });
        }
    });
}
