//! The keys of Milvus' metadata: where they are stored and what they contain.
//!
//! Absolute keys are `path.Join(rootPath, metaSubPath, relative)` of Go. Everything in this folder
//! uses relative keys. Milvus' own readers use prefixes without a slash at the end and so mistake
//! `collection-alias` for `collection`; here what follows a prefix must be a slash.

pub use milvus_guard_core::milvus::metadata_root::{Root, RootError, after};

/// Components whose session in etcd shows that Milvus runs. Keys are `session/<role>` or
/// `session/<role>-<id>`.
pub const ROLES: [&str; 8] = [
    "rootcoord",
    "indexcoord",
    "indexnode",
    "datacoord",
    "datanode",
    "querycoord",
    "querynode",
    "proxy",
];
/// Keys of running components, and the counter of server ids. They are never part of a migration.
pub const SESSIONS: &str = "session/";
/// Session of the official migration tool.
pub const MIGRATION_SESSION: &str = "session/migration";
/// The value that Milvus writes over a record that it dropped (U+26FC); never a record itself.
pub const TOMBSTONE: &[u8] = &[0xE2, 0x9B, 0xBC];

/// Collections, both versions.
pub const COLLECTION: &str = "root-coord/collection/";
/// History of collections, both versions.
pub const COLLECTION_HISTORY: &str = "snapshots/root-coord/collection/";
/// Aliases of 2.1.
pub const OLD_ALIAS: &str = "root-coord/collection-alias/";
/// History of aliases of 2.1.
pub const OLD_ALIAS_HISTORY: &str = "snapshots/root-coord/collection-alias/";
/// Aliases of 2.2.
pub const ALIAS: &str = "root-coord/aliases/";
/// History of aliases of 2.2.
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
/// The two keys in which 2.1 keeps its last definition change; complete keys, each with a history.
pub const DDL: [&str; 2] = ["root-coord/dd-operation", "root-coord/dd-msg-send"];
/// Prefix of the history of a key.
pub const HISTORY: &str = "snapshots/";

/// The numbers of a path, if it has exactly `N` of them in the format of Milvus (decimal, not
/// padded).
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
    let is_plain = digits == b"0"
        || digits
            .first()
            .is_some_and(|first| first.is_ascii_digit() && *first != b'0');
    std::str::from_utf8(text)
        .ok()
        .filter(|_| is_plain)?
        .parse()
        .ok()
}

/// Splits `<path>_ts<timestamp>` at its last `_ts`, because a path may contain `_ts` itself.
#[must_use]
pub fn split_timestamp(path: &[u8]) -> Option<(&[u8], u64)> {
    let at = path.windows(3).rposition(|window| window == b"_ts")?;
    let digits = &path[at + 3..];
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let ts = std::str::from_utf8(digits)
        .ok()
        .filter(|_| is_plain)?
        .parse()
        .ok()?;
    Some((&path[..at], ts))
}

/// A key that is safe to print.
#[must_use]
pub fn shown(key: &[u8]) -> String {
    /// Maximum number of characters that are shown; an alias has at most 255 bytes.
    const MAX: usize = 400;
    let text: String = String::from_utf8_lossy(key).chars().take(MAX).collect();
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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
    fn timestamps_are_split_from_the_right(
        #[case] path: &str,
        #[case] expected: Option<(&str, u64)>,
    ) {
        assert_eq!(
            split_timestamp(path.as_bytes()),
            expected.map(|(path, ts)| (path.as_bytes(), ts))
        );
    }
}
