use prost::Message;
use rstest::rstest;

use super::{default, failure, strict};
use crate::model::{
    keys::TOMBSTONE,
    messages::{AliasInfo, CollectionInfo, FieldIndexInfo},
    notes::NoteKind,
    options::Options,
    sample::{Sample, VECTOR_FIELD},
};

const DDL: [&str; 4] = [
    "root-coord/dd-msg-send",
    "root-coord/dd-operation",
    "snapshots/root-coord/dd-msg-send_ts434000000000262144",
    "snapshots/root-coord/dd-operation_ts434000000000262144",
];

#[test]
fn case_2_a_collection_without_an_index_stays_byte_for_byte() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    for outcome in [default(&sample), strict(&sample)] {
        assert!(outcome.written().is_empty(), "{:?}", outcome.written());
        assert_eq!(outcome.gone(), DDL);
        assert_eq!(outcome.unloadable[0].name, "c");
    }
}

#[test]
fn case_18_a_dropped_collection_keeps_its_tombstones() {
    let mut sample = Sample::new();
    sample
        .collection(1, "c")
        .field_indexes
        .push(FieldIndexInfo {
            field_id: VECTOR_FIELD,
            index_id: 3,
        });
    let with_index = sample.collections[&1].encode_to_vec();
    sample
        .put("snapshots/root-coord/collection/1_ts9", &with_index)
        .drop_collection(1);
    sample.load(&Sample::loaded(1, 2));
    let outcome = default(&sample);
    assert_eq!(
        outcome.written(),
        ["snapshots/root-coord/collection/1_ts9"],
        "older history loses its indexes"
    );
    let old: CollectionInfo = outcome.message("snapshots/root-coord/collection/1_ts9");
    let created = sample.now() - 2 * 262_144;
    assert!(old.field_indexes.is_empty() && old.schema.is_some() && old.create_time == created);
    assert_eq!(outcome.after["root-coord/collection/1"], TOMBSTONE);
    assert!(
        outcome
            .after
            .iter()
            .filter(|(key, _)| key.starts_with("snapshots/root-coord/collection/1"))
            .count()
            == 3
    );
    assert!(
        outcome.keys("field-index/").is_empty()
            && outcome.keys("querycoord-collection-loadinfo/").is_empty()
    );
}

#[test]
fn case_19_history_keeps_its_partitions_and_times() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    for partition in [11, 12, 13, 12] {
        sample.partition(1, partition);
    }
    sample.index(1, VECTOR_FIELD, 7, Sample::ivf_flat("_default_idx"));
    let outcome = default(&sample);
    let history: Vec<(String, Vec<i64>)> = outcome
        .keys("snapshots/root-coord/collection/")
        .iter()
        .map(|key| {
            let info: CollectionInfo =
                outcome.message(&format!("snapshots/root-coord/collection/{key}"));
            ((*key).to_owned(), info.partition_ids)
        })
        .collect();
    let partitions: Vec<&[i64]> = history
        .iter()
        .map(|(_, partitions)| &**partitions)
        .collect();
    assert_eq!(
        partitions,
        [
            &[10][..],
            &[10, 11],
            &[10, 11, 12],
            &[10, 11, 12, 13],
            &[10, 11, 13]
        ]
    );
    assert_eq!(
        outcome.written(),
        ["field-index/1/7", "root-coord/collection/1"]
    );
    assert!(
        outcome.notes.is_empty(),
        "only the indexes differ from history: {:?}",
        outcome.notes
    );
}

#[test]
fn a_collection_that_differs_from_its_history_is_noted() {
    let mut sample = Sample::new();
    sample.collection(1, "c").shards_num = 2;
    assert_eq!(
        default(&sample).notes,
        [(
            "root-coord/collection/1".into(),
            NoteKind::DiffersFromHistory
        )]
    );
}

#[test]
fn case_20_to_22_aliases_are_moved() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.collection(2, "a-collection");
    sample
        .alias("a", Some(1))
        .alias("gone", Some(1))
        .alias("gone", None)
        .alias("moved", Some(1))
        .alias("moved", Some(2));
    let outcome = default(&sample);
    let alias = |name: &str, collection_id, created_time| AliasInfo {
        alias_name: name.into(),
        collection_id,
        created_time,
        ..AliasInfo::default()
    };
    assert_eq!(
        outcome.message::<AliasInfo>("root-coord/aliases/a"),
        alias("a", 1, 0)
    );
    assert_eq!(
        outcome.message::<AliasInfo>("root-coord/aliases/moved"),
        alias("moved", 2, 0)
    );
    assert_eq!(outcome.after["root-coord/aliases/gone"], TOMBSTONE);
    let history = outcome.keys("snapshots/root-coord/aliases/");
    assert_eq!(history.len(), 5);
    let targets: Vec<i64> = history
        .iter()
        .filter(|key| key.starts_with("moved"))
        .map(|key| {
            let info: AliasInfo = outcome.message(&format!("snapshots/root-coord/aliases/{key}"));
            assert_eq!(*key, format!("moved_ts{}", info.created_time));
            info.collection_id
        })
        .collect();
    assert_eq!(targets, [1, 2]);
    assert_eq!(
        history
            .iter()
            .filter(
                |key| outcome.after[&format!("snapshots/root-coord/aliases/{key}")] == TOMBSTONE
            )
            .count(),
        1
    );
    assert!(
        !outcome
            .after
            .keys()
            .any(|key| key.contains("collection-alias"))
    );
    assert_eq!(
        outcome.keys("root-coord/collection"),
        ["/1", "/2"],
        "case 24"
    );
}

#[test]
fn case_23_timestamps_are_split_from_the_right() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.alias("x_ts_y_ts9", Some(1));
    let outcome = default(&sample);
    assert_eq!(outcome.keys("root-coord/aliases/"), ["x_ts_y_ts9"]);
    assert!(outcome.keys("snapshots/root-coord/aliases/")[0].starts_with("x_ts_y_ts9_ts4340"));
}

#[test]
fn aliases_without_a_name_get_that_of_the_key() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.put(
        "root-coord/collection-alias/b",
        CollectionInfo {
            id: 1,
            ..CollectionInfo::default()
        }
        .encode_to_vec(),
    );
    let outcome = default(&sample);
    assert_eq!(
        outcome
            .message::<AliasInfo>("root-coord/aliases/b")
            .alias_name,
        "b"
    );
    assert!(outcome.has_note(NoteKind::NamelessAlias));
}

#[test]
fn case_41_missing_schemas_and_short_lists_are_reported_with_their_key() {
    for options in [Options::default(), Options::strict_upstream()] {
        let mut sample = Sample::new();
        sample.collection(1, "c");
        sample.put(
            "snapshots/root-coord/collection/1_ts5",
            CollectionInfo {
                id: 1,
                ..Default::default()
            }
            .encode_to_vec(),
        );
        let error = failure(&sample, &options);
        assert!(
            error.contains("snapshots/root-coord/collection/1_ts5: it has no schema"),
            "{error}"
        );
    }
    let mut sample = Sample::new();
    let collection = sample.collection(1, "c");
    collection.partition_ids.push(77);
    collection.partition_created_timestamps.clear();
    let error = failure(&sample, &Options::strict_upstream());
    assert!(
        error.contains(
            "root-coord/collection/1: it has 2 partitions, but 1 names and 0 creation times"
        ),
        "{error}"
    );
    let outcome = default(&sample);
    let info: CollectionInfo = outcome.message("root-coord/collection/1");
    assert_eq!(info.partition_names, ["_default", "partition_77"]);
    assert_eq!(info.partition_created_timestamps, [0, 0]);
    assert!(outcome.has_note(NoteKind::PaddedPartitions));
}

#[test]
fn unknown_fields_stay_unless_strict() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.index(1, VECTOR_FIELD, 7, Sample::ivf_flat("i"));
    let info = sample.collections.remove(&1).unwrap();
    // Field 99, varint 7.
    let unknown = [0x98, 0x06, 7];
    sample.put(
        "root-coord/collection/1",
        [&info.encode_to_vec()[..], &unknown].concat(),
    );
    let without = CollectionInfo {
        field_indexes: Vec::new(),
        ..info
    }
    .encode_to_vec();
    assert_eq!(
        default(&sample).after["root-coord/collection/1"],
        [&without[..], &unknown].concat()
    );
    assert_eq!(strict(&sample).after["root-coord/collection/1"], without);
}

#[rstest]
#[case("root-coord/collection/abc", b"x", "not the key of a collection")]
#[case("root-coord/collection/1/2", b"x", "not the key of a collection")]
#[case(
    "snapshots/root-coord/collection/1",
    b"x",
    "not a key of a collection's history"
)]
#[case(
    "snapshots/root-coord/collection/x_ts1",
    b"x",
    "not a key of a collection's history"
)]
#[case("snapshots/root-coord/collection/1_ts1", b"\xff", "not a valid record")]
#[case("root-coord/collection-alias/", b"x", "not the key of an alias")]
#[case("root-coord/collection-alias/a/b", b"x", "not the key of an alias")]
#[case("root-coord/collection-alias/a", b"\xff", "not a valid record")]
#[case(
    "snapshots/root-coord/collection-alias/a",
    b"x",
    "not a key of an alias's history"
)]
#[case("root-coord/index/1", b"", "not the key of an index")]
#[case("root-coord/index/1/2", b"\xff", "not a valid record")]
#[case("root-coord/segment-index/1/2/3/4", b"\xff", "not a valid record")]
#[case("indexes/1", b"\xff", "not a valid record")]
#[case("queryCoord-collectionMeta/1", b"\xff", "not a valid record")]
fn values_that_cannot_be_decoded_stop_the_migration(
    #[case] key: &str,
    #[case] value: &[u8],
    #[case] expected: &str,
) {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.put(key, value);
    for options in [Options::default(), Options::strict_upstream()] {
        let error = failure(&sample, &options);
        assert!(error.contains(key) && error.contains(expected), "{error}");
    }
}

#[test]
fn keys_outside_of_the_areas_are_ignored() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    for key in [
        "root-coord/indexfoo",
        "root-coord/dd-operation-of-mine",
        "root-coord/collectionx/1",
        "snapshots/root-coord/dd-operationx_ts1",
    ] {
        sample.put(key, "mine");
    }
    let outcome = default(&sample);
    assert_eq!(outcome.gone(), DDL);
    assert!(outcome.written().is_empty());
}
