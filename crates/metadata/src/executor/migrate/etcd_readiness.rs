//! Whether an etcd accepts what a migration writes: its alarms, its journal, its free space.

use milvus_guard_sources::etcd::connection::{EtcdConnection, Health};

use crate::{
    executor::{error::MetaError, interruption, target::journal},
    model::{Plan, Root},
};

/// Refuses to write to an etcd that would not accept it.
pub(in crate::executor) async fn takes_writes(
    store: &EtcdConnection<'_>,
    root: &Root,
) -> Result<Health, MetaError> {
    let health = store.health().await.map_err(MetaError::unread)?;
    let refused = if health.no_space {
        MetaError::refused(
            "etcd has raised the alarm NOSPACE: it refuses writes",
            "compact and defragment etcd or raise its quota, disarm the alarm (`etcdctl alarm \
             disarm`), then run the same command again.",
        )
    } else if health.corrupt {
        MetaError::refused(
            "etcd has raised the alarm CORRUPT: its members disagree",
            "repair the etcd cluster first.",
        )
    } else {
        return Ok(health);
    };
    match journal(store, root).await? {
        (Some(journal), _) if journal.phase.is_open() => {
            Err(interruption::under_way(&refused, &journal))
        }
        _ => Err(refused),
    }
}

/// Refuses if the new records may not fit. Each new value is stored in addition to the old one
/// until etcd is compacted.
pub(super) fn has_room(health: &Health, plan: &Plan<'_>) -> Result<(), MetaError> {
    let bytes: u64 = plan.batches().map(|batch| batch.bytes as u64).sum();
    let (Ok(size), Ok(quota)) = (u64::try_from(health.db_size), u64::try_from(health.quota)) else {
        return Ok(());
    };
    if quota == 0 || size.saturating_add(bytes) < quota {
        return Ok(());
    }
    Err(MetaError::refused(
        format!("etcd has {size} bytes of at most {quota}; the migration needs about {bytes} more"),
        "compact and defragment etcd or raise its quota, then run the same command again.",
    ))
}
