//! The `UpgradeRun` as the record of a run: written before each side effect and after it.
//!
//! Two mechanisms keep records consistent. A write contains the version that it changes, so that of
//! two writers one must read again (optimistic concurrency). And a status contains the number of
//! the lock's holder (`fence`): a process that finds a higher number than its own has lost the lock
//! and must not write again.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Map, Value, json};

use milvus_guard_core::api::{API_VERSION, RunEvent, RunPhase, RunStatus, UPGRADE_RUN, UpgradeRun};
use milvus_guard_sources::kubernetes::{guard::api_resource, workloads::FIELD_MANAGER};

use super::{
    ApiError, Event, Home, Lock, ReleaseName, RetryingClient, history::History,
    home::INSTALL_DEFINITIONS,
};

/// Labels of a run: the release that it works on. A label's value is shorter than a release's name
/// may be, so these only narrow the search.
pub const RELEASE_LABEL: &str = "guard.milvus.io/release";
/// Label of a run: the namespace of the release.
pub const NAMESPACE_LABEL: &str = "guard.milvus.io/release-namespace";

/// Why the record could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRecordError {
    /// A later holder of the lock wrote.
    #[error("the lock was lost{}", .by.as_ref().map_or_else(String::new, |by| format!(" to {by}")))]
    Fenced {
        /// The later holder, if known.
        by: Option<String>,
    },
    /// The object no longer exists, or another object has its name.
    #[error("the UpgradeRun {0} was deleted during the run")]
    Gone(String),
    /// A later version wrote the object. It must not be written, because it was not fully read.
    #[error("the UpgradeRun {0} was written by a later version of milvus-guard; use that version")]
    Foreign(String),
    /// The API server dropped fields, because its definition does not have them. The run would not
    /// know later what it has changed.
    #[error(
        "the definition of UpgradeRun in this cluster does not keep {}: it is of another version of \
         milvus-guard. Apply the definitions of this one: {INSTALL_DEFINITIONS}",
        .0.join(", ")
    )]
    Pruned(Vec<String>),
    /// The request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// The record of one run.
pub struct RunRecord {
    client: RetryingClient,
    api: Api<DynamicObject>,
    full_name: String,
    holder: String,
    fence: i64,
    history: History,
    run: Mutex<UpgradeRun>,
}

/// Every run in the home, as it is stored.
async fn listed(
    client: &RetryingClient,
    home: &Home,
) -> Result<Vec<DynamicObject>, RunRecordError> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.kube(), &home.namespace, &api_resource(UPGRADE_RUN));
    let what = format!("runs in namespace {}", home.namespace);
    Ok(client
        .call(&what, async || api.list(&ListParams::default()).await)
        .await?
        .items)
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// A run.
    Run(Box<UpgradeRun>),
    /// A run that a later version wrote, or that is damaged. It may be in progress.
    Unread {
        /// `namespace/name`.
        name: String,
        /// Why it cannot be read.
        reason: String,
    },
}

impl Listed {
    /// Whether it is in progress; true if that is unknown.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        match self {
            Self::Run(run) => run.is_under_way(),
            Self::Unread { .. } => true,
        }
    }
}

/// Sorts by time of creation, which the API server stores in whole seconds, then by time of begin.
/// A run that has not begun is the newest, because the lock was free for it.
fn oldest_first(runs: &mut [UpgradeRun]) {
    runs.sort_by_key(|run| {
        let began = run.status.started_at;
        (
            run.metadata.creation_timestamp,
            began.is_none(),
            began,
            run.metadata.name.clone(),
        )
    });
}

impl RunRecord {
    /// Every run of a release in a namespace, the newest last.
    ///
    /// # Errors
    /// If they cannot be listed, or one of them cannot be read: it may be in progress.
    pub async fn runs(
        client: &RetryingClient,
        home: &Home,
        of: &ReleaseName,
    ) -> Result<Vec<UpgradeRun>, RunRecordError> {
        let mut runs = Vec::new();
        for object in listed(client, home).await? {
            let spec = object.data.get("spec");
            let says = |key: &str| spec.and_then(|spec| spec.get(key)).and_then(Value::as_str);
            if says("release") == Some(&*of.name) && says("namespace") == Some(&*of.namespace) {
                runs.push(read(object)?);
            }
        }
        oldest_first(&mut runs);
        Ok(runs)
    }

    /// Every run that may be read, of any release, the newest last: of all namespaces, or only of
    /// the home if the account may not list all. With them the namespace, if only one was read.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn everywhere(
        client: &RetryingClient,
        home: &Home,
    ) -> Result<(Vec<Listed>, Option<String>), RunRecordError> {
        let api: Api<DynamicObject> = Api::all_with(client.kube(), &api_resource(UPGRADE_RUN));
        let found = client
            .call("runs in all namespaces", async || {
                api.list(&ListParams::default()).await
            })
            .await;
        let (objects, only) = match found {
            Ok(list) => (list.items, None),
            Err(ApiError::Refused { .. }) => {
                (listed(client, home).await?, Some(home.namespace.clone()))
            }
            Err(error) => return Err(error.into()),
        };
        let (mut runs, mut unread) = (Vec::new(), Vec::new());
        for object in objects {
            let meta = &object.metadata;
            let name = format!(
                "{}/{}",
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default()
            );
            match read(object) {
                Ok(run) => runs.push(run),
                Err(error) => unread.push(Listed::Unread {
                    name,
                    reason: error.to_string(),
                }),
            }
        }
        oldest_first(&mut runs);
        let runs = runs.into_iter().map(|run| Listed::Run(Box::new(run)));
        Ok((runs.chain(unread).collect(), only))
    }

    /// Opens the record of a run that exists already, as the holder of the lock.
    ///
    /// # Errors
    /// If it does not exist, or a later holder of the lock wrote.
    pub async fn open(
        client: &RetryingClient,
        home: &Home,
        name: &str,
        lock: &Lock,
        history: History,
    ) -> Result<Self, RunRecordError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.kube(), &home.namespace, &api_resource(UPGRADE_RUN));
        let full_name = format!("{}/{name}", home.namespace);
        let object = match client
            .call(&format!("UpgradeRun {full_name}"), async || {
                api.get(name).await
            })
            .await
        {
            Ok(object) => object,
            Err(ApiError::NotFound { .. }) => return Err(RunRecordError::Gone(full_name)),
            Err(error) => return Err(error.into()),
        };
        Self::of(client, api, full_name, lock, history, read(object)?)
    }

    /// Writes a new run, and opens its record. If an earlier attempt wrote it already, with the
    /// same specification, it is opened.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn create(
        client: &RetryingClient,
        home: &Home,
        run: &UpgradeRun,
        lock: &Lock,
        history: History,
    ) -> Result<Self, RunRecordError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.kube(), &home.namespace, &api_resource(UPGRADE_RUN));
        let name = &run.metadata.name;
        let full_name = format!("{}/{name}", home.namespace);
        let of = ReleaseName {
            name: run.spec.release.clone(),
            namespace: run.spec.namespace.clone(),
        };
        let object = json!({
            "apiVersion": API_VERSION, "kind": UPGRADE_RUN.kind,
            "metadata": {"name": name, "labels": labels(&of)},
            "spec": run.spec,
        });
        let object: DynamicObject = serde_json::from_value(object)
            .map_err(|_| RunRecordError::Foreign(full_name.clone()))?;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        lock.permit().await?;
        let created = client
            .call(&format!("UpgradeRun {full_name}"), async || {
                api.create(&params, &object).await
            })
            .await;
        let created = match created {
            Ok(object) => read(object)?,
            Err(ApiError::Conflict { .. }) => {
                let found = read(
                    client
                        .call(&format!("UpgradeRun {full_name}"), async || {
                            api.get(name).await
                        })
                        .await?,
                )?;
                if found.spec != run.spec {
                    let what = format!("UpgradeRun {full_name} exists with another plan");
                    return Err(ApiError::Conflict { what }.into());
                }
                found
            }
            Err(error) => return Err(error.into()),
        };
        Self::of(client, api, full_name, lock, history, created)
    }

    fn of(
        client: &RetryingClient,
        api: Api<DynamicObject>,
        full_name: String,
        lock: &Lock,
        history: History,
        run: UpgradeRun,
    ) -> Result<Self, RunRecordError> {
        let record = Self {
            client: client.clone(),
            api,
            full_name,
            holder: lock.holder().to_owned(),
            fence: lock.fence(),
            history,
            run: Mutex::new(run),
        };
        record.check_fence(&record.run().status)?;
        Ok(record)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// The run as it was last read or written.
    #[must_use]
    pub fn run(&self) -> UpgradeRun {
        self.run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the run at its current step, and records why.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn abort(
        &self,
        client: &RetryingClient,
        message: &str,
    ) -> Result<(), RunRecordError> {
        client.reporter.emit(&Event::RunEnded {
            phase: RunPhase::Aborted.name(),
            message: message.to_owned(),
        });
        self.update(|status| {
            status.phase = RunPhase::Aborted;
            status.message = Some(message.to_owned());
        })
        .await
    }

    /// Changes the status. If another client wrote first, the change is applied again to the newer
    /// status.
    ///
    /// # Errors
    /// If it cannot be written, or a later holder of the lock wrote.
    pub async fn update(&self, change: impl Fn(&mut RunStatus)) -> Result<(), RunRecordError> {
        let events = self.history.take();
        let written = self.write(&change, &events).await;
        if written.is_err() {
            self.history.give_back(events);
        }
        written
    }

    async fn write(
        &self,
        change: &impl Fn(&mut RunStatus),
        events: &[RunEvent],
    ) -> Result<(), RunRecordError> {
        let (_, name) = self
            .full_name
            .split_once('/')
            .unwrap_or(("", &self.full_name));
        let what = format!("status of UpgradeRun {}", self.full_name);
        let mut written_at: Option<Timestamp> = None;
        let mut sent = Value::Null;
        loop {
            let run = self.run();
            self.check_fence(&run.status)?;
            // A write whose response was lost may have been made: no other process writes this
            // identity and this time.
            if run.status.holder.as_deref() == Some(&*self.holder)
                && written_at.is_some()
                && run.status.updated_at == written_at
            {
                return kept_all(&sent, &run.status);
            }
            let mut status = run.status.clone();
            change(&mut status);
            for event in events {
                status.remember(event.clone());
            }
            status.holder = Some(self.holder.clone());
            status.fence = Some(self.fence);
            status.updated_at = Some(Timestamp::now());
            written_at = status.updated_at;
            status.observed_generation = run.metadata.generation;
            let values = (
                serde_json::to_value(&run.status),
                serde_json::to_value(&status),
            );
            let (Ok(old), Ok(new)) = values else {
                return Err(RunRecordError::Foreign(self.full_name.clone()));
            };
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": run.metadata.resource_version, "uid": run.metadata.uid},
                "status": difference(&old, &new),
            }));
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.into()),
                ..PatchParams::default()
            };
            sent.clone_from(&new);
            let written = self
                .client
                .call(&what, async || {
                    self.api.patch_status(name, &params, &patch).await
                })
                .await;
            let object = match written {
                Ok(object) => {
                    let kept = read(object)?;
                    let result = kept_all(&new, &kept.status);
                    self.keep(kept);
                    return result;
                }
                Err(ApiError::Conflict { .. }) => {
                    self.client
                        .call(&what, async || self.api.get(name).await)
                        .await
                }
                Err(error) => Err(error),
            };
            match object {
                Ok(object) => {
                    let found = read(object)?;
                    if found.metadata.uid != run.metadata.uid {
                        return Err(RunRecordError::Gone(self.full_name.clone()));
                    }
                    self.keep(found);
                }
                Err(ApiError::NotFound { .. }) => {
                    return Err(RunRecordError::Gone(self.full_name.clone()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn keep(&self, run: UpgradeRun) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    fn check_fence(&self, status: &RunStatus) -> Result<(), RunRecordError> {
        let overtaken = match status.fence {
            Some(fence) => {
                fence > self.fence
                    || (fence == self.fence && status.holder.as_deref() != Some(&*self.holder))
            }
            None => false,
        };
        if overtaken {
            Err(RunRecordError::Fenced {
                by: status.holder.clone(),
            })
        } else {
            Ok(())
        }
    }
}

/// Labels for the objects of a run.
#[must_use]
pub fn labels(of: &ReleaseName) -> Value {
    let short = |text: &str| {
        text.chars()
            .take(63)
            .collect::<String>()
            .trim_end_matches(['-', '.'])
            .to_owned()
    };
    json!({
        "app.kubernetes.io/managed-by": "milvus-guard",
        RELEASE_LABEL: short(&of.name),
        NAMESPACE_LABEL: short(&of.namespace),
    })
}

fn read(object: DynamicObject) -> Result<UpgradeRun, RunRecordError> {
    let metadata = &object.metadata;
    let name = format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    );
    let mut value = object.data;
    let metadata = serde_json::to_value(object.metadata).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("metadata".into(), metadata);
        fields.insert("apiVersion".into(), API_VERSION.into());
        fields.insert("kind".into(), UPGRADE_RUN.kind.into());
    }
    serde_json::from_value(value).map_err(|_| RunRecordError::Foreign(name))
}

/// Checks that the API server stored every field of a status.
fn kept_all(sent: &Value, kept: &RunStatus) -> Result<(), RunRecordError> {
    let dropped = dropped(sent, kept);
    if dropped.is_empty() {
        Ok(())
    } else {
        Err(RunRecordError::Pruned(dropped))
    }
}

/// Names of the fields of a status that the API server did not store, or of which it dropped a part.
fn dropped(sent: &Value, kept: &RunStatus) -> Vec<String> {
    let kept = serde_json::to_value(kept).unwrap_or_default();
    let fields = sent.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| {
            let stored = kept.get(name).unwrap_or(&Value::Null);
            !has_all(stored, value)
        })
        .map(|(name, _)| format!("status.{name}"))
        .collect()
}

/// Whether a value has every field of another. Plain values are not compared: a fraction may be read
/// with another last digit.
fn has_all(stored: &Value, sent: &Value) -> bool {
    match (stored, sent) {
        (_, Value::Null) => true,
        (Value::Object(stored), Value::Object(sent)) => sent.iter().all(|(name, value)| {
            let stored = stored.get(name).unwrap_or(&Value::Null);
            has_all(stored, value)
        }),
        (Value::Array(stored), Value::Array(sent)) => {
            stored.len() == sent.len()
                && stored
                    .iter()
                    .zip(sent)
                    .all(|(stored, sent)| has_all(stored, sent))
        }
        (Value::Null, _) => false,
        _ => true,
    }
}

/// The merge patch from `old` to `new`; fields that are in neither stay unchanged.
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => drop(patch.insert(key.clone(), difference(before, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_created_in_the_same_second_are_sorted_by_when_they_began() {
        let run = |name: &str, began: Option<&str>| -> UpgradeRun {
            let spec = json!({"kind": "Migration", "release": "r", "namespace": "n", "from": "2.1.4", "to": "2.2.16", "plan": [], "planHash": ""});
            let metadata = json!({"name": name, "namespace": "n", "creationTimestamp": "2026-01-31T00:00:00Z"});
            let status = json!({"phase": "Succeeded", "startedAt": began});
            serde_json::from_value(
                json!({"apiVersion": API_VERSION, "kind": "UpgradeRun", "metadata": metadata, "spec": spec, "status": status}),
            )
            .unwrap()
        };
        let mut runs = vec![
            run("a", None),
            run("b", Some("2026-01-31T00:00:00.7Z")),
            run("c", Some("2026-01-31T00:00:00.25Z")),
            run("d", Some("2026-01-31T00:00:00.5Z")),
        ];
        oldest_first(&mut runs);
        let names: Vec<&str> = runs.iter().map(|run| run.metadata.name.as_str()).collect();
        assert_eq!(names, ["c", "d", "b", "a"]);
    }

    #[test]
    fn fields_that_the_api_server_dropped_are_found_and_nothing_else() {
        let sent = json!({"a": 0.1, "b": {"c": null, "d": [{"e": 1}]}, "f": []});
        assert!(has_all(&sent, &sent));
        for same in [
            json!({"a": 0.2, "b": {"d": [{"e": 1}]}, "f": []}),
            json!({"a": 1, "b": {"d": [{"e": 1, "more": 2}]}, "f": [], "more": 1}),
        ] {
            assert!(has_all(&same, &sent), "{same}");
        }
        for less in [
            json!({"b": {"d": [{"e": 1}]}, "f": []}),
            json!({"a": 0.1, "b": {"d": [{}]}, "f": []}),
            json!({"a": 0.1, "b": {"d": []}, "f": []}),
            json!({"a": 0.1, "b": {}, "f": []}),
            json!({"a": 0.1, "b": {"d": [{"e": 1}]}}),
            json!({}),
        ] {
            assert!(!has_all(&less, &sent), "{less}");
        }
    }

    #[test]
    fn a_difference_turns_the_old_value_into_the_new_one() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1, 2], "f": 3});
        let new = json!({"a": 1, "b": {"c": 1, "d": 3}, "e": [1], "g": null});
        let patch = difference(&old, &new);
        assert_eq!(
            patch,
            json!({"b": {"d": 3}, "e": [1], "g": null, "f": null})
        );
        let mut patched = old.clone();
        json_patch::merge(&mut patched, &patch);
        assert_eq!(patched, json!({"a": 1, "b": {"c": 1, "d": 3}, "e": [1]}));
    }
}
