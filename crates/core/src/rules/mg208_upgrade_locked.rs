//! MG208: one change at a time.

use crate::{
    api::RunPhase,
    change::Upgrade,
    evidence::{RunFact, RunKind},
    milvus::release::ComponentWorkload,
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule, advice::command};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG208",
    name: "upgrade-locked",
    title: "no milvus-guard run is in progress",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[
        Behavior::PlannedByRun,
        Behavior::JudgesDeletions,
        Behavior::OverridesDecisions,
        Behavior::ComparesSharedData,
    ],
    since: "0.1.0",
    needs: &[Need::Before, Need::Runs],
    what: "During a migration, denies starts, scale-ups and image changes. During a rolling \
           upgrade, denies changes of images, components, queue and metadata.",
    why: "A component that starts during a migration writes old metadata among the new, and the \
          two cannot be distinguished.",
    example: "An autoscaler or a second pipeline scales the proxies up while metadata is being rewritten.",
    fix: "Wait until the run ends; milvus-guard status shows its progress.",
    sources: &["Milvus docs: upgrade to 2.2"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    findings.checked();
    let mine = |run: &&RunFact| {
        run.release == before.name
            && before
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == run.namespace)
    };
    let Some(run) = upgrade.facts.runs.iter().flatten().find(mine) else {
        return;
    };
    let image = |component: &ComponentWorkload| component.image().to_string();
    let images_change = upgrade.pairs().any(|(old, new)| image(old) != image(new));
    let scales_up = upgrade
        .pairs()
        .any(|(old, new)| new.workload.wanted_replicas() > old.workload.wanted_replicas());
    let components_change = after
        .components
        .iter()
        .any(|component| !before.has(component.component))
        || before
            .components
            .iter()
            .any(|component| !after.has(component.component));
    let configured = before.has_config() && after.has_config();
    let data_moves = configured
        && (before.queue().kind.value != after.queue().kind.value
            || before.metadata().root_path.value != after.metadata().root_path.value
            || before.metadata().endpoints.value != after.metadata().endpoints.value);
    if run.waits_for_helm && is_the_awaited(upgrade, run) {
        return;
    }
    let (what, kind) = match run.kind {
        RunKind::Migration if images_change => ("images would change", "a migration"),
        RunKind::Migration if scales_up || components_change => {
            ("components would start", "a migration")
        }
        RunKind::Rolling if images_change => ("images would change", "a rolling upgrade"),
        RunKind::Rolling if components_change => {
            ("components would be added or removed", "a rolling upgrade")
        }
        RunKind::Rolling if data_moves => ("queue or metadata would change", "a rolling upgrade"),
        // A held change does not lock the release: a change in the meantime is held too.
        RunKind::Migration | RunKind::Rolling | RunKind::Hold => return,
    };
    findings
        .deny(format!(
            "{what} while {kind} is in progress ({}, {})",
            run.run, run.phase
        ))
        .because(match run.kind {
            RunKind::Migration => RULE.why,
            RunKind::Rolling | RunKind::Hold => {
                "The run upgrades the components in order. A change from outside breaks that \
                 order, or the run reverts it."
            }
        })
        .evidence_from("run", Some(run.phase.clone()), None, &run.run)
        .fix(if run.phase == RunPhase::Stopped.name() {
            "The run was stopped: repeat its command to resume it, or add -o rollback or -o abort. \
             milvus-guard status shows the commands."
        } else {
            RULE.fix
        })
        .command(command(
            &[
                "milvus-guard",
                "status",
                "-i",
                &before.name,
                "-n",
                &run.namespace,
            ]
            .map(str::to_owned),
        ));
}

/// Whether a rolling upgrade waits for this very change of Helm, and will move the components in
/// order.
pub(super) fn is_brought_for_a_run(upgrade: &Upgrade<'_>) -> bool {
    let Some((before, _)) = upgrade.both() else {
        return false;
    };
    let waits = |run: &&RunFact| {
        run.kind == RunKind::Rolling
            && run.waits_for_helm
            && run.release == before.name
            && before
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == run.namespace)
    };
    let mut runs = upgrade.facts.runs.iter().flatten().filter(waits);
    runs.any(|run| is_the_awaited(upgrade, run))
}

/// Whether everything that would change or start is of the version that the run waits for Helm to
/// bring.
fn is_the_awaited(upgrade: &Upgrade<'_>, run: &RunFact) -> bool {
    let Some((before, after)) = upgrade.both() else {
        return false;
    };
    let moves = |new: &ComponentWorkload| {
        let name = &new.workload.meta.object.name;
        let old = before
            .components
            .iter()
            .find(|old| old.workload.meta.object.name == *name);
        old.is_none_or(|old| {
            old.image() != new.image()
                || new.workload.wanted_replicas() > old.workload.wanted_replicas()
        })
    };
    run.to.is_some_and(|to| {
        let mut moving = after.components.iter().filter(|new| moves(new));
        moving.all(|new| {
            new.version()
                .build()
                .is_some_and(|build| build.version == to)
        })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{Facts, RunFact, RunKind},
        milvus::Component::{Proxy, QueryNode},
        rules::testing::{Fixture, judge, judge_with},
    };

    fn run(kind: RunKind) -> Facts {
        let run = RunFact {
            run: "milvus/run-1".into(),
            release: "my-release".into(),
            namespace: "milvus".into(),
            kind,
            phase: "Running".into(),
            from: None,
            to: None,
            action: None,
            waits_for_helm: false,
        };
        Facts {
            runs: Some(vec![run]),
            ..Facts::default()
        }
    }

    #[rstest]
    #[case(RunKind::Migration, Fixture::cluster("2.2.16"), true)]
    #[case(RunKind::Migration, Fixture::cluster("2.1.4").replicas(Proxy, 2), true)]
    #[case(RunKind::Migration, Fixture::cluster("2.1.4").replicas(Proxy, 0), false)]
    #[case(RunKind::Rolling, Fixture::cluster("2.1.4").replicas(Proxy, 2), false)]
    #[case(RunKind::Rolling, Fixture::cluster("2.1.4").without(QueryNode), true)]
    #[case(RunKind::Rolling, Fixture::cluster("2.1.4").default_yaml("etcd: {rootPath: other}"), true)]
    #[case(RunKind::Rolling, Fixture::cluster("2.1.4"), false)]
    fn changes_under_a_run(#[case] kind: RunKind, #[case] after: Fixture, #[case] found: bool) {
        assert_eq!(
            !judge_with(&RULE, Some(&Fixture::cluster("2.1.4")), &after, &run(kind)).is_empty(),
            found
        );
    }

    #[rstest]
    #[case(RunKind::Migration, "a migration", "writes old metadata among the new")]
    #[case(
        RunKind::Rolling,
        "a rolling upgrade",
        "upgrades the components in order"
    )]
    fn the_reason_is_that_of_the_run(
        #[case] kind: RunKind,
        #[case] name: &str,
        #[case] reason: &str,
    ) {
        let (before, after) = (Fixture::cluster("2.1.4"), Fixture::cluster("2.2.16"));
        let findings = judge_with(&RULE, Some(&before), &after, &run(kind));
        assert_eq!(
            findings[0].message,
            format!("images would change while {name} is in progress (milvus/run-1, Running)")
        );
        let why = format!("{:?}", findings[0].why);
        assert!(why.contains(reason), "{why}");
    }

    #[rstest]
    #[case("Running", "Wait until the run ends")]
    #[case("Stopped", "repeat its command to resume it")]
    fn a_stopped_run_is_not_waited_for(#[case] phase: &str, #[case] words: &str) {
        let mut facts = run(RunKind::Rolling);
        facts.runs.as_mut().unwrap()[0].phase = phase.into();
        let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.4.24"));
        let findings = judge_with(&RULE, Some(&before), &after, &facts);
        assert!(
            findings[0].fix.text.contains(words),
            "{:?}",
            findings[0].fix
        );
    }

    #[rstest]
    #[case(Fixture::cluster("2.2.16"), false)]
    #[case(Fixture::cluster("2.2.13"), true)]
    #[case(Fixture::cluster("2.2.16").tag_of(Proxy, "v2.1.4"), true)]
    #[case(Fixture::cluster("2.1.4"), true)]
    fn a_run_that_waits_for_helm_lets_its_target_start(
        #[case] after: Fixture,
        #[case] found: bool,
    ) {
        let mut facts = run(RunKind::Migration);
        let run = &mut facts.runs.as_mut().unwrap()[0];
        (run.to, run.waits_for_helm, run.phase) =
            (Some("2.2.16".parse().unwrap()), true, "Paused".into());
        let before = Fixture::cluster("2.1.4").stopped();
        assert_eq!(
            !judge_with(&RULE, Some(&before), &after, &facts).is_empty(),
            found
        );
    }

    #[test]
    fn unknown_runs_are_named_and_none_is_fine() {
        let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.4.24"));
        assert!(judge(&RULE, Some(&before), &after)[0].not_evaluated);
        assert!(
            judge_with(
                &RULE,
                Some(&before),
                &after,
                &Facts {
                    runs: Some(vec![]),
                    ..Facts::default()
                }
            )
            .is_empty()
        );
    }
}
