//! The messages and the client of `milvus.proto.milvus.MilvusService`, generated from
//! `proto/milvus.proto`, and what its calls have in common.

use tonic::{Request, Response, transport::Channel};

pub use generated::*;
use milvus_service_client::MilvusServiceClient;

#[allow(clippy::pedantic, missing_docs, reason = "generated")]
mod generated {
    tonic::include_proto!("milvus.proto.milvus");
}

/// The client of a Milvus proxy.
pub type Client = MilvusServiceClient<Channel>;

/// A request, which knows its method.
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

        impl Answer for $response {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        }
    )*};
}

methods! {
    "GetVersion" get_version(GetVersionRequest) -> GetVersionResponse;
    "CheckHealth" check_health(CheckHealthRequest) -> CheckHealthResponse;
    "ListDatabases" list_databases(ListDatabasesRequest) -> ListDatabasesResponse;
    "ShowCollections" show_collections(ShowCollectionsRequest: db_name) -> ShowCollectionsResponse;
    "ShowPartitions" show_partitions(ShowPartitionsRequest: db_name) -> ShowPartitionsResponse;
    "DescribeCollection" describe_collection(DescribeCollectionRequest: db_name)
        -> DescribeCollectionResponse;
    "GetLoadingProgress" get_loading_progress(GetLoadingProgressRequest: db_name)
        -> GetLoadingProgressResponse;
    "GetPersistentSegmentInfo" get_persistent_segment_info(GetPersistentSegmentInfoRequest: db_name)
        -> GetPersistentSegmentInfoResponse;
    "GetQuerySegmentInfo" get_query_segment_info(GetQuerySegmentInfoRequest: db_name)
        -> GetQuerySegmentInfoResponse;
    "GetReplicas" get_replicas(GetReplicasRequest: db_name) -> GetReplicasResponse;
}
