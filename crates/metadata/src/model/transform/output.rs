//! Collects and sorts the parts of a plan.

use std::collections::BTreeMap;

use prost::Message;

use milvus_guard_core::evidence::MetadataState;

use crate::model::{
    keys::TOMBSTONE,
    notes::{NoteKind, Notes, Problems},
    options::{Deviation, Options},
    plan::{Kind, Plan, PlanError, Rewrite, Unloadable},
    record::{Dump, Record},
};

pub(super) struct Output<'d> {
    pub(super) dump: &'d Dump,
    pub(super) options: Options,
    pub(super) puts: Vec<Record>,
    pub(super) rewrites: Vec<Rewrite<'d>>,
    pub(super) deletes: Vec<&'d Record>,
    pub(super) notes: Notes,
    pub(super) problems: Problems,
    counts: BTreeMap<Kind, u64>,
}

impl<'d> Output<'d> {
    pub(super) fn new(dump: &'d Dump, options: &Options) -> Self {
        Self {
            dump,
            options: options.clone(),
            puts: Vec::new(),
            rewrites: Vec::new(),
            deletes: Vec::new(),
            notes: Notes::default(),
            problems: Problems::default(),
            counts: BTreeMap::new(),
        }
    }

    pub(super) fn does(&self, deviation: Deviation) -> bool {
        self.options.has(deviation)
    }

    pub(super) fn count(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    pub(super) fn note(&mut self, record: &Record, kind: NoteKind) {
        self.notes.add(record.key(), kind);
    }

    pub(super) fn problem(&mut self, record: &Record, what: impl Into<String>) {
        self.problems.add(record.key(), what);
    }

    pub(super) fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.puts.push(Record::new(key, value, 0));
    }

    pub(super) fn decode<M: Message + Default>(&mut self, record: &Record) -> Option<M> {
        match M::decode(record.value()) {
            Ok(message) => Some(message),
            Err(error) => {
                self.problem(record, format!("it is not a valid record ({error})"));
                None
            }
        }
    }

    /// The plan, if every record could be migrated.
    pub(super) fn finish(
        mut self,
        state: MetadataState,
        unloadable: Vec<Unloadable>,
    ) -> Result<Plan<'d>, PlanError> {
        self.order_puts();
        self.rewrites
            .sort_unstable_by(|a, b| a.record.key().cmp(b.record.key()));
        self.deletes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        // A lease may expire at any time, and its keys are in no backup.
        for record in self
            .rewrites
            .iter()
            .map(|rewrite| rewrite.record)
            .chain(self.deletes.iter().copied())
        {
            if record.leased {
                self.problems.add(
                    record.key(),
                    "it is bound to a lease, which Milvus never uses for such a key",
                );
            }
        }
        if !self.problems.is_empty() {
            return Err(PlanError::Records(self.problems));
        }
        Ok(Plan {
            source: self.dump,
            options: self.options,
            state,
            puts: self.puts,
            rewrites: self.rewrites,
            deletes: self.deletes,
            notes: self.notes,
            counts: self.counts,
            unloadable,
        })
    }

    /// Sorts the puts, each key once, and turns those of keys that exist already (2.2 has run) into
    /// rewrites.
    fn order_puts(&mut self) {
        // Stable sort: of puts with one key the last one counts, as with the official tool.
        self.puts.sort_by(|a, b| a.key().cmp(b.key()));
        let is_strict = !self.does(Deviation::UniqueBuildIds);
        let (problems, notes) = (&mut self.problems, &mut self.notes);
        self.puts.dedup_by(|next, kept| {
            let is_same = next.key() == kept.key();
            if is_same && next.value() != kept.value() {
                if is_strict {
                    notes.add(kept.key(), NoteKind::Replaced);
                } else {
                    problems.add(kept.key(), "two different records of 2.1 map to this key");
                }
                std::mem::swap(next, kept);
            }
            is_same
        });
        if !self.options.force_mixed {
            return;
        }
        let dump = self.dump;
        let rewrites = &mut self.rewrites;
        self.puts.retain(|put| {
            let Some(record) = dump.get(put.key()) else {
                return true;
            };
            if record.value() != put.value() {
                rewrites.push(Rewrite {
                    record,
                    value: put.value().into(),
                });
            }
            false
        });
    }
}

pub(super) fn is_tombstone(record: &Record) -> bool {
    record.value() == TOMBSTONE
}
