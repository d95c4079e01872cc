//! From what a rule found to what it does.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    milvus::Version,
    rules::{self, Behavior, Finding, Severity},
};

use crate::api::policy::{
    LabelOperator, LabelSelector, Match, PolicyAction, PolicyDocument, RuleSetting,
    UpgradeException, UpgradePolicy,
};

/// Labels of namespaces, by name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// What a finding does in the end.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reported only.
    Audit,
    /// Warned about.
    Warn,
    /// Admitted, but held in order.
    Hold,
    /// Denied.
    Deny,
}

impl Action {
    /// What a finding of this severity does where no policy names its rule.
    #[must_use]
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Deny => Self::Deny,
            Severity::Warn => Self::Warn,
            Severity::Audit => Self::Audit,
        }
    }

    /// Its name, as in reports and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

/// Where changes can be held. Outside of it, `Hold` acts as `Enforce`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HoldScope {
    /// In every namespace. The default, because a check without a webhook shows what policies say.
    #[default]
    Everywhere,
    /// In these namespaces.
    Namespaces(Arc<[String]>),
    /// Nowhere: what was paused would never be released.
    Nowhere,
}

/// Annotation of the guard's webhook registration: where it holds changes, as [`HoldScope::parse`]
/// reads it.
pub const HOLD_SCOPE: &str = "guard.milvus.io/hold";

impl HoldScope {
    /// Reads what [`Self::fmt`](fmt::Display::fmt) writes.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let names: Vec<&str> = text.split(',').filter(|name| !name.is_empty()).collect();
        match names.as_slice() {
            [] | ["-"] => Self::Nowhere,
            ["*"] => Self::Everywhere,
            names => Self::Namespaces(names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    /// Whether changes in this namespace can be held.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Namespaces(names) => names.iter().any(|name| name == namespace),
            Self::Nowhere => false,
        }
    }
}

/// How changes are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub scope: HoldScope,
    /// Whether rules that can hold do so where no policy names them.
    pub by_default: bool,
}

/// `*`, `-`, or the names of the namespaces, separated by commas. Neither sign can be a name.
impl fmt::Display for HoldScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("*"),
            Self::Nowhere => f.write_str("-"),
            Self::Namespaces(names) => f.write_str(&names.join(",")),
        }
    }
}

impl From<HoldScope> for Holding {
    /// Changes in this scope are held unless a policy decides otherwise.
    fn from(scope: HoldScope) -> Self {
        Self {
            by_default: scope != HoldScope::Nowhere,
            scope,
        }
    }
}

/// Everything that is in force. A copy shares it: only the time is its own.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// Policies.
    pub policies: Arc<Vec<UpgradePolicy>>,
    /// Exceptions, expired ones too.
    pub exceptions: Arc<Vec<UpgradeException>>,
    /// The time of the judgement; exceptions count before they expire. Nothing means that none
    /// counts.
    pub now: Option<Timestamp>,
    /// Labels of namespaces, for `namespaceSelector`; unknown namespaces match no selector.
    pub namespace_labels: Arc<NamespaceLabels>,
    /// How changes are held.
    pub holding: Holding,
}

/// What is judged, as far as policies ask.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Release.
    pub release: &'a str,
    /// Namespace.
    pub namespace: Option<&'a str>,
    /// Version before.
    pub from: Option<Version>,
    /// Version after.
    pub to: Option<Version>,
}

/// What became of a finding, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It does this; `policy` names the policy that changed it.
    Acts {
        /// What it does.
        action: Action,
        /// What it does where the change is not paused: the same, except for [`Action::Hold`].
        if_not_held: Action,
        /// The policy that decided, where one did.
        policy: Option<String>,
    },
    /// A policy switched the rule off.
    Off {
        /// The policy.
        policy: String,
    },
    /// An exception lets it pass.
    Excepted {
        /// Index into [`PolicySet::exceptions`].
        exception: usize,
    },
    /// The deployer accepted it, which policy allows.
    Accepted,
}

impl PolicySet {
    /// The same at a time.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        Self {
            now: Some(now),
            ..self.clone()
        }
    }

    /// Adds a document.
    pub fn add(&mut self, document: PolicyDocument) {
        match document {
            PolicyDocument::Policy(policy, _) => Arc::make_mut(&mut self.policies).push(*policy),
            PolicyDocument::Exception(exception, _) => {
                Arc::make_mut(&mut self.exceptions).push(*exception);
            }
        }
    }

    /// Adds what is in another set.
    pub fn extend(&mut self, other: &Self) {
        Arc::make_mut(&mut self.policies).extend(other.policies.iter().cloned());
        Arc::make_mut(&mut self.exceptions).extend(other.exceptions.iter().cloned());
    }

    /// What a finding does in this scope.
    #[must_use]
    pub fn apply(&self, finding: &Finding, scope: &Scope<'_>) -> Applied {
        let rule = finding.rule.id;
        if finding.severity > Severity::Audit
            && let Some(exception) = self.exception(rule, scope)
        {
            return Applied::Excepted { exception };
        }
        let is_holdable = finding.can_be_held && self.can_hold(scope);
        let Some((policy, setting)) = self.setting(rule, scope) else {
            let if_not_held = Action::of(finding.severity);
            let action = match if_not_held {
                Action::Deny | Action::Warn if is_holdable && self.holding.by_default => {
                    Action::Hold
                }
                action => action,
            };
            return Applied::Acts {
                action,
                if_not_held,
                policy: None,
            };
        };
        let severity = match finding.severity {
            Severity::Warn if setting.params.strict => Severity::Deny,
            severity => severity,
        };
        let default = Action::of(severity);
        let (action, if_not_held) = match (setting.action, default) {
            (PolicyAction::Off, _) => {
                return Applied::Off {
                    policy: policy.to_owned(),
                };
            }
            (PolicyAction::Hold, Action::Deny | Action::Warn) if is_holdable => {
                (Action::Hold, default)
            }
            // What cannot be paused at admission is denied as Enforce does.
            (PolicyAction::Enforce | PolicyAction::Hold, action) => (action, action),
            (PolicyAction::Warn, action) => (action.min(Action::Warn), action.min(Action::Warn)),
            (PolicyAction::Audit, _) => (Action::Audit, Action::Audit),
        };
        Applied::Acts {
            action,
            if_not_held,
            policy: Some(policy.to_owned()),
        }
    }

    fn can_hold(&self, scope: &Scope<'_>) -> bool {
        self.holding
            .scope
            .covers(scope.namespace.unwrap_or_default())
    }

    /// Whether changes that this rule finds are held in this scope: no exception lets them pass,
    /// and a policy or the default says so.
    #[must_use]
    pub fn holds(&self, rule: &str, scope: &Scope<'_>) -> bool {
        self.can_hold(scope)
            && self.exception(rule, scope).is_none()
            && self
                .setting(rule, scope)
                .map_or(self.holding.by_default, |(_, setting)| {
                    setting.action == PolicyAction::Hold
                })
    }

    /// The setting in force for a rule: highest priority first, the stricter one at a tie.
    fn setting(&self, rule: &str, scope: &Scope<'_>) -> Option<(&str, &RuleSetting)> {
        self.policies
            .iter()
            .filter(|policy| self.matches(&policy.spec.r#match, scope))
            .flat_map(|policy| {
                policy
                    .spec
                    .rules
                    .iter()
                    .map(move |setting| (policy, setting))
            })
            .filter(|(_, setting)| setting.id.eq_ignore_ascii_case(rule))
            .max_by_key(|(policy, setting)| {
                (
                    policy.spec.priority,
                    setting.action.strictness(),
                    setting.params.strict,
                )
            })
            .map(|(policy, setting)| (policy.metadata.name.as_str(), setting))
    }

    /// The rules that the deployer of this release may accept himself; never one that guards data.
    #[must_use]
    pub fn self_accept(&self, scope: &Scope<'_>) -> Vec<&str> {
        let chosen = self
            .policies
            .iter()
            .filter(|policy| self.matches(&policy.spec.r#match, scope))
            .filter_map(|policy| {
                policy
                    .spec
                    .self_accept
                    .as_ref()
                    .map(|rules| (policy.spec.priority, rules))
            })
            .max_by_key(|(priority, _)| *priority)
            .map(|(_, rules)| rules.iter().map(String::as_str).collect());
        let rules: Vec<&str> = chosen.unwrap_or_else(|| {
            let acceptable = rules::ALL
                .iter()
                .filter(|rule| rule.has(Behavior::SelfAcceptable));
            acceptable.map(|rule| rule.id).collect()
        });
        rules
            .into_iter()
            .filter(|id| rules::find(id).is_some_and(|rule| !rule.data_loss))
            .collect()
    }

    fn exception(&self, rule: &str, scope: &Scope<'_>) -> Option<usize> {
        let now = self.now?;
        self.exceptions.iter().position(|exception| {
            let spec = &exception.spec;
            spec.expires > now
                && spec.rules.iter().any(|id| id.eq_ignore_ascii_case(rule))
                && scope.namespace == Some(spec.namespace.as_str())
                && spec.release == scope.release
                && spec
                    .from
                    .as_ref()
                    .is_none_or(|from| scope.from.is_some_and(|version| from.contains(version)))
                && spec
                    .to
                    .as_ref()
                    .is_none_or(|to| scope.to.is_some_and(|version| to.contains(version)))
        })
    }

    fn matches(&self, to_match: &Match, scope: &Scope<'_>) -> bool {
        let namespace = scope.namespace.unwrap_or_default();
        (to_match.namespaces.is_empty() || to_match.namespaces.iter().any(|name| name == namespace))
            && (to_match.releases.is_empty()
                || to_match.releases.iter().any(|name| name == scope.release))
            && to_match.namespace_selector.as_ref().is_none_or(|selector| {
                self.namespace_labels
                    .get(namespace)
                    .is_some_and(|labels| selects(selector, labels))
            })
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().all(|expression| {
            let value = labels.get(&expression.key);
            match expression.operator {
                LabelOperator::In => value.is_some_and(|value| expression.values.contains(value)),
                LabelOperator::NotIn => {
                    value.is_none_or(|value| !expression.values.contains(value))
                }
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{policy::read, rules::Findings};

    #[rstest]
    #[case::everywhere(HoldScope::Everywhere)]
    #[case::nowhere(HoldScope::Nowhere)]
    #[case::one(HoldScope::Namespaces(["a".to_owned()].into()))]
    #[case::two(HoldScope::Namespaces(["a".to_owned(), "everywhere".to_owned()].into()))]
    fn a_scope_is_read_as_it_was_written(#[case] scope: HoldScope) {
        assert_eq!(HoldScope::parse(&scope.to_string()), scope);
    }

    const HOLD: &str = "{id: MG201, action: Hold}";
    const STRICT: &str = "{id: MG201, action: Hold, params: {strict: true}}";
    const ENFORCE: &str = "{id: MG201, action: Enforce, params: {strict: true}}";
    const WARN: &str = "{id: MG201, action: Warn}";

    /// What a finding of MG201 does, and what it does if the change is not paused.
    #[rstest]
    #[case::by_default(None, Severity::Deny, true, (Action::Hold, Action::Deny))]
    #[case::by_default_within_a_minor(None, Severity::Warn, true, (Action::Hold, Action::Warn))]
    #[case::not_holdable(None, Severity::Deny, false, (Action::Deny, Action::Deny))]
    #[case::reported_only(None, Severity::Audit, true, (Action::Audit, Action::Audit))]
    #[case::hold(Some(HOLD), Severity::Warn, true, (Action::Hold, Action::Warn))]
    #[case::strict(Some(STRICT), Severity::Warn, true, (Action::Hold, Action::Deny))]
    #[case::strict_not_holdable(Some(STRICT), Severity::Warn, false, (Action::Deny, Action::Deny))]
    #[case::enforced(Some(ENFORCE), Severity::Warn, true, (Action::Deny, Action::Deny))]
    #[case::warned(Some(WARN), Severity::Deny, true, (Action::Warn, Action::Warn))]
    fn a_change_that_is_not_paused_is_judged_as_enforce_does(
        #[case] setting: Option<&str>,
        #[case] severity: Severity,
        #[case] can_be_held: bool,
        #[case] expected: (Action, Action),
    ) {
        let mut set = PolicySet {
            holding: Holding {
                scope: HoldScope::Everywhere,
                by_default: true,
            },
            ..PolicySet::default()
        };
        if let Some(setting) = setting {
            let text = format!(
                "{{apiVersion: guard.milvus.io/v1alpha1, kind: UpgradePolicy, \
                 metadata: {{name: a}}, spec: {{rules: [{setting}]}}}}"
            );
            let (documents, errors) = read::read(&text, "policy");
            assert!(errors.is_empty(), "{errors:?}");
            for document in documents {
                set.add(document);
            }
        }
        let mut findings = Findings::of(rules::find("MG201").unwrap());
        match severity {
            Severity::Deny => findings.deny("order"),
            Severity::Warn => findings.warn("order"),
            Severity::Audit => findings.audit("order"),
        }
        .can_be_held(can_be_held);
        let scope = Scope {
            release: "my-release",
            namespace: Some("milvus"),
            from: None,
            to: None,
        };
        let applied = set.apply(&findings.into_vec()[0], &scope);
        let Applied::Acts {
            action,
            if_not_held,
            ..
        } = applied
        else {
            panic!("{applied:?}")
        };
        assert_eq!((action, if_not_held), expected);
    }
}
