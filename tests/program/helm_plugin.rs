//! The Helm plugin and the post-renderer with both Helms on a real API server, and the names under
//! which the program is called.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::Value;

use crate::common::{Chart, guard, run};

const BOTH: [Helm; 2] = [Helm::V3, Helm::V4];
/// Where the metadata would be skipped.
const SKIPPED: [&str; 2] = ["--set", "image.all.tag=v2.2.16"];
/// A patch release.
const PATCH: [&str; 2] = ["--set", "image.all.tag=v2.4.24"];

/// A cluster, and a Helm with our plugins.
struct Stand<'a> {
    cluster: &'a ControlPlane,
    with: Helm,
    namespace: &'static str,
    /// Copy of `plugins/helm`, where the plugins are installed from.
    folder: tempfile::TempDir,
}

impl<'a> Stand<'a> {
    fn new(cluster: &'a ControlPlane, with: Helm) -> Self {
        let stand = Self::without_plugins(cluster, with);
        for plugin in stand.plugins() {
            let source = stand.folder.path().join(plugin);
            let source = source.to_str().unwrap();
            let (code, _, stderr) = stand.helm(&["plugin", "install", source]);
            assert_eq!(code, 0, "{plugin}: {stderr}");
        }
        stand
    }

    fn without_plugins(cluster: &'a ControlPlane, with: Helm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for plugin in ["guard", "guard-post-render"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("plugins/helm")
                .join(plugin);
            let to = folder.path().join(plugin);
            fs::create_dir(&to).unwrap();
            for file in ["plugin.yaml", "link.sh"] {
                fs::copy(from.join(file), to.join(file)).unwrap();
            }
        }
        let namespace = if with == Helm::V3 {
            "milvus-3"
        } else {
            "milvus-4"
        };
        Self {
            cluster,
            with,
            namespace,
            folder,
        }
    }

    fn plugins(&self) -> &'static [&'static str] {
        if self.with == Helm::V3 {
            &["guard"]
        } else {
            &["guard", "guard-post-render"]
        }
    }

    fn command(&self) -> Command {
        let mut command = self.cluster.helm_command(self.with);
        command
            .env("MILVUS_GUARD_PROGRAM", env!("CARGO_BIN_EXE_milvus-guard"))
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn helm(&self, args: &[&str]) -> (i32, String, String) {
        run(self.command().args(args))
    }

    /// The link through which Helm runs the post-renderer.
    fn post_renderer_link(&self) -> PathBuf {
        let plugin = self.plugins().last().unwrap();
        let folder = self.folder.path().join(plugin);
        folder.join("bin/helm-guard-post-render")
    }

    /// Flags with which Helm runs the post-renderer.
    fn post_renderer(&self) -> Vec<String> {
        let name = if self.with == Helm::V3 {
            self.post_renderer_link().to_str().unwrap().to_owned()
        } else {
            "guard-post-render".into()
        };
        vec!["--post-renderer".into(), name]
    }

    /// A verb of Helm on a chart, through the post-renderer.
    fn rendered(&self, verb: &[&str], chart: &Chart, more: &[&str]) -> (i32, String, String) {
        let own = self.post_renderer();
        let mut args = vec![verb[0], "my-release", chart.path(), "-n", self.namespace];
        args.extend(&verb[1..]);
        args.extend(own.iter().map(String::as_str));
        args.extend(more);
        self.helm(&args)
    }

    /// A verb of the plugin on a chart.
    fn guard(&self, verb: &str, chart: &Chart, more: &[&str]) -> (i32, String, String) {
        let mut args = vec!["guard", verb, "my-release", chart.path(), "-n"];
        args.push(self.namespace);
        args.extend(more);
        self.helm(&args)
    }

    fn install(&self, chart: &Chart, values: &[&str]) {
        let mut args = vec!["install", "my-release", chart.path(), "-n", self.namespace];
        args.push("--create-namespace");
        args.extend(values);
        let (code, _, stderr) = self.helm(&args);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Status of each revision.
    fn history(&self) -> Vec<String> {
        let args = ["history", "my-release", "-n", self.namespace, "-o", "json"];
        let (code, stdout, stderr) = self.helm(&args);
        assert_eq!(code, 0, "{stderr}");
        let history: Value = serde_json::from_str(&stdout).unwrap();
        let revisions = history.as_array().unwrap().iter();
        revisions
            .map(|revision| revision["status"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Images of Milvus, each once.
    fn images(&self) -> Vec<String> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace);
        let list = self.cluster.get_json(&path);
        let items = list["items"].as_array().unwrap().iter();
        let mut images: Vec<String> = items
            .map(|item| &item["spec"]["template"]["spec"]["containers"][0]["image"])
            .map(|image| image.as_str().unwrap().to_owned())
            .collect();
        images.sort();
        images.dedup();
        images
    }
}

fn stands(cluster: &ControlPlane) -> impl Iterator<Item = Stand<'_>> {
    BOTH.into_iter().map(|with| Stand::new(cluster, with))
}

/// Runs the post-renderer without Helm, with these manifests on its standard input.
fn post_render(
    manifests: &[u8],
    args: &[&str],
    prepare: impl FnOnce(&mut Command),
) -> (i32, Vec<u8>, String) {
    let mut command = guard();
    command
        .args(["helm", "post-render"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifests).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

#[test]
fn the_post_renderer_stops_a_skipped_migration_before_anything_is_stored() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        stand.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let verbs: [&[&str]; 5] = [
            &["upgrade"],
            &["upgrade", "--install"],
            &["upgrade", "--dry-run=server"],
            &["upgrade", "--dry-run=client"],
            &["template", "--is-upgrade"],
        ];
        for verb in verbs {
            let (code, stdout, stderr) = stand.rendered(verb, &next, &SKIPPED);
            let seen = format!("{:?} {verb:?}: {code} {stdout}{stderr}", stand.with);
            assert_ne!(code, 0, "{seen}");
            for part in [
                "milvus-guard stops this release. Helm has stored and sent nothing.",
                "MG101 2.1.4 would become 2.2.16 without evidence of a metadata migration",
                &format!(
                    "milvus-guard migrate -i my-release -n {} -s 2.1.4",
                    stand.namespace
                ),
                "post render",
            ] {
                assert!(stderr.contains(part), "{part:?} is missing: {seen}");
            }
            assert!(!stdout.contains("kind: Deployment"), "{seen}");
        }
        assert_eq!(stand.history(), ["deployed"]);
        assert_eq!(stand.images(), ["milvusdb/milvus:v2.1.4"]);
    }
}

#[test]
fn a_denial_is_in_the_file_that_takes_the_errors_of_helm() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        stand.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let log = stand.folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let status = stand
            .command()
            .args(["upgrade", "my-release", next.path(), "-n", stand.namespace])
            .args(stand.post_renderer())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status()
            .unwrap();
        assert!(!status.success());
        let log = fs::read_to_string(log).unwrap();
        assert!(log.starts_with("Error: UPGRADE FAILED: "), "{log}");
        for part in [
            "error while running post render",
            "stops this release",
            "MG101 ",
        ] {
            assert!(log.contains(part), "{part:?} is missing:\n{log}");
        }
    }
}

#[test]
fn a_good_upgrade_passes_the_post_renderer_byte_for_byte() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        let chart = Chart::compact("4.1.34");
        // A first installation passes as well: there is nothing to judge against.
        let (code, _, stderr) = stand.rendered(&["install", "--create-namespace"], &chart, &[]);
        assert_eq!(code, 0, "{stderr}");

        // What Helm prints through our post-renderer is what it prints through one that copies.
        let (code, ours, stderr) = stand.rendered(&["template"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("milvus-guard: warning: MG201"), "{stderr}");
        fs::rename(stand.post_renderer_link(), stand.folder.path().join("kept")).unwrap();
        program(&stand.post_renderer_link(), "exec cat");
        let (code, copied, stderr) = stand.rendered(&["template"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(ours, copied);
        assert!(ours.contains("kind: Deployment"));
        fs::remove_file(stand.post_renderer_link()).unwrap();
        fs::rename(stand.folder.path().join("kept"), stand.post_renderer_link()).unwrap();

        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stand.history(), ["superseded", "deployed"]);
        assert_eq!(stand.images(), ["milvusdb/milvus:v2.4.24"]);

        // Comments, a missing line feed at the end and Windows' line ends are kept.
        let rendered = chart.render_in(stand.namespace, stand.with, &["image.all.tag=v2.4.24"]);
        let odd = format!("# first\r\n---\r\n{}\n# last", rendered.trim_end());
        let config = cluster.kubeconfig().to_str().unwrap();
        let args = ["-n", stand.namespace, "--kubeconfig", config];
        let (code, stdout, stderr) = post_render(odd.as_bytes(), &args, |_| {});
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stdout, odd.as_bytes());
    }
}

/// Puts a shell script where a program is expected.
fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_missing_program_a_crash_and_an_unreachable_cluster_stop_helm() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        let chart = Chart::compact("4.1.34");
        stand.install(&chart, &[]);
        let stopped = |why: &str, code: i32, stderr: &str| {
            assert_ne!(code, 0, "{why}");
            assert!(stderr.contains(why), "{why:?} is missing: {stderr}");
            assert_eq!(stand.history(), ["deployed"], "{why}");
            assert_eq!(stand.images(), ["milvusdb/milvus:v2.4.5"], "{why}");
        };
        let link = stand.post_renderer_link();
        fs::remove_file(&link).unwrap();
        symlink("/nonexistent/milvus-guard", &link).unwrap();
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &PATCH);
        stopped("helm-guard-post-render", code, &stderr);

        // The real program, ended by a signal as soon as it begins.
        fs::remove_file(&link).unwrap();
        let real = env!("CARGO_BIN_EXE_milvus-guard");
        program(
            &link,
            &format!("ulimit -t 0; ulimit -v 16384; exec '{real}' helm post-render"),
        );
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &PATCH);
        stopped("post render", code, &stderr);

        fs::remove_file(&link).unwrap();
        let helm_guard = link.with_file_name("helm-guard");
        fs::copy(helm_guard.canonicalize().unwrap(), &link).unwrap();
        let wrong = stand.folder.path().join("kubeconfig");
        let config = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
             users: [{name: u, user: {}}]\n\
             contexts: [{name: c, context: {cluster: c, user: u}}]\n";
        fs::write(&wrong, config).unwrap();
        let flag = format!("--kubeconfig={}", wrong.display());
        let (code, _, stderr) = stand.rendered(&["template"], &chart, &[&flag]);
        stopped("it cannot judge the change: ", code, &stderr);
        assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
        let (code, stdout, stderr) = stand.rendered(
            &["template"],
            &chart,
            &[&flag, "--post-renderer-args", "--before=none"],
        );
        assert_eq!(code, 0, "nothing is asked of the cluster: {stderr}");
        assert!(stdout.contains("kind: Deployment"));

        let wrong_flag = ["--post-renderer-args", "--befor=none"];
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &wrong_flag);
        stopped("unexpected argument '--befor'", code, &stderr);
    }
}

#[test]
fn a_plugin_is_not_installed_without_the_program() {
    let cluster = ControlPlane::start();
    for with in BOTH {
        let stand = Stand::without_plugins(&cluster, with);
        let source = stand.folder.path().join(stand.plugins().last().unwrap());
        let (code, _, stderr) = run(stand
            .command()
            .env("MILVUS_GUARD_PROGRAM", "/nonexistent/milvus-guard")
            .args([
                OsStr::new("plugin"),
                OsStr::new("install"),
                source.as_os_str(),
            ]));
        assert_ne!(code, 0, "{stderr}");
        assert!(
            stderr.contains("milvus-guard was not found at /nonexistent/milvus-guard"),
            "{stderr}"
        );
    }
    let read = |plugin: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/helm");
        fs::read_to_string(folder.join(plugin).join("link.sh")).unwrap()
    };
    assert_eq!(read("guard"), read("guard-post-render"));
}

/// As docs/helm-plugin.md warns.
#[test]
fn a_plugin_of_helm_4_hides_all_plugins_from_helm_3() {
    let cluster = ControlPlane::start();
    let stand = Stand::new(&cluster, Helm::V3);
    assert_eq!(stand.helm(&["guard", "--help"]).0, 0);
    let source = stand.folder.path().join("guard-post-render");
    let (code, _, stderr) = stand.helm(&["plugin", "install", source.to_str().unwrap()]);
    assert_ne!(code, 0, "{stderr}");
    let (code, _, stderr) = stand.helm(&["guard", "--help"]);
    assert_ne!(code, 0, "{stderr}");
    assert!(stderr.contains("failed to load plugins"), "{stderr}");
}

#[test]
fn the_plugin_judges_and_then_upgrades() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        stand.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let more = [&SKIPPED[..], &["--format", "json"]].concat();
        let (code, stdout, stderr) = stand.guard("check", &next, &more);
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!((code, &report["verdict"]), (1, &"deny".into()), "{stderr}");
        assert_eq!(
            (&report["from"], &report["to"]),
            (&"2.1.4".into(), &"2.2.16".into())
        );
        assert_eq!(report["releases"][0]["namespace"], stand.namespace);
        // Helm's record and its own version are known here.
        for rule in ["MG503", "MG702"] {
            let checks = report["checks"].as_array().unwrap();
            let check = checks.iter().find(|check| check["rule"] == rule).unwrap();
            assert_ne!(check["outcome"], "not-evaluated", "{check:#}");
        }

        let (code, stdout, stderr) = stand.guard("upgrade", &next, &SKIPPED);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(
            stderr.contains("× MG101 ") && stderr.contains("Helm was not run"),
            "{stderr}"
        );
        assert_eq!(stand.history(), ["deployed"]);

        let (code, stdout, _) = stand.guard("plan", &next, &SKIPPED);
        assert!(code == 0 && stdout.contains("2.1.4 → 2.2.16"), "{stdout}");
        let to = [
            "guard",
            "plan",
            "my-release",
            "--to",
            "2.5",
            "-n",
            stand.namespace,
        ];
        let (code, stdout, stderr) = stand.helm(&to);
        assert!(
            code == 0 && stdout.contains("2.1.4 → 2.5.27"),
            "{stdout}{stderr}"
        );

        // A release that Helm does not know, and a chart that does not exist: no verdict.
        let unknown = [
            "guard",
            "upgrade",
            "nobody",
            next.path(),
            "-n",
            stand.namespace,
        ];
        let (code, _, stderr) = stand.helm(&unknown);
        assert!(
            code == 3 && stderr.contains("has no deployed releases"),
            "{code} {stderr}"
        );
        assert!(stderr.contains("Helm was not run"), "{stderr}");
    }
}

#[test]
fn the_plugin_runs_helm_with_the_same_flags_and_ends_with_its_code() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        let chart = Chart::compact("4.1.34");
        stand.install(&chart, &[]);
        let (code, stdout, stderr) = stand.guard("check", &chart, &PATCH);
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(stand.history(), ["deployed"]);
        let strict = [&PATCH[..], &["--fail-on=warn"]].concat();
        assert_eq!(stand.guard("check", &chart, &strict).0, 1);

        let more = [
            &PATCH[..],
            &["-o", "json", "--description", "by the plugin"],
        ]
        .concat();
        let (code, stdout, stderr) = stand.guard("upgrade", &chart, &more);
        assert_eq!(code, 0, "{stderr}");
        let release: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(release["info"]["description"], "by the plugin");
        assert!(stderr.contains("milvus-guard: warning: MG201"), "{stderr}");
        assert_eq!(stand.images(), ["milvusdb/milvus:v2.4.24"]);

        // No controller runs here, so Helm waits in vain, and fails.
        let waits = [&PATCH[..], &["--wait", "--timeout", "1s"]].concat();
        let (code, _, stderr) = stand.guard("upgrade", &chart, &waits);
        assert!(
            code == 1 && stderr.contains("UPGRADE FAILED"),
            "{code} {stderr}"
        );
        assert!(!stderr.contains("Helm was not run"), "{stderr}");
        assert_eq!(stand.history().last().unwrap(), "failed");
    }
}

#[test]
fn values_of_the_release_are_reused_as_helm_reuses_them() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        let chart = Chart::compact("4.1.34");
        stand.install(&chart, &["--set", "minio.bucketName=ours"]);
        let reused = [&PATCH[..], &["--reset-then-reuse-values"]].concat();
        let reset = [&PATCH[..], &["--reset-values"]].concat();
        for verb in ["check", "upgrade"] {
            let (code, stdout, stderr) = stand.guard(verb, &chart, &reset);
            assert_eq!(code, 1, "{verb}: {stdout}{stderr}");
            assert!(
                format!("{stdout}{stderr}").contains("MG303 "),
                "{stdout}{stderr}"
            );
        }
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &reset);
        assert!(code != 0 && stderr.contains("MG303 "), "{stderr}");
        let (code, stdout, stderr) = stand.guard("check", &chart, &reused);
        assert_eq!(code, 0, "{stdout}{stderr}");
        let (code, _, stderr) = stand.guard("upgrade", &chart, &reused);
        assert_eq!(code, 0, "{stderr}");
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &reused);
        assert_eq!(code, 0, "{stderr}");

        // Values from standard input are read once, and reach both runs of Helm.
        let mut command = stand.command();
        command
            .args(["guard", "upgrade", "my-release", chart.path(), "-n"])
            .args([stand.namespace, "-f", "-", "-o", "json"]);
        let values = stand.folder.path().join("values.yaml");
        fs::write(&values, "minio: {bucketName: ours}\nreplicas: 2\n").unwrap();
        command.stdin(fs::File::open(&values).unwrap());
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, 0, "{stderr}");
        let release: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(release["config"]["replicas"], 2, "{}", release["config"]);
    }
}

#[test]
fn a_label_of_the_upgrade_accepts_a_denial_for_its_revision() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        stand.install(
            &Chart::compact("4.1.34"),
            &["--set", "image.all.tag=v2.4.24"],
        );
        let chart = Chart::compact("4.1.34");
        let next = ["--set", "image.all.tag=v2.5.27"];
        let (code, _, stderr) = stand.guard("upgrade", &chart, &next);
        assert!(code == 1 && stderr.contains("× MG201 "), "{code} {stderr}");
        for (revision, expected) in [(3, 1), (2, 0)] {
            let label = format!("--labels=guard.milvus.io/accept=MG201-r{revision}");
            let more = [&next[..], &[&label]].concat();
            let (code, stdout, stderr) = stand.guard("upgrade", &chart, &more);
            assert_eq!(code, expected, "r{revision}: {stdout}{stderr}");
        }
        assert_eq!(stand.images(), ["milvusdb/milvus:v2.5.27"]);
    }
}

#[test]
fn what_helm_deployed_counts_where_nothing_runs() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        stand.install(&Chart::compact("3.2.18"), &[]);
        let delete = ["delete", "deployment", "--all", "-n", stand.namespace];
        expect_success(cluster.kubectl(delete));
        assert!(stand.images().is_empty());
        let next = Chart::compact("4.0.31");
        let (code, _, stderr) = stand.rendered(&["upgrade"], &next, &SKIPPED);
        assert!(code != 0 && stderr.contains("MG101 "), "{stderr}");
        let (code, stdout, stderr) = stand.guard("check", &next, &SKIPPED);
        assert!(code == 1 && stdout.contains("MG101 "), "{stdout}{stderr}");
    }
}

#[test]
fn a_second_milvus_of_the_namespace_is_left_alone() {
    let cluster = ControlPlane::start();
    for stand in stands(&cluster) {
        let old = Chart::compact("3.2.18");
        let (code, _, stderr) = stand.helm(&[
            "install",
            "other",
            old.path(),
            "-n",
            stand.namespace,
            "--create-namespace",
        ]);
        assert_eq!(code, 0, "{stderr}");
        let chart = Chart::compact("4.1.34");
        stand.install(&chart, &[]);
        let (code, _, stderr) = stand.rendered(&["upgrade"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        let (code, stdout, stderr) = stand.guard("check", &chart, &PATCH);
        assert_eq!(code, 0, "{stdout}{stderr}");
    }
}

/// With `HELM_DRIVER=sql` Helm's storage is a database, which these tests do not have: that Helm
/// itself works with one is not tested. What runs is enough for the post-renderer.
#[test]
fn with_the_sql_driver_what_runs_is_judged() {
    eprintln!("not tested: Helm with a database (HELM_DRIVER=sql); the post-renderer runs alone");
    let cluster = ControlPlane::start();
    let stand = Stand::new(&cluster, Helm::V4);
    stand.install(&Chart::compact("3.2.18"), &[]);
    let next = Chart::compact("4.0.31");
    let rendered = next.render_in(stand.namespace, Helm::V4, &["image.all.tag=v2.2.16"]);
    let config = cluster.kubeconfig().to_str().unwrap();
    let place = ["-n", stand.namespace, "--kubeconfig", config];
    let sql = |command: &mut Command| {
        command.env("HELM_DRIVER", "sql");
    };
    let (code, stdout, stderr) = post_render(rendered.as_bytes(), &place, sql);
    assert_eq!((code, stdout.len()), (1, 0), "{stderr}");
    assert!(stderr.contains("MG101 "), "{stderr}");

    let delete = ["delete", "deployment", "--all", "-n", stand.namespace];
    expect_success(cluster.kubectl(delete));
    let report = stand.folder.path().join("report.json");
    let format = format!("--format=json={}", report.display());
    let args = [&place[..], &[&format]].concat();
    let (code, stdout, stderr) = post_render(rendered.as_bytes(), &args, sql);
    assert_eq!((code, stdout), (0, rendered.into_bytes()), "{stderr}");
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("HELM_DRIVER is sql"), "{report}");
}

#[test]
fn a_place_that_is_not_known_is_not_taken_for_an_empty_one() {
    let cluster = ControlPlane::start();
    let stand = Stand::new(&cluster, Helm::V4);
    stand.install(&Chart::compact("3.2.18"), &[]);
    let next = Chart::compact("4.0.31");
    let rendered = next.render_in(stand.namespace, Helm::V4, &["image.all.tag=v2.2.16"]);
    let manifests = rendered.as_bytes();
    // The kubeconfig is where it is found without being named.
    let home = stand.folder.path().join("home");
    fs::create_dir_all(home.join(".kube")).unwrap();
    fs::copy(cluster.kubeconfig(), home.join(".kube/config")).unwrap();
    let at_home = |command: &mut Command| {
        command.env("HOME", &home);
    };
    let (code, stdout, stderr) = post_render(manifests, &[], at_home);
    assert_eq!((code, stdout.len()), (2, 0), "{stderr}");
    assert!(
        stderr.contains("the namespace of the release is not known"),
        "{stderr}"
    );

    let (code, _, stderr) = post_render(manifests, &["-n", "elsewhere"], at_home);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("my-release was not found in namespace elsewhere"),
        "{stderr}"
    );

    let (code, _, stderr) = post_render(manifests, &[], |command| {
        at_home(command);
        command.env("HELM_NAMESPACE", stand.namespace);
    });
    assert!(code == 1 && stderr.contains("MG101 "), "{code} {stderr}");

    // The manifests name the namespace themselves, as those of newer charts do.
    let name = "metadata:\n  name: my-release";
    let named = format!(
        "metadata:\n  namespace: {}\n  name: my-release",
        stand.namespace
    );
    let with_namespace = rendered.replace(name, &named);
    assert_ne!(with_namespace, rendered);
    let (code, _, stderr) = post_render(with_namespace.as_bytes(), &[], at_home);
    assert!(code == 1 && stderr.contains("MG101 "), "{code} {stderr}");

    let certain = ["-n", "elsewhere", "--kube-context", &context(&cluster)];
    let (code, stdout, stderr) = post_render(manifests, &certain, at_home);
    assert_eq!((code, stdout.as_slice()), (0, manifests), "{stderr}");
}

/// The current context of the kubeconfig.
fn context(cluster: &ControlPlane) -> String {
    let output = cluster.kubectl(["config", "current-context"]);
    expect_success(output).trim().to_owned()
}

#[test]
fn manifests_without_milvus_pass_and_what_is_broken_does_not() {
    let other = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    for manifests in [&other[..], b"", b"\n---\n# only a comment\n"] {
        let (code, stdout, stderr) = post_render(manifests, &[], |_| {});
        assert_eq!((code, stdout.as_slice(), &*stderr), (0, manifests, ""));
    }
    for (manifests, why) in [
        (&b"a: [\n"[..], "cannot judge"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ] {
        let (code, stdout, stderr) = post_render(manifests, &[], |_| {});
        assert_eq!((code, stdout.len()), (2, 0), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
    let milvus = fs::read("examples/demo/1-skipped-migration/after.yaml").unwrap();
    let before = "--before=examples/demo/1-skipped-migration/before.yaml";
    let (code, stdout, stderr) = post_render(&milvus, &[before, "-n", "milvus"], |_| {});
    assert_eq!((code, stdout.len()), (1, 0), "{stderr}");
    let never = [before, "-n", "milvus", "--fail-on=never"];
    let (code, stdout, stderr) = post_render(&milvus, &never, |_| {});
    assert_eq!((code, stdout), (0, milvus.clone()), "{stderr}");
    assert!(stderr.contains("milvus-guard: warning: MG101"), "{stderr}");
    for wrong in ["--format=json", "--before=-"] {
        let (code, stdout, _) = post_render(&milvus, &[before, wrong], |_| {});
        assert_eq!((code, stdout.len()), (2, 0), "{wrong}");
    }
}

/// The program under another name, on a `PATH` of its own.
fn named(folder: &Path, name: &str) -> PathBuf {
    let link = folder.join(name);
    symlink(env!("CARGO_BIN_EXE_milvus-guard"), &link).unwrap();
    link
}

#[test]
fn the_name_of_the_program_shows_in_its_usage() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arg, usage) in [
        ("kubectl-guard", "check", "Usage: kubectl guard check "),
        (
            "helm-guard",
            "check",
            "Usage: helm guard check RELEASE CHART ",
        ),
        (
            "helm-guard",
            "post-render",
            "Usage: helm guard post-render ",
        ),
        ("milvus-guard", "check", "Usage: milvus-guard check "),
    ] {
        let (code, stdout, stderr) =
            run(Command::new(named(folder.path(), name)).args([arg, "--help"]));
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(usage), "{name}: {stdout}");
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    let kubectl = named(folder.path(), "kubectl-guard");
    let (code, stdout, _) = run(Command::new(kubectl).args(["check", "-h"]));
    assert!(
        code == 0 && stdout.contains("\n  kubectl guard check -i "),
        "{stdout}"
    );
}

#[test]
fn kubectl_runs_the_program_as_its_plugin() {
    let cluster = ControlPlane::start();
    let stand = Stand::new(&cluster, Helm::V4);
    stand.install(&Chart::compact("3.2.18"), &[]);
    named(stand.folder.path(), "kubectl-guard");
    let mut command = cluster.kubectl_command();
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!("{}:{path}", stand.folder.path().display()))
        .args(["guard", "check", "-i", "my-release", "-n", stand.namespace])
        .args(["-t", "2.2.16"]);
    let (code, stdout, stderr) = run(&mut command);
    assert!(
        code == 1 && stdout.contains("MG101 "),
        "{code} {stdout}{stderr}"
    );
}

#[test]
fn completions_and_man_pages_know_the_verbs_of_helm() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(guard().args(["completions", shell]));
        assert!(code == 0 && stdout.contains("post-render"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(guard().args(["man", "--out"]).arg(folder.path())).0, 0);
    for verb in ["check", "plan", "upgrade", "post-render"] {
        let page = folder.path().join(format!("milvus-guard-helm-{verb}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains("Exit codes"), "{verb}");
    }
}
