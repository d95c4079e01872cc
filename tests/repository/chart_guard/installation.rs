//! An installation on a real API server, from the first replica to its removal.

use std::{fs, time::Duration};

use super::{
    HELMS, IMAGE, MUTATING, NAMESPACE, POLICY, VALIDATING, apply_all,
    monitoring::METRICS,
    namespace,
    objects::{MILVUS, deployment},
    path, rendered,
    serving::{is_asked, is_registered, start_as_charted},
    text,
};
use crate::common::{
    Chart, guard, install_definitions, run,
    webhook::{TEMPLATE, write_as_guard, write_template},
};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, wait_for};
use serde_json::{Value, json};

#[test]
fn an_installation_that_never_worked_blocks_nothing_and_uninstalls_at_once() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    let chart = path();
    let chart = chart.to_str().unwrap();
    namespace(&cluster, "milvus");
    for with in HELMS {
        for values in [
            "image.repository=does-not-exist",
            "certificates.mode=managed",
        ] {
            let args = [
                "install",
                "milvus-guard",
                chart,
                "-n",
                NAMESPACE,
                "--create-namespace",
                "--set",
                IMAGE,
                "--set",
                values,
            ];
            expect_success(cluster.helm(with, args));
            assert!(!is_registered(&cluster));
            expect_success(cluster.kubectl_with_input(["create", "-f", "-"], POLICY));
            expect_success(cluster.kubectl(["delete", "upgradepolicy", "mine"]));
            let milvus = deployment("r-milvus-proxy", "milvus-4.2.40", r#"{"app": "r"}"#, MILVUS);
            expect_success(
                cluster.kubectl_with_input(["create", "-n", "milvus", "-f", "-"], &milvus),
            );
            expect_success(cluster.kubectl([
                "delete",
                "-n",
                "milvus",
                "deployment",
                "r-milvus-proxy",
            ]));
            let begun = std::time::Instant::now();
            expect_success(cluster.helm(with, ["uninstall", "milvus-guard", "-n", NAMESPACE]));
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{with:?}: {:?}",
                begun.elapsed()
            );
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "the life of an installation")]
fn the_registration_belongs_to_the_guard_and_is_removed_with_the_chart() {
    for with in HELMS {
        let cluster = ControlPlane::builder().controller_manager(true).start();
        let folder = tempfile::tempdir().unwrap();
        let chart = path();
        let upgrade = |values: &[&str]| {
            let mut args = vec![
                "upgrade",
                "--install",
                "milvus-guard",
                chart.to_str().unwrap(),
                "-n",
                NAMESPACE,
            ];
            args.extend(["--create-namespace", "--reset-values", "--set", IMAGE]);
            args.extend(values.iter().flat_map(|value| ["--set", value]));
            expect_success(cluster.helm(with, args));
        };
        upgrade(&[]);
        let (code, _, stderr) = run(guard()
            .args(["certs", "--name", "127.0.0.1", "--out"])
            .arg(folder.path()));
        assert_eq!(code, 0, "{stderr}");
        let server = start_as_charted(
            &cluster,
            folder.path(),
            &rendered(&["certificates.mode=certManager"]),
            &[],
        );
        wait_for("the registration", Duration::from_secs(60), || {
            is_registered(&cluster) && is_asked(&cluster)
        });
        let role = cluster.get_json("/apis/rbac.authorization.k8s.io/v1/clusterroles/milvus-guard");
        for path in [VALIDATING, MUTATING] {
            let object = cluster.get_json(path);
            assert_eq!(
                object["metadata"]["ownerReferences"][0]["uid"],
                role["metadata"]["uid"]
            );
            for webhook in object["webhooks"].as_array().unwrap() {
                assert!(!text(webhook, "/clientConfig/caBundle").is_empty());
                let (_, token) = text(webhook, "/clientConfig/url").rsplit_once('/').unwrap();
                assert!(
                    token.len() == 64 && token.chars().all(|c| c.is_ascii_hexdigit()),
                    "the path must end with a secret"
                );
                assert!(!server.log().contains(token) && !server.get_metrics().contains(token));
            }
        }

        // If other clients change or delete the registration, the guard restores it.
        expect_success(cluster.kubectl([
            "patch",
            "validatingwebhookconfiguration",
            "milvus-guard",
            "--type=json",
            "-p",
            r#"[{"op": "replace", "path": "/webhooks/1/failurePolicy", "value": "Ignore"}, {"op": "remove", "path": "/webhooks/0"}]"#,
        ]));
        wait_for("the repair", Duration::from_secs(60), || {
            let webhooks = cluster.get_json(VALIDATING)["webhooks"]
                .as_array()
                .unwrap()
                .clone();
            let policy = |name: &str| {
                let found = webhooks
                    .iter()
                    .find(|webhook| text(webhook, "/name") == format!("{name}.guard.milvus.io"));
                found.map(|webhook| text(webhook, "/failurePolicy").to_owned())
            };
            policy("release").as_deref() == Some("Ignore")
                && policy("workload").as_deref() == Some("Fail")
        });
        expect_success(cluster.kubectl([
            "delete",
            "validatingwebhookconfiguration,mutatingwebhookconfiguration",
            "milvus-guard",
        ]));
        wait_for("the registration again", Duration::from_secs(60), || {
            is_registered(&cluster)
        });

        // Helm and the guard share no field, so upgrades and rollbacks meet no conflict.
        let values = [
            "replicas=2",
            "workloadGate.failurePolicy=Ignore",
            "versionLabel.enabled=false",
        ];
        upgrade(&values);
        write_template(&folder.path().join(TEMPLATE), &server.url, &values);
        wait_for(
            "the change of the template",
            Duration::from_secs(60),
            || {
                let webhooks = cluster.get_json(VALIDATING)["webhooks"]
                    .as_array()
                    .unwrap()
                    .clone();
                webhooks.iter().any(|webhook| {
                    text(webhook, "/name").starts_with("workload")
                        && webhook["failurePolicy"] == "Ignore"
                }) && cluster.get(MUTATING).status == 404
            },
        );
        expect_success(cluster.helm(with, ["rollback", "milvus-guard", "1", "-n", NAMESPACE]));
        write_template(&folder.path().join(TEMPLATE), &server.url, &[]);
        wait_for("the template of before", Duration::from_secs(60), || {
            is_registered(&cluster)
        });

        // While a run is in progress, the chart cannot be uninstalled; after its end it can.
        let run = |phase: &str| {
            let hash = format!("sha256:{}", "0".repeat(64));
            let spec = json!({"kind": "Rolling", "release": "r", "namespace": "m", "from": "2.4.5", "to": "2.5.12", "plan": [], "planHash": hash});
            write_as_guard(
                &cluster,
                &json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
                    "metadata": {"name": "run-1", "namespace": NAMESPACE}, "spec": spec, "status": {"phase": phase}}),
            );
        };
        let uninstall = || cluster.helm(with, ["uninstall", "milvus-guard", "-n", NAMESPACE]);
        run("Running");
        wait_for("the policy to see the run", Duration::from_secs(60), || {
            let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "milvus-guard-uninstall"}}"#;
            let create = ["create", "--dry-run=server", "-n", NAMESPACE, "-f", "-"];
            !cluster.kubectl_with_input(create, map).status.success()
        });
        let refused = uninstall();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("run run-1 of m/r is in progress (Running)"),
            "{with:?}: {said}"
        );
        expect_success(cluster.kubectl([
            "get",
            "-n",
            NAMESPACE,
            "deployment/milvus-guard",
            "service/milvus-guard",
        ]));
        assert!(
            is_asked(&cluster),
            "{with:?}: the gates must still be registered"
        );
        // Helm 3 records the attempt in its release; a rollback to the same revision restores that.
        expect_success(cluster.helm(with, ["rollback", "milvus-guard", "3", "-n", NAMESPACE]));
        upgrade(&[]);
        run("Succeeded");
        let mut last = String::new();
        wait_for("the uninstallation", Duration::from_secs(60), || {
            let output = uninstall();
            last = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success()
        });
        wait_for("the collector", Duration::from_secs(60), || {
            [VALIDATING, MUTATING]
                .iter()
                .all(|path| cluster.get(path).status == 404)
        });
        for name in ["hold", "uninstall"] {
            let path = format!(
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/\
                 milvus-guard-{name}"
            );
            assert_eq!(cluster.get(&path).status, 404, "{with:?} left {path}");
        }
        expect_success(cluster.kubectl_with_input(["create", "-f", "-"], POLICY));
        // The guard still runs here, without its rights: it cannot register again.
        wait_for("the guard to notice", Duration::from_secs(60), || {
            server.log().contains("could not be registered")
        });
        assert_eq!(cluster.get(VALIDATING).status, 404);
        drop(server);

        // The definitions and the documents of users were kept. A new installation adopts them;
        // with `crds.keep=false` the next uninstallation deletes them.
        upgrade(&["crds.keep=false"]);
        expect_success(cluster.kubectl(["get", "upgradepolicy", "mine"]));
        expect_success(uninstall());
        wait_for("the kinds to be gone", Duration::from_secs(60), || {
            cluster
                .get(
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/upgradepolicies.\
                     guard.milvus.io",
                )
                .status
                == 404
        });
    }
}

#[test]
fn the_documented_break_glass_commands_work() {
    let readme = fs::read_to_string(path().join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Break glass").unwrap();
    let cluster = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    let chart = path();
    let args = [
        "install",
        "milvus-guard",
        chart.to_str().unwrap(),
        "-n",
        NAMESPACE,
        "--create-namespace",
        "--set",
        IMAGE,
    ];
    let installed = expect_success(cluster.helm(Helm::V4, args));
    let (code, _, stderr) = run(guard()
        .args(["certs", "--name", "127.0.0.1", "--out"])
        .arg(folder.path()));
    assert_eq!(code, 0, "{stderr}");
    let values = ["certificates.mode=certManager"];
    let mut server = start_as_charted(&cluster, folder.path(), &rendered(&values), &[]);
    wait_for("the registration", Duration::from_secs(60), || {
        is_asked(&cluster)
    });
    server.kill();
    let create = || cluster.kubectl_with_input(["create", "--dry-run=server", "-f", "-"], POLICY);
    wait_for(
        "the gate not to wait for the guard",
        Duration::from_secs(60),
        || !create().status.success(),
    );
    let delete =
        "validatingwebhookconfiguration/milvus-guard mutatingwebhookconfiguration/milvus-guard";
    for told in [section, &installed] {
        assert!(
            told.contains(&format!("kubectl delete {delete}\n")),
            "{told}"
        );
        assert!(
            told.contains("kubectl -n milvus-guard scale deployment/milvus-guard --replicas=0\n"),
            "{told}"
        );
    }
    expect_success(cluster.kubectl(["delete"].into_iter().chain(delete.split(' '))));
    wait_for("the way to be free", Duration::from_secs(60), || {
        create().status.success()
    });
    fs::remove_file(folder.path().join(TEMPLATE)).unwrap();
    let _server = start_as_charted(&cluster, folder.path(), &rendered(&values), &[]);
    wait_for("the gates by themselves", Duration::from_secs(60), || {
        is_asked(&cluster)
    });
}

#[test]
fn the_server_runs_with_the_arguments_and_rights_of_the_chart() {
    let cluster = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    // A release and a policy, so that the guard has data to store and to report.
    let chart = Chart::compact("4.1.34");
    expect_success(cluster.helm(
        Helm::V4,
        ["install", "my-release", chart.path(), "-n", "milvus"],
    ));
    install_definitions(&cluster);
    cluster.apply("apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n");
    let documents = rendered(&["auditInterval=1s"]);
    apply_all(&cluster, &documents);

    let server = start_as_charted(&cluster, folder.path(), &documents, &[]);
    wait_for("the registration", Duration::from_secs(60), || {
        is_registered(&cluster)
    });
    wait_for(
        "the release history to be stored",
        Duration::from_secs(60),
        || {
            let configs = cluster.get_json("/api/v1/namespaces/milvus-guard/configmaps");
            let is_memory =
                |config: &Value| text(config, "/metadata/name").starts_with("milvus-guard-memory.");
            configs["items"]
                .as_array()
                .unwrap()
                .iter()
                .any(|config| is_memory(config) && config.to_string().contains("my-release"))
        },
    );
    wait_for("the policy's status", Duration::from_secs(60), || {
        cluster
            .get_json("/apis/guard.milvus.io/v1alpha1/upgradepolicies/mine")
            .get("status")
            .is_some()
    });
    let metric = |name: &str| {
        server
            .get_metrics()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    wait_for("an audit", Duration::from_secs(60), || {
        metric("milvus_guard_audit_last_run_timestamp_seconds").is_some_and(|at| at > 0.0)
    });
    assert_eq!(metric("milvus_guard_leader"), Some(1.0));
    // In this test the template is created after the start.
    let log: String = server
        .log()
        .lines()
        .filter(|line| !line.contains(TEMPLATE))
        .collect();
    let log = log.to_lowercase();
    assert!(
        !log.contains("forbidden") && !log.contains("cannot"),
        "a right is missing: {log}"
    );
    // A metric appears only when it has a value, so the names are looked up in the source.
    let source = [
        "crates/webhook/src/server/metrics.rs",
        "crates/webhook/src/server/release_metrics.rs",
    ]
    .map(|file| fs::read_to_string(file).unwrap())
    .concat();
    for name in METRICS {
        let family = ["_bucket", "_total", "_info"]
            .iter()
            .fold(name, |name, suffix| name.trim_end_matches(suffix));
        // The library adds the suffix of an Info; a gauge has it in its name.
        let is_there = |name: &str| {
            source.contains(&format!("\"{}\"", name.trim_start_matches("milvus_guard_")))
        };
        assert!(
            is_there(family) || is_there(name),
            "serve has no metric {name}"
        );
    }
    drop(server);

    // A certificate from files, as cert-manager provides it; callers must present a certificate
    // too, but probes without one are answered.
    expect_success(cluster.kubectl([
        "delete",
        "validatingwebhookconfiguration,mutatingwebhookconfiguration",
        "milvus-guard",
    ]));
    let files = folder.path().join("files");
    let (code, _, stderr) = run(guard().arg("certs").arg("--out").arg(&files));
    assert_eq!(code, 0, "{stderr}");
    let client = [
        "clientAuthentication.enabled=true",
        "clientAuthentication.configMapName=x",
    ];
    let values = [&["certificates.mode=certManager"][..], &client].concat();
    let _server = start_as_charted(&cluster, &files, &rendered(&values), &values);
    wait_for("the registration", Duration::from_secs(60), || {
        is_registered(&cluster)
    });
    let authority = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        fs::read(files.join("ca.crt")).unwrap(),
    );
    for webhook in cluster.get_json(VALIDATING)["webhooks"].as_array().unwrap() {
        assert_eq!(text(webhook, "/clientConfig/caBundle"), authority);
    }
}
