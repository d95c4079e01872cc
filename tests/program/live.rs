//! `check` and `plan` against a real API server, on releases installed by both versions of Helm.

use crate::common::{self, Chart, ERAS, Judged, charts, file, guard, install_definitions, run};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};

fn install(cluster: &ControlPlane, with: Helm, chart: &Chart, namespace: &str, values: &[&str]) {
    let mut args = vec![
        "upgrade",
        "--install",
        "my-release",
        chart.path(),
        "-n",
        namespace,
        "--create-namespace",
    ];
    for value in values {
        args.extend(["--set", value]);
    }
    expect_success(cluster.helm(with, args));
}

fn check(cluster: &ControlPlane, args: &[&str]) -> Judged {
    Judged::with(
        guard()
            .arg("check")
            .args(args)
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig()),
    )
}

#[test]
fn releases_of_both_helms_are_judged_live() {
    let cluster = ControlPlane::start();
    for set in charts() {
        for with in [Helm::V3, Helm::V4] {
            let kind = if set[0].is_real { "real" } else { "compact" };
            let namespace = format!(
                "{kind}-{}",
                if with == Helm::V3 { "helm3" } else { "helm4" }
            );
            // The real chart 3.2.18 uses an API that current Kubernetes versions no longer have.
            let era = usize::from(set[0].is_real);
            install(&cluster, with, &set[era], &namespace, &[]);
            let from = ERAS[era].1;

            let judged = check(
                &cluster,
                &["-i", "my-release", "-n", &namespace, "-t", "2.2.16"],
            );
            assert_eq!(judged.report["from"], from);
            let denied = judged.rules("deny");
            assert_eq!(
                denied.contains(&"MG101".to_owned()),
                from == "2.1.4",
                "{denied:?}"
            );
            // No component was ever available here, so its image may be replaced; a component that
            // was available and is not any more blocks the upgrade.
            assert!(!denied.contains(&"MG206".to_owned()), "{denied:?}");
            let name = "my-release-milvus-querynode";
            let status = r#"{"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}}"#;
            expect_success(cluster.kubectl([
                "-n",
                &namespace,
                "patch",
                "deployment",
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                status,
            ]));
            let judged = check(
                &cluster,
                &["-i", "my-release", "-n", &namespace, "-t", "2.2.16"],
            );
            assert_eq!(judged.finding("MG206")["action"], "deny");
            assert_eq!(judged.finding("MG206")["object"]["name"], name);

            let folder = tempfile::tempdir().unwrap();
            let wanted = file(
                folder.path(),
                "wanted.yaml",
                &set[era + 1].render(with, &[]),
            );
            let judged = check(
                &cluster,
                &["--before", "live", "--after", &wanted, "-n", &namespace],
            );
            assert_eq!(judged.report["to"], ERAS[era + 1].1);
            let evaluated: Vec<&str> = judged.report["checks"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|check| check["outcome"] != "not-evaluated")
                .map(|check| check["rule"].as_str().unwrap())
                .collect();
            for rule in [
                "MG206", "MG208", "MG503", "MG504", "MG701", "MG703", "MG704",
            ] {
                assert!(
                    evaluated.contains(&rule),
                    "{rule} must be evaluated against a cluster; {:#}",
                    judged.report["inputs"]
                );
            }

            let judged = check(
                &cluster,
                &[
                    "--before",
                    "release:my-release@1",
                    "--after",
                    &wanted,
                    "-n",
                    &namespace,
                ],
            );
            assert_eq!(judged.report["from"], from);
            assert!(
                judged.report["inputs"][0]["source"]
                    .as_str()
                    .unwrap()
                    .starts_with("release:my-release@1 (deployed)")
            );
        }
    }
}

#[test]
fn removed_values_are_read_from_helms_storage() {
    let cluster = ControlPlane::start();
    let chart = Chart::compact("3.2.18");
    install(
        &cluster,
        Helm::V3,
        &chart,
        "milvus",
        &["metadata.rootPath=prod-secret-root"],
    );
    let folder = tempfile::tempdir().unwrap();
    let wanted = file(
        folder.path(),
        "wanted.yaml",
        &Chart::compact("4.0.31").render(Helm::V3, &[]),
    );
    let judged = check(
        &cluster,
        &["--before", "live", "--after", &wanted, "-n", "milvus"],
    );
    let finding = judged.finding("MG503");
    assert_eq!(finding["action"], "deny");
    assert!(
        !finding.to_string().contains("prod-secret-root"),
        "a Helm value must not be printed: {finding:#}"
    );
}

#[test]
fn drift_is_reported() {
    let cluster = ControlPlane::start();
    install(&cluster, Helm::V4, &Chart::compact("4.2.40"), "milvus", &[]);
    expect_success(cluster.kubectl([
        "-n",
        "milvus",
        "set",
        "image",
        "deployment/my-release-milvus-proxy",
        "proxy=milvusdb/milvus:v2.5.27",
    ]));
    let judged = check(
        &cluster,
        &["-i", "my-release", "-n", "milvus", "-t", "2.5.27"],
    );
    let finding = judged.finding("MG504");
    assert_eq!(
        finding["evidence"][0]["before"], "milvusdb/milvus:v2.5.27",
        "{finding:#}"
    );
    assert_eq!(
        finding["evidence"][0]["after"], "milvusdb/milvus:v2.5.5",
        "{finding:#}"
    );
}

#[test]
fn the_config_map_driver_is_read_too() {
    let cluster = ControlPlane::start();
    let chart = Chart::compact("4.1.34");
    let output = cluster
        .helm_command(Helm::V3)
        .env("HELM_DRIVER", "configmap")
        .args([
            "install",
            "my-release",
            chart.path(),
            "-n",
            "milvus",
            "--create-namespace",
        ])
        .output()
        .unwrap();
    expect_success(output);
    let judged = check(
        &cluster,
        &[
            "--before",
            "release:my-release",
            "--after",
            "version:2.4.24",
            "-n",
            "milvus",
        ],
    );
    assert_eq!(judged.report["from"], "2.4.5");
}

#[test]
fn minimal_rights_give_a_verdict_and_no_rights_give_exit_3() {
    let cluster = ControlPlane::start();
    install(&cluster, Helm::V3, &Chart::compact("4.1.34"), "milvus", &[]);
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: milvus}\nrules:\n- {apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get, list]}\n- {apiGroups: [\"\"], resources: [configmaps, persistentvolumeclaims, services], verbs: [get, list]}\n",
    );
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: reader, namespace: milvus}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects: [{kind: User, name: ci}]\n",
    );
    let kubeconfig = cluster.kubeconfig_for("ci", &[]);
    let judged = Judged::with(
        guard()
            .args([
                "check",
                "-i",
                "my-release",
                "-n",
                "milvus",
                "-t",
                "2.4.24",
                "--no-cluster-policy",
                "--kubeconfig",
            ])
            .arg(&kubeconfig),
    );
    assert_eq!(judged.report["from"], "2.4.5");
    let not_read = judged.report["inputs"][0]["notRead"].to_string();
    assert!(
        not_read.contains("Helm"),
        "the report must state what could not be read: {not_read}"
    );

    let stranger = cluster.kubeconfig_for("stranger", &[]);
    let (code, stdout, stderr) = run(guard()
        .args([
            "check",
            "-i",
            "my-release",
            "-n",
            "milvus",
            "-t",
            "2.4.24",
            "--kubeconfig",
        ])
        .arg(&stranger));
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.contains("deployments"), "{stderr}");
}

#[test]
fn policies_of_the_cluster_are_applied() {
    let cluster = ControlPlane::start();
    install(&cluster, Helm::V3, &Chart::compact("4.1.34"), "milvus", &[]);
    install_definitions(&cluster);
    cluster.apply(
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: lenient}\nspec:\n  rules: [{id: MG201, action: Warn}, {id: MG206, action: Off}]\n",
    );
    let args = ["-i", "my-release", "-n", "milvus", "-t", "2.5.27"];
    let judged = check(&cluster, &args);
    assert_eq!(
        judged.report["policies"][0], "lenient",
        "{:#}",
        judged.report["inputs"]
    );
    assert_eq!(judged.finding("MG201")["action"], "warn");
    let without: Vec<&str> = args
        .iter()
        .copied()
        .chain(["--no-cluster-policy"])
        .collect();
    assert_eq!(check(&cluster, &without).finding("MG201")["action"], "deny");
}

#[test]
fn plan_reads_the_running_version() {
    let cluster = ControlPlane::start();
    install(
        &cluster,
        Helm::V3,
        &Chart::compact("3.2.18"),
        "milvus",
        &["metadata.rootPath=prod"],
    );
    let (code, stdout, stderr) = run(guard()
        .args([
            "plan",
            "-i",
            "my-release",
            "-n",
            "milvus",
            "--to",
            "2.5.27",
            "--format",
            "json",
            "--kubeconfig",
        ])
        .arg(cluster.kubeconfig()));
    assert_eq!(code, 0, "{stderr}");
    let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(plan["from"], "2.1.4");
    assert_eq!(plan["coordinators"], "separate");
    assert!(
        plan["stops"][0]["commands"][0]
            .as_str()
            .unwrap()
            .ends_with("-r prod"),
        "{plan:#}"
    );
}

#[test]
fn missing_clusters_and_contexts_give_exit_3_and_a_clear_error() {
    let (code, stdout, stderr) = run(guard().args(["check", "-i", "x", "-n", "y", "-t", "2.5.27"]));
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("no cluster"), "{stderr}");
    let cluster = ControlPlane::start();
    let (code, _, stderr) = run(guard()
        .args([
            "check",
            "-i",
            "x",
            "-n",
            "y",
            "-t",
            "2.5.27",
            "--context",
            "nowhere",
            "--kubeconfig",
        ])
        .arg(cluster.kubeconfig()));
    assert_eq!(code, 3);
    assert!(stderr.contains("nowhere"), "{stderr}");
    let (code, _, stderr) = run(guard()
        .args([
            "check",
            "--before",
            "release:nothing",
            "--after",
            "version:2.5.27",
            "-n",
            "y",
            "--kubeconfig",
        ])
        .arg(cluster.kubeconfig()));
    assert_eq!(code, 3, "no release to judge: {stderr}");
    assert!(stderr.contains("nothing"), "{stderr}");
}

/// For a wrong name, the program printed the same command again instead of the existing names.
#[test]
fn for_an_unknown_release_the_existing_ones_are_named() {
    let cluster = ControlPlane::start();
    let chart = Chart::compact("4.2.40");
    install(&cluster, Helm::V4, &chart, "search", &[]);
    let ask = |args: &[&str]| {
        run(guard()
            .args(args)
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig()))
    };
    let wrong = ["-i", "nosuch", "-n", "search"];
    for (verb, more) in [
        ("check", &["-t", "2.5.27"][..]),
        ("plan", &["--to", "2.5.27"]),
        ("audit", &[]),
    ] {
        let (code, stdout, stderr) = ask(&[&[verb], &wrong[..], more].concat());
        assert_eq!((code, &*stdout), (3, ""), "{verb}: {stderr}");
        assert!(
            stderr.contains("nosuch") && stderr.contains("search/my-release"),
            "{verb}: {stderr}"
        );
    }
    let runs: [&[&str]; 2] = [
        &["upgrade", "-t", "2.5.27", "--dry-run"],
        &["migrate", "-s", "2.1.4", "-t", "2.2.16", "--dry-run"],
    ];
    for verb in runs {
        let (code, _, stderr) = ask(&[verb, &wrong[..]].concat());
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("found: my-release"), "{stderr}");
        assert!(
            !stderr.contains("-i nosuch"),
            "the same command must not be printed again: {stderr}"
        );
    }
    let (code, _, stderr) = ask(&["check", "-i", "my-release", "-n", "nothing", "-t", "2.5.27"]);
    assert!(
        code == 3 && stderr.contains("next: milvus-guard audit --all-namespaces"),
        "{stderr}"
    );
}

/// Releases and namespaces were not completed.
#[test]
fn completion_offers_releases_and_namespaces_of_the_cluster() {
    let cluster = ControlPlane::start();
    install(&cluster, Helm::V4, &Chart::compact("4.2.40"), "search", &[]);
    let offered = |line: &str| {
        common::offered(line, |command| {
            command.env("KUBECONFIG", cluster.kubeconfig());
        })
    };
    assert!(offered("milvus-guard status -n sea").contains(&"search".to_owned()));
    assert_eq!(offered("milvus-guard check -n search -i "), ["my-release"]);
    assert!(offered("milvus-guard check -n default -i my").is_empty());
}
