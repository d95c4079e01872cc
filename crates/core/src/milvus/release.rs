//! One Milvus release of an input: its workloads, with which configuration, on which
//! dependencies.

use std::{collections::BTreeSet, sync::Arc};

use crate::manifest::{
    Node,
    object::{
        Autoscaler, Claim, Container, Meta, SourceKind, SourceRef, ValueFrom, VolumeSource,
        Workload,
    },
};

use super::{
    component::{Component, Coordinators, Topology},
    config::EffectiveConfig,
    dependency::{Dependency, Family},
    identify::{ContainerAt, IdentifiedBy, milvus_containers},
    image::{Build, ImageRef},
    manager::Manager,
    version::Version,
};

/// Annotation by which an operator of Milvus says what an unreadable tag stands for: `2.4.5 for
/// IMAGE`.
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

/// A component and the workload that runs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentWorkload {
    /// Which component.
    pub component: Component,
    /// Its workload.
    pub workload: Arc<Workload>,
    /// The containers that run the component, the surest first; never empty if the pod has
    /// containers.
    containers: Box<[(ContainerAt, IdentifiedBy)]>,
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

/// Annotation of a Deployment that the webhook paused because components must move in order: the
/// image that its pods run.
pub const HELD_FROM: &str = "guard.milvus.io/held-from";

/// The image that the pods run while a workload is held; `None` if it is not held.
#[must_use]
pub fn held_from(workload: &Workload) -> Option<&str> {
    workload
        .meta
        .annotation(HELD_FROM)
        .filter(|_| workload.paused)
}

impl ComponentWorkload {
    /// The image that the pods run while the workload is held; `None` if it is not held.
    #[must_use]
    pub fn held_from(&self) -> Option<&str> {
        held_from(&self.workload)
    }

    /// Gives this image to every container that has the image of the component.
    pub fn set_image(&mut self, image: &str) {
        let now = self.image().to_string();
        for container in &mut Arc::make_mut(&mut self.workload).pod.containers {
            if container.image == now {
                image.clone_into(&mut container.image);
            }
        }
    }

    /// A workload as the place where a component runs, whatever it looks like: a workload that was
    /// a component of Milvus stays one when its command, its image and its labels change.
    #[must_use]
    pub fn new(component: Component, workload: Arc<Workload>) -> Self {
        let found = milvus_containers(&workload);
        let own = found.iter().filter(|one| one.component == component);
        let mut containers: Vec<_> = own.map(|one| (one.at, one.by)).collect();
        if containers.is_empty() {
            containers.extend(found.iter().map(|one| (one.at, one.by)));
        }
        if containers.is_empty() && !workload.pod.containers.is_empty() {
            let named = workload
                .pod
                .containers
                .iter()
                .position(|container| container.name == component.name());
            containers.push((ContainerAt::Main(named.unwrap_or(0)), IdentifiedBy::Image));
        }
        containers.sort_by_key(|(at, by)| (*by, *at));
        Self {
            component,
            workload,
            containers: containers.into(),
        }
    }

    /// Every component that a workload runs; none if it does not run Milvus.
    #[must_use]
    pub fn all(workload: &Arc<Workload>) -> Vec<Self> {
        let components: BTreeSet<Component> = milvus_containers(workload)
            .into_iter()
            .map(|one| one.component)
            .collect();
        components
            .into_iter()
            .map(|component| Self::new(component, Arc::clone(workload)))
            .collect()
    }

    /// Where the containers that run the component stand.
    pub fn containers(&self) -> impl Iterator<Item = ContainerAt> {
        self.containers.iter().map(|(at, _)| *at)
    }

    /// The containers that run the component.
    pub fn milvus(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter_map(|(at, _)| at.of(&self.workload.pod))
    }

    /// The container that runs the component; `None` if the pod has no containers.
    #[must_use]
    pub fn main(&self) -> Option<&Container> {
        self.milvus().next()
    }

    /// The image of the container that runs the component.
    #[must_use]
    pub fn image(&self) -> ImageRef {
        ImageRef::parse(self.reference())
    }

    fn reference(&self) -> &str {
        self.main().map_or("", |container| &container.image)
    }

    /// The version of Milvus that the workload runs.
    #[must_use]
    pub fn version(&self) -> VersionRead {
        self.containers
            .first()
            .map_or(VersionRead::Unknown, |first| self.version_of(*first))
    }

    /// The versions of all containers that run the component; several if a pod runs Milvus more
    /// than once.
    pub fn versions(&self) -> impl Iterator<Item = VersionRead> {
        self.containers
            .iter()
            .map(|container| self.version_of(*container))
    }

    fn version_of(&self, (at, by): (ContainerAt, IdentifiedBy)) -> VersionRead {
        let Some(reference) = at
            .of(&self.workload.pod)
            .map(|container| container.image.as_str())
        else {
            return VersionRead::Unknown;
        };
        // The tag of a wrapper image counts the wrapper's versions.
        if by != IdentifiedBy::Configuration
            && let Some(build) = Build::of_image(reference)
        {
            return VersionRead::Tag(build);
        }
        let image = ImageRef::parse(reference);
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
    /// The name of the release. Several Milvus of one umbrella chart are told apart by their
    /// aliases: `my-release/vectors`.
    #[must_use]
    pub fn title(&self) -> String {
        match self.manager.alias().filter(|alias| *alias != "milvus") {
            Some(alias) => format!("{}/{alias}", self.name),
            None => self.name.clone(),
        }
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

    /// Every readable version, lowest first.
    #[must_use]
    pub fn builds(&self) -> Vec<Build> {
        let mut builds: Vec<Build> = Vec::new();
        // Most components run one image.
        let mut read = "";
        for component in &self.components {
            let reference = component.reference();
            if !read.is_empty() && reference == read && component.containers.len() == 1 {
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
    let pod = &workload.pod;
    let mounts = pod.volumes.iter().any(|volume| match &volume.source {
        VolumeSource::Files(files) => files.iter().any(|one| one.source == *source),
        _ => false,
    });
    let containers = || pod.containers.iter().chain(&pod.init_containers);
    let imports = || {
        containers().any(|container| {
            container
                .env_from
                .iter()
                .any(|entry| entry.source == *source)
        })
    };
    let keys = || {
        containers().any(|container| {
            container
                .env
                .references()
                .any(|reference| matches!(reference, ValueFrom::Key(known, _) if known == source))
        })
    };
    mounts || imports() || keys()
}
