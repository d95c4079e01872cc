//! The commands of a hop and the chart that it needs. They are made only if they fit what manages
//! the release.

use super::request::{PathRequest, Position};
use crate::{
    milvus::{
        Build, Coordinators, Line, Topology, Version,
        catalogue::{Catalogue, Chart, HazardKind, Published},
    },
    rules::advice::{CHART, command},
    upgrade_path::{ChartChoice, StopKind},
};

pub(super) fn commands(
    request: &PathRequest,
    kind: StopKind,
    here: &Position,
    target: &Build,
    chart: Option<&ChartChoice>,
    values: &[String],
) -> Vec<String> {
    let (release, namespace) = (&request.release, &request.namespace);
    let etcd = request
        .metastore
        .as_deref()
        .is_none_or(|metastore| metastore == "etcd");
    let run = match kind {
        StopKind::Migration if request.topology == Topology::Cluster && etcd => {
            let mut words = vec!["migrate", "-i", release, "-n", namespace]
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            words.extend([
                "-s".to_owned(),
                here.build.version.to_string(),
                "-t".to_owned(),
                target.version.to_string(),
            ]);
            if let Some(root) = request.root_path.as_ref().filter(|root| *root != "by-dev") {
                words.extend(["-r".to_owned(), root.clone()]);
            }
            Some(words)
        }
        StopKind::RollingUpgrade => Some(
            [
                "upgrade",
                "-i",
                release,
                "-n",
                namespace,
                "-t",
                &target.version.to_string(),
            ]
            .map(str::to_owned)
            .into(),
        ),
        StopKind::Migration | StopKind::Restart | StopKind::MixCoordinators => None,
    };
    let guard = run
        .filter(|_| request.manager.takes_runs())
        .and_then(|words| {
            let words: Vec<String> = std::iter::once("milvus-guard".to_owned())
                .chain(words)
                .collect();
            command(&words)
        });
    // A metadata migration that no command makes comes first, and Helm would skip it.
    let skips = kind == StopKind::Migration && guard.is_none();
    guard
        .into_iter()
        .chain(helm(request, chart, target, values).filter(|_| !skips))
        .collect()
}

/// The values of a stop under their paths from the root of the chart that is installed; none where
/// no chart reads values.
pub(super) fn values_of(request: &PathRequest, values: Vec<String>) -> Vec<String> {
    match (request.manager.is_chart(), request.manager.alias()) {
        (false, _) => Vec::new(),
        (true, None) => values,
        (true, Some(alias)) => values
            .iter()
            .map(|value| format!("{alias}.{value}"))
            .collect(),
    }
}

/// The `helm upgrade` of a stop; `None` where Helm does not make the release, or no published chart
/// is known for it: without a version Helm would take the newest chart. The image is always set,
/// because the values that Helm reuses may hold an older one.
pub(super) fn helm(
    request: &PathRequest,
    chart: Option<&ChartChoice>,
    target: &Build,
    values: &[String],
) -> Option<String> {
    let chart = chart.filter(|_| request.manager.takes_helm_commands())?;
    let suffixes = if target.suffixes.is_empty() {
        &request.from.suffixes
    } else {
        &target.suffixes
    };
    let tag = std::iter::once(format!("v{}", target.version))
        .chain(suffixes.iter().cloned())
        .collect::<Vec<_>>()
        .join("-");
    let mut words = vec![
        "helm".to_owned(),
        "upgrade".to_owned(),
        request.release.clone(),
        CHART.to_owned(),
    ];
    words.extend([
        "-n".to_owned(),
        request.namespace.clone(),
        "--version".to_owned(),
        chart.version.to_string(),
    ]);
    words.push("--reset-then-reuse-values".to_owned());
    let tag = format!("image.all.tag={tag}");
    // A flag for each value, as rules write it, so that a long command can be continued.
    for value in std::iter::once(&tag).chain(values) {
        words.extend(["--set".to_owned(), value.clone()]);
    }
    command(&words)
}

/// The newest good chart of a version's line. Charts with a hazard that denies are passed over.
pub(super) fn chart(catalogue: &Catalogue, version: Version) -> Option<ChartChoice> {
    let bad = |chart: &Chart| {
        catalogue.hazards.iter().any(|hazard| {
            let avoided =
                hazard.kind == HazardKind::Range && hazard.rule.as_deref() == Some("MG501");
            avoided
                && hazard
                    .charts
                    .as_ref()
                    .is_some_and(|range| range.contains(chart.version))
        })
    };
    let ships = |chart: &Chart| {
        Build::from_tag(&chart.tag)
            .filter(|build| build.prerelease.is_none())
            .map(|build| build.version)
    };
    let good = || {
        catalogue
            .charts
            .iter()
            .filter(|chart| chart.published == Published::Index && !bad(chart))
    };
    let exact = good()
        .filter(|chart| ships(chart) == Some(version))
        .max_by_key(|chart| chart.version);
    if let Some(exact) = exact {
        return Some(ChartChoice {
            version: exact.version,
            ships_version: true,
        });
    }
    good()
        .filter(|chart| ships(chart).is_some_and(|ships| ships.line() == version.line()))
        .max_by_key(|chart| chart.version)
        .map(|chart| ChartChoice {
            version: chart.version,
            ships_version: false,
        })
}

/// Values that keep what a chart's new defaults would change on the way from the last chart to this
/// one.
pub(super) fn values(
    request: &PathRequest,
    catalogue: &Catalogue,
    here: &Position,
    target: &Build,
    chart: Option<&ChartChoice>,
) -> Vec<String> {
    let Some(to) = chart.map(|chart| chart.version) else {
        return Vec::new();
    };
    let from = self::chart(catalogue, here.build.version)
        .map_or(Version::new(0, 0, 0), |chart| chart.version);
    let streaming = Line { major: 2, minor: 6 };
    let mut values = Vec::new();
    for flip in &catalogue.default_flips {
        if from >= flip.at || to < flip.at {
            continue;
        }
        let about_coordinators = flip
            .pins
            .iter()
            .any(|pin| pin.starts_with("mixCoordinator"));
        let about_standalone = flip.pins.iter().any(|pin| pin.starts_with("standalone."));
        let about_pulsar = flip.pins.iter().any(|pin| pin.starts_with("pulsar"));
        let keep = match request.topology {
            Topology::Cluster => {
                (about_coordinators
                    && here.coordinators == Coordinators::Separate
                    && target.version.line() < streaming)
                    || (about_pulsar
                        && request
                            .queue
                            .as_deref()
                            .is_none_or(|queue| queue == "pulsar"))
            }
            Topology::Standalone => about_standalone,
        };
        if keep {
            // A standalone has neither index nodes nor streaming nodes to name.
            let pins = flip.pins.iter().filter(|pin| {
                request.topology == Topology::Cluster || pin.starts_with("standalone.")
            });
            values.extend(pins.map(|pin| match (&request.queue, about_standalone) {
                (Some(queue), true) if pin.starts_with("standalone.messageQueue=") => {
                    format!("standalone.messageQueue={queue}")
                }
                _ => pin.clone(),
            }));
        }
        if about_pulsar && request.topology == Topology::Standalone {
            values.push("pulsarv3.enabled=false".into());
        }
    }
    values
}
