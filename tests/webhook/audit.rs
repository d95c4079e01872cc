//! The periodic audit of running releases, on a real API server.

use std::time::Duration;

use milvus_guard_testbed::{ControlPlane, Helm};
use serde_json::{Value, json};

use crate::common::{
    Chart,
    webhook::{Webhook, wait_until},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Events about releases at risk: the object and the message.
fn at_risk(webhook: &Webhook) -> Vec<(String, String)> {
    let events = webhook.cluster.get_json("/api/v1/namespaces/milvus/events");
    let events = events["items"].as_array().unwrap().iter();
    let text = |event: &Value, at: &str| event.pointer(at).unwrap().as_str().unwrap().to_owned();
    events
        .filter(|event| event["reason"] == "ReleaseAtRisk")
        .map(|event| {
            assert_eq!(event["type"], "Warning");
            let object = format!(
                "{}/{}",
                text(event, "/involvedObject/kind"),
                text(event, "/involvedObject/name")
            );
            (object, text(event, "/message"))
        })
        .collect()
}

fn audits(webhook: &Webhook) -> f64 {
    webhook.metric("milvus_guard_audit_last_run_timestamp_seconds")
}

/// Waits until an audit has judged the current state of the cluster.
fn await_audit(webhook: &Webhook) {
    // The current audit may have started earlier, so wait for two.
    for _ in 0..2 {
        let before = audits(webhook);
        wait_until("another audit", MINUTE, || audits(webhook) > before);
    }
}

#[test]
fn a_problem_of_a_running_release_becomes_one_event() {
    let webhook = Webhook::with(ControlPlane::start(), &["--audit-interval", "1s"]);
    let milvus = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &milvus, &["--set", "image.all.tag=v2.4.15"]);
    let proxy = "deployment/my-release-milvus-proxy";
    let (done, text) = webhook.kubectl(&[
        "-n",
        "milvus",
        "set",
        "image",
        proxy,
        "proxy=milvusdb/milvus:latest",
    ]);
    assert!(done, "{text}");
    await_audit(&webhook);
    let about = |rule: &str| -> Vec<(String, String)> {
        let events = at_risk(&webhook).into_iter();
        events
            .filter(|(_, message)| message.starts_with(rule))
            .collect()
    };
    assert_eq!(about("MG105"), [], "a warning must not cause an Event");

    let policy = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "strict"},
        "spec": {"rules": [{"id": "MG105", "action": "Enforce", "params": {"strict": true}}]}});
    webhook.cluster.apply(&policy.to_string());
    wait_until("the Event", MINUTE, || !about("MG105").is_empty());
    await_audit(&webhook);
    let events = about("MG105");
    assert_eq!(
        events.len(),
        1,
        "one Event, not one for each audit: {events:?}"
    );
    let (object, message) = &events[0];
    assert_eq!(object, "Deployment/my-release-milvus-proxy");
    assert!(message.starts_with("MG105 unknown-version: "), "{message}");
    assert!(
        message.ends_with("Next: milvus-guard audit -n milvus -i my-release"),
        "{message}"
    );
}
