//! `policy lint`: what is wrong with policies and exceptions that can be read, before they are in
//! force.

mod overlap;
mod suggestion;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use overlap::overlap;
use schemars::JsonSchema;
use serde::Serialize;
use suggestion::did_you_mean;

use crate::{
    api::policy::{
        Places, PolicyAction, PolicyDocument, PolicySpec, RuleSetting, UpgradeException,
        UpgradePolicy, VersionMatch,
    },
    manifest::Origin,
    rules::{self, Behavior, DefaultAction, Rule},
};

/// How far ahead an exception may expire.
pub const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Rules whose changes the webhook can hold.
fn holdable() -> String {
    let all = rules::ALL
        .iter()
        .filter(|rule| rule.has(Behavior::Holdable))
        .map(|rule| rule.id);
    all.collect::<Vec<_>>().join(" and ")
}

/// The label in which Kubernetes keeps a namespace's own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does nothing, or something else than it seems to.
    Warning,
    /// It does not have the effect that it describes.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lint {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name of the check.
    pub check: &'static str,
    /// Where.
    pub origin: Origin,
    /// The document, as `kind/name`.
    pub document: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}: {} [{}]",
            self.origin, self.severity, self.document, self.message, self.check
        )
    }
}

/// Checks documents one by one and against each other. What is found comes in the order of the
/// documents, then of lines.
#[must_use]
pub fn lint(documents: &[PolicyDocument], now: Timestamp) -> Vec<Lint> {
    let mut all = Vec::new();
    for (position, document) in documents.iter().enumerate() {
        let mut linter = Linter {
            document,
            found: Vec::new(),
        };
        let earlier = &documents[..position];
        linter.name(earlier);
        match document {
            PolicyDocument::Policy(policy, _) => {
                linter.policy(policy);
                for other in earlier {
                    if let PolicyDocument::Policy(before, places) = other {
                        linter.contradictions(policy, before, places);
                    }
                }
            }
            PolicyDocument::Exception(exception, _) => linter.exception(exception, now),
        }
        linter.found.sort_by_key(|lint| lint.origin.line);
        all.append(&mut linter.found);
    }
    all
}

/// Collects what is wrong with one document.
struct Linter<'a> {
    document: &'a PolicyDocument,
    found: Vec<Lint>,
}

impl Linter<'_> {
    fn add(
        &mut self,
        severity: Severity,
        check: &'static str,
        path: &str,
        message: impl Into<String>,
    ) {
        self.found.push(Lint {
            severity,
            check,
            origin: self.document.places().at(path),
            document: format!("{}/{}", self.document.kind(), self.document.name()),
            message: message.into(),
        });
    }

    fn error(&mut self, check: &'static str, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, check, path, message);
    }

    fn warning(&mut self, check: &'static str, path: &str, message: impl Into<String>) {
        self.add(Severity::Warning, check, path, message);
    }

    fn name(&mut self, earlier: &[PolicyDocument]) {
        let (kind, name) = (self.document.kind(), self.document.name());
        if name.trim().is_empty() {
            self.error("empty-name", "metadata.name", "the name is empty");
        } else if let Some(first) = earlier
            .iter()
            .find(|other| other.kind() == kind && other.name() == name)
        {
            let place = first.places().at("metadata.name");
            self.error(
                "duplicate-name",
                "metadata.name",
                format!(
                    "{place} has the same name; in a cluster one document would replace the \
                         other"
                ),
            );
        }
    }

    /// The rule with this id; where there is none, that is an error.
    fn rule(&mut self, path: &str, id: &str) -> Option<&'static Rule> {
        if let Some(rule) = rules::ALL
            .iter()
            .copied()
            .find(|rule| rule.id.eq_ignore_ascii_case(id))
        {
            return Some(rule);
        }
        if has_wildcard(id) {
            self.error(
                "wildcard",
                path,
                format!("'{id}' has a wildcard; name each rule by its id"),
            );
        } else if let Some(rule) = rules::find(id) {
            self.error(
                "unknown-rule",
                path,
                format!(
                    "'{id}' is the name of {}; documents name rules by id",
                    rule.id
                ),
            );
        } else {
            self.error(
                "unknown-rule",
                path,
                format!("rule '{id}' does not exist{}", did_you_mean(id)),
            );
        }
        None
    }

    /// Names that must be exact.
    fn exact(&mut self, path: &str, what: &str, name: &str) {
        if name.trim().is_empty() {
            self.error("empty-name", path, format!("the {what} is empty"));
        } else if has_wildcard(name) {
            self.error(
                "wildcard",
                path,
                format!("'{name}' has a wildcard; a {what} is named exactly"),
            );
        }
    }

    fn policy(&mut self, policy: &UpgradePolicy) {
        let spec = &policy.spec;
        for (index, namespace) in spec.r#match.namespaces.iter().enumerate() {
            self.exact(
                &format!("spec.match.namespaces.{index}"),
                "namespace",
                namespace,
            );
        }
        for (index, release) in spec.r#match.releases.iter().enumerate() {
            self.exact(&format!("spec.match.releases.{index}"), "release", release);
        }
        if !overlap(&spec.r#match, &spec.r#match) {
            self.warning(
                "matches-nothing",
                "spec.match",
                "no namespace can match all conditions of this match",
            );
        }
        if spec.rules.is_empty() && spec.self_accept.is_none() {
            self.warning("no-effect", "spec", "it does not set a rule or selfAccept");
        }
        self.settings(spec);
        self.self_accept(spec.self_accept.as_deref().unwrap_or_default());
    }

    fn settings(&mut self, spec: &PolicySpec) {
        for (index, setting) in spec.rules.iter().enumerate() {
            let path = |field: &str| format!("spec.rules.{index}.{field}");
            let rule = self.rule(&path("id"), &setting.id);
            if setting.action == PolicyAction::Hold
                && let Some(rule) = rule.filter(|rule| !rule.has(Behavior::Holdable))
            {
                let message = format!(
                    "Hold is supported for {} only; for {} it acts as Enforce",
                    holdable(),
                    rule.id
                );
                self.error("hold", &path("action"), message);
            }
            if setting.params.strict && !heeds_strict(setting.action) {
                let message = format!("strict has no effect if the action is {:?}", setting.action);
                self.warning("no-effect", &path("params.strict"), message);
            }
            let Some(first) = spec.rules[..index]
                .iter()
                .position(|other| other.id.eq_ignore_ascii_case(&setting.id))
            else {
                continue;
            };
            let place = self.document.places().at(&format!("spec.rules.{first}.id"));
            if effect(&spec.rules[first]) == effect(setting) {
                self.warning(
                    "duplicate-rule",
                    &path("id"),
                    format!("{} is set the same at {place}", setting.id),
                );
            } else {
                let message = format!(
                    "{} has another value at {place}; only the stricter one applies",
                    setting.id
                );
                self.error("duplicate-rule", &path("id"), message);
            }
        }
    }

    fn self_accept(&mut self, ids: &[String]) {
        for (index, id) in ids.iter().enumerate() {
            let path = format!("spec.selfAccept.{index}");
            if self.rule(&path, id).is_some_and(|rule| rule.data_loss) {
                let message = format!(
                    "{id} guards data: deployers cannot accept it; an UpgradeException can allow \
                     it"
                );
                self.error("self-accept", &path, message);
            }
            self.repeated(&path, &ids[..index], id);
        }
    }

    fn repeated(&mut self, path: &str, earlier: &[String], id: &str) {
        if earlier.iter().any(|other| other.eq_ignore_ascii_case(id)) {
            self.warning("duplicate-rule", path, format!("{id} is named twice"));
        }
    }

    /// Two policies of equal priority that may meet at a release and do not say the same.
    fn contradictions(&mut self, policy: &UpgradePolicy, before: &UpgradePolicy, places: &Places) {
        let (spec, other) = (&policy.spec, &before.spec);
        if spec.priority != other.priority || !overlap(&spec.r#match, &other.r#match) {
            return;
        }
        let meet = format!(
            "both have priority {} and may match the same release",
            spec.priority
        );
        let theirs = decisive(other);
        for (id, index) in decisive(spec) {
            let Some(their) = theirs.get(&id).copied() else {
                continue;
            };
            if effect(&spec.rules[index]) != effect(&other.rules[their]) {
                let message = format!(
                    "{id} is {} here and {} in '{}' ({}); {meet}, so the stricter one wins: set \
                     another priority",
                    described(&spec.rules[index]),
                    described(&other.rules[their]),
                    before.metadata.name,
                    places.at(&format!("spec.rules.{their}.action")),
                );
                self.warning(
                    "contradiction",
                    &format!("spec.rules.{index}.action"),
                    message,
                );
            }
        }
        if let (Some(mine), Some(theirs)) = (&spec.self_accept, &other.self_accept)
            && ids(mine) != ids(theirs)
        {
            let place = places.at("spec.selfAccept");
            let name = &before.metadata.name;
            let message = format!(
                "selfAccept differs from that of '{name}' ({place}); {meet}, so the order of \
                 reading decides: set another priority"
            );
            self.error("contradiction", "spec.selfAccept", message);
        }
    }

    fn exception(&mut self, exception: &UpgradeException, now: Timestamp) {
        let spec = &exception.spec;
        if spec.rules.is_empty() {
            self.error("no-effect", "spec.rules", "it does not name a rule");
        }
        for (index, id) in spec.rules.iter().enumerate() {
            let path = format!("spec.rules.{index}");
            if let Some(rule) = self.rule(&path, id)
                && rule.default == DefaultAction::Audit
            {
                let message = format!(
                    "{} ({}) never denies or warns; an exception has no effect",
                    rule.id, rule.name
                );
                self.warning("no-effect", &path, message);
            }
            self.repeated(&path, &spec.rules[..index], id);
        }
        self.exact("spec.namespace", "namespace", &spec.namespace);
        self.exact("spec.release", "release", &spec.release);
        for (path, versions) in [("spec.from", &spec.from), ("spec.to", &spec.to)] {
            if matches!(versions, Some(VersionMatch::Range(range)) if range.is_any()) {
                self.warning(
                    "wildcard",
                    path,
                    "'*' does not limit versions; remove the field or name the versions",
                );
            }
        }
        for (path, what, text) in [
            ("spec.reason", "reason", &spec.reason),
            ("spec.owner", "owner", &spec.owner),
        ] {
            if text.trim().is_empty() {
                self.error("empty-field", path, format!("the {what} is empty"));
            }
        }
        let latest = now.checked_add(MAX_AHEAD).unwrap_or(Timestamp::MAX);
        if spec.expires <= now {
            self.warning(
                "expired",
                "spec.expires",
                format!("it expired at {} and no longer applies", spec.expires),
            );
        } else if spec.expires > latest {
            let message = format!(
                "it expires at {}, more than 30 days ahead; the latest is {latest:.0}",
                spec.expires
            );
            self.error("too-far-ahead", "spec.expires", message);
        }
    }
}

/// Names of Kubernetes hold none of these.
fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', ']', '{', '}', '|', '^', '$', '%'])
}

/// Whether `params.strict` changes what an action does.
const fn heeds_strict(action: PolicyAction) -> bool {
    matches!(action, PolicyAction::Enforce | PolicyAction::Hold)
}

/// The effect of a setting.
fn effect(setting: &RuleSetting) -> (PolicyAction, bool) {
    (
        setting.action,
        setting.params.strict && heeds_strict(setting.action),
    )
}

fn described(setting: &RuleSetting) -> String {
    let (action, strict) = effect(setting);
    format!("{action:?}{}", if strict { " (strict)" } else { "" })
}

/// For each rule that a policy sets, the index of the setting that counts: the strictest.
fn decisive(spec: &PolicySpec) -> BTreeMap<String, usize> {
    let mut settings = BTreeMap::new();
    let strictness = |index: usize| {
        let (action, strict) = effect(&spec.rules[index]);
        (action.strictness(), strict)
    };
    for (index, setting) in spec.rules.iter().enumerate() {
        let counts = settings
            .entry(setting.id.to_ascii_uppercase())
            .or_insert(index);
        if strictness(index) > strictness(*counts) {
            *counts = index;
        }
    }
    settings
}

fn ids(list: &[String]) -> BTreeSet<String> {
    list.iter().map(|id| id.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests;
