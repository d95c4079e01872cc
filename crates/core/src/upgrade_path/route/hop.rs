//! One hop of a path: what it requires, moves and breaks, by the rows of the data.

use super::{
    commands::{chart, commands, values, values_of},
    request::{PathRequest, Position},
};
use crate::{
    milvus::{
        Build, Component, Coordinators, Line, Topology,
        catalogue::{
            Catalogue, Order, OrderTopology, Path, PointOfNoReturn, RequirementKind, Rolling,
            Route, Situation, Verdict,
        },
    },
    upgrade_path::{ChartChoice, Hop, Move, Plan, StopKind},
};

pub(super) fn step(
    request: &PathRequest,
    catalogue: &Catalogue,
    here: &Position,
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
    } else if restarts || request.topology == Topology::Standalone {
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
    let values = values(request, catalogue, here, target, chart.as_ref());
    let order = if kind == StopKind::RollingUpgrade {
        order(catalogue, here, target, point)
    } else {
        Vec::new()
    };
    let interruption = if request.topology == Topology::Standalone {
        "Milvus is down while its only process restarts and loads its collections".to_owned()
    } else {
        first(|row| &row.interruption)
    };
    let mut prerequisites: Vec<String> = requires
        .iter()
        .filter(|requirement| requirement.kind != RequirementKind::Migration)
        .filter(|requirement| {
            request.topology == Topology::Cluster || requirement.kind != RequirementKind::Topology
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
    let commands = commands(request, kind, here, target, chart.as_ref(), &values);
    if kind == StopKind::Migration && commands.is_empty() {
        prerequisites.push(
            "Milvus is stopped, its etcd backed up and migrated with milvus-guard meta migrate"
                .to_owned(),
        );
    }
    let reason = if *target == request.to {
        first(|row| {
            if row.verdict == Verdict::Allow {
                &row.reason
            } else {
                ""
            }
        })
    } else {
        format!("required stop on the way to {}", request.to)
    };
    Hop {
        number: 0,
        kind,
        from: here.build.to_string(),
        to: target.to_string(),
        reason,
        prerequisites,
        backup: request.manager.backups(&backup),
        commands,
        chart: chart.filter(|_| request.manager.is_chart()),
        values: values_of(request, values),
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
    here: &Position,
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

fn order(
    catalogue: &Catalogue,
    here: &Position,
    target: &Build,
    point: PointOfNoReturn,
) -> Vec<Move> {
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

pub(super) fn notes(request: &PathRequest, plan: &Plan) -> Vec<String> {
    let mut notes: Vec<String> = request
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
    if request.topology == Topology::Cluster && rolls && request.manager.is_chart() {
        notes.push(
            "A plain helm upgrade changes every component at once. Upgrade the components in order \
             first, then bring the Helm release in line."
                .to_owned(),
        );
    }
    if request.queue.is_none()
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
