//! Compares the objects of both inputs.

use std::collections::{BTreeSet, HashMap};

use milvus_guard_core::{
    manifest::object::{ObjectRef, SourceRef, Workload},
    milvus::{Release, Snapshot},
};

use crate::files::{Loaded, objects::Content, patch::is_same};

/// Both inputs.
pub(super) struct Sides<'a> {
    pub(super) before: &'a Loaded,
    pub(super) after: &'a Content,
    pub(super) patches: &'a BTreeSet<ObjectRef>,
    pub(super) known: Index<'a>,
    pub(super) wanted: Index<'a>,
}

/// The objects of an input by kind and name, each with its namespaces.
pub(super) struct Index<'a>(HashMap<(&'a str, &'a str), Vec<Option<&'a str>>>);

impl<'a> Index<'a> {
    pub(super) fn of(content: &'a Content) -> Self {
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for ObjectRef {
            kind,
            name,
            namespace,
        } in content.metas().map(|meta| &meta.object)
        {
            index
                .entry((&**kind, &**name))
                .or_default()
                .push(namespace.as_deref());
        }
        Self(index)
    }

    /// Whether the index has the object; a missing namespace matches any.
    fn holds(&self, object: &ObjectRef) -> bool {
        let Some(namespaces) = self.0.get(&(&*object.kind, &*object.name)) else {
            return false;
        };
        namespaces
            .iter()
            .any(|namespace| match (namespace, &object.namespace) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            })
    }
}

impl Sides<'_> {
    pub(super) fn holds(&self, object: &ObjectRef) -> bool {
        self.wanted.holds(object)
    }

    pub(super) fn was(&self, object: &ObjectRef) -> bool {
        self.known.holds(object)
    }

    /// The running release of a release in the input: one with a common workload, else one of the
    /// same name, else the only one if both sides have one release.
    pub(super) fn running(&self, release: &Release, alone: &Snapshot) -> Option<&Release> {
        let all = &self.before.snapshot.releases;
        let shares = |running: &&Release| {
            components(running).any(|one| {
                components(release).any(|other| is_same(&one.meta.object, &other.meta.object))
            })
        };
        let is_named = |running: &&Release| {
            running.name == release.name
                && running.app_name == release.app_name
                && (running.namespace.is_none()
                    || release.namespace.is_none()
                    || running.namespace == release.namespace)
        };
        let only = || match (&all[..], &alone.releases[..]) {
            ([only], [_]) => Some(only),
            _ => None,
        };
        all.iter()
            .find(shares)
            .or_else(|| all.iter().find(is_named))
            .or_else(only)
    }

    /// The workloads of a running release that the input lacks.
    pub(super) fn missing<'r>(
        &'r self,
        running: &'r Release,
    ) -> impl Iterator<Item = &'r Workload> {
        workloads(running).filter(|workload| !self.holds(&workload.meta.object))
    }
}

pub(super) fn components(release: &Release) -> impl Iterator<Item = &Workload> {
    release
        .components
        .iter()
        .map(|component| &*component.workload)
}

pub(super) fn workloads(release: &Release) -> impl Iterator<Item = &Workload> {
    components(release).chain(
        release
            .dependencies
            .iter()
            .map(|dependency| &*dependency.workload),
    )
}

pub(super) fn owned(release: &Release) -> impl Iterator<Item = &ObjectRef> {
    workloads(release)
        .map(|workload| &workload.meta.object)
        .chain(release.claims.iter().map(|claim| &claim.meta.object))
        .chain(
            release
                .autoscalers
                .iter()
                .map(|autoscaler| &autoscaler.meta.object),
        )
}

/// Whether a release reads an object as files or as variables.
pub(super) fn reads(release: &Release, object: &ObjectRef) -> bool {
    SourceRef::of(object).is_some_and(|source| release.reads(&source))
}
