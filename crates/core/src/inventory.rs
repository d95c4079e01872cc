//! The standing of a running release: the newest release of its line, the release to move to, and its
//! last run.
//!
//! Milvus does not publish the day on which a line ends. The newest release of the line and its day
//! show whether the line still gets releases.

use jiff::Timestamp;

use crate::{
    api::{RunKind, RunPhase, UpgradeRun},
    milvus::{
        Build, Day, Release, Version,
        catalogue::{Catalogue, Situation, Wanted},
    },
};

/// The standing of a release among the releases of Milvus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Newest release of its line; `None` if its version is not known, or the data does not know
    /// its line.
    pub newest_of_line: Option<Newest>,
    /// The release that `plan --to latest` leads to; `None` if the version is not known, or no
    /// release is recommended.
    pub target: Option<Version>,
}

/// The newest release of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Release.
    pub version: Version,
    /// Day on which it was published.
    pub published: Day,
}

impl Standing {
    /// The standing of a release, by the lowest version that runs in it.
    #[must_use]
    pub fn of(release: &Release, catalogue: &Catalogue) -> Self {
        let Some(runs) = release.lowest() else {
            return Self::default();
        };
        let target = catalogue.choose(&Wanted::Latest, Some(&runs), &Situation::of(release));
        Self {
            newest_of_line: newest_of_line(&runs, catalogue),
            target: target.ok().map(|build| build.version),
        }
    }
}

fn newest_of_line(runs: &Build, catalogue: &Catalogue) -> Option<Newest> {
    let version = catalogue.newest_on(runs.version.line(), catalogue.as_of()?)?;
    Some(Newest {
        version,
        published: catalogue.released(version)?,
    })
}

/// A run of a release, as `UpgradeRun` objects record it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// `namespace/name` of the run.
    pub run: String,
    /// Release that it worked on.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// What it did.
    pub kind: RunKind,
    /// Version before.
    pub from: Version,
    /// Version after.
    pub to: Version,
    /// Its phase.
    pub phase: RunPhase,
    /// When it began; `None` if it has not.
    pub started: Option<Timestamp>,
}

impl LastRun {
    fn of(run: &UpgradeRun) -> Self {
        Self {
            run: run.full_name(),
            release: run.spec.release.clone(),
            namespace: run.spec.namespace.clone(),
            kind: run.spec.kind,
            from: run.spec.from,
            to: run.spec.to,
            phase: run.status.phase,
            started: run.status.started_at,
        }
    }

    /// Whether it is a run of this release. The alias of an umbrella chart may stand behind the
    /// name of the release (`my-release/vectors`).
    #[must_use]
    pub fn is_of(&self, release: &str, namespace: Option<&str>) -> bool {
        let name = release.split('/').next().unwrap_or_default();
        self.release == name && namespace == Some(&*self.namespace)
    }

    /// The last run of each release: the one in progress, else the one that began last.
    #[must_use]
    pub fn of_each_release(runs: &[UpgradeRun]) -> Vec<Self> {
        let mut sorted: Vec<&UpgradeRun> = runs.iter().collect();
        let rank = |run: &UpgradeRun| (run.is_under_way(), run.status.started_at);
        sorted.sort_by_key(|run| std::cmp::Reverse(rank(run)));
        let mut last: Vec<Self> = Vec::new();
        for run in sorted {
            let of = (&run.spec.namespace, &run.spec.release);
            if last
                .iter()
                .all(|known| (&known.namespace, &known.release) != of)
            {
                last.push(Self::of(run));
            }
        }
        last
    }
}

/// The name of a kind of run for people.
#[must_use]
pub const fn words(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Migration => "migration",
        RunKind::Rolling => "rolling upgrade",
        RunKind::Hold => "held change",
        RunKind::Other => "unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::Fixture;

    fn run(release: &str, name: &str, phase: &str, started: &str) -> UpgradeRun {
        serde_json::from_value(json!({
            "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
            "metadata": {"name": name, "namespace": "guard"},
            "spec": {"kind": "Rolling", "release": release, "namespace": "milvus",
                "from": "2.5.4", "to": "2.5.27", "planHash": "h", "plan": []},
            "status": {"phase": phase, "startedAt": started},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_run_is_the_one_in_progress_else_the_one_that_began_last() {
        let runs = [
            run("a", "a-1", "Stopped", "2026-05-01T00:00:00Z"),
            run("a", "a-2", "Aborted", "2026-05-02T00:00:00Z"),
            run("b", "b-2", "Succeeded", "2026-05-02T00:00:00Z"),
            run("b", "b-1", "Succeeded", "2026-05-01T00:00:00Z"),
        ];
        let mut last: Vec<_> = LastRun::of_each_release(&runs)
            .into_iter()
            .map(|run| run.run)
            .collect();
        last.sort();
        assert_eq!(last, ["guard/a-1", "guard/b-2"]);
    }

    #[test]
    fn a_release_is_placed_by_the_lowest_version_that_runs() {
        let catalogue = Catalogue::embedded();
        let standing = |fixture: Fixture| Standing::of(&fixture.snapshot().releases[0], catalogue);
        let mixed = standing(
            Fixture::cluster("2.5.27").tag_of(crate::milvus::Component::QueryNode, "v2.4.5"),
        );
        let newest = mixed.newest_of_line.unwrap();
        assert_eq!(newest.version.line().to_string(), "2.4");
        assert_eq!(catalogue.released(newest.version), Some(newest.published));
        let newest_line = catalogue.landing.iter().map(|row| row.line).max().unwrap();
        assert_eq!(mixed.target.unwrap().line(), newest_line);
        assert_eq!(
            standing(Fixture::cluster("2.5.27").tag("latest")),
            Standing::default(),
            "an unknown version has no place"
        );
    }
}
