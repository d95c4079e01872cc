//! Backups as files: written completely or not at all, read back and compared before they count.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf, absolute},
};

use serde::Serialize;

use milvus_guard_core::text::count_is;

use crate::model::{
    Dump, Record,
    backup::{self as codec, Backup, Summary},
};

pub use codec::Form;

use super::{
    error::MetaError,
    events::{Event, Events, Running, Stage},
    file::{self, FileError},
    target::{Target, components, dump, sessions},
};

/// A complete and verified backup on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupFile {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// sha256 of the whole file, in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
    /// Format of the file.
    pub form: Form,
    /// Number of records.
    pub records: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Revision of etcd; 0 if the format does not record it.
    pub revision: i64,
    /// Identity of the etcd cluster; 0 if the format does not record it.
    #[serde(serialize_with = "super::hexadecimal")]
    pub cluster_id: u64,
    /// Root of the metadata.
    pub root: String,
}

/// Why a backup was not written, or not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupFileError {
    /// The file was not written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backup could not be encoded.
    #[error(transparent)]
    Encoding(#[from] codec::BackupError),
    /// The content of the file differs from what was written.
    #[error("the written data differs when read back")]
    Differs,
    /// Another file has this name.
    #[error("{} exists already and is never replaced ({why})", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// Why it is not this backup.
        why: Unreadable,
    },
    /// A backup cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: Unreadable,
    },
}

/// Why a file is not the wanted backup.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a complete backup.
    #[error(transparent)]
    Content(#[from] codec::BackupError),
    /// It is the backup of something else.
    #[error("it has other content")]
    Other,
}

/// Saves the metadata of one revision to a new file.
///
/// # Errors
/// [`MetaError::Refused`] if etcd cannot be read, there is no metadata, or the file cannot be
/// written.
pub async fn backup(
    target: &Target,
    out: &Path,
    form: Form,
    events: &dyn Events,
) -> Result<BackupFile, MetaError> {
    let root = target.root()?;
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let running = components(sessions(&store, &root).await.map_err(MetaError::unread)?);
    if !running.is_empty() {
        let note = format!(
            "{} running; changes of Milvus from now on are not in the backup",
            count_is(running.len(), "component")
        );
        events.event(Event::Warning { note });
    }
    let dump = dump(&store, &root, events)
        .await
        .map_err(MetaError::unread)?;
    if !dump.records().iter().any(Record::is_metadata) {
        return Err(MetaError::refused(
            format!("there is no metadata under {root}"),
            "check --root-path and --meta-sub-path.",
        ));
    }
    save(&dump, out, form, None, events).map_err(|why| {
        MetaError::refused(
            format!("the backup: {why}"),
            "name a new file in a folder that can be written.",
        )
    })
}

/// Writes a dump to a new file and compares the file with it. An existing file with exactly this
/// content counts as written; any other file is not changed.
pub(super) fn save(
    dump: &Dump,
    path: &Path,
    form: Form,
    source_version: Option<&str>,
    events: &dyn Events,
) -> Result<BackupFile, BackupFileError> {
    let path = absolute(path).map_err(unreadable(path))?;
    if path.try_exists().map_err(unreadable(&path))? {
        return reuse(dump, &path, form, events);
    }
    let total = Some(saved(dump).count() as u64);
    let summary = file::save(
        &path,
        |out| {
            let running = Running::begin(events, Stage::Backup, total);
            let summary = codec::write(dump, source_version, form, out)?;
            running.finish_at(summary.records);
            Ok(summary)
        },
        |again, summary| {
            let (read, same) = compared(dump, again, events)?;
            if same && read == *summary {
                Ok(())
            } else {
                Err(BackupFileError::Differs)
            }
        },
    )?;
    Ok(described(path, summary))
}

/// The existing file, if it is this backup.
fn reuse(
    dump: &Dump,
    path: &Path,
    form: Form,
    events: &dyn Events,
) -> Result<BackupFile, BackupFileError> {
    let exists = |why: Unreadable| BackupFileError::Exists {
        path: path.to_owned(),
        why,
    };
    let file = File::open(path).map_err(|error| exists(error.into()))?;
    let (summary, same) =
        compared(dump, BufReader::new(file), events).map_err(|error| exists(error.into()))?;
    if !same || summary.form != form || summary.root.prefix() != dump.root.prefix() {
        return Err(exists(Unreadable::Other));
    }
    events.event(Event::Note {
        note: format!(
            "{} is a backup of exactly this metadata already",
            path.display()
        ),
    });
    Ok(described(path.to_owned(), summary))
}

/// Reads a file record by record, and returns whether it has the keys and values of the dump.
fn compared(
    dump: &Dump,
    input: impl io::Read,
    events: &dyn Events,
) -> Result<(Summary, bool), codec::BackupError> {
    let mut running = Running::begin(events, Stage::CheckBackup, Some(saved(dump).count() as u64));
    let (mut expected, mut same) = (saved(dump), true);
    let summary = codec::check(input, |record| {
        same &= expected
            .next()
            .is_some_and(|saved| saved.key() == record.key() && saved.value() == record.value());
        running.advance(1);
    })?;
    running.finish();
    Ok((summary, same && expected.next().is_none()))
}

fn saved(dump: &Dump) -> impl Iterator<Item = &Record> {
    dump.records().iter().filter(|record| !record.leased)
}

fn described(path: PathBuf, summary: Summary) -> BackupFile {
    BackupFile {
        path,
        sha256: summary.sha256,
        form: summary.form,
        records: summary.records,
        bytes: summary.bytes,
        revision: summary.revision,
        cluster_id: summary.cluster_id,
        root: summary.root.to_string(),
    }
}

/// Reads a whole backup and checks every part of it.
pub(super) fn load(
    path: &Path,
    events: &dyn Events,
) -> Result<(Dump, BackupFile), BackupFileError> {
    let named = path;
    let path = absolute(named).map_err(unreadable(named))?;
    let file = File::open(&path).map_err(unreadable(named))?;
    let running = Running::begin(events, Stage::CheckBackup, None);
    let Backup { summary, dump } =
        codec::read(BufReader::with_capacity(1 << 20, file)).map_err(unreadable(named))?;
    running.finish_at(summary.records);
    Ok((dump, described(path, summary)))
}

fn unreadable<E: Into<Unreadable>>(path: &Path) -> impl FnOnce(E) -> BackupFileError {
    let path = path.to_owned();
    move |error| BackupFileError::Unreadable {
        path,
        why: error.into(),
    }
}

/// [`load`] for a file that the user named.
pub(super) fn open(path: &Path, events: &dyn Events) -> Result<(Dump, BackupFile), MetaError> {
    readable(path)?;
    load(path, events)
        .map_err(|error| MetaError::refused(error.to_string(), "give a complete backup."))
}

/// Checks that a file that the user named can be opened.
///
/// # Errors
/// [`MetaError::Usage`] if it cannot be opened.
pub fn readable(path: &Path) -> Result<(), MetaError> {
    File::open(path).map(|_| ()).map_err(|error| {
        MetaError::Usage(format!(
            "cannot read the backup {}: {error}",
            path.display()
        ))
    })
}
