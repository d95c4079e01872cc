//! Finding the way: from stop to stop as the path table says.

use crate::milvus::{
    Build, Component, Coordinators, Line, Manager, Topology, Version,
    catalogue::{
        Catalogue, Chart, HazardKind, Order, OrderTopology, Path, PointOfNoReturn, Published,
        RequirementKind, Rolling, Route, Situation, Verdict,
    },
};

use crate::rules::advice::{CHART, command};

use super::{Blocked, ChartChoice, Hop, Move, Plan, SCHEMA_VERSION, StopKind};

/// Stops that a path may have; real ones have seven at most.
const MAX_STOPS: usize = 16;

/// What is to be planned.
#[derive(Clone, Debug)]
pub struct PathRequest {
    /// Release.
    pub release: String,
    /// Namespace.
    pub namespace: String,
    /// Version before.
    pub from: Build,
    /// Version after.
    pub to: Build,
    /// Topology.
    pub topology: Topology,
    /// Layout of the coordinators; nothing means what a default chart of that version renders.
    pub coordinators: Option<Coordinators>,
    /// Metastore, where it is known.
    pub metastore: Option<String>,
    /// Root path in etcd, where it is known.
    pub root_path: Option<String>,
    /// Who manages the release: commands are printed only where they fit.
    pub manager: Manager,
    /// Message queue, as the value of `standalone.messageQueue`, where it is known.
    pub queue: Option<String>,
    /// Where Woodpecker keeps its log (`minio`, `local`, `service`), where it is known.
    pub woodpecker_storage: Option<String>,
}

/// The first version whose default chart brings a mixed coordinator.
const MIXED_BY_DEFAULT: Version = Version::new(2, 4, 7);

/// Plans the whole path.
#[must_use]
pub fn plan(journey: &PathRequest, catalogue: &Catalogue) -> Plan {
    let coordinators = match journey.topology {
        Topology::Standalone => Coordinators::None,
        Topology::Cluster => {
            journey
                .coordinators
                .unwrap_or(if journey.from.version < MIXED_BY_DEFAULT {
                    Coordinators::Separate
                } else {
                    Coordinators::Mixed
                })
        }
    };
    let mut plan = Plan {
        schema_version: SCHEMA_VERSION.into(),
        release: journey.release.clone(),
        namespace: journey.namespace.clone(),
        from: journey.from.to_string(),
        to: journey.to.to_string(),
        topology: journey.topology,
        coordinators,
        stops: Vec::new(),
        blocked: None,
        notes: Vec::new(),
    };
    if journey.to.version < journey.from.version {
        let effect = catalogue
            .downgrades
            .iter()
            .find(|row| {
                row.from.contains(journey.from.version) && row.to.contains(journey.to.version)
            })
            .map_or_else(
                || "an older version cannot read what a newer one wrote".to_owned(),
                |row| row.effect.clone(),
            );
        plan.blocked = Some(Blocked {
            at: plan.from.clone(),
            reason: effect,
            fix: "Restore the backup of metadata and data from before the upgrade.".into(),
        });
        return plan;
    }
    let mut here = Place {
        build: journey.from.clone(),
        coordinators,
    };
    while here.build != journey.to && plan.stops.len() < MAX_STOPS {
        match next(journey, catalogue, &here) {
            Ok((stop, there)) => {
                plan.stops.push(Hop {
                    number: plan.stops.len() + 1,
                    ..stop
                });
                here = there;
            }
            Err(blocked) => {
                plan.blocked = Some(blocked);
                plan.stops.clear();
                return plan;
            }
        }
    }
    let to = journey.to.version;
    if catalogue.is_newer_than_data(to) {
        let day = catalogue
            .as_of()
            .map_or_else(String::new, |day| format!(" of {day}"));
        plan.notes.push(format!(
            "{to} is newer than the data{day}, so its defects are not known; use a newer \
             milvus-guard, or add rows with --data."
        ));
    }
    plan.notes.extend(notes(journey, &plan));
    plan
}

#[derive(Clone, Debug)]
struct Place {
    build: Build,
    coordinators: Coordinators,
}

fn next(
    journey: &PathRequest,
    catalogue: &Catalogue,
    here: &Place,
) -> Result<(Hop, Place), Blocked> {
    let situation = journey.situation(here.coordinators);
    let mut target = journey.to.clone();
    for _ in 0..MAX_STOPS {
        let route = catalogue.route(&here.build, &target, &situation);
        let Some(row) = route.deciding() else {
            return Err(Blocked {
                at: here.build.to_string(),
                reason: format!(
                    "the path data does not contain the step from {} to {target}",
                    here.build
                ),
                fix: "Add a row with --data, or ask the Milvus project.".into(),
            });
        };
        let named = route
            .rows
            .iter()
            .filter(|row| row.verdict >= Verdict::Warn)
            .flat_map(|row| &row.via);
        let via = named.map(|stop| catalogue.stop(*stop, Some(&here.build), &situation));
        let stop = via
            .filter(|via| *via > here.build.version && *via < target.version)
            .min();
        match (row.verdict, stop) {
            (Verdict::Warn | Verdict::Deny, Some(stop)) => target = Build::of(stop),
            (Verdict::Deny, None) if row.when.coordinators == Some(Coordinators::Separate) => {
                let place = Place {
                    build: here.build.clone(),
                    coordinators: Coordinators::Mixed,
                };
                return Ok((mix(journey, catalogue, here, row), place));
            }
            (Verdict::Deny, None) => {
                let fix = catalogue
                    .fill(&row.fix, Some(&here.build), &situation)
                    .into_owned();
                return Err(Blocked {
                    at: here.build.to_string(),
                    reason: row.reason.clone(),
                    fix,
                });
            }
            _ => {
                let place = Place {
                    build: target.clone(),
                    ..here.clone()
                };
                return Ok((
                    step(journey, catalogue, here, &target, &route, &situation),
                    place,
                ));
            }
        }
    }
    Err(Blocked {
        at: here.build.to_string(),
        reason: "the required stops form a circle".into(),
        fix: "Check the rows added with --data.".into(),
    })
}

/// The stop that makes one coordinator of four.
fn mix(journey: &PathRequest, catalogue: &Catalogue, here: &Place, row: &Path) -> Hop {
    let values: Vec<String> = [
        "mixCoordinator.enabled=true",
        "rootCoordinator.enabled=false",
        "queryCoordinator.enabled=false",
        "dataCoordinator.enabled=false",
        "indexCoordinator.enabled=false",
    ]
    .map(str::to_owned)
    .into();
    let chart = chart(catalogue, here.build.version);
    let commands = helm(journey, chart.as_ref(), &here.build, &values)
        .into_iter()
        .collect();
    let values = values_of(journey, values);
    Hop {
        number: 0,
        kind: StopKind::MixCoordinators,
        from: here.build.to_string(),
        to: here.build.to_string(),
        reason: row.reason.clone(),
        prerequisites: Vec::new(),
        backup: vec!["etcd snapshot".into()],
        chart: chart.filter(|_| journey.manager.is_chart()),
        values,
        order: Vec::new(),
        rolling: Rolling::Restart,
        point_of_no_return: PointOfNoReturn::None,
        lost: String::new(),
        interruption: "Milvus has no coordinator until the mixed one is ready; wait for it before \
                       the next step"
            .into(),
        commands,
        warnings: Vec::new(),
        sources: row.source.clone(),
    }
}

impl PathRequest {
    /// What is known where the coordinators have this layout.
    fn situation(&self, coordinators: Coordinators) -> Situation {
        Situation {
            topology: Some(self.topology),
            coordinators: Some(coordinators),
            metastore: self.metastore.clone(),
            queue: self.queue.as_deref().and_then(|queue| queue.parse().ok()),
            woodpecker_storage: self.woodpecker_storage.clone(),
            variants: self.from.suffixes.clone(),
        }
    }
}

fn step(
    journey: &PathRequest,
    catalogue: &Catalogue,
    here: &Place,
    target: &Build,
    route: &Route<'_>,
    situation: &Situation,
) -> Hop {
    let rows = &route.rows;
    let first = |pick: fn(&Path) -> &str| {
        rows.iter()
            .map(|row| pick(row))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let requires: Vec<&crate::milvus::catalogue::Requirement> =
        rows.iter().flat_map(|row| &row.requires).collect();
    let migrates = requires
        .iter()
        .any(|requirement| requirement.kind == RequirementKind::Migration);
    let restarts = rows.iter().any(|row| row.rolling == Rolling::Restart);
    let kind = if migrates {
        StopKind::Migration
    } else if restarts || journey.topology == Topology::Standalone {
        StopKind::Restart
    } else {
        StopKind::RollingUpgrade
    };
    let point = route.point_of_no_return();
    let chart = if rows.iter().any(|row| row.keep_chart) {
        chart(catalogue, here.build.version).map(|chart| ChartChoice {
            ships_version: false,
            ..chart
        })
    } else {
        chart(catalogue, target.version)
    };
    let values = values(journey, catalogue, here, target, chart.as_ref());
    let order = if kind == StopKind::RollingUpgrade {
        order(catalogue, here, target, point)
    } else {
        Vec::new()
    };
    let interruption = if journey.topology == Topology::Standalone {
        "Milvus is down while its only process restarts and loads its collections".to_owned()
    } else {
        first(|row| &row.interruption)
    };
    let mut prerequisites: Vec<String> = requires
        .iter()
        .filter(|requirement| requirement.kind != RequirementKind::Migration)
        .filter(|requirement| {
            journey.topology == Topology::Cluster || requirement.kind != RequirementKind::Topology
        })
        .filter(|requirement| requirement.when.may_be(situation))
        .map(|requirement| {
            catalogue
                .fill(&requirement.text, Some(&here.build), situation)
                .into_owned()
        })
        .collect();
    prerequisites.dedup();
    let mut warnings: Vec<String> = rows
        .iter()
        .filter(|row| row.verdict == Verdict::Warn)
        .map(|row| row.reason.clone())
        .collect();
    let rolling = kind == StopKind::RollingUpgrade;
    warnings.extend(defects(catalogue, here, target, situation, rolling));
    let mut backup: Vec<String> = rows
        .iter()
        .flat_map(|row| row.backup.iter().cloned())
        .collect();
    backup.sort();
    backup.dedup();
    let mut sources: Vec<String> = rows
        .iter()
        .flat_map(|row| row.source.iter().cloned())
        .collect();
    sources.sort();
    sources.dedup();
    let commands = commands(journey, kind, here, target, chart.as_ref(), &values);
    if kind == StopKind::Migration && commands.is_empty() {
        prerequisites.push(
            "Milvus is stopped, its etcd backed up and migrated with milvus-guard meta migrate"
                .to_owned(),
        );
    }
    let reason = if *target == journey.to {
        first(|row| {
            if row.verdict == Verdict::Allow {
                &row.reason
            } else {
                ""
            }
        })
    } else {
        format!("required stop on the way to {}", journey.to)
    };
    Hop {
        number: 0,
        kind,
        from: here.build.to_string(),
        to: target.to_string(),
        reason,
        prerequisites,
        backup: journey.manager.backups(&backup),
        commands,
        chart: chart.filter(|_| journey.manager.is_chart()),
        values: values_of(journey, values),
        order,
        rolling: if kind == StopKind::RollingUpgrade {
            Rolling::Rolling
        } else {
            Rolling::Restart
        },
        point_of_no_return: point,
        lost: first(|row| &row.lost),
        interruption,
        warnings,
        sources,
    }
}

/// Known defects of the release that a stop goes to, and once what to do about them.
fn defects(
    catalogue: &Catalogue,
    here: &Place,
    target: &Build,
    situation: &Situation,
    rolling: bool,
) -> Vec<String> {
    let mut rows: Vec<_> = catalogue
        .bad_releases(target, Some(&here.build), situation, rolling)
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.verdict));
    let better = catalogue.target(target.version.line(), Some(&here.build), situation);
    rows.into_iter()
        .map(|row| match (row.fix.as_str(), better) {
            ("", Some(better)) => format!("{target}: {}; better {better}", row.why),
            ("", None) => format!("{target}: {}", row.why),
            (fix, _) => format!(
                "{target}: {}. {}",
                row.why,
                catalogue.fill(fix, Some(&here.build), situation)
            ),
        })
        .collect()
}

fn commands(
    journey: &PathRequest,
    kind: StopKind,
    here: &Place,
    target: &Build,
    chart: Option<&ChartChoice>,
    values: &[String],
) -> Vec<String> {
    let (release, namespace) = (&journey.release, &journey.namespace);
    let etcd = journey
        .metastore
        .as_deref()
        .is_none_or(|metastore| metastore == "etcd");
    let run = match kind {
        StopKind::Migration if journey.topology == Topology::Cluster && etcd => {
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
            if let Some(root) = journey.root_path.as_ref().filter(|root| *root != "by-dev") {
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
        .filter(|_| journey.manager.takes_runs())
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
        .chain(helm(journey, chart, target, values).filter(|_| !skips))
        .collect()
}

/// The values of a stop under their paths from the root of the chart that is installed; none where
/// no chart reads values.
fn values_of(journey: &PathRequest, values: Vec<String>) -> Vec<String> {
    match (journey.manager.is_chart(), journey.manager.alias()) {
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
fn helm(
    journey: &PathRequest,
    chart: Option<&ChartChoice>,
    target: &Build,
    values: &[String],
) -> Option<String> {
    let chart = chart.filter(|_| journey.manager.takes_helm_commands())?;
    let suffixes = if target.suffixes.is_empty() {
        &journey.from.suffixes
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
        journey.release.clone(),
        CHART.to_owned(),
    ];
    words.extend([
        "-n".to_owned(),
        journey.namespace.clone(),
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
fn chart(catalogue: &Catalogue, version: Version) -> Option<ChartChoice> {
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
fn values(
    journey: &PathRequest,
    catalogue: &Catalogue,
    here: &Place,
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
        let keep = match journey.topology {
            Topology::Cluster => {
                (about_coordinators
                    && here.coordinators == Coordinators::Separate
                    && target.version.line() < streaming)
                    || (about_pulsar
                        && journey
                            .queue
                            .as_deref()
                            .is_none_or(|queue| queue == "pulsar"))
            }
            Topology::Standalone => about_standalone,
        };
        if keep {
            // A standalone has neither index nodes nor streaming nodes to name.
            let pins = flip.pins.iter().filter(|pin| {
                journey.topology == Topology::Cluster || pin.starts_with("standalone.")
            });
            values.extend(pins.map(|pin| match (&journey.queue, about_standalone) {
                (Some(queue), true) if pin.starts_with("standalone.messageQueue=") => {
                    format!("standalone.messageQueue={queue}")
                }
                _ => pin.clone(),
            }));
        }
        if about_pulsar && journey.topology == Topology::Standalone {
            values.push("pulsarv3.enabled=false".into());
        }
    }
    values
}

fn order(catalogue: &Catalogue, here: &Place, target: &Build, point: PointOfNoReturn) -> Vec<Move> {
    let (from, to) = (here.build.version, target.version);
    let streaming = Line { major: 2, minor: 6 };
    let topology = if to.line() >= streaming && from.line() >= streaming {
        OrderTopology::Streaming
    } else if to.line() >= streaming {
        OrderTopology::StreamingIntroduction
    } else if here.coordinators == Coordinators::Separate {
        OrderTopology::Separate
    } else {
        OrderTopology::Mixed
    };
    let Some(order) = catalogue.order(from, to, topology) else {
        return Vec::new();
    };
    let mut moves = moves(order);
    let ends = |moved: &Move| {
        moved
            .components
            .iter()
            .any(|component| point.is_passed_by(*component))
    };
    if let Some(last) = moves.iter_mut().find(|moved| ends(moved)) {
        last.point_of_no_return = true;
    }
    moves
}

fn moves(order: &Order) -> Vec<Move> {
    let mut moves = Vec::new();
    for step in &order.steps {
        moves.push(Move {
            components: step.components.clone(),
            removes: Vec::new(),
            gate: step.gate,
            at_once_with_next: step.at_once_with_next,
            note: step.note.clone(),
            point_of_no_return: false,
        });
        let removes: Vec<Component> = order
            .remove
            .iter()
            .filter(|removal| step.components.contains(&removal.after))
            .map(|removal| removal.component)
            .collect();
        if !removes.is_empty() {
            moves.push(Move {
                components: Vec::new(),
                removes,
                gate: crate::milvus::catalogue::Gate::Gone,
                at_once_with_next: false,
                note: None,
                point_of_no_return: false,
            });
        }
    }
    moves
}

fn notes(journey: &PathRequest, plan: &Plan) -> Vec<String> {
    let mut notes: Vec<String> = journey
        .manager
        .how_to_stop()
        .filter(|_| !plan.stops.is_empty())
        .into_iter()
        .collect();
    if plan.stops.len() > 1 {
        notes.push(
            "Let Milvus serve on each stop before the next one. Check the data, then make the next \
             backup."
                .to_owned(),
        );
    }
    let rolls = plan
        .stops
        .iter()
        .any(|stop| stop.kind == StopKind::RollingUpgrade);
    if journey.topology == Topology::Cluster && rolls && journey.manager.is_chart() {
        notes.push(
            "A plain helm upgrade changes every component at once. Upgrade the components in order \
             first, then bring the Helm release in line."
                .to_owned(),
        );
    }
    if journey.queue.is_none()
        && plan.stops.iter().any(|stop| {
            stop.values
                .iter()
                .any(|value| value == "pulsar.enabled=true")
        })
    {
        notes.push(
            "The message queue is unknown, so Pulsar v2 is pinned. If you use another queue, pin \
             that one instead (kafka.enabled, externalPulsar ...)."
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::milvus::manager::{ChartSource, Source, Tool};

    pub(crate) fn journey(from: &str, to: &str) -> PathRequest {
        PathRequest {
            release: "my-release".into(),
            namespace: "milvus".into(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            topology: Topology::Cluster,
            coordinators: None,
            metastore: None,
            root_path: None,
            queue: None,
            woodpecker_storage: None,
            manager: Manager::plain_chart(),
        }
    }

    fn stops(from: &str, to: &str) -> Vec<String> {
        plan(&journey(from, to), Catalogue::embedded())
            .stops
            .into_iter()
            .map(|stop| stop.to)
            .collect()
    }

    fn managed(journey: PathRequest, manager: Manager) -> Plan {
        plan(&PathRequest { manager, ..journey }, Catalogue::embedded())
    }

    #[test]
    fn commands_are_printed_where_they_fit() {
        let alias = |name: &str| {
            Source::Chart(ChartSource {
                alias: Some(name.into()),
                ..ChartSource::default()
            })
        };
        let argo = Tool::ArgoCd {
            application: Some("vec".into()),
        };
        let alone = ChartSource::default();
        let cases = [
            (Manager::plain_chart(), true, true, None),
            (
                Manager {
                    source: alias("milvus"),
                    tool: Tool::Helm,
                },
                true,
                false,
                Some("set image and values below milvus"),
            ),
            (
                Manager {
                    source: alias("vec"),
                    tool: Tool::Helm,
                },
                false,
                false,
                Some("the dependency vec of another chart"),
            ),
            (
                Manager {
                    source: Source::Chart(alone),
                    tool: argo,
                },
                true,
                false,
                Some("in the source of Application vec"),
            ),
            (
                Manager::operator("m"),
                false,
                false,
                Some("spec.components.image of the Milvus resource m"),
            ),
            (
                Manager::default(),
                false,
                false,
                Some("component by component"),
            ),
        ];
        for (manager, guard, helm, note) in cases {
            let alias = manager.alias().map(str::to_owned);
            let plan = managed(journey("2.4.24", "2.6.22"), manager.clone());
            assert!(plan.stops.len() > 1);
            for stop in &plan.stops {
                let has = |word: &str| {
                    stop.commands
                        .iter()
                        .any(|command| command.starts_with(word))
                };
                assert_eq!(
                    (has("milvus-guard upgrade"), has("helm ")),
                    (guard && stop.kind == StopKind::RollingUpgrade, helm),
                    "{manager:?}"
                );
                assert_eq!(stop.chart.is_some(), manager.is_chart());
                if let Some(alias) = &alias {
                    assert!(
                        stop.values
                            .iter()
                            .all(|value| value.starts_with(&format!("{alias}."))),
                        "{:?}",
                        stop.values
                    );
                }
                let texts = [&stop.values[..], &stop.backup[..]].concat().join(" ");
                assert!(manager.is_chart() || !texts.contains("helm"), "{texts}");
            }
            assert_eq!(
                plan.notes
                    .iter()
                    .any(|text| note.is_some_and(|note| text.contains(note))),
                note.is_some(),
                "{:?}",
                plan.notes
            );
        }
    }

    #[test]
    fn the_image_is_always_set_and_keeps_its_suffix() {
        let plan = managed(journey("2.5.5-gpu", "2.5.16"), Manager::plain_chart());
        let helm = plan.stops.last().unwrap().commands.last().unwrap();
        assert!(
            helm.contains("--version 4.2.58 ") && helm.contains("--set image.all.tag=v2.5.16-gpu"),
            "{helm}"
        );
    }

    #[test]
    fn a_migration_without_a_verb_says_what_to_do_and_starts_nothing() {
        let standalone = PathRequest {
            topology: Topology::Standalone,
            ..journey("2.1.4", "2.2.16")
        };
        let stop = &managed(standalone, Manager::plain_chart()).stops[0];
        assert_eq!((stop.kind, stop.commands.len()), (StopKind::Migration, 0));
        assert!(
            stop.prerequisites
                .iter()
                .any(|text| text.contains("meta migrate")),
            "{:?}",
            stop.prerequisites
        );
    }

    #[rstest]
    #[case("2.1.4", "2.5.27", &["2.2.16", "2.3.22", "2.4.24", "2.5.27"])]
    #[case("2.1.4", "2.2.16", &["2.2.16"])]
    #[case("2.0.2", "2.2.16", &["2.1.4", "2.2.16"])]
    #[case("2.4.24", "2.5.27", &["2.5.27"])]
    #[case("2.4.24", "2.6.22", &["2.5.27", "2.6.22"])]
    #[case("2.5.27", "3.0.2", &["2.6.24", "3.0.2"])]
    #[case("2.5.5", "2.6.22", &["2.5.27", "2.6.22"])]
    #[case("2.2.9", "2.3.22", &["2.2.16", "2.3.22"])]
    #[case("2.4.24", "2.4.24", &[])]
    fn paths(#[case] from: &str, #[case] to: &str, #[case] expected: &[&str]) {
        assert_eq!(stops(from, to), expected);
    }

    #[test]
    fn separate_coordinators_are_mixed_before_2_6() {
        let plan = plan(&journey("2.2.16", "2.6.22"), Catalogue::embedded());
        let kinds: Vec<_> = plan
            .stops
            .iter()
            .map(|stop| (stop.to.as_str(), stop.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("2.3.22", StopKind::RollingUpgrade),
                ("2.4.24", StopKind::RollingUpgrade),
                ("2.5.27", StopKind::RollingUpgrade),
                ("2.5.27", StopKind::MixCoordinators),
                ("2.6.22", StopKind::RollingUpgrade)
            ]
        );
    }

    #[test]
    fn the_migration_comes_with_its_command_and_the_point_of_no_return() {
        let plan = plan(&journey("2.1.4", "2.5.27"), Catalogue::embedded());
        let first = &plan.stops[0];
        assert_eq!(first.kind, StopKind::Migration);
        assert_eq!(
            first.commands[0],
            "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16"
        );
        assert!(
            first.commands[1].contains("--version 4.0.34")
                && first.commands[1].contains("image.all.tag=v2.2.16")
        );
        assert_eq!(first.point_of_no_return, PointOfNoReturn::FirstCoordinator);
        let last = plan.stops.last().unwrap();
        assert!(
            last.values.contains(&"pulsarv3.enabled=false".to_owned()),
            "{:?}",
            last.values
        );
        assert!(
            last.values
                .contains(&"mixCoordinator.enabled=false".to_owned())
                || plan.stops[2]
                    .values
                    .contains(&"mixCoordinator.enabled=false".to_owned())
        );
    }

    #[test]
    fn a_standalone_hears_of_nothing_that_only_a_cluster_has() {
        for queue in [None, Some("rocksmq"), Some("kafka")] {
            for (from, to) in [
                ("2.3.22", "2.4.24"),
                ("2.4.24", "2.6.24"),
                ("2.5.16", "2.6.24"),
                ("2.5.27", "3.0.2"),
            ] {
                let standalone = PathRequest {
                    topology: Topology::Standalone,
                    queue: queue.map(str::to_owned),
                    ..journey(from, to)
                };
                let plan = plan(&standalone, Catalogue::embedded());
                assert!(!plan.stops.is_empty());
                let text = crate::upgrade_path::text(&plan, &crate::report::Style::default())
                    .to_lowercase();
                for word in [
                    "indexnode",
                    "index node",
                    "streaming.",
                    "streaming node",
                    "mixcoordinator",
                    "mixed coordinator",
                    "coordinator is ready",
                ] {
                    assert!(
                        !text.contains(word),
                        "{from} to {to} on {queue:?} mentions '{word}':\n{text}"
                    );
                }
                let other = queue.is_some_and(|queue| queue != "pulsar");
                assert!(!other || !text.contains("on pulsar"), "{text}");
            }
        }
    }

    #[test]
    fn the_chart_stays_where_the_image_moves_alone() {
        let plan = plan(&journey("2.6.20", "3.0.2"), Catalogue::embedded());
        let helm = plan.stops[0].commands.last().unwrap();
        assert!(
            helm.contains("--version 5.0.25 ") && helm.contains("image.all.tag=v3.0.2"),
            "{helm}"
        );
    }

    #[test]
    fn no_stop_is_warned_about() {
        for (queue, topology) in [
            ("pulsar", Topology::Cluster),
            ("kafka", Topology::Cluster),
            ("rocksmq", Topology::Standalone),
        ] {
            let known = |from, to| PathRequest {
                topology,
                queue: Some(queue.to_owned()),
                ..journey(from, to)
            };
            for (from, to) in [
                ("2.1.4", "3.0.2"),
                ("2.2.16", "2.6.24"),
                ("2.5.5", "2.6.24"),
                ("2.6.10", "3.0.2"),
            ] {
                for stop in plan(&known(from, to), Catalogue::embedded()).stops {
                    assert_eq!(
                        stop.warnings,
                        Vec::<String>::new(),
                        "{from} to {to} on {queue}: {} to {}",
                        stop.from,
                        stop.to
                    );
                }
            }
        }
        let chosen = plan(
            &PathRequest {
                queue: Some("pulsar".into()),
                ..journey("2.5.27", "2.6.22")
            },
            Catalogue::embedded(),
        );
        assert!(
            chosen.stops[0].warnings[0].ends_with("; better 2.6.24"),
            "{:?}",
            chosen.stops[0].warnings
        );
    }

    #[test]
    fn dead_ends_say_so() {
        let old = plan(&journey("1.1.1", "2.5.27"), Catalogue::embedded());
        assert!(old.stops.is_empty() && old.blocked.is_some());
        let back = plan(&journey("2.5.27", "2.4.24"), Catalogue::embedded());
        assert!(back.blocked.unwrap().reason.contains("2.4 cannot read"));
    }

    #[test]
    fn every_path_between_landing_versions_ends_or_is_blocked() {
        let catalogue = Catalogue::embedded();
        for from in &catalogue.landing {
            for to in catalogue
                .landing
                .iter()
                .filter(|to| to.version > from.version)
            {
                let plan = plan(
                    &journey(&from.version.to_string(), &to.version.to_string()),
                    catalogue,
                );
                assert_eq!(
                    plan.stops.last().map(|stop| stop.to.clone()),
                    Some(to.version.to_string()),
                    "{} to {}",
                    from.version,
                    to.version
                );
                assert!(plan.stops.len() < 9);
            }
        }
    }

    #[test]
    fn the_hash_is_of_the_steps() {
        let (a, b) = (
            plan(&journey("2.4.24", "2.5.27"), Catalogue::embedded()),
            plan(&journey("2.4.24", "2.5.22"), Catalogue::embedded()),
        );
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.hash(), a.clone().hash());
    }
}
