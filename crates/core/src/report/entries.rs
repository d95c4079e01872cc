//! From a judgement to the entries of a report.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

use crate::{
    evaluate::{Evaluation, JudgedFinding, JudgedRelease, Subject},
    policy::{Action, PolicySet, resolve::Applied},
    project,
    rules::{self, State},
};

use super::{
    CheckEntry, ExceptionEntry, FindingCounts, FindingEntry, Health, InputEntry, Outcome,
    ReasonEntry, ReleaseEntry, Report, SCHEMA_VERSION, StandingEntry, Tool, TopologyEntry, WhyNot,
};

/// Releases that a reason names.
const NAMED_RELEASES: usize = 20;

impl Report {
    /// Puts a judgement into the form of a report.
    #[must_use]
    pub fn new(judgement: &Evaluation, policies: &PolicySet, inputs: Vec<InputEntry>) -> Self {
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
        findings.sort_by_key(|entry| (Reverse(entry.action), entry.not_evaluated));
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

fn check_entries(judgement: &Evaluation, releases: &[ReleaseEntry]) -> Vec<CheckEntry> {
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

fn exception_entries(judgement: &Evaluation, policies: &PolicySet) -> Vec<ExceptionEntry> {
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
