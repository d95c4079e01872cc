//! The command line for its user: exit codes, formats, stdout and stderr.
//!
//! | module | what it holds |
//! |---|---|
//! | `audits` | Reports of `audit` on running releases |
//! | `data` | `data`: the embedded rows about Milvus releases, and rows of the user's files |
//! | `inputs` | What `check` reads: standard input, lists, reviews, folders, versions |

mod audits;
mod data;
mod inputs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common,
    common::{Judged, file, guard, run},
};
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
fn stdout_contains_only_the_report() {
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
fn several_formats_are_written_to_files() {
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
        "line {line} must contain the setting"
    );
}

#[test]
fn policies_and_exceptions_apply_until_their_expiry() {
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
fn plans_are_printed_in_every_format() {
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
        "there is no upgrade path"
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
fn completions_and_man_pages_are_generated() {
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
fn color_is_for_terminals_and_can_be_switched() {
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
fn a_facts_file_is_used_as_evidence() {
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
fn serve_reports_missing_inputs() {
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

/// Without a terminal nothing is changed unless `--yes` is given, whatever the operation is. No
/// request is sent: no server listens at the address.
#[test]
fn without_a_terminal_a_change_of_the_cluster_needs_yes() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig_of(folder.path(), "127.0.0.1:1");
    let upgrade = ["upgrade", "-i", "a", "-t", "2.5.27"];
    let migrate = ["migrate", "-i", "a", "-s", "2.1.4", "-t", "2.2.16"];
    let ended = ["upgrade", "-i", "a"];
    let operations: [(&[&str], &[&str]); 9] = [
        (&upgrade, &[]),
        (&upgrade, &["-o", "rollback"]),
        (&ended, &["-o", "rollback"]),
        (&ended, &["-o", "abort"]),
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

/// Only a run that was begun knows its version.
#[test]
fn an_upgrade_needs_a_version_or_a_helm_upgrade() {
    let (code, stdout, stderr) = run(guard().args(["upgrade", "-i", "a", "--dry-run"]));
    assert!(
        code == 2 && stdout.is_empty() && stderr.contains("Give it with -t, or a whole helm"),
        "{code} {stderr}"
    );
}

/// A server that accepts connections and never answers.
#[test]
fn commands_that_only_read_give_up_on_a_cluster_that_does_not_answer() {
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
