//! The action and the examples for pipelines: each is run, or checked by the parser of its tool.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use milvus_guard_testbed::{ControlPlane, Helm, Program, expect_success, helm};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    chart_guard::{documents, text},
    common::{Chart, await_definitions, install_definitions},
};

const BINARY: &str = env!("CARGO_BIN_EXE_milvus-guard");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example(path: &str) -> String {
    fs::read_to_string(root().join("examples/pipelines").join(path)).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// GitHub

#[test]
fn actionlint_accepts_the_workflows_and_the_inputs_of_the_action() {
    let folder = tempfile::tempdir().unwrap();
    // actionlint finds a project by its .git, and checks the inputs of an action only in a project.
    let workflows = folder.path().join(".github/workflows");
    fs::create_dir_all(&workflows).unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::copy(root().join("action.yml"), folder.path().join("action.yml")).unwrap();
    let mine = example("github/milvus.yaml");
    let local = mine.replace("OWNER/milvus-guard@v0.1.0", "./");
    assert_ne!(mine, local, "the example must use the action");
    fs::write(workflows.join("milvus.yaml"), &local).unwrap();
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, workflows.join(file.file_name().unwrap())).unwrap();
    }
    let lint = || {
        Command::new(Program::Actionlint.path())
            .args(["-shellcheck=", "-pyflakes=", "-no-color"])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let output = lint();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    let typo = local.replace("          namespace:", "          namespaze:");
    fs::write(workflows.join("milvus.yaml"), typo).unwrap();
    assert!(
        !lint().status.success(),
        "actionlint must report a typo in an input"
    );
}

/// The folders that a runner gives to a step, and the files that the step wrote there.
struct Runner {
    folder: TempDir,
}

impl Runner {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(helm(Helm::V3), folder.path().join("bin/helm")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script of the action.
    fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let temp = self.path("temp");
        fs::create_dir_all(&temp).unwrap();
        for file in ["output", "summary", "path"] {
            fs::write(self.path(file), "").unwrap();
        }
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        Command::new(root().join("action").join(script))
            .current_dir(self.folder.path())
            .env_remove("KUBECONFIG")
            .env("HOME", self.folder.path())
            .env("PATH", path)
            .env("RUNNER_TEMP", temp)
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .env("GITHUB_PATH", self.path("path"))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    fn outputs(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.path("output")).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// Whether a step ended with an annotation that says why.
fn is_annotated(output: &Output, why: &str) -> bool {
    stderr(output)
        .lines()
        .any(|line| line.starts_with("::error") && line.contains(why))
}

/// A folder like that of a release: the archive of this build and the list of checksums.
fn released(runner: &Runner) -> (String, String) {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let name = format!("milvus-guard-{VERSION}-{target}");
    let folder = runner.path("releases").join(format!("v{VERSION}"));
    fs::create_dir_all(folder.join(&name)).unwrap();
    fs::copy(BINARY, folder.join(&name).join("milvus-guard")).unwrap();
    let archive = format!("{name}.tar.gz");
    let shell = format!(
        "tar czf {archive} {name} && sha256sum {archive} > SHA256SUMS && echo '{}  other.tar.gz' >> SHA256SUMS",
        "0".repeat(64)
    );
    let mut command = Command::new("bash");
    command.args(["-ec", &shell]).current_dir(&folder);
    expect_success(command.output().unwrap());
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let sum = sums.split_whitespace().next().unwrap().to_owned();
    (format!("file://{}", runner.path("releases").display()), sum)
}

#[test]
fn the_action_installs_only_released_archives_with_the_right_checksum() {
    let runner = Runner::new();
    let (downloads, sum) = released(&runner);
    let tag = format!("v{VERSION}");
    let install = |more: &[(&str, &str)]| {
        let base = [("GUARD_DOWNLOADS", &*downloads), ("GUARD_REF", &*tag)];
        runner.run("install.sh", &[&base[..], more].concat())
    };
    for more in [&[][..], &[("GUARD_SHA256", &*sum)]] {
        let output = install(more);
        assert!(output.status.success(), "{}", stderr(&output));
        let program = runner.outputs()["program"].clone();
        let version = expect_success(Command::new(program).arg("--version").output().unwrap());
        assert!(version.contains(VERSION));
        assert!(!fs::read_to_string(runner.path("path")).unwrap().is_empty());
    }

    // A program that is already installed.
    let output = install(&[("GUARD_PROGRAM", BINARY)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(runner.outputs()["program"], BINARY);

    let sums = runner.path("releases").join(&tag).join("SHA256SUMS");
    let refused = |more: &[(&str, &str)], why: &str| {
        let output = install(more);
        assert!(!output.status.success(), "{more:?}");
        assert!(is_annotated(&output, why), "{}", stderr(&output));
        assert_eq!(runner.outputs(), BTreeMap::new());
    };
    refused(&[("GUARD_SHA256", &"0".repeat(64))], "the checksum of");
    refused(&[("GUARD_REF", "main")], "'main' is not a version");
    refused(&[("GUARD_VERSION", "$(id)")], "is not a version");
    refused(&[("GUARD_VERSION", "99.0.0")], "is there a release 99.0.0?");
    refused(
        &[("GUARD_PROGRAM", "no-such-program")],
        "there is no program",
    );
    // A list of checksums without the archive must be refused.
    fs::write(&sums, format!("{}  other.tar.gz\n", "0".repeat(64))).unwrap();
    refused(&[], "the checksum of");
    fs::write(&sums, "").unwrap();
    refused(&[], "the checksum of");
}

#[rstest]
#[case::denied("1-skipped-migration", "deny", "1")]
#[case::warned("2-good-upgrade", "warn", "0")]
fn the_action_publishes_its_report_before_the_job_fails(
    #[case] demo: &str,
    #[case] verdict: &str,
    #[case] code: &str,
) {
    let runner = Runner::new();
    let file = |name: &str| format!("{}/examples/demo/{demo}/{name}.yaml", root().display());
    let output = runner.run(
        "check.sh",
        &[
            ("GUARD", BINARY),
            ("BEFORE", &file("before")),
            ("AFTER", &file("after")),
            ("RELEASE", "my-release"),
            ("NAMESPACE", "milvus"),
            ("FAIL_ON", "deny"),
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let outputs = runner.outputs();
    assert_eq!(
        (outputs["verdict"].as_str(), outputs["code"].as_str()),
        (verdict, code)
    );
    let report: Value =
        serde_json::from_str(&fs::read_to_string(&outputs["report"]).unwrap()).unwrap();
    assert_eq!(report["verdict"], verdict);
    let comment = fs::read_to_string(&outputs["comment"]).unwrap();
    assert_eq!(fs::read_to_string(runner.path("summary")).unwrap(), comment);
    assert!(
        fs::read_to_string(&outputs["sarif"])
            .unwrap()
            .contains("2.1.0")
    );
    let annotations = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(annotations.contains("::error"), verdict == "deny");
}

#[test]
fn the_action_renders_the_chart_with_its_values() {
    let runner = Runner::new();
    let chart = root().join("tests/charts/milvus");
    let values = runner.path("my values.yaml");
    fs::write(&values, "image: {all: {tag: v2.5.27}}\n").unwrap();
    let listed = format!("\n  {}  \n", values.display());
    let variables = [
        ("GUARD", BINARY),
        ("BEFORE", "none"),
        ("RELEASE", "my-release"),
        ("NAMESPACE", "milvus"),
        ("CHART", chart.to_str().unwrap()),
        ("CHART_REPOSITORY", "https://charts.example.org"),
        ("CHART_VERSION", ""),
        ("VALUES", &listed),
        ("FAIL_ON", "never"),
    ];
    let output = runner.run("check.sh", &variables);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = fs::read_to_string(&runner.outputs()["report"]).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["to"], "2.5.27");
    // The chart of the repository, even if a folder has the same name, which Helm would prefer.
    for name in ["milvus", "charts"] {
        fs::create_dir(runner.path(name)).unwrap();
    }
    let address = repository(&runner.path("charts"));
    let remote = [
        ("CHART", "milvus"),
        ("CHART_REPOSITORY", &address),
        ("CHART_VERSION", "4.2.58"),
        ("VALUES", "my values.yaml"),
    ];
    let output = runner.run("check.sh", &[&variables[..], &remote].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(runner.outputs()["code"], "0");
    // If the chart cannot be rendered or a file cannot be read, there is no verdict.
    let no_values = ("VALUES", "no-such-file.yaml");
    let no_chart = ("CHART", "./no-such-chart");
    for (broken, why) in [
        (no_values, "there is no file of values no-such-file.yaml"),
        (no_chart, "helm template failed"),
    ] {
        let output = runner.run("check.sh", &[&variables[..], &[broken]].concat());
        assert!(!output.status.success());
        assert!(is_annotated(&output, why), "{}", stderr(&output));
    }
    let unreadable = [&variables[..], &[("AFTER", "no-such-file.yaml")]].concat();
    let output = runner.run("check.sh", &unreadable);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(is_annotated(&output, "there is no verdict"));
    assert_eq!(runner.outputs()["code"], "2");
    assert_eq!(runner.outputs().get("verdict"), None);
}

/// GitHub is not called: a program with the name of its client records the calls.
#[test]
fn the_action_writes_one_comment_and_replaces_it() {
    let runner = Runner::new();
    let calls = runner.path("calls");
    let client = runner.path("bin/gh");
    let script = "#!/bin/sh\necho \"$*\" >> \"$CALLS\"\ncase \"$*\" in *--paginate*) printf '%s' \"$KNOWN\" ;; esac\nexit \"$FAILS\"\n";
    fs::write(&client, script).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let comment = runner.path("comment.md");
    fs::write(&comment, format!("# Report\n{}", "x".repeat(70_000))).unwrap();
    let run = |known: &str, fails: &str| {
        fs::write(&calls, "").unwrap();
        let output = runner.run(
            "comment.sh",
            &[
                ("CALLS", calls.to_str().unwrap()),
                ("KNOWN", known),
                ("FAILS", fails),
                ("COMMENT", comment.to_str().unwrap()),
                ("GITHUB_REPOSITORY", "me/mine"),
                ("PULL_REQUEST", "7"),
                ("RELEASE", "my-release"),
                ("NAMESPACE", "milvus"),
            ],
        );
        assert!(output.status.success(), "{}", stderr(&output));
        let calls = fs::read_to_string(&calls).unwrap();
        (calls, String::from_utf8(output.stdout).unwrap())
    };
    let (calls, _) = run("", "0");
    assert!(
        calls.contains("POST repos/me/mine/issues/7/comments"),
        "{calls}"
    );
    let (calls, _) = run("42\n43\n", "0");
    assert!(
        calls.contains("PATCH repos/me/mine/issues/comments/42 "),
        "{calls}"
    );
    assert!(!calls.contains("POST"), "{calls}");
    // A pull request from a fork may not write: the job continues without the comment.
    let (_, stdout) = run("", "1");
    assert!(stdout.starts_with("::warning"), "{stdout}");
}

// GitLab

/// Serves the files of a folder over HTTP until the test ends; returns the URL.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            let mut header = String::new();
            while reader.read_line(&mut header).unwrap() > 2 {
                header.clear();
            }
            let name = line.split(' ').nth(1).unwrap().trim_start_matches('/');
            let (status, body) = match fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    format!("http://{address}")
}

/// A chart repository with the compact chart; returns its URL.
fn repository(folder: &Path) -> String {
    let mut package = Command::new(helm(Helm::V3));
    package.args(["package", "--version", "4.2.58", "--destination"]);
    package.arg(folder).arg(root().join("tests/charts/milvus"));
    expect_success(package.output().unwrap());
    let mut index = Command::new(helm(Helm::V3));
    expect_success(index.args(["repo", "index"]).arg(folder).output().unwrap());
    serve(folder.to_owned())
}

#[test]
fn the_jobs_of_gitlab_run() {
    let pipeline = &documents(&example("gitlab/milvus.gitlab-ci.yml"))[0];
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["bin", "deploy", "charts"] {
        fs::create_dir(path(name)).unwrap();
    }
    symlink(helm(Helm::V3), path("bin/helm")).unwrap();
    symlink(BINARY, path("bin/milvus-guard")).unwrap();
    let repository = repository(&path("charts"));
    fs::write(path("deploy/values.yaml"), "image: {all: {tag: v2.5.27}}\n").unwrap();
    let before = root().join("examples/demo/2-good-upgrade/before.yaml");
    fs::copy(before, path("deploy/running.yaml")).unwrap();
    let policy = root().join("examples/pipelines/policy.yaml");
    fs::copy(policy, path("deploy/policy.yaml")).unwrap();

    let run = |job: &str, change: &dyn Fn(&str) -> String| {
        let lines = pipeline[job]["script"].as_array().unwrap();
        let script: Vec<String> = lines
            .iter()
            .map(|line| change(line.as_str().unwrap()))
            .collect();
        let mut command = Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", &script.join("\n")]);
        command
            .current_dir(folder.path())
            .env("HOME", folder.path());
        let binaries = path("bin");
        command.env("PATH", format!("{}:/usr/bin:/bin", binaries.display()));
        for (name, value) in pipeline["variables"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        command.env("CHART_REPOSITORY", &repository);
        command.output().unwrap()
    };
    let output = run("milvus-check", &str::to_owned);
    let shown = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(&output)
    );
    // The compact chart differs from the chart of the example, so any verdict is accepted.
    assert!(
        [Some(0), Some(1)].contains(&output.status.code()),
        "{shown}"
    );
    let report = fs::read_to_string(path("milvus-guard.xml")).unwrap_or(shown);
    assert!(report.contains("<testsuites"), "{report}");
    assert!(path("milvus-guard.md").exists());

    // Without a cluster and a registry the charts are only rendered, with the same values.
    let chart = root().join("charts/milvus-upgrade");
    let render = |line: &str| {
        line.replace("upgrade --install", "template")
            .replace("helm upgrade", "helm template")
            .replace(
                "oci://$GUARD_REGISTRY/charts/milvus-upgrade",
                chart.to_str().unwrap(),
            )
    };
    let rendered = expect_success(run("milvus-upgrade", &render));
    assert!(rendered.contains("--target-version=2.5.27"), "{rendered}");
    assert!(rendered.contains("milvusdb/milvus:v2.5.27"), "{rendered}");
    for job in ["milvus-check", "milvus-upgrade"] {
        // With an entrypoint other than a shell, the runner fails.
        assert_eq!(pipeline[job]["image"]["entrypoint"], json!([""]), "{job}");
    }
}

// Argo CD, Flux, Argo Rollouts, Kargo

const DEPLOYED: [&str; 6] = [
    "argo-cd/application.yaml",
    "argo-cd/health.yaml",
    "flux/upgrade.yaml",
    "flux/health.yaml",
    "argo-rollouts/analysis-template.yaml",
    "kargo/stage.yaml",
];

/// The definitions are copies of those of the tools (tests/fixtures/definitions/README.md).
#[test]
fn a_real_api_server_accepts_each_object_of_the_examples() {
    let cluster = ControlPlane::start();
    install_definitions(&cluster);
    for entry in fs::read_dir(root().join("tests/fixtures/definitions")).unwrap() {
        let file = entry.unwrap().path();
        if file
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let file = file.to_str().unwrap();
            expect_success(cluster.kubectl(["apply", "--server-side", "-f", file]));
            let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
            await_definitions(&cluster, &[name]);
        }
    }
    for name in ["milvus", "milvus-guard", "argocd", "flux-system"] {
        expect_success(cluster.kubectl(["create", "namespace", name]));
    }
    let apply = |text: &str| {
        let apply = [
            "apply",
            "--server-side",
            "--validate=strict",
            "--dry-run=server",
            "-f",
            "-",
        ];
        cluster.kubectl_with_input(apply, text)
    };
    for file in DEPLOYED {
        let output = apply(&example(file));
        assert!(output.status.success(), "{file}: {}", stderr(&output));
    }
    let typo = example("flux/upgrade.yaml").replace("remediation:", "remediacion:");
    assert!(
        !apply(&typo).status.success(),
        "the API server must refuse a typo"
    );
}

/// The charts of this version accept the values in the examples.
#[test]
fn the_values_in_examples_render() {
    let render = |chart: &str, values: &Value| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{values}").unwrap();
        let mut command = Command::new(helm(Helm::V4));
        command.args(["template", chart, "-f"]).arg(file.path());
        command.arg(root().join("charts").join(chart));
        expect_success(command.output().unwrap())
    };
    let mut seen = 0;
    let application = &documents(&example("argo-cd/application.yaml"))[0];
    for source in application["spec"]["sources"].as_array().unwrap() {
        if text(source, "/chart").starts_with("milvus-") {
            seen += 1;
            let rendered = render(text(source, "/chart"), &source["helm"]["valuesObject"]);
            for object in documents(&rendered) {
                let hook = &object["metadata"]["annotations"]["argocd.argoproj.io/hook"];
                assert_eq!(hook, "PreSync", "{object:#}");
            }
            assert_eq!(source["targetRevision"], VERSION);
        }
    }
    for release in documents(&example("flux/upgrade.yaml")) {
        let chart = text(&release, "/spec/chart/spec/chart");
        if chart.starts_with("milvus-") {
            seen += 1;
            render(chart, &release["spec"]["values"]);
            assert_eq!(release["spec"]["chart"]["spec"]["version"], VERSION);
        }
    }
    assert_eq!(seen, 3);
}

/// The program accepts the arguments that a tool gives to the container.
#[test]
fn the_job_of_the_analysis_runs_check() {
    let template = &documents(&example("argo-rollouts/analysis-template.yaml"))[0];
    let container = "/spec/metrics/0/provider/job/spec/template/spec/containers/0/args";
    let args = template.pointer(container).unwrap().as_array().unwrap();
    let args = args.iter().map(|arg| {
        let arg = arg.as_str().unwrap();
        arg.replace("{{args.release}}", "my-release")
            .replace("{{args.target-version}}", "2.5.27")
    });
    let output = Command::new(BINARY)
        .args(args)
        .args(["--kubeconfig", "/nonexistent"])
        .output();
    // The arguments are valid; there is no cluster.
    assert_eq!(output.unwrap().status.code(), Some(3));
}

/// The commands of the hooks exist, and their account may read the objects that they need.
#[test]
fn the_hooks_of_an_umbrella_chart_verify_milvus_with_their_own_rights() {
    let umbrella = tempfile::tempdir().unwrap();
    let metadata = "{apiVersion: v2, name: umbrella, version: 1.0.0}\n";
    fs::write(umbrella.path().join("Chart.yaml"), metadata).unwrap();
    let templates = umbrella.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(
        templates.join("verify.yaml"),
        example("helm-hooks/verify.yaml"),
    )
    .unwrap();
    let render = |with| {
        let mut command = Command::new(helm(with));
        command.args(["template", "my-release", "-n", "milvus"]);
        expect_success(command.arg(umbrella.path()).output().unwrap())
    };
    let objects = documents(&render(Helm::V3));
    assert_eq!(objects, documents(&render(Helm::V4)));

    let cluster = ControlPlane::start();
    install_definitions(&cluster);
    let chart = Chart::compact("4.1.34");
    let mut install = vec!["install", "my-release", chart.path(), "-n", "milvus"];
    install.extend(["--create-namespace", "--set", "image.all.tag=v2.4.24"]);
    expect_success(cluster.helm(Helm::V4, install));
    expect_success(cluster.kubectl(["create", "namespace", "milvus-guard"]));
    for object in &objects {
        cluster.apply(&object.to_string());
    }
    let kubeconfig = cluster.kubeconfig_for_service_account("milvus", "my-release-verify");
    let run = |container: &Value| {
        let args = container["args"].as_array().unwrap().iter();
        let output = Command::new(BINARY)
            .args(args.map(|arg| arg.as_str().unwrap()))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(
            !said.contains("forbidden") && !said.contains("not allowed"),
            "{said}"
        );
        (output.status.code(), said)
    };
    let pod = |hook: &str| {
        let name = format!("my-release-verify-{hook}");
        let job = objects.iter().find(|one| one["metadata"]["name"] == *name);
        job.unwrap()["spec"]["template"]["spec"].clone()
    };
    // Milvus does not answer, so there is nothing to record; the upgrade continues all the same.
    let (code, said) = run(&pod("pre-upgrade")["containers"][0]);
    assert!(
        code == Some(0) && said.contains("the state was not recorded"),
        "{said}"
    );
    let after = pod("post-upgrade");
    let (code, said) = run(&after["initContainers"][0]);
    assert!(
        code == Some(0) && said.contains("no run of my-release"),
        "{said}"
    );
    let (code, said) = run(&after["containers"][0]);
    assert!(
        code == Some(2) && said.contains("there is no record"),
        "{said}"
    );
    let record = json!({"schemaVersion": "guard.milvus.io/verification-record/v1", "release": "my-release", "namespace": "milvus",
        "at": "2026-01-01T00:00:00Z", "version": "2.4.24", "collections": []});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-release-verify", "namespace": "milvus"},
        "data": {"record.json": record.to_string()}});
    cluster.apply(&map.to_string());
    let (code, said) = run(&after["containers"][0]);
    assert!(code == Some(1) && said.contains("not verified"), "{said}");
}

/// Runs an evaluator on an object.
fn evaluate(program: Program, rules: &str, object: &Value) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{rules}").unwrap();
    let mut child = Command::new(program.path())
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = object.to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    expect_success(child.wait_with_output().unwrap())
        .trim()
        .to_owned()
}

fn argo(kind: &str, object: &Value) -> (String, String) {
    let map = &documents(&example("argo-cd/health.yaml"))[0];
    let script = &map["data"][format!("resource.customizations.health.{kind}")];
    let answer = evaluate(Program::ArgoHealth, script.as_str().unwrap(), object);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    (
        text(&answer, "/status").to_owned(),
        text(&answer, "/message").to_owned(),
    )
}

fn flux(kind: &str, object: &Value) -> String {
    let kustomization = &documents(&example("flux/health.yaml"))[0];
    let expressions = kustomization["spec"]["healthCheckExprs"]
        .as_array()
        .unwrap();
    let mine = expressions.iter().find(|one| one["kind"] == kind).unwrap();
    evaluate(Program::FluxHealth, &mine.to_string(), object)
}

#[rstest]
#[case::unwritten(json!({}), "Progressing", "InProgress")]
#[case::pending(json!({"phase": "Pending"}), "Progressing", "InProgress")]
#[case::running(json!({"phase": "Running", "step": {"id": "roll-proxy"}}), "Progressing", "InProgress")]
#[case::paused(json!({"phase": "Paused", "message": "confirm"}), "Suspended", "InProgress")]
#[case::rolling_back(json!({"phase": "RollingBack"}), "Progressing", "InProgress")]
#[case::succeeded(json!({"phase": "Succeeded"}), "Healthy", "Current")]
#[case::stopped(json!({"phase": "Stopped", "message": "the image cannot be pulled"}), "Degraded", "Failed")]
#[case::rolled_back(json!({"phase": "RolledBack"}), "Degraded", "Failed")]
#[case::aborted(json!({"phase": "Aborted"}), "Degraded", "Failed")]
#[case::refused(json!({"phase": "Refused"}), "Degraded", "Failed")]
#[case::of_a_later_version(json!({"phase": "Sleeping"}), "Progressing", "InProgress")]
fn argo_cd_and_flux_agree_on_the_health_of_a_run(
    #[case] status: Value,
    #[case] in_argo: &str,
    #[case] in_flux: &str,
) {
    let run = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "run", "generation": 1}, "status": status});
    let (health, message) = argo("guard.milvus.io_UpgradeRun", &run);
    assert_eq!(
        (health.as_str(), flux("UpgradeRun", &run).as_str()),
        (in_argo, in_flux)
    );
    // The health message must contain the reason.
    for part in [text(&status, "/message"), text(&status, "/step/id")] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.is_empty());
}

/// States of milvus-operator (`apis/milvus.io/v1beta1/milvus_types.go` in its repository).
#[rstest]
#[case::unwritten(json!({}), "Progressing", "InProgress")]
#[case::pending(json!({"status": "Pending"}), "Progressing", "InProgress")]
#[case::healthy(json!({"status": "Healthy", "conditions": [{"type": "MilvusUpdated", "status": "True"}]}), "Healthy", "Current")]
#[case::updating(json!({"status": "Healthy", "conditions": [{"type": "MilvusUpdated", "status": "False", "message": "upgrading"}]}), "Progressing", "InProgress")]
#[case::unhealthy(json!({"status": "Unhealthy", "conditions": [{"type": "MilvusReady", "status": "False", "message": "querynode"}]}), "Degraded", "Failed")]
#[case::stopped(json!({"status": "Stopped"}), "Suspended", "Current")]
#[case::deleting(json!({"status": "Deleting"}), "Progressing", "InProgress")]
#[case::not_observed(json!({"status": "Healthy", "observedGeneration": 1}), "Progressing", "InProgress")]
fn argo_cd_and_flux_agree_on_the_health_of_milvus(
    #[case] status: Value,
    #[case] in_argo: &str,
    #[case] in_flux: &str,
) {
    let milvus = json!({"apiVersion": "milvus.io/v1beta1", "kind": "Milvus",
        "metadata": {"name": "m", "generation": 2}, "status": status});
    let (health, message) = argo("milvus.io_Milvus", &milvus);
    assert_eq!(
        (health.as_str(), flux("Milvus", &milvus).as_str()),
        (in_argo, in_flux)
    );
    let why = text(&status, "/conditions/0/message");
    assert!(message.contains(why), "{message}");
}

// Terraform

#[test]
fn terraform_reads_the_example() {
    let file = root().join("examples/pipelines/terraform/main.tf");
    let output = Command::new(Program::HclCheck.path()).arg(&file).output();
    let resources: Value = serde_json::from_str(&expect_success(output.unwrap())).unwrap();
    let attributes = resources["helm_release.milvus"].as_array().unwrap();
    assert!(attributes.contains(&json!("postrender")), "{attributes:?}");
    // The arguments of the post-renderer, without those that select a cluster.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("helm-guard-post-render");
    symlink(BINARY, &program).unwrap();
    let mut child = Command::new(&program)
        .args(["--namespace=milvus", "--kube-context=production"])
        .env("HOME", folder.path())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let after = fs::read(root().join("examples/demo/2-good-upgrade/after.yaml")).unwrap();
    child.stdin.take().unwrap().write_all(&after).unwrap();
    let output = child.wait_with_output().unwrap();
    // The post-renderer fails closed: the context does not exist here.
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

#[test]
#[ignore = "needs shellcheck (Debian: apt-get install shellcheck)"]
fn shellcheck_accepts_the_scripts() {
    let scripts = ["action/install.sh", "action/check.sh", "action/comment.sh"];
    let output = Command::new("shellcheck")
        .args(scripts)
        .current_dir(root())
        .output();
    expect_success(output.unwrap());
}
