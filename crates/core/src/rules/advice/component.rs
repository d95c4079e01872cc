//! Components of Milvus: which ones run, their pod templates, active-standby.

use super::{
    Advice,
    remedy::{ChartPin, Remedy},
    wording::list_of,
};
use crate::milvus::{
    Component,
    manager::{Source, Vendor},
    release::ComponentWorkload,
};

fn components_in_words(on: &[Component], off: &[Component]) -> String {
    let names = |components: &[Component]| list_of(components.iter().map(ToString::to_string));
    match (on.is_empty(), off.is_empty()) {
        (false, false) => format!("Run {} without {}", names(on), names(off)),
        (false, true) => format!("Run {}", names(on)),
        (true, _) => format!("Leave {} out", names(off)),
    }
}

/// The name of a component in the operator's resource.
const fn operator_component(component: Component) -> &'static str {
    match component {
        Component::RootCoord => "rootCoord",
        Component::DataCoord => "dataCoord",
        Component::IndexCoord => "indexCoord",
        Component::QueryCoord => "queryCoord",
        Component::MixCoord => "mixCoord",
        Component::IndexNode => "indexNode",
        Component::DataNode => "dataNode",
        Component::QueryNode => "queryNode",
        Component::StreamingNode => "streamingNode",
        Component::Proxy => "proxy",
        Component::Standalone => "standalone",
        Component::Cdc => "cdc",
    }
}

/// The chart value that switches a component on.
const fn component_switch(component: Component) -> Option<&'static str> {
    Some(match component {
        Component::RootCoord => "rootCoordinator.enabled",
        Component::DataCoord => "dataCoordinator.enabled",
        Component::IndexCoord => "indexCoordinator.enabled",
        Component::QueryCoord => "queryCoordinator.enabled",
        Component::MixCoord => "mixCoordinator.enabled",
        Component::IndexNode => "indexNode.enabled",
        Component::DataNode => "dataNode.enabled",
        Component::QueryNode => "queryNode.enabled",
        Component::StreamingNode => "streaming.enabled",
        Component::Proxy => "proxy.enabled",
        Component::Standalone | Component::Cdc => return None,
    })
}

/// What the chart's values of a component stand under.
pub(super) const fn values_of(component: Component) -> &'static str {
    match component {
        Component::RootCoord => "rootCoordinator",
        Component::DataCoord => "dataCoordinator",
        Component::IndexCoord => "indexCoordinator",
        Component::QueryCoord => "queryCoordinator",
        Component::MixCoord => "mixCoordinator",
        Component::IndexNode => "indexNode",
        Component::DataNode => "dataNode",
        Component::QueryNode => "queryNode",
        Component::StreamingNode => "streamingNode",
        Component::Proxy => "proxy",
        Component::Standalone => "standalone",
        Component::Cdc => "cdc",
    }
}

impl Advice<'_, '_> {
    /// Sets a field of a pod template, such as `securityContext.fsGroup`, on the workload of a
    /// component.
    #[must_use]
    pub fn workload_field(&self, object: &str, component: Component, field: &str) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                format!(
                    "Set {field} for spec.components.{} in the Milvus resource {resource}.",
                    operator_component(component)
                )
            }
            Source::Chart(_) => format!("Set {field} for {component}, {}.", self.values_place()),
            Source::Manifests => format!(
                "Set {field} in the pod template of {}.",
                self.object_place(object)
            ),
        })
    }

    /// Gives the group of a user the volumes of a workload.
    #[must_use]
    pub fn fs_group(&self, component: &ComponentWorkload, group: i64) -> Remedy {
        let object = &component.workload.meta.object;
        let remedy = if self
            .manager
            .chart()
            .is_some_and(|chart| chart.vendor == Vendor::Zilliz)
            && self.reads("securityContext")
        {
            Remedy::words(format!(
                "Set {}={group} {}.",
                self.path("securityContext.fsGroup"),
                self.values_place()
            ))
        } else {
            let field = format!("securityContext.fsGroup: {group}");
            self.workload_field(
                &format!("{} {}", object.kind, object.name),
                component.component,
                &field,
            )
        };
        remedy.and(&format!(
            "The CSI driver must apply fsGroup; if it does not, add an init container that runs chown -R {group}:{group}."
        ))
    }

    /// Switches components on and off.
    #[must_use]
    pub fn components(&self, on: &[Component], off: &[Component]) -> Remedy {
        // What is so already is not asked for.
        let after = self.upgrade.after;
        let on: &[Component] = &on
            .iter()
            .copied()
            .filter(|one| !after.runs(*one))
            .collect::<Vec<_>>();
        let off: &[Component] = &off
            .iter()
            .copied()
            .filter(|one| after.runs(*one))
            .collect::<Vec<_>>();
        match &self.manager.source {
            Source::Chart(_) => {
                let mut pins = Vec::new();
                for (components, wanted) in [(on, "true"), (off, "false")] {
                    for component in components {
                        let Some(path) =
                            component_switch(*component).filter(|path| self.reads(path))
                        else {
                            continue;
                        };
                        pins.push(ChartPin::new(path, wanted));
                        let replicas = "streamingNode.replicas";
                        if *component == Component::StreamingNode
                            && wanted == "true"
                            && self.reads(replicas)
                        {
                            pins.push(ChartPin::new(replicas, "1"));
                        }
                    }
                }
                if pins.len() < on.len() + off.len() {
                    let place = self.values_place();
                    return Remedy::words(format!("{}, {place}.", components_in_words(on, off)));
                }
                self.set_values(&pins, "the components fit")
            }
            Source::Operator { resource } => Remedy::words(format!(
                "{} under spec.components of the Milvus resource {resource}.",
                components_in_words(on, off)
            )),
            Source::Manifests => Remedy::words(format!(
                "{} {}.",
                components_in_words(on, off),
                self.source_of_manifests()
            )),
        }
    }

    /// Turns active-standby of a coordinator on, or asks for one replica.
    #[must_use]
    pub fn standby(&self, component: Component, keys: &[&str]) -> Remedy {
        let path = component_switch(component)
            .map(|path| path.replace(".enabled", ".activeStandby.enabled"));
        let config = &self.upgrade.after.config;
        let settings: Vec<(&str, &str)> = keys
            .iter()
            .filter(|key| !config.is_true(key))
            .map(|key| (*key, "true"))
            .collect();
        if self.manager.is_chart()
            && let Some(path) = path
            && self.reads(&path)
            && !self.is_set(&path, "true")
            && !self.is_above_chart(keys)
        {
            let set = self.set_values(&[ChartPin::new(&path, "true")], "one of them is active");
            return set.and(&format!("Or run one replica of {component}."));
        }
        self.configure(&settings)
            .and(&format!("Or run one replica of {component}."))
    }
}
