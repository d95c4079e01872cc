//! One Milvus release as it stands in an input: what runs, with which configuration, on which dependencies.

use std::{collections::BTreeSet, sync::Arc};

use crate::manifest::{
    Node,
    object::{Autoscaler, Claim, Meta, VolumeSource, Workload},
};

use super::{
    component::{Component, Coordinators, Topology},
    config::EffectiveConfig,
    dependency::{Dependency, Family},
    image::{Build, ImageRef},
    manager::Manager,
    version::Version,
};

/// Annotation by which an operator of Milvus says what an unreadable tag stands for: `2.4.5 for IMAGE`.
pub const DECLARED_VERSION: &str = "guard.milvus.io/declared-version";

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
    /// Services in the same namespace of the input.
    pub services: Arc<[Meta]>,
    /// Autoscalers of the components.
    pub autoscalers: Vec<Autoscaler>,
    /// What Helm's storage adds, where it was read.
    pub helm: Option<HelmRevision>,
}

/// A chart and its version, as the label `helm.sh/chart` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartRef {
    /// Name (`milvus`, or an alias).
    pub name: String,
    /// Version.
    pub version: Version,
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
}

/// A component and the workload that runs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentWorkload {
    /// Which component.
    pub component: Component,
    /// Its workload.
    pub workload: Arc<Workload>,
}

/// How the version of a workload is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRead {
    /// The tag says it.
    Tag(Build),
    /// The tag does not, the annotation [`DECLARED_VERSION`] does, for this very image.
    Declared(Build),
    /// Nothing says it.
    Unknown,
}

impl VersionRead {
    /// The build, however it is known.
    #[must_use]
    pub fn build(&self) -> Option<&Build> {
        match self {
            Self::Tag(build) | Self::Declared(build) => Some(build),
            Self::Unknown => None,
        }
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_build(self) -> Option<Build> {
        match self {
            Self::Tag(build) | Self::Declared(build) => Some(build),
            Self::Unknown => None,
        }
    }
}

impl ComponentWorkload {
    /// The image of the Milvus container: the one named after the component, else the first.
    #[must_use]
    pub fn image(&self) -> ImageRef {
        ImageRef::parse(self.reference())
    }

    fn reference(&self) -> &str {
        let containers = &self.workload.pod.containers;
        let own = containers.iter().find(|container| container.name == self.component.name());
        own.or_else(|| containers.first()).map_or("", |container| &container.image)
    }

    /// The version of Milvus that the workload runs.
    #[must_use]
    pub fn version(&self) -> VersionRead {
        if let Some(build) = Build::of_image(self.reference()) {
            return VersionRead::Tag(build);
        }
        let image = self.image();
        let declared = self
            .workload
            .meta
            .annotation(DECLARED_VERSION)
            .and_then(|text| text.split_once(" for "))
            .filter(|(_, declared_for)| declared_for.trim() == image.to_string())
            .and_then(|(version, _)| version.trim().parse().ok());
        declared.map_or(VersionRead::Unknown, VersionRead::Declared)
    }

    /// Whether any pod is wanted.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.workload.wanted_replicas() != 0
    }
}

impl Release {
    /// The name of the release. Several Milvus of one umbrella chart are told apart by their aliases: `my-release/vectors`.
    #[must_use]
    pub fn title(&self) -> String {
        match self.manager.alias().filter(|alias| *alias != "milvus") {
            Some(alias) => format!("{}/{alias}", self.name),
            None => self.name.clone(),
        }
    }

    /// The title with the namespace before it: `namespace/my-release/vectors`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.title()),
            None => self.title(),
        }
    }

    /// The workloads of one component (several where resource groups have their own).
    pub fn of(&self, component: Component) -> impl Iterator<Item = &ComponentWorkload> {
        self.components.iter().filter(move |workload| workload.component == component)
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
        if self.has(Component::Standalone) { Topology::Standalone } else { Topology::Cluster }
    }

    /// The layout of the coordinators that want pods; where none does, of those that exist.
    #[must_use]
    pub fn coordinators(&self) -> Coordinators {
        let layout = |test: fn(&ComponentWorkload) -> bool| {
            let any =
                |kind: fn(Component) -> bool| self.components.iter().any(|workload| kind(workload.component) && test(workload));
            (any(Component::is_separate_coordinator), any(|component| component == Component::MixCoord))
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

    /// Whether a component mounts this `ConfigMap`.
    #[must_use]
    pub fn mounts_config(&self, name: &str) -> bool {
        self.components
            .iter()
            .flat_map(|component| &component.workload.pod.volumes)
            .any(|volume| matches!(&volume.source, VolumeSource::ConfigMap(mounted) if mounted == name))
    }

    /// Whether every component is scaled to zero.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        !self.components.is_empty() && !self.components.iter().any(ComponentWorkload::is_running)
    }

    /// Every readable version, lowest first.
    #[must_use]
    pub fn builds(&self) -> Vec<Build> {
        let mut builds: Vec<Build> = Vec::new();
        // Most components run one image.
        let mut read = "";
        for component in &self.components {
            let reference = component.reference();
            if !read.is_empty() && reference == read {
                continue;
            }
            let version = component.version();
            if matches!(version, VersionRead::Tag(_)) {
                read = reference;
            }
            if let Some(build) = version.into_build()
                && !builds.contains(&build)
            {
                builds.push(build);
            }
        }
        builds.sort_by_key(|build| (build.version, build.prerelease.is_none(), build.is_hotfix()));
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

    /// Whether some component has a version that cannot be read.
    #[must_use]
    pub fn has_unknown_version(&self) -> bool {
        self.components.iter().any(|component| component.version() == VersionRead::Unknown)
    }

    /// The workloads of a family of dependencies.
    pub fn dependencies_of(&self, family: Family) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(move |dependency| dependency.family == family)
    }

    /// The families of dependencies that the release brings.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.dependencies.iter().map(|dependency| dependency.family).collect()
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
            let image = component.image();
            let target = image.at(build).to_string();
            let old = image.to_string();
            let workload = Arc::make_mut(&mut component.workload);
            workload.status = None;
            let pod = &mut workload.pod;
            for container in pod.containers.iter_mut().chain(&mut pod.init_containers) {
                if container.image == old {
                    container.image.clone_from(&target);
                }
            }
        }
        moved.helm = None;
        moved
    }
}
