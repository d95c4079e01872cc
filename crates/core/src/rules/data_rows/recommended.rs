//! Releases that the data recommends: nothing warns about them.

use std::collections::BTreeSet;

use crate::{
    change::Upgrade,
    evidence::Facts,
    milvus::{
        Build, Line, Topology, Version,
        catalogue::{Catalogue, Condition, Situation, Verdict},
        settings::QueueKind,
    },
    rules::{mg104_bad_release, testing::Fixture},
};

use super::{QUEUES, Shape, fixture, found, releases};

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
                let found = crate::rules::run(
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
