//! Renderings by both versions of Helm, as snapshots, and their documented properties.

use std::process::Command;

use super::{
    EVERYTHING, FILES, HELMS, IMAGE, NAMESPACE, documents, of_kind, one, path, registration,
    render, rendered, text, webhooks,
};
use crate::plain_snapshot_names;
use milvus_guard_testbed::{Helm, expect_success, helm};
use serde_json::{Value, json};

#[test]
fn the_chart_passes_lint_and_both_helms_render_the_same() {
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
                "Helm 4 renders another document: {document:#}"
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

/// The rendering without the definitions and the dashboard, which are separate files.
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

/// New documents as a whole; for other documents, the removed and added lines.
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
        // With kubectl or Argo CD, each object gets its namespace from the rendering.
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
fn webhooks_are_as_documented() {
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
                assert_eq!(excluded, None, "runs are stored in the guard's namespace");
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
            // A webhook that fails closed for every resource blocks a whole cluster.
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
    // The user's selectors are added to the exclusions, with labels and with expressions.
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
    // The guard registers the CA file next to its certificate; cert-manager does not.
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
    // The chart contains no object that the guard writes, since two writers would conflict.
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
fn the_deployment_is_as_documented() {
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
    // The Services, the budget and the network policy select the pods of the Deployment.
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
        "with one replica, a budget would block every drain"
    );
    assert!(of_kind(&rendered(&["priorityClassName="]), "ResourceQuota").is_empty());
}

#[test]
fn definitions_are_kept_unless_disabled() {
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
