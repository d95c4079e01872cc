//! What MG301, MG302, MG303 and MG308 have in common: the settings that the data declares as theirs
//! are compared for every component, and unknown values are reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    change::Upgrade,
    manifest::Origin,
    milvus::{
        catalogue::{Compare, SettingFact, Verdict},
        config::{Setting, Teller, Unknown},
        settings::{Comparable, Conditions, Difference, Effective, Located},
    },
    text::count,
};

pub(super) use super::pairs::{pairs, rows};
use super::{Finding, Findings, Missing, advice::Remedy, keeping::keep};

/// A component before and after.
type Pair<'a> = (Conditions<'a>, Conditions<'a>);

/// Says that nothing can be compared if one side has no configuration at all, such as a release
/// that is only remembered.
pub(super) fn is_missing(upgrade: &Upgrade<'_>, findings: &mut Findings) -> bool {
    let Some((before, after)) = upgrade.both() else {
        return false;
    };
    let side = match (before.located().next(), after.located().next()) {
        (None, None) => "of the current and of the desired state",
        (None, _) => "of the current state",
        (_, None) => "of the desired state",
        _ => return false,
    };
    findings.not_evaluated(Missing::new(
        format!("the configuration {side} is unknown"),
        "Add the ConfigMaps and Secrets that the workloads refer to to the input.",
    ));
    true
}

/// Compares every row of a rule. A row of kind `kind` that changes reports for all others of the
/// rule.
pub(super) fn compare(upgrade: &Upgrade<'_>, rule: &'static str, findings: &mut Findings) {
    if is_missing(upgrade, findings) {
        return;
    }
    let all = pairs(upgrade);
    // A configuration that stays as it is, and is known, needs no comparison: most reviews change
    // one workload of many.
    let pairs: Vec<Pair<'_>> = all
        .iter()
        .filter(|(before, after)| !before.is_same(after) || after.has_unknown())
        .map(|(before, after)| (Conditions::of(*before), Conditions::of(*after)))
        .collect();
    if pairs.len() < all.len() {
        findings.checked();
    }
    let mut unknown = Unknowns::default();
    for row in rows(upgrade, rule) {
        let is_changed = compare_row(upgrade, row, &pairs, &mut unknown, findings);
        // Where some components stay as they are, those that change agree with them as before.
        if !is_changed && pairs.len() == all.len() && row.verdict == Verdict::Deny {
            disagreement(upgrade, row, &pairs, findings);
        }
        if is_changed && row.compare == Compare::Kind && rule == "MG301" {
            return;
        }
    }
    unknown.say(findings);
}

fn compare_row<'a>(
    upgrade: &Upgrade<'a>,
    row: &'a SettingFact,
    pairs: &[Pair<'a>],
    unknown: &mut Unknowns,
    findings: &mut Findings,
) -> bool {
    let mut changes: BTreeMap<(String, String), Change<'a>> = BTreeMap::new();
    for (before, after) in pairs {
        if !before.count(row) || !after.count(row) {
            continue;
        }
        let (before, after) = (before.located(), after.located());
        let (old, new) = (before.effective(row), after.effective(row));
        if matches!((&old, &new), (Effective::Known(..), Effective::Known(..))) {
            findings.checked();
        }
        if before.is_same(&after) && !matches!(new, Effective::Unknown(_)) {
            continue;
        }
        match after.difference(row, &old, &new) {
            None => {}
            Some(Difference::Changed) => {
                let ignored = [before.ignores(row), after.ignores(row)];
                let change = changes
                    .entry((old.to_string(), new.to_string()))
                    .or_insert_with(|| Change::of(old, new));
                change.components.insert(after.component());
                change.is_ignored_now |= ignored[0];
                change.would_be_ignored |= ignored[1];
            }
            Some(Difference::Lost) => {
                if let Effective::Unknown(reason) = new {
                    unknown.lost(row, &old, reason);
                }
            }
            Some(Difference::Unclear) => {
                if let Effective::Unknown(reason) = if matches!(new, Effective::Unknown(_)) {
                    new
                } else {
                    old
                } {
                    unknown.unclear(row, reason);
                }
            }
        }
    }
    let is_changed = !changes.is_empty();
    for ((old, new), change) in changes {
        change.say(upgrade, row, &old, &new, findings);
    }
    is_changed
}

/// A difference that several components share.
struct Change<'a> {
    /// What to keep, as a configuration file writes it; `None` if it must not be shown.
    kept: Option<String>,
    /// Whether the setting itself stays, and only the volume under its path is another one.
    moves_volume: bool,
    before: Option<Setting<'a>>,
    after: Option<Setting<'a>>,
    components: BTreeSet<usize>,
    /// Whether the running version does not read the setting.
    is_ignored_now: bool,
    /// Whether the wanted version does not.
    would_be_ignored: bool,
}

impl<'a> Change<'a> {
    fn of(old: Effective<'a>, new: Effective<'a>) -> Self {
        let setting = |value| match value {
            Effective::Known(_, setting) => setting,
            Effective::Unknown(_) => None,
        };
        let kept = match &old {
            Effective::Known(_, Some(setting)) if setting.is_secret => None,
            Effective::Known(Comparable::Account(_), _) => None,
            Effective::Known(Comparable::Text(text), _) => Some(text.to_string()),
            Effective::Known(Comparable::Place { path, .. }, _) => Some(path.to_string()),
            Effective::Known(value, _) => Some(value.to_string()),
            Effective::Unknown(_) => None,
        };
        let moves_volume = matches!(
            (&old, &new),
            (Effective::Known(Comparable::Place { path: old, .. }, _), Effective::Known(Comparable::Place { path: new, .. }, _)) if old == new
        );
        Self {
            kept,
            moves_volume,
            before: setting(old),
            after: setting(new),
            components: BTreeSet::new(),
            is_ignored_now: false,
            would_be_ignored: false,
        }
    }

    fn say(
        &self,
        upgrade: &Upgrade<'_>,
        row: &SettingFact,
        old: &str,
        new: &str,
        findings: &mut Findings,
    ) {
        let where_ = self.names(upgrade);
        let called = row.called();
        let message = if row.compare == Compare::Account && old == new {
            format!("{called} would change{where_}")
        } else {
            format!("{called} would change from {old} to {new}{where_}")
        };
        let finding = said(findings, row, message);
        let origin = self
            .after
            .or(self.before)
            .map(|setting| setting.origin.clone());
        finding
            .evidence(
                row.key.as_str(),
                Some(old.to_owned()),
                Some(new.to_owned()),
                origin.as_ref(),
            )
            .because(self.why(row))
            .remedy(
                if let Some(ignored) = row.ignored.as_ref().filter(|_| self.would_be_ignored) {
                    Remedy::words(ignored.fix.clone())
                } else if self.moves_volume {
                    Remedy::words(
                        "Keep the volume under this path. If the data must move to another volume, \
                     copy it while Milvus is stopped.",
                    )
                } else {
                    keep(upgrade, row, self.kept.as_deref())
                },
            );
    }

    fn why(&self, row: &SettingFact) -> String {
        let effect = sentence(&row.effect);
        match &row.ignored {
            Some(ignored) if self.is_ignored_now || self.would_be_ignored => {
                format!("{} {effect}", sentence(&ignored.why))
            }
            _ => effect,
        }
    }

    /// The components, unless it is all of them.
    fn names(&self, upgrade: &Upgrade<'_>) -> String {
        let components = &upgrade.after.components;
        if self.components.len() >= components.len() {
            return String::new();
        }
        let names: BTreeSet<&str> = self
            .components
            .iter()
            .filter_map(|at| components.get(*at))
            .map(|component| component.component.name())
            .collect();
        format!(" for {}", names.into_iter().collect::<Vec<_>>().join(", "))
    }
}

fn said<'f>(findings: &'f mut Findings, row: &SettingFact, message: String) -> &'f mut Finding {
    match row.verdict {
        Verdict::Deny => findings.deny(message),
        Verdict::Warn | Verdict::Allow => findings.warn(message),
        Verdict::Info => findings.audit(message),
    }
}

/// Components of one release that do not agree about a setting that they must share: one of them
/// works on other data.
fn disagreement<'a>(
    upgrade: &Upgrade<'a>,
    row: &'a SettingFact,
    pairs: &[Pair<'a>],
    findings: &mut Findings,
) {
    let is_same = |(before, after): &Pair<'_>| before.located().is_same(&after.located());
    if pairs.iter().all(is_same) {
        return;
    }
    let (before, after) = (
        pairs.iter().map(|pair| &pair.0),
        pairs.iter().map(|pair| &pair.1),
    );
    let Some((one, other)) = first_difference(row, after) else {
        return;
    };
    let name = |located: &Located<'_>| {
        upgrade
            .after
            .components
            .get(located.component())
            .map_or("a component", |component| component.component.name())
    };
    let (first, second) = (one.effective(row), other.effective(row));
    let message = format!(
        "components have different values for {}: {first} for {}, {second} for {}",
        row.key,
        name(&one),
        name(&other)
    );
    let origin: Option<Origin> = match &second {
        Effective::Known(_, Some(setting)) => Some(setting.origin.clone()),
        _ => None,
    };
    // What was so before is not the fault of this change.
    let finding = if first_difference(row, before).is_some() {
        findings.warn(message)
    } else {
        findings.deny(message)
    };
    finding
        .evidence(
            row.key.as_str(),
            Some(first.to_string()),
            Some(second.to_string()),
            origin.as_ref(),
        )
        .because("All components of a release must use the same data.")
        .fix(format!(
            "Give {} the same value for every component.",
            row.key
        ));
}

/// The first two configurations with different known values of a row.
fn first_difference<'a: 'c, 'c>(
    row: &'a SettingFact,
    all: impl Iterator<Item = &'c Conditions<'a>>,
) -> Option<(Located<'a>, Located<'a>)> {
    let mut counted = all.filter(|one| one.count(row)).map(Conditions::located);
    let first = counted.next()?;
    let value = first.effective(row);
    let other = counted.find(|other| {
        let own = other.effective(row);
        let differs = |old: &Effective<'_>, new: &Effective<'_>| {
            other.difference(row, old, new) == Some(Difference::Changed)
        };
        differs(&value, &own) || differs(&own, &value)
    });
    Some((first, other?))
}

/// Values that are not known, gathered so that one sentence says them.
#[derive(Default)]
struct Unknowns {
    /// By reason.
    lost: BTreeMap<String, Lost>,
    /// By reason: why, and the keys.
    unclear: BTreeMap<String, (Unknown, Vec<String>)>,
}

/// Settings that are known now and would come from one place that is not.
struct Lost {
    from: Unknown,
    keys: Vec<String>,
    /// A known value.
    old: String,
    /// Whether one of the rows denies.
    is_deny: bool,
}

impl Unknowns {
    fn lost(&mut self, row: &SettingFact, old: &Effective<'_>, reason: &Unknown) {
        let entry = self.lost.entry(reason.to_string()).or_insert_with(|| Lost {
            from: reason.clone(),
            keys: Vec::new(),
            old: old.to_string(),
            is_deny: false,
        });
        if !entry.keys.contains(&row.key) {
            entry.keys.push(row.key.clone());
        }
        entry.is_deny |= row.verdict == Verdict::Deny;
    }

    fn unclear(&mut self, row: &SettingFact, reason: &Unknown) {
        let (_, keys) = self
            .unclear
            .entry(reason.to_string())
            .or_insert_with(|| (reason.clone(), Vec::new()));
        if !keys.contains(&row.key) {
            keys.push(row.key.clone());
        }
    }

    fn say(self, findings: &mut Findings) {
        for (reason, lost) in self.lost {
            let message = match lost.keys.as_slice() {
                [only] => format!("{only} is {} now and would come from {reason}", lost.old),
                _ => format!(
                    "{} have known values now and would come from {reason}",
                    listed(&lost.keys)
                ),
            };
            let finding = if lost.is_deny {
                findings.deny(message)
            } else {
                findings.warn(message)
            };
            finding
                .because("If the value cannot be read, it may point Milvus to other data.")
                .fix(match lost.from.teller() {
                    Teller::Object(_) => {
                        "Add the object with the value to the input, or keep the value where it \
                         is now."
                    }
                    Teller::InitContainer | Teller::Nothing => {
                        "Keep the value where it is now, in a ConfigMap or in a variable that the \
                         input holds."
                    }
                });
        }
        for (reason, keys) in self.unclear.into_values() {
            findings.not_evaluated(not_known(&listed(&keys), &reason));
        }
    }
}

/// What is missing where a setting comes from somewhere that the input does not hold.
pub(super) fn not_known(keys: &str, reason: &Unknown) -> Missing {
    Missing::new(
        format!("{keys} may come from {reason}"),
        match reason.teller() {
            Teller::Object(_) => {
                "Add that object to the input, or use --before live with permission to read it."
            }
            Teller::InitContainer => {
                "An init container writes this value when the pod starts, so no input holds it. \
                 Compare by hand what that container reads and runs before and after, or mount \
                 the finished file from a ConfigMap."
            }
            Teller::Nothing => {
                "No input holds this value. Compare it by hand before and after, or set it in a \
                 ConfigMap or in a variable."
            }
        },
    )
}

/// Keys that a message names before it counts the rest.
const SHOWN: usize = 2;

fn listed(keys: &[String]) -> String {
    let shown = keys
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {}", count(more, "more setting")),
    }
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), letters.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        milvus::catalogue::{Catalogue, SettingCondition},
        rules::{
            self, Severity,
            testing::{Fixture, judge},
        },
    };

    /// Two values of a row that differ in the way in which the row compares.
    fn values(row: &SettingFact) -> (String, String) {
        let two = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        match (row.compare, row.key.as_str()) {
            (Compare::Kind, "mq.type") => two("pulsar", "kafka"),
            (Compare::Kind, "metastore.type") => two("etcd", "tikv"),
            (Compare::Kind, _) => two("remote", "local"),
            (Compare::Bool, "common.security.authorizationEnabled") => two("true", "false"),
            (Compare::Bool, _) => two("false", "true"),
            (Compare::Lower | Compare::Lifetime, _) => two("86400", "60"),
            (Compare::Etcd | Compare::Brokers | Compare::Pulsar | Compare::Store, _)
                if row.of.is_some() =>
            {
                two("7000", "7001")
            }
            (Compare::Etcd | Compare::Brokers | Compare::Pulsar | Compare::Store, _) => {
                two("one.example.com", "two.example.com")
            }
            (Compare::Volume, _) => two("/var/lib/one", "/var/lib/two"),
            (Compare::Exact | Compare::Path | Compare::Account, _) => two("one", "two"),
        }
    }

    /// The settings under which a row counts.
    fn context(row: &SettingFact) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        for condition in &row.when {
            match condition {
                SettingCondition::Queue(kinds) => all.push(("mq.type", kinds[0].clone())),
                SettingCondition::Metastore(kinds) if kinds[0] == "embedded" => {
                    all.push(("etcd.use.embed", "true".into()));
                }
                SettingCondition::Metastore(kinds) => {
                    all.push(("metastore.type", kinds[0].clone()));
                }
                SettingCondition::Storage(kinds) => {
                    all.push(("common.storageType", kinds[0].clone()));
                }
                SettingCondition::CloudProvider(kinds) => {
                    all.push(("minio.cloudProvider", kinds[0].clone()));
                }
                SettingCondition::Woodpecker(kinds) => {
                    all.push(("woodpecker.storage.type", kinds[0].clone()));
                }
            }
        }
        all.extend(row.of.iter().map(|_| ("unused", "1".to_owned())));
        all
    }

    fn fixture(row: &SettingFact, value: &str) -> Fixture {
        let mut settings = context(row);
        let address = row.of.as_deref().unwrap_or_default().to_owned();
        let mut pairs: Vec<(String, String)> = settings
            .drain(..)
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if !address.is_empty() {
            pairs.push((address, "one.example.com".into()));
        }
        pairs.push((row.key.clone(), value.to_owned()));
        let yaml: String = pairs
            .iter()
            .map(|(key, value)| nested(key, value))
            .collect();
        let embedded = row
            .when
            .iter()
            .any(|one| matches!(one, SettingCondition::Metastore(kinds) if kinds[0] == "embedded"));
        let fixture = if embedded {
            Fixture::standalone("2.6.24")
        } else {
            Fixture::cluster("2.6.24")
        };
        fixture.default_yaml(&yaml)
    }

    /// One setting as a separate document would have it; YAML keeps the last of duplicate keys,
    /// so each stands as a dotted key.
    fn nested(key: &str, value: &str) -> String {
        format!("\"{key}\": \"{value}\"\n")
    }

    #[test]
    fn every_row_triggers_its_rule_with_its_action() {
        for row in &Catalogue::embedded().settings {
            let id = row
                .rule
                .as_deref()
                .unwrap_or_else(|| panic!("{} names no rule", row.key));
            let rule = rules::find(id).unwrap_or_else(|| panic!("{}: {id} is not a rule", row.key));
            let (old, new) = values(row);
            let found = judge(rule, Some(&fixture(row, &old)), &fixture(row, &new));
            let severity = match row.verdict {
                Verdict::Deny => Severity::Deny,
                Verdict::Warn | Verdict::Allow => Severity::Warn,
                Verdict::Info => Severity::Audit,
            };
            let reports = found.iter().any(|finding| {
                finding.severity == severity && !finding.not_evaluated && {
                    let key = row.of.as_deref().unwrap_or(&row.key);
                    finding.evidence.iter().any(|evidence| evidence.what == key)
                }
            });
            assert!(
                reports,
                "{} of {id} ({:?}): {old} to {new} gives {found:?}",
                row.key, row.verdict
            );
            assert!(
                judge(rule, Some(&fixture(row, &old)), &fixture(row, &old)).is_empty(),
                "{} stays",
                row.key
            );
        }
    }

    #[test]
    fn components_that_do_not_agree_are_denied_and_known_disagreement_is_not_blamed_on_the_change()
    {
        let run = |version: &str, root: &str| {
            Fixture::cluster(version).container(
                crate::milvus::Component::QueryNode,
                &format!("env:\n  - {{name: ETCD_ROOT_PATH, value: {root}}}"),
            )
        };
        let rule = rules::find("MG302").unwrap();
        let moved = judge(rule, Some(&run("2.4.5", "by-dev")), &run("2.4.6", "other"));
        assert_eq!(moved.len(), 1);
        assert_eq!(
            moved[0].message,
            "etcd.rootPath would change from by-dev to other for querynode"
        );
        let kept = judge(rule, Some(&run("2.4.5", "other")), &run("2.4.6", "other"));
        assert_eq!(
            kept.iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>(),
            [Severity::Warn],
            "{kept:?}"
        );
        let new = Fixture::cluster("2.4.5").without(crate::milvus::Component::QueryNode);
        let joined = judge(rule, Some(&new), &run("2.4.5", "other"));
        assert_eq!(
            joined
                .iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>(),
            [Severity::Deny],
            "{joined:?}"
        );
    }

    #[test]
    fn what_is_not_known_is_never_unchanged() {
        let with = |source: &str| {
            Fixture::standalone("2.4.24").container(
                crate::milvus::Component::Standalone,
                &format!("env:\n  - {{name: ETCD_ROOT_PATH, {source}}}"),
            )
        };
        let secret = |name: &str| {
            with(&format!(
                "valueFrom: {{secretKeyRef: {{name: {name}, key: root}}}}"
            ))
        };
        let rule = rules::find("MG302").unwrap();
        let lost = judge(rule, Some(&with("value: by-dev")), &secret("a"));
        assert_eq!(lost[0].severity, Severity::Deny, "{lost:?}");
        assert!(
            lost[0]
                .message
                .contains("would come from key root of Secret a"),
            "{lost:?}"
        );
        for after in [secret("a"), secret("b"), with("value: by-dev")] {
            let unclear = judge(rule, Some(&secret("a")), &after);
            assert!(
                unclear.iter().any(|finding| finding.not_evaluated),
                "{unclear:?}"
            );
        }
    }

    #[test]
    fn a_value_of_a_secret_is_compared_and_never_shown() {
        let run = |encoded: &str| {
            Fixture::standalone("2.4.24")
                .object(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{root: {encoded}}}\n"))
                .container(
                    crate::milvus::Component::Standalone,
                    "env:\n  - {name: ETCD_ROOT_PATH, valueFrom: {secretKeyRef: {name: s, key: root}}}",
                )
        };
        let rule = rules::find("MG302").unwrap();
        let found = judge(rule, Some(&run("aHVudGVyMg==")), &run("aHVudGVyMw=="));
        assert_eq!(found[0].severity, Severity::Deny);
        assert!(!format!("{found:?}").contains("hunter"), "{found:?}");
        assert!(judge(rule, Some(&run("aHVudGVyMg==")), &run("aHVudGVyMg==")).is_empty());
    }
}
