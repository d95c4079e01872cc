//! The part of a plan that remains: all of it, or what an earlier process did not complete.

use crate::model::{Plan, batch::Batch, compare::Remaining};

/// The part of a plan that remains.
#[derive(Clone, Copy)]
pub(super) enum Work<'p, 'd> {
    /// All of it, on the metadata that it was made from.
    All(&'p Plan<'d>),
    /// The part that an earlier process did not complete.
    Left(&'p Plan<'d>, &'p Remaining<'p, 'd>),
}

impl<'p, 'd> Work<'p, 'd> {
    pub(super) const fn plan(self) -> &'p Plan<'d> {
        match self {
            Self::All(plan) | Self::Left(plan, _) => plan,
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Self::All(plan) => plan.len(),
            Self::Left(_, remaining) => remaining.len(),
        }
    }

    pub(super) fn deletes(self) -> usize {
        match self {
            Self::All(plan) => plan.deletes().len(),
            Self::Left(_, remaining) => remaining.deletes(),
        }
    }

    pub(super) fn batches(self) -> Box<dyn Iterator<Item = Batch<'p>> + Send + 'p> {
        match self {
            Self::All(plan) => Box::new(plan.batches()),
            Self::Left(_, remaining) => Box::new(remaining.batches()),
        }
    }
}

/// How it was checked that everything is written.
pub(super) enum Written<'p, 'd> {
    /// By reading what was written, and by the proof that nothing else has changed.
    AsPlanned,
    /// By a full comparison; this is the part that is left.
    Compared(Remaining<'p, 'd>),
}
