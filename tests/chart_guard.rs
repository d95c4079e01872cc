//! The chart `charts/milvus-guard`: what both Helms make of it, and what real API servers do with that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use common::{Chart, charts, guard, install_definitions, run, webhook::Server};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, helm, wait_for};
use serde_json::{Value, json};

const HELMS: [Helm; 2] = [Helm::V3, Helm::V4];
const NAMESPACE: &str = "milvus-guard";
const ACCOUNT: &str = "system:serviceaccount:milvus-guard:milvus-guard";

/// Values that switch on all that is optional.
const EVERYTHING: [&str; 18] = [
    "certificates.mode=certManager",
    "data.configMap=milvus-guard-rows",
    "clientAuthentication.enabled=true",
    "clientAuthentication.configMapName=api-server-ca",
    "hold.enabled=true",
    "hold.namespaces={milvus-a,milvus-b}",
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
    "networkPolicy.metricsNamespaces={monitoring}",
    "workloadGate.allClaimDeletions=true",
    "workloadGate.namespaceSelector.matchLabels.team=search",
    "releaseGate.namespaceSelector.matchExpressions[0].key=team",
    "releaseGate.namespaceSelector.matchExpressions[0].operator=Exists",
    "excludedNamespaces={sandbox}",
    "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "image.pullSecrets[0].name=registry",
    "extraArgs={--drain-timeout=25s}",
];

/// Values for a certificate of one's own.
const FILES: [&str; 3] = [
    "certificates.mode=files",
    "certificates.secretName=my-tls",
    "certificates.caBundle=-----BEGIN CERTIFICATE-----\nbXk=\n-----END CERTIFICATE-----\n",
];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/milvus-guard")
}

fn template(with: Helm, values: &[&str]) -> Output {
    let mut command = Command::new(helm(with));
    command.arg("template").arg("milvus-guard").arg(path()).args(["-n", NAMESPACE]);
    for value in values {
        command.args(["--set", value]);
    }
    command.output().expect("helm runs")
}

fn render(with: Helm, values: &[&str]) -> String {
    expect_success(template(with, values))
}

fn documents(rendered: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(rendered).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn rendered(values: &[&str]) -> Vec<Value> {
    documents(&render(Helm::V3, values))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

fn one<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(documents, kind);
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

fn webhooks(documents: &[Value]) -> Vec<&Value> {
    ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"]
        .iter()
        .flat_map(|kind| of_kind(documents, kind))
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap())
        .collect()
}

/// The rendering as one likes to read it: no definitions of kinds and no dashboard, which have files of their own.
fn readable(rendered: &str) -> Vec<String> {
    rendered
        .split("\n---\n")
        .map(|document| document.trim_start_matches("---\n").trim().to_owned())
        .filter(|document| document.contains("kind:") && !document.contains("kind: CustomResourceDefinition"))
        .map(|document| match document.split_once("milvus-guard.json: |-") {
            Some((head, _)) => format!("{head}milvus-guard.json: (files/dashboard.json)"),
            None => document,
        })
        .collect()
}

#[test]
fn the_chart_is_clean_and_both_helms_agree() {
    for values in [&[][..], &FILES, &EVERYTHING] {
        for with in HELMS {
            let mut command = Command::new(helm(with));
            command.args(["lint", "--strict"]).arg(path());
            for value in values {
                command.args(["--set", value]);
            }
            expect_success(command.output().unwrap());
        }
        let [third, fourth] = HELMS.map(|with| documents(&render(with, values)));
        for document in &third {
            assert!(fourth.contains(document), "Helm 4 renders otherwise: {document:#}");
        }
        assert_eq!(third.len(), fourth.len());
    }
}

#[test]
fn renderings() {
    let default = readable(&render(Helm::V3, &[]));
    insta::assert_snapshot!("default", default.join("\n---\n"));
    let cases: [(&str, &[&str]); 4] = [
        ("cert_manager", &["certificates.mode=certManager"]),
        ("files", &FILES),
        ("hold", &["hold.enabled=true"]),
        ("everything", &EVERYTHING),
    ];
    for (name, values) in cases {
        insta::assert_snapshot!(name, difference(&default, &readable(&render(Helm::V3, values))));
    }
}

/// Documents that are new, whole; of the others, the lines that went and came.
fn difference(default: &[String], other: &[String]) -> String {
    let title = |document: &str| {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        format!("# {} {}/{}", text(&value, "/kind"), text(&value, "/metadata/namespace"), text(&value, "/metadata/name"))
    };
    let less = |from: &str, what: &str| {
        let mut gone: Vec<&str> = what.lines().collect();
        from.lines()
            .filter(|line| match gone.iter().position(|known| known == line) {
                Some(at) => {
                    gone.remove(at);
                    false
                }
                None => true,
            })
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let known: Vec<(String, &String)> = default.iter().map(|document| (title(document), document)).collect();
    let mut parts = Vec::new();
    for document in other {
        let title = title(document);
        let Some((_, before)) = known.iter().find(|(known, _)| *known == title) else {
            parts.push(format!("{title} (new)\n{document}"));
            continue;
        };
        let lines: Vec<String> = less(before, document)
            .into_iter()
            .map(|line| format!("-{line}"))
            .chain(less(document, before).into_iter().map(|line| format!("+{line}")))
            .collect();
        if !lines.is_empty() {
            parts.push(format!("{title}\n{}", lines.join("\n")));
        }
    }
    parts.join("\n\n")
}

#[test]
fn names_follow_the_release() {
    let documents = rendered(&["fullnameOverride=g", "serviceAccount.name=sa", "jobServiceAccount.name=job"]);
    for document in documents.iter().filter(|document| document["kind"] != "CustomResourceDefinition") {
        let name = text(document, "/metadata/name");
        assert!(name.starts_with('g') || name == "sa" || name == "job", "{name}");
        let namespaced = !["ClusterRole", "ClusterRoleBinding"].contains(&text(document, "/kind"))
            && !text(document, "/apiVersion").starts_with("admissionregistration");
        // Rendered for kubectl or Argo CD, all is where it belongs.
        assert_eq!(text(document, "/metadata/namespace"), if namespaced { NAMESPACE } else { "" }, "{name}");
    }
    let deployment = one(&documents, "Deployment").to_string();
    for wanted in [
        "--service-account=sa\"",
        "--job-service-account=job\"",
        "--tls-secret=g-tls\"",
        "--service-name=g\"",
        "--webhook-configuration=g\"",
    ] {
        assert!(deployment.contains(wanted), "{wanted}");
    }
    assert!(one(&documents, "ValidatingAdmissionPolicy").to_string().contains("'system:serviceaccount:milvus-guard:sa'"));
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let cases = [
        ("certificates.mode=magic", "mode"),
        ("replicas=0", "replicas"),
        ("replicas=three", "replicas"),
        ("replicaCount=2", "replicaCount"),
        ("workloadGate.failurePolicy=Maybe", "failurePolicy"),
        ("workloadGate.timeoutSeconds=31", "timeoutSeconds"),
        ("workloadGate.dependencies={}", "dependencies"),
        ("releaseGate.enable=true", "enable"),
        ("image.digest=latest", "digest"),
        ("auditInterval=ten", "auditInterval"),
        ("hold.namespaces={Milvus}", "namespaces"),
        ("certificates.mode=files", "secretName"),
        ("clientAuthentication.enabled=true", "configMapName"),
    ];
    for with in HELMS {
        for (value, named) in cases {
            let output = template(with, &[value]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{value} is taken");
            assert!(stderr.contains("schema") && stderr.contains(named), "{value}: {stderr}");
        }
    }
}

#[test]
fn values_are_documented() {
    let values = fs::read_to_string(path().join("values.yaml")).unwrap();
    let readme = fs::read_to_string(path().join("README.md")).unwrap();
    let schema: Value = serde_json::from_str(&fs::read_to_string(path().join("values.schema.json")).unwrap()).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let mut paths = Vec::new();
    leaves(&values, &schema, "", &mut paths);
    for path in &paths {
        assert!(readme.contains(&format!("| `{path}` |")), "README.md has no row for {path}");
    }
    let (_, table) = readme.split_once("## Values").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1));
    for row in rows.filter(|row| !row.contains(' ')) {
        assert!(paths.iter().any(|path| path == row), "README.md has a row for {row}, which is no value");
    }
}

/// Values that the schema names, down to what it leaves open.
fn leaves(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let known = schema["properties"].as_object();
    match (value.as_object(), known) {
        (Some(values), Some(known)) if !values.is_empty() => {
            for (key, value) in values {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let schema = known.get(key).unwrap_or_else(|| panic!("the schema has no {path}"));
                if path == "resources" {
                    found.push(path);
                } else {
                    leaves(value, schema, &path, found);
                }
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn no_right_to_read_secrets() {
    for values in [&[][..], &FILES, &EVERYTHING, &["hold.enabled=true"]] {
        let documents = rendered(values);
        let managed = values.is_empty() || values == ["hold.enabled=true"];
        let mut secrets = Vec::new();
        for role in of_kind(&documents, "ClusterRole").into_iter().chain(of_kind(&documents, "Role")) {
            for rule in role["rules"].as_array().unwrap() {
                let has = |field: &str, wanted: &str| {
                    rule[field].as_array().unwrap().iter().any(|found| found.as_str().unwrap().starts_with(wanted))
                };
                assert!(!has("apiGroups", "*") && !has("resources", "*") && !has("verbs", "*"), "{rule}");
                for verb in ["impersonate", "bind", "escalate"] {
                    assert!(!has("verbs", verb), "{rule}");
                }
                assert!(!has("apiGroups", "rbac") && !has("resources", "pods") && !has("resources", "serviceaccounts"), "{rule}");
                if has("resources", "secrets") {
                    assert_eq!(role["kind"], "Role", "{rule}");
                    secrets.push((rule["verbs"].clone(), rule["resourceNames"].clone()));
                }
            }
        }
        let own = [(json!(["get", "update", "patch"]), json!(["milvus-guard-tls"])), (json!(["create"]), Value::Null)];
        assert_eq!(secrets, if managed { own.to_vec() } else { Vec::new() }, "{values:?}");
        assert!(of_kind(&documents, "ClusterRoleBinding").iter().chain(&of_kind(&documents, "RoleBinding")).all(|binding| {
            binding["subjects"].as_array().unwrap().iter().all(|subject| text(subject, "/name") == "milvus-guard")
        }));
        // Hold's right never comes without what confines it.
        let holds = documents.iter().any(|document| document.to_string().contains(r#""verbs":["patch"]"#));
        assert_eq!(holds, values.contains(&"hold.enabled=true"));
        assert_eq!(of_kind(&documents, "ValidatingAdmissionPolicy").len(), 1);
        assert_eq!(one(&documents, "ValidatingAdmissionPolicyBinding")["spec"]["validationActions"], json!(["Deny"]));
    }
    let old = Command::new(helm(Helm::V3))
        .args(["template", "x", path().to_str().unwrap(), "--kube-version", "1.29.0"])
        .output()
        .unwrap();
    assert_eq!(of_kind(&documents(&expect_success(old)), "ValidatingAdmissionPolicy").len(), 0);
    let old = Command::new(helm(Helm::V3))
        .args(["template", "x", path().to_str().unwrap(), "--kube-version", "1.29.0", "--set", "hold.enabled=true"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&old.stderr).contains("1.30"), "{old:?}");
}

#[test]
fn webhooks_are_as_promised() {
    for values in [&[][..], &FILES, &EVERYTHING] {
        let documents = rendered(values);
        let mut seen = Vec::new();
        for webhook in webhooks(&documents) {
            let name = text(webhook, "/name");
            let path = if name.starts_with("label") { "/mutate" } else { "/validate" };
            assert_eq!(text(webhook, "/clientConfig/service/path"), path, "{name}");
            assert_eq!(webhook["sideEffects"], "NoneOnDryRun", "{name}");
            assert_eq!(webhook["matchPolicy"], "Equivalent", "{name}");
            assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]), "{name}");
            assert_eq!(webhook["timeoutSeconds"], 5, "{name}");
            let excluded = webhook.pointer("/namespaceSelector/matchExpressions/0");
            if name.starts_with("documents") {
                assert_eq!(excluded, None, "runs live in the guard's namespace");
            } else {
                let excluded = excluded.unwrap();
                assert_eq!(excluded["key"], "kubernetes.io/metadata.name", "{name}");
                assert_eq!(excluded["operator"], "NotIn", "{name}");
                let excluded = excluded["values"].as_array().unwrap();
                assert!(excluded.contains(&json!(NAMESPACE)) && excluded.contains(&json!("kube-system")), "{name}");
                assert_eq!(excluded.contains(&json!("sandbox")), values.len() == EVERYTHING.len(), "{name}");
            }
            for condition in webhook["matchConditions"].as_array().into_iter().flatten() {
                assert!(!text(condition, "/expression").contains("null."), "{name}");
            }
            // A webhook that fails closed on everything is a cluster that stands still.
            for rule in webhook["rules"].as_array().unwrap() {
                assert!(!rule.to_string().contains(r#"["*"]"#), "{name}: {rule}");
            }
            seen.push((name.to_owned(), text(webhook, "/failurePolicy").to_owned()));
        }
        let promised = [
            ("release.guard.milvus.io", "Ignore"),
            ("workload.guard.milvus.io", "Fail"),
            ("documents.guard.milvus.io", "Fail"),
            ("label.guard.milvus.io", "Ignore"),
        ];
        assert_eq!(seen, promised.map(|(name, policy)| (name.to_owned(), policy.to_owned())));
    }
    let documents = rendered(&EVERYTHING);
    let all = webhooks(&documents);
    // What a user asks for comes on top of the exclusions, whichever form it has.
    assert_eq!(all[0].pointer("/namespaceSelector/matchExpressions/1/key").unwrap(), "team");
    assert_eq!(all[1].pointer("/namespaceSelector/matchLabels/team").unwrap(), "search");
    for configuration in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        assert_eq!(
            one(&documents, configuration)["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
            "milvus-guard/milvus-guard"
        );
    }
    for webhook in webhooks(&rendered(&FILES)) {
        assert!(text(webhook, "/clientConfig/caBundle").starts_with("LS0tLS1CRUdJTi"));
    }
    // Managed: whatever is there belongs to the guard; an empty field of ours would be a field of ours.
    assert!(webhooks(&rendered(&[])).iter().all(|webhook| webhook["clientConfig"].get("caBundle").is_none()));
}

#[test]
fn the_deployment_is_as_promised() {
    let documents = rendered(&[]);
    let deployment = one(&documents, "Deployment");
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(spec["strategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["automountServiceAccountToken"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "milvus-guard:0.1.0");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["resources"], json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}));
    assert_ne!(container["livenessProbe"]["httpGet"]["path"], container["readinessProbe"]["httpGet"]["path"]);
    let keys: Vec<&str> =
        pod["topologySpreadConstraints"].as_array().unwrap().iter().map(|one| text(one, "/topologyKey")).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    // The pods that the Services, the budget and the policy mean are those of the Deployment.
    let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
    let selectors = of_kind(&documents, "Service")
        .iter()
        .map(|service| &service["spec"]["selector"])
        .chain([
            &one(&documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            &one(&documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        ])
        .cloned()
        .collect::<Vec<Value>>();
    assert_eq!(selectors.len(), 4);
    for selector in selectors {
        for (key, value) in selector.as_object().unwrap() {
            assert_eq!(labels.get(key), Some(value));
        }
    }
    assert_eq!(one(&documents, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let with_rows = rendered(&["data.configMap=rows"]);
    let pod = &one(&with_rows, "Deployment")["spec"]["template"]["spec"];
    assert!(pod["containers"][0]["args"].as_array().unwrap().contains(&json!("--data=/etc/milvus-guard/data")));
    assert_eq!(pod["volumes"], json!([{"name": "data", "configMap": {"name": "rows", "optional": true}}]));
    assert_eq!(
        pod["containers"][0]["volumeMounts"],
        json!([{"name": "data", "mountPath": "/etc/milvus-guard/data", "readOnly": true}])
    );
    assert!(of_kind(&rendered(&["replicas=1"]), "PodDisruptionBudget").is_empty(), "one pod would never be drained");
    assert!(of_kind(&rendered(&["priorityClassName="]), "ResourceQuota").is_empty());
}

#[test]
fn definitions_of_kinds_are_kept_unless_asked() {
    let kept = |values: &[&str]| {
        let documents = rendered(values);
        of_kind(&documents, "CustomResourceDefinition")
            .iter()
            .map(|kind| {
                (text(kind, "/metadata/name").to_owned(), kind["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            })
            .collect::<Vec<_>>()
    };
    let names = ["upgradepolicies", "upgradeexceptions", "upgraderuns", "releasedecisions"];
    assert_eq!(kept(&[]), names.map(|name| (format!("{name}.guard.milvus.io"), true)));
    assert_eq!(kept(&["crds.keep=false"]), names.map(|name| (format!("{name}.guard.milvus.io"), false)));
    assert_eq!(kept(&["crds.install=false"]), []);
}

#[test]
fn dashboard_and_alerts_are_whole() {
    let documents = rendered(&EVERYTHING);
    let dashboard: Value = serde_json::from_str(text(one(&documents, "ConfigMap"), "/data/milvus-guard.json")).unwrap();
    assert_eq!(one(&documents, "ConfigMap")["metadata"]["labels"]["grafana_dashboard"], "1");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let rule = one(&documents, "PrometheusRule");
    let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let mut expressions: Vec<&str> = alerts.iter().map(|alert| text(alert, "/expr")).collect();
    for alert in alerts {
        for field in ["/alert", "/expr", "/labels/severity", "/annotations/summary"] {
            assert!(!text(alert, field).is_empty(), "{alert:#}");
        }
    }
    for expression in &expressions {
        assert!(!expression.contains("__"), "{expression}");
        assert!(expression.contains(r#"job="milvus-guard-metrics""#) || expression.contains("apiserver_"), "{expression}");
    }
    expressions.extend(panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| text(target, "/expr")));
    for expression in &expressions {
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
        }
        for metric in expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            assert!(!metric.starts_with("milvus_guard_") || METRICS.contains(&metric), "{metric} is none of the guard's metrics");
        }
    }
    let all = expressions.concat();
    for metric in METRICS {
        assert!(all.contains(metric), "{metric} is shown nowhere");
    }
}

/// The guard's metrics, as `serve` names them.
const METRICS: [&str; 21] = [
    "milvus_guard_reviews_total",
    "milvus_guard_review_duration_seconds_bucket",
    "milvus_guard_reviews_in_flight",
    "milvus_guard_reviews_shed_total",
    "milvus_guard_rule_failures_total",
    "milvus_guard_cache_age_seconds",
    "milvus_guard_cache_objects",
    "milvus_guard_certificate_expiry_timestamp_seconds",
    "milvus_guard_certificate_reload_failures_total",
    "milvus_guard_policies_loaded",
    "milvus_guard_policy_age_seconds",
    "milvus_guard_exceptions_active",
    "milvus_guard_exceptions_expiring_7d",
    "milvus_guard_leader",
    "milvus_guard_audit_findings",
    "milvus_guard_audit_last_run_timestamp_seconds",
    "milvus_guard_acceptances_total",
    "milvus_guard_live_reads_total",
    "milvus_guard_build_info",
    "milvus_guard_data_timestamp_seconds",
    "milvus_guard_data_load_failures_total",
];

// From here on: against real API servers.

fn namespace(cluster: &ControlPlane, name: &str) {
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"));
}

/// Kinds of others that the chart uses.
fn foreign_kinds(cluster: &ControlPlane) {
    for (group, version, kind, plural) in [
        ("cert-manager.io", "v1", "Issuer", "issuers"),
        ("cert-manager.io", "v1", "Certificate", "certificates"),
        ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
        ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ] {
        cluster.apply(&format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: {plural}, singular: {}, kind: {kind}}}\n  versions:\n  - {{name: {version}, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}\n",
            kind.to_lowercase()
        ));
        expect_success(cluster.kubectl([
            "wait",
            "--for=condition=Established",
            &format!("crd/{plural}.{group}"),
            "--timeout=60s",
        ]));
    }
}

#[test]
fn real_api_servers_take_all_of_it() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    for name in [NAMESPACE, "milvus-a", "milvus-b", "restricted"] {
        namespace(&cluster, name);
    }
    foreign_kinds(&cluster);
    for values in [&FILES[..], &EVERYTHING, &[]] {
        // Helm removes the Job of a hook before it makes it anew.
        expect_success(cluster.kubectl(["delete", "job", "-n", NAMESPACE, "--all"]));
        expect_success(cluster.kubectl_with_input(
            ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"],
            &render(Helm::V4, values),
        ));
    }

    // The API server's own check of the policy's expressions.
    let policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/milvus-guard-hold";
    wait_for("the check of the policy's expressions", Duration::from_secs(60), || {
        cluster.get_json(policy).pointer("/status/typeChecking").is_some()
    });
    let checked = cluster.get_json(policy);
    assert_eq!(checked.pointer("/status/typeChecking/expressionWarnings"), None, "{checked:#}");

    // Pods like ours are allowed where only restricted ones are.
    expect_success(cluster.kubectl(["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"]));
    for values in [&[][..], &EVERYTHING] {
        let documents = rendered(values);
        let template = &one(&documents, "Deployment")["spec"]["template"];
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!("pod");
        let create = ["create", "-n", "restricted", "--dry-run=server", "--validate=strict", "-f", "-"];
        expect_success(cluster.kubectl_with_input(create, &pod.to_string()));
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        assert!(!cluster.kubectl_with_input(create, &pod.to_string()).status.success(), "the namespace is not restricted");
    }

    // What the guard may do, asked of the API server.
    let can = |account: &str, words: &[&str]| {
        let account = format!("--as=system:serviceaccount:milvus-guard:{account}");
        cluster.kubectl(["auth", "can-i", &account].iter().chain(words)).status.success()
    };
    for (verb, what, inside, expected) in [
        ("get", "secrets/milvus-guard-tls", NAMESPACE, true),
        ("get", "secrets/other", NAMESPACE, false),
        ("list", "secrets", NAMESPACE, false),
        ("watch", "secrets", NAMESPACE, false),
        ("get", "secrets/milvus-guard-tls", "default", false),
        ("create", "secrets", "default", false),
        ("list", "deployments.apps", "default", true),
        ("patch", "deployments.apps", "default", false),
        ("update", "deployments.apps", "default", false),
        ("delete", "persistentvolumeclaims", "default", false),
        ("patch", "configmaps/milvus-guard-memory.milvus", NAMESPACE, true),
        ("delete", "configmaps/milvus-guard-memory.milvus", NAMESPACE, true),
        ("patch", "configmaps/other", "default", false),
        ("update", "leases.coordination.k8s.io", NAMESPACE, true),
        ("update", "leases.coordination.k8s.io", "kube-system", false),
        ("create", "upgraderuns.guard.milvus.io", NAMESPACE, true),
        ("create", "upgraderuns.guard.milvus.io", "default", false),
        ("list", "upgraderuns.guard.milvus.io", "default", true),
        ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard", "default", true),
        ("patch", "validatingwebhookconfigurations.admissionregistration.k8s.io/other", "default", false),
        ("delete", "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard", "default", false),
    ] {
        assert_eq!(can("milvus-guard", &[verb, what, "-n", inside]), expected, "{verb} {what} in {inside}");
        assert!(!can("milvus-guard-job", &[verb, what, "-n", inside]), "the job's account: {verb} {what} in {inside}");
    }

    // Hold, everywhere and in some namespaces.
    for (value, expected) in
        [("hold.enabled=true", [true, true, true]), ("hold.namespaces={milvus-a,milvus-b}", [true, true, false])]
    {
        let rendered = render(Helm::V4, &["hold.enabled=true", value]);
        expect_success(cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &rendered));
        for (inside, expected) in ["milvus-a", "milvus-b", "default"].into_iter().zip(expected) {
            assert_eq!(can("milvus-guard", &["patch", "deployments.apps", "-n", inside]), expected, "{value} in {inside}");
        }
        expect_success(cluster.kubectl(["delete", "clusterrolebinding", "milvus-guard-hold", "--ignore-not-found"]));
    }
}

#[test]
fn helm_keeps_the_authority_and_leaves_nothing_that_blocks() {
    const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";
    const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/milvus-guard";
    const POLICY: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n";
    for with in HELMS {
        let cluster = ControlPlane::start();
        let chart = path();
        let upgrade = |values: &[&str]| {
            let mut args = vec![
                "upgrade",
                "--install",
                "milvus-guard",
                chart.to_str().unwrap(),
                "-n",
                NAMESPACE,
                "--create-namespace",
                "--reset-values",
            ];
            // Nothing here runs the pod of a hook; tests/node.rs has it refuse.
            for value in ["uninstall.refuseWhileRunning=false"].iter().chain(values) {
                args.extend(["--set", value]);
            }
            expect_success(cluster.helm(with, args));
        };
        let bundles = || -> Vec<String> {
            [VALIDATING, MUTATING]
                .iter()
                .flat_map(|path| cluster.get_json(path)["webhooks"].as_array().unwrap().clone())
                .map(|webhook| text(&webhook, "/clientConfig/caBundle").to_owned())
                .collect()
        };
        // As the guard does it: a JSON patch of each webhook.
        let register = |bundle: &str| {
            for (kind, path) in [("validatingwebhookconfiguration", VALIDATING), ("mutatingwebhookconfiguration", MUTATING)] {
                let count = cluster.get_json(path)["webhooks"].as_array().unwrap().len();
                let patch: Vec<Value> = (0..count)
                    .map(|at| json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": bundle}))
                    .collect();
                let patch = Value::Array(patch).to_string();
                expect_success(cluster.kubectl([
                    "patch",
                    kind,
                    "milvus-guard",
                    "--type=json",
                    "--field-manager=milvus-guard",
                    "-p",
                    &patch,
                ]));
            }
        };
        let is_kept = |bundle: &str, when: &str| {
            let found = bundles();
            assert!(found.iter().all(|found| found == bundle), "{with:?}, {when}: {found:?}");
        };
        upgrade(&[]);
        is_kept("", "fresh");
        let first = certificate("first");
        register(&first);
        upgrade(&["replicas=2", "workloadGate.failurePolicy=Ignore", "workloadGate.timeoutSeconds=7"]);
        is_kept(&first, "after an upgrade that changed the webhooks");
        upgrade(&["releaseGate.enabled=false"]);
        is_kept(&first, "after an upgrade that took a webhook away");
        let second = certificate("second");
        register(&second);
        upgrade(&[]);
        let found = bundles();
        assert_eq!(found.iter().filter(|found| **found == second).count(), 3, "{with:?}: the known ones keep theirs");
        assert_eq!(found.iter().filter(|found| found.is_empty()).count(), 1, "{with:?}: the guard registers the new one");
        register(&second);
        for revision in ["2", "1"] {
            expect_success(cluster.helm(with, ["rollback", "milvus-guard", revision, "-n", NAMESPACE]));
            is_kept(&second, "after a rollback");
        }

        // No replica runs. Documents are refused now, and free again when the chart is gone.
        let refused = cluster.kubectl_with_input(["create", "-f", "-"], POLICY);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("documents.guard.milvus.io"), "{refused:?}");
        expect_success(cluster.helm(with, ["uninstall", "milvus-guard", "-n", NAMESPACE]));
        for path in [VALIDATING, MUTATING, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/milvus-guard-hold"]
        {
            assert_eq!(cluster.get(path).status, 404, "{with:?} left {path}");
        }
        expect_success(cluster.kubectl_with_input(["create", "-f", "-"], POLICY));

        // The kinds stayed, with what people wrote. Installed again, they are Helm's again; purged, all goes, although the
        // documents gate fails closed and nobody answers.
        upgrade(&[]);
        expect_success(cluster.kubectl(["get", "upgradepolicy", "mine"]));
        upgrade(&["crds.keep=false"]);
        expect_success(cluster.helm(with, ["uninstall", "milvus-guard", "-n", NAMESPACE]));
        wait_for("the kinds to be gone", Duration::from_secs(60), || {
            cluster.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/upgradepolicies.guard.milvus.io").status == 404
        });
    }
}

#[test]
fn glass_is_broken_and_mended_as_documented() {
    const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";
    let readme = fs::read_to_string(path().join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Break glass").unwrap();
    let chart = path();
    let chart = chart.to_str().unwrap();
    for with in HELMS {
        let cluster = ControlPlane::start();
        let installed =
            expect_success(cluster.helm(with, ["install", "milvus-guard", chart, "-n", NAMESPACE, "--create-namespace"]));
        let policies = || -> Vec<String> {
            let webhooks = cluster.get_json(VALIDATING)["webhooks"].as_array().unwrap().clone();
            webhooks.iter().map(|webhook| text(webhook, "/failurePolicy").to_owned()).collect()
        };
        // From the README, and from the notes of the installation.
        for told in [section, &installed] {
            let (_, rest) =
                told.split_once("kubectl patch validatingwebhookconfiguration milvus-guard --type=json -p '").unwrap();
            let (patch, _) = rest.split_once('\'').unwrap();
            let patched = |patch: &str| {
                let args = ["patch", "validatingwebhookconfiguration", "milvus-guard", "--type=json", "-p", patch];
                expect_success(cluster.kubectl(args));
            };
            patched(patch);
            assert_eq!(policies(), ["Ignore", "Ignore", "Ignore"]);
            patched(&patch.replace("\"Ignore\"", "\"Fail\""));
            assert_eq!(policies(), ["Ignore", "Fail", "Fail"]);
        }
        for told in [section, &installed] {
            let delete = "validatingwebhookconfiguration/milvus-guard mutatingwebhookconfiguration/milvus-guard";
            assert!(told.contains(&format!("kubectl delete {delete}\n")), "{told}");
            expect_success(cluster.kubectl(["delete"].into_iter().chain(delete.split(' '))));
            assert!(section.contains("helm upgrade milvus-guard charts/milvus-guard -n milvus-guard --reuse-values"));
            expect_success(cluster.helm(with, ["upgrade", "milvus-guard", chart, "-n", NAMESPACE, "--reuse-values"]));
            assert_eq!(policies(), ["Ignore", "Fail", "Fail"]);
        }
    }
}

#[test]
fn the_server_runs_as_the_chart_starts_it() {
    let cluster = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    // Something to see, to remember and to report on.
    let chart = Chart::compact("4.1.34");
    expect_success(cluster.helm(Helm::V4, ["install", "my-release", chart.path(), "-n", "milvus"]));
    install_definitions(&cluster);
    cluster.apply("apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n");
    let documents = rendered(&["auditInterval=1s"]);
    for document in &documents {
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        expect_success(cluster.kubectl_with_input(apply, &document.to_string()));
    }

    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard");
    let start = |documents: &[Value], files: &Path, log: &str| {
        let args = one(documents, "Deployment").pointer("/spec/template/spec/containers/0/args").unwrap();
        let files = files.to_str().unwrap();
        let mut command = guard();
        command.env("RUST_LOG", "milvus_guard=debug").arg("--color=never");
        for arg in args.as_array().unwrap() {
            let arg = arg.as_str().unwrap().replace("0.0.0.0:8443", "127.0.0.1:0").replace("0.0.0.0:9090", "127.0.0.1:0");
            let arg = arg.replace("$(POD_NAMESPACE)", NAMESPACE);
            command.arg(arg.replace("/etc/milvus-guard/tls", files).replace("/etc/milvus-guard/client-ca", files));
        }
        command.arg("--kubeconfig").arg(&kubeconfig);
        let server = Server::spawn(command, folder.path().join(log));
        wait_for("the server to be ready", Duration::from_secs(60), || server.is_ready());
        server
    };

    let server = start(&documents, folder.path(), "managed.log");
    for kind in ["validating", "mutating"] {
        wait_for("the authority to be registered", Duration::from_secs(60), || {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/milvus-guard");
            let webhooks = cluster.get_json(&path)["webhooks"].as_array().unwrap().clone();
            webhooks.iter().all(|webhook| !text(webhook, "/clientConfig/caBundle").is_empty())
        });
    }
    wait_for("what runs to be remembered", Duration::from_secs(60), || {
        let configs = cluster.get_json("/api/v1/namespaces/milvus-guard/configmaps");
        let is_memory = |config: &Value| text(config, "/metadata/name").starts_with("milvus-guard-memory.");
        configs["items"].as_array().unwrap().iter().any(|config| is_memory(config) && config.to_string().contains("my-release"))
    });
    wait_for("the policy's status", Duration::from_secs(60), || {
        cluster.get_json("/apis/guard.milvus.io/v1alpha1/upgradepolicies/mine").get("status").is_some()
    });
    let metric = |name: &str| server.get_metrics().lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    wait_for("an audit", Duration::from_secs(60), || {
        metric("milvus_guard_audit_last_run_timestamp_seconds").is_some_and(|at| at > 0.0)
    });
    assert_eq!(metric("milvus_guard_leader"), Some(1.0));
    let log = server.log().to_lowercase();
    assert!(!log.contains("forbidden") && !log.contains("cannot"), "a right is missing: {log}");
    // Families show up when they have something to say; which there are stands in the source.
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/metrics.rs")).unwrap();
    for name in METRICS {
        let family = ["_bucket", "_total", "_info"].iter().fold(name, |name, suffix| name.trim_end_matches(suffix));
        let family = family.trim_start_matches("milvus_guard_");
        assert!(source.contains(&format!("\"{family}\"")), "serve has no metric {name}");
    }
    drop(server);

    // A certificate of one's own; callers must show one too, and probes, which have none, are answered all the same.
    let files = folder.path().join("files");
    let (code, _, stderr) = run(guard().arg("certs").arg("--out").arg(&files));
    assert_eq!(code, 0, "{stderr}");
    let values = [&FILES[..], &["clientAuthentication.enabled=true", "clientAuthentication.configMapName=x"]].concat();
    drop(start(&rendered(&values), &files, "files.log"));
}

/// Base64 of a certificate that API servers take for an authority.
fn certificate(name: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    BASE64_STANDARD.encode(params.self_signed(&key).unwrap().pem())
}

const STRANGER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {team: web}, annotations: {owner: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
"#;

#[test]
fn the_guard_may_pause_deployments_and_nothing_else() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    // Without the gates: this is about the policy.
    let documents = rendered(&["hold.enabled=true"]);
    for document in documents.iter().filter(|document| !text(document, "/kind").ends_with("WebhookConfiguration")) {
        expect_success(cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &document.to_string()));
    }
    let create = ["create", "-n", "milvus", "-f", "-"];
    expect_success(cluster.kubectl_with_input(create, STRANGER));
    let stateful =
        STRANGER.replace("Deployment", "StatefulSet").replace("spec:\n  replicas", "spec:\n  serviceName: web\n  replicas");
    expect_success(cluster.kubectl_with_input(create, &stateful));

    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard");
    let guard = |args: &[&str]| {
        cluster.kubectl_command().env("KUBECONFIG", &kubeconfig).args(["-n", "milvus"]).args(args).output().unwrap()
    };
    // By its own rights, it can only patch.
    let denied = guard(&["delete", "deployment", "web"]);
    assert!(String::from_utf8_lossy(&denied.stderr).contains("cannot delete resource"), "{denied:?}");
    // Somebody means it too well.
    expect_success(cluster.kubectl([
        "create",
        "clusterrolebinding",
        "too-well",
        "--clusterrole=cluster-admin",
        &format!("--user={ACCOUNT}"),
    ]));

    let patch = |kind: &str, patch: &str| guard(&["patch", kind, "web", "--type=merge", "-p", patch]);
    let is_denied =
        |output: &Output| String::from_utf8_lossy(&output.stderr).contains("ValidatingAdmissionPolicy 'milvus-guard-hold'");
    let image = r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}}"#;
    wait_for("the policy to be in force", Duration::from_secs(30), || {
        let output = guard(&["patch", "deployment", "web", "--type=merge", "--dry-run=server", "-p", image]);
        is_denied(&output)
    });

    for allowed in [
        r#"{"spec": {"paused": true}}"#,
        r#"{"spec": {"paused": false}}"#,
        r#"{"spec": {"paused": null}}"#,
        r#"{"spec": {"paused": true}, "metadata": {"annotations": {"guard.milvus.io/held": "1"}, "labels": {"guard.milvus.io/version": "2.5.5"}}}"#,
        r#"{"metadata": {"labels": {"app.kubernetes.io/version": "2.5.5"}}}"#,
        r#"{"spec": {"paused": null}, "metadata": {"annotations": {"guard.milvus.io/held": null}, "labels": {"guard.milvus.io/version": null}}}"#,
        r#"{"metadata": {"annotations": {"guard.milvus.io/held": "2"}}}"#,
    ] {
        let output = patch("deployment", allowed);
        assert!(output.status.success(), "{allowed}: {output:?}");
    }
    for denied in [
        image,
        r#"{"spec": {"paused": true, "replicas": 0}}"#,
        r#"{"spec": {"replicas": 0}}"#,
        r#"{"spec": {"minReadySeconds": 5}}"#,
        r#"{"spec": {"revisionHistoryLimit": 1}}"#,
        r#"{"spec": {"progressDeadlineSeconds": 9}}"#,
        r#"{"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}"#,
        r#"{"spec": {"template": {"metadata": {"annotations": {"guard.milvus.io/x": "1"}}}}}"#,
        r#"{"spec": {"template": {"spec": {"serviceAccountName": "milvus-guard-job"}}}}"#,
        r#"{"metadata": {"annotations": {"owner": "me"}}}"#,
        r#"{"metadata": {"annotations": {"owner": null}}}"#,
        r#"{"metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}}"#,
        r#"{"metadata": {"labels": {"team": "me"}}}"#,
        r#"{"metadata": {"labels": null}}"#,
        r#"{"metadata": {"labels": {"guard.milvus.iox/version": "1"}}}"#,
        r#"{"metadata": {"finalizers": ["guard.milvus.io/x"]}}"#,
    ] {
        let output = patch("deployment", denied);
        assert!(is_denied(&output), "{denied}: {output:?}");
    }
    for denied in [
        &["scale", "deployment/web", "--replicas=0"][..],
        &["delete", "deployment", "web"],
        &["delete", "statefulset", "web"],
        &["patch", "statefulset", "web", "--type=merge", "-p", r#"{"metadata": {"annotations": {"guard.milvus.io/x": "1"}}}"#],
        &["patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", r#"{"status": {"replicas": 9}}"#],
        &["create", "deployment", "other", "--image=nginx"],
    ] {
        let output = guard(denied);
        assert!(is_denied(&output), "{denied:?}: {output:?}");
    }
    // Others are not concerned.
    expect_success(cluster.kubectl(["patch", "deployment", "web", "-n", "milvus", "--type=merge", "-p", image]));
    expect_success(cluster.kubectl(["scale", "deployment/web", "-n", "milvus", "--replicas=0"]));
}

/// What is tried while nobody answers the webhooks, which all fail closed: who is noticed, by which webhook, and who is not.
struct Try<'a> {
    what: &'a str,
    args: &'a [&'a str],
    input: String,
    noticed_by: Option<&'a str>,
}

fn workload(kind: &str, name: &str, chart: &str, selector: &str, container: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "{kind}", "metadata": {{"name": "{name}", "labels": {{"helm.sh/chart": "{chart}"}}}},
            "spec": {{"serviceName": "{name}", "selector": {{"matchLabels": {selector}}},
            "template": {{"metadata": {{"labels": {selector}}}, "spec": {{"containers": [{container}]}}}}}}}}"#
    )
}

fn deployment(name: &str, chart: &str, selector: &str, container: &str) -> String {
    workload("Deployment", name, chart, selector, container).replace(&format!(r#""serviceName": "{name}", "#), "")
}

fn claim(name: &str, labels: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {{{name}, "labels": {labels}}},
            "spec": {{"accessModes": ["ReadWriteOnce"], "resources": {{"requests": {{"storage": "1Gi"}}}}}}}}"#
    )
}

fn record(kind: &str, name: &str, secret_type: &str, status: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "{kind}", {secret_type}
            "metadata": {{"name": "{name}", "labels": {{"owner": "helm", "status": "{status}", "name": "x", "version": "1"}}}}}}"#
    )
}

/// Brings the webhooks, or some of them, into a cluster where nobody answers, and all of them failing closed.
fn deaf(cluster: &ControlPlane, documents: &[Value], kinds: &[&str]) {
    for kind in kinds {
        let mut configuration = one(documents, kind).clone();
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let path = text(webhook, "/clientConfig/service/path").to_owned();
            webhook["clientConfig"] = json!({"url": format!("https://127.0.0.1:1{path}")});
            webhook["failurePolicy"] = json!("Fail");
        }
        cluster.apply(&configuration.to_string());
    }
    // A new configuration takes a moment to be in force.
    let probe = deployment("probe", "x", r#"{"app": "x"}"#, r#"{"name": "x", "image": "milvusdb/milvus:v2.5.5"}"#);
    wait_for("the webhooks to be in force", Duration::from_secs(60), || {
        !cluster.kubectl_with_input(["create", "--dry-run=server", "-n", "default", "-f", "-"], &probe).status.success()
    });
}

fn tried(cluster: &ControlPlane, tries: &[Try<'_>]) {
    let mut wrong = Vec::new();
    for Try { what, args, input, noticed_by } in tries {
        let output = cluster.kubectl_with_input(args.iter(), input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let seen = stderr.split_once("failed calling webhook \"").map(|(_, rest)| rest.split('"').next().unwrap_or_default());
        let seen = seen.map(|name| name.trim_end_matches(".guard.milvus.io"));
        if seen != *noticed_by || output.status.success() != noticed_by.is_none() {
            wrong.push(format!("{what}: wanted {noticed_by:?}, got {seen:?}: {stderr}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const CREATE: &[&str] = &["create", "-n", "milvus", "--dry-run=server", "-f", "-"];
const MILVUS: &str = r#"{"name": "proxy", "image": "milvusdb/milvus:v2.5.5", "args": ["milvus", "run", "proxy"]}"#;
const NGINX: &str = r#"{"name": "web", "image": "nginx:1"}"#;
const OTHER: &str = r#"{"app": "web"}"#;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_gates_see_milvus_and_nothing_else() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus", "sandbox"] {
        namespace(&cluster, name);
    }
    let vectors = r#"{"app.kubernetes.io/name": "vectors", "app.kubernetes.io/instance": "r", "component": "proxy"}"#;
    let standard = r#"{"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "r", "component": "proxy"}"#;
    let existing = [
        deployment("vectors-proxy", "milvus-4.2.40", vectors, MILVUS),
        deployment("r-milvus-proxy", "milvus-4.2.40", standard, MILVUS),
        deployment("web", "web-1", OTHER, NGINX),
        deployment("ingress", "ingress-1", r#"{"app.kubernetes.io/component": "controller"}"#, NGINX),
        workload(
            "StatefulSet",
            "r-etcd",
            "etcd-6",
            r#"{"app.kubernetes.io/name": "etcd"}"#,
            r#"{"name": "e", "image": "a/b:1"}"#,
        ),
        workload(
            "StatefulSet",
            "r-etcd2",
            "etcd-6",
            r#"{"app.kubernetes.io/name": "etcd"}"#,
            r#"{"name": "e", "image": "a/b:1"}"#,
        ),
        workload("StatefulSet", "db", "db-1", r#"{"app": "db"}"#, r#"{"name": "db", "image": "postgres:17"}"#),
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vectors"}, "data": {"user.yaml": "a: 1"}}"#.into(),
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"nginx.conf": "a"}}"#.into(),
        claim(r#""name": "vectors""#, r#"{"app.kubernetes.io/instance": "r"}"#),
        claim(r#""name": "data-r-etcd-0""#, "{}"),
        claim(r#""name": "scratch""#, "{}"),
        claim(r#""name": "bound""#, r#"{"release": "r"}"#).replace(r#""accessModes""#, r#""storageClassName": "grows", "volumeName": "pv", "accessModes""#),
        r#"{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "grows"}, "provisioner": "x", "allowVolumeExpansion": true}"#.into(),
    ];
    for object in &existing {
        expect_success(cluster.kubectl_with_input(["create", "-n", "milvus", "-f", "-"], object));
    }
    let bound = r#"{"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}"#;
    expect_success(cluster.kubectl([
        "patch",
        "-n",
        "milvus",
        "pvc",
        "bound",
        "--subresource=status",
        "--type=merge",
        "-p",
        bound,
    ]));
    let documents = rendered(&["excludedNamespaces={sandbox}"]);
    for kind in of_kind(&documents, "CustomResourceDefinition") {
        cluster.apply(&kind.to_string());
    }
    deaf(&cluster, &documents, &["ValidatingWebhookConfiguration"]);

    let make = |what, object: String, noticed_by| Try { what, args: CREATE, input: object, noticed_by };
    let run = |what, args, noticed_by| Try { what, args, input: String::new(), noticed_by };
    let gate = Some("workload");
    let release = Some("release");
    let secret = r#""type": "helm.sh/release.v1","#;
    let container = |rest: &str| format!(r#"{{"name": "c", {rest}}}"#);
    let long = format!(r#"{{"name": "c", "image": "acme/v:1", "args": ["{}", "milvus", "run", "proxy"]}}"#, "x ".repeat(200_000));
    let tries = [
        // Deployments, by what they are.
        make("Milvus", existing[1].replace("r-milvus-proxy", "n"), gate),
        make("Milvus under another name", existing[0].replace("vectors-proxy", "n"), gate),
        make("image only", deployment("n", "x", OTHER, &container(r#""image": "milvusdb/milvus:v2.5.5""#)), gate),
        make("image of a registry with a port", deployment("n", "x", OTHER, &container(r#""image": "r:5000/x/milvus-gpu@sha256:0000000000000000000000000000000000000000000000000000000000000000""#)), gate),
        make("command only", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "command": ["/milvus/bin/milvus", "run", "proxy"]"#)), gate),
        make("command in a shell", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "command": ["sh", "-c", "exec milvus run standalone"]"#)), gate),
        make("wrapper of charts 3.3 to 4.1", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "args": ["/milvus/tools/run.sh", "x"]"#)), gate),
        make("selector only", deployment("n", "x", standard, NGINX), gate),
        make("chart only", deployment("n", "milvus-4.2.40", OTHER, NGINX), gate),
        make("a very long command", deployment("n", "x", OTHER, &long), gate),
        make("a sidecar", deployment("n", "x", OTHER, &format!("{NGINX}, {MILVUS}")), gate),
        make("etcd by image", workload("StatefulSet", "n", "x", OTHER, &container(r#""image": "docker.io/milvusdb/etcd:3.5.18-r1""#)), gate),
        make("etcd by selector", existing[4].replace("r-etcd", "n"), gate),
        make("MinIO", workload("StatefulSet", "n", "x", r#"{"app": "minio", "release": "r"}"#, NGINX), gate),
        make("Pulsar", workload("StatefulSet", "n", "x", r#"{"app": "pulsarv3"}"#, NGINX), gate),
        make("Kafka as a Deployment", deployment("n", "x", OTHER, &container(r#""image": "bitnami/kafka:3""#)), gate),
        make("a web server", existing[2].replace("\"web\", \"labels", "\"n\", \"labels"), None),
        make("a database", existing[6].replace("\"db\", \"labels", "\"n\", \"labels"), None),
        make("Attu", deployment("n", "attu-1", r#"{"app": "attu"}"#, &container(r#""image": "zilliz/attu:v2.3.10""#)), None),
        make("a repository folder called kafka", deployment("n", "x", OTHER, &container(r#""image": "acme/kafka/ui:1""#)), None),
        make("a client that says milvus", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "args": ["--host=milvus", "running"]"#)), None),
        make("no command, no labels", r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "n"}, "spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}"#.into(), None),
        // Changes.
        run("a new image", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=milvusdb/milvus:v2.6.2"], gate),
        run("away from Milvus' image", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=acme/v:1"], gate),
        run("paused", &["rollout", "pause", "-n", "milvus", "deployment/vectors-proxy"], gate),
        run("an annotation", &["annotate", "-n", "milvus", "deployment/vectors-proxy", "a=b"], None),
        run("a label taken away", &["label", "-n", "milvus", "deployment/vectors-proxy", "helm.sh/chart-"], None),
        run("a new image after that", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=milvusdb/milvus:v2.6.2"], gate),
        run("status", &["patch", "-n", "milvus", "deployment", "vectors-proxy", "--subresource=status", "--type=merge", "-p", r#"{"status": {"observedGeneration": 1}}"#], None),
        run("etcd's image", &["set", "image", "-n", "milvus", "statefulset/r-etcd", "e=a/b:2"], gate),
        run("a web server's image", &["set", "image", "-n", "milvus", "deployment/web", "web=nginx:2"], None),
        run("a database's image", &["set", "image", "-n", "milvus", "statefulset/db", "db=postgres:18"], None),
        // Scale.
        run("kubectl scale", &["scale", "-n", "milvus", "deployment/r-milvus-proxy", "--replicas=3"], gate),
        run("kubectl scale under another name", &["scale", "-n", "milvus", "deployment/vectors-proxy", "--replicas=3"], gate),
        run("scale of a web server", &["scale", "-n", "milvus", "deployment/web", "--replicas=3"], None),
        run("scale of another's component", &["scale", "-n", "milvus", "deployment/ingress", "--replicas=3"], None),
        // ConfigMaps.
        make("a configuration", existing[7].replace(r#""vectors""#, r#""n""#), gate),
        make("an old one", existing[7].replace(r#""vectors""#, r#""n""#).replace("user.yaml", "milvus.yaml"), gate),
        run("a changed configuration", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": {"user.yaml": "a: 2"}}"#], gate),
        run("a configuration taken away", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": null}"#], gate),
        run("a labelled configuration", &["label", "-n", "milvus", "configmap", "vectors", "a=b"], None),
        run("a deleted configuration", &["delete", "-n", "milvus", "configmap", "vectors", "--dry-run=server"], None),
        make("another's ConfigMap", existing[8].replace(r#""web""#, r#""n""#), None),
        make("an empty ConfigMap", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}}"#.into(), None),
        make("a ConfigMap with a generated name", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "n-"}}"#.into(), None),
        run("another's changed ConfigMap", &["patch", "-n", "milvus", "configmap", "web", "--type=merge", "-p", r#"{"data": {"nginx.conf": "b"}}"#], None),
        // Claims.
        make("another's claim", claim(r#""name": "n""#, "{}"), None),
        make("a claim with a generated name", claim(r#""generateName": "n-""#, "{}"), None),
        make("a standalone's claim", claim(r#""name": "r-milvus""#, "{}"), gate),
        make("a claim that a StatefulSet's controller makes", claim(r#""name": "data-r-etcd-1""#, r#"{"app.kubernetes.io/instance": "r"}"#), None),
        run("a bigger claim", &["patch", "-n", "milvus", "pvc", "bound", "--type=merge", "-p", r#"{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}"#], gate),
        run("a claim gets its volume", &["patch", "-n", "milvus", "pvc", "vectors", "--type=merge", "-p", r#"{"spec": {"volumeName": "pv"}, "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}"#], None),
        run("a deleted claim", &["delete", "-n", "milvus", "pvc", "vectors"], gate),
        run("a deleted claim of etcd", &["delete", "-n", "milvus", "pvc", "data-r-etcd-0"], gate),
        run("another's deleted claim", &["delete", "-n", "milvus", "pvc", "scratch", "--wait=false"], None),
        // Deletion.
        run("deleted by a person", &["delete", "-n", "milvus", "deployment", "vectors-proxy"], gate),
        run("etcd deleted by a person", &["delete", "-n", "milvus", "statefulset", "r-etcd"], gate),
        run("all deleted by a person", &["delete", "-n", "milvus", "statefulset", "--all", "--dry-run=server"], gate),
        run("a web server deleted", &["delete", "-n", "milvus", "deployment", "web"], None),
        run("collected", &["delete", "-n", "milvus", "statefulset", "r-etcd", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], None),
        run("its namespace ends", &["delete", "-n", "milvus", "deployment", "r-milvus-proxy", "--as=system:serviceaccount:kube-system:namespace-controller", "--as-group=system:masters"], None),
        run("changed by the collector", &["set", "image", "-n", "milvus", "statefulset/r-etcd2", "e=a/b:2", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], gate),
        // Other kinds.
        make("a Service", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "milvus"}, "spec": {"ports": [{"port": 1}]}}"#.into(), None),
        make("a Job", r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "milvus"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "milvusdb/milvus:v2.5.5"}]}}}}"#.into(), None),
        make("a Pod", r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "milvus"}, "spec": {"containers": [{"name": "c", "image": "milvusdb/milvus:v2.5.5"}]}}"#.into(), None),
        // Helm's records.
        make("an upgrade begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-upgrade"), release),
        make("an installation begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-install"), release),
        make("a rollback begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-rollback"), release),
        make("a record in a ConfigMap", record("ConfigMap", "sh.helm.release.v1.x.v1", "", "pending-upgrade"), release),
        make("an upgrade that is done", record("Secret", "sh.helm.release.v1.x.v1", secret, "deployed"), None),
        make("an uninstallation", record("Secret", "sh.helm.release.v1.x.v1", secret, "uninstalling"), None),
        make("a Secret that is none of Helm's", record("Secret", "n", r#""type": "Opaque","#, "pending-upgrade"), None),
        make("a ConfigMap that is none of Helm's", record("ConfigMap", "n", "", "pending-upgrade"), None),
        make("a Secret", r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}}"#.into(), None),
        // Namespaces that are left alone.
        Try { what: "the guard's namespace", args: &["create", "-n", NAMESPACE, "-f", "-"], input: existing[1].clone(), noticed_by: None },
        Try { what: "kube-system", args: &["create", "-n", "kube-system", "-f", "-"], input: existing[1].clone(), noticed_by: None },
        Try { what: "an excluded one", args: &["create", "-n", "sandbox", "-f", "-"], input: existing[1].clone(), noticed_by: None },
        Try { what: "a record in the guard's namespace", args: &["create", "-n", NAMESPACE, "-f", "-"], input: record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-upgrade"), noticed_by: None },
        // Last, because it takes others' with it.
        run("a whole collection deleted", &["delete", "--raw=/apis/apps/v1/namespaces/milvus/deployments"], gate),
        // The guard's own documents, everywhere.
        Try { what: "a policy", args: &["create", "-f", "-"], input: r#"{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "n"}, "spec": {"rules": [{"id": "MG201", "action": "Warn"}]}}"#.into(), noticed_by: Some("documents") },
    ];
    tried(&cluster, &tries);
}

#[test]
fn every_object_of_charts_that_counts_is_seen() {
    let cluster = ControlPlane::start();
    namespace(&cluster, "milvus");
    let documents = rendered(&[]);
    deaf(&cluster, &documents, &["ValidatingWebhookConfiguration"]);
    let mut renderings = Vec::new();
    for set in charts() {
        for chart in &set {
            for values in [&[][..], &["cluster.enabled=false"], &["nameOverride=vectors", "fullnameOverride=vectors"]] {
                renderings.push((chart.clone(), values, chart.render(Helm::V3, values)));
            }
        }
    }
    // Many are alike: what the gate looks at differs from era to era.
    for (chart, values, rendering) in renderings {
        let tries: Vec<(String, String, Option<&str>)> = manifests(&chart, &rendering)
            .into_iter()
            .map(|object| {
                let kind = text(&object, "/kind");
                let name = text(&object, "/metadata/name");
                let keys = |key: &str| object["data"].get(key).is_some();
                let noticed_by = match kind {
                    "Deployment" | "StatefulSet" if !name.ends_with("attu") => Some("workload"),
                    "ConfigMap" if ["milvus.yaml", "default.yaml", "user.yaml"].into_iter().any(keys) => Some("workload"),
                    "PersistentVolumeClaim" if name.contains("milvus") => Some("workload"),
                    _ => None,
                };
                (format!("{} {} {values:?}: {kind} {name}", chart.version, chart.is_real), object.to_string(), noticed_by)
            })
            .collect();
        assert!(tries.iter().filter(|(_, _, noticed_by)| noticed_by.is_some()).count() >= 3, "{} {values:?}", chart.version);
        let tries: Vec<Try<'_>> = tries
            .iter()
            .map(|(what, input, noticed_by)| Try { what, args: CREATE, input: input.clone(), noticed_by: *noticed_by })
            .collect();
        tried(&cluster, &tries);
    }
}

/// Workloads, configurations and claims of a rendering.
fn manifests(chart: &Chart, rendering: &str) -> Vec<Value> {
    rendering
        .split("\n---\n")
        .filter(|document| {
            ["Deployment", "StatefulSet", "ConfigMap", "PersistentVolumeClaim"]
                .iter()
                .any(|kind| document.contains(&format!("\nkind: {kind}\n")) || document.starts_with(&format!("kind: {kind}\n")))
        })
        .map(|document| {
            // Real charts render some keys twice.
            let mut options = serde_saphyr::Options::default();
            options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
            serde_saphyr::from_str_with_options(document, options).unwrap_or_else(|error| panic!("{}: {error}", chart.version))
        })
        .collect()
}

#[test]
fn the_label_webhook_sees_milvus_only() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    let old = deployment("vectors-proxy", "milvus-4.2.40", r#"{"app": "vectors"}"#, MILVUS);
    expect_success(cluster.kubectl_with_input(["create", "-n", "milvus", "-f", "-"], &old));
    deaf(&cluster, &rendered(&[]), &["MutatingWebhookConfiguration"]);
    let label = Some("label");
    let make = |what, object: String, noticed_by| Try { what, args: CREATE, input: object, noticed_by };
    let run = |what, args, noticed_by| Try { what, args, input: String::new(), noticed_by };
    tried(
        &cluster,
        &[
            make("Milvus", deployment("n", "x", OTHER, MILVUS), label),
            make("a web server", deployment("n", "x", OTHER, NGINX), None),
            make("etcd", workload("StatefulSet", "n", "x", OTHER, r#"{"name": "e", "image": "a/etcd:1"}"#), None),
            run("a label", &["label", "-n", "milvus", "deployment/vectors-proxy", "guard.milvus.io/version=x"], label),
            run("a scale", &["scale", "-n", "milvus", "deployment/vectors-proxy", "--replicas=2"], None),
            run("a deletion", &["delete", "-n", "milvus", "deployment/vectors-proxy"], None),
            Try {
                what: "the guard's namespace",
                args: &["create", "-n", NAMESPACE, "-f", "-"],
                input: deployment("n", "x", OTHER, MILVUS),
                noticed_by: None,
            },
        ],
    );
}
