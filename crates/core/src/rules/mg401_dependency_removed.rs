//! MG401: what holds data must not disappear, and no second queue may appear.

use crate::{
    change::Upgrade,
    milvus::{
        Release,
        dependency::{self, Dependency, Family},
        dependency_use::DependencyUse,
        endpoint::listed,
    },
};

use super::{
    Behavior, Category, DefaultAction, Findings, Need, Rule, advice::Remedy, state::Missing,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG401",
    name: "dependency-removed",
    title: "etcd, object storage and queue stay in the release",
    category: Category::Dependencies,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[Behavior::JudgesDeletions],
    since: "0.1.0",
    needs: &[Need::Before, Need::Dependencies],
    what: "Denies a change that deletes a StatefulSet of etcd, object storage or the queue that \
           contains data, or that adds a second kind of queue. Warns if one of them stops while \
           Milvus runs.",
    why: "A dependency that is no longer part of the release is deleted. Its volumes may stay, but \
          Milvus then runs without its data. A new Pulsar that an upgrade renders is not \
          initialized.",
    example: "Chart 4.2.27 renders Pulsar v3 instead of Pulsar v2, because the default changed.",
    fix: "Keep the running dependencies.",
    sources: &["milvus-helm#154", "milvus-helm#155", "milvus-helm README"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if upgrade.deletes.is_some() && before.is_stopped() {
        findings.not_applicable("Milvus is stopped");
        return;
    }
    let held = before.dependencies.iter().any(Dependency::holds_data);
    if held || after.families().into_iter().any(Family::is_queue) {
        findings.checked();
    } else {
        findings.not_applicable("no dependency in the release stores data on a volume");
    }
    for family in before.families() {
        let gone: Vec<_> = before
            .dependencies_of(family)
            .filter(|old| old.holds_data())
            .filter(|old| {
                !after.dependencies.iter().any(|new| {
                    new.workload.meta.object.name == old.workload.meta.object.name
                        && is_alike(old.family, new.family)
                })
            })
            .collect();
        // What Milvus is not configured for, before and after, holds nothing of it.
        let (unused, gone): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|old| upgrade.is_unused(old));
        if let Some(first) = unused.first() {
            let names = names(&unused);
            findings
                .warn(format!(
                    "{family} would be removed ({names}); Milvus does not use it"
                ))
                .because(
                    "The configuration of Milvus names another system. The volumes of the removed \
                     StatefulSet stay.",
                )
                .object(&first.workload.meta)
                .evidence(family.name(), Some(names), None, None)
                .fix(
                    "Make sure that no other application uses it. Delete its claims when the data in \
                     them is not needed.",
                );
        }
        let Some(first) = gone.first() else { continue };
        let names = names(&gone);
        findings
            .deny(format!("{family} would be removed ({names})"))
            .object(&first.workload.meta)
            .evidence(family.name(), Some(names), None, None)
            .remedy(match family {
                _ if upgrade.deletes.is_some() => Remedy::words(
                    "Keep it, or stop Milvus first. To create it again with other immutable fields \
                     (kubectl delete --cascade=orphan), ask an administrator for an \
                     UpgradeException for this rule and release.",
                ),
                Family::Minio if after.dependencies_of(Family::Silo).next().is_some() => {
                    upgrade.advice().keep_dependency(family).and(
                        "Silo starts on new, empty volumes. To run Silo on MinIO's volumes, change \
                     only the image, or copy every object into Silo with `mc mirror` before you \
                     point Milvus to it.",
                    )
                }
                _ => upgrade.advice().keep_dependency(family),
            });
    }
    stopped(upgrade, findings);
    let had_queue = before.families().into_iter().any(Family::is_queue);
    for family in after
        .families()
        .into_iter()
        .filter(|family| family.is_queue())
    {
        if before.dependencies_of(family).next().is_some() {
            continue;
        }
        let is_ours = |queue: &&Dependency| !is_of_others(after, queue);
        let Some(first) = after.dependencies_of(family).find(is_ours) else {
            continue;
        };
        // The queue that Milvus is configured for may well be installed after it.
        if before.has_config()
            && (is_meant(before, family) || before.uses(first) == DependencyUse::Named)
        {
            continue;
        }
        if !before.has_config() && !had_queue && has_never_run(upgrade, before) {
            continue;
        }
        // The queue may be one that the input leaves out.
        if !had_queue && !before.located().any(|located| located.queue().is_ok()) {
            findings.not_evaluated(Missing::new(
                format!(
                    "whether {family} would be added: the input before contains neither a queue \
                     nor the configuration that names it"
                ),
                "Add the StatefulSets and ConfigMaps of the release to the input before.",
            ));
            continue;
        }
        let context = if had_queue {
            "in addition to the running queue".to_owned()
        } else if before.has_config() {
            let queue = before.queue();
            let hosts = &queue.endpoints.value;
            if hosts.is_empty() {
                format!("although Milvus uses {}", queue.kind.value)
            } else {
                format!(
                    "although Milvus uses {} at {}",
                    queue.kind.value,
                    listed(hosts)
                )
            }
        } else {
            "although the release had no queue".to_owned()
        };
        findings
            .deny(format!("{family} would be added {context}"))
            .because(
                "In the best case the unwanted queue only uses resources. In the worst case \
                      Milvus connects to it and starts without its messages.",
            )
            .object(&first.workload.meta)
            .evidence(
                family.name(),
                None,
                Some(first.workload.meta.object.name.clone()),
                Some(&first.workload.meta.origin),
            )
            .remedy(upgrade.advice().leave_out(family));
    }
}

/// Warns of a dependency with data that stops while Milvus runs. MG407 judges etcd.
fn stopped(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if upgrade.after.is_stopped() {
        return;
    }
    let ends = |(old, new): &(&Dependency, &Dependency)| {
        old.workload.wanted_replicas() > 0 && new.workload.wanted_replicas() == 0
    };
    for (old, new) in upgrade.changed_dependencies().filter(ends) {
        if old.family == Family::Etcd || !old.holds_data() || upgrade.is_unused(old) {
            continue;
        }
        let meta = &new.workload.meta;
        findings
            .warn(format!(
                "{} {} would stop while Milvus runs",
                old.family, meta.object.name
            ))
            .because("Milvus fails to read or write until it runs again.")
            .object(meta)
            .evidence(
                "replicas",
                Some(old.workload.wanted_replicas().to_string()),
                Some("0".to_owned()),
                Some(&meta.origin),
            )
            .fix("Stop Milvus first, or keep the replicas.");
    }
}

/// Whether a workload that keeps its name may still be the system, in another version or as a fork.
/// Several systems may be in one pod.
fn is_alike(old: Family, new: Family) -> bool {
    let kind = |family: Family| match family {
        Family::PulsarV3 => Family::PulsarV2,
        Family::Silo => Family::Minio,
        other => other,
    };
    kind(old) == kind(new)
}

fn names(dependencies: &[&Dependency]) -> String {
    dependencies
        .iter()
        .map(|old| old.workload.meta.object.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether nothing of the release was ever available: a tool that installs object by object is not
/// through yet.
fn has_never_run(upgrade: &Upgrade<'_>, before: &Release) -> bool {
    let facts = upgrade.facts;
    let mut rollouts = facts
        .rollouts
        .iter()
        .flatten()
        .filter(|rollout| rollout.release == before.name)
        .peekable();
    let has_settled = facts
        .settled
        .iter()
        .flatten()
        .any(|settled| settled.release == before.name);
    rollouts.peek().is_some() && rollouts.all(|rollout| !rollout.ever_available) && !has_settled
}

/// Whether a queue bears the name of another release and Milvus is not configured for it: another
/// application in the namespace brings it.
fn is_of_others(release: &Release, queue: &Dependency) -> bool {
    dependency::instance(&queue.workload).is_some_and(|name| name != release.name)
        && release.uses(queue) == DependencyUse::Unused
}

/// Whether the running configuration points to a queue of this family inside the release.
fn is_meant(before: &Release, family: Family) -> bool {
    let word = match family {
        Family::PulsarV2 | Family::PulsarV3 => "pulsar",
        Family::Kafka => "kafka",
        _ => return false,
    };
    let own = format!("{}-", before.name);
    before
        .queue()
        .endpoints
        .value
        .iter()
        .map(ToString::to_string)
        .any(|host| host.starts_with(&own) && host.contains(word))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::{DataNode, IndexNode, MixCoord, Proxy, QueryNode},
        rules::{
            Severity,
            testing::{Fixture, judge},
        },
    };

    fn v2(fixture: Fixture) -> Fixture {
        fixture.stateful_set(
            "my-release-pulsar-bookie",
            "app: pulsar",
            "apachepulsar/pulsar:2.9.5",
        )
    }

    #[test]
    fn pulsar_v2_replaced_by_v3_is_denied_twice() {
        let after = Fixture::cluster("2.5.5").stateful_set(
            "my-release-pulsarv3-bookie",
            "app: pulsarv3",
            "apachepulsar/pulsar:3.0.7",
        );
        let findings = judge(&RULE, Some(&v2(Fixture::cluster("2.4.17"))), &after);
        let messages: Vec<_> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "Pulsar v2 would be removed (my-release-pulsar-bookie)",
                "Pulsar v3 would be added in addition to the running queue"
            ]
        );
    }

    #[test]
    fn an_unwanted_pulsar_in_addition_to_kafka_is_denied() {
        let kafka = |fixture: Fixture| {
            fixture.stateful_set(
                "my-release-kafka",
                "app.kubernetes.io/name: kafka",
                "bitnami/kafka:3.1.0",
            )
        };
        let after = kafka(Fixture::cluster("2.5.5")).stateful_set(
            "my-release-pulsarv3-bookie",
            "app: pulsarv3",
            "apachepulsar/pulsar:3.0.7",
        );
        assert_eq!(
            judge(&RULE, Some(&kafka(Fixture::cluster("2.4.17"))), &after).len(),
            1
        );
    }

    fn kafka_elsewhere(fixture: Fixture) -> Fixture {
        fixture.default_yaml(
            "mq: {type: kafka}\nkafka: {brokerList: \"k1.example.com:9092\"}\netcd: {endpoints: \
             [etcd.example.com:2379]}\nminio: {address: s3.amazonaws.com}\n",
        )
    }

    #[rstest]
    #[case::pulsar(
        "my-release-pulsarv3-bookie",
        "app: pulsarv3",
        "apachepulsar/pulsar:3.0.7"
    )]
    #[case::etcd(
        "my-release-etcd",
        "app.kubernetes.io/name: etcd",
        "milvusdb/etcd:3.5.18-r1"
    )]
    #[case::minio(
        "my-release-minio",
        "app: minio",
        "minio/minio:RELEASE.2024-12-18T13-15-44Z"
    )]
    fn what_milvus_does_not_use_is_removed_with_a_warning(
        #[case] name: &str,
        #[case] label: &str,
        #[case] image: &str,
    ) {
        let unused = kafka_elsewhere(Fixture::cluster("2.5.5")).stateful_set(name, label, image);
        let findings = judge(
            &RULE,
            Some(&unused),
            &kafka_elsewhere(Fixture::cluster("2.5.6")),
        );
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Warn, "{findings:?}");
        // What is not known, and what the configuration names, is in use.
        let silent = Fixture::cluster("2.5.5").stateful_set(name, label, image);
        let findings = judge(&RULE, Some(&silent), &Fixture::cluster("2.5.6"));
        assert_eq!(findings[0].severity, Severity::Deny, "{findings:?}");
        let named = Fixture::cluster("2.5.5")
            .default_yaml(
                "mq: {type: pulsar}\npulsar: {address: my-release-pulsarv3-proxy}\netcd: \
                 {endpoints: [my-release-etcd:2379]}\nminio: {address: my-release-minio}\n",
            )
            .stateful_set(name, label, image);
        let findings = judge(
            &RULE,
            Some(&named),
            &kafka_elsewhere(Fixture::cluster("2.5.6")),
        );
        assert_eq!(findings[0].severity, Severity::Deny, "{findings:?}");
    }

    #[test]
    fn a_service_of_the_queue_in_use_is_left_out_alone() {
        let run = || {
            Fixture::cluster("2.6.22")
                .chart("5.0.14")
                .default_yaml("mq: {type: woodpecker}")
        };
        let after = run().stateful_set(
            "my-release-milvus-woodpecker",
            "component: woodpecker",
            "zilliztech/woodpecker:v0.1.26",
        );
        let findings = judge(&RULE, Some(&run()), &after);
        assert_eq!(findings.len(), 1, "{findings:?}");
        let text = &findings[0].fix.text;
        assert!(
            text.starts_with("Set streaming.woodpecker.embedded=true and")
                && !text.contains("enabled=false"),
            "{text}"
        );
        let pulsar = run().default_yaml("mq: {type: pulsar}");
        let findings = judge(&RULE, Some(&pulsar), &after);
        assert!(
            findings[0]
                .fix
                .text
                .starts_with("Set woodpecker.enabled=false in")
        );
    }

    #[rstest]
    #[case::of_another_release("orders", "mq: {type: rocksmq}", 0)]
    #[case::of_this_release("my-release", "mq: {type: rocksmq}", 1)]
    #[case::in_use(
        "orders",
        "mq: {type: kafka}\nkafka: {brokerList: \"orders-kafka:9092\"}",
        0
    )]
    fn a_queue_of_another_application_is_not_added_to_the_release(
        #[case] instance: &str,
        #[case] config: &str,
        #[case] found: usize,
    ) {
        let after = Fixture::standalone("2.5.16").default_yaml(config).object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: orders-kafka}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: kafka, app.kubernetes.io/instance: {instance}}}\n  template:\n    spec:\n      containers: [{{name: kafka, image: \"bitnami/kafka:3.1.0\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n"
        ));
        let before = Fixture::standalone("2.5.16").default_yaml(config);
        let findings = judge(&RULE, Some(&before), &after);
        assert_eq!(findings.len(), found, "{findings:?}");
    }

    #[test]
    fn a_queue_that_the_input_may_leave_out_is_not_new() {
        let reads = |fixture: Fixture| {
            [Proxy, QueryNode, DataNode, IndexNode, MixCoord]
                .into_iter()
                .fold(fixture, |fixture, component| {
                    fixture.container(
                        component,
                        "envFrom: [{configMapRef: {name: settings-of-milvus}}]",
                    )
                })
        };
        let before = reads(Fixture::of(
            "2.5.5",
            &[Proxy, QueryNode, DataNode, IndexNode, MixCoord],
        ));
        let after = v2(reads(Fixture::of(
            "2.5.5",
            &[Proxy, QueryNode, DataNode, IndexNode, MixCoord],
        )));
        let found = judge(&RULE, Some(&before), &after);
        assert!(found.len() == 1 && found[0].not_evaluated, "{found:?}");
    }

    #[test]
    fn what_stays_and_what_holds_no_data_is_fine() {
        assert!(
            judge(
                &RULE,
                Some(&v2(Fixture::cluster("2.4.17"))),
                &v2(Fixture::cluster("2.4.24"))
            )
            .is_empty()
        );
        let broker = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: my-release-pulsar-broker}\nspec:\n  selector:\n    matchLabels: {app: pulsar, release: my-release}\n  template:\n    spec:\n      containers: [{name: b, image: \"apachepulsar/pulsar:2.9.5\"}]\n";
        let before = v2(Fixture::cluster("2.4.17")).object(broker);
        assert!(judge(&RULE, Some(&before), &v2(Fixture::cluster("2.4.24"))).is_empty());
        assert!(judge(&RULE, None, &v2(Fixture::cluster("2.4.24"))).is_empty());
    }

    #[test]
    fn a_silo_in_place_of_minio_starts_empty() {
        let minio = Fixture::cluster("2.6.11").stateful_set(
            "my-release-minio",
            "app: minio",
            "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        );
        let image = "pgsty/silo:RELEASE.2026-09-16T00-00-00Z";
        let other = Fixture::cluster("2.6.11").stateful_set("my-release-silo", "app: silo", image);
        let findings = judge(&RULE, Some(&minio), &other);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].fix.text.contains("mc mirror"),
            "{:?}",
            findings[0].fix
        );
        assert!(
            judge(
                &RULE,
                Some(&minio),
                &Fixture::cluster("2.6.11").stateful_set("my-release-minio", "app: minio", image)
            )
            .is_empty()
        );
    }

    #[rstest]
    #[case::object_storage("app: minio", "minio/minio:RELEASE.2024-12-18T13-15-44Z", 1)]
    #[case::queue("app.kubernetes.io/name: kafka", "bitnami/kafka:3.9.0", 1)]
    #[case::judged_by_another_rule("app.kubernetes.io/name: etcd", "milvusdb/etcd:3.5.18", 0)]
    fn a_dependency_does_not_stop_while_milvus_runs(
        #[case] label: &str,
        #[case] image: &str,
        #[case] found: usize,
    ) {
        let run = |milvus: Fixture, replicas: usize| {
            milvus.object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-x}}\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{{label}, app.kubernetes.io/instance: my-release, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: x, image: \"{image}\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n"
            ))
        };
        let milvus = || {
            Fixture::cluster("2.5.16")
                .default_yaml("mq: {type: kafka}\nkafka: {brokerList: \"my-release-x:9092\"}\nminio: {address: my-release-x}")
        };
        let findings = judge(&RULE, Some(&run(milvus(), 3)), &run(milvus(), 0));
        assert_eq!(findings.len(), found, "{findings:?}");
        for (before, after) in [
            (run(milvus(), 3), run(milvus(), 1)),
            (run(milvus(), 0), run(milvus(), 0)),
            (run(milvus(), 3), run(milvus().stopped(), 0)),
        ] {
            let findings = judge(&RULE, Some(&before), &after);
            assert!(findings.is_empty(), "{findings:?}");
        }
    }
}
