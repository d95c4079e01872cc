//! The messages of `milvus.proto.milvus.MilvusService` that are needed here, with the fields that
//! are needed: protobuf skips what it does not know, in both directions.
//!
//! Numbers from milvus-proto (`proto/milvus.proto`, `proto/common.proto`), where they are the same
//! from 2.1 to 2.6. Fields that came later are absent in older answers and then have their default.

use prost::Message;

/// A method: its request.
pub trait Ask: Message + 'static {
    /// The name in `MilvusService`.
    const METHOD: &'static str;
    /// What comes back.
    type Answer: Answer;

    /// The database it is about, if it is about one; empty for the default one and where there is
    /// no such thing.
    fn database(&self) -> Option<&str> {
        None
    }
}

/// An answer: it says itself whether it is one.
pub trait Answer: Message + Default + 'static {
    /// The status inside.
    fn status(&self) -> Option<&Status>;
}

/// Segments in this state are complete in the object storage and are to be served from there.
pub const FLUSHED: i32 = 4;
/// Segments in this state still take rows. They are served by the leader of their shard from the
/// message queue.
pub const GROWING: i32 = 2;
/// Segments of this level hold deletions alone (2.4 and later); no query node lists them.
pub const LEVEL_ZERO: i32 = 1;
/// `ShowType.All`.
pub const ALL: i32 = 0;
/// `ShowType.InMemory`: only what is loaded.
pub const IN_MEMORY: i32 = 1;

/// `common.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Zero means success; up to 2.2 the only code.
    #[prost(int32, tag = "1")]
    pub error_code: i32,
    /// Words.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Zero means success; from 2.3 on.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// Asks for the version.
#[derive(Clone, PartialEq, Message)]
pub struct GetVersionRequest {}

/// The version.
#[derive(Clone, PartialEq, Message)]
pub struct GetVersionResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// As the build was tagged.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Asks whether all components are well.
#[derive(Clone, PartialEq, Message)]
pub struct CheckHealthRequest {}

/// Whether all components are well.
#[derive(Clone, PartialEq, Message)]
pub struct CheckHealthResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Whether they are.
    #[prost(bool, tag = "2")]
    pub is_healthy: bool,
    /// Why they are not.
    #[prost(string, repeated, tag = "3")]
    pub reasons: Vec<String>,
}

/// Asks for the databases (2.2.9 and later).
#[derive(Clone, PartialEq, Message)]
pub struct ListDatabasesRequest {}

/// The databases.
#[derive(Clone, PartialEq, Message)]
pub struct ListDatabasesResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Their names.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
}

/// Asks for collections of a database.
#[derive(Clone, PartialEq, Message)]
pub struct ShowCollectionsRequest {
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// [`ALL`] or [`IN_MEMORY`].
    #[prost(int32, tag = "4")]
    pub kind: i32,
}

/// Collections: lists of the same length.
#[derive(Clone, PartialEq, Message)]
pub struct ShowCollectionsResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Names.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    /// Ids.
    #[prost(int64, repeated, tag = "3")]
    pub ids: Vec<i64>,
    /// How far each is loaded, in percent; only for [`IN_MEMORY`].
    #[prost(int64, repeated, tag = "6")]
    pub percentages: Vec<i64>,
}

/// Asks for a collection's partitions.
#[derive(Clone, PartialEq, Message)]
pub struct ShowPartitionsRequest {
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// The collection.
    #[prost(string, tag = "3")]
    pub collection: String,
    /// [`ALL`] or [`IN_MEMORY`].
    #[prost(int32, tag = "6")]
    pub kind: i32,
}

/// Partitions.
#[derive(Clone, PartialEq, Message)]
pub struct ShowPartitionsResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Ids.
    #[prost(int64, repeated, tag = "3")]
    pub ids: Vec<i64>,
}

/// Asks for a collection's shape.
#[derive(Clone, PartialEq, Message)]
pub struct DescribeCollectionRequest {
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// The collection.
    #[prost(string, tag = "3")]
    pub collection: String,
}

/// A collection's shape.
#[derive(Clone, PartialEq, Message)]
pub struct DescribeCollectionResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Its shards, by the names of their channels.
    #[prost(string, repeated, tag = "4")]
    pub channels: Vec<String>,
}

/// Asks how far a collection is loaded (2.2 and later).
#[derive(Clone, PartialEq, Message)]
pub struct GetLoadingProgressRequest {
    /// The collection.
    #[prost(string, tag = "2")]
    pub collection: String,
    /// The database.
    #[prost(string, tag = "4")]
    pub database: String,
}

/// How far a collection is loaded.
#[derive(Clone, PartialEq, Message)]
pub struct GetLoadingProgressResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// In percent.
    #[prost(int64, tag = "2")]
    pub progress: i64,
}

/// Asks for the segments in the object storage.
#[derive(Clone, PartialEq, Message)]
pub struct GetPersistentSegmentInfoRequest {
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// The collection.
    #[prost(string, tag = "3")]
    pub collection: String,
}

/// The segments in the object storage.
#[derive(Clone, PartialEq, Message)]
pub struct GetPersistentSegmentInfoResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The segments.
    #[prost(message, repeated, tag = "2")]
    pub infos: Vec<PersistentSegment>,
}

/// A segment in the object storage.
#[derive(Clone, PartialEq, Message)]
pub struct PersistentSegment {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub segment: i64,
    /// Its partition.
    #[prost(int64, tag = "3")]
    pub partition: i64,
    /// Its rows.
    #[prost(int64, tag = "4")]
    pub rows: i64,
    /// Its state: [`FLUSHED`], [`GROWING`] or others.
    #[prost(int32, tag = "5")]
    pub state: i32,
    /// Its level: [`LEVEL_ZERO`] or others; 2.4 and later.
    #[prost(int32, tag = "6")]
    pub level: i32,
}

/// Asks for the segments on query nodes.
#[derive(Clone, PartialEq, Message)]
pub struct GetQuerySegmentInfoRequest {
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// The collection.
    #[prost(string, tag = "3")]
    pub collection: String,
}

/// The segments on query nodes.
#[derive(Clone, PartialEq, Message)]
pub struct GetQuerySegmentInfoResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The segments. One on several nodes may be told once or several times.
    #[prost(message, repeated, tag = "2")]
    pub infos: Vec<QuerySegment>,
}

/// A segment on query nodes.
#[derive(Clone, PartialEq, Message)]
pub struct QuerySegment {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub segment: i64,
    /// Its rows.
    #[prost(int64, tag = "5")]
    pub rows: i64,
    /// A node that has it, in old answers.
    #[prost(int64, tag = "8")]
    pub node: i64,
    /// Its state.
    #[prost(int32, tag = "9")]
    pub state: i32,
    /// The nodes that have it.
    #[prost(int64, repeated, tag = "10")]
    pub nodes: Vec<i64>,
}

/// Asks for a collection's copies in memory.
#[derive(Clone, PartialEq, Message)]
pub struct GetReplicasRequest {
    /// The collection.
    #[prost(int64, tag = "2")]
    pub collection_id: i64,
    /// The database.
    #[prost(string, tag = "5")]
    pub database: String,
}

/// A collection's copies in memory.
#[derive(Clone, PartialEq, Message)]
pub struct GetReplicasResponse {
    /// Whether it worked.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The copies.
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaInfo>,
}

/// A copy of a collection in memory.
#[derive(Clone, PartialEq, Message)]
pub struct ReplicaInfo {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub replica: i64,
    /// Who leads its shards.
    #[prost(message, repeated, tag = "4")]
    pub shards: Vec<ShardReplica>,
    /// Its nodes.
    #[prost(int64, repeated, tag = "5")]
    pub nodes: Vec<i64>,
}

/// Who leads a shard of a copy.
#[derive(Clone, PartialEq, Message)]
pub struct ShardReplica {
    /// The node.
    #[prost(int64, tag = "1")]
    pub leader: i64,
    /// The shard, by its channel.
    #[prost(string, tag = "3")]
    pub channel: String,
}

macro_rules! methods {
    ($($name:literal: $request:ident -> $response:ident $(, $database:ident)?;)*) => {$(
        impl Ask for $request {
            const METHOD: &'static str = $name;
            type Answer = $response;
            $(fn database(&self) -> Option<&str> {
                Some(&self.$database)
            })?
        }

        impl Answer for $response {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        }
    )*};
}

methods! {
    "GetVersion": GetVersionRequest -> GetVersionResponse;
    "CheckHealth": CheckHealthRequest -> CheckHealthResponse;
    "ListDatabases": ListDatabasesRequest -> ListDatabasesResponse;
    "ShowCollections": ShowCollectionsRequest -> ShowCollectionsResponse, database;
    "ShowPartitions": ShowPartitionsRequest -> ShowPartitionsResponse, database;
    "DescribeCollection": DescribeCollectionRequest -> DescribeCollectionResponse, database;
    "GetLoadingProgress": GetLoadingProgressRequest -> GetLoadingProgressResponse, database;
    "GetPersistentSegmentInfo": GetPersistentSegmentInfoRequest -> GetPersistentSegmentInfoResponse, database;
    "GetQuerySegmentInfo": GetQuerySegmentInfoRequest -> GetQuerySegmentInfoResponse, database;
    "GetReplicas": GetReplicasRequest -> GetReplicasResponse, database;
}
