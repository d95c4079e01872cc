//! The managed mode against a real API server: replicas agree on a certificate, both configurations
//! get the CA, and clients that trust the registered CA can always connect during a rotation.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::Secret,
};
use kube::{Api, Client};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::ControlPlane;
use milvus_guard_webhook::certs::{
    CertError, CertStore, Managed, Reload,
    managed::{Registers, Replica, Role, service_names},
    rotation::Step,
    server_config,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "milvus-guard";
const SECRET: &str = "milvus-guard-tls";
const DAY: i64 = 24 * 60 * 60;
const DEADLINE: Duration = Duration::from_secs(60);

async fn client(kubeconfig: &Path) -> Client {
    let access = Access {
        kubeconfig: Some(kubeconfig.into()),
        context: None,
    };
    Cluster::connect(&access).await.unwrap().client().clone()
}

fn managed(client: &Client, secret: &str) -> Managed {
    Managed {
        client: client.clone(),
        namespace: "default".into(),
        secret: secret.into(),
        names: service_names(NAME, "default"),
        webhook_configuration: NAME.into(),
        registers: Registers::Itself,
    }
}

/// Both configurations as in the chart: without a CA bundle.
fn configurations() -> String {
    let webhook = |name: &str| {
        format!(
            "- name: {name}.guard.milvus.io\n  admissionReviewVersions: [v1]\n  sideEffects: None\n  timeoutSeconds: 7\n  \
             rules: [{{apiGroups: [example.org], apiVersions: [v1], operations: [CREATE], resources: [nothing]}}]\n  \
             clientConfig: {{service: {{name: {NAME}, namespace: default, path: /{name}}}}}\n"
        )
    };
    ["Validating", "Mutating"]
        .map(|kind| {
            format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: {kind}WebhookConfiguration\nmetadata: {{name: {NAME}}}\n\
                 webhooks:\n{}{}",
                webhook("validate"),
                webhook("also")
            )
        })
        .join("---\n")
}

/// The CA bundles of all webhooks in both configurations.
async fn bundles(client: &Client) -> Vec<String> {
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone())
        .get(NAME)
        .await
        .unwrap();
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone())
        .get(NAME)
        .await
        .unwrap();
    let validating = validating
        .webhooks
        .unwrap()
        .into_iter()
        .map(|webhook| webhook.client_config.ca_bundle);
    let mutating = mutating
        .webhooks
        .unwrap()
        .into_iter()
        .map(|webhook| webhook.client_config.ca_bundle);
    validating
        .chain(mutating)
        .map(|bundle| String::from_utf8(bundle.unwrap_or_default().0).unwrap())
        .collect()
}

fn authorities(bundle: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle.as_bytes())
        .map(Result::unwrap)
        .collect()
}

/// The clock of a test, for replicas and clients.
#[derive(Clone, Debug)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(
            "2026-03-01T00:00:00Z"
                .parse::<Timestamp>()
                .unwrap()
                .as_second(),
        )))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.now().as_second().try_into().ok()?,
        )))
    }
}

/// A server that only makes TLS handshakes.
async fn serve(store: &CertStore) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(store.clone(), None).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    address
}

/// Connects as an API server that trusts only this bundle.
async fn connect(address: SocketAddr, bundle: &str, clock: &Clock) -> Result<(), std::io::Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities(bundle) {
        roots.add(authority).unwrap();
    }
    let mut config = ClientConfig::builder_with_details(
        Arc::new(aws_lc_rs::default_provider()),
        Arc::new(clock.clone()),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(format!("{NAME}.default.svc")).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, TcpStream::connect(address).await?)
        .await
        .map(|_| ())
}

fn failures(events: &[Reload]) -> Vec<&Reload> {
    events
        .iter()
        .filter(|event| matches!(event, Reload::Kept { .. }))
        .collect()
}

fn steps(events: &[Reload]) -> Vec<Step> {
    events
        .iter()
        .filter_map(|event| {
            if let Reload::Stepped(step) = event {
                Some(*step)
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_on_one_certificate() {
    let cluster = ControlPlane::start();
    let client = client(cluster.kubeconfig()).await;
    let now = Clock::new().now();
    for round in 0..5 {
        let name = format!("race-{round}");
        if round % 2 == 1 {
            // A chart may create the empty Secret, so that it is deleted with the release.
            cluster.apply(&format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, labels: {{a: b}}}}}}"
            ));
        }
        let (one, two) = (managed(&client, &name), managed(&client, &name));
        let (one, two) = tokio::join!(tokio::spawn(async move { one.ensure(now).await }), async {
            two.ensure(now).await
        });
        assert_eq!(
            one.unwrap().unwrap().digest(),
            two.unwrap().digest(),
            "round {round}"
        );
        let secret = Api::<Secret>::namespaced(client.clone(), "default")
            .get(&name)
            .await
            .unwrap();
        assert_eq!(
            secret.data.unwrap().keys().collect::<Vec<_>>(),
            ["ca.crt", "ca.key", "tls.crt", "tls.key"]
        );
        assert_eq!(
            secret.metadata.labels.is_some(),
            round % 2 == 1,
            "labels of others must be kept"
        );
    }

    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: foreign}, stringData: {tls.crt: a, tls.key: b, ca.crt: c}}");
    let error = managed(&client, "foreign").ensure(now).await.unwrap_err();
    assert!(matches!(error, CertError::ForeignSecret { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_get_the_ca_once_they_exist_and_stay_owned_by_the_chart() {
    let cluster = ControlPlane::start();
    let client = client(cluster.kubeconfig()).await;
    let (clock, store) = (Clock::new(), CertStore::new());
    let mut leader = Replica::new(managed(&client, SECRET), store.clone());
    let events = leader.poll(Role::Leader, clock.now()).await;
    assert!(
        failures(&events).is_empty(),
        "a guard must be able to start before its configurations exist: {events:?}"
    );
    assert_eq!(
        (
            store.status().reload_failures,
            store.status().authority_not_after
        ),
        (0, None)
    );
    assert_eq!(
        store
            .current()
            .unwrap()
            .not_after()
            .duration_since(clock.now())
            .as_secs(),
        30 * DAY
    );

    for round in 0..2 {
        cluster.apply(&configurations());
        let events = leader.poll(Role::Leader, clock.now()).await;
        assert_eq!(
            steps(&events),
            if round == 0 {
                vec![Step::Register]
            } else {
                vec![]
            },
            "an upgrade must not remove the CA"
        );
        let secret = Api::<Secret>::namespaced(client.clone(), "default")
            .get(SECRET)
            .await
            .unwrap();
        let bundle = String::from_utf8(secret.data.unwrap()["ca.crt"].0.clone()).unwrap();
        assert_eq!(bundles(&client).await, vec![bundle; 4]);
    }
    assert_eq!(
        store
            .status()
            .authority_not_after
            .unwrap()
            .duration_since(clock.now())
            .as_secs(),
        365 * DAY
    );
    let path =
        format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}");
    let object = cluster.get_json(&path);
    let described: Vec<_> = (0..2)
        .map(|i| {
            [
                &object["webhooks"][i]["clientConfig"]["service"]["path"],
                &object["webhooks"][i]["timeoutSeconds"],
            ]
        })
        .collect();
    assert_eq!(
        format!("{described:?}"),
        r#"[[String("/validate"), Number(7)], [String("/also"), Number(7)]]"#
    );

    let spoiled = format!(
        "{{\"webhooks\": [{{\"name\": \"also.guard.milvus.io\", \"clientConfig\": {{\"caBundle\": \
         \"{}\"}}}}]}}",
        { BASE64_STANDARD.encode(bundles(&client).await[0].repeat(2)) }
    );
    cluster.kubectl([
        "patch",
        "mutatingwebhookconfiguration",
        NAME,
        "-p",
        &spoiled,
    ]);
    assert_eq!(
        steps(&leader.poll(Role::Leader, clock.now()).await),
        [Step::Register],
        "a CA written by others must be corrected"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_reported_once_and_a_successor_continues() {
    let cluster = ControlPlane::start();
    cluster.apply(&configurations());
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: half, namespace: default}\nrules:\n- {apiGroups: [\"\"], resources: [secrets], verbs: [get, create, patch]}\n",
    );
    cluster.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: half, namespace: default}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: half}\nsubjects: [{kind: User, name: half}]\n",
    );
    let (admin, half) = (
        client(cluster.kubeconfig()).await,
        client(&cluster.kubeconfig_for("half", &[])).await,
    );
    let (clock, stores) = (Clock::new(), [CertStore::new(), CertStore::new()]);
    let mut first = Replica::new(managed(&half, SECRET), stores[0].clone());
    let mut second = Replica::new(managed(&admin, SECRET), stores[1].clone());

    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(first.poll(Role::Leader, clock.now()).await);
    }
    assert_eq!(
        (failures(&said).len(), stores[0].status().reload_failures),
        (1, 1),
        "{said:?}"
    );
    assert!(
        format!("{said:?}")
            .contains("not allowed to get ValidatingWebhookConfiguration milvus-guard"),
        "{said:?}"
    );
    assert!(
        stores[0].current().is_some(),
        "its certificate must exist nevertheless"
    );
    clock.advance(20 * DAY);
    assert_eq!(
        steps(&first.poll(Role::Leader, clock.now()).await),
        [Step::RenewLeaf],
        "a renewal must not need the registration"
    );

    assert_eq!(
        steps(&second.poll(Role::Leader, clock.now()).await),
        [Step::Register]
    );
    assert!(first.poll(Role::Follower, clock.now()).await.is_empty());
    assert_eq!(
        stores[0].current().unwrap().digest(),
        stores[1].current().unwrap().digest()
    );
}

/// Observations of a client that connects continuously.
#[derive(Default)]
struct Seen {
    passes: AtomicUsize,
    widest: AtomicUsize,
    authorities: Mutex<BTreeSet<Vec<u8>>>,
    refused: Mutex<Vec<String>>,
}

/// Connects to all servers continuously, with the CA bundle that each webhook has at that time.
async fn watch(client: Client, servers: Vec<SocketAddr>, clock: Clock, seen: Arc<Seen>) {
    loop {
        for bundle in bundles(&client).await.into_iter().collect::<BTreeSet<_>>() {
            let held = authorities(&bundle);
            seen.widest.fetch_max(held.len(), Ordering::SeqCst);
            seen.authorities
                .lock()
                .unwrap()
                .extend(held.iter().map(|der| der.to_vec()));
            for server in &servers {
                if let Err(error) = connect(*server, &bundle, &clock).await {
                    seen.refused
                        .lock()
                        .unwrap()
                        .push(format!("{}: {server}: {error}", clock.now()));
                }
            }
        }
        seen.passes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Seen {
    /// Waits for two full rounds of the client: the first may have started before the change.
    async fn rounds(&self) {
        let wanted = self.passes.load(Ordering::SeqCst) + 2;
        let reached = async {
            while self.passes.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached)
            .await
            .expect("the client must still connect");
        let refused = self.refused.lock().unwrap();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

/// Three rotations on a simulated clock, while a client continuously connects to both replicas.
async fn rotate(roles: [Role; 2]) {
    let cluster = ControlPlane::start();
    cluster.apply(&configurations());
    let client = client(cluster.kubeconfig()).await;
    let (clock, stores) = (Clock::new(), [CertStore::new(), CertStore::new()]);
    let mut one = Replica::new(managed(&client, SECRET), stores[0].clone());
    let mut two = Replica::new(managed(&client, SECRET), stores[1].clone());
    let mut done = Vec::new();
    let mut poll = async |clock: &Clock, done: &mut Vec<Step>| {
        let now = clock.now();
        let (first, second) = tokio::join!(one.poll(roles[0], now), two.poll(roles[1], now));
        for events in [first, second] {
            assert!(failures(&events).is_empty(), "{now}: {events:?}");
            done.extend(steps(&events));
        }
    };
    poll(&clock, &mut done).await;
    let seen = Arc::new(Seen::default());
    let servers = vec![serve(&stores[0]).await, serve(&stores[1]).await];
    let watcher = tokio::spawn(watch(
        client.clone(),
        servers,
        clock.clone(),
        Arc::clone(&seen),
    ));

    let count = |done: &[Step], step: Step| done.iter().filter(|one| **one == step).count();
    while count(&done, Step::DropAuthorities) < 3 {
        // Nine days are less than the third of a lifetime that is left at a renewal. During a
        // rotation, the minute and the hour for which the rotation waits.
        let rotating = count(&done, Step::AddAuthority) > count(&done, Step::DropAuthorities);
        for seconds in if rotating {
            [10, 60, 60 * 60]
        } else {
            [9 * DAY, 10, 10]
        } {
            clock.advance(seconds);
            poll(&clock, &mut done).await;
            seen.rounds().await;
        }
    }
    watcher.abort();
    assert_eq!(count(&done, Step::AddAuthority), 3, "{done:?}");
    assert_eq!(
        seen.widest.load(Ordering::SeqCst),
        2,
        "at most the old and the new CA may be in the bundle"
    );
    assert_eq!(
        seen.authorities.lock().unwrap().len(),
        4,
        "the first CA and three more"
    );
    assert!(
        count(&done, Step::Create) <= 1,
        "only one certificate may be created, by any replica: {done:?}"
    );
    poll(&clock, &mut done).await;
    assert_eq!(
        stores[0].current().unwrap().digest(),
        stores[1].current().unwrap().digest()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_can_always_connect_while_the_leader_rotates() {
    rotate([Role::Leader, Role::Follower]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaders_at_the_same_time_break_nothing() {
    rotate([Role::Leader, Role::Leader]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_misses_a_rotation_is_trusted_until_the_old_ca_is_removed() {
    let cluster = ControlPlane::start();
    cluster.apply(&configurations());
    let client = client(cluster.kubeconfig()).await;
    let clock = Clock::new();
    let stores = [CertStore::new(), CertStore::new(), CertStore::new()];
    let mut replicas = stores
        .clone()
        .map(|store| Replica::new(managed(&client, SECRET), store));
    let mut done = Vec::new();
    let mut poll = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let role = if number == 0 {
                Role::Leader
            } else {
                Role::Follower
            };
            let events = replicas[number].poll(role, clock.now()).await;
            assert!(failures(&events).is_empty(), "{}: {events:?}", clock.now());
            done.extend(steps(&events));
        }
        done.clone()
    };
    poll(0..3).await;
    let mut servers = Vec::new();
    for store in &stores {
        servers.push(serve(store).await);
    }
    let seen = Arc::new(Seen::default());
    let watcher = tokio::spawn(watch(
        client.clone(),
        servers,
        clock.clone(),
        Arc::clone(&seen),
    ));
    // As in `rotate`: two more polls after a jump, so that each replica serves the renewed
    // certificate.
    'until_rotating: loop {
        for seconds in [9 * DAY, 10, 10] {
            clock.advance(seconds);
            if poll(0..3).await.contains(&Step::AddAuthority) {
                break 'until_rotating;
            }
            seen.rounds().await;
        }
    }

    // The third replica is disconnected for 55 minutes. It is not ready meanwhile, but clients can
    // still connect to it.
    for seconds in [10, 60, 10, 54 * 60] {
        clock.advance(seconds);
        let done = poll(0..2).await;
        assert!(!done.contains(&Step::DropAuthorities), "{done:?}");
        seen.rounds().await;
    }
    let digests = stores
        .clone()
        .map(|store| store.current().unwrap().digest().to_owned());
    assert!(
        digests[0] == digests[1] && digests[1] != digests[2],
        "only the third replica must still serve the old certificate"
    );
    poll(2..3).await;
    assert_eq!(stores[2].current().unwrap().digest(), digests[0]);
    clock.advance(10 * 60);
    assert!(poll(0..3).await.contains(&Step::DropAuthorities));
    seen.rounds().await;
    watcher.abort();
}
