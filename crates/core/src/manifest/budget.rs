//! What may be built from one input. The size of a text says little about that: two bytes of it can
//! become a value of a hundred, and an anchor a thousand values.
//!
//! The bounds lie far above what charts and clusters hold, and low enough that one input stays
//! below 100 MiB for any input. The largest manifest of Milvus' own charts (3.2.18) has 53
//! documents, 133 KB and 4,500 values, 340 of them in one document.

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
    #[error("it is too large to check (more than {0} values)")]
    Values(usize),
    /// Too much text in one piece.
    #[error("it is too large to check (more than {} MiB in one document)", .0 / (1024 * 1024))]
    Document(usize),
    /// Too much text of interest.
    #[error("it is too large to check (more than {} MiB of objects that a rule may look at)", .0 / (1024 * 1024))]
    Read(usize),
    /// Too many objects.
    #[error("it is too large to check (more than {0} documents or hooks)")]
    Objects(usize),
    /// More to compare than there is time for.
    #[error("it is too large to check (too many names to look for in too much text)")]
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
    /// A budget for inputs that unpack to no more than [`SMALL_INPUT_BYTES`]; what is larger needs
    /// a separate room.
    #[must_use]
    pub fn small() -> Self {
        Self {
            unpacked: SMALL_INPUT_BYTES,
            ..Self::default()
        }
    }

    /// The same, that ends when the time is over.
    #[must_use]
    pub fn until(self, overdue: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            overdue: Some(overdue),
            ..self
        }
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
        let left = self
            .values
            .get()
            .checked_sub(count)
            .ok_or(Exceeded::Values(MAX_INPUT_VALUES))?;
        self.values.set(left);
        if let Some(left) = self.until_look.get().checked_sub(count) {
            self.until_look.set(left);
            return Ok(());
        }
        self.until_look.set(PACE);
        self.time()
    }

    /// Takes the room of some objects.
    ///
    /// # Errors
    /// Where there is none left, or no time.
    pub fn objects(&self, count: usize) -> Result<(), Exceeded> {
        let left = self
            .objects
            .get()
            .checked_sub(count)
            .ok_or(Exceeded::Objects(MAX_OBJECTS))?;
        self.objects.set(left);
        self.time()
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// Where the time is over.
    pub fn time(&self) -> Result<(), Exceeded> {
        if self.overdue.is_some_and(|overdue| overdue()) {
            Err(Exceeded::Time)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Tree, documents_within, node::Kind};

    #[test]
    fn a_spent_budget_is_not_available_again_and_time_is_checked() {
        let budget = Budget::default();
        assert_eq!(budget.values(MAX_INPUT_VALUES - 1), Ok(()));
        assert_eq!(budget.values(1), Ok(()));
        assert_eq!(budget.values(1), Err(Exceeded::Values(MAX_INPUT_VALUES)));
        assert_eq!(
            Budget::default().objects(MAX_OBJECTS + 1),
            Err(Exceeded::Objects(MAX_OBJECTS))
        );
        let late = Budget::small().until(&|| true);
        assert_eq!(
            (late.values(1), late.values(PACE)),
            (Ok(()), Err(Exceeded::Time))
        );
        assert_eq!(late.objects(1), Err(Exceeded::Time));
    }

    /// Values of a tree, keys included.
    fn values(node: &Tree<'_>) -> usize {
        match &node.kind {
            Kind::Scalar { .. } => 1,
            Kind::Sequence(items) => 1 + items.iter().map(values).sum::<usize>(),
            Kind::Mapping(entries) => {
                1 + entries
                    .iter()
                    .map(|(_, value)| 1 + values(value))
                    .sum::<usize>()
            }
        }
    }

    /// Texts that are small for what they build, of any size.
    fn bomb() -> impl Strategy<Value = String> {
        let size = || 1..150_000_usize;
        prop_oneof![
            size().prop_map(|n| format!("a: [{}]\n", "1,".repeat(n))),
            size().prop_map(|n| format!(
                "a: {{{}}}\n",
                (0..n).map(|n| format!("{n:x}: , ")).collect::<String>()
            )),
            size().prop_map(|n| "- \"\"\n".repeat(n)),
            size().prop_map(|n| "---\na\n".repeat(n)),
            (1..120_usize, 1..2_000_usize).prop_map(|(depth, n)| {
                let open: String = (0..depth).map(|n| format!("&a{n} [")).collect();
                format!("{open}{}{}\n", "1,".repeat(n), "]".repeat(depth))
            }),
            (1..1_000_usize, 1..1_000_usize, 1..20_usize).prop_map(|(n, times, documents)| {
                let aliases: String = (0..times).map(|n| format!("b{n}: *a\n")).collect();
                format!("---\na: &a [{}]\n{aliases}", "1,".repeat(n)).repeat(documents)
            }),
            (1..3_000_usize).prop_map(|n| (1..n).fold("a0: &a0 {k: 1}\n".to_owned(), |all, n| {
                all + &format!("a{n}: &a{n} {{<<: *a{}, k{n}: 1}}\n", n - 1)
            })),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn no_text_builds_more_than_its_budget(text in bomb()) {
            let budget = Budget::default();
            let (mut largest, mut all) = (0, 0);
            for document in documents_within(&text, &budget) {
                match document {
                    Ok(document) => {
                        let values = values(&document.root);
                        largest = largest.max(values);
                        all += values;
                    }
                    Err(error) => prop_assert!(error.exceeded.is_some() || error.message.contains("expand"), "{error}"),
                }
            }
            prop_assert!(largest <= MAX_VALUES && all <= MAX_INPUT_VALUES, "{largest} {all}");
        }

        #[test]
        fn no_json_builds_more_than_its_budget(count in 1..200_000_usize, shape in 0..3_u8) {
            let text = match shape {
                0 => format!("[{}1]", "1,".repeat(count)),
                1 => format!("{{{}\"e\":1}}", (0..count).map(|n| format!("\"{n}\":1,")).collect::<String>()),
                _ => format!("[{}0]", "{},".repeat(count)),
            };
            match serde_json::from_str::<Tree<'_>>(&text) {
                Ok(tree) => prop_assert!(values(&tree) <= MAX_VALUES),
                Err(error) => {
                    prop_assert!(count * 2 >= MAX_VALUES && error.to_string().contains("too large to check"), "{error}");
                }
            }
        }
    }
}
