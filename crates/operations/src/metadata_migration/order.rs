//! The order in which components start. At a cold start no component serves yet, so the order
//! depends on which component connects to which: coordinators connect to one another and start
//! first, together; workers register with them; proxies accept clients and start last.

use milvus_guard_core::milvus::Component;

/// A group of components that start together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Coordinators.
    Coordinators,
    /// Nodes.
    Workers,
    /// Proxies.
    Proxies,
}

impl Tier {
    /// All tiers in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Coordinators, Self::Workers, Self::Proxies];

    /// The tier of a component.
    #[must_use]
    pub const fn of(component: Component) -> Self {
        match component {
            Component::RootCoord
            | Component::DataCoord
            | Component::IndexCoord
            | Component::QueryCoord
            | Component::MixCoord
            | Component::Standalone => Self::Coordinators,
            Component::IndexNode
            | Component::DataNode
            | Component::QueryNode
            | Component::StreamingNode => Self::Workers,
            Component::Proxy | Component::Cdc => Self::Proxies,
        }
    }

    /// The name in the id of a step.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coordinators => "coordinators",
            Self::Workers => "workers",
            Self::Proxies => "proxies",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinators_come_first_and_proxies_last() {
        assert!(Tier::of(Component::RootCoord) < Tier::of(Component::QueryNode));
        assert!(Tier::of(Component::QueryNode) < Tier::of(Component::Proxy));
        assert!(
            Component::ALL
                .into_iter()
                .filter(|one| one.is_coordinator())
                .all(|one| Tier::of(one) == Tier::Coordinators)
        );
    }
}
