//! Gauges that are updated at each scrape.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::certs::CertStore;

use super::{
    leader::Leader,
    metrics::{KindLabels, Metrics, PolicyLabels, WhichLabels},
    watch_cache::{WatchCache, Watched},
};

/// Exceptions that end within this time are counted separately, so that users can review them.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The sources of the gauges.
#[derive(Clone)]
pub struct Gauges {
    /// The gauges.
    pub metrics: Arc<Metrics>,
    /// The cache of the cluster; `None` without a cluster.
    pub store: Option<Arc<WatchCache>>,
    /// The certificate.
    pub certificates: CertStore,
    /// Whether this replica leads.
    pub leader: Leader,
}

impl Gauges {
    /// Updates all gauges.
    pub fn refresh(&self) {
        let metrics = &self.metrics;
        let status = self.certificates.status();
        for (which, until) in [
            ("leaf", status.not_after),
            ("ca", status.authority_not_after),
        ] {
            if let Some(until) = until {
                metrics
                    .certificate_expiry
                    .get_or_create(&WhichLabels { which })
                    .set(seconds(until));
            }
        }
        let failures = metrics.certificate_failures.get();
        metrics
            .certificate_failures
            .inc_by(status.reload_failures.saturating_sub(failures));
        metrics.leader.set(i64::from(self.leader.is_me()));
        let Some(store) = &self.store else { return };
        let held = i64::try_from(store.held_deployments()).unwrap_or(i64::MAX);
        metrics.held_deployments.set(held);
        for (kind, objects, age) in store.health() {
            let labels = KindLabels { kind: kind.kind() };
            metrics
                .cache_objects
                .get_or_create(&labels)
                .set(i64::try_from(objects).unwrap_or(i64::MAX));
            metrics.cache_age.get_or_create(&labels).set(age);
        }
        for (kind, count) in store.reductions() {
            let counter = metrics
                .cache_reductions
                .get_or_create(&KindLabels { kind: kind.kind() });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        if let Some(age) = store.policy_age() {
            metrics.policy_age.set(age);
        }
        self.documents(store);
    }

    fn documents(&self, store: &WatchCache) {
        let documents = store.documents();
        for (watched, kind) in [
            (Watched::Policies, "policy"),
            (Watched::Exceptions, "exception"),
        ] {
            for (state, is_good) in [("good", true), ("bad", false)] {
                let count = documents
                    .iter()
                    .filter(|((known, _), document)| {
                        *known == watched && document.problem.is_none() == is_good
                    })
                    .count();
                let gauge = self
                    .metrics
                    .policies
                    .get_or_create(&PolicyLabels { kind, state });
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let now = Timestamp::now();
        let ends: Vec<Timestamp> = store
            .picture("")
            .policies
            .exceptions
            .iter()
            .map(|exception| exception.spec.expires)
            .collect();
        let count = |test: &dyn Fn(&&Timestamp) -> bool| {
            i64::try_from(ends.iter().filter(|end| test(end)).count()).unwrap_or(0)
        };
        self.metrics
            .exceptions_active
            .set(count(&|end| **end > now));
        self.metrics
            .exceptions_expiring
            .set(count(&|end| **end > now && **end <= now + SOON));
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds of an epoch fit")]
fn seconds(time: Timestamp) -> f64 {
    time.as_second() as f64
}
