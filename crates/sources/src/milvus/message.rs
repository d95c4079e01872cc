//! The messages and the client of `milvus.proto.milvus.MilvusService`, generated from
//! `proto/milvus.proto`, and the traits of its calls.

use tonic::{Request, Response, transport::Channel};

pub use generated::*;
use milvus_service_client::MilvusServiceClient;

#[allow(clippy::pedantic, missing_docs, reason = "generated")]
mod generated {
    tonic::include_proto!("milvus.proto.milvus");
}

/// The client of a Milvus proxy.
pub type Client = MilvusServiceClient<Channel>;

/// A request with its method.
pub trait Ask: Sized {
    /// The name in `MilvusService`.
    const METHOD: &'static str;
    /// The type of the answer.
    type Answer: Answer;

    /// Sends the request.
    async fn ask(
        client: &mut Client,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, tonic::Status>;

    /// The database of the request. `None` if the method does not belong to a database; empty for
    /// the default one.
    fn database(&self) -> Option<&str> {
        None
    }
}

/// An answer. It has a status in addition to that of gRPC.
pub trait Answer {
    /// The status inside.
    fn status(&self) -> Option<&Status>;
}

macro_rules! methods {
    ($($name:literal $method:ident($request:ident $(: $database:ident)?) -> $response:ident;)*) => {$(
        impl Ask for $request {
            const METHOD: &'static str = $name;
            type Answer = $response;

            async fn ask(
                client: &mut Client,
                request: Request<Self>,
            ) -> Result<Response<$response>, tonic::Status> {
                client.$method(request).await
            }

            $(fn database(&self) -> Option<&str> {
                Some(&self.$database)
            })?
        }

    )*};
}

macro_rules! answers {
    ($($response:ident)*) => {$(
        impl Answer for $response {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        }
    )*};
}

impl Answer for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

methods! {
    "GetVersion" get_version(GetVersionRequest) -> GetVersionResponse;
    "CheckHealth" check_health(CheckHealthRequest) -> CheckHealthResponse;
    "ListDatabases" list_databases(ListDatabasesRequest) -> ListDatabasesResponse;
    "ShowCollections" show_collections(ShowCollectionsRequest: db_name) -> ShowCollectionsResponse;
    "ShowPartitions" show_partitions(ShowPartitionsRequest: db_name) -> ShowPartitionsResponse;
    "DescribeCollection" describe_collection(DescribeCollectionRequest: db_name)
        -> DescribeCollectionResponse;
    "DescribeIndex" describe_index(DescribeIndexRequest: db_name) -> DescribeIndexResponse;
    "GetLoadingProgress" get_loading_progress(GetLoadingProgressRequest: db_name)
        -> GetLoadingProgressResponse;
    "GetPersistentSegmentInfo" get_persistent_segment_info(GetPersistentSegmentInfoRequest: db_name)
        -> GetPersistentSegmentInfoResponse;
    "GetQuerySegmentInfo" get_query_segment_info(GetQuerySegmentInfoRequest: db_name)
        -> GetQuerySegmentInfoResponse;
    "GetReplicas" get_replicas(GetReplicasRequest: db_name) -> GetReplicasResponse;
    "ListCredUsers" list_cred_users(ListCredUsersRequest) -> ListCredUsersResponse;
    "SelectRole" select_role(SelectRoleRequest) -> SelectRoleResponse;
    "CreateCollection" create_collection(CreateCollectionRequest: db_name) -> Status;
    "Insert" insert(InsertRequest: db_name) -> MutationResult;
    "Flush" flush(FlushRequest: db_name) -> FlushResponse;
    "GetFlushState" get_flush_state(GetFlushStateRequest: db_name) -> GetFlushStateResponse;
    "CreateIndex" create_index(CreateIndexRequest: db_name) -> Status;
    "LoadCollection" load_collection(LoadCollectionRequest: db_name) -> Status;
    "Search" search(SearchRequest: db_name) -> SearchResults;
    "DropCollection" drop_collection(DropCollectionRequest: db_name) -> Status;
}

answers! {
    GetVersionResponse CheckHealthResponse ListDatabasesResponse ShowCollectionsResponse
    ShowPartitionsResponse DescribeCollectionResponse GetLoadingProgressResponse
    GetPersistentSegmentInfoResponse GetQuerySegmentInfoResponse GetReplicasResponse
    ListCredUsersResponse SelectRoleResponse MutationResult FlushResponse GetFlushStateResponse
    SearchResults DescribeIndexResponse
}
