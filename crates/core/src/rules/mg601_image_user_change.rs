//! MG601: Milvus 3 does not run as root any more.

use crate::{
    change::Upgrade,
    manifest::object::Container,
    milvus::{
        Version,
        release::ComponentWorkload,
        volume::{DataVolume, persistent_mounts},
    },
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG601",
    name: "image-user-change",
    title: "the new image can write to its volumes",
    category: Category::Image,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange],
    what: "On an upgrade to 3.0 or later, requires fsGroup, runAsUser 0 or a chown init container \
           on every workload whose Milvus container mounts a volume claim, a claim template, a \
           host path or a shared volume.",
    why: "Images from 3.0 on run as user 999. Files that earlier images wrote belong to root, so \
          Milvus stops with 'permission denied' under /var/lib/milvus.",
    example: "A standalone with persistence is upgraded from 2.6.22 to 3.0.2 with the chart's \
              empty securityContext.",
    fix: "Set fsGroup 999 for the pods (with a CSI driver that applies it), or add an init container that runs chown -R 999:999.",
    sources: &[
        "milvus#44524",
        "milvus#51221",
        "milvus#49775",
        "milvus#53564",
    ],
    check,
};

/// The first version whose image has its own user.
const UNPRIVILEGED: Version = Version::new(3, 0, 0);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.not_applicable(
        "no component with a volume claim is upgraded from an image before 3.0 to 3.0 or later",
    );
    for (before, after) in upgrade.changed_pairs() {
        let (old, new) = (before.version(), after.version());
        let (Some(from), Some(to)) = (old.build(), new.build()) else {
            continue;
        };
        if from.version >= UNPRIVILEGED || to.version < UNPRIVILEGED {
            continue;
        }
        // Only a volume that held files before holds files of root.
        let old: Vec<DataVolume> = volumes(before);
        let volume = volumes(after)
            .into_iter()
            .find(|volume| old.contains(volume));
        if volume.is_some() {
            findings.checked();
        }
        if let Some(volume) = volume.filter(|_| !is_prepared(after)) {
            findings
                .deny(format!(
                    "{} would run as user 999 on {volume}, whose files belong to root",
                    after.component
                ))
                .on(after)
                .evidence(
                    "image",
                    Some(before.image().to_string()),
                    Some(after.image().to_string()),
                    Some(&after.workload.meta.origin),
                )
                .remedy(upgrade.advice().fs_group(after, 999));
        }
    }
}

/// The persistent volumes that the containers of Milvus write to.
fn volumes(component: &ComponentWorkload) -> Vec<DataVolume> {
    let mounts = component
        .milvus()
        .flat_map(|container| persistent_mounts(&component.workload, container));
    mounts.map(|(place, _)| place.volume).collect()
}

/// Whether the new user can write: it is root, the group owns the volumes, or an init container
/// changes the owner or lets everyone write. A group does not change the owner of a host path (Kubernetes: "Configure a
/// Security Context", fsGroup).
fn is_prepared(component: &ComponentWorkload) -> bool {
    let pod = &component.workload.pod;
    let user = component
        .main()
        .and_then(|container| container.run_as_user)
        .or(pod.run_as_user);
    let as_root = user == Some(0);
    let has_group = pod.fs_group.is_some() && !volumes(component).contains(&DataVolume::HostPath);
    let changes_owner = |container: &Container| {
        let command = &container.command;
        let opens = |text: &String| {
            let mut words = text.split_whitespace();
            words.any(|word| matches!(word, "777" | "0777" | "a+rwX" | "a+rwx" | "a+w" | "o+w"))
        };
        command.iter().any(|word| word.contains("chown"))
            || command.iter().any(|word| word.contains("chmod")) && command.iter().any(opens)
    };
    has_group || as_root || pod.init_containers.iter().any(changes_owner)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Standalone,
        rules::testing::{Fixture, judge},
    };

    const CLAIM: &str =
        "volumes:\n  - name: data\n    persistentVolumeClaim: {claimName: my-release-milvus}";

    fn with_claim(version: &str, more: &str) -> Fixture {
        Fixture::standalone(version)
            .pod(Standalone, &format!("{more}\n{CLAIM}"))
            .container(
                Standalone,
                "volumeMounts:\n  - {name: data, mountPath: /var/lib/milvus}",
            )
    }

    #[rstest]
    #[case("2.6.22", "3.0.2", "", 1)]
    #[case("2.6.22", "3.0.2", "securityContext: {fsGroup: 999}", 0)]
    #[case("2.6.22", "3.0.2", "securityContext: {runAsUser: 0}", 0)]
    #[case(
        "2.6.22",
        "3.0.2",
        "initContainers:\n  - {name: own, image: busybox, command: [sh, -c, chown -R 999:999 /data]}",
        0
    )]
    #[case(
        "2.6.22",
        "3.0.2",
        "initContainers:\n  - {name: own, image: busybox, command: [sh, -c, chmod -R 777 /data]}",
        0
    )]
    #[case(
        "2.6.22",
        "3.0.2",
        "initContainers:\n  - {name: own, image: busybox, command: [sh, -c, chmod -R 750 /data]}",
        1
    )]
    #[case("2.5.27", "2.6.22", "", 0)]
    #[case("3.0.0", "3.0.2", "", 0)]
    fn volumes(#[case] from: &str, #[case] to: &str, #[case] more: &str, #[case] found: usize) {
        assert_eq!(
            judge(&RULE, Some(&with_claim(from, "")), &with_claim(to, more)).len(),
            found
        );
    }

    #[test]
    fn without_a_volume_there_is_nothing_to_own() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.6.22")),
                &Fixture::cluster("3.0.2")
            )
            .is_empty()
        );
    }
}
