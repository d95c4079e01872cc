//! The format of Milvus' metadata, determined from its keys (and the values of a few records).
//!
//! Pure: the input is keys relative to `<rootPath>/<metaSubPath>`, the output is a
//! [`MetadataState`]. [`AREAS`] lists the keys that must be read and how much of them, so that a
//! reader of etcd and this table cannot disagree.

use std::collections::BTreeSet;

use prost::Message;

use milvus_guard_core::{error_text, evidence::MetadataState};

use super::{
    keys::{COLLECTION, SESSIONS, TOMBSTONE, numbers, shown},
    record::Dump,
};

/// What the presence of a key shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Only 2.1 writes it, or a migration would have removed it.
    Old,
    /// A migration or 2.2 writes it.
    New,
    /// A migration or 2.2 writes it: indexes.
    NewIndex,
    /// A migration or 2.2 writes it: load state.
    NewLoad,
    /// Both 2.1 and 2.2 write it: a database, or a collection inside one (2.2.9 and later), which a
    /// migration never writes.
    Database,
    /// Only a running 2.2 writes it.
    Ran22,
    /// A collection.
    Collection,
    /// A segment.
    Segment,
    /// A load record of 2.1.
    OldLoad,
    /// A user.
    User,
}

/// How much of an area must be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One key is enough; its value does not matter.
    AnyKey,
    /// One key whose value is not a tombstone is enough.
    AnyLive,
    /// Every key with its value.
    All,
}

/// A part of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Relative prefix; one without a slash at its end is an exact key.
    pub path: &'static str,
    /// What a key in it shows.
    pub signal: Signal,
    /// How much of it must be read.
    pub depth: Depth,
    /// Whether it matters only if nothing of 2.1 was found.
    pub late: bool,
}

const fn area(path: &'static str, signal: Signal, depth: Depth) -> Area {
    Area {
        path,
        signal,
        depth,
        late: false,
    }
}

const fn late(path: &'static str, signal: Signal, depth: Depth) -> Area {
    Area {
        path,
        signal,
        depth,
        late: true,
    }
}

/// The key space, in the best order to read it: small and decisive areas first. Milvus' own readers
/// use prefixes without a slash at the end and so mistake `collection-alias` for `collection`; here
/// every prefix ends with a slash.
pub const AREAS: [Area; 24] = [
    area("root-coord/dd-operation", Signal::Old, Depth::AnyLive),
    area("root-coord/dd-msg-send", Signal::Old, Depth::AnyLive),
    area("root-coord/index/", Signal::Old, Depth::AnyLive),
    area("root-coord/segment-index/", Signal::Old, Depth::AnyLive),
    area("indexes/", Signal::Old, Depth::AnyLive),
    area("root-coord/collection-alias/", Signal::Old, Depth::AnyLive),
    area("field-index/", Signal::NewIndex, Depth::AnyLive),
    area("segment-index/", Signal::New, Depth::AnyLive),
    area("root-coord/aliases/", Signal::New, Depth::AnyLive),
    area("root-coord/partitions/", Signal::New, Depth::AnyLive),
    area("root-coord/fields/", Signal::New, Depth::AnyLive),
    area("root-coord/database/", Signal::Database, Depth::All),
    area(
        "querycoord-collection-loadinfo/",
        Signal::NewLoad,
        Depth::AnyLive,
    ),
    area(
        "querycoord-partition-loadinfo/",
        Signal::NewLoad,
        Depth::AnyLive,
    ),
    area("root-coord/credential/roles/", Signal::Ran22, Depth::AnyKey),
    area("datacoord-meta/channel-cp/", Signal::Ran22, Depth::AnyKey),
    area("datacoord-meta/binlog/", Signal::Ran22, Depth::AnyKey),
    area("datacoord-meta/deltalog/", Signal::Ran22, Depth::AnyKey),
    area("datacoord-meta/statslog/", Signal::Ran22, Depth::AnyKey),
    area("querycoord-replica/", Signal::Ran22, Depth::AnyKey),
    area("root-coord/collection/", Signal::Collection, Depth::All),
    late("root-coord/credential/users/", Signal::User, Depth::AnyKey),
    late("queryCoord-collectionMeta/", Signal::OldLoad, Depth::All),
    late("datacoord-meta/s/", Signal::Segment, Depth::All),
];

/// The fields of `etcdpb.CollectionInfo` that are needed here.
#[derive(Clone, PartialEq, Message)]
struct CollectionInfo {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(message, optional, tag = "2")]
    schema: Option<CollectionSchema>,
    #[prost(message, repeated, tag = "6")]
    field_indexes: Vec<FieldIndexInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct CollectionSchema {
    #[prost(message, repeated, tag = "4")]
    fields: Vec<FieldSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldSchema {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, Message)]
struct FieldIndexInfo {
    #[prost(int64, tag = "2")]
    index_id: i64,
}

/// The field of `datapb.SegmentInfo` that is needed here.
#[derive(Clone, PartialEq, Message)]
struct SegmentInfo {
    #[prost(int32, tag = "6")]
    state: i32,
}

/// `SegmentState.Dropped`.
const SEGMENT_DROPPED: i32 = 6;

/// The fields of `querypb.CollectionInfo` of 2.1 that are needed here.
#[derive(Clone, PartialEq, Message)]
struct LoadRecord {
    #[prost(int64, tag = "1")]
    collection_id: i64,
    #[prost(int64, tag = "7")]
    in_memory_percentage: i64,
}

/// What the keys have shown so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    seen: BTreeSet<Signal>,
    loaded: BTreeSet<i64>,
    anything: bool,
    collections: BTreeSet<i64>,
    dropped: BTreeSet<i64>,
    bare_collection: Option<i64>,
    segment_collections: BTreeSet<i64>,
    problem: Option<String>,
}

impl Evidence {
    /// What the keys of a dump show.
    #[must_use]
    pub fn of(dump: &Dump) -> Self {
        let mut evidence = Self::default();
        for area in AREAS {
            if area.late && evidence.is_old() {
                continue;
            }
            let records = dump
                .under(area.path)
                .iter()
                .filter(|record| area.path.ends_with('/') || record.key() == area.path.as_bytes());
            for record in records.filter(|record| !record.leased) {
                evidence.add(record.key(), Some(record.value()));
                if area.depth == Depth::AnyKey
                    || (area.depth == Depth::AnyLive && record.value() != TOMBSTONE)
                {
                    break;
                }
            }
        }
        if !evidence.is_anything() {
            for record in dump.records().iter().filter(|record| record.is_metadata()) {
                evidence.add(record.key(), Some(record.value()));
            }
        }
        evidence
    }

    /// Takes one key, relative to `<rootPath>/<metaSubPath>/`. The value is needed if the key's
    /// area has [`Depth::AnyLive`] or [`Depth::All`]; a value that was not read counts as live.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        if key.starts_with(SESSIONS.as_bytes()) {
            return;
        }
        if value == Some(TOMBSTONE) {
            // A dropped collection is not one that the official tool has lost.
            self.dropped.extend(
                key.strip_prefix(COLLECTION.as_bytes())
                    .and_then(numbers::<1>)
                    .map(|[id]| id),
            );
            return;
        }
        self.anything = true;
        let Some((area, rest)) = area_of(key) else {
            return;
        };
        self.seen.insert(area.signal);
        match area.signal {
            Signal::Database => {
                if let [Some("collection-info"), Some(_), Some(id), None] = parts(rest)
                    && let Ok(id) = id.parse()
                {
                    self.collections.insert(id);
                }
            }
            Signal::Collection => {
                if let [Some(id), None, ..] = parts(rest)
                    && let Ok(id) = id.parse()
                {
                    self.collection(key, id, value);
                }
            }
            Signal::Segment => {
                if let [Some(collection), Some(_), Some(segment), None] = parts(rest)
                    && let (Ok(collection), Ok(_)) = (collection.parse(), segment.parse::<i64>())
                {
                    self.segment(key, collection, value);
                }
            }
            Signal::OldLoad => {
                if let Some(record) = self.decode::<LoadRecord>(key, value)
                    && record.in_memory_percentage >= 100
                {
                    self.loaded.insert(record.collection_id);
                }
            }
            _ => {}
        }
    }

    fn collection(&mut self, key: &[u8], id: i64, value: Option<&[u8]>) {
        self.collections.insert(id);
        let Some(info) = self.decode::<CollectionInfo>(key, value) else {
            return;
        };
        if info.id != id {
            self.problem(key, &format!("it describes collection {}", info.id));
        }
        if !info.field_indexes.is_empty() {
            self.seen.insert(Signal::Old);
        }
        if info.schema.is_none_or(|schema| schema.fields.is_empty()) {
            self.bare_collection.get_or_insert(id);
        }
    }

    fn segment(&mut self, key: &[u8], collection: i64, value: Option<&[u8]>) {
        if self
            .decode::<SegmentInfo>(key, value)
            .is_none_or(|segment| segment.state != SEGMENT_DROPPED)
        {
            self.segment_collections.insert(collection);
        }
    }

    fn decode<M: Message + Default>(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<M> {
        match M::decode(value?) {
            Ok(message) => Some(message),
            Err(error) => {
                self.problem(key, &format!("it is not a valid record ({error})"));
                None
            }
        }
    }

    fn problem(&mut self, key: &[u8], what: &str) {
        if self.problem.is_none() {
            self.problem = Some(error_text::line(&format!("key {}: {what}", shown(key))));
        }
    }

    /// Whether a key of 2.1 was found, so that areas marked late need not be read.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.saw(&[Signal::Old])
    }

    fn saw(&self, any: &[Signal]) -> bool {
        any.iter().any(|signal| self.seen.contains(signal))
    }

    /// Whether any live key was found that is not a session.
    #[must_use]
    pub fn is_anything(&self) -> bool {
        self.anything
    }

    /// The format of the metadata. If the keys fit both an interrupted and a finished official
    /// migration, the interrupted one is returned, because the other answer could lose data.
    #[must_use]
    pub fn state(&self) -> MetadataState {
        if let Some(problem) = &self.problem {
            return MetadataState::Unreadable(problem.clone());
        }
        let new = self.saw(&[
            Signal::New,
            Signal::NewIndex,
            Signal::NewLoad,
            Signal::Database,
        ]);
        let ran22 = self.saw(&[Signal::Ran22, Signal::Database]);
        if self.is_old() {
            return match (ran22, new) {
                (true, _) => MetadataState::MixedSkipped,
                (false, true) => MetadataState::PartialApply,
                (false, false) => MetadataState::V21,
            };
        }
        let has_segments = !self.segment_collections.is_empty();
        // A cleanup of the old metadata deletes tombstones too.
        let is_cleaned = self.collections.is_empty() && self.dropped.is_empty() && !new;
        if is_cleaned && (has_segments || self.saw(&[Signal::OldLoad, Signal::User])) {
            return MetadataState::PartialCleaned;
        }
        let is_known = |id: &i64| self.collections.contains(id) || self.dropped.contains(id);
        let orphans = !self.segment_collections.iter().all(is_known);
        let is_loaded = !self.loaded.is_subset(&self.dropped);
        let load_lost = is_loaded && !self.saw(&[Signal::NewLoad, Signal::NewIndex]);
        if orphans || load_lost {
            return MetadataState::PartialSaved;
        }
        if new || ran22 {
            return MetadataState::V22;
        }
        if let Some(id) = self.bare_collection {
            return MetadataState::Unreadable(format!(
                "collection {id} has no fields, neither in its record nor in separate records"
            ));
        }
        if !self.collections.is_empty() || (self.anything && !self.dropped.is_empty()) {
            return MetadataState::V21NoIndex;
        }
        if self.anything {
            return MetadataState::Unreadable("the keys do not show the format".into());
        }
        MetadataState::Empty
    }
}

/// The area of a key, and what follows the area's path.
fn area_of(key: &[u8]) -> Option<(&'static Area, &str)> {
    AREAS.iter().find_map(|area| {
        let rest = key.strip_prefix(area.path.as_bytes())?;
        (area.path.ends_with('/') || rest.is_empty())
            .then(|| (area, std::str::from_utf8(rest).unwrap_or_default()))
    })
}

/// The first four parts of a path.
fn parts(path: &str) -> [Option<&str>; 4] {
    let mut parts = path.split('/');
    [parts.next(), parts.next(), parts.next(), parts.next()]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn collection(id: i64, fields: usize, indexes: usize) -> Vec<u8> {
        CollectionInfo {
            id,
            schema: Some(CollectionSchema {
                fields: vec![FieldSchema { id: 100 }; fields],
            }),
            field_indexes: vec![FieldIndexInfo { index_id: 7 }; indexes],
        }
        .encode_to_vec()
    }

    fn segment(state: i32) -> Vec<u8> {
        SegmentInfo { state }.encode_to_vec()
    }

    fn load(percent: i64) -> Vec<u8> {
        LoadRecord {
            collection_id: 2,
            in_memory_percentage: percent,
        }
        .encode_to_vec()
    }

    fn state(records: &[(&str, Vec<u8>)]) -> MetadataState {
        let mut evidence = Evidence::default();
        for (key, value) in records {
            evidence.add(key.as_bytes(), Some(value));
        }
        evidence.state()
    }

    fn x() -> Vec<u8> {
        b"x".to_vec()
    }

    fn gone() -> Vec<u8> {
        TOMBSTONE.to_vec()
    }

    #[test]
    fn metadata_with_only_sessions_is_empty() {
        assert_eq!(state(&[]), MetadataState::Empty);
        assert_eq!(
            state(&[("session/id", x()), ("session/rootcoord", x())]),
            MetadataState::Empty
        );
        assert_eq!(
            state(&[("root-coord/collection/1", gone())]),
            MetadataState::Empty,
            "tombstones are ignored"
        );
    }

    #[rstest]
    #[case("root-coord/index/1/2", true)]
    #[case("root-coord/segment-index/1/2/3/4", true)]
    #[case("indexes/5", true)]
    #[case("root-coord/collection-alias/a", true)]
    #[case("root-coord/dd-operation", true)]
    #[case("root-coord/dd-msg-send", true)]
    #[case("root-coord/dd-operation-of-someone", false)]
    #[case("root-coord/indexfoo", false)]
    fn one_old_key_is_2_1(#[case] key: &str, #[case] old: bool) {
        assert_eq!(
            state(&[("root-coord/collection/1", collection(1, 2, 0)), (key, x())])
                == MetadataState::V21,
            old
        );
    }

    #[test]
    fn field_indexes_in_a_collection_are_2_1() {
        assert_eq!(
            state(&[("root-coord/collection/1", collection(1, 2, 1))]),
            MetadataState::V21
        );
    }

    #[test]
    fn old_tombstones_do_not_count() {
        let records = [
            ("root-coord/collection/1", collection(1, 2, 0)),
            ("root-coord/index/1", gone()),
            ("root-coord/segment-index/2", gone()),
            ("root-coord/collection-alias/a", gone()),
        ];
        assert_eq!(state(&records), MetadataState::V21NoIndex);
    }

    #[rstest]
    #[case("field-index/1/2")]
    #[case("segment-index/1/2/3/4")]
    #[case("root-coord/aliases/a")]
    #[case("root-coord/partitions/1/2")]
    #[case("root-coord/fields/1/100")]
    #[case("root-coord/database/db-info/1")]
    #[case("querycoord-collection-loadinfo/1")]
    #[case("querycoord-partition-loadinfo/1/2")]
    fn one_new_key_is_2_2(#[case] key: &str) {
        assert_eq!(
            state(&[("root-coord/collection/1", collection(1, 2, 0)), (key, x())]),
            MetadataState::V22
        );
    }

    #[rstest]
    #[case("root-coord/credential/roles/admin")]
    #[case("datacoord-meta/channel-cp/by-dev-dml_0")]
    #[case("datacoord-meta/binlog/1/2/3/100")]
    #[case("datacoord-meta/deltalog/1/2/3/100")]
    #[case("datacoord-meta/statslog/1/2/3/100")]
    #[case("querycoord-replica/1/2")]
    #[case("root-coord/database/db-info/1")]
    fn old_keys_with_those_of_a_running_2_2_are_mixed(#[case] key: &str) {
        assert_eq!(
            state(&[("root-coord/dd-operation", x()), (key, x())]),
            MetadataState::MixedSkipped
        );
    }

    #[test]
    fn metadata_of_2_2_without_collections_is_2_2() {
        let records = [
            ("root-coord/database/db-info/1", x()),
            ("root-coord/credential/users/root", x()),
        ];
        assert_eq!(state(&records), MetadataState::V22);
    }

    #[test]
    fn old_and_new_keys_together_are_an_interrupted_run() {
        assert_eq!(
            state(&[("root-coord/index/1/2", x()), ("field-index/1/2", x())]),
            MetadataState::PartialApply
        );
    }

    #[rstest]
    #[case("datacoord-meta/s/1/2/3", segment(4))]
    #[case("queryCoord-collectionMeta/1", load(100))]
    #[case("root-coord/credential/users/root", x())]
    fn metadata_without_collections_is_that_of_an_interrupted_cleanup(
        #[case] key: &str,
        #[case] value: Vec<u8>,
    ) {
        assert_eq!(
            state(&[(key, value.clone())]),
            MetadataState::PartialCleaned
        );
        let dropped = state(&[
            ("root-coord/collection/1", gone()),
            ("root-coord/collection/2", gone()),
            (key, value),
        ]);
        assert_eq!(
            dropped,
            MetadataState::V21NoIndex,
            "tombstones would be deleted too"
        );
    }

    #[test]
    fn dropped_segments_and_statslogs_do_not_count_as_segments() {
        let records = [
            ("datacoord-meta/s/1/2/3", segment(SEGMENT_DROPPED)),
            ("datacoord-meta/statslog/1/2/3/0", x()),
        ];
        assert_eq!(state(&records), MetadataState::V22);
    }

    #[test]
    fn segments_of_missing_collections_show_an_interrupted_save() {
        let mut records = vec![
            ("root-coord/collection/1", collection(1, 2, 0)),
            ("field-index/1/2", x()),
            ("datacoord-meta/s/1/2/3", segment(4)),
        ];
        assert_eq!(state(&records), MetadataState::V22);
        records.push(("datacoord-meta/s/9/2/4", segment(4)));
        assert_eq!(state(&records), MetadataState::PartialSaved);
        records.push(("root-coord/database/collection-info/1/9", x()));
        assert_eq!(
            state(&records),
            MetadataState::V22,
            "a collection inside a database counts"
        );
        records.push(("datacoord-meta/s/8/2/4", segment(4)));
        assert_eq!(state(&records), MetadataState::PartialSaved);
        records.push(("root-coord/collection/8", gone()));
        assert_eq!(
            state(&records),
            MetadataState::V22,
            "a dropped collection may have segments for a while"
        );
    }

    #[test]
    fn a_lost_load_state_shows_an_interrupted_save() {
        let mut records = vec![
            ("root-coord/collection/1", collection(1, 2, 0)),
            ("queryCoord-collectionMeta/1", load(60)),
        ];
        assert_eq!(state(&records), MetadataState::V21NoIndex);
        records.push(("queryCoord-collectionMeta/2", load(100)));
        assert_eq!(state(&records), MetadataState::PartialSaved);
        let mut dropped = records.clone();
        dropped.push(("root-coord/collection/2", gone()));
        assert_eq!(
            state(&dropped),
            MetadataState::V21NoIndex,
            "a dropped collection cannot be lost"
        );
        records.push(("querycoord-collection-loadinfo/1", x()));
        assert_eq!(state(&records), MetadataState::V22);
    }

    #[rstest]
    #[case("root-coord/collection/1", b"\xff\xff\xff".to_vec())]
    #[case("root-coord/collection/1", Vec::new())]
    #[case("root-coord/collection/1", collection(2, 1, 0))]
    #[case("root-coord/collection/1", b"\x12\xff\xff\xff\xff\x0f".to_vec())]
    #[case("datacoord-meta/s/1/2/3", b"\x32\x05".to_vec())]
    #[case("queryCoord-collectionMeta/1", b"\x3a\x01".to_vec())]
    fn hostile_values_are_reported_with_their_key(#[case] key: &str, #[case] value: Vec<u8>) {
        match state(&[("root-coord/index/1/1", x()), (key, value)]) {
            MetadataState::Unreadable(reason) => assert!(reason.contains(key), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hostile_keys_are_harmless() {
        let mut evidence = Evidence::default();
        evidence.add(b"root-coord/collection/\xff\xfe", Some(b"\xff"));
        evidence.add(b"root-coord/collection/99999999999999999999", Some(b"\xff"));
        evidence.add(b"datacoord-meta/s/1/2/3/4", Some(b"\xff"));
        assert!(
            matches!(evidence.state(), MetadataState::Unreadable(reason) if reason.contains("do \
                not show the format"))
        );
        evidence.problem(b"a\x1b[31m\xff\n", "broken");
        assert!(
            matches!(evidence.state(), MetadataState::Unreadable(reason) if !reason.contains('\x1b'))
        );
    }

    #[test]
    fn collections_without_fields_are_unreadable() {
        assert!(matches!(
            state(&[("root-coord/collection/1", collection(1, 0, 0))]),
            MetadataState::Unreadable(_)
        ));
    }
}
