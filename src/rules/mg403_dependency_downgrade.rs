//! MG403: etcd, object storage and queue must not go back to an older version.

use crate::{
    milvus::{Version, dependency::Dependency},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG403",
    name: "dependency-downgrade",
    title: "dependencies do not go down in version",
    category: Category::Dependencies,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Denies an image of etcd, MinIO, Pulsar, Kafka or ZooKeeper that is lower in major or minor (for MinIO: older in months).",
    why: "Their files are written for the newer version; the older one may refuse to start or read them wrong.",
    example: "helm rollback across chart 4.2.3 takes etcd from 3.5.14 to an older line.",
    fix: "Keep the image of the dependency.",
    sources: &["milvus#40706", "milvus#17647", "milvus#25321"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    for (old, new) in upgrade.changed_dependencies() {
        let name = &old.workload.meta.object.name;
        let (Some(from), Some(to)) = (age(old), age(new)) else { continue };
        if to < from {
            let image = |dependency: &Dependency| dependency.image().map(|image| image.to_string());
            let finding = findings.deny(format!("{} {name} would go down to an older version", old.family));
            finding
                .object(&new.workload.meta)
                .evidence("image", image(old), image(new), Some(&new.workload.meta.origin));
            if let Some(running) = old.image() {
                let object = format!("{} {name}", new.workload.meta.object.kind);
                finding.remedy(upgrade.advice().pin_image(old.family, &object, &running));
            }
        }
    }
}

/// Major and minor, or year and month for MinIO.
fn age(dependency: &Dependency) -> Option<(u32, u32)> {
    let tag = dependency.image()?.tag?;
    if let Some(date) = tag.strip_prefix("RELEASE.") {
        let mut parts = date.split('-');
        return Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?));
    }
    let head = tag.split(['-', '_', '+']).next()?;
    let version = head.contains('.').then(|| Version::parse_lenient(head))??;
    Some((version.major.into(), version.minor.into()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("app.kubernetes.io/name: etcd", "milvusdb/etcd:3.5.14-r1", "milvusdb/etcd:3.4.20", 1)]
    #[case("app: minio", "minio/minio:RELEASE.2023-03-20T20-16-18Z", "minio/minio:RELEASE.2022-03-17T06-34-49Z", 1)]
    #[case("app: pulsar", "apachepulsar/pulsar:2.9.5", "apachepulsar/pulsar:2.8.2", 1)]
    #[case("app.kubernetes.io/name: etcd", "milvusdb/etcd:3.5.5-r4", "milvusdb/etcd:3.5.5-r2", 0)]
    #[case("app.kubernetes.io/name: etcd", "milvusdb/etcd:3.5.0-r6", "milvusdb/etcd:3.5.14", 0)]
    #[case("app: minio", "minio/minio:RELEASE.2023-03-20T20-16-18Z", "minio/minio:RELEASE.2024-05-28T17-19-04Z", 0)]
    #[case("app: pulsar", "apachepulsar/pulsar:2.8.2", "apachepulsar/pulsar:latest", 0)]
    fn images(#[case] label: &str, #[case] before: &str, #[case] after: &str, #[case] found: usize) {
        let run = |image: &str| Fixture::cluster("2.4.17").stateful_set("my-release-dep", label, image);
        assert_eq!(judge(&RULE, Some(&run(before)), &run(after)).len(), found);
    }
}
