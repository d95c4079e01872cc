//! A dry run of a release: the files that `release/assemble.sh` makes, read by the tools that use
//! them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use milvus_guard_testbed::{Helm, expect_success, helm};
use serde_json::Value;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program of this build under the name of the target that is released for this machine.
struct Build {
    folder: TempDir,
    target: String,
}

impl Build {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let binaries = folder.path().join("binaries").join(&target);
        fs::create_dir_all(&binaries).unwrap();
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(binaries.join("milvus-guard"));
        expect_success(
            strip
                .arg(env!("CARGO_BIN_EXE_milvus-guard"))
                .output()
                .unwrap(),
        );
        Self { folder, target }
    }

    fn assemble(&self, out: &str, more: &[&str]) -> Output {
        let mut command = Command::new(root().join("release/assemble.sh"));
        command
            .arg("--binaries")
            .arg(self.folder.path().join("binaries"));
        command.arg("--out").arg(self.folder.path().join(out));
        command.args(more).env("HELM", helm(Helm::V3));
        // The result must not depend on tools installed on the machine.
        command.env("CARGO_HOME", self.folder.path());
        command.output().unwrap()
    }

    fn file(&self, out: &str, name: &str) -> PathBuf {
        self.folder.path().join(out).join(name)
    }

    fn text(&self, out: &str, name: &str) -> String {
        fs::read_to_string(self.file(out, name)).unwrap()
    }
}

#[test]
fn a_dry_run_is_reproducible_and_the_tools_accept_its_files() {
    let build = Build::new();
    let repository = "https://git.example/me/guard";
    let named = [
        "--dry-run",
        "--repository",
        repository,
        "--registry",
        "registry.example/me",
    ];
    for out in ["one", "two"] {
        expect_success(build.assemble(out, &named));
    }
    assert_eq!(
        build.text("one", "SHA256SUMS"),
        build.text("two", "SHA256SUMS")
    );
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]);
    expect_success(check.current_dir(build.file("one", "")).output().unwrap());
    let archive = format!("milvus-guard-{VERSION}-{}.tar.gz", build.target);
    let listed: BTreeSet<String> = build
        .text("one", "SHA256SUMS")
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    let expected = [
        "artifacthub-repo.yml",
        "guard.yaml",
        "milvus-guard.rb",
        &archive,
        &format!("milvus-guard-{VERSION}.tgz"),
        &format!("milvus-upgrade-{VERSION}.tgz"),
    ];
    assert_eq!(listed, expected.map(str::to_owned).into());

    // The archive, unpacked as cargo binstall, krew and Homebrew do.
    let unpacked = build.file("unpacked", "");
    fs::create_dir(&unpacked).unwrap();
    let mut unpack = Command::new("tar");
    unpack
        .arg("xzf")
        .arg(build.file("one", &archive))
        .arg("-C")
        .arg(&unpacked);
    expect_success(unpack.output().unwrap());
    let folder = unpacked.join(archive.trim_end_matches(".tar.gz"));
    let program = folder.join("milvus-guard");
    assert_eq!(
        fs::metadata(&program).unwrap().permissions().mode() & 0o777,
        0o755
    );
    for (file, word) in [
        ("LICENSE", "Apache License"),
        ("milvus-guard.1", "EXIT STATUS"),
        ("completions/milvus-guard.fish", "milvus-guard"),
    ] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(word), "{file}: {text}");
    }

    // krew: under the name of the plugin, the program calls itself kubectl guard.
    let manifest: Value = serde_saphyr::from_str(&build.text("one", "guard.yaml")).unwrap();
    assert_eq!(manifest["metadata"]["name"], "guard");
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    let platform = &manifest["spec"]["platforms"][0];
    let address = format!("{repository}/releases/download/v{VERSION}/{archive}");
    assert_eq!(platform["uri"], address);
    let sum = platform["sha256"].as_str().unwrap();
    let sums = build.text("one", "SHA256SUMS");
    assert!(sums.contains(&format!("{sum}  {archive}")));
    for file in platform["files"].as_array().unwrap() {
        assert!(
            unpacked.join(file["from"].as_str().unwrap()).exists(),
            "{file}"
        );
    }
    let plugin = unpacked.join("kubectl-guard");
    symlink(&program, &plugin).unwrap();
    let help = expect_success(Command::new(plugin).arg("--help").output().unwrap());
    assert!(help.contains("kubectl guard"), "{help}");

    let formula = build.text("one", "milvus-guard.rb");
    assert!(formula.contains(&format!("url \"{address}\"")) && formula.contains(sum));

    // cargo binstall, with the templates in Cargo.toml.
    let cargo = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let template = |key: &str| {
        let (_, rest) = cargo.split_once(&format!("{key} = \"")).unwrap();
        rest.split('"')
            .next()
            .unwrap()
            .replace("{ repo }", repository)
            .replace("{ version }", VERSION)
            .replace("{ target }", &build.target)
            .replace("{ bin }", "milvus-guard")
            .replace("{ binary-ext }", "")
    };
    assert_eq!(template("pkg-url"), address);
    assert!(unpacked.join(template("bin-dir")).exists());

    // Helm and Artifact Hub.
    for chart in ["milvus-guard", "milvus-upgrade"] {
        let package = build.file("one", &format!("{chart}-{VERSION}.tgz"));
        let mut lint = Command::new(helm(Helm::V4));
        expect_success(
            lint.args(["lint", "--strict"])
                .arg(&package)
                .output()
                .unwrap(),
        );
        let mut show = Command::new(helm(Helm::V4));
        let shown = expect_success(show.args(["show", "chart"]).arg(&package).output().unwrap());
        let shown: Value = serde_saphyr::from_str(&shown).unwrap();
        assert_eq!(shown["sources"][0], repository);
        let annotation = |name: &str| -> Vec<Value> {
            let text = shown["annotations"][format!("artifacthub.io/{name}")].as_str();
            serde_saphyr::from_str(text.unwrap_or_else(|| panic!("{chart} has no {name}"))).unwrap()
        };
        let image = format!("registry.example/me/milvus-guard:{VERSION}");
        assert_eq!(annotation("images")[0]["image"], image);
        assert_eq!(annotation("links").len(), 1);
        let changes = annotation("changes");
        assert!(changes.len() > 10);
        for change in changes {
            let kinds = [
                "added",
                "changed",
                "deprecated",
                "removed",
                "fixed",
                "security",
            ];
            assert!(
                kinds.contains(&change["kind"].as_str().unwrap()),
                "{change}"
            );
            assert!(!change["description"].as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn an_incomplete_release_is_refused() {
    let build = Build::new();
    let refused = |out: &str, more: &[&str], why: &str| {
        let output = build.assemble(out, more);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{more:?}");
        assert!(stderr.contains(why), "{stderr}");
        let made = fs::read_dir(build.file(out, "")).unwrap().count();
        assert_eq!(made, 0, "{more:?}");
    };
    refused("other", &["--version", "v9.9.9"], "but Cargo.toml has");
    refused(
        "notes",
        &["--version", VERSION],
        "CHANGELOG.md has no heading",
    );
    fs::remove_dir_all(build.folder.path().join("binaries").join(&build.target)).unwrap();
    refused("empty", &["--dry-run"], "none of the binaries runs");
}

/// The Dockerfile builds the dependencies first. Cargo checks that the empty sources are a
/// workspace.
#[test]
fn the_manifests_without_sources_are_a_workspace_with_the_same_dependencies() {
    let folder = tempfile::tempdir().unwrap();
    let copy = "git archive HEAD Cargo.toml Cargo.lock .cargo src crates patches benches release \
                tests/testbed/Cargo.toml tests/testbed/src xtask | tar x -C \"$0\" && cd \"$0\" && release/manifests.sh";
    let mut shell = Command::new("bash");
    shell
        .args(["-eo", "pipefail", "-c", copy])
        .arg(folder.path());
    expect_success(shell.current_dir(root()).output().unwrap());
    let metadata = |at: &Path| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--locked", "--offline", "--format-version=1"]);
        let text = expect_success(cargo.current_dir(at).output().unwrap());
        let metadata: Value = serde_json::from_str(&text).unwrap();
        let nodes = metadata["packages"].as_array().unwrap().clone();
        nodes
            .iter()
            .map(|package| format!("{} {}", package["name"], package["version"]))
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(metadata(folder.path()), metadata(root()));
    // A change of the sources does not change these files, so the image layer stays valid.
    assert_eq!(
        fs::read_to_string(folder.path().join("crates/core/src/lib.rs")).unwrap(),
        ""
    );
    // In a clone, the script would delete the sources.
    let mut there = Command::new(root().join("release/manifests.sh"));
    let output = there.current_dir(root()).output().unwrap();
    assert!(!output.status.success());
}
