//! The mode in which the guard makes and rotates its own certificate: the adapter between
//! [`super::rotation`], which decides, and the cluster.

use super::api::{Answer, MANAGER, answer, words};
use super::{
    error::CertError,
    registration::{self, Configuration},
    rotation::{Registration, Step, next},
    secret::{Content, Data},
    store::{CertStore, Certificate, Offer, Reload},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use milvus_guard_sources::kubernetes::ClusterError;
use serde_json::json;
use std::{convert::Infallible, time::Duration};
use tokio::time::{sleep, timeout};

/// Steps in one look. A rotation without waiting has four; a change by another replica costs one.
const MAX_STEPS: usize = 12;

/// For one look at the cluster. Twelve steps are some fifty requests, a moment each; what hangs is
/// begun again.
const LOOK_DEADLINE: Duration = Duration::from_secs(60);

/// Where the guard keeps its certificate, and whom it tells about it.
#[derive(Clone)]
pub struct Managed {
    /// The cluster.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret. It may exist and be empty.
    pub secret: String,
    /// For whom the certificate is: the Service's DNS names.
    pub names: Vec<String>,
    /// Name of the validating and the mutating webhook configuration.
    pub webhook_configuration: String,
    /// Who writes the authority into them.
    pub registers: Registers,
}

/// Who writes the authority into the webhook configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {
    /// This mode, as far as the configurations exist.
    Itself,
    /// Another client, who takes it from the Secret. Rotation waits until it is there.
    Another,
}

/// The role of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It rotates and registers. There should be one; two would hinder each other and break
    /// nothing.
    Leader,
    /// It serves what the Secret holds.
    Follower,
}

/// The DNS names under which clients call a Service: what API servers use, and what people in the
/// cluster do.
#[must_use]
pub fn service_names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
    ]
}

impl Managed {
    /// The certificate of the Secret. Any replica may be first: where there is none, one is made,
    /// and of several replicas one wins and the others take what it made.
    ///
    /// # Errors
    /// Where the Secret is another client's, or may not be read or written.
    pub async fn ensure(&self, now: Timestamp) -> Result<Certificate, CertError> {
        for _ in 0..MAX_STEPS {
            let (version, content) = self.read().await?;
            if let Some(certificate) = content.certificate() {
                return Ok(certificate);
            }
            // Without a certificate this is a new authority with one, or just one where only that
            // is missing.
            let step = next(&content.state(&self.names, Registration::Unknown), now);
            self.write(version.as_deref(), &content.after(step, &self.names, now)?)
                .await?;
        }
        Err(CertError::Contended(self.what()))
    }

    /// Serves what the Secret holds, now and after each change, and never returns. The leader also
    /// rotates, and registers the authority in the webhook configurations. What fails is said
    /// once and tried again at each poll; what was served before stays.
    pub async fn follow(
        self,
        store: CertStore,
        is_leader: impl Fn() -> bool + Send,
        every: Duration,
        events: impl Fn(Reload) + Send,
    ) -> Infallible {
        let mut replica = Replica::new(self, store);
        loop {
            let role = if is_leader() {
                Role::Leader
            } else {
                Role::Follower
            };
            // The wall clock, at each poll: a timer for the day of renewal would not count the
            // hours of a suspended machine.
            for event in replica.poll(role, Timestamp::now()).await {
                events(event);
            }
            sleep(every).await;
        }
    }

    fn what(&self) -> String {
        format!("Secret {} in namespace {}", self.secret, self.namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Secret's version and content; no version where it does not exist.
    async fn read(&self) -> Result<(Option<String>, Content), CertError> {
        let found = self
            .secrets()
            .get_opt(&self.secret)
            .await
            .map_err(|error| words(&error, "get", &self.what()))?;
        let Some(found) = found else {
            return Ok((None, Content::default()));
        };
        let data: Data = found.data.unwrap_or_default();
        if Content::is_foreign(&data) {
            return Err(CertError::ForeignSecret {
                secret: self.secret.clone(),
                namespace: self.namespace.clone(),
            });
        }
        Ok((found.metadata.resource_version, Content::of(&data)))
    }

    /// Writes the Secret, unless someone changed it since it was read.
    async fn write(&self, version: Option<&str>, content: &Content) -> Result<Answer, CertError> {
        let Some(version) = version else {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.secret.clone()),
                    ..ObjectMeta::default()
                },
                type_: Some("kubernetes.io/tls".into()),
                data: Some(content.data()),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            let created = self.secrets().create(&params, &secret).await;
            return Ok(answer(created.map(|_| ()), "create", &self.what())?);
        };
        let patch = json!({"metadata": {"resourceVersion": version}, "data": content.data()});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patched = self
            .secrets()
            .patch(&self.secret, &params, &Patch::Merge(patch))
            .await;
        Ok(answer(patched.map(|_| ()), "patch", &self.what())?)
    }

    async fn register(
        &self,
        configurations: &[Configuration],
        bundle: &str,
    ) -> Result<(), CertError> {
        for configuration in configurations
            .iter()
            .filter(|configuration| !configuration.carries(bundle))
        {
            // Where it was outdated, the next look finds it so and comes back here.
            configuration.register(&self.client, bundle).await?;
        }
        Ok(())
    }
}

/// One replica of the managed mode, and what it remembers between two looks.
pub struct Replica {
    managed: Managed,
    store: CertStore,
    /// Since when all configurations have carried which authorities. Not written down: another
    /// replica that takes the lead waits the minute again.
    carried: Option<(String, Timestamp)>,
    complaint: Option<String>,
}

impl Replica {
    /// Serves into this store.
    #[must_use]
    pub fn new(managed: Managed, store: CertStore) -> Self {
        Self {
            managed,
            store,
            carried: None,
            complaint: None,
        }
    }

    /// Looks at the cluster once, does the next step, and says what happened.
    pub async fn poll(&mut self, role: Role, now: Timestamp) -> Vec<Reload> {
        let mut events = Vec::new();
        let looked = timeout(LOOK_DEADLINE, self.look(role, now, &mut events)).await;
        let done = looked.unwrap_or_else(|_| {
            Err(CertError::Slow(
                self.managed.what(),
                LOOK_DEADLINE.as_secs(),
            ))
        });
        match done {
            Ok(()) => self.complaint = None,
            Err(error) => {
                let reason = error.to_string();
                if self.complaint.as_ref() != Some(&reason) {
                    events.push(self.store.kept(reason.clone()));
                    self.complaint = Some(reason);
                }
            }
        }
        events
    }

    async fn look(
        &mut self,
        role: Role,
        now: Timestamp,
        events: &mut Vec<Reload>,
    ) -> Result<(), CertError> {
        // What a follower remembers would be old when it comes to lead.
        if role == Role::Follower {
            self.carried = None;
            self.store.registered(None);
            let certificate = self.managed.ensure(now).await?;
            return self.serve(certificate, now, events);
        }
        let rotated = self.rotate(now, events).await;
        // Also after a failure: the content of the Secret is good even if the rest failed.
        let (_, content) = self.managed.read().await?;
        if let Some(certificate) = content.certificate() {
            self.serve(certificate, now, events)?;
        }
        rotated
    }

    fn serve(
        &self,
        certificate: Certificate,
        now: Timestamp,
        events: &mut Vec<Reload>,
    ) -> Result<(), CertError> {
        if self.store.offer(certificate, now)? == Offer::Taken {
            events.extend(self.store.loaded());
        }
        Ok(())
    }

    async fn rotate(&mut self, now: Timestamp, events: &mut Vec<Reload>) -> Result<(), CertError> {
        for _ in 0..MAX_STEPS {
            // In this order: if the Secret is older than another replica's latest, so are the
            // configurations, and the API server refuses to have them overwritten.
            let configurations =
                registration::read(&self.managed.client, &self.managed.webhook_configuration).await;
            let (version, content) = self.managed.read().await?;
            let registration =
                self.registration(configurations.as_ref().map(Vec::as_slice), &content, now);
            let step = next(&content.state(&self.managed.names, registration), now);
            match step {
                Step::Wait => {
                    configurations?;
                    return Ok(());
                }
                Step::Register if self.managed.registers == Registers::Another => return Ok(()),
                Step::Register => {
                    self.managed
                        .register(&configurations?, &content.bundle())
                        .await?;
                }
                Step::Create | Step::AddAuthority | Step::RenewLeaf | Step::DropAuthorities => {
                    let changed = content.after(step, &self.managed.names, now)?;
                    if self.managed.write(version.as_deref(), &changed).await? == Answer::Outdated {
                        continue;
                    }
                }
            }
            events.push(Reload::Stepped(step));
        }
        Err(CertError::Contended(self.managed.what()))
    }

    /// What the configurations carry, and since when.
    fn registration(
        &mut self,
        configurations: Result<&[Configuration], &ClusterError>,
        content: &Content,
        now: Timestamp,
    ) -> Registration {
        let bundle = content.bundle();
        let carried = configurations.is_ok_and(|found| {
            found
                .iter()
                .all(|configuration| configuration.carries(&bundle))
        });
        let exist = configurations.is_ok_and(|found| !found.is_empty());
        self.store.registered(if carried && exist {
            content.authority_not_after()
        } else {
            None
        });
        if !carried {
            self.carried = None;
            return if configurations.is_ok() {
                Registration::Differs
            } else {
                Registration::Unknown
            };
        }
        // Counted again for other authorities, and where the clock went back.
        let since = match &self.carried {
            Some((seen, since)) if *seen == bundle && *since <= now => *since,
            _ => now,
        };
        self.carried = Some((bundle, since));
        Registration::Carried { since }
    }
}
