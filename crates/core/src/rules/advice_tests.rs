//! Advice for every manager: what it must say, and what it must never say.

use rstest::rstest;

use crate::{
    change::Upgrade,
    evidence::{AutoscalerFact, DeployerFact, DriftFact, Facts, RolloutFact},
    milvus::{
        Component, Manager, Release, Version,
        catalogue::Catalogue,
        manager::{ChartSource, Source, Tool, Vendor},
        release::ChartRef,
    },
};

use super::{
    Finding,
    advice::{ChartPin, command},
    run,
    testing::Fixture,
};

fn chart(source: ChartSource, tool: Tool) -> Manager {
    Manager {
        source: Source::Chart(source),
        tool,
    }
}

fn alias(name: &str) -> ChartSource {
    ChartSource {
        alias: Some(name.into()),
        ..ChartSource::default()
    }
}

fn bitnami() -> ChartSource {
    ChartSource {
        vendor: Vendor::Bitnami,
        ..ChartSource::default()
    }
}

fn manifests(tool: Tool) -> Manager {
    Manager {
        source: Source::Manifests,
        tool,
    }
}

/// Every manager with a name, the words that its advice must never hold, and what must stand before
/// each value path.
pub(super) fn managers() -> Vec<(&'static str, Manager, Vec<&'static str>, &'static str)> {
    const HELM: [&str; 8] = [
        "helm ",
        "Helm",
        "--set",
        "values file",
        "extraConfigFiles",
        "zilliztech/milvus",
        "milvus-guard upgrade",
        "milvus-guard migrate",
    ];
    const OPERATOR: [&str; 4] = [
        "Milvus resource",
        "spec.dependencies",
        "spec.config",
        "spec.components",
    ];
    const COMMANDS: [&str; 3] = ["helm upgrade", "--set", "zilliztech/milvus"];
    let words = |lists: &[&[&'static str]]| lists.concat();
    let argo = Tool::ArgoCd {
        application: Some("vec".into()),
    };
    let flux = Tool::FluxHelm { name: "vec".into() };
    let kustomization = Tool::FluxKustomize {
        name: "apps".into(),
    };
    vec![
        ("chart", Manager::plain_chart(), words(&[&OPERATOR]), ""),
        (
            "rendered",
            chart(ChartSource::default(), Tool::Rendered),
            words(&[&OPERATOR, &["helm upgrade"]]),
            "",
        ),
        (
            "applied",
            chart(ChartSource::default(), Tool::Applied),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "sub-chart",
            chart(alias("milvus"), Tool::Helm),
            words(&[&OPERATOR, &COMMANDS]),
            "milvus.",
        ),
        (
            "alias",
            chart(alias("vectors"), Tool::Helm),
            words(&[
                &OPERATOR,
                &COMMANDS,
                &["milvus-guard upgrade", "milvus-guard migrate"],
            ]),
            "vectors.",
        ),
        (
            "argo",
            chart(ChartSource::default(), argo.clone()),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "argo-alias",
            chart(alias("vectors"), argo.clone()),
            words(&[&OPERATOR, &COMMANDS]),
            "vectors.",
        ),
        (
            "flux",
            chart(ChartSource::default(), flux),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "bitnami",
            chart(bitnami(), Tool::Helm),
            words(&[
                &OPERATOR,
                &[
                    "helm upgrade",
                    "zilliztech",
                    "extraConfigFiles",
                    "image.all",
                    "Coordinator.",
                    "messageQueue=",
                ],
            ]),
            "",
        ),
        (
            "operator",
            Manager::operator("milvus-prod"),
            words(&[&HELM]),
            "",
        ),
        (
            "kustomize",
            manifests(Tool::Kustomize),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "terraform",
            manifests(Tool::Terraform),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "by hand",
            manifests(Tool::Unknown),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "argo-manifests",
            manifests(argo),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "flux-manifests",
            manifests(kustomization),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
    ]
}

fn manager(name: &str) -> Manager {
    managers()
        .into_iter()
        .find(|(other, ..)| *other == name)
        .map(|(_, manager, ..)| manager)
        .unwrap()
}

/// The release as this manager has it.
fn managed(fixture: &Fixture, manager: &Manager) -> Release {
    let mut release = fixture.release();
    release.manager = manager.clone();
    match manager.chart() {
        None => release.chart = None,
        Some(source) if source.vendor == Vendor::Bitnami => {
            release.chart = Some(ChartRef {
                name: "milvus".into(),
                version: Version::new(13, 2, 5),
            });
        }
        Some(_) => {}
    }
    release
}

pub(super) fn found(
    before: &Fixture,
    after: &Fixture,
    manager: &Manager,
    facts: &Facts,
) -> Vec<Finding> {
    let (before, after) = (managed(before, manager), managed(after, manager));
    run(
        &Upgrade::new(Some(&before), &after, facts, Catalogue::embedded()),
        None,
    )
    .findings
}

const RUNS_V2: &str = "mq: {type: pulsar}\npulsar: {address: my-release-pulsar-proxy, port: 6650}\netcd: {endpoints: [my-release-etcd:2379], rootPath: by-dev}\n";
const RUNS_V3: &str = "mq: {type: pulsar}\npulsar: {address: my-release-pulsarv3-proxy, port: 6650}\netcd: {endpoints: [my-release-etcd:2379], rootPath: by-dev}\n";
const KAFKA: &str =
    "mq: {type: kafka}\nkafka: {brokerList: 'b-1.msk.example.com:9092,b-2.msk.example.com:9092'}\n";

fn queue(fixture: Fixture, kind: &str) -> Fixture {
    fixture.default_yaml(&format!("mq: {{type: {kind}}}\nmessageQueue: {kind}\n"))
}

fn rocksmq() -> (Fixture, Fixture) {
    (
        queue(Fixture::standalone("2.5.27").chart("4.2.58"), "rocksmq"),
        queue(Fixture::standalone("2.6.22").chart("5.0.14"), "woodpecker"),
    )
}

/// Changes that make as many rules speak as can.
#[expect(clippy::too_many_lines, reason = "a table of changes")]
pub(super) fn changes() -> Vec<(Fixture, Fixture)> {
    let config = |text: &str| Fixture::cluster("2.4.5").default_yaml(text);
    let pod = |fixture: Fixture, text: &str| fixture.pod(Component::Standalone, text);
    let mounted = |fixture: Fixture, lines: &str| {
        pod(fixture, lines).container(
            Component::Standalone,
            "volumeMounts:\n  - {name: data, mountPath: /var/lib/milvus}",
        )
    };
    let claim = |name: &str| {
        format!("volumes:\n  - name: data\n    persistentVolumeClaim: {{claimName: {name}}}")
    };
    let minio = |tag: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio, labels: {{app: minio, release: my-release}}}}\nspec:\n  selector: {{matchLabels: {{app: minio, release: my-release}}}}\n  template: {{spec: {{containers: [{{name: minio, image: 'minio/minio:{tag}'}}]}}}}\n"
        )
    };
    vec![
        rocksmq(),
        (
            Fixture::cluster("2.4.5")
                .default_yaml(RUNS_V2)
                .stateful_set(
                    "my-release-pulsar-bookie",
                    "app: pulsar",
                    "apachepulsar/pulsar:2.9.5",
                ),
            Fixture::cluster("2.5.27")
                .chart("4.2.40")
                .default_yaml(RUNS_V3)
                .stateful_set(
                    "my-release-pulsarv3-bookie",
                    "app: pulsarv3",
                    "apachepulsar/pulsar:3.0.7",
                ),
        ),
        (config(KAFKA), config(RUNS_V2).chart("4.2.40")),
        (
            config(KAFKA),
            config("mq: {type: kafka}\nkafka: {brokerList: 'other.example.com:9092'}\n"),
        ),
        (
            config("etcd: {endpoints: ['etcd.example.com:2379'], rootPath: prod}\n"),
            config("etcd: {endpoints: ['other.example.com:2379']}\n"),
        ),
        (
            config("minio: {address: s3.example.com, port: 443, bucketName: a}\n"),
            config("minio: {address: other.example.com, port: 443, bucketName: b, rootPath: x}\n"),
        ),
        (
            config(
                "common: {security: {authorizationEnabled: true}, chanNamePrefix: {cluster: prod}}\n",
            ),
            config("common: {storageType: remote}\n"),
        ),
        (
            config("dataCoord: {gc: {missingTolerance: 86400}}\n"),
            config("dataCoord: {gc: {missingTolerance: 60}}\n"),
        ),
        (Fixture::cluster("2.4.5"), Fixture::standalone("2.4.5")),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.5").fullname("other"),
        ),
        (
            Fixture::cluster("2.6.20").chart("5.0.14"),
            Fixture::cluster("2.6.22")
                .chart("5.0.14")
                .with(Component::IndexNode),
        ),
        (
            Fixture::cluster("2.5.16"),
            Fixture::cluster("2.6.22")
                .chart("5.0.14")
                .without(Component::StreamingNode),
        ),
        (
            Fixture::cluster("2.5.16"),
            Fixture::cluster("2.5.27")
                .with(Component::StreamingNode)
                .without(Component::IndexNode),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.24").without(Component::QueryNode),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.24").chart("4.2.20"),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.5").with(Component::MixCoord),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.5").replicas(Component::RootCoord, 2),
        ),
        (
            Fixture::cluster("2.4.10"),
            Fixture::cluster("2.4.24")
                .replicas(Component::MixCoord, 2)
                .chart("4.1.0"),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.13").tag_of(Component::Proxy, "v2.4.5"),
        ),
        (
            Fixture::cluster("2.4.17"),
            Fixture::cluster("2.6.11").chart("5.0.14"),
        ),
        (
            Fixture::cluster("2.5.5"),
            Fixture::cluster("2.4.24")
                .repository("example.com/other")
                .chart("4.2.27"),
        ),
        (
            Fixture::cluster("2.1.4")
                .chart("3.2.18")
                .values("metadata: {rootPath: prod}"),
            Fixture::cluster("2.2.16").chart("4.0.31"),
        ),
        (
            Fixture::standalone("2.1.4").chart("3.2.18"),
            Fixture::standalone("2.2.16").chart("4.0.31"),
        ),
        (
            Fixture::cluster("2.4.5"),
            Fixture::cluster("2.4.5").tag("latest"),
        ),
        (
            Fixture::cluster("2.4.17").chart("4.2.25"),
            Fixture::cluster("2.5.0-beta")
                .chart("4.2.27")
                .tag("v2.5.0-beta"),
        ),
        (
            Fixture::cluster("2.4.17").stateful_set(
                "my-release-pulsar-bookie",
                "app: pulsar",
                "apachepulsar/pulsar:2.9.5",
            ),
            Fixture::cluster("2.4.17").chart("4.2.25").stateful_set(
                "my-release-pulsar-bookie",
                "app: pulsar",
                "apachepulsar/pulsar:2.9.5",
            ),
        ),
        (
            Fixture::cluster("2.4.5")
                .pod(Component::QueryNode, "terminationGracePeriodSeconds: 600"),
            Fixture::cluster("2.4.5").pod(
                Component::QueryNode,
                "terminationGracePeriodSeconds: 30\nsecurityContext: {runAsUser: 1000}",
            ),
        ),
        (
            mounted(Fixture::standalone("2.6.22"), &claim("a")),
            mounted(Fixture::standalone("3.0.2").chart("5.0.27"), &claim("a")),
        ),
        (
            mounted(Fixture::standalone("2.4.5"), &claim("a")),
            Fixture::standalone("2.4.5"),
        ),
        (
            config("rootCoord: {dmlChannelNum: 16}\n"),
            config("rootCoord: {dmlChannelNum: 8}\n"),
        ),
        (
            Fixture::cluster("2.3.3").chart("4.1.36"),
            Fixture::cluster("2.3.3").chart("4.2.13"),
        ),
        (
            Fixture::standalone("2.4.5").object(&minio("RELEASE.2022-03-17T06-34-49Z")),
            Fixture::standalone("2.4.5").object(&minio("RELEASE.2023-03-20T20-16-18Z")),
        ),
        (
            Fixture::cluster("2.4.5").stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                "milvusdb/etcd:3.5.18-r1",
            ),
            Fixture::cluster("2.4.5").stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                "bitnami/etcd:3.4.0-r1",
            ),
        ),
        (
            Fixture::cluster("2.4.5").stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                "milvusdb/etcd:3.5.18-r1",
            ),
            Fixture::cluster("2.4.5"),
        ),
    ]
}

pub(super) fn facts() -> Facts {
    Facts {
        kubernetes: Some(Version::new(1, 19, 0)),
        helm: Some(Version::new(3, 10, 0)),
        rollouts: Some(vec![RolloutFact {
            release: "my-release".into(),
            component: Component::Proxy,
            workload: "my-release-milvus-proxy".into(),
            complete: false,
            ever_available: true,
            detail: "0 of 1 pods available".into(),
        }]),
        runs: Some(Vec::new()),
        autoscalers: Some(vec![AutoscalerFact {
            release: "my-release".into(),
            name: "proxy".into(),
            workload: "my-release-milvus-indexnode".into(),
        }]),
        drift: Some(vec![DriftFact {
            release: "my-release".into(),
            object: "Deployment/my-release-milvus-proxy".into(),
            what: "image".into(),
            revision: "a".into(),
            live: "b".into(),
        }]),
        deployers: Some(Vec::new()),
        ..Facts::default()
    }
}

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

fn command_of(before: &Fixture, after: &Fixture, manager: &Manager, rule: &str) -> Option<String> {
    let findings = found(before, after, manager, &Facts::default());
    findings
        .into_iter()
        .find(|finding| finding.rule.id == rule && !finding.not_evaluated)
        .and_then(|finding| finding.fix.command)
}

#[test]
fn a_helm_command_is_printed_where_everything_is_known() {
    let (before, after) = rocksmq();
    let values = "{cluster: {enabled: false}}";
    let (known, wanted) = (before.clone().values(values), after.clone().values(values));
    let plain = Manager::plain_chart();
    let expected = "helm upgrade my-release zilliztech/milvus -n milvus --version 5.0.14 --reset-then-reuse-values --set standalone.messageQueue=rocksmq";
    for rule in ["MG301", "MG502"] {
        assert_eq!(
            command_of(&known, &wanted, &plain, rule).as_deref(),
            Some(expected),
            "{rule}"
        );
    }
    let tagged = after
        .clone()
        .values("{cluster: {enabled: false}, image: {all: {tag: v2.6.22}}}");
    let expected = expected.replace(
        "--set standalone",
        "--set image.all.tag=v2.6.22 --set standalone",
    );
    assert_eq!(command_of(&known, &tagged, &plain, "MG502"), Some(expected));

    let nothing = |before: &Fixture, after: &Fixture, manager: &Manager, why: &str| {
        assert_eq!(command_of(before, after, manager, "MG502"), None, "{why}");
    };
    nothing(&before, &wanted, &plain, "the running values are not known");
    nothing(&known, &after, &plain, "the wanted values are not known");
    let more = after
        .clone()
        .values("{cluster: {enabled: false}, standalone: {resources: {}}}");
    nothing(
        &known,
        &more,
        &plain,
        "a command would drop the values that are new",
    );
    nothing(
        &known,
        &wanted.clone().chart("5.0.99"),
        &plain,
        "the chart is not published",
    );
    nothing(
        &known,
        &wanted
            .clone()
            .default_yaml("mq: {type: woodpecker}\netcd: {rootPath: other}\n"),
        &plain,
        "a denial would be left",
    );
    for (name, manager, ..) in managers().into_iter().filter(|(name, ..)| *name != "chart") {
        nothing(&known, &wanted, &manager, name);
    }
}

#[test]
fn an_ordered_upgrade_keeps_the_wanted_image() {
    let (before, after) = (Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27"));
    let of = |after: &Fixture, name: &str| command_of(&before, after, &manager(name), "MG201");
    let expected = "milvus-guard upgrade -i my-release -n milvus -t 2.5.27";
    assert_eq!(of(&after, "chart").as_deref(), Some(expected));
    let mirror = after
        .clone()
        .repository("registry.example.com/milvusdb/milvus");
    assert_eq!(
        of(&mirror, "chart"),
        Some(format!(
            "{expected} -w registry.example.com/milvusdb/milvus:v2.5.27"
        ))
    );
    assert_eq!(
        of(&mirror.clone().tag("v2.5.27-gpu"), "chart"),
        Some(format!(
            "{expected} -w registry.example.com/milvusdb/milvus:v2.5.27-gpu"
        ))
    );
    // At the workload gate one component changes, and the others wait for their turn.
    let alone = before.clone().tag_of(Component::QueryNode, "v2.5.27");
    assert_eq!(of(&alone, "chart").as_deref(), Some(expected));
    let several = after.clone().tag_of(Component::QueryNode, "v2.5.27-gpu");
    assert_eq!(of(&several, "chart"), None, "the verb sets one image");
    assert_eq!(of(&after, "by hand"), None);
    assert_eq!(of(&after, "alias"), None);
    let (before, after) = (
        Fixture::cluster("2.4.17"),
        Fixture::cluster("2.6.11").chart("5.0.14"),
    );
    assert_eq!(
        command_of(&before, &after, &manager("chart"), "MG201"),
        None,
        "MG102 denies that path"
    );
}

#[test]
fn a_migration_has_a_command_where_the_verb_works() {
    let (before, after) = (Fixture::cluster("2.1.4"), Fixture::cluster("2.2.16"));
    for (name, manager, ..) in managers() {
        let command = command_of(&before, &after, &manager, "MG101");
        let works = manager.is_chart() && manager.alias().is_none_or(|alias| alias == "milvus");
        assert_eq!(command.is_some(), works, "{name}: {command:?}");
    }
    let mirror = after.repository("registry.example.com/milvusdb/milvus");
    let line = command_of(&before, &mirror, &Manager::plain_chart(), "MG101").unwrap();
    assert!(
        line.ends_with("-t 2.2.16 -w registry.example.com/milvusdb/milvus:v2.2.16"),
        "{line}"
    );
    let (before, after) = (Fixture::standalone("2.1.4"), Fixture::standalone("2.2.16"));
    assert_eq!(
        command_of(&before, &after, &Manager::plain_chart(), "MG101"),
        None,
        "the verb is for clusters"
    );
}

#[rstest]
#[case(&["helm", "upgrade", "a"], Some("helm upgrade a"))]
#[case(&["a", "b c"], Some("a 'b c'"))]
#[case(&["a", "$(reboot)"], Some("a '$(reboot)'"))]
#[case(&["a", "it's; reboot"], Some(r"a 'it'\''s; reboot'"))]
#[case(&["a", "b\nc"], None)]
#[case(&["a", ""], None)]
fn words_of_a_command_are_quoted(#[case] words: &[&str], #[case] line: Option<&str>) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(command(&words).as_deref(), line);
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
