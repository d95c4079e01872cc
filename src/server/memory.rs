//! What ran before it was uninstalled. As long as the volumes of a release exist, its data has a version, whatever Helm or
//! kubectl have deleted since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::View,
    facts::SettledFact,
    manifest::{
        Origin,
        object::{Container, Meta, ObjectRef, PodTemplate, Probes, Resources, Variables, Workload},
    },
    milvus::{Component, EffectiveConfig, Release, Version, manager::Manager, release::ComponentWorkload},
};

/// Releases that are remembered. A `ConfigMap` holds 1 MiB, one release takes less than a KiB; far more than any cluster has.
const MAX_RELEASES: usize = 800;

/// Everything that is remembered, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// By `namespace/name/app name`.
    #[serde(default)]
    pub releases: BTreeMap<String, Remembered>,
}

/// One release as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    name: String,
    namespace: String,
    app_name: String,
    fullname: String,
    /// Kind, name and image of each component.
    components: Vec<(Component, String, String, String)>,
    /// The last version at which every component was available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Version>,
    /// Whether it runs.
    running: bool,
    /// When that was.
    seen: Timestamp,
}

impl Memory {
    /// Takes in what a namespace holds now; whether anything worth storing changed.
    pub fn see(&mut self, namespace: &str, view: &View, now: Timestamp) -> bool {
        let mut changed = false;
        let settled = view.settled();
        let mut running: BTreeSet<String> = BTreeSet::new();
        for release in view.place.snapshot.releases.iter().filter(|release| !release.components.is_empty()) {
            let key = key(namespace, &release.name, &release.app_name);
            let old = self.releases.get(&key);
            let here = settled.iter().find(|fact| fact.release == release.name).map(|fact| fact.version);
            let seen = Remembered {
                name: release.name.clone(),
                namespace: namespace.to_owned(),
                app_name: release.app_name.clone(),
                fullname: release.fullname.clone(),
                components: release.components.iter().map(remember).collect(),
                settled: here.or_else(|| old.and_then(|old| old.settled)),
                running: true,
                seen: now,
            };
            if old.is_none_or(|old| Remembered { seen: old.seen, ..seen.clone() } != *old) {
                changed = true;
                self.releases.insert(key.clone(), seen);
            }
            running.insert(key);
        }
        let prefix = format!("{namespace}/");
        let gone: Vec<String> =
            self.releases.keys().filter(|key| key.starts_with(&prefix) && !running.contains(*key)).cloned().collect();
        for key in gone {
            let Some(release) = self.releases.get_mut(&key) else { continue };
            if !release.has_volumes(&view.claims) {
                self.releases.remove(&key);
                changed = true;
            } else if release.running {
                release.running = false;
                changed = true;
            }
        }
        while self.releases.len() > MAX_RELEASES {
            let oldest = self.releases.iter().min_by_key(|(_, release)| release.seen).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            tracing::warn!(release = oldest, "too many releases to remember; the oldest is forgotten");
            self.releases.remove(&oldest);
        }
        changed
    }

    /// Releases of a namespace that do not run while their volumes exist, as they were: stopped, without configuration.
    #[must_use]
    pub fn absent(&self, namespace: &str, view: &View) -> Vec<Release> {
        let runs = |remembered: &Remembered| {
            view.place
                .snapshot
                .releases
                .iter()
                .any(|release| release.name == remembered.name && release.app_name == remembered.app_name)
        };
        self.releases
            .values()
            .filter(|release| release.namespace == namespace && !runs(release) && release.has_volumes(&view.claims))
            .map(Remembered::release)
            .collect()
    }

    /// Namespaces of which something is remembered.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.releases.values().map(|release| release.namespace.clone()).collect()
    }

    /// The last versions at which every component of the releases of a namespace was available.
    #[must_use]
    pub fn settled(&self, namespace: &str) -> Vec<SettledFact> {
        self.releases
            .values()
            .filter(|release| release.namespace == namespace)
            .filter_map(|release| {
                Some(SettledFact { release: release.name.clone(), namespace: namespace.to_owned(), version: release.settled? })
            })
            .collect()
    }
}

impl Remembered {
    /// Volumes are named after the release, or after a StatefulSet that is: `data-my-release-etcd-0`.
    fn has_volumes(&self, claims: &BTreeSet<String>) -> bool {
        let own = |claim: &String| {
            claim == &self.fullname
                || claim.starts_with(&format!("{}-", self.name))
                || claim.contains(&format!("-{}-", self.name))
                || claim.starts_with(&format!("{}-", self.fullname))
        };
        claims.iter().any(own)
    }

    fn release(&self) -> Release {
        let components = self
            .components
            .iter()
            .map(|(component, kind, name, image)| {
                ComponentWorkload::new(*component, Arc::new(self.workload(*component, kind, name, image)))
            })
            .collect();
        Release {
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
            services: Arc::default(),
            autoscalers: Vec::new(),
            helm: None,
        }
    }

    fn workload(&self, component: Component, kind: &str, name: &str, image: &str) -> Workload {
        let labels = || std::iter::empty::<(&str, &str)>().collect();
        let container = Container {
            name: component.name().to_owned(),
            image: image.to_owned(),
            command: Vec::new(),
            env: Variables::default(),
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
                object: ObjectRef { kind: kind.to_owned(), namespace: Some(self.namespace.clone()), name: name.to_owned() },
                origin: Origin { source: "the guard's memory".into(), document: 0, line: 0 },
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
            pod: PodTemplate { containers: vec![container], ..PodTemplate::default() },
            status: None,
        }
    }
}

fn key(namespace: &str, name: &str, app_name: &str) -> String {
    format!("{namespace}/{name}/{app_name}")
}

fn remember(component: &ComponentWorkload) -> (Component, String, String, String) {
    let object = &component.workload.meta.object;
    (component.component, object.kind.clone(), object.name.clone(), component.image().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::Object,
        rules::testing::{Fixture, objects},
    };

    fn view(fixture: &Fixture) -> View {
        View::of(objects(fixture).into_iter().map(|object| (object, false)))
    }

    const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data-my-release-etcd-0}\nspec: {resources: {requests: {storage: 1Gi}}}\n";

    #[test]
    fn a_release_is_remembered_while_its_volumes_exist() {
        let now = Timestamp::UNIX_EPOCH;
        let mut memory = Memory::default();
        let running = view(&Fixture::cluster("2.1.4").object(CLAIM));
        assert!(memory.see("milvus", &running, now));
        assert!(!memory.see("milvus", &running, now), "nothing new");
        assert!(memory.absent("milvus", &running).is_empty(), "it runs");
        let claims = objects(&Fixture::cluster("2.1.4").object(CLAIM))
            .into_iter()
            .filter(|object| matches!(object, Object::Claim(_)))
            .map(|object| (object, false));
        let uninstalled = View::of(claims);
        assert!(memory.see("milvus", &uninstalled, now));
        let absent = memory.absent("milvus", &uninstalled);
        assert_eq!((absent[0].name.as_str(), absent[0].lowest().unwrap().to_string().as_str()), ("my-release", "2.1.4"));
        assert!(absent[0].is_stopped() && !absent[0].has_config());
        let stored = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&stored).unwrap(), memory);
        assert!(memory.see("milvus", &View::default(), now), "the volumes are gone");
        assert_eq!(memory, Memory::default());
    }

    #[test]
    fn the_last_good_version_stays_through_a_failing_upgrade() {
        let mut memory = Memory::default();
        let status = |available: i64| {
            format!(
                "observedGeneration: 1\nreplicas: 1\nupdatedReplicas: 1\nreadyReplicas: {available}\navailableReplicas: {available}"
            )
        };
        let standalone =
            |version: &str, available| view(&Fixture::standalone(version).status(Component::Standalone, &status(available)));
        memory.see("milvus", &standalone("2.4.5", 1), Timestamp::UNIX_EPOCH);
        memory.see("milvus", &standalone("2.5.12", 0), Timestamp::UNIX_EPOCH);
        assert_eq!(memory.settled("milvus")[0].version, Version::new(2, 4, 5));
        memory.see("milvus", &standalone("2.5.12", 1), Timestamp::UNIX_EPOCH);
        assert_eq!(memory.settled("milvus")[0].version, Version::new(2, 5, 12));
    }
}
