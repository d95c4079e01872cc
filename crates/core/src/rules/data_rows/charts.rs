//! Rows about charts.

use crate::{
    milvus::{
        Build, Version,
        catalogue::{Catalogue, Chart, Hazard, HazardKind, Published},
    },
    rules::{mg501_bad_chart, testing::Fixture},
};

use super::{found, severity};

#[test]
fn every_bad_chart_is_reported() {
    let catalogue = Catalogue::embedded();
    let mut silent = Vec::new();
    // Rows about a boundary have their own conditions: see `rows`.
    let is_bad_chart = |row: &&Hazard| {
        row.rule.as_deref() == Some(mg501_bad_chart::RULE.id) && row.kind == HazardKind::Range
    };
    for hazard in catalogue.hazards.iter().filter(is_bad_chart) {
        let inside = |chart: &&Chart| {
            hazard
                .charts
                .as_ref()
                .is_some_and(|range| range.contains(chart.version))
        };
        let charts: Vec<_> = catalogue.charts.iter().filter(inside).collect();
        let reports = |chart: &Chart| {
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
