//! Ten thousand reviews while both replicas are replaced and their certificate is renewed three
//! times. Every review is answered, and every answer is right.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    guard,
    https::{Https, Reply, trusting},
    webhook::{Server, wait_until},
};
use jiff::Timestamp;
use milvus_guard_core::manifest::documents;
use milvus_guard_webhook::certs::authority::{Authority, Pair};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};

const RUNNING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/demo/1-skipped-migration/before.yaml"
);
const REVIEWS: usize = 10_000;
const CLIENTS: usize = 8;
/// Reviews of one connection; then the client opens a new one, as API servers do.
const PER_CONNECTION: usize = 50;
/// Between two reviews of a client: the load should last as long as the replacements.
const PAUSE: Duration = Duration::from_millis(15);

/// A mounted Secret, replaced as by kubelet: by renaming `..data`.
struct Mount {
    folder: PathBuf,
    generation: usize,
}

impl Mount {
    fn swap(&mut self, pair: &Pair) {
        let old = self.folder.join(format!("..{}", self.generation));
        self.generation += 1;
        let name = format!("..{}", self.generation);
        let new = self.folder.join(&name);
        fs::create_dir(&new).unwrap();
        fs::write(new.join("tls.crt"), &pair.cert_pem).unwrap();
        fs::write(new.join("tls.key"), &pair.key_pem).unwrap();
        symlink(&name, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }
}

/// A review, and the check of its answer.
struct Question {
    path: &'static str,
    body: String,
    is_right: fn(&Value) -> bool,
}

fn review(object: &Value, old: &Value) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "UID", "name": object["metadata"]["name"], "namespace": "milvus", "operation": "UPDATE",
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "userInfo": {"username": "me"},
        "object": object, "oldObject": old}})
    .to_string()
}

fn questions() -> [Question; 4] {
    let text = fs::read_to_string(RUNNING).unwrap();
    let mut all = documents(&text).map(|document| document.unwrap().root.to_json());
    let mut old = all.find(|object| object["kind"] == "Deployment").unwrap();
    old["metadata"]["namespace"] = json!("milvus");
    let mut skipped = old.clone();
    skipped["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("milvusdb/milvus:v2.2.16");
    let mut labelled = old.clone();
    labelled["metadata"]["labels"]["team"] = json!("search");
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}});
    let allowed = |answer: &Value| answer["allowed"] == true && answer["warnings"].is_null();
    [
        Question {
            path: "/validate?timeout=10s",
            body: review(&skipped, &old),
            is_right: |answer| answer["allowed"] == false && answer.to_string().contains("MG101"),
        },
        Question {
            path: "/validate?timeout=10s",
            body: review(&labelled, &old),
            is_right: allowed,
        },
        Question {
            path: "/validate?timeout=10s",
            body: review(&web, &web),
            is_right: allowed,
        },
        Question {
            path: "/mutate?timeout=10s",
            body: review(&labelled, &old),
            is_right: |answer| answer["allowed"] == true && answer["patchType"] == "JSONPatch",
        },
    ]
}

/// Shared by all clients.
struct Shared {
    config: Arc<ClientConfig>,
    /// Addresses of the replicas that take new connections, as in a Service.
    endpoints: Mutex<Vec<String>>,
    questions: [Question; 4],
    answered: AtomicUsize,
    /// Connections that ended between two reviews without an announcement.
    retried: AtomicUsize,
    /// Connections that failed because their replica had already ended.
    refused: AtomicUsize,
    /// Number of handshakes by the server's certificate.
    shown: Mutex<BTreeMap<Vec<u8>, usize>>,
    over: AtomicBool,
}

/// One client.
struct Caller<'a> {
    shared: &'a Shared,
    turn: usize,
    connection: Option<(Https, usize)>,
}

impl Caller<'_> {
    fn connect(&mut self) -> (Https, usize) {
        for _ in 0..20 {
            let endpoints = self.shared.endpoints.lock().unwrap().clone();
            self.turn += 1;
            match Https::connect(&endpoints[self.turn % endpoints.len()], &self.shared.config) {
                Ok(connection) => {
                    *self
                        .shared
                        .shown
                        .lock()
                        .unwrap()
                        .entry(connection.certificate())
                        .or_default() += 1;
                    return (connection, 0);
                }
                // No review was sent yet; the other replica is available.
                Err(_) => self.shared.refused.fetch_add(1, Ordering::Relaxed),
            };
        }
        panic!("no replica accepts connections");
    }

    fn ask(&mut self, path: &str, body: &str) -> Reply {
        loop {
            let (mut connection, used) = self.connection.take().unwrap_or_else(|| self.connect());
            match connection.post(path, body.as_bytes()) {
                Ok(reply) => {
                    let keeps = !reply.closes() && used + 1 < PER_CONNECTION;
                    self.connection = keeps.then_some((connection, used + 1));
                    return reply;
                }
                // Only a connection that ended cleanly, between two reviews, may be retried.
                Err(error) if used > 0 && error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.shared.retried.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("a review was lost after {used} on its connection: {error}"),
            }
        }
    }

    fn run(&mut self, id: usize) {
        let shared = self.shared;
        let mut count = 0;
        while !shared.over.load(Ordering::Relaxed)
            || shared.answered.load(Ordering::Relaxed) < REVIEWS
        {
            let question = &shared.questions[count % shared.questions.len()];
            let uid = format!("{id}-{count}");
            let reply = self.ask(question.path, &question.body.replacen("UID", &uid, 1));
            assert_eq!(reply.status, 200, "{}", reply.text());
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(answer["response"]["uid"], uid.as_str());
            assert!(
                (question.is_right)(&answer["response"]),
                "{} {answer}",
                question.path
            );
            shared.answered.fetch_add(1, Ordering::Relaxed);
            count += 1;
            thread::sleep(PAUSE);
        }
    }
}

fn replica(folder: &Path, name: &str) -> Server {
    let mut command = guard();
    command.args([
        "serve",
        "--no-cluster",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "127.0.0.1:0",
        "--before",
        RUNNING,
    ]);
    command
        .args(["--shutdown-delay", "1s", "--tls-cert-file"])
        .arg(folder.join("tls.crt"));
    command.arg("--tls-key-file").arg(folder.join("tls.key"));
    let server = Server::spawn(command, folder.join(name));
    wait_until("a replica is ready", Duration::from_secs(20), || {
        server.is_ready()
    });
    server
}

/// Three renewals, each loaded by both replicas; then each replica is replaced by a new one.
fn replace_certificates_and_replicas(
    shared: &Shared,
    mount: &mut Mount,
    pairs: &[Pair],
    replicas: &mut [Server],
) {
    for pair in pairs {
        mount.swap(pair);
        let wanted = der(pair);
        for replica in replicas.iter() {
            wait_until(
                "a replica shows the new certificate",
                Duration::from_secs(15),
                || {
                    Https::connect(&replica.url, &shared.config)
                        .unwrap()
                        .certificate()
                        == wanted
                },
            );
        }
    }
    for (index, old) in replicas.iter_mut().enumerate() {
        let new = replica(&mount.folder, &format!("replica-{}.log", index + 2));
        shared.endpoints.lock().unwrap().push(new.url.clone());
        assert!(
            Command::new("kill")
                .arg(old.pid().to_string())
                .status()
                .unwrap()
                .success()
        );
        // As in a cluster after a failed probe: the endpoint is removed while the replica still
        // serves.
        wait_until(
            "the old replica is not ready",
            Duration::from_secs(1),
            || !old.is_ready(),
        );
        shared
            .endpoints
            .lock()
            .unwrap()
            .retain(|url| *url != old.url);
        assert_eq!(old.wait().code(), Some(0));
        *old = new;
    }
}

fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.cert_pem.as_bytes())
        .unwrap()
        .to_vec()
}

#[test]
fn no_review_is_lost_while_replicas_and_certificates_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::make(Timestamp::now()).unwrap();
    let pairs: Vec<Pair> = (0..4)
        .map(|_| {
            authority
                .leaf(&["localhost".to_owned()], Timestamp::now())
                .unwrap()
        })
        .collect();
    let mut mount = Mount {
        folder: folder.path().to_owned(),
        generation: 0,
    };
    mount.swap(&pairs[0]);
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
    }
    let mut replicas = [
        replica(folder.path(), "replica-0.log"),
        replica(folder.path(), "replica-1.log"),
    ];
    let shared = Shared {
        config: trusting(&[authority.cert_pem()]),
        endpoints: Mutex::new(replicas.iter().map(|replica| replica.url.clone()).collect()),
        questions: questions(),
        answered: AtomicUsize::new(0),
        retried: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        shown: Mutex::default(),
        over: AtomicBool::new(false),
    };
    let started = Instant::now();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let shared = &shared;
                scope.spawn(move || {
                    Caller {
                        shared,
                        turn: id,
                        connection: None,
                    }
                    .run(id);
                })
            })
            .collect();
        // If a step fails, the clients must still end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            replace_certificates_and_replicas(&shared, &mut mount, &pairs[1..], &mut replicas);
        }));
        shared.over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller
                .join()
                .expect("every review of this client must be answered");
        }
        done.expect("the replacements must complete");
    });
    let (answered, retried) = (shared.answered.into_inner(), shared.retried.into_inner());
    let shown = shared.shown.into_inner().unwrap();
    let handshakes: Vec<usize> = pairs
        .iter()
        .map(|pair| shown.get(&der(pair)).copied().unwrap_or(0))
        .collect();
    eprintln!(
        "{answered} reviews in {:?}, {retried} tried again, {} connections refused; handshakes by \
         certificate: {handshakes:?}",
        started.elapsed(),
        shared.refused.into_inner(),
    );
    assert!(answered >= REVIEWS);
    assert!(
        retried <= CLIENTS,
        "the server must announce the end of a connection"
    );
    assert!(handshakes.iter().all(|count| *count > 0), "{handshakes:?}");
    assert_eq!(shown.len(), pairs.len());
    for log in 0..4 {
        let text = fs::read_to_string(folder.path().join(format!("replica-{log}.log"))).unwrap();
        assert!(!text.contains("panicked"), "{text}");
    }
}
