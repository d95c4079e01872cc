//! The order data applied to the components that a release has before and after a change of Helm.
//! Pure.

use std::collections::BTreeSet;

use milvus_guard_core::milvus::{
    Component, Release, Topology, Version,
    catalogue::{Catalogue, Gate, Order, OrderStep, OrderTopology, Rolling, Situation},
};

use crate::engine::ReleaseName;
use crate::rolling_upgrade::plan::{
    Move, MoveKind, Rollout, Templates, Way, Wish, along, migrates, needs_migration,
};

use super::HelmChange;

/// The version that introduced streaming nodes.
const STREAMING: Version = Version::new(2, 6, 0);
/// Components of which two must not run at the same time, unless one is the standby of the other.
const ALONE: [Component; 6] = [
    Component::RootCoord,
    Component::DataCoord,
    Component::IndexCoord,
    Component::QueryCoord,
    Component::MixCoord,
    Component::Standalone,
];

/// Why a change of Helm cannot be rolled out in order, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelmPlanError {
    /// The change lowers the version.
    #[error(
        "the change goes back from {} to {}; an earlier revision is restored by helm rollback {} \
         REVISION -n {}",
        .0.from, .0.to, .0.release.name, .0.release.namespace
    )]
    GoesBack(Box<Way>),
    /// Metadata must be migrated between the two versions.
    #[error("{}", needs_migration(.0))]
    NeedsMigration(Box<Way>),
    /// The two versions do not work together, so everything must stop first.
    #[error("{} cannot roll to {}: a plain helm upgrade with downtime is the way", .0.from, .0.to)]
    NeedsRestart(Box<Way>),
    /// The data has no order for these versions and components.
    #[error(
        "no order is known for {} from {} to {} with these components",
        .0.release.name, .0.from, .0.to
    )]
    NoOrder(Box<Way>),
    /// The change has a component that is not in the order.
    #[error(
        "{workload} ({component}) has no place in the order {order}: it must not run at the \
         target, or not together with the others; turn it off in the values"
    )]
    NoPlace {
        /// Its Deployment.
        workload: String,
        /// The component.
        component: Component,
        /// Id of the order.
        order: String,
    },
    /// A hook cannot delay what Helm creates.
    #[error(
        "{workload} ({component}) is new, and must not start before others are replaced. Helm \
         starts what is new at once, and its hooks cannot prevent that. Next: milvus-guard upgrade \
         -i {} -n {} -- helm upgrade {} CHART", .release.name, .release.namespace, .release.name
    )]
    StartsEarly {
        /// Its Deployment.
        workload: String,
        /// The component.
        component: Component,
        /// The release.
        release: ReleaseName,
    },
}

/// Refuses a plan in which a new component is not the first, if Helm itself creates it.
///
/// # Errors
/// What would start too early.
pub fn check_arrivals(rollout: &Rollout) -> Result<(), HelmPlanError> {
    let mut moves = rollout
        .moves
        .iter()
        .skip_while(|one| one.kind == MoveKind::Create);
    match moves.find(|one| one.kind == MoveKind::Create) {
        None => Ok(()),
        Some(late) => Err(HelmPlanError::StartsEarly {
            workload: late.workload.clone().unwrap_or_default(),
            component: late.component,
            release: rollout.release.clone(),
        }),
    }
}

/// Plans the change.
///
/// # Errors
/// Why there is no plan, and what to do instead.
pub fn plan(
    wish: &Wish<'_>,
    change: &HelmChange,
    catalogue: &Catalogue,
) -> Result<Rollout, HelmPlanError> {
    let Wish {
        release, from, to, ..
    } = *wish;
    if to.version < from.version {
        return Err(HelmPlanError::GoesBack(Way::of(wish)));
    }
    let route = catalogue.route(from, to, &Situation::of(release));
    if migrates(&route) {
        return Err(HelmPlanError::NeedsMigration(Way::of(wish)));
    }
    let restarts = route.rows.iter().any(|row| row.rolling == Rolling::Restart);
    if restarts && release.topology() == Topology::Cluster {
        return Err(HelmPlanError::NeedsRestart(Way::of(wish)));
    }
    let before = workloads(release);
    let after: Vec<(Component, &str)> = change
        .workloads
        .iter()
        .map(|one| (one.component, &*one.name))
        .collect();
    let topology = topology(
        &components(&before),
        &components(&after),
        from.version,
        to.version,
    );
    let order = catalogue
        .order(from.version, to.version, topology)
        .ok_or_else(|| HelmPlanError::NoOrder(Way::of(wish)))?;
    let moves = moves(&before, &after, order)?;
    Ok(along(wish, &route, order, moves, Templates::FromHelm))
}

/// Adds the gates and the name of the order from the data to a plan that was read from a record.
pub fn recall(rollout: &mut Rollout, catalogue: &Catalogue) {
    let of = |kinds: [MoveKind; 2]| -> BTreeSet<Component> {
        let moves = rollout.moves.iter();
        moves
            .filter(|one| kinds.contains(&one.kind))
            .map(|one| one.component)
            .collect()
    };
    let before = of([MoveKind::Update, MoveKind::Remove]);
    let after = of([MoveKind::Update, MoveKind::Create]);
    let (from, to) = (rollout.from.version, rollout.to.version);
    let topology = topology(&before, &after, from, to);
    let Some(order) = catalogue.order(from, to, topology) else {
        return;
    };
    rollout.order.clone_from(&order.id);
    for one in &mut rollout.moves {
        let position = order.position(one.component);
        let position = position.filter(|_| one.kind != MoveKind::Remove);
        let step = position.map(|at| &order.steps[at]);
        let fresh = moved((one.component, ""), one.kind, step);
        (one.gate, one.note, one.at_once_with_next) =
            (fresh.gate, fresh.note, fresh.at_once_with_next);
    }
}

fn workloads(release: &Release) -> Vec<(Component, &str)> {
    let components = release.components.iter();
    components
        .map(|one| (one.component, &*one.workload.meta.object.name))
        .collect()
}

fn components(workloads: &[(Component, &str)]) -> BTreeSet<Component> {
    workloads.iter().map(|(component, _)| *component).collect()
}

/// The rows of the order data that apply.
fn topology(
    before: &BTreeSet<Component>,
    after: &BTreeSet<Component>,
    from: Version,
    to: Version,
) -> OrderTopology {
    let is_mixed = |side: &BTreeSet<Component>| side.contains(&Component::MixCoord);
    if before.contains(&Component::Standalone) {
        OrderTopology::Standalone
    } else if to >= STREAMING && from < STREAMING {
        OrderTopology::StreamingIntroduction
    } else if to >= STREAMING {
        OrderTopology::Streaming
    } else {
        match (is_mixed(before), is_mixed(after)) {
            (false, true) => OrderTopology::SeparateToMixed,
            (true, _) => OrderTopology::Mixed,
            (false, false) => OrderTopology::Separate,
        }
    }
}

fn moves(
    before: &[(Component, &str)],
    after: &[(Component, &str)],
    order: &Order,
) -> Result<Vec<Move>, HelmPlanError> {
    let mut moves = Vec::new();
    for step in &order.steps {
        for component in &step.components {
            moves.extend(of_component(*component, before, after, step));
        }
        let removals = order.remove.iter();
        for removal in removals.filter(|removal| step.components.contains(&removal.after)) {
            let leaves = without(before, after, removal.component);
            moves.extend(leaves.map(|one| moved(one, MoveKind::Remove, None)));
        }
    }
    let placed = |workload: &str| {
        let mut moves = moves.iter();
        moves.any(|one: &Move| one.workload.as_deref() == Some(workload))
    };
    let lost = after.iter().find(|(_, name)| !placed(name));
    if let Some((component, name)) = lost {
        return Err(HelmPlanError::NoPlace {
            workload: (*name).to_owned(),
            component: *component,
            order: order.id.clone(),
        });
    }
    // Components that are neither in the order nor in the new chart.
    let rest: Vec<(Component, &str)> = before
        .iter()
        .copied()
        .filter(|(_, name)| !placed(name))
        .collect();
    moves.extend(
        rest.into_iter()
            .map(|one| moved(one, MoveKind::Remove, None)),
    );
    Ok(moves)
}

/// The Deployments of a component on one side that the other side does not have.
fn without<'a>(
    side: &'a [(Component, &'a str)],
    others: &'a [(Component, &'a str)],
    component: Component,
) -> impl Iterator<Item = (Component, &'a str)> {
    let side = side.iter().copied();
    side.filter(move |one| one.0 == component && !others.contains(one))
}

/// The moves for the Deployments of one component: first those that stay, then the new ones, then
/// the removed ones. If two must not run at the same time, the removed ones come first.
fn of_component(
    component: Component,
    before: &[(Component, &str)],
    after: &[(Component, &str)],
    step: &OrderStep,
) -> Vec<Move> {
    let stay = before
        .iter()
        .copied()
        .filter(|one| one.0 == component && after.contains(one))
        .map(|one| moved(one, MoveKind::Update, Some(step)));
    let come =
        without(after, before, component).map(|one| moved(one, MoveKind::Create, Some(step)));
    let leave = without(before, after, component).map(|one| moved(one, MoveKind::Remove, None));
    if ALONE.contains(&component) {
        stay.chain(leave).chain(come).collect()
    } else {
        stay.chain(come).chain(leave).collect()
    }
}

fn moved((component, name): (Component, &str), kind: MoveKind, step: Option<&OrderStep>) -> Move {
    let gate = match (kind, step) {
        (MoveKind::Remove, _) => Gate::Gone,
        (_, Some(step)) if step.gate == Gate::Running => Gate::Running,
        _ => Gate::Ready,
    };
    Move {
        component,
        workload: Some(name.to_owned()),
        kind,
        gate,
        note: step.and_then(|step| step.note.clone()),
        at_once_with_next: kind != MoveKind::Remove
            && step.is_some_and(|step| step.at_once_with_next),
        point_of_no_return: false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use milvus_guard_core::{
        milvus::Build,
        milvus::Component::{
            DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord, QueryNode,
            RootCoord, StreamingNode,
        },
        rules::testing::Fixture,
    };

    use super::*;
    use crate::{
        engine::ReleaseName,
        rolling_upgrade::{standby::Standby, through_helm::change::PlannedWorkload},
    };

    const SEPARATE: [Component; 8] = [
        RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
    ];
    const MIXED: [Component; 5] = [MixCoord, IndexNode, DataNode, QueryNode, Proxy];
    const STREAMS: [Component; 5] = [MixCoord, StreamingNode, DataNode, QueryNode, Proxy];

    fn planned(
        before: &Fixture,
        to: &str,
        after: &[(Component, &str)],
    ) -> Result<Rollout, HelmPlanError> {
        let release = before.release();
        let from = release.lowest().unwrap();
        let to: Version = to.parse().unwrap();
        let workloads = after.iter().map(|(component, suffix)| PlannedWorkload {
            component: *component,
            name: format!("my-release-milvus-{suffix}"),
        });
        let change = HelmChange {
            revision: 1,
            to,
            image: "milvusdb/milvus:x".into(),
            workloads: workloads.collect(),
            arriving: Vec::new(),
            leaving: Vec::new(),
            hands_over: false,
        };
        let name = ReleaseName {
            name: "my-release".into(),
            namespace: "milvus".into(),
        };
        let wish = Wish {
            name: &name,
            release: &release,
            from: &from,
            to: &Build::of(to),
            image: &change.image,
            standby: Standby::Unknown,
            candidate_order: None,
        };
        plan(&wish, &change, Catalogue::embedded())
    }

    fn ids(rollout: &Rollout) -> String {
        let moves = rollout.moves.iter();
        let ids: Vec<String> = moves.map(|one| one.id("my-release-milvus")).collect();
        ids.join(" ")
    }

    fn named(components: &[Component]) -> Vec<(Component, &'static str)> {
        components.iter().map(|one| (*one, one.name())).collect()
    }

    #[rstest]
    #[case::streaming_introduction("2.5.27", &MIXED, "2.6.22", &STREAMS,
        "create-streamingnode update-mixcoord update-querynode update-datanode update-proxy \
         remove-indexnode", "streaming-introduction")]
    #[case::separate_to_mixed("2.4.5", &SEPARATE, "2.4.24", &MIXED,
        "update-indexnode remove-rootcoord remove-datacoord remove-indexcoord remove-querycoord \
         create-mixcoord update-querynode update-datanode update-proxy", "separate-to-mixed")]
    #[case::separate_to_mixed_from_2_2("2.2.16", &SEPARATE, "2.3.22", &MIXED,
        "remove-rootcoord remove-datacoord remove-indexcoord remove-querycoord create-mixcoord \
         update-querynode update-indexnode update-datanode update-proxy",
        "separate-to-mixed-from-2.2")]
    #[case::the_same_components("2.4.24", &MIXED, "2.5.27", &MIXED,
        "update-indexnode update-mixcoord update-querynode update-datanode update-proxy",
        "mixed-2.3-and-later")]
    #[case::values_alone("2.6.22", &STREAMS, "2.6.22", &STREAMS,
        "update-mixcoord update-streamingnode update-querynode update-datanode update-proxy",
        "streaming-2.6")]
    fn the_order_of_the_data_with_added_and_removed_components(
        #[case] from: &str,
        #[case] before: &[Component],
        #[case] to: &str,
        #[case] after: &[Component],
        #[case] expected: &str,
        #[case] row: &str,
    ) {
        let rollout = planned(&Fixture::of(from, before), to, &named(after)).unwrap();
        assert_eq!(ids(&rollout), expected);
        assert_eq!(rollout.order, row);
        let mut recalled = rollout.clone();
        for one in &mut recalled.moves {
            (one.gate, one.note, one.at_once_with_next) = (Gate::Ready, None, false);
        }
        recalled.order.clear();
        recall(&mut recalled, Catalogue::embedded());
        assert_eq!(
            recalled, rollout,
            "a run that is resumed has the same gates"
        );
    }

    #[test]
    fn gates_are_those_of_the_data() {
        let rollout = planned(&Fixture::of("2.5.27", &MIXED), "2.6.22", &named(&STREAMS)).unwrap();
        let gate = |component| {
            let mut moves = rollout.moves.iter();
            moves.find(|one| one.component == component).unwrap().gate
        };
        assert_eq!(gate(StreamingNode), Gate::Running);
        assert_eq!(gate(MixCoord), Gate::Ready);
        assert_eq!(gate(IndexNode), Gate::Gone);
    }

    #[test]
    fn a_group_of_query_nodes_comes_before_another_one_leaves() {
        let mut after = named(&MIXED);
        after.retain(|one| one.0 != QueryNode);
        after.extend([(QueryNode, "querynode-a"), (QueryNode, "querynode-b")]);
        let rollout = planned(&Fixture::of("2.4.5", &MIXED), "2.4.24", &after).unwrap();
        let expected = "update-mixcoord create-querynode-a create-querynode-b remove-querynode \
                        update-datanode";
        assert!(ids(&rollout).contains(expected), "{}", ids(&rollout));
    }

    #[test]
    fn a_component_without_a_place_in_the_order_is_named() {
        let mut both = named(&STREAMS);
        both.push((IndexNode, "indexnode"));
        let why = planned(&Fixture::of("2.5.27", &MIXED), "2.6.22", &both)
            .unwrap_err()
            .to_string();
        assert!(why.contains("indexnode (indexnode) has no place"), "{why}");
        let back = planned(&Fixture::of("2.5.27", &MIXED), "2.4.24", &named(&MIXED))
            .unwrap_err()
            .to_string();
        assert!(back.contains("helm rollback my-release"), "{back}");
    }
}
