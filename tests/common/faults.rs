//! An API server that fails: a plain HTTP server in front of a real one, which counts writes and
//! makes one of them, or each, fail.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use http_body_util::BodyExt;
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::wait_until;
use serde_json::json;
use tokio::sync::watch;

use super::{
    is_full,
    migration_cluster::{DEADLINE, Running},
};

/// The fault that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The write of this number does not reach the API server, and gets no response.
    LostBefore(usize),
    /// The write of this number is made, and gets no response.
    LostAfter(usize),
    /// Every other change of an object meets a conflict.
    Conflicts,
    /// Every write is made, and every other one gets 503 as its response.
    AnswersLost,
    /// Writes of paths with this text are refused.
    Refused(&'static str),
    /// Writes of paths with this text are delayed until [`Faults::set`] is called again. Then they
    /// reach the API server.
    Held(&'static str),
}

/// State of the network between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Without faults.
    Open,
    /// Each response is delayed by this duration.
    Slow(Duration),
    /// Nothing arrives in either direction, and connections stay open. Data arrives when the
    /// network is open again, even if the client has stopped waiting.
    Cut,
}

impl Fault {
    /// The write of this number is lost: an even one before it is made, an odd one after it.
    pub fn lost(number: usize) -> Self {
        if number.is_multiple_of(2) {
            Self::LostBefore(number)
        } else {
            Self::LostAfter(number)
        }
    }
}

/// Numbers of writes at which to fail: all with `MILVUS_GUARD_FULL`, else a sample from a seed, so
/// that a failure can be repeated.
pub fn places(of: usize, some: usize, seed: u64) -> Vec<usize> {
    if is_full() {
        return (1..=of).collect();
    }
    let mut state = seed;
    let mut chosen: Vec<usize> = (0..some)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            usize::try_from((mixed ^ (mixed >> 31)) % of as u64).unwrap() + 1
        })
        .collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

impl Shared {
    /// Whether this is the first, third, fifth ... write of its kind.
    fn is_odd(&self, write: &str) -> bool {
        let mut met = self.met.lock().unwrap();
        let count = met.entry(write.to_owned()).or_default();
        *count += 1;
        *count % 2 == 1
    }
}

/// Kinds of objects that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blind {
    /// A watch of these is refused.
    Refused(&'static [&'static str]),
    /// A watch of these is never answered.
    Silent(&'static [&'static str]),
    /// These can be neither watched nor listed.
    Unreadable(&'static [&'static str]),
}

impl Blind {
    fn covers(self, path: &str, is_watch: bool) -> bool {
        let (Self::Refused(kinds) | Self::Silent(kinds) | Self::Unreadable(kinds)) = self;
        let plural = path.rsplit('/').next().unwrap_or_default();
        (is_watch || matches!(self, Self::Unreadable(_))) && kinds.contains(&plural)
    }
}

/// The server; it stops when the value is dropped.
pub struct Faults {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    kubeconfig: PathBuf,
}

struct Shared {
    client: kube::Client,
    fault: watch::Sender<Fault>,
    link: watch::Sender<Network>,
    held: AtomicUsize,
    released: AtomicUsize,
    blind: Mutex<Option<Blind>>,
    requests: AtomicUsize,
    writes: AtomicUsize,
    reached: AtomicBool,
    met: Mutex<BTreeMap<String, usize>>,
    log: Mutex<Vec<String>>,
}

impl Faults {
    /// Kills the command at its write of this number, and returns the fault. The number of status
    /// writes depends on the timing of pods: if a run completes with fewer writes, `again` restores
    /// the start and an earlier write is tried.
    pub fn kill_at(&self, number: usize, command: impl Fn() -> Command, again: impl Fn()) -> Fault {
        let mut place = number;
        loop {
            let fault = Fault::lost(place);
            self.set(fault);
            let mut running = Running::spawn(command());
            let mut ended = None;
            let met = wait_until(DEADLINE, || {
                ended = running.0.try_wait().unwrap();
                self.is_reached() || ended.is_some()
            });
            assert!(met, "the command neither reaches {fault:?} nor ends");
            drop(running);
            let writes = self.writes();
            if self.is_reached() {
                self.set(Fault::None);
                return fault;
            }
            assert!(
                ended.is_some_and(|status| status.success()),
                "{ended:?} before {fault:?}: {:#?}",
                self.log()
            );
            assert!(
                (number / 2..place).contains(&writes),
                "{fault:?} was not reached by {writes} writes"
            );
            self.set(Fault::None);
            place = writes - writes / 8;
            again();
        }
    }

    /// Starts in front of the server of this kubeconfig, as its user; the new kubeconfig is written
    /// to the folder.
    pub fn start(kubeconfig: &Path, folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = std::sync::mpsc::channel();
        let (flag, kubeconfig) = (Arc::clone(&stop), kubeconfig.to_owned());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let access = Access { kubeconfig: Some(kubeconfig), context: None };
                let client = Cluster::watcher(&access).await.unwrap();
                let shared = Arc::new(Shared {
                    client,
                    fault: watch::Sender::new(Fault::None),
                    link: watch::Sender::new(Network::Open),
                    held: AtomicUsize::new(0),
                    released: AtomicUsize::new(0),
                    blind: Mutex::new(None),
                    requests: AtomicUsize::new(0),
                    writes: AtomicUsize::new(0),
                    reached: AtomicBool::new(false),
                    met: Mutex::default(),
                    log: Mutex::default(),
                });
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send((Arc::clone(&shared), listener.local_addr().unwrap())).unwrap();
                let app = Router::new().fallback(handle).with_state(shared);
                let stopped = async {
                    while !flag.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! { _ = axum::serve(listener, app).into_future() => {}, () = stopped => {} }
            });
            runtime.shutdown_background();
        });
        let (shared, address) = receiver.recv().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "faults",
            "clusters": [{"name": "faults", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {}}],
        });
        let kubeconfig = folder.join(format!("faults-{}.kubeconfig", address.port()));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self {
            shared,
            stop,
            thread: Some(thread),
            kubeconfig,
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Sets the fault, and resets the counts.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
        self.shared.writes.store(0, Ordering::SeqCst);
        self.shared.reached.store(false, Ordering::SeqCst);
        self.shared.met.lock().unwrap().clear();
        self.shared.log.lock().unwrap().clear();
    }

    /// Sets the state of the network.
    pub fn network(&self, link: Network) {
        self.shared.link.send_replace(link);
    }

    /// Number of delayed writes, and how many of them the API server has answered since.
    pub fn held(&self) -> (usize, usize) {
        (
            self.shared.held.load(Ordering::SeqCst),
            self.shared.released.load(Ordering::SeqCst),
        )
    }

    /// Sets what cannot be read; watches that are open continue.
    pub fn blind(&self, blind: Option<Blind>) {
        *self.shared.blind.lock().unwrap() = blind;
    }

    /// All requests since the start.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Number of writes so far, without renewals of the lock.
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Whether the write with the fault was reached.
    pub fn is_reached(&self) -> bool {
        self.shared.reached.load(Ordering::SeqCst)
    }

    /// Method and path of the writes, in order.
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return answer(StatusCode::BAD_REQUEST, "BadRequest");
    };
    let request = Request::from_parts(parts, Body::from(body.to_bytes()));
    let link = *shared.link.borrow();
    let fault = *shared.fault.borrow();
    let is_held = matches!(fault, Fault::Held(text) if request.method() != "GET" && request.uri().path().contains(text));
    if link != Network::Cut && !is_held {
        if let Network::Slow(time) = link {
            tokio::time::sleep(time).await;
        }
        return treat(shared, request).await;
    }
    // Delayed: the write reaches the server even if the client has stopped waiting.
    let delivered = tokio::spawn(async move {
        if is_held {
            shared.held.fetch_add(1, Ordering::SeqCst);
            let _ = shared
                .fault
                .subscribe()
                .wait_for(|fault| !matches!(fault, Fault::Held(_)))
                .await;
        }
        opened(&shared).await;
        let response = treat(Arc::clone(&shared), request).await;
        shared
            .released
            .fetch_add(usize::from(is_held), Ordering::SeqCst);
        response
    });
    delivered
        .await
        .unwrap_or_else(|_| answer(StatusCode::BAD_GATEWAY, "BadGateway"))
}

/// Waits until the network is not cut.
async fn opened(shared: &Shared) {
    let _ = shared
        .link
        .subscribe()
        .wait_for(|link| *link != Network::Cut)
        .await;
}

async fn treat(shared: Arc<Shared>, request: Request) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let blind = *shared.blind.lock().unwrap();
    if let Some(blind) = blind.filter(|blind| method == "GET" && blind.covers(&path, is_watch)) {
        if matches!(blind, Blind::Silent(_)) {
            std::future::pending::<()>().await;
        }
        return answer(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
    }
    let renewal = path.contains("/leases/");
    let writes = !matches!(method.as_str(), "GET" | "HEAD")
        && !renewal
        && !path.contains("/events")
        && !path.contains("selfsubject");
    if !writes {
        return forward(&shared, request).await;
    }
    let number = shared.writes.fetch_add(1, Ordering::SeqCst) + 1;
    shared.log.lock().unwrap().push(format!("{method} {path}"));
    let fault = *shared.fault.borrow();
    match fault {
        Fault::Refused(text) if path.contains(text) => answer(StatusCode::FORBIDDEN, "Forbidden"),
        Fault::LostBefore(at) if at == number => {
            shared.reached.store(true, Ordering::SeqCst);
            std::future::pending().await
        }
        Fault::LostAfter(at) if at == number => {
            drop(forward(&shared, request).await);
            shared.reached.store(true, Ordering::SeqCst);
            std::future::pending().await
        }
        Fault::Conflicts if method != "POST" && shared.is_odd(&format!("{method} {path}")) => {
            answer(StatusCode::CONFLICT, "Conflict")
        }
        Fault::AnswersLost => {
            let lost = shared.is_odd(&format!("{method} {path}"));
            let made = forward(&shared, request).await;
            if lost {
                answer(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            } else {
                made
            }
        }
        _ => forward(&shared, request).await,
    }
}

fn answer(status: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "made up", "reason": reason, "code": status.as_u16()});
    (
        status,
        [("content-type", "application/json")],
        body.to_string(),
    )
        .into_response()
}

async fn forward(shared: &Arc<Shared>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    parts.headers.remove("host");
    parts.uri = parts
        .uri
        .path_and_query()
        .unwrap()
        .as_str()
        .parse()
        .unwrap();
    parts.version = axum::http::Version::HTTP_11;
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    match shared.client.send(request).await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            parts.headers.remove("transfer-encoding");
            opened(shared).await;
            let frames = futures::stream::unfold(
                (body.into_data_stream(), Arc::clone(shared)),
                async |(mut frames, shared)| {
                    let frame = frames.next().await?;
                    opened(&shared).await;
                    Some((frame, (frames, shared)))
                },
            );
            Response::from_parts(parts, Body::from_stream(Box::pin(frames)))
        }
        Err(error) => {
            eprintln!("the real API server: {error}");
            answer(StatusCode::BAD_GATEWAY, "BadGateway")
        }
    }
}
