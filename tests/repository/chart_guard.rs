//! The chart `charts/milvus-guard`: what both Helms make of it, and what real API servers do with
//! that.
#![allow(clippy::too_many_lines)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::common::{
    Chart, await_definitions, charts, guard, install_definitions, run,
    webhook::{Server, TEMPLATE, write_as_guard, write_template},
};
use crate::plain_snapshot_names;
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, helm, wait_for};
use rstest::rstest;
use serde_json::{Value, json};

const HELMS: [Helm; 2] = [Helm::V3, Helm::V4];
const NAMESPACE: &str = "milvus-guard";
const ACCOUNT: &str = "system:serviceaccount:milvus-guard:milvus-guard";

/// The value that has no default.
pub(crate) const IMAGE: &str = "image.repository=milvus-guard";

/// Values that switch on all that is optional.
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

/// Values for a certificate of one's own.
const FILES: [&str; 3] = [
    "certificates.mode=files",
    "certificates.secretName=my-tls",
    "certificates.caBundle=-----BEGIN CERTIFICATE-----\nbXk=\n-----END CERTIFICATE-----\n",
];

const KINDS_OF_OTHERS: &str = "workloadGate.extraKinds[0].group=apps.kruise.io,workloadGate.\
                               extraKinds[0].version=v1beta1,workloadGate.extraKinds[0].\
                               resource=statefulsets";

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
        .expect("the template is there");
    self::documents(text(map, "/data/webhooks.yaml"))
}

fn webhooks(documents: &[Value]) -> Vec<Value> {
    let registration = registration(documents);
    registration
        .iter()
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap().clone())
        .collect()
}

/// The rendering as one likes to read it: no definitions of kinds and no dashboard, which have
/// their own files.
fn readable(rendered: &str) -> Vec<String> {
    rendered
        .split("\n---\n")
        .map(|document| document.trim_start_matches("---\n").trim().to_owned())
        .filter(|document| {
            document.contains("kind:") && !document.contains("kind: CustomResourceDefinition")
        })
        .map(
            |document| match document.split_once("milvus-guard.json: |-") {
                Some((head, _)) => format!("{head}milvus-guard.json: (files/dashboard.json)"),
                None => document,
            },
        )
        .collect()
}

#[test]
fn the_chart_is_clean_and_both_helms_agree() {
    for values in [&[][..], &FILES, &EVERYTHING] {
        for with in HELMS {
            let mut command = Command::new(helm(with));
            command.args(["lint", "--strict"]).arg(path());
            command.args(["--set", IMAGE]);
            for value in values {
                command.args(["--set", value]);
            }
            expect_success(command.output().unwrap());
        }
        let [third, fourth] = HELMS.map(|with| documents(&render(with, values)));
        for document in &third {
            assert!(
                fourth.contains(document),
                "Helm 4 renders otherwise: {document:#}"
            );
        }
        assert_eq!(third.len(), fourth.len());
    }
}

#[test]
fn renderings() {
    let _names = plain_snapshot_names();
    let default = readable(&render(Helm::V3, &[]));
    insta::assert_snapshot!("chart_guard__default", default.join("\n---\n"));
    let cases: [(&str, &[&str]); 4] = [
        (
            "chart_guard__cert_manager",
            &["certificates.mode=certManager"],
        ),
        ("chart_guard__files", &FILES),
        ("chart_guard__without_hold", &["hold.enabled=false"]),
        ("chart_guard__everything", &EVERYTHING),
    ];
    for (name, values) in cases {
        insta::assert_snapshot!(
            name,
            difference(&default, &readable(&render(Helm::V3, values)))
        );
    }
}

/// Documents that are new, whole; of the others, the lines that went and came.
fn difference(default: &[String], other: &[String]) -> String {
    let title = |document: &str| {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        format!(
            "# {} {}/{}",
            text(&value, "/kind"),
            text(&value, "/metadata/namespace"),
            text(&value, "/metadata/name")
        )
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
    let known: Vec<(String, &String)> = default
        .iter()
        .map(|document| (title(document), document))
        .collect();
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
            .chain(
                less(document, before)
                    .into_iter()
                    .map(|line| format!("+{line}")),
            )
            .collect();
        if !lines.is_empty() {
            parts.push(format!("{title}\n{}", lines.join("\n")));
        }
    }
    parts.join("\n\n")
}

#[test]
fn names_follow_the_release() {
    let documents = rendered(&[
        "fullnameOverride=g",
        "serviceAccount.name=sa",
        "jobServiceAccount.name=job",
    ]);
    for document in documents
        .iter()
        .filter(|document| document["kind"] != "CustomResourceDefinition")
    {
        let name = text(document, "/metadata/name");
        assert!(
            name.starts_with('g') || name == "sa" || name == "job",
            "{name}"
        );
        let namespaced = !["ClusterRole", "ClusterRoleBinding"].contains(&text(document, "/kind"))
            && !text(document, "/apiVersion").starts_with("admissionregistration");
        // Rendered for kubectl or Argo CD, all is where it belongs.
        assert_eq!(
            text(document, "/metadata/namespace"),
            if namespaced { NAMESPACE } else { "" },
            "{name}"
        );
    }
    let deployment = one(&documents, "Deployment").to_string();
    for wanted in [
        "--service-account=sa\"",
        "--job-service-account=job\"",
        "--tls-secret=g-tls\"",
        "--service-name=g\"",
        "--webhook-configuration=g\"",
        "--webhook-owner=g\"",
        "--path-secret=g-path\"",
        "\"name\":\"g-webhooks\"",
    ] {
        assert!(deployment.contains(wanted), "{wanted}");
    }
    let policies = of_kind(&documents, "ValidatingAdmissionPolicy");
    assert!(policies.iter().any(|policy| {
        policy
            .to_string()
            .contains("'system:serviceaccount:milvus-guard:sa'")
    }));
    assert!(
        registration(&documents)
            .iter()
            .all(|configuration| configuration["metadata"]["name"] == "g")
    );
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
        ("webhook.port=443", "port"),
        ("metrics.port=0", "port"),
        ("dnsPolicy=None", "dnsPolicy"),
        ("commonLabels.a=1", "commonLabels"),
        ("global.imagePullSecrets[0].nam=a", "imagePullSecrets"),
        ("imagePullSecrets={a}", "imagePullSecrets"),
        ("enabled=maybe", "enabled"),
        ("metrics.podMonitor.intervall=1s", "intervall"),
        ("extraVolumes[0].emptyDir.medium=Memory", "name"),
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
            assert!(
                stderr.contains("schema") && stderr.contains(named),
                "{value}: {stderr}"
            );
        }
    }
}

#[test]
fn no_right_to_read_secrets() {
    for values in [&[][..], &FILES, &EVERYTHING, &["hold.enabled=false"]] {
        let documents = rendered(values);
        let managed = values.is_empty() || values == ["hold.enabled=false"];
        let named = if managed {
            json!(["milvus-guard-tls", "milvus-guard-path"])
        } else {
            json!(["milvus-guard-path"])
        };
        let mut secrets = Vec::new();
        for role in of_kind(&documents, "ClusterRole")
            .into_iter()
            .chain(of_kind(&documents, "Role"))
        {
            for rule in role["rules"].as_array().unwrap() {
                let has = |field: &str, wanted: &str| {
                    rule[field]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|found| found.as_str().unwrap().starts_with(wanted))
                };
                assert!(
                    !has("apiGroups", "*") && !has("resources", "*") && !has("verbs", "*"),
                    "{rule}"
                );
                for verb in ["impersonate", "bind", "escalate"] {
                    assert!(!has("verbs", verb), "{rule}");
                }
                assert!(!has("resources", "serviceaccounts"), "{rule}");
                // Hold reads pods: a component is complete when no pod of its old template is left.
                if has("resources", "pods") {
                    assert_eq!(role["metadata"]["name"], "milvus-guard-hold");
                    assert_eq!(
                        (&rule["resources"], &rule["verbs"]),
                        (&json!(["pods"]), &json!(["get", "list", "watch"]))
                    );
                }
                // Its own role, to read: the registration's owner.
                if has("apiGroups", "rbac") {
                    // And the owner of the Reports.
                    let own = role["metadata"]["name"].clone();
                    assert_eq!(
                        (&rule["verbs"], &rule["resourceNames"]),
                        (&json!(["get"]), &json!([own]))
                    );
                }
                if has("resources", "secrets") {
                    assert_eq!(role["kind"], "Role", "{rule}");
                    secrets.push((rule["verbs"].clone(), rule["resourceNames"].clone()));
                }
            }
        }
        let own = [
            (json!(["get", "update", "patch"]), named),
            (json!(["create"]), Value::Null),
        ];
        assert_eq!(secrets, own, "{values:?}");
        assert!(
            of_kind(&documents, "ClusterRoleBinding")
                .iter()
                .chain(&of_kind(&documents, "RoleBinding"))
                // The pod of `helm test` may create runs, which the guard refuses.
                .filter(|binding| text(binding, "/metadata/name") != "milvus-guard-test")
                .all(|binding| {
                    binding["subjects"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|subject| text(subject, "/name") == "milvus-guard")
                })
        );
        // Hold's right never comes without what confines it.
        let holds = documents
            .iter()
            .any(|document| document.to_string().contains(r#""verbs":["patch"]"#));
        assert_eq!(holds, !values.contains(&"hold.enabled=false"));
        assert_eq!(of_kind(&documents, "ValidatingAdmissionPolicy").len(), 2);
        for binding in of_kind(&documents, "ValidatingAdmissionPolicyBinding") {
            assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        }
    }
}

#[rstest]
#[case::this_kubernetes("1.36.3", &[], Ok(true))]
#[case::without_admission_policies("1.29.0", &[], Ok(false))]
#[case::forced_without_admission_policies("1.29.0", &["hold.enabled=true"], Err("1.30"))]
#[case::without_the_webhook_that_pauses("1.36.3", &["versionLabel.enabled=false"], Ok(false))]
#[case::forced_without_that_webhook(
    "1.36.3",
    &["versionLabel.enabled=false", "hold.enabled=true"],
    Err("versionLabel.enabled")
)]
#[case::off("1.36.3", &["hold.enabled=false"], Ok(false))]
fn hold_is_on_where_it_is_confined_and_can_pause(
    #[case] kubernetes: &str,
    #[case] values: &[&str],
    #[case] expected: Result<bool, &str>,
) {
    let chart = path();
    let mut args = vec!["template", "x", chart.to_str().unwrap(), "--set", IMAGE];
    args.extend(["--kube-version", kubernetes]);
    args.extend(values.iter().flat_map(|value| ["--set", *value]));
    let output = Command::new(helm(Helm::V3)).args(args).output().unwrap();
    match expected {
        Ok(expected) => {
            let documents = documents(&expect_success(output));
            let holds = |document: &&Value| document.to_string().contains(r#""--hold""#);
            assert_eq!(documents.iter().any(|one| holds(&one)), expected);
            let has_policies = kubernetes != "1.29.0";
            let policies = of_kind(&documents, "ValidatingAdmissionPolicy");
            assert_eq!(!policies.is_empty(), has_policies);
        }
        Err(reason) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains(reason), "{text}");
        }
    }
}

#[rstest]
#[case::hold_needs_the_webhook("1.36.3", &[], Ok("webhook"))]
#[case::without_hold("1.36.3", &["hold.enabled=false"], Ok("policy"))]
#[case::before_mutating_policies("1.35.2", &["hold.enabled=false"], Ok("webhook"))]
#[case::chosen("1.36.3", &["hold.enabled=false", "versionLabel.by=webhook"], Ok("webhook"))]
#[case::off("1.36.3", &["versionLabel.enabled=false"], Ok("nobody"))]
#[case::off_by_policy("1.36.3", &["versionLabel.enabled=false", "versionLabel.by=policy"], Ok("nobody"))]
#[case::forced_with_hold("1.36.3", &["versionLabel.by=policy"], Err("hold.enabled=false"))]
#[case::forced_too_early(
    "1.35.2",
    &["hold.enabled=false", "versionLabel.by=policy"],
    Err("1.36")
)]
fn the_label_is_set_by_one_of_both(
    #[case] kubernetes: &str,
    #[case] values: &[&str],
    #[case] expected: Result<&str, &str>,
) {
    let chart = path();
    let mut args = vec!["template", "x", chart.to_str().unwrap(), "--set", IMAGE];
    args.extend(["--kube-version", kubernetes]);
    args.extend(values.iter().flat_map(|value| ["--set", *value]));
    let output = Command::new(helm(Helm::V3)).args(args).output().unwrap();
    match expected {
        Ok(expected) => {
            let documents = documents(&expect_success(output));
            let policies = of_kind(&documents, "MutatingAdmissionPolicy").len();
            let bindings = of_kind(&documents, "MutatingAdmissionPolicyBinding").len();
            assert_eq!(policies, bindings);
            let by_webhook = webhooks(&documents)
                .iter()
                .any(|webhook| text(webhook, "/name") == "label.guard.milvus.io");
            let by = match (policies, by_webhook) {
                (0, false) => "nobody",
                (0, true) => "webhook",
                (1, false) => "policy",
                both => panic!("{both:?}"),
            };
            assert_eq!(by, expected);
        }
        Err(reason) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains(reason), "{text}");
        }
    }
}

#[test]
fn webhooks_are_as_promised() {
    for values in [&[][..], &FILES, &EVERYTHING] {
        let documents = rendered(values);
        let mut seen = Vec::new();
        for webhook in &webhooks(&documents) {
            let name = text(webhook, "/name");
            let path = if name.starts_with("label") {
                "/mutate"
            } else {
                "/validate"
            };
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
                assert!(
                    excluded.contains(&json!(NAMESPACE))
                        && excluded.contains(&json!("kube-system")),
                    "{name}"
                );
                assert_eq!(
                    excluded.contains(&json!("sandbox")),
                    values.len() == EVERYTHING.len(),
                    "{name}"
                );
            }
            for condition in webhook["matchConditions"].as_array().into_iter().flatten() {
                assert!(!text(condition, "/expression").contains("null."), "{name}");
            }
            // A webhook that fails closed on everything stops a cluster.
            for rule in webhook["rules"].as_array().unwrap() {
                assert!(!rule.to_string().contains(r#"["*"]"#), "{name}: {rule}");
            }
            seen.push((name.to_owned(), text(webhook, "/failurePolicy").to_owned()));
        }
        let promised = [
            ("release.guard.milvus.io", "Ignore"),
            ("workload.guard.milvus.io", "Fail"),
            ("dependencies.guard.milvus.io", "Fail"),
            ("elsewhere.guard.milvus.io", "Ignore"),
            ("documents.guard.milvus.io", "Fail"),
            ("label.guard.milvus.io", "Ignore"),
        ];
        assert_eq!(
            seen,
            promised.map(|(name, policy)| (name.to_owned(), policy.to_owned()))
        );
    }
    let documents = rendered(&EVERYTHING);
    let all = webhooks(&documents);
    // What a user asks for comes on top of the exclusions, whichever form it has.
    assert_eq!(
        all[0]
            .pointer("/namespaceSelector/matchExpressions/1/key")
            .unwrap(),
        "team"
    );
    assert_eq!(
        all[1]
            .pointer("/namespaceSelector/matchLabels/team")
            .unwrap(),
        "search"
    );
    // The guard registers what it finds next to its certificate; nobody else writes there.
    let args = one(&documents, "Deployment")
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap()
        .clone();
    assert!(
        args.as_array()
            .unwrap()
            .contains(&json!("--webhook-ca-file=/etc/milvus-guard/tls/ca.crt"))
    );
    assert!(
        !registration(&documents)
            .iter()
            .any(|configuration| configuration.to_string().contains("cert-manager"))
    );
    for webhook in webhooks(&rendered(&FILES)) {
        assert!(text(&webhook, "/clientConfig/caBundle").starts_with("LS0tLS1CRUdJTi"));
    }
    // Nothing that the guard writes is an object of Helm's: two would fight for it.
    for values in [&[][..], &FILES, &EVERYTHING] {
        let documents = rendered(values);
        assert!(
            documents
                .iter()
                .all(|document| !text(document, "/kind").ends_with("WebhookConfiguration"))
        );
        assert!(
            documents
                .iter()
                .all(|document| document["kind"] != "Secret")
        );
    }
    assert!(
        webhooks(&rendered(&[]))
            .iter()
            .all(|webhook| webhook["clientConfig"].get("caBundle").is_none())
    );
}

#[test]
fn the_deployment_is_as_promised() {
    let documents = rendered(&[]);
    let deployment = one(&documents, "Deployment");
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 3);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["automountServiceAccountToken"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "milvus-guard:0.1.0");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}})
    );
    assert_ne!(
        container["livenessProbe"]["httpGet"]["path"],
        container["readinessProbe"]["httpGet"]["path"]
    );
    let keys: Vec<&str> = pod["topologySpreadConstraints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(one, "/topologyKey"))
        .collect();
    assert_eq!(
        keys,
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    );
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
    assert_eq!(
        one(&documents, "PodDisruptionBudget")["spec"]["maxUnavailable"],
        1
    );
    let with_rows = rendered(&["data.configMap=rows"]);
    let pod = &one(&with_rows, "Deployment")["spec"]["template"]["spec"];
    assert!(
        pod["containers"][0]["args"]
            .as_array()
            .unwrap()
            .contains(&json!("--data=/etc/milvus-guard/data"))
    );
    assert_eq!(
        pod["volumes"][0],
        json!({"name": "webhooks", "configMap": {"name": "milvus-guard-webhooks"}})
    );
    assert_eq!(
        pod["volumes"][1],
        json!({"name": "data", "configMap": {"name": "rows", "optional": true}})
    );
    assert_eq!(
        pod["containers"][0]["volumeMounts"],
        json!([
            {"name": "webhooks", "mountPath": "/etc/milvus-guard/webhooks", "readOnly": true},
            {"name": "data", "mountPath": "/etc/milvus-guard/data", "readOnly": true},
        ])
    );
    assert!(
        of_kind(&rendered(&["replicas=1"]), "PodDisruptionBudget").is_empty(),
        "one pod would never be drained"
    );
    assert!(of_kind(&rendered(&["priorityClassName="]), "ResourceQuota").is_empty());
}

#[test]
fn definitions_of_kinds_are_kept_unless_asked() {
    let kept = |values: &[&str]| {
        let documents = rendered(values);
        of_kind(&documents, "CustomResourceDefinition")
            .iter()
            .map(|kind| {
                (
                    text(kind, "/metadata/name").to_owned(),
                    kind["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep",
                )
            })
            .collect::<Vec<_>>()
    };
    let names = [
        "upgradepolicies",
        "upgradeexceptions",
        "upgraderuns",
        "releasedecisions",
    ];
    assert_eq!(
        kept(&[]),
        names.map(|name| (format!("{name}.guard.milvus.io"), true))
    );
    assert_eq!(
        kept(&["crds.keep=false"]),
        names.map(|name| (format!("{name}.guard.milvus.io"), false))
    );
    assert_eq!(kept(&["crds.install=false"]), []);
}

#[test]
fn dashboard_and_alerts_are_whole() {
    let documents = rendered(&EVERYTHING);
    let maps = of_kind(&documents, "ConfigMap");
    let map = maps
        .iter()
        .find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1")
        .unwrap();
    let dashboard: Value = serde_json::from_str(text(map, "/data/milvus-guard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    each_panel_explains_itself(panels);
    let rule = one(&documents, "PrometheusRule");
    let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let mut expressions: Vec<&str> = alerts.iter().map(|alert| text(alert, "/expr")).collect();
    for alert in alerts {
        for field in [
            "/alert",
            "/expr",
            "/labels/severity",
            "/annotations/summary",
            "/annotations/runbook_url",
        ] {
            assert!(!text(alert, field).is_empty(), "{alert:#}");
        }
    }
    for expression in &expressions {
        assert!(!expression.contains("__"), "{expression}");
        assert!(
            expression.contains(r#"job="milvus-guard-metrics""#)
                || expression.contains("apiserver_"),
            "{expression}"
        );
    }
    expressions.extend(
        panels
            .iter()
            .filter(|panel| panel["type"] != "row")
            .flat_map(|panel| panel["targets"].as_array().unwrap())
            .map(|target| text(target, "/expr")),
    );
    for expression in &expressions {
        if let Err(error) = promql_parser::parser::parse(&with_values(expression)) {
            panic!("{expression}: {error}");
        }
        for metric in expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            assert!(
                !metric.starts_with("milvus_guard_") || METRICS.contains(&metric),
                "{metric} is none of the guard's metrics"
            );
        }
    }
    let all = expressions.concat();
    for metric in METRICS {
        assert!(all.contains(metric), "{metric} is shown nowhere");
    }
}

/// Each panel has an id and a space of its own, and says what it shows and in which unit.
fn each_panel_explains_itself(panels: &[Value]) {
    const COLUMNS: u64 = 24;
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        let space = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for x in space("x")..space("x") + space("w") {
            for y in space("y")..space("y") + space("h") {
                assert!(x < COLUMNS && taken.insert((x, y)), "{panel:#}");
            }
        }
        assert!(!text(panel, "/title").is_empty(), "{panel:#}");
        if panel["type"] != "row" {
            for field in ["/description", "/fieldConfig/defaults/unit"] {
                assert!(!text(panel, field).is_empty(), "{panel:#}");
            }
        }
    }
}

/// A query as Grafana sends it: with values for the variables that are not inside a text.
fn with_values(expression: &str) -> String {
    let with_values = expression
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1h")
        .replace("$__interval", "1m");
    let outside_of_texts = with_values.split('"').step_by(2);
    for part in outside_of_texts {
        assert!(
            !part.contains('$'),
            "{expression}: a variable without a value"
        );
    }
    with_values
}

/// The guard's metrics, as `serve` names them.
const METRICS: [&str; 28] = [
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
    "milvus_guard_held_deployments",
    "milvus_guard_stuck_holds",
    "milvus_guard_audit_findings",
    "milvus_guard_audit_last_run_timestamp_seconds",
    "milvus_guard_releases",
    "milvus_guard_release_info",
    "milvus_guard_release_findings",
    "milvus_guard_release_last_run",
    "milvus_guard_runs",
    "milvus_guard_acceptances_total",
    "milvus_guard_live_reads_total",
    "milvus_guard_build_info",
    "milvus_guard_data_timestamp_seconds",
    "milvus_guard_data_load_failures_total",
];

// From here on: against real API servers.

pub(crate) fn namespace(cluster: &ControlPlane, name: &str) {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
    ));
}

/// Kinds of others that the chart uses.
pub(crate) fn foreign_kinds(cluster: &ControlPlane) {
    for (group, version, kind, plural) in [
        ("cert-manager.io", "v1", "Issuer", "issuers"),
        ("cert-manager.io", "v1", "Certificate", "certificates"),
        (
            "monitoring.coreos.com",
            "v1",
            "ServiceMonitor",
            "servicemonitors",
        ),
        ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
        (
            "monitoring.coreos.com",
            "v1",
            "PrometheusRule",
            "prometheusrules",
        ),
    ] {
        cluster.apply(&format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{plural: {plural}, singular: {}, kind: {kind}}}\n  versions:\n  - {{name: {version}, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}\n",
            kind.to_lowercase()
        ));
        await_definitions(cluster, &[&format!("{plural}.{group}")]);
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
        // As Helm does before it makes the pod of its test again.
        let test = [
            "delete",
            "pod/milvus-guard-test",
            "-n",
            NAMESPACE,
            "--force",
        ];
        expect_success(cluster.kubectl(test.into_iter().chain(["--ignore-not-found"])));
        expect_success(cluster.kubectl_with_input(
            [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "-f",
                "-",
            ],
            &render(Helm::V4, values),
        ));
    }

    // The API server's own check of the policy's expressions.
    for name in ["hold", "uninstall"] {
        let policy = format!(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/milvus-guard-{name}"
        );
        wait_for(
            "the check of the policy's expressions",
            Duration::from_secs(60),
            || {
                cluster
                    .get_json(&policy)
                    .pointer("/status/typeChecking")
                    .is_some()
            },
        );
        let checked = cluster.get_json(&policy);
        assert_eq!(
            checked.pointer("/status/typeChecking/expressionWarnings"),
            None,
            "{checked:#}"
        );
    }
    // The registration, whole, for its expressions and selectors.
    for values in [
        &FILES[..],
        &EVERYTHING,
        &["workloadGate.secrets=true", KINDS_OF_OTHERS],
    ] {
        for configuration in registered(&rendered(values), &["milvus-a"]) {
            let apply = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "--dry-run=server",
                "-f",
                "-",
            ];
            expect_success(cluster.kubectl_with_input(apply, &configuration.to_string()));
        }
    }

    // Pods like ours are allowed where only restricted ones are.
    expect_success(cluster.kubectl([
        "label",
        "namespace",
        "restricted",
        "pod-security.kubernetes.io/enforce=restricted",
    ]));
    for values in [&[][..], &EVERYTHING] {
        let documents = rendered(values);
        let template = &one(&documents, "Deployment")["spec"]["template"];
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!("pod");
        let create = [
            "create",
            "-n",
            "restricted",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        expect_success(cluster.kubectl_with_input(create, &pod.to_string()));
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        assert!(
            !cluster
                .kubectl_with_input(create, &pod.to_string())
                .status
                .success(),
            "the namespace is not restricted"
        );
    }

    // What the guard may do, asked of the API server. First without Hold.
    let without_hold = render(Helm::V4, &["hold.enabled=false"]);
    expect_success(cluster.kubectl([
        "delete",
        "clusterrolebinding",
        "milvus-guard-hold",
        "--ignore-not-found",
    ]));
    expect_success(
        cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &without_hold),
    );
    let can = |account: &str, words: &[&str]| {
        let account = format!("--as=system:serviceaccount:milvus-guard:{account}");
        cluster
            .kubectl(["auth", "can-i", &account].iter().chain(words))
            .status
            .success()
    };
    for (verb, what, inside, expected) in [
        ("get", "secrets/milvus-guard-tls", NAMESPACE, true),
        ("get", "secrets/milvus-guard-path", NAMESPACE, true),
        ("get", "secrets/other", NAMESPACE, false),
        ("list", "secrets", NAMESPACE, false),
        ("watch", "secrets", NAMESPACE, false),
        ("get", "secrets/milvus-guard-tls", "default", false),
        ("create", "secrets", "default", false),
        ("list", "deployments.apps", "default", true),
        ("patch", "deployments.apps", "default", false),
        ("update", "deployments.apps", "default", false),
        ("delete", "persistentvolumeclaims", "default", false),
        (
            "patch",
            "configmaps/milvus-guard-memory.milvus",
            NAMESPACE,
            true,
        ),
        (
            "delete",
            "configmaps/milvus-guard-memory.milvus",
            NAMESPACE,
            true,
        ),
        ("patch", "configmaps/other", "default", false),
        ("update", "leases.coordination.k8s.io", NAMESPACE, true),
        ("update", "leases.coordination.k8s.io", "kube-system", false),
        ("create", "upgraderuns.guard.milvus.io", NAMESPACE, true),
        ("create", "upgraderuns.guard.milvus.io", "default", false),
        ("list", "upgraderuns.guard.milvus.io", "default", true),
        (
            "patch",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "patch",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/other",
            "default",
            false,
        ),
        (
            "delete",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "delete",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/other",
            "default",
            false,
        ),
        // RBAC cannot name what does not exist yet.
        (
            "create",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "default",
            true,
        ),
        (
            "list",
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "default",
            false,
        ),
        (
            "get",
            "clusterroles.rbac.authorization.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "get",
            "clusterroles.rbac.authorization.k8s.io/cluster-admin",
            "default",
            false,
        ),
    ] {
        assert_eq!(
            can("milvus-guard", &[verb, what, "-n", inside]),
            expected,
            "{verb} {what} in {inside}"
        );
        assert!(
            !can("milvus-guard-job", &[verb, what, "-n", inside]),
            "the job's account: {verb} {what} in {inside}"
        );
    }

    // Hold, everywhere and in some namespaces.
    for (value, expected) in [
        ("hold.enabled=true", [true, true, true]),
        ("hold.namespaces={milvus-a,milvus-b}", [true, true, false]),
    ] {
        let rendered = render(Helm::V4, &["hold.enabled=true", value]);
        expect_success(
            cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &rendered),
        );
        for (inside, expected) in ["milvus-a", "milvus-b", "default"]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(
                can("milvus-guard", &["patch", "deployments.apps", "-n", inside]),
                expected,
                "{value} in {inside}"
            );
        }
        expect_success(cluster.kubectl([
            "delete",
            "clusterrolebinding",
            "milvus-guard-hold",
            "--ignore-not-found",
        ]));
    }
}

const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";
const MUTATING: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/milvus-guard";
const POLICY: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n";

/// Runs the server as the Deployment of a rendering does, with files in place of mounts, and
/// registers it by its address.
fn start_as_charted(
    cluster: &ControlPlane,
    folder: &Path,
    documents: &[Value],
    values: &[&str],
) -> Server {
    let args = one(documents, "Deployment")
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap();
    let files = folder.to_str().unwrap();
    let mut command = guard();
    command
        .env("RUST_LOG", "milvus_guard=debug")
        .arg("--color=never");
    for arg in args.as_array().unwrap() {
        let arg = arg
            .as_str()
            .unwrap()
            .replace("0.0.0.0:8443", "127.0.0.1:0")
            .replace("0.0.0.0:9090", "127.0.0.1:0");
        let arg = arg
            .replace("$(POD_NAMESPACE)", NAMESPACE)
            .replace("/etc/milvus-guard/webhooks", files);
        command.arg(
            arg.replace("/etc/milvus-guard/tls", files)
                .replace("/etc/milvus-guard/client-ca", files),
        );
    }
    command
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard"));
    let server = Server::spawn(command, folder.join("serve.log"));
    wait_for("the server to be ready", Duration::from_secs(60), || {
        server.is_ready()
    });
    assert_eq!(
        cluster.get(VALIDATING).status,
        404,
        "nothing is registered before there is a template"
    );
    write_template(&folder.join(TEMPLATE), &server.url, values);
    server
}

fn is_registered(cluster: &ControlPlane) -> bool {
    [VALIDATING, MUTATING]
        .iter()
        .all(|path| cluster.get(path).status == 200)
}

/// Whoever is refused at the documents gate was asked about: the gates are in force.
fn is_asked(cluster: &ControlPlane) -> bool {
    let wrong = POLICY.replace("MG201", "MG000");
    let output = cluster.kubectl_with_input(["create", "--dry-run=server", "-f", "-"], &wrong);
    String::from_utf8_lossy(&output.stderr)
        .contains("\"documents.guard.milvus.io\" denied the request")
}

#[test]
fn an_installation_that_never_worked_blocks_nothing_and_goes_at_once() {
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
fn what_the_guard_registers_is_its_own_and_goes_with_the_chart() {
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
                    "a secret path"
                );
                assert!(!server.log().contains(token) && !server.get_metrics().contains(token));
            }
        }

        // Others change and delete it: it comes back.
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

        // Helm and the guard have no field in common: upgrades and rollbacks meet no conflict.
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

        // A run is in progress: nothing is removed. Its end frees the way.
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
        assert!(is_asked(&cluster), "{with:?}: the gates stand");
        // Helm 3 notes the try in its record; a rollback to the same revision takes that back.
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
        // The guard still runs here, without its rights: it brings nothing back.
        wait_for("the guard to notice", Duration::from_secs(60), || {
            server.log().contains("could not be registered")
        });
        assert_eq!(cluster.get(VALIDATING).status, 404);
        drop(server);

        // The kinds stayed, with what people wrote. Installed again, they are Helm's again; purged,
        // all goes.
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
fn glass_is_broken_and_mended_as_documented() {
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
        "the gate to wait for nobody",
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

/// The kind `Report` as the OpenReports project defines it.
const OPEN_REPORTS: &str = include_str!("../fixtures/openreports/reports.yaml");

/// A guard that audits a release each second and writes Reports, with the rights of the chart.
fn start_with_reports(cluster: &ControlPlane, folder: &Path) -> Server {
    for name in [NAMESPACE, "milvus", "other"] {
        namespace(cluster, name);
    }
    let chart = Chart::compact("4.1.34");
    expect_success(cluster.helm(
        Helm::V4,
        ["install", "my-release", chart.path(), "-n", "milvus"],
    ));
    install_definitions(cluster);
    let documents = rendered(&["auditInterval=1s", "openReports.enabled=true"]);
    for document in &documents {
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        expect_success(cluster.kubectl_with_input(apply, &document.to_string()));
    }
    // The certificate is for the Service, which nothing serves here: no gate looks at Milvus.
    let without_gate = ["workloadGate.enabled=false"];
    start_as_charted(cluster, folder, &documents, &without_gate)
}

fn policy_report(cluster: &ControlPlane) -> Option<Value> {
    let get = [
        "get",
        "reports",
        "milvus-guard",
        "-n",
        "milvus",
        "-o",
        "json",
    ];
    serde_json::from_slice(&cluster.kubectl(get).stdout).ok()
}

#[test]
fn policy_reports_go_when_the_option_is_switched_off() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    let folder = tempfile::tempdir().unwrap();
    cluster.apply(OPEN_REPORTS);
    let _server = start_with_reports(&cluster, folder.path());
    wait_for("the report", Duration::from_secs(60), || {
        policy_report(&cluster).is_some()
    });
    let with = rendered(&["openReports.enabled=true"]);
    let without = rendered(&[]);
    let key = |object: &Value| [text(object, "/kind"), text(object, "/metadata/name")].join("/");
    let kept: Vec<String> = without.iter().map(key).collect();
    let removed: Vec<String> = with
        .iter()
        .map(key)
        .filter(|key| !kept.contains(key))
        .collect();
    assert_eq!(removed.len(), 2, "{removed:?}");
    expect_success(
        cluster.kubectl(
            ["delete"]
                .into_iter()
                .chain(removed.iter().map(|key| &**key)),
        ),
    );
    wait_for("the report to go", Duration::from_secs(120), || {
        policy_report(&cluster).is_none()
    });
}

#[test]
fn the_audit_writes_policy_reports_where_the_kind_is_served() {
    let cluster = ControlPlane::start();
    let folder = tempfile::tempdir().unwrap();
    let server = start_with_reports(&cluster, folder.path());
    let info = "milvus_guard_release_info{release_namespace=\"milvus\",release=\"my-release\"";
    wait_for("an audit without the kind", Duration::from_secs(60), || {
        server.get_metrics().contains(info)
    });

    cluster.apply(OPEN_REPORTS);
    let found = || policy_report(&cluster);
    wait_for("the report", Duration::from_secs(60), || found().is_some());
    let report = found().unwrap();
    let results = report["results"].as_array().unwrap();
    let counted: u64 = ["pass", "fail", "warn", "error", "skip"]
        .iter()
        .map(|kind| report["summary"][kind].as_u64().unwrap())
        .sum();
    assert_eq!(counted, results.len() as u64, "{report:#}");
    let passed = results
        .iter()
        .find(|result| result["result"] == "pass")
        .unwrap();
    assert_eq!(passed["properties"]["release"], "my-release", "{passed:#}");
    assert!(
        text(passed, "/properties/docs").contains(text(passed, "/policy")),
        "{passed:#}"
    );
    assert!(
        passed["timestamp"]["seconds"].as_u64().unwrap() > 0,
        "{passed:#}"
    );

    // One that somebody removes comes back; the same content is not written again.
    let version = text(&report, "/metadata/resourceVersion");
    let audits = || {
        let name = "milvus_guard_audit_last_run_timestamp_seconds ";
        let metrics = server.get_metrics();
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::to_owned))
    };
    let before = audits();
    wait_for("another audit", Duration::from_secs(60), || {
        audits() != before
    });
    let after = found().unwrap();
    assert_eq!(text(&after, "/metadata/resourceVersion"), version);
    expect_success(cluster.kubectl(["delete", "reports", "--all", "-n", "milvus"]));
    wait_for("the report again", Duration::from_secs(60), || {
        found().is_some()
    });

    expect_success(cluster.kubectl(["delete", "deployments", "--all", "-n", "milvus"]));
    wait_for("no report without Milvus", Duration::from_secs(60), || {
        let reports = cluster.get_json("/apis/openreports.io/v1alpha1/reports");
        reports["items"].as_array().is_some_and(Vec::is_empty)
    });
    wait_for("no series without Milvus", Duration::from_secs(60), || {
        !server.get_metrics().contains(info)
    });
    let log = server.log();
    assert!(
        !log.contains("policy reports could not be written"),
        "{log}"
    );
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
    expect_success(cluster.helm(
        Helm::V4,
        ["install", "my-release", chart.path(), "-n", "milvus"],
    ));
    install_definitions(&cluster);
    cluster.apply("apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: mine}\nspec:\n  rules: [{id: MG201, action: Warn}]\n");
    let documents = rendered(&["auditInterval=1s"]);
    for document in &documents {
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        expect_success(cluster.kubectl_with_input(apply, &document.to_string()));
    }

    let server = start_as_charted(&cluster, folder.path(), &documents, &[]);
    wait_for("the registration", Duration::from_secs(60), || {
        is_registered(&cluster)
    });
    wait_for(
        "the running releases to be remembered",
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
    // Here the template came after the start.
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
    // Families show up when they have something to say; which there are is in the source.
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
        // An Info gets its suffix from the library, a gauge has it in its name.
        let is_there = |name: &str| {
            source.contains(&format!("\"{}\"", name.trim_start_matches("milvus_guard_")))
        };
        assert!(
            is_there(family) || is_there(name),
            "serve has no metric {name}"
        );
    }
    drop(server);

    // A certificate of one's own, as cert-manager brings it; callers must show one too, and probes,
    // which have none, are answered all the same.
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
    for document in documents
        .iter()
        .filter(|document| !text(document, "/kind").ends_with("WebhookConfiguration"))
    {
        expect_success(
            cluster
                .kubectl_with_input(["apply", "--server-side", "-f", "-"], &document.to_string()),
        );
    }
    let create = ["create", "-n", "milvus", "-f", "-"];
    expect_success(cluster.kubectl_with_input(create, STRANGER));
    let stateful = STRANGER
        .replace("Deployment", "StatefulSet")
        .replace("spec:\n  replicas", "spec:\n  serviceName: web\n  replicas");
    expect_success(cluster.kubectl_with_input(create, &stateful));

    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard");
    let guard = |args: &[&str]| {
        cluster
            .kubectl_command()
            .env("KUBECONFIG", &kubeconfig)
            .args(["-n", "milvus"])
            .args(args)
            .output()
            .unwrap()
    };
    // By its own rights, it can only patch.
    let denied = guard(&["delete", "deployment", "web"]);
    assert!(
        String::from_utf8_lossy(&denied.stderr).contains("cannot delete resource"),
        "{denied:?}"
    );
    // Somebody means it too well.
    expect_success(cluster.kubectl([
        "create",
        "clusterrolebinding",
        "too-well",
        "--clusterrole=cluster-admin",
        &format!("--user={ACCOUNT}"),
    ]));

    let patch =
        |kind: &str, patch: &str| guard(&["patch", kind, "web", "--type=merge", "-p", patch]);
    let is_denied = |output: &Output| {
        String::from_utf8_lossy(&output.stderr)
            .contains("ValidatingAdmissionPolicy 'milvus-guard-hold'")
    };
    let image = r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}}"#;
    wait_for("the policy to be in force", Duration::from_secs(30), || {
        let output = guard(&[
            "patch",
            "deployment",
            "web",
            "--type=merge",
            "--dry-run=server",
            "-p",
            image,
        ]);
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
        &[
            "patch",
            "statefulset",
            "web",
            "--type=merge",
            "-p",
            r#"{"metadata": {"annotations": {"guard.milvus.io/x": "1"}}}"#,
        ],
        &[
            "patch",
            "deployment",
            "web",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status": {"replicas": 9}}"#,
        ],
        &["create", "deployment", "other", "--image=nginx"],
    ] {
        let output = guard(denied);
        assert!(is_denied(&output), "{denied:?}: {output:?}");
    }
    // Others are not concerned.
    expect_success(cluster.kubectl([
        "patch",
        "deployment",
        "web",
        "-n",
        "milvus",
        "--type=merge",
        "-p",
        image,
    ]));
    expect_success(cluster.kubectl(["scale", "deployment/web", "-n", "milvus", "--replicas=0"]));
}

/// What is tried while nobody answers the webhooks, which all fail closed: who is noticed, by which
/// webhook, and who is not.
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
            "template": {{"metadata": {{"labels": {selector}}}, "spec": {{{}}}}}}}}}"#,
        with_mount(container)
    )
}

fn deployment(name: &str, chart: &str, selector: &str, container: &str) -> String {
    workload("Deployment", name, chart, selector, container)
        .replace(&format!(r#""serviceName": "{name}", "#), "")
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

/// The registration as the guard completes it where these namespaces hold Milvus; at an address
/// where nobody answers.
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

/// Brings the webhooks, or some of them, into a cluster where nobody answers, and all of them
/// failing closed.
fn deaf(cluster: &ControlPlane, documents: &[Value], kinds: &[&str]) {
    for mut configuration in registered(documents, &["milvus"]) {
        if !kinds.contains(&text(&configuration, "/kind")) {
            continue;
        }
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["failurePolicy"] = json!("Fail");
        }
        cluster.apply(&configuration.to_string());
    }
    // A new configuration takes a moment to be in force.
    let probe = deployment(
        "probe",
        "x",
        r#"{"app": "x"}"#,
        r#"{"name": "x", "image": "milvusdb/milvus:v2.5.5"}"#,
    );
    wait_for(
        "the webhooks to be in force",
        Duration::from_secs(60),
        || {
            !cluster
                .kubectl_with_input(
                    ["create", "--dry-run=server", "-n", "default", "-f", "-"],
                    &probe,
                )
                .status
                .success()
        },
    );
}

fn tried(cluster: &ControlPlane, tries: &[Try<'_>]) {
    let mut wrong = Vec::new();
    for Try {
        what,
        args,
        input,
        noticed_by,
    } in tries
    {
        let output = cluster.kubectl_with_input(args.iter(), input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let seen = stderr
            .split_once("failed calling webhook \"")
            .map(|(_, rest)| rest.split('"').next().unwrap_or_default());
        let seen = seen.map(|name| name.trim_end_matches(".guard.milvus.io"));
        // Milvus or its dependencies: with some charts that depends on the values.
        let seen =
            if *noticed_by == Some("one") && matches!(seen, Some("workload" | "dependencies")) {
                *noticed_by
            } else {
                seen
            };
        if seen != *noticed_by || output.status.success() != noticed_by.is_none() {
            wrong.push(format!(
                "{what}: wanted {noticed_by:?}, got {seen:?}: {stderr}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const RUNS_MILVUS: &str = r#"{"name": "c", "image": "milvusdb/milvus:v2.5.5"}"#;
/// An image, a command and a name without any word of Milvus.
const WRAPPER: &str = r#"{"name": "c", "image": "acme/vectors:1", "command": ["/start"], "volumeMounts": [{"name": "m", "mountPath": "/milvus/configs/operator"}]}"#;
const CONTROLLED: &str = r#", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]"#;
const OWNED: &str = r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]}}"#;
const AS_CONTROLLER: &[&str] = &[
    "create",
    "-n",
    "milvus",
    "--dry-run=server",
    "--as=system:serviceaccount:kube-system:replicaset-controller",
    "--as-group=system:masters",
    "-f",
    "-",
];
const ELSEWHERE: &[&str] = &["create", "-n", "elsewhere", "--dry-run=server", "-f", "-"];

fn with_mount(container: &str) -> String {
    let volumes = r#", "volumes": [{"name": "m", "emptyDir": {}}]"#;
    format!(
        r#""containers": [{container}]{}"#,
        if container.contains("volumeMounts") {
            volumes
        } else {
            ""
        }
    )
}

fn pod(name: &str, container: &str, owners: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"{owners}}}, "spec": {{{spec}}}}}"#
    )
}

fn job(name: &str, container: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "{name}"}},
            "spec": {{"template": {{"spec": {{"restartPolicy": "Never", {spec}}}}}}}}}"#
    )
}

fn cron_job(name: &str, container: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {{"name": "{name}"}}, "spec": {{"schedule": "0 0 * * *",
            "jobTemplate": {{"spec": {{"template": {{"spec": {{"restartPolicy": "Never", {spec}}}}}}}}}}}}}"#
    )
}

const CREATE: &[&str] = &["create", "-n", "milvus", "--dry-run=server", "-f", "-"];
const MILVUS: &str =
    r#"{"name": "proxy", "image": "milvusdb/milvus:v2.5.5", "args": ["milvus", "run", "proxy"]}"#;
const NGINX: &str = r#"{"name": "web", "image": "nginx:1"}"#;
const OTHER: &str = r#"{"app": "web"}"#;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_gates_see_milvus_and_nothing_else() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus", "sandbox", "elsewhere"] {
        namespace(&cluster, name);
    }
    expect_success(cluster.kubectl(["create", "-n", "milvus", "serviceaccount", "default"]));
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
        pod("bare", RUNS_MILVUS, ""),
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

    let make = |what, object: String, noticed_by| Try {
        what,
        args: CREATE,
        input: object,
        noticed_by,
    };
    let run = |what, args, noticed_by| Try {
        what,
        args,
        input: String::new(),
        noticed_by,
    };
    let gate = Some("workload");
    let below = Some("dependencies");
    let release = Some("release");
    let secret = r#""type": "helm.sh/release.v1","#;
    let container = |rest: &str| format!(r#"{{"name": "c", {rest}}}"#);
    let long = format!(
        r#"{{"name": "c", "image": "acme/v:1", "args": ["{}", "milvus", "run", "proxy"]}}"#,
        "x ".repeat(200_000)
    );
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
        make("etcd by image", workload("StatefulSet", "n", "x", OTHER, &container(r#""image": "docker.io/milvusdb/etcd:3.5.18-r1""#)), below),
        make("etcd by selector", existing[4].replace("r-etcd", "n"), below),
        make("MinIO", workload("StatefulSet", "n", "x", r#"{"app": "minio", "release": "r"}"#, NGINX), below),
        make("Pulsar", workload("StatefulSet", "n", "x", r#"{"app": "pulsarv3"}"#, NGINX), below),
        make("Kafka as a Deployment", deployment("n", "x", OTHER, &container(r#""image": "bitnami/kafka:3""#)), below),
        make("a web server", existing[2].replace("\"web\", \"labels", "\"n\", \"labels"), None),
        make("a database", existing[6].replace("\"db\", \"labels", "\"n\", \"labels"), None),
        make("Attu", deployment("n", "attu-1", r#"{"app": "attu"}"#, &container(r#""image": "zilliz/attu:v2.3.10""#)), None),
        make("a tool for Kafka", deployment("n", "x", r#"{"app": "kafka-ui"}"#, &container(r#""image": "provectuslabs/kafka-ui:1""#)), None),
        make("an exporter", deployment("n", "x", OTHER, &container(r#""image": "danielqsj/kafka-exporter:1""#)), None),
        make("a word with minio in it", deployment("n", "x", OTHER, &container(r#""image": "example.com/dominion-api:1""#)), None),
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
        run("etcd's image", &["set", "image", "-n", "milvus", "statefulset/r-etcd", "e=a/b:2"], below),
        run("a web server's image", &["set", "image", "-n", "milvus", "deployment/web", "web=nginx:2"], None),
        run("a database's image", &["set", "image", "-n", "milvus", "statefulset/db", "db=postgres:18"], None),
        // Scale.
        run("kubectl scale", &["scale", "-n", "milvus", "deployment/r-milvus-proxy", "--replicas=3"], gate),
        run("kubectl scale under another name", &["scale", "-n", "milvus", "deployment/vectors-proxy", "--replicas=3"], gate),
        run("scale of a web server", &["scale", "-n", "milvus", "deployment/web", "--replicas=3"], None),
        run("scale of another's component", &["scale", "-n", "milvus", "deployment/ingress", "--replicas=3"], None),
        // ConfigMaps.
        make("a configuration", existing[7].replace(r#""vectors""#, r#""n""#), below),
        make("an old one", existing[7].replace(r#""vectors""#, r#""n""#).replace("user.yaml", "milvus.yaml"), below),
        run("a changed configuration", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": {"user.yaml": "a: 2"}}"#], below),
        run("a configuration taken away", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": null}"#], below),
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
        run("a bigger claim", &["patch", "-n", "milvus", "pvc", "bound", "--type=merge", "-p", r#"{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}"#], below),
        run("a claim gets its volume", &["patch", "-n", "milvus", "pvc", "vectors", "--type=merge", "-p", r#"{"spec": {"volumeName": "pv"}, "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}"#], None),
        run("a deleted claim", &["delete", "-n", "milvus", "pvc", "vectors"], below),
        run("a deleted claim of etcd", &["delete", "-n", "milvus", "pvc", "data-r-etcd-0"], below),
        run("another's deleted claim", &["delete", "-n", "milvus", "pvc", "scratch", "--wait=false"], None),
        // Deletion.
        run("deleted by a person", &["delete", "-n", "milvus", "deployment", "vectors-proxy"], gate),
        run("etcd deleted by a person", &["delete", "-n", "milvus", "statefulset", "r-etcd"], below),
        run("all deleted by a person", &["delete", "-n", "milvus", "statefulset", "--all", "--dry-run=server"], below),
        run("a web server deleted", &["delete", "-n", "milvus", "deployment", "web"], None),
        run("collected", &["delete", "-n", "milvus", "statefulset", "r-etcd", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], None),
        run("its namespace ends", &["delete", "-n", "milvus", "deployment", "r-milvus-proxy", "--as=system:serviceaccount:kube-system:namespace-controller", "--as-group=system:masters"], None),
        run("changed by the collector", &["set", "image", "-n", "milvus", "statefulset/r-etcd2", "e=a/b:2", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], below),
        // Other kinds.
        make("a Service", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "milvus"}, "spec": {"ports": [{"port": 1}]}}"#.into(), None),
        make("a Job", job("n", RUNS_MILVUS), gate),
        make("a Job of another", job("n", NGINX), None),
        make("a CronJob", cron_job("n", RUNS_MILVUS), gate),
        make("a CronJob of another", cron_job("milvus-like", NGINX), None),
        make("a Pod", pod("n", RUNS_MILVUS, ""), gate),
        make("a Pod of another", pod("milvus-like", NGINX, ""), None),
        make("a Pod with a wrapper image that mounts Milvus' configuration", pod("n", WRAPPER, ""), gate),
        make("a person's Pod that names a controller", pod("n", RUNS_MILVUS, CONTROLLED), gate),
        Try { what: "a controller's Pod", args: AS_CONTROLLER, input: pod("n", RUNS_MILVUS, CONTROLLED), noticed_by: None },
        Try { what: "an account's Pod without a controller", args: AS_CONTROLLER, input: pod("n", RUNS_MILVUS, ""), noticed_by: gate },
        run("the image of a running Pod", &["set", "image", "-n", "milvus", "pod/bare", "c=milvusdb/milvus:v2.6.2"], gate),
        run("the image of a running Pod away", &["set", "image", "-n", "milvus", "pod/bare", "c=acme/v:1"], gate),
        run("a running Pod's label", &["label", "-n", "milvus", "pod/bare", "a=b"], None),
        run("a running Pod deleted", &["delete", "-n", "milvus", "pod/bare", "--dry-run=server"], None),
        make("a DaemonSet", workload("DaemonSet", "n", "x", OTHER, RUNS_MILVUS).replace(r#""serviceName": "n", "#, ""), gate),
        make("a ReplicaSet", workload("ReplicaSet", "n", "x", OTHER, RUNS_MILVUS).replace(r#""serviceName": "n", "#, ""), gate),
        make("a ReplicationController", r#"{"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "n"}, "spec": {"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "milvusdb/milvus:v2.5.5"}]}}}}"#.into(), gate),
        make("a StatefulSet with a wrapper image", workload("StatefulSet", "n", "x", OTHER, WRAPPER), gate),
        make("a Deployment with bitnami's folder", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "volumeMounts": [{"name": "m", "mountPath": "/opt/bitnami/milvus/configs"}]"#)), gate),
        make("an init container that stays", deployment("n", "x", OTHER, &format!("{NGINX}], \"initContainers\": [{MILVUS}")), gate),
        make("an operator of Milvus", deployment("n", "x", OTHER, &container(r#""image": "milvusdb/milvus-operator:1""#)), None),
        make("a backup of Milvus", job("n", &container(r#""image": "milvusdb/milvus-backup:1", "args": ["create"]"#)), None),
        run("scale of etcd", &["scale", "-n", "milvus", "statefulset/r-etcd2", "--replicas=0"], below),
        run("scale of a database", &["scale", "-n", "milvus", "statefulset/db", "--replicas=0"], None),
        run("what becomes of etcd's claims", &["patch", "-n", "milvus", "statefulset/r-etcd2", "--type=merge", "-p", r#"{"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}"#], below),
        run("an owner for etcd", &["patch", "-n", "milvus", "statefulset/r-etcd2", "--type=merge", "-p", OWNED], below),
        run("an owner for a claim", &["patch", "-n", "milvus", "pvc/data-r-etcd-0", "--type=merge", "-p", OWNED], below),
        run("an owner for Milvus", &["patch", "-n", "milvus", "deployment/vectors-proxy", "--type=merge", "-p", OWNED], gate),
        run("an owner for a web server", &["patch", "-n", "milvus", "deployment/ingress", "--type=merge", "--dry-run=server", "-p", OWNED], None),
        make("a configuration as bytes", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "binaryData": {"milvus.yaml": "YQ=="}}"#.into(), below),
        make("a Secret with a configuration", r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}, "stringData": {"milvus.yaml": "a: 1"}}"#.into(), None),
        // Where no Milvus is, only what is Milvus'.
        Try { what: "elsewhere: Milvus", args: ELSEWHERE, input: existing[1].clone(), noticed_by: gate },
        Try { what: "elsewhere: etcd", args: ELSEWHERE, input: existing[4].clone(), noticed_by: Some("elsewhere") },
        Try { what: "elsewhere: a configuration that says whose it is", args: ELSEWHERE, input: existing[7].replace(r#""vectors""#, r#""r-milvus""#), noticed_by: gate },
        Try { what: "elsewhere: a configuration that does not", args: ELSEWHERE, input: existing[7].clone(), noticed_by: None },
        Try { what: "elsewhere: Milvus' claim", args: ELSEWHERE, input: claim(r#""name": "r-milvus""#, "{}"), noticed_by: gate },
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
            for values in [
                &[][..],
                &["cluster.enabled=false"],
                &["nameOverride=vectors", "fullnameOverride=vectors"],
            ] {
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
                    "Deployment" | "StatefulSet" if !name.ends_with("attu") => Some("one"),
                    "ConfigMap"
                        if ["milvus.yaml", "default.yaml", "user.yaml"]
                            .into_iter()
                            .any(keys) =>
                    {
                        Some("one")
                    }
                    "PersistentVolumeClaim" if name.contains("milvus") => Some("one"),
                    _ => None,
                };
                (
                    format!(
                        "{} {} {values:?}: {kind} {name}",
                        chart.version, chart.is_real
                    ),
                    object.to_string(),
                    noticed_by,
                )
            })
            .collect();
        assert!(
            tries
                .iter()
                .filter(|(_, _, noticed_by)| noticed_by.is_some())
                .count()
                >= 3,
            "{} {values:?}",
            chart.version
        );
        let tries: Vec<Try<'_>> = tries
            .iter()
            .map(|(what, input, noticed_by)| Try {
                what,
                args: CREATE,
                input: input.clone(),
                noticed_by: *noticed_by,
            })
            .collect();
        tried(&cluster, &tries);
    }
}

/// Workloads, configurations and claims of a rendering.
fn manifests(chart: &Chart, rendering: &str) -> Vec<Value> {
    rendering
        .split("\n---\n")
        .filter(|document| {
            [
                "Deployment",
                "StatefulSet",
                "ConfigMap",
                "PersistentVolumeClaim",
            ]
            .iter()
            .any(|kind| {
                document.contains(&format!("\nkind: {kind}\n"))
                    || document.starts_with(&format!("kind: {kind}\n"))
            })
        })
        .map(|document| {
            // Real charts render some keys twice.
            let mut options = serde_saphyr::Options::default();
            options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
            serde_saphyr::from_str_with_options(document, options)
                .unwrap_or_else(|error| panic!("{}: {error}", chart.version))
        })
        .collect()
}

#[test]
fn the_label_webhook_sees_milvus_only() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    let old = deployment(
        "vectors-proxy",
        "milvus-4.2.40",
        r#"{"app": "vectors"}"#,
        MILVUS,
    );
    expect_success(cluster.kubectl_with_input(["create", "-n", "milvus", "-f", "-"], &old));
    deaf(&cluster, &rendered(&[]), &["MutatingWebhookConfiguration"]);
    let label = Some("label");
    let make = |what, object: String, noticed_by| Try {
        what,
        args: CREATE,
        input: object,
        noticed_by,
    };
    let run = |what, args, noticed_by| Try {
        what,
        args,
        input: String::new(),
        noticed_by,
    };
    tried(
        &cluster,
        &[
            make("Milvus", deployment("n", "x", OTHER, MILVUS), label),
            make("a web server", deployment("n", "x", OTHER, NGINX), None),
            make(
                "etcd",
                workload(
                    "StatefulSet",
                    "n",
                    "x",
                    OTHER,
                    r#"{"name": "e", "image": "a/etcd:1"}"#,
                ),
                None,
            ),
            run(
                "a label",
                &[
                    "label",
                    "-n",
                    "milvus",
                    "deployment/vectors-proxy",
                    "guard.milvus.io/version=x",
                ],
                label,
            ),
            run(
                "a scale",
                &[
                    "scale",
                    "-n",
                    "milvus",
                    "deployment/vectors-proxy",
                    "--replicas=2",
                ],
                None,
            ),
            run(
                "a deletion",
                &["delete", "-n", "milvus", "deployment/vectors-proxy"],
                None,
            ),
            Try {
                what: "the guard's namespace",
                args: &["create", "-n", NAMESPACE, "-f", "-"],
                input: deployment("n", "x", OTHER, MILVUS),
                noticed_by: None,
            },
        ],
    );
}

/// A chart of something that is called like the dependencies of Milvus.
fn foreign_chart(folder: &Path) -> String {
    let chart = folder.join("kafka");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: kafka\nversion: 1.0.0\n",
    )
    .unwrap();
    let labels = r#"{"app.kubernetes.io/name": "kafka", "app.kubernetes.io/instance": "k"}"#;
    let objects = [
        workload("StatefulSet", "k-kafka", "kafka-1", labels, r#"{"name": "k", "image": "bitnami/kafka:{{ .Values.tag }}"}"#),
        deployment("k-kafka-ui", "kafka-1", r#"{"app": "kafka-ui"}"#, r#"{"name": "u", "image": "kafka-ui:{{ .Values.tag }}"}"#),
        claim(r#""name": "data-k-kafka-0""#, labels),
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "k"}, "data": {"user.yaml": "a: {{ .Values.tag }}"}}"#
            .into(),
    ];
    fs::write(chart.join("values.yaml"), "tag: '1'\n").unwrap();
    fs::write(chart.join("templates/all.yaml"), objects.join("\n---\n")).unwrap();
    chart.to_str().unwrap().to_owned()
}

/// The registration with its own failure policies, where nobody answers. Milvus runs in `milvus`.
fn dead(cluster: &ControlPlane) {
    for name in [NAMESPACE, "milvus", "elsewhere"] {
        namespace(cluster, name);
    }
    for configuration in registered(&rendered(&[]), &["milvus"]) {
        cluster.apply(&configuration.to_string());
    }
    wait_for(
        "the webhooks to be in force",
        Duration::from_secs(60),
        || {
            let probe = deployment("probe", "x", OTHER, MILVUS);
            !cluster
                .kubectl_with_input(
                    ["create", "--dry-run=server", "-n", "elsewhere", "-f", "-"],
                    &probe,
                )
                .status
                .success()
        },
    );
}

#[test]
fn with_the_guard_dead_other_workloads_continue() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    let folder = tempfile::tempdir().unwrap();
    dead(&cluster);
    let image = |image: &str| format!(r#"{{"name": "c", "image": "{image}"}}"#);
    let etcd = r#"{"app.kubernetes.io/name": "etcd", "app.kubernetes.io/instance": "r"}"#;
    let keys = |name: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}, "data": {{"default.yaml": "a: 1", "user.yaml": "b: 1"}}}}"#
        )
    };
    let app = |name: &str| format!(r#"{{"app": "{name}"}}"#);
    // Beside Milvus, too: what only sounds like it.
    let beside = [
        deployment(
            "kafka-ui",
            "x",
            &app("kafka-ui"),
            &image("provectuslabs/kafka-ui:1"),
        ),
        deployment(
            "dominion",
            "x",
            &app("dominion"),
            &image("example.com/dominion-api:1"),
        ),
        deployment(
            "minio-console",
            "x",
            &app("minio-console"),
            &image("minio/console:1"),
        ),
        deployment(
            "etcdkeeper",
            "x",
            &app("etcdkeeper"),
            &image("evildecay/etcdkeeper:1"),
        ),
        deployment(
            "exporter",
            "x",
            &app("exporter"),
            &image("bitnami/kafka-exporter:1"),
        ),
        deployment(
            "zoonavigator",
            "x",
            &app("zoonavigator"),
            &image("elkozmon/zoonavigator:1"),
        ),
        deployment("attu", "x", &app("attu"), &image("zilliz/attu:v2")),
        deployment("client", "x", &app("client"), &image("acme/kafka/client:1")),
        job("mc", &image("minio/mc:1")),
        cron_job("etcd-defrag", &image("acme/etcd-defrag:1")),
        pod("web", NGINX, ""),
        claim(r#""name": "scratch""#, "{}"),
    ];
    // Where Milvus is not: everything that is not Milvus.
    let elsewhere = [
        workload(
            "StatefulSet",
            "zookeeper",
            "zookeeper-1",
            &app("zookeeper"),
            &image("zookeeper:3"),
        ),
        workload(
            "StatefulSet",
            "etcd",
            "etcd-1",
            etcd,
            &image("bitnami/etcd:3"),
        ),
        workload(
            "StatefulSet",
            "minio",
            "minio-1",
            &app("minio"),
            &image("minio/minio:1"),
        ),
        workload(
            "StatefulSet",
            "kafka",
            "kafka-1",
            &app("kafka"),
            &image("bitnami/kafka:3"),
        ),
        workload(
            "StatefulSet",
            "pulsar",
            "pulsar-1",
            &app("pulsar"),
            &image("apachepulsar/pulsar:3"),
        ),
        deployment("mysql", "x", &app("mysql"), &image("mysql:8")),
        claim(
            r#""name": "data-postgres-0""#,
            r#"{"app.kubernetes.io/instance": "postgres"}"#,
        ),
        claim(r#""name": "data-etcd-0""#, r#"{"release": "etcd"}"#),
        keys("settings"),
        keys("kafka"),
    ];
    let mut hindered = Vec::new();
    let mut walk = |space: &str, objects: &[String]| {
        for object in objects {
            let changed = object
                .replace(r#":1"}"#, r#":2"}"#)
                .replace(r#":3"}"#, r#":4"}"#)
                .replace("b: 1", "b: 2");
            for (args, input) in [
                (["create", "-n", space, "-f", "-"], object),
                (["apply", "-n", space, "-f", "-"], &changed),
            ] {
                let output = cluster.kubectl_with_input(args, input);
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                if !output.status.success()
                    && !stderr.contains("field is immutable")
                    && !stderr.contains("pod updates may not")
                {
                    hindered.push(format!("{space}: {args:?} {input}: {stderr}"));
                }
            }
        }
        let scaled = cluster.kubectl([
            "scale",
            "-n",
            space,
            "deployment,statefulset",
            "--all",
            "--replicas=0",
        ]);
        let deleted = [
            "deployment,statefulset",
            "job,cronjob,pod",
            "pvc",
            "configmap",
        ]
        .map(|kinds| cluster.kubectl(["delete", "-n", space, kinds, "--all", "--wait=false"]));
        for output in [scaled]
            .iter()
            .chain(&deleted)
            .filter(|output| !output.status.success())
        {
            hindered.push(format!(
                "{space}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    };
    walk("milvus", &beside);
    walk("elsewhere", &beside);
    walk("elsewhere", &elsewhere);
    let chart = foreign_chart(folder.path());
    for with in HELMS {
        for args in [
            &["install", "k", &chart][..],
            &["upgrade", "k", &chart, "--set", "tag=2"],
            &["rollback", "k", "1"],
            &["uninstall", "k"],
        ] {
            let output = cluster.helm(with, args.iter().copied().chain(["-n", "elsewhere"]));
            if !output.status.success() {
                hindered.push(format!(
                    "{with:?} {args:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
    }
    assert!(hindered.is_empty(), "{}", hindered.join("\n"));

    // Milvus' own objects wait, and so do its dependencies.
    for (space, object) in [
        ("milvus", deployment("n", "x", OTHER, MILVUS)),
        ("elsewhere", deployment("n", "x", OTHER, MILVUS)),
        ("milvus", elsewhere[1].clone()),
        ("milvus", keys("settings")),
        ("elsewhere", keys("r-milvus")),
    ] {
        let output = cluster.kubectl_with_input(["create", "-n", space, "-f", "-"], &object);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("failed calling webhook"),
            "{space} {object}: {stderr}"
        );
    }
}

#[test]
fn objects_of_any_size_are_nobodys_trouble() {
    let cluster = ControlPlane::start();
    dead(&cluster);
    let args = |count: usize, length: usize| {
        let all: Vec<String> = (0..count).map(|_| "0".repeat(length)).collect();
        format!(
            r#"{{"name": "web", "image": "nginx:1", "args": {}}}"#,
            json!(all)
        )
    };
    let containers = (0..600)
        .map(|at| format!(r#"{{"name": "c{at}", "image": "nginx:1", "args": ["a", "b"]}}"#));
    let env: Vec<Value> = (0..15_000)
        .map(|at| json!({"name": format!("NAME_{at}"), "value": "some value of some length"}))
        .collect();
    let labels: serde_json::Map<String, Value> = (0..5_000)
        .map(|at| (format!("example.com/label-{at}"), json!("v")))
        .collect();
    let labels = Value::Object(labels).to_string();
    let map = |letter: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "large"}}, "data": {{"a": "{}", "b": "{letter}"}}}}"#,
            letter.repeat(1_000_000)
        )
    };
    let keys: serde_json::Map<String, Value> = (0..40_000)
        .map(|at| (format!("key-{at}"), json!("v")))
        .collect();
    let many_keys = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys"}, "data": keys}).to_string();
    let app = |name: &str, container: &str| deployment(name, "x", OTHER, container);
    let cases = [
        ("450 KB of arguments", app("a", &args(1, 450_000))),
        ("1 MB of arguments in one", app("b", &args(1, 1_000_000))),
        ("1 MB of arguments in 100", app("c", &args(100, 10_000))),
        ("1 MB of arguments in 100000", app("d", &args(100_000, 7))),
        (
            "1 MB of arguments with a word of ours",
            app("e", &args(1, 1_000_000).replace("00000000\"", "milvus\"")),
        ),
        (
            "600 containers",
            app("f", &containers.collect::<Vec<_>>().join(",")),
        ),
        (
            "1 MB of environment",
            app(
                "g",
                &format!(
                    r#"{{"name": "web", "image": "nginx:1", "env": {}}}"#,
                    json!(env)
                ),
            ),
        ),
        (
            "5000 labels of the selector",
            deployment("h", "x", &labels, NGINX),
        ),
        (
            "an image of 600 KB",
            app(
                "i",
                &format!(
                    r#"{{"name": "web", "image": "nginx/{}:1"}}"#,
                    "a".repeat(600_000)
                ),
            ),
        ),
        ("a ConfigMap of 1 MB", map("x")),
        ("another of 1 MB in its place", map("y")),
        ("a ConfigMap with 40000 keys", many_keys.clone()),
        (
            "another in its place",
            many_keys.replace(":\"v\"", ":\"w\""),
        ),
        ("a Job with 1 MB of arguments", job("j", &args(1000, 1000))),
        (
            "a Pod with 1 MB of arguments",
            pod("p", &args(100, 10_000), ""),
        ),
    ];
    expect_success(cluster.kubectl(["create", "-n", "milvus", "serviceaccount", "default"]));
    let mut wrong = Vec::new();
    for (what, object) in &cases {
        // Created and changed, in addition to Milvus, where all webhooks look.
        for change in ["create", "change"] {
            let mut object: Value = serde_json::from_str(object).unwrap();
            // A Job's pod never changes.
            if change == "change" && object["kind"] == "Job" {
                continue;
            }
            if change == "change" {
                object["metadata"]["labels"]["changed"] = json!("yes");
                if let Some(replicas) = object
                    .pointer_mut("/spec")
                    .filter(|spec| spec.get("selector").is_some())
                {
                    replicas["replicas"] = json!(0);
                }
            }
            let verb = if change == "create" && !what.starts_with("another") {
                "create"
            } else {
                "replace"
            };
            let output =
                cluster.kubectl_with_input([verb, "-n", "milvus", "-f", "-"], &object.to_string());
            let stderr = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                wrong.push(format!(
                    "{what}, {change}: {}",
                    stderr.chars().take(600).collect::<String>()
                ));
            }
        }
    }
    // Whoever says Milvus in a text that is too long to be read closely is asked about; that never
    // costs too much.
    let only_asked = |line: &String| {
        line.starts_with("1 MB of arguments with a word of ours")
            && (line.contains("failed calling webhook") || line.contains("not found"))
    };
    wrong.retain(|line| !only_asked(line));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
