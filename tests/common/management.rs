//! Simulates the management port of Milvus' proxies, with the paths, parameters and responses of
//! `internal/http/router.go`, `internal/proxy/management.go` and `internal/querycoordv2` of
//! milvus-io/milvus (2.4 and 2.5), because no server of the test bed has them. It assigns addresses
//! to pods: this server's to proxies, a separate one to each query node.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{background::Background, roll::Roll};

/// The port in the chart's pods.
const PORT: u16 = 9091;
/// Number of segments of a query node.
const SEGMENTS: usize = 4;
/// Number of channels of a query node.
const CHANNELS: usize = 2;

/// A call, and the pod of the node that it names.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub path: String,
    pub form: String,
    pub pod: String,
    /// Segments and channels that the node had afterwards.
    pub left: usize,
}

struct Node {
    id: i64,
    ip: Ipv4Addr,
    is_suspended: bool,
    segments: usize,
    channels: usize,
    moves_segments: bool,
    moves_channels: bool,
}

#[derive(Default)]
struct Played {
    nodes: BTreeMap<String, Node>,
    calls: Vec<Call>,
    next: u8,
    /// Whether segments and channels move away when requested.
    drains: bool,
}

/// Simulates until it is dropped.
pub struct Management {
    played: Arc<Mutex<Played>>,
    _background: Background,
}

impl Management {
    /// For the proxies and query nodes of a namespace. Without `drains` nodes keep all segments.
    pub fn start(roll: &Roll, namespace: &str, drains: bool) -> Self {
        let played = Arc::new(Mutex::new(Played {
            drains,
            next: 1,
            ..Played::default()
        }));
        let (net, listener) = listen();
        listener.set_nonblocking(true).unwrap();
        let (state, namespace) = (Arc::clone(&played), namespace.to_owned());
        let background = Background::start(roll.cluster.kubeconfig(), move |client| async move {
            let app = Router::new()
                .route("/healthz", get(async || "OK"))
                .route("/management/querycoord/{what}/{verb}", post(answer))
                .with_state(Arc::clone(&state));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let serve = axum::serve(listener, app);
            tokio::select! {
                ended = serve => ended.unwrap(),
                () = register(client, namespace, net, state) => {}
            }
        });
        Self {
            played,
            _background: background,
        }
    }

    /// All calls for a node, in order: changes and reads of the distribution.
    pub fn calls(&self) -> Vec<Call> {
        self.played.lock().unwrap().calls.clone()
    }
}

/// A loopback network in which the port is free.
fn listen() -> ([u8; 3], TcpListener) {
    for second in 64..=250 {
        for third in 1..=250 {
            let net = [127, second, third];
            if let Ok(listener) = TcpListener::bind(SocketAddr::from((address(net, 1), PORT))) {
                return (net, listener);
            }
        }
    }
    panic!("port {PORT} is taken in all loopback networks")
}

fn address(net: [u8; 3], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(net[0], net[1], net[2], host)
}

/// Assigns addresses to pods, and keeps the list of query nodes.
async fn register(client: Client, namespace: String, net: [u8; 3], state: Arc<Mutex<Played>>) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    loop {
        let pods = api.list(&ListParams::default()).await.unwrap().items;
        let component = |pod: &Pod| pod.labels().get("component").cloned().unwrap_or_default();
        {
            let mut played = state.lock().unwrap();
            played
                .nodes
                .retain(|name, _| pods.iter().any(|pod| pod.name_any() == *name));
            for pod in pods.iter().filter(|pod| component(pod) == "querynode") {
                let name = pod.name_any();
                if !played.nodes.contains_key(&name) {
                    played.next += 1;
                    let host = played.next;
                    let node = Node {
                        id: i64::from(host),
                        ip: address(net, host),
                        is_suspended: false,
                        segments: SEGMENTS,
                        channels: CHANNELS,
                        moves_segments: false,
                        moves_channels: false,
                    };
                    played.nodes.insert(name, node);
                }
            }
        }
        for pod in &pods {
            let ip = match &*component(pod) {
                "proxy" => address(net, 1),
                "querynode" => state.lock().unwrap().nodes[&pod.name_any()].ip,
                _ => continue,
            };
            let has = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
            if has.as_deref() == Some(&ip.to_string()) {
                continue;
            }
            let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
            // The pod may have ended meanwhile.
            let _ = api
                .patch_status(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&status),
                )
                .await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn answer(
    State(state): State<Arc<Mutex<Played>>>,
    Path((what, verb)): Path<(String, String)>,
    form: String,
) -> (StatusCode, String) {
    let mut played = state.lock().unwrap();
    let path = format!("{what}/{verb}");
    if path == "node/list" {
        let of = |node: &Node| json!({"ID": node.id, "address": format!("{}:21123", node.ip), "state": "Normal"});
        let nodes: Vec<Value> = played.nodes.values().map(of).collect();
        return (StatusCode::OK, json!({"nodeInfos": nodes}).to_string());
    }
    let field = |key: &str| {
        let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let id = field("node_id")
        .or_else(|| field("source_node_id"))
        .and_then(|id| id.parse::<i64>().ok());
    let drains = played.drains;
    let Some((pod, node)) = played
        .nodes
        .iter_mut()
        .find(|(_, node)| Some(node.id) == id)
    else {
        let text = r#"{"msg": "failed, node not found"}"#;
        return (StatusCode::INTERNAL_SERVER_ERROR, text.into());
    };
    // Otherwise segments are copied and stay.
    let moves = field("copy_mode") == Some("false");
    let mut body = json!({"msg": "OK"});
    match &*path {
        "node/suspend" => node.is_suspended = true,
        "node/resume" => node.is_suspended = false,
        "transfer/segment" => node.moves_segments = moves,
        "transfer/channel" => node.moves_channels = moves,
        "distribution/get" => {
            if node.is_suspended && drains {
                let less = |count: usize, moves: bool| count.saturating_sub(usize::from(moves));
                node.segments = less(node.segments, node.moves_segments);
                node.channels = less(node.channels, node.moves_channels);
            }
            // IDs as text, as in later builds; no field is null.
            let segments: Vec<String> = (0..node.segments).map(|id| id.to_string()).collect();
            let channels: Vec<String> = (0..node.channels).map(|id| format!("dml_{id}")).collect();
            body = json!({"channel_names": channels, "sealed_segmentIDs": segments});
        }
        _ => return (StatusCode::NOT_FOUND, "404 page not found".into()),
    }
    let call = Call {
        at: Instant::now(),
        path,
        form: form.clone(),
        pod: pod.clone(),
        left: node.segments + node.channels,
    };
    played.calls.push(call);
    (StatusCode::OK, body.to_string())
}
