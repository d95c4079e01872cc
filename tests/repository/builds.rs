//! Rust is enough to build the program: no protoc, also from vendored crates and another folder.

use std::{fs, path::Path, process::Command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The packages of `Cargo.lock` that depend on `dependency`, which is written as in the file: with
/// the version if there is more than one.
fn dependents(lock: &str, dependency: &str) -> Vec<String> {
    let entry = format!("\n \"{dependency}\",\n");
    lock.split("[[package]]\n")
        .filter(|package| package.contains(&entry))
        .map(|package| {
            let mut lines = package.lines().map(|line| line.split('"').nth(1));
            let [name, version] = [(); 2].map(|()| lines.next().flatten().unwrap());
            format!("{name} {version}")
        })
        .collect()
}

/// `prost-build` can run protoc. Every dependent must use our replacement.
#[test]
fn no_build_script_can_run_protoc() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap();
    let ours = "tonic-prost-build 0.14.999";
    assert_eq!(dependents(&lock, "prost-build"), [ours]);
    let users = dependents(&lock, "tonic-prost-build");
    assert!(
        users.iter().any(|user| user.starts_with("etcd-client ")),
        "{users:?}"
    );
}

/// One command for all three: `cargo install --path`, with crates from a vendored folder and no
/// registry, called in another folder. `PROTOC` names a missing file, so that a build that runs
/// protoc fails even on a machine with protoc.
#[test]
#[ignore = "builds the program from nothing, which takes ten minutes: make test-full"]
fn the_program_installs_from_vendored_crates_without_protoc() {
    let elsewhere = tempfile::tempdir().unwrap();
    let cargo = |arguments: &str| {
        let output = Command::new(env!("CARGO"))
            .current_dir(elsewhere.path())
            .env("PROTOC", "/does/not/exist")
            .args(arguments.split_whitespace())
            .args(["--locked", "--quiet"])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {arguments}: {errors}");
    };
    cargo(&format!("vendor --manifest-path {ROOT}/Cargo.toml vendor"));
    let vendored = "source.crates-io.replace-with='vendored' \
        --config source.vendored.directory='vendor'";
    cargo(&format!(
        "install --path {ROOT} --offline --debug --root root --target-dir target --config {vendored}"
    ));
    let program = elsewhere.path().join("root/bin/milvus-guard");
    let output = Command::new(program).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&output.stdout);
    assert!(version.starts_with("milvus-guard "), "{version}");
}
