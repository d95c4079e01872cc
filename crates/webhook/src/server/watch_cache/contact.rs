//! The state of the watch of each kind: complete, connected, broken, and since when. Independent of
//! the content of the objects.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{State, WatchCache, watched::Watched};

/// After this time between two watches a kind counts as unwatched.
const HANDOVER: Duration = Duration::from_secs(1);

impl WatchCache {
    /// Begins a listing of a kind; objects that it does not contain are removed when it ends.
    pub fn begin(&self, kind: Watched) {
        self.write().listed.insert(kind, HashSet::new());
    }

    /// Ends the listing of a kind.
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

    /// Records that the kind does not exist in this cluster, by an answer of the API server. So it
    /// has no objects, and none can be missing.
    pub fn absent(&self, kind: Watched) {
        self.begin(kind);
        self.finish(kind);
        self.write().unwatched.remove(&kind);
    }

    /// Records that a watch of a kind has begun.
    pub fn connected(&self, kind: Watched) {
        let mut state = self.write();
        state.contact(kind);
        state.unwatched.remove(&kind);
    }

    /// Records a contact: an event, a bookmark or a listing.
    pub fn contact(&self, kind: Watched) {
        self.write().contact(kind);
    }

    /// Records that the watch of a kind ended normally. The next one should begin within 1 s.
    pub fn ended(&self, kind: Watched) {
        self.write()
            .unwatched
            .entry(kind)
            .or_insert_with(|| Instant::now() + HANDOVER);
    }

    /// Records that the watch of a kind failed.
    pub fn broken(&self, kind: Watched, reason: String) {
        let mut state = self.write();
        let (now, from) = (Instant::now(), state.unwatched.entry(kind));
        let from = from.or_insert(now);
        *from = now.min(*from);
        state.broken.insert(kind, reason);
    }

    /// The first of these kinds that is not watched now, so that its data may be outdated.
    #[must_use]
    pub fn unwatched(&self, kinds: &[Watched]) -> Option<Watched> {
        self.unwatched_for(kinds, Duration::ZERO)
    }

    /// The same, if the kind has been unwatched for this long.
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

    /// Kinds that were not read yet, with the reason if known.
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

    /// For each kind the number of kept objects, and the seconds since the last contact.
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
}

impl State {
    pub(super) fn contact(&mut self, kind: Watched) {
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
}

fn split(key: &str) -> Option<(String, String)> {
    key.split_once('/')
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}
