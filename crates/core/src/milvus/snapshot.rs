//! From objects to releases: which workloads are Milvus, and what belongs to them.
//!
//! Milvus is found by what its workloads run (see [`super::identify`]), never by the name of a
//! chart or a release, because both can be overridden.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::manifest::{
    Object, Origin,
    object::{Autoscaler, Claim, ConfigMap, Deployer, Meta, SourceRef, VolumeSource, Workload},
};

use super::{
    config::{EffectiveConfig, FileSettings, Parsed},
    dependency::{self, Dependency},
    manager::{self, Manager, Neighbours, Surroundings},
    others::Others,
    release::{ChartRef, ComponentWorkload, HelmRevision, Release},
    version::Version,
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
    services: Vec<Meta>,
    autoscalers: Vec<Autoscaler>,
    deployers: Vec<Deployer>,
    helm: Vec<(String, Option<String>, HelmRevision)>,
    charts: Vec<(String, Option<String>, (String, String))>,
    neighbours: Neighbours,
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
        let scalers = self.autoscalers.iter().map(|autoscaler| &autoscaler.meta);
        let deployers = self.deployers.iter().map(|deployer| &deployer.meta);
        workloads
            .chain(configs)
            .chain(claims)
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
        let mut groups: BTreeMap<(Option<String>, String, String), Vec<ComponentWorkload>> =
            BTreeMap::new();
        for workload in self.milvus {
            let (name, app_name) = identity(&workload);
            groups
                .entry((
                    workload.workload.meta.object.namespace.clone(),
                    name,
                    app_name,
                ))
                .or_default()
                .push(workload);
        }
        let single = groups.len() == 1;
        let mut releases: Vec<Release> = groups
            .into_iter()
            .map(|((namespace, name, app_name), mut components)| {
                components
                    .sort_by_key(|one| (one.component, one.workload.meta.object.name.clone()));
                Release {
                    fullname: fullname(&components),
                    manager: Manager::default(),
                    chart: chart(&components),
                    config: EffectiveConfig::default(),
                    dependencies: Vec::new(),
                    claims: Vec::new(),
                    services: Arc::default(),
                    autoscalers: Vec::new(),
                    helm: None,
                    name,
                    namespace,
                    app_name,
                    components,
                }
            })
            .collect();
        let mut parsed = Parsed::default();
        for release in &mut releases {
            configure(release, &self.configs, &mut parsed);
        }
        attach(
            &mut releases,
            single,
            self.workloads,
            self.claims,
            &self.services,
            self.autoscalers,
        );
        for release in &mut releases {
            let mut stored = self.charts.iter().filter(|(name, namespace, _)| {
                *name == release.name && same_namespace(release, namespace.as_deref())
            });
            let around = Surroundings {
                neighbours: &self.neighbours,
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

fn same_namespace(release: &Release, namespace: Option<&str>) -> bool {
    match (&release.namespace, namespace) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn identity(workload: &ComponentWorkload) -> (String, String) {
    let inner = &workload.workload;
    let name = dependency::instance(inner).map_or_else(|| stem(workload).to_owned(), str::to_owned);
    let app_name = inner
        .selector
        .get("app.kubernetes.io/name")
        .or_else(|| inner.meta.labels.get("app.kubernetes.io/name"));
    (name, app_name.unwrap_or("milvus").to_owned())
}

/// The workload's name without its component.
fn stem(workload: &ComponentWorkload) -> &str {
    let name = &workload.workload.meta.object.name;
    let suffix = format!("-{}", workload.component.name());
    name.rfind(&suffix).map_or(name, |at| &name[..at])
}

fn fullname(components: &[ComponentWorkload]) -> String {
    components
        .first()
        .map(|workload| stem(workload).to_owned())
        .unwrap_or_default()
}

fn chart(components: &[ComponentWorkload]) -> Option<ChartRef> {
    components.iter().find_map(|workload| {
        let (name, version) = workload
            .workload
            .meta
            .label("helm.sh/chart")?
            .rsplit_once('-')?;
        let numbers = version.split(['+', '_']).next()?;
        Some(ChartRef {
            name: name.to_owned(),
            version: Version::parse_lenient(numbers)?,
        })
    })
}

impl Release {
    /// Reads the configuration again from these objects.
    pub fn configure(&mut self, configs: &[Arc<ConfigMap>]) {
        configure(self, configs, &mut Parsed::default());
    }
}

/// Reads the configuration of a release again: files and variables of each component.
pub(super) fn configure(release: &mut Release, configs: &[Arc<ConfigMap>], parsed: &mut Parsed) {
    let fallback = fallback(release, configs);
    let namespace = release.namespace.as_deref();
    release.config = EffectiveConfig::of(
        &release.components,
        configs,
        namespace,
        fallback.as_ref(),
        &release.config,
        parsed,
    );
}

/// Reads the configuration of one component again.
pub(super) fn configure_component(release: &mut Release, at: usize, configs: &[Arc<ConfigMap>]) {
    let fallback = fallback(release, configs);
    let Some(component) = release.components.get(at) else {
        return;
    };
    let namespace = release.namespace.as_deref();
    release.config =
        release
            .config
            .with_component(at, component, configs, namespace, fallback.as_ref());
}

/// The `ConfigMap` that is named as charts name it: it counts where no component shows what it
/// mounts (a partial input).
fn fallback(release: &Release, configs: &[Arc<ConfigMap>]) -> Option<Arc<ConfigMap>> {
    let shows_mounts = release.components.iter().any(|component| {
        let mut files = component
            .workload
            .pod
            .volumes
            .iter()
            .map(|volume| matches!(volume.source, VolumeSource::Files(_)));
        files.any(|is_files| is_files)
    });
    let named = |config: &&Arc<ConfigMap>| {
        config.meta.object.name == release.fullname
            && config.is_milvus_configuration()
            && same_namespace(release, config.meta.object.namespace.as_deref())
    };
    if shows_mounts {
        None
    } else {
        configs.iter().find(named).cloned()
    }
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
    single: bool,
    workloads: Vec<Arc<Workload>>,
    claims: Vec<Claim>,
    services: &[Meta],
    autoscalers: Vec<Autoscaler>,
) {
    for workload in workloads {
        let Some(family) = dependency::family(&workload) else {
            continue;
        };
        let instance = dependency::instance(&workload).map(str::to_owned);
        for release in releases.iter_mut() {
            let belongs = same_namespace(release, workload.meta.object.namespace.as_deref())
                && (single || instance.as_deref() == Some(&release.name));
            if belongs {
                release.dependencies.push(Dependency {
                    family,
                    workload: workload.clone(),
                });
            }
        }
    }
    for claim in claims {
        let instance = claim
            .meta
            .label("app.kubernetes.io/instance")
            .or_else(|| claim.meta.label("release"));
        if let Some(release) = releases.iter_mut().find(|release| {
            same_namespace(release, claim.meta.object.namespace.as_deref())
                && (instance == Some(&release.name)
                    || claim.meta.object.name.starts_with(&release.fullname)
                    || mounts_claim(release, &claim.meta.object.name))
        }) {
            release.claims.push(claim);
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
