//! One namespace, and what it would be after one object of it changed.
//!
//! An object keeps its place under any new labels: the workload that was the proxy of a
//! release stays the proxy of that release, so that relabelling hides nothing.

use std::sync::Arc;

use crate::manifest::{
    Object,
    object::{ConfigMap, ObjectRef, SourceRef, Workload},
};

use super::{
    config::Parsed,
    configured,
    dependency::{self, Dependency},
    release::{ComponentWorkload, Release},
    snapshot::{Builder, Snapshot},
};

/// What a namespace holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceState {
    /// The releases in it.
    pub snapshot: Snapshot,
    /// The configurations in it, mounted or not.
    pub configs: Vec<Arc<ConfigMap>>,
}

impl NamespaceState {
    /// Groups the objects of a namespace.
    #[must_use]
    pub fn new(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut builder = Builder::default();
        let mut configs = Vec::new();
        for object in objects {
            if let Object::Config(config) = &object {
                configs.push(config.clone());
            }
            builder.add(object);
        }
        Self {
            snapshot: builder.build(),
            configs,
        }
    }

    /// The namespace with one object new or changed.
    #[must_use]
    pub fn with(&self, object: Object) -> Self {
        let mut after = self.clone();
        match object {
            Object::Workload(workload) => after.put_workload(workload),
            Object::Config(config) => after.put_config(config),
            Object::Claim(claim) => {
                let known = after
                    .snapshot
                    .releases
                    .iter_mut()
                    .flat_map(|release| &mut release.claims)
                    .find(|known| known.meta.object.name == claim.meta.object.name);
                if let Some(known) = known {
                    *known = claim;
                }
            }
            _ => {}
        }
        after
    }

    /// The namespace without one object.
    #[must_use]
    pub fn without(&self, object: &ObjectRef) -> Self {
        let mut after = self.clone();
        let other =
            |candidate: &ObjectRef| candidate.kind != object.kind || candidate.name != object.name;
        for release in &mut after.snapshot.releases {
            let count = release.components.len();
            release
                .components
                .retain(|component| other(&component.workload.meta.object));
            if release.components.len() != count {
                configured::configure(release, &self.configs, &mut Parsed::default());
            }
            release
                .dependencies
                .retain(|dependency| other(&dependency.workload.meta.object));
            release.claims.retain(|claim| other(&claim.meta.object));
        }
        if matches!(object.kind.as_str(), "ConfigMap" | "Secret") {
            after.configs.retain(|config| other(&config.meta.object));
            after.configure();
        }
        after
    }

    /// The release that an object belongs to.
    #[must_use]
    pub fn owner(&self, object: &ObjectRef) -> Option<&Release> {
        self.snapshot
            .releases
            .iter()
            .find(|release| owns(release, object))
    }

    /// The same, taken out.
    ///
    /// # Errors
    /// The namespace as it was, where the object belongs to none.
    pub fn into_owner(mut self, object: &ObjectRef) -> Result<Release, Self> {
        match self
            .snapshot
            .releases
            .iter()
            .position(|release| owns(release, object))
        {
            Some(position) => Ok(self.snapshot.releases.swap_remove(position)),
            None => Err(self),
        }
    }

    /// Whether an object is already here as it is, as far as a change is judged.
    #[must_use]
    pub fn holds(&self, object: &Object) -> bool {
        let Object::Workload(workload) = object else {
            return false;
        };
        self.component(&workload.meta.object.kind, &workload.meta.object.name)
            .is_some_and(|known| {
                let known = &known.workload;
                Arc::ptr_eq(known, workload)
                    || known.has_same_spec(workload)
                        && known.meta.labels == workload.meta.labels
                        && known.meta.annotations == workload.meta.annotations
            })
    }

    /// The workload with this kind and name, where it is a component of Milvus.
    #[must_use]
    pub fn component(&self, kind: &str, name: &str) -> Option<&ComponentWorkload> {
        self.snapshot
            .releases
            .iter()
            .flat_map(|release| &release.components)
            .find(|component| {
                component.workload.meta.object.kind == kind
                    && component.workload.meta.object.name == name
            })
    }

    /// The workload with this kind and name, where it is a component of Milvus or one of its
    /// dependencies.
    #[must_use]
    pub fn workload(&self, kind: &str, name: &str) -> Option<&Arc<Workload>> {
        let is = |workload: &Arc<Workload>| {
            workload.meta.object.kind == kind && workload.meta.object.name == name
        };
        self.snapshot.releases.iter().find_map(|release| {
            let components = release
                .components
                .iter()
                .map(|component| &component.workload);
            components
                .chain(
                    release
                        .dependencies
                        .iter()
                        .map(|dependency| &dependency.workload),
                )
                .find(|workload| is(workload))
        })
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        let is = |other: &Workload| {
            other.meta.object.kind == workload.meta.object.kind
                && other.meta.object.name == workload.meta.object.name
        };
        let configs = &self.configs;
        for release in &mut self.snapshot.releases {
            if let Some(at) = release
                .components
                .iter()
                .position(|known| is(&known.workload))
            {
                let old = &release.components[at];
                let mut new = ComponentWorkload::all(&workload);
                if new.is_empty() {
                    new.push(ComponentWorkload::new(old.component, Arc::clone(&workload)));
                }
                let places = release
                    .components
                    .iter()
                    .filter(|known| is(&known.workload))
                    .count();
                if let ([only], 1) = (new.as_slice(), places) {
                    release.components[at] = only.clone();
                    configured::configure_component(release, at, configs);
                } else {
                    release.components.retain(|known| !is(&known.workload));
                    release.components.extend(new);
                    release.sort();
                    configured::configure(release, configs, &mut Parsed::default());
                }
                // Systems in the same pod.
                release.dependencies.retain(|known| !is(&known.workload));
                let systems = dependency::in_pod_of_milvus(&workload);
                release.dependencies.extend(systems);
                return;
            }
            if let Some(known) = release
                .dependencies
                .iter_mut()
                .find(|known| is(&known.workload))
            {
                known.family = dependency::family(&workload).unwrap_or(known.family);
                known.workload = workload;
                return;
            }
        }
        self.add_workload(workload);
    }

    /// A workload that was not there: into the release that it names, or whose name it bears, else
    /// a separate release.
    fn add_workload(&mut self, workload: Arc<Workload>) {
        let components = ComponentWorkload::all(&workload);
        if !components.is_empty() {
            let mut builder = Builder::default();
            builder.add(Object::Workload(workload));
            let Some(mut alone) = builder.build().releases.pop() else {
                return;
            };
            let same = |release: &&mut Release| {
                (release.name == alone.name && release.app_name == alone.app_name)
                    || (release.fullname == alone.fullname && !alone.fullname.is_empty())
            };
            let position = self
                .snapshot
                .releases
                .iter_mut()
                .position(|mut release| same(&mut release));
            let Some(release) =
                position.and_then(|position| self.snapshot.releases.get_mut(position))
            else {
                configured::configure(&mut alone, &self.configs, &mut Parsed::default());
                self.snapshot.releases.push(alone);
                return;
            };
            release.components.extend(components);
            release.dependencies.extend(alone.dependencies);
            release.sort();
            configured::configure(release, &self.configs, &mut Parsed::default());
        } else if let Some(family) = dependency::family(&workload) {
            let instance = dependency::instance(&workload).map(str::to_owned);
            let single = self.snapshot.releases.len() == 1;
            for release in &mut self.snapshot.releases {
                if single || instance.as_deref() == Some(&release.name) {
                    release.dependencies.push(Dependency {
                        family,
                        workload: workload.clone(),
                    });
                }
            }
        }
    }

    fn put_config(&mut self, config: Arc<ConfigMap>) {
        let is = |known: &&mut Arc<ConfigMap>| {
            known.kind == config.kind && known.meta.object.name == config.meta.object.name
        };
        match self.configs.iter_mut().find(is) {
            Some(known) => *known = config,
            None => self.configs.push(config),
        }
        self.configure();
    }

    fn configure(&mut self) {
        let mut parsed = Parsed::default();
        for release in &mut self.snapshot.releases {
            configured::configure(release, &self.configs, &mut parsed);
        }
    }
}

fn owns(release: &Release, object: &ObjectRef) -> bool {
    let is = |candidate: &ObjectRef| candidate.kind == object.kind && candidate.name == object.name;
    release
        .components
        .iter()
        .any(|component| is(&component.workload.meta.object))
        || release
            .dependencies
            .iter()
            .any(|dependency| is(&dependency.workload.meta.object))
        || release.claims.iter().any(|claim| is(&claim.meta.object))
        || SourceRef::of(object).is_some_and(|source| release.reads(&source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        milvus::Component,
        rules::testing::{Fixture, objects},
    };

    fn place(fixture: &Fixture) -> NamespaceState {
        NamespaceState::new(objects(fixture))
    }

    fn workload(fixture: &Fixture, component: Component) -> Workload {
        let release = fixture.release();
        Workload::clone(&release.of(component).next().unwrap().workload)
    }

    #[test]
    fn a_changed_object_keeps_its_place_without_its_labels() {
        let before = place(&Fixture::cluster("2.4.5"));
        let mut proxy = workload(&Fixture::cluster("2.5.12"), Component::Proxy);
        proxy.meta.labels = std::iter::empty::<(&str, &str)>().collect();
        proxy.pod.containers[0].command.clear();
        proxy.pod.containers[0].image = "example.com/something-else:1".into();
        let after = before.with(Object::Workload(Arc::new(proxy)));
        assert_eq!(after.snapshot.releases.len(), 1);
        let proxy = after.snapshot.releases[0]
            .of(Component::Proxy)
            .next()
            .unwrap();
        assert_eq!(proxy.image().to_string(), "example.com/something-else:1");
        assert_eq!(
            before.snapshot.releases[0].components.len(),
            after.snapshot.releases[0].components.len()
        );
    }

    /// The folder of an etcd in the pod of Milvus moved with `kubectl apply`, unseen.
    #[test]
    fn systems_in_the_pod_of_milvus_change_with_it() {
        let pod = |folder: &str| {
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: m, namespace: milvus}}\nspec:\n  selector: {{matchLabels: {{app: m}}}}\n  template:\n    metadata: {{labels: {{app: m}}}}\n    spec:\n      containers:\n      - {{name: milvus, image: \"milvusdb/milvus:v2.5.27\", args: [milvus, run, standalone]}}\n      - {{name: etcd, image: \"quay.io/coreos/etcd:v3.5.18\", volumeMounts: [{{name: d, mountPath: /etcd, subPath: {folder}}}]}}\n      volumes: [{{name: d, persistentVolumeClaim: {{claimName: d}}}}]\n"
            );
            crate::rules::testing::objects_of(&text)
        };
        let before = NamespaceState::new(pod("a"));
        let folder = |state: &NamespaceState| {
            let [release] = &state.snapshot.releases[..] else {
                panic!("{:?}", state.snapshot);
            };
            let [etcd] = &release.dependencies[..] else {
                panic!("{:?}", release.dependencies);
            };
            etcd.workload.pod.containers[0].mounts[0].sub_path.clone()
        };
        assert_eq!(folder(&before), "a");
        let changed = pod("b").into_iter().next().unwrap();
        let object = changed.meta().object.clone();
        assert_eq!(folder(&before.with(changed.clone())), "b");
        let gone = before.without(&object);
        assert!(gone.snapshot.releases[0].dependencies.is_empty());
        assert_eq!(folder(&gone.with(changed)), "b");
        assert_eq!(before.snapshot.releases[0].workloads().count(), 1);
    }

    #[test]
    fn a_new_component_joins_the_release_whose_name_it_bears() {
        let before = place(&Fixture::cluster("2.4.5").without(Component::Proxy));
        let mut proxy = workload(&Fixture::cluster("2.4.5"), Component::Proxy);
        proxy.meta.labels = std::iter::empty::<(&str, &str)>().collect();
        proxy.selector = std::iter::empty::<(&str, &str)>().collect();
        let after = before.with(Object::Workload(Arc::new(proxy)));
        assert_eq!(after.snapshot.releases.len(), 1);
        assert!(after.snapshot.releases[0].has(Component::Proxy));
        let empty = NamespaceState::default().with(Object::Workload(Arc::new(workload(
            &Fixture::standalone("2.4.5"),
            Component::Standalone,
        ))));
        assert_eq!(empty.snapshot.releases[0].name, "my-release");
    }

    #[test]
    fn a_changed_configuration_is_read_again() {
        let yaml = |root: &str| format!("etcd:\n  rootPath: {root}\n");
        let before = place(&Fixture::cluster("2.4.5").default_yaml(&yaml("by-dev")));
        let changed = place(&Fixture::cluster("2.4.5").default_yaml(&yaml("other")))
            .configs
            .remove(0);
        let name = changed.meta.object.clone();
        let after = before.with(Object::Config(changed));
        assert_eq!(
            after.snapshot.releases[0].metadata().root_path.value,
            "other"
        );
        assert_eq!(before.owner(&name).unwrap().name, "my-release");
        assert!(!before.without(&name).snapshot.releases[0].has_config());
    }

    #[test]
    fn deleted_objects_no_longer_exist() {
        let before = place(&Fixture::cluster("2.4.5"));
        let proxy = before.snapshot.releases[0]
            .of(Component::Proxy)
            .next()
            .unwrap()
            .workload
            .meta
            .object
            .clone();
        assert!(!before.without(&proxy).snapshot.releases[0].has(Component::Proxy));
        assert!(before.component("Deployment", &proxy.name).is_some());
    }
}
