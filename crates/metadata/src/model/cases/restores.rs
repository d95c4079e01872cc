use prost::Message;
use rstest::rstest;

use crate::model::{
    keys::TOMBSTONE,
    loss::LossKind,
    messages::{AliasInfo, FieldIndex, IndexInfo, PartitionInfo, SEGMENT_DROPPED, Segment},
    options::Options,
    record::Record,
    restore::restore,
    sample::{FLUSHED, Sample, VECTOR_FIELD},
    transform::plan,
};

fn old() -> Sample {
    let mut sample = Sample::new();
    sample.surroundings().collection(1, "c");
    sample
        .index(1, VECTOR_FIELD, 7, Sample::ivf_flat("v"))
        .built([1, 10, 20], VECTOR_FIELD, 7, 300);
    sample
        .alias("a", Some(1))
        .alias("gone", None)
        .collection(2, "dropped");
    sample.drop_collection(2);
    sample
}

/// The sample after the migration.
fn new() -> Sample {
    let dump = old().dump().unwrap();
    let mut after = Sample::new();
    for (key, value) in plan(&dump, &Options::default()).unwrap().end_state() {
        after.put(key, value);
    }
    after.put("session/id", "42");
    after
}

/// What a restore over `now` deletes, and what it would lose.
fn undone(now: &Sample) -> (Vec<String>, Vec<(LossKind, String)>) {
    let (backup, current) = (old().dump().unwrap(), now.dump().unwrap());
    let untouched = new().dump().unwrap();
    let expected = restore(&backup, &untouched);
    let plan = restore(&backup, &current);
    let known: Vec<&[u8]> = expected.deletes().iter().map(|(key, _)| &**key).collect();
    let deletes = plan
        .deletes()
        .iter()
        .filter(|(key, _)| !known.contains(&&**key));
    let deletes = deletes
        .map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
        .collect();
    (
        deletes,
        plan.would_lose()
            .iter()
            .map(|loss| (loss.kind, loss.name.clone()))
            .collect(),
    )
}

// Case 34: records that the official rollback does not delete.
#[rstest]
#[case("root-coord/database/db-info/1")]
#[case("root-coord/credential/roles/admin")]
#[case("root-coord/credential/roles/public")]
#[case("root-coord/credential/user-role-mapping/root/admin")]
#[case("root-coord/credential/grantee-privileges/public/Global/*")]
#[case("root-coord/credential/grantee-id/x/y")]
#[case("root-coord/credential/users/root2")]
#[case("querycoord-replica/1/2")]
#[case("queryCoord-ResourceGroup/__default_resource_group")]
#[case("datacoord-meta/binlog/1/10/20/100")]
#[case("datacoord-meta/deltalog/1/10/20/100")]
#[case("datacoord-meta/statslog/1/10/20/100")]
#[case("datacoord-meta/channel-cp/by-dev-rootcoord-dml_0_1v0")]
#[case("channelwatch/9/by-dev-rootcoord-dml_0_1v0")]
#[case("root-coord/partitions/9/1")]
#[case("root-coord/fields/9/100")]
fn leftovers_of_2_2_are_removed(#[case] key: &str) {
    let mut now = new();
    now.put(key, "x");
    let (deletes, losses) = undone(&now);
    assert_eq!(deletes, [key]);
    assert_eq!(
        losses.is_empty(),
        !key.contains("/users/"),
        "what 2.2 writes automatically is not a loss: {losses:?}"
    );
}

#[test]
fn keys_that_are_not_milvus_are_kept() {
    let mut now = new();
    now.put("mine/1", "x")
        .session("rootcoord")
        .session("querynode-9");
    let (backup, current) = (old().dump().unwrap(), now.dump().unwrap());
    let plan = restore(&backup, &current);
    assert_eq!(
        (plan.foreign_total(), &*plan.foreign()[0]),
        (1, &b"mine/1"[..])
    );
    assert!(
        plan.deletes()
            .iter()
            .all(|(key, _)| !key.starts_with(b"mine") && !key.starts_with(b"session"))
    );
}

#[rstest]
#[case(None, Some("42"))]
#[case(Some("41"), Some("42"))]
#[case(Some("43"), None)]
#[case(Some("42"), None)]
fn server_ids_never_decrease(#[case] current: Option<&str>, #[case] written: Option<&str>) {
    let mut records = new().records();
    records.retain(|record| !record.is_session());
    records.extend(current.map(|value| Record::new("session/id", value, 5)));
    let backup = old().dump().unwrap();
    let current = crate::model::Dump::new(backup.root.clone(), 7, 9, records).unwrap();
    let plan = restore(&backup, &current);
    let found = plan
        .batches()
        .flat_map(|batch| batch.operations)
        .find(|operation| operation.key == b"session/id");
    assert_eq!(
        found.map(|operation| operation.value.unwrap()),
        written.map(str::as_bytes)
    );
}

fn segment(rows: i64, state: i32) -> Vec<u8> {
    Segment {
        id: 20,
        collection_id: 1,
        partition_id: 10,
        num_rows: rows,
        state,
    }
    .encode_to_vec()
}

fn alias(collection_id: i64) -> Vec<u8> {
    AliasInfo {
        alias_name: "a".into(),
        collection_id,
        ..AliasInfo::default()
    }
    .encode_to_vec()
}

fn index(deleted: bool) -> Vec<u8> {
    let info = IndexInfo {
        index_name: "n".into(),
        ..IndexInfo::default()
    };
    FieldIndex {
        index_info: Some(info),
        deleted,
        create_time: 1,
    }
    .encode_to_vec()
}

fn named(id: i64, name: &str) -> Vec<u8> {
    let mut sample = Sample::new();
    sample.collection(id, name).encode_to_vec()
}

#[rstest]
#[case::new_segment("datacoord-meta/s/1/10/21", segment(5, FLUSHED), Some((LossKind::Segment, "datacoord-meta/s/1/10/21")))]
#[case::grown_segment("datacoord-meta/s/1/10/20", segment(100_001, FLUSHED), Some((LossKind::Segment, "datacoord-meta/s/1/10/20")))]
#[case::compacted("datacoord-meta/s/1/10/20", segment(100_000, SEGMENT_DROPPED), Some((LossKind::Segment, "datacoord-meta/s/1/10/20")))]
#[case::empty_segment("datacoord-meta/s/1/10/21", segment(0, FLUSHED), None)]
#[case::dropped_segment("datacoord-meta/s/1/10/21", segment(5, SEGMENT_DROPPED), None)]
#[case::unreadable_segment("datacoord-meta/s/1/10/21", b"\xff".to_vec(), Some((LossKind::Segment, "datacoord-meta/s/1/10/21")))]
#[case::new_collection("root-coord/collection/9", named(9, "new"), Some((LossKind::Collection, "new")))]
#[case::new_in_database("root-coord/database/collection-info/1/9", named(9, "new"), Some((LossKind::Collection, "new")))]
#[case::moved_to_database("root-coord/database/collection-info/1/1", named(1, "c"), None)]
#[case::created_again("root-coord/collection/2", named(2, "again"), Some((LossKind::Collection, "again")))]
#[case::renamed("root-coord/collection/1", named(1, "renamed"), Some((LossKind::CollectionChange, "renamed")))]
#[case::dropped("root-coord/collection/1", TOMBSTONE.to_vec(), Some((LossKind::CollectionDrop, "c")))]
#[case::new_alias("root-coord/aliases/b", alias(1), Some((LossKind::Alias, "b")))]
#[case::same_alias("root-coord/aliases/a", alias(1), None)]
#[case::altered_alias("root-coord/aliases/a", alias(2), Some((LossKind::Alias, "a")))]
#[case::dropped_alias("root-coord/aliases/a", TOMBSTONE.to_vec(), Some((LossKind::Alias, "a")))]
#[case::alias_in_database("root-coord/database/aliases/1/b", alias(1), Some((LossKind::Alias, "b")))]
#[case::new_index("field-index/1/8", index(false), Some((LossKind::Index, "n")))]
#[case::dropped_index("field-index/1/7", index(true), Some((LossKind::Index, "n")))]
#[case::same_index("field-index/1/7", index(false), None)]
#[case::new_user("root-coord/credential/users/eve", b"{}".to_vec(), Some((LossKind::User, "eve")))]
#[case::new_password("root-coord/credential/users/root", b"{}".to_vec(), Some((LossKind::User, "root")))]
#[case::new_role("root-coord/credential/roles/reader", Vec::new(), Some((LossKind::Role, "reader")))]
#[case::granted("root-coord/credential/user-role-mapping/eve/admin", Vec::new(), Some((LossKind::Role, "eve/admin")))]
fn changes_since_the_backup_would_be_lost(
    #[case] key: &str,
    #[case] value: Vec<u8>,
    #[case] expected: Option<(LossKind, &str)>,
) {
    let mut now = new();
    now.put(key, value);
    let expected: Vec<(LossKind, String)> = expected
        .into_iter()
        .map(|(kind, name)| (kind, name.into()))
        .collect();
    assert_eq!(undone(&now).1, expected);
}

#[test]
fn partitions_would_be_lost_too() {
    let mut now = new();
    let mut info = old().collections[&1].clone();
    info.field_indexes.clear();
    info.partition_ids.push(12);
    now.put("root-coord/collection/1", info.encode_to_vec());
    assert_eq!(undone(&now).1, [(LossKind::Partition, "c".into())]);
    let mut now = new();
    let partition = PartitionInfo {
        partition_name: "p".into(),
        ..PartitionInfo::default()
    }
    .encode_to_vec();
    now.put("root-coord/partitions/1/12", &partition)
        .put("root-coord/partitions/9/13", &partition);
    assert_eq!(
        undone(&now).1,
        [(LossKind::Partition, "p".into())],
        "collection 9 itself does not exist"
    );
}

#[test]
fn a_restore_to_an_empty_etcd_writes_everything() {
    let backup = old().dump().unwrap();
    let empty = Sample::new().dump().unwrap();
    let plan = restore(&backup, &empty);
    let kept = backup
        .records()
        .iter()
        .filter(|record| !record.leased)
        .count();
    assert_eq!((plan.puts().len(), plan.len()), (kept, kept));
    assert!(plan.would_lose().is_empty());
}

#[test]
fn losses_are_described_and_counted() {
    let mut now = new();
    for user in 0..12 {
        now.put(format!("root-coord/credential/users/u{user:02}"), "{}");
    }
    let (backup, current) = (old().dump().unwrap(), now.dump().unwrap());
    let plan = restore(&backup, &current);
    let text = plan.would_lose().to_string();
    assert!(
        text.starts_with("changed user u00, ") && text.ends_with("u09 and 2 more"),
        "{text}"
    );
    assert_eq!(plan.would_lose().counts()[&LossKind::User], 12);
}

#[test]
fn a_dry_run_shows_everything_but_credentials() {
    let (backup, current) = (old().dump().unwrap(), new().dump().unwrap());
    let plan = restore(&backup, &current);
    let text: Vec<String> = plan.diff().map(|change| change.to_string()).collect();
    assert_eq!(text.len(), plan.len());
    for expected in [
        "+ indexes/300 {\"build_id\":300,",
        "+ root-coord/collection/1 {\"id\":1,",
        "- field-index/1/7",
    ] {
        assert!(
            text.iter().any(|line| line.starts_with(expected)),
            "{expected}: {text:#?}"
        );
    }
    let empty = Sample::new().dump().unwrap();
    let secret = restore(&backup, &empty)
        .diff()
        .find(|change| change.key.ends_with(b"users/root"))
        .unwrap()
        .to_string();
    assert_eq!(secret, "+ root-coord/credential/users/root \"(hidden)\"");
}
