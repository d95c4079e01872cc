//! MG301: the message queue must stay the one that holds the data.

use std::collections::BTreeSet;

use crate::{
    milvus::settings::{Host, QueueKind},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG301",
    name: "message-queue-changed",
    title: "the message queue stays the same",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before, Need::Config],
    what: "Compares the effective message queue: type, brokers, Pulsar tenant and namespace, channel prefix.",
    why: "Rows that are not flushed yet, channel positions and delete messages live in the old queue. Milvus started on \
          another one does not see them, and its checkpoints point to messages that are not there.",
    example: "Chart 4.2.27 switches a default installation from Pulsar v2 to Pulsar v3: the broker address becomes \
              my-release-pulsarv3-proxy, and the new Pulsar is empty.",
    fix: "Keep the queue that holds the data; switch queues only by the documented procedure, apart from any upgrade.",
    sources: &["milvus#26002", "milvus#42798", "milvus-helm#252", "milvus-helm#155", "Milvus docs: upgrade to 2.6"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    let (old, new) = (before.queue(), after.queue());
    if old.kind.value != new.kind.value {
        let text = |setting: Option<crate::milvus::config::Setting<'_>>| setting.map(|setting| setting.origin.clone());
        let origin = text(new.kind.setting).or_else(|| text(old.kind.setting));
        let finding = findings.deny(format!("the message queue would change from {} to {}", old.kind.value, new.kind.value));
        finding.setting(
            "mq.type",
            (&old.kind.value.to_string(), old.kind.setting),
            (&new.kind.value.to_string(), new.kind.setting),
        );
        if let Some(origin) = &origin {
            finding.at(origin);
        }
        finding.remedy(upgrade.advice().keep_queue());
        return;
    }
    if old.endpoints.value != new.endpoints.value && !old.endpoints.value.is_empty() {
        let (from, to) = (list(&old.endpoints.value), list(&new.endpoints.value));
        findings
            .deny(format!("the brokers of {} would change from {from} to {to}", old.kind.value))
            .setting("brokers", (&from, old.endpoints.setting), (&to, new.endpoints.setting))
            .remedy(upgrade.advice().keep_queue());
    }
    let mut paths = vec![("common.chanNamePrefix.cluster", "channel prefix", &old.prefix, &new.prefix)];
    if old.kind.value == QueueKind::Pulsar {
        paths.push(("pulsar.tenant", "Pulsar tenant", &old.tenant, &new.tenant));
        paths.push(("pulsar.namespace", "Pulsar namespace", &old.namespace, &new.namespace));
    }
    for (key, what, old, new) in paths {
        if old.value != new.value {
            findings
                .deny(format!("the {what} would change from {} to {}", old.value, new.value))
                .setting(key, (&old.value, old.setting), (&new.value, new.setting))
                .remedy(upgrade.advice().keep_setting(key, &old.value));
        }
    }
}

fn list(hosts: &BTreeSet<Host>) -> String {
    if hosts.is_empty() { "none".into() } else { hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    const PULSAR_V2: &str = "mq: {type: pulsar}\npulsar: {address: my-release-pulsar-proxy, port: 6650}\n";

    #[test]
    fn pulsar_v2_to_v3_by_the_default_flip_is_denied() {
        let before = Fixture::cluster("2.4.17").default_yaml(PULSAR_V2);
        let after = Fixture::cluster("2.5.5").default_yaml("mq: {type: pulsar}\npulsar: {address: my-release-pulsarv3-proxy, port: 6650}\n");
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].message.contains("my-release-pulsar-proxy:6650 to my-release-pulsarv3-proxy:6650"));
    }

    #[test]
    fn rocksmq_to_woodpecker_is_denied() {
        let before = Fixture::standalone("2.5.5").default_yaml("messageQueue: rocksmq\n");
        let after = Fixture::standalone("2.6.11").default_yaml("messageQueue: pulsar\nmessageQueue: woodpecker\nmq: {type: woodpecker}\n");
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(findings[0].message, "the message queue would change from rocksmq to woodpecker");
    }

    #[test]
    fn another_spelling_of_the_same_queue_is_no_change() {
        let before = Fixture::cluster("2.1.4").default_yaml("pulsar: {address: my-release-pulsar-proxy, port: 6650}\nmsgChannel: {chanNamePrefix: {cluster: by-dev}}\n");
        let after = Fixture::cluster("2.2.16").default_yaml("mq: {type: pulsar}\nmessageQueue: pulsar\npulsar: {address: pulsar://my-release-pulsar-proxy.default.svc, port: 6650}\n");
        assert!(judge(&RULE, Some(&before), &after).is_empty());
    }

    #[test]
    fn a_lost_channel_prefix_is_denied() {
        let before = Fixture::cluster("2.1.4").default_yaml("common: {chanNamePrefix: {cluster: prod}}\n");
        let after = Fixture::cluster("2.2.16").default_yaml("mq: {type: pulsar}\n");
        assert_eq!(judge(&RULE, Some(&before), &after).len(), 1);
    }
}
