//! References to container images.

use super::build::{Build, is_commit};
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
    use super::*;
    use crate::milvus::version::Version;

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
