//! Changes of which the rules say something, for tests of all that is said.

use crate::{
    evidence::{AutoscalerFact, DriftFact, Facts, RolloutFact},
    milvus::{Component, Version},
};

use super::testing::Fixture;

const RUNS_V2: &str = "mq: {type: pulsar}\npulsar: {address: my-release-pulsar-proxy, port: 6650}\netcd: {endpoints: [my-release-etcd:2379], rootPath: by-dev}\n";
pub(super) const RUNS_V3: &str = "mq: {type: pulsar}\npulsar: {address: my-release-pulsarv3-proxy, port: 6650}\netcd: {endpoints: [my-release-etcd:2379], rootPath: by-dev}\n";
pub(super) const KAFKA: &str =
    "mq: {type: kafka}\nkafka: {brokerList: 'b-1.msk.example.com:9092,b-2.msk.example.com:9092'}\n";

fn queue(fixture: Fixture, kind: &str) -> Fixture {
    fixture.default_yaml(&format!("mq: {{type: {kind}}}\nmessageQueue: {kind}\n"))
}

/// A new chart that changes the default message queue.
pub(super) fn rocksmq() -> (Fixture, Fixture) {
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

/// Facts that make the rules that need them speak.
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
