//! Forty upgrades that failed for users, judged as `check` does. Each that manifests and facts can
//! show is a test named after what would have happened; in addition to the denials stand changes
//! that look alike and are harmless.

use rstest::rstest;

use crate::{
    evaluate::{Evaluation, EvaluationInput, Verdict, judge},
    evidence::Facts,
    milvus::{
        Component::{
            self, DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord,
            QueryNode, RootCoord, StreamingNode,
        },
        Topology,
        catalogue::{Catalogue, Gate, OrderTopology},
    },
    policy::{Action, PolicySet},
    rules::testing::Fixture,
    upgrade_path::{PathRequest, plan},
};

/// Which test shows a case, or why none can.
enum Shown {
    By(&'static str),
    Not(&'static str),
}

use Shown::{By, Not};

/// The cases in the order of the project's study of upgrade reports.
const CASES: [Shown; 40] = [
    By("a_standalone_starts_on_an_empty_woodpecker"), // milvus#44486
    By("a_standalone_starts_on_an_empty_woodpecker"), // milvus-helm#252
    By("a_replaced_configuration_moves_queue_and_root"), // milvus#50217
    By("a_standalone_starts_on_an_empty_woodpecker"), // milvus#49584, milvus#52475
    By("unflushed_rows_stay_in_the_other_queue"),     // milvus#26002, milvus#42798
    By("an_unwanted_pulsar_starts_in_addition_to_kafka"), // milvus-helm#154
    By("a_chart_mixes_up_two_pulsars"),               // milvus-helm#155
    By("old_sessions_keep_the_new_coordinator_out"),  // milvus#42602
    By("separate_coordinators_hang_before_2_6"),      // milvus#44205 and others
    By("the_streaming_nodes_are_not_waited_for_before_the_coordinator"), // milvus-operator#446
    Not("writes rejected after a complete upgrade are a state of the write-ahead log at run time"), /* milvus#47806 */
    By("a_new_proxy_meets_old_query_nodes"), // milvus#42492
    By("query_nodes_roll_without_streaming_nodes"), // milvus#42838
    By("a_release_candidate_cannot_be_recovered"), // milvus#43538
    By("metadata_of_2_1_is_not_found_by_2_2"), // milvus#20199
    By("the_migration_is_asked_to_jump_to_2_3"), // milvus#37614
    By("indexes_and_rows_are_lost_within_2_2"), // milvus#22952
    By("query_nodes_crash_on_old_scalar_indexes"), // milvus#39125
    By("collections_are_lost_after_a_restart"), // milvus#36933
    By("a_renamed_collection_has_lost_its_metadata"), // milvus#43429
    By("minio_finds_a_backend_it_cannot_read"), // milvus#25321 and others
    By("etcd_goes_back_to_an_older_line"),   // milvus#40706, milvus#17647
    By("an_image_can_no_longer_be_pulled"),  // milvus-helm#253
    By("a_cluster_becomes_a_standalone"),    // milvus-operator#167
    By("an_immutable_field_stops_the_upgrade_half_way"), // milvus-operator#168 and others
    By("a_coordinator_refuses_the_older_version"), // milvus#50694
    By("a_coordinator_refuses_the_older_version"), // milvus#51788
    By("an_older_version_cannot_read_newer_data"), // milvus#33242
    By("an_older_version_cannot_read_newer_data"), // milvus#26612
    By("a_new_etcd_makes_milvus_delete_its_objects"), // milvus#18574
    By("an_image_that_was_never_released_hangs_the_roll"), // milvus#22060
    By("a_target_with_a_known_defect_is_named"), // milvus#48308
    By("a_target_with_a_known_defect_is_named"), // milvus#52086
    By("a_target_with_a_known_defect_is_named"), // milvus#46748
    Not("what a Kafka has already deleted is known to Kafka only"), // milvus#47802
    By("a_new_user_cannot_write_to_the_volume"), // milvus#51221
    Not("privileges that old roles lack show after the upgrade only"), // milvus#31939, milvus#42045
    Not("how long a query node takes to hand over shows at run time"), // milvus#36426
    By("memory_mapped_collections_take_long_to_come_back"), // milvus#31745
    Not("thread counts of a broker are no matter of manifests"), // milvus#26683
];

#[test]
fn every_case_has_its_test_or_its_reason() {
    let source = include_str!("failures.rs");
    for (number, case) in CASES.iter().enumerate() {
        match case {
            By(test) => assert!(
                source.contains(&format!("fn {test}(")),
                "case {} names {test}, which is not a test",
                number + 1
            ),
            Not(reason) => assert!(reason.len() > 20, "case {} gives no reason", number + 1),
        }
    }
}

fn judged(before: Option<&Fixture>, after: &Fixture, facts: &Facts) -> Evaluation {
    let through_the_gate = crate::admission::parity::found(before, after, facts, false);
    let (before, after) = (before.map(Fixture::snapshot), after.snapshot());
    let judgement = judge(&EvaluationInput {
        before: before.as_ref(),
        after: &after,
        facts,
        catalogue: Catalogue::embedded(),
        policies: &PolicySet::default(),
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
    if let Some(mut through_the_gate) = through_the_gate {
        let mut by_check: Vec<(&str, Action)> = judgement
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .filter(|judged| !judged.finding.not_evaluated)
            .filter_map(|judged| Some((judged.finding.rule.id, judged.action()?)))
            .collect();
        by_check.sort_unstable();
        through_the_gate.sort_unstable();
        assert_eq!(
            through_the_gate, by_check,
            "the webhook and check must find the same"
        );
    }
    judgement
}

fn acting(judgement: &Evaluation, action: Action) -> Vec<&'static str> {
    let mut rules: Vec<&str> = judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings)
        .filter(|judged| judged.action() == Some(action))
        .map(|judged| judged.finding.rule.id)
        .collect();
    rules.dedup();
    rules
}

/// The change is denied, by these rules among others.
fn denied(before: &Fixture, after: &Fixture, rules: &[&str]) {
    let judgement = judged(Some(before), after, &Facts::default());
    assert_eq!(judgement.verdict(), Verdict::Deny);
    let acting = acting(&judgement, Action::Deny);
    for rule in rules {
        assert!(
            acting.contains(rule),
            "{rule} must deny, but {acting:?} did"
        );
    }
}

/// The change is not denied, and these rules warn.
fn warned(before: &Fixture, after: &Fixture, rules: &[&str]) {
    let judgement = judged(Some(before), after, &Facts::default());
    let acting_warn = acting(&judgement, Action::Warn);
    for rule in rules {
        assert!(
            acting_warn.contains(rule),
            "{rule} must warn, but {acting_warn:?} did"
        );
    }
    assert_ne!(
        judgement.verdict(),
        Verdict::Deny,
        "{:?}",
        acting(&judgement, Action::Deny)
    );
}

/// Nothing denies.
fn harmless(before: &Fixture, after: &Fixture) {
    let judgement = judged(Some(before), after, &Facts::default());
    assert_eq!(acting(&judgement, Action::Deny), Vec::<&str>::new());
}

fn queue(fixture: Fixture, queue: &str) -> Fixture {
    fixture.default_yaml(&format!("mq: {{type: {queue}}}\nmessageQueue: {queue}\n"))
}

const SEPARATE: [Component; 8] = [
    RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
];

#[rstest]
#[case("2.5.17", "2.6.0")]
#[case("2.5.27", "2.6.22")]
fn a_standalone_starts_on_an_empty_woodpecker(#[case] from: &str, #[case] to: &str) {
    let before = queue(Fixture::standalone(from).chart("4.2.58"), "rocksmq");
    denied(
        &before,
        &queue(Fixture::standalone(to).chart("5.0.14"), "woodpecker"),
        &["MG301", "MG502"],
    );
    harmless(
        &before,
        &queue(Fixture::standalone("2.6.22").chart("5.0.14"), "rocksmq"),
    );
}

#[test]
fn a_replaced_configuration_moves_queue_and_root() {
    let before =
        Fixture::standalone("2.5.16").default_yaml("mq: {type: rocksmq}\netcd: {rootPath: prod}\n");
    denied(
        &before,
        &queue(Fixture::standalone("2.6.17"), "woodpecker"),
        &["MG301", "MG302"],
    );
    let same = Fixture::standalone("2.6.22")
        .default_yaml("mq: {type: rocksmq}\n")
        .user_yaml("etcd: {rootPath: prod}\n");
    harmless(&before, &same);
}

#[rstest]
#[case("kafka", "pulsar")]
#[case("pulsar", "kafka")]
fn unflushed_rows_stay_in_the_other_queue(#[case] from: &str, #[case] to: &str) {
    denied(
        &queue(Fixture::cluster("2.4.24"), from),
        &queue(Fixture::cluster("2.4.24"), to),
        &["MG301"],
    );
    harmless(
        &queue(Fixture::cluster("2.4.24"), from),
        &queue(Fixture::cluster("2.4.24"), from),
    );
}

#[test]
fn an_unwanted_pulsar_starts_in_addition_to_kafka() {
    let kafka = |fixture: Fixture| {
        fixture.stateful_set(
            "my-release-kafka",
            "app.kubernetes.io/name: kafka",
            "bitnamilegacy/kafka:3.1.0",
        )
    };
    let before = kafka(Fixture::cluster("2.4.24"));
    let pulsar = (
        "my-release-pulsarv3-bookie",
        "app: pulsarv3",
        "apachepulsar/pulsar:3.0.7",
    );
    denied(
        &before,
        &kafka(Fixture::cluster("2.4.24")).stateful_set(pulsar.0, pulsar.1, pulsar.2),
        &["MG401"],
    );
    harmless(
        &before,
        &kafka(Fixture::cluster("2.4.24").replicas(QueryNode, 3)),
    );
}

#[test]
fn a_chart_mixes_up_two_pulsars() {
    let pulsar = |chart: &str| {
        Fixture::cluster("2.4.17").chart(chart).stateful_set(
            "my-release-pulsar-bookie",
            "app: pulsar",
            "apachepulsar/pulsar:2.9.5",
        )
    };
    denied(&pulsar("4.2.20"), &pulsar("4.2.28"), &["MG501"]);
    harmless(&pulsar("4.2.20"), &pulsar("4.2.58"));
}

#[test]
fn old_sessions_keep_the_new_coordinator_out() {
    denied(
        &Fixture::standalone("2.5.11"),
        &Fixture::standalone("2.6.0"),
        &["MG102"],
    );
    harmless(
        &Fixture::standalone("2.5.27"),
        &Fixture::standalone("2.6.22"),
    );
}

#[test]
fn separate_coordinators_hang_before_2_6() {
    denied(
        &Fixture::of("2.5.27", &SEPARATE),
        &Fixture::cluster("2.6.22"),
        &["MG102"],
    );
    warned(
        &Fixture::of("2.5.27", &SEPARATE),
        &Fixture::cluster("2.5.27"),
        &["MG205"],
    );
}

#[test]
fn the_streaming_nodes_are_not_waited_for_before_the_coordinator() {
    let catalogue = Catalogue::embedded();
    let order = catalogue
        .order(
            "2.5.16".parse().unwrap(),
            "2.6.7".parse().unwrap(),
            OrderTopology::StreamingIntroduction,
        )
        .expect("an order");
    assert_eq!(
        (order.steps[0].components.as_slice(), order.steps[0].gate),
        ([StreamingNode].as_slice(), Gate::Running)
    );
    assert!(order.position(StreamingNode) < order.position(MixCoord));
}

#[test]
fn a_new_proxy_meets_old_query_nodes() {
    let start = Fixture::cluster("2.5.27")
        .with(StreamingNode)
        .tag_of(StreamingNode, "v2.6.22")
        .tag_of(MixCoord, "v2.6.22");
    denied(&start, &start.clone().tag_of(Proxy, "v2.6.22"), &["MG201"]);
    harmless(&start, &start.clone().tag_of(QueryNode, "v2.6.22"));
}

#[test]
fn query_nodes_roll_without_streaming_nodes() {
    let start = Fixture::cluster("2.5.27");
    denied(
        &start,
        &start.clone().tag_of(QueryNode, "v2.6.22"),
        &["MG201"],
    );
    harmless(
        &start,
        &start
            .clone()
            .with(StreamingNode)
            .tag_of(StreamingNode, "v2.6.22"),
    );
}

#[test]
fn a_release_candidate_cannot_be_recovered() {
    denied(
        &Fixture::standalone("2.6.0-rc1"),
        &Fixture::standalone("2.6.22"),
        &["MG102"],
    );
    harmless(
        &Fixture::standalone("2.6.9"),
        &Fixture::standalone("2.6.22"),
    );
}

#[test]
fn metadata_of_2_1_is_not_found_by_2_2() {
    denied(
        &Fixture::cluster("2.1.4"),
        &Fixture::cluster("2.2.16"),
        &["MG101"],
    );
    harmless(&Fixture::cluster("2.1.0"), &Fixture::cluster("2.1.4"));
}

#[test]
fn the_migration_is_asked_to_jump_to_2_3() {
    denied(
        &Fixture::cluster("2.1.4"),
        &Fixture::cluster("2.3.22"),
        &["MG101", "MG102"],
    );
}

#[test]
fn indexes_and_rows_are_lost_within_2_2() {
    warned(
        &Fixture::standalone("2.2.0"),
        &Fixture::standalone("2.2.4"),
        &["MG104"],
    );
    harmless(
        &Fixture::standalone("2.2.6"),
        &Fixture::standalone("2.2.16"),
    );
}

#[test]
fn query_nodes_crash_on_old_scalar_indexes() {
    denied(
        &Fixture::standalone("2.4.24"),
        &Fixture::standalone("2.5.2"),
        &["MG104"],
    );
    harmless(
        &Fixture::standalone("2.4.24"),
        &Fixture::standalone("2.5.27"),
    );
}

#[test]
fn collections_are_lost_after_a_restart() {
    denied(
        &Fixture::standalone("2.4.12"),
        &Fixture::standalone("2.4.13"),
        &["MG104"],
    );
    harmless(
        &Fixture::standalone("2.4.12"),
        &Fixture::standalone("2.4.13-hotfix"),
    );
}

#[test]
fn a_renamed_collection_has_lost_its_metadata() {
    warned(
        &Fixture::standalone("2.5.13"),
        &Fixture::standalone("2.5.27"),
        &["MG104"],
    );
}

#[test]
fn minio_finds_a_backend_it_cannot_read() {
    let minio = |image: &str| {
        Fixture::standalone("2.2.3").object(&format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"minio/minio:{image}\"}}]\n"
        ))
    };
    let old = "RELEASE.2022-03-17T06-34-49Z";
    denied(
        &minio(old),
        &minio("RELEASE.2023-03-20T20-16-18Z"),
        &["MG404"],
    );
    harmless(&minio(old), &minio("RELEASE.2022-05-08T23-50-31Z"));
}

#[test]
fn etcd_goes_back_to_an_older_line() {
    let etcd = |tag: &str| {
        Fixture::cluster("2.4.24").stateful_set(
            "my-release-etcd",
            "app.kubernetes.io/name: etcd",
            &format!("milvusdb/etcd:{tag}"),
        )
    };
    denied(&etcd("3.5.14-r1"), &etcd("3.4.20-r0"), &["MG403"]);
    harmless(&etcd("3.5.5-r2"), &etcd("3.5.14-r1"));
}

#[test]
fn an_image_can_no_longer_be_pulled() {
    let kafka = |repository: &str| {
        Fixture::cluster("2.4.24").stateful_set(
            "my-release-kafka",
            "app.kubernetes.io/name: kafka",
            &format!("{repository}/kafka:3.1.0"),
        )
    };
    warned(
        &kafka("bitnami"),
        &kafka("bitnami").replicas(Proxy, 2),
        &["MG405"],
    );
    harmless(&kafka("bitnami"), &kafka("bitnamilegacy"));
}

#[test]
fn a_cluster_becomes_a_standalone() {
    denied(
        &Fixture::cluster("2.3.3"),
        &Fixture::standalone("2.4.6"),
        &["MG204"],
    );
}

#[test]
fn an_immutable_field_stops_the_upgrade_half_way() {
    let zookeeper = |size: &str| {
        Fixture::cluster("2.4.24").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-pulsar-zookeeper}}\nspec:\n  serviceName: zk\n  selector:\n    matchLabels: {{app: pulsar, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: zk, image: \"apachepulsar/pulsar:2.9.5\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n      spec: {{resources: {{requests: {{storage: {size}}}}}}}\n"
        ))
    };
    denied(&zookeeper("5Gi"), &zookeeper("20Gi"), &["MG402"]);
    harmless(&zookeeper("20Gi"), &zookeeper("20Gi"));
}

#[rstest]
#[case("3.0.0", "2.6.18")]
#[case("3.0.2", "2.6.22")]
fn a_coordinator_refuses_the_older_version(#[case] from: &str, #[case] to: &str) {
    denied(&Fixture::cluster(from), &Fixture::cluster(to), &["MG103"]);
}

#[rstest]
#[case("2.4.24", "2.3.22")]
#[case("2.3.22", "2.2.16")]
fn an_older_version_cannot_read_newer_data(#[case] from: &str, #[case] to: &str) {
    denied(
        &Fixture::standalone(from),
        &Fixture::standalone(to),
        &["MG103"],
    );
}

#[test]
fn a_new_etcd_makes_milvus_delete_its_objects() {
    let etcd = |host: &str| {
        Fixture::cluster("2.4.24").default_yaml(&format!(
            "etcd: {{endpoints: [\"{host}:2379\"]}}\nminio: {{address: s3.amazonaws.com}}\n"
        ))
    };
    denied(&etcd("my-release-etcd"), &etcd("fresh-etcd"), &["MG302"]);
    harmless(
        &etcd("my-release-etcd"),
        &etcd("my-release-etcd.milvus.svc.cluster.local"),
    );
}

#[test]
fn an_image_that_was_never_released_hangs_the_roll() {
    denied(
        &Fixture::standalone("2.5.5"),
        &Fixture::standalone("2.5.20"),
        &["MG104"],
    );
    warned(
        &Fixture::standalone("2.5.5"),
        &Fixture::standalone("2.5.5").tag("newest"),
        &["MG105"],
    );
}

#[rstest]
#[case("2.5.27", "2.6.12")]
#[case("2.5.27", "2.6.18")]
#[case("2.5.27", "2.6.6")]
fn a_target_with_a_known_defect_is_named(#[case] from: &str, #[case] to: &str) {
    warned(
        &Fixture::standalone(from),
        &Fixture::standalone(to),
        &["MG104"],
    );
}

#[test]
fn a_new_user_cannot_write_to_the_volume() {
    let claim =
        "volumes:\n  - name: data\n    persistentVolumeClaim: {claimName: my-release-milvus}";
    let run = |version: &str, more: &str| {
        Fixture::standalone(version)
            .pod(Component::Standalone, &format!("{more}\n{claim}"))
            .container(
                Component::Standalone,
                "volumeMounts:\n  - {name: data, mountPath: /var/lib/milvus}",
            )
    };
    denied(&run("2.6.22", ""), &run("3.0.2", ""), &["MG601"]);
    harmless(
        &run("2.6.22", ""),
        &run("3.0.2", "securityContext: {fsGroup: 999}"),
    );
}

#[test]
fn memory_mapped_collections_take_long_to_come_back() {
    let journey = PathRequest {
        release: "my-release".into(),
        namespace: "milvus".into(),
        from: "2.3.22".parse().unwrap(),
        to: "2.4.24".parse().unwrap(),
        topology: Topology::Cluster,
        coordinators: None,
        metastore: None,
        root_path: None,
        queue: None,
        woodpecker_storage: None,
        manager: crate::milvus::Manager::plain_chart(),
    };
    let plan = plan(&journey, Catalogue::embedded());
    assert!(
        plan.stops[0]
            .prerequisites
            .iter()
            .any(|text| text.contains("mmap")),
        "{:?}",
        plan.stops[0].prerequisites
    );
}

#[rstest]
#[case::replicas(Fixture::cluster("2.5.27").replicas(QueryNode, 7))]
#[case::resources(Fixture::cluster("2.5.27").container(QueryNode, "resources: {limits: {memory: 64Gi}}"))]
#[case::tolerations(Fixture::cluster("2.5.27").pod(DataNode, "tolerations: [{key: vectors, operator: Exists}]"))]
#[case::mirror(Fixture::cluster("2.5.27").repository("registry.example.com:5000/mirror/milvusdb/milvus"))]
#[case::digest(Fixture::cluster("2.5.27").tag("v2.5.27@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"))]
#[case::attu(Fixture::cluster("2.5.27").object("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: my-release-milvus-attu}\nspec:\n  selector:\n    matchLabels: {app.kubernetes.io/name: milvus, app.kubernetes.io/instance: my-release, component: attu}\n  template:\n    spec:\n      containers: [{name: attu, image: \"zilliz/attu:v2.3.10\"}]\n"))]
#[case::other_workload(Fixture::cluster("2.5.27").object("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: my-release-web}\nspec:\n  selector:\n    matchLabels: {app: web}\n  template:\n    spec:\n      containers: [{name: web, image: \"nginx:latest\"}]\n"))]
#[case::other_release(Fixture::cluster("2.5.27").object("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: other-kafka}\nspec:\n  serviceName: k\n  selector:\n    matchLabels: {app: web, release: other}\n  template:\n    spec:\n      containers: [{name: db, image: \"postgres:16\"}]\n"))]
#[case::log_level(Fixture::cluster("2.5.27").user_yaml("log: {level: debug}\n"))]
#[case::gpu_build(Fixture::cluster("2.5.27").tag("v2.5.27-gpu"))]
fn changes_that_harm_nobody(#[case] after: Fixture) {
    harmless(&Fixture::cluster("2.5.27"), &after);
}
