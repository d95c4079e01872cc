//! Rows about the order of components.

use crate::{
    milvus::{
        Component, Coordinators, Topology, Version,
        catalogue::{Catalogue, Order, OrderTopology},
    },
    rules::{Severity, mg201_component_order},
};

use super::{Shape, fixture, found, releases};

/// The components that a layout has before and after the change.
fn layouts(topology: OrderTopology) -> (Option<Coordinators>, Option<Coordinators>) {
    match topology {
        OrderTopology::Separate => (Some(Coordinators::Separate), Some(Coordinators::Separate)),
        OrderTopology::Mixed => (Some(Coordinators::Mixed), Some(Coordinators::Mixed)),
        OrderTopology::SeparateToMixed => (Some(Coordinators::Separate), Some(Coordinators::Mixed)),
        OrderTopology::Standalone
        | OrderTopology::StreamingIntroduction
        | OrderTopology::Streaming => (None, None),
    }
}

/// Whether an upgrade of all components at once is told this order.
fn order_is_reported(order: &Order, catalogue: &Catalogue, versions: &[Version]) -> bool {
    let pairs = versions
        .iter()
        .filter(|from| order.from.contains(**from))
        .flat_map(|from| {
            versions
                .iter()
                .filter(move |to| order.to.contains(**to) && *to > from)
                .map(move |to| (*from, *to))
        });
    let fits = pairs.filter(|(from, to)| {
        catalogue
            .order(*from, *to, order.topology)
            .is_some_and(|found| found.id == order.id)
    });
    let (before, after) = layouts(order.topology);
    let shape = |coordinators| Shape {
        coordinators,
        ..Shape::of(Topology::Cluster)
    };
    fits.take(12).any(|(from, to)| {
        if order.topology == OrderTopology::Standalone {
            // One process has no order to keep; the row is for plans.
            return order
                .steps
                .iter()
                .any(|step| step.components.contains(&Component::Standalone));
        }
        let (before, after) = (
            fixture(from, &shape(before)).release(),
            fixture(to, &shape(after)).release(),
        );
        found(
            &mg201_component_order::RULE,
            Some(&before),
            &after,
            catalogue,
        )
        .iter()
        .any(|finding| {
            let steps = order
                .steps
                .iter()
                .flat_map(|step| &step.components)
                .filter(|component| after.has(**component));
            let steps = steps
                .map(|component| component.name())
                .collect::<Vec<_>>()
                .join(" -> ");
            finding.severity >= Severity::Warn && finding.fix.text.contains(&steps)
        })
    })
}

#[test]
fn every_order_is_reported() {
    let catalogue = Catalogue::embedded();
    let versions = releases(catalogue);
    let silent: Vec<&str> = catalogue
        .orders
        .iter()
        .filter(|order| !order_is_reported(order, catalogue, &versions))
        .map(|order| order.id.as_str())
        .collect();
    assert!(
        silent.is_empty(),
        "no upgrade is told these orders: {silent:?}"
    );
}
