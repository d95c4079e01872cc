//! MG201: components move one after the other, in the order that the versions ask for.

use crate::{
    change::Upgrade,
    milvus::{Component, Coordinators, Release, Topology, Version, catalogue::OrderTopology},
};

use super::{
    Behavior, Category, DefaultAction, Findings, Need, Rule, Severity, advice::Cure,
    mg208_upgrade_locked::is_brought_for_a_run,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG201",
    name: "component-order",
    title: "components are upgraded in order",
    category: Category::Topology,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[
        Behavior::SelfAcceptable,
        Behavior::PlannedByRun,
        Behavior::HandledByUpgrade,
        Behavior::Holdable,
    ],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange, Need::Distributed],
    what: "Checks which components would change their version in one step. If several change at \
           once, or one changes before those that must precede it, the rule denies a change of \
           major.minor and warns within one minor. The order does not apply to a standalone, a \
           stopped release, or a version that cannot be rolled.",
    why: "A change that is applied as a whole restarts all workloads at once. Old and new \
          components then run together in every combination: coordinators do not recognize a \
          worker's version, old query nodes do not understand new proxies, and searches return no \
          results.",
    example: "helm upgrade from 2.4.24 to 2.5.27 changes eight Deployments in the same second.",
    fix: "Upgrade the components in order, and wait until each is available.",
    sources: &[
        "milvus#42492",
        "milvus#46451",
        "milvus#36664",
        "milvus-operator#446",
        "measured on a real cluster",
    ],
    check,
};

/// The first version that can roll.
const FIRST_ROLLING: Version = Version::new(2, 2, 3);

/// The first version with streaming nodes.
const STREAMING: Version = Version::new(2, 6, 0);

/// Which order table a change looks into.
#[must_use]
pub fn layout(before: &Release, from: Version, to: Version) -> OrderTopology {
    match (before.topology(), before.coordinators()) {
        (Topology::Standalone, _) => OrderTopology::Standalone,
        // In the middle of the way to 2.6 streaming nodes run already; the oldest component tells
        // where it began.
        _ if to >= STREAMING && from < STREAMING => OrderTopology::StreamingIntroduction,
        _ if to >= STREAMING => OrderTopology::Streaming,
        (_, Coordinators::Mixed) => OrderTopology::Mixed,
        _ => OrderTopology::Separate,
    }
}

/// Whether every component that moves goes to a lower version, also in the middle of an upgrade
/// that others have done.
fn goes_back(upgrade: &Upgrade<'_>) -> bool {
    let mut moves = upgrade
        .changed_pairs()
        .filter_map(|(old, new)| {
            Some((
                old.version().build()?.version,
                new.version().build()?.version,
            ))
        })
        .filter(|(old, new)| old != new)
        .peekable();
    moves.peek().is_some() && moves.all(|(old, new)| new < old)
}

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some((before, after)), Some((from, to))) = (upgrade.both(), upgrade.versions()) else {
        return;
    };
    let no_order = [
        (
            before.topology() != after.topology(),
            "MG204 checks the change between standalone and cluster",
        ),
        (
            before.is_stopped() || after.is_stopped(),
            "all components are stopped, so no order is needed",
        ),
        (
            before.is_operated(),
            "milvus-operator orders the components",
        ),
        (
            upgrade.is_rollback || to.version < from.version || goes_back(upgrade),
            "this is a downgrade, which MG103 checks",
        ),
        (
            is_brought_for_a_run(upgrade),
            "a run has paused the components, and moves them in order after this change of Helm",
        ),
    ];
    if let Some((_, reason)) = no_order.into_iter().find(|(holds, _)| *holds) {
        findings.not_applicable(reason);
        return;
    }
    findings.checked();
    let mut moved = upgrade.moved();
    let appearing = after
        .components
        .iter()
        .map(|component| component.component)
        .filter(|component| !before.has(*component));
    moved.extend(appearing);
    moved.sort_unstable();
    moved.dedup();
    if from.version < FIRST_ROLLING {
        if !moved.is_empty() {
            findings
                .audit(format!(
                    "{from} cannot be upgraded without downtime, so the order does not matter"
                ))
                .fix("Plan a downtime.");
        }
        return;
    }
    let mut topology = layout(before, from.version, to.version);
    if topology == OrderTopology::Separate && after.coordinators() == Coordinators::Mixed {
        topology = OrderTopology::SeparateToMixed;
    }
    let order = upgrade.catalogue.order(from.version, to.version, topology);
    let moving: Vec<Component> = moved
        .iter()
        .copied()
        .filter(|component| *component != Component::Cdc)
        .collect();
    let severity = if from.version.line() == to.version.line() {
        Severity::Warn
    } else {
        Severity::Deny
    };
    let Some(problem) = problem(upgrade, &moving, order, &to) else {
        return;
    };
    let finding = match severity {
        Severity::Deny => findings.deny(problem),
        _ => findings.warn(problem),
    };
    if moving.len() == 1 {
        finding.because(
            "It would run with components of the other version that must move before it, or that \
             do not know its version yet.",
        );
    }
    if let Some(first) = after
        .components
        .iter()
        .find(|component| moving.contains(&component.component))
    {
        finding.at(&first.workload.meta.origin);
    }
    let steps = order.map(|order| {
        order
            .steps
            .iter()
            .flat_map(|step| &step.components)
            .filter(|component| after.has(**component))
            .map(|component| component.name())
            .collect::<Vec<_>>()
            .join(" -> ")
    });
    finding
        .can_be_held(can_be_held(before, after, order, &moving))
        .evidence(
            "components that change",
            None,
            Some(
                moving
                    .iter()
                    .map(|component| component.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            None,
        )
        .fix(match steps {
            Some(steps) => {
                format!("Upgrade them in this order, and wait until each is available: {steps}.")
            }
            None => RULE.fix.to_owned(),
        })
        .cures(Cure::OrderedUpgrade);
}

/// Whether the change can be admitted with its components paused: the same components run before
/// and after, and the order has a place for each that moves.
fn can_be_held(
    before: &Release,
    after: &Release,
    order: Option<&crate::milvus::catalogue::Order>,
    moving: &[Component],
) -> bool {
    let has_all = |one: &Release, other: &Release| {
        one.components
            .iter()
            .filter(|component| component.is_running())
            .all(|component| other.has(component.component))
    };
    has_all(before, after)
        && has_all(after, before)
        && order.is_some_and(|order| {
            order.remove.is_empty() && moving.iter().all(|one| order.position(*one).is_some())
        })
}

/// What is wrong with moving these components now; `None` if the order holds.
fn problem(
    upgrade: &Upgrade<'_>,
    moving: &[Component],
    order: Option<&crate::milvus::catalogue::Order>,
    to: &crate::milvus::Build,
) -> Option<String> {
    let [first, rest @ ..] = moving else {
        return None;
    };
    let together = order.is_some_and(|order| {
        rest.iter()
            .all(|other| order.position(*other) == order.position(*first))
    });
    if !rest.is_empty() && !together {
        return Some(format!(
            "{} components would change to {to} at once",
            moving.len()
        ));
    }
    let order = order?;
    // One component alone: everything that must go before it has to run the target already.
    let late: Vec<&str> = order
        .before(*first)
        .filter(|earlier| {
            upgrade.after.of(*earlier).any(|component| {
                component.is_running()
                    && component
                        .version()
                        .build()
                        .is_some_and(|build| build.version < to.version)
            })
        })
        .map(Component::name)
        .collect();
    if late.is_empty() {
        None
    } else {
        Some(format!(
            "{first} would change to {to} before {}",
            late.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{Facts, RunFact, RunKind},
        milvus::Component::{IndexNode, MixCoord, Proxy, QueryNode, RootCoord, StreamingNode},
        rules::{
            Severity,
            testing::{Fixture, judge, judge_with},
        },
    };

    fn severity(before: &Fixture, after: &Fixture) -> Option<Severity> {
        judge(&RULE, Some(before), after)
            .iter()
            .map(|finding| finding.severity)
            .max()
    }

    #[test]
    fn all_at_once_is_denied_across_minors_with_the_command() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.4.24")),
            &Fixture::cluster("2.5.27"),
        );
        assert_eq!(findings[0].severity, Severity::Deny);
        assert_eq!(
            findings[0].message,
            "5 components would change to 2.5.27 at once"
        );
        assert_eq!(
            findings[0].fix.command.as_deref(),
            Some("milvus-guard upgrade -i my-release -n milvus -t 2.5.27")
        );
        assert!(
            findings[0]
                .fix
                .text
                .contains("indexnode -> mixcoord -> querynode -> datanode -> proxy")
        );
    }

    #[rstest]
    #[case(
        Fixture::cluster("2.4.17"),
        Fixture::cluster("2.4.24"),
        Some(Severity::Warn)
    )]
    #[case(
        Fixture::cluster("2.2.1"),
        Fixture::cluster("2.2.16"),
        Some(Severity::Audit)
    )]
    #[case(Fixture::standalone("2.4.24"), Fixture::standalone("2.5.27"), None)]
    #[case(Fixture::cluster("2.4.24").stopped(), Fixture::cluster("2.5.27"), None)]
    #[case(Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27").stopped(), None)]
    #[case(
        Fixture::cluster("2.5.27"),
        Fixture::cluster("2.6.22"),
        Some(Severity::Deny)
    )]
    #[case(Fixture::cluster("2.4.24"), Fixture::cluster("2.4.24").replicas(QueryNode, 5), None)]
    fn whole_releases(
        #[case] before: Fixture,
        #[case] after: Fixture,
        #[case] expected: Option<Severity>,
    ) {
        assert_eq!(severity(&before, &after), expected);
    }

    #[test]
    fn one_component_in_its_turn_is_fine() {
        let start = Fixture::cluster("2.4.24");
        let one = start.clone().tag_of(IndexNode, "v2.5.27");
        assert_eq!(severity(&start, &one), None);
        let two = one.clone().tag_of(MixCoord, "v2.5.27");
        assert_eq!(severity(&one, &two), None);
    }

    #[test]
    fn one_component_before_its_turn_is_denied() {
        let start = Fixture::cluster("2.4.24");
        let findings = judge(&RULE, Some(&start), &start.clone().tag_of(Proxy, "v2.5.27"));
        assert_eq!(
            findings[0].message,
            "proxy would change to 2.5.27 before indexnode, mixcoord, querynode, datanode"
        );
        let why = format!("{:?}", findings[0].why);
        assert!(
            why.contains("It would run with components of the other version"),
            "{why}"
        );
    }

    #[test]
    fn a_rollback_has_no_order() {
        let half = Fixture::cluster("2.4.24")
            .tag_of(IndexNode, "v2.5.27")
            .tag_of(Proxy, "v2.5.27");
        assert_eq!(
            severity(&half, &half.clone().tag_of(Proxy, "v2.4.24")),
            None
        );
        let mixed = half
            .clone()
            .tag_of(Proxy, "v2.4.24")
            .tag_of(QueryNode, "v2.5.27");
        assert_eq!(
            severity(&half, &mixed),
            Some(Severity::Deny),
            "one goes back, and another one ahead"
        );
    }

    #[test]
    fn coordinators_go_first_from_2_2() {
        let start = Fixture::cluster("2.2.16");
        assert_eq!(
            severity(&start, &start.clone().tag_of(RootCoord, "v2.3.22")),
            None
        );
        assert_eq!(
            severity(&start, &start.clone().tag_of(IndexNode, "v2.3.22")),
            Some(Severity::Deny)
        );
    }

    /// The order of the Milvus project's script costs answers there, and no data.
    #[rstest]
    #[case::ours(&["querynode", "indexnode", "datanode", "proxy"], None)]
    #[case::of_the_script(&["indexnode", "datanode", "querynode", "proxy"], None)]
    #[case::query_node_between(&["indexnode", "querynode", "datanode", "proxy"], None)]
    #[case::proxy_first(&["proxy"], Some(Severity::Deny))]
    #[case::proxy_before_query_node(&["indexnode", "datanode", "proxy"], Some(Severity::Deny))]
    #[case::proxy_before_data_node(&["querynode", "indexnode", "proxy"], Some(Severity::Deny))]
    #[case::data_node_before_index_node(&["querynode", "datanode"], Some(Severity::Deny))]
    fn data_nodes_may_come_before_query_nodes_from_2_2_to_2_3(
        #[case] order: &[&str],
        #[case] expected: Option<Severity>,
    ) {
        let mut now = Fixture::cluster("2.2.16");
        for coordinator in now.clone().release().components {
            if coordinator.component.is_coordinator() {
                now = now.tag_of(coordinator.component, "v2.3.22");
            }
        }
        let mut found = None;
        for name in order {
            let next = now.clone().tag_of(name.parse().unwrap(), "v2.3.22");
            found = found.max(severity(&now, &next));
            now = next;
        }
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27"), true)]
    #[case(Fixture::cluster("2.4.17"), Fixture::cluster("2.4.24"), true)]
    #[case(Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27").without(QueryNode), false)]
    #[case(Fixture::cluster("2.4.24").without(IndexNode), Fixture::cluster("2.5.27"), false)]
    #[case(Fixture::cluster("2.5.27"), Fixture::cluster("2.6.22"), false)]
    fn a_change_of_the_set_of_components_cannot_be_held(
        #[case] before: Fixture,
        #[case] after: Fixture,
        #[case] expected: bool,
    ) {
        assert_eq!(judge(&RULE, Some(&before), &after)[0].can_be_held, expected);
    }

    #[rstest]
    #[case("2.5.27", true, None)]
    #[case("2.5.27", false, Some(Severity::Deny))]
    #[case("2.5.22", true, Some(Severity::Deny))]
    fn a_run_that_waits_for_helm_orders_what_helm_brings(
        #[case] to: &str,
        #[case] waits_for_helm: bool,
        #[case] expected: Option<Severity>,
    ) {
        let run = RunFact {
            run: "milvus/run-1".into(),
            release: "my-release".into(),
            namespace: "milvus".into(),
            kind: RunKind::Rolling,
            phase: "Paused".into(),
            from: None,
            to: Some(to.parse().unwrap()),
            action: None,
            waits_for_helm,
        };
        let facts = Facts {
            runs: Some(vec![run]),
            ..Facts::default()
        };
        let (before, after) = (Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27"));
        let findings = judge_with(&RULE, Some(&before), &after, &facts);
        assert_eq!(findings.first().map(|one| one.severity), expected);
    }

    #[test]
    fn streaming_nodes_come_first() {
        let start = Fixture::cluster("2.5.27");
        let first = start
            .clone()
            .with(StreamingNode)
            .tag_of(StreamingNode, "v2.6.22");
        assert_eq!(severity(&start, &first), None);
        let wrong = start
            .clone()
            .tag_of(MixCoord, "v2.6.22")
            .with(StreamingNode)
            .tag_of(StreamingNode, "v2.6.22");
        assert_eq!(severity(&start, &wrong), Some(Severity::Deny));
    }
}
