//! The metrics. Labels are bounded: gates, verdicts, rules and kinds, never names that users
//! choose. Only [`super::release_metrics`] has names, of a bounded number of releases.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use super::release_metrics::ReleaseMetrics;

/// Bounds of the latency histogram, in seconds: small steps in the expected range, then those of
/// the API server's own metric.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Labels of one count of reviews.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReviewLabels {
    /// Gate.
    pub gate: &'static str,
    /// `allow`, `warn`, `deny`, `error`.
    pub verdict: &'static str,
    /// The worst rule, or `none`.
    pub rule: &'static str,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GateLabels {
    /// Gate.
    pub gate: &'static str,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabels {
    /// Rule.
    pub rule: &'static str,
}

/// One rule and how it failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    /// Rule.
    pub rule: &'static str,
    /// `panic` or `timeout`.
    pub kind: &'static str,
}

/// One kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// Kind.
    pub kind: &'static str,
}

/// Valid or invalid policies or exceptions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabels {
    /// `policy` or `exception`.
    pub kind: &'static str,
    /// `good` or `bad`.
    pub state: &'static str,
}

/// The result of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `confirmed`, `changed`, `failed` ...
    pub result: &'static str,
}

/// Which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WhichLabels {
    /// `leaf` or `ca`.
    pub which: &'static str,
}

/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// All metrics.
#[derive(Default)]
#[allow(missing_docs, reason = "each is described where it is registered")]
pub struct Metrics {
    pub reviews: Family<ReviewLabels, Counter>,
    pub duration: Durations,
    pub in_flight: Gauge,
    pub shed: Counter,
    pub rule_failures: Family<FailureLabels, Counter>,
    pub acceptances: Family<RuleLabels, Counter>,
    pub live_reads: Family<ResultLabels, Counter>,
    pub cache_age: Family<KindLabels, Seconds>,
    pub cache_objects: Family<KindLabels, Gauge>,
    pub cache_reductions: Family<KindLabels, Counter>,
    pub certificate_expiry: Family<WhichLabels, Seconds>,
    pub certificate_failures: Counter,
    pub policies: Family<PolicyLabels, Gauge>,
    pub policy_age: Seconds,
    pub exceptions_active: Gauge,
    pub exceptions_expiring: Gauge,
    pub leader: Gauge,
    pub releases: ReleaseMetrics,
    pub audit_last_run: Seconds,
    pub memory_failures: Counter,
    pub memory_unsaved: Gauge,
    /// Deployments that are held.
    pub held_deployments: Gauge,
    /// Held changes that do not proceed.
    pub stuck_holds: Gauge,
    pub memory_incomplete: Gauge,
    pub data_day: Seconds,
    pub data_failures: Counter,
    registry: Registry,
}

/// The latency histogram of each gate.
#[derive(Clone, Debug)]
pub struct Durations(Family<GateLabels, Histogram>);

impl Default for Durations {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BUCKETS)))
    }
}

impl Durations {
    /// Records how long a review took.
    pub fn observe(&self, gate: &'static str, seconds: f64) {
        self.0.get_or_create(&GateLabels { gate }).observe(seconds);
    }
}

impl Metrics {
    /// Creates and registers all metrics.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self::default();
        let mut registry = Registry::with_prefix("milvus_guard");
        registry.register(
            "reviews",
            "Reviews by gate, verdict and worst rule",
            metrics.reviews.clone(),
        );
        registry.register(
            "review_duration_seconds",
            "Time from request to answer",
            metrics.duration.0.clone(),
        );
        registry.register(
            "reviews_in_flight",
            "Reviews being answered",
            metrics.in_flight.clone(),
        );
        registry.register(
            "reviews_shed",
            "Reviews answered without a check because too many were waiting",
            metrics.shed.clone(),
        );
        registry.register(
            "rule_failures",
            "Rule evaluations that failed",
            metrics.rule_failures.clone(),
        );
        registry.register(
            "acceptances",
            "Findings that the deployer accepted",
            metrics.acceptances.clone(),
        );
        registry.register(
            "live_reads",
            "Verdicts repeated with a live reading",
            metrics.live_reads.clone(),
        );
        registry.register(
            "cache_age_seconds",
            "Time since the API server last sent data about a kind",
            metrics.cache_age.clone(),
        );
        registry.register(
            "cache_objects",
            "Objects kept of a kind",
            metrics.cache_objects.clone(),
        );
        registry.register(
            "cache_reductions",
            "Objects of a kind that were too large to keep in full",
            metrics.cache_reductions.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate and the registered authority expire",
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            "certificate_reload_failures",
            "New certificates that could not be used",
            metrics.certificate_failures.clone(),
        );
        registry.register(
            "policies_loaded",
            "Policies and exceptions, valid and invalid",
            metrics.policies.clone(),
        );
        registry.register(
            "policy_age_seconds",
            "Time since the policies last changed",
            metrics.policy_age.clone(),
        );
        registry.register(
            "exceptions_active",
            "Exceptions in force",
            metrics.exceptions_active.clone(),
        );
        registry.register(
            "exceptions_expiring_7d",
            "Exceptions in force that expire within 7 days",
            metrics.exceptions_expiring.clone(),
        );
        registry.register("leader", "1 on the leading replica", metrics.leader.clone());
        metrics.releases.register(&mut registry);
        registry.register(
            "audit_last_run_timestamp_seconds",
            "Time of the last audit of the running releases",
            metrics.audit_last_run.clone(),
        );
        register_memory(&mut registry, &metrics);
        registry.register(
            "data_timestamp_seconds",
            "Day of the data about Milvus releases",
            metrics.data_day.clone(),
        );
        registry.register(
            "data_load_failures",
            "Readings of custom data that could not be used",
            metrics.data_failures.clone(),
        );
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The running build", Info::new(version));
        metrics.registry = registry;
        metrics
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Registers metrics about the release history and about Hold.
fn register_memory(registry: &mut Registry, metrics: &Metrics) {
    registry.register(
        "memory_failures",
        "Memories of namespaces that could not be stored",
        metrics.memory_failures.clone(),
    );
    registry.register(
        "memory_unsaved",
        "Namespaces whose memory is not stored yet",
        metrics.memory_unsaved.clone(),
    );
    registry.register(
        "held_deployments",
        "Deployments of Milvus that are held until the components before them have moved",
        metrics.held_deployments.clone(),
    );
    registry.register(
        "stuck_holds",
        "Held changes of which a released component is not complete in time; the leader counts them",
        metrics.stuck_holds.clone(),
    );
    registry.register(
        "memory_incomplete",
        "Namespaces with releases that do not fit into the memory",
        metrics.memory_incomplete.clone(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_match_the_documentation() {
        let metrics = Metrics::new();
        metrics
            .reviews
            .get_or_create(&ReviewLabels {
                gate: "release",
                verdict: "deny",
                rule: "MG101",
            })
            .inc();
        metrics.duration.observe("release", 0.002);
        let text = metrics.render();
        assert!(
            text.contains(
                r#"milvus_guard_reviews_total{gate="release",verdict="deny",rule="MG101"} 1"#
            ),
            "{text}"
        );
        assert!(
            text.contains(
                r#"milvus_guard_review_duration_seconds_bucket{le="0.0025",gate="release"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("milvus_guard_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
