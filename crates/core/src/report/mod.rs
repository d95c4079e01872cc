//! A judgement as data that every format prints: the JSON form is this very structure.

mod entries;
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
mod summary;
mod text;
mod yaml;

pub use format::{Format, Output, Show, Style};
pub use inventory::{FindingCounts, LastRunEntry, StandingEntry};
pub(crate) use markdown::escape as escaped_markdown;

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    evaluate::{Subject, Verdict},
    manifest::{Origin, object::ObjectRef},
    milvus::{Component, Topology},
    policy::Action,
    rules::{Category, Evidence, Fix},
};

/// Version of the JSON form. Fields may be added to it, never renamed.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/report/v1";

/// The content of a report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// What made it.
    pub tool: Tool,
    /// Whether a change was judged, or the running state as it is (`audit`).
    pub subject: Subject,
    /// The verdict.
    pub verdict: Verdict,
    /// The result of `audit`; null for a change.
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

/// The result of `audit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// No rule denies or warns.
    Healthy,
    /// Some rule denies or warns.
    NeedsAttention,
}

impl Health {
    /// The result of `audit` for a verdict.
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
    /// Its standing among the releases of Milvus (`audit`).
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
    /// Whether the rule could not judge for lack of a fact; then the fix tells how to provide it.
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
    /// Its position, if it came from a file.
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

/// Why a rule did not apply to a release, or one thing that it lacked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WhyNot<'a> {
    outcome: Outcome,
    reason: &'a str,
    provide: Option<&'a str>,
    action: Option<Action>,
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

/// A report in a format, ending in a line feed.
#[must_use]
pub fn render(report: &Report, format: Format, style: &Style) -> String {
    match format {
        Format::Text => text::render(report, style),
        Format::Json => json::render(report),
        Format::Yaml => yaml::render(report),
        Format::Markdown => markdown::render(report),
        Format::Html => html::render(report),
        Format::Junit => junit::render(report),
        Format::Sarif => sarif::render(report, style.show),
        Format::Github => github::render(report),
        Format::OpenReports => openreports::render(report),
    }
}

#[cfg(test)]
mod tests;
