//! The lock on the metadata: prevents a second run, and a run of the official tool.
//!
//! Two keys on one lease: our own, which contains its holder, and `session/migration`, at which the
//! official tool stops with "other migration is running". Every transaction compares the revision
//! at which our key was created. So a run whose lease has expired can no longer write, however late
//! its requests arrive.

pub use super::holder::Holder;
use super::{
    error::MetaError,
    events::{Event, Events},
    process::Process,
};
use crate::model::{Root, keys::MIGRATION_SESSION};
use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use milvus_guard_sources::etcd::{
    connection::EtcdConnection,
    failure::{Failure, Kind},
};
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Seconds until the lock of an ended process expires. Longer than an election or a stalled disk.
pub const LEASE_SECONDS: i64 = 30;

/// Interval between two renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Interval between two looks at another client's lock.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Time limit to release the lock. A lock that is not released expires.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// A lock that this process holds and renews.
#[derive(Debug)]
pub struct Lock {
    store: EtcdConnection<'static>,
    key: String,
    lease: i64,
    create_revision: i64,
    lost: watch::Receiver<bool>,
    renewing: JoinHandle<()>,
}

/// What was found at the key of the lock.
enum Seen {
    Free,
    /// Our lock under this lease, created at this revision.
    Ours(i64, i64),
    Held(Box<Holder>, i64),
}

impl Lock {
    /// Takes the lock. A holder that has certainly ended loses it: at once if it was a process of
    /// this machine, else when its lease expires without a renewal.
    ///
    /// # Errors
    /// [`MetaError::Locked`], or why etcd could not be read.
    pub async fn take(
        store: &EtcdConnection<'_>,
        root: &Root,
        verb: &str,
        events: &dyn Events,
    ) -> Result<Self, MetaError> {
        let holder = Holder::this(verb);
        let unreachable = |failure: Failure| {
            MetaError::refused(
                format!("the lock: {}", failure.reason),
                "run the same command again.",
            )
        };
        loop {
            let lease = store.grant(LEASE_SECONDS).await.map_err(unreachable)?;
            match put(store, root, &holder, lease)
                .await
                .map_err(unreachable)?
            {
                // An earlier attempt may have arrived late, with its own lease.
                Seen::Ours(lease, create_revision) => {
                    return Ok(Self::keep(store.silent(), root, lease, create_revision));
                }
                Seen::Free => {}
                Seen::Held(held, its_lease) => {
                    store.revoke(lease).await.map_err(unreachable)?;
                    wait_out(store, root, *held, its_lease, events).await?;
                }
            }
        }
    }

    fn keep(store: EtcdConnection<'static>, root: &Root, lease: i64, create_revision: i64) -> Self {
        let (tell_lost, lost) = watch::channel(false);
        let renewed = store.clone();
        let renewing = tokio::spawn(async move {
            // Only etcd can report that a lease no longer exists. While etcd does not answer, the
            // lease may still be valid.
            loop {
                sleep(RENEW_EVERY).await;
                if renewed
                    .renew(lease)
                    .await
                    .is_err_and(|failure| failure.kind == Kind::LeaseGone)
                {
                    break;
                }
            }
            let _ = tell_lost.send(true);
        });
        Self {
            store,
            key: root.lock(),
            lease,
            create_revision,
            lost,
            renewing,
        }
    }

    /// Key of the lock.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The condition that the lock is still ours, for a transaction.
    #[must_use]
    pub fn compare(&self) -> Compare {
        Compare::create_revision(self.key.as_str(), CompareOp::Equal, self.create_revision)
    }

    /// Whether it is certainly lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Whether this response to a read of [`Self::key`] contains our lock.
    #[must_use]
    pub fn is(&self, answer: &GetResponse) -> bool {
        answer
            .kvs()
            .first()
            .is_some_and(|record| record.create_revision() == self.create_revision)
    }

    /// Releases it, or lets it expire if etcd does not answer.
    pub async fn release(self) {
        self.renewing.abort();
        let _ = tokio::time::timeout(RELEASE_DEADLINE, self.store.revoke(self.lease)).await;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// The current holder of the lock.
///
/// # Errors
/// The error of etcd, or that it did not answer in time.
pub async fn holder(store: &EtcdConnection<'_>, root: &Root) -> Result<Option<Holder>, Failure> {
    match look(store, root, "").await? {
        Seen::Held(holder, _) => Ok(Some(*holder)),
        Seen::Free | Seen::Ours(..) => Ok(None),
    }
}

async fn put(
    store: &EtcdConnection<'_>,
    root: &Root,
    holder: &Holder,
    lease: i64,
) -> Result<Seen, Failure> {
    let session = root.absolute(MIGRATION_SESSION.as_bytes());
    let value = serde_json::to_vec(holder)
        .map_err(|error| Failure::new(Kind::Refused, error.to_string()))?;
    let with_lease = Some(PutOptions::new().with_lease(lease));
    let free = [
        Compare::version(root.lock(), CompareOp::Equal, 0),
        Compare::version(session.clone(), CompareOp::Equal, 0).with_prefix(),
    ];
    let take = [
        TxnOp::put(root.lock(), value, with_lease.clone()),
        TxnOp::put(session, official_session(holder).to_string(), with_lease),
    ];
    match store.try_txn(Txn::new().when(free).and_then(take)).await {
        Err(failure) if !failure.is_passing() => return Err(failure),
        // Held, taken, or unknown: the current value shows which.
        _ => {}
    }
    look(store, root, &holder.id).await
}

/// The session in the format of the official tool, which compares the address with its own.
fn official_session(holder: &Holder) -> serde_json::Value {
    serde_json::json!({"ServerName": "migration", "Address": format!("milvus-guard: {holder}"), "Exclusive": true})
}

async fn look(store: &EtcdConnection<'_>, root: &Root, id: &str) -> Result<Seen, Failure> {
    let session = root.absolute(MIGRATION_SESSION.as_bytes());
    let reads = [
        TxnOp::get(root.lock(), None),
        TxnOp::get(session, Some(GetOptions::new().with_prefix().with_limit(1))),
    ];
    let answers = store
        .read_txn(&Txn::new().and_then(reads))
        .await?
        .op_responses();
    let mut records = answers.iter().map(|answer| match answer {
        TxnOpResponse::Get(answer) => answer.kvs().first().cloned(),
        _ => None,
    });
    let (lock, session) = (records.next().flatten(), records.next().flatten());
    let Some(record) = lock.as_ref().or(session.as_ref()) else {
        return Ok(Seen::Free);
    };
    let mut holder = if lock.is_some() {
        ours(record)
    } else {
        official(record)
    };
    if holder.id == id {
        return Ok(Seen::Ours(record.lease(), record.create_revision()));
    }
    holder.seconds_left = if record.lease() == 0 {
        None
    } else {
        Some(store.time_left(record.lease()).await?.unwrap_or(0))
    };
    Ok(Seen::Held(Box::new(holder), record.lease()))
}

fn ours(record: &KeyValue) -> Holder {
    serde_json::from_slice(record.value()).unwrap_or_else(|_| Holder {
        id: String::new(),
        verb: "something unreadable".into(),
        process: Process {
            host: "an unknown host".into(),
            ..Process::default()
        },
        since: "an unknown time".into(),
        seconds_left: None,
        is_official_tool: false,
    })
}

pub(super) fn official(record: &KeyValue) -> Holder {
    Holder {
        id: format!(
            "session/migration: {}",
            String::from_utf8_lossy(record.value())
        ),
        verb: "migrate".into(),
        process: Process::default(),
        since: String::new(),
        seconds_left: None,
        is_official_tool: true,
    }
}

/// Waits until the lock is free; fails if its holder is alive.
async fn wait_out(
    store: &EtcdConnection<'_>,
    root: &Root,
    held: Holder,
    lease: i64,
    events: &dyn Events,
) -> Result<(), MetaError> {
    let unreachable = |failure: Failure| {
        MetaError::refused(
            format!("the lock: {}", failure.reason),
            "run the same command again.",
        )
    };
    if held.is_official_tool || lease == 0 {
        return Err(MetaError::Locked(Box::new(held)));
    }
    match held.process.is_running() {
        Some(true) => return Err(MetaError::Locked(Box::new(held))),
        Some(false) => {
            events.event(Event::Note {
                note: format!("taking over the lock of {held}: that process has ended"),
            });
            return store.revoke(lease).await.map_err(unreachable);
        }
        None => {}
    }
    let (began, mut told, mut lowest) = (Instant::now(), false, i64::MAX);
    loop {
        let Seen::Held(now, its_lease) = look(store, root, "").await.map_err(unreachable)? else {
            return Ok(());
        };
        let left = now.seconds_left.unwrap_or(0);
        // Another client took it, or it was renewed, so its holder is alive.
        if its_lease != lease || left > lowest {
            return Err(MetaError::Locked(now));
        }
        lowest = left;
        if !told && began.elapsed() > RENEW_EVERY + Duration::from_secs(1) {
            events.event(Event::Waiting {
                what: format!("the lock of {held}, which is not renewed, to expire ({left} s)"),
            });
            told = true;
        }
        sleep(LOOK_EVERY).await;
    }
}
