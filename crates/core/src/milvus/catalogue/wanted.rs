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
#[error("the data does not contain the release {wanted}; {}", advice(.nearest.as_ref()))]
pub struct NoSuchRelease {
    /// What was asked for.
    pub wanted: Wanted,
    /// The recommended release of the nearest line.
    pub nearest: Option<Version>,
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
    /// A line of which the data knows no release, or no recommended one at or above `from`.
    pub fn choose(
        &self,
        wanted: &Wanted,
        from: Option<&Build>,
        situation: &Situation,
    ) -> Result<Build, NoSuchRelease> {
        let recommended = |line| self.target(line, from, situation);
        let found = match wanted {
            Wanted::Build(build) => self.may_exist(build).then(|| build.clone()),
            Wanted::Line(line) => recommended(*line).map(Build::of),
            Wanted::Latest => self.lines().filter_map(recommended).max().map(Build::of),
        };
        found.ok_or_else(|| NoSuchRelease {
            wanted: wanted.clone(),
            nearest: self.nearest(wanted, from, situation),
        })
    }

    /// Whether a build is of a line that the data knows, and not a release that was never
    /// published. A release newer than the data may exist.
    fn may_exist(&self, build: &Build) -> bool {
        let version = build.version;
        self.lines().any(|line| line == version.line())
            && (!build.suffixes.is_empty()
                || self.released(version).is_some()
                || self.is_newer_than_data(version))
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
    #[case("2.4", "2.5.1", "the nearest is 2.5.")]
    #[case("2.4.2", "2.3.5", "the nearest is 2.4.24")]
    fn an_unknown_release_is_an_error_that_names_the_nearest(
        #[case] wanted: &str,
        #[case] from: &str,
        #[case] said: &str,
    ) {
        let error = chosen(wanted, from).unwrap_err();
        assert!(error.contains(said) && error.contains("--data"), "{error}");
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
