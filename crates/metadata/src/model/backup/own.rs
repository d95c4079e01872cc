//! Our own format, version 1. Numbers are little-endian.
//!
//! ```text
//! file   = magic frame(header) frame(record)* frame(end)
//! frame  = kind u8 | length u32 | payload | crc32 u32 of all before it in the frame
//! header = JSON: version, root path, sub-path, cluster, revision, source version, number of records
//! record = length of key u32 | key | mod_revision i64 | value          sorted by key, each key once
//! end    = number of records u64 | sha256 of all bytes before this frame
//! ```

use std::io::{Read, Write};

use flate2::Crc;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::{BackupError, Form, MAX_KEY, MAX_VALUE, Sink, Source, Summary};
use crate::model::{
    hexadecimal,
    keys::{Root, shown},
    record::Record,
};

/// Not text, and damaged by any conversion of line ends. Read as a length, with which the official
/// format begins, it is impossibly large.
pub(super) const MAGIC: [u8; 8] = *b"\x89MGMETA\n";
const VERSION: u32 = 1;
const HEADER: u8 = 1;
const RECORD: u8 = 2;
const END: u8 = 3;
/// Length of the key and `mod_revision`.
const RECORD_HEAD: usize = 4 + 8;
const END_LENGTH: usize = 8 + 32;
const MAX_HEADER: usize = 64 * 1024;

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The root of the records.
    pub root: Root,
    /// Identity of the etcd cluster.
    pub cluster_id: u64,
    /// Revision of etcd.
    pub revision: i64,
    /// Version of Milvus that wrote the metadata, if known.
    pub source_version: Option<String>,
    /// Number of records.
    pub records: u64,
}

/// Numbers above 2^53 are stored as text, because some JSON parsers would round them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredHeader {
    version: u32,
    root_path: String,
    meta_sub_path: String,
    cluster_id: String,
    revision: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_version: Option<String>,
    records: u64,
}

/// Writes record by record.
pub struct Writer<W> {
    sink: Sink<W>,
    header: Header,
    written: u64,
    last: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// If writing fails.
    pub fn begin(out: W, header: Header) -> Result<Self, BackupError> {
        let stored = StoredHeader {
            version: VERSION,
            root_path: header.root.root_path().into(),
            meta_sub_path: header.root.meta_sub_path().into(),
            cluster_id: header.cluster_id.to_string(),
            revision: header.revision,
            source_version: header.source_version.clone(),
            records: header.records,
        };
        let json =
            serde_json::to_vec(&stored).map_err(|error| BackupError::Writing(error.to_string()))?;
        if json.len() > MAX_HEADER {
            return Err(BackupError::Writing("the root path is too long".into()));
        }
        let mut writer = Self {
            sink: Sink::new(out),
            header,
            written: 0,
            last: Vec::new(),
        };
        writer.sink.put(&MAGIC)?;
        writer.frame(HEADER, &[&json])?;
        Ok(writer)
    }

    /// Writes one record. Records must be sorted by key, each key once.
    ///
    /// # Errors
    /// If writing fails, or the record is not in order, is too large, or has a lease.
    pub fn push(&mut self, record: &Record) -> Result<(), BackupError> {
        let refused = |why: &str| {
            Err(BackupError::Writing(format!(
                "key {} {why}",
                shown(record.key())
            )))
        };
        if record.leased {
            return refused("is held by a lease");
        }
        if self.written > 0 && *record.key() <= *self.last {
            return refused("is not in order");
        }
        let (Ok(key), true) = (
            u32::try_from(record.key().len()),
            record.key().len() <= MAX_KEY && record.value().len() <= MAX_VALUE,
        ) else {
            return refused("is too large");
        };
        let revision = record.mod_revision.to_le_bytes();
        self.frame(
            RECORD,
            &[&key.to_le_bytes(), record.key(), &revision, record.value()],
        )?;
        self.written += 1;
        self.last.clear();
        self.last.extend_from_slice(record.key());
        Ok(())
    }

    /// Ends the file and flushes it. The caller must sync it to disk.
    ///
    /// # Errors
    /// If writing fails, or the number of records differs from the announced one.
    pub fn finish(mut self) -> Result<Summary, BackupError> {
        let Self { written, .. } = self;
        if written != self.header.records {
            let announced = self.header.records;
            return Err(BackupError::Writing(format!(
                "{written} records were written, but {announced} were announced"
            )));
        }
        let digest = self.sink.sha.clone().finalize();
        self.frame(END, &[&written.to_le_bytes(), &digest])?;
        self.sink.out.flush()?;
        let sha256 = hexadecimal(&self.sink.sha.finalize());
        Ok(summary(self.header, self.sink.bytes, sha256))
    }

    fn frame(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), BackupError> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length)
            .map_err(|_| BackupError::Writing("a record is too large".into()))?;
        let mut crc = Crc::new();
        let mut head = [kind, 0, 0, 0, 0];
        head[1..].copy_from_slice(&length.to_le_bytes());
        crc.update(&head);
        self.sink.put(&head)?;
        for part in parts {
            crc.update(part);
            self.sink.put(part)?;
        }
        self.sink.put(&crc.sum().to_le_bytes())
    }
}

fn summary(header: Header, bytes: u64, sha256: String) -> Summary {
    let Header {
        root,
        cluster_id,
        revision,
        source_version,
        records,
    } = header;
    Summary {
        form: Form::Own,
        root,
        cluster_id,
        revision,
        source_version,
        records,
        bytes,
        sha256,
    }
}

/// Reads everything after the magic bytes.
pub(super) fn read<R: Read>(
    mut source: Source<R>,
    mut seen: impl FnMut(Record),
) -> Result<Summary, BackupError> {
    let mut payload = Vec::new();
    if frame(&mut source, &mut payload)? != HEADER {
        return Err(BackupError::Damaged(
            "it does not begin with a header".into(),
        ));
    }
    let header = read_header(&payload)?;
    let mut last = Vec::new();
    let mut count = 0;
    loop {
        let before = source.sha.clone();
        match frame(&mut source, &mut payload)? {
            RECORD => {
                let record = read_record(&payload)?;
                count += 1;
                source.admit(record.key(), record.value(), count)?;
                if *record.key() <= *last {
                    return Err(BackupError::Damaged(format!(
                        "key {} is not in order",
                        shown(record.key())
                    )));
                }
                last.clear();
                last.extend_from_slice(record.key());
                seen(record);
            }
            END => {
                let expected = [&count.to_le_bytes()[..], &before.finalize()].concat();
                if payload != expected || count != header.records {
                    return Err(BackupError::Damaged(
                        "its records differ from those that were written".into(),
                    ));
                }
                source.must_end()?;
                return Ok(summary(header, source.bytes, source.digest()));
            }
            kind => {
                return Err(BackupError::Damaged(format!(
                    "it has a part of unknown kind {kind}"
                )));
            }
        }
    }
}

/// Reads the payload of one frame and returns its kind.
fn frame<R: Read>(source: &mut Source<R>, payload: &mut Vec<u8>) -> Result<u8, BackupError> {
    let head = source.array::<5>()?;
    let [kind, length @ ..] = head;
    let limit = match kind {
        HEADER => MAX_HEADER,
        END => END_LENGTH,
        _ => RECORD_HEAD + MAX_KEY + MAX_VALUE,
    };
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(BackupError::Damaged(format!(
            "a part of it has {length} bytes"
        )));
    }
    source.bytes(length, payload)?;
    let mut crc = Crc::new();
    crc.update(&head);
    crc.update(payload);
    if source.array()? != crc.sum().to_le_bytes() {
        return Err(BackupError::Damaged(format!(
            "the checksum before byte {} does not match",
            source.bytes
        )));
    }
    Ok(kind)
}

fn read_header(payload: &[u8]) -> Result<Header, BackupError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let damaged = |error: serde_json::Error| {
        BackupError::Damaged(format!("its header cannot be read ({error})"))
    };
    let Version { version } = serde_json::from_slice(payload).map_err(damaged)?;
    if version != u64::from(VERSION) {
        return Err(BackupError::Unsupported(format!(
            "it is of version {version}, this program reads version {VERSION}"
        )));
    }
    let stored: StoredHeader = serde_json::from_slice(payload).map_err(damaged)?;
    let cluster_id = stored
        .cluster_id
        .parse()
        .map_err(|_| BackupError::Damaged("its cluster has no id".into()))?;
    Ok(Header {
        root: Root::new(&stored.root_path, &stored.meta_sub_path)?,
        cluster_id,
        revision: stored.revision,
        source_version: stored.source_version,
        records: stored.records,
    })
}

fn read_record(payload: &[u8]) -> Result<Record, BackupError> {
    let parsed = payload.split_first_chunk::<4>().and_then(|(length, rest)| {
        let (key, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let (revision, value) = rest.split_first_chunk::<8>()?;
        Some(Record::new(key, value, i64::from_le_bytes(*revision)))
    });
    parsed.ok_or_else(|| BackupError::Damaged("a record is shorter than its length field".into()))
}
