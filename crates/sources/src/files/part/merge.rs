//! Merges a part into the running state, and keeps dependencies of another owner.

use std::collections::BTreeSet;

use milvus_guard_core::{
    manifest::{
        Object,
        object::{Meta, ObjectRef},
    },
    milvus::{Release, Snapshot, snapshot::Builder},
};

use super::{
    extent::Extent,
    sides::{Sides, components, owned, reads},
};

impl Sides<'_> {
    /// Dependencies of a running release that have another owner: a change of the release does not
    /// remove them.
    pub(super) fn staying(&self, running: Option<&Release>) -> Vec<Object> {
        let Some(running) = running else {
            return Vec::new();
        };
        let Some(owner) = components(running).find_map(|workload| owner(&workload.meta)) else {
            return Vec::new();
        };
        let others = running
            .dependencies
            .iter()
            .map(|dependency| &dependency.workload)
            .filter(|workload| {
                self::owner(&workload.meta).as_ref() != Some(&owner)
                    && !self.holds(&workload.meta.object)
            });
        others
            .map(|workload| Object::Workload(workload.clone()))
            .collect()
    }

    /// A remark about a release that is assumed to be whole, although objects are missing.
    pub(super) fn note_whole(&self, running: &Release, extent: &Extent) -> Option<String> {
        let because = extent.because.as_ref()?;
        let missing: Vec<String> = self
            .missing(running)
            .map(|workload| workload.meta.object.to_string())
            .collect();
        let more = missing.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let named = missing.get(..missing.len().min(MAX_NAMED))?.join(", ");
        Some(format!(
            "after is taken as the whole release, because {because}; {named}{more} is not in it \
             and counts as removed (if it is one of several files for kubectl apply: --part)"
        ))
    }

    /// The running state of the releases that the input changes, with its objects merged in and
    /// without the removed ones. Also the number of unchanged objects.
    pub(super) fn merged(&self, gone: &BTreeSet<&ObjectRef>) -> (Snapshot, usize) {
        let kept: Vec<&Object> = self
            .before
            .content
            .objects
            .iter()
            .filter(|object| {
                let object = &object.meta().object;
                !gone.contains(object) && !self.holds(object)
            })
            .collect();
        let namespace = self.namespace();
        let placed = |object: &Object| {
            let mut object = object.clone();
            if object.meta().object.namespace.is_none() && namespace.is_some() {
                object.meta_mut().object.namespace.clone_from(&namespace);
            }
            object
        };
        let mut builder = Builder::default();
        for object in self.after.objects.iter().chain(kept.iter().copied()) {
            builder.add(placed(object));
        }
        self.before.content.describe_to(&mut builder);
        self.after.describe_to(&mut builder);
        let mut snapshot = builder.build();
        let is_touched = |release: &Release| {
            owned(release).any(|object| self.holds(object))
                || self.after.metas().any(|meta| reads(release, &meta.object))
        };
        snapshot.releases.retain(is_touched);
        (snapshot, kept.len())
    }

    /// The namespace of objects that name none: the only namespace in both inputs.
    fn namespace(&self) -> Option<String> {
        let releases = self
            .before
            .snapshot
            .releases
            .iter()
            .filter_map(|release| release.namespace.as_deref());
        let objects = self
            .after
            .metas()
            .filter_map(|meta| meta.object.namespace.as_deref());
        let of_release: BTreeSet<&str> = releases.collect();
        let all: BTreeSet<&str> = if of_release.is_empty() {
            objects.collect()
        } else {
            of_release
        };
        let only = all.first().filter(|_| all.len() == 1)?;
        Some((*only).to_owned())
    }
}

/// The owner of an object: a Helm release, or an object of Argo CD or Flux.
pub(super) fn owner(meta: &Meta) -> Option<String> {
    let helm = || {
        let name = meta.annotation("meta.helm.sh/release-name")?;
        Some(format!(
            "helm {}/{name}",
            meta.annotation("meta.helm.sh/release-namespace")
                .unwrap_or_default()
        ))
    };
    let argo = || {
        let app = meta
            .annotation("argocd.argoproj.io/tracking-id")?
            .split(':')
            .next()?;
        Some(format!("argocd {app}"))
    };
    let label = |key: &str| Some(format!("{key} {}", meta.label(key)?));
    helm()
        .or_else(argo)
        .or_else(|| label("argocd.argoproj.io/instance"))
        .or_else(|| label("kustomize.toolkit.fluxcd.io/name"))
        .or_else(|| label("helm.toolkit.fluxcd.io/name"))
}

/// Objects that a remark names.
const MAX_NAMED: usize = 5;
