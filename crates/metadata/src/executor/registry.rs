//! The sessions of one Milvus, over one connection: read, and released after their holder has
//! ended.

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};

use crate::model::{Root, keys::SESSIONS, sessions::Session};
use milvus_guard_sources::etcd::{connection::EtcdConnection, failure::Failure};

use super::{
    error::MetaError,
    target::{Target, components},
};

/// A session in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The value of the session.
    pub session: Session,
    /// Its lease in etcd; 0 if it has none.
    pub lease: i64,
    /// Revision at which it was written. A later session under the same key has another one.
    pub mod_revision: i64,
}

/// A connection to the sessions of a Milvus.
#[derive(Debug)]
pub struct Registry {
    store: EtcdConnection<'static>,
    root: Root,
}

impl Registry {
    /// Connects to the sessions of a Milvus.
    ///
    /// # Errors
    /// If etcd cannot be used, or no component of Milvus has a session there.
    pub async fn connect(target: &Target) -> Result<Self, MetaError> {
        let root = target.root()?;
        let store = target.connect(None).await?.silent();
        let registry = Self { store, root };
        let all = registry.read().await.map_err(MetaError::unread)?;
        let sessions = all.into_iter().map(|one| one.session).collect();
        if components(sessions).is_empty() {
            return Err(MetaError::refused(
                format!(
                    "no component of Milvus has a session below {}",
                    target.endpoint.root_path
                ),
                "check the root path.",
            ));
        }
        Ok(registry)
    }

    /// All current sessions.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn read(&self) -> Result<Vec<Registered>, Failure> {
        let answer = self
            .store
            .get(
                &self.root.absolute(SESSIONS.as_bytes()),
                GetOptions::new().with_prefix(),
            )
            .await?;
        let registered = answer.kvs().iter().filter_map(|pair| {
            Some(Registered {
                session: Session::read(self.root.relative(pair.key())?, pair.value())?,
                lease: pair.lease(),
                mod_revision: pair.mod_revision(),
            })
        });
        Ok(registered.collect())
    }

    /// Removes sessions of one lease, all or none, if each is unchanged since it was read. Then
    /// ends the lease, if no other key has it, so that its holder, if it still runs, notices the
    /// loss of its session. Returns whether the sessions were removed.
    ///
    /// A session that was written since has another revision, so it stays. A lease belongs to the
    /// process that created it, so ending it cannot remove the session of another process.
    ///
    /// # Errors
    /// The error of etcd. If etcd did not answer, they may have been removed nevertheless.
    pub async fn release(&self, ended: &[&Registered]) -> Result<bool, Failure> {
        let Some(lease) = ended.first().map(|one| one.lease) else {
            return Ok(false);
        };
        let keys: Vec<Vec<u8>> = ended
            .iter()
            .map(|one| self.root.absolute(one.session.key.as_bytes()))
            .collect();
        let unchanged = keys.iter().zip(ended).map(|(key, one)| {
            Compare::mod_revision(key.clone(), CompareOp::Equal, one.mod_revision)
        });
        let deletions = keys.iter().map(|key| TxnOp::delete(key.clone(), None));
        let txn = Txn::new()
            .when(unchanged.collect::<Vec<_>>())
            .and_then(deletions.collect::<Vec<_>>());
        if !self.store.try_txn(txn).await?.succeeded() {
            return Ok(false);
        }
        // The sessions were removed. If the user of etcd may not read or end the lease, it expires
        // later.
        if lease != 0
            && matches!(self.store.keys_of(lease).await, Ok(Some(keys)) if keys.is_empty())
        {
            let _ = self.store.revoke(lease).await;
        }
        Ok(true)
    }
}
