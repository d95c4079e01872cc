//! The restore of a backup: missing or changed records are written, records of 2.2 are deleted.

use std::iter::Peekable;

use super::{
    batch::{Batch, Batches, Expect, Operation, Phase},
    diff::{Action, Change},
    loss::{self, Losses},
    record::{Dump, Record},
};

/// Counter of server ids. It is never decreased, so that no server gets a number that another
/// server has had.
const SERVER_IDS: &str = "session/id";

/// Maximum number of foreign keys that are kept by name; the rest are only counted.
const KEPT_FOREIGN: usize = 20;

/// Where Milvus stores its metadata. A key in one of these areas that is not in the backup was
/// written after it, and is deleted. A key elsewhere is not Milvus', and is kept. The official
/// rollback does not delete most of them.
const AREAS: [&str; 11] = [
    "root-coord/",
    "snapshots/",
    "indexes/",
    "field-index/",
    "segment-index/",
    "datacoord-meta/",
    "channelwatch/",
    "flushed-segment/",
    "importtask/",
    "queryCoord-",
    "querycoord-",
];

/// The effect of a restore. It borrows the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan<'b> {
    prefix: usize,
    puts: Vec<&'b Record>,
    rewrites: Vec<(&'b Record, i64)>,
    deletes: Vec<(Box<[u8]>, i64)>,
    losses: Losses,
    foreign: Vec<Box<[u8]>>,
    foreign_total: u64,
}

/// Reads the current state record by record, in the order of keys, so that it need not fit in
/// memory.
pub struct Restorer<'b> {
    backup: &'b Dump,
    saved: Peekable<std::slice::Iter<'b, Record>>,
    plan: RestorePlan<'b>,
}

/// Plans the restore of `backup` from the current state. Their roots may differ: keys are relative.
#[must_use]
pub fn restore<'b>(backup: &'b Dump, current: &Dump) -> RestorePlan<'b> {
    let mut restorer = Restorer::new(backup);
    for record in current.records() {
        restorer.see(record);
    }
    restorer.finish()
}

impl<'b> Restorer<'b> {
    /// Begins before the first record.
    #[must_use]
    pub fn new(backup: &'b Dump) -> Self {
        let plan = RestorePlan {
            prefix: backup.root.prefix().len(),
            puts: Vec::new(),
            rewrites: Vec::new(),
            deletes: Vec::new(),
            losses: Losses::default(),
            foreign: Vec::new(),
            foreign_total: 0,
        };
        Self {
            backup,
            saved: backup.records().iter().peekable(),
            plan,
        }
    }

    /// Takes the next record. Records must be sorted by key; keys with a lease are skipped.
    pub fn see(&mut self, record: &Record) {
        if record.leased {
            return;
        }
        while let Some(missing) = self.saved.next_if(|saved| saved.key() < record.key()) {
            self.missing(missing);
        }
        let saved = self.saved.next_if(|saved| saved.key() == record.key());
        if record.is_session() && saved.is_none_or(|saved| !is_later(saved, record)) {
            return;
        }
        if saved.is_none_or(|saved| saved.value() != record.value())
            && let Some(loss) = loss::of(self.backup, record)
        {
            self.plan.losses.add(loss);
        }
        match saved {
            Some(saved) if saved.value() == record.value() => {}
            Some(saved) => self.plan.rewrites.push((saved, record.mod_revision)),
            None if AREAS
                .iter()
                .any(|area| record.key().starts_with(area.as_bytes())) =>
            {
                self.plan
                    .deletes
                    .push((record.key().into(), record.mod_revision));
            }
            None => {
                self.plan.foreign_total += 1;
                if self.plan.foreign.len() < KEPT_FOREIGN {
                    self.plan.foreign.push(record.key().into());
                }
            }
        }
    }

    fn missing(&mut self, saved: &'b Record) {
        let is_other_session = saved.is_session() && saved.key() != SERVER_IDS.as_bytes();
        if !saved.leased && !is_other_session {
            self.plan.puts.push(saved);
        }
    }

    /// The plan, after the last record.
    #[must_use]
    pub fn finish(mut self) -> RestorePlan<'b> {
        while let Some(missing) = self.saved.next() {
            self.missing(missing);
        }
        self.plan
    }
}

/// Whether a saved session key must be written over the current one: only the counter of server
/// ids, if the saved one is higher.
fn is_later(saved: &Record, current: &Record) -> bool {
    let number = |record: &Record| {
        std::str::from_utf8(record.value())
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
    };
    saved.key() == SERVER_IDS.as_bytes() && number(saved) > number(current)
}

impl<'b> RestorePlan<'b> {
    /// Records that are missing.
    #[must_use]
    pub fn puts(&self) -> &[&'b Record] {
        &self.puts
    }

    /// Records that have another value now, each with the revision of that value.
    #[must_use]
    pub fn rewrites(&self) -> &[(&'b Record, i64)] {
        &self.rewrites
    }

    /// Relative keys that are deleted, each with the revision at which it was last written.
    #[must_use]
    pub fn deletes(&self) -> &[(Box<[u8]>, i64)] {
        &self.deletes
    }

    /// What was created or changed in 2.2 since the backup, and would be lost.
    #[must_use]
    pub const fn would_lose(&self) -> &Losses {
        &self.losses
    }

    /// Keys that are not in the backup and not Milvus', so that they are kept: the first ones,
    /// relative.
    #[must_use]
    pub fn foreign(&self) -> &[Box<[u8]>] {
        &self.foreign
    }

    /// Number of these keys.
    #[must_use]
    pub const fn foreign_total(&self) -> u64 {
        self.foreign_total
    }

    /// Whether the current state is that of the backup already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.puts.len() + self.rewrites.len() + self.deletes.len()
    }

    /// Every key that changes, for a dry run: puts, then rewrites, then deletes. Current values are
    /// not kept.
    pub fn diff(&self) -> impl Iterator<Item = Change<'_>> {
        let puts = self.puts.iter().map(|record| change(Action::Add, record));
        let rewrites = self
            .rewrites
            .iter()
            .map(|(record, _)| change(Action::Change, record));
        let deletes = self.deletes.iter().map(|(key, _)| Change {
            action: Action::Remove,
            key,
            before: None,
            after: None,
        });
        puts.chain(rewrites).chain(deletes)
    }

    /// All operations as guarded transactions: puts, then rewrites, then deletes.
    pub fn batches(&self) -> impl Iterator<Item = Batch<'_>> {
        let puts = self
            .puts
            .iter()
            .map(|record| (Phase::Put, write(record, Expect::Absent)));
        let rewrites = self
            .rewrites
            .iter()
            .map(|(record, revision)| (Phase::Rewrite, write(record, Expect::Revision(*revision))));
        let deletes = self.deletes.iter().map(|(key, revision)| {
            (
                Phase::Delete,
                Operation {
                    key,
                    value: None,
                    expect: Expect::Revision(*revision),
                },
            )
        });
        Batches::new(puts.chain(rewrites).chain(deletes), self.prefix)
    }
}

fn change(action: Action, record: &Record) -> Change<'_> {
    Change {
        action,
        key: record.key(),
        before: None,
        after: Some(record.value()),
    }
}

fn write(record: &Record, expect: Expect) -> Operation<'_> {
    Operation {
        key: record.key(),
        value: Some(record.value()),
        expect,
    }
}
