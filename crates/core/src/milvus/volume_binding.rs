//! Which persistent volumes are behind the claims of a release.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::object::{Claim, Container, PersistentVolume, Workload};

use super::{
    configured::same_namespace,
    held_data::{Held, held, held_by},
    release::{BoundVolume, Release},
    volume::DataVolume,
};

/// The volumes with their claims, as far as the input tells: the volume names the claim, the claim
/// names the volume, or they are the only ones of their storage class. Of several volumes of a
/// claim the first counts.
pub(super) fn bound(volumes: Vec<PersistentVolume>, claims: &[Claim]) -> Vec<BoundVolume> {
    if volumes.is_empty() {
        return Vec::new();
    }
    let free = volumes.iter().filter(|volume| volume.claim.is_none());
    let volumes_of_class = counted(free.map(|volume| &volume.storage_class));
    let unbound = claims.iter().filter(|claim| claim.volume_name.is_none());
    let claims_of_class = counted(unbound.clone().map(|claim| &claim.storage_class));
    let by_class: BTreeMap<&str, &Claim> = unbound
        .filter_map(|claim| Some((claim.storage_class.as_deref()?, claim)))
        .collect();
    let by_volume: BTreeMap<&str, &Claim> = claims
        .iter()
        .filter_map(|claim| Some((claim.volume_name.as_deref()?, claim)))
        .collect();
    let claim_of = |volume: &PersistentVolume| {
        if let Some(claim) = &volume.claim {
            return Some(claim.clone());
        }
        let of_class = || {
            let class = volume
                .storage_class
                .as_deref()
                .filter(|class| !class.is_empty())?;
            let is_only = |counts: &BTreeMap<&str, usize>| counts.get(class) == Some(&1);
            (is_only(&volumes_of_class) && is_only(&claims_of_class))
                .then(|| by_class.get(class))?
        };
        let claim = by_volume.get(&*volume.meta.object.name).or_else(of_class)?;
        let object = &claim.meta.object;
        Some((object.namespace.clone(), object.name.clone()))
    };
    let mut known = BTreeSet::new();
    let claims: Vec<Option<ClaimName>> = volumes.iter().map(claim_of).collect();
    volumes
        .into_iter()
        .zip(claims)
        .filter_map(|(volume, claim)| {
            let (namespace, claim) = claim?;
            known
                .insert((namespace.clone(), claim.clone()))
                .then_some(BoundVolume {
                    volume,
                    namespace,
                    claim,
                })
        })
        .collect()
}

/// Namespace, where it is written, and name of a claim.
type ClaimName = (Option<String>, String);

/// How often each class is named.
fn counted<'a>(classes: impl Iterator<Item = &'a Option<String>>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for class in classes.flatten() {
        *counts.entry(class.as_str()).or_default() += 1;
    }
    counts
}

/// Gives each release the volumes with its data.
pub(super) fn attach(releases: &mut [Release], volumes: Vec<BoundVolume>) {
    if volumes.is_empty() {
        return;
    }
    let mut owners: BTreeMap<HeldClaim, Vec<usize>> = BTreeMap::new();
    for (at, release) in releases.iter().enumerate() {
        for claim in held_claims(release) {
            owners.entry(claim).or_default().push(at);
        }
    }
    for bound in volumes {
        let exact = owners.get(&HeldClaim::Named(bound.claim.clone()));
        let of_pod = || {
            let (set, ordinal) = bound.claim.rsplit_once('-')?;
            ordinal.parse::<u32>().ok()?;
            owners.get(&HeldClaim::OfPods(set.to_owned()))
        };
        let mut candidates = exact.or_else(of_pod).into_iter().flatten();
        let owner = candidates
            .find(|at| same_namespace(&releases[**at], bound.namespace.as_deref()))
            .copied();
        if let Some(owner) = owner {
            releases[owner].volumes.push(bound);
        }
    }
}

/// A claim with data.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum HeldClaim {
    /// By its name.
    Named(String),
    /// One for each pod of a StatefulSet: the name without the ordinal of the pod.
    OfPods(String),
}

fn held_claims(release: &Release) -> BTreeSet<HeldClaim> {
    let mut claims = BTreeSet::new();
    let mut add = |workload: &Workload, places: Vec<Held>| {
        let templates = workload
            .stateful
            .iter()
            .flat_map(|set| &set.claim_templates);
        let name = &workload.meta.object.name;
        let of_pods: Vec<String> = templates
            .map(|template| format!("{}-{name}", template.name))
            .collect();
        for (place, _) in places {
            let DataVolume::Claim(claim) = place.volume else {
                continue;
            };
            let set = claim
                .strip_suffix("-0")
                .filter(|set| of_pods.iter().any(|one| one == set));
            claims.insert(match set {
                Some(set) => HeldClaim::OfPods(set.to_owned()),
                None => HeldClaim::Named(claim),
            });
        }
    };
    for component in &release.components {
        add(&component.workload, held_by(release, component));
    }
    for dependency in &release.dependencies {
        let workload = &dependency.workload;
        let containers: Vec<&Container> = workload.pod.containers.iter().collect();
        add(workload, held(workload, &containers));
    }
    claims
}
