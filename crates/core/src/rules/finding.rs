//! What a rule says: data until it is printed.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    manifest::{
        Origin,
        object::{Meta, ObjectRef},
    },
    milvus::{Component, config::Setting, release::ComponentWorkload},
};

use super::{
    Missing, Rule, State,
    advice::{Cure, Remedy},
};

/// How bad a case is by the rule's own judgement, before any policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Audit,
    /// Risky.
    Warn,
    /// Unsafe.
    Deny,
}

/// One thing that a rule saw.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// How bad it is.
    pub severity: Severity,
    /// Whether the rule could not judge for lack of a fact.
    pub not_evaluated: bool,
    /// That fact, where it is known which.
    pub missing: Option<Missing>,
    /// Why the rule itself could not be evaluated; `None` if it was.
    pub failed: Option<Failed>,
    /// The component that it is about, where it is about one.
    pub component: Option<Component>,
    /// The object that it is about, where it is about one.
    pub object: Option<ObjectRef>,
    /// Where that stands.
    pub origin: Option<Origin>,
    /// What was seen, in one sentence without the rule's id.
    pub message: String,
    /// Why it matters here; absent means the rule's general reason.
    pub why: Option<String>,
    /// What to do.
    pub fix: Fix,
    /// What would take it away; the command is made of it when all rules have spoken.
    pub cure: Option<Cure>,
    /// Whether the webhook can hold the change instead of denying it.
    pub can_be_held: bool,
    /// What was compared.
    pub evidence: Vec<Evidence>,
}

/// Why a rule could not be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failed {
    /// It has a defect.
    Panic,
    /// The time for an answer was over.
    Timeout,
}

impl Failed {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Timeout => "timeout",
        }
    }
}

/// What to do about a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fix {
    /// In words.
    pub text: Cow<'static, str>,
    /// A command that does it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// One compared value and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Evidence {
    /// What was compared, such as `image` or a configuration key.
    pub what: String,
    /// The running state.
    pub before: Option<String>,
    /// What is wanted.
    pub after: Option<String>,
    /// Where the wanted (else the running) value stood.
    pub source: Option<String>,
}

/// Collects what a rule says of one change.
#[derive(Debug, Default)]
pub struct Findings {
    rule: Option<&'static Rule>,
    found: Vec<Finding>,
    checked: bool,
    not_applicable: Option<Cow<'static, str>>,
}

impl Findings {
    /// A collector for one rule.
    pub(crate) fn of(rule: &'static Rule) -> Self {
        Self {
            rule: Some(rule),
            ..Self::default()
        }
    }

    /// The rule has something before it and looks at it. Without this call a rule that finds
    /// nothing has not passed: it counts as not applicable.
    pub fn checked(&mut self) {
        self.checked = true;
    }

    /// There is nothing for the rule to check; `reason` is a phrase such as "the release has no
    /// MinIO". It does not take back what was [checked](Self::checked).
    pub fn not_applicable(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.not_applicable.get_or_insert(reason.into());
    }

    /// How the rule came out.
    #[must_use]
    pub fn state(&self) -> State {
        let missing = || self.found.iter().find(|finding| finding.not_evaluated);
        if self.found.iter().any(|finding| !finding.not_evaluated) {
            State::Found
        } else if let Some(finding) = missing() {
            let unknown = || Missing::new(finding.message.clone(), finding.fix.text.clone());
            State::NotEvaluated(finding.missing.clone().unwrap_or_else(unknown))
        } else if self.checked {
            State::Passed
        } else {
            let reason = self.not_applicable.clone();
            State::NotApplicable(reason.unwrap_or(Cow::Borrowed(
                "the release does not contain anything that this rule checks",
            )))
        }
    }

    /// Whether the rule neither checked anything nor said why it does not apply.
    pub(super) fn is_silent(&self) -> bool {
        self.found.is_empty() && !self.checked && self.not_applicable.is_none()
    }

    /// Whether a fact is missing that is not bound to the moment of the change.
    pub(super) fn lacks_lasting(&self) -> bool {
        self.found.iter().any(Finding::lacks_lasting)
    }

    /// Makes a warning of what could not be evaluated.
    pub(super) fn warn_of_missing(&mut self) {
        for finding in self
            .found
            .iter_mut()
            .filter(|finding| finding.lacks_lasting())
        {
            finding.severity = finding.severity.max(Severity::Warn);
        }
    }

    /// An unsafe case.
    pub fn deny(&mut self, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Deny, message.into())
    }

    /// A risky case.
    pub fn warn(&mut self, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warn, message.into())
    }

    /// Something worth knowing.
    pub fn audit(&mut self, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Audit, message.into())
    }

    /// The rule applies, but a fact is missing. Where the rule guards data and version or
    /// configuration change, this warns; else it is only reported.
    pub fn not_evaluated(&mut self, missing: Missing) -> &mut Finding {
        let finding = self.add(
            Severity::Audit,
            format!("not evaluated: {}", missing.what()),
        );
        finding.not_evaluated = true;
        finding.fix.text = Cow::Owned(missing.provide().to_owned());
        finding.missing = Some(missing);
        finding
    }

    /// The rule could not be evaluated. If it guards data, the change may be unsafe, so it
    /// denies; any other rule only says so.
    pub(super) fn failed(&mut self, why: Failed) {
        let guards_data = self.rule.is_some_and(|rule| rule.data_loss);
        let reason = match why {
            Failed::Panic => "the rule failed (a defect of milvus-guard: please report it)",
            Failed::Timeout => "the time limit was reached",
        };
        let severity = if guards_data {
            Severity::Deny
        } else {
            Severity::Audit
        };
        let finding = self.add(severity, format!("could not be checked: {reason}"));
        finding.failed = Some(why);
        finding.not_evaluated = !guards_data;
    }

    /// Takes over what another collector found.
    pub(super) fn extend(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    fn add(&mut self, severity: Severity, message: String) -> &mut Finding {
        let rule = self.rule.unwrap_or(super::ALL[0]);
        self.found.push(Finding {
            rule,
            severity,
            not_evaluated: false,
            missing: None,
            failed: None,
            component: None,
            object: None,
            origin: None,
            message,
            why: None,
            fix: Fix {
                text: Cow::Borrowed(rule.fix),
                command: None,
            },
            cure: None,
            can_be_held: false,
            evidence: Vec::new(),
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// What was found, in the order of the rules.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

impl Finding {
    /// Drops credentials of addresses from everything that is shown: no rule has to think of them.
    pub(super) fn drop_credentials(&mut self) {
        let texts = self
            .evidence
            .iter_mut()
            .flat_map(|one| [one.before.as_mut(), one.after.as_mut(), one.source.as_mut()])
            .flatten();
        for text in texts
            .chain([&mut self.message])
            .chain(self.why.as_mut())
            .chain(self.fix.command.as_mut())
        {
            if let Cow::Owned(public) = without_credentials(text) {
                *text = public;
            }
        }
        if let Cow::Owned(public) = without_credentials(&self.fix.text) {
            self.fix.text = Cow::Owned(public);
        }
    }

    fn lacks_lasting(&self) -> bool {
        self.missing
            .as_ref()
            .is_some_and(|missing| !missing.is_momentary())
    }

    /// About this component's workload.
    pub fn on(&mut self, component: &ComponentWorkload) -> &mut Self {
        self.component = Some(component.component);
        self.object(&component.workload.meta)
    }

    /// About this object.
    pub fn object(&mut self, meta: &Meta) -> &mut Self {
        self.object = Some(meta.object.clone());
        self.origin = Some(meta.origin.clone());
        self
    }

    /// At this place.
    pub fn at(&mut self, origin: &Origin) -> &mut Self {
        self.origin = Some(origin.clone());
        self
    }

    /// Why it matters here.
    pub fn because(&mut self, why: impl Into<String>) -> &mut Self {
        self.why = Some(why.into());
        self
    }

    /// What to do, as text.
    pub fn fix(&mut self, text: impl Into<Cow<'static, str>>) -> &mut Self {
        self.fix.text = text.into();
        self
    }

    /// The command that does it, where there is one.
    pub fn command(&mut self, command: impl Into<Option<String>>) -> &mut Self {
        self.fix.command = command.into();
        self
    }

    /// What would take it away, in addition to the words of the fix.
    pub fn cures(&mut self, cure: Cure) -> &mut Self {
        self.cure = Some(cure);
        self
    }

    /// The webhook can hold the change instead of denying it.
    pub fn can_be_held(&mut self, can_be_held: bool) -> &mut Self {
        self.can_be_held = can_be_held;
        self
    }

    /// What to do, in the terms of its manager.
    pub fn remedy(&mut self, remedy: Remedy) -> &mut Self {
        self.fix.text = remedy.text.into();
        self.cure = remedy.cure;
        self
    }

    /// What was compared.
    pub fn evidence(
        &mut self,
        what: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
        source: Option<&Origin>,
    ) -> &mut Self {
        if self.origin.is_none() {
            self.origin = source.cloned();
        }
        let source = source.map(ToString::to_string);
        self.evidence.push(Evidence {
            what: what.into(),
            before,
            after,
            source,
        });
        self
    }

    /// What was compared, where the value came from something that is not a document.
    pub fn evidence_from(
        &mut self,
        what: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
        source: &str,
    ) -> &mut Self {
        self.evidence.push(Evidence {
            what: what.into(),
            before,
            after,
            source: Some(source.to_owned()),
        });
        self
    }

    /// A setting on both sides, with the defaults that apply where it is absent.
    pub fn setting(
        &mut self,
        key: &str,
        before: (&str, Option<Setting<'_>>),
        after: (&str, Option<Setting<'_>>),
    ) -> &mut Self {
        let origin = after.1.or(before.1).map(|setting| setting.origin.clone());
        self.evidence(
            key,
            Some(before.0.to_owned()),
            Some(after.0.to_owned()),
            origin.as_ref(),
        )
    }
}

/// A text without what stands before `@` in addresses (`scheme://user:password@host`,
/// `user:password@host`). A digest behind an image's tag is not an address, and neither is a place in
/// a revision of Helm (`release:my-release@2:14`).
#[must_use]
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let ends = |letter: char| {
        letter.is_whitespace()
            || matches!(letter, ',' | '"' | '\'' | '(' | ')' | '[' | ']' | '=' | ';')
    };
    let mut public = String::with_capacity(text.len());
    for token in text.split_inclusive(ends) {
        let (scheme, rest) = token
            .split_once("://")
            .map_or(("", token), |(scheme, rest)| (scheme, rest));
        let host = rest.rsplit_once('@').filter(|(before, host)| {
            (!scheme.is_empty() || before.contains(':'))
                && !host.starts_with("sha256:")
                && !host.starts_with("sha512:")
                && !is_place_in_revision(before, host)
        });
        match host {
            Some((_, host)) if scheme.is_empty() => public.push_str(host),
            Some((_, host)) => public.push_str(&format!("{scheme}://{host}")),
            None => public.push_str(token),
        }
    }
    if public == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(public)
    }
}

/// Whether the text before and after `@` is a release and its revision, perhaps with a line.
fn is_place_in_revision(before: &str, after: &str) -> bool {
    let is_place = |letter: char| letter.is_ascii_digit() || letter == ':';
    before.starts_with("release:")
        && after
            .trim_end_matches(|letter: char| !letter.is_alphanumeric())
            .chars()
            .all(is_place)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::without_credentials;

    #[rstest]
    #[case(
        "etcd would change from http://root:PW@a:2379,root:PW@b:2379 to c",
        "etcd would change from http://a:2379,b:2379 to c"
    )]
    #[case("https://token@host/path", "https://host/path")]
    #[case(
        "kubectl set image x=milvusdb/milvus:v2.5@sha256:aa",
        "kubectl set image x=milvusdb/milvus:v2.5@sha256:aa"
    )]
    #[case("release:my-release@2:14", "release:my-release@2:14")]
    #[case("seen in (release:r@12) twice", "seen in (release:r@12) twice")]
    #[case("release:PW@etcd2:2379", "etcd2:2379")]
    #[case("ask team@example.com", "ask team@example.com")]
    #[case("\"http://u:p@ss@h:1\"", "\"http://h:1\"")]
    fn credentials_are_dropped(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(without_credentials(text), expected);
    }
}
