//! Answers that were wrong, or named a next step that did not work. Each test is about one problem
//! that a new user had.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rstest::rstest;

use crate::common::{file, guard, run};

const BEFORE: &str = "examples/demo/2-good-upgrade/before.yaml";

/// Exit code, standard output and standard error of a command line.
fn said(line: &str) -> (i32, String, String) {
    run(guard().args(line.split_whitespace()))
}

fn kubeconfig(folder: &Path, server: &str) -> String {
    file(
        folder,
        "kubeconfig",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: \
             {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\ncontexts: \
             [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        ),
    )
}

/// "The version has no known defect" was ticked for a version that is not in the data.
#[rstest]
#[case("2.5.99")]
#[case("2.4.99")]
fn an_unknown_release_is_not_reported_as_passed(#[case] to: &str) {
    let (code, text, _) = said(&format!("check --before {BEFORE} -t {to} --show all"));
    assert_eq!(code, 0, "a newer release is not denied: {text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains(&format!("MG104: {to} is newer than the data of "))
            && words.contains("its defects are not known")
            && words.contains("not known whether it was released"),
        "{text}"
    );
    assert!(
        !words.contains("the version has no known defect")
            && !words.contains("the version is a release"),
        "{text}"
    );
}

/// `plan` stated that a release does not exist although `data show` lists its charts.
#[test]
fn a_release_that_a_chart_ships_can_be_planned() {
    let (code, text, stderr) = said("plan --from 2.6.24 --to 3.0.1");
    assert!(code == 0 && text.contains("3.0.1"), "{text}{stderr}");
}

/// The error for a minor version below the running one was "does not exist".
#[test]
fn a_lower_minor_version_is_a_downgrade() {
    let (code, text, _) = said("plan --from 2.5.27 --to 2.4");
    assert!(
        code == 1 && text.contains("There is no upgrade path from 2.5.27 to 2.4."),
        "{text}"
    );
    let (code, text, _) =
        said("check --after version:2.3 --before examples/demo/2-good-upgrade/before.yaml");
    assert!(code == 1 && text.contains("MG103"), "{text}");
}

/// The advice named flags that the verb does not have.
#[test]
fn an_audit_names_flags_of_other_commands_with_the_command() {
    let (_, text, _) = said(&format!("audit --before {BEFORE} --show all"));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("--after release:NAME of milvus-guard check")
            && !words.contains("or use live"),
        "{text}"
    );
}

/// "Stopped: stopped." contained neither the reason nor the operation.
#[test]
fn an_interruption_names_the_interrupted_operation() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), "https://127.0.0.1:1");
    let child = guard()
        .args("upgrade -i a -n b -t 2.5.27 --yes --kubeconfig".split(' '))
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let stderr = child.wait_with_output().unwrap().stderr;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        stderr.contains("interrupted by a signal while waiting for the API server at")
            && stderr.contains("https://127.0.0.1:1"),
        "{stderr}"
    );
}

/// An unreachable server was reported with an internal name, and without its address.
#[test]
fn an_unreachable_cluster_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), "https://127.0.0.1:1");
    let (code, _, stderr) = said(&format!("status -i a -n b --kubeconfig {config}"));
    assert!(
        code == 3 && stderr.contains("https://127.0.0.1:1") && !stderr.contains("ServiceError"),
        "{stderr}"
    );
}

/// An invalid time was reported in the words of the parser, and documents were not counted.
#[test]
fn policy_lint_counts_documents_and_explains_the_time_format() {
    let folder = tempfile::tempdir().unwrap();
    let exception = file(
        folder.path(),
        "e.yaml",
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: {name: e}\n\
         spec:\n  rules: [MG201]\n  namespace: milvus\n  release: my-release\n  reason: r\n  \
         owner: o\n  expires: 2026-01-31\n",
    );
    let (code, text, _) = said(&format!("policy lint {exception}"));
    assert!(
        code == 1
            && text.contains("spec.expires: write a time with a zone, such as ")
            && text.contains("1 document checked: 1 error, 0 warnings"),
        "{text}"
    );
    let (_, text, _) = said("policy test examples/demo/2-good-upgrade");
    assert!(text.contains("1 case passed, 0 failed"), "{text}");
}

/// An invalid row in `--data` was not named, and an empty file was valid.
#[test]
fn an_invalid_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = file(
        folder.path(),
        "own.yaml",
        "releases:\n  - {id: x, versions: '=2.5.1', verdict: wrn, why: y, source: [z]}\n",
    );
    let (code, _, stderr) = said(&format!("plan --from 2.5.5 --to 2.5.27 --data {wrong}"));
    assert!(
        code == 2
            && stderr.contains("own.yaml:2: releases[0] (x): verdict: ")
            && stderr.contains("next: milvus-guard data validate "),
        "{stderr}"
    );
    let empty = file(folder.path(), "empty.yaml", "# nothing\n");
    let (code, text, _) = said(&format!("data validate {empty}"));
    assert!(code == 1 && text.contains("the file is empty"), "{text}");
}

/// Invalid usage with another exit code, the message of a library, or no error.
#[rstest]
#[case(
    "verify -i a -n b --record configmap/",
    "needs the name of a ConfigMap"
)]
#[case("policy test /nope", "/nope: no such file or directory")]
#[case("data show path", "two versions of Milvus")]
#[case("data show path 2.4.24", "a second version of Milvus")]
#[case("data show chart", "a version of the chart")]
#[case("rules explain message-queue-chnaged", "did you mean MG301?")]
#[case(
    "meta restore /nope -e http://127.0.0.1:1 --yes",
    "cannot read the backup /nope"
)]
#[case(
    "check --after examples/demo/2-good-upgrade/before.yaml --rollback",
    "give --before"
)]
#[case("helm check my-release", "CHART is missing after my-release")]
#[case(
    "helm check my-release -f values.yaml",
    "CHART is missing after my-release"
)]
#[case("helm plan my-release", "or RELEASE with --to VERSION")]
#[case("helm plan --to 2.6", "give RELEASE first")]
#[case(
    "upgrade -i x -n y --dry-run -- helm upgrade x",
    "CHART is missing after x"
)]
fn invalid_usage_names_what_is_missing(#[case] line: &str, #[case] words: &str) {
    let mut command = guard();
    command.args(line.split(' ')).stdin(Stdio::null());
    let (code, _, stderr) = run(&mut command);
    assert!(code == 2 && stderr.contains(words), "{line}: {stderr}");
}

/// Of two reports to one file, one was lost.
#[test]
fn two_reports_to_one_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let line = format!(
        "check --before {BEFORE} -t 2.5.27 --format json={0} --format html={0}",
        out.display()
    );
    let (code, _, stderr) = said(&line);
    assert!(
        code == 2 && stderr.contains("two reports would be written to") && !out.exists(),
        "{stderr}"
    );
}

/// For a kubeconfig without contexts the message was `choose one with --context: none`.
#[test]
fn an_empty_kubeconfig_is_reported_as_without_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let empty = file(folder.path(), "kubeconfig", "");
    let (code, _, stderr) = said(&format!("audit --kubeconfig {empty}"));
    assert!(
        code == 3 && stderr.contains("the kubeconfig has no contexts"),
        "{stderr}"
    );
}

/// The header of the report listed etcd twice.
#[test]
fn etcd_is_listed_as_one_input() {
    let (_, text, _) = said(&format!(
        "check --before {BEFORE} -t 2.5.27 -e http://127.0.0.1:1"
    ));
    let named = text.lines().filter(|line| line.starts_with("  etcd "));
    assert_eq!(named.count(), 1, "{text}");
}

/// The documentation of `helm guard upgrade` promises this last line.
#[rstest]
#[case("helm upgrade my-release --in-order")]
#[case("helm upgrade my-release")]
#[case("helm upgrade my-release ./chart --format sarf")]
#[case("helm upgrade my-release /nope/chart --in-order --yes")]
fn an_upgrade_that_did_not_run_states_that_in_its_last_line(#[case] line: &str) {
    let folder = tempfile::tempdir().unwrap();
    let config = kubeconfig(folder.path(), "https://127.0.0.1:1");
    let mut command = guard();
    command
        .args(line.split(' '))
        .env("KUBECONFIG", &config)
        .env("HELM_BIN", "/bin/false")
        .stdin(Stdio::null());
    let (code, _, stderr) = run(&mut command);
    assert!(
        code != 0
            && stderr
                .trim_end()
                .ends_with("Helm was not run, nothing was changed."),
        "{stderr}"
    );
}

/// An example with a fixed date would expire, and then `policy lint` refuses the copied exception.
#[test]
fn exceptions_of_the_documentation_expire_at_a_placeholder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for page in fs::read_dir(root.join("docs")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for line in text
            .lines()
            .filter(|line| line.trim().starts_with("expires:"))
        {
            seen += 1;
            assert!(
                line.trim().starts_with("expires: YYYY-MM-DDT00:00:00Z"),
                "{}: {line}",
                page.display()
            );
        }
    }
    assert!(seen >= 2, "{seen}");
}

/// A server that answers 404 to everything: a wrong path in the kubeconfig, or a proxy. It counted
/// as a cluster in which nothing runs.
#[rstest]
#[case("status")]
#[case("status -i my-release -n milvus")]
#[case("audit -n milvus")]
#[case("audit -A")]
#[case("verify -i my-release -n milvus")]
#[case("check -i my-release -n milvus -t 2.5.27")]
#[case("upgrade -i my-release -n milvus -t 2.5.27 --dry-run")]
#[case("ping")]
fn a_server_that_is_not_a_kubernetes_api_server_is_named(#[case] line: &str) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_not_found(stream));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = file(
        folder.path(),
        "kubeconfig",
        &format!(
            "{{apiVersion: v1, kind: Config, current-context: a, clusters: [{{name: a, cluster: \
             {{server: 'http://{address}'}}}}], users: [{{name: a, user: {{}}}}], contexts: [{{name: a, \
             context: {{cluster: a, user: a}}}}]}}"
        ),
    );
    let (code, stdout, stderr) = said(&format!("{line} --kubeconfig {kubeconfig}"));
    assert!(
        code == 3 && stderr.contains("does not answer like a Kubernetes API server (404"),
        "{line}: {code}: {stdout}{stderr}"
    );
}

/// Answers each request of a connection; none has a body that matters.
fn answer_not_found(stream: std::net::TcpStream) {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 18\r\n\r\n404 page not found";
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
