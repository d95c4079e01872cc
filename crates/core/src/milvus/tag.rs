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

/// From this number on a tag begins with a year (`24.11`, `2024.11.3`), as private images have it.
const FIRST_YEAR: u16 = 16;

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
        let version = Version::parse_lenient(head)
            .filter(|version| dots > 0 && version.major < FIRST_YEAR)?;
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
                expected: "Milvus version (like 2.5.27)",
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use rstest::rstest;

    use super::*;
    use crate::milvus::image::ImageRef;

    #[rstest]
    #[case(
        "milvusdb/milvus:v2.5.12",
        "milvusdb/milvus",
        None,
        Some("v2.5.12"),
        false
    )]
    #[case(
        "registry.local:5000/mirror/milvusdb/milvus:v2.4.5-gpu",
        "mirror/milvusdb/milvus",
        Some("registry.local:5000"),
        Some("v2.4.5-gpu"),
        false
    )]
    #[case("localhost/milvus", "milvus", Some("localhost"), None, false)]
    #[case(
        "docker.io/milvusdb/milvus:v2.4.5@sha256:ab",
        "milvusdb/milvus",
        Some("docker.io"),
        Some("v2.4.5"),
        true
    )]
    #[case("milvusdb/milvus@sha256:ab", "milvusdb/milvus", None, None, true)]
    fn references(
        #[case] text: &str,
        #[case] path: &str,
        #[case] registry: Option<&str>,
        #[case] tag: Option<&str>,
        #[case] digest: bool,
    ) {
        let image = ImageRef::parse(text);
        assert_eq!(
            (
                image.path(),
                image.registry(),
                image.tag.as_deref(),
                image.digest.is_some()
            ),
            (path, registry, tag, digest)
        );
        assert_eq!(image.to_string(), text);
    }

    #[rstest]
    #[case("v2.5.12", "2.5.12")]
    #[case("2.5.12", "2.5.12")]
    #[case("v2.4.13-hotfix", "2.4.13-hotfix")]
    #[case("v2.4.5-gpu-debug", "2.4.5")]
    #[case("v2.3.1-amd64", "2.3.1")]
    #[case("v2.5.0-beta", "2.5.0-beta")]
    #[case("v2.6.0-rc1", "2.6.0-rc1")]
    #[case("v2.6.0-RC1-gpu", "2.6.0-rc1")]
    #[case("v2.4.0-rc.1", "2.4.0-rc.1")]
    #[case("v2.4.0-rc-1", "2.4.0-rc.1")]
    #[case("v3.0-beta", "3.0.0-beta")]
    #[case("v2.0.0-rc8-20211104-d1f4106", "2.0.0-rc8")]
    #[case("1.1.1-cpu-d061621-330cc6", "1.1.1")]
    // Builds of that version by others.
    #[case("2.4.5-debian-12-r0", "2.4.5")]
    #[case("v2.5.12-secure", "2.5.12")]
    #[case("v2.5.12-hardened", "2.5.12")]
    #[case("2.5.12-r1", "2.5.12")]
    #[case("v2.5.12-patched.1", "2.5.12")]
    #[case("v2.5.12_company3", "2.5.12")]
    #[case("v2.5.12+build.7", "2.5.12")]
    #[case("v2.5.12-20250701", "2.5.12")]
    #[case("v2.5.12-20250701-abcdef12", "2.5.12")]
    #[case("v2.5.12-4-gabcdef1", "2.5.12")]
    #[case("v2.5.5-dev", "2.5.5-dev")]
    #[case("v2.5.5-gpu-preview2", "2.5.5-preview2")]
    // Nightlies.
    #[case("2.6-20260604-7aac2a2c", "2.6-20260604")]
    #[case("v2.5-20241224-abcdef12-arm64", "2.5-20241224")]
    #[case("2.4.0-dev-20240925-bdc59f3b", "2.4-20240925")]
    #[case("2.2.0-20230404-c4ea59bf", "2.2-20230404")]
    #[case("v2.5.27-20250101-abcdef12", "2.5-20250101")]
    #[case("2.5-latest", "2.5-nightly")]
    #[case("v2.5", "2.5-nightly")]
    fn tags(#[case] tag: &str, #[case] shown: &str) {
        assert_eq!(Build::from_tag(tag).unwrap().to_string(), shown);
    }

    #[rstest]
    #[case("2.5-20250410-3e3a92fc8-amd64", "2.5.8", true)]
    #[case("2.5-20250411-3e3a92fc8", "2.5.9", true)]
    #[case("2.5-20241201-3e3a92fc8", "2.5.0", false)]
    #[case("2.5-20991231-3e3a92fc8", "2.5.27", true)]
    #[case("2.4-20240925-bdc59f3b-amd64", "2.4.11", true)]
    #[case("2.6-20250601-3e3a92fc8", "2.6.0", false)]
    #[case("2.9-20250601-3e3a92fc8", "2.9.0", false)]
    #[case("2.5-latest", "2.5.0", false)]
    fn a_nightly_stands_where_its_day_puts_it(
        #[case] tag: &str,
        #[case] version: &str,
        #[case] contains_release: bool,
    ) {
        let build = Build::from_tag(tag).unwrap();
        assert_eq!(build.version.to_string(), version);
        assert_eq!(build.nightly.unwrap().contains_release, contains_release);
    }

    #[test]
    fn builds_stand_in_order() {
        let tags = [
            "1.1.1",
            "v2.4.24",
            "2.5-latest",
            "2.5-20241201-abcdef12",
            "v2.5.0-dev",
            "v2.5.0-alpha",
            "v2.5.0-beta",
            "v2.5.0-rc2",
            "v2.5.0-rc10",
            "v2.5.0",
            "2.5-20241224-abcdef12",
            "2.5-20241225-abcdef12",
            "v2.5.1",
            "v2.5.27",
            "2.5-20260601-abcdef12",
            "2.6-20250601-abcdef12",
            "v2.6.0-rc1",
            "v2.6.0",
        ];
        let builds: Vec<Build> = tags
            .iter()
            .map(|tag| Build::from_tag(tag).unwrap())
            .collect();
        assert!(
            builds.is_sorted_by(|older, newer| older < newer),
            "{builds:?}"
        );
        assert!(Build::from_tag("v2.4.13").unwrap() < Build::from_tag("v2.4.13-hotfix").unwrap());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same_version(tag in tag()) {
            let build = Build::from_tag(&tag).unwrap();
            prop_assert_eq!(Build::from_tag(&build.to_string()).unwrap(), build);
        }

        #[test]
        fn the_order_is_total(tags in proptest::collection::vec(tag(), 3)) {
            let [a, b, c] = [0, 1, 2].map(|at| Build::from_tag(&tags[at]).unwrap());
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
            prop_assert!(!(a <= b && b <= c) || a <= c);
            // A later number is a later build, unless a nightly of one branch contains the release.
            prop_assert!(a.version >= b.version || a < b);
        }

        #[test]
        fn a_nightly_from_before_a_release_is_older_than_it(at in 0..Catalogue::embedded().released.len(), day in 1u16..2200) {
            let release = &Catalogue::embedded().released[at];
            let (year, rest) = (2021 + day / 366, day % 366);
            let day = format!("{year}{:02}{:02}", 1 + rest / 31, 1 + rest % 31);
            prop_assume!(Day::of_tag(&day).is_some());
            let nightly = Build::from_tag(&format!("{}-{day}-abcdef12", release.version.line())).unwrap();
            let older = Day::of_tag(&day).unwrap() < release.date;
            prop_assert_eq!(nightly < Build::of(release.version), older);
        }

        #[test]
        fn a_suffix_never_moves_the_version(tag in tag(), suffix in suffix(), other in tag()) {
            let (plain, build) = (Build::from_tag(&tag).unwrap(), Build::from_tag(&format!("{tag}-{suffix}")).unwrap());
            prop_assert_eq!(&plain, &build);
            let other = Build::from_tag(&other).unwrap();
            prop_assert_eq!(plain.cmp(&other), build.cmp(&other));
        }

        #[test]
        fn any_text_reads_without_a_panic(tag in "\\PC{0,40}") {
            if let Some(build) = Build::from_tag(&tag) {
                prop_assert!(build == build.clone() && !build.to_string().is_empty());
            }
        }
    }

    /// Tags of every shape that the module's documentation names.
    fn tag() -> impl Strategy<Value = String> {
        let numbers = (prop_oneof![Just(""), Just("v")], 1u16..4, 0u16..8, 0u16..30);
        let day = (2022u16..2027, 1u8..13, 1u8..29)
            .prop_map(|(year, month, day)| format!("{year:04}{month:02}{day:02}"));
        let stage = prop_oneof![
            Just("rc"),
            Just("beta"),
            Just("alpha"),
            Just("dev"),
            Just("preview")
        ];
        (numbers, day, stage, 0u32..20, 0u8..6).prop_map(
            |((v, major, minor, patch), day, stage, number, shape)| match shape {
                0 => format!("{v}{major}.{minor}.{patch}"),
                1 => format!("{v}{major}.{minor}.{patch}-{stage}{number}"),
                2 => format!("{v}{major}.{minor}-{day}-abcdef12"),
                3 => format!("{v}{major}.{minor}.0-dev-{day}-abcdef12"),
                4 => format!("{v}{major}.{minor}.{patch}-{day}-abcdef12"),
                _ => format!("{v}{major}.{minor}.{patch}-{stage}.{number}-{day}-abcdef12"),
            },
        )
    }

    fn suffix() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::sample::select(vec![
                "gpu",
                "amd64",
                "arm64-debug",
                "ubi8",
                "secure",
                "r1",
                "debian-12-r0",
                "patched.1"
            ])
            .prop_map(str::to_owned),
            "[a-z]{2,8}[0-9]{0,2}",
        ]
        .prop_filter("own words", |text| {
            text.split('-')
                .all(|part| prerelease_word(part).is_none() && part != "hotfix" && !is_commit(part))
        })
    }

    #[rstest]
    #[case("latest")]
    #[case("master-20250101-abcdef12")]
    #[case("master-latest")]
    #[case("stable")]
    #[case("2")]
    #[case("v2")]
    #[case("20250101")]
    #[case("2024.11.3")]
    #[case("v2025.1-amd64")]
    #[case("24.11")]
    fn tags_without_a_version(#[case] tag: &str) {
        assert_eq!(Build::from_tag(tag), None);
    }
}
