//! MG405: an image that is no longer published cannot be pulled by a new node.

use crate::upgrade::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG405",
    name: "vanished-image",
    title: "dependency images can still be pulled",
    category: Category::Dependencies,
    default: DefaultAction::Warn,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::After],
    what: "Warns about dependency images from repositories that no longer publish them.",
    why: "Pods that move to another node, or restart with a new template, end in ImagePullBackOff, and Milvus loses its queue.",
    example: "Charts below 5.0.1 with kafka.enabled take bitnami/kafka.",
    fix: "Point the image to its new repository, or to your own mirror.",
    sources: &["milvus-helm#244", "milvus-helm#253", "milvus#47107"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.not_applicable("the release has no etcd, object storage or message queue of its own");
    for dependency in &upgrade.after.dependencies {
        let Some(image) = dependency.image() else { continue };
        findings.checked();
        let public = image.registry().is_none_or(|registry| registry.ends_with("docker.io"));
        let Some(row) = upgrade.catalogue.dependencies.vanished.iter().find(|row| public && image.path().starts_with(&row.prefix)) else {
            continue;
        };
        let finding = findings.warn(format!("{image} is no longer published"));
        finding.object(&dependency.workload.meta).evidence(
            "image",
            None,
            Some(image.to_string()),
            Some(&dependency.workload.meta.origin),
        );
        if let Some(moved) = &row.moved_to {
            finding.fix(format!("Use {}{} or your own mirror.", moved, &image.path()[row.prefix.len()..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("bitnami/kafka:3.1.0", 1)]
    #[case("docker.io/bitnami/kafka:3.1.0-debian-10-r52", 1)]
    #[case("docker.io/bitnamilegacy/kafka:3.1.0", 0)]
    #[case("registry.local/bitnami/kafka:3.1.0", 0)]
    #[case("milvusdb/etcd:3.5.5-r2", 0)]
    fn images(#[case] image: &str, #[case] found: usize) {
        let after = Fixture::cluster("2.4.17").stateful_set("my-release-kafka", "app.kubernetes.io/name: kafka", image);
        assert_eq!(judge(&RULE, None, &after).len(), found);
    }
}
