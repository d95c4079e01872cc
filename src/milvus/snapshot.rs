//! From objects to releases: which workloads are Milvus, and what belongs to them.
//!
//! Milvus is found by what its workloads are (command line, image, selector), never by the name of a chart or a
//! release, because both can be overridden.

use std::{collections::BTreeMap, sync::Arc};

use crate::manifest::{
    Node, Object,
    object::{Autoscaler, Claim, ConfigMap, Deployer, Meta, Workload},
};

use super::{
    component::Component,
    config::{EffectiveConfig, Environment, FileSettings},
    dependency::{self, Dependency},
    image::ImageRef,
    manager::{self, Manager, Neighbours, Surroundings},
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
}

/// Collects objects and groups them into releases.
#[derive(Default)]
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
}

impl Builder {
    /// Takes one object in.
    pub fn add(&mut self, object: Object) {
        self.objects += 1;
        self.neighbours.add(object.meta());
        match object {
            Object::Workload(workload) => match component(&workload) {
                Some(component) => self.milvus.push(ComponentWorkload { component, workload }),
                None if dependency::family(&workload).is_some() => self.workloads.push(workload),
                None => {}
            },
            Object::Config(config) => self.configs.push(config),
            Object::Claim(claim) => self.claims.push(claim),
            Object::Service(meta) => self.services.push(meta),
            Object::Autoscaler(autoscaler) => self.autoscalers.push(autoscaler),
            Object::Deployer(deployer) => self.deployers.push(deployer),
            Object::Other(_) => {}
        }
    }

    /// Takes in what Helm's storage says of a release beside its manifest.
    pub fn add_helm(&mut self, release: &str, namespace: Option<&str>, revision: u64, status: &str, user_values: Node) {
        let status = status.to_owned();
        self.helm.push((release.to_owned(), namespace.map(str::to_owned), HelmRevision { revision, status, user_values }));
    }

    /// Takes in which chart (name and version) a release of Helm was installed from.
    pub fn add_chart(&mut self, release: &str, namespace: Option<&str>, chart: &(String, String)) {
        self.charts.push((release.to_owned(), namespace.map(str::to_owned), chart.clone()));
    }

    /// The configurations taken in so far.
    #[must_use]
    pub fn configs(&self) -> &[Arc<ConfigMap>] {
        &self.configs
    }

    /// Groups everything.
    #[must_use]
    pub fn build(self) -> Snapshot {
        let mut groups: BTreeMap<(Option<String>, String, String), Vec<ComponentWorkload>> = BTreeMap::new();
        for workload in self.milvus {
            let (name, app_name) = identity(&workload);
            groups.entry((workload.workload.meta.object.namespace.clone(), name, app_name)).or_default().push(workload);
        }
        let single = groups.len() == 1;
        let mut releases: Vec<Release> = groups
            .into_iter()
            .map(|((namespace, name, app_name), mut components)| {
                components.sort_by(|a, b| {
                    (a.component, &a.workload.meta.object.name).cmp(&(b.component, &b.workload.meta.object.name))
                });
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
        for release in &mut releases {
            configure(release, &self.configs);
        }
        attach(&mut releases, single, self.workloads, self.claims, &self.services, self.autoscalers);
        for release in &mut releases {
            let mut stored = self
                .charts
                .iter()
                .filter(|(name, namespace, _)| *name == release.name && same_namespace(release, namespace.as_deref()));
            let around = Surroundings {
                neighbours: &self.neighbours,
                stored: stored.next().map(|(_, _, chart)| chart),
                deployers: &self.deployers,
            };
            release.manager =
                manager::detect(&release.name, release.namespace.as_deref(), &release.components, release.chart.as_ref(), around);
        }
        for (name, namespace, revision) in self.helm {
            for release in
                releases.iter_mut().filter(|release| release.name == name && same_namespace(release, namespace.as_deref()))
            {
                release.helm = Some(revision.clone());
            }
        }
        Snapshot { releases, deployers: self.deployers, objects: self.objects }
    }
}

fn same_namespace(release: &Release, namespace: Option<&str>) -> bool {
    match (&release.namespace, namespace) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// Which component of Milvus a workload runs, if any: by its command, else by a Milvus image and the component label
/// or container name. Attu, Woodpecker and the like share labels with Milvus but run other images.
#[must_use]
pub fn component(workload: &Workload) -> Option<Component> {
    let containers = &workload.pod.containers;
    if let Some(component) =
        containers.iter().find_map(|container| Component::from_command(container.command.iter().map(String::as_str)))
    {
        return Some(component);
    }
    let label = workload
        .selector
        .get("component")
        .or_else(|| workload.selector.get("app.kubernetes.io/component"))
        .or_else(|| workload.pod.labels.get("component"));
    containers
        .iter()
        .filter(|container| matches!(ImageRef::parse(&container.image).name(), "milvus" | "milvus-dev"))
        .find_map(|container| label.and_then(|label| label.parse().ok()).or_else(|| container.name.parse().ok()))
}

fn identity(workload: &ComponentWorkload) -> (String, String) {
    let inner = &workload.workload;
    let name = dependency::instance(inner).map_or_else(|| stem(workload).to_owned(), str::to_owned);
    let app_name = inner.selector.get("app.kubernetes.io/name").or_else(|| inner.meta.labels.get("app.kubernetes.io/name"));
    (name, app_name.unwrap_or("milvus").to_owned())
}

/// The workload's name without its component.
fn stem(workload: &ComponentWorkload) -> &str {
    let name = &workload.workload.meta.object.name;
    let suffix = format!("-{}", workload.component.name());
    name.rfind(&suffix).map_or(name, |at| &name[..at])
}

fn fullname(components: &[ComponentWorkload]) -> String {
    components.first().map(|workload| stem(workload).to_owned()).unwrap_or_default()
}

fn chart(components: &[ComponentWorkload]) -> Option<ChartRef> {
    components.iter().find_map(|workload| {
        let (name, version) = workload.workload.meta.label("helm.sh/chart")?.rsplit_once('-')?;
        let numbers = version.split(['+', '_']).next()?;
        Some(ChartRef { name: name.to_owned(), version: Version::parse_lenient(numbers)? })
    })
}

/// Lays the configuration files that the components mount, lowest first, then the environment.
pub(super) fn configure(release: &mut Release, configs: &[Arc<ConfigMap>]) {
    release.config = EffectiveConfig::new(Arc::new(from_files(release, configs)), environment(&release.components));
}

/// The layers of what the components' variables say, in their order.
pub(super) fn environment(components: &[ComponentWorkload]) -> Vec<Arc<Environment>> {
    components.iter().map(|component| Arc::new(Environment::of(&component.workload))).collect()
}

fn from_files(release: &Release, configs: &[Arc<ConfigMap>]) -> FileSettings {
    let mounted = |name: &str| release.mounts_config(name);
    let ours: Vec<&Arc<ConfigMap>> =
        configs.iter().filter(|config| same_namespace(release, config.meta.object.namespace.as_deref())).collect();
    let any_mounted = ours.iter().any(|config| mounted(&config.meta.object.name));
    // A configuration that no component mounts counts only where none is mounted (a partial input).
    let ours: Vec<&Arc<ConfigMap>> = ours
        .into_iter()
        .filter(
            |config| if any_mounted { mounted(&config.meta.object.name) } else { config.meta.object.name == release.fullname },
        )
        .collect();
    // Where one map has default.yaml, a milvus.yaml in another one is the chart's customConfigMap, mounted as user.yaml.
    let has_default = ours.iter().any(|config| config.files.iter().any(|file| file.key == "default.yaml"));
    let rank = |key: &str| match key {
        "milvus.yaml" if has_default => 2,
        "user.yaml" => 2,
        "default.yaml" => 1,
        _ => 0,
    };
    let mut files: Vec<_> = ours.iter().flat_map(|config| config.files.iter().map(move |file| (config, file))).collect();
    files.sort_by_key(|(_, file)| rank(&file.key));
    let mut effective = FileSettings::default();
    for (config, file) in files {
        effective.lay_file(file, &config.meta.origin);
    }
    effective
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
        let Some(family) = dependency::family(&workload) else { continue };
        let instance = dependency::instance(&workload).map(str::to_owned);
        for release in releases.iter_mut() {
            let belongs = same_namespace(release, workload.meta.object.namespace.as_deref())
                && (single || instance.as_deref() == Some(&release.name));
            if belongs {
                release.dependencies.push(Dependency { family, workload: workload.clone() });
            }
        }
    }
    for claim in claims {
        let instance = claim.meta.label("app.kubernetes.io/instance").or_else(|| claim.meta.label("release"));
        if let Some(release) = releases.iter_mut().find(|release| {
            same_namespace(release, claim.meta.object.namespace.as_deref())
                && (instance == Some(&release.name) || claim.meta.object.name.starts_with(&release.fullname))
        }) {
            release.claims.push(claim);
        }
    }
    for autoscaler in autoscalers {
        if let Some(release) = releases.iter_mut().find(|release| {
            same_namespace(release, autoscaler.meta.object.namespace.as_deref())
                && release.components.iter().any(|component| component.workload.meta.object.name == autoscaler.target_name)
        }) {
            release.autoscalers.push(autoscaler);
        }
    }
    for release in releases.iter_mut() {
        let own = |service: &&Meta| service.object.namespace == release.namespace;
        release.services = services.iter().filter(own).cloned().collect();
    }
}
