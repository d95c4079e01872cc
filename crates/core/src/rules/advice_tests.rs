//! Advice for every manager: what it must say, and what it must never say.

use rstest::rstest;

use crate::{
    evidence::{DeployerFact, Facts},
    milvus::{Component, Manager, catalogue::Catalogue},
};

use super::{
    advice::ChartPin,
    changes::{KAFKA, RUNS_V3, changes, facts, rocksmq},
    managers::{found, managed, manager, managers},
    testing::Fixture,
};

/// Value paths that a text sets: `path=value`.
fn paths(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || "(),;'\"".contains(c))
        .filter_map(|word| word.split_once('='))
        .map(|(path, _)| path.trim_start_matches("--").to_owned())
        .filter(|path| {
            path.contains('.') && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
        })
        .collect()
}

#[test]
fn no_advice_names_the_tool_or_the_values_of_another_manager() {
    let facts = facts();
    let mut spoke = std::collections::BTreeSet::new();
    for (name, manager, forbidden, prefix) in managers() {
        for (before, after) in changes() {
            let wanted = managed(&after, &manager).chart.map(|chart| chart.version);
            for finding in found(&before, &after, &manager, &facts) {
                // MG702 is about Helm itself.
                if finding.rule.id == "MG702" || finding.not_evaluated {
                    continue;
                }
                spoke.insert(finding.rule.id);
                let text = format!(
                    "{} {}",
                    finding.fix.text,
                    finding.fix.command.as_deref().unwrap_or_default()
                );
                for word in &forbidden {
                    assert!(
                        !text.contains(word),
                        "{name}, {}: '{word}' in: {text}",
                        finding.rule.id
                    );
                }
                assert!(
                    !text.contains("kubectl delete"),
                    "{name}, {}: {text}",
                    finding.rule.id
                );
                for path in paths(&text) {
                    let vendor = manager
                        .chart()
                        .unwrap_or_else(|| panic!("{name}: {path} in: {text}"))
                        .vendor;
                    let inner = path
                        .strip_prefix(prefix)
                        .unwrap_or_else(|| panic!("{name}: {path} lacks {prefix} in: {text}"));
                    let inner = if inner == "securityContext.fsGroup" {
                        "securityContext"
                    } else {
                        inner
                    };
                    let version = wanted.unwrap();
                    assert!(
                        Catalogue::embedded().reads(vendor, version, inner),
                        "{name}: chart {version} does not read {path}: {text}"
                    );
                }
            }
        }
    }
    let silent: Vec<&str> = super::ALL
        .iter()
        .map(|rule| rule.id)
        .filter(|id| !spoke.contains(id))
        .collect();
    assert!(spoke.len() >= 35, "silent: {silent:?}");
}

#[rstest]
#[case(
    "chart",
    "Set standalone.messageQueue=rocksmq in the Helm values (with --set or in a values file)."
)]
#[case(
    "rendered",
    "Set standalone.messageQueue=rocksmq in the Helm values (with --set or in a values file)."
)]
#[case(
    "applied",
    "Set standalone.messageQueue=rocksmq in the Helm values from which the manifests are rendered."
)]
#[case(
    "sub-chart",
    "Set milvus.standalone.messageQueue=rocksmq in the Helm values of the parent chart."
)]
#[case(
    "alias",
    "Set vectors.standalone.messageQueue=rocksmq in the Helm values of the parent chart."
)]
#[case(
    "argo",
    "Set standalone.messageQueue=rocksmq in the Helm values, in the source of Application vec."
)]
#[case(
    "argo-alias",
    "Set vectors.standalone.messageQueue=rocksmq in the Helm values of the parent chart, in the source of Application vec."
)]
#[case(
    "flux",
    "Set standalone.messageQueue=rocksmq in spec.values of HelmRelease vec."
)]
#[case(
    "bitnami",
    "Set mq.type: rocksmq under milvus.extraConfig in the Helm values."
)]
#[case(
    "operator",
    "Set spec.dependencies.msgStreamType: rocksmq in the Milvus resource milvus-prod."
)]
#[case(
    "kustomize",
    "Set mq.type: rocksmq in ConfigMap my-release-milvus, in the kustomize source."
)]
#[case(
    "terraform",
    "Set mq.type: rocksmq in ConfigMap my-release-milvus, in the Terraform source."
)]
#[case("by hand", "Set mq.type: rocksmq in ConfigMap my-release-milvus.")]
#[case(
    "argo-manifests",
    "Set mq.type: rocksmq in ConfigMap my-release-milvus, in the source of Application vec."
)]
#[case(
    "flux-manifests",
    "Set mq.type: rocksmq in ConfigMap my-release-milvus, in the source of Kustomization apps."
)]
fn the_queue_is_kept_in_the_terms_of_each_manager(#[case] name: &str, #[case] text: &str) {
    let (before, after) = rocksmq();
    let findings = found(&before, &after, &manager(name), &Facts::default());
    let fix = &findings
        .iter()
        .find(|finding| finding.rule.id == "MG301")
        .unwrap()
        .fix;
    assert_eq!((fix.text.as_ref(), &fix.command), (text, &None));
}

fn fix_of(rule: &str, before: &Fixture, after: &Fixture, name: &str) -> String {
    let findings = found(before, after, &manager(name), &Facts::default());
    let finding = findings
        .iter()
        .find(|finding| finding.rule.id == rule && !finding.not_evaluated);
    finding
        .unwrap_or_else(|| panic!("{rule} is silent"))
        .fix
        .text
        .to_string()
}

#[rstest]
#[case(
    "chart",
    "externalKafka.enabled=true, externalKafka.brokerList=b-1.msk.example.com:9092,b-2.msk.example.com:9092 and pulsarv3.enabled=false in"
)]
#[case(
    "operator",
    "spec.dependencies.kafka.brokerList: [b-1.msk.example.com:9092, b-2.msk.example.com:9092]"
)]
#[case(
    "by hand",
    "kafka.brokerList: b-1.msk.example.com:9092,b-2.msk.example.com:9092"
)]
fn an_external_kafka_stays_external(#[case] name: &str, #[case] part: &str) {
    let config = |text: &str| Fixture::cluster("2.4.5").chart("4.2.40").default_yaml(text);
    let after = config(RUNS_V3).stateful_set(
        "my-release-pulsarv3-bookie",
        "app: pulsarv3",
        "apachepulsar/pulsar:3.0.7",
    );
    let text = fix_of("MG301", &config(KAFKA), &after, name);
    assert!(text.contains(part), "{text}");
    assert!(!text.contains("kafka.enabled=true"), "{text}");
}

#[test]
fn other_brokers_need_the_list_alone() {
    let config = |text: &str| Fixture::cluster("2.4.5").chart("4.2.40").default_yaml(text);
    let text = fix_of(
        "MG301",
        &config(KAFKA),
        &config("mq: {type: kafka}\nkafka: {brokerList: 'other.example.com:9092'}\n"),
        "chart",
    );
    let list = "b-1.msk.example.com:9092,b-2.msk.example.com:9092";
    assert_eq!(
        text,
        format!(
            "Set externalKafka.brokerList={list} in the Helm values (with --set or in a values file)."
        )
    );
}

/// A dependency that stays is not to be switched on again: the address is what changed.
#[rstest]
#[case(
    "MG302",
    "etcd: {endpoints: [my-release-etcd:2379]}\n",
    "etcd: {endpoints: ['other.example.com:2379']}\n",
    "etcd.endpoints: [my-release-etcd:2379]"
)]
#[case(
    "MG303",
    "minio: {address: my-release-minio, port: 9000}\n",
    "minio: {address: localhost, port: 9000}\n",
    "minio.address: my-release-minio"
)]
fn a_dependency_that_stays_is_not_switched_on(
    #[case] rule: &str,
    #[case] old: &str,
    #[case] new: &str,
    #[case] part: &str,
) {
    let config = |text: &str| {
        Fixture::cluster("2.4.5")
            .default_yaml(text)
            .stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                "milvusdb/etcd:3.5.5-r4",
            )
            .stateful_set("my-release-minio", "app: minio", "minio/minio:x")
    };
    let text = fix_of(rule, &config(old), &config(new), "chart");
    assert!(text.contains(part) && !text.contains("enabled="), "{text}");
}

/// Bitnami's chart 13.2.5 is not a later version of the chart 5.0.14 of the Milvus project.
#[test]
fn versions_of_another_chart_are_not_compared() {
    let rules = |name: &str| {
        let (before, after) = rocksmq();
        let findings = found(&before, &after, &manager(name), &facts());
        let found: Vec<&str> = findings
            .iter()
            .filter(|finding| !finding.not_evaluated)
            .map(|finding| finding.rule.id)
            .collect();
        ["MG301", "MG502", "MG702"].map(|id| found.contains(&id))
    };
    assert_eq!(rules("chart"), [true, true, true]);
    assert_eq!(rules("bitnami"), [true, false, false]);
    let removed = |name: &str| {
        let values = "metadata: {rootPath: prod}";
        let before = Fixture::cluster("2.2.16").chart("3.2.18").values(values);
        let after = Fixture::cluster("2.2.16").chart("13.2.5").values(values);
        found(&before, &after, &manager(name), &facts())
            .iter()
            .any(|finding| finding.rule.id == "MG503" && !finding.not_evaluated)
    };
    assert!(removed("chart") && !removed("bitnami"));
}

#[test]
fn a_deployer_that_the_cluster_knows_is_named() {
    let deployer = DeployerFact {
        release: "my-release".into(),
        tool: "argo-cd".into(),
        name: "vec".into(),
        self_heal: false,
        retry_limit: None,
    };
    let facts = Facts {
        deployers: Some(vec![deployer]),
        ..Facts::default()
    };
    let (before, after) = rocksmq();
    let findings = found(&before, &after, &Manager::plain_chart(), &facts);
    let fix = &findings
        .iter()
        .find(|finding| finding.rule.id == "MG502")
        .unwrap()
        .fix;
    assert!(
        fix.text.ends_with("in the source of Application vec."),
        "{fix:?}"
    );
}

#[rstest]
#[case(
    "4.0.31",
    "Set etcd.rootPath: prod in the text user.yaml under extraConfigFiles in the Helm values. Keep the other lines of that text."
)]
#[case(
    "3.2.18",
    "Set metadata.rootPath=prod in the Helm values (with --set or in a values file)."
)]
fn the_root_path_stands_where_the_chart_reads_it(#[case] version: &str, #[case] text: &str) {
    let config = |text: &str| Fixture::cluster("2.2.13").chart(version).default_yaml(text);
    assert_eq!(
        fix_of(
            "MG302",
            &config("etcd: {rootPath: prod}\n"),
            &config("etcd: {rootPath: by-dev}\n"),
            "chart"
        ),
        text
    );
}

#[rstest]
#[case::inside(true, "minio.bucketName=a")]
#[case::outside(false, "externalS3.bucketName=a")]
fn the_bucket_stands_where_the_chart_reads_it(#[case] inside: bool, #[case] part: &str) {
    let config = |bucket: &str| {
        let fixture =
            Fixture::cluster("2.4.5").default_yaml(&format!("minio: {{bucketName: {bucket}}}\n"));
        if inside {
            fixture.stateful_set("my-release-minio", "app: minio", "minio/minio:x")
        } else {
            fixture
        }
    };
    let text = fix_of("MG303", &config("a"), &config("b"), "chart");
    assert!(text.contains(part), "{text}");
}

/// milvus-helm#14: the value is set and the chart does not render it.
#[rstest]
#[case(
    "4.1.0",
    "rootCoord.enableActiveStandby: true",
    "activeStandby.enabled"
)]
#[case(
    "4.1.34",
    "mixCoordinator.activeStandby.enabled=true",
    "extraConfigFiles"
)]
fn standby_is_set_where_the_chart_renders_it(
    #[case] version: &str,
    #[case] part: &str,
    #[case] not: &str,
) {
    let after = Fixture::cluster("2.4.24")
        .chart(version)
        .replicas(Component::MixCoord, 2);
    let text = fix_of("MG202", &after, &after, "chart");
    assert!(text.contains(part) && !text.contains(not), "{text}");
}

#[test]
fn what_is_set_already_is_not_asked_for() {
    let (before, after) = rocksmq();
    let values = "{standalone: {messageQueue: rocksmq}}";
    let text = fix_of("MG301", &before, &after.clone().values(values), "chart");
    assert!(
        text.starts_with(
            "standalone.messageQueue=rocksmq is already set, but chart 5.0.14 renders \
                          another value"
        ),
        "{text}"
    );
    let text = fix_of(
        "MG301",
        &before,
        &after.values("{milvus: {standalone: {messageQueue: rocksmq}}}"),
        "sub-chart",
    );
    assert!(
        text.starts_with("milvus.standalone.messageQueue=rocksmq is already set"),
        "{text}"
    );
    let both = Fixture::cluster("2.4.24").with(Component::RootCoord);
    let text = fix_of("MG202", &Fixture::cluster("2.4.24"), &both, "chart");
    assert!(
        text.contains("rootCoordinator.enabled=false") && !text.contains("mixCoordinator"),
        "{text}"
    );
}

#[test]
fn credentials_of_an_address_are_left_out() {
    let config = |brokers: &str| {
        Fixture::cluster("2.4.5").default_yaml(&format!(
            "mq: {{type: kafka}}\nkafka: {{brokerList: '{brokers}'}}\n"
        ))
    };
    let text = fix_of(
        "MG301",
        &config("user:secret@a.example.com:9092"),
        &config("b.example.com:9092"),
        "chart",
    );
    assert!(
        text.contains("a.example.com:9092") && !text.contains("secret"),
        "{text}"
    );
}

/// A row that no advice can name is dead.
#[test]
fn every_row_of_the_chart_values_is_named_by_advice() {
    let source = concat!(
        include_str!("advice/command.rs"),
        include_str!("advice/component.rs"),
        include_str!("advice/dependency.rs"),
        include_str!("advice/queue.rs"),
        include_str!("advice/release.rs"),
        include_str!("advice/values.rs"),
    );
    let quoted = |path: &str| {
        source.contains(&format!("\"{path}\"")) || source.contains(&format!("\"{path}."))
    };
    let standby = |path: &str| quoted(&path.replace(".activeStandby.enabled", ".enabled"));
    let pins = |path: &str| {
        let mut pins = Catalogue::embedded()
            .hazards
            .iter()
            .flat_map(|hazard| &hazard.pin);
        pins.any(|pin| pin.starts_with(&format!("{path}=")))
    };
    for row in &Catalogue::embedded().chart_values {
        assert!(
            row.sets.is_some() || quoted(&row.path) || standby(&row.path) || pins(&row.path),
            "{} is named by nothing",
            row.path
        );
        assert!(!row.source.is_empty(), "{}", row.path);
    }
}

#[test]
fn pins_of_the_tables_are_read_by_a_chart() {
    let catalogue = Catalogue::embedded();
    let pins = catalogue
        .hazards
        .iter()
        .flat_map(|hazard| &hazard.pin)
        .chain(catalogue.default_flips.iter().flat_map(|flip| &flip.pins));
    for pin in pins {
        let pin =
            ChartPin::parse(pin).unwrap_or_else(|| panic!("{pin} is not of the form path=value"));
        assert!(!pin.path.is_empty() && !pin.value.is_empty());
    }
}
