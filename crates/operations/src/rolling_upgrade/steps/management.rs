//! The management calls of Milvus that empty a query node, at the port of a proxy's metrics. Paths,
//! parameters and answers as in `internal/http/router.go` and `internal/proxy/management.go` of
//! milvus-io/milvus; which versions have them is data (`management.yaml`).

use std::{net::IpAddr, time::Duration};

use http::StatusCode;
use serde::Deserialize;

use milvus_guard_core::{error_text, milvus::catalogue::ManagementCall};

use super::pod_http::{self, NoAnswer};

/// Time limit of one answer: a proxy asks the query coordinator.
const ANSWER: Duration = Duration::from_secs(10);
/// Maximum bytes of one answer: about 100 000 segments of a node.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ManagementError {
    /// Milvus did not answer.
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    /// This build does not have the call.
    #[error("this Milvus does not have {}", .0.path())]
    Absent(ManagementCall),
    /// Only Milvus' root user may make the call, over a connection that is not encrypted
    /// (`common.security.adminAuthEnabled`).
    #[error("{} requires Milvus' root user", .0.path())]
    Protected(ManagementCall),
    /// Milvus refused the call or failed.
    #[error("{}: {reason}", .call.path())]
    Failed {
        /// The call.
        call: ManagementCall,
        /// The reason that Milvus gave.
        reason: String,
    },
}

impl ManagementError {
    /// Whether the next call will fail in the same way.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Protected(_))
    }
}

/// A query node, as the query coordinator lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct QueryNode {
    /// Id of the node.
    #[serde(rename = "ID", default)]
    pub id: i64,
    /// `host:port`.
    #[serde(default)]
    pub address: String,
}

impl QueryNode {
    /// The address without its port.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let (host, _) = self.address.rsplit_once(':')?;
        host.trim_matches(['[', ']']).parse().ok()
    }
}

#[derive(Deserialize)]
struct NodeList {
    #[serde(rename = "nodeInfos", default)]
    nodes: Option<Vec<QueryNode>>,
}

/// How much a query node has. Ids are not read: early builds write them as numbers, later ones as
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "DistributionLists")]
pub(super) struct Distribution {
    /// Channels that it leads.
    pub channels: usize,
    /// Sealed segments that it serves.
    pub segments: usize,
}

/// Empty lists are absent or null.
#[derive(Deserialize)]
struct DistributionLists {
    #[serde(rename = "channel_names", default)]
    channels: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(rename = "sealed_segmentIDs", default)]
    segments: Option<Vec<serde::de::IgnoredAny>>,
}

impl From<DistributionLists> for Distribution {
    fn from(lists: DistributionLists) -> Self {
        Self {
            channels: lists.channels.map_or(0, |list| list.len()),
            segments: lists.segments.map_or(0, |list| list.len()),
        }
    }
}

impl Distribution {
    /// Channels and segments together.
    pub(super) const fn len(self) -> usize {
        self.channels + self.segments
    }
}

/// A proxy that accepts the calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Management {
    /// Address and port of the proxy.
    pub place: (IpAddr, u16),
}

impl Management {
    /// Lists all query nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<QueryNode>, ManagementError> {
        let call = ManagementCall::ListNodes;
        let body = self.call(call, "").await?;
        let list: NodeList = read(call, &body)?;
        Ok(list.nodes.unwrap_or_default())
    }

    /// Suspends a node: Milvus puts nothing new on it.
    pub(super) async fn suspend(&self, node: i64) -> Result<(), ManagementError> {
        let form = format!("node_id={node}");
        self.call(ManagementCall::SuspendNode, &form)
            .await
            .map(drop)
    }

    /// Uses a node again.
    pub(super) async fn resume(&self, node: i64) -> Result<(), ManagementError> {
        let form = format!("node_id={node}");
        self.call(ManagementCall::ResumeNode, &form).await.map(drop)
    }

    /// Moves all segments, then all channels, to other nodes of the same replica. The call only
    /// begins it: [`Self::distribution`] shows the progress.
    pub(super) async fn transfer_all(&self, node: i64) -> Result<(), ManagementError> {
        // No target means all others; without the mode, segments would stay here as well.
        let form = format!("source_node_id={node}&copy_mode=false");
        // Segments first, so that the next leader of a shard finds them at their new node.
        for call in [
            ManagementCall::TransferSegments,
            ManagementCall::TransferChannels,
        ] {
            self.call(call, &form).await?;
        }
        Ok(())
    }

    /// What a node has.
    pub(super) async fn distribution(&self, node: i64) -> Result<Distribution, ManagementError> {
        let call = ManagementCall::NodeDistribution;
        let body = self.call(call, &format!("node_id={node}")).await?;
        read(call, &body)
    }

    async fn call(&self, call: ManagementCall, form: &str) -> Result<String, ManagementError> {
        let form = form.to_owned();
        match pod_http::post(self.place, call.path(), form, MAX_ANSWER, ANSWER).await? {
            (StatusCode::OK, body) => Ok(body),
            (StatusCode::NOT_FOUND, _) => Err(ManagementError::Absent(call)),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(ManagementError::Protected(call))
            }
            (status, body) => Err(ManagementError::Failed {
                call,
                reason: match error_text::line(&body) {
                    text if text.is_empty() => status.to_string(),
                    text => text,
                },
            }),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(call: ManagementCall, body: &'a str) -> Result<T, ManagementError> {
    serde_json::from_str(body).map_err(|error| ManagementError::Failed {
        call,
        reason: format!("its answer cannot be read: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::{Router, http::Uri, routing::post};
    use proptest::prelude::*;
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives every call this answer.
    async fn serving(status: StatusCode, body: &'static str) -> Management {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            unreachable!("it was bound so")
        };
        let answer = move |_: Uri| async move { (status, body) };
        let app = Router::new().route("/management/querycoord/{*call}", post(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Management {
            place: ((*address.ip()).into(), address.port()),
        }
    }

    #[tokio::test]
    async fn nodes_are_read_from_the_list_of_milvus() {
        let list = r#"{"nodeInfos":[{"ID":7,"address":"10.0.0.7:21123","state":"Normal"},
            {"ID":9007199254740993,"address":"[fd00::7]:21123","state":"Stopping"}]}"#;
        let nodes = serving(StatusCode::OK, list).await.nodes().await.unwrap();
        assert_eq!(nodes[0].ip(), "10.0.0.7".parse().ok());
        assert_eq!(nodes[1].ip(), "fd00::7".parse().ok());
        assert_eq!(nodes[1].id, 9_007_199_254_740_993);
        for none in ["{}", r#"{"nodeInfos":null}"#] {
            let nodes = serving(StatusCode::OK, none).await.nodes().await;
            assert_eq!(nodes, Ok(Vec::new()));
        }
    }

    #[rstest]
    #[case::numbers(r#"{"channel_names":["a"],"sealed_segmentIDs":[451,452]}"#, 1, 2)]
    #[case::text(r#"{"channel_names":["a"],"sealed_segmentIDs":["451","452"]}"#, 1, 2)]
    #[case::left_out("{}", 0, 0)]
    #[case::null(r#"{"channel_names":null,"sealed_segmentIDs":null}"#, 0, 0)]
    #[tokio::test]
    async fn a_distribution_is_read_in_every_form(
        #[case] body: &'static str,
        #[case] channels: usize,
        #[case] segments: usize,
    ) {
        let read = serving(StatusCode::OK, body).await.distribution(7).await;
        assert_eq!(read, Ok(Distribution { channels, segments }));
    }

    #[rstest]
    #[case(StatusCode::NOT_FOUND, "404 page not found", "does not have", true)]
    #[case(StatusCode::UNAUTHORIZED, "{}", "requires Milvus' root user", true)]
    #[case(StatusCode::FORBIDDEN, "{}", "requires Milvus' root user", true)]
    #[case(
        StatusCode::INTERNAL_SERVER_ERROR,
        r#"{"msg": "failed to suspend node, node not found"}"#,
        "node/suspend: {\"msg\": \"failed to suspend node, node not found\"}",
        false
    )]
    #[case(StatusCode::BAD_GATEWAY, "", "502 Bad Gateway", false)]
    #[tokio::test]
    async fn a_refused_call_is_reported_with_its_reason(
        #[case] status: StatusCode,
        #[case] body: &'static str,
        #[case] words: &str,
        #[case] lasting: bool,
    ) {
        let error = serving(status, body).await.suspend(7).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.is_lasting(), lasting);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(body in ".{0,200}") {
            let _ = read::<NodeList>(ManagementCall::ListNodes, &body);
            let _ = read::<Distribution>(ManagementCall::NodeDistribution, &body);
        }
    }
}
