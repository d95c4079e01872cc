//! `meta inspect`: the format, the running components, and what a migration would do.

use serde::Serialize;

use crate::model::{Options, format::Evidence, journal::Journal, plan, sessions::Session};
use milvus_guard_core::evidence::MetadataState;
use milvus_guard_sources::etcd::connection::Health;

use super::{
    error::MetaError,
    events::{Event, Events},
    lock::{self, Holder},
    summary::Summary,
    target::{Target, dump, journal, sessions},
};

/// The state of the metadata under a root.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Root of the metadata.
    pub root: String,
    /// Identity of the etcd cluster.
    #[serde(serialize_with = "super::hexadecimal")]
    pub cluster_id: u64,
    /// Revision at which it was read.
    pub revision: i64,
    /// Format of the metadata.
    pub state: MetadataState,
    /// Number of keys without sessions.
    pub keys: u64,
    /// Bytes of these keys and their values.
    pub bytes: u64,
    /// How full etcd is and whether it accepts writes.
    #[serde(rename = "etcd")]
    pub health: Health,
    /// The sessions.
    pub sessions: Vec<SessionSeen>,
    /// The holder of the lock.
    pub lock: Option<LockSeen>,
    /// The record of the last run.
    pub run: Option<Journal>,
    /// What a migration would do; absent if there is nothing to migrate.
    pub plan: Option<Summary>,
    /// Why the metadata cannot be migrated.
    pub problem: Option<String>,
}

/// A session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSeen {
    /// Key, relative to the root.
    pub key: String,
    /// Address of the component.
    pub address: Option<String>,
    /// Number of the server.
    pub server_id: Option<i64>,
    /// Seconds until it expires if it is not renewed.
    pub seconds_left: Option<i64>,
}

/// A lock.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockSeen {
    /// The holder, and when it took the lock.
    pub holder: String,
    /// Seconds until it expires if it is not renewed.
    pub seconds_left: Option<i64>,
}

impl From<Session> for SessionSeen {
    fn from(session: Session) -> Self {
        Self {
            key: session.key,
            address: session.address,
            server_id: session.server_id,
            seconds_left: session.lease_left,
        }
    }
}

impl From<Holder> for LockSeen {
    fn from(holder: Holder) -> Self {
        Self {
            holder: holder.to_string(),
            seconds_left: holder.seconds_left,
        }
    }
}

/// Reads everything and changes nothing.
///
/// # Errors
/// When etcd cannot be read.
pub async fn inspect(
    target: &Target,
    options: &Options,
    events: &dyn Events,
) -> Result<Inspection, MetaError> {
    let root = target.root()?;
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let health = store.health().await.map_err(MetaError::unread)?;
    let sessions = sessions(&store, &root).await.map_err(MetaError::unread)?;
    let lock = lock::holder(&store, &root)
        .await
        .map_err(MetaError::unread)?;
    let (run, _) = journal(&store, &root).await?;
    let dump = dump(&store, &root, events)
        .await
        .map_err(MetaError::unread)?;
    let metadata = || dump.records().iter().filter(|record| record.is_metadata());
    let (state, plan, problem) = match plan(&dump, options) {
        Ok(plan) => (
            plan.state().clone(),
            (!plan.is_empty()).then(|| Summary::of(&plan)),
            None,
        ),
        Err(error) => (Evidence::of(&dump).state(), None, Some(error.to_string())),
    };
    Ok(Inspection {
        root: root.to_string(),
        cluster_id: dump.cluster_id,
        revision: dump.revision,
        state,
        keys: metadata().count() as u64,
        bytes: metadata()
            .map(|record| (record.key().len() + record.value().len()) as u64)
            .sum(),
        health,
        sessions: sessions.into_iter().map(SessionSeen::from).collect(),
        lock: lock.map(LockSeen::from),
        run,
        plan,
        problem,
    })
}
