//! Attacks on a real API server: who has some rights in a cluster must not get a "yes" for a change
//! of a Milvus that the guard denies otherwise.

use std::{fs, time::Duration};

use crate::common::{
    Chart, file,
    webhook::{GUARD, Server, TEMPLATE, Webhook, stored_memory, wait_until, write_template},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";

fn install(webhook: &Webhook, with: Helm, chart: &Chart, more: &[&str]) {
    let mut args = vec![
        "install",
        "my-release",
        chart.path(),
        "-n",
        NAMESPACE,
        "--create-namespace",
    ];
    args.extend(more);
    let (done, text) = webhook.helm(with, &args);
    assert!(done, "{text}");
    remembered(webhook);
}

/// A file of values with another etcd.
fn etcd_values(webhook: &Webhook, address: &str) -> String {
    let text = format!(
        "extraConfigFiles:\n  user.yaml: |\n    etcd:\n      endpoints: [\"{address}\"]\n      rootPath: by-dev\n"
    );
    file(webhook.folder.path(), "etcd-values.yaml", &text)
}

/// Waits until the guard has stored the running state.
fn remembered(webhook: &Webhook) {
    wait_until(
        "the running state is remembered",
        Duration::from_secs(30),
        || stored_memory(&webhook.cluster, NAMESPACE).contains("my-release-milvus"),
    );
}

fn objects(text: &str, kind: &str) -> Vec<Value> {
    let all = documents(text).map(|document| document.unwrap().root.to_json());
    all.filter(|object| object["kind"] == kind).collect()
}

fn apply(webhook: &Webhook, objects: &[Value], more: &[&str]) -> (bool, String) {
    let text = objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect::<String>();
    let mut args = vec!["-n", NAMESPACE, "apply", "-f", "-"];
    args.extend(more);
    let output = webhook.cluster.kubectl_with_input(args, &text);
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn assert_stays(webhook: &Webhook, tag: &str) {
    let images = webhook.images(NAMESPACE);
    assert!(
        !images.is_empty() && images.iter().all(|image| image.ends_with(tag)),
        "{images:?}"
    );
}

#[test]
fn another_release_name_opens_nothing() {
    let webhook = Webhook::start();
    for with in [Helm::V3, Helm::V4] {
        let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
        install(&webhook, with, &old, &[]);
        // The same objects under another name of the release.
        let rendered = new.render(with, &[]);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("templates")).unwrap();
        fs::write(
            folder.path().join("Chart.yaml"),
            "apiVersion: v2\nname: ghost\nversion: 1.0.0\n",
        )
        .unwrap();
        fs::write(folder.path().join("templates/all.yaml"), &rendered).unwrap();
        let chart = folder.path().to_str().unwrap();
        for name in ["ghost", "zz-ghost"] {
            let (done, text) = webhook.helm(
                with,
                &["install", name, chart, "-n", NAMESPACE, "--take-ownership"],
            );
            assert!(!done && text.contains("MG101"), "{text}");
            assert_stays(&webhook, ":v2.1.4");
        }
        // One component is enough.
        let one = objects(&rendered, "Deployment").remove(0);
        fs::write(folder.path().join("templates/all.yaml"), one.to_string()).unwrap();
        let (done, text) = webhook.helm(
            with,
            &[
                "install",
                "ghost",
                chart,
                "-n",
                NAMESPACE,
                "--take-ownership",
            ],
        );
        assert!(!done && text.contains("MG101"), "{text}");
        // Another release upon the same metadata, with its own objects.
        let values = etcd_values(&webhook, "my-release-etcd:2379");
        let (done, text) = webhook.helm(
            with,
            &[
                "install",
                "other",
                new.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(!done && text.contains("MG101"), "{text}");
        assert_stays(&webhook, ":v2.1.4");
        webhook.helm(with, &["uninstall", "my-release", "-n", NAMESPACE]);
        webhook.kubectl(&["delete", "namespace", NAMESPACE]);
    }
}

#[test]
fn another_address_of_the_same_etcd_opens_nothing() {
    let webhook = Webhook::start();
    let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
    install(&webhook, Helm::V3, &old, &[]);
    let service = |name: &str| -> Value {
        let args = ["-n", NAMESPACE, "get", "service", name, "-o", "json"];
        serde_json::from_str(&expect_success(webhook.cluster.kubectl(args))).unwrap()
    };
    webhook.kubectl(&["create", "namespace", "team"]);
    let pods =
        json!({"app.kubernetes.io/name": "etcd", "app.kubernetes.io/instance": "my-release"});
    let etcd = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-release-etcd", "namespace": NAMESPACE},
        "spec": {"selector": pods, "ports": [{"port": 2379}]}});
    let apply_one = |object: &Value| {
        let args = ["apply", "-f", "-"];
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(args, &object.to_string()),
        );
    };
    apply_one(&etcd);
    let etcd = service("my-release-etcd");
    let ip = etcd["spec"]["clusterIP"].as_str().unwrap();
    let front = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": NAMESPACE},
        "spec": {"selector": etcd["spec"]["selector"], "ports": [{"port": 80, "targetPort": 2379}]}});
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias", "namespace": "team"},
        "spec": {"type": "ExternalName", "externalName": format!("my-release-etcd.{NAMESPACE}.svc.cluster.local")}});
    // Anyone may claim the address of another team's Service, and must not connect it with data.
    let claim = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "claim", "namespace": "team"},
        "spec": {"selector": {"app": "own-etcd"}, "externalIPs": [ip], "ports": [{"port": 2379}]}});
    for object in [&front, &alias, &claim] {
        let args = ["apply", "-f", "-"];
        expect_success(
            webhook
                .cluster
                .kubectl_with_input(args, &object.to_string()),
        );
    }
    let front_ip = service("front")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    let install_on = |namespace: &str, address: &str| {
        let values = etcd_values(&webhook, address);
        let args = [
            "install",
            "other",
            new.path(),
            "-n",
            namespace,
            "-f",
            &values,
        ];
        webhook.helm(Helm::V3, &args)
    };
    let denied = |namespace: &str, address: &str| {
        wait_until(
            &format!("{address} is known in {namespace}"),
            Duration::from_secs(10),
            || {
                let (done, text) = install_on(namespace, address);
                if done {
                    // The watch has not shown the Service yet.
                    webhook.helm(Helm::V3, &["uninstall", "other", "-n", namespace]);
                }
                !done && text.contains("MG101")
            },
        );
    };
    for namespace in [NAMESPACE, "team"] {
        for address in [
            format!("{ip}:2379"),
            format!("front.{NAMESPACE}:80"),
            format!("{front_ip}:80"),
            "alias.team.svc:2379".to_owned(),
        ] {
            denied(namespace, &address);
        }
    }
    let (done, text) = install_on("team", "claim:2379");
    assert!(done, "separate data: {text}");
    assert_stays(&webhook, ":v2.1.4");
}

/// A record as Helm would write it, of a release in this namespace.
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
fn a_memory_that_cannot_be_stored_counts_on_every_replica() {
    let mut webhook = Webhook::start();
    let folder = tempfile::tempdir().unwrap();
    write_template(&folder.path().join(TEMPLATE), "https://127.0.0.1:1", &[]);
    let other = Server::start(&webhook.cluster, folder.path(), "127.0.0.1:0", &[]);
    // The guard may not write what it remembers.
    let role = webhook.cluster.get_json(&format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{GUARD}/roles/milvus-guard"
    ));
    let mut less = role.clone();
    less["metadata"] = json!({"name": "milvus-guard", "namespace": GUARD});
    less["rules"]
        .as_array_mut()
        .unwrap()
        .retain(|rule| rule["resources"] != json!(["configmaps"]));
    assert_ne!(less["rules"], role["rules"]);
    webhook.cluster.apply(&less.to_string());

    let (old, new) = (Chart::compact("3.2.18"), Chart::compact("4.0.31"));
    let values = etcd_values(&webhook, "etcd.example.com:2379");
    let args = [
        "install",
        "my-release",
        old.path(),
        "-n",
        NAMESPACE,
        "--create-namespace",
        "-f",
        &values,
    ];
    let (done, text) = webhook.helm(Helm::V4, &args);
    assert!(done, "{text}");
    let is_seen = |metrics: &str| metrics.contains("milvus_guard_memory_unsaved 1");
    wait_until("both replicas say so", Duration::from_secs(30), || {
        is_seen(&webhook.server.get_metrics()) && is_seen(&other.get_metrics())
    });
    assert!(webhook.metric("milvus_guard_memory_failures_total") > 0.0);
    let (done, text) = webhook.helm(
        Helm::V4,
        &["uninstall", "my-release", "-n", NAMESPACE, "--wait"],
    );
    assert!(done, "{text}");
    let is_denied = |webhook: &Webhook| {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                "my-release",
                new.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(
            !done && text.contains("MG101") && text.contains("2.1.4 would become 2.2.13"),
            "{text}"
        );
    };
    is_denied(&webhook);
    webhook.server.kill();
    webhook.server = other;
    let _values = std::mem::replace(&mut webhook.folder, folder);
    webhook.register();
    is_denied(&webhook);

    // What was never stored is stored as soon as that is possible.
    less["rules"] = role["rules"].clone();
    webhook.cluster.apply(&less.to_string());
    remembered(&webhook);
    wait_until("nothing is left", Duration::from_secs(30), || {
        webhook
            .server
            .get_metrics()
            .contains("milvus_guard_memory_unsaved 0")
    });
    is_denied(&webhook);
}

#[test]
fn a_record_in_a_foreign_namespace_opens_nothing() {
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
    // The payload names another namespace.
    for name in ["ghost", "my-release"] {
        let (done, text) = create(&record(&rendered, name, NAMESPACE));
        assert!(
            !done && text.contains("does not match its payload: the namespace is foreign"),
            "{text}"
        );
    }
    assert_eq!(decisions(), before);
    // An honest record of the foreign namespace decides about objects of that namespace alone.
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
fn a_decision_of_an_older_revision_opens_nothing() {
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
            "one for each release: {decisions}"
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
        // An administrator can delete a decision; nobody but the guard can write one.
        let (done, text) = webhook.kubectl(&["-n", GUARD, "delete", "releasedecisions", "--all"]);
        assert!(done, "{text}");
        let (done, text) = webhook.helm(with, &["uninstall", "my-release", "-n", NAMESPACE]);
        assert!(done, "{text}");
        webhook.kubectl(&["delete", "namespace", NAMESPACE]);
    }
}

#[test]
fn a_tool_that_calls_itself_otherwise_than_kubectl_meets_every_rule() {
    let webhook = Webhook::start();
    install(
        &webhook,
        Helm::V4,
        &Chart::compact("4.1.34"),
        &["--set", "image.all.tag=v2.3.22"],
    );
    webhook.roll_out(NAMESPACE);
    webhook.kubectl(&["-n", GUARD, "delete", "releasedecisions", "--all"]);
    for manager in ["lens", "argocd-controller", "terraform", "k9s"] {
        let manager = format!("--field-manager={manager}");
        let image = "proxy=milvusdb/milvus:v2.4.23";
        let (done, text) = webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "set",
            "image",
            "deployment/my-release-milvus-proxy",
            image,
            &manager,
        ]);
        assert!(!done && text.contains("MG201"), "{manager}: {text}");
    }
    assert_stays(&webhook, ":v2.3.22");
}

#[test]
fn what_was_deleted_is_not_forgotten() {
    let webhook = Webhook::start();
    let values = etcd_values(&webhook, "etcd.example.com:2379");
    install(
        &webhook,
        Helm::V4,
        &Chart::compact("4.1.34"),
        &["-f", &values],
    );
    let get = |kind: &str, name: &str| {
        let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"]);
        assert!(done, "{text}");
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object.as_object_mut().unwrap().remove("status");
        for key in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            object["metadata"].as_object_mut().unwrap().remove(key);
        }
        object
    };
    // The ConfigMap, deleted and created again over another root path.
    let mut config = get("configmap", "my-release-milvus");
    let text = config.to_string();
    assert!(text.contains("by-dev"), "{text}");
    config = serde_json::from_str(&text.replace("by-dev", "elsewhere")).unwrap();
    let replace = |object: &Value| {
        let output = webhook.cluster.kubectl_with_input(
            ["-n", NAMESPACE, "replace", "--force", "-f", "-"],
            &object.to_string(),
        );
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (done, text) = replace(&config);
    assert!(!done && text.contains("MG302"), "{text}");
    let (done, text) = apply(&webhook, &[config.clone()], &[]);
    assert!(!done && text.contains("MG302"), "created later: {text}");
    let (done, text) = apply(
        &webhook,
        &[serde_json::from_str(&config.to_string().replace("elsewhere", "by-dev")).unwrap()],
        &[],
    );
    assert!(done, "what was there may come back: {text}");
    // Every Deployment, deleted and created again at another version.
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", "deployment", "--all"]);
    assert!(done, "{text}");
    wait_until("no Deployment is left", Duration::from_secs(30), || {
        webhook.images(NAMESPACE).is_empty()
    });
    let chart = Chart::compact("4.0.31");
    let (_, rendered) = webhook.helm(
        Helm::V4,
        &["template", "my-release", chart.path(), "-f", &values],
    );
    let (done, text) = apply(&webhook, &objects(&rendered, "Deployment"), &[]);
    assert!(!done && text.contains("MG103"), "{text}");
    // The release uninstalled and installed, under its name and under another.
    let (done, text) = webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    assert!(done, "{text}");
    for name in ["my-release", "ghost"] {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                name,
                chart.path(),
                "-n",
                NAMESPACE,
                "-f",
                &values,
            ],
        );
        assert!(!done && text.contains("MG103"), "{name}: {text}");
    }
    // From another namespace upon the same data.
    wait_until("another namespace knows", Duration::from_secs(20), || {
        let (done, text) = webhook.helm(
            Helm::V4,
            &[
                "install",
                "far",
                chart.path(),
                "-n",
                "far",
                "--create-namespace",
                "-f",
                &values,
            ],
        );
        !done && text.contains("MG103")
    });
    let old = Chart::compact("4.1.34");
    let (done, text) = webhook.helm(
        Helm::V4,
        &[
            "install",
            "my-release",
            old.path(),
            "-n",
            NAMESPACE,
            "-f",
            &values,
        ],
    );
    assert!(done, "the same version comes back: {text}");
}

#[test]
fn a_foreign_namespace_cannot_fill_the_memory() {
    let webhook = Webhook::start();
    expect_success(webhook.cluster.kubectl(["create", "namespace", "foreign"]));
    let decoy = |name: &str| {
        let image = format!("milvusdb/milvus:{}", "x".repeat(600_000));
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "foreign"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "a", "image": image, "args": ["milvus", "run", "standalone"]}]}}}})
    };
    for name in ["one", "two", "three"] {
        let output = webhook
            .cluster
            .kubectl_with_input(["create", "-f", "-"], &decoy(name).to_string());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    install(&webhook, Helm::V4, &Chart::compact("3.2.18"), &[]);
    assert!(webhook.metric("milvus_guard_memory_unsaved") < 1.0);
    wait_until("the flood is seen", Duration::from_secs(20), || {
        webhook.metric("milvus_guard_memory_incomplete") > 0.0
    });
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        !claims().trim().is_empty()
    });
    webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    let new = Chart::compact("4.0.31");
    let (done, text) = webhook.helm(
        Helm::V4,
        &["install", "my-release", new.path(), "-n", NAMESPACE],
    );
    assert!(!done && text.contains("MG101"), "{text}");
}

#[test]
fn nobody_hands_the_data_to_the_garbage_collector() {
    let webhook = Webhook::start();
    install(&webhook, Helm::V4, &Chart::compact("4.1.34"), &[]);
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        claims().contains("etcd")
    });
    let claim = claims()
        .lines()
        .find(|name| name.contains("etcd"))
        .unwrap()
        .to_owned();
    let set = "statefulset.apps/my-release-etcd";
    let missing = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let owned = json!({"metadata": {"ownerReferences": missing}});
    let labelled = json!({"metadata": {"ownerReferences": missing, "labels": {"a": "b"}}});
    let patch = |name: &str, patch: &Value| {
        webhook.kubectl(&[
            "-n",
            NAMESPACE,
            "patch",
            name,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ])
    };
    for (name, rule) in [(claim.as_str(), "MG305"), (set, "MG401")] {
        for change in [&owned, &labelled] {
            let (done, text) = patch(name, change);
            assert!(
                !done && text.contains(rule) && text.contains("garbage collector"),
                "{name}: {text}"
            );
        }
        let (done, text) = patch(name, &json!({"metadata": {"labels": {"a": "b"}}}));
        assert!(done, "{name}: {text}");
    }
    for field in ["whenScaled", "whenDeleted"] {
        let policy = json!({"spec": {"persistentVolumeClaimRetentionPolicy": {field: "Delete"}}});
        let (done, text) = patch(set, &policy);
        assert!(!done && text.contains("MG305"), "{field}: {text}");
    }
    // The Services of etcd first, then its StatefulSet.
    let (_, services) = webhook.kubectl(&["-n", NAMESPACE, "get", "services", "-o", "name"]);
    for service in services.lines().filter(|name| name.contains("etcd")) {
        let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", service]);
        assert!(done, "{text}");
    }
    let (done, text) = webhook.kubectl(&["-n", NAMESPACE, "delete", set, "--wait=false"]);
    assert!(!done && text.contains("MG401"), "{text}");
    assert!(claims().contains("etcd"));
    let (done, text) = webhook.helm(Helm::V4, &["uninstall", "my-release", "-n", NAMESPACE]);
    assert!(done, "an uninstallation is not hindered: {text}");
}

/// A chart that renders exactly this text.
fn chart_of(folder: &std::path::Path, text: &str) -> String {
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
fn neither_the_form_of_a_manifest_nor_a_flag_of_helm_opens_the_gate() {
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
                // Helm 3 has no such flag.
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
    assert_eq!(revisions(), before, "a denial leaves no revision");
    assert_stays(&webhook, ":v2.1.4");
    // The same objects as they run, as a list.
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

#[test]
fn one_object_of_a_release_is_not_taken_over_with_other_data() {
    let webhook = Webhook::start();
    let chart = Chart::compact("4.1.34");
    install(&webhook, Helm::V4, &chart, &[]);
    let claims = || {
        webhook
            .kubectl(&["-n", NAMESPACE, "get", "pvc", "-o", "name"])
            .1
    };
    wait_until("etcd has its volume", Duration::from_secs(30), || {
        claims().contains("etcd")
    });
    let rendered = chart.render(Helm::V4, &[]);
    let config = objects(&rendered, "ConfigMap")
        .into_iter()
        .find(|object| object["metadata"]["name"] == "my-release-milvus")
        .unwrap();
    let set = objects(&rendered, "StatefulSet")
        .into_iter()
        .find(|object| object["metadata"]["name"] == "my-release-etcd")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut other_root = config.clone();
    other_root["data"]["user.yaml"] = json!("etcd: {rootPath: elsewhere}\n");
    let mut none = set.clone();
    none["spec"]["replicas"] = json!(0);
    let mut deleting = set.clone();
    deleting["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete"});
    for (object, rule) in [
        (&other_root, "MG302"),
        (&none, "MG407"),
        (&deleting, "MG305"),
    ] {
        let taken = chart_of(folder.path(), &object.to_string());
        for with in [Helm::V3, Helm::V4] {
            let (done, text) = webhook.helm(
                with,
                &[
                    "install",
                    "ghost",
                    &taken,
                    "-n",
                    NAMESPACE,
                    "--take-ownership",
                ],
            );
            assert!(!done && text.contains(rule), "{rule} with {with:?}: {text}");
            expect_success(webhook.cluster.kubectl([
                "-n",
                NAMESPACE,
                "delete",
                "secrets",
                "-l",
                "owner=helm,name=ghost",
            ]));
        }
        let (done, text) = apply(
            &webhook,
            std::slice::from_ref(object),
            &["--server-side", "--force-conflicts", "--field-manager=helm"],
        );
        assert!(!done && text.contains(rule), "{rule}: {text}");
    }
    // All claims at once, by one request.
    for query in [
        "",
        "?labelSelector=app.kubernetes.io%2Finstance%3Dmy-release",
        "?propagationPolicy=Orphan&gracePeriodSeconds=0",
    ] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims{query}");
        let (done, text) = webhook.kubectl(&["delete", "--raw", &path]);
        assert!(!done && text.contains("MG305"), "{query}: {text}");
    }
    // And all that holds data.
    let path =
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets?propagationPolicy=Foreground");
    let (done, text) = webhook.kubectl(&["delete", "--raw", &path]);
    assert!(!done && text.contains("MG401"), "{text}");
    assert!(claims().contains("etcd"));
    let (done, text) = apply(
        &webhook,
        &[config, set],
        &["--server-side", "--force-conflicts", "--field-manager=helm"],
    );
    assert!(done, "as they are: {text}");
}
