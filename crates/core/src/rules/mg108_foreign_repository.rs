//! MG108: the image should come from where it came before, or from a known mirror.

use crate::change::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG108",
    name: "foreign-repository",
    title: "images come from the same repository or a known mirror",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Warns if the repository of a Milvus image changes to one that is not a known form of \
           milvusdb/milvus. A private mirror that keeps the last path elements \
           (registry/milvusdb/milvus) is known.",
    why: "A tag does not prove what an unknown repository publishes under it.",
    example: "milvusdb/milvus:v2.5.5 becomes example.com/team/vector-db:v2.5.5.",
    fix: "Use milvusdb/milvus or a mirror whose path ends in milvusdb/milvus, or add your mirror \
          with --data (mirrors).",
    sources: &["milvus-helm#156"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if upgrade.pairs().next().is_some() {
        findings.checked();
    }
    let mut seen: Vec<String> = Vec::new();
    for (before, after) in upgrade.changed_pairs() {
        let (old, new) = (before.image(), after.image());
        if old.path() == new.path()
            || upgrade.catalogue.mirrors.knows(&new)
            || seen.contains(&new.repository)
        {
            continue;
        }
        findings
            .warn(format!(
                "the image repository would change from {} to {}, which is not a known mirror",
                old.repository, new.repository
            ))
            .on(after)
            .evidence(
                "image",
                Some(old.to_string()),
                Some(new.to_string()),
                Some(&after.workload.meta.origin),
            );
        seen.push(new.repository);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("milvusdb/milvus", "example.com/team/vector-db", true)]
    #[case("milvusdb/milvus", "evilmilvusdb/milvus", true)]
    #[case("milvusdb/milvus", "registry.local:5000/mirror/milvusdb/milvus", false)]
    #[case("milvusdb/milvus", "docker.io/milvusdb/milvus", false)]
    #[case("milvusdb/milvus", "harbor.milvus.io/milvus/milvus", false)]
    #[case("example.com/team/vector-db", "example.com/team/vector-db", false)]
    #[case(
        "example.com/team/vector-db",
        "mirror.example.com/team/vector-db",
        false
    )]
    fn repositories(#[case] before: &str, #[case] after: &str, #[case] found: bool) {
        let run = |repository: &str| Fixture::cluster("2.5.5").repository(repository);
        assert_eq!(
            !judge(&RULE, Some(&run(before)), &run(after)).is_empty(),
            found
        );
    }
}
