//! What rules read of a Kubernetes object. Everything else of the document is dropped at once.
//!
//! | module | holds |
//! |---|---|
//! | `meta` | identity, origin, labels, annotations |
//! | `workload` | replicas, strategy, selector, status; where the template of pods is |
//! | `pod`, `variables`, `volume` | what pods run: containers, variables, volumes |
//! | `config_map` | `ConfigMap`s and Secrets, and references to them |
//! | `claim` | claims and templates of claims |
//! | `persistent_volume` | where the files of a claim are |
//! | `controllers` | autoscalers, Argo CD, Flux |

mod claim;
mod config_map;
mod controllers;
mod meta;
mod persistent_volume;
mod pod;
mod variables;
mod volume;
mod workload;

use std::sync::Arc;

use workload::{has_containers, template};

use crate::manifest::view::DocumentValue;

pub use claim::{Claim, ClaimTemplate};
pub use config_map::{
    CONFIG_KEYS, ConfigFile, ConfigMap, Fingerprint, NoText, SourceKind, SourceRef,
};
pub use controllers::{Autoscaler, Deployer, DeployerTool};
pub use meta::{Labels, Meta, ObjectRef, Origin, is_kept_annotation};
pub use persistent_volume::PersistentVolume;
pub use pod::{Amounts, Container, EnvFrom, Mount, PodTemplate, Probes, Resources};
pub use variables::{ValueFrom, Variables};
pub use volume::{Files, Volume, VolumeSource, normal_path};
pub use workload::{Retention, Stateful, Status, Workload};

/// An object that may matter to a Milvus release. What is large is shared: the same workload is
/// in the picture of the running state and in those of what would be.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Anything with a pod template, or a bare Pod.
    Workload(Arc<Workload>),
    /// A `ConfigMap` or a `Secret`: Milvus may read it as files or as variables.
    Config(Arc<ConfigMap>),
    /// A `PersistentVolumeClaim`.
    Claim(Claim),
    /// A `PersistentVolume`.
    Volume(PersistentVolume),
    /// A `Service`.
    Service(Meta),
    /// A `HorizontalPodAutoscaler` or a KEDA `ScaledObject`.
    Autoscaler(Autoscaler),
    /// An Argo CD `Application` or a Flux `HelmRelease`.
    Deployer(Deployer),
    /// Anything else, known by name only.
    Other(Meta),
}

impl Object {
    /// Reads one object; `None` if the document is not a Kubernetes object.
    #[must_use]
    pub fn read<'t>(
        node: impl DocumentValue<'t>,
        origin: &Origin,
        default_namespace: Option<&str>,
    ) -> Option<Self> {
        let kind = node.text_at(&["kind"])?;
        let api = node.text_at(&["apiVersion"]).unwrap_or_default();
        let meta = Meta::read(node, &kind, origin, default_namespace)?;
        Some(match &*kind {
            "Deployment" | "StatefulSet" => {
                Self::Workload(Arc::new(Workload::read(node, meta, template(node, &kind))))
            }
            "ConfigMap" | "Secret" => match ConfigMap::read(node, meta) {
                Ok(config) => Self::Config(Arc::new(config)),
                Err(meta) => Self::Other(*meta),
            },
            "PersistentVolumeClaim" => Self::Claim(Claim::read(node, meta)),
            "PersistentVolume" => Self::Volume(PersistentVolume::read(node, meta)),
            "Service" => Self::Service(meta),
            "HorizontalPodAutoscaler" | "ScaledObject" => {
                Self::Autoscaler(Autoscaler::read(node, meta))
            }
            "Application" if api.starts_with("argoproj.io/") => {
                Self::Deployer(Deployer::argo(node, meta))
            }
            "HelmRelease" if api.starts_with("helm.toolkit.fluxcd.io/") => {
                Self::Deployer(Deployer::flux(node, meta))
            }
            _ => match template(node, &kind) {
                Some(pod) if has_containers(pod) => {
                    Self::Workload(Arc::new(Workload::read(node, meta, Some(pod))))
                }
                _ => Self::Other(meta),
            },
        })
    }

    /// The metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Workload(workload) => &workload.meta,
            Self::Config(config) => &config.meta,
            Self::Claim(claim) => &claim.meta,
            Self::Volume(volume) => &volume.meta,
            Self::Autoscaler(autoscaler) => &autoscaler.meta,
            Self::Deployer(deployer) => &deployer.meta,
            Self::Service(meta) | Self::Other(meta) => meta,
        }
    }

    /// The metadata, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Workload(workload) => &mut Arc::make_mut(workload).meta,
            Self::Config(config) => &mut Arc::make_mut(config).meta,
            Self::Claim(claim) => &mut claim.meta,
            Self::Volume(volume) => &mut volume.meta,
            Self::Autoscaler(autoscaler) => &mut autoscaler.meta,
            Self::Deployer(deployer) => &mut deployer.meta,
            Self::Service(meta) | Self::Other(meta) => meta,
        }
    }
}
