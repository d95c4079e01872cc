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
    /// It does not do what it says.
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

/// What a setting comes to.
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::policy::Match;

    use crate::policy::read::read;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn documents(text: &str) -> Vec<PolicyDocument> {
        let (documents, errors) = read(text, "p.yaml");
        assert!(errors.is_empty(), "{errors:?}");
        documents
    }

    /// Every finding as `line severity check`.
    fn found(text: &str) -> Vec<String> {
        let all = lint(&documents(text), NOW.parse().unwrap());
        all.iter()
            .map(|lint| format!("{} {} {}", lint.origin.line, lint.severity, lint.check))
            .collect()
    }

    fn messages(text: &str) -> String {
        lint(&documents(text), NOW.parse().unwrap())
            .iter()
            .map(|lint| format!("{lint}\n"))
            .collect()
    }

    /// The spec begins on line 5.
    fn policy(name: &str, spec: &str) -> String {
        let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "---\napiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {{name: {name}}}\nspec:\n{spec}"
        )
    }

    /// `rules` is on line 6, then namespace, release, reason, owner, expires.
    fn exception(change: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("rules", "[MG201]"),
            ("namespace", "milvus"),
            ("release", "my-release"),
            ("reason", "agreed with the team"),
            ("owner", "dba"),
            ("expires", "2026-01-15T00:00:00Z"),
        ];
        for (key, value) in change {
            match fields.iter_mut().find(|(name, _)| name == key) {
                Some(field) => field.1 = value,
                None => fields.push((key, value)),
            }
        }
        let spec: String = fields
            .iter()
            .map(|(key, value)| format!("  {key}: {value}\n"))
            .collect();
        format!(
            "---\napiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: {{name: e}}\nspec:\n{spec}"
        )
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn good_documents_are_silent() {
        let a = policy(
            "a",
            "match: {namespaces: [prod]}\nrules:\n- {id: MG201, action: Hold}\n- {id: mg105, action: Enforce, params: {strict: true}}\nselfAccept: [MG104]",
        );
        let b = policy("b", "priority: 1\nrules:\n- {id: MG201, action: Warn}");
        assert_eq!(found(&format!("{a}{b}{}", exception(&[]))), NONE);
    }

    #[test]
    fn unknown_rules_are_errors_with_a_suggestion() {
        let text = policy(
            "a",
            "rules:\n- {id: MG021, action: Warn}\n- {id: component-order, action: Warn}\nselfAccept: [MG2O1, component-ordr]",
        );
        assert_eq!(
            found(&text),
            [
                "7 error unknown-rule",
                "8 error unknown-rule",
                "9 error unknown-rule",
                "9 error unknown-rule"
            ]
        );
        let said = messages(&text);
        for part in [
            "rule 'MG021' does not exist",
            "'component-order' is the name of MG201",
            "'MG2O1' does not exist; did you mean MG201 (component-order)?",
            "'component-ordr' does not exist; did you mean MG201",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(
            said.starts_with("p.yaml:7: error: UpgradePolicy/a: rule"),
            "{said}"
        );
        assert_eq!(
            found(&exception(&[("rules", "[XX]")])),
            ["6 error unknown-rule"]
        );
    }

    #[test]
    fn a_rule_is_set_once() {
        let text = |second: &str| {
            policy(
                "a",
                &format!(
                    "rules:\n- {{id: MG201, action: Warn}}\n- {{id: mg201, action: {second}}}"
                ),
            )
        };
        assert_eq!(found(&text("Enforce")), ["8 error duplicate-rule"]);
        assert_eq!(found(&text("Warn")), ["8 warning duplicate-rule"]);
        assert!(messages(&text("Enforce")).contains("has another value at p.yaml:7"));
        assert_eq!(
            found(&policy("a", "selfAccept: [MG201, MG201]")),
            ["6 warning duplicate-rule"]
        );
        assert_eq!(
            found(&exception(&[("rules", "[MG201, mg201]")])),
            ["6 warning duplicate-rule"]
        );
    }

    #[test]
    fn equal_priorities_that_disagree_are_contradictions() {
        let pair = |first: &str, second: &str| {
            found(&format!(
                "{}{}",
                policy(
                    "a",
                    &format!("rules: [{{id: MG201, action: Warn}}]\n{first}")
                ),
                policy(
                    "b",
                    &format!("rules: [{{id: MG201, action: Enforce}}]\n{second}")
                )
            ))
        };
        let here = |line: u32| vec![format!("{line} warning contradiction")];
        assert_eq!(pair("priority: 0", ""), here(13));
        assert_eq!(pair("priority: 1", ""), NONE);
        assert_eq!(
            pair("match: {namespaces: [x, y]}", "match: {namespaces: [y]}"),
            here(13)
        );
        assert_eq!(
            pair("match: {namespaces: [x]}", "match: {namespaces: [y]}"),
            NONE
        );
        assert_eq!(
            pair(
                "match: {namespaces: [x], releases: [r]}",
                "match: {namespaces: [x], releases: [q]}"
            ),
            NONE
        );
        assert_eq!(
            pair(
                "match: {namespaceSelector: {matchLabels: {env: prod}}}",
                "match: {namespaceSelector: {matchLabels: {env: dev}}}"
            ),
            NONE
        );
        assert_eq!(
            pair(
                "match: {namespaceSelector: {matchLabels: {env: prod}}}",
                "match: {namespaceSelector: {matchLabels: {team: a}}}"
            ),
            here(13)
        );
        assert_eq!(
            pair(
                "match: {namespaceSelector: {matchLabels: {env: prod}}}",
                "match: {namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}}"
            ),
            NONE
        );
        assert_eq!(
            pair(
                "match: {namespaceSelector: {matchExpressions: [{key: env, operator: Exists}]}}",
                "match: {namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}"
            ),
            NONE
        );
        assert_eq!(
            pair(
                "match: {namespaces: [x]}",
                "match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}"
            ),
            NONE
        );
    }

    #[test]
    fn what_comes_to_the_same_is_no_contradiction() {
        let two = |first: &str, second: &str| {
            found(&format!("{}{}", policy("a", first), policy("b", second)))
        };
        assert_eq!(
            two(
                "rules: [{id: MG201, action: Warn}]",
                "rules: [{id: mg201, action: Warn}]"
            ),
            NONE
        );
        assert_eq!(
            two(
                "rules: [{id: MG201, action: Warn}]",
                "rules: [{id: MG102, action: Enforce}]"
            ),
            NONE
        );
        let strict = two(
            "rules: [{id: MG102, action: Enforce}]",
            "rules: [{id: MG102, action: Enforce, params: {strict: true}}]",
        );
        assert_eq!(strict, ["12 warning contradiction"]);
        assert_eq!(
            two("selfAccept: [MG104, MG105]", "selfAccept: [MG105, mg104]"),
            NONE
        );
        assert_eq!(
            two("selfAccept: [MG104]", "selfAccept: []"),
            ["12 error contradiction"]
        );
    }

    #[test]
    fn hold_is_for_mg201() {
        assert_eq!(
            found(&policy("a", "rules:\n- id: MG102\n  action: Hold")),
            ["8 error hold"]
        );
        assert_eq!(
            found(&policy("a", "rules:\n- id: mg201\n  action: Hold")),
            NONE
        );
    }

    #[test]
    fn rules_that_guard_data_are_never_self_accepted() {
        for rule in rules::ALL {
            let expected: &[&str] = if rule.data_loss {
                &["6 error self-accept"]
            } else {
                &[]
            };
            assert_eq!(
                found(&policy("a", &format!("selfAccept: [{}]", rule.id))),
                expected,
                "{}",
                rule.id
            );
        }
    }

    #[test]
    fn settings_without_effect_are_warned_about() {
        let strict = "rules:\n- id: MG102\n  action: Audit\n  params: {strict: true}";
        assert_eq!(found(&policy("a", strict)), ["9 warning no-effect"]);
        assert_eq!(found(&policy("a", "priority: 3")), ["6 warning no-effect"]);
        let never = "rules: [{id: MG201, action: Warn}]\nmatch:\n  namespaceSelector: {matchExpressions: [{key: env, operator: In}]}";
        assert_eq!(found(&policy("a", never)), ["8 warning matches-nothing"]);
    }

    #[test]
    fn exceptions_end_within_thirty_days() {
        let at = |expires: &str| found(&exception(&[("expires", expires)]));
        assert_eq!(at("2025-12-31T23:59:59Z"), ["11 warning expired"]);
        assert_eq!(
            at(NOW),
            ["11 warning expired"],
            "at that very moment it no longer counts"
        );
        assert_eq!(at("2026-01-01T00:00:01Z"), NONE);
        assert_eq!(at("2026-01-31T00:00:00Z"), NONE);
        assert_eq!(at("2026-01-31T00:00:01Z"), ["11 error too-far-ahead"]);
        assert!(
            messages(&exception(&[("expires", "2027-01-01T00:00:00Z")]))
                .contains("the latest is 2026-01-31T00:00:00Z")
        );
        assert!(
            lint(&documents(&exception(&[])), Timestamp::MAX).len() == 1,
            "the end of time is not overflow"
        );
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(
            found(&exception(&[("namespace", "\"*\"")])),
            ["7 error wildcard"]
        );
        assert_eq!(
            found(&exception(&[("release", "prod-*")])),
            ["8 error wildcard"]
        );
        assert_eq!(
            found(&exception(&[("rules", "[\"MG2*\"]")])),
            ["6 error wildcard"]
        );
        assert_eq!(
            found(&exception(&[("to", "\"*\"")])),
            ["12 warning wildcard"]
        );
        assert_eq!(
            found(&exception(&[("namespace", "\"\"")])),
            ["7 error empty-name"]
        );
        let in_match = policy(
            "a",
            "match:\n  namespaces:\n  - prod-*\n  releases: [\"?\"]\nrules: [{id: MG201, action: Warn}]",
        );
        assert_eq!(found(&in_match), ["8 error wildcard", "9 error wildcard"]);
    }

    #[test]
    fn reason_and_owner_are_given() {
        assert_eq!(
            found(&exception(&[("reason", "\" \""), ("owner", "\"\"")])),
            ["9 error empty-field", "10 error empty-field"]
        );
    }

    #[test]
    fn exceptions_name_rules_that_deny_or_warn() {
        for rule in rules::ALL {
            let expected: &[&str] = if rule.default == DefaultAction::Audit {
                &["6 warning no-effect"]
            } else {
                &[]
            };
            assert_eq!(
                found(&exception(&[("rules", &format!("[{}]", rule.id))])),
                expected,
                "{}",
                rule.id
            );
        }
        assert_eq!(found(&exception(&[("rules", "[]")])), ["6 error no-effect"]);
    }

    #[test]
    fn names_are_unique_within_a_kind() {
        let one = policy("e", "rules: [{id: MG201, action: Warn}]");
        assert_eq!(found(&format!("{one}{one}")), ["10 error duplicate-name"]);
        assert!(messages(&format!("{one}{one}")).contains("p.yaml:4 has the same name"));
        assert_eq!(
            found(&format!("{one}{}", exception(&[]))),
            NONE,
            "each kind has its own names"
        );
        assert_eq!(
            found(&policy("\"\"", "rules: [{id: MG201, action: Warn}]")),
            ["4 error empty-name"]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(id in "\\PC{0,70}", name in "\\PC{0,20}") {
            let text = serde_json::json!({
                "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": &name},
                "spec": {"rules": [{"id": &id, "action": "Hold"}, {"id": &id, "action": "Warn"}], "selfAccept": [&id, &name]},
            });
            let (read, _) = read(&text.to_string(), "p");
            let _ = lint(&read, NOW.parse().unwrap());
        }

        #[test]
        fn overlap_is_symmetric(a in 0usize..6, b in 0usize..6) {
            let all = ["{}", "{\"namespaces\":[\"x\"]}", "{\"namespaces\":[\"y\"],\"releases\":[\"r\"]}", "{\"releases\":[\"q\"]}",
                "{\"namespaceSelector\":{\"matchLabels\":{\"kubernetes.io/metadata.name\":\"x\"}}}",
                "{\"namespaceSelector\":{\"matchExpressions\":[{\"key\":\"e\",\"operator\":\"Exists\"}]}}"];
            let read = |index: usize| serde_json::from_str::<Match>(all[index]).unwrap();
            prop_assert_eq!(overlap(&read(a), &read(b)), overlap(&read(b), &read(a)));
        }
    }
}
