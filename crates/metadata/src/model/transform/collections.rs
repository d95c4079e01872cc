//! Collections keep their keys, fields and partitions; only their list of indexes is removed.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use crate::model::{
    keys::{COLLECTION, COLLECTION_HISTORY, numbers, split_timestamp},
    messages::{CollectionInfo, FieldIndexInfo, FieldSchema},
    notes::NoteKind,
    options::Deviation,
    plan::{Kind, Rewrite},
    record::Record,
    wire,
};

use super::output::{Output, is_tombstone};

/// Field of `CollectionInfo` that 2.2 does not have.
const FIELD_INDEXES: u32 = 6;
const PARTITION_NAMES: u32 = 5;
const PARTITION_TIMES: u32 = 9;

/// Live collections, by id.
pub(super) type Live<'d> = BTreeMap<i64, Collection<'d>>;

/// What other records need of a collection.
pub(super) struct Collection<'d> {
    pub(super) record: &'d Record,
    pub(super) name: String,
    pub(super) fields: Vec<FieldSchema>,
    pub(super) field_indexes: Vec<FieldIndexInfo>,
}

pub(super) fn migrate<'d>(output: &mut Output<'d>) -> Live<'d> {
    let dump = output.dump;
    let newest = history(output);
    let mut live = Live::new();
    for record in dump.under(COLLECTION) {
        let Some([id]) = numbers(&record.key()[COLLECTION.len()..]) else {
            output.problem(record, "it is not the key of a collection");
            continue;
        };
        if is_tombstone(record) {
            output.count(Kind::DroppedCollections);
            continue;
        }
        output.count(Kind::Collections);
        let Some(info) = output.decode::<CollectionInfo>(record) else {
            continue;
        };
        convert(output, record, &info, id);
        if let Some((_, newest)) = newest.get(&id)
            && wire::without_field(newest.value(), FIELD_INDEXES)
                != wire::without_field(record.value(), FIELD_INDEXES)
        {
            output.note(record, NoteKind::DiffersFromHistory);
        }
        let Some(schema) = info.schema else { continue };
        if schema.fields.is_empty() || info.partition_ids.is_empty() {
            output.note(record, NoteKind::BareCollection);
        }
        let collection = Collection {
            record,
            name: schema.name,
            fields: schema.fields,
            field_indexes: info.field_indexes,
        };
        live.insert(id, collection);
    }
    live
}

/// Migrates the history and returns the newest record of each collection.
fn history<'d>(output: &mut Output<'d>) -> HashMap<i64, (u64, &'d Record)> {
    let mut newest: HashMap<i64, (u64, &'d Record)> = HashMap::new();
    for record in output.dump.under(COLLECTION_HISTORY) {
        let parsed = split_timestamp(&record.key()[COLLECTION_HISTORY.len()..])
            .and_then(|(path, ts)| numbers(path).map(|[id]: [i64; 1]| (id, ts)));
        let Some((id, ts)) = parsed else {
            output.problem(record, "it is not a key of a collection's history");
            continue;
        };
        output.count(Kind::CollectionHistory);
        let latest = newest.entry(id).or_insert((ts, record));
        if ts >= latest.0 {
            *latest = (ts, record);
        }
        if !is_tombstone(record)
            && let Some(info) = output.decode::<CollectionInfo>(record)
        {
            convert(output, record, &info, id);
        }
    }
    newest
}

/// Plans the new value of a collection's record, if it changes.
fn convert<'d>(output: &mut Output<'d>, record: &'d Record, info: &CollectionInfo, id: i64) {
    if info.id != id {
        output.problem(record, format!("it describes collection {}", info.id));
    }
    if info.schema.is_none() {
        output.problem(record, "it has no schema");
        return;
    }
    let value = if output.does(Deviation::KeepUnknownFields) {
        let Some(bytes) = wire::without_field(record.value(), FIELD_INDEXES) else {
            output.problem(record, "it has fields of a kind that Milvus does not write");
            return;
        };
        bytes
    } else {
        CollectionInfo {
            field_indexes: Vec::new(),
            ..info.clone()
        }
        .encode_to_vec()
    };
    let value = padded(output, record, info, value);
    if value != record.value() {
        output.rewrites.push(Rewrite {
            record,
            value: value.into(),
        });
    }
}

/// 2.2 reads names and times by the position of the partition's id, and crashes if there are too
/// few.
fn padded(
    output: &mut Output<'_>,
    record: &Record,
    info: &CollectionInfo,
    mut value: Vec<u8>,
) -> Vec<u8> {
    let partitions = info.partition_ids.len();
    let (names, times) = (
        info.partition_names.len(),
        info.partition_created_timestamps.len(),
    );
    if names >= partitions && times >= partitions {
        return value;
    }
    if !output.does(Deviation::PadPartitions) {
        output.problem(
            record,
            format!("it has {partitions} partitions, but {names} names and {times} creation times"),
        );
        return value;
    }
    output.note(record, NoteKind::PaddedPartitions);
    for id in info.partition_ids.iter().skip(names) {
        wire::append_text(&mut value, PARTITION_NAMES, &format!("partition_{id}"));
    }
    // No time is invented: 0 is the value of a record without a time.
    if times < partitions {
        wire::append_zeros(&mut value, PARTITION_TIMES, partitions - times);
    }
    value
}
