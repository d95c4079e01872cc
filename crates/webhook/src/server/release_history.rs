//! Which releases ran, with which settings: kept while their data exists, even after Helm or
//! kubectl deleted them. Each namespace has its own history, so none can fill that of another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use milvus_guard_core::{
    evidence::SettledFact,
    manifest::{
        Origin,
        object::{Container, Meta, ObjectRef, PodTemplate, Probes, Resources, Variables, Workload},
    },
    milvus::{
        Component, EffectiveConfig, Release, Version, catalogue::Catalogue,
        data_location::DataLocation, manager::Manager, release::ComponentWorkload,
    },
};
use milvus_guard_sources::kubernetes::NamespaceView;

/// Most releases of one namespace.
const MAX_RELEASES: usize = 64;
/// Most components of one release.
const MAX_COMPONENTS: usize = 64;
/// Most bytes of a name, an image or a value. Kubernetes' own names have at most 253.
const MAX_TEXT: usize = 512;
/// Most bytes of the history of one namespace as JSON. An object of Kubernetes holds 1 MiB.
const MAX_BYTES: usize = 512 * 1024;
/// How long a release stays in the history after it ran, if its data is outside of the cluster:
/// the guard cannot check whether the data still exists.
const OUTSIDE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The history of one namespace, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseHistory {
    /// By `name/app name`.
    #[serde(default)]
    releases: BTreeMap<String, Remembered>,
    /// Whether a release did not fit: a release that is not listed here may have run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

/// One release as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    name: String,
    namespace: String,
    app_name: String,
    fullname: String,
    /// Kind, name and image of each component.
    components: Vec<(Component, String, String, String)>,
    /// The settings that rules guard, by key; `None` if a setting was absent. Settings that were
    /// never known have no entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, Option<String>>,
    /// Whether the metadata is in a store that is not part of the release.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    outside: bool,
    /// The last version at which every component was available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Version>,
    /// Whether it runs.
    running: bool,
    /// When its last change was seen.
    seen: Timestamp,
}

impl ReleaseHistory {
    /// Records the current releases of a namespace. Returns whether the history changed.
    pub fn see(
        &mut self,
        namespace: &str,
        view: &NamespaceView,
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> bool {
        let before = self.clone();
        let settled = view.settled();
        let mut running: BTreeSet<String> = BTreeSet::new();
        let mut fits = true;
        for release in view
            .place
            .snapshot
            .releases
            .iter()
            .filter(|release| !release.components.is_empty())
        {
            let key = key(&release.name, &release.app_name);
            let old = self.releases.get(&key);
            let here = settled
                .iter()
                .find(|fact| fact.release == release.name)
                .map(|fact| fact.version);
            let Some(mut seen) = Remembered::of(namespace, release, old, catalogue, now) else {
                fits = false;
                continue;
            };
            seen.settled = here.or_else(|| old.and_then(|old| old.settled));
            if old.is_some_and(|old| old.is_same(&seen)) {
                running.insert(key);
                continue;
            }
            if old.is_none() && self.releases.len() >= MAX_RELEASES {
                fits = false;
                continue;
            }
            let replaced = self.releases.insert(key.clone(), seen);
            if self.bytes() > MAX_BYTES {
                fits = false;
                match replaced {
                    Some(old) => self.releases.insert(key.clone(), old),
                    None => self.releases.remove(&key),
                };
            }
            running.insert(key);
        }
        self.releases.retain(|key, release| {
            if running.contains(key) {
                return true;
            }
            let had_stopped = !std::mem::replace(&mut release.running, false);
            if !had_stopped {
                release.seen = now;
            }
            release.has_volumes(&view.claims)
                || (release.outside && now.duration_since(release.seen) < OUTSIDE)
        });
        // A release that did not fit may be deleted, but its data may still exist.
        self.incomplete = !fits || (self.incomplete && !view.claims.is_empty());
        *self != before
    }

    /// Merges the stored history of the namespace. Later observations of this replica, and
    /// releases that could not be stored, stay.
    pub fn adopt(&mut self, stored: &Self) {
        for (key, release) in &stored.releases {
            match self.releases.get_mut(key) {
                Some(own) if own.seen > release.seen && !own.is_same(release) => {
                    own.complete(release);
                }
                Some(own) => *own = release.clone(),
                None => {
                    self.releases.insert(key.clone(), release.clone());
                }
            }
        }
        self.incomplete |= stored.incomplete;
        if self.releases.len() > MAX_RELEASES || self.bytes() > MAX_BYTES {
            *self = Self {
                incomplete: true,
                ..stored.clone()
            };
        }
    }

    fn bytes(&self) -> usize {
        serde_json::to_string(&self.releases).map_or(0, |text| text.len())
    }

    /// Releases that do not run but whose data exists: as stopped releases, with the known
    /// settings.
    #[must_use]
    pub fn absent(&self, view: &NamespaceView, catalogue: &Catalogue) -> Vec<Release> {
        let is_left = |release: &&Remembered| {
            !release.is_in(view) && (release.has_volumes(&view.claims) || release.outside)
        };
        self.releases
            .values()
            .filter(is_left)
            .map(|release| release.release(catalogue))
            .collect()
    }

    /// Running releases with settings that are no longer known, with the last known settings.
    #[must_use]
    pub fn last_known(&self, view: &NamespaceView, catalogue: &Catalogue) -> Vec<Release> {
        let lacks = |remembered: &&Remembered| {
            view.place
                .snapshot
                .releases
                .iter()
                .filter(|release| remembered.is(release))
                .any(|release| {
                    release.located().any(|located| located.has_unknown()) && {
                        let known = release.guarded_settings(catalogue);
                        remembered
                            .settings
                            .keys()
                            .any(|key| !known.contains_key(key))
                    }
                })
        };
        self.releases
            .values()
            .filter(lacks)
            .map(|release| release.release(catalogue))
            .collect()
    }

    /// The data location of each release that runs or has its data outside of the cluster, with its
    /// key for [`Self::release`].
    #[must_use]
    pub fn locations(&self, catalogue: &Catalogue) -> Vec<(String, DataLocation)> {
        let counts = |(_, release): &(&String, &Remembered)| release.running || release.outside;
        let located = |(key, release): (&String, &Remembered)| {
            Some((key.clone(), release.release(catalogue).data_location()?))
        };
        self.releases
            .iter()
            .filter(counts)
            .filter_map(located)
            .collect()
    }

    /// One release as it was last seen.
    #[must_use]
    pub fn release(&self, key: &str, catalogue: &Catalogue) -> Option<Release> {
        self.releases
            .get(key)
            .map(|release| release.release(catalogue))
    }

    /// Whether the history has no release.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.releases.is_empty() && !self.incomplete
    }

    /// Whether a release did not fit.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// The last versions at which every component of the releases was available.
    #[must_use]
    pub fn settled(&self) -> Vec<SettledFact> {
        self.releases
            .values()
            .filter_map(|release| {
                Some(SettledFact {
                    release: release.name.clone(),
                    namespace: release.namespace.clone(),
                    version: release.settled?,
                })
            })
            .collect()
    }
}

impl Remembered {
    /// A running release; values that are unknown now are taken from `old`. `None` if it does not
    /// fit.
    fn of(
        namespace: &str,
        release: &Release,
        old: Option<&Self>,
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> Option<Self> {
        let mut settings = old.map(|old| old.settings.clone()).unwrap_or_default();
        let short =
            |value: &Option<String>| value.as_ref().is_none_or(|value| value.len() <= MAX_TEXT);
        for (key, value) in release.guarded_settings(catalogue) {
            if short(&value) {
                settings.insert(key, value);
            } else {
                settings.remove(&key);
            }
        }
        let components: Vec<_> = release.components.iter().map(remember).collect();
        let names = [&release.name, &release.app_name, &release.fullname];
        let mut texts = components
            .iter()
            .flat_map(|(_, kind, name, image)| [kind, name, image])
            .chain(names);
        let is_short = texts.all(|text| text.len() <= MAX_TEXT);
        drop(texts);
        let fits = is_short && components.len() <= MAX_COMPONENTS;
        if !fits {
            return None;
        }
        let outside = match release.data_location() {
            Some(location) => !location.is_inside(release),
            None => old.is_some_and(|old| old.outside),
        };
        Some(Self {
            name: release.name.clone(),
            namespace: namespace.to_owned(),
            app_name: release.app_name.clone(),
            fullname: release.fullname.clone(),
            components,
            settings,
            outside,
            settled: None,
            running: true,
            seen: now,
        })
    }

    /// Adds values that are known in `before` and unknown here.
    fn complete(&mut self, before: &Self) {
        self.settled = self.settled.or(before.settled);
        for (key, value) in &before.settings {
            self.settings
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }

    /// Whether both are equal except for the time.
    fn is_same(&self, other: &Self) -> bool {
        *self
            == Self {
                seen: self.seen,
                ..other.clone()
            }
    }

    fn is(&self, release: &Release) -> bool {
        release.name == self.name && release.app_name == self.app_name
    }

    fn is_in(&self, view: &NamespaceView) -> bool {
        view.place
            .snapshot
            .releases
            .iter()
            .any(|release| self.is(release))
    }

    /// Whether a volume of the release exists. Its name contains that of the release:
    /// `data-my-release-etcd-0`.
    fn has_volumes(&self, claims: &BTreeSet<String>) -> bool {
        let own = |claim: &String| {
            claim == &self.fullname
                || claim.starts_with(&format!("{}-", self.name))
                || claim.contains(&format!("-{}-", self.name))
                || claim.starts_with(&format!("{}-", self.fullname))
        };
        claims.iter().any(own)
    }

    fn release(&self, catalogue: &Catalogue) -> Release {
        let components = self
            .components
            .iter()
            .map(|(component, kind, name, image)| {
                ComponentWorkload::new(
                    *component,
                    Arc::new(self.workload(*component, kind, name, image, catalogue)),
                )
            })
            .collect();
        let mut release = Release {
            name: self.name.clone(),
            namespace: Some(self.namespace.clone()),
            fullname: self.fullname.clone(),
            app_name: self.app_name.clone(),
            manager: Manager::default(),
            chart: None,
            components,
            config: EffectiveConfig::default(),
            dependencies: Vec::new(),
            claims: Vec::new(),
            volumes: Vec::new(),
            services: Arc::default(),
            autoscalers: Vec::new(),
            helm: None,
        };
        if !self.settings.is_empty() {
            release.configure(&[]);
        }
        release
    }

    /// The settings as variables of a container, which take precedence over files in Milvus. A
    /// setting that was never known has no value.
    fn variables(&self, catalogue: &Catalogue) -> Variables {
        let keys = catalogue.guarded_keys();
        let variables = keys
            .into_iter()
            .filter_map(|key| match self.settings.get(key) {
                Some(Some(value)) => Some((key.to_owned(), Some(value.replace('$', "$$")))),
                Some(None) => None,
                None => Some((key.to_owned(), None)),
            });
        variables.collect()
    }

    fn workload(
        &self,
        component: Component,
        kind: &str,
        name: &str,
        image: &str,
        catalogue: &Catalogue,
    ) -> Workload {
        let labels = || std::iter::empty::<(&str, &str)>().collect();
        let container = Container {
            name: component.name().to_owned(),
            image: image.to_owned(),
            command: Vec::new(),
            env: self.variables(catalogue),
            run_as_user: None,
            probes: Probes::default(),
            pre_stop: false,
            mounts: Vec::new(),
            env_from: Vec::new(),
            restarts: false,
            resources: Resources::default(),
        };
        Workload {
            meta: Meta {
                object: ObjectRef {
                    kind: kind.to_owned(),
                    namespace: Some(self.namespace.clone()),
                    name: name.to_owned(),
                },
                origin: Origin {
                    source: "the guard's memory".into(),
                    document: 0,
                    line: 0,
                },
                labels: labels(),
                annotations: labels(),
                uid: None,
                owner_kind: None,
                owner_name: None,
            },
            replicas: Some(0),
            paused: false,
            strategy: None,
            selector: labels(),
            stateful: None,
            pod: PodTemplate {
                containers: vec![container],
                ..PodTemplate::default()
            },
            status: None,
        }
    }
}

fn key(name: &str, app_name: &str) -> String {
    format!("{name}/{app_name}")
}

fn remember(component: &ComponentWorkload) -> (Component, String, String, String) {
    let object = &component.workload.meta.object;
    (
        component.component,
        object.kind.clone(),
        object.name.clone(),
        component.image().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::{
        manifest::Object,
        rules::testing::{Fixture, objects},
    };

    fn view(fixture: &Fixture) -> NamespaceView {
        NamespaceView::of(objects(fixture).into_iter().map(|object| (object, false)))
    }

    const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data-my-release-etcd-0}\nspec: {resources: {requests: {storage: 1Gi}}}\n";

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn see(memory: &mut ReleaseHistory, view: &NamespaceView, now: Timestamp) -> bool {
        memory.see("milvus", view, Catalogue::embedded(), now)
    }

    fn absent(memory: &ReleaseHistory, view: &NamespaceView) -> Vec<Release> {
        memory.absent(view, Catalogue::embedded())
    }

    #[test]
    fn a_release_is_remembered_while_its_volumes_exist() {
        let mut memory = ReleaseHistory::default();
        let running = view(&Fixture::cluster("2.1.4").object(CLAIM));
        assert!(see(&mut memory, &running, NOW));
        assert!(!see(&mut memory, &running, NOW), "nothing has changed");
        assert!(absent(&memory, &running).is_empty(), "the release runs");
        let claims = objects(&Fixture::cluster("2.1.4").object(CLAIM))
            .into_iter()
            .filter(|object| matches!(object, Object::Claim(_)))
            .map(|object| (object, false));
        let uninstalled = NamespaceView::of(claims);
        assert!(see(&mut memory, &uninstalled, NOW));
        let left = absent(&memory, &uninstalled);
        assert_eq!(
            (
                left[0].name.as_str(),
                left[0].lowest().unwrap().to_string().as_str()
            ),
            ("my-release", "2.1.4")
        );
        assert!(left[0].is_stopped());
        let stored = serde_json::to_string(&memory).unwrap();
        assert_eq!(
            serde_json::from_str::<ReleaseHistory>(&stored).unwrap(),
            memory
        );
        assert!(
            see(&mut memory, &NamespaceView::default(), NOW),
            "the volumes were deleted"
        );
        assert_eq!(memory, ReleaseHistory::default());
    }

    fn outside(version: &str, root_path: &str) -> Fixture {
        Fixture::cluster(version).default_yaml(&format!(
            "etcd: {{endpoints: [\"etcd.example.com:2379\"], rootPath: {root_path}}}\n"
        ))
    }

    #[test]
    fn a_release_with_data_outside_the_cluster_is_remembered_for_90_days() {
        let mut memory = ReleaseHistory::default();
        see(&mut memory, &view(&outside("2.1.4", "by-dev")), NOW);
        see(&mut memory, &NamespaceView::default(), NOW);
        let left = absent(&memory, &NamespaceView::default());
        assert_eq!(
            left[0].data_location(),
            outside("2.1.4", "by-dev").release().data_location()
        );
        see(&mut memory, &NamespaceView::default(), NOW + OUTSIDE);
        assert!(memory.is_empty(), "the release is dropped after 90 days");
    }

    #[test]
    fn settings_that_became_unknown_keep_their_last_value() {
        let mut memory = ReleaseHistory::default();
        see(&mut memory, &view(&outside("2.4.5", "prod")), NOW);
        let without = objects(&outside("2.4.5", "prod"))
            .into_iter()
            .filter(|object| !matches!(object, Object::Config(_)));
        let deleted = NamespaceView::of(without.map(|object| (object, false)));
        assert!(!see(&mut memory, &deleted, NOW));
        let known = memory.last_known(&deleted, Catalogue::embedded());
        assert_eq!(known[0].metadata().root_path.value, "prod");
        assert!(
            memory
                .last_known(&view(&outside("2.4.5", "prod")), Catalogue::embedded())
                .is_empty()
        );
    }

    #[test]
    fn a_stored_history_adds_values_and_replaces_only_older_observations() {
        let later = NOW + SignedDuration::from_secs(1);
        let memory_of = |version: &str, now| {
            let mut memory = ReleaseHistory::default();
            see(&mut memory, &view(&outside(version, "prod")), now);
            memory
        };
        let images = |memory: &ReleaseHistory| {
            memory
                .releases
                .values()
                .map(|release| release.components[0].3.clone())
                .collect::<String>()
        };
        let mut empty = ReleaseHistory::default();
        empty.adopt(&memory_of("2.4.5", NOW));
        assert_eq!(empty, memory_of("2.4.5", NOW));
        let mut older = memory_of("2.4.5", NOW);
        older.adopt(&memory_of("2.4.6", later));
        assert_eq!(older, memory_of("2.4.6", later));
        let mut newer = memory_of("2.4.6", later);
        let mut stored = memory_of("2.4.5", NOW);
        let Some(release) = stored.releases.values_mut().next() else {
            panic!()
        };
        release.settled = Some(Version::new(2, 4, 5));
        release
            .settings
            .insert("only.known.before".into(), Some("x".into()));
        newer.adopt(&stored);
        assert!(images(&newer).ends_with(":v2.4.6"), "{}", images(&newer));
        let Some(release) = newer.releases.values().next() else {
            panic!()
        };
        assert_eq!(release.settled, Some(Version::new(2, 4, 5)));
        assert!(release.settings.contains_key("only.known.before"));
        // Equal releases that were seen at different times count as equal.
        let mut same = memory_of("2.4.5", later);
        same.adopt(&memory_of("2.4.5", NOW));
        assert_eq!(same, memory_of("2.4.5", NOW));
        // A release that only this replica has seen stays, although the stored history lacks it.
        let mut more = memory_of("2.4.5", NOW);
        more.adopt(&ReleaseHistory::default());
        assert_eq!(more, memory_of("2.4.5", NOW));
    }

    #[test]
    fn the_stored_history_wins_if_both_together_are_too_large() {
        let of = |prefix: &str, count: usize| {
            let release = |number: usize| {
                objects(&Fixture::standalone("2.4.5").named(&format!("{prefix}-{number}")))
            };
            let all = NamespaceView::of((0..count).flat_map(release).map(|object| (object, false)));
            let mut memory = ReleaseHistory::default();
            see(&mut memory, &all, NOW);
            assert_eq!(memory.releases.len(), count);
            memory
        };
        let (mut own, stored) = (of("own", MAX_RELEASES), of("stored", MAX_RELEASES));
        own.adopt(&stored);
        assert!(own.is_incomplete());
        assert_eq!(own.releases, stored.releases);
    }

    #[test]
    fn a_release_that_does_not_fit_marks_the_history_as_incomplete() {
        let mut memory = ReleaseHistory::default();
        let victim = Fixture::cluster("2.1.4").object(CLAIM);
        see(&mut memory, &view(&victim), NOW);
        let huge = Fixture::standalone(&"2".repeat(1000))
            .fullname("huge")
            .yaml()
            .replace("my-release", "huge");
        let flooded = victim.clone().object(&huge);
        assert!(see(&mut memory, &view(&flooded), NOW));
        assert!(memory.is_incomplete() && memory.bytes() < MAX_BYTES);
        assert!(
            memory.releases.contains_key("my-release/milvus"),
            "the older release stays"
        );
        let many = (0..100).fold(victim, |fixture, number| {
            let name = format!("many-{number}");
            let one = Fixture::standalone("2.4.5").fullname(&name).yaml();
            fixture.object(&one.replace("my-release", &name))
        });
        see(&mut memory, &view(&many), NOW);
        assert_eq!(memory.releases.len(), MAX_RELEASES);
        assert!(memory.releases.contains_key("my-release/milvus") && memory.is_incomplete());
    }

    #[test]
    fn a_failing_upgrade_does_not_replace_the_last_good_version() {
        let mut memory = ReleaseHistory::default();
        let status = |available: i64| {
            format!(
                "observedGeneration: 1\nreplicas: 1\nupdatedReplicas: 1\nreadyReplicas: {available}\navailableReplicas: {available}"
            )
        };
        let standalone = |version: &str, available| {
            view(&Fixture::standalone(version).status(Component::Standalone, &status(available)))
        };
        see(&mut memory, &standalone("2.4.5", 1), NOW);
        see(&mut memory, &standalone("2.5.12", 0), NOW);
        assert_eq!(memory.settled()[0].version, Version::new(2, 4, 5));
        see(&mut memory, &standalone("2.5.12", 1), NOW);
        assert_eq!(memory.settled()[0].version, Version::new(2, 5, 12));
    }
}
