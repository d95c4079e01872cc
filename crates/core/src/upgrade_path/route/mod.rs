//! From one version to another, stop by stop, by the table of paths.
//!
//! | module | holds |
//! |---|---|
//! | `request` | what is to be planned |
//! | `hop` | one hop: requirements, order, defects |
//! | `commands` | commands and charts of a hop |

mod commands;
mod hop;
mod request;

use commands::{chart, helm, values_of};
use hop::{notes, step};
use request::Position;

use crate::{
    milvus::{
        Build, Coordinators, Topology, Version,
        catalogue::{Catalogue, Path, PointOfNoReturn, Rolling, Verdict},
    },
    upgrade_path::{Blocked, Hop, Plan, SCHEMA_VERSION, StopKind},
};

pub use request::PathRequest;

/// Stops that a path may have; real ones have seven at most.
const MAX_STOPS: usize = 16;

/// The first version whose default chart brings a mixed coordinator.
const MIXED_BY_DEFAULT: Version = Version::new(2, 4, 7);

/// Plans the whole path.
#[must_use]
pub fn plan(request: &PathRequest, catalogue: &Catalogue) -> Plan {
    let coordinators = match request.topology {
        Topology::Standalone => Coordinators::None,
        Topology::Cluster => {
            request
                .coordinators
                .unwrap_or(if request.from.version < MIXED_BY_DEFAULT {
                    Coordinators::Separate
                } else {
                    Coordinators::Mixed
                })
        }
    };
    let mut plan = Plan {
        schema_version: SCHEMA_VERSION.into(),
        release: request.release.clone(),
        namespace: request.namespace.clone(),
        from: request.from.to_string(),
        to: request.to.to_string(),
        topology: request.topology,
        coordinators,
        stops: Vec::new(),
        blocked: None,
        notes: Vec::new(),
    };
    if request.to.version < request.from.version {
        let effect = catalogue
            .downgrades
            .iter()
            .find(|row| {
                row.from.contains(request.from.version) && row.to.contains(request.to.version)
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
    let mut here = Position {
        build: request.from.clone(),
        coordinators,
    };
    while here.build != request.to && plan.stops.len() < MAX_STOPS {
        match next(request, catalogue, &here) {
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
    let to = request.to.version;
    if let Some(unknown) = catalogue.is_unknown(to) {
        plan.notes.push(format!(
            "{unknown}, so its defects are not known; use a newer milvus-guard, or add rows with \
             --data."
        ));
    }
    plan.notes.extend(notes(request, &plan));
    plan
}

fn next(
    request: &PathRequest,
    catalogue: &Catalogue,
    here: &Position,
) -> Result<(Hop, Position), Blocked> {
    let situation = request.situation(here.coordinators);
    let mut target = request.to.clone();
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
                let place = Position {
                    build: here.build.clone(),
                    coordinators: Coordinators::Mixed,
                };
                return Ok((mix(request, catalogue, here, row), place));
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
                let place = Position {
                    build: target.clone(),
                    ..here.clone()
                };
                return Ok((
                    step(request, catalogue, here, &target, &route, &situation),
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
fn mix(request: &PathRequest, catalogue: &Catalogue, here: &Position, row: &Path) -> Hop {
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
    let commands = helm(request, chart.as_ref(), &here.build, &values)
        .into_iter()
        .collect();
    let values = values_of(request, values);
    Hop {
        number: 0,
        kind: StopKind::MixCoordinators,
        from: here.build.to_string(),
        to: here.build.to_string(),
        reason: row.reason.clone(),
        prerequisites: Vec::new(),
        backup: vec!["etcd snapshot".into()],
        chart: chart.filter(|_| request.manager.is_chart()),
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

#[cfg(test)]
pub(in crate::upgrade_path) mod tests {
    use rstest::rstest;

    use super::*;
    use crate::milvus::Manager;
    use crate::milvus::manager::{ChartSource, Source, Tool};

    pub(crate) fn request(from: &str, to: &str) -> PathRequest {
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
        plan(&request(from, to), Catalogue::embedded())
            .stops
            .into_iter()
            .map(|stop| stop.to)
            .collect()
    }

    fn managed(request: PathRequest, manager: Manager) -> Plan {
        plan(&PathRequest { manager, ..request }, Catalogue::embedded())
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
            let plan = managed(request("2.4.24", "2.6.22"), manager.clone());
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
        let plan = managed(request("2.5.5-gpu", "2.5.16"), Manager::plain_chart());
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
            ..request("2.1.4", "2.2.16")
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
        let plan = plan(&request("2.2.16", "2.6.22"), Catalogue::embedded());
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
        let plan = plan(&request("2.1.4", "2.5.27"), Catalogue::embedded());
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
                    ..request(from, to)
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
        let plan = plan(&request("2.6.20", "3.0.2"), Catalogue::embedded());
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
                ..request(from, to)
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
                ..request("2.5.27", "2.6.22")
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
        let old = plan(&request("1.1.1", "2.5.27"), Catalogue::embedded());
        assert!(old.stops.is_empty() && old.blocked.is_some());
        let back = plan(&request("2.5.27", "2.4.24"), Catalogue::embedded());
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
                    &request(&from.version.to_string(), &to.version.to_string()),
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
            plan(&request("2.4.24", "2.5.27"), Catalogue::embedded()),
            plan(&request("2.4.24", "2.5.22"), Catalogue::embedded()),
        );
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.hash(), a.clone().hash());
    }
}
