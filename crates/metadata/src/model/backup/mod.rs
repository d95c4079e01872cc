//! Backups: all records of one revision in one file.
//!
//! Two formats: our own, in which every record and the whole file have checksums, and the one of
//! the official tool, which has none. Both can be read. Nothing is returned before the whole file
//! was read and checked.

mod official;
mod own;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::{
    hexadecimal,
    keys::{Root, RootError, shown},
    record::{Dump, DuplicateKey, Record},
};

pub use own::{Header, Writer};

/// Maximum bytes of a key. etcd itself allows no request above 1.5 MiB by default.
const MAX_KEY: usize = 1024 * 1024;
/// Maximum bytes of a value.
const MAX_VALUE: usize = 64 * 1024 * 1024;
/// Maximum number of records. etcd is not designed for more than 8 GiB.
const MAX_RECORDS: u64 = 50_000_000;
/// Maximum bytes of all keys and values.
const MAX_TOTAL: u64 = 8 * 1024 * 1024 * 1024;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Our own format.
    Own,
    /// The format of the official tool.
    Official,
}

/// Content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Format of the file.
    pub form: Form,
    /// The root of the records.
    pub root: Root,
    /// Identity of the etcd cluster; 0 if the format does not record it.
    pub cluster_id: u64,
    /// Revision of etcd; 0 if the format does not record it.
    pub revision: i64,
    /// Version of Milvus that wrote the metadata, if known.
    pub source_version: Option<String>,
    /// Number of records.
    pub records: u64,
    /// Size of the file.
    pub bytes: u64,
    /// sha256 of the whole file, in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

/// A complete, checked backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Content of the file.
    pub summary: Summary,
    /// The records.
    pub dump: Dump,
}

/// Why a file is not a valid backup, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file ends too early.
    #[error("the backup is cut off after {0} bytes")]
    CutOff(u64),
    /// Its bytes differ from what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It is not a backup.
    #[error("this is not a backup: {0}")]
    Foreign(String),
    /// Its format is newer, or too old to be used.
    #[error("the backup cannot be used: {0}")]
    Unsupported(String),
    /// It exceeds a limit.
    #[error("the backup is too large: {0}")]
    TooLarge(String),
    /// The records do not match the announced ones.
    #[error("the backup cannot be written: {0}")]
    Writing(String),
}

impl From<RootError> for BackupError {
    fn from(error: RootError) -> Self {
        Self::Foreign(error.to_string())
    }
}

impl From<DuplicateKey> for BackupError {
    fn from(error: DuplicateKey) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Writes a dump. Keys with a lease are left out, because they would expire after a restore.
///
/// # Errors
/// If writing fails, or a record is too large to be read back.
pub fn write<W: Write>(
    dump: &Dump,
    source_version: Option<&str>,
    form: Form,
    out: W,
) -> Result<Summary, BackupError> {
    let kept = || dump.records().iter().filter(|record| !record.leased);
    let records = kept().count() as u64;
    if form == Form::Official {
        return official::write(dump, kept(), records, out);
    }
    let header = Header {
        root: dump.root.clone(),
        cluster_id: dump.cluster_id,
        revision: dump.revision,
        source_version: source_version.map(Into::into),
        records,
    };
    let mut writer = Writer::begin(out, header)?;
    kept().try_for_each(|record| writer.push(record))?;
    writer.finish()
}

/// Reads a whole backup of either format.
///
/// # Errors
/// If anything in it is invalid.
pub fn read<R: Read>(input: R) -> Result<Backup, BackupError> {
    let mut records = Vec::new();
    let summary = check(input, |record| records.push(record))?;
    let dump = Dump::new(
        summary.root.clone(),
        summary.cluster_id,
        summary.revision,
        records,
    )?;
    Ok(Backup { summary, dump })
}

/// Reads a backup of either format and passes each record to `seen`, so that none need be kept.
/// Until this returns without an error, the records may be wrong.
///
/// # Errors
/// If anything in it is invalid.
pub fn check<R: Read>(input: R, seen: impl FnMut(Record)) -> Result<Summary, BackupError> {
    let mut source = Source::new(input);
    let start = source.array::<8>()?;
    if start == own::MAGIC {
        own::read(source, seen)
    } else {
        official::read(source, u64::from_le_bytes(start), seen)
    }
}

/// Bytes that are counted and hashed while they are read.
struct Source<R> {
    input: R,
    sha: Sha256,
    bytes: u64,
    total: u64,
}

impl<R: Read> Source<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            sha: Sha256::new(),
            bytes: 0,
            total: 0,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut array = [0; N];
        match self.fill(&mut array)? {
            filled if filled == N => Ok(array),
            _ => Err(BackupError::CutOff(self.bytes)),
        }
    }

    /// `None` if the file ends exactly here.
    fn array_or_end<const N: usize>(&mut self) -> Result<Option<[u8; N]>, BackupError> {
        let mut array = [0; N];
        match self.fill(&mut array)? {
            0 => Ok(None),
            filled if filled == N => Ok(Some(array)),
            _ => Err(BackupError::CutOff(self.bytes)),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, BackupError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.sha.update(&buffer[..filled]);
        self.bytes += filled as u64;
        Ok(filled)
    }

    /// Reads exactly `length` bytes into `buffer`. Memory grows with the bytes that are read, not
    /// with the announced length.
    fn bytes(&mut self, length: usize, buffer: &mut Vec<u8>) -> Result<(), BackupError> {
        buffer.clear();
        let read = self
            .input
            .by_ref()
            .take(length as u64)
            .read_to_end(buffer)?;
        self.sha.update(&*buffer);
        self.bytes += read as u64;
        if read == length {
            Ok(())
        } else {
            Err(BackupError::CutOff(self.bytes))
        }
    }

    fn must_end(&mut self) -> Result<(), BackupError> {
        match self.array_or_end::<1>() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(BackupError::Damaged("something follows its end".into())),
            Err(error) => Err(error),
        }
    }

    /// Refuses what no backup contains, and what exceeds a limit.
    fn admit(&mut self, key: &[u8], value: &[u8], records: u64) -> Result<(), BackupError> {
        let too_large = |what: String| Err(BackupError::TooLarge(what));
        if key.is_empty() {
            return Err(BackupError::Damaged("a key is empty".into()));
        }
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return too_large(format!(
                "key {} has {} bytes, its value {}",
                shown(key),
                key.len(),
                value.len()
            ));
        }
        self.total += (key.len() + value.len()) as u64;
        if records > MAX_RECORDS || self.total > MAX_TOTAL {
            return too_large(format!(
                "more than {MAX_RECORDS} records or {MAX_TOTAL} bytes"
            ));
        }
        Ok(())
    }

    fn digest(&self) -> String {
        hexadecimal(&self.sha.clone().finalize())
    }
}

/// Bytes that are counted and hashed while they are written.
struct Sink<W> {
    out: W,
    sha: Sha256,
    bytes: u64,
}

impl<W: Write> Sink<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            sha: Sha256::new(),
            bytes: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.out.write_all(bytes)?;
        self.sha.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
