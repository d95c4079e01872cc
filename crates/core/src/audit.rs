//! Judges what already runs, as it is: nothing changes.

use crate::{
    evaluate::{Evaluation, EvaluationInput, judge_state},
    evidence::Facts,
    milvus::{Snapshot, catalogue::Catalogue},
    policy::PolicySet,
};

/// What the rules say of the running state. Rules that judge a change do not apply.
#[must_use]
pub fn audit(
    running: &Snapshot,
    facts: &Facts,
    catalogue: &Catalogue,
    policies: &PolicySet,
) -> Evaluation {
    judge_state(&EvaluationInput {
        before: None,
        after: running,
        facts,
        catalogue,
        policies,
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{milvus::Component, rules::testing::Fixture};

    #[test]
    fn the_running_state_is_checked_as_it_is() {
        let running = Fixture::cluster("2.4.5")
            .tag_of(Component::Proxy, "latest")
            .snapshot();
        let judgement = audit(
            &running,
            &Facts::default(),
            Catalogue::embedded(),
            &PolicySet::default(),
        );
        let rules: Vec<&str> = judgement.releases[0]
            .findings
            .iter()
            .filter(|judged| !judged.finding.not_evaluated)
            .map(|judged| judged.finding.rule.id)
            .collect();
        assert!(rules.contains(&"MG105"), "{rules:?}");
        assert!(!rules.contains(&"MG201"), "nothing moves: {rules:?}");
    }
}
