//! A judgement as data that every format prints: the JSON form is this very structure.

pub mod format;
mod github;
mod html;
mod inventory;
mod json;
mod junit;
mod markdown;
pub mod openreports;
#[cfg(test)]
mod sample;
mod sarif;
mod text;
mod yaml;

pub use format::{Format, Output, Show, Style, render};
pub use inventory::{FindingCounts, LastRunEntry, StandingEntry};
pub(crate) use markdown::escape as escaped_markdown;

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    evaluate::{JudgedFinding, JudgedRelease, Judgement, Subject, Verdict},
    manifest::{Origin, object::ObjectRef},
    milvus::{Component, Topology},
    policy::{Action, PolicySet, resolve::Applied},
    project,
    rules::{self, Category, Evidence, Fix, State},
    text::count,
};

/// Version of the JSON form. Fields may be added to it, never renamed.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/report/v1";

/// Everything that a report says.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// What made it.
    pub tool: Tool,
    /// Whether a change was judged, or the running state as it is (`audit`).
    pub subject: Subject,
    /// The answer in a word.
    pub verdict: Verdict,
    /// The answer of `audit` in a word; null for a change.
    pub health: Option<Health>,
    /// Day of the data about Milvus releases, charts and paths (`2026-11-20`), where it is known.
    pub data: Option<String>,
    /// Version before; null where several releases differ or it is unknown.
    pub from: Option<String>,
    /// Version after; null where several releases differ or it is unknown.
    pub to: Option<String>,
    /// The releases that were judged.
    pub releases: Vec<ReleaseEntry>,
    /// What was found, worst first.
    pub findings: Vec<FindingEntry>,
    /// Each rule and how it came out, in the order of the rules.
    pub checks: Vec<CheckEntry>,
    /// Exceptions that let a finding pass.
    pub exceptions: Vec<ExceptionEntry>,
    /// Policies in force.
    pub policies: Vec<String>,
    /// What was read.
    pub inputs: Vec<InputEntry>,
    /// The folder of the repository, which formats with relative paths leave out.
    #[serde(skip)]
    pub root: Option<String>,
}

/// What made a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tool {
    /// `milvus-guard`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The answer of `audit` in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// No rule denies or warns.
    Healthy,
    /// Some rule denies or warns.
    NeedsAttention,
}

impl Health {
    /// The answer of `audit` that a verdict stands for.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Healthy,
            Verdict::Warn | Verdict::Deny => Self::NeedsAttention,
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::NeedsAttention => "needs attention",
        }
    }
}

/// A release that was judged.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseEntry {
    /// Name.
    pub name: String,
    /// Namespace, where it is known.
    pub namespace: Option<String>,
    /// Version before.
    pub from: Option<String>,
    /// Version after.
    pub to: Option<String>,
    /// Topology on both sides.
    pub topology: TopologyEntry,
    /// How each rule came out for this release, by rule id.
    pub checks: BTreeMap<Cow<'static, str>, Outcome>,
    /// How many of its findings do what.
    pub findings: FindingCounts,
    /// Where it stands among the releases of Milvus (`audit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingEntry>,
    /// Its last run, where there is one (`audit` of a cluster).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRunEntry>,
}

impl ReleaseEntry {
    /// `namespace/name`, or the name where no namespace is known.
    #[must_use]
    pub fn label(&self) -> String {
        label(self.namespace.as_deref(), &self.name)
    }
}

fn label(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(
        || name.to_owned(),
        |namespace| format!("{namespace}/{name}"),
    )
}

/// Topology on both sides.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TopologyEntry {
    /// The running state; null for a new installation.
    pub before: Option<Topology>,
    /// What is wanted.
    pub after: Topology,
}

/// Something that was found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingEntry {
    /// Rule id.
    pub rule: Cow<'static, str>,
    /// Rule name.
    pub name: Cow<'static, str>,
    /// What it does.
    pub action: Action,
    /// Whether the rule could not judge for lack of a fact; then the fix says how to provide it.
    pub not_evaluated: bool,
    /// Release.
    pub release: String,
    /// Its namespace, where it is known.
    pub namespace: Option<String>,
    /// Position in [`Report::releases`].
    #[serde(skip)]
    at: usize,
    /// Component, where it is about one.
    pub component: Option<Component>,
    /// Object, where it is about one.
    pub object: Option<ObjectRef>,
    /// Where that stands, where it came from a file.
    pub location: Option<Origin>,
    /// What was seen.
    pub message: String,
    /// Why it matters.
    pub why: Cow<'static, str>,
    /// What to do.
    pub fix: Fix,
    /// What was compared.
    pub evidence: Vec<Evidence>,
    /// Page about the rule, as a path in the repository.
    pub docs: String,
    /// The address of that page.
    pub docs_url: String,
    /// Policy that decided the action, where one did.
    pub policy: Option<String>,
}

/// A rule and how it came out over all releases.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckEntry {
    /// Rule id.
    pub rule: String,
    /// Rule name.
    pub name: String,
    /// The check in the affirmative.
    pub title: String,
    /// Group.
    pub category: Category,
    /// How it came out over all releases: the worst, and passed where it passed for one and did
    /// not apply to others.
    pub outcome: Outcome,
    /// Why it did not apply or could not be evaluated, each reason once.
    pub reasons: Vec<ReasonEntry>,
}

/// Why a rule did not apply or could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonEntry {
    /// `not-applicable` or `not-evaluated`.
    pub outcome: Outcome,
    /// The reason, as a phrase.
    pub reason: String,
    /// How to provide what is missing, as a sentence; null where the rule does not apply.
    pub provide: Option<String>,
    /// What the missing fact does (`warn`, `audit`); null where the rule does not apply.
    pub action: Option<Action>,
    /// Releases of which it is true, as `namespace/name`; the first 20.
    pub releases: Vec<String>,
    /// Positions of all of them in [`Report::releases`].
    #[serde(skip)]
    at: Vec<usize>,
}

/// Releases that a reason names.
const NAMED_RELEASES: usize = 20;

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There was nothing to check.
    NotApplicable,
    /// Something was checked, and nothing was found.
    Passed,
    /// A policy switched it off.
    Off,
    /// The deployer accepted it, which policy allows.
    Accepted,
    /// An exception lets everything that was found pass.
    Excepted,
    /// It could not judge for lack of a fact.
    NotEvaluated,
    /// Findings that are only reported.
    Audit,
    /// Findings that warn.
    Warn,
    /// Findings that deny.
    Deny,
}

impl Outcome {
    /// The name in reports.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotApplicable => "not applicable",
            Self::Passed => "passed",
            Self::Off => "switched off",
            Self::Accepted => "accepted",
            Self::Excepted => "excepted",
            Self::NotEvaluated => "not evaluated",
            Self::Audit => "noted",
            Self::Warn => "warned",
            Self::Deny => "denied",
        }
    }
}

/// An exception that let a finding pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExceptionEntry {
    /// Name of the exception.
    pub name: String,
    /// Rule that it allowed.
    pub rule: String,
    /// Release.
    pub release: String,
    /// Its namespace, where it is known.
    pub namespace: Option<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Until when (RFC 3339).
    pub expires: String,
    /// What the rule had found.
    pub message: String,
}

/// One input and what was made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputEntry {
    /// `before`, `after`, `running` (of `audit`), `facts`, `etcd`, `policy`.
    pub role: String,
    /// The input as the user named it.
    pub source: String,
    /// What was read there (files, objects of the cluster).
    pub read: Vec<String>,
    /// What could not be read there, with the reason.
    pub not_read: Vec<String>,
    /// How it was understood, where that could be questioned: a part of a release or the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Report {
    /// Puts a judgement into the form of a report.
    #[must_use]
    pub fn new(judgement: &Judgement, policies: &PolicySet, inputs: Vec<InputEntry>) -> Self {
        let mut releases: Vec<ReleaseEntry> = judgement
            .releases
            .iter()
            .map(|release| ReleaseEntry {
                name: release.name.clone(),
                namespace: release.namespace.clone(),
                from: release.from.as_ref().map(ToString::to_string),
                to: release.to.as_ref().map(ToString::to_string),
                topology: TopologyEntry {
                    before: release.topology_before,
                    after: release.topology_after,
                },
                checks: outcomes(release)
                    .map(|(rule, outcome)| (Cow::Borrowed(rule), outcome))
                    .collect(),
                findings: FindingCounts::default(),
                standing: release.standing.as_ref().map(StandingEntry::of),
                last_run: None,
            })
            .collect();
        let mut findings: Vec<FindingEntry> = judgement
            .releases
            .iter()
            .enumerate()
            .flat_map(|(at, release)| {
                release
                    .findings
                    .iter()
                    .filter_map(move |judged| finding_entry(at, release, judged))
            })
            .collect();
        findings.sort_by_key(|entry| (std::cmp::Reverse(entry.action), entry.not_evaluated));
        for finding in &findings {
            if let Some(release) = releases.get_mut(finding.at) {
                release.findings.add(finding);
            }
        }
        let verdict = judgement.verdict();
        Self {
            schema_version: SCHEMA_VERSION.into(),
            tool: Tool {
                name: project::NAME.into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            subject: judgement.subject,
            verdict,
            health: (judgement.subject == Subject::State).then(|| Health::of(verdict)),
            data: None,
            from: common(releases.iter().map(|release| &release.from)),
            to: common(releases.iter().map(|release| &release.to)),
            findings,
            checks: check_entries(judgement, &releases),
            exceptions: exception_entries(judgement, policies),
            policies: policies
                .policies
                .iter()
                .map(|policy| policy.metadata.name.clone())
                .collect(),
            inputs,
            root: None,
            releases,
        }
    }
}

/// The value that all share, if they do.
fn common<'a>(mut values: impl Iterator<Item = &'a Option<String>>) -> Option<String> {
    let first = values.next()?.clone()?;
    values
        .all(|value| value.as_ref() == Some(&first))
        .then_some(first)
}

fn finding_entry(
    at: usize,
    release: &JudgedRelease,
    judged: &JudgedFinding,
) -> Option<FindingEntry> {
    let Applied::Acts { action, policy, .. } = &judged.applied else {
        return None;
    };
    let finding = &judged.finding;
    Some(FindingEntry {
        rule: finding.rule.id.into(),
        name: finding.rule.name.into(),
        action: *action,
        not_evaluated: finding.not_evaluated,
        release: release.name.clone(),
        namespace: release.namespace.clone(),
        at,
        component: finding.component,
        object: finding.object.clone(),
        location: finding.origin.clone(),
        message: finding.message.clone(),
        why: finding
            .why
            .clone()
            .map_or(Cow::Borrowed(finding.rule.why), Cow::Owned),
        fix: finding.fix.clone(),
        evidence: finding.evidence.clone(),
        docs: format!("docs/rules/{}.md", finding.rule.id),
        docs_url: project::rule_page(finding.rule.id),
        policy: policy.clone(),
    })
}

/// How each rule came out for one release, with what policies, exceptions and acceptances made of
/// it.
fn outcomes(release: &JudgedRelease) -> impl Iterator<Item = (&'static str, Outcome)> {
    rules::ALL.iter().enumerate().map(|(at, rule)| {
        let of_rule = || {
            release
                .findings
                .iter()
                .filter(|judged| judged.finding.rule.id == rule.id)
        };
        let worst = of_rule()
            .filter(|judged| !judged.finding.not_evaluated)
            .filter_map(JudgedFinding::action)
            .max();
        let any = |test: fn(&JudgedFinding) -> bool| of_rule().any(test);
        let outcome = match worst {
            Some(Action::Deny) => Outcome::Deny,
            Some(Action::Hold | Action::Warn) => Outcome::Warn,
            Some(Action::Audit) => Outcome::Audit,
            None if any(|judged| judged.finding.not_evaluated && judged.action().is_some()) => {
                Outcome::NotEvaluated
            }
            None if any(|judged| matches!(judged.applied, Applied::Excepted { .. })) => {
                Outcome::Excepted
            }
            None if any(|judged| judged.applied == Applied::Accepted) => Outcome::Accepted,
            None if any(|judged| matches!(judged.applied, Applied::Off { .. })) => Outcome::Off,
            None => match release.states.get(at) {
                Some(State::Passed) => Outcome::Passed,
                Some(State::NotApplicable(_)) => Outcome::NotApplicable,
                Some(State::NotEvaluated(_) | State::Found) | None => Outcome::NotEvaluated,
            },
        };
        (rule.id, outcome)
    })
}

fn check_entries(judgement: &Judgement, releases: &[ReleaseEntry]) -> Vec<CheckEntry> {
    let entry = |(rule_at, rule): (usize, &&'static rules::Rule)| {
        let each = || {
            releases
                .iter()
                .filter_map(|release| release.checks.get(rule.id).copied())
        };
        let mut reasons: Vec<ReasonEntry> = Vec::new();
        let mut known: BTreeMap<WhyNot<'_>, usize> = BTreeMap::new();
        for (at, (release, judged)) in releases.iter().zip(&judgement.releases).enumerate() {
            for why in why_not(rule.id, judged.states.get(rule_at), &judged.findings) {
                let position = *known.entry(why).or_insert_with(|| {
                    reasons.push(ReasonEntry {
                        outcome: why.outcome,
                        reason: why.reason.to_owned(),
                        provide: why.provide.map(str::to_owned),
                        action: why.action,
                        releases: Vec::new(),
                        at: Vec::new(),
                    });
                    reasons.len() - 1
                });
                let entry = &mut reasons[position];
                if entry.at.last() == Some(&at) {
                    continue;
                }
                entry.at.push(at);
                if entry.releases.len() < NAMED_RELEASES {
                    entry.releases.push(release.label());
                }
            }
        }
        CheckEntry {
            rule: rule.id.into(),
            name: rule.name.into(),
            title: rule.title.into(),
            category: rule.category,
            outcome: each().max().unwrap_or(Outcome::NotApplicable),
            reasons,
        }
    };
    rules::ALL.iter().enumerate().map(entry).collect()
}

/// Why a rule did not apply to a release, or one thing that it lacked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WhyNot<'a> {
    outcome: Outcome,
    reason: &'a str,
    provide: Option<&'a str>,
    action: Option<Action>,
}

/// Why a rule did not apply to a release, or each thing that it lacked there. What was found for
/// the same release stands next to it.
fn why_not<'a>(
    rule: &'a str,
    state: Option<&'a State>,
    findings: &'a [JudgedFinding],
) -> impl Iterator<Item = WhyNot<'a>> {
    let not_applicable = match state {
        Some(State::NotApplicable(reason)) => Some(WhyNot {
            outcome: Outcome::NotApplicable,
            reason,
            provide: None,
            action: None,
        }),
        _ => None,
    };
    let lacking = findings
        .iter()
        .filter(move |judged| judged.finding.rule.id == rule && judged.finding.not_evaluated);
    let lacking = lacking.filter_map(|judged| {
        let (finding, action) = (&judged.finding, judged.action()?);
        Some(WhyNot {
            outcome: Outcome::NotEvaluated,
            reason: finding
                .missing
                .as_ref()
                .map_or(&*finding.message, rules::Missing::what),
            provide: finding.missing.as_ref().map(rules::Missing::provide),
            action: Some(action),
        })
    });
    not_applicable.into_iter().chain(lacking)
}

impl ReasonEntry {
    /// Whether it is true of the release at this position.
    fn holds(&self, at: usize) -> bool {
        self.at.binary_search(&at).is_ok()
    }

    fn warns(&self) -> bool {
        self.action > Some(Action::Audit)
    }
}

impl Report {
    /// How many rules came out so.
    fn tally(&self, outcome: Outcome) -> usize {
        self.checks
            .iter()
            .filter(|check| check.outcome == outcome)
            .count()
    }

    /// Findings that do this, without those that say what was not evaluated.
    fn acting(&self, action: Action) -> impl Iterator<Item = &FindingEntry> {
        self.findings
            .iter()
            .filter(move |finding| finding.action == action && !finding.not_evaluated)
    }

    /// The counts as text: "1 denial, 2 warnings, 25 passed, 8 not evaluated". `audit` denies
    /// nothing: it has problems.
    fn counts(&self) -> String {
        let denial = if self.subject == Subject::State {
            "problem"
        } else {
            "denial"
        };
        let mut parts: Vec<String> = [
            (Action::Deny, denial),
            (Action::Hold, "hold"),
            (Action::Warn, "warning"),
            (Action::Audit, "note"),
        ]
        .into_iter()
        .map(|(action, noun)| (self.acting(action).count(), noun))
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(number, noun))
        .collect();
        for outcome in [
            Outcome::Passed,
            Outcome::Excepted,
            Outcome::Accepted,
            Outcome::Off,
            Outcome::NotApplicable,
            Outcome::NotEvaluated,
        ] {
            let number = self.tally(outcome);
            if number > 0 {
                parts.push(format!("{number} {}", outcome.words()));
            }
        }
        parts.join(", ")
    }

    /// The verdict in a sentence, in the words of what was judged.
    fn sentence(&self) -> &'static str {
        let warned = self
            .acting(Action::Warn)
            .chain(self.acting(Action::Hold))
            .next()
            .is_some();
        match (self.subject, self.verdict) {
            (Subject::Change, Verdict::Deny) => "this change is not safe",
            (Subject::Change, Verdict::Warn) if warned => {
                "no rule denies this change; read the warnings first"
            }
            (Subject::Change, Verdict::Warn) => {
                "no rule denies this change, but rules that guard data could not be evaluated"
            }
            (Subject::Change, Verdict::Allow) => "no rule denies this change or warns about it",
            (Subject::State, Verdict::Deny) => "the running release has problems",
            (Subject::State, Verdict::Warn) => "read the warnings",
            (Subject::State, Verdict::Allow) => "no rule found a problem",
        }
    }

    /// Reasons of one kind over all rules, those that warn first: each reason once, with the rules
    /// that share it.
    fn reasons(&self, outcome: Outcome) -> Vec<SharedReason<'_>> {
        let mut shared: Vec<SharedReason<'_>> = Vec::new();
        let mut known: BTreeMap<(WhyNot<'_>, &[usize]), usize> = BTreeMap::new();
        for check in &self.checks {
            for reason in check
                .reasons
                .iter()
                .filter(|reason| reason.outcome == outcome)
            {
                let (provide, warns) = (reason.provide.as_deref(), reason.warns());
                let action = Some(if warns { Action::Warn } else { Action::Audit });
                let why = WhyNot {
                    outcome,
                    reason: &reason.reason,
                    provide,
                    action,
                };
                let position = *known.entry((why, &reason.at)).or_insert_with(|| {
                    shared.push(SharedReason {
                        rules: Vec::new(),
                        reason: &reason.reason,
                        provide,
                        releases: &reason.releases,
                        at: &reason.at,
                        warns,
                    });
                    shared.len() - 1
                });
                shared[position].rules.push(&check.rule);
            }
        }
        shared.sort_by_key(|reason| !reason.warns);
        shared
    }

    /// The findings of each release, in the order of [`Report::releases`].
    fn by_release(&self) -> Vec<Vec<&FindingEntry>> {
        let mut all: Vec<Vec<&FindingEntry>> = vec![Vec::new(); self.releases.len()];
        for finding in &self.findings {
            if let Some(of) = all.get_mut(finding.at) {
                of.push(finding);
            }
        }
        all
    }
}

/// A reason that several rules may share.
struct SharedReason<'a> {
    rules: Vec<&'a str>,
    reason: &'a str,
    provide: Option<&'a str>,
    releases: &'a [String],
    at: &'a [usize],
    /// Whether it makes a warning.
    warns: bool,
}

impl SharedReason<'_> {
    /// The releases that it is about, where it is not about all: " (in a/b, a/c and 3 more)".
    fn place(&self, all: usize) -> String {
        const SHOWN: usize = 3;
        if self.at.len() == all {
            return String::new();
        }
        let names = self
            .releases
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = self.at.len().saturating_sub(SHOWN);
        if more == 0 {
            format!(" (in {names})")
        } else {
            format!(" (in {names} and {more} more)")
        }
    }
}

fn exception_entries(judgement: &Judgement, policies: &PolicySet) -> Vec<ExceptionEntry> {
    let mut entries = Vec::new();
    for release in &judgement.releases {
        for judged in &release.findings {
            let Applied::Excepted { exception } = judged.applied else {
                continue;
            };
            let Some(exception) = policies.exceptions.get(exception) else {
                continue;
            };
            entries.push(ExceptionEntry {
                name: exception.metadata.name.clone(),
                rule: judged.finding.rule.id.into(),
                release: release.name.clone(),
                namespace: release.namespace.clone(),
                reason: exception.spec.reason.clone(),
                owner: exception.spec.owner.clone(),
                expires: exception.spec.expires.to_string(),
                message: judged.finding.message.clone(),
            });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::policy::{
            API_VERSION, Metadata, Params, PolicyAction, PolicySpec, RuleSetting, UpgradePolicy,
        },
        evaluate::{Question, judge},
        evidence::Facts,
        milvus::catalogue::Catalogue,
        rules::testing::Fixture,
    };

    #[test]
    fn an_audit_has_its_own_words() {
        let report = sample::audit();
        assert_eq!(
            (report.subject, report.health),
            (Subject::State, Some(Health::NeedsAttention))
        );
        for format in [Format::Text, Format::Markdown, Format::Github] {
            let page = render(&report, format, &Style::default());
            assert!(page.contains("needs attention"), "{format}: {page}");
            for word in [
                "would",
                "this change",
                "may be made",
                "verdict",
                "denial",
                "Denied",
                "before  ",
                "after  ",
                "new installation",
            ] {
                assert!(!page.contains(word), "{format} says '{word}':\n{page}");
            }
        }
        let healthy = Report {
            verdict: Verdict::Allow,
            health: Some(Health::of(Verdict::Allow)),
            ..report
        };
        assert!(render(&healthy, Format::Text, &Style::default()).contains("audit: healthy"));
    }

    #[test]
    fn one_is_not_many() {
        let mut report = sample::report();
        report.findings.retain(|finding| finding.rule == "MG101");
        assert!(
            report.counts().starts_with("1 denial, "),
            "{}",
            report.counts()
        );
        let twice = report.findings[0].clone();
        report.findings.push(twice);
        assert!(
            report.counts().starts_with("2 denials, "),
            "{}",
            report.counts()
        );
    }

    #[test]
    fn each_release_has_its_own_states() {
        let report = sample::audit();
        let of = |release: usize, rule: &str| report.releases[release].checks[rule];
        let at = |name: &str| {
            report
                .releases
                .iter()
                .position(|release| release.name == name)
                .unwrap()
        };
        let (cluster, standalone) = (at("my-release"), at("milvus-b"));
        assert_eq!(
            (of(cluster, "MG106"), of(standalone, "MG106")),
            (Outcome::Warn, Outcome::NotApplicable)
        );
        let check = report
            .checks
            .iter()
            .find(|check| check.rule == "MG106")
            .unwrap();
        assert_eq!(check.outcome, Outcome::Warn);
        assert_eq!(
            check
                .reasons
                .iter()
                .map(|reason| reason.releases.clone())
                .collect::<Vec<_>>(),
            [["milvus/milvus-b"]]
        );
    }

    #[test]
    fn a_data_rule_that_could_not_look_warns() {
        let (before, after) = (
            Fixture::cluster("2.5.27"),
            Fixture::cluster("2.5.27").tag("latest"),
        );
        let policies = |action| PolicySet {
            policies: Arc::new(vec![UpgradePolicy {
                api_version: API_VERSION.into(),
                kind: "UpgradePolicy".into(),
                metadata: Metadata {
                    name: "ours".into(),
                    ..Metadata::default()
                },
                spec: PolicySpec {
                    rules: ["MG103", "MG105"]
                        .map(|id| RuleSetting {
                            id: id.into(),
                            action,
                            params: Params::default(),
                        })
                        .to_vec(),
                    ..PolicySpec::default()
                },
            }]),
            ..PolicySet::default()
        };
        let judged = |policies: &PolicySet| {
            let judgement = judge(&Question {
                before: Some(&before.snapshot()),
                after: &after.snapshot(),
                facts: &Facts::default(),
                catalogue: Catalogue::embedded(),
                policies,
                is_rollback: false,
                deletes: None,
                accepted: &[],
                overdue: None,
            });
            let report = Report::new(&judgement, policies, Vec::new());
            let finding = report
                .findings
                .iter()
                .find(|finding| finding.rule == "MG103")
                .map(|finding| finding.action);
            let outcome = report
                .checks
                .iter()
                .find(|check| check.rule == "MG103")
                .unwrap()
                .outcome;
            (report.verdict, finding, outcome)
        };
        let plain = judged(&PolicySet::default());
        assert_eq!(
            plain,
            (Verdict::Warn, Some(Action::Warn), Outcome::NotEvaluated)
        );
        // A policy is a ceiling for this too.
        let ceiling = judged(&policies(PolicyAction::Audit));
        assert_eq!(
            ceiling,
            (Verdict::Allow, Some(Action::Audit), Outcome::NotEvaluated)
        );
        assert_eq!(
            judged(&policies(PolicyAction::Off)),
            (Verdict::Allow, None, Outcome::Off)
        );
    }
}
