//! Records of Helm, the decisions about them, and other forms of manifests.

use std::{fs, time::Duration};

use super::{NAMESPACE, apply, assert_stays, install, objects};
use crate::common::{
    Chart,
    webhook::{GUARD, Webhook, stored_memory, wait_until},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

/// A record of a release in this namespace, as Helm writes it.
fn record(manifest: &str, name: &str, namespace: &str) -> Value {
    let release = json!({"name": name, "namespace": namespace, "version": 1, "info": {"status": "pending-install"},
        "manifest": manifest, "chart": {"metadata": {"name": "milvus", "version": "4.0.31"}}});
    let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(release.to_string()));
    json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": format!("sh.helm.release.v1.{name}.v1"),
            "labels": {"owner": "helm", "status": "pending-install", "name": name, "version": "1"}},
        "data": {"release": payload}})
}

#[test]
fn a_record_in_another_namespace_does_not_bypass_the_guard() {
    let webhook = Webhook::start();
    install(&webhook, Helm::V4, &Chart::compact("3.2.18"), &[]);
    let rendered = Chart::compact("4.0.31").render(Helm::V4, &[]);
    expect_success(webhook.cluster.kubectl(["create", "namespace", "foreign"]));
    let decisions = || {
        webhook
            .kubectl(&["-n", GUARD, "get", "releasedecisions", "-o", "name"])
            .1
    };
    let before = decisions();
    let create = |object: &Value| {
        let output = webhook
            .cluster
            .kubectl_with_input(["-n", "foreign", "create", "-f", "-"], &object.to_string());
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // The payload contains another namespace.
    for name in ["ghost", "my-release"] {
        let (done, text) = create(&record(&rendered, name, NAMESPACE));
        assert!(
            !done && text.contains("does not match its payload: the namespace is foreign"),
            "{text}"
        );
    }
    assert_eq!(decisions(), before);
    // A valid record of the other namespace only decides about objects of that namespace.
    let (done, text) = create(&record(&rendered, "my-release", "foreign"));
    assert!(done, "{text}");
    for manager in ["helm", "kubectl", "lens"] {
        let deployments = objects(&rendered, "Deployment");
        let manager = format!("--field-manager={manager}");
        let (done, text) = apply(
            &webhook,
            &deployments,
            &["--server-side", "--force-conflicts", &manager],
        );
        assert!(!done && text.contains("MG101"), "{manager}: {text}");
    }
    assert_stays(&webhook, ":v2.1.4");
}

#[test]
fn a_decision_of_an_older_revision_does_not_bypass_the_guard() {
    let webhook = Webhook::start();
    for with in [Helm::V3, Helm::V4] {
        let chart = Chart::compact("4.1.34");
        install(&webhook, with, &chart, &["--set", "image.all.tag=v2.3.5"]);
        webhook.roll_out(NAMESPACE);
        let upgrade = |tag: &str, more: &[&str]| {
            let tag = format!("image.all.tag={tag}");
            let mut args = vec![
                "upgrade",
                "my-release",
                chart.path(),
                "-n",
                NAMESPACE,
                "--set",
                &tag,
            ];
            args.extend(more);
            let (done, text) = webhook.helm(with, &args);
            assert!(done, "{text}");
            webhook.roll_out(NAMESPACE);
        };
        upgrade(
            "v2.3.5",
            &["--set", "extraConfigFiles.user\\.yaml=log: {level: debug}"],
        );
        upgrade(
            "v2.4.23",
            &["--labels", "guard.milvus.io/accept=MG201_MG206-r3"],
        );
        wait_until("the new version has run", Duration::from_secs(30), || {
            stored_memory(&webhook.cluster, NAMESPACE).contains("2.4.23")
        });
        let (_, decisions) =
            webhook.kubectl(&["-n", GUARD, "get", "releasedecisions", "-o", "name"]);
        assert_eq!(
            decisions.lines().count(),
            1,
            "one decision for each release: {decisions}"
        );
        for manager in ["kubectl-set", "helm", "lens"] {
            let manager = format!("--field-manager={manager}");
            let (done, text) = webhook.kubectl(&[
                "-n",
                NAMESPACE,
                "set",
                "image",
                "deployment/my-release-milvus-proxy",
                "proxy=milvusdb/milvus:v2.3.5",
                &manager,
            ]);
            assert!(!done && text.contains("MG103"), "{manager}: {text}");
        }
        // An administrator can delete a decision; only the guard can write one.
        let (done, text) = webhook.kubectl(&["-n", GUARD, "delete", "releasedecisions", "--all"]);
        assert!(done, "{text}");
        let (done, text) = webhook.helm(with, &["uninstall", "my-release", "-n", NAMESPACE]);
        assert!(done, "{text}");
        webhook.kubectl(&["delete", "namespace", NAMESPACE]);
    }
}

/// A chart that renders exactly this text.
pub(super) fn chart_of(folder: &std::path::Path, text: &str) -> String {
    fs::create_dir_all(folder.join("templates")).unwrap();
    fs::write(
        folder.join("Chart.yaml"),
        "apiVersion: v2\nname: milvus\nversion: 1.0.0\n",
    )
    .unwrap();
    fs::write(folder.join("templates/all.yaml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn other_forms_of_manifests_and_flags_of_helm_do_not_bypass_the_guard() {
    let webhook = Webhook::start();
    let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
    install(&webhook, Helm::V4, &old, &[]);
    let rendered = new.render(Helm::V4, &[]);
    let deployments = objects(&rendered, "Deployment");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": deployments}).to_string();
    let typed = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": deployments})
        .to_string();
    let folder = tempfile::tempdir().unwrap();
    let revisions = || {
        webhook
            .kubectl(&[
                "-n",
                NAMESPACE,
                "get",
                "secrets",
                "-l",
                "owner=helm",
                "-o",
                "name",
            ])
            .1
    };
    let before = revisions();
    for with in [Helm::V3, Helm::V4] {
        for text in [
            list.clone(),
            typed.clone(),
            list.replace("milvus", "m\\u0069lvus"),
        ] {
            let chart = chart_of(folder.path(), &text);
            for args in [
                vec!["upgrade", "my-release", &chart, "-n", NAMESPACE],
                vec![
                    "upgrade",
                    "my-release",
                    &chart,
                    "-n",
                    NAMESPACE,
                    "--install",
                    "--force-conflicts",
                ],
                vec![
                    "install",
                    "ghost",
                    &chart,
                    "-n",
                    NAMESPACE,
                    "--take-ownership",
                ],
            ] {
                // Helm 3 does not have this flag.
                if with == Helm::V3 && args.contains(&"--force-conflicts") {
                    continue;
                }
                let (done, text) = webhook.helm(with, &args);
                assert!(
                    !done && text.contains("release.guard.milvus.io") && text.contains("MG101"),
                    "{args:?}: {text}"
                );
            }
        }
        let force = if with == Helm::V3 {
            "--force"
        } else {
            "--force-replace"
        };
        for flags in [
            vec![force],
            vec!["--reset-values", "--no-hooks"],
            vec!["--skip-crds", "--disable-openapi-validation"],
        ] {
            let mut args = vec!["upgrade", "my-release", new.path(), "-n", NAMESPACE];
            args.extend(flags);
            let (done, text) = webhook.helm(with, &args);
            assert!(
                !done && text.contains("release.guard.milvus.io") && text.contains("MG101"),
                "{args:?}: {text}"
            );
        }
    }
    assert_eq!(
        revisions(),
        before,
        "a denied upgrade must leave no revision"
    );
    assert_stays(&webhook, ":v2.1.4");
    // The running objects, as a list.
    let all: Vec<Value> = documents(&old.render(Helm::V4, &[]))
        .map(|document| document.unwrap().root.to_json())
        .collect();
    let items: Vec<&Value> = all
        .iter()
        .filter(|object| object["kind"].is_string())
        .collect();
    let chart = chart_of(
        folder.path(),
        &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
    );
    let (done, text) = webhook.helm(
        Helm::V4,
        &["upgrade", "my-release", &chart, "-n", NAMESPACE],
    );
    assert!(done, "{text}");
}
