//! The data tables are complete and without contradictions, and every row has a source.

use std::collections::BTreeSet;

use milvus_guard_core::milvus::{
    Build, Line, Topology, Version,
    catalogue::{Catalogue, Condition, OrderTopology, Rolling, Situation, Verdict},
};

fn versions() -> Vec<Version> {
    let catalogue = Catalogue::embedded();
    let mut versions: BTreeSet<Version> = catalogue
        .landing
        .iter()
        .map(|landing| landing.version)
        .collect();
    for line in &catalogue.landing {
        for patch in [0, 1, 2, 3, 4, 8, 15, 16, 20, 22, 23, 27] {
            versions.insert(Version::new(line.line.major, line.line.minor, patch));
        }
    }
    versions.extend([Version::new(1, 1, 1), Version::new(0, 10, 6)]);
    versions.into_iter().collect()
}

#[test]
fn the_embedded_tables_are_valid() {
    let catalogue = Catalogue::embedded();
    assert!(
        catalogue.paths.len() > 20
            && catalogue.bad_releases.len() > 20
            && catalogue.charts.len() > 200
    );
    assert!(
        !catalogue.orders.is_empty()
            && !catalogue.hazards.is_empty()
            && !catalogue.removed_values.is_empty()
    );
    assert!(
        !catalogue.mirrors.mirrors.is_empty()
            && !catalogue.settings.is_empty()
            && !catalogue.landing.is_empty()
    );
    assert!(!catalogue.dependencies.vanished.is_empty());
}

#[test]
fn every_upgrade_path_has_exactly_one_unconditional_verdict() {
    let catalogue = Catalogue::embedded();
    let mut wrong = Vec::new();
    for from in versions() {
        for to in versions().into_iter().filter(|to| *to >= from) {
            let rows: Vec<_> = catalogue
                .paths
                .iter()
                .filter(|row| {
                    row.when == Condition::default()
                        && row.from.contains(from)
                        && row.to.contains(to)
                })
                .collect();
            let verdicts: BTreeSet<Verdict> = rows.iter().map(|row| row.verdict).collect();
            if rows.is_empty() {
                wrong.push(format!("{from} to {to}: no row"));
            } else if verdicts.len() > 1 {
                let ids = rows
                    .iter()
                    .map(|row| row.id.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                wrong.push(format!("{from} to {to}: rows contradict each other: {ids}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn required_stops_are_in_order_and_reachable() {
    let catalogue = Catalogue::embedded();
    let situation = Situation::default();
    for row in &catalogue.paths {
        for (position, stop) in row.via.iter().enumerate() {
            assert!(
                position == 0 || row.via[position - 1] < *stop,
                "{}: stops are not in order",
                row.id
            );
            let from = row.via[..position].last().copied();
            if let Some(from) = from {
                let route = catalogue.route(&Build::of(from), &Build::of(*stop), &situation);
                assert_ne!(
                    route.verdict(),
                    Verdict::Deny,
                    "{}: {from} to {stop} is itself denied",
                    row.id
                );
            }
        }
        if row.verdict >= Verdict::Warn {
            assert!(
                !row.reason.is_empty() && !row.fix.is_empty(),
                "{} has no reason or no fix",
                row.id
            );
        }
        assert!(
            ["MG101", "MG102", "MG103"].contains(&row.rule.as_str()),
            "{} reports {}",
            row.id,
            row.rule
        );
    }
}

#[test]
fn every_rolling_upgrade_has_an_order() {
    let catalogue = Catalogue::embedded();
    let streaming = Line { major: 2, minor: 6 };
    let mut missing = Vec::new();
    for from in versions()
        .into_iter()
        .filter(|version| *version >= Version::new(2, 2, 3))
    {
        for to in versions().into_iter().filter(|to| *to > from) {
            let situation = Situation {
                topology: Some(Topology::Cluster),
                ..Situation::default()
            };
            let route = catalogue.route(&Build::of(from), &Build::of(to), &situation);
            let rolls = route.verdict() != Verdict::Deny
                && route.rows.iter().all(|row| row.rolling == Rolling::Rolling);
            if !rolls {
                continue;
            }
            let layouts: &[OrderTopology] = if to.line() < streaming {
                &[
                    OrderTopology::Separate,
                    OrderTopology::Mixed,
                    OrderTopology::SeparateToMixed,
                ]
            } else if from.line() < streaming {
                &[OrderTopology::StreamingIntroduction]
            } else {
                &[OrderTopology::Streaming]
            };
            for layout in layouts.iter().chain([&OrderTopology::Standalone]) {
                if catalogue.order(from, to, *layout).is_none() {
                    missing.push(format!("{from} to {to} {layout:?}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn orders_name_each_component_once() {
    for order in &Catalogue::embedded().orders {
        let mut seen = BTreeSet::new();
        for component in order.steps.iter().flat_map(|step| &step.components) {
            assert!(
                seen.insert(*component),
                "{}: {component} stands twice",
                order.id
            );
        }
        for removal in &order.remove {
            assert!(
                order.position(removal.after).is_some(),
                "{}: removal after {} which does not move",
                order.id,
                removal.after
            );
        }
        let last = order.steps.last().expect("steps");
        let ends = ["proxy", "standalone"].map(|name| name.parse().unwrap());
        assert!(
            last.components
                .iter()
                .any(|component| ends.contains(component)),
            "{}: the proxy is not last",
            order.id
        );
    }
}

#[test]
fn ids_are_unique_and_rows_have_a_source() {
    fn check<'a>(table: &str, rows: impl Iterator<Item = (&'a str, &'a [String])>) {
        let mut seen = BTreeSet::new();
        for (id, source) in rows {
            assert!(seen.insert(id.to_owned()), "{table}: {id} stands twice");
            assert!(!source.is_empty(), "{table}: {id} has no source");
        }
    }
    let catalogue = Catalogue::embedded();
    check(
        "paths",
        catalogue
            .paths
            .iter()
            .map(|row| (row.id.as_str(), row.source.as_slice())),
    );
    check(
        "downgrades",
        catalogue
            .downgrades
            .iter()
            .map(|row| (row.id.as_str(), row.source.as_slice())),
    );
    check(
        "releases",
        catalogue
            .bad_releases
            .iter()
            .map(|row| (row.id.as_str(), row.source.as_slice())),
    );
    check(
        "hazards",
        catalogue
            .hazards
            .iter()
            .map(|row| (row.id.as_str(), row.source.as_slice())),
    );
    check(
        "orders",
        catalogue
            .orders
            .iter()
            .map(|row| (row.id.as_str(), row.source.as_slice())),
    );
    check(
        "removedValues",
        catalogue
            .removed_values
            .iter()
            .map(|row| (row.path.as_str(), row.source.as_slice())),
    );
    check(
        "settings",
        catalogue
            .settings
            .iter()
            .map(|row| (row.key.as_str(), row.source.as_slice())),
    );
    check(
        "mirrors",
        catalogue
            .mirrors
            .mirrors
            .iter()
            .map(|row| (row.repository.as_str(), row.source.as_slice())),
    );
}

#[test]
fn landing_releases_have_no_defects_and_rules_exist() {
    let catalogue = Catalogue::embedded();
    let situation = Situation {
        woodpecker_storage: Some("minio".into()),
        ..Situation::default()
    };
    for landing in &catalogue.landing {
        let build = Build::of(landing.version);
        let denied = catalogue
            .bad_releases(&build, None, &situation, true)
            .find(|row| row.verdict >= Verdict::Warn);
        assert!(
            denied.is_none(),
            "{} is a landing release, but it is named by {:?}",
            landing.version,
            denied.map(|row| &row.id)
        );
    }
    let rules = catalogue
        .hazards
        .iter()
        .filter_map(|row| row.rule.as_ref())
        .chain(
            catalogue
                .settings
                .iter()
                .filter_map(|row| row.rule.as_ref()),
        );
    for rule in rules {
        assert!(
            milvus_guard_core::rules::find(rule).is_some(),
            "a row names {rule}, which is not a rule"
        );
    }
}

#[test]
fn release_days_are_in_order() {
    let catalogue = Catalogue::embedded();
    assert_eq!(
        milvus_guard_core::milvus::catalogue::embedded_day(),
        catalogue.as_of(),
        "--version must show the day of the data"
    );
    let as_of = catalogue.as_of().unwrap();
    for row in &catalogue.released {
        assert!(
            row.date <= as_of,
            "{} is released after the day of the data",
            row.version
        );
        let later = catalogue.released.iter().filter(|other| {
            other.version.line() == row.version.line()
                && other.version > row.version
                && other.date < row.date
        });
        assert_eq!(
            later.count(),
            0,
            "a later release than {} of its line is older",
            row.version
        );
    }
    for landing in catalogue
        .landing
        .iter()
        .filter(|landing| landing.line >= Line { major: 2, minor: 0 })
    {
        assert!(
            catalogue.released(landing.version).is_some(),
            "the release day of {} is missing",
            landing.version
        );
    }
}

#[test]
fn a_data_file_adds_and_overrides() {
    let own = r#"
releases:
  - {id: ours, versions: "=2.5.27", verdict: deny, why: it failed our own tests, use: "2.5.28", source: ["ticket 42"]}
landing:
  - {line: "2.5", version: "2.5.28", source: ["ticket 42"]}
mirrors:
  mirrors: [{repository: registry.example.com/vectors, source: ["ours"]}]
  suffixes: []
"#;
    let catalogue = Catalogue::with("own.yaml", own).unwrap();
    assert_eq!(
        catalogue.landing(Line { major: 2, minor: 5 }),
        Some(Version::new(2, 5, 28))
    );
    let build: Build = "2.5.27".parse().unwrap();
    assert!(
        catalogue
            .bad_releases(&build, None, &Situation::default(), false)
            .any(|row| row.id == "ours")
    );
    assert!(
        catalogue
            .mirrors
            .knows(&milvus_guard_core::milvus::ImageRef::parse(
                "registry.example.com/vectors:v2.5.27"
            ))
    );
    assert_eq!(catalogue.landing.len(), Catalogue::embedded().landing.len());
    let error = Catalogue::with("own.yaml", "releases: [{id: x}]")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("own.yaml: ") && error.contains("missing field"),
        "{error}"
    );
    let error = Catalogue::with("own.yaml", "releases:\n  - {id: x\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("line"), "{error}");
}
