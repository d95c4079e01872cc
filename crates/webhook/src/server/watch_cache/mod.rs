//! The cluster's objects in memory, reduced to what rules read, and one consistent snapshot of them
//! for each review.
//!
//! | module | holds |
//! |---|---|
//! | `watched` | the kinds that are watched |
//! | `contact` | the state of the watch of each kind |
//! | `objects`, `relevance` | which objects are kept, and which parts of them |
//! | `documents` | policies and exceptions |
//! | `history` | the release history of each namespace |
//! | `views` | the state of a namespace at one time |

mod contact;
mod documents;
mod history;
mod objects;
mod relevance;
mod views;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use documents::{Documents, compiled, take_document};
use jiff::Timestamp;
use milvus_guard_core::{
    api::{DecisionSpec, UpgradeRun},
    evidence::Facts,
    milvus::service_names::ServiceNames,
    policy::{PolicySet, resolve::NamespaceLabels},
};
use milvus_guard_sources::kubernetes::guard::{decision, run_facts, upgrade_run};
use objects::{Kept, is_held};
use serde_json::Value;
use tokio::sync::Notify;
use views::Views;

use crate::server::{cache_budget::CacheBudget, release_history::ReleaseHistory};

pub use documents::Document;
pub use history::{MEMORY_KEY, memory_name};
pub(super) use relevance::{is_kept, labels};
pub use views::NamespaceSnapshot;
pub use watched::Watched;

#[derive(Default)]
struct State {
    objects: HashMap<String, BTreeMap<(Watched, String), Kept>>,
    budget: CacheBudget,
    /// How often an object was too large to keep in full.
    reductions: BTreeMap<Watched, u64>,
    /// The DNS names of Services.
    service_names: Arc<ServiceNames>,
    /// Labels of each existing namespace.
    labels: Arc<NamespaceLabels>,
    /// Namespaces that are being deleted.
    ending: BTreeSet<String>,
    documents: Documents,
    runs: BTreeMap<String, Value>,
    /// Namespace and name of each Deployment that is held.
    held: BTreeSet<(String, String)>,
    decisions: BTreeMap<String, DecisionSpec>,
    /// The history of each namespace: the stored one, with later observations of this replica.
    memories: BTreeMap<String, Arc<ReleaseHistory>>,
    /// The stored history of each namespace.
    stored: BTreeMap<String, Arc<ReleaseHistory>>,
    /// Namespace and key of each release that uses some data, by the keys of its data location.
    locations: HashMap<String, Vec<(String, String)>>,
    /// The keys in `locations` of each namespace.
    located: HashMap<String, Vec<String>>,
    /// Keys of the objects in the current listing of a kind.
    listed: HashMap<Watched, HashSet<(String, String)>>,
    synced: BTreeSet<Watched>,
    /// Why the last attempt to read or watch a kind failed.
    broken: BTreeMap<Watched, String>,
    /// Last contact for a kind: an event, a bookmark, a listing, or the begin of a watch.
    contacts: BTreeMap<Watched, Instant>,
    /// Kinds that are not watched, and from which time they count as unwatched.
    unwatched: BTreeMap<Watched, Instant>,
    compiled: Arc<PolicySet>,
    compiled_at: Option<Instant>,
    run_facts: Arc<Facts>,
}

/// The cache of the cluster.
#[derive(Default)]
pub struct WatchCache {
    state: RwLock<State>,
    views: Mutex<Views>,
    dirty: Mutex<BTreeSet<String>>,
    changed: Notify,
    namespace: String,
}

impl WatchCache {
    /// An empty cache of a guard in this namespace.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        let now = Instant::now();
        let all = || Watched::ALL.into_iter().map(|kind| (kind, now)).collect();
        let state = State {
            contacts: all(),
            unwatched: all(),
            ..State::default()
        };
        Self {
            namespace: namespace.to_owned(),
            state: RwLock::new(state),
            ..Self::default()
        }
    }

    /// Adds a new or changed object. `now` decides whether an exception ends too late.
    pub fn put(&self, kind: Watched, object: Value, now: Timestamp) {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let mut state = self.write();
        state.contact(kind);
        if let Some(listed) = state.listed.get_mut(&kind) {
            listed.insert((namespace.clone(), name.clone()));
        }
        if let Some(of) = self.is_memory(kind, &namespace, &name) {
            let memory = object
                .pointer(&format!("/data/{MEMORY_KEY}"))
                .and_then(Value::as_str);
            match memory.map(serde_json::from_str) {
                Some(Ok(memory)) => {
                    state.adopt(of, memory);
                    // The stored history may be outdated.
                    self.touch(of);
                }
                Some(Err(error)) => tracing::warn!(
                    name,
                    reason = error.to_string(),
                    "the memory of a namespace cannot be read"
                ),
                None => {}
            }
            return;
        }
        if kind == Watched::Deployments {
            state.note_held(&namespace, &name, is_held(&object));
        }
        let lists = state.listed.contains_key(&kind);
        if state.put(kind, &namespace, &name, object, now) {
            self.touch(&namespace);
            for namespace in state.fit(&namespace) {
                self.touch(&namespace);
            }
        }
        if !lists {
            state.refresh(kind);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// An object was deleted.
    pub fn delete(&self, kind: Watched, namespace: &str, name: &str) {
        let mut state = self.write();
        if let Some(of) = self.is_memory(kind, namespace, name) {
            // A user deletes it to reset the history. The running releases are recorded
            // again.
            state.stored.remove(of);
            state.remember(of, None);
            self.touch(of);
        }
        state.remove(kind, namespace, name);
        state.refresh(kind);
        drop(state);
        self.touch(namespace);
        self.changed.notify_waiters();
    }

    /// `namespace/name` of each run that is in progress.
    #[must_use]
    pub fn runs_under_way(&self) -> BTreeSet<String> {
        self.read()
            .run_facts
            .runs
            .iter()
            .flatten()
            .map(|run| run.run.clone())
            .collect()
    }

    /// Every run that can be read, including ended ones.
    #[must_use]
    pub fn upgrade_runs(&self) -> Vec<UpgradeRun> {
        let state = self.read();
        state.runs.values().filter_map(upgrade_run).collect()
    }

    /// Names of expired decisions.
    #[must_use]
    pub fn expired_decisions(&self, now: Timestamp) -> Vec<String> {
        let state = self.read();
        state
            .decisions
            .iter()
            .filter(|(_, decision)| decision.expires <= now)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns after the next change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds an object. Returns whether it may have changed the workloads in its namespace.
    fn put(
        &mut self,
        kind: Watched,
        namespace: &str,
        name: &str,
        mut object: Value,
        now: Timestamp,
    ) -> bool {
        match kind {
            Watched::Namespaces => {
                let labels = labels(&object);
                if object.pointer("/metadata/deletionTimestamp").is_some() {
                    self.ending.insert(name.to_owned());
                } else {
                    self.ending.remove(name);
                }
                // Review states in use keep the old labels; changes of other fields copy nothing.
                if self.labels.get(name) != Some(&labels) {
                    Arc::make_mut(&mut self.labels).insert(name.to_owned(), labels);
                }
                false
            }
            Watched::Policies | Watched::Exceptions => {
                take_document(&mut self.documents, kind, name, &mut object, now);
                false
            }
            Watched::Runs => {
                self.runs.insert(format!("{namespace}/{name}"), object);
                false
            }
            Watched::Decisions => {
                match decision(&object) {
                    Some(decision) => self
                        .decisions
                        .insert(format!("{namespace}/{name}"), decision),
                    None => self.decisions.remove(&format!("{namespace}/{name}")),
                };
                false
            }
            _ => self.keep(kind, namespace, name, object),
        }
    }

    fn remove(&mut self, kind: Watched, namespace: &str, name: &str) {
        if kind == Watched::Deployments {
            self.note_held(namespace, name, false);
        }
        let full = format!("{namespace}/{name}");
        match kind {
            Watched::Namespaces => {
                self.ending.remove(name);
                if self.labels.contains_key(name) {
                    Arc::make_mut(&mut self.labels).remove(name);
                }
            }
            Watched::Policies | Watched::Exceptions => {
                self.documents.remove(&(kind, name.to_owned()));
            }
            Watched::Runs => {
                self.runs.remove(&full);
            }
            Watched::Decisions => {
                self.decisions.remove(&full);
            }
            _ => {
                if kind == Watched::Services {
                    self.put_service(namespace, name, None);
                }
                self.drop_object(namespace, &(kind, name.to_owned()));
            }
        }
    }

    /// Rebuilds the data that depends on a kind.
    fn refresh(&mut self, kind: Watched) {
        match kind {
            // Reviews share policies, exceptions and labels: a change of one namespace
            // rebuilds no other one.
            Watched::Namespaces => {
                let set = PolicySet {
                    namespace_labels: Arc::clone(&self.labels),
                    ..PolicySet::clone(&self.compiled)
                };
                self.compiled = Arc::new(set);
            }
            Watched::Policies | Watched::Exceptions => {
                self.compiled = Arc::new(compiled(&self.documents, Arc::clone(&self.labels)));
                self.compiled_at = Some(Instant::now());
            }
            Watched::Runs => self.run_facts = Arc::new(run_facts(self.runs.values())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
