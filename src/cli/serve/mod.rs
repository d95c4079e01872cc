//! `serve`: the admission webhook.

mod args;
mod certificate;
mod registration;

use std::{io::IsTerminal, sync::Arc, time::Duration};

use args::LogFormat;
use certificate::certificate;
use jiff::Timestamp;
use milvus_guard_core::{
    admission::review_state::Accounts, evidence::Facts, milvus::NamespaceState, policy::PolicySet,
};
use milvus_guard_sources::{files::load_place, kubernetes::Cluster};
use milvus_guard_webhook::{
    certs::{CertStore, POLL, server_config},
    server::{
        PolicyReportsOwner,
        answer::{Answerer, FailurePolicies},
        callers::Callers,
        data::{Data, DataFiles},
        events::EventSink,
        gauges::Gauges,
        leader::Leader,
        leader_tasks::LeaderTasks,
        lifecycle::{Condition, Lifecycle, until_told},
        listen::{Port, Transport},
        metrics::Metrics,
        routes::{self, App},
        self_check,
        state_source::{Files, Live, StateSource, Watching},
        watch,
        watch_cache::WatchCache,
    },
};
use registration::{callers, identity, path_secret, presence_of, register};
use tracing_subscriber::EnvFilter;

use crate::cli::{
    exit::{Done, Exit, Failure},
    gather, policies,
};

pub(super) use args::Args;

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
    // Only tests set a second subscriber in one process; the first one stays.
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
                policy_reports: args.audit.open_reports.then(|| PolicyReportsOwner {
                    cluster_role: args.audit.open_reports_owner.clone(),
                }),
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

/// Reads the inputs for `--no-cluster`.
fn files(args: &Args, accounts: Accounts, data: Data) -> Result<Files, Failure> {
    let place = match &args.before {
        Some(source) => load_place(source, None).map_err(Failure::usage)?,
        None => NamespaceState::default(),
    };
    let mut facts = gather::facts(args.facts.as_ref())?;
    milvus_guard_sources::files::evidence::complete(&place.snapshot, &mut facts);
    // Without a cluster there are no other runs.
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

/// The conditions that must hold before this replica is ready.
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
