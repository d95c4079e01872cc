//! The release as a whole: its name and mode, volumes, version and chart.

use super::{Advice, place::named, remedy::Remedy, wording::list_of};
use crate::milvus::manager::{Source, Tool, Vendor};

impl Advice<'_, '_> {
    /// Takes a change that was made by hand over into the source of the release.
    #[must_use]
    pub fn take_over(&self) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                format!("Make the same change in the Milvus resource {resource}.")
            }
            Source::Chart(_) => format!(
                "Before the next upgrade, make the same change {}.",
                self.values_place()
            ),
            Source::Manifests => format!(
                "Before the next upgrade, make the same change {}.",
                self.source_of_manifests()
            ),
        })
    }

    /// Keeps names and mode of the release.
    #[must_use]
    pub fn keep_identity(&self) -> Remedy {
        let before = self.before();
        Remedy::words(match &self.manager.source {
            Source::Chart(chart) => {
                let name = format!("the Helm release name {}", before.name);
                let alias = chart
                    .alias
                    .as_ref()
                    .map(|alias| format!("the alias {alias}"));
                let paths = ["cluster.enabled", "nameOverride", "fullnameOverride"];
                let paths = paths
                    .into_iter()
                    .filter(|path| self.reads(path))
                    .map(|path| self.path(path));
                format!(
                    "Do not change {}.",
                    list_of([name].into_iter().chain(alias).chain(paths))
                )
            }
            Source::Operator { resource } => {
                format!("Do not change spec.mode and the name of the Milvus resource {resource}.")
            }
            Source::Manifests => {
                format!(
                    "Do not change the names and labels of the workloads, {}.",
                    self.source_of_manifests()
                )
            }
        })
    }

    /// Keeps the volumes of a workload.
    #[must_use]
    pub fn keep_volumes(&self, object: &str) -> Remedy {
        let rest = "If the data must move to another volume, copy it while Milvus is stopped.";
        Remedy::words(match &self.manager.source {
            Source::Chart(_) => {
                let of_milvus =
                    object.contains("standalone") && self.reads("standalone.persistence.enabled");
                let what = if of_milvus {
                    format!(
                        "{} and the claim",
                        self.path("standalone.persistence.enabled")
                    )
                } else {
                    "persistence and the claim".to_owned()
                };
                format!(
                    "Do not change {what} of {object}, {}. {rest}",
                    self.values_place()
                )
            }
            Source::Operator { resource } => {
                format!("Keep the volumes of {object} as in the Milvus resource {resource}. {rest}")
            }
            Source::Manifests => {
                format!("Keep the volumes of {}. {rest}", self.object_place(object))
            }
        })
    }

    /// Chooses another version of Milvus.
    #[must_use]
    pub fn set_version(&self, target: &str) -> Remedy {
        let field = match &self.manager.source {
            Source::Operator { resource } => {
                format!("spec.components.image of the Milvus resource {resource}")
            }
            Source::Chart(chart) => {
                let path = if chart.vendor == Vendor::Bitnami {
                    "milvus.image.tag"
                } else {
                    "image.all.tag"
                };
                if self.reads(path) {
                    format!("{} {}", self.path(path), self.values_place())
                } else {
                    format!("the image tag {}", self.values_place())
                }
            }
            Source::Manifests => format!("the images {}", self.source_of_manifests()),
        };
        Remedy::words(format!("Use {target} instead ({field})."))
    }

    /// Gives all components one image.
    #[must_use]
    pub fn one_version(&self) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => format!(
                "Set spec.components.image of the Milvus resource {resource}, and remove the images of single components from it."
            ),
            Source::Chart(chart) => {
                let path = if chart.vendor == Vendor::Bitnami {
                    "milvus.image.tag"
                } else {
                    "image.all.tag"
                };
                let path = if self.reads(path) {
                    self.path(path)
                } else {
                    "one tag for all".to_owned()
                };
                format!(
                    "Set {path} and remove the tags of single components, {}.",
                    self.values_place()
                )
            }
            Source::Manifests => format!(
                "Give all components the same image, {}.",
                self.source_of_manifests()
            ),
        })
    }

    /// Chooses another chart version.
    #[must_use]
    pub fn set_chart(&self, wanted: &str) -> Remedy {
        Remedy::words(match (self.manager.alias(), &self.manager.tool) {
            (Some(alias), _) => format!(
                "Use {wanted} as the version of the dependency {alias} in the parent chart."
            ),
            (None, Tool::ArgoCd { application }) => {
                format!(
                    "Use {wanted} as spec.source.targetRevision of {}.",
                    named("Application", application.as_deref())
                )
            }
            (None, Tool::FluxHelm { name }) => {
                format!("Use {wanted} as spec.chart.spec.version of HelmRelease {name}.")
            }
            (None, _) => format!("Use {wanted}."),
        })
    }
}
