//! The migration's plan for metadata that a real Milvus 2.1.0 wrote: `tests/fixtures/metadata`. No
//! servers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use milvus_guard_metadata::model::{Dump, Options, Record, Root, plan};
use serde_json::Value;

fn fixture() -> Dump {
    let fixture: Value =
        serde_json::from_str(include_str!("../fixtures/metadata/milvus-2.1.0.json")).unwrap();
    let root = Root::new(fixture["root"].as_str().unwrap(), "meta").unwrap();
    // Other keys, such as the clock of the timestamps, do not concern a migration.
    let records = fixture["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| {
            let key = root.relative(record["key"].as_str().unwrap().as_bytes())?;
            let value = BASE64_STANDARD
                .decode(record["value"].as_str().unwrap())
                .unwrap();
            Some(Record::new(
                key,
                value,
                record["mod_revision"].as_i64().unwrap(),
            ))
        });
    let records = records.collect();
    Dump::new(
        root,
        fixture["cluster_id"].as_u64().unwrap(),
        fixture["revision"].as_i64().unwrap(),
        records,
    )
    .unwrap()
}

/// Counts keys by the longest of these prefixes that fits.
fn count<'k>(
    keys: impl Iterator<Item = &'k [u8]>,
    parts: &[&'static str],
) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        let fits = parts
            .iter()
            .filter(|part| key.starts_with(part.as_bytes()))
            .max_by_key(|part| part.len());
        *counts.entry(*fits.unwrap_or(&"")).or_default() += 1;
    }
    counts
}

#[test]
fn every_record_of_2_1_is_planned() {
    let dump = fixture();
    let plan = plan(&dump, &Options::default()).unwrap();
    let parts = [
        "field-index/",
        "segment-index/",
        "root-coord/aliases/",
        "snapshots/root-coord/aliases/",
        "querycoord-collection-loadinfo/",
        "querycoord-partition-loadinfo/",
    ];
    let expected = BTreeMap::from([
        // Ten collections with one index and one with two; of "rebuilt", only the later index.
        ("field-index/", 11),
        // 28 built indexes, and 4 of segments below the threshold.
        ("segment-index/", 32),
        ("root-coord/aliases/", 3),
        ("snapshots/root-coord/aliases/", 5),
        ("querycoord-collection-loadinfo/", 2),
        ("querycoord-partition-loadinfo/", 2),
    ]);
    assert_eq!(count(plan.puts().iter().map(Record::key), &parts), expected);
    let parts = [
        "root-coord/index/",
        "root-coord/segment-index/",
        "indexes/",
        "root-coord/collection-alias/",
        "snapshots/root-coord/collection-alias/",
        "root-coord/dd-",
        "snapshots/root-coord/dd-",
    ];
    let expected = BTreeMap::from([
        ("root-coord/index/", 11),
        ("root-coord/segment-index/", 32),
        ("indexes/", 28),
        ("root-coord/collection-alias/", 3),
        ("snapshots/root-coord/collection-alias/", 5),
        ("root-coord/dd-", 2),
        ("snapshots/root-coord/dd-", 24),
    ]);
    assert_eq!(
        count(plan.deletes().iter().map(|record| record.key()), &parts),
        expected
    );
    let unloadable: Vec<&str> = plan
        .unloadable()
        .iter()
        .map(|collection| collection.name.as_str())
        .collect();
    assert_eq!(unloadable, ["bare"]);
}

#[test]
fn a_migrated_state_needs_no_second_plan() {
    let dump = fixture();
    let first = plan(&dump, &Options::default()).unwrap();
    let records = first
        .end_state()
        .map(|(key, value)| Record::new(key, value, 1))
        .collect();
    let migrated = Dump::new(
        dump.root.clone(),
        dump.cluster_id,
        dump.revision + 1,
        records,
    )
    .unwrap();
    assert!(plan(&migrated, &Options::default()).unwrap().is_empty());
}
