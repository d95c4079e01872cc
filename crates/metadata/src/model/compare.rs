//! A plan compared with the current state: what is done, what is left, what other clients changed.

use std::{fmt, iter::Peekable};

use super::{
    batch::{Batch, Batches, Phase},
    key_outcome::{KeyOutcome, KeyOutcomes},
    keys::shown,
    plan::{Plan, delete, put},
    record::{Dump, StoredRecord},
};

impl<'d> Plan<'d> {
    /// Compares with the current state, which is passed record by record.
    #[must_use]
    pub fn comparison(&self) -> Comparison<'_, 'd> {
        Comparison::new(self)
    }

    /// What is left of this plan, if some of it may have been done.
    ///
    /// # Errors
    /// If a key has neither its old nor its planned value, because another client wrote it.
    pub fn remaining(&self, current: &Dump) -> Result<Remaining<'_, 'd>, ForeignChanges> {
        let mut comparison = self.comparison();
        for record in current.records() {
            comparison.see(record.standing());
        }
        comparison.finish()
    }
}

/// Maximum number of foreign changes that are kept with their keys; the rest are only counted.
const KEPT: usize = 20;

/// Reads the current state record by record, in the order of keys, so that it need not fit in
/// memory.
pub struct Comparison<'p, 'd> {
    plan: &'p Plan<'d>,
    fates: Peekable<KeyOutcomes<'p, 'd>>,
    remaining: Remaining<'p, 'd>,
    foreign: ForeignChanges,
}

/// What is left to do of a plan.
#[derive(Clone, Debug)]
pub struct Remaining<'p, 'd> {
    plan: &'p Plan<'d>,
    puts: Vec<usize>,
    rewrites: Vec<(usize, i64)>,
    deletes: Vec<(usize, i64)>,
}

/// The change of a key by another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The key has neither its old nor its planned value.
    Changed,
    /// The key no longer exists, although the plan does not delete it.
    Vanished,
    /// The key is new, although the plan does not write it.
    Appeared,
}

/// Keys that another client changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignChanges {
    kept: Vec<(Box<[u8]>, Foreign)>,
    total: u64,
}

impl<'p, 'd> Comparison<'p, 'd> {
    pub(super) fn new(plan: &'p Plan<'d>) -> Self {
        let remaining = Remaining {
            plan,
            puts: Vec::new(),
            rewrites: Vec::new(),
            deletes: Vec::new(),
        };
        Self {
            plan,
            fates: plan.fates().peekable(),
            remaining,
            foreign: ForeignChanges::default(),
        }
    }

    /// Takes the next record. Records must be sorted by key; sessions and keys with a lease are
    /// skipped.
    pub fn see(&mut self, standing: StoredRecord<'_>) {
        if !standing.is_metadata() {
            return;
        }
        let StoredRecord {
            key,
            value,
            mod_revision,
            ..
        } = standing;
        while let Some((missing, fate)) = self.fates.next_if(|(next, _)| *next < key) {
            self.missing(missing, fate);
        }
        let Some((_, fate)) = self.fates.next_if(|(next, _)| *next == key) else {
            self.foreign.add(key, Foreign::Appeared);
            return;
        };
        match fate {
            KeyOutcome::Keep(old) if value == old => {}
            KeyOutcome::Put { new, .. } | KeyOutcome::Rewrite { new, .. } if value == new => {}
            KeyOutcome::Rewrite { at, old, .. } if value == old => {
                self.remaining.rewrites.push((at, mod_revision));
            }
            KeyOutcome::Delete { at, old } if value == old => {
                self.remaining.deletes.push((at, mod_revision));
            }
            _ => self.foreign.add(key, Foreign::Changed),
        }
    }

    fn missing(&mut self, key: &[u8], fate: KeyOutcome<'_>) {
        match fate {
            KeyOutcome::Put { at, .. } => self.remaining.puts.push(at),
            KeyOutcome::Delete { .. } => {}
            KeyOutcome::Keep(_) | KeyOutcome::Rewrite { .. } => {
                self.foreign.add(key, Foreign::Vanished);
            }
        }
    }

    /// What is left, after the last record.
    ///
    /// # Errors
    /// If another client changed a key.
    pub fn finish(mut self) -> Result<Remaining<'p, 'd>, ForeignChanges> {
        while let Some((missing, fate)) = self.fates.next() {
            self.missing(missing, fate);
        }
        debug_assert!(std::ptr::eq(self.plan, self.remaining.plan));
        if self.foreign.total == 0 {
            Ok(self.remaining)
        } else {
            Err(self.foreign)
        }
    }
}

impl Remaining<'_, '_> {
    /// Whether the plan is done: the current state is exactly its end state.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of operations that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.puts.len() + self.rewrites.len() + self.deletes.len()
    }

    /// Number of deletions that are left.
    #[must_use]
    pub fn deletes(&self) -> usize {
        self.deletes.len()
    }

    /// The operations that are left, as guarded transactions: puts, then rewrites, then deletes.
    pub fn batches(&self) -> impl Iterator<Item = Batch<'_>> {
        let plan = self.plan;
        let puts = self
            .puts
            .iter()
            .map(|at| (Phase::Put, put(&plan.puts[*at])));
        let rewrites = self
            .rewrites
            .iter()
            .map(|(at, revision)| (Phase::Rewrite, plan.rewrites[*at].operation(*revision)));
        let deletes = self
            .deletes
            .iter()
            .map(|(at, revision)| (Phase::Delete, delete(plan.deletes[*at], *revision)));
        Batches::new(
            puts.chain(rewrites).chain(deletes),
            plan.source.root.prefix().len(),
        )
    }
}

impl ForeignChanges {
    fn add(&mut self, key: &[u8], what: Foreign) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push((key.into(), what));
        }
    }

    /// The first foreign changes: relative keys and what happened.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Foreign)> {
        self.kept.iter().map(|(key, what)| (&**key, *what))
    }

    /// Number of foreign changes.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

impl fmt::Display for ForeignChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another client changed the metadata:")?;
        for (position, (key, what)) in self.iter().enumerate() {
            let what = match what {
                Foreign::Changed => "has an unexpected value",
                Foreign::Vanished => "was deleted",
                Foreign::Appeared => "is new",
            };
            write!(
                f,
                "{} {} {what}",
                if position == 0 { "" } else { ";" },
                shown(key)
            )?;
        }
        let kept = self.kept.len() as u64;
        if self.total > kept {
            write!(f, "; and {} more", self.total - kept)
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for ForeignChanges {}
