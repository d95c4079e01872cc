//! Restores a backup: exactly its records, from any state, and no data is lost without consent.

use std::fs;

use crate::common::metadata::{Bed, assert_same, finish, metadata, planned, small};
use milvus_guard_metadata::model::{
    Dump, Options, Root,
    messages::{AliasInfo, Segment},
};
use prost::Message as _;

/// Keys that a running 2.2 writes; the official rollback does not remove them.
const BY_2_2: [&str; 8] = [
    "root-coord/database/db-info/1",
    "root-coord/credential/roles/admin",
    "root-coord/credential/user-role-mapping/root/admin",
    "querycoord-replica/1/2",
    "datacoord-meta/binlog/1/10/1000/101",
    "datacoord-meta/statslog/1/10/1000/101",
    "datacoord-meta/deltalog/1/10/1000/101",
    "datacoord-meta/channel-cp/by-dev-rootcoord-dml_0_1v0",
];

fn migrated() -> (Bed, Dump) {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    bed.migrate(&[]).expect(0);
    (bed, dump)
}

// Case 34.
#[test]
fn keys_written_by_2_2_are_removed_and_a_second_migration_succeeds() {
    let (bed, dump) = migrated();
    for key in BY_2_2 {
        bed.put(format!("by-dev/meta/{key}"), "x");
    }
    bed.put("by-dev/kv/tso/timestamp", "9");
    bed.put("by-dev/meta/session/id", "99");
    bed.restore(&["--accept-data-loss"])
        .expect(0)
        .says("2.2 must not be started");
    assert_same(&bed.metadata(), &metadata(&dump));
    assert_eq!(bed.phase(), "Restored");
    assert_eq!(bed.get("by-dev/kv/tso/timestamp").unwrap(), b"9");
    assert_eq!(
        bed.get("by-dev/meta/session/id").unwrap(),
        b"99",
        "no server may get an ID that another one has had"
    );
    finish(&mut bed.migration_at(&bed.etcd.endpoint(), "b.backup")).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn a_second_restore_changes_nothing() {
    let (bed, dump) = migrated();
    bed.restore(&[]).expect(0);
    let before = bed.read("by-dev/meta/");
    let again = bed.restore(&["--format", "json"]).expect(0).json();
    assert_eq!(
        (&again["puts"], &again["rewrites"], &again["deletes"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(bed.read("by-dev/meta/"), before);
    assert_same(&bed.metadata(), &metadata(&dump));
}

#[test]
fn a_restore_lists_the_data_that_it_would_lose_and_requires_consent() {
    let (bed, dump) = migrated();
    let alias = AliasInfo {
        alias_name: "brand_new".into(),
        collection_id: 1,
        ..AliasInfo::default()
    };
    bed.put(
        "by-dev/meta/root-coord/aliases/brand_new",
        alias.encode_to_vec(),
    );
    let segment = Segment {
        id: 9999,
        collection_id: 1,
        partition_id: 10,
        num_rows: 5,
        state: 4,
    };
    bed.put(
        "by-dev/meta/datacoord-meta/s/1/10/9999",
        segment.encode_to_vec(),
    );
    let before = bed.read("by-dev/meta/");
    bed.restore(&[])
        .expect(1)
        .says("brand_new")
        .says("9999")
        .says("--accept-data-loss")
        .says("Nothing was changed");
    assert_eq!(bed.read("by-dev/meta/"), before);
    let planned = bed
        .restore(&["--dry-run", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(
        (&planned["dryRun"], &planned["lostTotal"]),
        (&true.into(), &2.into()),
        "{planned:#}"
    );
    let changes = planned["changes"].as_array().unwrap();
    let all = ["puts", "rewrites", "deletes"]
        .map(|kind| planned[kind].as_u64().unwrap())
        .iter()
        .sum::<u64>();
    assert_eq!(changes.len() as u64, all);
    assert!(
        changes
            .iter()
            .any(|change| change["key"] == "root-coord/aliases/brand_new"
                && change["action"] == "remove")
    );
    bed.restore(&["--dry-run"])
        .expect(0)
        .says("- root-coord/aliases/brand_new")
        .says("+ root-coord/index/1/101");
    assert_eq!(bed.read("by-dev/meta/"), before);
    bed.restore(&["--accept-data-loss"]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}

// Case 35.
#[test]
fn a_backup_of_another_root_requires_a_flag() {
    let (bed, dump) = migrated();
    let revision = bed.revision();
    bed.run("restore", &["a.backup", "--yes", "--root-path", "other"])
        .expect(1)
        .says("of by-dev/meta, not of other/meta")
        .says("--other-root");
    assert_eq!(bed.revision(), revision);
    let here = bed.metadata();
    bed.run(
        "restore",
        &["a.backup", "--yes", "--root-path", "other", "--other-root"],
    )
    .expect(0);
    assert_same(
        &bed.metadata_at(Root::new("other", "meta").unwrap().prefix()),
        &metadata(&dump),
    );
    assert_same(&bed.metadata(), &here);
}

// Case 33: the whole file is checked before anything is written.
#[test]
fn a_damaged_file_changes_nothing() {
    let (bed, _) = migrated();
    let whole = fs::read(bed.file("a.backup")).unwrap();
    let revision = bed.revision();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let files: [(&str, &[u8]); 5] = [
        ("cut.backup", &whole[..whole.len() / 2]),
        ("no-end.backup", &whole[..whole.len() - 1]),
        ("flipped.backup", &flipped),
        ("empty.backup", b""),
        ("text.backup", b"this is not a backup at all"),
    ];
    for (name, bytes) in files {
        fs::write(bed.file(name), bytes).unwrap();
        bed.run("restore", &[name, "--yes", "--accept-data-loss"])
            .expect(1)
            .says(name)
            .says("Nothing was changed");
        bed.run("verify", &["--backup", name]).expect(1).says(name);
    }
    bed.run("restore", &["not-there.backup", "--yes"])
        .expect(2)
        .says("not-there.backup");
    assert_eq!(bed.revision(), revision);
}

#[test]
fn a_restore_is_refused_while_a_component_runs() {
    let (bed, _) = migrated();
    bed.put_leased("by-dev/meta/session/proxy-3", "{}", 60);
    let before = bed.metadata();
    bed.restore(&[])
        .expect(1)
        .says("proxy-3")
        .says("Nothing was changed");
    assert_same(&bed.metadata(), &before);
}

#[test]
fn verify_finds_every_difference() {
    let (bed, dump) = migrated();
    bed.run("verify", &["--backup", "a.backup"]).expect(0);
    let index = "by-dev/meta/field-index/1/101";
    let (value, user) = (
        bed.get(index).unwrap(),
        "by-dev/meta/root-coord/credential/users/root",
    );
    bed.put(index, "other");
    bed.run("verify", &["--backup", "a.backup"])
        .expect(1)
        .says("field-index/1/101 has an unexpected value");
    bed.delete(index);
    bed.run("verify", &["--backup", "a.backup"])
        .expect(1)
        .says("changes are made");
    bed.put(index, value);
    bed.run("verify", &["--backup", "a.backup"]).expect(0);
    bed.put("by-dev/meta/root-coord/index/1/101", "back again");
    bed.run("verify", &["--backup", "a.backup"])
        .expect(1)
        .says("root-coord/index/1/101");
    bed.delete("by-dev/meta/root-coord/index/1/101");
    bed.delete(user);
    bed.run("verify", &["--backup", "a.backup"])
        .expect(1)
        .says("users/root was deleted");
    bed.restore(&["--accept-data-loss"]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
    bed.run("verify", &["--backup", "a.backup"])
        .expect(1)
        .says("0 of");
}

#[test]
fn a_half_done_migration_of_the_official_tool_is_restored() {
    let (bed, dump) = migrated();
    // The state in etcd if the official tool crashes between its deletes and its writes.
    for (key, ..) in bed.read("by-dev/meta/root-coord/") {
        if !key.windows(10).any(|part| part == b"credential") {
            bed.delete(key);
        }
    }
    for prefix in [
        "by-dev/meta/field-index/",
        "by-dev/meta/segment-index/",
        "by-dev/meta/snapshots/",
        "by-dev/milvus-guard/",
    ] {
        for (key, ..) in bed.read(prefix) {
            bed.delete(key);
        }
    }
    let migrate = finish(&mut bed.migration_at(&bed.etcd.endpoint(), "b.backup"));
    migrate.expect(1).says("meta restore FILE");
    bed.restore(&[]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}
