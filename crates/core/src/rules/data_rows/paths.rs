//! Rows about paths of versions.

use crate::{
    change::Upgrade,
    evidence::Facts,
    milvus::{
        Topology, Version,
        catalogue::{Catalogue, Path, Situation, Verdict},
    },
    rules::mg102_unsupported_path,
};

use super::{Shape, fixture, found, releases, severity};

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
