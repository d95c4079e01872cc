//! In which order components move.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    component::Component,
    version::{Range, Version},
};

use super::Catalogue;

/// One order graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// Unique name of the row.
    pub id: String,
    /// Source versions.
    pub from: Range,
    /// Target versions.
    pub to: Range,
    /// Layout.
    pub topology: OrderTopology,
    /// Steps, one after the other.
    pub steps: Vec<OrderStep>,
    /// Components that the target no longer has.
    #[serde(default)]
    pub remove: Vec<Removal>,
    /// What else must be kept.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// The layouts that have their own orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderTopology {
    /// Four coordinators.
    Separate,
    /// One coordinator.
    Mixed,
    /// One process.
    Standalone,
    /// 2.5 to 2.6: streaming nodes come, index nodes go.
    StreamingIntroduction,
    /// From 2.6 on.
    Streaming,
    /// Four coordinators become one.
    SeparateToMixed,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderStep {
    /// Components that move together.
    pub components: Vec<Component>,
    /// What to wait for.
    #[serde(default)]
    pub gate: Gate,
    /// Later components before which these may move as well: it costs answers, and no data.
    #[serde(default)]
    pub may_come_before: Vec<Component>,
    /// The next step must follow at once.
    #[serde(default)]
    pub at_once_with_next: bool,
    /// What to know.
    #[serde(default)]
    pub note: Option<String>,
}

/// What to wait for after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// All pods new and available, none of the old image left.
    #[default]
    Ready,
    /// All pods run, ready or not.
    Running,
    /// No pod is left.
    Gone,
}

/// A component that the target no longer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removal {
    /// Which.
    pub component: Component,
    /// After which component's step.
    pub after: Component,
}

/// Something that must be kept in addition to the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constraint {
    /// In words.
    pub text: String,
    /// Where that is known from.
    #[serde(default)]
    pub source: Vec<String>,
}

impl Order {
    /// The position of a component's step; `None` if the order does not move it.
    #[must_use]
    pub fn position(&self, component: Component) -> Option<usize> {
        self.steps
            .iter()
            .position(|step| step.components.contains(&component))
    }

    /// Components that must be completely on the target before `component` may move.
    pub fn before(&self, component: Component) -> impl Iterator<Item = Component> {
        let position = self.position(component).unwrap_or(0);
        let step = self.steps.get(position);
        let may_follow = step.map_or(&[][..], |step| &step.may_come_before);
        self.steps[..position]
            .iter()
            .flat_map(|step| step.components.iter().copied())
            .filter(|other| !may_follow.contains(other))
    }
}

impl Catalogue {
    /// The order for an upgrade; the first row that fits.
    #[must_use]
    pub fn order(&self, from: Version, to: Version, topology: OrderTopology) -> Option<&Order> {
        self.orders.iter().find(|order| {
            order.topology == topology && order.from.contains(from) && order.to.contains(to)
        })
    }

    /// An order that is to be measured, by its name; `None` if there is none of that name, or if it
    /// does not fit the upgrade.
    #[must_use]
    pub fn candidate_order(
        &self,
        id: &str,
        from: Version,
        to: Version,
        topology: OrderTopology,
    ) -> Option<&Order> {
        self.candidate_orders.iter().find(|order| {
            order.id == id
                && order.topology == topology
                && order.from.contains(from)
                && order.to.contains(to)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_step_may_come_before_components_of_earlier_steps_only() {
        let catalogue = Catalogue::embedded();
        let orders = catalogue.orders.iter().chain(&catalogue.candidate_orders);
        let mut seen = 0;
        for order in orders {
            for (place, step) in order.steps.iter().enumerate() {
                for other in &step.may_come_before {
                    seen += 1;
                    let earlier = order.position(*other);
                    assert!(earlier.is_some_and(|at| at < place), "{}", order.id);
                    for component in &step.components {
                        assert!(order.before(*component).all(|one| one != *other));
                    }
                }
            }
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_candidate_moves_the_components_of_the_order_in_whose_place_it_is_measured() {
        let catalogue = Catalogue::embedded();
        let versions = || catalogue.released.iter().map(|row| row.version);
        let components = |order: &Order| -> BTreeSet<Component> {
            let steps = order.steps.iter();
            steps.flat_map(|step| step.components.clone()).collect()
        };
        for row in &catalogue.candidate_orders {
            let from = versions().find(|version| row.from.contains(*version));
            let to = versions().find(|version| row.to.contains(*version));
            let (from, to) = (from.unwrap(), to.unwrap());
            let named = catalogue.candidate_order(&row.id, from, to, row.topology);
            assert_eq!(named, Some(row), "{}: its name is taken", row.id);
            let known = catalogue.order(from, to, row.topology).unwrap();
            assert_eq!(components(row), components(known), "{}", row.id);
            assert_ne!(row.steps, known.steps, "{}", row.id);
            assert_eq!(
                catalogue.candidate_order(&row.id, to, from, row.topology),
                None
            );
            assert!(!row.source.is_empty(), "{}", row.id);
        }
        assert!(!catalogue.candidate_orders.is_empty());
    }
}
