//! Conventions that users of charts expect of both charts: common values, files for chart-testing,
//! generated tables, and `helm test`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use milvus_guard_core::{api, project};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, helm, wait_for};
use serde_json::{Value, json};

use crate::{
    chart_guard::{IMAGE, documents, foreign_kinds, namespace, of_kind, one, text},
    common::{
        guard, install_definitions, run,
        webhook::{GUARD, Webhook},
    },
    docs::same,
};

const CHARTS: [&str; 2] = ["milvus-guard", "milvus-upgrade"];
const HELMS: [Helm; 2] = [Helm::V3, Helm::V4];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart(name: &str) -> PathBuf {
    root().join("charts").join(name)
}

/// The values files for chart-testing.
fn ci_values(chart: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(chart.join("ci"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 2, "{files:?}");
    // chart-testing only uses files with this ending.
    for file in &files {
        let name = file.to_str().unwrap();
        assert!(name.ends_with("-values.yaml"), "{name}");
    }
    files
}

fn template(with: Helm, chart: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(helm(with));
    command.args(["template", "milvus-guard", "-n", GUARD]);
    command.arg(chart).args(args).output().unwrap()
}

fn rendered(chart: &Path, values: &str) -> Vec<Value> {
    let file = chart.join(format!("ci/{values}-values.yaml"));
    let output = template(Helm::V3, chart, &["-f", file.to_str().unwrap()]);
    documents(&expect_success(output))
}

#[test]
fn values_for_chart_testing_pass_lint_and_both_helms_render_the_same() {
    for chart in CHARTS.map(chart) {
        for with in HELMS {
            let lint = |args: &[&str]| {
                let mut command = Command::new(helm(with));
                command.args(["lint", "--strict"]).arg(&chart).args(args);
                expect_success(command.output().unwrap());
            };
            lint(&[]);
            for file in ci_values(&chart) {
                lint(&["-f", file.to_str().unwrap()]);
            }
        }
        for file in ci_values(&chart) {
            let args = ["-f", file.to_str().unwrap()];
            let [third, fourth] =
                HELMS.map(|with| documents(&expect_success(template(with, &chart, &args))));
            assert_eq!(third.len(), fourth.len(), "{file:?}");
            for document in &third {
                assert!(fourth.contains(document), "{file:?}: {document:#}");
            }
        }
    }
}

/// An installation without a valid image would block Milvus.
#[test]
fn an_image_is_required_and_the_message_says_what_to_set() {
    for chart in CHARTS.map(chart) {
        for with in HELMS {
            let values = "instance=a,namespace=b,targetVersion=2.5.27";
            let is_upgrade = chart.ends_with("milvus-upgrade");
            let args = if is_upgrade {
                &["--set", values][..]
            } else {
                &[]
            };
            let output = template(with, &chart, args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success());
            assert!(
                stderr.contains("set image.repository=REGISTRY/milvus-guard"),
                "{stderr}"
            );
        }
    }
}

/// The image of every container of a rendering.
fn images(documents: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for document in documents {
        for pod in [
            document.pointer("/spec/template/spec"),
            document.get("spec"),
        ] {
            let containers = pod.and_then(|pod| pod.get("containers")?.as_array());
            let of = |container: &Value| text(container, "/image").to_owned();
            found.extend(containers.into_iter().flatten().map(of));
        }
    }
    found
}

#[test]
fn an_umbrella_chart_enables_both_charts_and_sets_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let umbrella = folder.path();
    let dependencies: String = CHARTS
        .iter()
        .map(|name| format!("  - {{name: {name}, version: 0.x.x, condition: {name}.enabled}}\n"))
        .collect();
    fs::write(
        umbrella.join("Chart.yaml"),
        format!("apiVersion: v2\nname: platform\nversion: 1.0.0\ndependencies:\n{dependencies}"),
    )
    .unwrap();
    fs::create_dir(umbrella.join("charts")).unwrap();
    for name in CHARTS {
        let link = umbrella.join("charts").join(name);
        std::os::unix::fs::symlink(chart(name), link).unwrap();
    }
    let values = json!({
        "global": {"imageRegistry": "mirror.example", "imagePullSecrets": ["shared"], "storageClass": "fast"},
        "milvus-guard": {"enabled": true, "image": {"registry": "other.example", "repository": "a/guard"}},
        "milvus-upgrade": {"enabled": true, "image": {"repository": "a/guard"}, "instance": "a", "namespace": "b",
            "targetVersion": "2.5.27"},
    });
    fs::write(umbrella.join("values.yaml"), values.to_string()).unwrap();
    for with in HELMS {
        let all = documents(&expect_success(template(with, umbrella, &[])));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            images(&all),
            BTreeSet::from([format!("mirror.example/a/guard:{version}")])
        );
        for pod in [one(&all, "Deployment"), one(&all, "Job")] {
            let secrets = pod.pointer("/spec/template/spec/imagePullSecrets");
            assert_eq!(secrets, Some(&json!([{"name": "shared"}])));
        }
        let off = "milvus-guard.enabled=false,milvus-upgrade.enabled=false";
        let none = documents(&expect_success(template(with, umbrella, &["--set", off])));
        assert_eq!(none, [Value::Null; 0], "{with:?}");
    }
}

#[test]
fn labels_namespace_and_registry_reach_every_object() {
    let documents = rendered(&chart("milvus-guard"), "umbrella");
    let ours: Vec<&Value> = documents
        .iter()
        .filter(|object| object["kind"] != "CustomResourceDefinition")
        .collect();
    for object in &ours {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["team"], "search", "{object:#}");
        assert_eq!(labels["app.kubernetes.io/part-of"], "milvus-guard");
        let namespace = text(object, "/metadata/namespace");
        assert!(["", "platform"].contains(&namespace), "{object:#}");
    }
    let registration = ours
        .iter()
        .find(|object| text(object, "/metadata/name").ends_with("-webhooks"))
        .unwrap();
    let registration = text(registration, "/data/webhooks.yaml");
    assert!(registration.contains("team: search") && registration.contains("namespace: platform"));
    assert!(!registration.contains("namespace: milvus-guard"));

    let deployment = one(&documents, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        labels["team"], "platform",
        "podLabels must override commonLabels"
    );
    let pod = one(&documents, "Pod");
    for service in of_kind(&documents, "Service") {
        let selector = service["spec"]["selector"].as_object().unwrap();
        let selects = |labels: &Value| selector.iter().all(|(key, value)| labels[key] == *value);
        assert!(selects(labels));
        assert!(
            !selects(&pod["metadata"]["labels"]),
            "no Service may select the test pod"
        );
    }
    assert_eq!(
        deployment.pointer("/spec/template/spec/imagePullSecrets"),
        Some(&json!([{"name": "shared"}, {"name": "shared-too"}, {"name": "own"}]))
    );
    assert_eq!(images(&documents).len(), 1);
}

#[test]
fn private_clusters_get_other_ports_and_the_host_network() {
    let documents = rendered(&chart("milvus-guard"), "private-cluster");
    let spec = &one(&documents, "Deployment")["spec"];
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet");
    // If there are as many nodes as replicas, an additional pod would find no node with free ports.
    assert_eq!(
        spec["strategy"]["rollingUpdate"],
        json!({"maxUnavailable": 1, "maxSurge": 0})
    );
    let container = &pod["containers"][0];
    let ports = container["ports"].as_array().unwrap();
    let numbers: Vec<&Value> = ports.iter().map(|port| &port["containerPort"]).collect();
    assert_eq!(numbers, [&json!(10260), &json!(10261)]);
    let args = container["args"].to_string();
    assert!(
        args.contains("--listen=0.0.0.0:10260") && args.contains("metrics-listen=0.0.0.0:10261")
    );
    for service in of_kind(&documents, "Service") {
        let port = &service["spec"]["ports"][0];
        let expected = if port["name"] == "https" { 443 } else { 10261 };
        assert_eq!(port["port"], expected);
    }
    let plain = rendered(&chart("milvus-guard"), "default");
    let pod = &one(&plain, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["hostNetwork"], &pod["dnsPolicy"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn extra_values_of_operators_are_rendered() {
    let documents = rendered(&chart("milvus-guard"), "extras");
    let deployment = one(&documents, "Deployment");
    assert_eq!(
        deployment["metadata"]["annotations"]["reloader.stakater.com/auto"],
        "true"
    );
    assert_eq!(deployment["spec"]["revisionHistoryLimit"], 1);
    let pod = &deployment["spec"]["template"]["spec"];
    let has_authority = |list: &Value| {
        let list = list.as_array().unwrap();
        list.iter().any(|one| one["name"] == "authority")
    };
    assert!(has_authority(&pod["volumes"]));
    assert!(has_authority(&pod["containers"][0]["volumeMounts"]));
    let names: Vec<&str> = of_kind(&documents, "ConfigMap")
        .iter()
        .map(|map| text(map, "/metadata/name"))
        .collect();
    assert!(names.contains(&"milvus-guard-extra") && names.contains(&"milvus-guard-text"));

    let service = &one(&documents, "ServiceMonitor")["spec"]["endpoints"][0];
    assert_eq!(service["scrapeTimeout"], "10s");
    assert_eq!(service["relabelings"][1]["targetLabel"], "cluster");
    assert_eq!(service["metricRelabelings"][0]["regex"], "pod");
    let pods = &one(&documents, "PodMonitor")["spec"]["podMetricsEndpoints"][0];
    assert_eq!(pods.get("scrapeTimeout"), None);
    for endpoint in [service, pods] {
        // The `job` label that the alerts and the dashboard use.
        assert_eq!(
            endpoint["relabelings"][0],
            json!({"targetLabel": "job", "replacement": "milvus-guard-metrics"})
        );
        assert_eq!(endpoint["port"], "metrics");
    }
    let alerts = &one(&documents, "PrometheusRule")["spec"]["groups"][0]["rules"];
    for alert in alerts.as_array().unwrap() {
        let url = text(alert, "/annotations/runbook_url");
        assert!(
            url.starts_with("https://runbooks.example/milvus-guard#"),
            "{url}"
        );
    }
}

#[test]
fn each_alert_links_to_its_section() {
    let pages = fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let sections: BTreeSet<String> = pages
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    let set = [
        "--set",
        IMAGE,
        "--set",
        "metrics.prometheusRule.enabled=true",
    ];
    let output = template(Helm::V4, &chart("milvus-guard"), &set);
    let documents = documents(&expect_success(output));
    let rules = &one(&documents, "PrometheusRule")["spec"]["groups"][0]["rules"];
    let mut alerts = BTreeSet::new();
    for alert in rules.as_array().unwrap() {
        let name = text(alert, "/alert");
        assert_eq!(
            text(alert, "/annotations/runbook_url"),
            format!(
                "{}/alerts.md#{}",
                project::DOCUMENTATION,
                name.to_lowercase()
            )
        );
        alerts.insert(name.to_owned());
    }
    assert_eq!(sections, alerts);
}

#[test]
fn the_urls_equal_those_of_cargo_toml() {
    for name in CHARTS {
        let text = fs::read_to_string(chart(name).join("Chart.yaml")).unwrap();
        let chart: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(chart["home"], env!("CARGO_PKG_HOMEPAGE"));
        assert_eq!(chart["sources"], json!([project::REPOSITORY]));
        for version in ["version", "appVersion"] {
            assert_eq!(
                chart[version],
                env!("CARGO_PKG_VERSION"),
                "{name} {version}"
            );
        }
    }
}

#[test]
fn the_annotations_for_artifact_hub_list_the_definitions_and_valid_examples() {
    let text = fs::read_to_string(chart("milvus-guard").join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();
    let annotation = |name: &str| chart["annotations"][name].as_str().unwrap().to_owned();
    let listed: Vec<Value> = serde_saphyr::from_str(&annotation("artifacthub.io/crds")).unwrap();
    let expected = api::KINDS.map(|kind| {
        let name = format!("{}.{}", kind.plural, api::GROUP);
        (json!(kind.kind), json!(api::VERSION), json!(name))
    });
    let found: Vec<_> = listed
        .iter()
        .map(|one| {
            (
                one["kind"].clone(),
                one["version"].clone(),
                one["name"].clone(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    let examples: Vec<Value> =
        serde_saphyr::from_str(&annotation("artifacthub.io/crdsExamples")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for example in examples {
        let file = folder.path().join("example.json");
        fs::write(&file, example.to_string()).unwrap();
        let (code, out, errors) = run(guard().args(["policy", "lint"]).arg(&file));
        assert_eq!(code, 0, "{out}{errors}");
    }
}

#[test]
fn a_real_api_server_accepts_each_values_file() {
    let cluster = ControlPlane::start();
    for name in [GUARD, "platform", "milvus"] {
        namespace(&cluster, name);
    }
    foreign_kinds(&cluster);
    install_definitions(&cluster);
    for chart in CHARTS.map(chart) {
        for file in ci_values(&chart) {
            let args = ["-f", file.to_str().unwrap()];
            let objects = expect_success(template(Helm::V4, &chart, &args));
            let apply = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "--dry-run=server",
                "-f",
                "-",
            ];
            let output = cluster.kubectl_with_input(apply, &objects);
            assert!(
                output.status.success(),
                "{file:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// Runs the command of the pod of `helm test`, by its account.
#[test]
fn ping_reports_whether_api_servers_reach_the_guard() {
    let ping = |cluster: &ControlPlane, account: &str| {
        run(guard()
            .args(["ping", "--timeout=6s", "--namespace", GUARD, "--kubeconfig"])
            .arg(cluster.kubeconfig_for_service_account(GUARD, account)))
    };
    let objects = rendered(&chart("milvus-guard"), "default");
    let rights: Vec<&Value> = objects
        .iter()
        .filter(|object| {
            text(object, "/metadata/name") == "milvus-guard-test" && object["kind"] != "Pod"
        })
        .collect();
    assert_eq!(rights.len(), 3);
    let cluster = ControlPlane::start();
    let without = |namespace: &str| {
        run(guard()
            .args(["ping", "--timeout=6s", "--namespace", namespace])
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig()))
    };
    let (code, _, stderr) = without("default");
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("milvus-guard is not installed"), "{stderr}");
    // Before the guard is registered.
    install_definitions(&cluster);
    let (code, _, stderr) = without("typo");
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("in namespace typo does not exist"),
        "{stderr}"
    );
    namespace(&cluster, GUARD);
    for object in &rights {
        cluster.apply(&object.to_string());
    }
    expect_success(cluster.kubectl(["create", "serviceaccount", "other", "-n", GUARD]));
    let (code, _, stderr) = ping(&cluster, "milvus-guard-test");
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("is not registered"), "{stderr}");
    let (code, _, stderr) = ping(&cluster, "other");
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("not allowed to create upgraderuns"),
        "{stderr}"
    );

    let webhook = Webhook::start();
    for object in &rights {
        webhook.cluster.apply(&object.to_string());
    }
    let (code, stdout, stderr) = ping(&webhook.cluster, "milvus-guard-test");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout, "milvus-guard answers the API server.\n");

    // A closed port gives the same error as a firewall.
    let Webhook {
        cluster, server, ..
    } = webhook;
    drop(server);
    wait_for("a call in vain", Duration::from_secs(60), || {
        let (code, _, stderr) = ping(&cluster, "milvus-guard-test");
        code == 1
            && stderr.contains("does not reach milvus-guard")
            && stderr.contains("#private-clusters")
    });
}

#[test]
fn helm_test_runs_ping_in_the_guards_image() {
    let objects = rendered(&chart("milvus-guard"), "default");
    let pod = one(&objects, "Pod");
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let container = &pod["spec"]["containers"][0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        container["image"],
        format!("registry.example/milvus-guard:{version}")
    );
    let args = container["args"].as_array().unwrap();
    let (code, _, stderr) = run(guard()
        .args(args.iter().map(|arg| arg.as_str().unwrap()))
        .args(["--kubeconfig", "/nonexistent"]));
    // The arguments are valid; there is no cluster.
    assert_eq!(code, 3, "{stderr}");
    // Its rights exist only during the test.
    for object in &objects {
        if text(object, "/metadata/name") == "milvus-guard-test" {
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations["helm.sh/hook"], "test");
            let policy = text(annotations, "/helm.sh~1hook-delete-policy");
            assert!(policy.contains("hook-succeeded"), "{object:#}");
        }
    }
}

#[test]
fn the_tables_of_values_are_up_to_date() {
    for name in CHARTS {
        let folder = chart(name);
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let (before, section) = readme.split_once("## Values\n").unwrap();
        let after = section
            .split_once("\n## ")
            .map_or(String::new(), |(_, after)| format!("\n## {after}"));
        let table = table(&folder);
        same(
            &format!("charts/{name}/README.md"),
            &format!(
                "{before}## Values\n\nMade from `values.yaml` by `make generate`.\n\n{table}{after}"
            ),
        );
    }
}

/// One row for each value and for each group with a description, which is the comment above it.
fn table(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let schema = fs::read_to_string(folder.join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    let (mut path, mut comment): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    // Lines below a value that is a map are not separate values.
    let mut open: Option<usize> = None;
    let mut rows = 0;
    for line in text.lines() {
        let indent = (line.len() - line.trim_start().len()) / 2;
        let line = line.trim();
        if line.is_empty() {
            comment.clear();
            continue;
        }
        if open.is_some_and(|open| indent > open) {
            continue;
        }
        open = None;
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        let (key, _) = line.split_once(':').unwrap();
        path.truncate(indent);
        path.push(key);
        let value = values.pointer(&format!("/{}", path.join("/"))).unwrap();
        let known = schema_of(&schema, &path);
        let is_group = value.as_object().is_some_and(|map| !map.is_empty())
            && known.get("properties").is_some()
            && key != "resources";
        let meaning = comment.join(" ").replace('|', "\\|");
        comment.clear();
        let name = path.join(".");
        if is_group {
            if !meaning.is_empty() {
                writeln!(table, "| `{name}` | | {meaning} |").unwrap();
            }
            continue;
        }
        rows += 1;
        open = Some(indent);
        let default = match value {
            Value::String(text) if !text.is_empty() => text.clone(),
            other => other.to_string(),
        };
        writeln!(table, "| `{name}` | `{default}` | {meaning} |").unwrap();
    }
    assert!(rows > 30, "{}: {rows} values", folder.display());
    table
}

/// The schema of a value; fails if the schema does not have the value.
fn schema_of<'a>(schema: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(schema, |known, key| {
        let known = resolved(schema, known);
        let found = known.pointer(&format!("/properties/{key}"));
        resolved(
            schema,
            found.unwrap_or_else(|| panic!("the schema has no {}", path.join("."))),
        )
    })
}

fn resolved<'a>(schema: &'a Value, known: &'a Value) -> &'a Value {
    known["$ref"].as_str().map_or(known, |link| {
        schema.pointer(link.trim_start_matches('#')).unwrap()
    })
}
