//! The release history of each namespace: the current one and the stored one.

use std::{collections::BTreeSet, sync::Arc};

use milvus_guard_core::milvus::{Release, catalogue::Catalogue, data_location::DataLocation};

use super::{State, WatchCache, watched::Watched};
use crate::server::release_history::ReleaseHistory;

/// Prefix of the names of the `ConfigMaps` in the guard's namespace that store a
/// [`ReleaseHistory`], one for each namespace.
const MEMORY: &str = "milvus-guard-memory.";

/// Name of the `ConfigMap` that stores the history of a namespace.
#[must_use]
pub fn memory_name(namespace: &str) -> String {
    format!("{MEMORY}{namespace}")
}

/// Key in it.
pub const MEMORY_KEY: &str = "releases.json";

impl WatchCache {
    /// The history of a namespace.
    #[must_use]
    pub fn memory(&self, namespace: &str) -> Arc<ReleaseHistory> {
        self.read()
            .memories
            .get(namespace)
            .map(Arc::clone)
            .unwrap_or_default()
    }

    /// The releases in other namespaces that use this data.
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

    /// Namespaces with a history.
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

    /// Sets the history of a namespace, from observations of this replica.
    pub fn remember(&self, namespace: &str, memory: ReleaseHistory) {
        self.write().remember(
            namespace,
            Some(Arc::new(memory)).filter(|memory| !memory.is_empty()),
        );
    }

    /// Sets the stored history of a namespace.
    pub fn stored(&self, namespace: &str, memory: Arc<ReleaseHistory>) {
        let mut state = self.write();
        if memory.is_empty() {
            state.stored.remove(namespace);
            return;
        }
        // Equal histories share one allocation.
        if let Some(own) = state
            .memories
            .get_mut(namespace)
            .filter(|own| **own == memory)
        {
            *own = Arc::clone(&memory);
        }
        state.stored.insert(namespace.to_owned(), memory);
    }

    /// Namespaces whose history differs from the stored one, with the history to store.
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

    /// Number of namespaces with a release that does not fit into their history.
    #[must_use]
    pub fn incomplete_memories(&self) -> usize {
        self.read()
            .memories
            .values()
            .filter(|memory| memory.is_incomplete())
            .count()
    }

    /// The namespace of a stored history, if an object is one.
    pub(super) fn is_memory<'n>(
        &self,
        kind: Watched,
        namespace: &str,
        name: &'n str,
    ) -> Option<&'n str> {
        name.strip_prefix(MEMORY)
            .filter(|_| kind == Watched::ConfigMaps && namespace == self.namespace)
    }
}

impl State {
    /// Merges the stored history of a namespace.
    pub(super) fn adopt(&mut self, namespace: &str, stored: ReleaseHistory) {
        let stored = Arc::new(stored);
        let mut memory = self
            .memories
            .get(namespace)
            .map(|memory| ReleaseHistory::clone(memory))
            .unwrap_or_default();
        memory.adopt(&stored);
        // Equal histories share one allocation.
        let memory = if memory == *stored {
            Arc::clone(&stored)
        } else {
            Arc::new(memory)
        };
        self.remember(namespace, Some(memory));
        self.stored.insert(namespace.to_owned(), stored);
    }

    /// Replaces the history of a namespace; `None` removes it.
    pub(super) fn remember(&mut self, namespace: &str, memory: Option<Arc<ReleaseHistory>>) {
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
}
