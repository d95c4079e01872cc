//! What pods of Milvus 2.3 say at their port for metrics: how many rounds of time ticks a root
//! coordinator sent, and how old the last report of a proxy was. When a root coordinator of another
//! version is asked for the first time, one proxy stops reporting, and the rounds with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{Router, routing::get};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpListener;

/// The port for metrics in the charts.
const PORT: u16 = 9091;

/// What is said, and what was seen.
#[derive(Default)]
pub struct Ticks {
    state: Mutex<State>,
    /// How many questions of a root coordinator the proxy is stuck for; `None` for ever.
    stuck_for: Option<u32>,
}

#[derive(Default)]
struct State {
    rounds: u32,
    reports: u32,
    living: BTreeSet<String>,
    /// By its name, and how many questions it has been stuck for.
    stuck: Option<(String, u32)>,
    over: bool,
    addresses: BTreeMap<String, Ipv4Addr>,
}

impl Ticks {
    /// With a proxy that is stuck for so many questions of a root coordinator; `None` for ever.
    pub fn with_stuck_proxy(stuck_for: Option<u32>) -> Self {
        Self {
            stuck_for,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The proxy that stopped reporting.
    pub fn stuck(&self) -> Option<String> {
        self.state().stuck.as_ref().map(|(name, _)| name.clone())
    }

    /// A pod no longer exists.
    pub fn is_gone(&self, name: &str) {
        self.state().living.remove(name);
    }

    /// Answers as this pod from now on; at which address.
    pub async fn answer_as(self: &Arc<Self>, pod: &Pod) -> Ipv4Addr {
        /// Every pod of this process has an address of its own.
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
            "rootcoord" => {
                let is_new = image.ends_with(":v2.3.5");
                if is_new && state.stuck.is_none() {
                    let found = state.living.iter().find(|name| name.contains("-proxy-"));
                    state.stuck = found.cloned().map(|name| (name, 0));
                }
                let living = state.living.clone();
                let (limit, mut over) = (self.stuck_for, state.over);
                if let Some((stuck, asked)) = &mut state.stuck {
                    *asked += 1;
                    over |= !living.contains(stuck) || limit.is_some_and(|limit| *asked > limit);
                }
                state.over = over;
                if !is_new || over {
                    state.rounds += 1;
                }
                let rounds = state.rounds;
                format!("milvus_rootcoord_sync_timetick_latency_count {rounds}\n")
            }
            "proxy" => {
                let is_stuck = state.stuck.as_ref().is_some_and(|(stuck, _)| stuck == name);
                if !is_stuck || state.over {
                    state.reports += 1;
                }
                let lag = if is_stuck && !state.over {
                    127
                } else {
                    state.reports
                };
                format!("milvus_proxy_tt_lag_ms{{channel_name=\"default\",node_id=\"7\"}} {lag}\n")
            }
            _ => String::new(),
        }
    }
}
