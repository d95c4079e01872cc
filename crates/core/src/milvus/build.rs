//! A build of Milvus: a version, with what its tag says beyond that, and the order of builds.

use std::fmt;

use super::{day::Day, version::Version};

/// What a Milvus tag stands for.
///
/// Two builds are equal if they are the same version of Milvus: what an image is built for (`gpu`,
/// `arm64`) and who built it (`debian-12-r0`, `company3`) make no difference, except for the
/// project's own `hotfix`.
#[derive(Clone, Debug)]
pub struct Build {
    /// The numbers. For a nightly, the newest release of its branch on the day of the build;
    /// `X.Y.0` if it is older than all.
    pub version: Version,
    /// `beta`, `rc1`, `dev`; or `nightly` for builds of a branch.
    pub prerelease: Option<String>,
    /// What else the tag says, in the order written: `gpu`, `arm64`, `hotfix`, or words of anyone
    /// who built the image.
    pub suffixes: Vec<String>,
    /// For builds of a branch: the day, and where it stands among the releases of the branch.
    pub nightly: Option<Nightly>,
}

/// A build of a branch between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nightly {
    /// The day of the build; `None` if the tag names only the branch (`2.5`, `2.5-latest`).
    pub day: Option<Day>,
    /// Whether [`Build::version`] was published on or before that day, so that the nightly
    /// contains it.
    pub contains_release: bool,
}

/// How close a build is to the release of its number, earliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    NightlyBefore,
    Development,
    Alpha,
    Beta,
    Candidate,
    Release,
    Hotfix,
    NightlyAfter,
}

/// Words that make a pre-release, with the stage that they stand for. A number may follow (`rc1`,
/// `rc.1`, `rc-1`).
pub(super) const PRERELEASE_WORDS: [(&str, Stage); 11] = [
    ("alpha", Stage::Alpha),
    ("beta", Stage::Beta),
    ("rc", Stage::Candidate),
    ("dev", Stage::Development),
    ("preview", Stage::Development),
    ("pre", Stage::Development),
    ("prega", Stage::Development),
    ("snapshot", Stage::Development),
    ("canary", Stage::Development),
    ("nightly", Stage::Development),
    ("experimental", Stage::Development),
];

/// A pre-release word and the number behind it (`rc`, 1). `None` for any other text.
pub(super) fn prerelease_word(part: &str) -> Option<(Stage, Option<u32>)> {
    let word = part.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = part.get(word.len()..).unwrap_or_default();
    let word = word.trim_end_matches('.');
    let (_, stage) = PRERELEASE_WORDS
        .iter()
        .find(|(known, _)| word.eq_ignore_ascii_case(known))?;
    Some((*stage, number.parse().ok()))
}

/// Whether a part of a tag looks like a commit: 7 to 40 hex digits.
pub(super) fn is_commit(part: &str) -> bool {
    (7..=40).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Build {
    /// A plain release.
    #[must_use]
    pub const fn of(version: Version) -> Self {
        Self {
            version,
            prerelease: None,
            suffixes: Vec::new(),
            nightly: None,
        }
    }

    fn stage(&self) -> Stage {
        match (&self.nightly, self.prerelease.as_deref()) {
            (
                Some(Nightly {
                    contains_release: true,
                    ..
                }),
                _,
            ) => Stage::NightlyAfter,
            (Some(_), _) => Stage::NightlyBefore,
            (None, Some(word)) => {
                prerelease_word(word).map_or(Stage::Development, |(stage, _)| stage)
            }
            (None, None) if self.is_hotfix() => Stage::Hotfix,
            (None, None) => Stage::Release,
        }
    }

    /// What decides the order: number, stage, number of the stage, day, and the word where all else
    /// is equal.
    fn rank(&self) -> (Version, Stage, u32, Option<Day>, Option<&str>) {
        let number = self
            .prerelease
            .as_deref()
            .and_then(prerelease_word)
            .and_then(|(_, number)| number)
            .unwrap_or(0);
        (
            self.version,
            self.stage(),
            number,
            self.nightly.and_then(|nightly| nightly.day),
            self.prerelease.as_deref(),
        )
    }

    /// Whether this build carries the project's own repair of a bad release (`v2.4.13-hotfix`).
    #[must_use]
    pub fn is_hotfix(&self) -> bool {
        self.suffixes.iter().any(|part| part == "hotfix")
    }

    /// Whether the tag names only a branch (`2.5`, `2.5-latest`), so that its patch is unknown.
    #[must_use]
    pub fn is_undated(&self) -> bool {
        self.nightly.is_some_and(|nightly| nightly.day.is_none())
    }

    /// Whether this is built for GPUs.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.suffixes.iter().any(|part| part == "gpu")
    }
}

impl PartialEq for Build {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Build {}

impl std::hash::Hash for Build {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
    }
}

impl PartialOrd for Build {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Older builds first.
impl Ord for Build {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.nightly, self.prerelease.as_deref()) {
            (Some(Nightly { day: Some(day), .. }), _) => {
                write!(f, "{}-{}", self.version.line(), day.tag())?;
            }
            (Some(_), _) => write!(f, "{}-nightly", self.version.line())?,
            (None, Some(pre)) => write!(f, "{}-{pre}", self.version)?,
            (None, None) => write!(f, "{}", self.version)?,
        }
        if self.is_hotfix() {
            f.write_str("-hotfix")
        } else {
            Ok(())
        }
    }
}
