//! The state of a namespace at one time. Views of namespaces with Milvus are kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError},
};

use milvus_guard_core::{
    api::DecisionSpec,
    evidence::{Facts, RunKind},
    milvus::{Release, service_names::ServiceNames},
    policy::PolicySet,
};
use milvus_guard_sources::kubernetes::NamespaceView;

use super::{State, WatchCache};

/// Most namespaces whose view is kept. A view takes a millisecond to make and about as much memory
/// as its objects.
pub(super) const MAX_VIEWS: usize = 64;

/// Most bytes of the objects of all kept views, without the parsed data.
const MAX_VIEW_BYTES: usize = 16 * 1024 * 1024;

/// The kept views, and which namespaces contain Milvus.
#[derive(Default)]
pub(super) struct Views {
    pub(super) kept: HashMap<String, Arc<NamespaceView>>,
    /// Whether a namespace contains Milvus; no entry if it has changed.
    pub(super) holds_milvus: HashMap<String, bool>,
}

/// Everything about one namespace, at one time.
pub struct NamespaceSnapshot {
    /// The running state.
    pub view: Arc<NamespaceView>,
    /// The DNS names of Services of all namespaces.
    pub service_names: Arc<ServiceNames>,
    /// Whether the namespace is being deleted.
    pub ending: bool,
    /// Policies and exceptions; the caller sets the time.
    pub policies: Arc<PolicySet>,
    /// Runs and migrations.
    pub runs: Arc<Facts>,
    /// Decisions of the release gate.
    pub decisions: Vec<DecisionSpec>,
}

impl WatchCache {
    /// The current state of a namespace.
    #[must_use]
    pub fn picture(&self, namespace: &str) -> NamespaceSnapshot {
        let state = self.read();
        let view = self.view_of(&state, namespace);
        NamespaceSnapshot {
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

    fn view_of(&self, state: &State, namespace: &str) -> Arc<NamespaceView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.kept.get(namespace) {
            return Arc::clone(view);
        }
        let objects = state
            .objects
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values);
        let view = Arc::new(NamespaceView::of(
            objects.map(|kept| (kept.object.clone(), kept.proven)),
        ));
        let holds_milvus = !view.place.snapshot.releases.is_empty();
        if state.objects.contains_key(namespace) {
            views
                .holds_milvus
                .insert(namespace.to_owned(), holds_milvus);
        }
        // There are many namespaces without Milvus; their views are cheap to make again.
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

    /// Namespaces that have changed since the last call.
    #[must_use]
    pub fn take_changed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The namespaces that contain Milvus. Their views are not kept: in a large cluster they would
    /// not fit into memory.
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
        // The lock is held for one namespace at a time, so that reviews do not wait for all.
        known.unwrap_or_else(|| {
            !self
                .view_of(&self.read(), namespace)
                .place
                .snapshot
                .releases
                .is_empty()
        })
    }

    /// Namespace and name of each release with a held Deployment, or with a run of a held change
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

    pub(super) fn touch(&self, namespace: &str) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.kept.remove(namespace);
        views.holds_milvus.remove(namespace);
        drop(views);
        self.dirty
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(namespace.to_owned());
    }
}
