//! The Lease that shows runs that this replica is alive, and which runs it knows: see
//! [`milvus_guard_sources::kubernetes::replicas`].

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};

use milvus_guard_core::error_text;
use milvus_guard_sources::kubernetes::replicas::{self, RENEW, lease_name};

use super::{
    MANAGER,
    lifecycle::{Condition, Lifecycle},
    watch_cache::WatchCache,
};

/// How often to check for new runs that the Lease must name.
const LOOK: Duration = Duration::from_millis(200);
/// Pause after a failed write.
const PAUSE: Duration = Duration::from_secs(2);
/// Limit for one write.
const DEADLINE: Duration = Duration::from_secs(5);

/// The Lease of this replica.
#[derive(Clone)]
pub struct ReplicaLease {
    /// The cluster.
    pub client: Client,
    /// The guard's namespace.
    pub namespace: String,
    /// Name of this replica: that of its pod, if there is one.
    pub replica: String,
    /// UID of its pod, which owns the Lease.
    pub pod_uid: Option<String>,
    /// The cache of the cluster.
    pub store: Arc<WatchCache>,
    /// Whether it is ready.
    pub life: Arc<Lifecycle>,
}

impl ReplicaLease {
    /// Writes the Lease until the process ends. The replica is not ready before the first write:
    /// a run does not wait for a replica that it cannot see.
    pub async fn run(self) {
        let mut written: Option<(BTreeSet<String>, Instant)> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.store.missing().is_empty() {
                continue;
            }
            let runs = self.store.runs_under_way();
            if written
                .as_ref()
                .is_some_and(|(known, at)| *known == runs && at.elapsed() < RENEW)
            {
                continue;
            }
            match self.write(&runs).await {
                Ok(()) => {
                    written = Some((runs, Instant::now()));
                    self.life.set(Condition::ReplicaLease, Ok(()));
                }
                Err(why) => {
                    if written.is_none() {
                        self.life.set(Condition::ReplicaLease, Err(why.clone()));
                    }
                    tracing::debug!(
                        reason = why,
                        "the Lease of this replica could not be written"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Deletes the Lease. Otherwise runs would wait until it expires.
    pub async fn end(&self) {
        let (api, name, params) = (
            self.api(),
            lease_name(&self.replica),
            DeleteParams::default(),
        );
        if let Ok(Err(error)) = tokio::time::timeout(DEADLINE, api.delete(&name, &params)).await {
            tracing::debug!(
                reason = error_text::chain(&error),
                "the Lease of this replica could not be deleted"
            );
        }
    }

    async fn write(&self, runs: &BTreeSet<String>) -> Result<(), String> {
        let (name, owner) = (
            lease_name(&self.replica),
            self.pod_uid.as_deref().map(|uid| (&*self.replica, uid)),
        );
        let object = replicas::object(&self.replica, owner, runs, Timestamp::now());
        let params = PatchParams::apply(MANAGER).force();
        let (api, patch) = (self.api(), Patch::Apply(object));
        match tokio::time::timeout(DEADLINE, api.patch(&name, &params, &patch)).await {
            Ok(done) => done.map(|_| ()).map_err(|error| error_text::chain(&error)),
            Err(_) => Err("the API server does not answer".into()),
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
