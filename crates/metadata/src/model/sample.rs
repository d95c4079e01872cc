//! Metadata as Milvus 2.1 writes it, of any size: for tests and benchmarks, also of other crates.
//!
//! Single records are added by hand ([`Sample::collection`] and others); [`Sample::random`] creates
//! whole clusters from a seed, always the same from the same seed. Ids follow a pattern that makes
//! them unique and readable.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    keys::{
        BUILD, COLLECTION, COLLECTION_HISTORY, OLD_ALIAS, OLD_ALIAS_HISTORY, OLD_INDEX, OLD_LOAD,
        OLD_SEGMENT_INDEX, Root, SEGMENT, TOMBSTONE,
    },
    messages::{
        Build, BuildRequest, CollectionInfo, CollectionSchema, FieldIndexInfo, FieldSchema,
        KeyDataPair, KeyValuePair, OldIndex, OldLoad, OldSegmentIndex, Segment,
    },
    record::{Dump, DuplicateKey, Record},
};

/// Primary key of every collection, an integer.
pub const KEY_FIELD: i64 = 100;
/// Vector field of every collection.
pub const VECTOR_FIELD: i64 = 101;
/// Text field of every collection.
pub const TEXT_FIELD: i64 = 102;
/// `SegmentState.Flushed`.
pub const FLUSHED: i32 = 4;

/// A sample cluster of Milvus 2.1.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Current records of live collections.
    pub collections: BTreeMap<i64, CollectionInfo>,
    records: Vec<Record>,
    clock: u64,
}

/// The size of a random cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Number of live collections.
    pub collections: usize,
    /// Segments per collection: at most for small clusters, exactly for those of [`Sample::large`].
    pub segments: usize,
    /// Whether it has what the official tool cannot handle: tombstones among indexes, short lists
    /// of partition times, builds that no longer exist, dropped indexes, aliases with `_ts` in
    /// their names.
    pub has_oddities: bool,
}

/// Generator of small numbers from a seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed >> 33) % sides.max(1) as u64).unwrap_or(0)
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// Pairs of texts as Milvus stores parameters.
#[must_use]
pub fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValuePair> {
    pairs
        .iter()
        .map(|(key, value)| KeyValuePair {
            key: (*key).into(),
            value: (*value).into(),
        })
        .collect()
}

fn field(field_id: i64, name: &str, data_type: i32, params: &[(&str, &str)]) -> FieldSchema {
    FieldSchema {
        field_id,
        name: name.into(),
        is_primary_key: field_id == KEY_FIELD,
        data_type,
        type_params: pairs(params),
        ..FieldSchema::default()
    }
}

impl Sample {
    /// An empty cluster.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: 434_000_000_000_000_000,
            ..Self::default()
        }
    }

    /// The next timestamp.
    pub fn now(&mut self) -> u64 {
        self.clock += 262_144;
        self.clock
    }

    /// Sets any key; the last value of a key counts.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let revision = i64::try_from(self.records.len())
            .unwrap_or(i64::MAX)
            .saturating_add(2);
        self.records.push(Record::new(key, value, revision));
        self
    }

    /// Sets a session with a lease.
    pub fn session(&mut self, name: &str) -> &mut Self {
        self.put(
            format!("session/{name}"),
            format!("{{\"ServerID\":7,\"ServerName\":\"{name}\",\"Address\":\"10.0.0.1:1\"}}"),
        );
        if let Some(last) = self.records.last_mut() {
            last.leased = true;
        }
        self
    }

    /// Creates a collection with a key, a vector and a text field and the partition `_default` (its
    /// id is ten times the collection's). Also writes its history and the markers of its creation.
    pub fn collection(&mut self, id: i64, name: &str) -> &mut CollectionInfo {
        let create_time = self.now();
        let fields = vec![
            field(KEY_FIELD, "id", 5, &[]),
            field(VECTOR_FIELD, "vector", 101, &[("dim", "128")]),
            field(TEXT_FIELD, "text", 21, &[("max_length", "256")]),
        ];
        let channel = format!("by-dev-rootcoord-dml_{}", id % 16);
        let info = CollectionInfo {
            id,
            schema: Some(CollectionSchema {
                name: name.into(),
                description: "sample".into(),
                fields,
                ..Default::default()
            }),
            create_time,
            partition_ids: vec![id * 10],
            partition_names: vec!["_default".into()],
            virtual_channel_names: vec![format!("{channel}_{id}v0")],
            physical_channel_names: vec![channel.clone()],
            partition_created_timestamps: vec![create_time],
            shards_num: 1,
            start_positions: vec![KeyDataPair {
                key: channel,
                data: vec![8, 255, 0, 1],
            }],
            consistency_level: 2,
            ..CollectionInfo::default()
        };
        let operation = format!("{{\"body\":\"{id}\",\"type\":\"CreateCollection\"}}");
        for (leaf, value) in [
            ("root-coord/dd-operation", operation.as_str()),
            ("root-coord/dd-msg-send", "true"),
        ] {
            self.put(leaf, value)
                .put(format!("snapshots/{leaf}_ts{create_time}"), value);
        }
        self.put(
            format!("{COLLECTION_HISTORY}{id}_ts{create_time}"),
            info.encode_to_vec(),
        );
        self.collections.entry(id).or_insert(info)
    }

    /// Adds a partition, or drops the one with this id, and adds a record to the history.
    pub fn partition(&mut self, collection: i64, partition: i64) -> &mut Self {
        let ts = self.now();
        let Some(info) = self.collections.get_mut(&collection) else {
            return self;
        };
        if let Some(at) = info.partition_ids.iter().position(|id| *id == partition) {
            info.partition_ids.remove(at);
            info.partition_names.remove(at);
            info.partition_created_timestamps.remove(at);
        } else {
            info.partition_ids.push(partition);
            info.partition_names.push(format!("p{partition}"));
            info.partition_created_timestamps.push(ts);
        }
        // Partitions are in the history, indexes are not.
        let value = CollectionInfo {
            field_indexes: Vec::new(),
            ..info.clone()
        }
        .encode_to_vec();
        self.put(format!("{COLLECTION_HISTORY}{collection}_ts{ts}"), value)
    }

    /// Drops a collection: writes tombstones at its key and in its history.
    pub fn drop_collection(&mut self, id: i64) -> &mut Self {
        let ts = self.now();
        self.collections.remove(&id);
        self.put(format!("{COLLECTION}{id}"), TOMBSTONE)
            .put(format!("{COLLECTION_HISTORY}{id}_ts{ts}"), TOMBSTONE)
    }

    /// Creates an index on a field.
    pub fn index(&mut self, collection: i64, field: i64, index: i64, info: OldIndex) -> &mut Self {
        if let Some(collection) = self.collections.get_mut(&collection) {
            collection.field_indexes.push(FieldIndexInfo {
                field_id: field,
                index_id: index,
            });
        }
        self.put(
            format!("{OLD_INDEX}{collection}/{index}"),
            OldIndex {
                index_id: index,
                ..info
            }
            .encode_to_vec(),
        )
    }

    /// An `IVF_FLAT` index as a record.
    #[must_use]
    pub fn ivf_flat(name: &str) -> OldIndex {
        OldIndex {
            index_name: name.into(),
            index_params: pairs(&[
                ("index_type", "IVF_FLAT"),
                ("metric_type", "L2"),
                ("params", "{\"nlist\":1024}"),
            ]),
            create_time: 434_000_000_000_000_001,
            ..OldIndex::default()
        }
    }

    /// A segment as the data coordinator stores it.
    pub fn segment(&mut self, ids: [i64; 3], rows: i64, state: i32) -> &mut Self {
        let [collection_id, partition_id, id] = ids;
        let segment = Segment {
            id,
            collection_id,
            partition_id,
            num_rows: rows,
            state,
        };
        self.put(
            format!("{SEGMENT}{collection_id}/{partition_id}/{id}"),
            segment.encode_to_vec(),
        )
    }

    /// The index of a segment. Build 0 means a segment below the threshold; other builds are added
    /// by [`Sample::build`].
    pub fn segment_index(
        &mut self,
        ids: [i64; 3],
        field: i64,
        index: i64,
        build: i64,
    ) -> &mut Self {
        let [collection_id, partition_id, segment_id] = ids;
        let info = OldSegmentIndex {
            collection_id,
            partition_id,
            segment_id,
            field_id: field,
            index_id: index,
            build_id: build,
            enable_index: build != 0,
            create_time: 434_000_000_000_000_002,
        };
        let key = format!("{OLD_SEGMENT_INDEX}{collection_id}/{index}/{partition_id}/{segment_id}");
        self.put(key, info.encode_to_vec())
    }

    /// A finished index build with `files` files, as a real 2.1 writes it.
    #[must_use]
    pub fn finished(
        ids: [i64; 3],
        field_id: i64,
        index_id: i64,
        build_id: i64,
        files: usize,
    ) -> Build {
        let [collection, partition, segment] = ids;
        let path = |file: usize| {
            format!("files/index_files/{build_id}/1/{partition}/{segment}/IVF_{file}")
        };
        Build {
            build_id,
            state: 3,
            request: Some(BuildRequest {
                build_id,
                index_name: "_default_idx".into(),
                index_id,
                data_paths: vec![format!(
                    "files/insert_log/{collection}/{partition}/{segment}/{field_id}/{build_id}"
                )],
                type_params: pairs(&[("dim", "128")]),
                index_params: pairs(&[
                    ("index_type", "IVF_FLAT"),
                    ("metric_type", "L2"),
                    ("nlist", "1024"),
                ]),
                num_rows: 100_000,
                field_schema: Some(field(field_id, "vector", 101, &[("dim", "128")])),
                segment_id: segment,
            }),
            index_file_paths: (0..files).map(path).collect(),
            node_id: 5,
            index_version: 1,
            serialize_size: 51_200_000,
            ..Build::default()
        }
    }

    /// Sets a build.
    pub fn build(&mut self, build: &Build) -> &mut Self {
        self.put(format!("{BUILD}{}", build.build_id), build.encode_to_vec())
    }

    /// A segment with a finished index: the segment, its index and the build.
    pub fn built(&mut self, ids: [i64; 3], field: i64, index: i64, build: i64) -> &mut Self {
        self.segment(ids, 100_000, FLUSHED)
            .segment_index(ids, field, index, build)
            .build(&Self::finished(ids, field, index, build, 3))
    }

    /// Creates or alters an alias; without a collection, drops it.
    pub fn alias(&mut self, alias: &str, collection: Option<i64>) -> &mut Self {
        let ts = self.now();
        let value = collection.map_or(TOMBSTONE.to_vec(), |id| {
            let schema = Some(CollectionSchema {
                name: alias.into(),
                ..CollectionSchema::default()
            });
            CollectionInfo {
                id,
                schema,
                ..CollectionInfo::default()
            }
            .encode_to_vec()
        });
        self.put(format!("{OLD_ALIAS}{alias}"), &value)
            .put(format!("{OLD_ALIAS_HISTORY}{alias}_ts{ts}"), &value)
    }

    /// Sets a load record.
    pub fn load(&mut self, load: &OldLoad) -> &mut Self {
        self.put(
            format!("{OLD_LOAD}{}", load.collection_id),
            load.encode_to_vec(),
        )
    }

    /// A load record of a completely loaded collection.
    #[must_use]
    pub fn loaded(collection_id: i64, load_type: i32) -> OldLoad {
        OldLoad {
            collection_id,
            load_type,
            in_memory_percentage: 100,
            replica_number: 1,
            ..OldLoad::default()
        }
    }

    /// Adds what every cluster has in addition to collections.
    pub fn surroundings(&mut self) -> &mut Self {
        self.put(
            "root-coord/credential/users/root",
            br#"{"encrypted_password":"$2a$10$secret"}"#,
        )
        .put(
            "channelwatch/3/by-dev-rootcoord-dml_0_1v0",
            b"\x0a\x02\xff\xfe",
        )
        .put("queryCoord-ReplicaMeta/1", b"\x08\x01")
        .put("session/id", "42")
        .session("rootcoord")
    }

    /// All records, sorted by key, each key once.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut records = self.records.clone();
        for (id, info) in &self.collections {
            records.push(Record::new(
                format!("{COLLECTION}{id}"),
                info.encode_to_vec(),
                1,
            ));
        }
        records.sort_by(|a, b| a.key().cmp(b.key()));
        records.dedup_by(|next, kept| {
            let is_same = next.key() == kept.key();
            if is_same {
                std::mem::swap(next, kept);
            }
            is_same
        });
        records
    }

    /// All records as they would be read under `by-dev/meta`.
    ///
    /// # Errors
    /// Never: each key occurs once.
    pub fn dump(&self) -> Result<Dump, DuplicateKey> {
        let root = Root::new("by-dev", "meta").map_err(|_| DuplicateKey(Vec::new()))?;
        Dump::new(root, 7, 1_000_000, self.records())
    }

    /// A cluster from a seed.
    #[must_use]
    pub fn random(seed: u64, size: Size) -> Self {
        let (mut sample, mut dice) = (Self::new(), Dice(seed));
        sample.surroundings();
        for number in 1..=size.collections {
            let id = i64::try_from(number).unwrap_or(0) * 1000;
            sample.random_collection(&mut dice, id, size);
        }
        if size.has_oddities {
            sample
                .put("root-coord/index/3", TOMBSTONE)
                .put("root-coord/segment-index/2", TOMBSTONE);
        }
        sample
    }

    fn random_collection(&mut self, dice: &mut Dice, id: i64, size: Size) {
        self.collection(id, &format!("collection_{id}"));
        for partition in 1..=dice.roll(4) {
            self.partition(id, id * 10 + i64::try_from(partition).unwrap_or(0));
        }
        if dice.one_in(4) {
            self.partition(id, id * 10 + 1);
        }
        let mut indexes = Vec::new();
        for (field, sides) in [(VECTOR_FIELD, 5), (TEXT_FIELD, 2)] {
            if dice.roll(sides) > 0 {
                let index = id + field;
                let info = OldIndex {
                    deleted: dice.one_in(8),
                    ..Self::ivf_flat(dice.pick(&["_default_idx", "mine"]))
                };
                self.index(id, field, index, info);
                indexes.push((field, index));
            }
        }
        let partitions = self
            .collections
            .get(&id)
            .map(|info| info.partition_ids.clone())
            .unwrap_or_default();
        for number in 0..dice.roll(size.segments + 1) {
            let segment = id * 1000 + i64::try_from(number).unwrap_or(0);
            let ids = [id, dice.pick(&partitions), segment];
            self.segment(ids, 100_000, FLUSHED);
            for (field, index) in &indexes {
                self.random_build(dice, ids, *field, *index, size.has_oddities);
            }
        }
        let name = if size.has_oddities {
            format!("a_ts_{id}_ts9")
        } else {
            format!("a_{id}")
        };
        for _ in 0..dice.roll(4) {
            let target = dice.pick(&[Some(id), Some(1000), None]);
            self.alias(&name, target);
        }
        if dice.one_in(2) {
            let partition_ids = partitions.clone();
            let (kind, percentage, replica_number) = (
                dice.pick(&[0, 1, 2, 2]),
                dice.pick(&[60, 100]),
                dice.pick(&[0, 1, 2]),
            );
            let released_partition_ids = if dice.one_in(3) {
                partitions
            } else {
                Vec::new()
            };
            self.load(&OldLoad {
                partition_ids,
                replica_number,
                released_partition_ids,
                in_memory_percentage: percentage,
                ..Self::loaded(id, kind)
            });
        }
        if dice.one_in(5) {
            self.drop_collection(id);
        } else if size.has_oddities && dice.one_in(5) {
            self.collections
                .entry(id)
                .and_modify(|info| info.partition_created_timestamps.clear());
        }
    }

    fn random_build(
        &mut self,
        dice: &mut Dice,
        ids: [i64; 3],
        field: i64,
        index: i64,
        has_oddities: bool,
    ) {
        let build = ids[2] * 1000 + field;
        let is_unbuilt = dice.one_in(4);
        self.segment_index(ids, field, index, if is_unbuilt { 0 } else { build });
        if is_unbuilt {
            return;
        }
        if has_oddities && dice.one_in(6) {
            // The segment no longer exists, and 2.1 has removed the build before the other records.
            self.segment(ids, 0, super::messages::SEGMENT_DROPPED);
            return;
        }
        let state = dice.pick(&[3, 3, 3, 3, 1, 2, 4]);
        let finished = Self::finished(ids, field, index, build, dice.roll(4));
        let fail_reason = if state == 4 {
            "out of memory".into()
        } else {
            String::new()
        };
        self.build(&Build {
            state,
            fail_reason,
            mark_deleted: dice.one_in(6),
            recycled: dice.one_in(9),
            ..finished
        });
    }

    /// A large cluster: every collection has one index and exactly [`Size::segments`] segments, all
    /// built. It has `collections * segments` segment indexes and as many builds.
    #[must_use]
    pub fn large(size: Size) -> Self {
        let mut sample = Self::new();
        sample.surroundings();
        for number in 1..=size.collections {
            let id = 430_000_000_000_000_000 + i64::try_from(number).unwrap_or(0) * 10_000_000;
            sample.collection(id, &format!("collection_{number}"));
            sample
                .collections
                .entry(id)
                .and_modify(|info| info.partition_ids = vec![id + 1]);
            sample.index(id, VECTOR_FIELD, id + 2, Self::ivf_flat("_default_idx"));
            for segment in 0..size.segments {
                let segment = id + 10 + 2 * i64::try_from(segment).unwrap_or(0);
                sample.built([id, id + 1, segment], VECTOR_FIELD, id + 2, segment + 1);
            }
        }
        sample
    }
}
