//! The record of a run, written in guarded transactions.

use etcd_client::{GetOptions, KeyValue, ResponseHeader, TxnOp};

use crate::model::journal::{Journal, JournalPhase};
use milvus_guard_sources::etcd::{
    connection::EtcdConnection,
    failure::{Failure, Kind},
};

use super::{
    apply::Interruption,
    error::MetaError,
    guard::{Broken, Guard},
    interruption,
};

/// Writes the record in a guarded transaction. From then on the guard expects it.
pub(super) async fn write(
    store: &EtcdConnection<'_>,
    guard: &mut Guard<'_>,
    journal: &Journal,
) -> Result<(), Interruption> {
    let bytes = journal
        .to_json()
        .map_err(|error| Failure::new(Kind::Refused, error.to_string()))?;
    let mut patience = store.patience();
    let revision = loop {
        let txn = guard.txn([], vec![TxnOp::put(guard.journal(), bytes.clone(), None)]);
        match store.try_txn(txn).await {
            Ok(answer) if answer.succeeded() => {
                break answer.header().map_or(0, ResponseHeader::revision);
            }
            Ok(answer) => match guard.broken(&answer) {
                // Perhaps an earlier attempt of ours wrote it, and its acknowledgement was lost.
                Broken::Journal => match written(store, guard, &bytes).await? {
                    Some(revision) => break revision,
                    None => return Err(Interruption::Broken(Broken::Journal)),
                },
                broken => return Err(Interruption::Broken(broken)),
            },
            Err(failure) if failure.is_passing() => {
                patience.wait(failure).await?;
                if let Some(revision) = written(store, guard, &bytes).await? {
                    break revision;
                }
            }
            Err(failure) => return Err(failure.into()),
        }
    };
    guard.journal_is_at(revision);
    Ok(())
}

/// The revision at which exactly these bytes were written.
async fn written(
    store: &EtcdConnection<'_>,
    guard: &Guard<'_>,
    bytes: &[u8],
) -> Result<Option<i64>, Failure> {
    let answer = store
        .get(guard.journal().as_bytes(), GetOptions::new())
        .await?;
    Ok(answer
        .kvs()
        .first()
        .filter(|pair| pair.value() == bytes)
        .map(KeyValue::mod_revision))
}

/// The error that another run must be completed first.
pub(super) fn under_way(journal: &Journal) -> MetaError {
    let (what, next) = match journal.phase {
        JournalPhase::Restoring => (
            "restore",
            format!("milvus-guard meta restore {}", journal.backup.path),
        ),
        _ => (
            "migration",
            format!(
                "milvus-guard meta migrate -s {} -t {}",
                journal.source, journal.target
            ),
        ),
    };
    MetaError::stopped(
        format!(
            "a {what} that {} began at {} is not finished",
            journal.started_by, journal.started_at
        ),
        interruption::data(journal.phase),
        format!("finish it first, with the flags that it was started with: `{next}`."),
    )
}
