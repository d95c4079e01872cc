//! MG206: an upgrade begins from a healthy state.

use crate::{
    change::Upgrade,
    evidence::RolloutFact,
    milvus::{Release, release::ComponentWorkload},
};

use super::{Behavior, Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG206",
    name: "rollout-unhealthy",
    title: "every component is rolled out and available",
    category: Category::Topology,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[
        Behavior::SelfAcceptable,
        Behavior::PlannedByRun,
        Behavior::SettledByHold,
    ],
    since: "0.1.0",
    needs: &[Need::Before, Need::Rollouts],
    what: "Denies an upgrade that would begin while a component is not completely rolled out and \
           available. A component that was never available with its image does not count if the \
           change replaces the image, so that a failed rollout can be repaired. A component that \
           the change does not touch counts: in an ordered upgrade it is the previous step. Warns \
           instead if that step got the same version as the change, within one minor: the order is \
           a warning there too (MG201), and a tool that applies object by object does not wait.",
    why: "An upgrade during an unfinished rollout mixes three versions, and earlier faults cannot \
          be distinguished from new ones.",
    example: "A query node of the previous change is still terminating when the next change \
              starts.",
    fix: "Wait until all components are available, or repair them first; then upgrade.",
    sources: &[
        "rollingUpdate.sh of the Milvus project",
        "milvus-operator#88",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, _)) = upgrade.both() else {
        return;
    };
    let moving: Vec<&str> = upgrade
        .pairs()
        .filter(|(before, after)| before.version().build() != after.version().build())
        .map(|(before, _)| before.workload.meta.object.name.as_str())
        .collect();
    if moving.is_empty() || before.is_operated() || upgrade.is_rollback {
        findings.not_applicable(match (moving.is_empty(), before.is_operated()) {
            (true, _) => "no component changes its version",
            (_, true) => "milvus-operator waits for the components",
            _ => "the change goes back to an earlier revision",
        });
        return;
    }
    // The way out of a failed upgrade must never be barred.
    if super::mg103_downgrade::returns(upgrade) {
        findings.not_applicable("the change rolls back an interrupted upgrade");
        return;
    }
    // What it made for Helm has no pods before its turn.
    if super::mg208_upgrade_locked::is_brought_for_a_run(upgrade) {
        findings.not_applicable("a run checked the components, then paused them for this change");
        return;
    }
    let seen: Vec<&RolloutFact> = upgrade
        .facts
        .rollouts
        .iter()
        .flatten()
        .filter(|rollout| rollout.release == before.name)
        // A held component waits as it should.
        .filter(|rollout| {
            !before
                .held()
                .any(|one| one.workload.meta.object.name == rollout.workload)
        })
        .collect();
    let moves = |rollout: &RolloutFact| moving.contains(&rollout.workload.as_str());
    // An image that was never available may be replaced: that repairs.
    if seen
        .iter()
        .filter(|rollout| moves(rollout))
        .all(|rollout| !rollout.ever_available)
        && seen.iter().any(|rollout| moves(rollout))
    {
        findings.not_applicable(
            "the components were never available with the images that the \
                                 change replaces",
        );
        return;
    }
    if seen.is_empty() {
        findings.not_evaluated(Missing::fact(
            "the facts do not contain the rollout state of this release",
            "Use --before live with permission to read Deployments and StatefulSets, or --facts FILE with the key rollouts.",
        ));
        return;
    }
    findings.checked();
    for rollout in seen
        .iter()
        .filter(|rollout| !rollout.complete && (rollout.ever_available || !moves(rollout)))
    {
        let mine = before
            .components
            .iter()
            .find(|component| component.workload.meta.object.name == rollout.workload);
        let kind = mine.map_or_else(
            || "deployment".to_owned(),
            |one| one.workload.meta.object.kind.to_lowercase(),
        );
        let command = upgrade.advice().kubectl(&[
            "rollout",
            "status",
            &format!("{kind}/{}", rollout.workload),
        ]);
        let message = format!(
            "{} is not completely rolled out: {}",
            rollout.workload, rollout.detail
        );
        let finding = if is_part_of(upgrade, before, rollout) {
            findings.warn(message)
        } else {
            findings.deny(message)
        };
        if let Some(workload) = mine {
            finding.on(workload);
        }
        finding.command(command);
    }
}

/// Whether the rollout is a part of the change: the component has the version that all others get,
/// inside one minor.
fn is_part_of(upgrade: &Upgrade<'_>, before: &Release, rollout: &RolloutFact) -> bool {
    let version =
        |component: &ComponentWorkload| component.version().build().map(|build| build.version);
    let mine = before
        .components
        .iter()
        .find(|component| component.workload.meta.object.name == rollout.workload);
    let Some(mine) = mine.and_then(version) else {
        return false;
    };
    upgrade
        .pairs()
        .map(|(before, after)| (version(before), version(after)))
        .filter(|(before, after)| before != after)
        .all(|(before, after)| {
            after == Some(mine) && before.is_some_and(|before| before.line() == mine.line())
        })
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        evidence::{Facts, RolloutFact},
        milvus::Component,
        rules::{
            Severity,
            testing::{Fixture, judge, judge_with},
        },
    };

    fn rollout(complete: bool, ever_available: bool) -> Facts {
        Facts {
            rollouts: Some(vec![RolloutFact {
                release: "my-release".into(),
                component: Component::QueryNode,
                workload: "my-release-milvus-querynode".into(),
                complete,
                ever_available,
                detail: "1 of 2 pods available".into(),
            }]),
            ..Facts::default()
        }
    }

    #[test]
    fn an_unfinished_rollout_is_denied() {
        let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.4.24"));
        let findings = judge_with(&RULE, Some(&before), &after, &rollout(false, true));
        assert_eq!(
            findings[0].message,
            "my-release-milvus-querynode is not completely rolled out: 1 of 2 pods available"
        );
        assert!(judge(&RULE, Some(&before), &after)[0].not_evaluated);
    }

    #[test]
    fn the_step_before_must_be_complete() {
        // The query node got its new image a moment ago; the data node would follow too soon.
        let before = Fixture::cluster("2.4.5").tag_of(Component::QueryNode, "v2.4.24");
        let after = before.clone().tag_of(Component::DataNode, "v2.4.24");
        let findings = judge_with(&RULE, Some(&before), &after, &rollout(false, false));
        assert_eq!(
            (findings.len(), findings[0].severity),
            (1, Severity::Warn),
            "the same change inside one minor"
        );
        let third = before.clone().tag_of(Component::DataNode, "v2.4.23");
        assert_eq!(
            judge_with(&RULE, Some(&before), &third, &rollout(false, false))[0].severity,
            Severity::Deny,
            "a third version"
        );
        let minor = Fixture::cluster("2.4.24").tag_of(Component::QueryNode, "v2.5.12");
        let next = minor.clone().tag_of(Component::DataNode, "v2.5.12");
        assert_eq!(
            judge_with(&RULE, Some(&minor), &next, &rollout(false, false))[0].severity,
            Severity::Deny,
            "another minor"
        );
        let replaced = before.clone().tag_of(Component::QueryNode, "v2.4.23");
        assert!(
            judge_with(&RULE, Some(&before), &replaced, &rollout(false, false)).is_empty(),
            "a wrong image is replaced"
        );
    }

    #[test]
    fn the_way_out_and_harmless_changes_are_open() {
        let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.4.24"));
        assert!(judge_with(&RULE, Some(&before), &after, &rollout(true, true)).is_empty());
        assert!(judge_with(&RULE, Some(&before), &after, &rollout(false, false)).is_empty());
        let scaled = before.clone().replicas(Component::Proxy, 3);
        assert!(judge_with(&RULE, Some(&before), &scaled, &rollout(false, true)).is_empty());
    }
}
