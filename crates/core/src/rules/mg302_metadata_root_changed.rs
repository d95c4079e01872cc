//! MG302: Milvus must find its metadata where it left it.

use crate::change::Upgrade;

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG302",
    name: "metadata-root-changed",
    title: "the metadata location stays the same",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[Behavior::ComparesSettings],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Compares where every component stores its metadata: etcd, the etcd inside Milvus and \
           its folder, or TiKV, with root path and sub-paths. Different spellings of the same \
           Service, and members of the same etcd, are equal.",
    why: "With another root Milvus sees an empty database and starts as if new. Its garbage \
          collection then deletes the objects that the empty database does not reference.",
    example: "metadata.rootPath=prod was set with chart 3.x; chart 4.x ignores it and falls back to by-dev.",
    fix: "Set the current value explicitly before the upgrade.",
    sources: &["milvus#18574", "milvus#45267", "milvus-helm README"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    guarded_settings::compare(upgrade, RULE.id, findings);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    fn run(before: &str, after: &str) -> usize {
        judge(
            &RULE,
            Some(&Fixture::cluster("2.4.17").default_yaml(before)),
            &Fixture::cluster("2.4.24").default_yaml(after),
        )
        .len()
    }

    #[rstest]
    #[case("etcd: {rootPath: prod}", "etcd: {endpoints: [my-release-etcd:2379]}")]
    #[case("etcd: {rootPath: by-dev}", "etcd: {rootPath: my-release}")]
    #[case("etcd: {rootPath: by-dev}", "etcd: {rootPath: by-dev/x}")]
    #[case("etcd: {rootPath: a/b}", "etcd: {rootPath: a/../b}")]
    #[case("etcd: {rootPath: prod}", "etcd: {rootPath: \"prod\\n\"}")]
    #[case("etcd: {rootPath: \" prod\"}", "etcd: {rootPath: prod}")]
    #[case("etcd: {metaSubPath: m}", "etcd: {metaSubPath: meta}")]
    #[case("etcd: {kvSubPath: k}", "etcd: {kvSubPath: kv}")]
    #[case(
        "etcd: {endpoints: [my-release-etcd:2379]}",
        "etcd: {endpoints: [other-etcd:2379]}"
    )]
    #[case("metastore: {type: etcd}", "metastore: {type: tikv}")]
    fn denied(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 1);
    }

    #[rstest]
    #[case(
        "etcd: {rootPath: by-dev}",
        "etcd: {endpoints: [my-release-etcd:2379]}"
    )]
    #[case(
        "etcd: {endpoints: [my-release-etcd:2379]}",
        "etcd: {endpoints: [\"my-release-etcd-0.my-release-etcd-headless.milvus.svc.cluster.local:2379\", \"my-release-etcd-1.my-release-etcd-headless.milvus.svc.cluster.local:2379\"]}"
    )]
    #[case(
        "etcd: {endpoints: [\"10.0.0.1:2379\", \"10.0.0.2:2379\"]}",
        "etcd: {endpoints: [\"10.0.0.1:2379\", \"10.0.0.2:2379\", \"10.0.0.3:2379\"]}"
    )]
    #[case("etcd: {rootPath: /by-dev/}", "etcd: {rootPath: by-dev}")]
    #[case("etcd: {rootPath: ./by-dev}", "etcd: {rootPath: by-dev}")]
    #[case("etcd: {rootPath: a/../by-dev}", "etcd: {rootPath: by-dev/.}")]
    #[case("etcd: {rootPath: a//b}", "etcd: {rootPath: a/b}")]
    #[case("log: {level: info}", "log: {level: debug}")]
    fn harmless(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 0);
    }

    #[test]
    fn an_etcd_without_members_gets_them_back() {
        let run = |members: u8, endpoints: &str| {
            Fixture::cluster("2.4.17")
                .chart("4.2.40")
                .default_yaml(&format!("etcd: {{endpoints: [{endpoints}]}}"))
                .object(&format!(
                    "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd, labels: {{app.kubernetes.io/instance: my-release, app.kubernetes.io/name: etcd}}}}\nspec: {{replicas: {members}, selector: {{matchLabels: {{app.kubernetes.io/name: etcd}}}}, template: {{metadata: {{labels: {{app.kubernetes.io/name: etcd}}}}, spec: {{containers: [{{name: etcd, image: 'milvusdb/etcd:3.5.18-r1'}}]}}}}}}\n"
                ))
        };
        let before = run(3, "'my-release-etcd:2379'");
        let text = |after: &Fixture| judge(&RULE, Some(&before), after)[0].fix.text.to_string();
        assert!(
            text(&run(0, "")).starts_with("Set etcd.replicaCount=3 in the Helm values"),
            "{}",
            text(&run(0, ""))
        );
        let other = text(&run(1, "'other:2379'"));
        assert!(!other.contains("replicaCount"), "{other}");
    }

    #[test]
    fn the_user_file_wins_over_the_charts() {
        let before = Fixture::cluster("2.4.17")
            .default_yaml("etcd: {rootPath: by-dev}")
            .user_yaml("etcd: {rootPath: prod}");
        let after = Fixture::cluster("2.4.24").default_yaml("etcd: {rootPath: by-dev}");
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(
            findings[0].message,
            "etcd.rootPath would change from prod to by-dev"
        );
    }
}
