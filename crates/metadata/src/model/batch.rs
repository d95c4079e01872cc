//! Work on etcd as guarded transactions of bounded size.

use std::iter::Peekable;

use serde::{Deserialize, Serialize};

/// Operations in one transaction. etcd allows 128 unless told otherwise, compares counted apart;
/// the rest is for the compares of the lock and of the eight session prefixes.
pub const MAX_OPERATIONS: usize = 100;
/// Bytes of one transaction, keys of compares included. etcd allows 1.5 MiB unless told otherwise.
/// A single operation that is larger stands alone.
pub const MAX_BYTES: usize = 1024 * 1024;
/// What protobuf and gRPC add to an operation and its compare; generous.
const OVERHEAD: usize = 64;

/// What a part of the work does. A phase begins when all transactions of the one before are
/// acknowledged; within a phase their order does not matter, so that several may be in progress.
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

/// What must be so for an operation to be made; otherwise someone else was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist (its version is 0).
    Absent,
    /// The key was last written at this revision.
    Revision(i64),
}

/// One change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'p> {
    /// Key, relative to the root.
    pub key: &'p [u8],
    /// What to write; nothing deletes.
    pub value: Option<&'p [u8]>,
    /// Its guard.
    pub expect: Expect,
}

/// Operations of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'p> {
    /// What all of them do.
    pub phase: Phase,
    /// At least one, at most [`MAX_OPERATIONS`].
    pub operations: Vec<Operation<'p>>,
    /// Size of the transaction, estimated from above.
    pub bytes: usize,
}

/// Cuts operations, ordered by phase, into batches.
pub(super) struct Batches<I: Iterator> {
    operations: Peekable<I>,
    prefix: usize,
}

impl<'p, I: Iterator<Item = (Phase, Operation<'p>)>> Batches<I> {
    /// `prefix` is what the root adds to each key, in bytes.
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
