//! A component of Milvus with the workload that runs it: containers, image, version.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    build::Build,
    catalogue::Catalogue,
    component::Component,
    identify::{ContainerAt, IdentifiedBy, is_milvus_image, milvus_containers},
    image::ImageRef,
};
use crate::manifest::object::{Container, Workload};

/// Annotation by which an operator of Milvus says what an unreadable tag stands for: `2.4.5 for
/// IMAGE`.
pub const DECLARED_VERSION: &str = "guard.milvus.io/declared-version";

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
    /// The tag is none of Milvus, the annotation [`DECLARED_VERSION`] says it, for this very image.
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

    /// A workload as the place where a component runs, in any form: a workload that was
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

    pub(super) fn reference(&self) -> &str {
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
        let tag = (by != IdentifiedBy::Configuration)
            .then(|| Build::of_image(reference))
            .flatten();
        let is_milvus = is_milvus_image(reference);
        if let (Some(build), true) = (&tag, is_milvus) {
            return VersionRead::Tag(build.clone());
        }
        let image = ImageRef::parse(reference);
        let declared = self
            .workload
            .meta
            .annotation(DECLARED_VERSION)
            .and_then(|text| text.split_once(" for "))
            .filter(|(_, declared_for)| declared_for.trim() == image.to_string())
            .and_then(|(version, _)| version.trim().parse().ok());
        if let Some(declared) = declared {
            return VersionRead::Declared(declared);
        }
        // An image of another name may have its own numbering: only the number of a release of
        // Milvus is taken for one.
        tag.filter(|build| Catalogue::embedded().released(build.version).is_some())
            .map_or(VersionRead::Unknown, VersionRead::Tag)
    }

    /// Whether any pod is wanted.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.workload.wanted_replicas() != 0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{VersionRead, VersionRead::Unknown};
    use crate::rules::testing::release_of;

    fn tag(text: &str) -> VersionRead {
        VersionRead::Tag(text.parse().unwrap())
    }

    fn declared(text: &str) -> VersionRead {
        VersionRead::Declared(text.parse().unwrap())
    }

    #[rstest]
    #[case(
        "acme/vectordb:7.3.1",
        "2.5.27 for acme/vectordb:7.3.1",
        declared("2.5.27")
    )]
    #[case(
        "acme/vectordb:2.5.27",
        "2.4.24 for acme/vectordb:2.5.27",
        declared("2.4.24")
    )]
    #[case("acme/vectordb:7.4.0", "2.5.27 for acme/vectordb:7.3.1", Unknown)]
    #[case("acme/vectordb:1.0.0", "", Unknown)]
    #[case("acme/vectordb:2025.1.5", "", Unknown)]
    #[case("acme/vectordb:v2.5.27", "", tag("2.5.27"))]
    #[case("acme/vectordb:2.5.12-company3", "", tag("2.5.12"))]
    // The tag of an image of Milvus counts before a declaration.
    #[case(
        "milvusdb/milvus:v2.4.24",
        "2.5.27 for milvusdb/milvus:v2.4.24",
        tag("2.4.24")
    )]
    #[case(
        "acme/milvus-hardened:2.4.24",
        "2.5.27 for acme/milvus-hardened:2.4.24",
        tag("2.4.24")
    )]
    #[case("milvusdb/milvus:v2.9.1", "", tag("2.9.1"))]
    #[case(
        "milvusdb/milvus:latest",
        "2.5.27 for milvusdb/milvus:latest",
        declared("2.5.27")
    )]
    fn versions(#[case] image: &str, #[case] declares: &str, #[case] expected: VersionRead) {
        let release = release_of(&format!(
            "kind: Deployment\nmetadata:\n  name: a\n  annotations: {{guard.milvus.io/declared-version: \"{declares}\"}}\nspec:\n  template:\n    spec:\n      containers: [{{name: a, image: \"{image}\", args: [milvus, run, standalone]}}]\n"
        ));
        assert_eq!(release.components[0].version(), expected);
    }
}
