//! A Service: a port of the host that forwards to the ready replicas, and a steady stream of
//! changes that the replicas judge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]
#![allow(dead_code, reason = "each test uses a part")]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::ControlPlane;
use serde_json::json;

use super::webhook::{GUARD, Server};

/// Between two readiness probes of a replica.
const PERIOD: Duration = Duration::from_millis(500);
/// Probes in a row that must fail before a replica gets no new connections, as in the chart.
const FAILURES: usize = 2;

/// Creates the Service that the webhook configurations name. It resolves to this host.
pub fn make_service(cluster: &ControlPlane) {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: milvus-guard, namespace: {GUARD}}}, spec: {{type: ExternalName, externalName: localhost}}}}"
    ));
}

/// The port of the Service, and the probes of a kubelet. A connection stays with its replica, as
/// with kube-proxy.
pub struct Service {
    pub port: u16,
    replicas: Arc<Vec<Replica>>,
    stop: Arc<AtomicBool>,
}

struct Replica {
    address: SocketAddr,
    probe: SocketAddr,
    failures: AtomicUsize,
}

impl Service {
    pub fn start(servers: &[Server]) -> Self {
        let address = |url: &str, scheme: &str| -> SocketAddr {
            url.strip_prefix(scheme)
                .unwrap()
                .trim_end_matches("/metrics")
                .parse()
                .unwrap()
        };
        let replicas: Vec<Replica> = servers
            .iter()
            .map(|server| Replica {
                address: address(&server.url, "https://"),
                probe: address(&server.metrics, "http://"),
                failures: AtomicUsize::new(FAILURES),
            })
            .collect();
        let (replicas, stop) = (Arc::new(replicas), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for number in 0..replicas.len() {
            let (replicas, stop) = (Arc::clone(&replicas), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    replicas[number].look();
                    thread::sleep(PERIOD);
                }
            });
        }
        let (behind, stopped) = (Arc::clone(&replicas), Arc::clone(&stop));
        thread::spawn(move || {
            for (turn, client) in listener.incoming().map_while(Result::ok).enumerate() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let ready: Vec<&Replica> =
                    behind.iter().filter(|replica| replica.is_ready()).collect();
                // Without a ready replica the connection is closed.
                let Some(replica) = ready.get(turn % ready.len().max(1)) else {
                    continue;
                };
                let Ok(server) = TcpStream::connect(replica.address) else {
                    continue;
                };
                carry(&client, &server);
            }
        });
        Self {
            port,
            replicas,
            stop,
        }
    }

    /// Whether a replica gets new connections.
    pub fn is_ready(&self, number: usize) -> bool {
        self.replicas[number].is_ready()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Replica {
    fn is_ready(&self) -> bool {
        self.failures.load(Ordering::SeqCst) < FAILURES
    }

    fn look(&self) {
        if self.answers().unwrap_or(false) {
            self.failures.store(0, Ordering::SeqCst);
        } else {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn answers(&self) -> std::io::Result<bool> {
        let limit = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&self.probe, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b"200"))
    }
}

fn carry(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        from.set_nodelay(true).unwrap();
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}

/// A change with a result other than expected.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Time since the start of the stream.
    pub at: Duration,
    pub took: Duration,
    pub wanted: &'static str,
    pub text: String,
}

/// A steady stream of changes through the API server as dry runs: one that must be allowed, one
/// that must be denied, and one of another workload.
pub struct Changes {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    lost: Arc<Mutex<Vec<Lost>>>,
    slowest: Arc<Mutex<Duration>>,
    begun: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Changes {
    /// Changes of the release `my-release` in namespace `milvus`, which runs 2.3.22.
    pub fn start(kubeconfig: &Path) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (lost, begun) = (Arc::new(Mutex::<Vec<Lost>>::default()), Instant::now());
        let slowest = Arc::new(Mutex::new(Duration::ZERO));
        let longest = Arc::clone(&slowest);
        let (stopped, count, noted, path) = (
            Arc::clone(&stop),
            Arc::clone(&asked),
            Arc::clone(&lost),
            kubeconfig.to_owned(),
        );
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let access = Access {
                    kubeconfig: Some(path),
                    context: None,
                };
                let client = Cluster::connect(&access).await.unwrap().client().clone();
                while !stopped.load(Ordering::SeqCst) {
                    for wanted in ["allowed", "MG201", "web"] {
                        let asked = Instant::now();
                        let text = change(&client, wanted).await;
                        let took = asked.elapsed();
                        if wanted == "web" {
                            let mut longest = longest.lock().unwrap();
                            *longest = took.max(*longest);
                        }
                        if (text == "allowed") != (wanted != "MG201")
                            || (wanted == "MG201" && !text.contains(wanted))
                        {
                            noted.lock().unwrap().push(Lost {
                                at: asked - begun,
                                took,
                                wanted,
                                text,
                            });
                        }
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self {
            stop,
            asked,
            lost,
            slowest,
            begun,
            thread: Some(thread),
        }
    }

    /// Completed rounds.
    pub fn rounds(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The longest time that a change of another workload took.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    /// Time since the start of the stream.
    pub fn time(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Takes the changes with an unexpected result. Fails if an unsafe change was allowed, or a
    /// change of another workload was refused.
    pub fn take(&self) -> Vec<Lost> {
        let lost = std::mem::take(&mut *self.lost.lock().unwrap());
        let unsafe_or_others: Vec<&Lost> = lost
            .iter()
            .filter(|lost| lost.wanted == "web" || lost.text == "allowed")
            .collect();
        assert!(unsafe_or_others.is_empty(), "{unsafe_or_others:#?}");
        lost
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Requests a change; returns `allowed`, or the error.
async fn change(client: &Client, wanted: &str) -> String {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "milvus");
    let params = PatchParams {
        dry_run: true,
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    };
    let proxy = "my-release-milvus-proxy";
    let done = match wanted {
        "allowed" => api
            .patch_scale(
                proxy,
                &params,
                &Patch::Merge(json!({"spec": {"replicas": 3}})),
            )
            .await
            .map(|_| ()),
        "MG201" => {
            let image = json!({"name": "proxy", "image": "milvusdb/milvus:v2.4.5"});
            let patch = json!({"spec": {"template": {"spec": {"containers": [image]}}}});
            api.patch(proxy, &params, &Patch::Strategic(patch))
                .await
                .map(|_| ())
        }
        _ => {
            let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
                "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}});
            let params = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            api.create(&params, &serde_json::from_value(web).unwrap())
                .await
                .map(|_| ())
        }
    };
    done.map_or_else(|error| error.to_string(), |()| "allowed".into())
}
