//! MG203: the set of components must fit the target version.

use crate::{
    change::Upgrade,
    milvus::{Component, Coordinators, Topology, Version, release::VersionRead},
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG203",
    name: "topology-version",
    title: "the version supports the components",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[Behavior::PlannedByRun],
    since: "0.1.0",
    needs: &[Need::After, Need::Version, Need::Distributed],
    what: "Checks the components of a cluster. From 2.6 on it has a mixed coordinator and \
           streaming nodes, without index nodes and separate coordinators. Before 2.6 it does not \
           have streaming nodes, and every kind of coordinator that ran stays, alone or in a mixed \
           one.",
    why: "A component that the version does not support crashes or never registers. If a required \
          component is missing, its work is not done: without streaming nodes writes fail, without \
          index nodes (before 2.6) indexes are not built, and without one of the coordinators \
          Milvus does not serve.",
    example: "Chart 5.0.7 with image v2.5.16 renders no index node and a streaming node.",
    fix: "Run the components that belong to the version.",
    sources: &[
        "Milvus docs v2.6: upgrade",
        "milvus#42838",
        "Milvus blog: 2.5 to 2.6",
        "milvus#21269",
    ],
    check,
};

/// The first version with streaming nodes.
const STREAMING: Version = Version::new(2, 6, 0);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    let Some(to) = upgrade.to() else { return };
    if after.topology() == Topology::Standalone || after.is_operated() || after.is_stopped() {
        findings.not_applicable(if after.is_operated() {
            "milvus-operator chooses the components"
        } else {
            "all components of the cluster are stopped"
        });
        return;
    }
    // In the middle of a roll from 2.5 to 2.6 both sets meet; that is a matter of order.
    let rolling = upgrade
        .builds_after()
        .first()
        .is_some_and(|lowest| lowest.version < STREAMING)
        && to.version >= STREAMING;
    if rolling {
        findings.not_applicable(
            "the release has components from before and after 2.6, which MG201 \
                                 checks",
        );
        return;
    }
    findings.checked();
    let mut wrong =
        |message: String, component: Option<Component>, on: &[Component], off: &[Component]| {
            let finding = findings.deny(message);
            if let Some(workload) = component.and_then(|component| after.of(component).next()) {
                finding.on(workload);
            }
            finding.remedy(upgrade.advice().components(on, off));
        };
    let known = |component: Component| {
        after
            .of(component)
            .any(|workload| workload.is_running() && workload.version() != VersionRead::Unknown)
    };
    if to.version >= STREAMING {
        if known(Component::IndexNode) {
            wrong(
                format!("{to} has no index nodes, but one is enabled"),
                Some(Component::IndexNode),
                &[],
                &[Component::IndexNode],
            );
        }
        if matches!(after.coordinators(), Coordinators::Separate) {
            let mut separate: Vec<Component> = after
                .components
                .iter()
                .map(|component| component.component)
                .filter(|one| one.is_separate_coordinator())
                .collect();
            separate.dedup();
            let first = separate.first().copied();
            wrong(
                format!("{to} needs a mixed coordinator, but separate ones are enabled"),
                first,
                &[Component::MixCoord],
                &separate,
            );
        }
        // A streaming node that is stopped while the version stays is a matter of MG205.
        let is_stopped_only = after.has(Component::StreamingNode)
            && upgrade.before.is_some()
            && upgrade.versions().is_none();
        if after.components.len() > 1 && !after.runs(Component::StreamingNode) && !is_stopped_only {
            wrong(
                format!("{to} needs streaming nodes, but none is enabled"),
                None,
                &[Component::StreamingNode],
                &[],
            );
        }
    } else {
        if known(Component::StreamingNode) {
            wrong(
                format!("{to} has no streaming nodes, but one is enabled"),
                Some(Component::StreamingNode),
                &[Component::IndexNode],
                &[Component::StreamingNode],
            );
        }
        for one in lost_coordinators(upgrade, to.version) {
            wrong(
                format!("{to} needs {one}, but it would be removed and nothing replaces it"),
                None,
                &[one],
                &[],
            );
        }
        let lost = upgrade
            .before
            .is_some_and(|before| before.runs(Component::IndexNode))
            && !after.runs(Component::IndexNode);
        if lost {
            wrong(
                format!("{to} builds indexes on index nodes, but none is enabled"),
                None,
                &[Component::IndexNode],
                &[],
            );
        }
    }
}

/// The first version in which the data coordinator does the work of the index coordinator [Milvus
/// release notes 2.3.0].
const WITHOUT_INDEX_COORDINATOR: Version = Version::new(2, 3, 0);

/// Kinds of separate coordinators that ran, alone or inside a mixed one, and of which the wanted
/// state has no workload. One that is scaled to zero is a matter of MG205.
fn lost_coordinators(upgrade: &Upgrade<'_>, to: Version) -> Vec<Component> {
    let Some((before, after)) = upgrade.both() else {
        return Vec::new();
    };
    if after.coordinators() != Coordinators::Separate {
        return Vec::new();
    }
    let is_needed = |one: &Component| {
        one.is_separate_coordinator()
            && (*one != Component::IndexCoord || to < WITHOUT_INDEX_COORDINATOR)
    };
    let ran = |one: &Component| before.runs(*one) || before.runs(Component::MixCoord);
    Component::ALL
        .into_iter()
        .filter(|one| is_needed(one) && ran(one) && !after.has(*one))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        milvus::Component::{
            DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord, QueryNode,
            RootCoord, StreamingNode,
        },
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn every_kind_of_coordinator_stays() {
        let before = Fixture::cluster("2.4.5");
        let messages = |before: &Fixture, after: &Fixture| -> Vec<String> {
            let findings = judge(&RULE, Some(before), after);
            findings
                .into_iter()
                .map(|finding| finding.message.clone())
                .collect()
        };
        assert_eq!(
            messages(
                &before,
                &before.clone().without(DataCoord).without(QueryCoord)
            ),
            ["datacoord", "querycoord"].map(|one| format!(
                "2.4.5 needs {one}, but it would be removed and nothing replaces it"
            ))
        );
        // The data coordinator does its work from 2.3 on.
        assert!(messages(&before, &before.clone().without(IndexCoord)).is_empty());
        let old = Fixture::cluster("2.2.16");
        assert_eq!(messages(&old, &old.clone().without(IndexCoord)).len(), 1);
        // A mixed one does the work of all.
        let mixed = Fixture::cluster("2.4.17");
        assert!(messages(&before, &mixed).is_empty());
        let one = mixed.clone().without(MixCoord).with(RootCoord);
        assert_eq!(messages(&mixed, &one).len(), 2);
        // MG205 reports those that are scaled to zero.
        assert!(messages(&before, &before.clone().replicas(DataCoord, 0)).is_empty());
        // A tool that installs object by object has not come to them yet.
        let first = Fixture::of("2.4.5", &[RootCoord, Proxy]);
        assert!(messages(&first, &first.clone().with(DataCoord)).is_empty());
    }

    #[test]
    fn what_2_6_does_not_have_is_denied() {
        assert_eq!(
            judge(&RULE, None, &Fixture::cluster("2.6.11").with(IndexNode)).len(),
            1
        );
        assert_eq!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.6.11").without(StreamingNode)
            )
            .len(),
            1
        );
        let separate = Fixture::of(
            "2.6.11",
            &[
                RootCoord,
                DataCoord,
                IndexCoord,
                QueryCoord,
                DataNode,
                QueryNode,
                StreamingNode,
                Proxy,
            ],
        );
        assert_eq!(judge(&RULE, None, &separate).len(), 1);
    }

    #[test]
    fn what_2_5_does_not_have_is_denied() {
        assert_eq!(
            judge(&RULE, None, &Fixture::cluster("2.5.16").with(StreamingNode)).len(),
            1
        );
        let before = Fixture::cluster("2.5.5");
        assert_eq!(
            judge(
                &RULE,
                Some(&before),
                &Fixture::cluster("2.5.16").without(IndexNode)
            )
            .len(),
            1
        );
    }

    #[test]
    fn fitting_sets_are_fine() {
        for version in ["2.1.4", "2.3.22", "2.5.27", "2.6.11"] {
            assert!(
                judge(&RULE, None, &Fixture::cluster(version)).is_empty(),
                "{version}"
            );
        }
        assert!(judge(&RULE, None, &Fixture::standalone("2.6.11")).is_empty());
        let rolling = Fixture::cluster("2.5.27")
            .with(StreamingNode)
            .tag_of(StreamingNode, "v2.6.22");
        assert!(judge(&RULE, Some(&Fixture::cluster("2.5.27")), &rolling).is_empty());
        assert!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.6.11")
                    .with(IndexNode)
                    .replicas(IndexNode, 0)
            )
            .is_empty()
        );
    }
}
