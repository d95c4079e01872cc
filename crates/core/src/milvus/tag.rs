//! From the tag of an image to the build of Milvus in it. A nightly is placed by the days on which
//! releases were published.
//!
//! A tag is `X.Y.Z` or `X.Y` with an optional `v`, then parts that `-`, `+` or `_` separate. The
//! Milvus project has published releases (`v2.5.12`), variants of them (`v2.5.12-gpu-arm64`,
//! `v2.4.13-hotfix`), pre-releases (`v2.0.0-rc8-20211104-d1f4106`), nightlies of a branch
//! (`2.6-20260604-7aac2a2c`, `2.2.0-20230404-c4ea59bf`) and moving names that say nothing
//! (`latest`, `master-...`). Others append their own words (`2.4.5-debian-12-r0`), which stay
//! builds of that version.

use super::{
    build::{Build, Nightly, Stage, is_commit, prerelease_word},
    catalogue::Catalogue,
    day::Day,
    image::parts,
    version::Version,
};

/// What stands behind the numbers of a tag.
#[derive(Default)]
pub(super) struct Parts {
    prerelease: Option<String>,
    day: Option<Day>,
    has_commit: bool,
    suffixes: Vec<String>,
}

impl Parts {
    fn read(rest: &str) -> Self {
        let mut parts = Self::default();
        let (mut after_day, mut wants_number) = (false, false);
        for part in rest.split(SEPARATORS).filter(|part| !part.is_empty()) {
            let (follows_day, follows_word) = (
                std::mem::take(&mut after_day),
                std::mem::take(&mut wants_number),
            );
            if let Some(day) = Day::of_tag(part) {
                parts.day.get_or_insert(day);
                after_day = true;
            } else if follows_day && is_commit(part) {
                parts.has_commit = true;
            } else if let (None, Some((_, number))) = (&parts.prerelease, prerelease_word(part)) {
                parts.prerelease = Some(part.to_ascii_lowercase());
                wants_number = number.is_none();
            } else if let (Some(word), true, Ok(number)) =
                (&parts.prerelease, follows_word, part.parse::<u32>())
            {
                parts.prerelease = Some(format!("{word}.{number}"));
            } else {
                parts.suffixes.push(part.to_owned());
            }
        }
        parts
    }
}

/// What separates the parts of a tag.
pub(super) const SEPARATORS: [char; 3] = ['-', '+', '_'];

impl Build {
    /// Reads the tag of an image reference as it was written, without taking the rest apart.
    #[must_use]
    pub fn of_image(reference: &str) -> Option<Self> {
        parts(reference).1.and_then(Self::from_tag)
    }

    /// Reads a tag. `None` if it does not name a version (`latest`, `master-...`, other words).
    ///
    /// Nightlies are placed by the days of the embedded data; see [`Self::placed`] for others.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let end = tag.find(SEPARATORS);
        let (head, rest) = end.map_or((tag, ""), |end| {
            (&tag[..end], tag.get(end + 1..).unwrap_or_default())
        });
        let numbers = head.strip_prefix(['v', 'V']).unwrap_or(head);
        let dots = numbers.bytes().filter(|byte| *byte == b'.').count();
        let version = Version::parse_lenient(head).filter(|_| dots > 0)?;
        if dots == 2 && rest.is_empty() {
            return Some(Self::of(version));
        }
        let Parts {
            prerelease,
            day,
            has_commit,
            suffixes,
        } = Parts::read(rest);
        let build = Self {
            version,
            prerelease,
            suffixes,
            nightly: None,
        };
        let stage = build
            .prerelease
            .as_deref()
            .and_then(prerelease_word)
            .map(|(stage, _)| stage);
        let of_branch = match (dots, stage, day) {
            // `2.5-20250410-3e3a92f`, `2.5-latest`, and `2.5` alone, which moves with the branch.
            // `3.0-beta` is a release.
            (1, stage, _) => stage.is_none_or(|stage| stage == Stage::Development),
            // `2.4.0-dev-20240925`, `2.2.0-20230404-c4ea59b`: branches were named after their first
            // release.
            (_, Some(Stage::Development), Some(_)) => version.patch == 0,
            (_, None, Some(day)) => {
                version.patch == 0 && has_commit
                    || Catalogue::embedded()
                        .released(version)
                        .is_some_and(|published| day < published)
            }
            _ => false,
        };
        Some(if of_branch {
            build.nightly_of(day)
        } else {
            build
        })
    }

    fn nightly_of(mut self, day: Option<Day>) -> Self {
        self.prerelease = Some("nightly".into());
        self.nightly = Some(Nightly {
            day,
            contains_release: false,
        });
        self.placed(Catalogue::embedded())
    }

    /// The same build, a nightly placed by the days that `catalogue` knows.
    #[must_use]
    pub fn placed(mut self, catalogue: &Catalogue) -> Self {
        let Some(nightly) = &mut self.nightly else {
            return self;
        };
        let line = self.version.line();
        let newest = nightly.day.and_then(|day| catalogue.newest_on(line, day));
        nightly.contains_release = newest.is_some();
        self.version = newest.unwrap_or_else(|| Version::new(line.major, line.minor, 0));
        self
    }
}

impl std::str::FromStr for Build {
    type Err = super::version::VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_tag(text)
            .filter(|build| build.nightly.is_none())
            .ok_or_else(|| super::version::VersionError {
                text: text.into(),
                expected: "Milvus version (like 2.5.12)",
            })
    }
}
