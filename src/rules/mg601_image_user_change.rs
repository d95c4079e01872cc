//! MG601: Milvus 3 does not run as root any more.

use crate::{
    manifest::object::{Container, VolumeSource, Workload},
    milvus::Version,
    upgrade::Upgrade,
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
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Where 3.0 or later follows an earlier version, asks for fsGroup, runAsUser 0 or a chown init container on every \
           workload that mounts a volume claim.",
    why: "Images from 3.0 on run as user 999; files that earlier images wrote belong to root, so Milvus stops with 'permission \
          denied' under /var/lib/milvus.",
    example: "A standalone with persistence goes from 2.6.22 to 3.0.2 with the chart's empty securityContext.",
    fix: "Set fsGroup 999 for the pods (with a CSI driver that applies it), or add an init container that runs chown -R 999:999.",
    sources: &["milvus#44524", "milvus#51221", "milvus#49775", "milvus#53564"],
    check,
};

/// The first version whose image has a user of its own.
const UNPRIVILEGED: Version = Version::new(3, 0, 0);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    for (before, after) in upgrade.changed_pairs() {
        let (old, new) = (before.version(), after.version());
        let (Some(from), Some(to)) = (old.build(), new.build()) else { continue };
        if from.version >= UNPRIVILEGED || to.version < UNPRIVILEGED || is_prepared(&after.workload) {
            continue;
        }
        let claim = after.workload.pod.volumes.iter().find_map(|volume| match &volume.source {
            VolumeSource::Claim(claim) => Some(claim.clone()),
            _ => None,
        });
        if let Some(claim) = claim {
            findings
                .deny(format!("{} would run as user 999 on volume claim {claim}, whose files belong to root", after.component))
                .on(after)
                .evidence("image", Some(before.image().to_string()), Some(after.image().to_string()), Some(&after.workload.meta.origin))
                .remedy(upgrade.advice().fs_group(after, 999));
        }
    }
}

fn is_prepared(workload: &Workload) -> bool {
    let pod = &workload.pod;
    let as_root = pod.run_as_user == Some(0) || pod.containers.iter().any(|container| container.run_as_user == Some(0));
    let changes_owner = |container: &Container| container.command.iter().any(|word| word.contains("chown"));
    pod.fs_group.is_some() || as_root || pod.init_containers.iter().any(changes_owner)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Standalone,
        rules::testing::{Fixture, judge},
    };

    const CLAIM: &str = "volumes:\n  - name: data\n    persistentVolumeClaim: {claimName: my-release-milvus}";

    fn with_claim(version: &str, more: &str) -> Fixture {
        Fixture::standalone(version).pod(Standalone, &format!("{more}\n{CLAIM}"))
    }

    #[rstest]
    #[case("2.6.22", "3.0.2", "", 1)]
    #[case("2.6.22", "3.0.2", "securityContext: {fsGroup: 999}", 0)]
    #[case("2.6.22", "3.0.2", "securityContext: {runAsUser: 0}", 0)]
    #[case("2.6.22", "3.0.2", "initContainers:\n  - {name: own, image: busybox, command: [sh, -c, chown -R 999:999 /data]}", 0)]
    #[case("2.5.27", "2.6.22", "", 0)]
    #[case("3.0.0", "3.0.2", "", 0)]
    fn volumes(#[case] from: &str, #[case] to: &str, #[case] more: &str, #[case] found: usize) {
        assert_eq!(judge(&RULE, Some(&with_claim(from, "")), &with_claim(to, more)).len(), found);
    }

    #[test]
    fn without_a_volume_there_is_nothing_to_own() {
        assert!(judge(&RULE, Some(&Fixture::cluster("2.6.22")), &Fixture::cluster("3.0.2")).is_empty());
    }
}
