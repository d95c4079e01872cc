//! The record of a run, stored in etcd next to the metadata (its key is
//! [`Root::journal`](super::Root::journal)).
//!
//! It is written in a guarded transaction before the first write and kept up to date. It shows
//! which run began, from which backup it continues, and which process started it.

use serde::{Deserialize, Serialize};

use super::options::Options;

/// Version of this record's format.
pub const FORM: u32 = 1;
/// Maximum bytes of a record.
const MAX_BYTES: usize = 64 * 1024;

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalPhase {
    /// Some of the new keys may be written; everything of 2.1 is still there.
    Writing,
    /// All new keys are written; some of the old ones may be deleted.
    Deleting,
    /// Done, and verified by reading back.
    Verified,
    /// A backup is being restored.
    Restoring,
    /// A backup was restored; the metadata is that of 2.1 again.
    Restored,
}

impl JournalPhase {
    /// Whether the run is in progress, so that the metadata is neither 2.1 nor 2.2.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Writing | Self::Deleting | Self::Restoring)
    }
}

/// The backup of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalBackup {
    /// Path of the file, as the run used it.
    pub path: String,
    /// sha256 of the whole file, in hexadecimal.
    pub sha256: String,
}

/// The record of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// Version of the format.
    pub form: u32,
    /// Identity of the run.
    pub id: String,
    /// Version before, as given.
    pub source: String,
    /// Version after, as given.
    pub target: String,
    /// Options of the migration.
    pub options: Options,
    /// The backup from which the run continues, or which it restores.
    pub backup: JournalBackup,
    /// [`Plan::digest`](super::Plan::digest).
    pub plan_digest: String,
    /// Revision of etcd from which the plan was made.
    pub source_revision: i64,
    /// Identity of the etcd cluster.
    pub cluster_id: u64,
    /// The progress of the run.
    pub phase: JournalPhase,
    /// The process that began it: host and process id, or pod.
    pub started_by: String,
    /// When it began, in RFC 3339; set by the caller, which has a clock.
    pub started_at: String,
}

/// Bytes that are not a valid record.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is too long.
    #[error("the record of the migration has {0} bytes; at most 65536 are read")]
    TooLong(usize),
    /// It has another format.
    #[error(
        "the record of the migration is of form {0}; this version knows form 1: use the version \
         that wrote it"
    )]
    Form(u64),
    /// It is not JSON, or fields are missing.
    #[error("the record of the migration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl Journal {
    /// The record as JSON.
    ///
    /// # Errors
    /// Never for values of this type, although serde can return an error.
    pub fn to_json(&self) -> Result<Vec<u8>, JournalError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Parses a stored record.
    ///
    /// # Errors
    /// If it is too long, of another format or invalid.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JournalError> {
        #[derive(Deserialize)]
        struct Form {
            form: u64,
        }
        if bytes.len() > MAX_BYTES {
            return Err(JournalError::TooLong(bytes.len()));
        }
        let Form { form } = serde_json::from_slice(bytes)?;
        if form != u64::from(FORM) {
            return Err(JournalError::Form(form));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        Journal {
            form: FORM,
            id: "a1".into(),
            source: "2.1.4".into(),
            target: "2.2.16".into(),
            options: Options::default(),
            backup: JournalBackup {
                path: "/backup/a1.bak".into(),
                sha256: "00".into(),
            },
            plan_digest: "11".into(),
            source_revision: 7,
            cluster_id: u64::MAX,
            phase: JournalPhase::Writing,
            started_by: "host/1".into(),
            started_at: "2026-01-31T00:00:00Z".into(),
        }
    }

    #[test]
    fn a_stored_record_is_read_back() {
        assert_eq!(
            Journal::from_json(&journal().to_json().unwrap()).unwrap(),
            journal()
        );
        let phases = [
            JournalPhase::Writing,
            JournalPhase::Deleting,
            JournalPhase::Restoring,
        ];
        assert!(phases.into_iter().all(JournalPhase::is_open));
        assert!(!JournalPhase::Verified.is_open() && !JournalPhase::Restored.is_open());
    }

    #[test]
    fn another_format_is_named_in_the_error() {
        let newer = String::from_utf8(journal().to_json().unwrap())
            .unwrap()
            .replace("\"form\":1", "\"form\":2");
        assert!(
            Journal::from_json(newer.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("form 2")
        );
        assert!(matches!(
            Journal::from_json(b"{}"),
            Err(JournalError::Json(_))
        ));
        assert!(matches!(
            Journal::from_json(&vec![b' '; MAX_BYTES + 1]),
            Err(JournalError::TooLong(_))
        ));
    }
}
