//! What a user asks to move to: a release, a line (`2.5`) or `latest`.

use std::{fmt, str::FromStr};

use crate::milvus::{
    build::Build,
    version::{Line, Version, VersionError},
};

use super::{Catalogue, Situation};

/// A target as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This build.
    Build(Build),
    /// The recommended release of this line.
    Line(Line),
    /// The recommended release of the newest line.
    Latest,
}

impl FromStr for Wanted {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let numbers = text.strip_prefix(['v', 'V']).unwrap_or(text);
        numbers.parse().map(Self::Line).or_else(|_: VersionError| {
            text.parse()
                .map(Self::Build)
                .map_err(|_: VersionError| VersionError {
                    text: text.into(),
                    expected: "Milvus version (like 2.5.27), a release line (like 2.5) or latest",
                })
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(build) => build.fmt(f),
            Self::Line(line) => line.fmt(f),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A target that the data about releases does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchRelease {
    /// The data does not have it at all.
    #[error("the data does not contain the release {wanted}; {}", advice(.nearest.as_ref()))]
    Unknown {
        /// What was asked for.
        wanted: Wanted,
        /// The recommended release of the nearest line.
        nearest: Option<Version>,
    },
    /// The data has releases of the line, but none to move to.
    #[error(
        "the data does not contain a release of {line} at or above {from} without known defects; {}",
        advice(.nearest.as_ref())
    )]
    NoneAbove {
        /// What was asked for.
        line: Line,
        /// The running build.
        from: Build,
        /// The recommended release of the nearest line.
        nearest: Option<Version>,
    },
}

fn advice(version: Option<&Version>) -> String {
    let add = "add a newer one with --data (see milvus-guard data)";
    version.map_or_else(
        || add.to_owned(),
        |version| format!("the nearest is {version}; {add}"),
    )
}

impl Catalogue {
    /// The build that is meant by `wanted` for a release that runs `from`.
    ///
    /// # Errors
    /// A line of which the data knows no release, or `from`'s own line or a newer one without a
    /// recommended release at or above `from`. A line below `from` means its recommended release:
    /// what is wrong with a downgrade is for the caller to say.
    pub fn choose(
        &self,
        wanted: &Wanted,
        from: Option<&Build>,
        situation: &Situation,
    ) -> Result<Build, NoSuchRelease> {
        let recommended = |line| self.target(line, from, situation);
        let found = match wanted {
            Wanted::Build(build) => self.may_exist(build).then(|| build.clone()),
            Wanted::Line(line) => {
                let below = from.is_some_and(|from| *line < from.version.line());
                let from = from.filter(|_| !below);
                self.target(*line, from, situation).map(Build::of)
            }
            Wanted::Latest => self.lines().filter_map(recommended).max().map(Build::of),
        };
        found.ok_or_else(|| {
            let nearest = self.nearest(wanted, from, situation);
            match (wanted, from) {
                (Wanted::Line(line), Some(from)) if self.lines().any(|known| known == *line) => {
                    NoSuchRelease::NoneAbove {
                        line: *line,
                        from: from.clone(),
                        nearest,
                    }
                }
                _ => NoSuchRelease::Unknown {
                    wanted: wanted.clone(),
                    nearest,
                },
            }
        })
    }

    /// Whether a build is of a line that the data knows, and not a release that was never
    /// published. A release newer than the data may exist.
    #[must_use]
    pub fn may_exist(&self, build: &Build) -> bool {
        let version = build.version;
        self.lines().any(|line| line == version.line())
            && (!build.suffixes.is_empty() || self.has(version) || self.is_newer_than_data(version))
    }

    /// Whether the data has a release: by the day of its publication, or by a chart that ships it.
    fn has(&self, version: Version) -> bool {
        let ships = |tag: &str| {
            Build::from_tag(tag)
                .is_some_and(|build| build.version == version && build.prerelease.is_none())
        };
        self.released(version).is_some() || self.charts.iter().any(|chart| ships(&chart.tag))
    }

    /// Why the data cannot say anything about a release, as a clause; `None` if it has the release.
    #[must_use]
    pub fn is_unknown(&self, version: Version) -> Option<String> {
        if self.has(version) {
            return None;
        }
        let day = self
            .as_of()
            .map_or_else(String::new, |day| format!(" of {day}"));
        let is_of_known_line = self.lines().any(|line| line == version.line());
        let is_above_all = self.lines().all(|line| line < version.line());
        Some(
            if self.is_newer_than_data(version) && (is_of_known_line || is_above_all) {
                format!("{version} is newer than the data{day}")
            } else {
                format!("the data{day} does not contain the release {version}")
            },
        )
    }

    /// Whether a release is newer than all that the data knows of its line: what is wrong with it
    /// is not known.
    #[must_use]
    pub fn is_newer_than_data(&self, version: Version) -> bool {
        let of_line = self.released.iter().map(|row| row.version);
        of_line
            .filter(|known| known.line() == version.line())
            .all(|known| known < version)
    }

    /// The release lines that the data knows.
    fn lines(&self) -> impl Iterator<Item = Line> {
        let released = self.released.iter().map(|row| row.version.line());
        let landing = self.landing.iter().map(|row| row.line);
        released.chain(landing)
    }

    fn nearest(
        &self,
        wanted: &Wanted,
        from: Option<&Build>,
        situation: &Situation,
    ) -> Option<Version> {
        let line = match wanted {
            Wanted::Build(build) => build.version.line(),
            Wanted::Line(line) => *line,
            Wanted::Latest => return None,
        };
        let all = self
            .lines()
            .filter_map(|known| self.target(known, from, situation));
        all.min_by_key(|version| {
            let known = version.line();
            let (major, minor) = (
                known.major.abs_diff(line.major),
                known.minor.abs_diff(line.minor),
            );
            (major, minor, std::cmp::Reverse(*version))
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn chosen(wanted: &str, from: &str) -> Result<String, String> {
        let wanted: Wanted = wanted
            .parse()
            .map_err(|error: VersionError| error.to_string())?;
        let from = (!from.is_empty()).then(|| from.parse().unwrap());
        let chosen = Catalogue::embedded().choose(&wanted, from.as_ref(), &Situation::default());
        chosen
            .map(|build| build.to_string())
            .map_err(|error| error.to_string())
    }

    #[rstest]
    #[case("2.4.17")]
    #[case("2.5.99")]
    #[case("v2.6.0-rc1")]
    fn a_build_of_a_known_line_is_taken_as_it_is(#[case] wanted: &str) {
        assert_eq!(
            chosen(wanted, "2.3.5").unwrap(),
            wanted.trim_start_matches('v')
        );
    }

    #[test]
    fn a_line_and_latest_are_releases_that_no_rule_warns_about() {
        let embedded = Catalogue::embedded();
        for landing in &embedded.landing {
            let line = landing.line.to_string();
            assert_eq!(chosen(&line, ""), chosen(&format!("v{line}"), ""));
            assert_eq!(
                chosen(&line, "").ok(),
                embedded
                    .target(landing.line, None, &Situation::default())
                    .map(|version| version.to_string())
            );
        }
        let newest = embedded
            .landing
            .iter()
            .map(|landing| landing.version)
            .max()
            .unwrap();
        assert_eq!(chosen("latest", "").unwrap(), newest.to_string());
    }

    #[rstest]
    #[case("2.7.0", "2.4.5", "the nearest is 2.6.")]
    #[case("2.9", "2.4.5", "the nearest is 2.6.")]
    #[case("9.1", "", "the nearest is ")]
    #[case("2.4.2", "2.3.5", "the nearest is 2.4.24")]
    fn an_unknown_release_is_an_error_that_names_the_nearest(
        #[case] wanted: &str,
        #[case] from: &str,
        #[case] said: &str,
    ) {
        let error = chosen(wanted, from).unwrap_err();
        assert!(error.contains(said) && error.contains("--data"), "{error}");
    }

    #[test]
    fn a_line_below_the_running_version_means_its_release() {
        assert_eq!(chosen("2.4", "2.5.27").unwrap(), chosen("2.4", "").unwrap());
        assert_eq!(chosen("2.5", "3.0.2").unwrap(), chosen("2.5", "").unwrap());
    }

    #[test]
    fn a_known_line_without_a_newer_release_is_no_unknown_release() {
        let error = chosen("2.5", "2.5.99").unwrap_err();
        assert!(
            error.starts_with("the data does not contain a release of 2.5 at or above 2.5.99"),
            "{error}"
        );
    }

    #[test]
    fn what_a_chart_ships_may_exist() {
        let embedded = Catalogue::embedded();
        for chart in &embedded.charts {
            if let Some(build) = Build::from_tag(&chart.tag) {
                assert!(embedded.may_exist(&build), "{}: {build}", chart.version);
                assert!(
                    build.prerelease.is_some() || embedded.is_unknown(build.version).is_none(),
                    "{}: {build}",
                    chart.version
                );
            }
        }
        assert_eq!(chosen("3.0.1", "2.6.24").unwrap(), "3.0.1");
    }

    #[rstest]
    #[case("2.5.99", "2.5.99 is newer than the data of ")]
    #[case("9.9.9", "9.9.9 is newer than the data of ")]
    #[case("2.4.2", " does not contain the release 2.4.2")]
    #[case("2.7.1", " does not contain the release 2.7.1")]
    fn what_the_data_lacks_is_said(#[case] version: &str, #[case] said: &str) {
        let unknown = Catalogue::embedded().is_unknown(version.parse().unwrap());
        assert!(unknown.as_ref().unwrap().contains(said), "{unknown:?}");
    }

    #[rstest]
    #[case("newest")]
    #[case("2")]
    #[case("")]
    fn other_words_are_an_error_that_lists_the_forms(#[case] wanted: &str) {
        let error = chosen(wanted, "").unwrap_err();
        assert!(
            error.contains("a release line (like 2.5) or latest"),
            "{error}"
        );
    }
}
