//! Every row of the data has an effect: for each row of `bad-releases.yaml`, `paths.yaml`,
//! `orders.yaml` and of the bad charts in `hazards.yaml` some upgrade is constructed at which the
//! rule named there reports with the action named there. A row that no upgrade can reach fails, and
//! so do rows that contradict each other.

use std::collections::BTreeSet;

use crate::{
    change::Upgrade,
    evidence::Facts,
    milvus::{
        Build,
        Component::{
            self, DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord,
            QueryNode, RootCoord,
        },
        Coordinators, Line, Release, Topology, Version,
        catalogue::{
            BadRelease, Catalogue, Condition, Hazard, HazardKind, Order, OrderTopology, Path,
            Published, Situation, Verdict, WoodpeckerStorage,
        },
        settings::QueueKind,
    },
    rules::{
        Finding, Findings, Rule, Severity, mg102_unsupported_path, mg104_bad_release,
        mg201_component_order, mg501_bad_chart, testing::Fixture,
    },
};

/// The rule alone, without the gates: thousands of upgrades are tried here.
fn found(
    rule: &'static Rule,
    before: Option<&Release>,
    after: &Release,
    catalogue: &Catalogue,
) -> Vec<Finding> {
    let facts = Facts::default();
    let upgrade = Upgrade::new(before, after, &facts, catalogue);
    let mut findings = Findings::of(rule);
    (rule.check)(&upgrade, &mut findings);
    findings.into_vec()
}

const fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::Deny => Severity::Deny,
        Verdict::Warn => Severity::Warn,
        Verdict::Allow | Verdict::Info => Severity::Audit,
    }
}

/// Every release that the data names, and one below and one above each.
fn releases(catalogue: &Catalogue) -> Vec<Version> {
    let mut versions: BTreeSet<Version> =
        catalogue.released.iter().map(|row| row.version).collect();
    versions.extend(catalogue.landing.iter().map(|row| row.version));
    versions.extend(
        catalogue
            .charts
            .iter()
            .filter_map(|chart| Build::from_tag(&chart.tag))
            .map(|build| build.version),
    );
    versions.extend(
        [
            (0, 10, 6),
            (1, 1, 1),
            (2, 5, 20),
            (2, 6, 23),
            (2, 7, 0),
            (2, 7, 1),
            (3, 0, 1),
            (3, 1, 0),
            (3, 1, 1),
        ]
        .map(|(major, minor, patch)| Version::new(major, minor, patch)),
    );
    versions.into_iter().collect()
}

const QUEUES: [QueueKind; 5] = [
    QueueKind::Pulsar,
    QueueKind::Kafka,
    QueueKind::RocksMq,
    QueueKind::NatsMq,
    QueueKind::Woodpecker,
];

/// A running release of this shape; the configuration says what the shape says.
fn fixture(version: Version, shape: &Shape) -> Fixture {
    let mut fixture = match shape.topology {
        Topology::Standalone => Fixture::standalone(&version.to_string()),
        Topology::Cluster if shape.coordinators == Some(Coordinators::Separate) => Fixture::of(
            &version.to_string(),
            &[
                RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
            ],
        ),
        Topology::Cluster
            if shape.coordinators == Some(Coordinators::Mixed)
                && version < Version::new(2, 6, 0) =>
        {
            Fixture::of(
                &version.to_string(),
                &[MixCoord, IndexNode, DataNode, QueryNode, Proxy],
            )
        }
        Topology::Cluster => Fixture::cluster(&version.to_string()),
    };
    if let Some(tag) = &shape.tag {
        fixture = fixture.tag(tag);
    } else if let Some(suffix) = &shape.suffix {
        fixture = fixture.tag(&format!("v{version}-{suffix}"));
    }
    let metastore = shape.metastore.as_deref().unwrap_or("etcd");
    let storage = shape.storage.unwrap_or("minio");
    fixture.default_yaml(&format!(
        "etcd: {{endpoints: [my-release-etcd:2379]}}\nmq: {{type: {}}}\nmetastore: {{type: {metastore}}}\nwoodpecker: {{storage: {{type: {storage}}}}}\n",
        shape.queue
    ))
}

#[derive(Clone, Debug)]
struct Shape {
    topology: Topology,
    coordinators: Option<Coordinators>,
    queue: QueueKind,
    storage: Option<&'static str>,
    metastore: Option<String>,
    suffix: Option<String>,
    tag: Option<String>,
}

impl Shape {
    fn of(topology: Topology) -> Self {
        Self {
            topology,
            coordinators: None,
            queue: QueueKind::Pulsar,
            storage: None,
            metastore: None,
            suffix: None,
            tag: None,
        }
    }

    fn of_row(row: &BadRelease) -> Self {
        let storage = row.when.woodpecker_storage.map(|storage| match storage {
            WoodpeckerStorage::Minio => "minio",
            WoodpeckerStorage::Local => "local",
            WoodpeckerStorage::Service => "service",
        });
        Self {
            queue: row
                .when
                .queue
                .first()
                .copied()
                .unwrap_or(if storage.is_some() {
                    QueueKind::Woodpecker
                } else {
                    QueueKind::Kafka
                }),
            storage,
            suffix: row.variant.clone(),
            ..Self::of(row.when.topology.unwrap_or(Topology::Cluster))
        }
    }
}

fn bad_release_is_reported(row: &BadRelease, catalogue: &Catalogue, versions: &[Version]) -> bool {
    let shape = Shape::of_row(row);
    let why = row.why.trim_end_matches('.');
    let says = |before: Option<&Release>, after: &Release| {
        found(&mg104_bad_release::RULE, before, after, catalogue)
            .iter()
            .any(|finding| {
                finding.message.contains(why) && finding.severity == severity(row.verdict)
            })
    };
    versions
        .iter()
        .filter(|to| row.versions.contains(**to))
        .any(|to| {
            let after = fixture(*to, &shape).release();
            let sources = versions.iter().filter(|from| {
                *from < to && row.from.as_ref().is_none_or(|range| range.contains(**from))
            });
            // A new installation, a change of the running state, and one of what is stopped and so
            // does not roll.
            (row.from.is_none() && says(None, &after))
                || sources.rev().take(3).any(|from| {
                    let running = fixture(
                        *from,
                        &Shape {
                            suffix: None,
                            ..shape.clone()
                        },
                    );
                    says(Some(&running.release()), &after)
                        || says(Some(&running.stopped().release()), &after)
                })
        })
}

fn bad_source_is_reported(row: &BadRelease, catalogue: &Catalogue, versions: &[Version]) -> bool {
    let shape = Shape::of_row(row);
    versions
        .iter()
        .filter(|from| row.versions.contains(**from))
        .any(|from| {
            let (before, after) = (
                fixture(*from, &shape).release(),
                fixture(Version::new(9, 0, 0), &shape).release(),
            );
            found(&mg104_bad_release::RULE, Some(&before), &after, catalogue)
                .iter()
                .any(|finding| {
                    finding.message.starts_with("the running version")
                        && finding.message.contains(row.why.trim_end_matches('.'))
                })
        })
}

/// What is wrong with the rows about releases, one line for each.
fn silent_releases(catalogue: &Catalogue) -> Vec<String> {
    let versions = releases(catalogue);
    let mut wrong = Vec::new();
    for row in &catalogue.bad_releases {
        if !bad_release_is_reported(row, catalogue, &versions) {
            wrong.push(format!("{}: no upgrade makes MG104 say it", row.id));
        }
        if row.as_source && !bad_source_is_reported(row, catalogue, &versions) {
            wrong.push(format!("{}: nothing that runs makes MG104 say it", row.id));
        }
        if row.r#use.is_none() == row.fix.is_empty() {
            wrong.push(format!(
                "{}: needs either a release to use or another fix",
                row.id
            ));
        }
        if row
            .r#use
            .is_some_and(|better| row.versions.contains(better))
        {
            wrong.push(format!("{}: recommends a release that it is about", row.id));
        }
        let same = |other: &&BadRelease| {
            other.id != row.id
                && (
                    &other.versions,
                    &other.from,
                    &other.when,
                    other.rolling,
                    other.hotfix,
                    &other.variant,
                ) == (
                    &row.versions,
                    &row.from,
                    &row.when,
                    row.rolling,
                    row.hotfix,
                    &row.variant,
                )
                && other.verdict != row.verdict
        };
        if let Some(other) = catalogue.bad_releases.iter().find(same) {
            wrong.push(format!("{} and {} contradict each other", row.id, other.id));
        }
    }
    wrong
}

#[test]
fn every_bad_release_is_reported() {
    let wrong = silent_releases(Catalogue::embedded());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_without_effect_and_contradictions_are_found() {
    let own = r#"
releases:
  - {id: nowhere, versions: ">=2.5.3,<2.5.3", verdict: warn, why: never, use: "2.5.27", source: [test]}
  - {id: itself, versions: "=2.5.27", verdict: warn, why: circular, use: "2.5.27", source: [test]}
  - {id: yes, versions: "=2.5.19", verdict: deny, why: one, use: "2.5.27", source: [test]}
  - {id: no, versions: "=2.5.19", verdict: warn, why: two, use: "2.5.27", source: [test]}
"#;
    let wrong = silent_releases(&Catalogue::with("own.yaml", own).unwrap()).join("\n");
    for expected in [
        "nowhere: no upgrade",
        "itself: recommends a release that it is about",
        "yes and no contradict each other",
        "no: no upgrade",
    ] {
        assert!(
            wrong.contains(expected),
            "{expected} is missing in\n{wrong}"
        );
    }
}

/// Pairs of versions inside a row's ranges, those at its edges first.
fn pairs<'a>(
    row: &'a Path,
    versions: &'a [Version],
) -> impl Iterator<Item = (Version, Version)> + 'a {
    let from = versions.iter().filter(|from| row.from.contains(**from));
    from.flat_map(move |from| {
        versions
            .iter()
            .filter(move |to| row.to.contains(**to) && *to > from)
            .map(move |to| (*from, *to))
    })
}

fn path_is_reported(row: &Path, catalogue: &Catalogue, versions: &[Version]) -> bool {
    let mut tags: Vec<Option<String>> = vec![None];
    match &row.when.source_prerelease {
        Some(crate::milvus::catalogue::PrereleaseCondition::Any(true)) => {
            tags = row_edges(row, versions)
                .into_iter()
                .map(|version| Some(format!("v{version}-beta")))
                .collect();
        }
        Some(crate::milvus::catalogue::PrereleaseCondition::Exactly(tag)) => {
            tags = vec![Some(format!("v{tag}"))];
        }
        _ => {}
    }
    let shape = Shape {
        coordinators: row.when.coordinators,
        metastore: row.when.metastore.clone(),
        ..Shape::of(row.when.topology.unwrap_or(Topology::Cluster))
    };
    tags.iter().any(|tag| {
        let all: Vec<(Version, Version)> = pairs(row, versions).collect();
        // Wide rows hold thousands of pairs: every n-th, the last one included.
        let every = all.len().div_ceil(24).max(1);
        all.iter().rev().step_by(every).any(|(from, to)| {
            let before = fixture(
                *from,
                &Shape {
                    tag: tag.clone(),
                    ..shape.clone()
                },
            )
            .release();
            let after = fixture(
                *to,
                &Shape {
                    coordinators: None,
                    metastore: row.when.metastore.clone(),
                    ..shape.clone()
                },
            )
            .release();
            let facts = Facts::default();
            let upgrade = Upgrade::new(Some(&before), &after, &facts, catalogue);
            let Some((from, to)) = upgrade.versions() else {
                return false;
            };
            let situation = Situation::of(&before);
            let route = catalogue.route(&from, &to, &situation);
            if row.verdict < Verdict::Warn {
                return route.rows.iter().any(|known| known.id == row.id);
            }
            found(
                &mg102_unsupported_path::RULE,
                Some(&before),
                &after,
                catalogue,
            )
            .iter()
            .any(|finding| {
                finding.severity == severity(row.verdict)
                    && finding
                        .message
                        .contains(&mg102_unsupported_path::lower_first(&row.reason))
            })
        })
    })
}

fn row_edges(row: &Path, versions: &[Version]) -> Vec<Version> {
    let inside: Vec<Version> = versions
        .iter()
        .copied()
        .filter(|version| row.from.contains(*version))
        .collect();
    inside
        .first()
        .into_iter()
        .chain(inside.last())
        .copied()
        .collect()
}

fn silent_paths(catalogue: &Catalogue) -> Vec<String> {
    let versions = releases(catalogue);
    let mut wrong = Vec::new();
    for row in &catalogue.paths {
        if !path_is_reported(row, catalogue, &versions) {
            wrong.push(format!("{}: no upgrade reaches it", row.id));
        }
        let same = |other: &&Path| {
            other.id != row.id
                && (&other.from, &other.to, &other.when) == (&row.from, &row.to, &row.when)
                && other.verdict != row.verdict
        };
        if let Some(other) = catalogue.paths.iter().find(same) {
            wrong.push(format!("{} and {} contradict each other", row.id, other.id));
        }
    }
    wrong
}

#[test]
fn every_path_is_reported() {
    let wrong = silent_paths(Catalogue::embedded());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_path_beneath_a_stricter_one_is_found() {
    let own = r#"
paths:
  - {id: weaker, from: ">=2.4.0,<2.5.0", to: ">=2.6.0,<2.7.0", verdict: warn, rule: MG102, reason: Weak., fix: x, source: [test]}
"#;
    let catalogue = Catalogue::with("own.yaml", own).unwrap();
    assert_eq!(
        silent_paths(&catalogue),
        [
            "weaker: no upgrade reaches it",
            "weaker and 2.4-to-2.6 contradict each other",
            "2.4-to-2.6 and weaker contradict each other"
        ]
    );
}

/// The components that a layout has before and after the change.
fn layouts(topology: OrderTopology) -> (Option<Coordinators>, Option<Coordinators>) {
    match topology {
        OrderTopology::Separate => (Some(Coordinators::Separate), Some(Coordinators::Separate)),
        OrderTopology::Mixed => (Some(Coordinators::Mixed), Some(Coordinators::Mixed)),
        OrderTopology::SeparateToMixed => (Some(Coordinators::Separate), Some(Coordinators::Mixed)),
        OrderTopology::Standalone
        | OrderTopology::StreamingIntroduction
        | OrderTopology::Streaming => (None, None),
    }
}

/// Whether an upgrade of all components at once is told this order.
fn order_is_reported(order: &Order, catalogue: &Catalogue, versions: &[Version]) -> bool {
    let pairs = versions
        .iter()
        .filter(|from| order.from.contains(**from))
        .flat_map(|from| {
            versions
                .iter()
                .filter(move |to| order.to.contains(**to) && *to > from)
                .map(move |to| (*from, *to))
        });
    let fits = pairs.filter(|(from, to)| {
        catalogue
            .order(*from, *to, order.topology)
            .is_some_and(|found| found.id == order.id)
    });
    let (before, after) = layouts(order.topology);
    let shape = |coordinators| Shape {
        coordinators,
        ..Shape::of(Topology::Cluster)
    };
    fits.take(12).any(|(from, to)| {
        if order.topology == OrderTopology::Standalone {
            // One process has no order to keep; the row is for plans.
            return order
                .steps
                .iter()
                .any(|step| step.components.contains(&Component::Standalone));
        }
        let (before, after) = (
            fixture(from, &shape(before)).release(),
            fixture(to, &shape(after)).release(),
        );
        found(
            &mg201_component_order::RULE,
            Some(&before),
            &after,
            catalogue,
        )
        .iter()
        .any(|finding| {
            let steps = order
                .steps
                .iter()
                .flat_map(|step| &step.components)
                .filter(|component| after.has(**component));
            let steps = steps
                .map(|component| component.name())
                .collect::<Vec<_>>()
                .join(" -> ");
            finding.severity >= Severity::Warn && finding.fix.text.contains(&steps)
        })
    })
}

#[test]
fn every_order_is_reported() {
    let catalogue = Catalogue::embedded();
    let versions = releases(catalogue);
    let silent: Vec<&str> = catalogue
        .orders
        .iter()
        .filter(|order| !order_is_reported(order, catalogue, &versions))
        .map(|order| order.id.as_str())
        .collect();
    assert!(
        silent.is_empty(),
        "no upgrade is told these orders: {silent:?}"
    );
}

#[test]
fn every_bad_chart_is_reported() {
    let catalogue = Catalogue::embedded();
    let mut silent = Vec::new();
    // Rows about a boundary have their own conditions: see `rows`.
    let is_bad_chart = |row: &&Hazard| {
        row.rule.as_deref() == Some(mg501_bad_chart::RULE.id) && row.kind == HazardKind::Range
    };
    for hazard in catalogue.hazards.iter().filter(is_bad_chart) {
        let inside = |chart: &&crate::milvus::catalogue::Chart| {
            hazard
                .charts
                .as_ref()
                .is_some_and(|range| range.contains(chart.version))
        };
        let charts: Vec<_> = catalogue.charts.iter().filter(inside).collect();
        let reports = |chart: &crate::milvus::catalogue::Chart| {
            let version = Build::from_tag(&chart.tag).unwrap().version;
            let mut after = Fixture::cluster(&version.to_string())
                .chart(&chart.version.to_string())
                .tag(&chart.tag);
            if hazard
                .when
                .get("queue")
                .is_some_and(|queue| queue == "pulsar-v2")
            {
                after = after.stateful_set(
                    "my-release-pulsar-bookie",
                    "app: pulsar",
                    "apachepulsar/pulsar:2.9.5",
                );
            }
            found(&mg501_bad_chart::RULE, None, &after.release(), catalogue)
                .iter()
                .any(|finding| {
                    finding.message.contains(&hazard.effect)
                        && finding.severity == severity(hazard.verdict)
                })
        };
        if charts.is_empty() || !charts.iter().all(|chart| reports(chart)) {
            silent.push(hazard.id.as_str());
        }
    }
    assert!(silent.is_empty(), "MG501 never says {silent:?}");
}

#[test]
fn every_chart_says_what_it_ships() {
    let catalogue = Catalogue::embedded();
    let mut last = Version::new(0, 0, 0);
    for chart in &catalogue.charts {
        assert!(
            chart.version > last,
            "{}: charts stand in order, each once",
            chart.version
        );
        last = chart.version;
        let (said, ships) = (
            Build::from_tag(&chart.app_version).unwrap(),
            Build::from_tag(&chart.tag).unwrap(),
        );
        // The two charts whose default image is newer than their appVersion.
        let known = [Version::new(4, 0, 10), Version::new(4, 0, 28)].contains(&chart.version);
        assert_eq!(
            said != ships,
            known,
            "{}: appVersion {said}, image {ships}",
            chart.version
        );
        assert!(
            chart.published == Published::Index
                || !chart.source.is_empty()
                || last < Version::new(5, 0, 0),
            "{}",
            chart.version
        );
    }
}

/// Situations in which a recommendation is requested.
fn situations() -> Vec<Situation> {
    let mut situations = Vec::new();
    for topology in [Some(Topology::Standalone), Some(Topology::Cluster), None] {
        for queue in QUEUES.map(Some).into_iter().chain([None]) {
            for storage in ["minio", "local", "service"] {
                for variants in [vec![], vec!["gpu".to_owned()]] {
                    let woodpecker_storage = Some(storage.to_owned())
                        .filter(|_| queue.is_none_or(|queue| queue == QueueKind::Woodpecker));
                    let situation = Situation {
                        topology,
                        queue,
                        woodpecker_storage,
                        variants,
                        ..Situation::default()
                    };
                    if !situations.contains(&situation) {
                        situations.push(situation);
                    }
                }
            }
        }
    }
    situations
}

#[test]
fn nothing_that_is_recommended_is_warned_about() {
    let catalogue = Catalogue::embedded();
    let versions = releases(catalogue);
    let lines: BTreeSet<Line> = versions.iter().map(|version| version.line()).collect();
    let mut recommended = 0;
    for situation in situations() {
        for from in versions
            .iter()
            .map(|from| Some(Build::of(*from)))
            .chain([None])
        {
            for line in &lines {
                let Some(target) = catalogue.target(*line, from.as_ref(), &situation) else {
                    continue;
                };
                recommended += 1;
                let build = Build::of(target);
                let rolling = from.is_some() && situation.topology != Some(Topology::Standalone);
                let rows: Vec<&str> = catalogue
                    .bad_releases(&build, from.as_ref(), &situation, rolling)
                    .filter(|row| row.verdict >= Verdict::Warn)
                    .map(|row| row.id.as_str())
                    .collect();
                assert!(
                    rows.is_empty(),
                    "{from:?} to {line} in {situation:?}: {target} is recommended, but {rows:?}"
                );
                assert!(
                    from.as_ref().is_none_or(|from| *from <= build),
                    "{from:?}: {target} is older"
                );
            }
        }
    }
    assert!(recommended > 20_000, "{recommended}");
}

/// Each release of the data as a target, on each queue and topology: the release that MG104 names
/// must pass MG104.
#[test]
fn what_mg104_says_to_use_passes_mg104() {
    let catalogue = Catalogue::embedded();
    let versions = releases(catalogue);
    for topology in [Topology::Standalone, Topology::Cluster] {
        for queue in QUEUES {
            let shape = Shape {
                queue,
                ..Shape::of(topology)
            };
            let run = |version: Version| fixture(version, &shape).release();
            for pair in versions.windows(2) {
                let [from, to] = pair else { continue };
                let (before, after) = (run(*from), run(*to));
                for finding in found(&mg104_bad_release::RULE, Some(&before), &after, catalogue) {
                    let about = format!(
                        "{from} to {to} on {queue} ({topology}): {} {}",
                        finding.message, finding.fix.text
                    );
                    assert!(
                        queue == QueueKind::Pulsar || !about.contains("Pulsar "),
                        "{about}"
                    );
                    assert!(
                        queue == QueueKind::Woodpecker || !finding.message.contains("Woodpecker"),
                        "{about}"
                    );
                    let Some(better) = finding
                        .fix
                        .text
                        .strip_prefix("Use ")
                        .and_then(|text| text.strip_suffix(" instead."))
                    else {
                        continue;
                    };
                    let again = found(
                        &mg104_bad_release::RULE,
                        Some(&before),
                        &run(better.parse().unwrap()),
                        catalogue,
                    );
                    let again: Vec<&str> = again
                        .iter()
                        .map(|finding| finding.message.as_str())
                        .filter(|text| !text.starts_with("the running version"))
                        .collect();
                    assert!(again.is_empty(), "{about}, and then {again:?}");
                }
            }
        }
    }
}

/// Rows are about a release whether or not a path leads there; where one does, its stops are good
/// too.
#[test]
fn stops_of_paths_are_good_releases() {
    let catalogue = Catalogue::embedded();
    let mut wrong = BTreeSet::new();
    for row in catalogue
        .paths
        .iter()
        .filter(|row| row.when == Condition::default())
    {
        for situation in situations()
            .iter()
            .filter(|situation| situation.variants.is_empty())
        {
            // A log on a local volume in a cluster, and Woodpecker as a service, have no good
            // release of 2.6.
            if situation
                .woodpecker_storage
                .as_ref()
                .is_some_and(|storage| storage != "minio")
            {
                continue;
            }
            let mut from: Option<Build> = None;
            for stop in &row.via {
                let stop = Build::of(catalogue.stop(*stop, from.as_ref(), situation));
                let rolling = from.is_some() && situation.topology != Some(Topology::Standalone);
                let rows = catalogue.bad_releases(&stop, from.as_ref(), situation, rolling);
                wrong.extend(
                    rows.map(|bad| format!("{}: {stop} is warned about by {}", row.id, bad.id)),
                );
                from = Some(stop);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What an image is built for, and by whom, is not a move of the version: the whole brain finds
/// nothing.
#[test]
fn a_suffix_is_no_move() {
    let plain = |version: &str| {
        Fixture::cluster(version)
            .default_yaml("etcd: {endpoints: [my-release-etcd:2379]}\nmq: {type: kafka}\n")
    };
    for version in ["2.3.22", "2.5.12", "2.6.24"] {
        for suffix in [
            "gpu",
            "arm64",
            "amd64",
            "ubi8",
            "gpu-arm64",
            "secure",
            "hardened",
            "r1",
            "debian-12-r0",
            "patched.1",
            "company3",
        ] {
            let tagged = plain(version).tag(&format!("v{version}-{suffix}"));
            for (before, after) in [
                (plain(version), tagged.clone()),
                (tagged.clone(), plain(version)),
                (tagged.clone(), tagged),
            ] {
                let (before, after) = (before.release(), after.release());
                let facts = Facts::default();
                let found = super::run(
                    &Upgrade::new(Some(&before), &after, &facts, Catalogue::embedded()),
                    None,
                );
                let found: Vec<String> = found
                    .findings
                    .into_iter()
                    .filter(|finding| !finding.not_evaluated)
                    .map(|finding| finding.message)
                    .collect();
                assert!(
                    found.is_empty(),
                    "{version} and {version}-{suffix}: {found:?}"
                );
            }
        }
    }
}

/// A release that is in the words of the data is one that nothing warns about, or the words say
/// what is wrong with it.
#[test]
fn pins_name_good_releases() {
    let catalogue = Catalogue::embedded();
    let pins = catalogue
        .hazards
        .iter()
        .flat_map(|hazard| &hazard.pin)
        .chain(catalogue.default_flips.iter().flat_map(|flip| &flip.pins));
    for tag in pins.filter_map(|pin| pin.strip_prefix("image.all.tag=")) {
        let build = Build::from_tag(tag).unwrap();
        let situation = Situation {
            woodpecker_storage: Some("minio".into()),
            ..Situation::default()
        };
        let rows: Vec<&str> = catalogue
            .bad_releases(&build, None, &situation, true)
            .map(|row| row.id.as_str())
            .collect();
        assert!(rows.is_empty(), "{tag} is pinned, but {rows:?}");
    }
}
