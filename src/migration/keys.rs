//! The keys of Milvus' metadata: where they lie and what they name.
//!
//! Absolute keys are `path.Join(rootPath, metaSubPath, relative)` of Go. Everything in this room uses relative keys.
//! Milvus' own readers take prefixes without a slash at the end and so mistake `collection-alias` for `collection`; here
//! what follows a prefix must be a slash.

use std::fmt;

/// Components whose session in etcd shows that Milvus runs. Keys are `session/<role>` or `session/<role>-<id>`.
pub const ROLES: [&str; 8] =
    ["rootcoord", "indexcoord", "indexnode", "datacoord", "datanode", "querycoord", "querynode", "proxy"];
/// Keys of running components, and the counter of server ids. They are never part of a migration.
pub const SESSIONS: &str = "session/";
/// Session of the official migration tool.
pub const MIGRATION_SESSION: &str = "session/migration";
/// What Milvus writes over a record that it dropped (U+26FC); never a record itself.
pub const TOMBSTONE: &[u8] = &[0xE2, 0x9B, 0xBC];

/// Collections, both versions.
pub const COLLECTION: &str = "root-coord/collection/";
/// Their history, both versions.
pub const COLLECTION_HISTORY: &str = "snapshots/root-coord/collection/";
/// Aliases of 2.1.
pub const OLD_ALIAS: &str = "root-coord/collection-alias/";
/// Their history.
pub const OLD_ALIAS_HISTORY: &str = "snapshots/root-coord/collection-alias/";
/// Aliases of 2.2.
pub const ALIAS: &str = "root-coord/aliases/";
/// Their history.
pub const ALIAS_HISTORY: &str = "snapshots/root-coord/aliases/";
/// Indexes of 2.1.
pub const OLD_INDEX: &str = "root-coord/index/";
/// Indexes of segments of 2.1.
pub const OLD_SEGMENT_INDEX: &str = "root-coord/segment-index/";
/// Index builds of 2.1.
pub const BUILD: &str = "indexes/";
/// Indexes of 2.2.
pub const INDEX: &str = "field-index/";
/// Indexes of segments of 2.2.
pub const SEGMENT_INDEX: &str = "segment-index/";
/// Load records of 2.1.
pub const OLD_LOAD: &str = "queryCoord-collectionMeta/";
/// Loaded collections of 2.2.
pub const COLLECTION_LOAD: &str = "querycoord-collection-loadinfo/";
/// Loaded partitions of 2.2.
pub const PARTITION_LOAD: &str = "querycoord-partition-loadinfo/";
/// Segments, both versions.
pub const SEGMENT: &str = "datacoord-meta/s/";
/// Credentials, whose values are never shown.
pub const CREDENTIAL: &str = "root-coord/credential/";
/// The two keys in which 2.1 keeps its last definition change; exact, and with a history.
pub const DDL: [&str; 2] = ["root-coord/dd-operation", "root-coord/dd-msg-send"];
/// Before the path of a key in its history.
pub const HISTORY: &str = "snapshots/";

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

/// Paths that are no place for metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Nothing was given.
    #[error("root path and metadata sub-path are both empty")]
    Empty,
    /// `..` was used.
    #[error("root path {root:?} with {sub:?} leads out of itself")]
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
            return Err(RootError::Outside { root: root_path.into(), sub: meta_sub_path.into() });
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

    /// A relative key as it stands in etcd.
    #[must_use]
    pub fn absolute(&self, relative: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), relative].concat()
    }

    /// The relative key, if it is one of this metadata. Our own keys are none.
    #[must_use]
    pub fn relative<'k>(&self, absolute: &'k [u8]) -> Option<&'k [u8]> {
        absolute.strip_prefix(self.prefix.as_bytes()).filter(|_| !absolute.starts_with(self.own.as_bytes()))
    }

    /// Whether the metadata has a sub-path of its own, apart from timestamps and id counters.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        clean(&self.path, false) != clean(&self.prefix, false)
    }

    /// Key of the lock, beside the metadata.
    #[must_use]
    pub fn lock(&self) -> String {
        format!("{}lock", self.own)
    }

    /// Key of the record of a run, beside the metadata.
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
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        cleaned.push_str(part);
        cleaned.push('/');
    }
    cleaned
}

/// The first key after all keys with this prefix. Prefixes here end with a slash, so the last byte can always grow.
#[must_use]
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The numbers of a path, if it is exactly `N` of them as Milvus writes them (decimal, not padded).
#[must_use]
pub fn numbers<const N: usize>(path: &[u8]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = path.split(|byte| *byte == b'/');
    for number in &mut numbers {
        *number = id(parts.next()?)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// One number as Milvus writes it.
fn id(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = digits == b"0" || digits.first().is_some_and(|first| first.is_ascii_digit() && *first != b'0');
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// Splits `<path>_ts<timestamp>` at its last `_ts`, so that a path may hold one itself.
#[must_use]
pub fn split_timestamp(path: &[u8]) -> Option<(&[u8], u64)> {
    let at = path.windows(3).rposition(|window| window == b"_ts")?;
    let digits = &path[at + 3..];
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let ts = std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()?;
    Some((&path[..at], ts))
}

/// A key as it may be printed anywhere.
#[must_use]
pub fn shown(key: &[u8]) -> String {
    /// Characters of a key that are shown; an alias has at most 255 bytes.
    const MAX: usize = 400;
    let text: String = String::from_utf8_lossy(key).chars().take(MAX).collect();
    text.escape_debug().to_string()
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
    fn keys_are_joined_as_go_does(#[case] root: &str, #[case] sub: &str, #[case] expected: Option<&str>) {
        assert_eq!(Root::new(root, sub).ok().as_ref().map(Root::prefix), expected);
    }

    #[test]
    fn a_root_owns_its_keys_alone() {
        let root = Root::new("by-dev", "meta").unwrap();
        assert_eq!(root.relative(b"by-dev/meta/a/b"), Some(&b"a/b"[..]));
        assert_eq!(root.relative(b"by-dev/meta2/a"), None, "a sibling");
        assert_eq!(root.relative(b"by-dev/kv/tso"), None);
        assert_eq!(root.journal(), "by-dev/milvus-guard/migration");
        assert_eq!((root.end(), root.absolute(b"a")), (b"by-dev/meta0".to_vec(), b"by-dev/meta/a".to_vec()));
        assert!(root.is_apart() && root.to_string() == "by-dev/meta");
        let flat = Root::new("by-dev", "").unwrap();
        assert!(!flat.is_apart());
        assert_eq!(flat.relative(flat.journal().as_bytes()), None, "our own record is no metadata");
    }

    #[rstest]
    #[case("1/2", Some([1, 2]))]
    #[case("0/-7", Some([0, -7]))]
    #[case("1", None)]
    #[case("1/2/3", None)]
    #[case("1/", None)]
    #[case("1/x", None)]
    #[case("+1/2", None)]
    #[case("01/2", None)]
    #[case("1/99999999999999999999", None)]
    fn numbers_are_read_as_written(#[case] path: &str, #[case] expected: Option<[i64; 2]>) {
        assert_eq!(numbers::<2>(path.as_bytes()), expected);
    }

    #[rstest]
    #[case("5_ts7", Some(("5", 7)))]
    #[case("x_ts_y_ts9_ts12", Some(("x_ts_y_ts9", 12)))]
    #[case("a_ts18446744073709551615", Some(("a", u64::MAX)))]
    #[case("a_ts", None)]
    #[case("a_ts+1", None)]
    #[case("a", None)]
    fn timestamps_are_split_from_the_right(#[case] path: &str, #[case] expected: Option<(&str, u64)>) {
        assert_eq!(split_timestamp(path.as_bytes()), expected.map(|(path, ts)| (path.as_bytes(), ts)));
    }
}
