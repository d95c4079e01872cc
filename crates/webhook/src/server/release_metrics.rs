//! Gauges about the running Milvus releases, their findings and their runs. Names and versions are
//! labels here, so the number of releases is bounded. A removed release leaves no series.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use milvus_guard_core::{
    api::{RunKind, UpgradeRun},
    evaluate::JudgedRelease,
    inventory::LastRun,
    text::shortened,
};

/// Most releases with series. A release has one series for itself, one for its last
/// run and one for each rule that found something: about 10, so 10,000 in total.
const MAX_RELEASES: usize = 1000;
/// Most bytes of a label: names of Kubernetes are shorter, tags of images have at most 128.
const MAX_LABEL: usize = 128;

/// One rule and its action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct AuditLabels {
    rule: &'static str,
    action: &'static str,
}

/// A release. Prometheus gives each series of a pod the label `namespace` of that pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReleaseLabels {
    release_namespace: String,
    release: String,
    version: String,
    newest_of_line: String,
    target: String,
}

/// A rule that found something in a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct FindingLabels {
    release_namespace: String,
    release: String,
    rule: &'static str,
    action: &'static str,
}

/// The last run of a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LastRunLabels {
    release_namespace: String,
    release: String,
    kind: &'static str,
    from: String,
    to: String,
    phase: &'static str,
}

/// Runs of one kind in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    kind: &'static str,
    phase: &'static str,
}

/// The metrics of the periodic audit.
#[derive(Default)]
pub struct ReleaseMetrics {
    count: Gauge,
    audit_findings: Family<AuditLabels, Gauge>,
    releases: Family<ReleaseLabels, Gauge>,
    findings: Family<FindingLabels, Gauge>,
    last_runs: Family<LastRunLabels, Gauge>,
    runs: Family<RunLabels, Gauge>,
}

impl ReleaseMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_findings",
            "Findings about the running releases",
            self.audit_findings.clone(),
        );
        registry.register("releases", "Milvus releases that run", self.count.clone());
        registry.register(
            "release_info",
            "A Milvus release that runs, with its version, the newest release of its line, and the recommended release",
            self.releases.clone(),
        );
        registry.register(
            "release_findings",
            "Findings about a running release, by rule",
            self.findings.clone(),
        );
        registry.register(
            "release_last_run",
            "The last upgrade run of a running release",
            self.last_runs.clone(),
        );
        registry.register("runs", "Upgrade runs by kind and phase", self.runs.clone());
    }

    /// Removes every series, because another replica reports them from now on.
    pub(super) fn clear(&self) {
        self.count.set(0);
        self.audit_findings.clear();
        self.releases.clear();
        self.findings.clear();
        self.last_runs.clear();
        self.runs.clear();
    }

    /// Replaces all series by those of these releases and runs. Returns the number of findings.
    pub(super) fn set(&self, judged: &[JudgedRelease], runs: &[UpgradeRun]) -> usize {
        self.clear();
        self.count.set(count(judged.len()));
        let mut findings: BTreeMap<AuditLabels, i64> = BTreeMap::new();
        for release in judged {
            for (rule, action) in acting(release) {
                *findings.entry(AuditLabels { rule, action }).or_default() += 1;
            }
        }
        for (labels, number) in &findings {
            self.audit_findings.get_or_create(labels).set(*number);
        }
        let last = LastRun::of_each_release(runs);
        for release in judged.iter().take(MAX_RELEASES) {
            self.set_release(release, &last);
        }
        for run in runs {
            let labels = RunLabels {
                kind: kind(run.spec.kind),
                phase: run.status.phase.name(),
            };
            self.runs.get_or_create(&labels).inc();
        }
        findings
            .values()
            .map(|number| usize::try_from(*number).unwrap_or(0))
            .sum()
    }

    fn set_release(&self, release: &JudgedRelease, last: &[LastRun]) {
        let namespace = release.namespace.as_deref().unwrap_or_default();
        let standing = release.standing.clone().unwrap_or_default();
        let known = |text: Option<String>| label(&text.unwrap_or_else(|| "unknown".to_owned()));
        let labels = ReleaseLabels {
            release_namespace: label(namespace),
            release: label(&release.name),
            // The lowest running version.
            version: known(release.from.as_ref().map(ToString::to_string)),
            newest_of_line: known(
                standing
                    .newest_of_line
                    .map(|newest| newest.version.to_string()),
            ),
            target: known(standing.target.map(|version| version.to_string())),
        };
        self.releases.get_or_create(&labels).set(1);
        for (rule, action) in acting(release) {
            let labels = FindingLabels {
                release_namespace: label(namespace),
                release: label(&release.name),
                rule,
                action,
            };
            self.findings.get_or_create(&labels).inc();
        }
        if let Some(run) = last
            .iter()
            .find(|run| run.is_of(&release.name, Some(namespace)))
        {
            let labels = LastRunLabels {
                release_namespace: label(namespace),
                release: label(&release.name),
                kind: kind(run.kind),
                from: run.from.to_string(),
                to: run.to.to_string(),
                phase: run.phase.name(),
            };
            self.last_runs.get_or_create(&labels).set(1);
        }
    }
}

/// The findings of a release with an effect, as rule and action.
fn acting(release: &JudgedRelease) -> impl Iterator<Item = (&'static str, &'static str)> {
    let findings = release.findings.iter();
    findings
        .filter(|judged| !judged.finding.not_evaluated)
        .filter_map(|judged| Some((judged.finding.rule.id, judged.action()?.name())))
}

const fn kind(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Migration => "migration",
        RunKind::Rolling => "rolling",
        RunKind::Hold => "hold",
        RunKind::Other => "other",
    }
}

/// A text as the value of a label: only characters of names and tags, so that no value can end a
/// line of the exposition format.
fn label(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/+:".contains(c);
    let replaced: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    shortened(&replaced, MAX_LABEL)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use milvus_guard_core::{
        audit::audit, evidence::Facts, milvus::catalogue::Catalogue, policy::PolicySet,
        rules::testing::Fixture,
    };

    use super::*;

    fn judged(fixture: &Fixture) -> Vec<JudgedRelease> {
        let facts = Facts::default();
        audit(
            &fixture.snapshot(),
            &facts,
            Catalogue::embedded(),
            &PolicySet::default(),
        )
        .releases
    }

    fn text(metrics: &ReleaseMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_removed_or_changed_release_leaves_no_series() {
        let metrics = ReleaseMetrics::default();
        metrics.set(&judged(&Fixture::cluster("2.5.20").named("first")), &[]);
        let before = text(&metrics);
        assert!(
            before.contains("release=\"first\",version=\"2.5.20\""),
            "{before}"
        );
        assert!(before.contains("rule=\"MG104\""), "{before}");
        metrics.set(&judged(&Fixture::cluster("2.5.27").named("first")), &[]);
        let changed = text(&metrics);
        assert!(
            !changed.contains("2.5.20") && changed.contains("version=\"2.5.27\""),
            "{changed}"
        );
        metrics.set(&[], &[]);
        assert!(!text(&metrics).contains("first"), "{}", text(&metrics));
    }

    #[test]
    fn the_number_of_series_is_bounded_and_names_in_labels_are_escaped() {
        let one = judged(&Fixture::cluster("2.5.27")).remove(0);
        let many: Vec<JudgedRelease> = (0..2 * MAX_RELEASES)
            .map(|number| JudgedRelease {
                name: format!("r{number}\"\n}} 1"),
                ..one.clone()
            })
            .collect();
        let metrics = ReleaseMetrics::default();
        metrics.set(&many, &[]);
        let text = text(&metrics);
        let series = text
            .lines()
            .filter(|line| line.starts_with("release_info{"))
            .count();
        assert_eq!(series, MAX_RELEASES);
        assert!(text.contains("releases 2000\n"), "{}", &text[..400]);
        assert!(text.contains("release=\"r7____1\""), "{}", &text[..400]);
    }
}
