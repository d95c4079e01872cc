//! Work on etcd as guarded transactions of bounded size.

use std::iter::Peekable;

use serde::{Deserialize, Serialize};

/// Operations in one transaction. etcd allows 128 by default, and counts compares separately; the
/// rest is for the compares of the lock and of the eight session prefixes.
pub const MAX_OPERATIONS: usize = 100;
/// Bytes of one transaction, including keys of compares. etcd allows 1.5 MiB by default. A single
/// operation that is larger gets its own transaction.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Upper bound of what protobuf and gRPC add to an operation and its compare.
const OVERHEAD: usize = 64;

/// A part of the work. A phase begins when all transactions of the previous phase are acknowledged;
/// within a phase their order does not matter, so several may be in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Writes keys that did not exist.
    Put,
    /// Writes keys again.
    Rewrite,
    /// Deletes keys.
    Delete,
}

/// The condition of an operation; if it is not met, another client wrote the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist (its version is 0).
    Absent,
    /// The key was last written at this revision.
    Revision(i64),
}

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'p> {
    /// Key, relative to the root.
    pub key: &'p [u8],
    /// The new value; `None` deletes the key.
    pub value: Option<&'p [u8]>,
    /// The condition on the old value.
    pub expect: Expect,
}

/// Operations of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'p> {
    /// What all operations do.
    pub phase: Phase,
    /// At least one, at most [`MAX_OPERATIONS`].
    pub operations: Vec<Operation<'p>>,
    /// Upper bound of the size of the transaction.
    pub bytes: usize,
}

/// Groups operations, sorted by phase, into batches.
pub(super) struct Batches<I: Iterator> {
    operations: Peekable<I>,
    prefix: usize,
}

impl<'p, I: Iterator<Item = (Phase, Operation<'p>)>> Batches<I> {
    /// `prefix`: bytes that the root adds to each key.
    pub(super) fn new(operations: I, prefix: usize) -> Self {
        Self {
            operations: operations.peekable(),
            prefix,
        }
    }
}

impl<'p, I: Iterator<Item = (Phase, Operation<'p>)>> Iterator for Batches<I> {
    type Item = Batch<'p>;

    fn next(&mut self) -> Option<Self::Item> {
        let (phase, first) = self.operations.next()?;
        let size = |operation: &Operation<'_>| {
            2 * (self.prefix + operation.key.len())
                + operation.value.map_or(0, <[u8]>::len)
                + OVERHEAD
        };
        let mut bytes = size(&first);
        let mut operations = vec![first];
        while operations.len() < MAX_OPERATIONS {
            let fits = |next: &(Phase, Operation<'p>)| {
                next.0 == phase && bytes + size(&next.1) <= MAX_BYTES
            };
            let Some((_, next)) = self.operations.next_if(fits) else {
                break;
            };
            bytes += size(&next);
            operations.push(next);
        }
        Some(Batch {
            phase,
            operations,
            bytes,
        })
    }
}
