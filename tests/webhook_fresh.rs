//! What was written a moment ago counts, on a cluster in which nothing else happens, and where a watch does not work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Chart,
    webhook::{GUARD, Webhook, wait_until, write_as_guard},
};
use milvus_guard_testbed::{ControlPlane, Helm};
use serde_json::{Value, json};

/// How soon what was written must count.
const SOON: Duration = Duration::from_secs(2);

fn install(webhook: &Webhook) {
    let chart = Chart::compact("4.1.34");
    let args = ["install", "my-release", chart.path(), "-n", "milvus", "--create-namespace", "--set", "image.all.tag=v2.3.22"];
    let (done, text) = webhook.helm(Helm::V4, &args);
    assert!(done, "{text}");
}

fn run() -> Value {
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": GUARD},
        "spec": {"kind": "Migration", "release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16",
            "plan": [{"id": "backup", "title": "", "action": "Backup"}],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
        "status": {"phase": "Running", "step": {"id": "backup", "index": 0, "stage": "Begun", "since": "2026-01-01T00:00:00Z"}},
    })
}

/// How often the API server has ended a watch of a kind, by its own count.
fn watches(webhook: &Webhook, plural: &str) -> f64 {
    let text = webhook.cluster.get("/metrics").body;
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{") && line.contains("verb=\"WATCH\""))
        .filter(|line| line.contains(&format!("resource=\"{plural}\"")))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The greatest age of a kind's knowledge.
fn oldest(webhook: &Webhook) -> (f64, String) {
    let text = webhook.server.get_metrics();
    let ages = text.lines().filter_map(|line| line.strip_prefix("milvus_guard_cache_age_seconds")?.split_once(' '));
    ages.map(|(kind, age)| (age.parse().unwrap(), kind.to_owned())).max_by(|a: &(f64, String), b| a.0.total_cmp(&b.0)).unwrap()
}

fn set_proxy(webhook: &Webhook, tag: &str) -> (bool, String) {
    let image = format!("proxy=milvusdb/milvus:{tag}");
    webhook.kubectl(&["-n", "milvus", "set", "image", "deployment/my-release-milvus-proxy", &image, "--dry-run=server"])
}

#[test]
fn on_a_quiet_cluster_everything_counts_at_once() {
    let webhook = Webhook::with(ControlPlane::builder().controller_manager(true).start(), &["--watch-timeout", "3s"]);
    install(&webhook);
    let before = watches(&webhook, "upgradeexceptions");
    let mut worst = (0.0, String::new());
    wait_until("watches ended again and again", Duration::from_secs(90), || {
        let now = oldest(&webhook);
        if now.0 > worst.0 {
            worst = now;
        }
        ["upgradeexceptions", "upgraderuns", "upgradepolicies", "services"]
            .iter()
            .all(|plural| watches(&webhook, plural) >= before + 6.0)
    });
    assert!(worst.0 < 10.0, "nobody wrote anything, and yet nothing is old: {worst:?}");
    let log = webhook.server.log();
    assert!(!log.contains("in trouble"), "{log}");

    let proxy = "deployment/my-release-milvus-proxy";
    let (done, text) = webhook.kubectl(&["-n", "milvus", "scale", proxy, "--replicas=3"]);
    assert!(done, "{text}");
    write_as_guard(&webhook.cluster, &run());
    counts("a run", || {
        webhook.kubectl(&["-n", "milvus", "scale", proxy, "--replicas=4", "--dry-run=server"]).1.contains("MG208")
    });
    let over = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": GUARD},
        "spec": run()["spec"], "status": {"phase": "Aborted"}});
    write_as_guard(&webhook.cluster, &over);
    counts("its end", || webhook.kubectl(&["-n", "milvus", "scale", proxy, "--replicas=4", "--dry-run=server"]).0);

    let (done, text) = set_proxy(&webhook, "v2.4.5");
    assert!(!done && text.contains("MG201"), "{text}");
    let policy = |action: &str| {
        json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"id": "MG201", "action": action}]}})
    };
    webhook.cluster.apply(&policy("Warn").to_string());
    counts("a policy", || set_proxy(&webhook, "v2.4.5").0);
    webhook.cluster.apply(&policy("Enforce").to_string());
    counts("a stricter policy", || !set_proxy(&webhook, "v2.4.5").0);
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let exception = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeException", "metadata": {"name": "e"},
        "spec": {"rules": ["MG201"], "namespace": "milvus", "release": "my-release", "reason": "a test of an exception", "owner": "me",
            "expires": until.to_string()}});
    webhook.cluster.apply(&exception.to_string());
    counts("an exception", || set_proxy(&webhook, "v2.4.5").0);
}

fn counts(what: &str, condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    wait_until(what, SOON, condition);
    eprintln!("{what} counted after {} ms, kubectl included", begun.elapsed().as_millis());
}
