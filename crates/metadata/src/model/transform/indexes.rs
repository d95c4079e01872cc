//! Indexes. Only the collection's current record shows which field has which index; its history
//! does not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;

use crate::model::{
    keys::{INDEX, OLD_INDEX, numbers},
    messages::{
        FIRST_VECTOR_TYPE, FieldIndex, FieldIndexInfo, FieldSchema, IndexInfo, KeyValuePair,
        OldIndex,
    },
    notes::NoteKind,
    options::Deviation,
    plan::Kind,
    record::Record,
};

use super::{
    collections::{Collection, Live},
    output::{Output, is_tombstone},
    params::flatten,
};

/// Name that 2.1 gives to an index without a name. 2.2 appends the field, and looks for that name.
const DEFAULT_NAME: &str = "_default_idx";

/// What other records need of indexes.
#[derive(Default)]
pub(super) struct Indexes<'d> {
    old: HashMap<(i64, i64), Old<'d>>,
    loadable: HashMap<i64, BTreeMap<i64, i64>>,
    with_vector: BTreeSet<i64>,
}

struct Old<'d> {
    record: &'d Record,
    info: OldIndex,
    is_used: bool,
}

impl Indexes<'_> {
    /// Whether an index has a record and is not dropped.
    pub(super) fn is_live(&self, collection: i64, index: i64) -> bool {
        self.old
            .get(&(collection, index))
            .is_some_and(|old| !old.info.deleted)
    }

    /// Index by field, for the load of a collection in 2.2.
    pub(super) fn loadable(&self, collection: i64) -> Option<&BTreeMap<i64, i64>> {
        self.loadable.get(&collection)
    }

    pub(super) fn has_vector_index(&self, collection: i64) -> bool {
        self.with_vector.contains(&collection)
    }
}

pub(super) fn migrate<'d>(output: &mut Output<'d>, live: &Live<'d>) -> Indexes<'d> {
    let mut indexes = Indexes {
        old: read(output),
        ..Indexes::default()
    };
    for (id, collection) in live {
        if collection.field_indexes.is_empty() {
            continue;
        }
        if let Err(what) = check_schema(&collection.fields) {
            output.problem(collection.record, what);
            continue;
        }
        for pair in &collection.field_indexes {
            migrate_one(output, &mut indexes, *id, collection, *pair);
        }
    }
    let mut unused: Vec<&Record> = indexes
        .old
        .values()
        .filter(|old| !old.is_used)
        .map(|old| old.record)
        .collect();
    unused.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    for record in unused {
        output.note(record, NoteKind::UnusedIndex);
    }
    indexes
}

fn read<'d>(output: &mut Output<'d>) -> HashMap<(i64, i64), Old<'d>> {
    let mut old = HashMap::new();
    for record in output.dump.under(OLD_INDEX) {
        output.deletes.push(record);
        if is_tombstone(record) && output.does(Deviation::SkipIndexTombstones) {
            output.note(record, NoteKind::IndexTombstone);
            continue;
        }
        let Some([collection, index]) = numbers(&record.key()[OLD_INDEX.len()..]) else {
            output.problem(record, "it is not the key of an index");
            continue;
        };
        let Some(info) = output.decode::<OldIndex>(record) else {
            continue;
        };
        if info.index_id != index {
            output.note(record, NoteKind::KeyMismatch);
        }
        old.insert(
            (collection, index),
            Old {
                record,
                info,
                is_used: false,
            },
        );
    }
    old
}

fn migrate_one(
    output: &mut Output<'_>,
    indexes: &mut Indexes<'_>,
    id: i64,
    collection: &Collection<'_>,
    pair: FieldIndexInfo,
) {
    let FieldIndexInfo { field_id, index_id } = pair;
    let Some(field) = collection
        .fields
        .iter()
        .find(|field| field.field_id == field_id)
    else {
        output.problem(
            collection.record,
            format!("index {index_id} is on field {field_id}, which the collection does not have"),
        );
        return;
    };
    let Some(old) = indexes.old.get_mut(&(id, index_id)) else {
        if output.does(Deviation::TolerateOrphans) {
            output.note(collection.record, NoteKind::MissingIndex);
        } else {
            output.problem(
                collection.record,
                format!("index {index_id} of collection {id} has no record"),
            );
        }
        return;
    };
    old.is_used = true;
    let info = &old.info;
    let params = match flatten(&info.index_params) {
        Ok(params) => params,
        Err(what) => {
            output.problem(
                old.record,
                format!("the parameters of index {index_id} of collection {id} {what}"),
            );
            return;
        }
    };
    let index_name = if info.index_name == DEFAULT_NAME {
        format!("{DEFAULT_NAME}_{field_id}")
    } else {
        info.index_name.clone()
    };
    let index = FieldIndex {
        index_info: Some(IndexInfo {
            collection_id: id,
            field_id,
            index_name,
            index_id,
            type_params: field.type_params.clone(),
            index_params: params
                .into_iter()
                .map(|(key, value)| KeyValuePair { key, value })
                .collect(),
            is_auto_index: false,
            user_index_params: info.index_params.clone(),
        }),
        deleted: info.deleted,
        create_time: info.create_time,
    };
    output.count(Kind::Indexes);
    output.put(format!("{INDEX}{id}/{index_id}"), index.encode_to_vec());
    if !info.deleted && field.data_type >= FIRST_VECTOR_TYPE {
        indexes.with_vector.insert(id);
    }
    if !info.deleted || !output.does(Deviation::IgnoreDeletedIndexes) {
        indexes
            .loadable
            .entry(id)
            .or_default()
            .insert(field_id, index_id);
    }
}

/// The schema checks of the official tool.
fn check_schema(fields: &[FieldSchema]) -> Result<(), String> {
    let (mut ids, mut names, mut has_key) = (BTreeSet::new(), BTreeSet::new(), false);
    for field in fields {
        if !ids.insert(field.field_id) {
            return Err(format!("field {} occurs twice", field.field_id));
        }
        if !names.insert(&field.name) {
            return Err(format!("two fields have the name {:?}", field.name));
        }
        if field.is_primary_key && std::mem::replace(&mut has_key, true) {
            return Err("it has two primary keys".into());
        }
    }
    Ok(())
}
