//! Shared by the integration tests: the binary, charts, and the JSON report.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]
#![allow(dead_code, reason = "each test uses a part")]

pub mod background;
pub mod bombs;
pub mod faults;
pub mod https;
pub mod installed;
pub mod jobs;
pub mod kubelet;
pub mod machine;
pub mod management;
pub mod metadata;
pub mod migration_cluster;
pub mod plugin;
pub mod proxy;
pub mod roll;
pub mod service;
pub mod sessions;
pub mod ticks;
pub mod webhook;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use milvus_guard_testbed::{Access, Helm, helm, wait_until};
use serde_json::Value;

/// Whether all cases of a matrix are tested: `MILVUS_GUARD_FULL=1`, set by `make test-full`.
pub fn is_full() -> bool {
    env::var_os("MILVUS_GUARD_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Environment variable with another build of the program: the released one, for measurements of
/// memory and time.
pub const BINARY: &str = "MILVUS_GUARD_BINARY";

/// The binary under test.
pub fn binary() -> PathBuf {
    let named = env::var_os(BINARY);
    named
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_milvus-guard").into())
        .into()
}

/// The binary under test, without colors and without the user's kubeconfig.
pub fn guard() -> Command {
    let mut command = Command::new(binary());
    command
        .env_remove("KUBECONFIG")
        // Helm and kubectl write their caches to this folder.
        .env("HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/home"))
        .env("NO_COLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("COLUMNS");
    command
}

/// Completions for the last argument of a line, requested as the script of `completions bash` does.
pub fn offered(line: &str, more: impl FnOnce(&mut Command)) -> Vec<String> {
    let typed: Vec<&str> = line.split(' ').collect();
    let mut command = guard();
    command
        .env("MILVUS_GUARD_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (typed.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("_CLAP_IFS", "\n")
        .arg("--")
        .args(&typed);
    more(&mut command);
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, 0, "{line}: {stderr}");
    stdout.lines().map(|line| line.trim().to_owned()).collect()
}

/// Runs the binary and returns exit code, stdout and stderr.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the binary must run");
    let code = status
        .code()
        .unwrap_or_else(|| panic!("a signal ended the binary: {status}"));
    (
        code,
        String::from_utf8(stdout).expect("stdout is text"),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

/// Installs the definitions of the guard's objects as its documentation says, and waits until they
/// are served.
pub fn install_definitions(cluster: &Access) {
    let (code, definitions, stderr) = run(guard().arg("crds"));
    assert_eq!(code, 0, "{stderr}");
    cluster.apply(&definitions);
    await_definitions(cluster, &["-l", "app.kubernetes.io/part-of=milvus-guard"]);
}

/// Waits until these definitions are served. `kubectl wait` fails if one has no condition yet.
pub fn await_definitions(cluster: &Access, which: &[&str]) {
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
    ];
    let mut last = None;
    let served = wait_until(Duration::from_secs(60), || {
        let answer = cluster.kubectl(wait.iter().chain(which));
        let is_served = answer.status.success();
        last = Some(answer);
        is_served
    });
    assert!(served, "{last:?}");
}

/// Sorts runs by their start. Runs may have the same creation time, which the API server stores in
/// seconds only.
pub fn oldest_first(runs: &mut [Value]) {
    runs.sort_by_key(|run| {
        let began = run["status"]["startedAt"]
            .as_str()
            .map(|at| at.parse::<jiff::Timestamp>().expect("a time"));
        (
            run["metadata"]["creationTimestamp"]
                .as_str()
                .expect("a time")
                .to_owned(),
            began.is_none(),
            began,
        )
    });
}

/// The result of `check`: exit code and JSON report.
pub struct Judged {
    pub code: i32,
    pub report: Value,
}

impl Judged {
    /// Runs `check` with these arguments in JSON.
    pub fn of(args: &[&str]) -> Self {
        Self::with(guard().arg("check").args(args))
    }

    pub fn with(command: &mut Command) -> Self {
        let (code, stdout, stderr) = run(command.args(["--format", "json"]));
        let report = serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("no JSON report ({error}); stderr: {stderr}"));
        Self { code, report }
    }

    pub fn verdict(&self) -> &str {
        self.report["verdict"].as_str().expect("a verdict")
    }

    /// Rules with findings of this action.
    pub fn rules(&self, action: &str) -> Vec<String> {
        let mut rules: Vec<String> = self.report["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .filter(|finding| finding["action"] == action && finding["notEvaluated"] == false)
            .map(|finding| finding["rule"].as_str().expect("a rule").to_owned())
            .collect();
        rules.sort();
        rules.dedup();
        rules
    }

    pub fn finding(&self, rule: &str) -> &Value {
        let findings = self.report["findings"].as_array().expect("findings");
        findings
            .iter()
            .find(|finding| finding["rule"] == rule)
            .unwrap_or_else(|| panic!("{rule} was not found in {:#}", self.report))
    }
}

/// A chart of one version that tests render and install.
#[derive(Clone, Debug)]
pub struct Chart {
    pub version: &'static str,
    pub app_version: &'static str,
    path: PathBuf,
    _scratch: Option<std::sync::Arc<tempfile::TempDir>>,
    pub is_real: bool,
}

/// Chart versions for each period of Milvus, with the Milvus version that each installs.
pub const ERAS: [(&str, &str); 5] = [
    ("3.2.18", "2.1.4"),
    ("4.0.31", "2.2.13"),
    ("4.1.34", "2.4.5"),
    ("4.2.40", "2.5.5"),
    ("5.0.14", "2.6.11"),
];

impl Chart {
    /// The project's compact chart, as this version.
    pub fn compact(version: &'static str) -> Self {
        let app_version = ERAS
            .iter()
            .find(|(chart, _)| *chart == version)
            .map_or("2.4.5", |(_, app)| app);
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charts/milvus");
        copy(&source, scratch.path());
        let meta = fs::read_to_string(source.join("Chart.yaml")).expect("Chart.yaml");
        let meta = meta
            .replace("version: 4.1.34", &format!("version: {version}"))
            .replace("\"2.4.5\"", &format!("\"{app_version}\""));
        fs::write(scratch.path().join("Chart.yaml"), meta).expect("a chart");
        let path = scratch.path().to_owned();
        Self {
            version,
            app_version,
            path,
            _scratch: Some(std::sync::Arc::new(scratch)),
            is_real: false,
        }
    }

    /// The real chart of this version if `MILVUS_CHARTS` is set, else the compact one.
    pub fn real_or_compact(version: &'static str) -> Self {
        let compact = Self::compact(version);
        let Some(folder) = env::var_os("MILVUS_CHARTS") else {
            return compact;
        };
        Self {
            path: PathBuf::from(folder).join(version),
            is_real: true,
            ..compact
        }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path")
    }

    /// Renders it for an upgrade of `my-release` in namespace `milvus`.
    pub fn render(&self, with: Helm, values: &[&str]) -> String {
        self.render_in("milvus", with, values)
    }

    /// The same in another namespace.
    pub fn render_in(&self, namespace: &str, with: Helm, values: &[&str]) -> String {
        let mut command = Command::new(helm(with));
        command.args([
            "template",
            "my-release",
            self.path(),
            "-n",
            namespace,
            "--is-upgrade",
        ]);
        for value in values {
            command.args(["--set", value]);
        }
        let output = command.output().expect("helm runs");
        assert!(
            output.status.success(),
            "{} {values:?}: {}",
            self.version,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }
}

/// The charts to test with: the compact ones, and the real ones if `MILVUS_CHARTS` is set. Prints
/// which.
pub fn charts() -> Vec<Vec<Chart>> {
    let own: Vec<Chart> = ERAS
        .iter()
        .map(|(version, _)| Chart::compact(version))
        .collect();
    let mut sets = vec![own];
    match env::var_os("MILVUS_CHARTS") {
        None => eprintln!("MILVUS_CHARTS is not set: tested with the project's compact chart only"),
        Some(folder) => {
            let folder = PathBuf::from(folder);
            let real: Vec<Chart> = ERAS
                .iter()
                .map(|(version, app_version)| {
                    let path = folder.join(version);
                    assert!(
                        path.join("Chart.yaml").is_file(),
                        "MILVUS_CHARTS holds no chart {version}"
                    );
                    Chart {
                        version,
                        app_version,
                        path,
                        _scratch: None,
                        is_real: true,
                    }
                })
                .collect();
            eprintln!(
                "MILVUS_CHARTS is set: tested with {} real charts too",
                real.len()
            );
            sets.push(real);
        }
    }
    sets
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

/// Writes a file into a folder, and returns its path.
pub fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).expect("a file");
    path.to_str().expect("a path").to_owned()
}
