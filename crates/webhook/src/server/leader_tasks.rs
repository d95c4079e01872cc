//! Tasks in addition to reviews. Each replica records the releases that it sees in a history. The
//! leader stores the histories, reports on policies, deletes expired objects, and audits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::json;

use milvus_guard_core::{
    api::{
        self, Condition, ConditionStatus, LintEntry, LintSeverity, PolicyStatus,
        status::{READY, rules_in_words},
    },
    error_text,
    policy::{PolicyDocument, lint::Severity},
};
use milvus_guard_sources::kubernetes::guard;

use super::{
    MANAGER,
    data::Data,
    events::EventSink,
    leader::Leader,
    metrics::Metrics,
    policy_reports::{PolicyReports, PolicyReportsOwner},
    release_history::ReleaseHistory,
    running_audit::RunningAudit,
    state_source::decisions,
    watch_cache::{Document, MEMORY_KEY, WatchCache, Watched, memory_name},
};

/// How often the leader looks for changes. A release must be settled for this long to be recorded
/// as good.
const TICK: Duration = Duration::from_secs(1);
/// Attempts to store a history if other clients change it at the same time.
const TRIES: usize = 3;

/// The tasks of a replica.
pub struct LeaderTasks {
    /// The cluster.
    pub client: Client,
    /// The guard's namespace.
    pub namespace: String,
    /// The cache of the cluster.
    pub store: Arc<WatchCache>,
    /// Whether this replica leads.
    pub leader: Leader,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Data about Milvus releases.
    pub data: Data,
    /// Receives Events about running releases.
    pub events: EventSink,
    /// Owner of the audit's objects of the OpenReports project, if the kind is served; `None` if
    /// the audit writes none.
    pub policy_reports: Option<PolicyReportsOwner>,
    /// Time between two audits; `None` without audits.
    pub audit_every: Option<Duration>,
}

/// The resource versions of the objects with histories, when last read or written; `None` if an
/// object does not exist.
type Versions = BTreeMap<String, Option<String>>;

/// What was last written to the status of a document.
type Reported = BTreeMap<(Watched, String), (Option<i64>, Option<String>)>;

impl LeaderTasks {
    /// Does the tasks repeatedly, until the process ends.
    pub async fn run(self) {
        let (mut led, mut has_seen_all) = (false, false);
        let mut versions = Versions::new();
        let mut reported = Reported::new();
        let mut audited: Option<tokio::time::Instant> = None;
        let reports = self
            .policy_reports
            .clone()
            .map(|owner| PolicyReports::new(self.client.clone(), owner));
        let mut audit = RunningAudit::new(self.events.clone(), reports);
        loop {
            tokio::time::sleep(TICK).await;
            if !self.store.missing().is_empty() {
                continue;
            }
            let leads = self.leader.is_me();
            // A new leader reads all namespaces once: releases expire even if nothing changes.
            if leads && !led {
                has_seen_all = false;
                reported.clear();
            }
            if led && !leads {
                audit.forget(&self.metrics);
                audited = None;
            }
            led = leads;
            let now = Timestamp::now();
            self.see(!has_seen_all, now).await;
            has_seen_all = true;
            if !leads {
                versions.clear();
                self.count();
                continue;
            }
            self.save_all(&mut versions).await;
            self.count();
            self.report(&mut reported, now).await;
            self.clear(now).await;
            if let Some(every) = self.audit_every
                && audited.is_none_or(|at| at.elapsed() >= every)
            {
                audit.run(&self.store, &self.data, &self.metrics).await;
                audited = Some(tokio::time::Instant::now());
            }
        }
    }

    /// Records the releases of the namespaces that changed, or of all namespaces.
    async fn see(&self, all: bool, now: Timestamp) {
        let data = self.data.current();
        let mut namespaces = self.store.take_changed();
        if all {
            namespaces.extend(self.store.milvus_namespaces());
            namespaces.extend(self.store.remembered_namespaces());
        }
        for namespace in namespaces {
            let mut memory = ReleaseHistory::clone(&self.store.memory(&namespace));
            if memory.see(&namespace, &self.store.picture(&namespace).view, &data, now) {
                self.store.remember(&namespace, memory);
            }
            // There may be thousands of namespaces, and reviews must not wait for all of them.
            tokio::task::yield_now().await;
        }
    }

    /// Stores the histories that changed. After a failure the others are still stored, and the next
    /// tick tries again. Until then each replica judges by its own observations.
    async fn save_all(&self, versions: &mut Versions) {
        for (namespace, memory) in self.store.unstored() {
            if memory.is_incomplete() {
                tracing::warn!(
                    namespace,
                    "a release of this namespace does not fit into the memory of the guard"
                );
            }
            // Writing may take long. Another replica may lead now, and stores its own histories.
            if !self.leader.is_me() {
                return;
            }
            match self.save(&namespace, memory, versions).await {
                Ok(stored) => self.store.stored(&namespace, stored),
                Err(error) => {
                    tracing::warn!(
                        namespace,
                        reason = error_text::chain(&error),
                        "the memory of a namespace could not be stored"
                    );
                    self.metrics.memory_failures.inc();
                }
            }
        }
    }

    fn count(&self) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics
            .memory_unsaved
            .set(count(self.store.unstored().len()));
        self.metrics
            .memory_incomplete
            .set(count(self.store.incomplete_memories()));
    }

    /// Stores a history over the version that was read last, and returns what was stored. Merges
    /// what another replica has stored since then. So a late write of an earlier leader removes
    /// nothing.
    async fn save(
        &self,
        namespace: &str,
        memory: Arc<ReleaseHistory>,
        versions: &mut Versions,
    ) -> Result<Arc<ReleaseHistory>, kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut memory = memory;
        for _ in 0..TRIES {
            let version = if let Some(version) = versions.get(namespace) {
                version.clone()
            } else {
                let found = api.get_opt(&memory_name(namespace)).await?;
                let (version, stored) = found.map_or_else(Default::default, |found| {
                    let text = found
                        .data
                        .unwrap_or_default()
                        .remove(MEMORY_KEY)
                        .unwrap_or_default();
                    (
                        found.metadata.resource_version,
                        serde_json::from_str::<ReleaseHistory>(&text).unwrap_or_default(),
                    )
                });
                let mut merged = ReleaseHistory::clone(&memory);
                merged.adopt(&stored);
                merged.see(
                    namespace,
                    &self.store.picture(namespace).view,
                    &self.data.current(),
                    Timestamp::now(),
                );
                if merged != *memory {
                    self.store.remember(namespace, merged.clone());
                }
                memory = Arc::new(merged);
                versions.insert(namespace.to_owned(), version.clone());
                if *memory == stored {
                    return Ok(memory);
                }
                version
            };
            match self.write(&api, namespace, &memory, version).await {
                Ok(version) => {
                    versions.insert(namespace.to_owned(), version);
                    return Ok(memory);
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    versions.remove(namespace);
                }
                // It is unknown whether the write was made.
                Err(error) => {
                    versions.remove(namespace);
                    return Err(error);
                }
            }
        }
        Err(kube::Error::Service(
            "it was changed by others each time it was read".into(),
        ))
    }

    /// Writes a history over this version of its object; creates the object if there is none.
    /// Returns the new version.
    async fn write(
        &self,
        api: &Api<ConfigMap>,
        namespace: &str,
        memory: &ReleaseHistory,
        version: Option<String>,
    ) -> Result<Option<String>, kube::Error> {
        let name = memory_name(namespace);
        if memory.is_empty() {
            if version.is_some() {
                let preconditions = Some(Preconditions {
                    resource_version: version,
                    uid: None,
                });
                api.delete(
                    &name,
                    &DeleteParams {
                        preconditions,
                        ..DeleteParams::default()
                    },
                )
                .await?;
            }
            return Ok(None);
        }
        let text = serde_json::to_string(memory).map_err(kube::Error::SerdeError)?;
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "milvus-guard"}},
            "data": {MEMORY_KEY: text},
        });
        let written = if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version);
            api.patch(
                &name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(object),
            )
            .await?
        } else {
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            api.create(
                &params,
                &serde_json::from_value(object).map_err(kube::Error::SerdeError)?,
            )
            .await?
        };
        Ok(written.metadata.resource_version)
    }

    /// Writes to the status of each policy and exception whether it applies.
    async fn report(&self, reported: &mut Reported, now: Timestamp) {
        let documents = self.store.documents();
        reported.retain(|key, _| documents.iter().any(|(known, _)| known == key));
        for (key, document) in documents {
            let state = (document.generation, document.problem.clone());
            if reported.get(&key) == Some(&state) {
                continue;
            }
            let kind = if key.0 == Watched::Policies {
                api::UPGRADE_POLICY
            } else {
                api::UPGRADE_EXCEPTION
            };
            let resource = guard::api_resource(kind);
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let patch = Patch::Merge(json!({"status": status(&document, now)}));
            match api
                .patch_status(&key.1, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => {
                    reported.insert(key, state);
                }
                Err(error) => tracing::debug!(
                    name = key.1,
                    reason = error_text::chain(&error),
                    "a status could not be written"
                ),
            }
        }
    }

    async fn clear(&self, now: Timestamp) {
        let api = decisions(self.client.clone(), &self.namespace);
        for name in self.store.expired_decisions(now) {
            let name = name.rsplit('/').next().unwrap_or_default();
            // A decision that does not exist any more is fine too.
            let _ = api.delete(name, &DeleteParams::default()).await;
        }
    }
}

fn status(document: &Document, now: Timestamp) -> PolicyStatus {
    let (status, reason, message) = match (&document.problem, &document.good) {
        (None, _) => (ConditionStatus::True, "InForce", String::new()),
        (Some(problem), Some(_)) => (
            ConditionStatus::False,
            "Invalid",
            format!("{problem}; the previous version is still in force"),
        ),
        (Some(problem), None) => (
            ConditionStatus::False,
            "Invalid",
            format!("{problem}; it is not in force"),
        ),
    };
    PolicyStatus {
        observed_generation: document.generation,
        conditions: vec![Condition {
            r#type: READY.to_owned(),
            status,
            reason: reason.to_owned(),
            message,
            last_transition_time: now,
            observed_generation: document.generation,
        }],
        rules: document.good.as_ref().and_then(|good| match good {
            PolicyDocument::Policy(policy, _) => Some(rules_in_words(&policy.spec)),
            PolicyDocument::Exception(..) => None,
        }),
        lints: document
            .lints
            .iter()
            .map(|lint| LintEntry {
                severity: if lint.severity == Severity::Error {
                    LintSeverity::Error
                } else {
                    LintSeverity::Warning
                },
                message: lint.message.clone(),
            })
            .collect(),
    }
}
