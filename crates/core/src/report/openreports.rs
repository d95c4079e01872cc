//! For tools that show policy reports: objects of the kind `Report` of the OpenReports project
//! (`openreports.io/v1alpha1`, reports-api@769d9787), one for each namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    evaluate::Subject,
    manifest::object::ObjectRef,
    policy::Action,
    project, rules,
    text::{plain, shortened},
};

use super::{CheckEntry, FindingEntry, Outcome, ReleaseEntry, Report};

/// API group and version of the kind.
pub const API_VERSION: &str = "openreports.io/v1alpha1";
/// Kind.
pub const KIND: &str = "Report";
/// Name of the report on the running releases of a namespace.
pub const NAME: &str = "milvus-guard";
/// Label with the name of the tool that owns an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `source` of each report.
pub const SOURCE: &str = "milvus-guard";

/// Results of one object. etcd takes objects of at most 1.5 MiB, and a result has at most 1.4 KiB
/// of texts; the summary counts what is left out.
const MAX_RESULTS: usize = 750;
/// Bytes of one text of a result.
const MAX_TEXT: usize = 400;

/// An object of the kind `Report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// [`KIND`].
    pub kind: &'static str,
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// [`SOURCE`].
    pub source: &'static str,
    /// The namespace that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Resource>,
    /// How many results there are of each kind.
    pub summary: Summary,
    /// The results, worst first.
    pub results: Vec<Entry>,
}

/// Name, namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// [`NAME`].
    pub name: String,
    /// Namespace of the releases, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// [`MANAGED_BY`].
    pub labels: BTreeMap<&'static str, &'static str>,
}

/// How many results there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rules that passed.
    pub pass: usize,
    /// Findings that deny.
    pub fail: usize,
    /// Findings that warn or are only noted.
    pub warn: usize,
    /// Rules that could not be evaluated.
    pub error: usize,
    /// Rules that did not apply, are off, or whose findings an exception allows.
    pub skip: usize,
}

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// See [`Summary::fail`].
    Fail,
    /// See [`Summary::warn`].
    Warn,
    /// See [`Summary::error`].
    Error,
    /// See [`Summary::pass`].
    Pass,
    /// See [`Summary::skip`].
    Skip,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Rule id.
    pub policy: String,
    /// Rule name.
    pub rule: String,
    /// Group of the rule.
    pub category: &'static str,
    /// `critical`, `high`, `medium`, `low`, `info`.
    pub severity: &'static str,
    /// How it came out.
    pub result: Verdict,
    /// When; a report of the command line has no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Moment>,
    /// The object that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// The message of the finding, or why there is none.
    pub message: String,
    /// Release, fix, command, page of the rule.
    pub properties: BTreeMap<&'static str, String>,
}

/// A moment, as the API writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: i32,
}

/// An object of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Group and version, where the kind has one that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<&'static str>,
    /// Kind.
    pub kind: String,
    /// Namespace, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl PolicyReport {
    /// The same with the time at which it was found in each result.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let moment = Moment {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        };
        let mut report = self.clone();
        for entry in &mut report.results {
            entry.timestamp = Some(moment);
        }
        report
    }
}

pub(super) fn render(report: &Report) -> String {
    let documents = reports(report);
    let documents = documents
        .iter()
        .map(|document| serde_saphyr::to_string(document).unwrap_or_default());
    documents.collect::<Vec<_>>().join("---\n")
}

/// The reports of each namespace, in the order of the releases.
#[must_use]
pub fn reports(report: &Report) -> Vec<PolicyReport> {
    let mut entries: Vec<(Option<&str>, Vec<Entry>)> = Vec::new();
    for (at, (release, findings)) in report.releases.iter().zip(report.by_release()).enumerate() {
        let namespace = release.namespace.as_deref();
        let of_release = results(report, at, release, &findings);
        match entries.iter_mut().find(|(known, _)| *known == namespace) {
            Some((_, known)) => known.extend(of_release),
            None => entries.push((namespace, of_release)),
        }
    }
    entries
        .into_iter()
        .map(|(namespace, results)| of_namespace(report.subject, namespace, results))
        .collect()
}

fn of_namespace(
    subject: Subject,
    namespace: Option<&str>,
    mut results: Vec<Entry>,
) -> PolicyReport {
    let mut summary = Summary::default();
    for entry in &results {
        *match entry.result {
            Verdict::Fail => &mut summary.fail,
            Verdict::Warn => &mut summary.warn,
            Verdict::Error => &mut summary.error,
            Verdict::Pass => &mut summary.pass,
            Verdict::Skip => &mut summary.skip,
        } += 1;
    }
    results.sort_by_key(|entry| entry.result);
    results.truncate(MAX_RESULTS);
    PolicyReport {
        api_version: API_VERSION,
        kind: KIND,
        metadata: Metadata {
            name: match subject {
                Subject::State => NAME.to_owned(),
                // It must not replace the report on the running releases.
                Subject::Change => format!("{NAME}-check"),
            },
            namespace: namespace.map(plain),
            labels: BTreeMap::from([(MANAGED_BY, SOURCE)]),
        },
        source: SOURCE,
        scope: namespace.map(|name| Resource {
            api_version: Some("v1"),
            kind: "Namespace".into(),
            namespace: None,
            name: plain(name),
        }),
        summary,
        results,
    }
}

/// For each rule its findings, or why there are none.
fn results(
    report: &Report,
    at: usize,
    release: &ReleaseEntry,
    findings: &[&FindingEntry],
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for check in &report.checks {
        let of_rule = findings.iter().filter(|finding| finding.rule == check.rule);
        let before = entries.len();
        entries.extend(of_rule.map(|finding| of_finding(check, release, finding)));
        if entries.len() == before {
            let outcome = release.checks.get(&*check.rule).copied();
            let outcome = outcome.unwrap_or(Outcome::NotEvaluated);
            entries.push(without_finding(check, at, release, outcome));
        }
    }
    entries
}

fn of_finding(check: &CheckEntry, release: &ReleaseEntry, finding: &FindingEntry) -> Entry {
    let guards_data = rules::find(&finding.rule).is_some_and(|rule| rule.data_loss);
    let (result, severity) = match finding.action {
        Action::Audit if finding.not_evaluated => (Verdict::Error, "info"),
        _ if finding.not_evaluated => (Verdict::Error, "medium"),
        Action::Deny if guards_data => (Verdict::Fail, "critical"),
        Action::Deny => (Verdict::Fail, "high"),
        Action::Hold | Action::Warn => (Verdict::Warn, "medium"),
        Action::Audit => (Verdict::Warn, "info"),
    };
    let mut properties = properties(release, &finding.docs_url);
    properties.insert("fix", shown(&finding.fix.text));
    if let Some(command) = &finding.fix.command {
        // A command that is cut does something else.
        properties.insert("command", plain(command));
    }
    if let Some(component) = finding.component {
        properties.insert("component", component.name().to_owned());
    }
    Entry {
        policy: check.rule.clone(),
        rule: check.name.clone(),
        category: check.category.title(),
        severity,
        result,
        timestamp: None,
        resources: finding
            .object
            .iter()
            .map(|object| resource(object, release))
            .collect(),
        message: shown(&finding.message),
        properties,
    }
}

fn without_finding(
    check: &CheckEntry,
    at: usize,
    release: &ReleaseEntry,
    outcome: Outcome,
) -> Entry {
    let result = match outcome {
        Outcome::Passed => Verdict::Pass,
        Outcome::NotApplicable | Outcome::Off | Outcome::Accepted | Outcome::Excepted => {
            Verdict::Skip
        }
        Outcome::NotEvaluated | Outcome::Audit | Outcome::Warn | Outcome::Deny => Verdict::Error,
    };
    let reasons = check
        .reasons
        .iter()
        .filter(|reason| reason.outcome == outcome && reason.holds(at));
    let reasons: Vec<&str> = reasons.map(|reason| reason.reason.as_str()).collect();
    let message = match outcome {
        Outcome::Passed => check.title.clone(),
        _ if reasons.is_empty() => outcome.words().to_owned(),
        _ => format!("{}: {}", outcome.words(), reasons.join("; ")),
    };
    Entry {
        policy: check.rule.clone(),
        rule: check.name.clone(),
        category: check.category.title(),
        severity: "info",
        result,
        timestamp: None,
        resources: Vec::new(),
        message: shown(&message),
        properties: properties(release, &project::rule_page(&check.rule)),
    }
}

fn properties(release: &ReleaseEntry, docs: &str) -> BTreeMap<&'static str, String> {
    let mut properties =
        BTreeMap::from([("release", shown(&release.name)), ("docs", docs.to_owned())]);
    if let Some(version) = &release.to {
        properties.insert("version", shown(version));
    }
    properties
}

fn shown(text: &str) -> String {
    shortened(&plain(text), MAX_TEXT)
}

fn resource(object: &ObjectRef, release: &ReleaseEntry) -> Resource {
    let namespace = object.namespace.as_ref().or(release.namespace.as_ref());
    Resource {
        api_version: api_version(&object.kind),
        kind: plain(&object.kind),
        namespace: namespace.map(|namespace| plain(namespace)),
        name: plain(&object.name),
    }
}

/// Group and version of the kinds that findings are about.
fn api_version(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        "ConfigMap" | "PersistentVolumeClaim" | "Pod" | "Secret" | "Service" => "v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn snapshot_of_an_audit() {
        insta::assert_snapshot!(render(&sample::audit()));
    }

    #[test]
    fn the_summary_counts_every_result_also_those_left_out() {
        let mut report = sample::audit();
        let found = report.findings[0].clone();
        report
            .findings
            .extend(std::iter::repeat_n(found, 2 * MAX_RESULTS));
        let [only] = &reports(&report)[..] else {
            panic!("one namespace has one report");
        };
        let Summary {
            pass,
            fail,
            warn,
            error,
            skip,
        } = only.summary;
        assert!(fail > 2 * MAX_RESULTS, "{:?}", only.summary);
        assert!(pass + fail + warn + error + skip > only.results.len());
        assert_eq!(only.results.len(), MAX_RESULTS);
        assert!(
            only.results
                .iter()
                .all(|entry| entry.result == Verdict::Fail)
        );
    }

    #[test]
    fn each_release_has_a_result_for_each_rule() {
        let report = sample::audit_by_every_rule();
        let [only] = &reports(&report)[..] else {
            panic!("one namespace has one report");
        };
        for release in &report.releases {
            for rule in rules::ALL {
                let known = |entry: &&Entry| {
                    entry.policy == rule.id && entry.properties["release"] == release.name
                };
                assert!(
                    only.results.iter().any(|entry| known(&entry)),
                    "{} of {}",
                    rule.id,
                    release.name
                );
            }
        }
        let passed = only
            .results
            .iter()
            .find(|entry| entry.result == Verdict::Pass)
            .unwrap();
        assert!(passed.resources.is_empty() && passed.properties["docs"].contains(&passed.policy));
    }
}
