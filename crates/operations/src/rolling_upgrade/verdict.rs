//! What the rules find in the upgrade as a whole, with the same input as `check`. Findings that a
//! run itself handles are left out. Pure.

use milvus_guard_core::{
    evaluate::{EvaluationInput, judge},
    evidence::Facts,
    milvus::{Release, Snapshot, catalogue::Catalogue},
    policy::{Action, PolicySet},
    rules::Behavior,
};

/// What the rules find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Why the upgrade is refused.
    pub refusals: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Evaluates the rules. `run` is the run itself, which does not block the upgrade.
#[must_use]
pub fn ask(
    before: &Release,
    after: Release,
    facts: &Facts,
    policies: &PolicySet,
    run: &str,
) -> Said {
    let one = |release: Release| Snapshot {
        releases: vec![release],
        ..Snapshot::default()
    };
    let mut facts = facts.clone();
    if let Some(runs) = &mut facts.runs {
        runs.retain(|other| other.run != run);
    }
    let (before, after) = (one(before.clone()), one(after));
    let judgement = judge(&EvaluationInput {
        before: Some(&before),
        after: &after,
        facts: &facts,
        catalogue: Catalogue::embedded(),
        policies,
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
    let mut said = Said::default();
    for judged in judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings)
    {
        let finding = &judged.finding;
        if finding.rule.has(Behavior::HandledByUpgrade) {
            continue;
        }
        let text = || {
            let fix = finding.fix.command.as_deref().unwrap_or(&finding.fix.text);
            // The fix for a missing fact is a flag of `check`, which does not help here.
            let fix = if fix.is_empty() || finding.not_evaluated {
                String::new()
            } else {
                format!(" ({})", fix.trim_end_matches('.'))
            };
            format!(
                "{} {}: {}{fix}",
                finding.rule.id, finding.rule.name, finding.message
            )
        };
        match judged.action() {
            Some(Action::Deny) => said.refusals.push(text()),
            Some(Action::Hold | Action::Warn) => said.warnings.push(text()),
            Some(Action::Audit) | None => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::{
        evidence::{RunFact, RunKind},
        rules::testing::Fixture,
    };

    fn asked(from: &str, to: &str, facts: &Facts) -> Said {
        let before = Fixture::cluster(from).release();
        let after = before.at_version(&to.parse().unwrap());
        ask(&before, after, facts, &PolicySet::default(), "milvus/mine")
    }

    #[test]
    fn the_run_handles_the_order_and_the_rules_judge_the_path() {
        assert_eq!(
            asked("2.4.24", "2.5.27", &Facts::default()).refusals,
            [""; 0]
        );
        let denied = asked("2.4.24", "2.6.22", &Facts::default()).refusals;
        assert!(
            denied.iter().any(|text| text.starts_with("MG102")),
            "{denied:?}"
        );
    }

    #[test]
    fn another_run_blocks_and_the_run_itself_does_not() {
        let with = |run: &str| Facts {
            runs: Some(vec![RunFact {
                run: run.into(),
                release: "my-release".into(),
                namespace: "milvus".into(),
                kind: RunKind::Rolling,
                phase: "Running".into(),
                from: None,
                to: None,
                action: None,
                waits_for_helm: false,
            }]),
            ..Facts::default()
        };
        assert_eq!(
            asked("2.4.24", "2.5.27", &with("milvus/mine")).refusals,
            [""; 0]
        );
        let denied = asked("2.4.24", "2.5.27", &with("milvus/other")).refusals;
        assert!(denied[0].starts_with("MG208"), "{denied:?}");
    }
}
