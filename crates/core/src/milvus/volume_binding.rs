//! Which persistent volumes are behind the claims of a release.

use crate::manifest::object::{Claim, Container, PersistentVolume, Workload};

use super::{
    configured::same_namespace,
    held_data::{Held, held, held_by},
    release::{BoundVolume, Release},
    volume::DataVolume,
};

/// The volumes with their claims, as far as the input tells: the volume names the claim, the claim
/// names the volume, or they are the only ones of their storage class.
pub(super) fn bound(volumes: Vec<PersistentVolume>, claims: &[Claim]) -> Vec<BoundVolume> {
    let of_class = |class: &Option<String>| {
        let mut all = volumes
            .iter()
            .filter(|volume| volume.claim.is_none() && volume.storage_class == *class);
        all.next().is_some() && all.next().is_none()
    };
    let is_alone: Vec<bool> = volumes
        .iter()
        .map(|volume| of_class(&volume.storage_class))
        .collect();
    let pairs = volumes.into_iter().zip(is_alone);
    pairs
        .filter_map(|(volume, is_alone)| {
            let (namespace, claim) = claim_of(&volume, claims, is_alone)?;
            Some(BoundVolume {
                volume,
                namespace,
                claim,
            })
        })
        .collect()
}

fn claim_of(
    volume: &PersistentVolume,
    claims: &[Claim],
    is_alone: bool,
) -> Option<(Option<String>, String)> {
    if let Some(claim) = &volume.claim {
        return Some(claim.clone());
    }
    let own_name = &volume.meta.object.name;
    let names = |claim: &&Claim| claim.volume_name.as_ref() == Some(own_name);
    let is_of_class = |claim: &&Claim| {
        is_alone && claim.volume_name.is_none() && claim.storage_class == volume.storage_class
    };
    let claim = claims.iter().find(names).or_else(|| {
        let class = volume.storage_class.as_ref();
        class.filter(|class| !class.is_empty())?;
        let mut others = claims.iter().filter(is_of_class);
        others.next().filter(|_| others.next().is_none())
    })?;
    let object = &claim.meta.object;
    Some((object.namespace.clone(), object.name.clone()))
}

/// Gives each release the volumes with its data.
pub(super) fn attach(releases: &mut [Release], volumes: Vec<BoundVolume>) {
    for bound in volumes {
        let holder = releases.iter_mut().find(|release| {
            same_namespace(release, bound.namespace.as_deref())
                && has_data_on(release, &bound.claim)
        });
        if let Some(release) = holder {
            release.volumes.push(bound);
        }
    }
}

/// Whether the release has data on a claim.
fn has_data_on(release: &Release, claim: &str) -> bool {
    let mut components = release.components.iter();
    let mut dependencies = release.dependencies.iter().map(|one| &*one.workload);
    components.any(|component| holds(&component.workload, &held_by(release, component), claim))
        || dependencies.any(|workload| {
            let containers: Vec<&Container> = workload.pod.containers.iter().collect();
            holds(workload, &held(workload, &containers), claim)
        })
}

fn holds(workload: &Workload, places: &[Held], claim: &str) -> bool {
    let of_templates = workload
        .stateful
        .iter()
        .flat_map(|set| &set.claim_templates);
    let of_pods: Vec<String> = of_templates
        .map(|template| format!("{}-{}-", template.name, workload.meta.object.name))
        .collect();
    places.iter().any(|(place, _)| match &place.volume {
        DataVolume::Claim(name) if name == claim => true,
        // The claims of the other pods of a StatefulSet.
        DataVolume::Claim(name) => of_pods.iter().any(|start| {
            let ordinal = claim.strip_prefix(start.as_str());
            name.starts_with(start.as_str())
                && ordinal.is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
        }),
        _ => false,
    })
}
