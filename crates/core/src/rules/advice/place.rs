//! Where a change is made: the Helm values, an Application, a `HelmRelease`, manifests.
//! Expressions of place that end a sentence.

use super::{Advice, wording::list_of};
use crate::milvus::{
    config::{Layer, Setting},
    dependency::Family,
    manager::Tool,
};

pub(super) fn named(kind: &str, name: Option<&str>) -> String {
    name.map_or_else(
        || format!("the Argo CD {kind}"),
        |name| format!("{kind} {name}"),
    )
}

impl Advice<'_, '_> {
    /// A value's path from the root of the chart that is installed.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        self.manager
            .values_key()
            .map_or_else(|| path.to_owned(), |key| format!("{key}.{path}"))
    }

    /// Where the values of the chart stand, as an expression of place: "in the Helm values".
    #[must_use]
    pub fn values_place(&self) -> String {
        let umbrella = self
            .manager
            .chart()
            .and_then(|chart| chart.umbrella.as_deref());
        let values = match (self.manager.alias(), umbrella) {
            (Some(_), Some(umbrella)) => {
                format!("in the Helm values of the parent chart {umbrella}")
            }
            (Some(_), None) => "in the Helm values of the parent chart".to_owned(),
            (None, _) => "in the Helm values".to_owned(),
        };
        match &self.manager.tool {
            Tool::ArgoCd { application } => {
                format!(
                    "{values}, in the source of {}",
                    named("Application", application.as_deref())
                )
            }
            Tool::FluxHelm { name } => format!("in spec.values of HelmRelease {name}"),
            Tool::FluxKustomize { name } => {
                format!("{values}, in the source of Kustomization {name}")
            }
            Tool::Applied => format!("{values} from which the manifests are rendered"),
            Tool::Terraform => format!("{values}, in the Terraform source"),
            Tool::Helm | Tool::Rendered | Tool::Kustomize | Tool::Unknown => values,
        }
    }

    /// Where manifests come from, as an expression of place.
    pub(super) fn source_of_manifests(&self) -> String {
        match &self.manager.tool {
            Tool::ArgoCd { application } => format!(
                "in the source of {}",
                named("Application", application.as_deref())
            ),
            Tool::FluxKustomize { name } => format!("in the source of Kustomization {name}"),
            Tool::FluxHelm { name } => format!("in the source of HelmRelease {name}"),
            Tool::Kustomize => "in the kustomize source".to_owned(),
            Tool::Terraform => "in the Terraform source".to_owned(),
            Tool::Helm | Tool::Rendered | Tool::Applied | Tool::Unknown => {
                "in the manifests".to_owned()
            }
        }
    }

    /// An object and where it is changed.
    pub(super) fn object_place(&self, object: &str) -> String {
        match &self.manager.tool {
            Tool::Helm | Tool::Rendered | Tool::Applied | Tool::Unknown => object.to_owned(),
            _ => format!("{object}, {}", self.source_of_manifests()),
        }
    }

    /// The object that holds a setting of the running state, as `Kind name`.
    pub(super) fn config_object(&self, setting: Option<Setting<'_>>) -> String {
        let before = self.before();
        if setting.is_some_and(|setting| setting.layer == Layer::Environment)
            && let Some(component) = before.components.first()
        {
            let object = &component.workload.meta.object;
            return format!("the environment of {} {}", object.kind, object.name);
        }
        let volumes = before
            .components
            .iter()
            .flat_map(|component| &component.workload.pod.volumes);
        let mut maps = volumes.flat_map(|volume| volume.source.config_maps());
        maps.next().map_or_else(
            || "the configuration of Milvus (milvus.yaml)".to_owned(),
            |name| format!("ConfigMap {name}"),
        )
    }

    /// The workloads of a dependency, as `Kind name`.
    pub(super) fn dependency_names(&self, family: Family) -> String {
        let names = self.before().dependencies_of(family).map(|dependency| {
            let object = &dependency.workload.meta.object;
            format!("{} {}", object.kind, object.name)
        });
        let names = list_of(names);
        if names.is_empty() {
            family.to_string()
        } else {
            names
        }
    }
}
