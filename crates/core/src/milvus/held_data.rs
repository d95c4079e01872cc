//! The data that workloads hold on volumes.

use crate::manifest::object::{Container, Workload, normal_path};

use super::{
    component::Component,
    config::below,
    release::{ComponentWorkload, Release},
    settings::Located,
    volume::{VolumePlace, persistent_mounts, volume_of},
};

/// A place that holds data, and the path at which the container sees it.
pub type Held = (VolumePlace, String);

/// The places at which a component holds data. A standalone keeps something on every volume but
/// those of logs; the components of a cluster keep caches, except where their configuration says
/// otherwise.
#[must_use]
pub fn held_by(release: &Release, component: &ComponentWorkload) -> Vec<Held> {
    let containers: Vec<&Container> = component.milvus().collect();
    let all = held(&component.workload, &containers);
    if component.component == Component::Standalone {
        return all;
    }
    let data = data_of(release, component);
    all.into_iter()
        .filter(|(_, mounted)| {
            data.iter()
                .any(|(_, path, _)| below(mounted, path).is_some())
        })
        .collect()
}

/// The persistent places that containers mount, but for logs. Where the input shows no mount, the
/// volumes of the pod count.
#[must_use]
pub fn held(workload: &Workload, containers: &[&Container]) -> Vec<Held> {
    let mounts: Vec<Held> = containers
        .iter()
        .flat_map(|container| persistent_mounts(workload, container))
        .filter(|(_, path)| !is_log(path))
        .collect();
    if !mounts.is_empty()
        || containers
            .iter()
            .any(|container| !container.mounts.is_empty())
    {
        return mounts;
    }
    let templates = workload
        .stateful
        .iter()
        .flat_map(|set| &set.claim_templates)
        .map(|template| template.name.as_str());
    let names = workload
        .pod
        .volumes
        .iter()
        .map(|volume| volume.name.as_str())
        .chain(templates);
    let whole = names.map(|name| {
        let (volume, path) = volume_of(workload, name);
        (VolumePlace { volume, path }, String::new())
    });
    whole
        .filter(|(place, _)| place.volume.is_persistent())
        .collect()
}

fn is_log(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "log" | "logs"))
}

/// The data of a component by its configuration: what it is, its path, and where that lies.
#[must_use]
pub fn data_of(
    release: &Release,
    component: &ComponentWorkload,
) -> Vec<(&'static str, String, VolumePlace)> {
    let is_own = |located: &Located<'_>| {
        release
            .components
            .get(located.component())
            .is_some_and(|own| std::ptr::eq(own, component))
    };
    let paths = release.located().filter(is_own).flat_map(|located| {
        located
            .data_paths()
            .into_iter()
            .map(move |(kind, path)| (kind, normal_path(&path), located.place(&path)))
    });
    paths.collect()
}
