//! The chart `charts/milvus-guard`: its renderings by both versions of Helm, and their effect on
//! real API servers.
//!
//! | module | what it holds |
//! |---|---|
//! | `guard_down` | Changes that are still possible while no replica of the guard answers |
//! | `installation` | An installation on a real API server, from the first replica to its removal |
//! | `match_conditions` | Which changes real API servers send to which webhook |
//! | `monitoring` | The dashboard and the alerts |
//! | `objects` | Objects that tests create: of Milvus, of its dependencies, of other applications |
//! | `policy_reports` | Reports of the OpenReports project, which the audit writes |
//! | `renderings` | Renderings by both versions of Helm, as snapshots, and their properties |
//! | `rights` | Rights of the guard: by RBAC, and by the policy that restricts Hold |
//! | `serving` | Starts the guard as the Deployment of a rendering does |
//! | `values` | Which values the chart accepts, and their effect |

mod guard_down;
mod installation;
mod match_conditions;
mod monitoring;
mod objects;
mod policy_reports;
mod renderings;
mod rights;
mod serving;
mod values;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::common::await_definitions;
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, helm};
use serde_json::{Value, json};

const HELMS: [Helm; 2] = [Helm::V3, Helm::V4];
const NAMESPACE: &str = "milvus-guard";
const ACCOUNT: &str = "system:serviceaccount:milvus-guard:milvus-guard";

/// The required value.
pub(crate) const IMAGE: &str = "image.repository=milvus-guard";

/// Values that enable everything that is optional.
const EVERYTHING: [&str; 32] = [
    "certificates.mode=certManager",
    "data.configMap=milvus-guard-rows",
    "clientAuthentication.enabled=true",
    "clientAuthentication.configMapName=api-server-ca",
    "hold.enabled=true",
    "hold.namespaces={milvus-a,milvus-b}",
    "metrics.serviceMonitor.enabled=true",
    "metrics.serviceMonitor.scrapeTimeout=10s",
    "metrics.serviceMonitor.metricRelabelings[0].action=labeldrop",
    "metrics.serviceMonitor.metricRelabelings[0].regex=pod",
    "metrics.podMonitor.enabled=true",
    "metrics.podMonitor.relabelings[0].targetLabel=cluster",
    "metrics.podMonitor.relabelings[0].replacement=one",
    "commonLabels.team=search",
    "deploymentAnnotations.reload=yes",
    "webhook.port=10250",
    "metrics.port=9091",
    "extraVolumes[0].name=more",
    "extraVolumes[0].configMap.name=more",
    "extraVolumeMounts[0].name=more",
    "extraVolumeMounts[0].mountPath=/more",
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

/// Values for a certificate from files.
const FILES: [&str; 3] = [
    "certificates.mode=files",
    "certificates.secretName=my-tls",
    "certificates.caBundle=-----BEGIN CERTIFICATE-----\nbXk=\n-----END CERTIFICATE-----\n",
];

const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";

const MUTATING: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/milvus-guard";

const POLICY: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/milvus-guard")
}

fn template(with: Helm, values: &[&str]) -> Output {
    let mut command = Command::new(helm(with));
    command
        .arg("template")
        .arg("milvus-guard")
        .arg(path())
        .args(["-n", NAMESPACE, "--set", IMAGE]);
    for value in values {
        command.args(["--set", value]);
    }
    command.output().expect("helm runs")
}

fn render(with: Helm, values: &[&str]) -> String {
    expect_success(template(with, values))
}

pub(crate) fn documents(rendered: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(rendered).unwrap();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

fn rendered(values: &[&str]) -> Vec<Value> {
    documents(&render(Helm::V3, values))
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(crate) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents
        .iter()
        .filter(|document| document["kind"] == kind)
        .collect()
}

pub(crate) fn one<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(documents, kind);
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

/// The template of the registration.
fn registration(documents: &[Value]) -> Vec<Value> {
    let maps = of_kind(documents, "ConfigMap");
    let map = maps
        .iter()
        .find(|map| text(map, "/metadata/name").ends_with("-webhooks"))
        .expect("the template must exist");
    self::documents(text(map, "/data/webhooks.yaml"))
}

fn webhooks(documents: &[Value]) -> Vec<Value> {
    let registration = registration(documents);
    registration
        .iter()
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap().clone())
        .collect()
}

pub(crate) fn namespace(cluster: &ControlPlane, name: &str) {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
    ));
}

/// Definitions of other projects whose kinds the chart uses.
pub(crate) fn foreign_kinds(cluster: &ControlPlane) {
    const KINDS: [(&str, &str, &str); 5] = [
        ("cert-manager.io", "Issuer", "issuers"),
        ("cert-manager.io", "Certificate", "certificates"),
        ("monitoring.coreos.com", "ServiceMonitor", "servicemonitors"),
        ("monitoring.coreos.com", "PodMonitor", "podmonitors"),
        ("monitoring.coreos.com", "PrometheusRule", "prometheusrules"),
    ];
    let definitions = KINDS.map(|(group, kind, plural)| {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}],
            },
        })
    });
    apply_all(cluster, &definitions);
    let names = KINDS.map(|(group, _, plural)| format!("{plural}.{group}"));
    await_definitions(cluster, &names.each_ref().map(String::as_str));
}

/// The registration as the guard completes it if these namespaces contain Milvus; at an address
/// where no server listens.
fn registered(documents: &[Value], namespaces: &[&str]) -> Vec<Value> {
    let mut configurations = registration(documents);
    for configuration in &mut configurations {
        let webhooks = configuration["webhooks"].as_array_mut().unwrap();
        for webhook in webhooks.iter_mut() {
            let path = text(webhook, "/clientConfig/service/path").to_owned();
            webhook["clientConfig"] = json!({"url": format!("https://127.0.0.1:1{path}")});
            let expressions = webhook
                .pointer_mut("/namespaceSelector/matchExpressions")
                .and_then(Value::as_array_mut);
            for expression in expressions.into_iter().flatten() {
                if let Some(values) = expression["values"].as_array_mut()
                    && values.contains(&json!("@milvus-namespaces"))
                {
                    values.retain(|value| value != "@milvus-namespaces");
                    values.extend(namespaces.iter().map(|name| json!(name)));
                }
            }
        }
    }
    configurations
}

/// Applies the objects of a rendering to a cluster.
fn apply_all(cluster: &ControlPlane, documents: &[Value]) {
    let documents: Vec<String> = documents.iter().map(Value::to_string).collect();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    expect_success(cluster.kubectl_with_input(apply, &documents.join("\n---\n")));
}
