//! Verdicts on rendered charts: each step and each jump between versions, cluster and standalone,
//! rendered by Helm 3 and Helm 4.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::common::{Chart, Judged, charts, file};
use jiff::Timestamp;
use milvus_guard_core::{
    admission::{Review, ReviewState, Task, review_state::Accounts},
    manifest::documents,
    milvus::NamespaceState,
    policy::Action,
};
use milvus_guard_sources::files::{Role, objects::Collector};
use milvus_guard_testbed::Helm;
use serde_json::{Value, json};

/// Values with which users install a chart as a standalone.
fn standalone(chart: &Chart) -> Vec<&'static str> {
    if !chart.is_real {
        return vec!["cluster.enabled=false"];
    }
    let mut values = vec![
        "cluster.enabled=false",
        "etcd.replicaCount=1",
        "minio.mode=standalone",
        "pulsar.enabled=false",
    ];
    if chart.version >= "4.2" {
        values.push("pulsarv3.enabled=false");
    }
    values
}

/// From, to, rules that must deny, rules that must not deny.
type Case = (
    usize,
    usize,
    &'static [&'static str],
    &'static [&'static str],
);

/// Index of the chart: 0 = 3.2.18, 1 = 4.0.31, 2 = 4.1.34, 3 = 4.2.40, 4 = 5.0.14.
const CLUSTER: [Case; 10] = [
    (
        0,
        1,
        &["MG101"],
        &["MG102", "MG301", "MG302", "MG303", "MG401"],
    ),
    (
        1,
        2,
        &["MG201"],
        &["MG101", "MG301", "MG302", "MG303", "MG401", "MG402"],
    ),
    (
        2,
        3,
        &["MG201", "MG301", "MG401"],
        &["MG101", "MG102", "MG302", "MG303", "MG402"],
    ),
    (
        3,
        4,
        &["MG102", "MG201"],
        &["MG301", "MG302", "MG303", "MG401"],
    ),
    (0, 2, &["MG101", "MG102"], &["MG301", "MG302"]),
    (0, 3, &["MG101", "MG102", "MG301"], &["MG302"]),
    (0, 4, &["MG101", "MG102", "MG301"], &["MG302"]),
    (1, 3, &["MG201", "MG301"], &["MG101", "MG102", "MG302"]),
    (1, 4, &["MG102", "MG201", "MG301"], &["MG101", "MG302"]),
    (2, 4, &["MG102", "MG201", "MG301"], &["MG101", "MG302"]),
];

const STANDALONE: [Case; 10] = [
    (
        0,
        1,
        &["MG101"],
        &["MG102", "MG201", "MG301", "MG302", "MG303", "MG305"],
    ),
    (
        1,
        2,
        &[],
        &[
            "MG101", "MG102", "MG201", "MG301", "MG302", "MG303", "MG305",
        ],
    ),
    (
        2,
        3,
        &[],
        &[
            "MG101", "MG102", "MG201", "MG301", "MG302", "MG303", "MG305",
        ],
    ),
    (
        3,
        4,
        &["MG102", "MG301", "MG502"],
        &["MG201", "MG302", "MG303", "MG305"],
    ),
    (0, 2, &["MG101", "MG102"], &["MG301"]),
    (0, 3, &["MG101", "MG102"], &["MG301"]),
    (0, 4, &["MG101", "MG102", "MG502"], &[]),
    (1, 3, &[], &["MG101", "MG301"]),
    (1, 4, &["MG102", "MG502"], &["MG101"]),
    (2, 4, &["MG102", "MG502"], &["MG101"]),
];

fn judge(before: &str, after: &str) -> Judged {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (
        file(folder.path(), "before.yaml", before),
        file(folder.path(), "after.yaml", after),
    );
    Judged::of(&["--before", &before, "--after", &after, "-n", "milvus"])
}

/// The rules that deny if kubectl sends each object in a separate request. Each object is then part
/// of the cluster, even if denied, since a rule must not deny because of the order.
fn denied_object_by_object(before: &str, after: &str, is_reversed: bool) -> BTreeSet<String> {
    let accounts = Accounts::new("milvus-guard", "milvus-guard", "milvus-guard-job");
    let objects = |text: &str| -> BTreeMap<String, Value> {
        let all = documents(text).map(|document| document.unwrap().root.to_json());
        all.filter(|object| object["kind"].is_string())
            .map(|mut object| {
                object["metadata"]["namespace"] = json!("milvus");
                (
                    format!("{} {}", object["kind"], object["metadata"]["name"]),
                    object,
                )
            })
            .collect()
    };
    let (mut now, new) = (objects(before), objects(after));
    let mut changed: Vec<&String> = new
        .keys()
        .filter(|key| now.get(*key) != new.get(*key))
        .collect();
    if is_reversed {
        changed.reverse();
    }
    let mut denied = BTreeSet::new();
    for key in changed {
        let (object, old) = (&new[key], now.get(key));
        let api = object["apiVersion"].as_str().unwrap();
        let (group, resource) = (
            api.split_once('/').map_or("", |(group, _)| group),
            format!("{}s", object["kind"].as_str().unwrap().to_lowercase()),
        );
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "1", "name": object["metadata"]["name"], "namespace": "milvus",
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "resource": {"group": group, "version": "v1", "resource": resource}, "userInfo": {"username": "me"},
            "options": {"fieldManager": "kubectl"}, "object": object, "oldObject": old}})
        .to_string();
        let mut place = Collector::new(Role::Before, Some("milvus"));
        let text: String = now
            .values()
            .map(|object| format!("---\n{object}\n"))
            .collect();
        place.add_text(&text, "cluster").unwrap();
        let place = NamespaceState::new(place.content("cluster").unwrap().objects);
        let context = ReviewState::of(Arc::new(place), &accounts, Timestamp::UNIX_EPOCH);
        let ruling = Task::of(&Review::parse(review.as_bytes()).unwrap()).judge(&context);
        denied.extend(
            ruling
                .rules
                .iter()
                .filter(|(_, action)| *action == Action::Deny)
                .map(|(rule, _)| (*rule).to_owned()),
        );
        now.insert(key.clone(), object.clone());
    }
    denied
}

fn walk(cases: &[Case], values: impl Fn(&Chart) -> Vec<&'static str>) {
    for set in charts() {
        let rendered: Vec<[String; 2]> = set
            .iter()
            .map(|chart| [Helm::V3, Helm::V4].map(|with| chart.render(with, &values(chart))))
            .collect();
        for (from, to, deny, not) in cases {
            for (before, after) in [(0, 0), (0, 1)] {
                let judged = judge(&rendered[*from][before], &rendered[*to][after]);
                let what = format!(
                    "{} -> {} ({})",
                    set[*from].version,
                    set[*to].version,
                    if set[*from].is_real {
                        "real"
                    } else {
                        "compact"
                    }
                );
                let denied = judged.rules("deny");
                for rule in *deny {
                    assert!(
                        denied.contains(&(*rule).to_owned()),
                        "{what}: {rule} must deny, but {denied:?} did"
                    );
                }
                for rule in *not {
                    assert!(
                        !denied.contains(&(*rule).to_owned()),
                        "{what}: {rule} must not deny: {:#}",
                        judged.finding(rule)
                    );
                }
                for is_reversed in [false, true] {
                    let alone = denied_object_by_object(
                        &rendered[*from][before],
                        &rendered[*to][after],
                        is_reversed,
                    );
                    let more: Vec<_> = alone
                        .iter()
                        .filter(|rule| rule.starts_with("MG3") && !denied.contains(rule))
                        .collect();
                    assert!(
                        more.is_empty(),
                        "{what}, object by object, reversed: {is_reversed}: {more:?} must not deny"
                    );
                }
                let expected = i32::from(!denied.is_empty());
                assert_eq!(judged.code, expected, "{what}: {denied:?}");
                assert_eq!(judged.report["from"], set[*from].app_version, "{what}");
                assert_eq!(judged.report["to"], set[*to].app_version, "{what}");
            }
        }
        for (chart, rendered) in set.iter().zip(&rendered) {
            for (before, after) in [(0, 0), (0, 1)] {
                let judged = judge(&rendered[before], &rendered[after]);
                assert_eq!(
                    judged.verdict(),
                    "allow",
                    "{} against itself: {:#}",
                    chart.version,
                    judged.report["findings"]
                );
            }
        }
    }
}

#[test]
fn clusters_of_every_chart_get_the_right_verdict() {
    walk(&CLUSTER, |_| Vec::new());
}

#[test]
fn standalones_of_every_chart_get_the_right_verdict() {
    walk(&STANDALONE, standalone);
}

#[test]
fn the_finding_of_a_skipped_migration_names_the_command() {
    for set in charts() {
        let judged = judge(
            &set[0].render(Helm::V3, &[]),
            &set[1].render(Helm::V3, &["image.all.tag=v2.2.16"]),
        );
        assert_eq!(judged.code, 1);
        let finding = judged.finding("MG101");
        assert_eq!(
            finding["fix"]["command"],
            "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16"
        );
    }
}

#[test]
fn values_that_charts_from_4_on_ignore_are_reported() {
    for set in charts() {
        let before = set[0].render(
            Helm::V3,
            &["metadata.rootPath=prod", "authorization.enabled=true"],
        );
        let after = set[1].render(
            Helm::V3,
            &["metadata.rootPath=prod", "authorization.enabled=true"],
        );
        let denied = judge(&before, &after).rules("deny");
        assert!(
            denied.contains(&"MG302".to_owned()) && denied.contains(&"MG304".to_owned()),
            "{denied:?}"
        );
    }
}

#[test]
fn changed_defaults_are_reported_unless_the_value_is_set() {
    for set in charts() {
        // Chart 4.2.4: four coordinators become one.
        let judged = judge(
            &set[2].render(Helm::V3, &[]),
            &set[3].render(Helm::V3, &["image.all.tag=v2.4.5"]),
        );
        assert!(
            judged.rules("warn").contains(&"MG205".to_owned()),
            "{:?}",
            judged.rules("warn")
        );
        // Chart 4.2.27: Pulsar v2 becomes v3, unless it is set.
        assert!(judged.rules("deny").contains(&"MG301".to_owned()));
        let pin: &[&str] = if set[3].is_real {
            &["pulsar.enabled=true", "pulsarv3.enabled=false"]
        } else {
            &["pinPulsarV2=true"]
        };
        let pinned: Vec<&str> = ["image.all.tag=v2.4.5"]
            .iter()
            .chain(pin)
            .copied()
            .collect();
        let judged = judge(
            &set[2].render(Helm::V3, &[]),
            &set[3].render(Helm::V3, &pinned),
        );
        assert!(
            !judged.rules("deny").contains(&"MG301".to_owned()),
            "{:?}",
            judged.rules("deny")
        );
        assert!(
            !judged.rules("deny").contains(&"MG401".to_owned()),
            "{:?}",
            judged.rules("deny")
        );
        // Chart 5.0.0: a standalone's RocksMQ becomes Woodpecker, unless it is set.
        let mut values = standalone(&set[4]);
        let before = set[3].render(Helm::V3, &standalone(&set[3]));
        assert!(
            judge(&before, &set[4].render(Helm::V3, &values))
                .rules("deny")
                .contains(&"MG502".to_owned())
        );
        values.push("standalone.messageQueue=rocksmq");
        let denied = judge(&before, &set[4].render(Helm::V3, &values)).rules("deny");
        assert!(
            !denied.contains(&"MG502".to_owned()) && !denied.contains(&"MG301".to_owned()),
            "{denied:?}"
        );
    }
}

#[test]
fn harmless_changes_are_not_denied() {
    for set in charts() {
        for chart in &set[1..] {
            let before = chart.render(Helm::V3, &[]);
            let node = if chart.is_real {
                "queryNode"
            } else {
                "querynode"
            };
            let replicas = format!("{node}.replicas=4");
            let toleration = format!("{node}.tolerations[0].key=vectors");
            let memory = format!("{node}.resources.limits.memory=8Gi");
            let cases: [Vec<&str>; 5] = [
                vec![&replicas],
                vec![&toleration, &memory],
                vec!["image.all.repository=registry.example.com:5000/mirror/milvusdb/milvus"],
                vec!["attu.enabled=true"],
                vec![],
            ];
            for values in cases {
                let judged = judge(&before, &chart.render(Helm::V4, &values));
                assert_eq!(
                    judged.rules("deny"),
                    Vec::<String>::new(),
                    "{} {values:?}",
                    chart.version
                );
                // The images of MinIO in these charts were removed from Docker Hub, so the warning
                // is right: a pod that starts cannot pull them.
                let warnings: Vec<String> = judged
                    .rules("warn")
                    .into_iter()
                    .filter(|rule| rule != "MG405")
                    .collect();
                assert_eq!(
                    warnings,
                    Vec::<String>::new(),
                    "{} {values:?}",
                    chart.version
                );
                assert!(
                    !values.is_empty() || judged.rules("warn").is_empty(),
                    "{}: nothing changed",
                    chart.version
                );
            }
        }
    }
}

#[test]
fn releases_with_overridden_names_are_recognized() {
    for set in charts() {
        for chart in &set {
            let values = ["nameOverride=vectors", "fullnameOverride=search"];
            let judged = judge(
                &chart.render(Helm::V3, &values),
                &chart.render(Helm::V3, &values),
            );
            assert_eq!(judged.verdict(), "allow");
            assert_eq!(
                judged.report["releases"][0]["name"], "my-release",
                "{}",
                chart.version
            );
            let renamed = judge(
                &chart.render(Helm::V3, &[]),
                &chart.render(Helm::V3, &["fullnameOverride=search"]),
            );
            assert!(
                renamed.rules("deny").contains(&"MG204".to_owned()),
                "{}: {:?}",
                chart.version,
                renamed.rules("deny")
            );
        }
    }
}
