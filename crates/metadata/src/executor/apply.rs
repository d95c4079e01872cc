//! Applies planned operations to etcd: several guarded transactions at a time, phase by phase.

use std::future::Future;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::model::{Batch, Expect, Operation, Phase, Root};
use milvus_guard_sources::etcd::{
    connection::EtcdConnection,
    failure::{Failure, Kind},
};

use super::{
    events::Running,
    guard::{Broken, Guard},
    target::Stop,
};

/// Transactions in progress at a time. etcd applies one after the other; more would only wait.
const IN_FLIGHT: usize = 8;

/// Why the work stopped. Everything that was acknowledged is done; the rest is not done, or will be
/// found done.
#[derive(Debug)]
pub enum Interruption {
    /// A condition no longer holds.
    Broken(Broken),
    /// Records differ from the expected ones (relative keys).
    Foreign(Vec<Vec<u8>>),
    /// etcd did not answer in time, or refused.
    Failure(Failure),
    /// The run was asked to stop.
    Asked,
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Applies operations under the conditions of a guard.
pub struct Applier<'a> {
    pub(super) store: &'a EtcdConnection<'a>,
    pub(super) root: &'a Root,
    pub(super) guard: &'a Guard<'a>,
    pub(super) stop: &'a Stop,
}

impl Applier<'_> {
    /// Applies all operations, in the order of phases. Within a phase their order does not matter.
    ///
    /// # Errors
    /// Why it stopped. No transaction is in progress then.
    pub(super) async fn apply<'p>(
        &self,
        batches: impl Iterator<Item = Batch<'p>>,
        running: &mut Running<'_>,
    ) -> Result<(), Interruption> {
        let mut batches = batches.peekable();
        let mut under_way = FuturesUnordered::new();
        let mut phase: Option<Phase> = None;
        let mut halted: Option<Interruption> = None;
        loop {
            while halted.is_none()
                && under_way.len() < IN_FLIGHT
                && let Some(next) = batches.peek()
                && (under_way.is_empty() || phase == Some(next.phase))
            {
                halted = self.must_halt();
                if halted.is_none()
                    && let Some(batch) = batches.next()
                {
                    phase = Some(batch.phase);
                    under_way.push(self.commit(batch.operations));
                }
            }
            match under_way.next().await {
                None => return halted.map_or(Ok(()), Err),
                Some(Ok(done)) => running.advance(done),
                // The first reason counts, because later ones follow from it.
                Some(Err(interruption)) => {
                    halted.get_or_insert(interruption);
                }
            }
        }
    }

    fn must_halt(&self) -> Option<Interruption> {
        if self.stop.is_asked() {
            return Some(Interruption::Asked);
        }
        self.guard
            .lock()
            .is_lost()
            .then_some(Interruption::Broken(Broken::Lock))
    }

    /// Makes one transaction and returns the number of its operations.
    async fn commit(&self, operations: Vec<Operation<'_>>) -> Result<u64, Interruption> {
        let mut patience = self.store.patience();
        loop {
            match self.store.try_txn(self.txn(&operations)).await {
                Ok(answer) if answer.succeeded() => return Ok(operations.len() as u64),
                Ok(answer) => {
                    return match self.guard.broken(&answer) {
                        // An earlier attempt arrived after all, or another client made exactly the
                        // same change.
                        Broken::Record => match self.differing(&operations).await? {
                            none if none.is_empty() => Ok(operations.len() as u64),
                            keys => Err(Interruption::Foreign(keys)),
                        },
                        broken => Err(Interruption::Broken(broken)),
                    };
                }
                Err(failure) if failure.kind == Kind::RequestTooLarge && operations.len() > 1 => {
                    return self.commit_halves(operations).await;
                }
                Err(failure) if failure.is_passing() => {
                    patience.wait(failure).await?;
                    // The transaction may have been made although its response was lost.
                    if self.differing(&operations).await?.is_empty() {
                        return Ok(operations.len() as u64);
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn commit_halves(
        &self,
        mut operations: Vec<Operation<'_>>,
    ) -> impl Future<Output = Result<u64, Interruption>> {
        Box::pin(async move {
            let rest = operations.split_off(operations.len() / 2);
            Ok(self.commit(operations).await? + self.commit(rest).await?)
        })
    }

    fn txn(&self, operations: &[Operation<'_>]) -> Txn {
        let compares = operations.iter().map(|operation| {
            let key = self.root.absolute(operation.key);
            match operation.expect {
                Expect::Absent => Compare::version(key, CompareOp::Equal, 0),
                Expect::Revision(revision) => {
                    Compare::mod_revision(key, CompareOp::Equal, revision)
                }
            }
        });
        let changes = operations.iter().map(|operation| {
            let key = self.root.absolute(operation.key);
            match operation.value {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            }
        });
        self.guard.txn(compares, changes.collect())
    }

    /// Keys that do not have the values of these operations.
    async fn differing(&self, operations: &[Operation<'_>]) -> Result<Vec<Vec<u8>>, Failure> {
        let reads = operations.iter().map(|operation| {
            let options = if operation.value.is_none() {
                GetOptions::new().with_keys_only()
            } else {
                GetOptions::new()
            };
            TxnOp::get(self.root.absolute(operation.key), Some(options))
        });
        let answer = match self
            .store
            .read_txn(&Txn::new().and_then(reads.collect::<Vec<_>>()))
            .await
        {
            Err(failure) if failure.kind == Kind::RequestTooLarge && operations.len() > 1 => {
                let (one, other) = operations.split_at(operations.len() / 2);
                let mut differing = Box::pin(self.differing(one)).await?;
                differing.extend(Box::pin(self.differing(other)).await?);
                return Ok(differing);
            }
            other => other?,
        };
        let is_made = |operation: &Operation<'_>, answer: &TxnOpResponse| match answer {
            TxnOpResponse::Get(answer) => {
                answer.kvs().first().map(etcd_client::KeyValue::value) == operation.value
            }
            _ => false,
        };
        let pairs = operations.iter().zip(answer.op_responses());
        Ok(pairs
            .filter(|(operation, answer)| !is_made(operation, answer))
            .map(|(operation, _)| operation.key.to_vec())
            .collect())
    }
}
