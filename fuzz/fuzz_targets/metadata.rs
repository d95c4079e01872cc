#![no_main]
//! Any bytes as records among metadata of 2.1: planned, shown, compared and restored over.

use libfuzzer_sys::fuzz_target;
use milvus_guard_metadata::model::{
    Dump, Options, Root, plan,
    record::Record,
    restore::restore,
    sample::{Sample, Size},
};

/// Beginnings of keys; the first byte of a record picks one.
const KEYS: [&str; 14] = [
    "root-coord/collection/",
    "snapshots/root-coord/collection/",
    "root-coord/collection-alias/",
    "snapshots/root-coord/collection-alias/",
    "root-coord/index/",
    "root-coord/segment-index/",
    "indexes/",
    "queryCoord-collectionMeta/",
    "datacoord-meta/s/",
    "root-coord/dd-operation",
    "field-index/",
    "segment-index/",
    "root-coord/aliases/",
    "",
];

/// Records are `area, length of the rest of the key, rest of the key, length of the value, value`.
fn next<'d>(data: &mut &'d [u8]) -> Option<(usize, &'d [u8], &'d [u8])> {
    let mut take = |length: usize| {
        let (head, rest) = data.split_at_checked(length)?;
        *data = rest;
        Some(head)
    };
    let &[area, length] = take(2)? else { return None };
    let key = take(usize::from(length))?;
    let length = take(1)?[0];
    Some((usize::from(area), key, take(usize::from(length))?))
}

fuzz_target!(|data: &[u8]| {
    let mut records = Sample::random(1, Size { collections: 2, segments: 2, has_oddities: true }).records();
    let base = records.clone();
    let mut rest = data;
    while let Some((area, key, value)) = next(&mut rest) {
        records.push(Record::new([KEYS[area % KEYS.len()].as_bytes(), key].concat(), value, 1));
    }
    let Ok(root) = Root::new("by-dev", "meta") else { return };
    let (Ok(dump), Ok(base)) = (Dump::new(root.clone(), 1, 1, records), Dump::new(root, 1, 1, base)) else { return };
    for options in [Options::default(), Options::strict_upstream(), Options { force_mixed: true, ..Options::default() }] {
        let Ok(plan) = plan(&dump, &options) else { continue };
        assert_eq!(plan.batches().map(|batch| batch.operations.len()).sum::<usize>(), plan.len());
        assert_eq!(plan.remaining(&dump).map(|remaining| remaining.len()).ok(), Some(plan.len()));
        plan.diff().for_each(|change| drop(change.to_string()));
    }
    let _ = (restore(&dump, &base), restore(&base, &dump));
});
