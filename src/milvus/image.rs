//! Image references and the version that a Milvus tag stands for.
//!
//! The grammar of tags follows what the Milvus project has published: releases with build suffixes, release
//! candidates, nightlies of a release branch, and moving names that say nothing.

use std::fmt;

use memchr::{memchr, memrchr};

use super::version::Version;

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
    /// Takes a reference apart. A colon after the last slash begins the tag, one before it a registry's port.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (repository, tag, digest) = parts(text);
        Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) }
    }

    /// The repository without a registry host: `docker.io/milvusdb/milvus` and `milvusdb/milvus` are one.
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

    /// The same image at another version: the tag becomes `v<version>`, build suffixes such as `-gpu` are kept, a digest is dropped.
    #[must_use]
    pub fn at(&self, version: &Build) -> Self {
        let suffix = self.build().map(|build| build.suffixes).unwrap_or_default();
        let suffix = if version.suffixes.is_empty() { suffix } else { version.suffixes.clone() };
        let mut tag = format!("v{}", version.version);
        if let Some(pre) = &version.prerelease {
            tag = format!("{tag}-{pre}");
        }
        for part in suffix {
            tag = format!("{tag}-{part}");
        }
        Self { repository: self.repository.clone(), tag: Some(tag), digest: None }
    }
}

/// Repository, tag and digest of a reference, as they were written.
fn parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let text = text.trim();
    let bytes = text.as_bytes();
    let end = memchr(b'@', bytes);
    let (rest, digest) = end.map_or((text, None), |end| (&text[..end], text.get(end + 1..)));
    // A colon before the last slash begins a port.
    let name_start = memrchr(b'/', rest.as_bytes()).map_or(0, |slash| slash + 1);
    let (repository, tag) = match memchr(b':', &rest.as_bytes()[name_start..]) {
        Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
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

/// What a Milvus tag stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// The numbers. A branch nightly (`2.6-20260604-abc`) has patch 0.
    pub version: Version,
    /// `beta`, `rc1`, `dev`, or `nightly` for builds of a branch.
    pub prerelease: Option<String>,
    /// Build suffixes that change nothing for an upgrade: `gpu`, `arm64`, `debug`, `hotfix` ... in the order written.
    pub suffixes: Vec<String>,
}

/// Suffixes of released images that do not make a pre-release.
const BUILD_SUFFIXES: &[&str] = &["gpu", "cpu", "debug", "amd64", "arm64", "hotfix", "lite", "ubi8", "ubuntu", "rocky"];

impl Build {
    /// A plain release.
    #[must_use]
    pub const fn of(version: Version) -> Self {
        Self { version, prerelease: None, suffixes: Vec::new() }
    }

    /// Reads the tag of an image reference as it was written, without taking the rest apart.
    #[must_use]
    pub fn of_image(reference: &str) -> Option<Self> {
        parts(reference).1.and_then(Self::from_tag)
    }

    /// Reads a tag; nothing where it names no version (`latest`, `master-...`, other words).
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let end = tag.bytes().position(|byte| matches!(byte, b'-' | b'+'));
        let (head, rest) = end.map_or((tag, None), |end| (&tag[..end], tag.get(end + 1..)));
        let numbers = head.strip_prefix(['v', 'V']).unwrap_or(head);
        let dots = numbers.bytes().filter(|byte| *byte == b'.').count();
        let version = Version::parse_lenient(head).filter(|_| dots > 0)?;
        let mut release = Self::of(version);
        if dots == 1 {
            // X.Y alone names no build of ours; X.Y-<date>-<hash> is a nightly of that branch.
            release.prerelease = Some("nightly".into());
        }
        for part in rest.into_iter().flat_map(|rest| rest.split(['-', '+'])) {
            if BUILD_SUFFIXES.contains(&part) {
                release.suffixes.push(part.to_owned());
            } else if release.prerelease.is_none() {
                release.prerelease = Some(part.to_owned());
            } else if dots == 2 && release.prerelease.as_deref().is_some_and(|pre| pre == "rc" || pre == "beta") {
                release.prerelease = release.prerelease.map(|pre| format!("{pre}.{part}"));
            }
        }
        Some(release)
    }

    /// Whether this build carries the project's own repair of a bad release (`v2.4.13-hotfix`).
    #[must_use]
    pub fn is_hotfix(&self) -> bool {
        self.suffixes.iter().any(|part| part == "hotfix")
    }

    /// Whether this is built for GPUs.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.suffixes.iter().any(|part| part == "gpu")
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prerelease.as_deref() {
            Some("nightly") => write!(f, "{}-nightly", self.version.line())?,
            Some(pre) => write!(f, "{}-{pre}", self.version)?,
            None => write!(f, "{}", self.version)?,
        }
        if self.is_hotfix() { f.write_str("-hotfix") } else { Ok(()) }
    }
}

impl std::str::FromStr for Build {
    type Err = super::version::VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_tag(text)
            .filter(|release| release.prerelease.as_deref() != Some("nightly"))
            .ok_or_else(|| super::version::VersionError { text: text.into(), expected: "Milvus version (like 2.5.12)" })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("milvusdb/milvus:v2.5.12", "milvusdb/milvus", None, Some("v2.5.12"), false)]
    #[case(
        "registry.local:5000/mirror/milvusdb/milvus:v2.4.5-gpu",
        "mirror/milvusdb/milvus",
        Some("registry.local:5000"),
        Some("v2.4.5-gpu"),
        false
    )]
    #[case("localhost/milvus", "milvus", Some("localhost"), None, false)]
    #[case("docker.io/milvusdb/milvus:v2.4.5@sha256:ab", "milvusdb/milvus", Some("docker.io"), Some("v2.4.5"), true)]
    #[case("milvusdb/milvus@sha256:ab", "milvusdb/milvus", None, None, true)]
    fn references(
        #[case] text: &str,
        #[case] path: &str,
        #[case] registry: Option<&str>,
        #[case] tag: Option<&str>,
        #[case] digest: bool,
    ) {
        let image = ImageRef::parse(text);
        assert_eq!((image.path(), image.registry(), image.tag.as_deref(), image.digest.is_some()), (path, registry, tag, digest));
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
    #[case("v2.0.0-rc8-20211104-d1f4106", "2.0.0-rc8")]
    #[case("2.6-20260604-7aac2a2c", "2.6-nightly")]
    #[case("1.1.1-cpu-d061621-330cc6", "1.1.1-d061621")]
    fn tags(#[case] tag: &str, #[case] shown: &str) {
        assert_eq!(Build::from_tag(tag).unwrap().to_string(), shown);
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
        assert_eq!(image.at(&Build::of(Version::new(2, 5, 12))).to_string(), "r:1/milvusdb/milvus:v2.5.12-gpu");
    }
}
