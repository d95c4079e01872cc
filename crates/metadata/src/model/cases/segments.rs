use rstest::rstest;

use super::{default, failure, strict};
use crate::model::{
    messages::{Build, SEGMENT_DROPPED, SegmentIndex},
    notes::NoteKind,
    options::Options,
    sample::{FLUSHED, Sample, TEXT_FIELD, VECTOR_FIELD},
};

/// A collection with a vector and a text index.
fn indexed() -> Sample {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample
        .index(1, VECTOR_FIELD, 7, Sample::ivf_flat("v"))
        .index(1, TEXT_FIELD, 8, Sample::ivf_flat("t"));
    sample
}

#[test]
fn case_8_a_segment_below_the_threshold() {
    let mut sample = indexed();
    sample
        .built([1, 10, 20], VECTOR_FIELD, 7, 300)
        .segment_index([1, 10, 21], VECTOR_FIELD, 7, 0);
    let expected = |build_id| SegmentIndex {
        collection_id: 1,
        partition_id: 10,
        segment_id: 21,
        index_id: 7,
        build_id,
        index_version: 1,
        state: 3,
        create_time: 434_000_000_000_000_002,
        write_handoff: true,
        ..SegmentIndex::default()
    };
    assert_eq!(
        default(&sample).message::<SegmentIndex>("segment-index/1/10/21/299"),
        expected(299)
    );
    assert_eq!(
        strict(&sample).message::<SegmentIndex>("segment-index/1/10/21/0"),
        expected(0)
    );
}

#[test]
fn case_9_two_indexes_of_one_small_segment() {
    let mut sample = indexed();
    sample.built([1, 10, 20], VECTOR_FIELD, 7, 300);
    sample
        .segment_index([1, 10, 21], VECTOR_FIELD, 7, 0)
        .segment_index([1, 10, 21], TEXT_FIELD, 8, 0);
    assert_eq!(
        default(&sample).keys("segment-index/1/10/21/"),
        ["298", "299"]
    );
    let outcome = strict(&sample);
    assert_eq!(outcome.keys("segment-index/1/10/21/"), ["0"]);
    assert_eq!(
        outcome
            .message::<SegmentIndex>("segment-index/1/10/21/0")
            .index_id,
        8,
        "the last record by segment and index"
    );
    assert!(outcome.has_note(NoteKind::Replaced));
}

#[test]
fn case_10_without_any_build_ids_begin_at_one() {
    let mut sample = indexed();
    // Sorted as text, key 100 comes before 99.
    sample
        .segment_index([1, 10, 100], VECTOR_FIELD, 7, 0)
        .segment_index([1, 10, 99], VECTOR_FIELD, 7, 0);
    assert_eq!(
        default(&sample).keys("segment-index/1/10/"),
        ["100/2", "99/1"]
    );
}

#[test]
fn generated_build_ids_skip_zero() {
    let mut sample = indexed();
    sample.built([1, 10, 20], VECTOR_FIELD, 7, 2);
    for segment in 21..24 {
        sample.segment_index([1, 10, segment], VECTOR_FIELD, 7, 0);
    }
    assert_eq!(
        default(&sample).keys("segment-index/1/10/"),
        ["20/2", "21/1", "22/-1", "23/-2"]
    );
}

#[rstest]
#[case::nothing_known_of_segments(|_: &mut Sample| {}, false)]
#[case::segment_lives(|sample: &mut Sample| { sample.segment([1, 10, 20], 5, FLUSHED); }, false)]
#[case::segment_dropped(|sample: &mut Sample| { sample.segment([1, 10, 20], 5, SEGMENT_DROPPED); }, true)]
#[case::segment_forgotten(|sample: &mut Sample| { sample.segment([1, 10, 99], 5, FLUSHED); }, true)]
#[case::collection_dropped(|sample: &mut Sample| { sample.drop_collection(1); }, true)]
#[case::index_forgotten(|sample: &mut Sample| { sample.segment_index([1, 10, 20], VECTOR_FIELD, 9, 300); }, false)]
fn case_11_a_deleted_build(#[case] change: fn(&mut Sample), #[case] is_orphan: bool) {
    let mut sample = indexed();
    sample.segment_index([1, 10, 20], VECTOR_FIELD, 7, 300);
    change(&mut sample);
    let expected =
        "root-coord/segment-index/1/7/10/20: build 300 of index 7 of segment 20 has no record";
    assert!(failure(&sample, &Options::strict_upstream()).contains(expected));
    if is_orphan {
        let outcome = default(&sample);
        assert!(
            outcome.keys("segment-index/").is_empty()
                && outcome.has_note(NoteKind::OrphanedSegmentIndex)
        );
    } else {
        assert!(failure(&sample, &Options::default()).contains(expected));
    }
}

#[test]
fn a_deleted_index_makes_its_segments_orphans() {
    let mut sample = Sample::new();
    sample.collection(1, "c");
    sample.segment_index([1, 10, 20], VECTOR_FIELD, 7, 300);
    assert!(default(&sample).has_note(NoteKind::OrphanedSegmentIndex));
}

#[rstest]
#[case(1, "")]
#[case(2, "")]
#[case(4, "out of memory")]
fn case_12_builds_that_are_not_finished(#[case] state: i32, #[case] fail_reason: &str) {
    let mut sample = indexed();
    let build = Build {
        state,
        fail_reason: fail_reason.into(),
        index_file_paths: Vec::new(),
        ..Sample::finished([1, 10, 20], VECTOR_FIELD, 7, 300, 0)
    };
    sample
        .segment_index([1, 10, 20], VECTOR_FIELD, 7, 300)
        .build(&build);
    let index: SegmentIndex = default(&sample).message("segment-index/1/10/20/300");
    assert_eq!(
        (index.state, index.fail_reason.as_str(), index.write_handoff),
        (state, fail_reason, false)
    );
    assert!(index.index_file_keys.is_empty());
}

#[test]
fn case_13_builds_that_are_marked() {
    let mut sample = indexed();
    let build = Build {
        mark_deleted: true,
        recycled: true,
        request: None,
        ..Sample::finished([1, 10, 20], 101, 7, 300, 1)
    };
    sample
        .segment_index([1, 10, 20], VECTOR_FIELD, 7, 300)
        .build(&build);
    let index: SegmentIndex = default(&sample).message("segment-index/1/10/20/300");
    assert_eq!(
        (index.deleted, index.num_rows, index.index_file_keys.len()),
        (true, 0, 1)
    );
}

#[test]
fn build_zero_with_an_index_is_a_deleted_build() {
    let mut sample = indexed();
    sample.build(&Sample::finished([1, 10, 20], VECTOR_FIELD, 7, 300, 1));
    // Collection 1, segment 20, index 7, enabled.
    sample.put(
        "root-coord/segment-index/1/7/10/20",
        b"\x08\x01\x10\x0a\x18\x14\x20\x65\x28\x07\x38\x01",
    );
    assert!(failure(&sample, &Options::default()).contains("build 0 of index 7"));
}

#[test]
fn the_last_of_two_records_of_one_segment_and_index_counts() {
    let mut sample = indexed();
    sample
        .built([1, 10, 20], VECTOR_FIELD, 7, 300)
        .built([1, 11, 20], VECTOR_FIELD, 7, 301);
    for outcome in [default(&sample), strict(&sample)] {
        assert_eq!(outcome.keys("segment-index/"), ["1/11/20/301"]);
        assert!(outcome.has_note(NoteKind::Replaced));
    }
}

#[test]
fn two_segments_with_one_build_do_not_fit_one_key() {
    let mut sample = indexed();
    sample
        .built([1, 10, 20], VECTOR_FIELD, 7, 300)
        .segment_index([1, 10, 20], TEXT_FIELD, 8, 300);
    assert!(
        failure(&sample, &Options::default())
            .contains("segment-index/1/10/20/300: two different records")
    );
    assert_eq!(
        strict(&sample)
            .message::<SegmentIndex>("segment-index/1/10/20/300")
            .index_id,
        8
    );
}

#[rstest]
#[case("files/index_files/300/1/10/20/IVF", 1, false)]
#[case("files/index_files/300/2/10/20/IVF", 1, true)]
#[case("elsewhere/300/2/10/20/IVF", 1, false)]
#[case("IVF", 1, false)]
fn index_files_must_be_at_the_path_that_2_2_uses(
    #[case] path: &str,
    #[case] version: i64,
    #[case] is_noted: bool,
) {
    let mut sample = indexed();
    let build = Build {
        index_version: version,
        index_file_paths: vec![path.into()],
        ..Sample::finished([1, 10, 20], VECTOR_FIELD, 7, 300, 0)
    };
    sample
        .segment_index([1, 10, 20], VECTOR_FIELD, 7, 300)
        .build(&build);
    let outcome = default(&sample);
    assert_eq!(outcome.has_note(NoteKind::IndexVersionMismatch), is_noted);
    assert_eq!(
        outcome
            .message::<SegmentIndex>("segment-index/1/10/20/300")
            .index_file_keys,
        ["IVF"]
    );
}
