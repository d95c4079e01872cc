//! The periodic audit: judges all running releases, for the metrics, the log, policy reports, and
//! Events about new problems.

use std::collections::BTreeSet;

use jiff::Timestamp;

use milvus_guard_core::{
    audit::audit,
    evaluate::{Evaluation, JudgedFinding, JudgedRelease},
    evidence::Facts,
    manifest::object::ObjectRef,
    milvus::{Release, Snapshot},
    policy::Action,
    report::{Report, openreports},
};

use super::{
    data::Data,
    events::{Denial, EventSink, RELEASE_AT_RISK},
    metrics::Metrics,
    policy_reports::PolicyReports,
    watch_cache::WatchCache,
};

/// Judges the running releases.
pub(super) struct RunningAudit {
    /// Receives Events.
    events: EventSink,
    /// Writes policy reports; `None` if they are disabled.
    reports: Option<PolicyReports>,
    /// The problems that the previous audit found.
    known: BTreeSet<Problem>,
}

/// A finding with the action Deny about a running release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    namespace: String,
    release: String,
    rule: &'static str,
    /// The workload that an Event is about.
    kind: &'static str,
    name: String,
    message: String,
}

impl RunningAudit {
    pub(super) const fn new(events: EventSink, reports: Option<PolicyReports>) -> Self {
        Self {
            events,
            reports,
            known: BTreeSet::new(),
        }
    }

    /// Clears the results, because another replica leads.
    pub(super) fn forget(&mut self, metrics: &Metrics) {
        self.known.clear();
        metrics.releases.clear();
    }

    /// Judges all running releases.
    pub(super) async fn run(&mut self, store: &WatchCache, data: &Data, metrics: &Metrics) {
        let now = Timestamp::now();
        let mut judged: Vec<JudgedRelease> = Vec::new();
        let mut problems = BTreeSet::new();
        let mut reports = Vec::new();
        for namespace in store.milvus_namespaces() {
            let picture = store.picture(&namespace);
            let view = picture.view;
            let facts = Facts {
                rollouts: Some(view.rollouts.clone()),
                autoscalers: Some(view.autoscalers.clone()),
                ..Facts::default()
            };
            let policies = picture.policies.at(now);
            let running = Snapshot {
                releases: view.place.snapshot.releases.clone(),
                ..Snapshot::default()
            };
            let judgement = audit(&running, &facts, &data.current(), &policies);
            problems.extend(problems_of(&running.releases, &judgement, &namespace));
            if self.reports.is_some() {
                let report = Report::new(&judgement, &policies, Vec::new());
                reports.extend(openreports::reports(&report));
            }
            judged.extend(judgement.releases);
            tokio::task::yield_now().await;
        }
        for problem in problems.difference(&self.known) {
            self.events.send(problem.event());
        }
        self.known = problems;
        let findings = metrics.releases.set(&judged, &store.upgrade_runs());
        #[allow(clippy::cast_precision_loss, reason = "seconds of an epoch fit")]
        metrics.audit_last_run.set(now.as_second() as f64);
        tracing::info!(findings, "audited the running releases");
        if let Some(outlet) = &mut self.reports {
            outlet.publish(reports, now).await;
        }
    }
}

/// The findings with the action Deny in each release of a namespace.
fn problems_of(running: &[Release], judgement: &Evaluation, namespace: &str) -> Vec<Problem> {
    let denies = |judged: &&JudgedFinding| {
        judged.action() == Some(Action::Deny) && !judged.finding.not_evaluated
    };
    let mut problems = Vec::new();
    for (release, judged) in running.iter().zip(&judgement.releases) {
        for finding in judged
            .findings
            .iter()
            .filter(denies)
            .map(|judged| &judged.finding)
        {
            let Some((kind, name)) = workload(finding.object.as_ref(), release) else {
                continue;
            };
            problems.push(Problem {
                namespace: namespace.to_owned(),
                release: judged.name.clone(),
                rule: finding.rule.id,
                kind,
                name,
                message: format!(
                    "{} {}: {}",
                    finding.rule.id, finding.rule.name, finding.message
                ),
            });
        }
    }
    problems
}

/// The workload that the finding is about, else the first one of the release.
fn workload(object: Option<&ObjectRef>, release: &Release) -> Option<(&'static str, String)> {
    let own = release
        .components
        .iter()
        .map(|one| &one.workload.meta.object);
    object.into_iter().chain(own).find_map(|object| {
        let kind = match &*object.kind {
            "Deployment" => "Deployment",
            "StatefulSet" => "StatefulSet",
            _ => return None,
        };
        Some((kind, object.name.clone()))
    })
}

impl Problem {
    fn event(&self) -> Denial {
        let next = format!(
            "milvus-guard audit -n {} -i {}",
            self.namespace, self.release
        );
        Denial {
            namespace: self.namespace.clone(),
            kind: self.kind,
            name: self.name.clone(),
            reason: RELEASE_AT_RISK,
            message: format!("{}. Next: {next}", self.message.trim_end_matches('.')),
        }
    }
}
