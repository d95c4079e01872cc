//! References to container images.

use super::build::{Build, is_commit, prerelease_word};
use super::{catalogue::Catalogue, day::Day, version::Version};
use memchr::{memchr, memrchr};
use std::fmt;

/// A container image reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Everything before the tag and the digest, as it was written.
    pub repository: String,
    /// The tag, where one was written.
    pub tag: Option<String>,
    /// The digest (`sha256:...`), where one was written.
    pub digest: Option<String>,
}

impl ImageRef {
    /// Takes a reference apart. A colon after the last slash begins the tag, one before it a
    /// registry's port.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (repository, tag, digest) = parts(text);
        Self {
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        }
    }

    /// The repository without a registry host: `docker.io/milvusdb/milvus` and `milvusdb/milvus`
    /// are one.
    #[must_use]
    pub fn path(&self) -> &str {
        match self.repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
            _ => &self.repository,
        }
    }

    /// The registry host, where one was written.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        let path = self.path();
        let host = &self.repository[..self.repository.len() - path.len()];
        (!host.is_empty()).then(|| host.trim_end_matches('/'))
    }

    /// The last element of the repository.
    #[must_use]
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// What the tag says of the version of Milvus.
    #[must_use]
    pub fn build(&self) -> Option<Build> {
        self.tag.as_deref().and_then(Build::from_tag)
    }

    /// The same image at another version: the tag becomes `v<version>`, suffixes such as `-gpu` are
    /// kept, `-hotfix` (the repair of one release), a commit and a digest are dropped.
    #[must_use]
    pub fn at(&self, version: &Build) -> Self {
        let mut suffix = self.build().map(|build| build.suffixes).unwrap_or_default();
        suffix.retain(|part| part != "hotfix" && !is_commit(part));
        let suffix = if version.suffixes.is_empty() {
            suffix
        } else {
            version.suffixes.clone()
        };
        let mut tag = format!("v{}", version.version);
        if let Some(pre) = &version.prerelease {
            tag = format!("{tag}-{pre}");
        }
        for part in suffix {
            tag = format!("{tag}-{part}");
        }
        Self {
            repository: self.repository.clone(),
            tag: Some(tag),
            digest: None,
        }
    }
}

/// Repository, tag and digest of a reference, as they were written.
pub(super) fn parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let text = text.trim();
    let bytes = text.as_bytes();
    let end = memchr(b'@', bytes);
    let (rest, digest) = end.map_or((text, None), |end| (&text[..end], text.get(end + 1..)));
    // A colon before the last slash begins a port.
    let name_start = memrchr(b'/', rest.as_bytes()).map_or(0, |slash| slash + 1);
    let (repository, tag) = match memchr(b':', &rest.as_bytes()[name_start..]) {
        Some(colon) => (
            &rest[..name_start + colon],
            Some(&rest[name_start + colon + 1..]),
        ),
        None => (rest, None),
    };
    (repository, tag.filter(|tag| !tag.is_empty()), digest)
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

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
    fn tags_without_a_version(#[case] tag: &str) {
        assert_eq!(Build::from_tag(tag), None);
    }

    #[test]
    fn moving_an_image_keeps_registry_and_build() {
        let image = ImageRef::parse("r:1/milvusdb/milvus:v2.4.5-gpu@sha256:ab");
        assert_eq!(
            image.at(&Build::of(Version::new(2, 5, 12))).to_string(),
            "r:1/milvusdb/milvus:v2.5.12-gpu"
        );
        let hotfix = ImageRef::parse("milvusdb/milvus:v2.4.13-hotfix");
        assert_eq!(
            hotfix.at(&Build::of(Version::new(2, 5, 12))).to_string(),
            "milvusdb/milvus:v2.5.12"
        );
        let nightly = ImageRef::parse("milvusdb/milvus:2.5-20250410-3e3a92fc8-amd64");
        assert_eq!(
            nightly.at(&Build::of(Version::new(2, 5, 12))).to_string(),
            "milvusdb/milvus:v2.5.12-amd64"
        );
    }
}
