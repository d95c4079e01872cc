//! MG404: a MinIO on its old filesystem backend cannot start on a new release.

use crate::{
    change::Upgrade,
    milvus::{
        dependency::{Dependency, Family},
        image::ImageRef,
    },
};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG404",
    name: "minio-filesystem-cutoff",
    title: "MinIO can read its storage backend",
    category: Category::Dependencies,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before, Need::Dependency(Family::Minio)],
    what: "Denies a MinIO upgrade past the release that removed the filesystem backend, if MinIO \
           runs standalone.",
    why: "A standalone MinIO that was installed before that release stores plain files. The new \
          release stops with 'found backend type fs, expected xl'.",
    example: "Chart 4.0.13 moves MinIO from RELEASE.2022-03-17 to RELEASE.2023-03-20.",
    fix: "Keep the MinIO image, or first copy the objects to a new MinIO with mc mirror.",
    sources: &["milvus#25321", "milvus#27991", "milvus#28880"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    findings.not_applicable("MinIO is distributed, or not part of the release before and after");
    let cutoff = &upgrade.catalogue.dependencies.minio_filesystem_cutoff;
    for old in before
        .dependencies_of(Family::Minio)
        .filter(|old| is_standalone(old))
    {
        let name = &old.workload.meta.object.name;
        let Some(new) = after
            .dependencies_of(Family::Minio)
            .find(|new| new.workload.meta.object.name == *name)
        else {
            continue;
        };
        let (Some(from), Some(to)) = (old.image(), new.image()) else {
            continue;
        };
        let release =
            |image: &ImageRef| image.tag.clone().filter(|tag| tag.starts_with("RELEASE."));
        if from == to {
            findings.checked();
            continue;
        }
        let (Some(old_release), Some(new_release)) = (release(&from), release(&to)) else {
            findings.not_evaluated(Missing::new(
                format!(
                    "the image of MinIO {name} changes, and its release cannot be read before \
                         or after the change"
                ),
                "Use a tag of the form RELEASE.2023-03-20T20-16-18Z.",
            ));
            continue;
        };
        findings.checked();
        if old_release < *cutoff && new_release >= *cutoff {
            findings
                .deny(format!(
                    "standalone MinIO {name} would be upgraded past {cutoff}, which can \
                               no longer read its files"
                ))
                .object(&new.workload.meta)
                .evidence(
                    "image",
                    Some(from.to_string()),
                    Some(to.to_string()),
                    Some(&new.workload.meta.origin),
                )
                .remedy(
                    upgrade
                        .advice()
                        .pin_image(
                            Family::Minio,
                            &new.workload.meta.object.to_string().replace('/', " "),
                            &from,
                        )
                        .and("Or first copy the objects to a new MinIO with mc mirror."),
                );
        }
    }
}

/// A distributed MinIO is a StatefulSet of several pods that name each other; everything else keeps
/// plain files.
fn is_standalone(minio: &Dependency) -> bool {
    let distributed = minio
        .workload
        .pod
        .containers
        .iter()
        .flat_map(|container| &container.command)
        .any(|word| word.contains("...") || word.contains("-svc"));
    minio.workload.stateful.is_none() || (minio.workload.wanted_replicas() <= 1 && !distributed)
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    const OLD: &str = "minio/minio:RELEASE.2022-03-17T06-34-49Z";
    const NEW: &str = "minio/minio:RELEASE.2023-03-20T20-16-18Z";

    fn minio(kind: &str, replicas: u8, image: &str) -> Fixture {
        Fixture::cluster("2.2.3").object(&format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: my-release-minio}}\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"{image}\"}}]\n"
        ))
    }

    #[test]
    fn a_standalone_that_crosses_is_denied() {
        assert_eq!(
            judge(
                &RULE,
                Some(&minio("Deployment", 1, OLD)),
                &minio("Deployment", 1, NEW)
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_distributed_one_and_other_steps_are_fine() {
        assert!(
            judge(
                &RULE,
                Some(&minio("StatefulSet", 4, OLD)),
                &minio("StatefulSet", 4, NEW)
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&minio("Deployment", 1, NEW)),
                &minio("Deployment", 1, NEW)
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&minio("Deployment", 1, OLD)),
                &minio("Deployment", 1, OLD)
            )
            .is_empty()
        );
    }
}
