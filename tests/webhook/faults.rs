//! The webhook while certificates expire, replicas lose the API server or end, and the API server
//! is slow.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::common::{
    Chart,
    faults::{Blind, Fault, Faults, Network},
    service::{Changes, Service, make_service},
    webhook::{
        GUARD, Server, TEMPLATE, prepare, stored_memory, wait_until, write_service_template,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
use milvus_guard_webhook::certs::{
    authority::{Authority, LEAF_LIFE, Pair, self_signed_for},
    managed::service_names,
};
use serde_json::{Value, json};

const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/milvus-guard";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: i64 = 24 * 60 * 60;
/// Short phases of a secret path, and watches that end soon.
const FAST: [&str; 8] = [
    "--path-lifetime",
    "3s",
    "--path-settle",
    "6s",
    "--path-grace",
    "6s",
    "--watch-timeout",
    "10s",
];

/// A cluster with a release of Milvus, prepared for a guard.
fn with_milvus() -> ControlPlane {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    prepare(&cluster);
    make_service(&cluster);
    let (done, text) = helm(&cluster, "install", &["--create-namespace"]);
    assert!(done, "{text}");
    cluster
}

fn helm(cluster: &ControlPlane, verb: &str, more: &[&str]) -> (bool, String) {
    let chart = Chart::compact("4.1.34");
    let args = [
        verb,
        "my-release",
        chart.path(),
        "-n",
        "milvus",
        "--set",
        "image.all.tag=v2.3.22",
    ];
    said(cluster.helm(Helm::V4, args.iter().chain(more)))
}

#[allow(clippy::needless_pass_by_value, reason = "it is only read")]
fn said(output: std::process::Output) -> (bool, String) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), text)
}

/// The output for an unsafe change of Milvus.
fn denied(cluster: &ControlPlane) -> String {
    let image = "proxy=milvusdb/milvus:v2.4.5";
    said(cluster.kubectl([
        "-n",
        "milvus",
        "set",
        "image",
        "deployment/my-release-milvus-proxy",
        image,
        "--dry-run=server",
    ]))
    .1
}

fn starts_through(faults: &Faults, folder: &Path, flags: &[&str]) -> Server {
    let server = Server::start_through(
        faults.kubeconfig(),
        folder,
        "127.0.0.1:0",
        &[&FAST, flags].concat(),
    );
    let port = server.url.rsplit(':').next().unwrap().parse().unwrap();
    write_service_template(&folder.join(TEMPLATE), port);
    server
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds)).unwrap()
}

fn names() -> Vec<String> {
    service_names("milvus-guard", GUARD)
}

fn put_secret(cluster: &ControlPlane, authority: &Authority, leaf: &Pair) {
    let (ca, key) = (authority.cert_pem(), authority.key_pem());
    let data =
        json!({"ca.crt": ca, "ca.key": key, "tls.crt": leaf.cert_pem, "tls.key": leaf.key_pem});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "milvus-guard-tls", "namespace": GUARD}, "stringData": data});
    expect_success(cluster.kubectl_with_input(
        ["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &secret.to_string(),
    ));
}

/// Waits until a certificate has expired, and checks readiness, refusals and the metric.
fn is_expired(cluster: &ControlPlane, server: &Server) {
    wait_until(
        "the server says that its certificate has expired",
        MINUTE,
        || {
            let (status, text) = server.readiness();
            status == 503 && text.contains("certificate valid: it is valid until")
        },
    );
    wait_until("the API server refuses the certificate", MINUTE, || {
        let text = denied(cluster);
        assert!(!text.contains("image updated"), "{text}");
        text.contains("failed calling webhook \"workload.guard.milvus.io\"")
            && text.contains("certificate has expired")
    });
    #[allow(clippy::cast_precision_loss, reason = "seconds of an epoch fit")]
    let now = Timestamp::now().as_second() as f64;
    let end = server.metric("milvus_guard_certificate_expiry_timestamp_seconds{which=\"leaf\"}");
    assert!(
        end > 1.0 && end <= now,
        "the metric must show the expiry: {end}"
    );
    expect_success(cluster.kubectl([
        "-n",
        "milvus",
        "create",
        "deployment",
        "web",
        "--image=nginx",
    ]));
    expect_success(cluster.kubectl(["-n", "milvus", "delete", "deployment", "web"]));
}

#[test]
fn with_an_expired_certificate_changes_are_refused_and_a_renewal_needs_no_restart() {
    let (cluster, folder) = (with_milvus(), tempfile::tempdir().unwrap());
    let account = cluster.kubeconfig_for_service_account(GUARD, "milvus-guard");
    let faults = Faults::start(&account, folder.path());
    let now = Timestamp::now();
    // As if all replicas had been down until the certificate and its CA expired.
    let authority = Authority::make(ago(now, 400 * DAY)).unwrap();
    put_secret(
        &cluster,
        &authority,
        &authority.leaf(&names(), ago(now, 31 * DAY)).unwrap(),
    );
    let mut server = starts_through(&faults, folder.path(), &["--tls-managed"]);
    wait_until("the gate works with a new authority", MINUTE, || {
        denied(&cluster).contains("MG201")
    });

    // The certificate expires while it cannot be renewed.
    faults.set(Fault::Refused("secrets/milvus-guard-tls"));
    let secret = cluster.get_json(&format!(
        "/api/v1/namespaces/{GUARD}/secrets/milvus-guard-tls"
    ));
    let text = |key: &str| {
        String::from_utf8(
            BASE64_STANDARD
                .decode(secret["data"][key].as_str().unwrap())
                .unwrap(),
        )
        .unwrap()
    };
    let authority = Authority::load(&text("ca.crt"), &text("ca.key")).unwrap();
    put_secret(
        &cluster,
        &authority,
        &authority
            .leaf(&names(), ago(Timestamp::now(), LEAF_LIFE - 25))
            .unwrap(),
    );
    is_expired(&cluster, &server);
    assert!(
        server.metric("milvus_guard_certificate_reload_failures_total") > 0.5,
        "the failure must be counted"
    );
    faults.set(Fault::None);
    wait_until("the gate works with a new certificate", MINUTE, || {
        denied(&cluster).contains("MG201")
    });
    wait_until("the server is ready again", MINUTE, || {
        server.readiness().0 == 200
    });

    // The same with a certificate from files.
    server.kill();
    expect_success(cluster.kubectl(["-n", GUARD, "delete", "lease", "milvus-guard-leader"]));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |seconds: i64| {
        let made = self_signed_for(&names(), Timestamp::now(), seconds).unwrap();
        for (name, text) in [
            ("tls.key", &made.key_pem),
            ("tls.crt", &made.cert_pem),
            ("ca.crt", &made.ca_pem),
        ] {
            fs::write(path(name), text).unwrap();
        }
    };
    write(25);
    let server = starts_through(
        &faults,
        folder.path(),
        &[
            "--tls-cert-file",
            &path("tls.crt"),
            "--tls-key-file",
            &path("tls.key"),
        ],
    );
    is_expired(&cluster, &server);
    write(DAY);
    wait_until("the gate works with another certificate", MINUTE, || {
        denied(&cluster).contains("MG201")
    });
    wait_until("the server is ready again", MINUTE, || {
        server.readiness().0 == 200
    });
}

/// Three replicas behind a Service, each with a separate network connection.
struct Replicas {
    service: Service,
    servers: Vec<Server>,
    faults: Vec<Faults>,
    cluster: ControlPlane,
    _folders: Vec<tempfile::TempDir>,
}

impl Replicas {
    fn start() -> Self {
        Self::start_in(with_milvus())
    }

    fn start_in(cluster: ControlPlane) -> Self {
        let account = cluster.kubeconfig_for_service_account(GUARD, "milvus-guard");
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let faults: Vec<_> = folders
            .iter()
            .map(|folder| Faults::start(&account, folder.path()))
            .collect();
        let flags = [&FAST[..], &["--tls-managed"]].concat();
        let servers: Vec<_> = faults
            .iter()
            .zip(&folders)
            .map(|(faults, folder)| {
                Server::start_through(faults.kubeconfig(), folder.path(), "127.0.0.1:0", &flags)
            })
            .collect();
        let service = Service::start(&servers);
        for folder in &folders {
            write_service_template(&folder.path().join(TEMPLATE), service.port);
        }
        let all = Self {
            service,
            servers,
            faults,
            cluster,
            _folders: folders,
        };
        wait_until("all replicas are ready", MINUTE, || {
            (0..3).all(|number| all.service.is_ready(number))
        });
        wait_until("the gate works", MINUTE, || {
            denied(&all.cluster).contains("MG201")
        });
        all
    }

    fn leads(&self, number: usize) -> bool {
        self.servers[number].metric("milvus_guard_leader") > 0.5
    }

    /// The number of the leader, which must not be one of these.
    fn leader(&self, but: &[usize]) -> usize {
        let mut found = None;
        wait_until("a replica leads", MINUTE, || {
            found = (0..3).find(|number| !but.contains(number) && self.leads(*number));
            found.is_some()
        });
        found.unwrap()
    }

    fn registered(&self) -> String {
        let object = self.cluster.get_json(VALIDATING);
        object["webhooks"][0]["clientConfig"]["service"]["path"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Number of CA certificates that API servers trust.
    fn trusted(&self) -> usize {
        let object = self.cluster.get_json(VALIDATING);
        let bundle = object["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .unwrap();
        let text = String::from_utf8(BASE64_STANDARD.decode(bundle).unwrap()).unwrap();
        text.matches("BEGIN CERTIFICATE").count()
    }

    /// When the certificate of a replica expires, in seconds since 1970.
    fn ends(&self, number: usize) -> f64 {
        self.servers[number]
            .metric("milvus_guard_certificate_expiry_timestamp_seconds{which=\"leaf\"}")
    }

    fn memory(&self) -> String {
        stored_memory(&self.cluster, "milvus")
    }

    /// Creates another Milvus in the same namespace.
    fn create(&self, name: &str) {
        let container = json!({"name": "standalone", "image": "milvusdb/milvus:v2.3.22", "args": ["milvus", "run", "standalone"],
            "env": [{"name": "ETCD_ENDPOINTS", "value": format!("etcd-{name}.elsewhere:2379")}]});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "milvus"}, "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}}});
        expect_success(
            self.cluster
                .kubectl_with_input(["create", "-f", "-"], &object.to_string()),
        );
    }

    fn rotates(&self, times: usize) {
        for _ in 0..times {
            let before = self.registered();
            wait_until("another path is registered", MINUTE, || {
                self.registered() != before
            });
        }
    }
}

fn wait_for_changes(changes: &Changes, rounds: usize) {
    let until = changes.rounds() + rounds;
    wait_until("more changes", MINUTE, || changes.rounds() >= until);
}

#[test]
fn no_review_is_lost_while_a_replica_or_the_leader_is_disconnected() {
    let mut all = Replicas::start();
    let changes = Changes::start(all.cluster.kubeconfig());
    wait_for_changes(&changes, 5);
    assert_eq!(changes.take().len(), 0);

    // A replica that is not told new paths gets no reviews.
    let first = all.leader(&[]);
    let follower = (first + 1) % 3;
    let begun = Instant::now();
    all.faults[follower].network(Network::Cut);
    wait_until("the replica is not ready", MINUTE, || {
        !all.service.is_ready(follower)
    });
    eprintln!(
        "not ready after {:.1} s: {}",
        begun.elapsed().as_secs_f64(),
        all.servers[follower].readiness().1
    );
    all.rotates(2);
    wait_for_changes(&changes, 5);
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");
    all.faults[follower].network(Network::Open);
    wait_until("the replica is ready again", MINUTE, || {
        all.service.is_ready(follower)
    });
    wait_for_changes(&changes, 5);
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");

    // The leader is disconnected during a write, which arrives after its successor has written.
    let begun = Instant::now();
    all.faults[first].set(Fault::Held("configmaps/milvus-guard-memory"));
    all.create("milvus-a");
    wait_until("the leader writes", MINUTE, || {
        all.faults[first].held().0 > 0
    });
    all.faults[first].network(Network::Cut);
    let second = all.leader(&[first]);
    eprintln!(
        "another replica leads after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    all.create("milvus-b");
    wait_until("the successor writes", MINUTE, || {
        all.memory().contains("milvus-b")
    });
    wait_until("the old leader knows that it does not lead", MINUTE, || {
        !all.leads(first)
    });
    all.rotates(1);
    wait_for_changes(&changes, 5);
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");
    all.faults[first].set(Fault::None);
    all.faults[first].network(Network::Open);
    wait_until("what was sent has arrived", MINUTE, || {
        all.faults[first].held().1 > 0
    });
    wait_until("the old leader is ready again", MINUTE, || {
        all.service.is_ready(first)
    });
    assert!(
        all.memory().contains("milvus-b"),
        "the record of the successor must not be overwritten"
    );
    all.rotates(1);
    assert!(all.leads(second) && !all.leads(first));
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");

    // The leader is killed. Reviews that it was processing are lost, and so denied; all others are
    // answered.
    let (killed, begun) = (changes.time(), Instant::now());
    all.servers[second].kill();
    wait_until("it gets no reviews any more", MINUTE, || {
        !all.service.is_ready(second)
    });
    let away = changes.time();
    let third = all.leader(&[second]);
    eprintln!(
        "another replica leads after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    all.rotates(1);
    wait_for_changes(&changes, 5);
    let lost = changes.take();
    eprintln!(
        "{} changes were denied because of the end of a replica: {lost:#?}",
        lost.len()
    );
    assert!(
        lost.iter()
            .all(|lost| lost.text.contains("failed calling webhook")
                && lost.at + lost.took >= killed
                && lost.at <= away),
        "{lost:#?}"
    );
    let (done, text) = helm(
        &all.cluster,
        "upgrade",
        &["--set", "extraConfigFiles.user\\.yaml=log: {level: debug}"],
    );
    assert!(done && !text.contains("could not record"), "{text}");
    let decisions = all.cluster.get_json(&format!(
        "/apis/guard.milvus.io/v1alpha1/namespaces/{GUARD}/releasedecisions"
    ));
    assert!(
        decisions["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one: &Value| one["spec"]["release"] == "my-release"),
        "{decisions:#}"
    );
    all.create("milvus-c");
    wait_until("the third leader writes", MINUTE, || {
        all.memory().contains("milvus-c")
    });
    assert!(all.leads(third));
}

#[test]
fn no_review_is_lost_while_the_ca_is_replaced_and_a_replica_lags() {
    let cluster = with_milvus();
    let now = Timestamp::now();
    // Two thirds of the lifetime of the CA have passed.
    let authority = Authority::make(ago(now, 250 * DAY)).unwrap();
    let leaf = authority.leaf(&names(), ago(now, DAY)).unwrap();
    put_secret(&cluster, &authority, &leaf);
    let all = Replicas::start_in(cluster);
    let changes = Changes::start(all.cluster.kubeconfig());
    let old = all.ends(0);
    let lagging = (all.leader(&[]) + 1) % 3;
    all.faults[lagging].blind(Some(Blind::Unreadable(&["milvus-guard-tls"])));
    wait_until("both authorities are trusted", MINUTE, || {
        all.trusted() == 2
    });
    let others = || (0..3).filter(|number| *number != lagging);
    assert!(
        (0..3).all(|number| all.ends(number) <= old),
        "no new certificate may be served before every API server trusts the new CA"
    );
    wait_until("the others serve a new certificate", 3 * MINUTE, || {
        others().all(|number| all.ends(number) > old)
    });
    assert!(all.ends(lagging) <= old, "one replica must lag");
    wait_for_changes(&changes, 5);
    assert_eq!(
        all.trusted(),
        2,
        "the old CA must stay trusted for the lagging replica"
    );
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");
    all.faults[lagging].blind(None);
    wait_until("the last one serves a new certificate", MINUTE, || {
        all.ends(lagging) > old
    });
    wait_for_changes(&changes, 5);
    let lost = changes.take();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(denied(&all.cluster).contains("MG201"));
}

#[test]
fn with_a_slow_api_server_reviews_are_answered_in_time_and_unsafe_changes_denied() {
    const SLOW: Duration = Duration::from_secs(5);
    let (cluster, folder) = (with_milvus(), tempfile::tempdir().unwrap());
    let account = cluster.kubeconfig_for_service_account(GUARD, "milvus-guard");
    let faults = Faults::start(&account, folder.path());
    let server = starts_through(&faults, folder.path(), &["--tls-managed"]);
    wait_until("the gate works", MINUTE, || {
        denied(&cluster).contains("MG201")
    });
    let changes = Changes::start(cluster.kubeconfig());
    wait_for_changes(&changes, 5);
    assert_eq!(changes.take().len(), 0);

    faults.network(Network::Slow(SLOW));
    // Long enough for each watch to end and to start again.
    let begun = changes.time();
    wait_until("some time", MINUTE, || {
        changes.time() > begun + Duration::from_secs(30)
    });
    let lost = changes.take();
    eprintln!(
        "{} of {} changes could not be judged: {:?}",
        lost.len(),
        changes.rounds() * 2,
        lost.last()
    );
    let clear = |text: &str| {
        text.contains("milvus-guard could not check this change") && text.contains("Try again")
    };
    assert!(
        lost.iter()
            .all(|lost| clear(&lost.text) && lost.took <= SLOW),
        "{lost:#?}"
    );
    assert!(
        lost.len() <= 2,
        "each watch must start before the last one ends: {lost:#?}"
    );
    let (done, text) = helm(
        &cluster,
        "upgrade",
        &["--set", "extraConfigFiles.user\\.yaml=log: {level: debug}"],
    );
    assert!(done, "{text}");
    assert!(
        changes.slowest() < SLOW,
        "other workloads must not wait for the network: {:?}",
        changes.slowest()
    );

    faults.network(Network::Open);
    wait_until("the guard knows everything again", MINUTE, || {
        let _ = changes.take();
        wait_for_changes(&changes, 3);
        changes.take().is_empty() && is_fresh(&server)
    });
    drop(changes);

    // The API server restarts.
    cluster.api_server().kill();
    wait_until("the guard says so", MINUTE, || {
        !is_fresh(&server) || server.readiness().0 == 503
    });
    cluster.api_server().restart();
    wait_until("the gate works again", MINUTE, || {
        let text = denied(&cluster);
        assert!(!text.contains("image updated"), "{text}");
        text.contains("MG201")
    });
    wait_until("the guard knows everything again", MINUTE, || {
        is_fresh(&server) && server.readiness().0 == 200
    });
    let changes = Changes::start(cluster.kubeconfig());
    wait_for_changes(&changes, 5);
    assert_eq!(changes.take().len(), 0);
}

/// Whether the metrics show that every kind is watched.
fn is_fresh(server: &Server) -> bool {
    let text = server.get_metrics();
    let ages = text.lines().filter_map(|line| {
        line.strip_prefix("milvus_guard_cache_age_seconds")?
            .split_once(' ')
    });
    let ages: Vec<f64> = ages.map(|(_, age)| age.parse().unwrap()).collect();
    !ages.is_empty() && ages.iter().all(|age| *age < 12.0)
}
