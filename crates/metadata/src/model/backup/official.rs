//! The format of the official tool: lengths (8 bytes, little-endian) and protobuf messages, no
//! checksum.
//!
//! The official reader trusts any input. Here the number of entries must be the announced one, no
//! key may occur twice, and no byte may follow.

use std::io::{Read, Write};

use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::{BackupError, Form, MAX_KEY, MAX_VALUE, Sink, Source, Summary};
use crate::model::{
    hexadecimal,
    keys::{Root, shown},
    record::{Dump, Record},
};

const MAX_HEADER: u64 = 64 * 1024;
/// Bytes that a message needs in addition to its key and value.
const ENTRY_OVERHEAD: usize = 32;

/// `BackupHeader`. `BackupHeaderVersionV1`, the only version, is 0.
#[derive(Clone, PartialEq, Message)]
struct BackupHeader {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(string, tag = "2")]
    instance: String,
    #[prost(string, tag = "3")]
    meta_path: String,
    #[prost(int64, tag = "4")]
    entries: i64,
    #[prost(string, tag = "5")]
    component: String,
    #[prost(bytes = "vec", tag = "6")]
    extra: Vec<u8>,
}

/// `commonpb.KeyDataPair`. Keys need not be text.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Extra {
    #[serde(default)]
    entry_include_root_path: bool,
}

/// Writes what the official tool's `rollback` reads.
pub(super) fn write<'r, W: Write>(
    dump: &Dump,
    kept: impl Iterator<Item = &'r Record>,
    records: u64,
    out: W,
) -> Result<Summary, BackupError> {
    let refused = |what: String| BackupError::Writing(what);
    let path = dump.root.prefix().trim_end_matches('/');
    let (instance, meta_path) = path.rsplit_once('/').unwrap_or((path, ""));
    let extra = serde_json::to_vec(&Extra {
        entry_include_root_path: true,
    })
    .map_err(|error| refused(error.to_string()))?;
    let header = BackupHeader {
        instance: instance.into(),
        meta_path: meta_path.into(),
        entries: i64::try_from(records).map_err(|error| refused(error.to_string()))?,
        extra,
        ..BackupHeader::default()
    };
    let mut sink = Sink::new(out);
    put(&mut sink, &header)?;
    for record in kept {
        let key = dump.root.absolute(record.key());
        if key.len() > MAX_KEY || record.value().len() > MAX_VALUE {
            return Err(refused(format!("key {} is too large", shown(&key))));
        }
        put(
            &mut sink,
            &Entry {
                key,
                data: record.value().to_vec(),
            },
        )?;
    }
    sink.out.flush()?;
    Ok(Summary {
        form: Form::Official,
        root: dump.root.clone(),
        cluster_id: 0,
        revision: 0,
        source_version: None,
        records,
        bytes: sink.bytes,
        sha256: hexadecimal(&sink.sha.finalize()),
    })
}

fn put<W: Write>(sink: &mut Sink<W>, message: &impl Message) -> Result<(), BackupError> {
    let bytes = message.encode_to_vec();
    sink.put(&(bytes.len() as u64).to_le_bytes())?;
    sink.put(&bytes)
}

/// Reads everything after the length of the header. Keys of siblings of the root, which the
/// official tool saves too (`by-dev/meta2` next to `by-dev/meta`), are skipped.
pub(super) fn read<R: Read>(
    mut source: Source<R>,
    length: u64,
    mut seen: impl FnMut(Record),
) -> Result<Summary, BackupError> {
    let foreign = |what: &str| BackupError::Foreign(what.into());
    if length > MAX_HEADER {
        return Err(foreign(
            "it starts neither like a milvus-guard backup nor like one of the official tool",
        ));
    }
    let mut payload = Vec::new();
    source.bytes(usize::try_from(length).unwrap_or(usize::MAX), &mut payload)?;
    let header = BackupHeader::decode(&*payload)
        .map_err(|_| foreign("its header is not one of the official tool"))?;
    if header.version != 0 {
        return Err(BackupError::Unsupported(format!(
            "it is of the official tool's version {}",
            header.version
        )));
    }
    // Without this flag keys have another format than in etcd; only an unreleased version wrote
    // such files.
    if !serde_json::from_slice(&header.extra)
        .is_ok_and(|extra: Extra| extra.entry_include_root_path)
    {
        return Err(BackupError::Unsupported(
            "its keys do not include the root path".into(),
        ));
    }
    let mut root = Root::new(&header.instance, &header.meta_path)?;
    let (mut count, mut records) = (0u64, 0u64);
    while let Some(length) = source.array_or_end::<8>()? {
        let limit = MAX_KEY + MAX_VALUE + ENTRY_OVERHEAD;
        let length = usize::try_from(u64::from_le_bytes(length))
            .ok()
            .filter(|length| *length <= limit);
        let Some(length) = length else {
            return Err(BackupError::Damaged(
                "an entry is larger than possible".into(),
            ));
        };
        source.bytes(length, &mut payload)?;
        let entry = Entry::decode(&*payload).map_err(|error| {
            BackupError::Damaged(format!("an entry is not a valid message ({error})"))
        })?;
        count += 1;
        source.admit(&entry.key, &entry.data, count)?;
        if count == 1 && entry.key.starts_with(b"/") && !root.prefix().starts_with('/') {
            // The tool joins the root again and may remove its leading slash.
            root = Root::new(&format!("/{}", header.instance), &header.meta_path)?;
        }
        if let Some(key) = root.relative(&entry.key) {
            records += 1;
            seen(Record::new(key, &entry.data, 0));
        }
    }
    if u64::try_from(header.entries) != Ok(count) {
        let announced = header.entries;
        return Err(BackupError::Damaged(format!(
            "it announces {announced} entries, but contains {count}"
        )));
    }
    let (bytes, sha256) = (source.bytes, source.digest());
    let form = Form::Official;
    Ok(Summary {
        form,
        root,
        cluster_id: 0,
        revision: 0,
        source_version: None,
        records,
        bytes,
        sha256,
    })
}
