//! The dashboard and the alerts.

use std::collections::BTreeSet;

use super::{EVERYTHING, of_kind, one, rendered, text};
use serde_json::Value;

#[test]
fn dashboard_and_alerts_use_every_metric_and_no_unknown_one() {
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
                "{metric} is not a metric of the guard"
            );
        }
    }
    let all = expressions.concat();
    for metric in METRICS {
        assert!(all.contains(metric), "{metric} is not shown on any panel");
    }
}

/// Each panel has a unique id and a place without overlap, a description and a unit.
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

/// A query as Grafana sends it: with values for the variables that are not inside a string.
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

/// The guard's metrics, under the names in `serve`.
pub(super) const METRICS: [&str; 28] = [
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
