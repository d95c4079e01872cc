//! The commands of the Helm plugin with both versions of Helm on a real API server, and the names
//! under which the program is called.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::Value;

use crate::common::{
    self, Chart, guard,
    plugin::{BOTH, PATCH, PluginCluster, SKIPPED, setups},
    run,
};

#[test]
fn a_plugin_is_not_installed_without_the_program() {
    let cluster = ControlPlane::start();
    for with in BOTH {
        let setup = PluginCluster::without_plugins(&cluster, with);
        let source = setup.folder.path().join(setup.plugins().last().unwrap());
        let (code, _, stderr) = run(setup
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

/// docs/helm-plugin.md warns about this.
#[test]
fn a_plugin_of_helm_4_hides_all_plugins_from_helm_3() {
    let cluster = ControlPlane::start();
    let setup = PluginCluster::new(&cluster, Helm::V3);
    assert_eq!(setup.helm(&["guard", "--help"]).0, 0);
    let source = setup.folder.path().join("guard-post-render");
    let (code, _, stderr) = setup.helm(&["plugin", "install", source.to_str().unwrap()]);
    assert_ne!(code, 0, "{stderr}");
    let (code, _, stderr) = setup.helm(&["guard", "--help"]);
    assert_ne!(code, 0, "{stderr}");
    assert!(stderr.contains("failed to load plugins"), "{stderr}");
}

#[test]
fn the_plugin_checks_and_then_upgrades() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let more = [&SKIPPED[..], &["--format", "json"]].concat();
        let (code, stdout, stderr) = setup.guard("check", &next, &more);
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!((code, &report["verdict"]), (1, &"deny".into()), "{stderr}");
        assert_eq!(
            (&report["from"], &report["to"]),
            (&"2.1.4".into(), &"2.2.16".into())
        );
        assert_eq!(report["releases"][0]["namespace"], setup.namespace);
        // The plugin knows Helm's record and the version of Helm.
        for rule in ["MG503", "MG702"] {
            let checks = report["checks"].as_array().unwrap();
            let check = checks.iter().find(|check| check["rule"] == rule).unwrap();
            assert_ne!(check["outcome"], "not-evaluated", "{check:#}");
        }

        let (code, stdout, stderr) = setup.guard("upgrade", &next, &SKIPPED);
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(
            stderr.contains("× MG101 ") && stderr.contains("Helm was not run"),
            "{stderr}"
        );
        assert_eq!(setup.history(), ["deployed"]);

        let (code, stdout, _) = setup.guard("plan", &next, &SKIPPED);
        assert!(code == 0 && stdout.contains("2.1.4 → 2.2.16"), "{stdout}");
        let to = [
            "guard",
            "plan",
            "my-release",
            "--to",
            "2.5",
            "-n",
            setup.namespace,
        ];
        let (code, stdout, stderr) = setup.helm(&to);
        assert!(
            code == 0 && stdout.contains("2.1.4 → 2.5.27"),
            "{stdout}{stderr}"
        );

        // A release that does not exist in Helm, and a chart that does not exist: no verdict.
        let unknown = [
            "guard",
            "upgrade",
            "nobody",
            next.path(),
            "-n",
            setup.namespace,
        ];
        let (code, _, stderr) = setup.helm(&unknown);
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
    for setup in setups(&cluster) {
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &[]);
        let (code, stdout, stderr) = setup.guard("check", &chart, &PATCH);
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(setup.history(), ["deployed"]);
        let strict = [&PATCH[..], &["--fail-on=warn"]].concat();
        assert_eq!(setup.guard("check", &chart, &strict).0, 1);

        let more = [
            &PATCH[..],
            &["-o", "json", "--description", "by the plugin"],
        ]
        .concat();
        let (code, stdout, stderr) = setup.guard("upgrade", &chart, &more);
        assert_eq!(code, 0, "{stderr}");
        let release: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(release["info"]["description"], "by the plugin");
        assert!(stderr.contains("milvus-guard: warning: MG201"), "{stderr}");
        assert_eq!(setup.images(), ["milvusdb/milvus:v2.4.24"]);

        // No controller runs here, so `--wait` of Helm times out and fails.
        let waits = [&PATCH[..], &["--wait", "--timeout", "1s"]].concat();
        let (code, _, stderr) = setup.guard("upgrade", &chart, &waits);
        assert!(
            code == 1 && stderr.contains("UPGRADE FAILED"),
            "{code} {stderr}"
        );
        assert!(!stderr.contains("Helm was not run"), "{stderr}");
        assert_eq!(setup.history().last().unwrap(), "failed");
    }
}

#[test]
fn values_of_the_release_are_reused_as_by_helm() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &["--set", "minio.bucketName=ours"]);
        let reused = [&PATCH[..], &["--reset-then-reuse-values"]].concat();
        let reset = [&PATCH[..], &["--reset-values"]].concat();
        for verb in ["check", "upgrade"] {
            let (code, stdout, stderr) = setup.guard(verb, &chart, &reset);
            assert_eq!(code, 1, "{verb}: {stdout}{stderr}");
            assert!(
                format!("{stdout}{stderr}").contains("MG303 "),
                "{stdout}{stderr}"
            );
        }
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &reset);
        assert!(code != 0 && stderr.contains("MG303 "), "{stderr}");
        let (code, stdout, stderr) = setup.guard("check", &chart, &reused);
        assert_eq!(code, 0, "{stdout}{stderr}");
        let (code, _, stderr) = setup.guard("upgrade", &chart, &reused);
        assert_eq!(code, 0, "{stderr}");
        let (code, _, stderr) = setup.rendered(&["upgrade"], &chart, &reused);
        assert_eq!(code, 0, "{stderr}");

        // Values from standard input are read once, and are used in both runs of Helm.
        let mut command = setup.command();
        command
            .args(["guard", "upgrade", "my-release", chart.path(), "-n"])
            .args([setup.namespace, "-f", "-", "-o", "json"]);
        let values = setup.folder.path().join("values.yaml");
        fs::write(
            &values,
            "minio: {bucketName: ours}\nimage: {all: {tag: v2.4.24}}\nquerynode: {replicas: 2}\n",
        )
        .unwrap();
        command.stdin(fs::File::open(&values).unwrap());
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, 0, "{stderr}");
        let release: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(release["config"]["querynode"]["replicas"], 2);
    }
}

#[test]
fn a_label_accepts_a_denial_for_its_revision() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        let chart = Chart::compact("4.1.34");
        setup.install(&chart, &PATCH);
        let next = ["--set", "image.all.tag=v2.5.27"];
        let upgrade = |more: &[&str], by_plugin: bool| {
            let more = [&next[..], more].concat();
            if by_plugin {
                setup.guard("upgrade", &chart, &more)
            } else {
                setup.rendered(&["upgrade"], &chart, &more)
            }
        };
        let label = |revision: u64| format!("--labels=guard.milvus.io/accept=MG201-r{revision}");
        for by_plugin in [true, false] {
            let (code, _, stderr) = upgrade(&[], by_plugin);
            assert!(code != 0 && stderr.contains("× MG201 "), "{code} {stderr}");
            let made = setup.history().len() as u64;
            for (revision, passes) in [(made + 2, false), (made + 1, true)] {
                let (code, _, stderr) = upgrade(&[&label(revision)], by_plugin);
                assert_eq!(code == 0, passes, "r{revision}: {code} {stderr}");
            }
            assert_eq!(setup.images(), ["milvusdb/milvus:v2.5.27"]);
            let (code, _, stderr) =
                setup.helm(&["rollback", "my-release", "1", "-n", setup.namespace]);
            assert_eq!(code, 0, "{stderr}");
        }
    }
}

/// The CA file of the API server, and a token for an account of this name.
fn credentials(cluster: &ControlPlane, folder: &Path, name: &str) -> (String, String) {
    expect_success(cluster.kubectl(["create", "serviceaccount", name]));
    let token = expect_success(cluster.kubectl(["create", "token", name]));
    let jsonpath = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let authority = cluster.kubectl(["config", "view", "--raw", "-o", jsonpath]);
    let authority = BASE64_STANDARD.decode(expect_success(authority)).unwrap();
    let path = folder.join(format!("{name}.crt"));
    fs::write(&path, authority).unwrap();
    (path.to_str().unwrap().to_owned(), token.trim().to_owned())
}

#[test]
fn the_server_and_the_user_in_flags_of_helm_are_used() {
    let cluster = ControlPlane::start();
    for setup in setups(&cluster) {
        setup.install(&Chart::compact("3.2.18"), &[]);
        let next = Chart::compact("4.0.31");
        let account = format!("of-{}", setup.namespace);
        let (authority, token) = credentials(&cluster, setup.folder.path(), &account);
        let server = format!("--kube-apiserver={}", cluster.server());
        let authority = format!("--kube-ca-file={authority}");
        let token = format!("--kube-token={token}");
        let place = [&*server, &*authority, &*token];
        let absent = setup.folder.path().join("absent");
        let without_kubeconfig = |verb: &[&str]| {
            let mut command = setup.command();
            command.env("KUBECONFIG", &absent).args(verb);
            command.args(["my-release", next.path(), "-n", setup.namespace]);
            run(command.args(SKIPPED).args(place))
        };
        let own = setup.post_renderer();
        let template = ["template", &own[0], &own[1]];
        // The account exists and has no rights yet.
        let (code, _, stderr) = without_kubeconfig(&template);
        assert_ne!(code, 0, "{stderr}");
        assert!(
            stderr.contains("not allowed to list deployments"),
            "{stderr}"
        );
        let user = format!("--serviceaccount=default:{account}");
        let grant = [
            "create",
            "clusterrolebinding",
            &account,
            "--clusterrole=cluster-admin",
            &user,
        ];
        expect_success(cluster.kubectl(grant));
        let (code, stdout, stderr) = without_kubeconfig(&["guard", "check"]);
        assert!(
            code == 1 && stdout.contains("MG101 "),
            "{code} {stdout}{stderr}"
        );
        let (code, _, stderr) = without_kubeconfig(&template);
        assert!(code != 0 && stderr.contains("MG101 "), "{stderr}");

        // The administrator of the kubeconfig impersonates another user.
        let (code, _, stderr) =
            setup.rendered(&["template"], &next, &["--kube-as-user", "stranger"]);
        assert_ne!(code, 0, "{stderr}");
        assert!(
            stderr.contains("not allowed to list deployments"),
            "{stderr}"
        );
    }
}

/// RELEASING.md requires that the version is set in both.
#[test]
fn the_plugins_have_the_version_of_the_program() {
    for plugin in ["guard", "guard-post-render"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("plugins/helm")
            .join(plugin);
        let text = fs::read_to_string(path.join("plugin.yaml")).unwrap();
        let version = format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&version), "{plugin}: {text}");
    }
}

/// The program under another name, in a separate folder.
fn named(folder: &Path, name: &str) -> PathBuf {
    let link = folder.join(name);
    symlink(env!("CARGO_BIN_EXE_milvus-guard"), &link).unwrap();
    link
}

#[test]
fn the_usage_shows_the_name_of_the_program() {
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
    let setup = PluginCluster::new(&cluster, Helm::V4);
    setup.install(&Chart::compact("3.2.18"), &[]);
    named(setup.folder.path(), "kubectl-guard");
    let mut command = cluster.kubectl_command();
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!("{}:{path}", setup.folder.path().display()))
        .args(["guard", "check", "-i", "my-release", "-n", setup.namespace])
        .args(["-t", "2.2.16"]);
    let (code, stdout, stderr) = run(&mut command);
    assert!(
        code == 1 && stdout.contains("MG101 "),
        "{code} {stdout}{stderr}"
    );
}

/// `kubectl guard` and `helm guard` had no completion.
#[test]
fn kubectl_and_helm_complete_the_arguments_of_the_plugin() {
    let cluster = ControlPlane::start();
    for with in BOTH {
        let setup = PluginCluster::new(&cluster, with);
        setup.install(&Chart::compact("3.2.18"), &[]);
        let cases: [(&[&str], &str); 2] = [
            (&["guard", "che"], "check"),
            (&["guard", "check", "--fail-on", ""], "warn"),
        ];
        for (words, value) in cases {
            let args = [&["__complete"], words].concat();
            let (code, stdout, stderr) = setup.helm(&args);
            let offers = |line: &str| line.split('\t').next() == Some(value);
            assert!(
                code == 0 && stdout.lines().any(offers),
                "{with:?} {words:?}: {stdout}{stderr}"
            );
            assert!(stdout.contains("\n:4\n"), "no files: {stdout}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["kubectl-guard", "kubectl_complete-guard"] {
        named(folder.path(), name);
    }
    let path = std::env::var("PATH").unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["che"], "check"),
        (&["status", "-n", "milvus-4", "-i", ""], "my-release"),
        (&["status", "-n", "milvus-"], "milvus-4"),
        (&["rules", "explain", "MG30"], "MG301"),
    ];
    for (words, value) in cases {
        let mut command = cluster.kubectl_command();
        command
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("KUBECONFIG", cluster.kubeconfig())
            .args(["__complete", "guard"])
            .args(words);
        let (code, stdout, stderr) = run(&mut command);
        let offers = |line: &str| line.split('\t').next() == Some(value);
        assert!(
            code == 0 && stdout.lines().any(offers),
            "{words:?}: {stdout}{stderr}"
        );
    }
}

#[test]
fn completions_and_man_pages_contain_the_commands_of_the_plugin() {
    let offered = common::offered("milvus-guard helm p", |_| {});
    for verb in ["plan", "post-render"] {
        assert!(offered.iter().any(|one| one == verb), "{offered:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(guard().args(["man", "--out"]).arg(folder.path())).0, 0);
    for verb in ["check", "plan", "upgrade", "post-render"] {
        let page = folder.path().join(format!("milvus-guard-helm-{verb}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains("EXIT STATUS"), "{verb}");
    }
}

/// Helm would consume a flag of ours that has the name of one of its flags.
#[test]
fn no_flag_of_the_plugin_has_the_name_of_a_flag_of_helm() {
    let cluster = ControlPlane::start();
    let long = |help: &str| -> Vec<String> {
        let words = help.split([' ', '=', '\n', ',', '\'', '"']);
        let flags = words.filter(|word| word.starts_with("--") && word.len() > 2);
        flags.map(str::to_owned).collect()
    };
    for setup in setups(&cluster) {
        let (code, help, _) = setup.helm(&["upgrade", "--help"]);
        let helms = long(&help);
        assert!(
            code == 0 && helms.contains(&"--reset-then-reuse-values".to_owned()),
            "{help}"
        );
        for verb in ["check", "plan", "upgrade"] {
            let (code, help, _) = run(guard().args(["helm", verb, "-h"]));
            assert_eq!(code, 0);
            // After the options there is text.
            let help = help.split("\nFlags that").next().unwrap();
            let options = help
                .lines()
                .filter(|line| line.trim_start().starts_with('-'));
            let ours: Vec<String> = options.flat_map(long).collect();
            assert!(ours.contains(&"--format".to_owned()), "{help}");
            // These two have the same meaning in both programs.
            let shared = ["--help", "--color"];
            let mut both = ours.iter().filter(|flag| helms.contains(flag));
            assert!(both.all(|flag| shared.contains(&flag.as_str())), "{ours:?}");
        }
    }
}
