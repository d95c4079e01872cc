//! `serve`: the admission webhook.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

use milvus_guard_core::{
    admission::review_context::Accounts, evidence::Facts, milvus::NamespaceState, policy::PolicySet,
};
use milvus_guard_sources::{files::load_place, kubernetes::Cluster};
use milvus_guard_webhook::{
    certs::{
        CertFiles, CertStore, Certificate, Managed, POLL, Reload,
        authority::self_signed,
        managed::{Registers, service_names},
        server_config,
    },
    server::{
        answer::{Answerer, FailurePolicies, FailurePolicy},
        callers::{Callers, Known, LastRead, PathSecret, Times},
        data::{Data, DataFiles},
        events::EventSink,
        gauges::Gauges,
        leader::Leader,
        leader_tasks::LeaderTasks,
        lifecycle::{Condition, Lifecycle, until_told},
        listen::{Port, Transport},
        metrics::Metrics,
        registration::{Authority, Registrar},
        replica_lease::ReplicaLease,
        routes::{self, App},
        self_check,
        state_source::{Files, Live, StateSource, Watching},
        watch,
        watch_cache::WatchCache,
    },
};

use super::{
    exit::{Done, Exit, Failure},
    gather::{self, ClusterArgs},
    hold::HoldArgs,
    policies,
};

/// Names for which a self-signed certificate is made.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The periodic audit of the running releases.
#[derive(Debug, ClapArgs)]
struct AuditArgs {
    /// Time between two audits of the running releases; 0 for none
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    audit_interval: Duration,

    /// Write what the audit finds as Reports of the OpenReports project, where the kind is served
    #[arg(long)]
    open_reports: bool,
}

/// Arguments of `serve`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
In a cluster the chart charts/milvus-guard sets these flags; docs/webhook.md describes the gates.
To try the webhook without a cluster:
  milvus-guard serve --no-cluster --tls-self-signed \\
    --listen 127.0.0.1:8443 --before running.yaml

Exit codes: 0 stopped by a signal, 2 wrong usage or unreadable input, 3 no cluster, no certificate or \
                        no port.")]
pub(super) struct Args {
    /// Address of the webhook (TLS); port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,

    /// Address of the metrics (no TLS)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9090")]
    metrics_listen: SocketAddr,

    /// Certificate chain (PEM); reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key_file",
        help_heading = "Certificate"
    )]
    tls_cert_file: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert_file",
        help_heading = "Certificate"
    )]
    tls_key_file: Option<PathBuf>,

    /// Make and rotate the certificate, and keep it in a Secret
    #[arg(long, conflicts_with_all = ["tls_cert_file", "tls_self_signed", "no_cluster"], help_heading = "Certificate")]
    tls_managed: bool,

    /// Make a certificate for this process only (development)
    #[arg(long, conflicts_with = "tls_cert_file", help_heading = "Certificate")]
    tls_self_signed: bool,

    /// Where --tls-self-signed writes its authority, for clients that check it
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_self_signed",
        help_heading = "Certificate"
    )]
    tls_ca_out: Option<PathBuf>,

    /// Secret of --tls-managed
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard-tls",
        help_heading = "Certificate"
    )]
    tls_secret: String,

    /// Service through which the API server calls
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard",
        help_heading = "Certificate"
    )]
    service_name: String,

    /// Template of the webhook configurations (YAML), which the leading replica registers;
    /// reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "no_cluster",
        help_heading = "Registration"
    )]
    webhook_registration: Option<PathBuf>,

    /// Name of the validating and the mutating webhook configuration
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard",
        help_heading = "Registration"
    )]
    webhook_configuration: String,

    /// Cluster role that owns them: if it is deleted, they are deleted too
    #[arg(long, value_name = "NAME", help_heading = "Registration")]
    webhook_owner: Option<String>,

    /// Authority that API servers must trust (PEM), for a certificate that the guard does not make;
    /// reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "tls_managed",
        help_heading = "Registration"
    )]
    webhook_ca_file: Option<PathBuf>,

    /// Secret in which the guard keeps the secret part of the webhook's path
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard-path",
        help_heading = "Registration"
    )]
    path_secret: String,

    /// Time after which another secret path is made
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration, help_heading = "Registration")]
    path_lifetime: Duration,

    /// Time that replicas have to learn of a new secret path before it is registered
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, help_heading = "Registration")]
    path_settle: Duration,

    /// Time for which an old secret path is still answered after the new one was registered
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Registration")]
    path_grace: Duration,

    /// Answer only clients with a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Certificate")]
    client_ca_file: Option<PathBuf>,

    /// Name that the client's certificate must have
    #[arg(
        long,
        value_name = "NAME",
        default_value = "kube-apiserver",
        requires = "client_ca_file",
        help_heading = "Certificate"
    )]
    client_name: String,

    /// Namespace of the guard
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "milvus-guard"
    )]
    namespace: String,

    /// The guard's own service account
    #[arg(long, value_name = "NAME", default_value = "milvus-guard")]
    service_account: String,

    /// The job's service account
    #[arg(long, value_name = "NAME", default_value = "milvus-guard-job")]
    job_service_account: String,

    /// What to do with a Helm release that cannot be checked
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = FailurePolicy::Ignore)]
    release_gate_failure_policy: FailurePolicy,

    /// What to do with an object that cannot be checked
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = FailurePolicy::Fail)]
    workload_gate_failure_policy: FailurePolicy,

    #[command(flatten)]
    audit: AuditArgs,

    /// How long to keep serving after SIGTERM, until no new reviews are sent
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    shutdown_delay: Duration,

    /// How long to wait after that for reviews in progress
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    drain_timeout: Duration,

    /// How long a watch lasts before the API server ends it, for tests
    #[arg(long, value_name = "DURATION", default_value = "290s", value_parser = duration, hide = true)]
    watch_timeout: Duration,

    /// Serve without a cluster, from files
    #[arg(long, help_heading = "Without a cluster")]
    no_cluster: bool,

    /// Current state: a file or a folder
    #[arg(
        long,
        value_name = "IN",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    before: Option<String>,

    /// Additional facts, as YAML or JSON (see docs/schemas/facts.json)
    #[arg(
        long,
        value_name = "FILE",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    facts: Option<PathBuf>,

    /// Policies and exceptions: a file or a folder; may be repeated
    #[arg(
        long,
        value_name = "FILE|DIR",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    policy: Vec<PathBuf>,

    /// File or folder with rows that add to or override the built-in data; reloaded on changes; may
    /// be repeated
    #[arg(long, value_name = "FILE|DIR")]
    data: Vec<PathBuf>,

    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    #[command(flatten)]
    hold: HoldArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A duration such as `10s`, `5m` or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("'{text}' is not a valid duration; write 10s or 5m"))
}

pub(super) fn run(args: Args) -> Done {
    log(args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::no_verdict(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(serve(args))
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("milvus_guard=info,warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_target(false)
            .try_init(),
    };
}

#[expect(
    clippy::too_many_lines,
    reason = "the parts of the server in the order in which they start"
)]
async fn serve(args: Args) -> Done {
    let accounts = Accounts::new(
        &args.namespace,
        &args.service_account,
        &args.job_service_account,
    );
    let metrics = Arc::new(Metrics::new());
    let follower = DataFiles::new(args.data.clone())
        .open(Arc::clone(&metrics))
        .map_err(Failure::usage)?;
    let data = follower.data();
    if !args.data.is_empty() {
        tokio::spawn(follower.follow(POLL));
    }
    let certificates = CertStore::new();
    let in_cluster = !args.no_cluster;
    let life = Arc::new(Lifecycle::new(conditions(in_cluster)));
    let bind = async |address| {
        Port::bind(address)
            .await
            .map_err(|error| Failure::no_verdict(format!("cannot listen on {address}: {error}")))
    };
    let (port, metrics_port) = (bind(args.listen).await?, bind(args.metrics_listen).await?);

    let cluster = if in_cluster {
        Some(
            Cluster::connect(&args.cluster.access())
                .await
                .map_err(Failure::no_verdict)?,
        )
    } else {
        None
    };
    let leader = match &cluster {
        Some(cluster) => Leader::start(cluster.client().clone(), &args.namespace, &identity(&port)),
        None => Leader::default(),
    };
    certificate(&args, cluster.as_ref(), &certificates, &leader).await?;

    let secret = match &cluster {
        Some(cluster) => Some(path_secret(&args, cluster)?),
        None => None,
    };
    let (callers, last_read) = match &secret {
        Some(secret) => {
            let (known, last_read) = callers(secret).await?;
            (Callers::Known(known), Some(last_read))
        }
        None => (Callers::Anybody, None),
    };

    let (mut store, mut presence) = (None, None);
    let (world, events) = match cluster {
        None => (
            StateSource::Files(Box::new(files(&args, accounts, data)?)),
            None,
        ),
        Some(cluster) => {
            let client = cluster.client().clone();
            let kept = Arc::new(WatchCache::new(&args.namespace));
            let watcher = Cluster::watcher(&args.cluster.access())
                .await
                .map_err(Failure::no_verdict)?;
            watch::start(&watcher, &kept, &args.namespace, args.watch_timeout);
            let events = EventSink::start(client.clone());
            let duties = LeaderTasks {
                client: client.clone(),
                namespace: args.namespace.clone(),
                store: Arc::clone(&kept),
                leader: leader.clone(),
                metrics: Arc::clone(&metrics),
                data: data.clone(),
                events: events.clone(),
                reports_policies: args.audit.open_reports,
                audit_every: (!args.audit.audit_interval.is_zero())
                    .then_some(args.audit.audit_interval),
            };
            tokio::spawn(duties.run());
            args.hold
                .release(&args.cluster, &args.namespace, &leader, &kept, &metrics)
                .await?;
            register(&args, secret, &leader, &life, &kept);
            let here = presence_of(&args.namespace, &client, &port, &kept, &life);
            presence = Some((here.clone(), tokio::spawn(here.run())));
            let kubernetes = cluster.version().await.ok();
            store = Some(Arc::clone(&kept));
            let namespace = args.namespace.clone();
            let watching = Watching {
                cluster,
                namespace,
                store: kept,
                kubernetes,
                accounts,
                holding: args.hold.holding(),
                catalogue: data,
                live: Live::default(),
            };
            (StateSource::Cluster(Box::new(watching)), Some(events))
        }
    };
    let failure = FailurePolicies {
        release: args.release_gate_failure_policy,
        workload: args.workload_gate_failure_policy,
    };
    let answerer = Arc::new(Answerer::new(world, Arc::clone(&metrics), events, failure));
    let client_ca = match &args.client_ca_file {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        ),
        None => None,
    };
    let config =
        server_config(certificates.clone(), client_ca.as_deref()).map_err(Failure::usage)?;
    let app = App::new(
        answerer,
        Arc::clone(&life),
        client_ca.is_some().then_some(args.client_name.as_str()),
        callers,
    );

    let refresh = Gauges {
        metrics: Arc::clone(&metrics),
        store,
        certificates: certificates.clone(),
        leader,
    };
    tokio::spawn(self_check::follow(
        Arc::clone(&life),
        refresh.clone(),
        port.address,
        last_read,
    ));
    // For people and scripts; a log in JSON stays JSON.
    match args.log_format {
        LogFormat::Json => {
            tracing::info!(address = %port.address, metrics = %metrics_port.address, "serving");
        }
        LogFormat::Text => {
            eprintln!(
                "milvus-guard: serving on https://{}, metrics on http://{}/metrics",
                port.address, metrics_port.address
            );
        }
    }
    tokio::spawn(metrics_port.serve(
        Transport::Plain,
        routes::metrics(metrics, Arc::clone(&life), move || refresh.refresh()),
        Arc::clone(&life),
        Duration::ZERO,
    ));
    let told = {
        let life = Arc::clone(&life);
        async move { until_told(&life, args.shutdown_delay).await }
    };
    tokio::join!(
        told,
        port.serve(
            Transport::tls(config),
            routes::webhook(app),
            life,
            args.drain_timeout
        )
    );
    if let Some((presence, task)) = presence {
        task.abort();
        presence.end().await;
    }
    tracing::info!("stopped");
    Ok(Exit::Clean)
}

/// What is known without a cluster.
fn files(args: &Args, accounts: Accounts, data: Data) -> Result<Files, Failure> {
    let place = match &args.before {
        Some(source) => load_place(source, None).map_err(Failure::usage)?,
        None => NamespaceState::default(),
    };
    let mut facts = gather::facts(args.facts.as_ref())?;
    milvus_guard_sources::files::evidence::complete(&place.snapshot, &mut facts);
    // No one else can be at work without a cluster.
    let facts = Facts {
        runs: facts.runs.or(Some(Vec::new())),
        ..facts
    };
    let policies = PolicySet {
        holding: args.hold.holding(),
        ..policies::set(policies::documents(&args.policy)?, Timestamp::now())
    };
    Ok(Files {
        place: Arc::new(place),
        facts,
        policies,
        accounts,
        catalogue: data,
        decisions: std::sync::Mutex::default(),
    })
}

/// Brings the first certificate, and sees to the next ones.
async fn certificate(
    args: &Args,
    cluster: Option<&Cluster>,
    store: &CertStore,
    leader: &Leader,
) -> Result<(), Failure> {
    let log = |event: Reload| match event {
        Reload::Loaded { not_after, .. } => {
            tracing::info!(%not_after, "a new certificate is in use");
        }
        Reload::Kept { reason } => tracing::warn!(
            reason,
            "a new certificate cannot be used; the previous one is kept"
        ),
        Reload::Stepped(step) => tracing::info!(?step, "certificate rotation advanced"),
    };
    if let (Some(cert), Some(key)) = (&args.tls_cert_file, &args.tls_key_file) {
        let files = CertFiles {
            cert: cert.clone(),
            key: key.clone(),
        };
        store.put(files.load().map_err(Failure::usage)?);
        tokio::spawn(files.follow(store.clone(), POLL, log));
        return Ok(());
    }
    if let (true, Some(cluster)) = (args.tls_managed, cluster) {
        let managed = Managed {
            client: cluster.client().clone(),
            namespace: args.namespace.clone(),
            secret: args.tls_secret.clone(),
            names: service_names(&args.service_name, &args.namespace),
            webhook_configuration: args.webhook_configuration.clone(),
            registers: Registers::Another,
        };
        store.put(
            managed
                .ensure(Timestamp::now())
                .await
                .map_err(Failure::no_verdict)?,
        );
        let leader = leader.clone();
        tokio::spawn(managed.follow(store.clone(), move || leader.is_me(), POLL, log));
        return Ok(());
    }
    if args.tls_self_signed {
        let names: Vec<String> = LOCAL_NAMES
            .iter()
            .map(ToString::to_string)
            .chain(service_names(&args.service_name, &args.namespace))
            .collect();
        let made = self_signed(&names, Timestamp::now()).map_err(Failure::no_verdict)?;
        if let Some(path) = &args.tls_ca_out {
            std::fs::write(path, &made.ca_pem)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        }
        let certificate = Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes())
            .map_err(Failure::no_verdict)?;
        store.put(certificate);
        return Ok(());
    }
    Err(Failure::usage(
        "the webhook needs a certificate: --tls-cert-file and --tls-key-file, --tls-managed in a \
         cluster, or --tls-self-signed to try it",
    ))
}

/// Where the secret part of the path is kept.
fn path_secret(args: &Args, cluster: &Cluster) -> Result<PathSecret, Failure> {
    let time =
        |duration: Duration| jiff::SignedDuration::try_from(duration).map_err(Failure::usage);
    Ok(PathSecret {
        client: cluster.client().clone(),
        namespace: args.namespace.clone(),
        name: args.path_secret.clone(),
        times: Times {
            life: time(args.path_lifetime)?,
            settle: time(args.path_settle)?,
            grace: time(args.path_grace)?,
        },
    })
}

/// Who may ask in a cluster, kept up to date.
async fn callers(secret: &PathSecret) -> Result<(Known, LastRead), Failure> {
    let known = Known::default();
    let (now, last) = (Timestamp::now(), secret.times.read_now());
    let tokens = secret.ensure(now).await.map_err(Failure::no_verdict)?;
    known.accept(&tokens, now, secret.times.keep());
    tokio::spawn(secret.clone().follow(known.clone(), last.clone()));
    Ok((known, last))
}

/// Has this replica register the webhooks when it leads.
fn register(
    args: &Args,
    secret: Option<PathSecret>,
    leader: &Leader,
    life: &Arc<Lifecycle>,
    store: &Arc<WatchCache>,
) {
    let (Some(template), Some(secret)) = (&args.webhook_registration, secret) else {
        return;
    };
    let registrar = Registrar {
        client: secret.client.clone(),
        namespace: args.namespace.clone(),
        name: args.webhook_configuration.clone(),
        template: template.clone(),
        owner: args.webhook_owner.clone(),
        authority: authority(args),
        secret,
        leader: leader.clone(),
        life: Arc::clone(life),
        store: Arc::clone(store),
    };
    tokio::spawn(registrar.run());
}

/// What must be so before this replica is ready.
const fn conditions(in_cluster: bool) -> &'static [Condition] {
    if in_cluster {
        &[
            Condition::Caches,
            Condition::Policies,
            Condition::Certificate,
            Condition::Port,
            Condition::ReplicaLease,
            Condition::Cluster,
        ]
    } else {
        &[Condition::Certificate, Condition::Port]
    }
}

fn presence_of(
    namespace: &str,
    client: &kube::Client,
    port: &Port,
    store: &Arc<WatchCache>,
    life: &Arc<Lifecycle>,
) -> ReplicaLease {
    ReplicaLease {
        client: client.clone(),
        namespace: namespace.to_owned(),
        replica: std::env::var("POD_NAME").unwrap_or_else(|_| identity(port)),
        pod_uid: std::env::var("POD_UID").ok(),
        store: Arc::clone(store),
        life: Arc::clone(life),
    }
}

/// Whom API servers are to trust.
fn authority(args: &Args) -> Authority {
    match &args.webhook_ca_file {
        _ if args.tls_managed => Authority::Secret(args.tls_secret.clone()),
        Some(path) => Authority::File(path.clone()),
        None => Authority::Template,
    }
}

/// The name under which this replica leads: the pod's, and something that tells two processes on
/// one host apart.
fn identity(port: &Port) -> String {
    let host = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "milvus-guard".into());
    format!("{host}_{}_{}", std::process::id(), port.address.port())
}
