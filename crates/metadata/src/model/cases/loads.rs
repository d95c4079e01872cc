use rstest::rstest;

use super::{default, strict};
use crate::model::{
    messages::{CollectionLoad, OldLoad, PartitionLoad},
    notes::NoteKind,
    options::{Deviation, Options},
    sample::{Sample, VECTOR_FIELD},
};

fn indexed(load: &OldLoad) -> Sample {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample
        .index(1, VECTOR_FIELD, 7, Sample::ivf_flat("v"))
        .load(load);
    sample
}

#[test]
fn case_25_a_loaded_collection() {
    let load = OldLoad {
        replica_number: 2,
        released_partition_ids: vec![12],
        ..Sample::loaded(1, 2)
    };
    let outcome = default(&indexed(&load));
    let expected = CollectionLoad {
        collection_id: 1,
        released_partitions: vec![12],
        replica_number: 2,
        status: 2,
        field_index_id: [(101, 7)].into(),
    };
    assert_eq!(
        outcome.message::<CollectionLoad>("querycoord-collection-loadinfo/1"),
        expected
    );
    assert_eq!(
        outcome.keys("queryCoord-collectionMeta/"),
        ["1"],
        "the old record stays"
    );
    assert!(outcome.keys("querycoord-partition-loadinfo/").is_empty());
}

#[test]
fn case_26_loaded_partitions() {
    let load = OldLoad {
        partition_ids: vec![12, 11],
        ..Sample::loaded(1, 1)
    };
    let outcome = default(&indexed(&load));
    assert_eq!(
        outcome.keys("querycoord-partition-loadinfo/"),
        ["1/11", "1/12"]
    );
    let expected = PartitionLoad {
        collection_id: 1,
        partition_id: 11,
        replica_number: 1,
        status: 2,
        field_index_id: [(101, 7)].into(),
    };
    assert_eq!(
        outcome.message::<PartitionLoad>("querycoord-partition-loadinfo/1/11"),
        expected
    );
    assert!(outcome.keys("querycoord-collection-loadinfo/").is_empty());

    let mut without = Sample::new();
    without.collection(1, "c");
    without.load(&load);
    let outcome = default(&without);
    assert!(
        outcome.keys("querycoord-partition-loadinfo/").is_empty()
            && outcome.has_note(NoteKind::LoadDropped)
    );
    let outcome = strict(&without);
    assert_eq!(
        outcome.keys("querycoord-partition-loadinfo/"),
        ["1/11", "1/12"]
    );
    assert!(
        outcome
            .message::<PartitionLoad>("querycoord-partition-loadinfo/1/11")
            .field_index_id
            .is_empty()
    );
}

#[rstest]
#[case(OldLoad { in_memory_percentage: 60, ..Sample::loaded(1, 2) })]
#[case(OldLoad { in_memory_percentage: 99, ..Sample::loaded(1, 1) })]
#[case(Sample::loaded(1, 0))]
#[case(Sample::loaded(1, 9))]
fn case_27_collections_that_are_not_loaded_are_not_carried_over(#[case] load: OldLoad) {
    for outcome in [default(&indexed(&load)), strict(&indexed(&load))] {
        assert!(outcome.keys("querycoord-").is_empty());
    }
}

#[test]
fn case_27_zero_replicas_become_one() {
    let sample = indexed(&OldLoad {
        replica_number: 0,
        ..Sample::loaded(1, 2)
    });
    let replicas = |outcome: &super::Outcome| {
        outcome
            .message::<CollectionLoad>("querycoord-collection-loadinfo/1")
            .replica_number
    };
    assert_eq!(
        (replicas(&default(&sample)), replicas(&strict(&sample))),
        (1, 0)
    );
}

#[rstest]
#[case(2)]
#[case(1)]
fn case_28_collections_that_do_not_exist(#[case] load_type: i32) {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.load(&OldLoad {
        partition_ids: vec![5],
        ..Sample::loaded(9, load_type)
    });
    assert!(default(&sample).keys("querycoord-").is_empty());
    assert_eq!(
        strict(&sample).keys("querycoord-").len(),
        usize::from(load_type == 1),
        "case 26"
    );
}

#[test]
fn old_load_records_are_deleted_if_requested() {
    let sample = indexed(&Sample::loaded(1, 2));
    let options = Options::default().with(Deviation::DeleteOldLoads);
    let outcome = super::Outcome::of(&sample, &options).unwrap();
    assert!(outcome.keys("queryCoord-").is_empty() && outcome.keys("querycoord-").len() == 1);
}
