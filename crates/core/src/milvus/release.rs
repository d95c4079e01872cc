//! One Milvus release of an input: its workloads, with which configuration, on which
//! dependencies.

use super::{
    build::Build,
    component::{Component, Coordinators, Topology},
    config::EffectiveConfig,
    dependency::{Dependency, Family},
    image::ImageRef,
    manager::Manager,
};
use crate::manifest::{
    Node,
    object::{Autoscaler, Claim, Meta, PersistentVolume, SourceKind, SourceRef, Workload},
};
use std::{collections::BTreeSet, sync::Arc};

pub use super::{
    chart_ref::ChartRef,
    component_workload::{ComponentWorkload, DECLARED_VERSION, HELD_FROM, VersionRead, held_from},
};

/// One Milvus release.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Name of the Helm release, or of the operator's object.
    pub name: String,
    /// Namespace, where the input names one.
    pub namespace: Option<String>,
    /// What the workloads' names begin with; volumes and Services are named after it too.
    pub fullname: String,
    /// Value of `app.kubernetes.io/name`: `milvus` unless overridden.
    pub app_name: String,
    /// Who manages the release.
    pub manager: Manager,
    /// Chart, where the labels name one.
    pub chart: Option<ChartRef>,
    /// Components in a fixed order, each with its workload.
    pub components: Vec<ComponentWorkload>,
    /// Effective configuration.
    pub config: EffectiveConfig,
    /// Workloads of etcd, object storage and message queue in the same release.
    pub dependencies: Vec<Dependency>,
    /// Volume claims that stand on their own in the release.
    pub claims: Vec<Claim>,
    /// Persistent volumes with data of the release, as far as the input holds them.
    pub volumes: Vec<BoundVolume>,
    /// Services in the same namespace of the input.
    pub services: Arc<[Meta]>,
    /// Autoscalers of the components.
    pub autoscalers: Vec<Autoscaler>,
    /// What Helm's storage adds, where it was read.
    pub helm: Option<HelmRevision>,
}

/// A persistent volume and the claim that is bound to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundVolume {
    /// The volume.
    pub volume: PersistentVolume,
    /// Namespace of the claim, where it is written.
    pub namespace: Option<String>,
    /// Name of the claim.
    pub claim: String,
}

/// What Helm stored about a revision. Values are for rules only and never leave the process.
#[derive(Clone, Debug, PartialEq)]
pub struct HelmRevision {
    /// Revision number.
    pub revision: u64,
    /// `deployed`, `pending-upgrade` ...
    pub status: String,
    /// What the user set (`--set`, `-f`); never printed.
    pub user_values: Node,
    /// Values among them that the chart of this revision does not read; `None` if the record does
    /// not tell.
    pub unread_values: Option<Vec<UnreadValue>>,
}

/// A value that the user set and that the chart does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadValue {
    /// Dotted path; the value itself is not kept.
    pub path: String,
    /// The path that was most likely meant.
    pub nearest: Option<String>,
}

impl Release {
    /// The name of the release. Several Milvus of one umbrella chart are told apart by their
    /// aliases: `my-release/vectors`.
    #[must_use]
    pub fn title(&self) -> String {
        match self.manager.alias().filter(|alias| *alias != "milvus") {
            Some(alias) => format!("{}/{alias}", self.name),
            None => self.name.clone(),
        }
    }

    /// Its workloads: those of components, then [`Self::separate_dependencies`].
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        let components = self.components.iter().map(|one| &one.workload);
        components.chain(self.separate_dependencies())
    }

    /// The workloads of dependencies that do not run in a pod of Milvus.
    pub fn separate_dependencies(&self) -> impl Iterator<Item = &Arc<Workload>> {
        let dependencies = self.dependencies.iter().map(|one| &one.workload);
        dependencies.filter(|workload| {
            let mut components = self.components.iter().map(|one| &one.workload.meta.object);
            components.all(|object| {
                object.kind != workload.meta.object.kind || object.name != workload.meta.object.name
            })
        })
    }

    /// The components that are held.
    pub fn held(&self) -> impl Iterator<Item = &ComponentWorkload> {
        self.components
            .iter()
            .filter(|one| one.held_from().is_some())
    }

    /// The name by which commands and runs know the release: Helm's mark on its workloads, else its
    /// own name.
    #[must_use]
    pub fn helm_name(&self) -> &str {
        let mut components = self.components.iter();
        components
            .find_map(|one| one.workload.meta.annotation("meta.helm.sh/release-name"))
            .unwrap_or(&self.name)
    }

    /// The title with the namespace before it: `namespace/my-release/vectors`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.title()),
            None => self.title(),
        }
    }

    /// Brings the components into their fixed order.
    pub(super) fn sort(&mut self) {
        let key = |one: &ComponentWorkload| (one.component, one.workload.meta.object.name.clone());
        self.components.sort_by_key(key);
    }

    /// The workloads of one component (several where resource groups have their own).
    pub fn of(&self, component: Component) -> impl Iterator<Item = &ComponentWorkload> {
        self.components
            .iter()
            .filter(move |workload| workload.component == component)
    }

    /// Whether the component has a workload, running or not.
    #[must_use]
    pub fn has(&self, component: Component) -> bool {
        self.of(component).next().is_some()
    }

    /// Whether the component has a workload that wants pods.
    #[must_use]
    pub fn runs(&self, component: Component) -> bool {
        self.of(component).any(ComponentWorkload::is_running)
    }

    /// Standalone or cluster, decided by the components (not by values or labels).
    #[must_use]
    pub fn topology(&self) -> Topology {
        if self.has(Component::Standalone) {
            Topology::Standalone
        } else {
            Topology::Cluster
        }
    }

    /// The layout of the coordinators that want pods; where none does, of those that exist.
    #[must_use]
    pub fn coordinators(&self) -> Coordinators {
        let layout = |test: fn(&ComponentWorkload) -> bool| {
            let any = |kind: fn(Component) -> bool| {
                self.components
                    .iter()
                    .any(|workload| kind(workload.component) && test(workload))
            };
            (
                any(Component::is_separate_coordinator),
                any(|component| component == Component::MixCoord),
            )
        };
        match layout(ComponentWorkload::is_running) {
            (false, false) => match layout(|_| true) {
                (true, false) => Coordinators::Separate,
                (false, true) => Coordinators::Mixed,
                (true, true) => Coordinators::Both,
                (false, false) => Coordinators::None,
            },
            (true, false) => Coordinators::Separate,
            (false, true) => Coordinators::Mixed,
            (true, true) => Coordinators::Both,
        }
    }

    /// Whether a component reads this `ConfigMap` or `Secret`, as files or as variables.
    #[must_use]
    pub fn reads(&self, source: &SourceRef) -> bool {
        self.components
            .iter()
            .any(|component| refers_to(&component.workload, source))
    }

    /// Whether a component reads the `ConfigMap` of this name.
    #[must_use]
    pub fn mounts_config(&self, name: &str) -> bool {
        self.reads(&SourceRef {
            kind: SourceKind::ConfigMap,
            name: name.to_owned(),
        })
    }

    /// Whether every component is scaled to zero.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        !self.components.is_empty() && !self.components.iter().any(ComponentWorkload::is_running)
    }

    /// Whether a coordinator, or a standalone, which contains them, is wanted.
    #[must_use]
    pub fn runs_coordinators(&self) -> bool {
        let mut components = self.components.iter();
        components.any(|one| one.component.coordinates() && one.is_running())
    }

    /// Every readable version, lowest first.
    #[must_use]
    pub fn builds(&self) -> Vec<Build> {
        let mut builds: Vec<Build> = Vec::new();
        // Most components run one image.
        let mut read = "";
        for component in &self.components {
            let reference = component.reference();
            if !read.is_empty() && reference == read && component.containers().count() == 1 {
                continue;
            }
            for version in component.versions() {
                if matches!(version, VersionRead::Tag(_)) {
                    read = reference;
                }
                if let Some(build) = version.into_build()
                    && !builds.contains(&build)
                {
                    builds.push(build);
                }
            }
        }
        builds.sort();
        builds
    }

    /// The lowest version that any component has.
    #[must_use]
    pub fn lowest(&self) -> Option<Build> {
        self.builds().into_iter().next()
    }

    /// The highest version that any component has.
    #[must_use]
    pub fn highest(&self) -> Option<Build> {
        self.builds().pop()
    }

    /// The release as it runs if its input shows every mount: a container without any reads the
    /// files of its image. `None` if that is the release as it is.
    #[must_use]
    pub fn with_shown_mounts_only(&self) -> Option<Self> {
        self.config.has_assumed_files().then(|| Self {
            config: self.config.without_assumed_files(),
            ..self.clone()
        })
    }

    /// Whether the input shows what containers of Milvus mount.
    #[must_use]
    pub fn shows_mounts(&self) -> bool {
        let mut containers = self.components.iter().flat_map(ComponentWorkload::milvus);
        containers.any(|container| !container.mounts.is_empty())
    }

    /// Whether some component has a version that cannot be read.
    #[must_use]
    pub fn has_unknown_version(&self) -> bool {
        self.components.iter().any(|component| {
            component
                .versions()
                .any(|version| version == VersionRead::Unknown)
        })
    }

    /// The workloads of a family of dependencies.
    pub fn dependencies_of(&self, family: Family) -> impl Iterator<Item = &Dependency> {
        self.dependencies
            .iter()
            .filter(move |dependency| dependency.family == family)
    }

    /// The families of dependencies that the release brings.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.dependencies
            .iter()
            .map(|dependency| dependency.family)
            .collect()
    }

    /// Whether milvus-operator owns the workloads.
    #[must_use]
    pub fn is_operated(&self) -> bool {
        self.manager.is_operator()
    }

    /// The same release with every Milvus image at another version; nothing else moves.
    #[must_use]
    pub fn at_version(&self, build: &Build) -> Self {
        let mut moved = self.clone();
        for component in &mut moved.components {
            let old: BTreeSet<String> = component
                .milvus()
                .map(|container| container.image.clone())
                .collect();
            let workload = Arc::make_mut(&mut component.workload);
            workload.status = None;
            let pod = &mut workload.pod;
            for container in pod.containers.iter_mut().chain(&mut pod.init_containers) {
                if old.contains(&container.image) {
                    container.image = ImageRef::parse(&container.image).at(build).to_string();
                }
            }
        }
        moved.helm = None;
        moved
    }
}

/// Whether the pods of a workload refer to a `ConfigMap` or a `Secret`.
#[must_use]
pub fn refers_to(workload: &Workload, source: &SourceRef) -> bool {
    workload.pod.sources().any(|known| known == source)
}
