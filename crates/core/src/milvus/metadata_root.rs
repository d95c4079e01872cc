//! Where Milvus keeps its metadata in etcd.
//!
//! Absolute keys are `path.Join(rootPath, metaSubPath, relative)` of Go.

use std::fmt;

/// Where our own record of a run lies, relative to `rootPath`.
const OWN: &str = "milvus-guard/";

/// The place of Milvus' metadata in etcd.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Root {
    path: String,
    sub_path: String,
    own: String,
    prefix: String,
}

/// Paths that are not a place for metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Nothing was given.
    #[error("root path and metadata sub-path are both empty")]
    Empty,
    /// `..` was used.
    #[error("root path {root:?} with sub-path {sub:?} escapes the root (\"..\")")]
    Outside {
        /// `etcd.rootPath`.
        root: String,
        /// `etcd.metaSubPath`.
        sub: String,
    },
}

impl Root {
    /// From `etcd.rootPath` and `etcd.metaSubPath` as they are configured.
    ///
    /// # Errors
    /// When both are empty, or one holds `..`.
    pub fn new(root_path: &str, meta_sub_path: &str) -> Result<Self, RootError> {
        let joined = format!("{root_path}/{meta_sub_path}");
        if joined.split('/').any(|part| part == "..") {
            return Err(RootError::Outside {
                root: root_path.into(),
                sub: meta_sub_path.into(),
            });
        }
        let prefix = clean(&joined, root_path.starts_with('/'));
        if prefix.trim_matches('/').is_empty() {
            return Err(RootError::Empty);
        }
        Ok(Self {
            own: format!("{}{OWN}", clean(root_path, root_path.starts_with('/'))),
            path: root_path.into(),
            sub_path: meta_sub_path.into(),
            prefix,
        })
    }

    /// `etcd.rootPath` as it was given.
    #[must_use]
    pub fn root_path(&self) -> &str {
        &self.path
    }

    /// `etcd.metaSubPath` as it was given.
    #[must_use]
    pub fn meta_sub_path(&self) -> &str {
        &self.sub_path
    }

    /// What every key of the metadata begins with; it ends with a slash.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The first key after the metadata, for a range.
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        after(self.prefix.as_bytes())
    }

    /// A relative key as it is in etcd.
    #[must_use]
    pub fn absolute(&self, relative: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), relative].concat()
    }

    /// The relative key, if it is one of this metadata. Our own keys are none.
    #[must_use]
    pub fn relative<'k>(&self, absolute: &'k [u8]) -> Option<&'k [u8]> {
        absolute
            .strip_prefix(self.prefix.as_bytes())
            .filter(|_| !absolute.starts_with(self.own.as_bytes()))
    }

    /// Whether the metadata has a separate sub-path, apart from timestamps and id counters.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        clean(&self.path, false) != clean(&self.prefix, false)
    }

    /// Key of the lock, next to the metadata.
    #[must_use]
    pub fn lock(&self) -> String {
        format!("{}lock", self.own)
    }

    /// Key of the record of a run, next to the metadata.
    #[must_use]
    pub fn journal(&self) -> String {
        format!("{}migration", self.own)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix.trim_end_matches('/'))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({:?})", self.prefix)
    }
}

/// `path.Clean` of Go for paths without `..`, with a slash at the end unless it is empty.
fn clean(path: &str, leading: bool) -> String {
    let mut cleaned = String::from(if leading { "/" } else { "" });
    for part in path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        cleaned.push_str(part);
        cleaned.push('/');
    }
    cleaned
}

/// The first key after all keys with this prefix. Prefixes here end with a slash, so the last byte
/// can always grow.
#[must_use]
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("by-dev", "meta", Some("by-dev/meta/"))]
    #[case("/a//b/", "./meta/", Some("/a/b/meta/"))]
    #[case("", "meta", Some("meta/"))]
    #[case("/", "meta", Some("/meta/"))]
    #[case("env_ts1", "meta", Some("env_ts1/meta/"))]
    #[case("", "", None)]
    #[case("/", ".", None)]
    #[case("a/../..", "meta", None)]
    fn keys_are_joined_as_go_does(
        #[case] root: &str,
        #[case] sub: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(
            Root::new(root, sub).ok().as_ref().map(Root::prefix),
            expected
        );
    }

    #[test]
    fn a_root_owns_its_keys_alone() {
        let root = Root::new("by-dev", "meta").unwrap();
        assert_eq!(root.relative(b"by-dev/meta/a/b"), Some(&b"a/b"[..]));
        assert_eq!(root.relative(b"by-dev/meta2/a"), None, "a sibling");
        assert_eq!(root.relative(b"by-dev/kv/tso"), None);
        assert_eq!(root.journal(), "by-dev/milvus-guard/migration");
        assert_eq!(
            (root.end(), root.absolute(b"a")),
            (b"by-dev/meta0".to_vec(), b"by-dev/meta/a".to_vec())
        );
        assert!(root.is_apart() && root.to_string() == "by-dev/meta");
        let flat = Root::new("by-dev", "").unwrap();
        assert!(!flat.is_apart());
        assert_eq!(
            flat.relative(flat.journal().as_bytes()),
            None,
            "our own record is not metadata"
        );
    }
}
