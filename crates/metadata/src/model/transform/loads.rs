//! Loaded collections. 2.2 loads them again automatically, if they have an index.

use std::collections::BTreeSet;

use prost::Message;

use crate::model::{
    keys::{COLLECTION_LOAD, OLD_LOAD, PARTITION_LOAD, numbers},
    messages::{CollectionLoad, LOAD_COLLECTION, LOAD_PARTITION, LOADED, OldLoad, PartitionLoad},
    notes::NoteKind,
    options::Deviation,
    plan::Kind,
    record::Record,
};

use super::{
    collections::Live,
    indexes::Indexes,
    output::{Output, is_tombstone},
};

/// Collections that are loaded, completely or in part.
pub(super) type Loads = BTreeSet<i64>;

pub(super) fn migrate<'d>(
    output: &mut Output<'d>,
    live: &Live<'d>,
    indexes: &Indexes<'d>,
) -> Loads {
    let mut loads = Loads::new();
    for record in output.dump.under(OLD_LOAD) {
        if output.does(Deviation::DeleteOldLoads) {
            output.deletes.push(record);
        }
        if is_tombstone(record) {
            continue;
        }
        let Some(load) = output.decode::<OldLoad>(record) else {
            continue;
        };
        if numbers(&record.key()[OLD_LOAD.len()..]) != Some([load.collection_id]) {
            output.note(record, NoteKind::KeyMismatch);
        }
        if load.in_memory_percentage < 100 {
            output.note(record, NoteKind::StillLoading);
            continue;
        }
        loads.insert(load.collection_id);
        migrate_one(output, live, indexes, record, load);
    }
    loads
}

fn migrate_one(
    output: &mut Output<'_>,
    live: &Live<'_>,
    indexes: &Indexes<'_>,
    record: &Record,
    load: OldLoad,
) {
    let OldLoad {
        collection_id,
        partition_ids,
        load_type,
        released_partition_ids,
        mut replica_number,
        ..
    } = load;
    // The official tool checks only whether any index exists, and only for collections.
    let has_index = if output.does(Deviation::DropUnindexedPartitionLoads) {
        indexes.loadable(collection_id).is_some()
    } else {
        load_type == LOAD_PARTITION
            || live
                .get(&collection_id)
                .is_some_and(|live| !live.field_indexes.is_empty())
    };
    if !has_index {
        output.note(record, NoteKind::LoadDropped);
        return;
    }
    if replica_number == 0 && output.does(Deviation::MendReplicaNumber) {
        output.note(record, NoteKind::ReplicasMended);
        replica_number = 1;
    }
    let field_index_id = indexes.loadable(collection_id).cloned().unwrap_or_default();
    match load_type {
        LOAD_COLLECTION => {
            let load = CollectionLoad {
                collection_id,
                released_partitions: released_partition_ids,
                replica_number,
                status: LOADED,
                field_index_id,
            };
            output.count(Kind::LoadedCollections);
            output.put(
                format!("{COLLECTION_LOAD}{collection_id}"),
                load.encode_to_vec(),
            );
        }
        LOAD_PARTITION => {
            for partition_id in partition_ids.into_iter().collect::<BTreeSet<i64>>() {
                let field_index_id = field_index_id.clone();
                let load = PartitionLoad {
                    collection_id,
                    partition_id,
                    replica_number,
                    status: LOADED,
                    field_index_id,
                };
                output.count(Kind::LoadedPartitions);
                output.put(
                    format!("{PARTITION_LOAD}{collection_id}/{partition_id}"),
                    load.encode_to_vec(),
                );
            }
        }
        _ => {}
    }
}
