use rstest::rstest;

use super::{Outcome, default, failure};
use crate::model::{
    batch::{MAX_BYTES, MAX_OPERATIONS, Phase},
    compare::Foreign,
    keys::Root,
    notes::NoteKind,
    options::Options,
    plan::{Kind, PlanError},
    record::{Dump, Record},
    sample::{Sample, Size, VECTOR_FIELD},
    transform::plan,
};
use milvus_guard_core::evidence::MetadataState;

fn rich() -> Sample {
    let mut sample = Sample::new();
    sample.surroundings().collection(1, "c");
    sample
        .index(1, VECTOR_FIELD, 7, Sample::ivf_flat("_default_idx"))
        .built([1, 10, 20], VECTOR_FIELD, 7, 300);
    sample.alias("a", Some(1)).load(&Sample::loaded(1, 2));
    sample
}

/// The end state of the plan, as a sample.
fn applied(sample: &Sample) -> Sample {
    let dump = sample.dump().unwrap();
    let mut after = Sample::new();
    for (key, value) in plan(&dump, &Options::default()).unwrap().end_state() {
        after.put(key, value);
    }
    after
}

#[test]
fn case_1_empty_metadata_needs_no_migration() {
    let mut sample = Sample::new();
    for _ in 0..2 {
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, &Options::default()).unwrap();
        assert_eq!(
            (plan.state(), plan.is_empty()),
            (&MetadataState::Empty, true)
        );
        sample.put("session/id", "3").session("rootcoord");
    }
}

#[test]
fn case_30_everything_else_stays() {
    let outcome = default(&rich());
    let others = |state: &super::State| -> super::State {
        let ours = [
            "root-coord/collection",
            "root-coord/index",
            "root-coord/segment-index",
            "root-coord/aliases",
            "root-coord/dd-",
            "indexes/",
            "snapshots/",
            "field-index/",
            "segment-index/",
            "querycoord-",
        ];
        state
            .iter()
            .filter(|(key, _)| !ours.iter().any(|prefix| key.starts_with(prefix)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    assert_eq!(others(&outcome.before), others(&outcome.after));
    assert!(others(&outcome.after).len() >= 5);
}

#[test]
fn case_37_states_that_are_not_migrated() {
    let migrated = applied(&rich());
    let dump = migrated.dump().unwrap();
    let again = plan(&dump, &Options::default()).unwrap();
    assert_eq!(
        (again.state(), again.is_empty()),
        (&MetadataState::V22, true)
    );

    let mut skipped = rich();
    skipped.put("root-coord/credential/roles/admin", "");
    assert!(failure(&skipped, &Options::default()).contains("2.2 has already run"));
    let forced = Options {
        force_mixed: true,
        ..Options::default()
    };
    skipped.put("field-index/1/7", "something else");
    let outcome = Outcome::of(&skipped, &forced).unwrap();
    assert!(
        outcome.written().contains(&"field-index/1/7"),
        "what 2.2 wrote is overwritten when forced"
    );

    let mut interrupted = rich();
    interrupted.put("field-index/1/7", "x");
    assert!(failure(&interrupted, &Options::default()).contains("only be resumed from its backup"));

    let mut cleaned = Sample::new();
    cleaned.segment([1, 10, 20], 5, 4);
    assert!(failure(&cleaned, &Options::default()).contains("restore a backup first"));
}

#[test]
fn metadata_without_a_sub_path_is_refused() {
    let dump = Dump::new(Root::new("by-dev", "").unwrap(), 1, 1, rich().records()).unwrap();
    assert_eq!(
        plan(&dump, &Options::default()).unwrap_err(),
        PlanError::NotApart
    );
}

#[test]
fn leases_on_old_keys_are_refused() {
    let mut records = rich().records();
    records
        .iter_mut()
        .filter(|record| record.key().starts_with(b"indexes/"))
        .for_each(|record| record.leased = true);
    let dump = Dump::new(Root::new("by-dev", "meta").unwrap(), 1, 1, records).unwrap();
    assert!(
        plan(&dump, &Options::default())
            .unwrap_err()
            .to_string()
            .contains("indexes/300: it is bound to a lease")
    );
}

#[test]
fn all_problems_are_named_at_once() {
    let mut sample = rich();
    sample
        .put("root-coord/collection/x", "1")
        .put("indexes/1", b"\xff")
        .alias("a/b", Some(1));
    let error = failure(&sample, &Options::default());
    for key in [
        "root-coord/collection/x",
        "indexes/1",
        "root-coord/collection-alias/a/b",
    ] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn everything_is_counted() {
    let dump = rich().dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    let kinds = [
        Kind::Collections,
        Kind::Aliases,
        Kind::AliasHistory,
        Kind::Indexes,
        Kind::SegmentIndexes,
        Kind::LoadedCollections,
    ];
    assert!(
        kinds.iter().all(|kind| plan.counts()[kind] == 1),
        "{:?}",
        plan.counts()
    );
    assert_eq!(
        plan.len(),
        plan.puts().len() + plan.rewrites().len() + plan.deletes().len()
    );
}

// Case 38 without the server.
#[test]
fn batches_keep_their_limits_and_their_order() {
    let mut sample = Sample::large(Size {
        collections: 3,
        segments: 400,
        has_oddities: false,
    });
    let long = "x".repeat(400 * 1024);
    for id in [1, 2, 3, 4, 5] {
        sample.collection(id, &long);
        sample.index(id, VECTOR_FIELD, id + 10, Sample::ivf_flat("v"));
    }
    let huge = "x".repeat(2 * MAX_BYTES);
    sample.collection(6, &huge);
    sample.index(6, VECTOR_FIELD, 16, Sample::ivf_flat("v"));
    let dump = sample.dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    let batches: Vec<_> = plan.batches().collect();
    assert!(batches.is_sorted_by_key(|batch| batch.phase));
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.operations.len())
            .sum::<usize>(),
        plan.len()
    );
    for batch in &batches {
        assert!((1..=MAX_OPERATIONS).contains(&batch.operations.len()));
        assert!(
            batch.bytes <= MAX_BYTES || batch.operations.len() == 1,
            "{} bytes",
            batch.bytes
        );
    }
    let rewrites = batches
        .iter()
        .filter(|batch| batch.phase == Phase::Rewrite)
        .count();
    assert_eq!(
        rewrites, 4,
        "two collections of 400 KiB fit in one batch, the one of 2 MiB gets its own"
    );
    assert_eq!(
        batches
            .iter()
            .filter(|batch| batch.phase == Phase::Put)
            .count(),
        13,
        "1209 keys"
    );
}

#[rstest]
#[case("field-index/1/7", Some("foreign"), Foreign::Changed)]
#[case("root-coord/collection/1", Some("foreign"), Foreign::Changed)]
#[case("root-coord/collection/1", None, Foreign::Vanished)]
#[case("indexes/300", Some("foreign"), Foreign::Changed)]
#[case("channelwatch/3/by-dev-rootcoord-dml_0_1v0", None, Foreign::Vanished)]
#[case("root-coord/credential/users/root", Some("foreign"), Foreign::Changed)]
#[case("root-coord/credential/users/new", Some("foreign"), Foreign::Appeared)]
fn changes_by_other_clients_are_named(
    #[case] key: &str,
    #[case] value: Option<&str>,
    #[case] expected: Foreign,
) {
    let dump = rich().dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    let mut records: Vec<Record> = rich().records();
    records.retain(|record| record.key() != key.as_bytes());
    records.extend(value.map(|value| Record::new(key, value, 99)));
    let current = Dump::new(dump.root.clone(), 7, 9, records).unwrap();
    let foreign = plan.remaining(&current).unwrap_err();
    assert_eq!(
        foreign.iter().collect::<Vec<_>>(),
        [(key.as_bytes(), expected)]
    );
    assert!(
        foreign.total() == 1 && foreign.to_string().contains(key),
        "{foreign}"
    );
}

#[test]
fn changes_of_sessions_are_ignored() {
    let dump = rich().dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    let mut sample = rich();
    sample.put("session/id", "44").session("migration");
    assert_eq!(
        plan.remaining(&sample.dump().unwrap()).unwrap().len(),
        plan.len()
    );
}

#[test]
fn a_diff_shows_what_changes_and_hides_nothing_but_credentials() {
    let dump = rich().dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    let text: Vec<String> = plan.diff().map(|change| change.to_string()).collect();
    assert_eq!(text.len(), plan.len());
    let of = |key: &str| text.iter().find(|line| line.contains(key)).unwrap();
    assert!(
        of("+ field-index/1/7 ").contains(r#""index_name":"_default_idx_101""#),
        "{text:#?}"
    );
    assert!(of("- indexes/300 ").contains("IVF_2"));
    let collection = of("- root-coord/collection/1 ");
    assert!(
        collection.contains("\n+ root-coord/collection/1 ")
            && collection.contains(r#""field_indexes":[{"field_id":101"#)
    );
    let json = serde_json::to_value(plan.diff().collect::<Vec<_>>()).unwrap();
    assert_eq!(json[0]["action"], "add");
    assert_eq!(json[0]["key"], "field-index/1/7");
    assert_eq!(json[0]["after"]["index_info"]["index_id"], 7);
    let secret = super::super::diff::describe(b"root-coord/credential/users/root", b"secret");
    assert_eq!(secret, "(hidden)");
}

#[test]
fn the_digest_depends_on_the_plan_and_nothing_else() {
    let digest = |sample: &Sample, options: &Options| {
        let dump = sample.dump().unwrap();
        plan(&dump, options).unwrap().digest()
    };
    let first = digest(&rich(), &Options::default());
    assert_eq!(first.len(), 64);
    let mut later = rich().records();
    for record in &mut later {
        record.mod_revision += 5;
    }
    let dump = Dump::new(Root::new("other", "meta").unwrap(), 8, 9, later).unwrap();
    assert_eq!(
        plan(&dump, &Options::default()).unwrap().digest(),
        first,
        "revisions and roots do not matter"
    );
    let mut other = rich();
    other.segment_index([1, 10, 21], VECTOR_FIELD, 7, 0);
    assert_ne!(digest(&other, &Options::default()), first);
    assert_ne!(
        digest(&other, &Options::default()),
        digest(&other, &Options::strict_upstream())
    );
}

#[test]
fn notes_have_a_readable_text() {
    let mut sample = rich();
    sample.put("root-coord/index/9/9", b"");
    let outcome = default(&sample);
    assert_eq!(
        outcome.notes,
        [
            ("root-coord/index/9/9".into(), NoteKind::KeyMismatch),
            ("root-coord/index/9/9".into(), NoteKind::UnusedIndex)
        ]
    );
    let dump = sample.dump().unwrap();
    let plan = plan(&dump, &Options::default()).unwrap();
    assert_eq!(plan.notes().counts()[&NoteKind::UnusedIndex], 1);
    assert!(plan.notes().iter().any(|note| note.to_string()
        == "root-coord/index/9/9 is an index that no collection uses; it is not migrated"));
}
