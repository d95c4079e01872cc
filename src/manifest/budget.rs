//! What may be built from one input. The size of a text says little about that: two bytes of it can become a value of a
//! hundred, and an anchor a thousand values.
//!
//! The bounds lie far above what charts and clusters hold (the largest release of Milvus' own charts has about 16,000 values
//! in its manifest), and low enough that one input stays below 100 MiB whatever it says.

use std::cell::Cell;

/// Values of one document, keys and copies by anchors included.
pub const MAX_VALUES: usize = 100_000;
/// Values of all documents of one input.
pub const MAX_INPUT_VALUES: usize = 1_000_000;
/// Bytes of one document. The API server takes no object of more than 3 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of all documents of one input that a rule may look at.
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;
/// Documents and objects of one input.
pub const MAX_OBJECTS: usize = 10_000;
/// Bytes that are unpacked for a caller who may not take the room of a large input.
pub const SMALL_INPUT_BYTES: usize = 4 * 1024 * 1024;

/// Values between two looks at the clock.
const PACE: usize = 4096;

/// A budget that an input does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Too many values.
    #[error("it is too large to judge (more than {0} values)")]
    Values(usize),
    /// Too much text in one piece.
    #[error("it is too large to judge (more than {} MiB in one document)", .0 / (1024 * 1024))]
    Document(usize),
    /// Too much text of interest.
    #[error("it is too large to judge (more than {} MiB of objects that a rule may look at)", .0 / (1024 * 1024))]
    Read(usize),
    /// Too many objects.
    #[error("it is too large to judge (more than {0} documents or hooks)")]
    Objects(usize),
    /// More to compare than there is time for.
    #[error("it is too large to judge (too many names to look for in too much text)")]
    Names,
    /// The time for an answer is over.
    #[error("the time limit was reached while it was read")]
    Time,
}

/// What is left of the budget of one input.
pub struct Budget<'a> {
    unpacked: usize,
    values: Cell<usize>,
    objects: Cell<usize>,
    until_look: Cell<usize>,
    overdue: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl Default for Budget<'_> {
    /// The whole budget, without a time limit.
    fn default() -> Self {
        Self {
            unpacked: usize::MAX,
            values: Cell::new(MAX_INPUT_VALUES),
            objects: Cell::new(MAX_OBJECTS),
            until_look: Cell::new(PACE),
            overdue: None,
        }
    }
}

impl<'a> Budget<'a> {
    /// A budget for inputs that unpack to no more than [`SMALL_INPUT_BYTES`]; what is larger needs a room of its own.
    #[must_use]
    pub fn small() -> Self {
        Self { unpacked: SMALL_INPUT_BYTES, ..Self::default() }
    }

    /// The same, that ends when the time is over.
    #[must_use]
    pub fn until(self, overdue: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { overdue: Some(overdue), ..self }
    }

    /// Bytes that may be unpacked.
    #[must_use]
    pub const fn unpacked(&self) -> usize {
        self.unpacked
    }

    /// Takes the room of some values.
    ///
    /// # Errors
    /// Where there is none left, or no time.
    pub fn values(&self, count: usize) -> Result<(), Exceeded> {
        let left = self.values.get().checked_sub(count).ok_or(Exceeded::Values(MAX_INPUT_VALUES))?;
        self.values.set(left);
        match self.until_look.get().checked_sub(count) {
            Some(left) => {
                self.until_look.set(left);
                Ok(())
            }
            None => {
                self.until_look.set(PACE);
                self.time()
            }
        }
    }

    /// Takes the room of some objects.
    ///
    /// # Errors
    /// Where there is none left, or no time.
    pub fn objects(&self, count: usize) -> Result<(), Exceeded> {
        let left = self.objects.get().checked_sub(count).ok_or(Exceeded::Objects(MAX_OBJECTS))?;
        self.objects.set(left);
        self.time()
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// Where the time is over.
    pub fn time(&self) -> Result<(), Exceeded> {
        if self.overdue.is_some_and(|overdue| overdue()) { Err(Exceeded::Time) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_time_is_looked_at() {
        let budget = Budget::default();
        assert_eq!(budget.values(MAX_INPUT_VALUES - 1), Ok(()));
        assert_eq!(budget.values(1), Ok(()));
        assert_eq!(budget.values(1), Err(Exceeded::Values(MAX_INPUT_VALUES)));
        assert_eq!(Budget::default().objects(MAX_OBJECTS + 1), Err(Exceeded::Objects(MAX_OBJECTS)));
        let late = Budget::small().until(&|| true);
        assert_eq!((late.values(1), late.values(PACE)), (Ok(()), Err(Exceeded::Time)));
        assert_eq!(late.objects(1), Err(Exceeded::Time));
    }
}
