//! Which metadata, and reading it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_client::{GetOptions, KeyValue};

use crate::{
    etcd::{
        Endpoint,
        failure::{Failure, Kind},
        store::{PATIENCE, Store, Tell},
    },
    migration::{
        Dump, Record, Root,
        journal::Journal,
        keys::SESSIONS,
        sessions::{Holder, Session},
    },
};

use super::{
    error::MetaError,
    events::{Event, Events, Running, Stage},
};

/// How often a read begins anew when the revision that it reads at is compacted away.
const COMPACTIONS: u32 = 5;

/// Which metadata, and how to get in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The etcd cluster, and the paths in it.
    pub endpoint: Endpoint,
    /// For etcd to come back before a run stops.
    pub patience: Duration,
    /// Asks a run to stop between two transactions.
    pub stop: Stop,
}

impl Target {
    /// With everything else as usual.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, patience: PATIENCE, stop: Stop::default() }
    }

    /// The place of the metadata.
    ///
    /// # Errors
    /// Paths that are none.
    pub fn root(&self) -> Result<Root, MetaError> {
        Root::new(&self.endpoint.root_path, &self.endpoint.meta_sub_path).map_err(|error| MetaError::Usage(error.to_string()))
    }

    pub(super) async fn connect<'e>(&self, tell: Option<Tell<'e>>) -> Result<Store<'e>, MetaError> {
        let prepared = self.endpoint.prepare().map_err(MetaError::Usage);
        prepared?;
        Store::connect(&self.endpoint, self.patience, tell).await.map_err(|failure| {
            MetaError::refused(
                format!("etcd cannot be used: {}", failure.reason),
                "check --etcd, its certificates and its user, then run the same command again.",
            )
        })
    }
}

/// Asks a run to stop at the next safe point. Clones ask the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A key-value pair as the migration takes it; nothing for keys that are not the metadata's.
pub(super) fn record(root: &Root, pair: &KeyValue) -> Option<Record> {
    let mut record = Record::new(root.relative(pair.key())?, pair.value(), pair.mod_revision());
    record.leased = pair.lease() != 0;
    Some(record)
}

/// Reads the whole root at one revision, into memory.
pub(super) async fn dump(store: &Store<'_>, root: &Root, events: &dyn Events) -> Result<Dump, Failure> {
    let mut records = Vec::new();
    let mut running = Running::begin(events, Stage::Read, None);
    let moment = scan(store, root, events, &mut |seen| match seen {
        Seen::Again => {
            records.clear();
            running.restart();
        }
        Seen::Record(record) => {
            running.advance(1);
            records.push(record);
        }
    })
    .await?;
    running.finish();
    Dump::new(root.clone(), moment.cluster_id, moment.revision, records)
        .map_err(|error| Failure::new(Kind::Refused, error.to_string()))
}

/// What a scan hands over.
pub(super) enum Seen {
    /// The next record.
    Record(Record),
    /// What was handed over so far is void: the revision was compacted away.
    Again,
}

/// Reads the whole root at one revision, record by record.
pub(super) async fn scan(
    store: &Store<'_>,
    root: &Root,
    events: &dyn Events,
    each: &mut (dyn FnMut(Seen) + Send),
) -> Result<crate::etcd::range::Moment, Failure> {
    let mut compactions = 0;
    loop {
        let mut take = |pair: KeyValue| {
            if let Some(record) = record(root, &pair) {
                each(Seen::Record(record));
            }
        };
        match store.scan(root.prefix().as_bytes(), &root.end(), 0, &mut take).await {
            Err(failure) if failure.kind == Kind::Compacted && compactions < COMPACTIONS => {
                compactions += 1;
                each(Seen::Again);
                let note = "etcd was compacted while it was read; reading it again at a newer revision".to_owned();
                events.event(Event::Warning { note });
            }
            other => return other,
        }
    }
}

/// The record of the last run and the revision at which it was written; 0 where there is none.
pub(super) async fn journal(store: &Store<'_>, root: &Root) -> Result<(Option<Journal>, i64), MetaError> {
    let unreadable = |why: String| MetaError::refused(why, "run the same command again.");
    let key = root.journal();
    let answer = store.get(key.as_bytes(), GetOptions::new()).await.map_err(|failure| unreadable(failure.reason))?;
    let Some(pair) = answer.kvs().first() else { return Ok((None, 0)) };
    let journal = Journal::from_json(pair.value())
        .map_err(|error| MetaError::refused(format!("key {key}: {error}"), "use the version of milvus-guard that wrote it."))?;
    Ok((Some(journal), pair.mod_revision()))
}

/// Live sessions, each with the time that its lease has left.
pub(super) async fn sessions(store: &Store<'_>, root: &Root) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for (mut session, lease) in listed(store, root).await? {
        if lease != 0 {
            session.lease_left = store.time_left(lease).await?;
        }
        sessions.push(session);
    }
    Ok(sessions)
}

/// All sessions with the ids of their leases, which are not looked at.
pub(super) async fn listed(store: &Store<'_>, root: &Root) -> Result<Vec<(Session, i64)>, Failure> {
    let answer = store.get(&root.absolute(SESSIONS.as_bytes()), GetOptions::new().with_prefix()).await?;
    let session = |pair: &KeyValue| Some((Session::read(root.relative(pair.key())?, pair.value())?, pair.lease()));
    Ok(answer.kvs().iter().filter_map(session).collect())
}

/// Those of components of Milvus.
pub(super) fn components(sessions: Vec<Session>) -> Vec<Session> {
    sessions.into_iter().filter(|session| matches!(session.holder, Holder::Component(_))).collect()
}
