//! From objects to releases: which workloads are Milvus, and what belongs to them.
//!
//! Milvus is found by what its workloads run (see [`super::identify`]), never by the name of a
//! chart or a release, because both can be overridden.

use std::{collections::BTreeSet, sync::Arc};

use crate::manifest::{
    Object, Origin,
    object::{
        Autoscaler, Claim, ConfigMap, Deployer, Meta, PersistentVolume, SourceRef, VolumeSource,
        Workload,
    },
};

use super::{
    config::{FileSettings, Parsed},
    configured::{configure, same_namespace},
    dependency::{self, Dependency},
    dependency_use::{DependencyUse, is_named_after},
    grouping,
    manager::{self, ChartPlaces, Neighbours, Surroundings},
    others::Others,
    release::{ComponentWorkload, HelmRevision, Release},
    volume_binding,
};

/// What one input holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The Milvus releases, ordered by namespace and name.
    pub releases: Vec<Release>,
    /// Argo CD Applications and Flux `HelmReleases` seen.
    pub deployers: Vec<Deployer>,
    /// How many objects were read in all.
    pub objects: usize,
    /// What was read where no Milvus was found.
    pub others: Others,
}

impl Snapshot {
    /// The objects that would tell what is not known of the configuration, by namespace.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<(Option<String>, SourceRef)> {
        let of = |release: &Release| {
            let namespace = release.namespace.clone();
            release
                .config
                .missing()
                .into_iter()
                .map(move |source| (namespace.clone(), source))
                .collect::<Vec<_>>()
        };
        self.releases.iter().flat_map(of).collect()
    }

    /// Lays what Milvus itself keeps in etcd over the configuration of every release whose root
    /// path this is.
    pub fn lay_dynamic(&mut self, root_path: &str, settings: &[(String, String)], source: &str) {
        let origin = Origin {
            source: source.into(),
            document: 0,
            line: 0,
        };
        for release in &mut self.releases {
            if release.metadata().root_path.value == root_path.trim_matches('/') {
                let pairs = settings
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()));
                release.config.lay_dynamic(FileSettings::of(pairs, &origin));
            }
        }
    }

    /// The same, where references to objects that `own` does not hold find those of `others`.
    /// Nothing is done if no reference is open.
    pub fn resolve(&mut self, own: &[Arc<ConfigMap>], others: &[Arc<ConfigMap>]) {
        if self
            .releases
            .iter()
            .all(|release| release.config.missing().is_empty())
        {
            return;
        }
        let configs = laid_over(own, others);
        let mut parsed = Parsed::default();
        for release in &mut self.releases {
            configure(release, &configs, &mut parsed);
        }
    }
}

/// Objects, and those of others that they do not replace; the last of a name counts.
fn laid_over(own: &[Arc<ConfigMap>], others: &[Arc<ConfigMap>]) -> Vec<Arc<ConfigMap>> {
    let is_known = |other: &&Arc<ConfigMap>| {
        own.iter().any(|known| {
            known.kind == other.kind
                && known.meta.object.name == other.meta.object.name
                && match (&known.meta.object.namespace, &other.meta.object.namespace) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                }
        })
    };
    others
        .iter()
        .filter(|other| !is_known(other))
        .chain(own)
        .cloned()
        .collect()
}

/// Collects objects and groups them into releases.
#[derive(Clone, Default)]
pub struct Builder {
    milvus: Vec<ComponentWorkload>,
    workloads: Vec<Arc<Workload>>,
    configs: Vec<Arc<ConfigMap>>,
    claims: Vec<Claim>,
    volumes: Vec<PersistentVolume>,
    services: Vec<Meta>,
    autoscalers: Vec<Autoscaler>,
    deployers: Vec<Deployer>,
    helm: Vec<(String, Option<String>, HelmRevision)>,
    charts: Vec<(String, Option<String>, (String, String))>,
    neighbours: Neighbours,
    places: ChartPlaces,
    objects: usize,
    others: Others,
}

impl Builder {
    /// Takes one object in.
    pub fn add(&mut self, object: Object) {
        self.objects += 1;
        self.neighbours.add(object.meta());
        match object {
            // What a controller makes is judged by the controller.
            Object::Workload(workload) if workload.is_made_by_a_controller() => {}
            Object::Workload(workload) => {
                let components = ComponentWorkload::all(&workload);
                match dependency::family(&workload) {
                    _ if !components.is_empty() => self.milvus.extend(components),
                    Some(_) => self.workloads.push(workload),
                    None => self.is_beside(&workload.meta),
                }
            }
            Object::Config(config) => self.configs.push(config),
            Object::Claim(claim) => self.claims.push(claim),
            Object::Volume(volume) => self.volumes.push(volume),
            Object::Service(meta) => self.services.push(meta),
            Object::Autoscaler(autoscaler) => self.autoscalers.push(autoscaler),
            Object::Deployer(deployer) => self.deployers.push(deployer),
            Object::Other(meta) => self.is_beside(&meta),
        }
    }

    /// Remembers an object that is not part of a release, for inputs without Milvus.
    fn is_beside(&mut self, meta: &Meta) {
        if self.milvus.is_empty() {
            self.others.add(&meta.object);
        }
    }

    /// Everything that was read, where none of it is Milvus.
    fn others(&mut self) -> Others {
        if !self.milvus.is_empty() {
            return Others::default();
        }
        let mut others = std::mem::take(&mut self.others);
        let workloads = self.workloads.iter().map(|workload| &workload.meta);
        let configs = self.configs.iter().map(|config| &config.meta);
        let claims = self.claims.iter().map(|claim| &claim.meta);
        let volumes = self.volumes.iter().map(|volume| &volume.meta);
        let scalers = self.autoscalers.iter().map(|autoscaler| &autoscaler.meta);
        let deployers = self.deployers.iter().map(|deployer| &deployer.meta);
        workloads
            .chain(configs)
            .chain(claims)
            .chain(volumes)
            .chain(&self.services)
            .chain(scalers)
            .chain(deployers)
            .for_each(|meta| {
                others.add(&meta.object);
            });
        others
    }

    /// Takes in what Helm's storage says of a release in addition to its manifest.
    pub fn add_helm(&mut self, release: &str, namespace: Option<&str>, revision: HelmRevision) {
        self.helm
            .push((release.to_owned(), namespace.map(str::to_owned), revision));
    }

    /// Takes in which chart (name and version) a release of Helm was installed from.
    pub fn add_chart(&mut self, release: &str, namespace: Option<&str>, chart: &(String, String)) {
        self.charts.push((
            release.to_owned(),
            namespace.map(str::to_owned),
            chart.clone(),
        ));
    }

    /// Takes in which charts made the objects.
    pub fn add_places(&mut self, places: &ChartPlaces) {
        self.places.extend(places);
    }

    /// Groups everything, where references of pods to objects that are not here find those of
    /// `before`: they stay in the cluster when a change does not name them.
    #[must_use]
    pub fn build_over(mut self, before: &[Object]) -> Snapshot {
        let others: Vec<Arc<ConfigMap>> = before
            .iter()
            .filter_map(|object| match object {
                Object::Config(config) => Some(Arc::clone(config)),
                _ => None,
            })
            .collect();
        self.configs = laid_over(&self.configs, &others);
        self.build()
    }

    /// Groups everything.
    #[must_use]
    pub fn build(mut self) -> Snapshot {
        self.leave_out_what_is_made();
        let others = self.others();
        let mut releases = grouping::releases(self.milvus, &self.configs);
        let bound = volume_binding::bound(self.volumes, &self.claims);
        attach(
            &mut releases,
            self.workloads,
            self.claims,
            &self.services,
            self.autoscalers,
        );
        volume_binding::attach(&mut releases, bound);
        for release in &mut releases {
            let mut stored = self.charts.iter().filter(|(name, namespace, _)| {
                *name == release.name && same_namespace(release, namespace.as_deref())
            });
            let around = Surroundings {
                neighbours: &self.neighbours,
                places: &self.places,
                stored: stored.next().map(|(_, _, chart)| chart),
                deployers: &self.deployers,
            };
            release.manager = manager::detect(
                &release.name,
                release.namespace.as_deref(),
                &release.components,
                release.chart.as_ref(),
                around,
            );
        }
        for (name, namespace, revision) in self.helm {
            for release in releases.iter_mut().filter(|release| {
                release.name == name && same_namespace(release, namespace.as_deref())
            }) {
                release.helm = Some(revision.clone());
            }
        }
        Snapshot {
            releases,
            deployers: self.deployers,
            objects: self.objects,
            others,
        }
    }
}

impl Builder {
    /// Leaves out Pods and similar ones whose owner is here too, such as those of an `InstanceSet`
    /// or a `Rollout`.
    fn leave_out_what_is_made(&mut self) {
        let owners: BTreeSet<(String, String)> = self
            .milvus
            .iter()
            .map(|one| {
                (
                    one.workload.meta.object.kind.clone(),
                    one.workload.meta.object.name.clone(),
                )
            })
            .collect();
        self.milvus.retain(|one| {
            match (&one.workload.meta.owner_kind, &one.workload.meta.owner_name) {
                (Some(kind), Some(name)) => !owners.contains(&(kind.clone(), name.clone())),
                _ => true,
            }
        });
    }
}

/// The releases of Milvus that a dependency belongs to, by position. Where several are in its
/// namespace: those of its instance, else those whose configuration names it, else the one
/// whose name its own begins with, as the operator names what it installs. One that nothing
/// connects to a release may hold the data of each of them, so it counts for all.
fn owners(releases: &[Release], dependency: &Dependency) -> Vec<usize> {
    let meta = &dependency.workload.meta;
    let near: Vec<usize> = (0..releases.len())
        .filter(|at| same_namespace(&releases[*at], meta.object.namespace.as_deref()))
        .collect();
    if near.len() < 2 {
        return near;
    }
    let that = |test: &dyn Fn(&Release) -> bool| -> Vec<usize> {
        let passing = near.iter().copied();
        passing.filter(|at| test(&releases[*at])).collect()
    };
    let instance = dependency::instance(&dependency.workload);
    let of_instance = that(&|release| instance == Some(&release.name));
    if !of_instance.is_empty() {
        return of_instance;
    }
    let named = that(&|release| release.uses(dependency) == DependencyUse::Named);
    if !named.is_empty() {
        return named;
    }
    let own_name = instance.unwrap_or(&meta.object.name);
    let longest = near
        .iter()
        .filter(|at| is_named_after(own_name, &releases[**at].name))
        .max_by_key(|at| releases[**at].name.len());
    match longest {
        Some(found) => that(&|release| release.name == releases[*found].name),
        None => near,
    }
}

/// The release that a claim belongs to, by position: the one that mounts it, else the one that its
/// labels name, else the one with the longest name that its own begins with.
fn claimant(releases: &[Release], claim: &Claim) -> Option<usize> {
    let name = &claim.meta.object.name;
    let instance = claim
        .meta
        .label("app.kubernetes.io/instance")
        .or_else(|| claim.meta.label("release"));
    releases
        .iter()
        .enumerate()
        .filter(|(_, release)| same_namespace(release, claim.meta.object.namespace.as_deref()))
        .filter_map(|(at, release)| {
            let rank = if mounts_claim(release, name) {
                (3, 0)
            } else if instance == Some(&release.name) {
                (2, 0)
            } else if name.starts_with(&release.fullname) {
                (1, release.fullname.len())
            } else {
                return None;
            };
            // Of equal ones the first.
            Some((rank, std::cmp::Reverse(at)))
        })
        .max()
        .map(|(_, std::cmp::Reverse(at))| at)
}

/// Whether Milvus or one of its dependencies mounts the claim, under any name.
fn mounts_claim(release: &Release, name: &str) -> bool {
    let dependencies = release
        .dependencies
        .iter()
        .map(|dependency| &dependency.workload);
    let workloads = release
        .components
        .iter()
        .map(|component| &component.workload)
        .chain(dependencies);
    workloads
        .flat_map(|workload| &workload.pod.volumes)
        .any(|volume| matches!(&volume.source, VolumeSource::Claim(claim) if claim == name))
}

fn attach(
    releases: &mut [Release],
    workloads: Vec<Arc<Workload>>,
    claims: Vec<Claim>,
    services: &[Meta],
    autoscalers: Vec<Autoscaler>,
) {
    for release in releases.iter_mut() {
        let mut last = None;
        for component in &release.components {
            // Several containers of one pod are components one after the other.
            let workload = Arc::as_ptr(&component.workload);
            if last.replace(workload) != Some(workload) {
                let systems = dependency::in_pod_of_milvus(&component.workload);
                release.dependencies.extend(systems);
            }
        }
    }
    for workload in workloads {
        let Some(family) = dependency::family(&workload) else {
            continue;
        };
        let dependency = Dependency { family, workload };
        for at in owners(releases, &dependency) {
            releases[at].dependencies.push(dependency.clone());
        }
    }
    for claim in claims {
        if let Some(at) = claimant(releases, &claim) {
            releases[at].claims.push(claim);
        }
    }
    for autoscaler in autoscalers {
        if let Some(release) = releases.iter_mut().find(|release| {
            same_namespace(release, autoscaler.meta.object.namespace.as_deref())
                && release
                    .components
                    .iter()
                    .any(|component| component.workload.meta.object.name == autoscaler.target_name)
        }) {
            release.autoscalers.push(autoscaler);
        }
    }
    for release in releases.iter_mut() {
        let own = |service: &&Meta| same_namespace(release, service.object.namespace.as_deref());
        release.services = services.iter().filter(own).cloned().collect();
    }
}
