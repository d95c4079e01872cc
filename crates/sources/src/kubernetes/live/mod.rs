//! Reads the workloads in a namespace into a snapshot, and the facts about them.
//!
//! | module | holds |
//! |---|---|
//! | `kinds` | the kinds of objects that are read |
//! | `intake` | converts objects for a snapshot |

mod intake;
mod kinds;

use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use milvus_guard_core::{
    evidence::{DriftFact, Facts},
    manifest::{
        Object,
        object::{Deployer, SourceKind},
    },
    milvus::{
        Release, Snapshot,
        manager::{Manager, Source},
        release::HelmRevision,
        snapshot::Builder,
    },
};

use super::{
    client::{Cluster, Resource},
    drift,
    error::ClusterError,
    evidence,
    view::{Gathered, NamespaceView},
};
use intake::Intake;
use kinds::{
    ARGO_CD, ARGO_CD_NAMESPACE, AROUND, AUTOSCALERS, FLUX, KEDA, NAMESPACES, OTHER_WORKLOADS,
    SECRETS, WORKLOADS,
};

pub use intake::seen;

/// Name in reports of everything that was read from a live cluster.
pub const SOURCE: &str = "cluster";

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotRead {
    /// What it is.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What was read from a cluster.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The running state.
    pub snapshot: Snapshot,
    /// The objects of the snapshot.
    pub objects: Vec<Object>,
    /// Additional facts. Facts that could not be read are absent.
    pub facts: Facts,
    /// What was read, as text.
    pub read: Vec<String>,
    /// What was not read, and why.
    pub not_read: Vec<NotRead>,
}

impl Reading {
    fn refuse(&mut self, what: impl Into<String>, error: &ClusterError) {
        self.not_read.push(NotRead {
            what: what.into(),
            reason: error.to_string(),
        });
    }
}

impl Cluster {
    /// Reads the workloads in a namespace and the facts about them. With `helm`, also reads Helm's
    /// storage of the releases that Helm manages, which needs the permission to read Secrets.
    ///
    /// # Errors
    /// If the workloads themselves cannot be read. Other objects that cannot be read are listed in
    /// the result.
    pub async fn read(&self, namespace: &str, helm: bool) -> Result<Reading, ClusterError> {
        let mut reading = Reading::default();
        let mut intake = Intake::new();
        for resource in WORKLOADS {
            intake.add_all(&self.list(resource, Some(namespace), None).await?);
            reading.read.push(resource.describe(Some(namespace)));
        }
        for resource in OTHER_WORKLOADS.into_iter().chain(AROUND) {
            let what = resource.describe(Some(namespace));
            match self.list(resource, Some(namespace), None).await {
                Ok(objects) => {
                    intake.add_all(&objects);
                    reading.read.push(what);
                }
                Err(error) => reading.refuse(what, &error),
            }
        }
        match self.version().await {
            Ok(version) => reading.facts.kubernetes = Some(version),
            Err(error) => reading.refuse("the API server's version", &error),
        }
        let autoscalers = self.autoscalers(namespace, &mut intake, &mut reading).await;
        let deployers = self.deployers(namespace, &mut intake, &mut reading).await;
        let Intake {
            builder,
            objects,
            proven,
            marks,
            ..
        } = intake;
        let (builder, objects) = self
            .with_secrets(namespace, builder, objects, &mut reading)
            .await;
        reading.snapshot = builder.build();
        reading.objects = objects;
        reading.facts.rollouts = Some(evidence::rollouts(&reading.snapshot, &proven));
        if autoscalers {
            reading.facts.autoscalers = Some(evidence::autoscalers(&reading.snapshot));
        }
        let found = evidence::deployers(&reading.snapshot, &deployers.objects, &marks);
        if deployers.complete || !found.is_empty() {
            reading.facts.deployers = Some(found);
        }
        if helm {
            self.drift(namespace, &mut reading).await;
        }
        Ok(reading)
    }

    /// Reads the Secrets that contain configuration of Milvus, each by its name; no others are
    /// requested.
    async fn with_secrets(
        &self,
        namespace: &str,
        mut builder: Builder,
        mut objects: Vec<Object>,
        reading: &mut Reading,
    ) -> (Builder, Vec<Object>) {
        let missing = builder.clone().build().missing();
        for (_, source) in missing
            .into_iter()
            .filter(|(_, source)| source.kind == SourceKind::Secret)
        {
            let what = format!("{source} in namespace {namespace}");
            match self.get(SECRETS, namespace, &source.name).await {
                Ok(object) => {
                    if let Some((object, _)) = seen(&object) {
                        objects.push(object.clone());
                        builder.add(object);
                    }
                    reading.read.push(what);
                }
                Err(error) => reading.refuse(what, &error),
            }
        }
        (builder, objects)
    }

    /// The documents of workloads (kind and name) in a namespace, as the API server has them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn workload_documents(
        &self,
        namespace: &str,
        wanted: &[(String, String)],
    ) -> Result<Vec<Value>, ClusterError> {
        let mut found = Vec::new();
        for resource in WORKLOADS {
            let is_wanted = |object: &Value| {
                let name = object.pointer("/metadata/name").and_then(Value::as_str);
                wanted
                    .iter()
                    .any(|(kind, wanted)| kind == resource.kind && Some(&**wanted) == name)
            };
            found.extend(
                self.list(resource, Some(namespace), None)
                    .await?
                    .into_iter()
                    .filter(is_wanted),
            );
        }
        Ok(found)
    }

    /// Reads a namespace live, for the webhook, when its cache is not good enough. All kinds are
    /// read at the same time, each page by page, and of a page only the needed objects are
    /// kept.
    ///
    /// # Errors
    /// If any of it cannot be read.
    pub async fn view(
        &self,
        namespace: &str,
        keep: impl Fn(&Object) -> bool,
    ) -> Result<NamespaceView, ClusterError> {
        let (keep, gathered) = (&keep, &Mutex::new(Gathered::default()));
        let kinds = WORKLOADS
            .into_iter()
            .chain(AROUND)
            .chain([AUTOSCALERS[0]])
            .map(async |resource| {
                // Helm's own records are not part of the running state, and large.
                let labels = (resource.kind == "ConfigMap").then_some("owner!=helm");
                self.each(resource, Some(namespace), labels, |object| {
                    if let Some((object, proven)) = seen(&object).filter(|(object, _)| keep(object))
                    {
                        gathered
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(object, proven);
                    }
                })
                .await
            });
        futures::future::try_join_all(kinds).await?;
        let gathered =
            std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(gathered.view())
    }

    /// The labels of a namespace, and whether it is being deleted; `None` if there is no such
    /// namespace.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn namespace(&self, name: &str) -> Result<Option<Value>, ClusterError> {
        match self.get_of_cluster(NAMESPACES, name).await {
            Err(ClusterError::NotFound(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Reads autoscalers. Returns whether all of them could be read.
    async fn autoscalers(
        &self,
        namespace: &str,
        intake: &mut Intake,
        reading: &mut Reading,
    ) -> bool {
        let mut complete = true;
        for versions in [&AUTOSCALERS[..], &KEDA[..]] {
            let what = versions[0].describe(Some(namespace));
            match self.first(versions, Some(namespace)).await {
                Ok(Some(objects)) => {
                    intake.add_all(&objects);
                    reading.read.push(what);
                }
                Ok(None) => {}
                Err(error) => {
                    complete = false;
                    reading.refuse(what, &error);
                }
            }
        }
        complete
    }

    /// Reads the objects of Argo CD and Flux in all namespaces, if that is allowed, else in the
    /// likely ones.
    async fn deployers(
        &self,
        namespace: &str,
        intake: &mut Intake,
        reading: &mut Reading,
    ) -> Deployers {
        let mut found = Deployers {
            objects: Vec::new(),
            complete: true,
        };
        for (versions, likely) in [(&ARGO_CD[..], ARGO_CD_NAMESPACE), (&FLUX[..], namespace)] {
            let everywhere = self.first(versions, None).await;
            let (place, objects) = match everywhere {
                Err(error @ ClusterError::Forbidden { .. }) => {
                    found.complete = false;
                    reading.refuse(versions[0].describe(None), &error);
                    (Some(likely), self.first(versions, Some(likely)).await)
                }
                other => (None, other),
            };
            match objects {
                Ok(Some(objects)) => {
                    found.objects.extend(intake.deployers(&objects, namespace));
                    reading.read.push(versions[0].describe(place));
                }
                Ok(None) => {}
                Err(error) => {
                    found.complete = false;
                    reading.refuse(versions[0].describe(place), &error);
                }
            }
        }
        found
    }

    /// The objects of the first API version that exists; `None` if none does.
    async fn first(
        &self,
        versions: &[Resource],
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Value>>, ClusterError> {
        for version in versions {
            match self.list(*version, namespace, None).await {
                Err(ClusterError::NotFound(_)) => {}
                Err(ClusterError::Forbidden { .. }) if self.lacks(*version).await => {
                    return Ok(None);
                }
                other => return other.map(Some),
            }
        }
        Ok(None)
    }

    /// Compares the releases that Helm manages with Helm's records, and adds their revisions. That
    /// there is no difference is a fact only if everything could be compared.
    async fn drift(&self, namespace: &str, reading: &mut Reading) {
        let mut facts: Vec<DriftFact> = Vec::new();
        let mut complete = true;
        let mut releases = std::mem::take(&mut reading.snapshot.releases);
        for release in &mut releases {
            match release.manager.source {
                Source::Chart(_) => {}
                Source::Operator { .. } => continue,
                Source::Manifests => {
                    complete = false;
                    continue;
                }
            }
            let name = helm_name(release).to_owned();
            match self.stored(namespace, &name).await {
                Ok((stored, revision)) => {
                    let same = |other: &&Release| {
                        other.app_name == release.app_name && other.name == release.name
                    };
                    match stored.releases.iter().find(same).or_else(|| only(&stored)) {
                        Some(stored) => {
                            facts.extend(drift::drift(stored, release));
                            complete &= stored.has_config() == release.has_config();
                            release.manager = Manager::join(&release.manager, &stored.manager);
                        }
                        None => complete = false,
                    }
                    reading.read.push(format!(
                        "release {name}, revision {}, in Helm's storage",
                        revision.revision
                    ));
                    release.helm = Some(revision);
                }
                Err(error) => {
                    complete = false;
                    reading.refuse(format!("release {name} in Helm's storage"), &error);
                }
            }
        }
        reading.snapshot.releases = releases;
        reading.facts.drift = (complete || !facts.is_empty()).then_some(facts);
    }

    async fn stored(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(Snapshot, HelmRevision), ClusterError> {
        let stored = self.helm_release(namespace, name, None).await?;
        let mut builder = Builder::default();
        stored
            .lay_into(&mut builder)
            .map_err(|source| ClusterError::Manifest {
                object: stored.source(),
                source,
            })?;
        Ok((builder.build(), stored.kept()))
    }
}

/// The deployers, and whether the list is complete.
struct Deployers {
    objects: Vec<Deployer>,
    complete: bool,
}

/// The name of the Helm release: from Helm's annotation, else the name of the Milvus release.
fn helm_name(release: &Release) -> &str {
    release
        .components
        .iter()
        .find_map(|component| {
            component
                .workload
                .meta
                .annotation("meta.helm.sh/release-name")
        })
        .unwrap_or(&release.name)
}

fn only(snapshot: &Snapshot) -> Option<&Release> {
    match snapshot.releases.as_slice() {
        [release] => Some(release),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
