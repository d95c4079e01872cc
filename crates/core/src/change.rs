//! What a rule judges: one release before and after a change, with the facts around it.

use std::sync::Arc;

use crate::{
    evidence::{Facts, SettledFact},
    manifest::object::ObjectRef,
    milvus::{
        Build, Component, Release, Version, catalogue::Catalogue, dependency::Dependency,
        dependency_use::DependencyUse, release::ComponentWorkload, shared_data::Shared,
    },
};

/// One change of one release.
#[derive(Clone, Debug)]
pub struct Upgrade<'a> {
    /// The running state; nothing for a new installation.
    pub before: Option<&'a Release>,
    /// What is wanted.
    pub after: &'a Release,
    /// What else is known.
    pub facts: &'a Facts,
    /// Data about Milvus releases.
    pub catalogue: &'a Catalogue,
    /// Whether this goes back to an earlier revision (`helm rollback`).
    pub is_rollback: bool,
    /// Whether nothing changes: the running state is checked as it is (`audit`).
    pub is_state: bool,
    /// The object that the change deletes by name, where it is a deletion.
    pub deletes: Option<&'a ObjectRef>,
    /// What of the change is judged.
    pub aspect: Aspect,
    /// Every readable version on both sides, lowest first: nearly every rule asks, and reading
    /// them takes every image apart.
    builds: (Vec<Build>, Vec<Build>),
}

/// What of a change is judged. Only a change as such is for all rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// The running state becomes the wanted one.
    Change,
    /// The release is removed; `after` holds only what stays of it.
    Removal,
    /// `before` is another release that keeps running, and shares this with `after`.
    Neighbor(Shared),
}

impl<'a> Upgrade<'a> {
    /// A change that is not a rollback and deletes nothing by name.
    #[must_use]
    pub fn new(
        before: Option<&'a Release>,
        after: &'a Release,
        facts: &'a Facts,
        catalogue: &'a Catalogue,
    ) -> Self {
        let placed = |release: &Release| {
            let mut builds = release.builds();
            if builds.iter().any(|build| build.nightly.is_some()) {
                builds = builds
                    .into_iter()
                    .map(|build| build.placed(catalogue))
                    .collect();
                builds.sort();
            }
            builds
        };
        let builds = (before.map(placed).unwrap_or_default(), placed(after));
        Self {
            before,
            after,
            facts,
            catalogue,
            is_rollback: false,
            is_state: false,
            deletes: None,
            aspect: Aspect::Change,
            builds,
        }
    }

    /// Every readable version that runs, lowest first.
    #[must_use]
    pub fn builds_before(&self) -> &[Build] {
        &self.builds.0
    }

    /// Every readable target version, lowest first.
    #[must_use]
    pub fn builds_after(&self) -> &[Build] {
        &self.builds.1
    }

    /// Both sides, where there is something before.
    #[must_use]
    pub fn both(&self) -> Option<(&'a Release, &'a Release)> {
        self.before.map(|before| (before, self.after))
    }

    /// Whether Milvus is configured for another system than this dependency, before and after: then
    /// it holds no data of Milvus.
    #[must_use]
    pub fn is_unused(&self, dependency: &Dependency) -> bool {
        let is_unused = |release: &Release| release.uses(dependency) == DependencyUse::Unused;
        self.before.is_some_and(is_unused) && is_unused(self.after)
    }

    /// The version to upgrade from: the lowest that runs, because that is the oldest that wrote
    /// data.
    #[must_use]
    pub fn from(&self) -> Option<Build> {
        self.builds.0.first().cloned()
    }

    /// The version to upgrade to: the highest that is wanted.
    #[must_use]
    pub fn to(&self) -> Option<Build> {
        self.builds.1.last().cloned()
    }

    /// The last version at which every component was available together; `None` if that
    /// was never seen.
    #[must_use]
    pub fn settled(&self) -> Option<&'a SettledFact> {
        let before = self.before?;
        self.facts.settled.iter().flatten().find(|fact| {
            fact.release == before.name
                && before
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| *namespace == fact.namespace)
        })
    }

    /// The same version, where an image runs now that does not tell its own: it is not known to be
    /// lower. `None` if the version of every running image is known.
    #[must_use]
    pub fn last_available(&self) -> Option<Build> {
        self.before
            .filter(|before| before.has_unknown_version())
            .and_then(|_| self.settled())
            .map(|fact| Build::of(fact.version))
    }

    /// Both versions, where they can be read and differ.
    #[must_use]
    pub fn versions(&self) -> Option<(Build, Build)> {
        Some((self.from()?, self.to()?)).filter(|(from, to)| from != to)
    }

    /// Workloads of the same component (and name, where a component has several) on both sides.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a ComponentWorkload, &'a ComponentWorkload)> {
        let before = self.before.map_or(&[][..], |release| &release.components);
        self.after.components.iter().filter_map(move |after| {
            let same = |other: &&ComponentWorkload| other.component == after.component;
            before
                .iter()
                .filter(same)
                .find(|other| other.workload.meta.object.name == after.workload.meta.object.name)
                .or_else(|| before.iter().find(same))
                .map(|before| (before, after))
        })
    }

    /// The pairs of which anything changes: a workload that stays is the same object on both sides,
    /// where one was made of the other. For rules that find differences only.
    pub fn changed_pairs(
        &self,
    ) -> impl Iterator<Item = (&'a ComponentWorkload, &'a ComponentWorkload)> {
        self.pairs()
            .filter(|(before, after)| !Arc::ptr_eq(&before.workload, &after.workload))
    }

    /// Dependencies on both sides by name and family, of which anything changes.
    pub fn changed_dependencies(&self) -> impl Iterator<Item = (&'a Dependency, &'a Dependency)> {
        let before = self.before.map_or(&[][..], |release| &release.dependencies);
        before.iter().filter_map(|old| {
            let (family, name) = (old.family, &old.workload.meta.object.name);
            let same =
                |new: &&Dependency| new.family == family && new.workload.meta.object.name == *name;
            let new = self.after.dependencies.iter().find(same)?;
            (!Arc::ptr_eq(&old.workload, &new.workload)).then_some((old, new))
        })
    }

    /// Components whose version changes, in the order in which they are in the release.
    #[must_use]
    pub fn moved(&self) -> Vec<Component> {
        let mut moved: Vec<Component> = self
            .changed_pairs()
            .filter(|(before, after)| before.version().build() != after.version().build())
            .map(|(_, after)| after.component)
            .collect();
        moved.dedup();
        moved
    }

    /// Whether the path table or the change itself goes to a lower `major.minor`.
    #[must_use]
    pub fn is_downgrade(&self) -> bool {
        match (self.builds.0.last(), self.builds.1.last()) {
            (Some(from), Some(to)) => to.version.line() < from.version.line(),
            _ => false,
        }
    }

    /// The version before without what a tag appends.
    #[must_use]
    pub fn from_version(&self) -> Option<Version> {
        self.from().map(|build| build.version)
    }

    /// The version after without what a tag appends.
    #[must_use]
    pub fn to_version(&self) -> Option<Version> {
        self.to().map(|build| build.version)
    }
}
