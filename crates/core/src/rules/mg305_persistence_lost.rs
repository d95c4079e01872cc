//! MG305: data that lies on a volume must stay on it.

use std::collections::BTreeMap;

use crate::{
    change::{Aspect, Upgrade},
    manifest::{
        object::{Claim, Container, Meta, Workload},
        quantity::thousandths,
    },
    milvus::{
        Component, Release,
        catalogue::ImageFolders,
        dependency::Dependency,
        dependency_folder::DataFolders,
        held_data::{Held, data_of, held, held_by},
        minio_store::{MinioStore, ONE_DRIVE, server_pools},
        release::{BoundVolume, ComponentWorkload},
        shared_data::Shared,
        volume::{DataVolume, VolumePlace, place_of},
    },
};

use super::{
    Behavior, Category, DefaultAction, Findings, Missing, Need, Rule, neighbor::Objection,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG305",
    name: "persistence-lost",
    title: "volumes with data stay",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[
        Behavior::JudgesDeletions,
        Behavior::JudgesRemovals,
        Behavior::JudgesNeighbors,
    ],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Denies a change after which a standalone, etcd, object storage or queue would run \
           without its volume, on another volume (claims, claim templates, host paths, shared \
           volumes), or with its volume mounted at another path, or with a host path on another node, or with another persistent volume behind its claim. \
           Denies a claim that would shrink or be deleted, also by Helm because the manifests no longer hold it, a retention policy \
           that would delete claims, and other servers or drives in a pool of MinIO.",
    why: "The pod starts on an empty directory: RocksMQ and local data of a standalone, metadata, or messages are lost to Milvus.",
    example: "standalone.persistence.enabled=false, or another existingClaim.",
    fix: "Keep the volume. If the data must move to another volume, copy it while Milvus is \
          stopped.",
    sources: &["milvus#18574", "milvus#36094"],
    check,
};

/// A second Milvus with other metadata.
const NEIGHBOR: Objection = Objection {
    shared: Shared::Volume,
    does: "keep files in the same folder of a volume claim as",
    why: "Only one process may write there: the other does not start, or both damage the \
          files.",
    fix: "Give the new release another claim.",
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if NEIGHBOR.judge(upgrade, findings) {
        return;
    }
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if upgrade.aspect == Aspect::Removal {
        removed(before, after, findings);
        return;
    }
    if let Some(gone) = upgrade
        .deletes
        .filter(|object| object.kind == "PersistentVolumeClaim")
        && let Some(claim) = before
            .claims
            .iter()
            .find(|claim| claim.meta.object.name == gone.name)
        && !before.is_stopped()
    {
        findings
            .deny(format!(
                "the claim {} would be deleted while {} runs",
                gone.name, before.name
            ))
            .because("The volume is deleted with its claim, and with it the data of Milvus.")
            .object(&claim.meta)
            .fix("Stop or uninstall Milvus first, and keep a backup of the volume.");
    }
    if upgrade.deletes.is_none() {
        dropped(before, after, findings);
    }
    let keeps = |component: &ComponentWorkload| !held_by(before, component).is_empty();
    // In the order of what they cost.
    let has_volumes = !before.claims.is_empty()
        || before.dependencies.iter().any(Dependency::holds_data)
        || before.components.iter().any(keeps);
    if has_volumes {
        findings.checked();
    } else {
        findings.not_applicable("no running workload of the release stores data on a volume");
    }
    for (old, new) in upgrade.changed_pairs() {
        let held = held_by(before, old);
        let name = if old.component == Component::Standalone {
            "the standalone".to_owned()
        } else {
            old.component.to_string()
        };
        if !compare(
            upgrade,
            &held,
            &new.workload,
            &|| new.milvus().collect(),
            &name,
            findings,
        ) {
            uncovered((before, old), (after, new), &name, findings);
        }
        left_behind(&held, &old.workload, &new.workload, &name, findings);
        retention(&old.workload, &new.workload, &name, findings);
    }
    for (old, new) in upgrade.changed_dependencies() {
        let name = format!("{} {}", old.family, old.workload.meta.object.name);
        let held = held(
            &old.workload,
            &old.workload.pod.containers.iter().collect::<Vec<_>>(),
        );
        let said = compare(
            upgrade,
            &held,
            &new.workload,
            &|| new.workload.pod.containers.iter().collect(),
            &name,
            findings,
        );
        if !said && runs_alike(&old.workload, &new.workload) {
            moved(&held, &new.workload, &name, findings);
        } else if !said {
            let defaults = &upgrade.catalogue.dependencies.data_folders;
            redirected(old, new, &name, defaults, findings);
        }
        left_behind(&held, &old.workload, &new.workload, &name, findings);
        retention(&old.workload, &new.workload, &name, findings);
        regrouped(old, new, &name, findings);
    }
    relocated(before, after, findings);
    for claim in &before.claims {
        let shrunk = after
            .claims
            .iter()
            .find(|other| other.meta.object.name == claim.meta.object.name)
            .and_then(|other| {
                let (old, new) = (claim.storage.as_deref()?, other.storage.as_deref()?);
                (thousandths(new)? < thousandths(old)?)
                    .then(|| (other, old.to_owned(), new.to_owned()))
            });
        if let Some((other, old, new)) = shrunk {
            findings
                .deny(format!(
                    "the claim {} would shrink from {old} to {new}",
                    claim.meta.object.name
                ))
                .because(
                    "Kubernetes refuses to shrink a claim, so the upgrade would fail after a part \
                     of the objects was applied.",
                )
                .object(&other.meta)
                .evidence(
                    "storage",
                    Some(old.clone()),
                    Some(new),
                    Some(&other.meta.origin),
                )
                .fix(format!("Keep the size at {old} or above."));
        }
    }
}

/// Persistent volumes that would lead to other files than before, under the same claim.
fn relocated(before: &Release, after: &Release, findings: &mut Findings) {
    let by_name: BTreeMap<&str, &BoundVolume> = after
        .volumes
        .iter()
        .map(|bound| (&*bound.volume.meta.object.name, bound))
        .collect();
    let by_claim: BTreeMap<&str, &BoundVolume> = after
        .volumes
        .iter()
        .map(|bound| (&*bound.claim, bound))
        .collect();
    for old in &before.volumes {
        let new = by_name.get(&*old.volume.meta.object.name);
        let Some(new) = new.or_else(|| by_claim.get(&*old.claim)) else {
            continue;
        };
        if new.volume.has_same_files(&old.volume) {
            continue;
        }
        findings
            .deny(format!(
                "the volume behind the claim {} would have other files",
                old.claim
            ))
            .because(
                "What Milvus stored stays behind. A running volume cannot be changed, so one \
                 that is created again is empty or has the data of something else.",
            )
            .object(&new.volume.meta)
            .evidence(
                "volume",
                Some(old.volume.place()),
                Some(new.volume.place()),
                Some(&new.volume.meta.origin),
            )
            .fix("Keep the volume. If the data must move, copy it while Milvus is stopped.");
    }
}

/// Claims that leave the release while a workload with data still mounts them: Helm and Argo CD
/// delete what they applied before and no longer find.
fn dropped(before: &Release, after: &Release, findings: &mut Findings) {
    let gone = before.claims.iter().filter(|claim| {
        let name = &claim.meta.object.name;
        let is_there = |other: &Claim| other.meta.object.name == *name;
        !after.claims.iter().any(is_there) && is_deleted_with_its_manifest(&claim.meta)
    });
    for claim in gone {
        let name = &claim.meta.object.name;
        let Some(workload) = mounted_by(after, name) else {
            continue;
        };
        findings
            .deny(format!(
                "the claim {name} would be removed while {} still mounts it",
                workload.meta.object
            ))
            .because("The volume is deleted with its claim, and with it the data of Milvus.")
            .object(&claim.meta)
            .evidence("claim", Some(name.clone()), None, Some(&claim.meta.origin))
            .fix(
                "Keep the claim in the manifests, or give the running claim the annotation \
                 helm.sh/resource-policy: keep (Helm) or argocd.argoproj.io/sync-options: \
                 Prune=false (Argo CD) first. If the input leaves the claim out although it \
                 stays, add --part.",
            );
    }
}

/// Claims that Helm deletes together with a release that still runs.
fn removed(before: &Release, after: &Release, findings: &mut Findings) {
    findings.checked();
    if before.is_stopped() {
        return;
    }
    let stays = |claim: &Claim| {
        let mut others = after.claims.iter();
        others.any(|other| other.meta.object.name == claim.meta.object.name)
    };
    for claim in &before.claims {
        let name = &claim.meta.object.name;
        if stays(claim)
            || !is_deleted_with_its_manifest(&claim.meta)
            || mounted_by(before, name).is_none()
        {
            continue;
        }
        findings
            .deny(format!(
                "the claim {name} would be removed together with Milvus {}, which runs",
                before.fullname
            ))
            .because("The volume is deleted with its claim, and with it the data of Milvus.")
            .object(&claim.meta)
            .evidence("claim", Some(name.clone()), None, Some(&claim.meta.origin))
            .fix(
                "To keep the data, give the running claim the annotation \
                 helm.sh/resource-policy: keep first. To delete it, keep a backup and stop this \
                 Milvus first.",
            );
    }
}

/// Whether a tool deletes the object when the manifests no longer hold it. A claim that runs and
/// that no tool marked as its own stays.
fn is_deleted_with_its_manifest(meta: &Meta) -> bool {
    let says = |key: &str, wanted: &str| {
        meta.annotation(key).is_some_and(|value| {
            let mut words = value.split(',');
            words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
        })
    };
    if says("helm.sh/resource-policy", "keep")
        || says("argocd.argoproj.io/sync-options", "Prune=false")
    {
        return false;
    }
    let is_managed = || {
        meta.annotation("meta.helm.sh/release-name").is_some()
            || meta.annotation("argocd.argoproj.io/tracking-id").is_some()
            || meta.label("argocd.argoproj.io/instance").is_some()
            || meta.label("kustomize.toolkit.fluxcd.io/name").is_some()
    };
    meta.uid.is_none() || is_managed()
}

/// The workload with data that mounts a claim by its name. Claims of claim templates belong to
/// their StatefulSet.
fn mounted_by<'a>(release: &'a Release, claim: &str) -> Option<&'a Workload> {
    let mounts = |workload: &Workload, places: &[Held]| {
        let is_of_template = workload.stateful.iter().any(|set| {
            set.claim_templates.iter().any(|template| {
                claim.starts_with(&format!("{}-{}-", template.name, workload.meta.object.name))
            })
        });
        let volume = DataVolume::Claim(claim.to_owned());
        !is_of_template && places.iter().any(|(place, _)| place.volume == volume)
    };
    let components = release.components.iter().map(|component| {
        let places = held_by(release, component);
        (&*component.workload, places)
    });
    let dependencies = release.dependencies.iter().map(|dependency| {
        let workload = &*dependency.workload;
        let places = held(
            workload,
            &workload.pod.containers.iter().collect::<Vec<_>>(),
        );
        (workload, places)
    });
    components
        .chain(dependencies)
        .find(|(workload, places)| mounts(workload, places))
        .map(|(workload, _)| workload)
}

/// Denies a change of the groups of drives over which MinIO spreads its data.
fn regrouped(old: &Dependency, new: &Dependency, what: &str, findings: &mut Findings) {
    let (had, wants) = (server_pools(old), server_pools(new));
    let Some(lost) = had.iter().find(|pool| !wants.contains(pool)) else {
        return;
    };
    if had == [ONE_DRIVE] && wants.is_empty() {
        // Its folder is compared, and nothing is spread.
        return;
    }
    let starts_a_server = |container: &&Container| {
        let mut words = container.command.iter().flat_map(|line| line.split(' '));
        words.any(|word| word == "server")
    };
    if wants.is_empty() && !new.containers().iter().any(starts_a_server) {
        findings.not_evaluated(Missing::new(
            format!("the drives of {what} after the change cannot be read"),
            "Write the server pools of MinIO as arguments of its container.",
        ));
        return;
    }
    findings
        .deny(format!("the servers or drives of {what} would change"))
        .because(
            "MinIO spreads each object over all drives of a server pool. With more or fewer drives \
             in the pool it cannot read its data.",
        )
        .object(&new.workload.meta)
        .evidence(
            "server pools",
            Some(lost.clone()),
            Some(wants.join(" ")),
            Some(&new.workload.meta.origin),
        )
        .fix(
            "Keep minio.mode, minio.replicas and minio.drivesPerNode. To gain space, add a server \
             pool (minio.zones) or enlarge the volumes.",
        );
}

/// Whether a volume is lost or becomes another one, which is said.
fn compare<'a>(
    upgrade: &Upgrade<'_>,
    old: &[Held],
    new: &'a Workload,
    containers: &dyn Fn() -> Vec<&'a Container>,
    what: &str,
    findings: &mut Findings,
) -> bool {
    if old.is_empty() {
        return false;
    }
    let now = held(new, &containers());
    let mut said: Vec<&VolumePlace> = Vec::new();
    for (place, path) in old {
        // Under another name of the volume the same claim is the same data.
        if said.contains(&place) || now.iter().any(|(other, _)| other == place) {
            continue;
        }
        said.push(place);
        let other = now
            .iter()
            .find(|(_, at)| at == path)
            .map(|(other, _)| other);
        let message = match other {
            Some(other) => format!("{what} would move from {place} to {other}"),
            None => format!("{what} would lose its {place}"),
        };
        let object = format!("{} {}", new.meta.object.kind, new.meta.object.name);
        findings
            .deny(message)
            .object(&new.meta)
            .evidence(
                "volume",
                Some(place.to_string()),
                other.map(ToString::to_string),
                Some(&new.meta.origin),
            )
            .remedy(upgrade.advice().keep_volumes(&object));
    }
    !said.is_empty()
}

/// Denies a change after which data of a component is no longer on its volume: the volume is
/// mounted at another path, or another mount covers the path. Other rules judge a path that the
/// configuration changes.
fn uncovered(
    (before, old): (&Release, &ComponentWorkload),
    (after, new): (&Release, &ComponentWorkload),
    what: &str,
    findings: &mut Findings,
) {
    let now = data_of(after, new);
    for (kind, path, place) in data_of(before, old) {
        let other = now
            .iter()
            .find(|(same_kind, same_path, _)| *same_kind == kind && *same_path == path);
        let Some((_, _, other)) = other.filter(|_| place.volume.is_persistent()) else {
            continue;
        };
        if !other.volume.is_persistent() {
            findings
                .deny(format!(
                    "{kind} of {what} under {path} would move from {place} to {}",
                    other.volume
                ))
                .object(&new.workload.meta)
                .evidence(
                    "mount",
                    Some(place.to_string()),
                    Some(other.volume.to_string()),
                    Some(&new.workload.meta.origin),
                )
                .fix(format!(
                    "Keep the current mount path, so that {path} is on the volume."
                ));
        }
    }
}

/// Volumes of a dependency that are mounted at other paths while the program still looks at the old
/// ones.
fn moved(held: &[Held], new: &Workload, what: &str, findings: &mut Findings) {
    for (place, path) in held.iter().filter(|(_, path)| !path.is_empty()) {
        let is_there = |container: &Container| place_of(new, container, path) == *place;
        if !new.pod.containers.iter().any(is_there) {
            findings
                .deny(format!(
                    "{what} would no longer have its {place} mounted under {path}"
                ))
                .object(&new.meta)
                .evidence("mount", Some(path.clone()), None, Some(&new.meta.origin))
                .fix("Keep the path at which the volume is mounted.");
        }
    }
}

/// Denies a change after which a dependency looks for its data at another place.
fn redirected(
    old: &Dependency,
    new: &Dependency,
    what: &str,
    defaults: &[ImageFolders],
    findings: &mut Findings,
) {
    for (was, now) in old.containers().into_iter().zip(new.containers()) {
        let DataFolders::Named(folders) = DataFolders::of(old.family, was, defaults) else {
            continue;
        };
        let places = |workload: &Workload, container: &Container, paths: &[String]| {
            let paths = paths.iter();
            paths
                .map(|path| place_of(workload, container, path))
                .collect::<Vec<_>>()
        };
        let had = places(&old.workload, was, &folders);
        let wants = match DataFolders::of(new.family, now, defaults) {
            DataFolders::Named(paths) => places(&new.workload, now, &paths),
            DataFolders::Unset => Vec::new(),
            // MG303 reports a MinIO that becomes a gateway.
            DataFolders::Unknown
                if matches!(MinioStore::of(new), Some(MinioStore::Gateway { .. })) =>
            {
                continue;
            }
            DataFolders::Unknown => {
                if was.command != now.command || was.env != now.env {
                    findings.not_evaluated(Missing::new(
                        format!("the data folder of {what} after the change cannot be read"),
                        "Write the folder as an argument or a variable of its container.",
                    ));
                }
                continue;
            }
        };
        let lost = |place: &&VolumePlace| place.volume.is_persistent() && !wants.contains(place);
        let Some(lost) = had.iter().find(lost) else {
            continue;
        };
        let message = match wants.first() {
            Some(other) => format!("the data folder of {what} would move from {lost} to {other}"),
            None => format!(
                "{what} would start without the setting of its data folder, which is {lost}"
            ),
        };
        findings
            .deny(message)
            .because("The system starts empty: what it holds stays in the old folder.")
            .object(&new.workload.meta)
            .evidence(
                "data folder",
                Some(folders.join(" ")),
                wants.first().map(ToString::to_string),
                Some(&new.workload.meta.origin),
            )
            .fix("Keep the folder, or stop the system and move its files to the new folder first.");
    }
}

/// Whether the containers of two workloads run the same programs with the same variables.
fn runs_alike(old: &Workload, new: &Workload) -> bool {
    let (old, new) = (&old.pod.containers, &new.pod.containers);
    let is_same = |old: &Container, new: &Container| {
        old.image == new.image && old.command == new.command && old.env == new.env
    };
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_same(old, new))
}

/// Denies another node for a workload whose data is in a folder of its node.
fn left_behind(held: &[Held], old: &Workload, new: &Workload, what: &str, findings: &mut Findings) {
    let is_on_node = held
        .iter()
        .any(|(place, _)| place.volume == DataVolume::HostPath);
    let (Some(from), to) = (&old.pod.node, &new.pod.node) else {
        return;
    };
    // A Pod without an owner that runs has the node that the scheduler chose.
    let was_chosen = to.is_none() && old.meta.object.kind == "Pod";
    if !is_on_node || was_chosen || to.as_ref() == Some(from) {
        return;
    }
    let finding = match to {
        Some(to) => findings.deny(format!(
            "{what} would move from node {from} to node {to}, and its host path stays on {from}"
        )),
        None => findings.warn(format!(
            "{what} would no longer be bound to node {from}, and its host path stays there"
        )),
    };
    finding
        .because("A host path is a folder of one node: the pod starts on an empty folder.")
        .object(&new.meta)
        .evidence(
            "node",
            Some(from.to_string()),
            to.as_ref().map(ToString::to_string),
            Some(&new.meta.origin),
        )
        .fix(
            "Keep the node. If the data must move to another one, copy the folder while Milvus is \
             stopped.",
        );
}

/// Claims that would be deleted with a StatefulSet or with the pods that are scaled away.
fn retention(old: &Workload, new: &Workload, what: &str, findings: &mut Findings) {
    let (Some(before), Some(after)) = (&old.stateful, &new.stateful) else {
        return;
    };
    if after.claim_templates.is_empty() {
        return;
    }
    let gained = [
        (
            "is deleted",
            "whenDeleted",
            !before.retention.delete_with_set && after.retention.delete_with_set,
        ),
        (
            "is scaled down",
            "whenScaled",
            !before.retention.delete_when_scaled && after.retention.delete_when_scaled,
        ),
    ];
    for (when, field, _) in gained.into_iter().filter(|(_, _, gained)| *gained) {
        findings
            .deny(format!(
                "the claims of {what} would be deleted when it {when}"
            ))
            .because("The volumes are deleted with their claims, and with them the data.")
            .object(&new.meta)
            .evidence(
                format!("persistentVolumeClaimRetentionPolicy.{field}"),
                Some("Retain".into()),
                Some("Delete".into()),
                Some(&new.meta.origin),
            )
            .fix(format!(
                "Keep persistentVolumeClaimRetentionPolicy.{field}: Retain."
            ));
    }
    let (had, wants) = (old.wanted_replicas(), new.wanted_replicas());
    if after.retention.delete_when_scaled && wants < had {
        let count = had - wants;
        let claims = if count == 1 {
            "1 pod's claims".to_owned()
        } else {
            format!("the claims of {count} pods")
        };
        findings
            .deny(format!(
                "{claims} of {what} would be deleted: it would be scaled from {had} to \
                           {wants} with whenScaled: Delete"
            ))
            .because("The volumes are deleted with their claims, and with them the data.")
            .object(&new.meta)
            .evidence(
                "replicas",
                Some(had.to_string()),
                Some(wants.to_string()),
                Some(&new.meta.origin),
            )
            .fix(
                "Set persistentVolumeClaimRetentionPolicy.whenScaled: Retain before scaling down.",
            );
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::Facts,
        milvus::Component::Standalone,
        rules::testing::{Fixture, judge, judge_change},
    };

    fn with_claim(claim: &str) -> Fixture {
        with_volume(
            &format!("persistentVolumeClaim: {{claimName: {claim}}}"),
            "mountPath: /var/lib/milvus",
        )
    }

    fn with_volume(source: &str, mount: &str) -> Fixture {
        Fixture::standalone("2.4.17")
            .pod(
                Standalone,
                &format!("volumes:\n  - name: milvus-data-disk\n    {source}"),
            )
            .container(
                Standalone,
                &format!("volumeMounts:\n  - {{name: milvus-data-disk, {mount}}}"),
            )
    }

    #[rstest]
    #[case(
        "hostPath: {path: /a}",
        "hostPath: {path: /b}",
        "would move from /a on the node to /b on the node"
    )]
    #[case(
        "hostPath: {path: /a}",
        "emptyDir: {}",
        "would lose its /a on the node"
    )]
    #[case("hostPath: {path: /a}", "hostPath: {path: /a/}", "")]
    #[case(
        "nfs: {server: s, path: /a}",
        "nfs: {server: s, path: /b}",
        "would move from the volume nfs path=/a server=s to the volume nfs path=/b server=s"
    )]
    #[case(
        "nfs: {server: s, path: /a, readOnly: true}",
        "nfs: {path: /a/, server: s}",
        ""
    )]
    #[case(
        "nfs: {server: s, path: /a}",
        "nfs: {server: s, path: /a, readOnly: false}",
        ""
    )]
    #[case(
        "awsElasticBlockStore: {volumeID: v}",
        "awsElasticBlockStore: {volumeID: v, fsType: ext4}",
        ""
    )]
    #[case(
        "persistentVolumeClaim: {claimName: c}",
        "hostPath: {path: /a}",
        "would move from volume claim c to /a on the node"
    )]
    #[case("emptyDir: {}", "persistentVolumeClaim: {claimName: c}", "")]
    #[case(
        "csi: {driver: d, volumeAttributes: {share: a}}",
        "csi: {driver: d, volumeAttributes: {share: b}}",
        "would move from the volume csi driver=d volumeAttributes.share=a to the volume csi driver=d volumeAttributes.share=b"
    )]
    #[case(
        "cephfs: {monitors: [\"a:1\", \"b:1\"], path: /p}",
        "cephfs: {monitors: [\"c:1\"], path: /p}",
        "would move from the volume cephfs monitors=a:1 monitors=b:1 path=/p to the volume cephfs monitors=c:1 path=/p"
    )]
    #[case(
        "rbd: {monitors: [\"a:1\"], image: i, secretRef: {name: s}}",
        "rbd: {monitors: [\"a:1\"], image: i, secretRef: {name: t}}",
        ""
    )]
    fn volumes_of_every_kind(#[case] before: &str, #[case] after: &str, #[case] expected: &str) {
        let run = |source| with_volume(source, "mountPath: /var/lib/milvus");
        let findings = judge(&RULE, Some(&run(before)), &run(after));
        match findings.as_slice() {
            [] => assert_eq!(expected, ""),
            [one] => assert_eq!(one.message, format!("the standalone {expected}")),
            more => panic!("{more:?}"),
        }
    }

    #[rstest]
    #[case("mountPath: /var/lib/other", "", 1)]
    #[case(
        "mountPath: /var/lib/milvus",
        "  - {name: tmp, mountPath: /var/lib/milvus/rdb_data}",
        1
    )]
    #[case(
        "mountPath: /var/lib/milvus",
        "  - {name: tmp, mountPath: /var/lib}",
        0
    )]
    #[case(
        "mountPath: /var/lib/milvus/",
        "  - {name: tmp, mountPath: /var/lib/milvus/cache}",
        0
    )]
    fn a_volume_that_no_longer_holds_the_path_is_lost(
        #[case] mount: &str,
        #[case] more: &str,
        #[case] found: usize,
    ) {
        let run = |mount: &str, more: &str| {
            Fixture::standalone("2.4.17")
                .default_yaml("mq: {type: rocksmq}\n")
                .pod(
                    Standalone,
                    "volumes:\n  - {name: disk, persistentVolumeClaim: {claimName: c}}\n  - {name: tmp, emptyDir: {}}",
                )
                .container(Standalone, &format!("volumeMounts:\n  - {{name: disk, {mount}}}\n{more}"))
        };
        let before = run("mountPath: /var/lib/milvus", "");
        assert_eq!(judge(&RULE, Some(&before), &run(mount, more)).len(), found);
        assert!(
            judge(&RULE, Some(&run("mountPath: /var/lib/other", "")), &before).is_empty(),
            "the data was not on the volume before the change"
        );
    }

    fn etcd_in(mount: &str, fields: &str) -> Fixture {
        Fixture::cluster("2.6.11").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, {fields}, volumeMounts: [{{name: data, mountPath: {mount}}}]}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n"
        ))
    }

    #[rstest]
    #[case::same(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.25\", command: [etcd, -data-dir, /d]",
        ""
    )]
    #[case::as_a_variable(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd], env: [{name: ETCD_DATA_DIR, value: /d/}]",
        ""
    )]
    #[case::with_its_mount(
        "/e",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd, --data-dir=/e]",
        ""
    )]
    #[case::off_the_volume(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd, --data-dir=/other]",
        "would move from volume claim data-my-release-etcd-0 to /other on the container itself"
    )]
    #[case::below(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd, --data-dir=/d/new]",
        "would move from volume claim data-my-release-etcd-0 to new on volume claim"
    )]
    #[case::mount_and_image(
        "/other",
        "image: \"quay.io/coreos/etcd:v3.5.25\", command: [etcd, --data-dir=/d]",
        "would move from volume claim data-my-release-etcd-0 to /d on the container itself"
    )]
    #[case::no_longer_set(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd]",
        "would start without the setting of its data folder, which is volume claim data-my-release-etcd-0"
    )]
    #[case::in_a_script(
        "/d",
        "image: \"quay.io/coreos/etcd:v3.5.5\", command: [/start.sh]",
        "not evaluated: the data folder of etcd my-release-etcd after the change cannot be read"
    )]
    fn a_dependency_keeps_its_data_folder(
        #[case] mount: &str,
        #[case] after: &str,
        #[case] said: &str,
    ) {
        let before = etcd_in(
            "/d",
            "image: \"quay.io/coreos/etcd:v3.5.5\", command: [etcd, --data-dir=/d]",
        );
        let found = judge(&RULE, Some(&before), &etcd_in(mount, after));
        assert_eq!(found.len(), usize::from(!said.is_empty()), "{found:?}");
        assert!(
            found.iter().all(|one| one.message.contains(said)),
            "{found:?}"
        );
    }

    #[rstest]
    #[case::to_an_image_without_a_default(
        "image: \"bitnami/etcd:3.5.9\"",
        "image: \"quay.io/coreos/etcd:v3.5.18\"",
        1
    )]
    #[case::with_its_folder(
        "image: \"bitnami/etcd:3.5.9\"",
        "image: \"quay.io/coreos/etcd:v3.5.18\", command: [etcd, --data-dir=/bitnami/etcd/data]",
        0
    )]
    #[case::above_its_folder(
        "image: \"bitnami/etcd:3.5.9\"",
        "image: \"quay.io/coreos/etcd:v3.5.18\", command: [etcd, --data-dir=/bitnami/etcd]",
        1
    )]
    #[case::to_an_image_with_another_default(
        "image: \"quay.io/coreos/etcd:v3.5.18\", command: [etcd, --data-dir=/bitnami/etcd]",
        "image: \"bitnamilegacy/etcd:3.5.18\"",
        1
    )]
    #[case::a_mirror_of_the_image(
        "image: \"bitnami/etcd:3.5.9\"",
        "image: \"registry.example.com/bitnamilegacy/etcd:3.5.9\"",
        0
    )]
    #[case::an_image_that_nobody_knows(
        "image: \"bitnami/etcd:3.5.9\"",
        "image: \"example/etcd:3.5.9\"",
        0
    )]
    fn an_image_of_another_family_finds_the_data(
        #[case] before: &str,
        #[case] after: &str,
        #[case] found: usize,
    ) {
        let run = |fields: &str| etcd_in("/bitnami/etcd", fields);
        let findings = judge(&RULE, Some(&run(before)), &run(after));
        assert_eq!(findings.len(), found, "{findings:?}");
    }

    #[rstest]
    #[case("etcd:3.5.5", "/bitnami/etcd", 0)]
    #[case("etcd:3.5.5", "/elsewhere", 1)]
    #[case("etcd:3.5.18", "/elsewhere", 1)]
    fn a_dependency_keeps_the_path_of_its_volume(
        #[case] image: &str,
        #[case] path: &str,
        #[case] found: usize,
    ) {
        let etcd = |image: &str, path: &str| {
            Fixture::cluster("2.4.17").object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/{image}\", volumeMounts: [{{name: data, mountPath: {path}}}]}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n"
            ))
        };
        assert_eq!(
            judge(
                &RULE,
                Some(&etcd("etcd:3.5.5", "/bitnami/etcd")),
                &etcd(image, path)
            )
            .len(),
            found
        );
    }

    #[test]
    fn the_way_to_the_same_files_does_not_matter() {
        let run = |source, mount| with_volume(source, mount);
        let before = run(
            "hostPath: {path: /srv/milvus}",
            "mountPath: /var/lib/milvus",
        );
        let after = run(
            "hostPath: {path: /srv}",
            "mountPath: /var/lib/milvus, subPath: milvus",
        );
        assert!(judge(&RULE, Some(&before), &after).is_empty());
        let other = run(
            "hostPath: {path: /srv}",
            "mountPath: /var/lib/milvus, subPath: other",
        );
        assert_eq!(judge(&RULE, Some(&before), &other).len(), 1);
    }

    fn required(term: &str) -> String {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{{term}}}]}}}}}}"
        )
    }

    #[rstest]
    #[case(
        "nodeSelector: {kubernetes.io/hostname: a}",
        "nodeSelector: {kubernetes.io/hostname: b}",
        1
    )]
    #[case("nodeName: a", "nodeSelector: {kubernetes.io/hostname: b}", 1)]
    #[case("nodeName: a", "nodeSelector: {kubernetes.io/hostname: a}", 0)]
    #[case("nodeSelector: {disk: a}", "nodeSelector: {disk: b}", 0)]
    #[case("nodeSelector: {disk: a}", "nodeName: b", 0)]
    #[case("nodeName: a", "nodeSelector: {disk: a}", 1)]
    #[case(&required("matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a]}]"), &required("matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [b]}]"), 1)]
    #[case("nodeName: a", &required("matchFields: [{key: metadata.name, operator: In, values: [b]}]"), 1)]
    #[case("nodeName: a", &required("matchFields: [{key: metadata.name, operator: In, values: [a]}]"), 0)]
    #[case("nodeName: a", &required("matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a, b]}]"), 1)]
    #[case(&required("matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [a]}]"), "nodeName: b", 0)]
    fn a_host_path_stays_on_its_node(
        #[case] before: &str,
        #[case] after: &str,
        #[case] found: usize,
    ) {
        let on = |pin: &str, volume: &str| {
            crate::rules::testing::release_of(&format!(
                "kind: Deployment\nmetadata: {{name: m}}\nspec:\n  selector: {{matchLabels: {{app: m}}}}\n  template:\n    metadata: {{labels: {{app: m}}}}\n    spec:\n      {pin}\n      containers:\n        - name: m\n          image: milvusdb/milvus:v2.5.27\n          args: [milvus, run, standalone]\n          volumeMounts: [{{name: d, mountPath: /var/lib/milvus}}]\n      volumes: [{{name: d, {volume}}}]\n"
            ))
        };
        let judge = |volume: &str| {
            crate::rules::testing::judge_releases(&RULE, &on(before, volume), &on(after, volume))
        };
        assert_eq!(judge("hostPath: {path: /data}").len(), found);
        assert!(judge("persistentVolumeClaim: {claimName: c}").is_empty());
    }

    #[rstest]
    #[case(
        1,
        "",
        1,
        "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}",
        1
    )]
    #[case(
        1,
        "",
        1,
        "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}",
        1
    )]
    #[case(
        3,
        "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}",
        1,
        "persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}",
        1
    )]
    #[case(3, "", 1, "", 0)]
    #[case(
        1,
        "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}",
        1,
        "",
        0
    )]
    fn retention_policies(
        #[case] had: i64,
        #[case] before: &str,
        #[case] wants: i64,
        #[case] after: &str,
        #[case] found: usize,
    ) {
        let etcd = |replicas: i64, policy: &str| {
            Fixture::cluster("2.4.17").object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  replicas: {replicas}\n  {policy}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.5-r2\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n"
            ))
        };
        assert_eq!(
            judge(&RULE, Some(&etcd(had, before)), &etcd(wants, after)).len(),
            found
        );
    }

    #[test]
    fn a_standalone_without_its_volume_is_denied() {
        let findings = judge(
            &RULE,
            Some(&with_claim("my-release-milvus")),
            &Fixture::standalone("2.4.24"),
        );
        assert_eq!(
            findings[0].message,
            "the standalone would lose its volume claim my-release-milvus"
        );
        let findings = judge(
            &RULE,
            Some(&with_claim("my-release-milvus")),
            &with_claim("other"),
        );
        assert_eq!(
            findings[0].message,
            "the standalone would move from volume claim my-release-milvus to volume claim other"
        );
    }

    #[test]
    fn a_dependency_without_its_template_is_denied() {
        let etcd = |claims: bool| {
            let yaml = format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.5-r2\"}}]\n{}",
                if claims {
                    "  volumeClaimTemplates:\n    - metadata: {name: data}\n"
                } else {
                    ""
                }
            );
            Fixture::cluster("2.4.17").object(&yaml)
        };
        assert_eq!(judge(&RULE, Some(&etcd(true)), &etcd(false)).len(), 1);
        assert!(judge(&RULE, Some(&etcd(true)), &etcd(true)).is_empty());
        assert!(judge(&RULE, Some(&etcd(false)), &etcd(true)).is_empty());
    }

    #[test]
    fn the_same_claim_and_log_volumes_are_fine() {
        assert!(
            judge(
                &RULE,
                Some(&with_claim("my-release-milvus")),
                &with_claim("my-release-milvus")
            )
            .is_empty()
        );
        let logs = Fixture::standalone("2.4.17")
            .container(
                Standalone,
                "volumeMounts:\n  - {name: disk, mountPath: /milvus/logs}",
            )
            .pod(
                Standalone,
                "volumes:\n  - name: disk\n    persistentVolumeClaim: {claimName: logs}",
            );
        assert!(judge(&RULE, Some(&logs), &Fixture::standalone("2.4.24")).is_empty());
    }

    #[test]
    fn claims_may_grow_but_not_shrink() {
        let claim = |size: &str| {
            Fixture::standalone("2.4.17").object(&format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: my-release-milvus}}\nspec:\n  accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: {size}}}}}\n"
            ))
        };
        assert_eq!(judge(&RULE, Some(&claim("50Gi")), &claim("5Gi")).len(), 1);
        assert!(judge(&RULE, Some(&claim("5Gi")), &claim("50Gi")).is_empty());
        assert_eq!(judge(&RULE, Some(&claim("1Ti")), &claim("1000Gi")).len(), 1);
    }

    fn claim(meta: &str) -> String {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: c{meta}}}\nspec:\n  \
             accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 5Gi}}}}\n"
        )
    }

    #[rstest]
    #[case::of_a_file("", true)]
    #[case::of_helm(", uid: u, annotations: {meta.helm.sh/release-name: my-release}", true)]
    #[case::of_argo_cd(", uid: u, annotations: {argocd.argoproj.io/tracking-id: a}", true)]
    #[case::of_no_tool(", uid: u", false)]
    #[case::kept_by_helm(", annotations: {helm.sh/resource-policy: keep}", false)]
    #[case::kept_by_argo_cd(
        ", annotations: {argocd.argoproj.io/sync-options: \"Validate=false, Prune=false\"}",
        false
    )]
    #[case::other_policy(", annotations: {helm.sh/resource-policy: other}", true)]
    fn a_claim_that_leaves_the_manifests_is_deleted(#[case] meta: &str, #[case] is_denied: bool) {
        let before = with_claim("c").object(&claim(meta));
        // What is not deleted is not sent: a rollback is judged as a whole only.
        let facts = Facts::default();
        let found = judge_change(&RULE, Some(&before), &with_claim("c"), &facts, !is_denied);
        let messages: Vec<&str> = found.iter().map(|one| &*one.message).collect();
        let expected: &[&str] = if is_denied {
            &[
                "the claim c would be removed while Deployment/my-release-milvus-standalone still \
               mounts it",
            ]
        } else {
            &[]
        };
        assert_eq!(messages, expected);
        assert!(judge(&RULE, Some(&before), &before).is_empty());
    }

    #[test]
    fn a_claim_that_nothing_mounts_may_go() {
        let before = with_claim("d").object(&claim(""));
        assert!(judge(&RULE, Some(&before), &with_claim("d")).is_empty());
    }

    /// A standalone on the claim `c`, with this claim and this volume in the input.
    fn with_bound(claim: &str, volume: &str) -> Fixture {
        with_claim("c")
            .object(&format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\nspec: {{{claim}}}\n"
            ))
            .object(&format!(
                "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {volume}}}\n"
            ))
    }

    const OWN: &str = "claimRef: {namespace: milvus, name: c}";

    #[rstest]
    #[case::another_folder("", &format!("v}}\nspec: {{{OWN}, hostPath: {{path: /a}}"), &format!("v}}\nspec: {{{OWN}, hostPath: {{path: /b}}"), 1)]
    #[case::the_same_folder("", &format!("v}}\nspec: {{{OWN}, hostPath: {{path: /a}}"), &format!("v}}\nspec: {{{OWN}, capacity: {{storage: 2Gi}}, hostPath: {{path: /a/, type: Directory}}"), 0)]
    #[case::another_share(
        "volumeName: v",
        "v}\nspec: {nfs: {server: nas, path: /a}",
        "v}\nspec: {nfs: {server: nas, path: /b}",
        1
    )]
    #[case::another_volume_of_the_claim("", &format!("v}}\nspec: {{{OWN}, csi: {{driver: d, volumeHandle: one}}"), &format!("w}}\nspec: {{{OWN}, csi: {{driver: d, volumeHandle: two}}"), 1)]
    #[case::the_same_disk_under_another_name("", &format!("v}}\nspec: {{{OWN}, csi: {{driver: d, volumeHandle: one}}"), &format!("w}}\nspec: {{{OWN}, csi: {{driver: d, fsType: ext4, volumeHandle: one}}"), 0)]
    #[case::the_only_one_of_a_class(
        "storageClassName: manual",
        "v}\nspec: {storageClassName: manual, hostPath: {path: /a}",
        "v}\nspec: {storageClassName: manual, hostPath: {path: /b}",
        1
    )]
    #[case::of_another_class(
        "storageClassName: manual",
        "v}\nspec: {storageClassName: fast, hostPath: {path: /a}",
        "v}\nspec: {storageClassName: fast, hostPath: {path: /b}",
        0
    )]
    #[case::of_another_claim(
        "",
        "v}\nspec: {claimRef: {namespace: milvus, name: d}, hostPath: {path: /a}",
        "v}\nspec: {claimRef: {namespace: milvus, name: d}, hostPath: {path: /b}",
        0
    )]
    #[case::of_another_claim_with_a_number(
        "",
        "v}\nspec: {claimRef: {namespace: milvus, name: c-1}, hostPath: {path: /a}",
        "v}\nspec: {claimRef: {namespace: milvus, name: c-1}, hostPath: {path: /b}",
        0
    )]
    #[case::of_another_namespace(
        "",
        "v}\nspec: {claimRef: {namespace: other, name: c}, hostPath: {path: /a}",
        "v}\nspec: {claimRef: {namespace: other, name: c}, hostPath: {path: /b}",
        0
    )]
    #[case::another_node("", &local("one"), &local("two"), 1)]
    #[case::the_same_node("", &local("one"), &local("one"), 0)]
    fn the_volume_behind_a_claim_stays(
        #[case] claim: &str,
        #[case] before: &str,
        #[case] after: &str,
        #[case] denied: usize,
    ) {
        let (before, after) = (with_bound(claim, before), with_bound(claim, after));
        let found = judge_whole(&before, &after);
        assert_eq!(found.len(), denied, "{found:?}");
        assert!(
            found
                .iter()
                .all(|one| one.message == "the volume behind the claim c would have other files")
        );
    }

    /// As a rollback, which is judged as a whole only: volumes are not sent to the webhook, because
    /// the API server refuses such a change itself.
    fn judge_whole(before: &Fixture, after: &Fixture) -> Vec<crate::rules::Finding> {
        judge_change(&RULE, Some(before), after, &Facts::default(), true)
    }

    fn local(node: &str) -> String {
        format!(
            "v}}\nspec: {{{OWN}, local: {{path: /mnt/disk}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}"
        )
    }

    /// Pods of a StatefulSet have a claim each.
    #[test]
    fn the_volume_of_each_pod_of_a_stateful_set_counts() {
        let etcd = |path: &str| {
            Fixture::cluster("2.4.17").object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  replicas: 3\n  serviceName: e\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    metadata:\n      labels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n    spec:\n      containers:\n        - {{name: etcd, image: \"milvusdb/etcd:3.5.18-r1\", volumeMounts: [{{name: data, mountPath: /bitnami/etcd}}]}}\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n      spec: {{resources: {{requests: {{storage: 10Gi}}}}}}\n---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: v}}\nspec: {{claimRef: {{namespace: milvus, name: data-my-release-etcd-2}}, hostPath: {{path: {path}}}}}\n"
            ))
        };
        let found = judge_whole(&etcd("/a"), &etcd("/b"));
        assert_eq!(
            found[0].message,
            "the volume behind the claim data-my-release-etcd-2 would have other files"
        );
    }

    fn minio(lines: &str) -> Fixture {
        Fixture::cluster("2.4.17").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-minio}}\nspec:\n  replicas: 4\n  serviceName: my-release-minio-svc\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    metadata:\n      labels: {{app: minio, release: my-release}}\n    spec:\n      containers:\n        - name: minio\n          image: minio/minio:RELEASE.2024-12-18T13-15-44Z\n          {lines}\n"
        ))
    }

    fn server(pools: &str) -> String {
        format!("command: [/bin/sh, -ce, \"minio -S /etc/minio/certs/ server {pools}\"]")
    }

    const POOL: &str =
        "http://my-release-minio-{0...3}.my-release-minio-svc.milvus.svc.cluster.local/export";

    #[rstest]
    #[case::more_servers(&server(POOL), &server(&POOL.replace("...3", "...7")), 1)]
    #[case::more_drives(&server(POOL), &server(&format!("{POOL}-{{0...1}}")), 1)]
    #[case::alone(&server(POOL), &server("/export-{0...3}"), 1)]
    #[case::one_folder(&server(POOL), &server("/export"), 1)]
    #[case::one_folder_more(&server("/data"), &server("/data /data2"), 1)]
    #[case::one_folder_less(&server("/data /data2"), &server("/data"), 1)]
    #[case::one_folder_becomes_distributed(&server("/export"), &server(POOL), 1)]
    #[case::a_listed_server_more(
        &server("http://a/d http://b/d http://c/d http://d/d"),
        &server("http://a/d http://b/d http://c/d http://d/d http://e/d"),
        1
    )]
    #[case::listed_in_another_order(
        &server("http://a/d http://b/d"),
        &server("--console-address :9001 http://b.svc:9000/e http://a.svc:9000/e"),
        0
    )]
    #[case::a_folder_that_is_no_drive(
        &server("/data"),
        &server("/data --certs-dir /certs --console-address :9001"),
        0
    )]
    #[case::one_folder_elsewhere(&server("/data"), &server("/export"), 0)]
    #[case::a_shell_fills_in_the_folder(&server("/data"), &server("$DATA"), 0)]
    #[case::volumes_more(
        "env: [{name: MINIO_VOLUMES, value: /data1}]",
        "env: [{name: MINIO_VOLUMES, value: \"/data1 /data2\"}]",
        1
    )]
    #[case::one_more_pool(
        &server(POOL),
        &server(&format!("{POOL} {}", POOL.replace("{0...3}", "{4...7}"))),
        0
    )]
    #[case::one_pool_less(
        &server(&format!("{POOL} {}", POOL.replace("{0...3}", "{4...7}"))),
        &server(POOL),
        1
    )]
    #[case::another_domain(
        &server(POOL),
        &server("https://my-release-minio-{0...3}.my-release-minio-svc.milvus.svc/export"),
        0
    )]
    #[case::a_variable(
        "env: [{name: MINIO_DISTRIBUTED_NODES, value: \"my-release-minio-{0...3}.hl.svc/bitnami/data\"}]",
        "env: [{name: MINIO_DISTRIBUTED_NODES, value: \"my-release-minio-{0...7}.hl.svc/bitnami/data\"}]",
        1
    )]
    fn servers_and_drives_of_a_pool_stay(
        #[case] before: &str,
        #[case] after: &str,
        #[case] denied: usize,
    ) {
        let found = judge(&RULE, Some(&minio(before)), &minio(after));
        let found: Vec<_> = found.iter().filter(|one| !one.not_evaluated).collect();
        assert_eq!(found.len(), denied, "{found:?}");
    }

    #[test]
    fn pools_that_cannot_be_read_are_not_the_same() {
        let found = judge(
            &RULE,
            Some(&minio(&server(POOL))),
            &minio("command: [/start.sh]"),
        );
        assert!(found[0].not_evaluated, "{found:?}");
    }
}
