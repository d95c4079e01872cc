//! Judges what already runs: nothing changes, so what rules say of the state itself is what is found.

use crate::{
    facts::Facts,
    judge::{JudgedRelease, Judgement, Question, judge},
    milvus::{Snapshot, catalogue::Catalogue},
    policy::PolicySet,
};

/// The findings about what runs. Two questions are asked: whether one would install it so today, and whether one could go on
/// from it (drift from Helm's storage, for example).
#[must_use]
pub fn audit(running: &Snapshot, facts: &Facts, catalogue: &Catalogue, policies: &PolicySet) -> Judgement {
    let question = Question {
        before: None,
        after: running,
        facts,
        catalogue,
        policies,
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    };
    let installed = judge(&question);
    let mut kept = judge(&Question { before: Some(running), ..question });
    for release in &mut kept.releases {
        let Some(other) = installed.releases.iter().find(|other| same(release, other)) else { continue };
        for judged in &other.findings {
            let known = release.findings.iter().any(|known| {
                known.finding.rule.id == judged.finding.rule.id
                    && (known.finding.message == judged.finding.message || judged.finding.not_evaluated)
            });
            if !known {
                release.findings.push(judged.clone());
            }
        }
        release.findings.sort_by_key(|judged| (std::cmp::Reverse(judged.action()), judged.finding.rule.id));
    }
    kept
}

fn same(a: &JudgedRelease, b: &JudgedRelease) -> bool {
    a.name == b.name && a.namespace == b.namespace && a.topology_after == b.topology_after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{milvus::Component, rules::testing::Fixture};

    #[test]
    fn what_runs_is_judged_as_it_is() {
        let running = Fixture::cluster("2.4.5").tag_of(Component::Proxy, "latest").snapshot();
        let judgement = audit(&running, &Facts::default(), Catalogue::embedded(), &PolicySet::default());
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
