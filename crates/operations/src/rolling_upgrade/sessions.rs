//! The connection to etcd, where the sessions of Milvus show which coordinator is active and which
//! nodes live. It is opened once.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, api::ListParams};
use tokio::time::timeout;

use crate::engine::{
    self, EtcdAccess, RetryingClient,
    etcd::{self, UnknownEtcd},
};
use milvus_guard_core::milvus::Release;
use milvus_guard_metadata::{
    executor::{MetaError, Registered, Registry, Target},
    model::sessions::Session,
};
use milvus_guard_sources::{
    etcd::{Endpoint, failure::Failure},
    kubernetes::pods::is_ready,
};

use super::context::{SessionRun, Sessions};

/// Time limit of one answer. The run does not depend on the answer alone.
const ANSWER: Duration = Duration::from_secs(2);

/// Why the sessions of Milvus in etcd cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The addresses of etcd are unknown.
    #[error(transparent)]
    Address(#[from] UnknownEtcd),
    /// etcd did not answer in time.
    #[error("no answer within {} s", ANSWER.as_secs())]
    Silent,
    /// etcd cannot be used, or has no sessions of Milvus.
    #[error("{}", .0.why())]
    Connection(MetaError),
    /// etcd failed to do what was requested.
    #[error("{}", .0.reason)]
    Request(Failure),
}

impl Sessions {
    /// The sessions of Milvus' components; `None` if etcd cannot be read. If it can never be
    /// reached, the user is told once.
    pub async fn read<D: SessionRun>(
        &self,
        cx: &engine::StepContext<'_, D>,
    ) -> Option<Vec<Session>> {
        let all = self.registered(cx).await?;
        Some(all.into_iter().map(|one| one.session).collect())
    }

    /// The same sessions, each with its lease and its revision.
    pub async fn registered<D: SessionRun>(
        &self,
        cx: &engine::StepContext<'_, D>,
    ) -> Option<Vec<Registered>> {
        let registry = self.registry(cx).await?;
        timeout(ANSWER, registry.read()).await.ok()?.ok()
    }

    /// Removes sessions of one lease if they are unchanged. Returns whether they were removed.
    ///
    /// # Errors
    /// If etcd failed to do it.
    pub async fn release<D: SessionRun>(
        &self,
        cx: &engine::StepContext<'_, D>,
        ended: &[&Registered],
    ) -> Result<bool, SessionsError> {
        let Some(registry) = self.registry(cx).await else {
            return Ok(false);
        };
        let released = registry.release(ended).await;
        released.map_err(SessionsError::Request)
    }

    /// Whether etcd can be reached.
    pub async fn is_reached<D: SessionRun>(&self, cx: &engine::StepContext<'_, D>) -> bool {
        self.registry(cx).await.is_some()
    }

    async fn registry<D: SessionRun>(&self, cx: &engine::StepContext<'_, D>) -> Option<&Registry> {
        self.0.get_or_init(|| reached(cx)).await.as_ref()
    }
}

async fn reached<D: SessionRun>(cx: &engine::StepContext<'_, D>) -> Option<Registry> {
    let (namespace, access) = (&cx.data.name().namespace, cx.data.etcd());
    match reach(cx.client, cx.data.release(), namespace, access).await {
        Ok(registry) => Some(registry),
        Err(why) => {
            let text = format!("could not ask etcd which coordinators are active: {why}");
            if access.addresses.is_empty() {
                cx.reporter()
                    .note(format!("{text}; -e gives its addresses"));
            } else {
                cx.reporter().warn(text);
            }
            None
        }
    }
}

/// Connects to the sessions of a release.
///
/// # Errors
/// Why etcd cannot be reached, or what it does not contain.
pub async fn reach(
    client: &RetryingClient,
    release: &Release,
    namespace: &str,
    access: &EtcdAccess,
) -> Result<Registry, SessionsError> {
    let by_name = endpoint(release, namespace, access)?;
    let why = match connect(&by_name).await {
        Ok(registry) => return Ok(registry),
        Err(why) => why,
    };
    // Names of Services can be resolved only in the cluster; on some networks outside it their
    // addresses can be reached.
    let addresses = by_ip(client, &by_name.addresses).await;
    if addresses.is_empty() {
        return Err(why);
    }
    let by_ip = Endpoint {
        addresses,
        ..by_name
    };
    connect(&by_ip).await.map_err(|_| why)
}

async fn connect(endpoint: &Endpoint) -> Result<Registry, SessionsError> {
    let mut target = Target::new(endpoint.clone());
    target.patience = ANSWER;
    timeout(ANSWER, Registry::connect(&target))
        .await
        .map_err(|_| SessionsError::Silent)?
        .map_err(SessionsError::Connection)
}

/// The same addresses with IP addresses in place of the names of Services: that of the Service, or
/// of a pod of a headless Service. Names that cannot be resolved are left out.
async fn by_ip(client: &RetryingClient, addresses: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for address in addresses {
        let Some(name) = etcd::ServiceName::in_address(address) else {
            continue;
        };
        let services: Api<Service> = Api::namespaced(client.kube(), &name.namespace);
        let pods: Api<Pod> = Api::namespaced(client.kube(), &name.namespace);
        let this = ListParams::default().fields(&format!("metadata.name={}", name.name));
        let Ok(listed) = services.list(&this).await else {
            continue;
        };
        let Some(spec) = listed.items.into_iter().next().and_then(|one| one.spec) else {
            continue;
        };
        let mut ip: Option<IpAddr> = spec.cluster_ip.and_then(|ip| ip.parse().ok());
        if ip.is_none() {
            let labels: Vec<String> = spec
                .selector
                .iter()
                .flatten()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let behind = ListParams::default().labels(&labels.join(","));
            let Ok(listed) = pods.list(&behind).await else {
                continue;
            };
            ip = listed
                .items
                .iter()
                .filter(|pod| is_ready(pod) && !labels.is_empty())
                .find_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok());
        }
        found.extend(ip.map(|ip| name.at(ip)));
    }
    found
}

fn endpoint(
    release: &Release,
    namespace: &str,
    access: &EtcdAccess,
) -> Result<Endpoint, UnknownEtcd> {
    let metadata = release.metadata();
    Ok(Endpoint {
        addresses: etcd::addresses(&access.addresses, release, namespace)?,
        root_path: metadata.root_path.value.into_owned(),
        meta_sub_path: metadata.meta_sub_path.value.into_owned(),
        tls: access.tls.clone(),
        user: access.user.clone(),
        release: Some(release.name.clone()),
    })
}
