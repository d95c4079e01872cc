//! Every row of the data about charts, values and dependencies triggers a rule: a case is made
//! of the row itself, and the rule that the row names must answer it with the row's own verdict. A
//! row that no case can trigger fails here.

use crate::{
    change::Upgrade,
    milvus::{
        Line, Version,
        catalogue::{Catalogue, Danger, Hazard, HazardKind, Verdict},
        dependency::Family,
    },
};

use super::{Finding, Findings, Rule, Severity, find, testing::Fixture};

fn catalogue() -> &'static Catalogue {
    Catalogue::embedded()
}

fn found(rule: &'static Rule, before: Option<&Fixture>, after: &Fixture) -> Vec<Finding> {
    let (before, after) = (before.map(Fixture::release), after.release());
    let facts = crate::evidence::Facts::default();
    let upgrade = Upgrade::new(before.as_ref(), &after, &facts, catalogue());
    let mut findings = Findings::of(rule);
    (rule.check)(&upgrade, &mut findings);
    findings
        .into_vec()
        .into_iter()
        .filter(|finding| !finding.not_evaluated)
        .collect()
}

fn rule(id: &str) -> &'static Rule {
    find(id).unwrap_or_else(|| panic!("a row names {id}, which is not a rule"))
}

const fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::Deny => Severity::Deny,
        Verdict::Warn => Severity::Warn,
        Verdict::Info | Verdict::Allow => Severity::Audit,
    }
}

/// A version inside or outside of a range: the ends of every line that the tables know, with their
/// neighbours.
fn version_in(range: &str, wanted: bool) -> Option<Version> {
    let range: crate::milvus::Range = range.parse().unwrap();
    let mut versions: Vec<Version> = catalogue()
        .landing
        .iter()
        .map(|landing| landing.version)
        .collect();
    versions.extend(
        [
            (2, 1, 4),
            (2, 2, 0),
            (2, 3, 3),
            (2, 4, 0),
            (2, 5, 14),
            (2, 6, 0),
            (3, 0, 0),
        ]
        .map(|(a, b, c)| Version::new(a, b, c)),
    );
    versions
        .into_iter()
        .find(|version| range.contains(*version) == wanted)
}

/// The charts around a row: one that it means, and one that it does not (the newest below it, else
/// the oldest above).
fn charts(row: &Hazard) -> (Version, Option<Version>) {
    let means = |version: Version| match row.kind {
        HazardKind::Range => row
            .charts
            .as_ref()
            .is_some_and(|charts| charts.contains(version)),
        HazardKind::Boundary => row.at.is_some_and(|at| version >= at),
    };
    let mut all: Vec<Version> = catalogue()
        .charts
        .iter()
        .map(|chart| chart.version)
        .collect();
    all.sort();
    let inside = *all
        .iter()
        .find(|version| means(**version))
        .unwrap_or_else(|| panic!("{}: no chart is meant", row.id));
    let below = all
        .iter()
        .rev()
        .find(|version| **version < inside && !means(**version));
    (
        inside,
        below
            .or_else(|| all.iter().find(|version| !means(**version)))
            .copied(),
    )
}

/// The running and the desired state, made of a row; with `fits` false, a case that the row does
/// not match.
fn case(row: &Hazard, fits: bool) -> Option<(Option<Fixture>, Fixture)> {
    let (inside, outside) = charts(row);
    let chart = if fits { inside } else { outside? };
    let image = row.when.get("image").map_or_else(
        || {
            if chart >= Version::new(5, 0, 0) {
                Version::new(2, 6, 11)
            } else {
                Version::new(2, 4, 5)
            }
        },
        |range| version_in(range, true).unwrap(),
    );
    let standalone = row
        .when
        .get("topology")
        .is_some_and(|topology| topology == "standalone");
    let make = |version: Version, chart: Version| {
        let version = version.to_string();
        let fixture = if standalone {
            Fixture::standalone(&version)
        } else {
            Fixture::cluster(&version)
        };
        fixture.chart(&chart.to_string())
    };
    let mut after = make(image, chart);
    let mut before = None;
    if row.id.starts_with("default-") {
        let tag = catalogue().chart(inside).unwrap().tag.clone();
        after = after.tag(&tag);
    }
    match row.when.get("queue").map(String::as_str) {
        Some("pulsar-v2") => {
            after = after.stateful_set(
                "my-release-pulsar-bookie",
                "app: pulsar",
                "apachepulsar/pulsar:2.9.5",
            );
        }
        Some("kafka") => {
            after = after.stateful_set(
                "my-release-kafka",
                "app.kubernetes.io/name: kafka",
                "bitnami/kafka:3.1.0",
            );
        }
        _ => {}
    }
    if let Some(range) = row.when.get("from") {
        before = Some(make(version_in(range, fits)?, chart));
    }
    if row
        .when
        .get("woodpecker")
        .is_some_and(|mode| mode == "service")
        && (fits || before.is_some())
    {
        after = after.default_yaml("mq: {type: woodpecker}\n");
        after = after.stateful_set(
            "my-release-milvus-woodpecker",
            "component: woodpecker",
            "milvusdb/woodpecker:latest",
        );
    }
    match row.rule.as_deref() {
        Some("MG501") if row.kind == HazardKind::Boundary && before.is_none() => {
            before = Some(make(image, outside?));
        }
        Some("MG405") => {
            let tag = if chart >= Version::new(4, 2, 0) {
                "RELEASE.2024-12-18T13-15-44Z"
            } else {
                "RELEASE.2023-03-20T20-16-18Z"
            };
            let repository = if fits {
                "minio/minio"
            } else {
                "quay.io/minio/minio"
            };
            after = after.stateful_set(
                "my-release-minio",
                "app: minio",
                &format!("{repository}:{tag}"),
            );
        }
        Some("MG502") => {
            let queue = |fixture: Fixture, name: &str| {
                fixture.default_yaml(&format!("mq: {{type: {name}}}\nmessageQueue: {name}\n"))
            };
            before = Some(queue(make(Version::new(2, 5, 14), outside?), "rocksmq"));
            after = queue(after, "woodpecker");
        }
        Some("MG503") => {
            let (from, to) = if fits {
                (outside?, inside)
            } else {
                (inside, inside)
            };
            before = Some(
                make(Version::new(2, 1, 4), from)
                    .values("authorization: {enabled: true}\nqueryNode: {grouping: {x: 1}}"),
            );
            after = make(Version::new(2, 2, 16), to);
        }
        _ => {}
    }
    Some((before, after))
}

#[test]
fn every_hazard_that_names_a_rule_triggers_it() {
    for row in &catalogue().hazards {
        let Some(id) = row.rule.as_deref() else {
            continue;
        };
        let rule = rule(id);
        // Rows of one rule may overlap; where the message is the row's own text, it must be this
        // row's.
        let reported = |fits: bool| {
            let (before, after) = case(row, fits)?;
            let found = found(rule, before.as_ref(), &after);
            let own = id != "MG501"
                || found
                    .iter()
                    .any(|finding| finding.message.contains(&row.effect));
            let named = found
                .iter()
                .filter(|finding| id != "MG501" || finding.message.contains(&row.effect));
            Some(named.map(|finding| finding.severity).collect::<Vec<_>>())
                .filter(|found| own || found.is_empty())
        };
        let wanted = severity(row.verdict);
        let spoken = reported(true).unwrap_or_else(|| panic!("{}: no case can be made", row.id));
        assert!(
            spoken.contains(&wanted),
            "{}: {id} says {spoken:?}, the row says {wanted:?}",
            row.id
        );
        if let Some(unmatched) = reported(false) {
            assert_eq!(
                unmatched,
                [],
                "{}: {id} also reports a case that the row does not match",
                row.id
            );
        }
    }
}

#[test]
fn every_removed_value_is_named() {
    let mg503 = rule("MG503");
    for row in &catalogue().removed_values {
        let values = row
            .path
            .rsplit('.')
            .fold("x".to_owned(), |below, key| format!("{{{key}: {below}}}"));
        let run = |chart: &str| Fixture::cluster("2.1.4").chart(chart);
        let findings = found(mg503, Some(&run("3.3.6").values(&values)), &run("4.0.0"));
        let wanted = if row.danger == Danger::Tuning {
            Severity::Warn
        } else {
            Severity::Deny
        };
        let named = findings
            .iter()
            .any(|finding| finding.severity == wanted && finding.message.contains(&row.path));
        assert!(named, "{}: {findings:?}", row.path);
        assert!(found(mg503, Some(&run("3.3.6").values("{}")), &run("4.0.0")).is_empty());
    }
}

#[test]
fn every_vanished_image_is_named_with_its_new_place() {
    let mg405 = rule("MG405");
    for row in &catalogue().dependencies.vanished {
        let repository = if row.prefix.ends_with('/') {
            format!("{}etcd", row.prefix)
        } else {
            row.prefix.clone()
        };
        let run = |image: &str| {
            Fixture::cluster("2.5.14").stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                image,
            )
        };
        for host in ["", "docker.io/", "index.docker.io/"] {
            let findings = found(mg405, None, &run(&format!("{host}{repository}:z")));
            assert_eq!(findings.len(), 1, "{}: {findings:?}", row.prefix);
            assert_eq!(findings[0].severity, Severity::Warn);
            let moved = row.moved_to.as_deref().unwrap_or("own registry");
            assert!(
                findings[0].fix.text.contains(moved),
                "{}: {:?}",
                row.prefix,
                findings[0].fix
            );
        }
        if let Some(first) = &row.lost_before {
            let findings = found(
                mg405,
                None,
                &run(&format!("{repository}:{}", &first[..first.len() - 1])),
            );
            assert!(
                findings[0].fix.text.contains("No public registry"),
                "{}: {:?}",
                row.prefix,
                findings[0].fix
            );
        }
        assert!(
            found(
                mg405,
                None,
                &run(&format!("registry.example.com/{repository}:z"))
            )
            .is_empty()
        );
        if let Some(moved) = &row.moved_to {
            let place = if row.prefix.ends_with('/') {
                format!("{moved}etcd")
            } else {
                moved.clone()
            };
            assert!(
                found(mg405, None, &run(&format!("{place}:z"))).is_empty(),
                "{}: the new place vanished too",
                row.prefix
            );
        }
    }
}

#[test]
fn every_line_of_etcd_follows_the_one_before_it() {
    let mg403 = rule("MG403");
    let lines = &catalogue().dependencies.etcd_lines;
    assert!(
        lines.len() > 5 && lines.is_sorted() && !catalogue().dependencies.etcd_source.is_empty()
    );
    let run = |line: Line| {
        let image = format!("quay.io/coreos/etcd:v{line}.1");
        Fixture::cluster("2.5.14").stateful_set(
            "my-release-etcd",
            "app.kubernetes.io/name: etcd",
            &image,
        )
    };
    for (at, from) in lines.iter().enumerate() {
        for (to_at, to) in lines.iter().enumerate() {
            let findings = found(mg403, Some(&run(*from)), &run(*to));
            let step = lines.get(at + 1).copied();
            match to_at.checked_sub(at) {
                Some(0 | 1) => assert!(findings.is_empty(), "{from} to {to}: {findings:?}"),
                Some(_) => assert!(
                    findings[0]
                        .message
                        .contains(&format!("skip {}", step.unwrap())),
                    "{findings:?}"
                ),
                None => assert!(
                    findings[0].message.contains("downgraded from"),
                    "{findings:?}"
                ),
            }
        }
    }
}

#[test]
fn the_cutoff_of_minio_and_the_shadowing_services_are_reported() {
    let facts = &catalogue().dependencies;
    let minio = |tag: &str| {
        Fixture::cluster("2.2.3").object(&format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"minio/minio:{tag}\"}}]\n"
        ))
    };
    let (old, new) = (
        "RELEASE.2022-01-01T00-00-00Z",
        format!("{}T00-00-00Z", facts.minio_filesystem_cutoff),
    );
    assert_eq!(
        found(rule("MG404"), Some(&minio(old)), &minio(&new)).len(),
        1
    );
    assert!(found(rule("MG404"), Some(&minio(&new)), &minio(&new)).is_empty());
    assert!(!facts.shadowing_services.is_empty());
    for name in &facts.shadowing_services {
        let service = |name: &str| {
            Fixture::cluster("2.4.5").object(&format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
            ))
        };
        assert_eq!(
            found(rule("MG406"), None, &service(name)).len(),
            1,
            "{name}"
        );
        assert!(found(rule("MG406"), None, &service(&format!("my-{name}"))).is_empty());
    }
}

#[test]
fn every_family_that_holds_data_is_seen_to_go() {
    let families = [
        (
            Family::Etcd,
            "app.kubernetes.io/name: etcd",
            "milvusdb/etcd:3.5.18",
        ),
        (
            Family::Minio,
            "app: minio",
            "quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z",
        ),
        (
            Family::Silo,
            "app: silo",
            "pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        ),
        (Family::PulsarV2, "app: pulsar", "apachepulsar/pulsar:2.9.5"),
        (
            Family::PulsarV3,
            "app: pulsarv3",
            "apachepulsar/pulsar:3.0.7",
        ),
        (
            Family::Kafka,
            "app.kubernetes.io/name: kafka",
            "bitnamilegacy/kafka:3.1.0",
        ),
        (
            Family::Zookeeper,
            "app.kubernetes.io/name: zookeeper",
            "bitnamilegacy/zookeeper:3.7.0",
        ),
        (
            Family::Woodpecker,
            "component: woodpecker",
            "milvusdb/woodpecker:latest",
        ),
        (Family::Mysql, "app.kubernetes.io/name: mysql", "mysql:8"),
        (
            Family::Tikv,
            "app.kubernetes.io/name: tikv",
            "pingcap/tikv:v7.5.0",
        ),
    ];
    for (family, label, image) in families {
        let run = || Fixture::cluster("2.6.11").stateful_set("my-release-store", label, image);
        assert_eq!(
            run()
                .release()
                .dependencies
                .first()
                .map(|dependency| dependency.family),
            Some(family)
        );
        let findings = found(rule("MG401"), Some(&run()), &Fixture::cluster("2.6.11"));
        assert!(
            findings
                .iter()
                .any(|finding| finding.severity == Severity::Deny),
            "{family}: {findings:?}"
        );
        assert!(found(rule("MG401"), Some(&run()), &run()).is_empty());
    }
}

#[test]
fn every_queue_of_some_versions_is_denied_outside_them() {
    let mg301 = rule("MG301");
    for row in &catalogue().dependencies.queues {
        assert!(!row.source.is_empty());
        let run = |version: &str| {
            Fixture::standalone(version).default_yaml(&format!("mq: {{type: {}}}", row.queue))
        };
        let all = catalogue().released.iter().map(|one| one.version);
        let (has, lacks): (Vec<_>, Vec<_>) = all.partition(|one| row.versions.contains(*one));
        assert!(!has.is_empty() && !lacks.is_empty(), "{row:?}");
        for (versions, expected) in [(has, false), (lacks, true)] {
            for version in versions {
                let findings = found(mg301, None, &run(&version.to_string()));
                assert_eq!(!findings.is_empty(), expected, "{version} {}", row.queue);
            }
        }
    }
}

#[test]
fn every_image_with_a_folder_of_its_own_speaks() {
    let mg305 = rule("MG305");
    let rows = &catalogue().dependencies.data_folders;
    assert!(rows.len() > 3);
    for row in rows {
        assert!(!row.source.is_empty());
        for image in &row.images {
            let (system, command) = match image.rsplit('/').next().unwrap() {
                "etcd" => ("etcd", "command: [etcd, --data-dir=/elsewhere]"),
                "minio" => ("minio", "args: [server, /elsewhere]"),
                _ => ("kafka", "env: [{name: KAFKA_LOG_DIRS, value: /elsewhere}]"),
            };
            let label = if system == "minio" {
                "app: minio".to_owned()
            } else {
                format!("app.kubernetes.io/name: {system}")
            };
            let run = |mount: &str, fields: &str| {
                Fixture::cluster("2.5.14").object(&format!(
                    "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-x}}\nspec:\n  selector:\n    matchLabels: {{{label}, app.kubernetes.io/instance: my-release, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: x, image: \"{image}:3.5.9\", {fields}, volumeMounts: [{{name: d, mountPath: {mount}}}]}}]\n  volumeClaimTemplates:\n    - metadata: {{name: d}}\n"
                ))
            };
            let by_default = "ports: []";
            match row.folders.as_slice() {
                [] => {
                    let before = run("/elsewhere", command);
                    let findings = found(mg305, Some(&before), &run("/elsewhere", by_default));
                    assert_eq!(findings.len(), 1, "{image}: {findings:?}");
                }
                folders => {
                    for folder in folders {
                        let before = run(folder, by_default);
                        assert!(found(mg305, Some(&before), &before).is_empty(), "{image}");
                        let findings = found(mg305, Some(&before), &run(folder, command));
                        assert_eq!(findings.len(), 1, "{image} {folder}: {findings:?}");
                    }
                }
            }
        }
    }
}
