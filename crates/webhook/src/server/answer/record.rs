//! Records each answer: metrics, a line in the log, an Event. Never the content of an object.

use std::time::Duration;

use milvus_guard_core::{
    admission::{Gate, Response, Review, Ruling},
    evaluate::Verdict,
    policy::Action,
};

use super::Answerer;
use crate::server::{
    events::Denial,
    metrics::{FailureLabels, ReviewLabels, RuleLabels},
};

impl Answerer {
    pub(super) fn count(&self, gate: Gate, ruling: &Ruling, took: Duration) {
        let verdict = match ruling.verdict {
            Some(Verdict::Deny) => "deny",
            Some(Verdict::Warn) => "warn",
            Some(Verdict::Allow) => "allow",
            // Irrelevant to the guard, unless the response is a denial or has a warning.
            None if ruling.response == Response::default() => "allow",
            None => "error",
        };
        let worst = ruling
            .rules
            .iter()
            .filter(|(_, action)| *action > Action::Audit)
            .max_by_key(|(_, action)| *action);
        let rule = worst.map_or("none", |(rule, _)| *rule);
        self.metrics
            .reviews
            .get_or_create(&ReviewLabels {
                gate: gate.name(),
                verdict,
                rule,
            })
            .inc();
        self.metrics
            .duration
            .observe(gate.name(), took.as_secs_f64());
        for (rule, failed) in &ruling.failed {
            self.metrics
                .rule_failures
                .get_or_create(&FailureLabels {
                    rule,
                    kind: failed.name(),
                })
                .inc();
        }
        for rule in &ruling.accepted {
            self.metrics
                .acceptances
                .get_or_create(&RuleLabels { rule })
                .inc();
        }
    }

    /// Writes a line to the log, and an Event for users of the release. Never the content of an
    /// object.
    pub(super) fn tell(&self, gate: Gate, review: &Review<'_>, ruling: &Ruling, took: Duration) {
        let Some(verdict) = ruling
            .verdict
            .filter(|verdict| *verdict != Verdict::Allow || !ruling.rules.is_empty())
        else {
            return;
        };
        let acting = || {
            ruling
                .rules
                .iter()
                .filter(|(_, action)| *action > Action::Audit)
                .map(|(rule, _)| *rule)
        };
        let rules = acting().collect::<Vec<_>>().join(",");
        tracing::info!(
            gate = gate.name(),
            verdict = ?verdict,
            rules,
            namespace = &*review.namespace,
            resource = &*review.resource.resource,
            name = &*review.name,
            user = &*review.user_info.username,
            dry_run = review.is_dry_run(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "reviewed"
        );
        if let (Some(events), false) = (&self.events, review.is_dry_run()) {
            let said = ruling
                .response
                .denied
                .clone()
                .map(|message| ("UpgradeDenied", message))
                .or_else(|| {
                    let accepted = (!ruling.accepted.is_empty()).then(|| {
                        format!("accepted by the deployer: {}", ruling.accepted.join(", "))
                    });
                    let excepted = ruling.excepted.first().map(|(rule, name)| {
                        format!("{rule} is allowed by the UpgradeException {name}")
                    });
                    accepted
                        .or(excepted)
                        .map(|message| ("UpgradeAccepted", message))
                });
            if let Some((reason, message)) = said {
                events.send(Denial {
                    namespace: review.namespace.to_string(),
                    kind: kind(review),
                    name: review.name.to_string(),
                    reason,
                    message,
                });
            }
        }
    }
}

fn kind(review: &Review<'_>) -> &'static str {
    match &*review.resource.resource {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "configmaps" => "ConfigMap",
        "persistentvolumeclaims" => "PersistentVolumeClaim",
        _ => "Secret",
    }
}
