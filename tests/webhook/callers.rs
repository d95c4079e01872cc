//! Callers of the webhook: only the API server has the secret path. Every other caller gets 404 and
//! leaves no trace.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{
    self,
    https::{Https, trusting},
    webhook::{GUARD, Server, Webhook, registered, wait_until},
};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use rustls::ClientConfig;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
/// Short phases of a secret path.
const FAST: [&str; 6] = [
    "--path-lifetime",
    "4s",
    "--path-settle",
    "2s",
    "--path-grace",
    "3s",
];

struct Client(Arc<ClientConfig>, String);

impl Client {
    fn of(folder: &std::path::Path, server: &Server) -> Self {
        Self(
            trusting(&[&fs::read_to_string(folder.join("ca.crt")).unwrap()]),
            server.url.clone(),
        )
    }

    fn connect(&self) -> Https {
        Https::connect(&self.1, &self.0).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> u16 {
        self.connect()
            .post(path, body.to_string().as_bytes())
            .unwrap()
            .status
    }
}

fn review(
    resource: (&str, &str),
    kind: &str,
    operation: &str,
    object: &Value,
    old: &Value,
) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "forged", "kind": {"group": resource.0, "version": "v1", "kind": kind},
        "resource": {"group": resource.0, "version": "v1", "resource": resource.1},
        "name": object["metadata"]["name"], "namespace": "milvus", "operation": operation, "dryRun": false,
        "userInfo": {"username": "system:admin", "groups": ["system:masters"]}, "object": object, "oldObject": old,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}}})
}

/// A forged record of Helm for a release `ghost`, with the running state at another version.
fn record(webhook: &Webhook) -> Value {
    let secrets = webhook
        .cluster
        .get_json("/api/v1/namespaces/milvus/secrets");
    let found = secrets["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["type"] == "helm.sh/release.v1")
        .unwrap();
    let mut record = found.clone();
    record["kind"] = json!("Secret");
    record["apiVersion"] = json!("v1");
    record["metadata"]["labels"]["status"] = json!("pending-upgrade");
    record
}

#[test]
fn only_callers_with_the_secret_path_are_answered() {
    let webhook = Webhook::start();
    let chart = common::Chart::compact("3.2.18");
    webhook.install(Helm::V4, &chart, &["--no-hooks"]);
    let traces = || {
        let count = |path: &str| {
            webhook.cluster.get_json(path)["items"]
                .as_array()
                .unwrap()
                .len()
        };
        let events = webhook.cluster.get_json("/api/v1/events");
        let ours = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event.to_string().contains("Upgrade"))
            .count();
        let reviews: Vec<String> = webhook
            .server
            .get_metrics()
            .lines()
            .filter(|line| line.contains("reviews_total{"))
            .map(str::to_owned)
            .collect();
        (
            count(&format!(
                "/apis/guard.milvus.io/v1alpha1/namespaces/{GUARD}/releasedecisions"
            )),
            ours,
            reviews,
        )
    };
    let client = Client::of(webhook.folder.path(), &webhook.server);
    let before = traces();
    let deployments = webhook
        .cluster
        .get_json("/apis/apps/v1/namespaces/milvus/deployments");
    let mut old = deployments["items"][0].clone();
    old["apiVersion"] = json!("apps/v1");
    old["kind"] = json!("Deployment");
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.6.22");
    let denied = review(("apps", "deployments"), "Deployment", "UPDATE", &new, &old);
    let decision = review(
        ("", "secrets"),
        "Secret",
        "CREATE",
        &record(&webhook),
        &Value::Null,
    );

    let right = registered(&webhook.cluster).unwrap();
    let token = right.rsplit('/').next().unwrap().to_owned();
    let last = if token.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &token[..63]);
    let paths = |gate: &str| {
        vec![
            gate.to_owned(),
            format!("{gate}/"),
            format!("{gate}?timeout=5s"),
            format!("{gate}/{wrong}"),
            format!("{gate}/{wrong}?timeout=5s"),
            // The answer to an invalid query must not reveal more.
            format!("{gate}/{wrong}?timeout=1s&timeout=2s"),
            format!("{gate}/{}", &token[..63]),
            format!("{gate}/{token}0"),
            format!("{gate}/{token}/"),
            format!("/{gate}/{token}"),
            format!("{gate}/%30{}", &token[1..]),
            format!("{gate}//{token}"),
            format!("{gate}/{token}/x"),
            format!("{gate}?secret={token}"),
            format!("/{token}"),
        ]
    };
    for gate in ["/validate", "/mutate"] {
        for path in paths(gate).into_iter().filter(|path| {
            !path.contains(&format!("%30{}", &token[1..])) || !token.starts_with('0')
        }) {
            for body in [&denied, &decision, &json!({})] {
                assert_eq!(client.post(&path, body), 404, "{path}");
            }
            assert_eq!(client.connect().get(&path).unwrap().status, 404, "{path}");
        }
        // The answer comes before the body: it is announced, and never sent.
        let mut connection = client.connect();
        connection
            .send(
                format!(
                    "POST {gate}/{wrong} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 7000000\r\n\r\n"
                )
                .as_bytes(),
            )
            .unwrap();
        assert_eq!(connection.receive().unwrap().status, 404);
    }
    assert_eq!(
        traces(),
        before,
        "no decision, no Event and no counted review"
    );

    // With the right path the same requests are answered, so the requests above were valid ones.
    assert_eq!(client.post(&right, &denied), 200);
    assert_eq!(client.post(&right, &decision), 200);
    assert_ne!(traces(), before);
    let log = webhook.server.log();
    assert!(
        !log.contains(&token) && !webhook.server.get_metrics().contains(&token),
        "the secret must not be in the log or the metrics"
    );
    let (_, events) = webhook.kubectl(&[
        "get",
        "events,releasedecisions,leases,configmaps",
        "-A",
        "-o",
        "yaml",
    ]);
    assert!(
        !events.contains(&token),
        "the secret must not be in objects that others can read"
    );
}

/// Calls the guard continuously through the API server, and collects the answers that are not the
/// guard's own.
struct Asking {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Asking {
    fn start(kubectl: impl Fn() -> String + Send + 'static) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut lost = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let text = kubectl();
                // The guard itself refuses a policy with a rule that does not exist.
                if !text.contains("\"documents.guard.milvus.io\" denied the request") {
                    lost.push(text);
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            lost
        });
        Self {
            stop,
            asked,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let lost = self.thread.take().unwrap().join().unwrap();
        (self.asked.load(Ordering::SeqCst), lost)
    }
}

const WRONG_POLICY: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: p}\nspec:\n  rules: [{id: MG000, action: Warn}]\n";

fn asking(webhook: &Webhook) -> Asking {
    let file = webhook.folder.path().join("policy.yaml");
    fs::write(&file, WRONG_POLICY).unwrap();
    let mut command = webhook.cluster.kubectl_command();
    command.args(["create", "--dry-run=server", "-f"]).arg(file);
    let (program, args) = (
        command.get_program().to_owned(),
        command
            .get_args()
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>(),
    );
    let environment: Vec<_> = command
        .get_envs()
        .map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    Asking::start(move || {
        let mut command = std::process::Command::new(&program);
        command.args(&args).envs(
            environment
                .iter()
                .filter_map(|(key, value)| Some((key, value.as_ref()?))),
        );
        String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned()
    })
}

#[test]
fn a_rotation_loses_no_review_and_old_paths_expire() {
    let webhook = Webhook::with(
        ControlPlane::builder().controller_manager(true).start(),
        &FAST,
    );
    // A second replica: it never leads, and has each path before the path is registered.
    let folder = tempfile::tempdir().unwrap();
    let follower = Server::start(&webhook.cluster, folder.path(), "127.0.0.1:0", &FAST);
    let clients = [
        Client::of(webhook.folder.path(), &webhook.server),
        Client::of(folder.path(), &follower),
    ];
    let asking = asking(&webhook);
    let mut paths = Vec::new();
    wait_until("four rotations", MINUTE * 3, || {
        let now = registered(&webhook.cluster).unwrap();
        if paths.last() != Some(&now) {
            for client in &clients {
                // 400: the path is valid, and the body is not a review.
                assert_eq!(
                    client.post(&now, &json!({})),
                    400,
                    "each replica must have the registered path"
                );
            }
            paths.push(now);
        }
        paths.len() > 4
    });
    let (asked, lost) = asking.end();
    assert!(
        asked > 10 && lost.is_empty(),
        "{asked} asked, {} lost: {lost:#?}",
        lost.len()
    );
    assert_eq!(
        paths.iter().collect::<BTreeSet<_>>().len(),
        paths.len(),
        "no path may be used again"
    );
    for path in &paths[..2] {
        for client in &clients {
            wait_until("the end of an old path", MINUTE, || {
                client.post(path, &json!({})) == 404
            });
        }
    }
    let secret = webhook.cluster.get_json(&format!(
        "/api/v1/namespaces/{GUARD}/secrets/milvus-guard-path"
    ));
    assert_eq!(
        secret["data"].as_object().unwrap().len(),
        1,
        "only one key, with the newest paths"
    );
}

#[test]
fn a_deleted_secret_is_replaced_without_losing_a_review() {
    let times = [
        "--path-lifetime",
        "1h",
        "--path-settle",
        "3s",
        "--path-grace",
        "2s",
    ];
    let webhook = Webhook::with(ControlPlane::start(), &times);
    let client = Client::of(webhook.folder.path(), &webhook.server);
    let first = registered(&webhook.cluster).unwrap();
    let asking = asking(&webhook);
    expect_success(
        webhook
            .cluster
            .kubectl(["delete", "-n", GUARD, "secret", "milvus-guard-path"]),
    );
    wait_until("another path", MINUTE, || {
        registered(&webhook.cluster).is_some_and(|path| path != first)
    });
    wait_until("the end of the first", MINUTE, || {
        client.post(&first, &json!({})) == 404
    });
    let (asked, lost) = asking.end();
    assert!(
        asked > 3 && lost.is_empty(),
        "{asked} asked, lost: {lost:#?}"
    );
    // A Secret that was damaged by hand is replaced too.
    let second = registered(&webhook.cluster).unwrap();
    let spoil = r#"{"data": {"tokens": "Z2FyYmFnZQ=="}}"#;
    expect_success(webhook.cluster.kubectl([
        "patch",
        "-n",
        GUARD,
        "secret",
        "milvus-guard-path",
        "--type=merge",
        "-p",
        spoil,
    ]));
    wait_until("a third path", MINUTE, || {
        registered(&webhook.cluster).is_some_and(|path| path != second)
    });
}

#[test]
fn a_path_that_the_api_server_printed_in_an_error_expires_soon() {
    let times = [
        "--path-lifetime",
        "1h",
        "--path-settle",
        "2s",
        "--path-grace",
        "2s",
    ];
    let mut webhook = Webhook::with(ControlPlane::start(), &times);
    let address = webhook
        .server
        .url
        .strip_prefix("https://")
        .unwrap()
        .to_owned();
    let told = registered(&webhook.cluster).unwrap();
    webhook.server.kill();
    let output = webhook
        .cluster
        .kubectl_with_input(["create", "--dry-run=server", "-f", "-"], WRONG_POLICY);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&told),
        "Kubernetes prints the whole path, as documented in docs/security.md: {text}"
    );
    webhook.server = Server::start(&webhook.cluster, webhook.folder.path(), &address, &times);
    let client = Client::of(webhook.folder.path(), &webhook.server);
    wait_until("another path", MINUTE, || {
        registered(&webhook.cluster).is_some_and(|path| path != told)
    });
    wait_until("the end of the one that was told", MINUTE, || {
        client.post(&told, &json!({})) == 404
    });
    wait_until("the gate works", MINUTE, || {
        let output = webhook
            .cluster
            .kubectl_with_input(["create", "--dry-run=server", "-f", "-"], WRONG_POLICY);
        String::from_utf8_lossy(&output.stderr).contains("denied the request")
    });
}
