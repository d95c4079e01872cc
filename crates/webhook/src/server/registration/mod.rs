//! The registration at the API server: the leading replica writes both webhook configurations, but
//! only after it was ready once. So a guard that never worked blocks nothing, and Helm renders no
//! field that the guard writes.
//!
//! The chart's template defines the webhooks. The guard adds the certificate authority that the API
//! server must trust, the secret path, and the namespaces that contain Milvus. The configurations
//! are owned by an object of the chart, so that they are deleted with it.

mod comparison;
mod template;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use comparison::{holds, is_owned, shown};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use milvus_guard_core::policy::resolve::HoldScope;
use milvus_guard_sources::kubernetes::ClusterError;
use serde_json::Value;
use template::{Additions, KINDS, completed, parse, read};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    certs::api::{answer, words},
    mounted::read_settled,
    server::{
        callers::{CallersError, PathSecret},
        leader::Leader,
        lifecycle::Lifecycle,
        watch_cache::WatchCache,
    },
};

pub use template::MILVUS_NAMESPACES;

/// Field manager of the registration. Different from the one with which the guard changes single
/// fields.
const MANAGER: &str = "milvus-guard-registration";

/// How often the leader checks for changes in this process.
const TICK: Duration = Duration::from_secs(1);

/// How often it checks the API server without such a change.
const LOOK: Duration = Duration::from_secs(5);

/// Limit for one check.
const DEADLINE: Duration = Duration::from_secs(30);

/// The certificate authority that the API server must trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// That of the template, or one that the API server trusts by default.
    Template,
    /// The authorities in this Secret of the managed mode.
    Secret(String),
    /// The authorities in this file (PEM), reloaded when it changes.
    File(PathBuf),
}

/// Why the registration could not be made or updated. Never contains the secret path.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error("cannot read {0}: {1}")]
    Unreadable(String, String),
    #[error("{0}: {1}")]
    Template(String, String),
    #[error("{0} does not exist; without it the webhooks would remain after an uninstallation")]
    NoOwner(String),
    #[error("{0} does not contain a certificate authority yet")]
    NoAuthority(String),
    #[error("the cluster did not answer within {} seconds", DEADLINE.as_secs())]
    Slow,
    #[error(transparent)]
    Callers(#[from] CallersError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Registers the webhooks while this replica leads.
pub struct Registrar {
    /// The cluster.
    pub client: Client,
    /// The guard's namespace.
    pub namespace: String,
    /// Name of both configurations.
    pub name: String,
    /// Template of both, YAML.
    pub template: PathBuf,
    /// The `ClusterRole` whose removal removes them.
    pub owner: Option<String>,
    /// The certificate authority that the API server must trust.
    pub authority: Authority,
    /// The Secret with the secret part of the path.
    pub secret: PathSecret,
    /// Whether this replica leads.
    pub leader: Leader,
    /// Whether it is ready.
    pub life: Arc<Lifecycle>,
    /// The cache, which lists the namespaces that contain Milvus.
    pub store: Arc<WatchCache>,
    /// In which namespaces changes are held.
    pub holds: HoldScope,
}

/// State of the leader between two checks.
struct LeaderState {
    /// When this replica began to lead: secrets of earlier leaders are replaced.
    leads_since: Timestamp,
    /// The secret in all configurations, and since when.
    carried: Option<(String, Timestamp)>,
}

impl Registrar {
    /// Makes the registration and keeps it up to date, until the process ends.
    pub async fn run(self) {
        let (mut ready, mut memory, mut complaint) = (false, None, None);
        let mut seen = None;
        let mut looked: Option<Instant> = None;
        loop {
            sleep(TICK).await;
            ready |= self.life.is_ready();
            if !ready || !self.leader.is_me() || self.life.is_draining() {
                (memory, seen) = (None, None);
                continue;
            }
            let template = match self.read_template().await {
                Ok(template) => template,
                Err(error) => {
                    complain(&mut complaint, error.to_string());
                    continue;
                }
            };
            let here = (template, self.namespaces());
            if seen.as_ref() == Some(&here) && looked.is_some_and(|at| at.elapsed() < LOOK) {
                continue;
            }
            let memory = memory.get_or_insert_with(|| LeaderState {
                leads_since: Timestamp::now(),
                carried: None,
            });
            let done = timeout(DEADLINE, self.look(&here.0, &here.1, memory))
                .await
                .unwrap_or(Err(RegistrationError::Slow));
            looked = Some(Instant::now());
            match done {
                Ok(()) => {
                    complaint = None;
                    seen = Some(here);
                }
                Err(error) => {
                    complain(&mut complaint, error.to_string());
                    seen = None;
                    sleep(TICK).await;
                }
            }
        }
    }

    /// Namespaces that contain Milvus, or data of Milvus.
    fn namespaces(&self) -> BTreeSet<String> {
        self.store
            .milvus_namespaces()
            .into_iter()
            .chain(self.store.remembered_namespaces())
            .collect()
    }

    async fn read_template(&self) -> Result<Vec<Value>, RegistrationError> {
        let path = self.template.clone();
        let read = spawn_blocking(move || read_settled(|| read(&path)));
        let unreadable = |reason: String| {
            RegistrationError::Unreadable(self.template.display().to_string(), reason)
        };
        let text = read
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(unreadable)?;
        parse(&text).map_err(|reason| {
            RegistrationError::Template(self.template.display().to_string(), reason)
        })
    }

    async fn look(
        &self,
        template: &[Value],
        namespaces: &BTreeSet<String>,
        memory: &mut LeaderState,
    ) -> Result<(), RegistrationError> {
        let now = Timestamp::now();
        // Read the configurations before the rest: if they change in between, the API server
        // refuses the write with their older version.
        // Independent reads run at the same time, because the API server may be slow.
        let found = try_join_all(KINDS.map(async |kind| {
            let what = format!("{kind} {}", self.name);
            let object = api(&self.client, kind)
                .get_opt(&self.name)
                .await
                .map_err(|error| words(&error, "get", &what))?;
            Ok::<_, RegistrationError>((
                kind,
                object.map(|object| serde_json::to_value(object).unwrap_or_default()),
            ))
        }))
        .await?;
        let (owner, bundle) = tokio::try_join!(self.owner_uid(), self.bundle())?;
        let tokens = self.secret.rotated(now, Some(memory.leads_since)).await?;
        let registered: Vec<&str> = found
            .iter()
            .flat_map(|(_, object)| object.as_ref().map(shown).unwrap_or_default())
            .collect();
        let Some(token) = tokens.choice(now, &self.secret.times, &registered) else {
            return Ok(());
        };
        let additions = Additions {
            name: &self.name,
            owner: self.owner.as_deref().zip(owner.as_deref()),
            bundle: bundle.as_deref(),
            token,
            namespaces,
            holds: &self.holds,
        };
        let wanted: Vec<Value> = template
            .iter()
            .map(|object| completed(object, &additions))
            .collect();
        let mut all_carried = true;
        for (kind, object) in &found {
            let carried = match (wanted.iter().find(|wanted| wanted["kind"] == *kind), object) {
                (Some(wanted), Some(object)) if holds(wanted, object) => true,
                (Some(wanted), object) => {
                    self.apply(kind, wanted, object.as_ref(), token).await?;
                    false
                }
                (None, Some(object)) if owner.is_some() && is_owned(object, owner.as_deref()) => {
                    self.remove(kind).await?;
                    true
                }
                (None, _) => true,
            };
            all_carried &= carried;
        }
        self.forget_old(token, all_carried, now, memory).await
    }

    /// Deletes old secrets after the API server has had the new one for the grace time.
    async fn forget_old(
        &self,
        token: &str,
        carried: bool,
        now: Timestamp,
        memory: &mut LeaderState,
    ) -> Result<(), RegistrationError> {
        if !carried {
            memory.carried = None;
            return Ok(());
        }
        let since = match &memory.carried {
            Some((known, since)) if known == token && *since <= now => *since,
            _ => now,
        };
        memory.carried = Some((token.to_owned(), since));
        if now.duration_since(since) >= self.secret.times.grace {
            self.secret.forget_before(token).await?;
        }
        Ok(())
    }

    async fn owner_uid(&self) -> Result<Option<String>, RegistrationError> {
        let Some(owner) = &self.owner else {
            return Ok(None);
        };
        let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "ClusterRole");
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind));
        let what = format!("ClusterRole {owner}");
        let found = api
            .get_opt(owner)
            .await
            .map_err(|error| words(&error, "get", &what))?;
        let uid = found
            .filter(|found| found.metadata.deletion_timestamp.is_none())
            .and_then(|found| found.metadata.uid);
        uid.map(Some).ok_or(RegistrationError::NoOwner(what))
    }

    async fn bundle(&self) -> Result<Option<String>, RegistrationError> {
        match &self.authority {
            Authority::Template => Ok(None),
            Authority::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
                let what = format!("Secret {name} in namespace {}", self.namespace);
                let found = api
                    .get_opt(name)
                    .await
                    .map_err(|error| words(&error, "get", &what))?;
                let bundle = found
                    .and_then(|found| found.data?.remove("ca.crt"))
                    .map(|bytes| bytes.0)
                    .unwrap_or_default();
                // With an empty bundle webhooks that fail closed would block all changes.
                if bundle.is_empty() {
                    Err(RegistrationError::NoAuthority(what))
                } else {
                    Ok(Some(BASE64_STANDARD.encode(bundle)))
                }
            }
            Authority::File(path) => {
                let (shown, path) = (path.display().to_string(), path.clone());
                let read = spawn_blocking(move || read_settled(|| read(&path)));
                let unreadable =
                    |reason: String| RegistrationError::Unreadable(shown.clone(), reason);
                let text = read
                    .await
                    .map_err(|error| unreadable(error.to_string()))?
                    .map_err(unreadable)?;
                if text.trim().is_empty() {
                    return Err(RegistrationError::NoAuthority(shown));
                }
                Ok(Some(BASE64_STANDARD.encode(text)))
            }
        }
    }

    async fn apply(
        &self,
        kind: &'static str,
        wanted: &Value,
        found: Option<&Value>,
        token: &str,
    ) -> Result<(), RegistrationError> {
        let mut wanted = wanted.clone();
        if let Some(version) = found.and_then(|found| found.pointer("/metadata/resourceVersion")) {
            wanted["metadata"]["resourceVersion"] = version.clone();
        }
        let params = PatchParams::apply(MANAGER).force();
        let applied = api(&self.client, kind)
            .patch(&self.name, &params, &Patch::Apply(wanted))
            .await;
        match answer(
            applied.map(|_| ()),
            "apply",
            &format!("{kind} {}", self.name),
        ) {
            // If it was outdated, the next check tries again.
            Ok(_) => {
                tracing::info!(kind, "registered");
                Ok(())
            }
            // The API server may quote the path.
            Err(ClusterError::Api { what, reason }) => Err(ClusterError::Api {
                what,
                reason: reason.replace(token, "SECRET"),
            }
            .into()),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, kind: &'static str) -> Result<(), RegistrationError> {
        let removed = api(&self.client, kind)
            .delete(&self.name, &DeleteParams::default())
            .await;
        answer(
            removed.map(|_| ()),
            "delete",
            &format!("{kind} {}", self.name),
        )?;
        Ok(())
    }
}

fn complain(complaint: &mut Option<String>, reason: String) {
    if complaint.as_ref() != Some(&reason) {
        tracing::warn!(
            reason,
            "the webhooks could not be registered; the guard retries"
        );
        *complaint = Some(reason);
    }
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

#[cfg(test)]
mod tests;
