//! The release gate on a real API server, with both versions of Helm.

use std::time::Duration;

use crate::common::{
    Chart, Judged, charts, file, guard,
    webhook::{GUARD, Webhook, wait_until, write_as_guard},
};
use jiff::{SignedDuration, Timestamp};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

const BOTH: [Helm; 2] = [Helm::V3, Helm::V4];

fn namespace(with: Helm) -> &'static str {
    if with == Helm::V3 {
        "milvus-3"
    } else {
        "milvus-4"
    }
}

fn install(webhook: &Webhook, with: Helm, chart: &Chart) {
    let namespace = namespace(with);
    let (done, text) = webhook.helm(
        with,
        &[
            "upgrade",
            "--install",
            "my-release",
            chart.path(),
            "-n",
            namespace,
            "--create-namespace",
        ],
    );
    assert!(done, "{text}");
}

fn upgrade(webhook: &Webhook, with: Helm, chart: &Chart, more: &[&str]) -> (bool, String) {
    let mut args = vec!["upgrade", "my-release", chart.path(), "-n", namespace(with)];
    args.extend(more);
    webhook.helm(with, &args)
}

/// The objects that a denied upgrade must leave unchanged.
fn state(webhook: &Webhook, namespace: &str) -> Value {
    let get = |path: &str| webhook.cluster.get_json(path)["items"].clone();
    let mut all = json!([
        get(&format!("/apis/apps/v1/namespaces/{namespace}/deployments")),
        get(&format!(
            "/apis/apps/v1/namespaces/{namespace}/statefulsets"
        )),
        get(&format!("/api/v1/namespaces/{namespace}/configmaps")),
        get(&format!("/api/v1/namespaces/{namespace}/secrets")),
    ]);
    // Changes by controllers are not changes of the upgrade.
    for kind in all.as_array_mut().unwrap() {
        for object in kind.as_array_mut().unwrap() {
            object.as_object_mut().unwrap().remove("status");
            let metadata = object["metadata"].as_object_mut().unwrap();
            for key in ["resourceVersion", "managedFields", "annotations"] {
                metadata.remove(key);
            }
        }
    }
    all
}

#[test]
fn a_skipped_migration_is_denied_before_anything_changes() {
    let webhook = Webhook::start();
    for with in BOTH {
        let namespace = namespace(with);
        install(&webhook, with, &Chart::compact("3.2.18"));
        let before = state(&webhook, namespace);
        let next = Chart::compact("4.0.31");
        let undo = if with == Helm::V3 {
            "--atomic"
        } else {
            "--rollback-on-failure"
        };
        for more in [&[][..], &[undo]] {
            let (done, text) = upgrade(&webhook, with, &next, more);
            assert!(!done, "{text}");
            for part in [
                "MG101 skipped-metadata-migration",
                "2.1.4 would become 2.2.13 without evidence of a metadata migration",
                "why: ",
                &format!(
                    "run: milvus-guard migrate -i my-release -n {namespace} -s 2.1.4 -t 2.2.16"
                ),
                "Nothing was changed",
            ] {
                assert!(text.contains(part), "{part:?} is not in:\n{text}");
            }
            assert_eq!(state(&webhook, namespace), before, "{more:?}");
            let (_, history) = webhook.helm(
                with,
                &["history", "my-release", "-n", namespace, "-o", "json"],
            );
            let history: Value = serde_json::from_str(&history).unwrap();
            assert_eq!(history.as_array().unwrap().len(), 1, "{history:#}");
        }
        wait_until(
            "an Event must report the denial",
            Duration::from_secs(20),
            || {
                webhook
                    .kubectl(&["get", "events", "-n", namespace])
                    .1
                    .contains("UpgradeDenied")
            },
        );
    }
    assert!(
        webhook.metric(r#"milvus_guard_reviews_total{gate="release",verdict="deny",rule="MG101"}"#)
            >= 4.0
    );
    assert!(
        !webhook.server.log().contains("minioadmin"),
        "no value may be in the log"
    );
}

/// An `UpgradeRun` that is evidence of a migration of the release in a namespace.
fn evidence(webhook: &Webhook, of: &str, name: &str) -> Value {
    let list = webhook
        .cluster
        .get_json(&format!("/apis/apps/v1/namespaces/{of}/deployments"));
    let uids: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["uid"].as_str().unwrap())
        .collect();
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": name, "namespace": GUARD},
        "spec": {"kind": "Migration", "release": "my-release", "namespace": of, "from": "2.1.4", "to": "2.2.13", "plan": [],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
        "status": {"phase": "Succeeded",
            "conditions": [{"type": "MetadataMigrated", "status": "True", "reason": "Verified", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "evidence": {"release": "my-release", "namespace": of, "from": "2.1.4", "to": "2.2.13", "etcdClusterId": "1",
                "rootPath": "by-dev", "endpoints": ["my-release-etcd:2379"], "workloadUids": uids}},
    })
}

#[test]
fn evidence_of_a_migration_allows_the_upgrade_and_forged_evidence_does_not() {
    let webhook = Webhook::start();
    let next = Chart::compact("4.0.31");
    for with in BOTH {
        let namespace = namespace(with);
        install(&webhook, with, &Chart::compact("3.2.18"));
        let good = evidence(&webhook, namespace, &format!("of-{namespace}"));
        let denied = |why: &str| {
            let mut last = String::new();
            wait_until(why, Duration::from_secs(10), || {
                let (done, text) = upgrade(&webhook, with, &next, &[]);
                assert!(!done, "{why}: {text}");
                last = text;
                last.contains("MG101") && last.contains(why)
            });
        };
        let changed = |path: &str, value: Value| {
            let mut object = good.clone();
            *object.pointer_mut(path).unwrap() = value;
            write_as_guard(&webhook.cluster, &object);
        };
        changed("/status/evidence/endpoints", json!(["other-etcd:2379"]));
        denied("migrated another etcd");
        changed("/status/evidence/rootPath", json!("other"));
        denied("migrated root path other");
        changed(
            "/status/evidence/workloadUids",
            json!(["00000000-0000-0000-0000-000000000000"]),
        );
        denied("is about workloads that no longer exist");
        changed("/status/conditions/0/status", json!("False"));
        denied("was rolled back");
        webhook.kubectl(&["delete", "upgraderun", "-n", GUARD, "--all"]);

        // A user with all rights in the release's namespace writes the evidence: there, and into
        // the guard's namespace.
        let rights = format!("--clusterrole=cluster-admin -n {namespace} --user=forger");
        let mut args = vec!["create", "rolebinding", "forger"];
        args.extend(rights.split(' '));
        expect_success(webhook.cluster.kubectl(args));
        let forger = webhook.cluster.kubeconfig_for("forger", &[]);
        for place in [namespace, GUARD] {
            let mut fake = good.clone();
            fake["metadata"]["namespace"] = json!(place);
            let path = webhook.folder.path().join("forged.json");
            std::fs::write(&path, fake.to_string()).unwrap();
            let mut command = webhook.cluster.kubectl_command();
            let output = command
                .arg("--kubeconfig")
                .arg(&forger)
                .args(["create", "-f"])
                .arg(&path)
                .output()
                .unwrap();
            assert!(
                !output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        // The administrator of the cluster gets the same refusal.
        let (done, text) = webhook.kubectl(&[
            "create",
            "-f",
            webhook.folder.path().join("forged.json").to_str().unwrap(),
        ]);
        assert!(
            !done && text.contains("are written by milvus-guard itself"),
            "{text}"
        );
        let (done, text) = upgrade(&webhook, with, &next, &[]);
        assert!(!done && text.contains("MG101"), "{text}");

        write_as_guard(&webhook.cluster, &good);
        wait_until("the evidence is trusted", Duration::from_secs(10), || {
            // An upgrade from 2.1 to 2.2 cannot roll, and no other rule denies it.
            let (done, text) = upgrade(&webhook, with, &next, &[]);
            assert!(done || text.contains("MG101"), "{text}");
            done
        });
        assert!(
            webhook
                .images(namespace)
                .iter()
                .all(|image| image.ends_with(":v2.2.13")),
            "{:?}",
            webhook.images(namespace)
        );
    }
}

/// The whole second that is this many seconds from now.
fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap()
}

fn exception(name: &str, namespace: &str, rules: &[&str], expires: Timestamp) -> String {
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeException", "metadata": {"name": name},
        "spec": {"rules": rules, "namespace": namespace, "release": "my-release", "reason": "a test of the tests", "owner": "the tests",
            "expires": expires.to_string()},
    })
    .to_string()
}

#[test]
fn an_exception_ends_to_the_second() {
    let webhook = Webhook::start();
    let next = Chart::compact("4.0.31");
    for with in BOTH {
        let namespace = namespace(with);
        install(&webhook, with, &Chart::compact("3.2.18"));
        let name = format!("once-{namespace}");
        let expires = in_seconds(6);
        webhook
            .cluster
            .apply(&exception(&name, namespace, &["MG101"], expires));
        wait_until("the exception is in force", Duration::from_secs(2), || {
            let (done, text) = upgrade(&webhook, with, &next, &["--dry-run=server"]);
            assert!(done, "{text}");
            webhook.metric("milvus_guard_exceptions_active") > 0.0
        });
        let second_after = expires + SignedDuration::from_secs(1);
        wait_until("the exception has expired", Duration::from_secs(10), || {
            Timestamp::now() >= second_after
        });
        let (done, text) = upgrade(&webhook, with, &next, &[]);
        assert!(
            !done && text.contains("MG101"),
            "one second after it expired: {text}"
        );

        webhook
            .cluster
            .apply(&exception(&name, namespace, &["MG101"], in_seconds(3600)));
        wait_until(
            "the change is allowed by the new exception",
            Duration::from_secs(10),
            || upgrade(&webhook, with, &next, &[]).0,
        );
        let decision = webhook.cluster.get_json(&format!(
            "/apis/guard.milvus.io/v1alpha1/namespaces/{GUARD}/releasedecisions/{namespace}.\
             my-release"
        ));
        assert_eq!(
            decision["spec"]["acceptedRules"][0]["rule"], "MG101",
            "{decision:#}"
        );
        assert_eq!(
            decision["spec"]["acceptedRules"][0]["reference"], name,
            "{decision:#}"
        );
        webhook.kubectl(&["delete", "upgradeexception", &name]);
    }
}

#[test]
fn check_and_the_webhook_agree_on_every_step() {
    let webhook = Webhook::start();
    let mut judged = 0;
    for (number, set) in charts().into_iter().enumerate() {
        // The real chart 3.2.18 uses an API that current Kubernetes versions no longer have.
        let first = usize::from(set[0].is_real);
        for (from, before) in set.iter().enumerate().skip(first) {
            for (to, after) in set
                .iter()
                .enumerate()
                .skip(first)
                .filter(|(to, _)| *to != from)
            {
                let namespace = format!("step-{number}-{from}-{to}");
                let (done, text) = webhook.helm(
                    Helm::V4,
                    &[
                        "install",
                        "my-release",
                        before.path(),
                        "-n",
                        &namespace,
                        "--create-namespace",
                    ],
                );
                assert!(done, "{}: {text}", before.version);
                let wanted = file(
                    webhook.folder.path(),
                    "wanted.yaml",
                    &after.render_in(&namespace, Helm::V4, &[]),
                );
                let by_check = Judged::with(
                    guard()
                        .args([
                            "check",
                            "--before",
                            "live",
                            "--after",
                            &wanted,
                            "-n",
                            &namespace,
                            "--kubeconfig",
                        ])
                        .arg(webhook.cluster.kubeconfig()),
                );
                let (done, text) = webhook.helm(
                    Helm::V4,
                    &["upgrade", "my-release", after.path(), "-n", &namespace],
                );
                let denied: Vec<&str> = text
                    .lines()
                    .filter(|line| line.starts_with("MG"))
                    .map(|line| &line[..5])
                    .collect();
                let mut by_webhook: Vec<String> = denied.into_iter().map(str::to_owned).collect();
                by_webhook.sort();
                by_webhook.dedup();
                let step = format!(
                    "{} to {} (real: {})",
                    before.version, after.version, set[0].is_real
                );
                if !text.contains("more; milvus-guard check lists all") {
                    assert_eq!(by_webhook, by_check.rules("deny"), "{step}: {text}");
                }
                assert_eq!(done, by_check.verdict() != "deny", "{step}: {text}");
                judged += 1;
                webhook.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
            }
        }
    }
    assert!(judged >= 20, "{judged} steps");
}
