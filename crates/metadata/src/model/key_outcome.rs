//! The outcome for each key: of all old and planned keys, sorted.

use super::{plan::Plan, record::Record};

impl<'d> Plan<'d> {
    /// The content of etcd below the root after the migration, sorted by key, without sessions and
    /// keys with a lease.
    pub fn end_state(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fates()
            .filter_map(|(key, fate)| Some((key, fate.after()?)))
    }

    /// The outcome for each key, sorted.
    pub(super) fn fates(&self) -> KeyOutcomes<'_, 'd> {
        KeyOutcomes::new(self)
    }
}

/// The outcome for one key. Numbers are positions in the plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyOutcome<'p> {
    Keep(&'p [u8]),
    Put {
        at: usize,
        new: &'p [u8],
    },
    Rewrite {
        at: usize,
        old: &'p [u8],
        new: &'p [u8],
    },
    Delete {
        at: usize,
        old: &'p [u8],
    },
}

impl<'p> KeyOutcome<'p> {
    /// The value after the migration, if there is one.
    pub(super) const fn after(self) -> Option<&'p [u8]> {
        match self {
            Self::Keep(value) | Self::Put { new: value, .. } | Self::Rewrite { new: value, .. } => {
                Some(value)
            }
            Self::Delete { .. } => None,
        }
    }

    /// The value after everything is written and before anything is deleted.
    pub(super) const fn written(self) -> &'p [u8] {
        match self {
            Self::Keep(value)
            | Self::Put { new: value, .. }
            | Self::Rewrite { new: value, .. }
            | Self::Delete { old: value, .. } => value,
        }
    }
}

/// Every key with its outcome, sorted. Sessions and keys with a lease are skipped.
#[derive(Clone)]
pub(super) struct KeyOutcomes<'p, 'd> {
    plan: &'p Plan<'d>,
    records: std::slice::Iter<'d, Record>,
    next: Option<&'d Record>,
    put: usize,
    rewrite: usize,
    delete: usize,
}

impl<'p, 'd> KeyOutcomes<'p, 'd> {
    pub(super) fn new(plan: &'p Plan<'d>) -> Self {
        let mut fates = Self {
            plan,
            records: plan.source.records().iter(),
            next: None,
            put: 0,
            rewrite: 0,
            delete: 0,
        };
        fates.advance();
        fates
    }

    fn advance(&mut self) {
        self.next = self.records.by_ref().find(|record| record.is_metadata());
    }
}

impl<'p, 'd: 'p> Iterator for KeyOutcomes<'p, 'd> {
    type Item = (&'p [u8], KeyOutcome<'p>);

    fn next(&mut self) -> Option<Self::Item> {
        let plan = self.plan;
        let put = plan.puts.get(self.put);
        let Some(record) = self
            .next
            .filter(|record| put.is_none_or(|put| record.key() < put.key()))
        else {
            let put = put?;
            self.put += 1;
            return Some((
                put.key(),
                KeyOutcome::Put {
                    at: self.put - 1,
                    new: put.value(),
                },
            ));
        };
        self.advance();
        let (key, old) = (record.key(), record.value());
        if let Some(rewrite) = plan
            .rewrites
            .get(self.rewrite)
            .filter(|rewrite| rewrite.record.key() == key)
        {
            self.rewrite += 1;
            return Some((
                key,
                KeyOutcome::Rewrite {
                    at: self.rewrite - 1,
                    old,
                    new: &rewrite.value,
                },
            ));
        }
        if plan
            .deletes
            .get(self.delete)
            .is_some_and(|delete| delete.key() == key)
        {
            self.delete += 1;
            return Some((
                key,
                KeyOutcome::Delete {
                    at: self.delete - 1,
                    old,
                },
            ));
        }
        Some((key, KeyOutcome::Keep(old)))
    }
}
