//! The webhook in a cluster: objects that it ignores, changes while it is down, policies, labels.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::common::{
    Chart, guard,
    kubelet::Nodes,
    run,
    webhook::{GUARD, Server, Webhook, wait_until},
};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use serde_json::{Value, json};

/// A chart unrelated to Milvus: a web server with its configuration and a volume.
fn unrelated(folder: &Path) -> String {
    let chart = folder.join("web");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    )
    .unwrap();
    fs::write(chart.join("values.yaml"), "tag: '1'\n").unwrap();
    let template = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: {{ .Release.Name }}}\nspec:\n  selector: {matchLabels: {app: web}}\n  \
        template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: 'nginx:{{ .Values.tag }}'}]}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {nginx.conf: 'tag {{ .Values.tag }}'}\n---\n\
        apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: {{ .Release.Name }}}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    fs::write(chart.join("templates/all.yaml"), template).unwrap();
    chart.to_str().unwrap().to_owned()
}

#[test]
fn unrelated_charts_are_left_alone() {
    let webhook = Webhook::start();
    let chart = unrelated(webhook.folder.path());
    let reviews = || -> f64 {
        let text = webhook.server.get_metrics();
        let of = |gate: &str| {
            text.lines()
                .filter(|line| {
                    line.starts_with(&format!("milvus_guard_reviews_total{{gate=\"{gate}\""))
                })
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum::<f64>()
        };
        assert!(
            of("workload") + of("mutate") < 0.5,
            "no single object of another chart may be reviewed:\n{text}"
        );
        of("release")
    };
    for with in [Helm::V3, Helm::V4] {
        let before = reviews();
        for args in [
            &["install", "web", &chart][..],
            &["upgrade", "web", &chart, "--set", "tag=2"],
            &["rollback", "web", "1"],
            &["uninstall", "web"],
        ] {
            let (done, text) = webhook.helm(with, args);
            assert!(done && !text.contains("milvus-guard"), "{text}");
        }
        assert!(
            (reviews() - before - 3.0).abs() < 0.5,
            "one review for each new revision, none for an uninstallation"
        );
    }
    let (_, events) = webhook.kubectl(&["get", "events", "-A"]);
    assert!(!events.contains("milvus-guard"), "{events}");
}

#[test]
fn without_any_replica_other_workloads_can_change() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("tls");
    let (code, _, stderr) = run(guard()
        .args(["certs", "--name", "127.0.0.1", "--out"])
        .arg(&out));
    assert_eq!(code, 0, "{stderr}");
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (cert, key) = (file("tls.crt"), file("tls.key"));
    let flags = [
        "--tls-cert-file",
        cert.as_str(),
        "--tls-key-file",
        key.as_str(),
    ];
    let mut webhook =
        Webhook::with_authority(cluster, &flags, &fs::read(out.join("ca.crt")).unwrap());
    let _nodes = Nodes::start(&webhook.cluster, "");
    let milvus = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &milvus, &[]);
    let address = webhook
        .server
        .url
        .strip_prefix("https://")
        .unwrap()
        .to_owned();

    webhook.server.kill();
    let chart = unrelated(webhook.folder.path());
    let (done, text) = webhook.helm(Helm::V4, &["install", "web", &chart, "-n", "milvus"]);
    assert!(
        done,
        "unrelated objects must not be blocked, not even in the same namespace: {text}"
    );
    expect_success(webhook.cluster.kubectl([
        "-n",
        "milvus",
        "create",
        "configmap",
        "a",
        "--from-literal=b=c",
    ]));
    expect_success(webhook.cluster.kubectl([
        "-n",
        "kube-system",
        "create",
        "deployment",
        "dns",
        "--image=coredns",
    ]));
    let proxy = "deployment/my-release-milvus-proxy";
    let (done, text) = webhook.kubectl(&["-n", "milvus", "scale", proxy, "--replicas=3"]);
    assert!(
        !done && text.contains("failed calling webhook"),
        "for Milvus the failure policy applies: {text}"
    );
    let (done, text) = webhook.kubectl(&["-n", "milvus", "label", proxy, "team=search"]);
    assert!(done, "a change of labels must be allowed: {text}");
    // Pods can be created and deleted without the guard, so that the running state is repaired.
    expect_success(webhook.cluster.kubectl([
        "-n",
        "milvus",
        "delete",
        "pods",
        "--all",
        "--wait=false",
    ]));

    webhook.server = Server::start(&webhook.cluster, webhook.folder.path(), &address, &flags);
    wait_until("the guard is back", Duration::from_secs(30), || {
        webhook
            .kubectl(&["-n", "milvus", "scale", proxy, "--replicas=2"])
            .0
    });

    // After a restart of the API server, while the guard keeps running, the gate still denies.
    webhook.cluster.api_server().stop();
    webhook.cluster.api_server().restart();
    wait_until("the gate works again", Duration::from_secs(60), || {
        let (done, text) = webhook.kubectl(&[
            "-n",
            "milvus",
            "set",
            "image",
            proxy,
            "proxy=milvusdb/milvus:v2.2.16",
        ]);
        assert!(!done, "{text}");
        text.contains("MG103")
    });
}

fn policy(name: &str, action: &str) -> String {
    json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": name},
        "spec": {"priority": 10, "rules": [{"id": "MG104", "action": action}]}})
    .to_string()
}

#[test]
fn policies_take_effect_at_once_and_invalid_ones_never() {
    let webhook = Webhook::start();
    let milvus = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &milvus, &[]);
    let denied = |wanted: bool| {
        let begun = Instant::now();
        wait_until("the policy is in force", Duration::from_secs(2), || {
            let (done, text) =
                webhook.upgrade(Helm::V4, &milvus, &["--set", "image.all.tag=v2.4.13"]);
            if done {
                expect_success(
                    webhook
                        .cluster
                        .helm(Helm::V4, ["rollback", "my-release", "1", "-n", "milvus"]),
                );
            }
            (!done && text.contains("MG104")) == wanted
        });
        begun.elapsed()
    };
    denied(true);
    webhook.cluster.apply(&policy("lenient", "Warn"));
    let took = denied(false);
    eprintln!(
        "a policy took effect after {} ms, Helm's own time included",
        took.as_millis()
    );
    wait_until("its status says so", Duration::from_secs(10), || {
        let status = webhook
            .cluster
            .get_json("/apis/guard.milvus.io/v1alpha1/upgradepolicies/lenient")["status"]
            .clone();
        status["conditions"][0]["status"] == "True" && status["rules"] == "MG104=Warn"
    });
    // A document with an action that has no effect is refused.
    let contradiction = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "hold"},
        "spec": {"rules": [{"id": "MG104", "action": "Hold"}]}});
    let output = webhook
        .cluster
        .kubectl_with_input(["create", "-f", "-"], &contradiction.to_string());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("documents.guard.milvus.io"),
        "{text}"
    );
    let far = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeException", "metadata": {"name": "far"},
        "spec": {"rules": ["MG101"], "namespace": "milvus", "release": "my-release", "reason": "a long one", "owner": "me", "expires": "2099-01-01T00:00:00Z"}});
    let output = webhook
        .cluster
        .kubectl_with_input(["create", "-f", "-"], &far.to_string());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("30 days"),
        "{text}"
    );
    // An invalid policy that bypassed the webhook is reported; the last valid one stays in force.
    expect_success(webhook.cluster.kubectl([
        "delete",
        "validatingwebhookconfiguration",
        "milvus-guard",
    ]));
    let broken = policy("lenient", "Warn").replace("MG104", "MG999");
    wait_until(
        "the API server no longer calls the webhook",
        Duration::from_secs(10),
        || {
            webhook
                .cluster
                .kubectl_with_input(
                    ["apply", "--server-side", "--force-conflicts", "-f", "-"],
                    &broken,
                )
                .status
                .success()
        },
    );
    wait_until(
        "its status says what is wrong",
        Duration::from_secs(10),
        || {
            let status = webhook
                .cluster
                .get_json("/apis/guard.milvus.io/v1alpha1/upgradepolicies/lenient")["status"]
                .clone();
            status["conditions"][0]["status"] == "False"
                && status["conditions"][0]["message"]
                    .as_str()
                    .unwrap()
                    .contains("still in force")
        },
    );
    assert!(webhook.metric(r#"milvus_guard_policies_loaded{kind="policy",state="bad"}"#) > 0.5);
    webhook.register();
    denied(false);
}

#[test]
fn the_label_is_right_and_causes_no_conflicts() {
    let webhook = Webhook::start();
    for with in [Helm::V4, Helm::V3] {
        let milvus = Chart::compact("4.1.34");
        webhook.install(with, &milvus, &["--set", "image.all.tag=v2.4.15"]);
        let proxy = || {
            webhook
                .cluster
                .get_json("/apis/apps/v1/namespaces/milvus/deployments/my-release-milvus-proxy")
        };
        let label = |object: &Value| {
            object["metadata"]["labels"]["guard.milvus.io/version"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let first = proxy();
        assert_eq!(label(&first), "2.4.15");
        assert_eq!(
            first["spec"]["template"]["metadata"]["labels"]["guard.milvus.io/version"],
            Value::Null,
            "pods must not get the label"
        );
        // The same release again changes nothing and meets no conflict.
        for _ in 0..2 {
            let (done, text) = webhook.upgrade(with, &milvus, &["--set", "image.all.tag=v2.4.15"]);
            assert!(done, "{text}");
        }
        assert_eq!(
            proxy()["metadata"]["generation"],
            first["metadata"]["generation"]
        );
        // Another tool takes the object over by server-side apply, like Argo CD: no field of the
        // guard conflicts.
        let mut desired = proxy();
        for key in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "generation",
        ] {
            desired["metadata"].as_object_mut().unwrap().remove(key);
        }
        desired["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("guard.milvus.io/version");
        desired.as_object_mut().unwrap().remove("status");
        let output = webhook.cluster.kubectl_with_input(
            [
                "apply",
                "--server-side",
                "--field-manager=argocd-controller",
                "-f",
                "-",
            ],
            &desired.to_string(),
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(label(&proxy()), "2.4.15");
        let diff = webhook.cluster.kubectl_with_input(
            [
                "diff",
                "--server-side",
                "--field-manager=argocd-controller",
                "-f",
                "-",
            ],
            &desired.to_string(),
        );
        assert!(
            diff.status.success(),
            "there must be no difference: {}",
            String::from_utf8_lossy(&diff.stdout)
        );
        let owners = proxy()["metadata"]["managedFields"].to_string();
        assert!(
            !owners.contains("f:guard.milvus.io/version"),
            "no manager may own the label: {owners}"
        );
        expect_success(webhook.cluster.kubectl([
            "-n",
            "milvus",
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            "proxy=milvusdb/milvus:v2.4.17",
        ]));
        assert_eq!(label(&proxy()), "2.4.17");
        expect_success(
            webhook
                .cluster
                .helm(with, ["uninstall", "my-release", "-n", "milvus"]),
        );
        webhook.kubectl(&["delete", "namespace", "milvus"]);
    }
}

#[test]
fn releases_of_the_config_map_driver_are_judged_too() {
    let webhook = Webhook::start();
    for with in [Helm::V3, Helm::V4] {
        let helm = |args: &[&str]| {
            let output = webhook
                .cluster
                .helm_command(with)
                .env("HELM_DRIVER", "configmap")
                .args(args)
                .output()
                .unwrap();
            (
                output.status.success(),
                format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ),
            )
        };
        let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
        let (done, text) = helm(&[
            "install",
            "my-release",
            old.path(),
            "-n",
            "milvus",
            "--create-namespace",
        ]);
        assert!(done, "{text}");
        let (done, text) = helm(&["upgrade", "my-release", new.path(), "-n", "milvus"]);
        assert!(
            !done && text.contains("MG101") && text.contains("release.guard.milvus.io"),
            "{text}"
        );
        webhook.kubectl(&["delete", "namespace", "milvus"]);
        webhook.kubectl(&[
            "-n",
            GUARD,
            "delete",
            "configmap",
            "milvus-guard-memory.milvus",
        ]);
    }
}
