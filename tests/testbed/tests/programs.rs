//! How programs get into the cache, tested with a fake Go, and `KUBEBUILDER_ASSETS`.

#![expect(
    clippy::expect_used,
    reason = "functions that tests share fail the test as well"
)]

use std::fs::{self, Permissions};
use std::io::{Write as _, stdout};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, thread};

use milvus_guard_testbed::{Bundle, Program, expect_success};
use tempfile::TempDir;

/// Makes a copy of this test executable print the paths of the programs.
const PRINT: &str = "TESTBED_PRINT_PROGRAMS";

/// A folder with an executable `go` that runs this shell script.
fn stand_in(script: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let go = dir.path().join("go");
    fs::write(&go, format!("#!/bin/sh\n{script}")).expect("a script");
    fs::set_permissions(&go, Permissions::from_mode(0o755)).expect("an executable");
    dir
}

/// `testbed-build` with this Go first in the PATH, and an empty cache.
fn testbed_build(go: &TempDir, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed-build"));
    let path = env::var("PATH").expect("a PATH");
    command
        .env("PATH", format!("{}:{path}", go.path().display()))
        .env("MILVUS_GUARD_CACHE", cache);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn several_processes_build_each_bundle_once() {
    // Finds the argument after -o, writes that file and records the call.
    let go = stand_in(
        r#"
test "$GOFLAGS $CGO_ENABLED" = "-mod=readonly 0" || exit 1
while [ "$1" != -o ]; do shift; done
echo built >"$2"
echo "$3" >>"$MILVUS_GUARD_CACHE/calls"
"#,
    );
    let cache = tempfile::tempdir().expect("a directory");
    let outputs = thread::scope(|scope| {
        let builds = [(); 4].map(|()| {
            scope.spawn(|| {
                testbed_build(&go, cache.path())
                    .output()
                    .expect("testbed-build runs")
            })
        });
        builds.map(|build| expect_success(build.join().expect("an output")))
    });
    let calls = fs::read_to_string(cache.path().join("calls")).expect("calls of go");
    assert_eq!(
        calls.lines().collect::<Vec<_>>(),
        [".", ".", "helm.sh/helm/v3/cmd/helm", ".", "."]
    );
    assert!(outputs.iter().all(|output| output == &outputs[0]));
    let folders: Vec<&Path> = outputs[0].lines().map(Path::new).collect();
    assert_eq!(folders.len(), Bundle::ALL.len());
    for program in [
        Program::Etcdctl,
        Program::KubeApiserver,
        Program::Helm3,
        Program::Helm4,
        Program::HelmOfFlux,
    ] {
        let folder = folders[Bundle::ALL
            .iter()
            .position(|bundle| *bundle == program.bundle())
            .expect("a bundle")];
        assert_eq!(
            fs::read_to_string(folder.join(program.name())).expect("an executable"),
            "built\n"
        );
    }
}

#[test]
fn a_failed_build_reports_the_reason_and_leaves_no_files() {
    let go = stand_in("echo 'checksum mismatch' >&2; exit 1");
    let cache = tempfile::tempdir().expect("a directory");
    let output = testbed_build(&go, cache.path())
        .output()
        .expect("testbed-build runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("building etcd") && said.contains("checksum mismatch"),
        "{said}"
    );
    let left = fs::read_dir(cache.path().join("testbed"))
        .expect("the cache")
        .flatten();
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| name.to_string_lossy().ends_with(".lock"))
    );
}

#[test]
fn a_killed_build_does_not_block_others_and_its_files_are_removed() {
    let cache = tempfile::tempdir().expect("a directory");
    let parts = || {
        let entries = fs::read_dir(cache.path().join("testbed"))
            .expect("the cache")
            .flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().contains(".part-"))
            .count()
    };
    let killer = stand_in("kill -s KILL $PPID");
    assert!(
        !testbed_build(&killer, cache.path())
            .status()
            .expect("testbed-build runs")
            .success()
    );
    assert_eq!(parts(), 1);
    let failing = stand_in("exit 1");
    assert!(
        !testbed_build(&failing, cache.path())
            .status()
            .expect("testbed-build runs")
            .success()
    );
    assert_eq!(parts(), 0);
}

/// Only used by the test below: prints the paths if the variable is set.
#[test]
fn print_programs() {
    if env::var_os(PRINT).is_some() {
        for program in [Program::Etcd, Program::KubeApiserver, Program::Kubectl] {
            writeln!(stdout(), "\npath={}", program.path().display()).expect("standard output");
        }
    }
}

#[test]
fn kubebuilder_assets_are_preferred() {
    let print = |assets: &Path| {
        let mut command = Command::new(env::current_exe().expect("the test executable"));
        command
            .args(["--exact", "print_programs", "--nocapture"])
            .env(PRINT, "1")
            .env("KUBEBUILDER_ASSETS", assets);
        let output = command.output().expect("a copy of this test");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let paths = expect_success(output)
            .lines()
            .filter_map(|line| line.strip_prefix("path=").map(str::to_owned))
            .collect();
        (said, paths)
    };
    let built = [Program::Etcd, Program::KubeApiserver, Program::Kubectl]
        .map(|program| program.path().display().to_string());
    let dir = tempfile::tempdir().expect("a directory");
    let asset = |name: &str| dir.path().join(name).display().to_string();

    symlink(&built[0], dir.path().join("etcd")).expect("a link");
    let (said, paths): (String, Vec<String>) = print(dir.path());
    assert!(
        said.contains("no etcd and kube-apiserver in KUBEBUILDER_ASSETS"),
        "{said}"
    );
    assert_eq!(paths, built);

    symlink(&built[1], dir.path().join("kube-apiserver")).expect("a link");
    let (said, paths) = print(dir.path());
    assert_eq!(
        said.matches("using the programs in KUBEBUILDER_ASSETS")
            .count(),
        1,
        "{said}"
    );
    assert_eq!(
        paths,
        [asset("etcd"), asset("kube-apiserver"), built[2].clone()]
    );
}
