//! Who does what only one may do: a Lease, as Kubernetes' own controllers have it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

use crate::reason;

/// Name of the Lease in the guard's namespace.
pub const LEASE: &str = "milvus-guard-leader";
/// How long a Lease holds without renewal; after it another replica may lead.
const HOLDS: Duration = Duration::from_secs(15);
/// How often it is renewed: two tries may fail.
const RENEW: Duration = Duration::from_secs(5);

/// Whether this replica leads.
#[derive(Clone, Default)]
pub struct Leader(Arc<AtomicBool>);

impl Leader {
    /// Whether it does now.
    #[must_use]
    pub fn is_me(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Strives to lead, until the process ends.
    #[must_use]
    pub fn start(client: Client, namespace: &str, identity: String) -> Self {
        let leader = Self::default();
        let api = Api::namespaced(client, namespace);
        tokio::spawn(strive(api, identity, leader.clone()));
        leader
    }

    fn set(&self, leads: bool) {
        if self.0.swap(leads, Ordering::Relaxed) != leads {
            tracing::info!(leads, "leadership changed");
        }
    }
}

/// What was last seen of the Lease, and since when by our own clock: clocks of machines differ.
struct Seen {
    version: Option<String>,
    since: Instant,
}

async fn strive(api: Api<Lease>, identity: String, leader: Leader) {
    let mut seen = Seen { version: None, since: Instant::now() };
    let mut renewed = Instant::now();
    loop {
        match tokio::time::timeout(RENEW, attempt(&api, &identity, &mut seen)).await {
            Ok(Ok(true)) => {
                renewed = Instant::now();
                leader.set(true);
            }
            Ok(Ok(false)) => leader.set(false),
            Ok(Err(error)) => {
                tracing::debug!(reason = reason::chain(&error), "the Lease could not be renewed");
            }
            Err(_) => {}
        }
        // Before anybody else may take it.
        if renewed.elapsed() >= HOLDS.saturating_sub(RENEW) {
            leader.set(false);
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// Renews or takes the Lease; whether it is ours now.
async fn attempt(api: &Api<Lease>, identity: &str, seen: &mut Seen) -> Result<bool, kube::Error> {
    let Some(mut lease) = api.get_opt(LEASE).await? else {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() },
            spec: Some(spec(identity, None)),
        };
        return won(api.create(&PostParams::default(), &lease).await);
    };
    let old = lease.spec.take().unwrap_or_default();
    let mine = old.holder_identity.as_deref() == Some(identity);
    if seen.version != lease.metadata.resource_version {
        *seen = Seen { version: lease.metadata.resource_version.clone(), since: Instant::now() };
    }
    let free = old.holder_identity.as_deref().is_none_or(str::is_empty) || seen.since.elapsed() > HOLDS;
    if !mine && !free {
        return Ok(false);
    }
    lease.spec = Some(spec(identity, Some(old).filter(|_| mine)));
    won(api.replace(LEASE, &PostParams::default(), &lease).await)
}

fn spec(identity: &str, mine: Option<LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        acquire_time: mine.and_then(|mine| mine.acquire_time).or_else(|| Some(now.clone())),
        renew_time: Some(now),
        ..LeaseSpec::default()
    }
}

/// A write that came too late is no error: somebody else leads.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
