//! Connects the server to its cluster: the secret path, the accepted callers, the webhook
//! configurations, and the Lease of this replica.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use milvus_guard_sources::kubernetes::Cluster;
use milvus_guard_webhook::server::{
    callers::{AcceptedSecrets, LastRead, PathSecret, Times},
    leader::Leader,
    lifecycle::Lifecycle,
    listen::Port,
    registration::Registrar,
    replica_lease::ReplicaLease,
    watch_cache::WatchCache,
};

use super::{args::Args, certificate::authority};
use crate::cli::exit::Failure;

/// The Secret that stores the secret part of the path.
pub(super) fn path_secret(args: &Args, cluster: &Cluster) -> Result<PathSecret, Failure> {
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

/// The accepted callers in a cluster, kept up to date.
pub(super) async fn callers(secret: &PathSecret) -> Result<(AcceptedSecrets, LastRead), Failure> {
    let known = AcceptedSecrets::default();
    let (now, last) = (Timestamp::now(), secret.times.read_now());
    let tokens = secret.ensure(now).await.map_err(Failure::no_verdict)?;
    known.accept(&tokens, now, secret.times.keep());
    tokio::spawn(secret.clone().follow(known.clone(), last.clone()));
    Ok((known, last))
}

/// Makes this replica register the webhooks while it leads.
pub(super) fn register(
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
        holds: args.hold.holding().scope,
    };
    tokio::spawn(registrar.run());
}

pub(super) fn presence_of(
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

/// The name of this replica in the leader election: the name of the pod, and a part that
/// distinguishes two processes on one host.
pub(super) fn identity(port: &Port) -> String {
    let host = std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "milvus-guard".into());
    format!("{host}_{}_{}", std::process::id(), port.address.port())
}
