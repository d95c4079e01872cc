//! The protobuf messages of the metadata, with the fields that a migration needs.
//!
//! Written by hand and not generated: the definitions are in three repositories and in history
//! (`etcdpb`, `indexpb`, `querypb` and `schemapb` of 2.1 and 2.2, `legacy` of 2.2). The field
//! numbers are theirs; fields that 2.2 never had are left out. A dry run shows them serialised.

#![allow(
    missing_docs,
    reason = "fields have the names and meaning of the definitions above"
)]

use prost::Message;
use serde::Serialize;

/// `commonpb.KeyValuePair`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct KeyValuePair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `commonpb.KeyDataPair`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct KeyDataPair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// `schemapb.CollectionSchema`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct CollectionSchema {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub description: String,
    #[prost(bool, tag = "3")]
    pub auto_id: bool,
    #[prost(message, repeated, tag = "4")]
    pub fields: Vec<FieldSchema>,
    #[prost(bool, tag = "5")]
    pub enable_dynamic_field: bool,
}

/// `schemapb.FieldSchema`, without the fields that the official tool does not carry over.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct FieldSchema {
    #[prost(int64, tag = "1")]
    pub field_id: i64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "3")]
    pub is_primary_key: bool,
    #[prost(string, tag = "4")]
    pub description: String,
    #[prost(int32, tag = "5")]
    pub data_type: i32,
    #[prost(message, repeated, tag = "6")]
    pub type_params: Vec<KeyValuePair>,
    #[prost(message, repeated, tag = "7")]
    pub index_params: Vec<KeyValuePair>,
    #[prost(bool, tag = "8")]
    pub auto_id: bool,
}

/// `DataType.BinaryVector`; every vector type of 2.1 and 2.2 has this number or a higher one.
pub const FIRST_VECTOR_TYPE: i32 = 100;

/// `etcdpb.CollectionInfo` of 2.1 and 2.2; also an alias of 2.1, with only an id and a name.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct CollectionInfo {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(message, optional, tag = "2")]
    pub schema: Option<CollectionSchema>,
    #[prost(uint64, tag = "3")]
    pub create_time: u64,
    #[prost(int64, repeated, tag = "4")]
    pub partition_ids: Vec<i64>,
    #[prost(string, repeated, tag = "5")]
    pub partition_names: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub field_indexes: Vec<FieldIndexInfo>,
    #[prost(string, repeated, tag = "7")]
    pub virtual_channel_names: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub physical_channel_names: Vec<String>,
    #[prost(uint64, repeated, tag = "9")]
    pub partition_created_timestamps: Vec<u64>,
    #[prost(int32, tag = "10")]
    pub shards_num: i32,
    #[prost(message, repeated, tag = "11")]
    pub start_positions: Vec<KeyDataPair>,
    #[prost(int32, tag = "12")]
    pub consistency_level: i32,
    #[prost(int32, tag = "13")]
    pub state: i32,
    #[prost(message, repeated, tag = "14")]
    pub properties: Vec<KeyValuePair>,
    #[prost(int64, tag = "15")]
    pub db_id: i64,
}

/// `etcdpb.FieldIndexInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct FieldIndexInfo {
    #[prost(int64, tag = "1")]
    pub field_id: i64,
    #[prost(int64, tag = "2")]
    pub index_id: i64,
}

/// `etcdpb.AliasInfo`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct AliasInfo {
    #[prost(string, tag = "1")]
    pub alias_name: String,
    #[prost(int64, tag = "2")]
    pub collection_id: i64,
    #[prost(uint64, tag = "3")]
    pub created_time: u64,
    #[prost(int32, tag = "4")]
    pub state: i32,
    #[prost(int64, tag = "5")]
    pub db_id: i64,
}

/// `etcdpb.IndexInfo`: an index of 2.1.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct OldIndex {
    #[prost(string, tag = "1")]
    pub index_name: String,
    #[prost(int64, tag = "2")]
    pub index_id: i64,
    #[prost(message, repeated, tag = "3")]
    pub index_params: Vec<KeyValuePair>,
    #[prost(bool, tag = "4")]
    pub deleted: bool,
    #[prost(uint64, tag = "5")]
    pub create_time: u64,
}

/// `etcdpb.SegmentIndexInfo`: the index of a segment of 2.1.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub struct OldSegmentIndex {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, tag = "2")]
    pub partition_id: i64,
    #[prost(int64, tag = "3")]
    pub segment_id: i64,
    #[prost(int64, tag = "4")]
    pub field_id: i64,
    #[prost(int64, tag = "5")]
    pub index_id: i64,
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    #[prost(bool, tag = "7")]
    pub enable_index: bool,
    #[prost(uint64, tag = "8")]
    pub create_time: u64,
}

/// `legacy.BuildIndexRequest`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct BuildRequest {
    #[prost(int64, tag = "1")]
    pub build_id: i64,
    #[prost(string, tag = "2")]
    pub index_name: String,
    #[prost(int64, tag = "3")]
    pub index_id: i64,
    #[prost(string, repeated, tag = "5")]
    pub data_paths: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub type_params: Vec<KeyValuePair>,
    #[prost(message, repeated, tag = "7")]
    pub index_params: Vec<KeyValuePair>,
    #[prost(int64, tag = "8")]
    pub num_rows: i64,
    #[prost(message, optional, tag = "9")]
    pub field_schema: Option<FieldSchema>,
    #[prost(int64, tag = "10")]
    pub segment_id: i64,
}

/// `legacy.IndexMeta`: an index build of 2.1.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Build {
    #[prost(int64, tag = "1")]
    pub build_id: i64,
    #[prost(int32, tag = "2")]
    pub state: i32,
    #[prost(string, tag = "3")]
    pub fail_reason: String,
    #[prost(message, optional, tag = "4")]
    pub request: Option<BuildRequest>,
    #[prost(string, repeated, tag = "5")]
    pub index_file_paths: Vec<String>,
    #[prost(bool, tag = "6")]
    pub mark_deleted: bool,
    #[prost(int64, tag = "7")]
    pub node_id: i64,
    #[prost(int64, tag = "8")]
    pub index_version: i64,
    #[prost(bool, tag = "9")]
    pub recycled: bool,
    #[prost(uint64, tag = "10")]
    pub serialize_size: u64,
}

/// `IndexState.Finished`.
pub const INDEX_FINISHED: i32 = 3;

/// `indexpb.IndexInfo`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct IndexInfo {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, tag = "2")]
    pub field_id: i64,
    #[prost(string, tag = "3")]
    pub index_name: String,
    #[prost(int64, tag = "4")]
    pub index_id: i64,
    #[prost(message, repeated, tag = "5")]
    pub type_params: Vec<KeyValuePair>,
    #[prost(message, repeated, tag = "6")]
    pub index_params: Vec<KeyValuePair>,
    #[prost(bool, tag = "11")]
    pub is_auto_index: bool,
    #[prost(message, repeated, tag = "12")]
    pub user_index_params: Vec<KeyValuePair>,
}

/// `indexpb.FieldIndex`: an index of 2.2.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct FieldIndex {
    #[prost(message, optional, tag = "1")]
    pub index_info: Option<IndexInfo>,
    #[prost(bool, tag = "2")]
    pub deleted: bool,
    #[prost(uint64, tag = "3")]
    pub create_time: u64,
}

/// `indexpb.SegmentIndex`: the index of a segment of 2.2.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct SegmentIndex {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, tag = "2")]
    pub partition_id: i64,
    #[prost(int64, tag = "3")]
    pub segment_id: i64,
    #[prost(int64, tag = "4")]
    pub num_rows: i64,
    #[prost(int64, tag = "5")]
    pub index_id: i64,
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    #[prost(int64, tag = "7")]
    pub node_id: i64,
    #[prost(int64, tag = "8")]
    pub index_version: i64,
    #[prost(int32, tag = "9")]
    pub state: i32,
    #[prost(string, tag = "10")]
    pub fail_reason: String,
    #[prost(string, repeated, tag = "11")]
    pub index_file_keys: Vec<String>,
    #[prost(bool, tag = "12")]
    pub deleted: bool,
    #[prost(uint64, tag = "13")]
    pub create_time: u64,
    #[prost(uint64, tag = "14")]
    pub serialize_size: u64,
    #[prost(bool, tag = "15")]
    pub write_handoff: bool,
}

/// `querypb.CollectionInfo` of 2.1: a collection that is loaded or loading.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct OldLoad {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, repeated, tag = "2")]
    pub partition_ids: Vec<i64>,
    #[prost(int32, tag = "4")]
    pub load_type: i32,
    #[prost(message, optional, tag = "5")]
    pub schema: Option<CollectionSchema>,
    #[prost(int64, repeated, tag = "6")]
    pub released_partition_ids: Vec<i64>,
    #[prost(int64, tag = "7")]
    pub in_memory_percentage: i64,
    #[prost(int64, repeated, tag = "8")]
    pub replica_ids: Vec<i64>,
    #[prost(int32, tag = "9")]
    pub replica_number: i32,
}

/// `LoadType.LoadPartition`.
pub const LOAD_PARTITION: i32 = 1;
/// `LoadType.LoadCollection`.
pub const LOAD_COLLECTION: i32 = 2;
/// `LoadStatus.Loaded`.
pub const LOADED: i32 = 2;

/// `querypb.CollectionLoadInfo` of 2.2. The map is sorted, so that equal messages have equal bytes.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct CollectionLoad {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, repeated, tag = "2")]
    pub released_partitions: Vec<i64>,
    #[prost(int32, tag = "3")]
    pub replica_number: i32,
    #[prost(int32, tag = "4")]
    pub status: i32,
    #[prost(btree_map = "int64, int64", tag = "5")]
    pub field_index_id: std::collections::BTreeMap<i64, i64>,
}

/// `querypb.PartitionLoadInfo` of 2.2.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct PartitionLoad {
    #[prost(int64, tag = "1")]
    pub collection_id: i64,
    #[prost(int64, tag = "2")]
    pub partition_id: i64,
    #[prost(int32, tag = "3")]
    pub replica_number: i32,
    #[prost(int32, tag = "4")]
    pub status: i32,
    #[prost(btree_map = "int64, int64", tag = "5")]
    pub field_index_id: std::collections::BTreeMap<i64, i64>,
}

/// `etcdpb.PartitionInfo` of 2.2.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct PartitionInfo {
    #[prost(int64, tag = "1")]
    pub partition_id: i64,
    #[prost(string, tag = "2")]
    pub partition_name: String,
    #[prost(uint64, tag = "3")]
    pub created_timestamp: u64,
    #[prost(int64, tag = "4")]
    pub collection_id: i64,
    #[prost(int32, tag = "5")]
    pub state: i32,
}

/// `datapb.SegmentInfo`, only the fields that distinguish segments.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub struct Segment {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub collection_id: i64,
    #[prost(int64, tag = "3")]
    pub partition_id: i64,
    #[prost(int64, tag = "5")]
    pub num_rows: i64,
    #[prost(int32, tag = "6")]
    pub state: i32,
}

/// `SegmentState.Dropped`.
pub const SEGMENT_DROPPED: i32 = 6;
