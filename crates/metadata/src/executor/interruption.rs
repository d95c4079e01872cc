//! Messages of a run that stopped early: what happened, the state of the data, what to do next.

use std::path::Path;

use crate::model::{
    compare::ForeignChanges,
    journal::{Journal, JournalPhase},
    keys::shown,
};
use milvus_guard_core::text::count;
use milvus_guard_sources::etcd::failure::Kind;

use super::{apply::Interruption, error::MetaError, guard::Broken};

/// Maximum number of keys that a message names.
const NAMED: usize = 5;

/// The state of the data while a run is in this phase.
pub(super) const fn data(phase: JournalPhase) -> &'static str {
    match phase {
        JournalPhase::Writing => {
            "The metadata is half migrated: some new records are written and no old one is deleted; start neither 2.1 nor 2.2."
        }
        JournalPhase::Deleting => {
            "All new records are written and checked, old ones are partly deleted; start neither \
             2.1 nor 2.2 before it is verified."
        }
        JournalPhase::Restoring => "The metadata is half restored; start neither 2.1 nor 2.2.",
        JournalPhase::Verified => "The metadata is that of 2.2, verified; 2.1 must not be started.",
        JournalPhase::Restored => "The metadata is that of 2.1 again.",
    }
}

fn next(journal: &Journal) -> String {
    match go_back(journal) {
        Some(back) => format!("run the same command again, it resumes; or roll back: {back}."),
        None => "run the same command again, it resumes.".into(),
    }
}

fn go_back(journal: &Journal) -> Option<String> {
    let is_restore = matches!(
        journal.phase,
        JournalPhase::Restoring | JournalPhase::Restored
    );
    (!is_restore).then(|| format!("`milvus-guard meta restore {}`", journal.backup.path))
}

/// A run stopped after its record was written.
pub(super) fn stopped(interruption: Interruption, journal: &Journal) -> MetaError {
    let after = match &interruption {
        Interruption::Broken(Broken::Session(_)) => "stop that component; then ",
        Interruption::Failure(failure) if failure.kind == Kind::NoSpace => {
            "free space in etcd; then "
        }
        Interruption::Foreign(_) => "find the client that writes to this metadata; then ",
        _ => "",
    };
    MetaError::stopped(
        why(interruption),
        data(journal.phase),
        format!("{after}{}", next(journal)),
    )
}

/// A run stopped before its record was written, so nothing else was written either.
pub(super) fn before_writing(interruption: Interruption, backup: &Path) -> MetaError {
    let next = format!(
        "run the same command again; the backup {} is kept, and --backup can name it.",
        backup.display()
    );
    MetaError::refused(why(interruption), next)
}

/// A run in progress cannot resume, for a reason that would also refuse a new run.
pub(super) fn under_way(error: &MetaError, journal: &Journal) -> MetaError {
    let back = go_back(journal)
        .map(|back| format!(" Or go back: {back}."))
        .unwrap_or_default();
    MetaError::stopped(
        error.why(),
        data(journal.phase),
        format!("{}{back}", error.next()),
    )
}

/// Another client wrote to the metadata.
pub(super) fn foreign(changes: &ForeignChanges, journal: &Journal) -> MetaError {
    MetaError::stopped(
        changes.to_string(),
        data(journal.phase),
        format!(
            "undo these changes and run the same command again; or go back: `milvus-guard meta \
             restore {}`.",
            journal.backup.path
        ),
    )
}

/// What was written does not exist.
pub(super) fn not_as_planned(missing: usize, journal: &Journal) -> MetaError {
    MetaError::stopped(
        format!(
            "etcd differs in {} from what was just written",
            count(missing, "record")
        ),
        data(journal.phase),
        next(journal),
    )
}

fn why(interruption: Interruption) -> String {
    match interruption {
        Interruption::Broken(Broken::Lock) => {
            "the lock was lost: its lease ended, so another run may begin".into()
        }
        Interruption::Broken(Broken::Session(key)) => {
            format!(
                "a component of Milvus has started: its session is {}",
                shown(key.as_bytes())
            )
        }
        Interruption::Broken(Broken::Journal) => {
            "another run has written the record of the run".into()
        }
        Interruption::Broken(Broken::Record) => "records differ from what was expected".into(),
        Interruption::Foreign(keys) => {
            let named: Vec<String> = keys.iter().take(NAMED).map(|key| shown(key)).collect();
            let more = keys.len().saturating_sub(NAMED);
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            format!(
                "another client changed the metadata: {}{more}",
                named.join(", ")
            )
        }
        Interruption::Failure(failure) => failure.reason,
        Interruption::Asked => "it was asked to stop".into(),
    }
}
