//! The content of etcd at one revision.

use std::fmt;

use super::keys::{Root, SESSIONS, shown};

/// One key-value pair. Key and value share one allocation: there may be millions of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Box<[u8]>,
    key_length: u32,
    /// Whether it is bound to a lease. Such keys expire, so they are neither saved nor migrated.
    pub leased: bool,
    /// Revision at which it was last written; 0 if that is unknown (backups of the official tool,
    /// new records).
    pub mod_revision: i64,
}

impl Record {
    /// A record without a lease.
    #[must_use]
    pub fn new(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, mod_revision: i64) -> Self {
        let (key, value) = (key.as_ref(), value.as_ref());
        // etcd accepts no request of more than 4 GiB, with any configuration.
        let key_length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        Self {
            bytes: [key, value].concat().into(),
            key_length,
            leased: false,
            mod_revision,
        }
    }

    /// Key, relative to the root.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key_length as usize]
    }

    /// Value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.key_length as usize..]
    }

    /// The record in the form of a stored record.
    #[must_use]
    pub fn standing(&self) -> StoredRecord<'_> {
        StoredRecord {
            key: self.key(),
            value: self.value(),
            leased: self.leased,
            mod_revision: self.mod_revision,
        }
    }

    /// Whether the key is a session or the counter of server ids, which are not part of the
    /// metadata.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.key().starts_with(SESSIONS.as_bytes())
    }

    /// Whether it is permanent metadata: not a session, and without a lease.
    #[must_use]
    pub fn is_metadata(&self) -> bool {
        self.standing().is_metadata()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secret.
        write!(
            f,
            "{} ({} bytes, revision {}",
            shown(self.key()),
            self.value().len(),
            self.mod_revision
        )?;
        f.write_str(if self.leased { ", leased)" } else { ")" })
    }
}

/// A borrowed key-value pair of etcd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoredRecord<'r> {
    /// Key, relative to the root.
    pub key: &'r [u8],
    /// Value.
    pub value: &'r [u8],
    /// Whether it is bound to a lease.
    pub leased: bool,
    /// Revision at which it was last written.
    pub mod_revision: i64,
}

impl StoredRecord<'_> {
    /// Whether it is permanent metadata: not a session, and without a lease.
    #[must_use]
    pub fn is_metadata(&self) -> bool {
        !self.leased && !self.key.starts_with(SESSIONS.as_bytes())
    }
}

impl From<StoredRecord<'_>> for Record {
    fn from(standing: StoredRecord<'_>) -> Self {
        Self {
            leased: standing.leased,
            ..Self::new(standing.key, standing.value, standing.mod_revision)
        }
    }
}

/// All records below one root at one revision, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The root.
    pub root: Root,
    /// Identity of the etcd cluster; 0 if unknown.
    pub cluster_id: u64,
    /// Revision of etcd at which all records were read; 0 if unknown.
    pub revision: i64,
    records: Vec<Record>,
}

/// A key that occurs twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {} occurs twice", shown(.0))]
pub struct DuplicateKey(pub Vec<u8>);

impl Dump {
    /// Accepts records in any order.
    ///
    /// # Errors
    /// If a key occurs twice.
    pub fn new(
        root: Root,
        cluster_id: u64,
        revision: i64,
        mut records: Vec<Record>,
    ) -> Result<Self, DuplicateKey> {
        if !records.is_sorted_by(|a, b| a.key() < b.key()) {
            records.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        }
        if let Some(pair) = records
            .windows(2)
            .find(|pair| pair[0].key() == pair[1].key())
        {
            return Err(DuplicateKey(pair[0].key().to_vec()));
        }
        Ok(Self {
            root,
            cluster_id,
            revision,
            records,
        })
    }

    /// All records, sorted by key.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Records whose key begins with `prefix`, sorted by key.
    #[must_use]
    pub fn under(&self, prefix: &str) -> &[Record] {
        let from = self
            .records
            .partition_point(|record| record.key() < prefix.as_bytes());
        let rest = &self.records[from..];
        &rest[..rest.partition_point(|record| record.key().starts_with(prefix.as_bytes()))]
    }

    /// The record with this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        self.records
            .binary_search_by(|record| (record.key()).cmp(key))
            .ok()
            .map(|at| &self.records[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(keys: &[&str]) -> Result<Dump, DuplicateKey> {
        let records = keys.iter().map(|key| Record::new(key, key, 1)).collect();
        Dump::new(Root::new("by-dev", "meta").unwrap(), 1, 1, records)
    }

    #[test]
    fn areas_are_found_and_do_not_overlap() {
        let dump = dump(&["b/1", "a/2", "a-b/1", "a/1", "c"]).unwrap();
        let keys: Vec<&[u8]> = dump.under("a/").iter().map(Record::key).collect();
        assert_eq!(keys, [b"a/1", b"a/2"]);
        assert!(dump.under("x/").is_empty());
        assert_eq!(dump.get(b"c").map(Record::value), Some(&b"c"[..]));
        assert!(dump.get(b"d").is_none());
    }

    #[test]
    fn a_key_that_occurs_twice_is_refused() {
        assert_eq!(
            dump(&["a", "b", "a"]).unwrap_err().to_string(),
            "key a occurs twice"
        );
    }
}
