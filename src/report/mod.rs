//! A judgement as data that every format prints: the JSON form is this very structure.

pub mod format;
mod github;
mod json;
mod junit;
mod markdown;
#[cfg(test)]
mod sample;
mod sarif;
mod text;
mod yaml;

pub use format::{Format, Output, Show, Style, render};

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    judge::{JudgedFinding, Judgement, Verdict},
    manifest::{Origin, object::ObjectRef},
    milvus::{Component, Topology},
    policy::{Action, PolicySet, resolve::Applied},
    rules::{self, Category, Evidence, Fix},
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
    /// Day of the data about releases (`2026-11-28`), where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The answer in a word.
    pub verdict: Verdict,
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
}

/// What made a report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Tool {
    /// `milvus-guard`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A release that was judged.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
}

/// Topology on both sides.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TopologyEntry {
    /// What runs; null for a new installation.
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
    /// Whether the rule could not judge for lack of a fact.
    pub not_evaluated: bool,
    /// Release.
    pub release: String,
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
    /// Page about the rule.
    pub docs: String,
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
    /// How it came out.
    pub outcome: Outcome,
}

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was found.
    Passed,
    /// Findings that are only reported.
    Audit,
    /// Findings that warn.
    Warn,
    /// Findings that deny.
    Deny,
    /// An exception lets everything that was found pass.
    Excepted,
    /// The deployer accepted it, as policy lets him.
    Accepted,
    /// A policy switched it off.
    Off,
    /// It could not judge for lack of a fact.
    NotEvaluated,
}

/// An exception that let a finding pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExceptionEntry {
    /// Name of the exception.
    pub name: String,
    /// Rule that it let pass.
    pub rule: String,
    /// Release.
    pub release: String,
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
    /// `before`, `after`, `facts`, `policy`.
    pub role: String,
    /// The input as the user named it.
    pub source: String,
    /// What was read there (files, objects of the cluster).
    pub read: Vec<String>,
    /// What could not be read there, with the reason.
    pub not_read: Vec<String>,
}

impl Report {
    /// Puts a judgement into the form of a report.
    #[must_use]
    pub fn new(judgement: &Judgement, policies: &PolicySet, inputs: Vec<InputEntry>) -> Self {
        let releases: Vec<ReleaseEntry> = judgement
            .releases
            .iter()
            .map(|release| ReleaseEntry {
                name: release.name.clone(),
                namespace: release.namespace.clone(),
                from: release.from.as_ref().map(ToString::to_string),
                to: release.to.as_ref().map(ToString::to_string),
                topology: TopologyEntry { before: release.topology_before, after: release.topology_after },
            })
            .collect();
        let mut findings: Vec<FindingEntry> = judgement
            .releases
            .iter()
            .flat_map(|release| release.findings.iter().filter_map(move |judged| finding_entry(&release.name, judged)))
            .collect();
        findings.sort_by_key(|entry| (std::cmp::Reverse(entry.action), entry.not_evaluated));
        Self {
            schema_version: SCHEMA_VERSION.into(),
            tool: Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() },
            data: None,
            verdict: judgement.verdict(),
            from: common(releases.iter().map(|release| &release.from)),
            to: common(releases.iter().map(|release| &release.to)),
            findings,
            checks: rules::ALL.iter().map(|rule| check_entry(rule, judgement)).collect(),
            exceptions: exception_entries(judgement, policies),
            policies: policies.policies.iter().map(|policy| policy.metadata.name.clone()).collect(),
            inputs,
            releases,
        }
    }
}

/// The value that all share, if they do.
fn common<'a>(mut values: impl Iterator<Item = &'a Option<String>>) -> Option<String> {
    let first = values.next()?.clone()?;
    values.all(|value| value.as_ref() == Some(&first)).then_some(first)
}

fn finding_entry(release: &str, judged: &JudgedFinding) -> Option<FindingEntry> {
    let Applied::Acts { action, policy } = &judged.applied else { return None };
    let finding = &judged.finding;
    Some(FindingEntry {
        rule: finding.rule.id.into(),
        name: finding.rule.name.into(),
        action: *action,
        not_evaluated: finding.not_evaluated,
        release: release.to_owned(),
        component: finding.component,
        object: finding.object.clone(),
        location: finding.origin.clone(),
        message: finding.message.clone(),
        why: finding.why.clone().map_or(Cow::Borrowed(finding.rule.why), Cow::Owned),
        fix: finding.fix.clone(),
        evidence: finding.evidence.clone(),
        docs: format!("docs/rules/{}.md", finding.rule.id),
        policy: policy.clone(),
    })
}

fn check_entry(rule: &'static rules::Rule, judgement: &Judgement) -> CheckEntry {
    let of_rule: Vec<&JudgedFinding> = judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings)
        .filter(|judged| judged.finding.rule.id == rule.id)
        .collect();
    let worst = of_rule.iter().filter(|judged| !judged.finding.not_evaluated).filter_map(|judged| judged.action()).max();
    let outcome = match worst {
        Some(Action::Deny) => Outcome::Deny,
        Some(Action::Hold | Action::Warn) => Outcome::Warn,
        Some(Action::Audit) => Outcome::Audit,
        None if of_rule.iter().any(|judged| judged.finding.not_evaluated) => Outcome::NotEvaluated,
        None if of_rule.iter().any(|judged| matches!(judged.applied, Applied::Excepted { .. })) => Outcome::Excepted,
        None if of_rule.iter().any(|judged| judged.applied == Applied::Accepted) => Outcome::Accepted,
        None if of_rule.iter().any(|judged| matches!(judged.applied, Applied::Off { .. })) => Outcome::Off,
        None => Outcome::Passed,
    };
    CheckEntry { rule: rule.id.into(), name: rule.name.into(), title: rule.title.into(), category: rule.category, outcome }
}

fn exception_entries(judgement: &Judgement, policies: &PolicySet) -> Vec<ExceptionEntry> {
    let mut entries = Vec::new();
    for release in &judgement.releases {
        for judged in &release.findings {
            let Applied::Excepted { exception } = judged.applied else { continue };
            let Some(exception) = policies.exceptions.get(exception) else { continue };
            entries.push(ExceptionEntry {
                name: exception.metadata.name.clone(),
                rule: judged.finding.rule.id.into(),
                release: release.name.clone(),
                reason: exception.spec.reason.clone(),
                owner: exception.spec.owner.clone(),
                expires: exception.spec.expires.to_string(),
                message: judged.finding.message.clone(),
            });
        }
    }
    entries
}
