//! Properties that hold for all metadata that 2.1 may have written.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    backup::{self, Form},
    batch::{Batch, Expect, MAX_BYTES, MAX_OPERATIONS},
    format::Evidence,
    options::Options,
    plan::PlanError,
    record::{Dump, Record},
    restore::restore,
    sample::{Sample, Size},
    transform::plan,
};
use milvus_guard_core::evidence::MetadataState;

/// A store that handles guarded transactions as etcd does.
#[derive(Clone)]
struct Store {
    root: super::Root,
    records: BTreeMap<Box<[u8]>, Record>,
    revision: i64,
}

impl Store {
    fn of(dump: &Dump) -> Self {
        let records = dump
            .records()
            .iter()
            .map(|record| (record.key().into(), record.clone()))
            .collect();
        Self {
            root: dump.root.clone(),
            records,
            revision: dump.revision,
        }
    }

    fn apply(&mut self, batch: &Batch<'_>) {
        assert!((1..=MAX_OPERATIONS).contains(&batch.operations.len()) && batch.bytes <= MAX_BYTES);
        self.revision += 1;
        for operation in &batch.operations {
            let found = self
                .records
                .get(operation.key)
                .map(|record| record.mod_revision);
            let expected = match operation.expect {
                Expect::Absent => None,
                Expect::Revision(revision) => Some(revision),
            };
            assert_eq!(
                found,
                expected,
                "guard of {:?}",
                String::from_utf8_lossy(operation.key)
            );
            match operation.value {
                Some(value) => {
                    let record = Record::new(operation.key, value, self.revision);
                    self.records.insert(operation.key.into(), record);
                }
                None => {
                    self.records.remove(operation.key);
                }
            }
        }
    }

    fn dump(&self) -> Dump {
        Dump::new(
            self.root.clone(),
            7,
            self.revision,
            self.records.values().cloned().collect(),
        )
        .unwrap()
    }

    fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let metadata = self.records.values().filter(|record| record.is_metadata());
        metadata
            .map(|record| (record.key().to_vec(), record.value().to_vec()))
            .collect()
    }
}

fn samples() -> impl Strategy<Value = (Sample, Options)> {
    (
        any::<u64>(),
        1..6usize,
        0..8usize,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(seed, collections, segments, has_oddities, is_strict)| {
            let has_oddities = has_oddities && !is_strict;
            let options = if is_strict {
                Options::strict_upstream()
            } else {
                Options::default()
            };
            (
                Sample::random(
                    seed,
                    Size {
                        collections,
                        segments,
                        has_oddities,
                    },
                ),
                options,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_reaches_its_end_state_and_can_be_restored((sample, options) in samples()) {
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, &options).unwrap();
        prop_assert_eq!(plan.state(), &MetadataState::V21);
        prop_assert_eq!(plan.digest(), super::plan(&dump, &options).unwrap().digest());

        let mut store = Store::of(&dump);
        plan.batches().for_each(|batch| store.apply(&batch));
        let end: BTreeMap<Vec<u8>, Vec<u8>> = plan.end_state().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(&store.contents(), &end);
        let migrated = store.dump();
        prop_assert!(plan.remaining(&migrated).unwrap().is_empty());
        prop_assert!(!Evidence::of(&migrated).is_old());

        // A second run finds nothing to do. Metadata without any index is refused, because it looks
        // like that of an interrupted run of the official tool.
        match super::plan(&migrated, &options) {
            Ok(again) => prop_assert!(again.is_empty(), "{:?}", again.state()),
            Err(error) => prop_assert_eq!(error, PlanError::State(MetadataState::PartialSaved)),
        }

        let back = restore(&dump, &migrated);
        prop_assert!(back.would_lose().is_empty(), "{}", back.would_lose());
        back.batches().for_each(|batch| store.apply(&batch));
        prop_assert_eq!(store.contents(), Store::of(&dump).contents());
        prop_assert!(restore(&dump, &store.dump()).is_empty());
        let restored = store.dump();
        prop_assert_eq!(super::plan(&restored, &options).unwrap().digest(), plan.digest());
    }

    #[test]
    fn a_run_resumes_after_a_crash_after_any_batch((sample, options) in samples()) {
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, &options).unwrap();
        let end: BTreeMap<Vec<u8>, Vec<u8>> = plan.end_state().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let mut crashed = Store::of(&dump);
        for batch in plan.batches() {
            let mut resumed = crashed.clone();
            let current = resumed.dump();
            let remaining = plan.remaining(&current).unwrap();
            remaining.batches().for_each(|batch| resumed.apply(&batch));
            prop_assert_eq!(&resumed.contents(), &end);
            let mut restored = crashed.clone();
            restore(&dump, &current).batches().for_each(|batch| restored.apply(&batch));
            prop_assert_eq!(restored.contents(), Store::of(&dump).contents());
            crashed.apply(&batch);
        }
    }

    #[test]
    fn a_run_resumes_after_any_single_operation((sample, options) in samples(), share in 0.0..1.0f64) {
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, &options).unwrap();
        let mut store = Store::of(&dump);
        let all: Vec<_> = plan.batches().flat_map(|batch| {
            let phase = batch.phase;
            batch.operations.into_iter().map(move |operation| Batch { phase, operations: vec![operation], bytes: 1 })
        }).collect();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few")]
        let done = (all.len() as f64 * share) as usize;
        all[..done].iter().for_each(|batch| store.apply(batch));
        let current = store.dump();
        let remaining = plan.remaining(&current).unwrap();
        prop_assert_eq!(remaining.len(), all.len() - done);
        remaining.batches().for_each(|batch| store.apply(&batch));
        prop_assert!(plan.remaining(&store.dump()).unwrap().is_empty());
    }

    #[test]
    fn backups_are_read_as_written((sample, _) in samples(), is_official in any::<bool>()) {
        let dump = sample.dump().unwrap();
        let form = if is_official { Form::Official } else { Form::Own };
        let mut file = Vec::new();
        let written = backup::write(&dump, Some("2.1.4"), form, &mut file).unwrap();
        prop_assert_eq!(written.bytes, file.len() as u64);
        let read = backup::read(&*file).unwrap();
        prop_assert_eq!(&read.summary, &written);
        let kept: Vec<Record> = dump.records().iter().filter(|record| !record.leased).cloned().collect();
        let expected = kept.into_iter().map(|mut record| {
            record.mod_revision = if is_official { 0 } else { record.mod_revision };
            record
        });
        prop_assert_eq!(read.dump.records().to_vec(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_cut_or_flipped_backup_is_never_accepted(seed in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let dump = Sample::random(seed, Size { collections: 2, segments: 3, has_oddities: true }).dump().unwrap();
        let mut file = Vec::new();
        backup::write(&dump, None, Form::Own, &mut file).unwrap();
        let at = at.index(file.len());
        prop_assert!(backup::read(&file[..at]).is_err());
        file[at] ^= 1 << bit;
        prop_assert!(backup::read(&*file).is_err());
    }

    #[test]
    fn a_cut_official_backup_is_never_accepted(seed in any::<u64>(), at in any::<prop::sample::Index>()) {
        let dump = Sample::random(seed, Size { collections: 2, segments: 3, has_oddities: true }).dump().unwrap();
        let mut file = Vec::new();
        backup::write(&dump, None, Form::Official, &mut file).unwrap();
        prop_assert!(backup::read(&file[..at.index(file.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200), key in "[a-z/_0-9-]{0,40}", area in 0..12usize) {
        let _ = backup::read(&*bytes);
        let areas = ["root-coord/collection/1", "snapshots/root-coord/collection/1_ts1", "root-coord/collection-alias/a",
            "root-coord/index/1/2", "root-coord/segment-index/1/2/3/4", "indexes/1", "queryCoord-collectionMeta/1",
            "root-coord/dd-operation", "datacoord-meta/s/1/2/3", "session/rootcoord", "segment-index/1/1/1/1", "field-index/1/1"];
        let mut sample = Sample::random(1, Size { collections: 2, segments: 2, has_oddities: false });
        sample.put(areas[area], &bytes).put(format!("{}{key}", areas[(area * 7) % 12]), &bytes);
        let dump = sample.dump().unwrap();
        for options in [Options::default(), Options::strict_upstream(), Options { force_mixed: true, ..Options::default() }] {
            if let Ok(plan) = plan(&dump, &options) {
                plan.diff().for_each(|change| drop(change.to_string()));
            }
        }
        let other = Sample::random(2, Size { collections: 2, segments: 2, has_oddities: false }).dump().unwrap();
        let _ = (restore(&dump, &other), restore(&other, &dump));
    }
}
