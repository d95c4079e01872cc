//! The conditions under which a run may write to etcd.

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::model::{
    Root,
    keys::{ROLES, SESSIONS},
};

use super::lock::Lock;

/// What every transaction of a run compares, in addition to its own expectations: this process
/// holds the lock, the record of the run is unchanged, and no component of Milvus has registered.
/// etcd compares and writes in one step, so no other client can write in between.
#[derive(Debug)]
pub struct Guard<'l> {
    lock: &'l Lock,
    journal: String,
    /// 0 if there is no record.
    journal_revision: i64,
    sessions: Vec<Vec<u8>>,
}

/// Why a transaction was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The lock was lost.
    Lock,
    /// A component of Milvus is running; its session, relative to the root.
    Session(String),
    /// Another run wrote the record of the run.
    Journal,
    /// A record is not as expected; nothing else is wrong.
    Record,
}

impl<'l> Guard<'l> {
    /// For a run with this lock.
    #[must_use]
    pub fn new(lock: &'l Lock, root: &Root, journal_revision: i64) -> Self {
        let session = |role: &&str| root.absolute(format!("{SESSIONS}{role}").as_bytes());
        Self {
            lock,
            journal: root.journal(),
            journal_revision,
            sessions: ROLES.iter().map(session).collect(),
        }
    }

    /// The lock.
    #[must_use]
    pub const fn lock(&self) -> &Lock {
        self.lock
    }

    /// Key of the record of the run.
    #[must_use]
    pub fn journal(&self) -> &str {
        &self.journal
    }

    /// Notes the revision at which the record of the run was written.
    pub fn journal_is_at(&mut self, revision: i64) {
        self.journal_revision = revision;
    }

    /// A transaction under these conditions and its own. If they are not met, its response shows
    /// which ([`Self::broken`]).
    #[must_use]
    pub fn txn(&self, own: impl IntoIterator<Item = Compare>, operations: Vec<TxnOp>) -> Txn {
        let mut compares = vec![
            self.lock.compare(),
            Compare::mod_revision(
                self.journal.as_str(),
                CompareOp::Equal,
                self.journal_revision,
            ),
        ];
        compares.extend(
            self.sessions
                .iter()
                .map(|key| Compare::version(key.clone(), CompareOp::Equal, 0).with_prefix()),
        );
        compares.extend(own);
        Txn::new()
            .when(compares)
            .and_then(operations)
            .or_else(self.reads())
    }

    fn reads(&self) -> Vec<TxnOp> {
        let newest = || {
            Some(
                GetOptions::new()
                    .with_prefix()
                    .with_keys_only()
                    .with_limit(1),
            )
        };
        let own = [
            TxnOp::get(self.lock.key(), None),
            TxnOp::get(
                self.journal.as_str(),
                Some(GetOptions::new().with_keys_only()),
            ),
        ];
        own.into_iter()
            .chain(
                self.sessions
                    .iter()
                    .map(|key| TxnOp::get(key.clone(), newest())),
            )
            .collect()
    }

    /// Why a transaction of [`Self::txn`] was not made.
    #[must_use]
    pub fn broken(&self, answer: &TxnResponse) -> Broken {
        let mut answers = answer
            .op_responses()
            .into_iter()
            .filter_map(|answer| match answer {
                TxnOpResponse::Get(answer) => Some(answer),
                _ => None,
            });
        let (lock, journal) = (answers.next(), answers.next());
        if !lock.is_some_and(|answer| self.lock.is(&answer)) {
            return Broken::Lock;
        }
        if let Some(session) =
            answers.find_map(|answer| answer.kvs().first().map(|record| record.key().to_vec()))
        {
            return Broken::Session(String::from_utf8_lossy(&session).into_owned());
        }
        let revision = journal
            .and_then(|answer| {
                answer
                    .kvs()
                    .first()
                    .map(etcd_client::KeyValue::mod_revision)
            })
            .unwrap_or(0);
        if revision == self.journal_revision {
            Broken::Record
        } else {
            Broken::Journal
        }
    }
}
