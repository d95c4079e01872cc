//! The post-renderer with both versions of Helm on a real API server, and without Helm.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::Value;

use crate::common::{
    Chart, guard,
    plugin::{PATCH, PluginCluster, SKIPPED, setups},
};

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
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let verbs: [&[&str]; 5] = [
            &["upgrade"],
            &["upgrade", "--install"],
            &["upgrade", "--dry-run=server"],
            &["upgrade", "--dry-run=client"],
            &["template", "--is-upgrade"],
        ];
        for verb in verbs {
            let (code, stdout, stderr) = setup.rendered(verb, &next, &SKIPPED);
            let seen = format!("{:?} {verb:?}: {code} {stdout}{stderr}", setup.with);
            assert_ne!(code, 0, "{seen}");
            for part in [
                "milvus-guard stops this release. Helm has stored and sent nothing.",
                "MG101 2.1.4 would become 2.2.16 without evidence of a metadata migration",
                &format!(
                    "milvus-guard migrate -i my-release -n {} -s 2.1.4",
                    setup.namespace
                ),
                "post render",
            ] {
                assert!(stderr.contains(part), "{part:?} is missing: {seen}");
            }
            assert!(!stdout.contains("kind: Deployment"), "{seen}");
        }
        assert_eq!(setup.history(), ["deployed"]);
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.1.4"]);
    }
}

#[test]
fn a_denial_is_in_the_log_of_helms_errors() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let log = setup.folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let status = setup
            .command()
            .args(["upgrade", "my-release", next.path(), "-n", setup.namespace])
            .args(setup.post_renderer())
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
fn a_good_upgrade_passes_the_post_renderer_unchanged() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        let chart = Chart::compact("4.1.34");
        // A first installation passes as well: there is no state before.
        let (code, _, stderr) = setup.rendered(&["install", "--create-namespace"], &chart, &[]);
        assert_eq!(code, 0, "{stderr}");

        // Through our post-renderer, Helm prints the same as through one that copies its input.
        let (code, ours, stderr) = setup.rendered(&["template"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("milvus-guard: warning: MG201"), "{stderr}");
        fs::rename(setup.post_renderer_link(), setup.folder.path().join("kept")).unwrap();
        program(&setup.post_renderer_link(), "exec cat");
        let (code, copied, stderr) = setup.rendered(&["template"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(ours, copied);
        assert!(ours.contains("kind: Deployment"));
        fs::remove_file(setup.post_renderer_link()).unwrap();
        fs::rename(setup.folder.path().join("kept"), setup.post_renderer_link()).unwrap();

        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(setup.history(), ["superseded", "deployed"]);
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.4.24"]);

        // Comments, a missing line feed at the end and Windows line endings are kept.
        let rendered = chart.render_in(setup.namespace, setup.with, &["image.all.tag=v2.4.24"]);
        let odd = format!("# first\r\n---\r\n{}\n# last", rendered.trim_end());
        let config = cluster.kubeconfig().to_str().unwrap();
        let args = ["-n", setup.namespace, "--kubeconfig", config];
        let (code, stdout, stderr) = post_render(odd.as_bytes(), &args, |_| {});
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stdout, odd.as_bytes());
    }
}

/// Writes a shell script to the path of a program.
fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_missing_program_a_crash_and_an_unreachable_cluster_stop_helm() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &[]);
        let stopped = |why: &str, code: i32, stderr: &str| {
            assert_ne!(code, 0, "{why}");
            assert!(stderr.contains(why), "{why:?} is missing: {stderr}");
            assert_eq!(setup.history(), ["deployed"], "{why}");
            assert_eq!(setup.images(), ["milvusdb/milvus:v2.4.5"], "{why}");
        };
        let link = setup.post_renderer_link();
        fs::remove_file(&link).unwrap();
        symlink("/nonexistent/milvus-guard", &link).unwrap();
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &PATCH);
        stopped("helm-guard-post-render", code, &stderr);

        // The real program, killed by a signal at its start.
        fs::remove_file(&link).unwrap();
        let real = env!("CARGO_BIN_EXE_milvus-guard");
        program(
            &link,
            &format!("ulimit -v 16384; exec '{real}' helm post-render"),
        );
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &PATCH);
        stopped("post render", code, &stderr);

        fs::remove_file(&link).unwrap();
        let helm_guard = link.with_file_name("helm-guard");
        fs::copy(helm_guard.canonicalize().unwrap(), &link).unwrap();
        let wrong = setup.folder.path().join("kubeconfig");
        let config = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
             users: [{name: u, user: {}}]\n\
             contexts: [{name: c, context: {cluster: c, user: u}}]\n";
        fs::write(&wrong, config).unwrap();
        let flag = format!("--kubeconfig={}", wrong.display());
        let (code, _, stderr) = setup.rendered(&["template"], &chart, &[&flag]);
        stopped("it cannot judge the change: ", code, &stderr);
        assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
        let (code, stdout, stderr) = setup.rendered(
            &["template"],
            &chart,
            &[&flag, "--post-renderer-args", "--before=none"],
        );
        assert_eq!(code, 0, "no request may go to the cluster: {stderr}");
        assert!(stdout.contains("kind: Deployment"));

        let wrong_flag = ["--post-renderer-args", "--befor=none"];
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &wrong_flag);
        stopped("unexpected argument '--befor'", code, &stderr);
    }
}

#[test]
fn without_running_pods_the_deployed_revision_of_helm_is_judged() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        // Another Milvus runs there, and must not be taken for this one.
        let other = Chart::compact("4.1.34");
        let (code, _, stderr) =
            setup.helm(&["install", "other", other.path(), "-n", setup.namespace]);
        assert_eq!(code, 0, "{stderr}");
        let label = "app.kubernetes.io/instance=my-release";
        let delete = ["delete", "deployment", "-l", label, "-n", setup.namespace];
        expect_success(cluster.kubectl(delete));
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.4.5"]);
        let next = Chart::compact("4.0.31");
        let (code, _, stderr) = setup.rendered(&["upgrade"], &next, &SKIPPED);
        assert!(code != 0 && stderr.contains("MG101 "), "{stderr}");
        let (code, stdout, stderr) = setup.guard("check", &next, &SKIPPED);
        assert!(code == 1 && stdout.contains("MG101 "), "{stdout}{stderr}");
    }
}

/// A hook that runs Milvus under another name, without labels.
const HOOK: &str = r#"apiVersion: batch/v1
kind: Job
metadata: {name: "a-hook", annotations: {helm.sh/hook: pre-upgrade}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: a, image: "milvusdb/milvus:v2.2.16", args: [milvus, run, proxy]}]
"#;

#[test]
fn a_hook_that_runs_milvus_does_not_hide_the_running_release() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        fs::write(Path::new(next.path()).join("templates/hook.yaml"), HOOK).unwrap();
        let report = setup.folder.path().join("report.json");
        let format = format!("--format=json={}", report.display());
        let before = || {
            let report = fs::read_to_string(&report).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            let inputs = report["inputs"].as_array().unwrap();
            let entry = inputs.iter().find(|input| input["role"] == "before");
            entry.unwrap()["source"].as_str().unwrap().to_owned()
        };
        let judge = |expected: &str| {
            let more = [&SKIPPED[..], &["--post-renderer-args", &format]].concat();
            let (code, _, stderr) = setup.rendered(&["upgrade"], &next, &more);
            assert!(code != 0 && stderr.contains("MG101 "), "{stderr}");
            assert!(before().starts_with(expected), "{}", before());
            fs::remove_file(&report).unwrap();
            let more = [&SKIPPED[..], &[&*format, "--format=text"]].concat();
            let (code, stdout, stderr) = setup.guard("check", &next, &more);
            assert!(code == 1 && stdout.contains("MG101 "), "{stdout}{stderr}");
            assert!(before().starts_with(expected), "{}", before());
        };
        judge("live, ");
        let delete = ["delete", "deployment", "--all", "-n", setup.namespace];
        expect_success(cluster.kubectl(delete));
        judge("release:my-release@1 ");
    }
}

#[test]
fn a_second_milvus_in_the_namespace_is_ignored() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        let old = Chart::compact("3.2.18");
        let (code, _, stderr) = setup.helm(&[
            "install",
            "other",
            old.path(),
            "-n",
            setup.namespace,
            "--create-namespace",
        ]);
        assert_eq!(code, 0, "{stderr}");
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &[]);
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &PATCH);
        assert_eq!(code, 0, "{stderr}");
        let (code, stdout, stderr) = setup.guard("check", &chart, &PATCH);
        assert_eq!(code, 0, "{stdout}{stderr}");
    }
}

/// With `HELM_DRIVER=sql` Helm's storage is a database: here the post-renderer runs alone and
/// judges the running state. `tests/real/helm_sql.rs` tests Helm with a database.
#[test]
fn with_the_sql_driver_the_running_state_is_judged() {
    eprintln!("not tested here: Helm with a database (HELM_DRIVER=sql)");
    let cluster = ControlPlane::start();
    let setup = PluginCluster::new(&cluster, Helm::V4);
    setup.install(&Chart::compact("3.2.18"), &[]);
    let next = Chart::compact("4.0.31");
    let rendered = next.render_in(setup.namespace, Helm::V4, &["image.all.tag=v2.2.16"]);
    let config = cluster.kubeconfig().to_str().unwrap();
    let place = ["-n", setup.namespace, "--kubeconfig", config];
    let sql = |command: &mut Command| {
        command.env("HELM_DRIVER", "sql");
    };
    let (code, stdout, stderr) = post_render(rendered.as_bytes(), &place, sql);
    assert_eq!((code, stdout.len()), (1, 0), "{stderr}");
    assert!(stderr.contains("MG101 "), "{stderr}");

    let delete = ["delete", "deployment", "--all", "-n", setup.namespace];
    expect_success(cluster.kubectl(delete));
    let report = setup.folder.path().join("report.json");
    let format = format!("--format=json={}", report.display());
    let args = [&place[..], &[&format]].concat();
    let (code, stdout, stderr) = post_render(rendered.as_bytes(), &args, sql);
    assert_eq!((code, stdout), (0, rendered.into_bytes()), "{stderr}");
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("HELM_DRIVER is sql"), "{report}");
}

#[test]
fn an_unknown_namespace_is_not_taken_for_an_empty_one() {
    let cluster = ControlPlane::start();
    let setup = PluginCluster::new(&cluster, Helm::V4);
    setup.install(&Chart::compact("3.2.18"), &[]);
    let next = Chart::compact("4.0.31");
    let rendered = next.render_in(setup.namespace, Helm::V4, &["image.all.tag=v2.2.16"]);
    let manifests = rendered.as_bytes();
    // The kubeconfig is at its default path.
    let home = setup.folder.path().join("home");
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
        command.env("HELM_NAMESPACE", setup.namespace);
    });
    assert!(code == 1 && stderr.contains("MG101 "), "{code} {stderr}");

    // The manifests contain the namespace, as those of newer charts do.
    let name = "metadata:\n  name: my-release";
    let named = format!(
        "metadata:\n  namespace: {}\n  name: my-release",
        setup.namespace
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
fn manifests_without_milvus_pass_and_broken_ones_do_not() {
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
    let audited = |stderr: &str| stderr.contains("\ni MG109 ");
    assert!(!audited(&stderr), "{stderr}");
    let all = [before, "-n", "milvus", "--show=audit"];
    let (_, _, stderr) = post_render(&milvus, &all, |_| {});
    assert!(audited(&stderr), "{stderr}");
    let never = [before, "-n", "milvus", "--fail-on=never"];
    let (code, stdout, stderr) = post_render(&milvus, &never, |_| {});
    assert_eq!((code, stdout), (0, milvus.clone()), "{stderr}");
    assert!(stderr.contains("milvus-guard: warning: MG101"), "{stderr}");
    for wrong in ["--format=json", "--before=-"] {
        let (code, stdout, _) = post_render(&milvus, &[before, wrong], |_| {});
        assert_eq!((code, stdout.len()), (2, 0), "{wrong}");
    }
}
