use rstest::rstest;

use super::{default, failure, strict};
use crate::model::{
    messages::{
        CollectionInfo, CollectionLoad, FieldIndex, FieldIndexInfo, IndexInfo, OldIndex,
        SegmentIndex,
    },
    notes::NoteKind,
    options::Options,
    sample::{KEY_FIELD, Sample, TEXT_FIELD, VECTOR_FIELD, pairs},
};

fn one_index(index: OldIndex) -> Sample {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.index(1, VECTOR_FIELD, 7, index);
    sample
}

#[test]
fn case_3_a_collection_with_an_index_and_a_segment() {
    let mut sample = one_index(Sample::ivf_flat("_default_idx"));
    sample.built([1, 10, 20], VECTOR_FIELD, 7, 300);
    for outcome in [default(&sample), strict(&sample)] {
        let raw = pairs(&[
            ("index_type", "IVF_FLAT"),
            ("metric_type", "L2"),
            ("params", "{\"nlist\":1024}"),
        ]);
        let expected = FieldIndex {
            index_info: Some(IndexInfo {
                collection_id: 1,
                field_id: VECTOR_FIELD,
                index_name: "_default_idx_101".into(),
                index_id: 7,
                type_params: pairs(&[("dim", "128")]),
                index_params: pairs(&[
                    ("index_type", "IVF_FLAT"),
                    ("metric_type", "L2"),
                    ("nlist", "1024"),
                ]),
                is_auto_index: false,
                user_index_params: raw,
            }),
            deleted: false,
            create_time: 434_000_000_000_000_001,
        };
        assert_eq!(outcome.message::<FieldIndex>("field-index/1/7"), expected);
        let expected = SegmentIndex {
            collection_id: 1,
            partition_id: 10,
            segment_id: 20,
            num_rows: 100_000,
            index_id: 7,
            build_id: 300,
            node_id: 5,
            index_version: 1,
            state: 3,
            fail_reason: String::new(),
            index_file_keys: vec!["IVF_0".into(), "IVF_1".into(), "IVF_2".into()],
            deleted: false,
            create_time: 434_000_000_000_000_002,
            serialize_size: 51_200_000,
            write_handoff: true,
        };
        assert_eq!(
            outcome.message::<SegmentIndex>("segment-index/1/10/20/300"),
            expected
        );
        let collection: CollectionInfo = outcome.message("root-coord/collection/1");
        assert_eq!(
            collection,
            CollectionInfo {
                field_indexes: Vec::new(),
                ..sample.collections[&1].clone()
            }
        );
        for old in [
            "root-coord/index/",
            "root-coord/segment-index/",
            "indexes/",
            "root-coord/dd-",
        ] {
            assert!(outcome.keys(old).is_empty(), "{old}");
        }
        assert!(
            outcome.unloadable.is_empty() && outcome.notes.is_empty(),
            "{:?}",
            outcome.notes
        );
    }
}

#[test]
fn case_4_names_that_users_gave_are_kept() {
    let info: FieldIndex =
        default(&one_index(Sample::ivf_flat("my_idx"))).message("field-index/1/7");
    assert_eq!(info.index_info.unwrap().index_name, "my_idx");
}

#[test]
fn case_5_each_field_has_its_own_parameters() {
    let mut sample = one_index(Sample::ivf_flat("v"));
    let trie = OldIndex {
        index_name: "t".into(),
        index_params: pairs(&[("index_type", "Trie")]),
        ..OldIndex::default()
    };
    sample.index(1, TEXT_FIELD, 8, trie);
    let outcome = default(&sample);
    let type_params = |key: &str| {
        outcome
            .message::<FieldIndex>(key)
            .index_info
            .unwrap()
            .type_params
    };
    assert_eq!(outcome.keys("field-index/"), ["1/7", "1/8"]);
    assert_eq!(type_params("field-index/1/7"), pairs(&[("dim", "128")]));
    assert_eq!(
        type_params("field-index/1/8"),
        pairs(&[("max_length", "256")])
    );
}

#[test]
fn a_scalar_index_alone_does_not_make_a_collection_loadable() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample
        .index(1, TEXT_FIELD, 8, Sample::ivf_flat("t"))
        .load(&Sample::loaded(1, 2));
    let unloadable = default(&sample).unloadable;
    assert_eq!(
        (
            unloadable.len(),
            unloadable[0].collection_id,
            unloadable[0].is_loaded
        ),
        (1, 1, true)
    );
}

#[rstest]
#[case("")]
#[case("[1]")]
fn case_7_parameters_that_are_not_an_object_stop_the_migration(#[case] params: &str) {
    let index = OldIndex {
        index_params: pairs(&[("params", params)]),
        ..OldIndex::default()
    };
    for options in [Options::default(), Options::strict_upstream()] {
        let error = failure(&one_index(index.clone()), &options);
        assert!(
            error.contains("root-coord/index/1/7: the parameters of index 7 of collection 1"),
            "{error}"
        );
    }
}

#[test]
fn case_14_dropped_indexes_are_carried_over_and_not_loaded() {
    let mut sample = one_index(OldIndex {
        deleted: true,
        ..Sample::ivf_flat("v")
    });
    sample
        .index(1, TEXT_FIELD, 8, Sample::ivf_flat("t"))
        .built([1, 10, 20], VECTOR_FIELD, 7, 300);
    sample.load(&Sample::loaded(1, 2));
    for (outcome, loaded) in [
        (default(&sample), vec![(102, 8)]),
        (strict(&sample), vec![(101, 7), (102, 8)]),
    ] {
        assert!(outcome.message::<FieldIndex>("field-index/1/7").deleted);
        assert_eq!(outcome.keys("segment-index/").len(), 1);
        let load: CollectionLoad = outcome.message("querycoord-collection-loadinfo/1");
        assert_eq!(load.field_index_id.into_iter().collect::<Vec<_>>(), loaded);
    }
}

#[rstest]
#[case([7, 8], 8, true)]
#[case([8, 7], 8, false)]
fn case_15_an_old_index_and_a_new_one(
    #[case] order: [i64; 2],
    #[case] by_default: i64,
    #[case] is_strict_same: bool,
) {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    for index in order {
        sample.index(
            1,
            VECTOR_FIELD,
            index,
            OldIndex {
                deleted: index == 7,
                ..Sample::ivf_flat("_default_idx")
            },
        );
    }
    sample.load(&Sample::loaded(1, 2));
    let loaded = |outcome: &super::Outcome| {
        outcome
            .message::<CollectionLoad>("querycoord-collection-loadinfo/1")
            .field_index_id[&101]
    };
    let outcome = default(&sample);
    for key in ["field-index/1/7", "field-index/1/8"] {
        assert_eq!(
            outcome
                .message::<FieldIndex>(key)
                .index_info
                .unwrap()
                .index_name,
            "_default_idx_101"
        );
    }
    assert_eq!(loaded(&outcome), by_default);
    assert_eq!(
        loaded(&strict(&sample)) == by_default,
        is_strict_same,
        "the official tool uses the last index"
    );
    assert!(outcome.unloadable.is_empty());
}

#[test]
fn case_16_records_without_a_reference_are_not_migrated() {
    let mut sample = one_index(Sample::ivf_flat("v"));
    sample
        .collections
        .get_mut(&1)
        .unwrap()
        .field_indexes
        .clear();
    sample.build(&Sample::finished([1, 10, 20], VECTOR_FIELD, 7, 9, 1));
    let outcome = default(&sample);
    assert!(outcome.keys("field-index/").is_empty() && outcome.keys("segment-index/").is_empty());
    assert!(outcome.keys("root-coord/index/").is_empty() && outcome.keys("indexes/").is_empty());
    assert!(outcome.has_note(NoteKind::UnusedIndex) && outcome.has_note(NoteKind::UnusedBuild));
}

#[test]
fn case_17_an_index_without_a_record() {
    let mut sample = Sample::new();
    sample
        .collection(1, "c")
        .field_indexes
        .push(FieldIndexInfo {
            field_id: VECTOR_FIELD,
            index_id: 7,
        });
    sample.load(&Sample::loaded(1, 2));
    let error = failure(&sample, &Options::strict_upstream());
    assert!(
        error.contains("root-coord/collection/1: index 7 of collection 1 has no record"),
        "{error}"
    );
    let outcome = default(&sample);
    assert_eq!(outcome.written(), ["root-coord/collection/1"]);
    assert!(outcome.has_note(NoteKind::MissingIndex) && outcome.has_note(NoteKind::LoadDropped));
    assert_eq!(outcome.unloadable.len(), 1);
}

#[test]
fn an_index_on_a_field_that_does_not_exist_stops_the_migration() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.index(1, 999, 7, Sample::ivf_flat("v"));
    assert!(failure(&sample, &Options::default()).contains("index 7 is on field 999"));
}

#[test]
fn schemas_are_checked_as_the_official_tool_does() {
    let broken = |change: fn(&mut CollectionInfo), expected: &str| {
        let mut sample = one_index(Sample::ivf_flat("v"));
        change(sample.collections.get_mut(&1).unwrap());
        let error = failure(&sample, &Options::strict_upstream());
        assert!(error.contains(expected), "{error}");
    };
    broken(
        |info| info.schema.as_mut().unwrap().fields[2].is_primary_key = true,
        "two primary keys",
    );
    broken(
        |info| info.schema.as_mut().unwrap().fields[2].field_id = KEY_FIELD,
        "field 100 occurs twice",
    );
    broken(
        |info| info.schema.as_mut().unwrap().fields[2].name = "id".into(),
        "two fields have the name",
    );
}

#[test]
fn case_29_tombstones_of_indexes_are_skipped_and_deleted() {
    let mut sample = one_index(Sample::ivf_flat("v"));
    sample
        .put("root-coord/index/3", super::super::keys::TOMBSTONE)
        .put("root-coord/segment-index/2", super::super::keys::TOMBSTONE);
    let outcome = default(&sample);
    assert!(
        outcome.keys("root-coord/index/").is_empty()
            && outcome.keys("root-coord/segment-index/").is_empty()
    );
    assert_eq!(
        outcome
            .notes
            .iter()
            .filter(|(_, kind)| *kind == NoteKind::IndexTombstone)
            .count(),
        2
    );
    assert!(failure(&sample, &Options::strict_upstream()).contains("root-coord/index/3"));
}
