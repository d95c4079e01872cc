//! MG301: the message queue must stay the one that holds the data.

use crate::{
    change::Upgrade,
    milvus::{
        Build, Release, Version,
        catalogue::QueueVersions,
        config::Setting,
        settings::{Located, QueueKind},
        shared_data::Shared,
    },
};

use super::{
    Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings, neighbor::Objection,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG301",
    name: "message-queue-changed",
    title: "the message queue stays the same",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[
        Behavior::ComparesSharedData,
        Behavior::ComparesSettings,
        Behavior::JudgesNeighbors,
    ],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Compares the effective message queue of every component: type, brokers, Pulsar tenant \
           and namespace, prefixes of channels and subscriptions, and where RocksMQ, NATS or \
           Woodpecker store the log. Broker lists that lead to the same cluster are equal. Denies a \
           version of Milvus that does not have the queue, and a second Milvus with other \
           metadata on the channels of one that runs.",
    why: "Unflushed rows, channel positions and delete messages are in the old queue. If Milvus \
          starts on another queue, it does not see them, and its checkpoints point to messages \
          that do not exist there.",
    example: "Chart 4.2.27 switches a default installation from Pulsar v2 to Pulsar v3: the broker address becomes \
              my-release-pulsarv3-proxy, and the new Pulsar is empty.",
    fix: "Keep the queue that contains the data. Switch queues only by the documented procedure, \
          separately from an upgrade.",
    sources: &[
        "milvus#26002",
        "milvus#42798",
        "milvus#7905",
        "milvus#41564",
        "milvus-helm#252",
        "milvus-helm#155",
        "Milvus docs: upgrade to 2.6",
    ],
    check,
};

/// A second Milvus with other metadata.
const NEIGHBOR: Objection = Objection {
    shared: Shared::Channels,
    does: "use the same channels of the message queue as",
    why: "Each reads the rows and the time ticks that the other writes.",
    fix: "Set another msgChannel.chanNamePrefix.cluster for the new release.",
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if NEIGHBOR.judge(upgrade, findings) {
        return;
    }
    guarded_settings::compare(upgrade, RULE.id, findings);
    needs_a_service(upgrade, findings);
    needs_its_queue(upgrade, findings);
}

/// The version must have the queue that its configuration names.
fn needs_its_queue(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let facts = &upgrade.catalogue.dependencies.queues;
    let Some((queue, build, setting)) = missing_queue(upgrade.after, facts) else {
        return;
    };
    let before = upgrade
        .before
        .and_then(|before| missing_queue(before, facts));
    if before.is_some_and(|(had, ran, _)| had == queue && ran == build) {
        return;
    }
    findings
        .deny(format!("Milvus {build} does not have the queue {queue}"))
        .because(
            "Milvus does not start. Another queue does not have the rows that were not flushed.",
        )
        .evidence(
            setting.key,
            None,
            Some(queue.name().to_owned()),
            Some(setting.origin),
        )
        .fix(format!(
            "Stay on a version that has {queue}, or move the data to a new installation with another queue by milvus-backup."
        ));
}

/// A queue that a component is configured for and its version does not have.
fn missing_queue<'a>(
    release: &'a Release,
    facts: &[QueueVersions],
) -> Option<(QueueKind, Build, Setting<'a>)> {
    release.located().find_map(|located| {
        let queue = located.queue().ok()?;
        let setting = queue.setting?;
        let component = release.components.get(located.component())?;
        let build = component.version().build()?.clone();
        let row = facts.iter().find(|row| row.queue == queue.value)?;
        (!row.versions.contains(build.version)).then_some((queue.value, build, setting))
    })
}

/// The first version that can use Woodpecker as a separate service; earlier ones only embed it
/// [milvus#50201].
const WITH_SERVICE: Version = Version::new(3, 0, 0);

/// Milvus before 3.0 stops with a panic where Woodpecker is a service, also where it was so before
/// or is installed so.
fn needs_a_service(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(build) = upgrade
        .builds_after()
        .first()
        .filter(|build| build.version < WITH_SERVICE)
    else {
        return;
    };
    let uses_service = |located: &Located<'_>| {
        located
            .woodpecker()
            .is_ok_and(|storage| storage == "service")
            && located
                .queue()
                .is_ok_and(|queue| queue.value == QueueKind::Woodpecker)
    };
    let is_new = upgrade
        .before
        .is_none_or(|before| !before.located().any(|located| uses_service(&located)));
    if is_new
        && upgrade
            .after
            .located()
            .any(|located| uses_service(&located))
    {
        findings
            .deny(format!(
                "Woodpecker would run as a separate service, which {build} cannot use"
            ))
            .because("Milvus before 3.0 only embeds Woodpecker: it panics when it starts.")
            .remedy(
                upgrade
                    .advice()
                    .keep_log()
                    .and("Switch only after the upgrade to 3.0, by the documented procedure."),
            );
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::Facts,
        rules::testing::{Fixture, judge, judge_change},
    };

    const PULSAR_V2: &str =
        "mq: {type: pulsar}\npulsar: {address: my-release-pulsar-proxy, port: 6650}\n";

    #[test]
    fn pulsar_v2_to_v3_by_the_default_flip_is_denied() {
        let before = Fixture::cluster("2.4.17").default_yaml(PULSAR_V2);
        let after = Fixture::cluster("2.5.5").default_yaml(
            "mq: {type: pulsar}\npulsar: {address: my-release-pulsarv3-proxy, port: 6650}\n",
        );
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0]
                .message
                .contains("my-release-pulsar-proxy:6650 to my-release-pulsarv3-proxy:6650")
        );
    }

    #[test]
    fn rocksmq_to_woodpecker_is_denied() {
        let before = Fixture::standalone("2.5.5").default_yaml("messageQueue: rocksmq\n");
        let after = Fixture::standalone("2.6.11").default_yaml(
            "messageQueue: pulsar\nmessageQueue: woodpecker\nmq: {type: woodpecker}\n",
        );
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(
            findings[0].message,
            "the message queue would change from rocksmq to woodpecker"
        );
    }

    #[test]
    fn a_woodpecker_that_leaves_milvus_is_kept_inside() {
        let run = |storage: &str| {
            Fixture::cluster("2.6.22")
                .chart("5.0.14")
                .default_yaml(&format!(
                    "mq: {{type: woodpecker}}\nwoodpecker: {{storage: {{type: {storage}}}}}"
                ))
        };
        let findings = judge(&RULE, Some(&run("minio")), &run("service"));
        assert_eq!(findings.len(), 2, "{findings:?}");
        for finding in findings {
            let text = &finding.fix.text;
            assert!(
                text.starts_with(
                    "Set streaming.woodpecker.embedded=true and \
                     streaming.woodpecker.storage.type=minio in the Helm values"
                ),
                "{text}"
            );
        }
        let queue = |text: &str| {
            Fixture::cluster("2.6.22")
                .chart("5.0.14")
                .default_yaml(text)
        };
        let findings = judge(&RULE, Some(&run("local")), &queue("mq: {type: pulsar}"));
        let text = &findings[0].fix.text;
        assert!(
            text.starts_with(
                "Set woodpecker.enabled=true, streaming.woodpecker.embedded=true, \
                 streaming.woodpecker.storage.type=local and externalPulsar.enabled=false in"
            ),
            "{text}"
        );
    }

    #[test]
    fn another_spelling_of_the_same_queue_is_no_change() {
        let before = Fixture::cluster("2.1.4").default_yaml(
            "pulsar: {address: my-release-pulsar-proxy, port: 6650}\nmsgChannel: {chanNamePrefix: {cluster: by-dev}}\n",
        );
        let after = Fixture::cluster("2.2.16").default_yaml("mq: {type: pulsar}\nmessageQueue: pulsar\npulsar: {address: pulsar://my-release-pulsar-proxy.milvus.svc, port: 6650}\n");
        assert!(judge(&RULE, Some(&before), &after).is_empty());
    }

    #[test]
    fn a_lost_channel_prefix_is_denied() {
        let before =
            Fixture::cluster("2.1.4").default_yaml("common: {chanNamePrefix: {cluster: prod}}\n");
        let after = Fixture::cluster("2.2.16").default_yaml("mq: {type: pulsar}\n");
        assert_eq!(judge(&RULE, Some(&before), &after).len(), 1);
    }

    const TENANT: &str =
        "mq: {type: pulsar}\npulsar: {address: p, tenant: t, namespace: default}\n";

    #[rstest]
    #[case("2.6.8", "2.6.9", TENANT, "would change from public to t")]
    #[case("2.5.27", "2.6.8", TENANT, "would change from t to public")]
    #[case("2.6.5", "2.6.8", TENANT, "")]
    #[case("2.6.9", "2.6.22", TENANT, "")]
    #[case(
        "2.6.8",
        "2.6.9",
        "mq: {type: pulsar}\npulsar: {address: p, tenant: public}\n",
        ""
    )]
    fn versions_that_ignore_the_tenant_of_pulsar(
        #[case] from: &str,
        #[case] to: &str,
        #[case] yaml: &str,
        #[case] expected: &str,
    ) {
        let run = |version| Fixture::cluster(version).default_yaml(yaml);
        let found = judge(&RULE, Some(&run(from)), &run(to));
        match found.as_slice() {
            [] => assert_eq!(expected, ""),
            [one] => {
                assert_eq!(one.message, format!("pulsar.tenant {expected}"));
                assert!(
                    one.why
                        .as_deref()
                        .is_some_and(|why| why.contains("ignores this setting")),
                    "{one:?}"
                );
            }
            more => panic!("{more:?}"),
        }
    }

    #[test]
    fn a_tenant_that_takes_effect_can_be_kept_as_the_default() {
        let before = Fixture::cluster("2.6.8").default_yaml(TENANT);
        let after =
            Fixture::cluster("2.6.9").default_yaml(&TENANT.replace("tenant: t", "tenant: public"));
        // Sent one by one, a workload before its ConfigMap would start with the other tenant; a
        // rollback is judged as a whole only.
        let facts = Facts::default();
        assert!(judge_change(&RULE, Some(&before), &after, &facts, true).is_empty());
    }

    #[rstest]
    #[case::removed("natsmq", "2.5.27", "2.6.24", 1)]
    #[case::removed_long_ago("natsmq", "2.5.27", "3.0.2", 1)]
    #[case::still_there("natsmq", "2.4.24", "2.5.27", 0)]
    #[case::not_there_yet("woodpecker", "2.4.24", "2.5.27", 1)]
    #[case::there("woodpecker", "2.6.11", "2.6.24", 0)]
    #[case::in_every_version("rocksmq", "2.5.27", "2.6.24", 0)]
    #[case::nothing_changes("natsmq", "2.6.24", "2.6.24", 0)]
    fn the_version_has_the_queue(
        #[case] queue: &str,
        #[case] from: &str,
        #[case] to: &str,
        #[case] found: usize,
    ) {
        let run = |version: &str| {
            Fixture::standalone(version).default_yaml(&format!("mq: {{type: {queue}}}"))
        };
        let findings = judge(&RULE, Some(&run(from)), &run(to));
        assert_eq!(findings.len(), found, "{findings:?}");
    }
}
