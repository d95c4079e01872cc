//! The effect of a migration, as data: it can be printed, hashed, split into transactions and
//! compared with the current state.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use milvus_guard_core::evidence::MetadataState;

use super::{
    batch::{Batch, Batches, Expect, Operation, Phase},
    notes::{Notes, Problems},
    options::Options,
    record::{Dump, Record},
};

/// A key whose value changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite<'d> {
    /// The current record.
    pub record: &'d Record,
    /// Its value after the migration.
    pub value: Box<[u8]>,
}

/// What kind of record a migration writes or deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Live collections, whether or not their bytes change.
    Collections,
    /// Tombstones of collections.
    DroppedCollections,
    /// Records in the history of collections.
    CollectionHistory,
    /// Aliases, dropped ones included.
    Aliases,
    /// Records in the history of aliases.
    AliasHistory,
    /// Indexes of 2.2 that are written.
    Indexes,
    /// Indexes of segments of 2.2 that are written.
    SegmentIndexes,
    /// Those for segments below the index threshold, for which 2.1 built no index.
    UnbuiltSegmentIndexes,
    /// Loaded collections that are carried over.
    LoadedCollections,
    /// Loaded partitions that are carried over.
    LoadedPartitions,
}

/// A collection that 2.2 cannot load until it gets an index on its vector field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unloadable {
    /// Its id.
    pub collection_id: i64,
    /// Its name.
    pub name: String,
    /// Whether 2.1 has it, or partitions of it, loaded.
    pub is_loaded: bool,
}

/// Why no plan could be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The metadata is not in a state that can be migrated.
    #[error("{}", state_text(.0))]
    State(MetadataState),
    /// Timestamps and id counters would be part of the metadata.
    #[error(
        "the metadata has no separate sub-path under the root path, so it cannot be distinguished \
         from timestamps and id counters"
    )]
    NotApart,
    /// All records that cannot be migrated.
    #[error("metadata that cannot be migrated: {0}")]
    Records(Problems),
}

fn state_text(state: &MetadataState) -> String {
    match state {
        MetadataState::MixedSkipped => {
            "2.2 has already run on metadata that was never migrated; migrating it now may bring back \
             indexes that were replaced"
                .into()
        }
        MetadataState::PartialApply => "a migration of this tool was interrupted; it can only be resumed from its backup".into(),
        MetadataState::PartialCleaned => {
            "the official tool has deleted the old metadata and not written the new; restore a backup first".into()
        }
        MetadataState::PartialSaved => {
            "the official tool was interrupted while it wrote the new metadata; restore a backup first".into()
        }
        MetadataState::Unreadable(reason) => format!("the format of the metadata is unclear: {reason}"),
        other => format!("metadata in the state {other:?} needs no migration"),
    }
}

/// The effect of a migration. It borrows the records that it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<'d> {
    pub(super) source: &'d Dump,
    pub(super) options: Options,
    pub(super) state: MetadataState,
    pub(super) puts: Vec<Record>,
    pub(super) rewrites: Vec<Rewrite<'d>>,
    pub(super) deletes: Vec<&'d Record>,
    pub(super) notes: Notes,
    pub(super) counts: BTreeMap<Kind, u64>,
    pub(super) unloadable: Vec<Unloadable>,
}

impl<'d> Plan<'d> {
    /// The records that it was made from.
    #[must_use]
    pub const fn source(&self) -> &'d Dump {
        self.source
    }

    /// The options that it was made with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Format of the metadata that it was made from.
    #[must_use]
    pub const fn state(&self) -> &MetadataState {
        &self.state
    }

    /// Records that are new, sorted by key.
    #[must_use]
    pub fn puts(&self) -> &[Record] {
        &self.puts
    }

    /// Keys whose value changes, sorted.
    #[must_use]
    pub fn rewrites(&self) -> &[Rewrite<'d>] {
        &self.rewrites
    }

    /// Records that are deleted, sorted by key.
    #[must_use]
    pub fn deletes(&self) -> &[&'d Record] {
        &self.deletes
    }

    /// Notes about single keys.
    #[must_use]
    pub const fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Number of records of each kind.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// Collections that 2.2 cannot load until they get an index, by id.
    #[must_use]
    pub fn unloadable(&self) -> &[Unloadable] {
        &self.unloadable
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.puts.len() + self.rewrites.len() + self.deletes.len()
    }

    /// sha256 of all operations, in hexadecimal. Equal metadata and options have equal digests,
    /// independent of root and revision.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sha.update((bytes.len() as u64).to_le_bytes());
            sha.update(bytes);
        };
        for put in &self.puts {
            field(b"put");
            field(put.key());
            field(put.value());
        }
        for rewrite in &self.rewrites {
            field(b"rewrite");
            field(rewrite.record.key());
            field(&rewrite.value);
        }
        for record in &self.deletes {
            field(b"delete");
            field(record.key());
        }
        super::hexadecimal(&sha.finalize())
    }

    /// All operations as guarded transactions: puts, then rewrites, then deletes. The guards are
    /// the revisions of the records that the plan was made from. A plan from a backup is carried
    /// out by [`Plan::remaining`], with the current revisions.
    pub fn batches(&self) -> impl Iterator<Item = Batch<'_>> {
        let puts = self.puts.iter().map(|record| (Phase::Put, put(record)));
        let rewrites = self.rewrites.iter().map(|rewrite| {
            (
                Phase::Rewrite,
                rewrite.operation(rewrite.record.mod_revision),
            )
        });
        let deletes = self
            .deletes
            .iter()
            .map(|record| (Phase::Delete, delete(record, record.mod_revision)));
        Batches::new(
            puts.chain(rewrites).chain(deletes),
            self.source.root.prefix().len(),
        )
    }
}

impl Rewrite<'_> {
    pub(super) fn operation(&self, revision: i64) -> Operation<'_> {
        Operation {
            key: self.record.key(),
            value: Some(&self.value),
            expect: Expect::Revision(revision),
        }
    }
}

pub(super) fn put(record: &Record) -> Operation<'_> {
    Operation {
        key: record.key(),
        value: Some(record.value()),
        expect: Expect::Absent,
    }
}

pub(super) fn delete(record: &Record, revision: i64) -> Operation<'_> {
    Operation {
        key: record.key(),
        value: None,
        expect: Expect::Revision(revision),
    }
}
