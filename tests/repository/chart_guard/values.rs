//! Which values the chart accepts, and their effect.

use std::process::{Command, Output};

use super::{HELMS, IMAGE, documents, of_kind, path, template, text, webhooks};
use milvus_guard_testbed::{Helm, expect_success, helm};
use rstest::rstest;
use serde_json::Value;

#[test]
fn the_schema_refuses_invalid_values() {
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
            assert!(!output.status.success(), "{value} must be refused");
            assert!(
                stderr.contains("schema") && stderr.contains(named),
                "{value}: {stderr}"
            );
        }
    }
}

fn template_for(kubernetes: &str, values: &[&str]) -> Output {
    let chart = path();
    let mut args = vec!["template", "x", chart.to_str().unwrap(), "--set", IMAGE];
    args.extend(["--kube-version", kubernetes]);
    args.extend(values.iter().flat_map(|value| ["--set", *value]));
    Command::new(helm(Helm::V3)).args(args).output().unwrap()
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
fn hold_is_enabled_if_the_policy_can_restrict_it(
    #[case] kubernetes: &str,
    #[case] values: &[&str],
    #[case] expected: Result<bool, &str>,
) {
    let output = template_for(kubernetes, values);
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
    let output = template_for(kubernetes, values);
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
