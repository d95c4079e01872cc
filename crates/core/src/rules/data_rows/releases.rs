//! Rows about bad releases.

use crate::{
    milvus::{
        Release, Version,
        catalogue::{BadRelease, Catalogue},
    },
    rules::mg104_bad_release,
};

use super::{Shape, fixture, found, releases, severity};

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
