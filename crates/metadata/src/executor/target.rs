//! Where the metadata is, and how it is read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_client::{GetOptions, KeyValue};

use crate::model::{
    Dump, Record, Root, StoredRecord,
    journal::Journal,
    keys::{
        BUILD, COLLECTION, HISTORY, OLD_LOAD, OLD_SEGMENT_INDEX, SEGMENT, SEGMENT_INDEX, SESSIONS,
    },
    sessions::{Holder, Session},
    spans::KeySpan,
};
use milvus_guard_sources::etcd::{
    Endpoint,
    connection::{EtcdConnection, PATIENCE, Tell},
    failure::{Failure, Kind},
    range::{Moment, Span},
};

use super::{
    error::MetaError,
    events::{Event, Events, Running, Stage},
};

/// How often a read is repeated when its revision is compacted away.
const COMPACTIONS: u32 = 5;

/// Where the metadata is, and how to connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// The etcd cluster, and the paths in it.
    pub endpoint: Endpoint,
    /// How long etcd may be unavailable before a run stops.
    pub patience: Duration,
    /// Tells a run to stop between two transactions.
    pub stop: Stop,
}

impl Target {
    /// A target with the default settings.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            patience: PATIENCE,
            stop: Stop::default(),
        }
    }

    /// The root of the metadata.
    ///
    /// # Errors
    /// If the paths are invalid.
    pub fn root(&self) -> Result<Root, MetaError> {
        Root::new(&self.endpoint.root_path, &self.endpoint.meta_sub_path)
            .map_err(|error| MetaError::Usage(error.to_string()))
    }

    pub(super) async fn connect<'e>(
        &self,
        tell: Option<Tell<'e>>,
    ) -> Result<EtcdConnection<'e>, MetaError> {
        let prepared = self.endpoint.prepare();
        let prepared = prepared.map_err(|error| MetaError::Usage(error.to_string()));
        prepared?;
        EtcdConnection::connect(&self.endpoint, self.patience, tell)
            .await
            .map_err(|failure| MetaError::Unread {
                why: format!("etcd cannot be used: {}", failure.reason),
                next: "check --etcd, its certificates and its user, then run the same command \
                       again."
                    .into(),
            })
    }
}

/// Tells a run to stop at the next safe point. Clones stop the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Requests the stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the key space is cut for a first read, so that the largest areas are in different parts,
/// which are read at the same time. Sorted.
const PARTS: [&str; 7] = [
    SEGMENT,
    BUILD,
    OLD_LOAD,
    COLLECTION,
    OLD_SEGMENT_INDEX,
    SEGMENT_INDEX,
    HISTORY,
];

/// A key-value pair for the migration; `None` for keys that are not metadata.
pub(super) fn standing<'p>(root: &Root, pair: &'p KeyValue) -> Option<StoredRecord<'p>> {
    let key = root.relative(pair.key())?;
    Some(StoredRecord {
        key,
        value: pair.value(),
        leased: pair.lease() != 0,
        mod_revision: pair.mod_revision(),
    })
}

/// Reads the whole root at one revision, into memory.
pub(super) async fn dump(
    store: &EtcdConnection<'_>,
    root: &Root,
    events: &dyn Events,
) -> Result<Dump, Failure> {
    let mut running = Running::begin(events, Stage::Read, None);
    let mut compactions = Compactions::default();
    let (moment, parts) = loop {
        let mut parts: Vec<Vec<Record>> = vec![Vec::new(); PARTS.len() + 1];
        let mut take = |part: usize, pair: KeyValue| {
            if let (Some(standing), Some(part)) = (standing(root, &pair), parts.get_mut(part)) {
                running.advance(1);
                part.push(standing.into());
            }
        };
        match store
            .gather(
                spans_at(root, PARTS.iter().map(|part| part.as_bytes())),
                0,
                &mut take,
            )
            .await
        {
            Err(failure) if compactions.may_go_on(&failure, events) => running.restart(),
            other => break (other?, parts),
        }
    };
    running.finish();
    let mut parts = parts.into_iter();
    let mut records = parts.next().unwrap_or_default();
    parts.for_each(|mut part| records.append(&mut part));
    Dump::new(root.clone(), moment.cluster_id, moment.revision, records)
        .map_err(|error| Failure::new(Kind::Refused, error.to_string()))
}

/// The whole root, cut at these keys, which are relative to it and sorted.
pub(super) fn spans_at<'k>(
    root: &'k Root,
    cuts: impl Iterator<Item = &'k [u8]> + 'k,
) -> impl Iterator<Item = Span> + 'k {
    let mut ends = cuts.map(|cut| root.absolute(cut)).chain([root.end()]);
    let mut from = root.prefix().as_bytes().to_vec();
    std::iter::from_fn(move || {
        let to = ends.next()?;
        Some(Span {
            from: std::mem::replace(&mut from, to.clone()),
            to,
        })
    })
}

/// A span of a plan with its keys in etcd.
pub(super) fn span(root: &Root, part: &KeySpan<'_>) -> Span {
    Span {
        from: root.absolute(part.from),
        to: part.to.map_or_else(|| root.end(), |to| root.absolute(to)),
    }
}

/// What a scan returns.
pub(super) enum Seen<'r> {
    /// The next record.
    Record(StoredRecord<'r>),
    /// All records that were returned so far are void, because the revision was compacted away.
    Again,
}

/// Reads spans, which must be sorted, at one revision, record by record.
pub(super) async fn scan<S: Iterator<Item = Span> + Send>(
    store: &EtcdConnection<'_>,
    root: &Root,
    spans: impl Fn() -> S,
    events: &dyn Events,
    each: &mut (dyn FnMut(Seen<'_>) + Send),
) -> Result<Moment, Failure> {
    let mut compactions = Compactions::default();
    loop {
        let mut take = |pair: KeyValue| {
            if let Some(standing) = standing(root, &pair) {
                each(Seen::Record(standing));
            }
        };
        match store.scan(spans(), 0, &mut take).await {
            Err(failure) if compactions.may_go_on(&failure, events) => each(Seen::Again),
            other => return other,
        }
    }
}

/// How often a read was repeated.
#[derive(Default)]
struct Compactions(u32);

impl Compactions {
    fn may_go_on(&mut self, failure: &Failure, events: &dyn Events) -> bool {
        let may = failure.kind == Kind::Compacted && self.0 < COMPACTIONS;
        if may {
            self.0 += 1;
            let note = "etcd was compacted while it was read; reading it again at a newer revision"
                .to_owned();
            events.event(Event::Warning { note });
        }
        may
    }
}

/// The record of the last run and the revision at which it was written; 0 if there is none.
pub(super) async fn journal(
    store: &EtcdConnection<'_>,
    root: &Root,
) -> Result<(Option<Journal>, i64), MetaError> {
    let unreadable = |why: String| MetaError::refused(why, "run the same command again.");
    let key = root.journal();
    let answer = store
        .get(key.as_bytes(), GetOptions::new())
        .await
        .map_err(|failure| unreadable(failure.reason))?;
    let Some(pair) = answer.kvs().first() else {
        return Ok((None, 0));
    };
    let journal = Journal::from_json(pair.value()).map_err(|error| {
        MetaError::refused(
            format!("key {key}: {error}"),
            "use the version of milvus-guard that wrote it.",
        )
    })?;
    Ok((Some(journal), pair.mod_revision()))
}

/// Live sessions, each with the remaining time of its lease.
pub(super) async fn sessions(
    store: &EtcdConnection<'_>,
    root: &Root,
) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for (mut session, lease) in listed(store, root).await? {
        if lease != 0 {
            session.lease_left = store.time_left(lease).await?;
        }
        sessions.push(session);
    }
    Ok(sessions)
}

/// All sessions with the ids of their leases. The leases are not read.
pub(super) async fn listed(
    store: &EtcdConnection<'_>,
    root: &Root,
) -> Result<Vec<(Session, i64)>, Failure> {
    let answer = store
        .get(
            &root.absolute(SESSIONS.as_bytes()),
            GetOptions::new().with_prefix(),
        )
        .await?;
    let session = |pair: &KeyValue| {
        Some((
            Session::read(root.relative(pair.key())?, pair.value())?,
            pair.lease(),
        ))
    };
    Ok(answer.kvs().iter().filter_map(session).collect())
}

/// The sessions of components of Milvus.
pub(super) fn components(sessions: Vec<Session>) -> Vec<Session> {
    sessions
        .into_iter()
        .filter(|session| matches!(session.holder, Holder::Component(_)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_first_read_cover_the_root_in_order() {
        assert!(PARTS.is_sorted());
        let root = Root::new("by-dev", "meta").unwrap();
        let spans: Vec<Span> = spans_at(&root, PARTS.iter().map(|part| part.as_bytes())).collect();
        assert_eq!(spans.len(), PARTS.len() + 1);
        assert_eq!(
            (&*spans[0].from, &*spans[PARTS.len()].to),
            (&b"by-dev/meta/"[..], &b"by-dev/meta0"[..])
        );
        assert!(
            spans
                .windows(2)
                .all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to)
        );
        let whole: Vec<Span> = spans_at(&root, std::iter::empty()).collect();
        assert_eq!(
            whole,
            [Span {
                from: b"by-dev/meta/".to_vec(),
                to: b"by-dev/meta0".to_vec()
            }]
        );
    }
}
