//! The registry, and how rules are run.

use super::{testing::Fixture, *};

fn broken(_: &Upgrade<'_>, _: &mut Findings) {
    panic!("a bug in a rule");
}

const fn rule(id: &'static str, data_loss: bool, check: fn(&Upgrade<'_>, &mut Findings)) -> Rule {
    Rule {
        id,
        name: "broken",
        title: "t",
        category: Category::Version,
        default: DefaultAction::Deny,
        data_loss,
        behavior: &[],
        since: "0.1.0",
        needs: &[Need::After],
        what: "",
        why: "",
        example: "",
        fix: "",
        sources: &[],
        check,
    }
}

static GUARDS_DATA: Rule = rule("MG998", true, broken);
static COMFORT: Rule = rule("MG999", false, broken);
static GOOD: Rule = rule("MG997", false, |_, findings| {
    findings.warn("seen");
});

fn outcome(overdue: bool) -> Vec<(&'static str, Severity, Option<Failed>)> {
    let after = Fixture::cluster("2.4.5").release();
    let facts = Facts::default();
    let upgrade = Upgrade::new(None, &after, &facts, Catalogue::embedded());
    let late = move || overdue;
    run_all(
        &[&GOOD, &GUARDS_DATA, &COMFORT],
        &upgrade,
        None,
        Some(Overdue(&late)),
    )
    .findings
    .into_iter()
    .map(|finding| (finding.rule.id, finding.severity, finding.failed))
    .collect()
}

/// What each behavior is for must fit the rest of the rule.
#[test]
fn behaviors_fit_their_rules() {
    for rule in ALL {
        let has = |behavior| rule.has(behavior);
        assert!(
            !(rule.data_loss && has(Behavior::SelfAcceptable)),
            "{}: no one accepts the loss of data",
            rule.id
        );
        assert!(
            !has(Behavior::Holdable) || has(Behavior::PlannedByRun),
            "{}: what is held is planned",
            rule.id
        );
        assert!(
            !has(Behavior::HandledByUpgrade) || has(Behavior::PlannedByRun),
            "{}",
            rule.id
        );
        let unique: std::collections::BTreeSet<String> =
            rule.behavior.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(
            unique.len(),
            rule.behavior.len(),
            "{}: named twice",
            rule.id
        );
    }
}

#[test]
fn a_rule_that_panics_denies_where_data_is_at_stake_and_spares_the_others() {
    assert_eq!(
        outcome(false),
        [
            ("MG997", Severity::Warn, None),
            ("MG998", Severity::Deny, Some(Failed::Panic)),
            ("MG999", Severity::Audit, Some(Failed::Panic)),
        ]
    );
}

#[test]
fn a_rule_that_time_does_not_allow_has_the_same_outcome() {
    assert_eq!(
        outcome(true),
        [
            ("MG997", Severity::Audit, Some(Failed::Timeout)),
            ("MG998", Severity::Deny, Some(Failed::Timeout)),
            ("MG999", Severity::Audit, Some(Failed::Timeout)),
        ]
    );
}
