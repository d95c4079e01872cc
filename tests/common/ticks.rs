//! Simulates the metrics of pods of Milvus 2.3: the number of time-tick rounds that a root
//! coordinator has sent, and the age of the last report of a proxy. After the first request to a
//! root coordinator of the new version, one proxy reports no new tick, and the rounds stop.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use axum::{Router, routing::get};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpListener;

/// The port for metrics in the charts.
const PORT: u16 = 9091;

/// How a proxy fails to report new ticks. The first two were seen on Milvus 2.3.2.
#[derive(Clone, Copy, Default)]
pub enum Stuck {
    /// It reports nothing.
    #[default]
    Silent,
    /// It repeats its last tick.
    Repeating,
    /// Every proxy that exists at that moment reports nothing.
    AllSilent,
}

/// Metrics of all pods of a cluster.
#[derive(Default)]
pub struct Ticks {
    state: Mutex<State>,
    /// Number of requests to a root coordinator for which the proxy is stuck; `None` for ever.
    stuck_for: Option<u32>,
    how: Stuck,
}

#[derive(Default)]
struct State {
    rounds: u32,
    reports: u32,
    living: BTreeSet<String>,
    /// The proxies that report nothing new.
    stuck: Option<StuckProxies>,
    over: bool,
    addresses: BTreeMap<String, Ipv4Addr>,
}

struct StuckProxies {
    /// Those that still exist.
    names: BTreeSet<String>,
    /// The first of them by name.
    first: String,
    /// Requests to a root coordinator since they are stuck.
    asked: u32,
    since: Instant,
}

impl Ticks {
    /// `stuck_for` is the number of requests to a root coordinator; `None` for ever.
    pub fn with_stuck_proxy(how: Stuck, stuck_for: Option<u32>) -> Self {
        Self {
            stuck_for,
            how,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxy that stopped reporting.
    pub fn stuck(&self) -> Option<String> {
        self.state().stuck.as_ref().map(|stuck| stuck.first.clone())
    }

    /// Records that a pod was deleted.
    pub fn is_gone(&self, name: &str) {
        self.state().living.remove(name);
    }

    /// Starts to serve the metrics of this pod; returns its address.
    pub async fn answer_as(self: &Arc<Self>, pod: &Pod) -> Ipv4Addr {
        /// Every pod of this process has a separate address.
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let name = pod.name_any();
        if let Some(known) = self.state().addresses.get(&name) {
            return *known;
        }
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let (role, image) = (
            container.name.clone(),
            container.image.clone().unwrap_or_default(),
        );
        let process = u8::try_from(std::process::id() % 120).unwrap();
        let (address, listener) = loop {
            let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let address = Ipv4Addr::new(127, 128 + process, high, low);
            if let Ok(listener) = TcpListener::bind((address, PORT)).await {
                break (address, listener);
            }
        };
        let mut state = self.state();
        state.living.insert(name.clone());
        state.addresses.insert(name.clone(), address);
        drop(state);
        let ticks = Arc::clone(self);
        let metrics = get(async move || ticks.metrics(&name, &role, &image));
        let app = Router::new()
            .route("/healthz", get(async || "OK"))
            .route("/metrics", metrics);
        tokio::spawn(async move { axum::serve(listener, app).await });
        address
    }

    fn metrics(&self, name: &str, role: &str, image: &str) -> String {
        let mut state = self.state();
        match role {
            "rootcoord" | "mixcoord" => {
                let is_new = image.ends_with(":v2.3.5");
                if is_new && state.stuck.is_none() {
                    let proxies = state.living.iter().filter(|name| name.contains("-proxy-"));
                    let most = match self.how {
                        Stuck::AllSilent => usize::MAX,
                        Stuck::Silent | Stuck::Repeating => 1,
                    };
                    let names: BTreeSet<String> = proxies.take(most).cloned().collect();
                    state.stuck = names.first().cloned().map(|first| StuckProxies {
                        names,
                        first,
                        asked: 0,
                        since: Instant::now(),
                    });
                }
                let living = state.living.clone();
                let (mut over, mut is_fewer) = (state.over, false);
                if let Some(stuck) = &mut state.stuck {
                    stuck.asked += 1;
                    let before = stuck.names.len();
                    stuck.names.retain(|name| living.contains(name));
                    // One round is sent after a stuck proxy has ended.
                    is_fewer = stuck.names.len() < before;
                    over |= stuck.names.is_empty()
                        || self.stuck_for.is_some_and(|limit| stuck.asked > limit);
                }
                state.over = over;
                if !is_new || over || is_fewer {
                    state.rounds += 1;
                }
                let rounds = state.rounds;
                format!("milvus_rootcoord_sync_timetick_latency_count {rounds}\n")
            }
            "proxy" => {
                let stuck = state
                    .stuck
                    .as_ref()
                    .filter(|stuck| stuck.names.contains(name));
                let since = stuck.filter(|_| !state.over).map(|stuck| stuck.since);
                let lag = match (since, self.how) {
                    (Some(_), Stuck::Silent | Stuck::AllSilent) => 127,
                    (Some(since), Stuck::Repeating) => 127 + since.elapsed().as_millis(),
                    (None, _) => {
                        state.reports += 1;
                        u128::from(state.reports)
                    }
                };
                format!("milvus_proxy_tt_lag_ms{{channel_name=\"default\",node_id=\"7\"}} {lag}\n")
            }
            _ => String::new(),
        }
    }
}
