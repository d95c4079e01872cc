//! MG308: some settings are fixed once there is data.

use crate::{change::Upgrade, milvus::settings::Effective};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG308",
    name: "fixed-setting",
    title: "settings that existing data depends on stay the same",
    category: Category::Configuration,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::ComparesSettings],
    since: "0.2.0",
    needs: &[Need::Before],
    what: "Compares settings that must not change once data exists, that cannot be undone, or that \
           all components must change at the same time: pre-created topics, number of channels, \
           index versions, storage format, TLS between components, the name of the default \
           partition, the lifetime of rows. Also warns if such a setting is \
           enabled and the upgrade passes a release that is incompatible with it.",
    why: "Existing collections and indexes depend on the old value and do not adapt to a new one.",
    example: "rootCoord.dmlChannelNum is lowered from 16 to 8 while collections use channels 8 to 15.",
    fix: "Keep the value. Change it only in a new installation, and move the data there with \
          milvus-backup.",
    sources: &[
        "milvus#21648",
        "milvus#38412",
        "milvus#48470",
        "Milvus release notes 3.0",
        "milvus immutable_audit_test.go",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    guarded_settings::compare(upgrade, RULE.id, findings);
    for row in guarded_settings::rows(upgrade, RULE.id) {
        let Some((crossing, (from, to))) = row.crossing.as_ref().zip(upgrade.versions()) else {
            continue;
        };
        if !crossing.from.contains(from.version) || !crossing.to.contains(to.version) {
            continue;
        }
        let is_default = |value: &Effective<'_>| match value {
            Effective::Known(value, _) => row
                .default
                .as_ref()
                .is_some_and(|default| value.to_string() == *default),
            Effective::Unknown(_) => true,
        };
        let on = upgrade
            .after
            .located()
            .map(|located| located.effective(row))
            .find(|value| !is_default(value));
        if let Some(value) = on {
            findings
                .warn(format!(
                    "{} is {value}, and the version changes from {from} to {to}",
                    row.key
                ))
                .because(format!("{}.", crossing.effect))
                .fix("Read the linked report, and try the upgrade on a copy first.");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("rootCoord: {dmlChannelNum: 16}", "rootCoord: {dmlChannelNum: 8}", 1)]
    #[case("rootCoord: {dmlChannelNum: 16}", "a: 1", 0)]
    #[case("rootCoord: {dmlChannelNum: 16}", "rootCoord: {dmlChannelNum: 64}", 0)]
    #[case("rootCoord: {dmlChannelNum: 64}", "a: 1", 1)]
    #[case(
        "common: {preCreatedTopic: {enabled: true}}",
        "common: {preCreatedTopic: {enabled: false}}",
        1
    )]
    #[case(
        "common: {storage: {useLoonFFI: false}}",
        "common: {storage: {useLoonFFI: true}}",
        1
    )]
    #[case("a: 1", "common: {entityExpiration: 86400}", 1)]
    #[case(
        "common: {entityExpiration: 0}",
        "common: {entityExpiration: 86400}",
        1
    )]
    #[case(
        "common: {entityExpiration: 86400}",
        "common: {entityExpiration: 3600}",
        1
    )]
    #[case(
        "common: {entityExpiration: 3600}",
        "common: {entityExpiration: 86400}",
        0
    )]
    #[case(
        "common: {entityExpiration: 3600}",
        "common: {entityExpiration: -1}",
        0
    )]
    #[case("common: {entityExpiration: -1}", "common: {entityExpiration: 0}", 0)]
    #[case("common: {entityExpiration: -1}", "a: 1", 0)]
    #[case("a: 1", "common: {defaultPartitionName: main}", 1)]
    #[case("a: 1", "common: {defaultPartitionName: _default}", 0)]
    #[case("log: {level: info}", "log: {level: debug}", 0)]
    fn settings(#[case] before: &str, #[case] after: &str, #[case] found: usize) {
        let run = |yaml: &str| Fixture::cluster("2.4.17").default_yaml(yaml);
        assert_eq!(judge(&RULE, Some(&run(before)), &run(after)).len(), found);
    }

    #[rstest]
    #[case("2.4.5", "2.4.6", "true", 1)]
    #[case("2.4.5", "2.4.6", "false", 0)]
    #[case("2.4.6", "2.4.17", "true", 0)]
    fn pre_created_topics_across_a_release_that_broke_with_them(
        #[case] from: &str,
        #[case] to: &str,
        #[case] value: &str,
        #[case] found: usize,
    ) {
        let run = |version: &str| {
            Fixture::cluster(version).default_yaml(&format!(
                "mq: {{type: kafka}}\ncommon: {{preCreatedTopic: {{enabled: {value}}}}}\n"
            ))
        };
        assert_eq!(judge(&RULE, Some(&run(from)), &run(to)).len(), found);
    }
}
