//! The cluster's objects in memory, reduced to what rules read, and one consistent picture of them
//! for each review.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use milvus_guard_core::{
    api::{DecisionSpec, UpgradeRun},
    evidence::{Facts, RunKind},
    manifest::{Object, object::ConfigMap},
    milvus::{
        Release,
        catalogue::Catalogue,
        data_location::DataLocation,
        dependency, identify,
        release::HELD_FROM,
        service_names::{ServiceNames, ServiceTarget},
    },
    policy::{
        PolicyDocument, PolicySet,
        lint::{self, Lint},
        resolve::NamespaceLabels,
    },
};
use milvus_guard_sources::kubernetes::{
    View,
    guard::{self, decision, run_facts},
    live::seen,
};

use super::cache_budget::{self, CacheBudget};
use super::release_history::ReleaseHistory;

/// Beginning of the names of the `ConfigMaps` in the guard's namespace that hold its
/// [`ReleaseHistory`], one for each namespace.
const MEMORY: &str = "milvus-guard-memory.";

/// Name of the `ConfigMap` that holds the memory of a namespace.
#[must_use]
pub fn memory_name(namespace: &str) -> String {
    format!("{MEMORY}{namespace}")
}
/// Key in it.
pub const MEMORY_KEY: &str = "releases.json";

/// Namespaces whose picture is kept ready. One takes a millisecond to make and about as much memory
/// as its objects.
const MAX_VIEWS: usize = 64;

/// Between the end of a watch and the begin of the next one. What takes longer is trouble.
const HANDOVER: Duration = Duration::from_secs(1);

/// Bytes of the objects of all namespaces whose picture is kept ready. What is parsed of them comes
/// on top.
const MAX_VIEW_BYTES: usize = 16 * 1024 * 1024;

/// Kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Watched {
    Deployments,
    StatefulSets,
    ConfigMaps,
    Claims,
    Services,
    Autoscalers,
    Namespaces,
    Policies,
    Exceptions,
    Runs,
    Decisions,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Deployments,
        Self::StatefulSets,
        Self::ConfigMaps,
        Self::Claims,
        Self::Services,
        Self::Autoscalers,
        Self::Namespaces,
        Self::Policies,
        Self::Exceptions,
        Self::Runs,
        Self::Decisions,
    ];

    /// Documents that decide what is allowed, independent of the running state.
    pub const DECISIVE: [Self; 4] = [
        Self::Policies,
        Self::Exceptions,
        Self::Runs,
        Self::Decisions,
    ];

    /// The kind.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Deployments => "Deployment",
            Self::StatefulSets => "StatefulSet",
            Self::ConfigMaps => "ConfigMap",
            Self::Claims => "PersistentVolumeClaim",
            Self::Services => "Service",
            Self::Autoscalers => "HorizontalPodAutoscaler",
            Self::Namespaces => "Namespace",
            Self::Policies => "UpgradePolicy",
            Self::Exceptions => "UpgradeException",
            Self::Runs => "UpgradeRun",
            Self::Decisions => "ReleaseDecision",
        }
    }
}

/// An object that is kept.
struct Kept {
    object: Object,
    /// Whether its current template has been completely available once, at any time since this was
    /// watched.
    proven: bool,
    /// When the condition that proves it was written, as it stood when the template changed last:
    /// a Deployment that returns to a template it had before keeps the old condition for a
    /// while, and that proves nothing about the new pods.
    stale: Option<String>,
    /// Bytes that the object takes.
    weight: usize,
    /// Whether its large parts are left out.
    is_reduced: bool,
}

/// A policy or an exception as it was last read.
#[derive(Clone, Debug)]
pub struct Document {
    /// What is in force: what was good last.
    pub good: Option<PolicyDocument>,
    /// Why the newest is not in force.
    pub problem: Option<String>,
    /// What `policy lint` says of the newest.
    pub lints: Vec<Lint>,
    /// Generation of the newest.
    pub generation: Option<i64>,
}

/// Policies and exceptions, by kind and name.
type Documents = BTreeMap<(Watched, String), Document>;

#[derive(Default)]
struct State {
    objects: HashMap<String, BTreeMap<(Watched, String), Kept>>,
    budget: CacheBudget,
    /// How often an object was too large to keep in full.
    reductions: BTreeMap<Watched, u64>,
    /// Under which names Services are known.
    service_names: Arc<ServiceNames>,
    /// Labels of each namespace that there is.
    labels: Arc<NamespaceLabels>,
    /// Namespaces that are being deleted.
    ending: BTreeSet<String>,
    documents: Documents,
    runs: BTreeMap<String, Value>,
    /// Namespace and name of each Deployment that is held.
    held: BTreeSet<(String, String)>,
    decisions: BTreeMap<String, DecisionSpec>,
    /// What counts of each namespace: what is stored, and what this replica has seen since.
    memories: BTreeMap<String, Arc<ReleaseHistory>>,
    /// What is stored of each namespace.
    stored: BTreeMap<String, Arc<ReleaseHistory>>,
    /// Namespace and release of what works on some data, by the keys of its location.
    locations: HashMap<String, Vec<(String, String)>>,
    /// The keys under which the releases of a namespace are there.
    located: HashMap<String, Vec<String>>,
    /// Keys that the running listing of a kind has shown.
    listed: HashMap<Watched, HashSet<(String, String)>>,
    synced: BTreeSet<Watched>,
    /// Why the last try to read or watch a kind failed.
    broken: BTreeMap<Watched, String>,
    /// When a kind gave its last sign: an event, a bookmark, a listing, or that a watch began.
    contacts: BTreeMap<Watched, Instant>,
    /// Kinds that are not watched, with the time from which on that counts.
    unwatched: BTreeMap<Watched, Instant>,
    compiled: Arc<PolicySet>,
    compiled_at: Option<Instant>,
    run_facts: Arc<Facts>,
}

/// The store.
#[derive(Default)]
pub struct WatchCache {
    state: RwLock<State>,
    views: Mutex<Views>,
    dirty: Mutex<BTreeSet<String>>,
    changed: Notify,
    namespace: String,
}

/// Whether a Deployment was paused by the webhook and not released since.
fn is_held(deployment: &Value) -> bool {
    let is_paused = deployment.pointer("/spec/paused") == Some(&Value::Bool(true));
    let annotations = deployment.pointer("/metadata/annotations");
    is_paused && annotations.is_some_and(|annotations| annotations.get(HELD_FROM).is_some())
}

/// Views that are kept ready, and what is known of all namespaces.
#[derive(Default)]
struct Views {
    kept: HashMap<String, Arc<View>>,
    /// Whether a namespace holds Milvus; missing if it changed since.
    holds_milvus: HashMap<String, bool>,
}

/// Everything about one namespace, at one moment.
pub struct Picture {
    /// The running state.
    pub view: Arc<View>,
    /// Under which names Services of all namespaces are known.
    pub service_names: Arc<ServiceNames>,
    /// Whether the namespace is being deleted.
    pub ending: bool,
    /// Policies and exceptions, without a time.
    pub policies: Arc<PolicySet>,
    /// Runs and migrations.
    pub runs: Arc<Facts>,
    /// What was allowed.
    pub decisions: Vec<DecisionSpec>,
}

impl WatchCache {
    /// An empty store of a guard that lives in this namespace.
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

    /// A listing of a kind begins; what it does not show no longer exists when it ends.
    pub fn begin(&self, kind: Watched) {
        self.write().listed.insert(kind, HashSet::new());
    }

    /// The listing of a kind is complete.
    pub fn finish(&self, kind: Watched) {
        let mut state = self.write();
        let listed = state.listed.remove(&kind).unwrap_or_default();
        let gone: Vec<(String, String)> = state
            .keys(kind)
            .into_iter()
            .filter(|key| !listed.contains(key))
            .collect();
        for (namespace, name) in gone {
            state.remove(kind, &namespace, &name);
            self.touch(&namespace);
        }
        state.synced.insert(kind);
        state.contact(kind);
        state.refresh(kind);
        drop(state);
        self.changed.notify_waiters();
    }

    /// The kind does not exist in this cluster: so the API server said just now, and there is
    /// nothing to miss.
    pub fn absent(&self, kind: Watched) {
        let mut state = self.write();
        state.synced.insert(kind);
        state.contact(kind);
        state.unwatched.remove(&kind);
        drop(state);
        self.changed.notify_waiters();
    }

    /// A watch of a kind stands.
    pub fn connected(&self, kind: Watched) {
        let mut state = self.write();
        state.contact(kind);
        state.unwatched.remove(&kind);
    }

    /// The watch of a kind gave a sign.
    pub fn contact(&self, kind: Watched) {
        self.write().contact(kind);
    }

    /// The watch of a kind ended in order. The next one should be up in a moment.
    pub fn ended(&self, kind: Watched) {
        self.write()
            .unwatched
            .entry(kind)
            .or_insert_with(|| Instant::now() + HANDOVER);
    }

    /// The watch of a kind is in trouble.
    pub fn broken(&self, kind: Watched, reason: String) {
        let mut state = self.write();
        let (now, from) = (Instant::now(), state.unwatched.entry(kind));
        let from = from.or_insert(now);
        *from = now.min(*from);
        state.broken.insert(kind, reason);
    }

    /// The first of these kinds that is not watched now, so that what is known of it may be old.
    #[must_use]
    pub fn unwatched(&self, kinds: &[Watched]) -> Option<Watched> {
        self.unwatched_for(kinds, Duration::ZERO)
    }

    /// The same, if it has been so for this long.
    #[must_use]
    pub fn unwatched_for(&self, kinds: &[Watched], time: Duration) -> Option<Watched> {
        let state = self.read();
        let now = Instant::now();
        kinds.iter().copied().find(|kind| {
            state
                .unwatched
                .get(kind)
                .is_some_and(|from| *from + time <= now)
        })
    }

    /// An object is new or changed. `now` decides whether an exception reaches too far ahead.
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
                    // It may say what is not so any more.
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
            // Anyone who deletes it wants to start again. The running releases are remembered
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

    /// Policies and exceptions in force, where these objects are all that there are now. One of
    /// them that is bad leaves what was good last in force, as it does where it is watched.
    #[must_use]
    pub fn policies_of(&self, objects: Vec<Value>, now: Timestamp) -> PolicySet {
        let (mut documents, labels) = {
            let state = self.read();
            (state.documents.clone(), Arc::clone(&state.labels))
        };
        let mut there = HashSet::new();
        for mut object in objects {
            let kind = match object.get("kind").and_then(Value::as_str) {
                Some(kind) if kind == Watched::Policies.kind() => Watched::Policies,
                _ => Watched::Exceptions,
            };
            let name = object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            take_document(&mut documents, kind, &name, &mut object, now);
            there.insert((kind, name));
        }
        documents.retain(|key, _| there.contains(key));
        compiled(&documents, labels)
    }

    /// What is known about a namespace now.
    #[must_use]
    pub fn picture(&self, namespace: &str) -> Picture {
        let state = self.read();
        let view = self.view_of(&state, namespace);
        Picture {
            view,
            service_names: Arc::clone(&state.service_names),
            ending: state.ending.contains(namespace),
            policies: Arc::clone(&state.compiled),
            runs: Arc::clone(&state.run_facts),
            decisions: state
                .decisions
                .values()
                .filter(|decision| decision.namespace == namespace)
                .cloned()
                .collect(),
        }
    }

    fn view_of(&self, state: &State, namespace: &str) -> Arc<View> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.kept.get(namespace) {
            return Arc::clone(view);
        }
        let objects = state
            .objects
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values);
        let view = Arc::new(View::of(
            objects.map(|kept| (kept.object.clone(), kept.proven)),
        ));
        let holds_milvus = !view.place.snapshot.releases.is_empty();
        if state.objects.contains_key(namespace) {
            views
                .holds_milvus
                .insert(namespace.to_owned(), holds_milvus);
        }
        // Namespaces without Milvus are many; theirs cost nothing to make again.
        if holds_milvus {
            let all: usize = views
                .kept
                .keys()
                .map(|namespace| state.budget.of(namespace))
                .sum();
            if views.kept.len() >= MAX_VIEWS || all + state.budget.of(namespace) > MAX_VIEW_BYTES {
                views.kept.clear();
            }
            views.kept.insert(namespace.to_owned(), Arc::clone(&view));
        }
        view
    }

    /// Namespaces in which something changed since this was last asked.
    #[must_use]
    pub fn take_changed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The namespaces that hold Milvus. Their views are not kept: in a large cluster all of them
    /// would not fit into memory.
    #[must_use]
    pub fn milvus_namespaces(&self) -> BTreeSet<String> {
        let names: Vec<String> = self.read().objects.keys().cloned().collect();
        names
            .into_iter()
            .filter(|namespace| self.holds_milvus(namespace))
            .collect()
    }

    fn holds_milvus(&self, namespace: &str) -> bool {
        let known = self
            .views
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .holds_milvus
            .get(namespace)
            .copied();
        // The lock is taken for one namespace at a time, so that no one waits for all of them.
        known.unwrap_or_else(|| {
            !self
                .view_of(&self.read(), namespace)
                .place
                .snapshot
                .releases
                .is_empty()
        })
    }

    /// Namespace and name of each release of which a Deployment is held, or whose held change is
    /// in progress.
    #[must_use]
    pub fn held_releases(&self) -> BTreeSet<(String, String)> {
        let state = self.read();
        let is_own = |run: &str| {
            let place = run.split_once('/').map(|(place, _)| place);
            place == Some(&self.namespace)
        };
        let under_way = state
            .run_facts
            .runs
            .iter()
            .flatten()
            .filter(|run| run.kind == RunKind::Hold && is_own(&run.run))
            .map(|run| (run.namespace.clone(), run.release.clone()));
        let mut found: BTreeSet<_> = under_way.collect();
        let namespaces: BTreeSet<&String> = state.held.iter().map(|(name, _)| name).collect();
        for namespace in namespaces {
            let view = self.view_of(&state, namespace);
            let releases = view.place.snapshot.releases.iter();
            let held = releases.filter(|release| release.held().next().is_some());
            let name = |release: &Release| (namespace.clone(), release.helm_name().to_owned());
            found.extend(held.map(name));
        }
        found
    }

    /// How many Deployments are held.
    #[must_use]
    pub fn held_deployments(&self) -> usize {
        self.read().held.len()
    }

    /// What is remembered of a namespace.
    #[must_use]
    pub fn memory(&self, namespace: &str) -> Arc<ReleaseHistory> {
        self.read()
            .memories
            .get(namespace)
            .map(Arc::clone)
            .unwrap_or_default()
    }

    /// The releases of other namespaces than this that work on some data.
    #[must_use]
    pub fn using(
        &self,
        location: &DataLocation,
        except: &str,
        catalogue: &Catalogue,
    ) -> Vec<Release> {
        let state = self.read();
        let users = location
            .keys()
            .into_iter()
            .filter_map(|key| state.locations.get(&key))
            .flatten();
        let users: BTreeSet<&(String, String)> =
            users.filter(|(namespace, _)| namespace != except).collect();
        users
            .into_iter()
            .filter_map(|(namespace, release)| {
                state.memories.get(namespace)?.release(release, catalogue)
            })
            .collect()
    }

    /// Namespaces of which something is remembered.
    #[must_use]
    pub fn remembered_namespaces(&self) -> BTreeSet<String> {
        let state = self.read();
        state
            .memories
            .iter()
            .filter(|(_, memory)| !memory.is_empty())
            .map(|(namespace, _)| namespace.clone())
            .collect()
    }

    /// Takes in what this replica has seen of a namespace.
    pub fn remember(&self, namespace: &str, memory: ReleaseHistory) {
        self.write().remember(
            namespace,
            Some(Arc::new(memory)).filter(|memory| !memory.is_empty()),
        );
    }

    /// Notes that the memory of a namespace is stored like this.
    pub fn stored(&self, namespace: &str, memory: Arc<ReleaseHistory>) {
        let mut state = self.write();
        if memory.is_empty() {
            state.stored.remove(namespace);
            return;
        }
        // Equal memories are kept once.
        if let Some(own) = state
            .memories
            .get_mut(namespace)
            .filter(|own| **own == memory)
        {
            *own = Arc::clone(&memory);
        }
        state.stored.insert(namespace.to_owned(), memory);
    }

    /// Namespaces of which something else is remembered than is stored, with what is to be stored.
    #[must_use]
    pub fn unstored(&self) -> Vec<(String, Arc<ReleaseHistory>)> {
        let state = self.read();
        let changed = state
            .memories
            .iter()
            .filter(|(namespace, memory)| state.stored.get(*namespace) != Some(*memory));
        let gone = state
            .stored
            .keys()
            .filter(|namespace| !state.memories.contains_key(*namespace));
        let changed = changed.map(|(namespace, memory)| (namespace.clone(), Arc::clone(memory)));
        changed
            .chain(gone.map(|namespace| (namespace.clone(), Arc::default())))
            .collect()
    }

    /// How many namespaces have a release that does not fit into their memory.
    #[must_use]
    pub fn incomplete_memories(&self) -> usize {
        self.read()
            .memories
            .values()
            .filter(|memory| memory.is_incomplete())
            .count()
    }

    /// The namespace of a memory, if an object is one.
    fn is_memory<'n>(&self, kind: Watched, namespace: &str, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(MEMORY)
            .filter(|_| kind == Watched::ConfigMaps && namespace == self.namespace)
    }

    /// Every policy and exception, by kind and name.
    #[must_use]
    pub fn documents(&self) -> Vec<((Watched, String), Document)> {
        self.read()
            .documents
            .iter()
            .map(|(key, document)| (key.clone(), document.clone()))
            .collect()
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

    /// Every run that can be read, also those that have ended.
    #[must_use]
    pub fn upgrade_runs(&self) -> Vec<UpgradeRun> {
        let state = self.read();
        state.runs.values().filter_map(guard::upgrade_run).collect()
    }

    /// Names of decisions that no longer hold.
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

    /// Kinds that have not been read once, with what is known about why.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let state = self.read();
        Watched::ALL
            .into_iter()
            .filter(|kind| !state.synced.contains(kind))
            .map(|kind| match state.broken.get(&kind) {
                Some(reason) => format!("{} ({reason})", kind.kind()),
                None => kind.kind().to_owned(),
            })
            .collect()
    }

    /// For each kind how many objects are kept, and how many seconds ago the API server gave a sign
    /// about it.
    #[must_use]
    pub fn health(&self) -> Vec<(Watched, usize, f64)> {
        let state = self.read();
        let age = |kind| {
            state
                .contacts
                .get(&kind)
                .map_or(0.0, |at| at.elapsed().as_secs_f64())
        };
        Watched::ALL
            .into_iter()
            .map(|kind| (kind, state.keys(kind).len(), age(kind)))
            .collect()
    }

    /// How often objects of each kind were too large to keep in full.
    #[must_use]
    pub fn reductions(&self) -> BTreeMap<Watched, u64> {
        self.read().reductions.clone()
    }

    /// Bytes that the objects of a namespace take.
    #[must_use]
    pub fn bytes_of(&self, namespace: &str) -> usize {
        self.read().budget.of(namespace)
    }

    /// Seconds since the policies last changed.
    #[must_use]
    pub fn policy_age(&self) -> Option<f64> {
        self.read().compiled_at.map(|at| at.elapsed().as_secs_f64())
    }

    /// Returns after the next change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn touch(&self, namespace: &str) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.kept.remove(namespace);
        views.holds_milvus.remove(namespace);
        drop(views);
        self.dirty
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(namespace.to_owned());
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in the stored memory of a namespace.
    fn adopt(&mut self, namespace: &str, stored: ReleaseHistory) {
        let stored = Arc::new(stored);
        let mut memory = self
            .memories
            .get(namespace)
            .map(|memory| ReleaseHistory::clone(memory))
            .unwrap_or_default();
        memory.adopt(&stored);
        // Equal memories are kept once.
        let memory = if memory == *stored {
            Arc::clone(&stored)
        } else {
            Arc::new(memory)
        };
        self.remember(namespace, Some(memory));
        self.stored.insert(namespace.to_owned(), stored);
    }

    /// Replaces what is remembered of a namespace; `None` if nothing is.
    fn remember(&mut self, namespace: &str, memory: Option<Arc<ReleaseHistory>>) {
        for key in self.located.remove(namespace).unwrap_or_default() {
            if let Some(users) = self.locations.get_mut(&key) {
                users.retain(|(known, _)| known != namespace);
                if users.is_empty() {
                    self.locations.remove(&key);
                }
            }
        }
        self.memories.remove(namespace);
        let Some(memory) = memory else { return };
        for (release, location) in memory.locations(Catalogue::embedded()) {
            for key in location.keys() {
                self.locations
                    .entry(key.clone())
                    .or_default()
                    .push((namespace.to_owned(), release.clone()));
                self.located
                    .entry(namespace.to_owned())
                    .or_default()
                    .push(key);
            }
        }
        self.memories.insert(namespace.to_owned(), memory);
    }

    fn contact(&mut self, kind: Watched) {
        self.contacts.insert(kind, Instant::now());
        self.broken.remove(&kind);
    }

    fn keys(&self, kind: Watched) -> Vec<(String, String)> {
        let cluster = |name: &String| (String::new(), name.clone());
        match kind {
            Watched::Namespaces => self.labels.keys().map(cluster).collect(),
            Watched::Policies | Watched::Exceptions => self
                .documents
                .keys()
                .filter(|(known, _)| *known == kind)
                .map(|(_, name)| cluster(name))
                .collect(),
            Watched::Runs => self.runs.keys().filter_map(|key| split(key)).collect(),
            Watched::Decisions => self.decisions.keys().filter_map(|key| split(key)).collect(),
            _ => self
                .objects
                .iter()
                .flat_map(|(namespace, objects)| {
                    objects
                        .keys()
                        .filter(|(known, _)| *known == kind)
                        .map(|(_, name)| (namespace.clone(), name.clone()))
                })
                .collect(),
        }
    }

    /// Takes an object in; whether it may have changed the workloads in its namespace.
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
                // Scenes that are at work keep the labels of before; a change of anything else
                // copies nothing.
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

    /// Takes in where a Service leads to; `None` if it no longer exists.
    fn put_service(&mut self, namespace: &str, name: &str, service: Option<&Value>) {
        let target = service.and_then(ServiceTarget::read);
        if !self.service_names.holds(namespace, name, target.as_ref()) {
            Arc::make_mut(&mut self.service_names).set(namespace, name, target);
        }
    }

    fn keep(&mut self, kind: Watched, namespace: &str, name: &str, mut object: Value) -> bool {
        if kind == Watched::Services {
            self.put_service(namespace, name, Some(&object));
        }
        if let Value::Object(fields) = &mut object {
            fields.insert("kind".into(), kind.kind().into());
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                metadata.remove("managedFields");
            }
        }
        let written = progress_written(&object);
        let key = (kind, name.to_owned());
        let Some((object, says_proven)) = seen(&object).filter(|(object, _)| is_kept(object))
        else {
            return self.drop_object(namespace, &key);
        };
        let weight = object.weight();
        let objects = self.objects.entry(namespace.to_owned()).or_default();
        let old = objects.get(&key);
        let same = old.is_some_and(|old| match reduced(&object) {
            Some(small) if old.is_reduced => same_template(&old.object, &small),
            _ => same_template(&old.object, &object),
        });
        let stale = match old {
            Some(old) if same => old.stale.clone(),
            Some(_) => written.clone(),
            None => None,
        };
        let proven = (says_proven && (stale.is_none() || written != stale))
            || old.is_some_and(|old| same && old.proven);
        let old = objects.insert(
            key,
            Kept {
                object,
                proven,
                stale,
                weight,
                is_reduced: false,
            },
        );
        self.budget
            .change(namespace, old.map_or(0, |old| old.weight), weight);
        true
    }

    /// Forgets an object; whether it was there.
    fn drop_object(&mut self, namespace: &str, key: &(Watched, String)) -> bool {
        let Some(objects) = self.objects.get_mut(namespace) else {
            return false;
        };
        let old = objects.remove(key);
        if objects.is_empty() {
            self.objects.remove(namespace);
        }
        if let Some(old) = &old {
            self.budget.change(namespace, old.weight, 0);
        }
        old.is_some()
    }

    /// Leaves out the largest parts of what is kept until everything fits, after a namespace grew;
    /// the namespaces where that was done. What is left out is unknown to the rules, never
    /// absent.
    fn fit(&mut self, grown: &str) -> BTreeSet<String> {
        let mut done = BTreeSet::new();
        while let Some(namespace) = self.budget.too_full(grown) {
            let objects = self.objects.get(&namespace).into_iter().flatten();
            let large =
                objects.filter(|(_, kept)| !kept.is_reduced && kept.weight > cache_budget::SMALL);
            let Some(key) = large
                .max_by_key(|(_, kept)| kept.weight)
                .map(|(key, _)| key.clone())
            else {
                break;
            };
            let (kind, name) = (key.0.kind(), &key.1);
            if done.insert(namespace.clone()) {
                tracing::warn!(
                    namespace,
                    kind,
                    name,
                    "objects are too large to keep in full; the parts that were left out are \
                     unknown"
                );
            } else {
                tracing::debug!(namespace, kind, name, "too large to keep in full");
            }
            *self.reductions.entry(key.0).or_default() += 1;
            let Some(kept) = self
                .objects
                .get_mut(&namespace)
                .and_then(|objects| objects.get_mut(&key))
            else {
                break;
            };
            match reduced(&kept.object) {
                Some(object) => {
                    let weight = object.weight();
                    self.budget.change(&namespace, kept.weight, weight);
                    (kept.object, kept.weight, kept.is_reduced) = (object, weight, true);
                }
                None => {
                    self.drop_object(&namespace, &key);
                }
            }
        }
        done
    }

    fn note_held(&mut self, namespace: &str, name: &str, is_held: bool) {
        let key = (namespace.to_owned(), name.to_owned());
        if is_held {
            self.held.insert(key);
        } else {
            self.held.remove(&key);
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

    /// Rebuilds what depends on a kind.
    fn refresh(&mut self, kind: Watched) {
        match kind {
            // Policies and exceptions are shared with every context, and so are the labels: a
            // change of one namespace rebuilds no other.
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

/// Takes in a policy or an exception.
fn take_document(
    documents: &mut Documents,
    kind: Watched,
    name: &str,
    object: &mut Value,
    now: Timestamp,
) {
    let generation = object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64);
    let key = (kind, name.to_owned());
    let last_good = documents
        .get(&key)
        .and_then(|document| document.good.clone());
    let document = match guard::document(object, kind.kind()) {
        Err(error) => Document {
            good: last_good,
            problem: Some(error.message),
            lints: Vec::new(),
            generation,
        },
        Ok(read) => {
            let lints = lint::lint(std::slice::from_ref(&read), now);
            let error = lints
                .iter()
                .find(|lint| lint.severity == lint::Severity::Error)
                .map(|lint| lint.message.clone());
            let good = if error.is_some() {
                last_good
            } else {
                Some(read)
            };
            Document {
                good,
                problem: error,
                lints,
                generation,
            }
        }
    };
    documents.insert(key, document);
}

/// What is in force by these documents.
fn compiled(documents: &Documents, namespace_labels: Arc<NamespaceLabels>) -> PolicySet {
    let mut set = PolicySet {
        namespace_labels,
        ..PolicySet::default()
    };
    for document in documents
        .values()
        .filter_map(|document| document.good.clone())
    {
        set.add(document);
    }
    set
}

/// The labels of an object.
pub(super) fn labels(object: &Value) -> BTreeMap<String, String> {
    object
        .pointer("/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default()
}

fn split(key: &str) -> Option<(String, String)> {
    key.split_once('/')
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

/// An object without its large parts; `None` if it is of no use then.
fn reduced(object: &Object) -> Option<Object> {
    object.reduced(identify::may_run_milvus)
}

/// Whether a rule could look at an object.
pub(super) fn is_kept(object: &Object) -> bool {
    match object {
        Object::Workload(workload) => {
            identify::component(workload).is_some() || dependency::family(workload).is_some()
        }
        Object::Config(config) => {
            config.is_milvus_configuration() || is_small_configuration(config)
        }
        Object::Claim(_) | Object::Service(_) | Object::Autoscaler(_) => true,
        Object::Deployer(_) | Object::Other(_) => false,
    }
}

/// A `ConfigMap` without Milvus' own file names is kept for its variables only: a few lines that
/// name the dependencies of Milvus.
const SMALL_CONFIGURATION: usize = 16 * 1024;

fn is_small_configuration(config: &ConfigMap) -> bool {
    let size: usize = config
        .files
        .iter()
        .map(|file| file.key.len() + file.text.as_ref().map_or(0, |text| text.len()))
        .sum();
    let mentions = |text: &str| dependency::may_be_ours(&text.to_ascii_lowercase());
    size <= SMALL_CONFIGURATION
        && config
            .files
            .iter()
            .any(|file| mentions(&file.key) || file.text.as_deref().is_ok_and(mentions))
}

/// When the Deployment's controller last wrote how the rollout stands.
fn progress_written(object: &Value) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let progress = conditions
        .iter()
        .find(|condition| condition["type"] == "Progressing")?;
    progress["lastUpdateTime"].as_str().map(str::to_owned)
}

/// Whether two states of a workload want the same pods.
fn same_template(old: &Object, new: &Object) -> bool {
    match (old, new) {
        (Object::Workload(old), Object::Workload(new)) => old.pod == new.pod,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use milvus_guard_core::policy::PolicyAction;

    fn deployment(name: &str, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "n"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": image, "args": ["milvus", "run", "proxy"]}]}}}})
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn what_a_new_listing_does_not_show_was_deleted() {
        let store = WatchCache::new("guard");
        store.begin(Watched::Deployments);
        store.put(
            Watched::Deployments,
            deployment("r-proxy", "milvusdb/milvus:v2.4.5"),
            NOW,
        );
        store.put(
            Watched::Deployments,
            json!({"metadata": {"name": "other", "namespace": "n"}, "spec": {}}),
            NOW,
        );
        store.finish(Watched::Deployments);
        assert_eq!(store.picture("n").view.place.snapshot.releases.len(), 1);
        assert_eq!(
            store.health()[0].1,
            1,
            "only what a rule could look at is kept"
        );
        assert!(!store.missing().contains(&"Deployment".to_owned()));
        store.begin(Watched::Deployments);
        assert_eq!(
            store.picture("n").view.place.snapshot.releases.len(),
            1,
            "a listing in progress takes nothing away"
        );
        store.finish(Watched::Deployments);
        assert!(store.picture("n").view.place.snapshot.releases.is_empty());
    }

    #[test]
    fn a_bad_policy_leaves_the_last_good_one_in_force() {
        let policy = |action: &str| {
            json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "p", "uid": "x"},
                "spec": {"rules": [{"id": "MG201", "action": action}]}, "status": {"conditions": []}})
        };
        let store = WatchCache::new("guard");
        store.put(Watched::Policies, policy("Warn"), NOW);
        store.put(Watched::Policies, policy("Loud"), NOW);
        assert_eq!(store.picture("n").policies.policies.len(), 1);
        assert!(
            store.documents()[0]
                .1
                .problem
                .as_ref()
                .unwrap()
                .contains("Loud")
        );
        store.delete(Watched::Policies, "", "p");
        assert!(store.picture("n").policies.policies.is_empty());
    }

    #[test]
    fn scenes_share_labels_and_a_namespace_changes_only_what_it_must() {
        let namespace = |name: &str, team: &str, phase: &str| json!({"metadata": {"name": name, "labels": {"team": team}}, "status": {"phase": phase}});
        let store = WatchCache::new("guard");
        store.begin(Watched::Namespaces);
        for number in 0..5000 {
            store.put(
                Watched::Namespaces,
                namespace(&format!("n-{number}"), "a", "Active"),
                NOW,
            );
        }
        store.finish(Watched::Namespaces);
        let labels = || store.picture("n-1").policies.at(NOW).namespace_labels;
        let first = labels();
        assert_eq!(first.len(), 5000);
        assert!(
            Arc::ptr_eq(&first, &labels()),
            "a context copies none of them"
        );
        store.put(Watched::Namespaces, namespace("n-1", "a", "Odd"), NOW);
        assert!(
            Arc::ptr_eq(&first, &labels()),
            "other changes concern no one"
        );
        store.put(Watched::Namespaces, namespace("n-1", "b", "Active"), NOW);
        assert_eq!(
            (
                first["n-1"]["team"].as_str(),
                labels()["n-1"]["team"].as_str()
            ),
            ("a", "b")
        );
        store.delete(Watched::Namespaces, "", "n-1");
        assert!(!labels().contains_key("n-1"));
        let mut ending = namespace("n-2", "a", "Terminating");
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        store.put(Watched::Namespaces, ending, NOW);
        assert!(store.picture("n-2").ending && !store.picture("n-3").ending);
    }

    #[test]
    fn namespaces_with_milvus_are_known_without_their_views() {
        let store = WatchCache::new("guard");
        let put = |namespace: &str, name: &str, image: &str| {
            let mut object = deployment(name, image);
            object["metadata"]["namespace"] = json!(namespace);
            if !image.contains("milvus") {
                object["spec"]["template"]["spec"]["containers"][0]["args"] = json!([]);
            }
            store.put(Watched::Deployments, object, NOW);
        };
        let names = || {
            store
                .milvus_namespaces()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        for number in 0..3 * MAX_VIEWS {
            put(
                &format!("milvus-{number}"),
                "my-release-milvus-proxy",
                "milvusdb/milvus:v2.4.5",
            );
        }
        put("web", "web", "nginx:1");
        assert_eq!(store.milvus_namespaces().len(), 3 * MAX_VIEWS);
        let kept = || store.views.lock().unwrap().kept.len();
        assert!(kept() <= MAX_VIEWS);
        // Nothing changed, so nothing is made again.
        store.views.lock().unwrap().kept.clear();
        assert_eq!(
            (store.milvus_namespaces().len(), kept()),
            (3 * MAX_VIEWS, 0)
        );
        for number in 1..3 * MAX_VIEWS {
            store.delete(
                Watched::Deployments,
                &format!("milvus-{number}"),
                "my-release-milvus-proxy",
            );
        }
        assert_eq!(names(), "milvus-0");
        put("web", "my-release-milvus-proxy", "milvusdb/milvus:v2.4.5");
        assert_eq!(names(), "milvus-0 web");
        store.delete(Watched::Deployments, "milvus-0", "my-release-milvus-proxy");
        assert_eq!(
            (
                names().as_str(),
                store.views.lock().unwrap().holds_milvus.len()
            ),
            ("web", 1)
        );
    }

    #[test]
    fn a_memory_that_is_stored_as_it_is_known_is_kept_once() {
        let store = WatchCache::new("guard");
        let (own, stored) = (
            || Arc::clone(&store.read().memories["n"]),
            || Arc::clone(&store.read().stored["n"]),
        );
        let object = deployment("my-release-milvus-proxy", "milvusdb/milvus:v2.4.5");
        store.put(Watched::Deployments, object, NOW);
        let namespace = store.milvus_namespaces().pop_first().unwrap();
        let mut memory = ReleaseHistory::default();
        memory.see(
            &namespace,
            &store.picture(&namespace).view,
            Catalogue::embedded(),
            NOW,
        );
        store.remember("n", memory.clone());
        assert_eq!(store.unstored().len(), 1);
        store.stored("n", Arc::new(memory.clone()));
        assert!(store.unstored().is_empty() && Arc::ptr_eq(&own(), &stored()));
        let text = serde_json::to_string(&memory).unwrap();
        let map = json!({"metadata": {"name": memory_name("n"), "namespace": "guard"}, "data": {MEMORY_KEY: text}});
        store.put(Watched::ConfigMaps, map, NOW);
        assert!(store.unstored().is_empty() && Arc::ptr_eq(&own(), &stored()));
        assert!(
            store.take_changed().contains("n"),
            "stored objects are compared with the running state"
        );
        store.delete(Watched::ConfigMaps, "guard", &memory_name("n"));
        assert!(store.memory("n").is_empty() && store.unstored().is_empty());
    }

    #[test]
    fn a_kind_that_is_not_watched_is_named() {
        let store = WatchCache::new("guard");
        assert_eq!(
            store.unwatched(&Watched::ALL),
            Some(Watched::Deployments),
            "nothing is watched yet"
        );
        for kind in Watched::ALL {
            store.connected(kind);
        }
        assert_eq!(store.unwatched(&Watched::ALL), None);
        store.ended(Watched::Runs);
        assert_eq!(
            store.unwatched(&Watched::ALL),
            None,
            "the next one is on its way"
        );
        store.broken(Watched::Runs, "no".into());
        assert_eq!(store.unwatched(&Watched::DECISIVE), Some(Watched::Runs));
        assert_eq!(store.unwatched(&[Watched::Policies]), None);
        store.contact(Watched::Runs);
        assert_eq!(
            store.unwatched(&Watched::DECISIVE),
            Some(Watched::Runs),
            "a listing is not a watch"
        );
        store.absent(Watched::Runs);
        assert_eq!(
            store.unwatched(&Watched::DECISIVE),
            None,
            "what does not exist does not change"
        );
    }

    #[test]
    fn policies_that_are_read_count_as_those_that_are_watched() {
        let policy = |name: &str, action: &str| {
            json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": name},
                "spec": {"rules": [{"id": "MG201", "action": action}]}})
        };
        let store = WatchCache::new("guard");
        store.put(Watched::Policies, policy("kept", "Warn"), NOW);
        store.put(Watched::Policies, policy("gone", "Warn"), NOW);
        let set = store.policies_of(vec![policy("kept", "Loud"), policy("new", "Audit")], NOW);
        let seen: Vec<_> = set
            .policies
            .iter()
            .map(|policy| (&*policy.metadata.name, policy.spec.rules[0].action))
            .collect();
        assert_eq!(
            seen,
            [("kept", PolicyAction::Warn), ("new", PolicyAction::Audit)],
            "a bad one leaves what was good in force"
        );
        assert_eq!(
            store.picture("n").policies.policies.len(),
            2,
            "memory follows the watch only"
        );
    }

    #[test]
    fn an_old_condition_proves_nothing_about_a_template_that_came_back() {
        let state = |image: &str, generation: i64, written: &str| {
            let mut object = deployment("r-proxy", image);
            object["metadata"]["generation"] = json!(generation);
            object["status"] = json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0,
                "conditions": [{"type": "Progressing", "reason": "NewReplicaSetAvailable", "lastUpdateTime": written}]});
            object
        };
        let store = WatchCache::new("guard");
        let ever = || store.picture("n").view.rollouts[0].ever_available;
        store.put(
            Watched::Deployments,
            state("milvusdb/milvus:v2.4.5", 1, "2026-01-01T00:00:00Z"),
            NOW,
        );
        assert!(ever());
        store.put(
            Watched::Deployments,
            state("milvusdb/milvus:v2.5.12", 2, "2026-01-01T00:00:00Z"),
            NOW,
        );
        assert!(!ever(), "the condition is about the template before");
        store.put(
            Watched::Deployments,
            state("milvusdb/milvus:v2.5.12", 2, "2026-01-01T00:01:00Z"),
            NOW,
        );
        assert!(ever());
    }

    #[test]
    fn a_template_that_was_available_once_stays_proven() {
        let status = |available: i64, reason: &str| {
            let mut object = deployment("r-proxy", "milvusdb/milvus:v2.4.5");
            object["metadata"]["generation"] = json!(1);
            object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
                "conditions": [{"type": "Progressing", "reason": reason}]});
            object
        };
        let store = WatchCache::new("guard");
        store.put(
            Watched::Deployments,
            status(1, "NewReplicaSetAvailable"),
            NOW,
        );
        store.put(Watched::Deployments, status(0, "ReplicaSetUpdated"), NOW);
        assert!(store.picture("n").view.rollouts[0].ever_available);
    }

    fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
    }

    /// A namespace with a Milvus that mounts its configuration.
    fn milvus(store: &WatchCache) {
        store.put(
            Watched::ConfigMaps,
            config_map(
                "n",
                "settings",
                &json!({"user.yaml": "etcd: {rootPath: mine}\n"}),
            ),
            NOW,
        );
        let mut object = deployment("r-proxy", "milvusdb/milvus:v2.4.5");
        let pod = &mut object["spec"]["template"]["spec"];
        pod["volumes"] = json!([{"name": "c", "configMap": {"name": "settings"}}]);
        pod["containers"][0]["volumeMounts"] =
            json!([{"name": "c", "mountPath": "/milvus/configs"}]);
        store.put(Watched::Deployments, object, NOW);
    }

    fn root_path(store: &WatchCache) -> Option<String> {
        let view = store.picture("n").view;
        view.place.snapshot.releases[0]
            .config
            .value("etcd.rootPath")
            .map(str::to_owned)
    }

    #[test]
    fn large_objects_that_nobody_mounts_push_out_nobody_else() {
        let store = WatchCache::new("guard");
        milvus(&store);
        let large = json!({"user.yaml": "x".repeat(1024 * 1024)});
        for number in 0..60 {
            store.put(
                Watched::ConfigMaps,
                config_map("foreign", &format!("c{number}"), &large),
                NOW,
            );
        }
        assert!(
            store.bytes_of("foreign") <= cache_budget::MAX_NAMESPACE_BYTES,
            "{}",
            store.bytes_of("foreign")
        );
        assert!(store.reductions()[&Watched::ConfigMaps] >= 50);
        // The same from many namespaces: anyone who has most gives way.
        for number in 0..60 {
            store.put(
                Watched::ConfigMaps,
                config_map(&format!("f{number}"), "c", &large),
                NOW,
            );
        }
        let all: usize = (0..60)
            .map(|number| store.bytes_of(&format!("f{number}")))
            .sum::<usize>()
            + store.bytes_of("foreign");
        assert!(all <= cache_budget::MAX_BYTES, "{all}");
        assert_eq!(root_path(&store).as_deref(), Some("mine"));
        for number in 0..60 {
            store.delete(Watched::ConfigMaps, &format!("f{number}"), "c");
        }
        assert_eq!(store.bytes_of("f1"), 0);
    }

    #[test]
    fn what_is_left_out_in_its_own_namespace_is_unknown_and_comes_back() {
        let store = WatchCache::new("guard");
        milvus(&store);
        let mut text = "etcd: {rootPath: mine}\n# ".to_owned();
        text.push_str(&"x".repeat(1000 * 1024));
        store.put(
            Watched::ConfigMaps,
            config_map("n", "settings", &json!({"user.yaml": text})),
            NOW,
        );
        for number in 0..20 {
            let other = json!({"user.yaml": "y".repeat(900 * 1024)});
            store.put(
                Watched::ConfigMaps,
                config_map("n", &format!("c{number}"), &other),
                NOW,
            );
        }
        let view = store.picture("n").view;
        let config = &view.place.snapshot.releases[0].config;
        assert_eq!(config.value("etcd.rootPath"), None);
        let reason = config
            .unknown("etcd.rootPath")
            .expect("unknown, not absent")
            .to_string();
        assert!(reason.contains("too large to keep"), "{reason}");
        for number in 0..20 {
            store.delete(Watched::ConfigMaps, "n", &format!("c{number}"));
        }
        store.put(
            Watched::ConfigMaps,
            config_map("n", "settings", &json!({"user.yaml": text})),
            NOW,
        );
        assert_eq!(root_path(&store).as_deref(), Some("mine"));
    }

    #[test]
    fn workloads_claims_and_services_have_a_share_too() {
        let store = WatchCache::new("guard");
        let padding = "x".repeat(900 * 1024);
        for number in 0..40 {
            let mut workload = deployment(&format!("w{number}"), "milvusdb/milvus:v2.4.5");
            workload["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{"name": "E", "value": padding}]);
            store.put(Watched::Deployments, workload, NOW);
            let labels: serde_json::Map<String, Value> = (0..10_000)
                .map(|n| (format!("l{n}"), json!("x".repeat(60))))
                .collect();
            for (kind, name) in [(Watched::Services, "s"), (Watched::Claims, "p")] {
                let object = json!({"metadata": {"name": format!("{name}{number}"), "namespace": "n", "labels": labels}, "spec": {}});
                store.put(kind, object, NOW);
            }
        }
        assert!(
            store.bytes_of("n") <= cache_budget::MAX_NAMESPACE_BYTES,
            "{}",
            store.bytes_of("n")
        );
        let view = store.picture("n").view;
        let components: usize = view
            .place
            .snapshot
            .releases
            .iter()
            .map(|release| release.components.len())
            .sum();
        assert_eq!(
            (components, view.services.len(), view.claims.len()),
            (40, 40, 40),
            "each of them is still there"
        );
        assert!(
            view.place
                .snapshot
                .releases
                .iter()
                .any(|release| release.config.unknown("etcd.rootPath").is_some())
        );
    }
}
