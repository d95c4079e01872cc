//! The cost of the version label: a change of a Deployment of Milvus through a real API server,
//! with the label set by the webhook or by a `MutatingAdmissionPolicy`, and without any admission.
//! The variants alternate on one cluster. Ratios count, not milliseconds.
//!
//! `cargo bench --bench label [-- CHANGES]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::webhook::{TEMPLATE, Webhook, rendered_for, wait_until, write_template};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::{ControlPlane, expect_success};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
/// Turns of each variant.
const TURNS: usize = 6;
const KUBERNETES: &str = "1.36.3";
const LABEL: &str = "guard.milvus.io/version";

/// The variants: how the label is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Validation by the guard, no label.
    Nobody,
    Policy,
    Webhook,
}

impl Way {
    const ALL: [Self; 3] = [Self::Nobody, Self::Policy, Self::Webhook];

    /// Registers this variant, and waits until the API server uses it.
    fn set(self, webhook: &Webhook) {
        let values = if self == Self::Webhook {
            &["hold.enabled=false", "versionLabel.by=webhook"][..]
        } else {
            &["hold.enabled=false", "versionLabel.enabled=false"]
        };
        write_template(
            &webhook.folder.path().join(TEMPLATE),
            &webhook.server.url,
            values,
        );
        let policy = ["hold.enabled=false", "versionLabel.by=policy"];
        for object in rendered_for(KUBERNETES, &policy, |kind| {
            kind.starts_with("MutatingAdmission")
        }) {
            if self == Self::Policy {
                webhook.cluster.apply(&object.to_string());
            } else {
                let kind = object["kind"].as_str().unwrap().to_lowercase();
                let name = object["metadata"]["name"].as_str().unwrap();
                expect_success(webhook.cluster.kubectl([
                    "delete",
                    "--ignore-not-found",
                    &kind,
                    name,
                ]));
            }
        }
        wait_until("the way is in force", DEADLINE, || {
            let registered = webhook
                .cluster
                .get_json("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations")
                .to_string();
            let probe = deployment("probe", "v2.4.5").to_string();
            let made = webhook.cluster.kubectl_with_input(
                ["create", "--dry-run=server", "-o", "json", "-f", "-"],
                &probe,
            );
            let made: Value = serde_json::from_slice(&made.stdout).unwrap_or_default();
            let is_labelled = made["metadata"]["labels"][LABEL].is_string();
            registered.contains("label.guard.milvus.io") == (self == Self::Webhook)
                && is_labelled == (self != Self::Nobody)
        });
    }
}

fn deployment(name: &str, tag: &str) -> Value {
    let variables: Vec<Value> = (0..120)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": "some value of it"}))
        .collect();
    let container = json!({"name": "proxy", "image": format!("milvusdb/milvus:{tag}"), "args": ["milvus", "run", "proxy"], "env": variables});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "milvus"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [container]}}}})
}

/// Returns the patch of a change by its number.
type Change = fn(usize) -> Value;

/// A change of the image, which changes the label.
fn image(at: usize) -> Value {
    let tag = ["v2.4.15", "v2.4.24"][at % 2];
    json!({"spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": format!("milvusdb/milvus:{tag}")}]}}}})
}

/// A change that the guard judges, and that leaves the label as it is.
fn history(at: usize) -> Value {
    json!({"spec": {"revisionHistoryLimit": 5 + at % 2}})
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --all-targets` runs benchmarks too, without --bench.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let changes: usize = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(200);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = ControlPlane::start();
    let access = Access {
        kubeconfig: Some(cluster.kubeconfig().to_owned()),
        context: None,
    };
    let client =
        runtime.block_on(async { Cluster::connect(&access).await.unwrap().client().clone() });
    let deployments: Api<Deployment> = Api::namespaced(client, "milvus");
    expect_success(cluster.kubectl(["create", "namespace", "milvus"]));
    cluster.apply(&deployment("proxy", "v2.4.5").to_string());
    let measure = |change: Change| -> Vec<f64> {
        (0..changes)
            .map(|at| {
                let patch = Patch::Strategic(change(at));
                let begun = Instant::now();
                runtime
                    .block_on(deployments.patch("proxy", &PatchParams::default(), &patch))
                    .unwrap();
                begun.elapsed().as_secs_f64() * 1000.0
            })
            .collect()
    };
    let kinds: [(&str, Change); 2] = [("image", image), ("no label to move", history)];
    for (what, change) in kinds {
        measure(change);
        println!(
            "{what}: median {:.2} ms without admission",
            median(&mut measure(change))
        );
    }
    let webhook = Webhook::with(cluster, &[]);
    let mut took = vec![[Vec::new(), Vec::new()]; Way::ALL.len()];
    for _ in 0..TURNS {
        for (way, took) in Way::ALL.into_iter().zip(&mut took) {
            way.set(&webhook);
            for ((_, change), took) in kinds.iter().zip(took) {
                took.extend(measure(*change));
            }
        }
    }
    let medians: Vec<Vec<f64>> = took
        .iter_mut()
        .map(|kinds| kinds.iter_mut().map(|took| median(took)).collect())
        .collect();
    for (at, (what, _)) in kinds.iter().enumerate() {
        for (way, medians) in Way::ALL.iter().zip(&medians) {
            println!("{what}: label by {way:?}: median {:.2} ms", medians[at]);
        }
    }
}
