//! What to do about a finding, in the terms of its manager.
//!
//! Rules take every fix and every command from here. A command is printed only where, run as it
//! stands, it leads to a change without a denial, keeps the wanted image and the user's values, and
//! touches nothing else.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use crate::{
    change::Upgrade,
    manifest::{Tree, node::Kind},
    milvus::{
        Build, Component, ImageRef, Manager, Release, Topology, Version,
        catalogue::Published,
        config::{Layer, Setting},
        dependency::Family,
        manager::{ChartSource, Source, Tool, Vendor},
        release::ComponentWorkload,
        settings::QueueKind,
    },
};

use super::{Category, Finding, Severity};

/// What to do, and what would take the finding away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    /// In words: one or more sentences.
    pub text: String,
    /// What would take the finding away, if a command can do it.
    pub cure: Option<Cure>,
}

/// What would take a finding away. Commands are made of it once all rules have spoken (see
/// [`settle`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Values of the chart in the wanted change.
    Values(Vec<ChartPin>),
    /// `milvus-guard upgrade` upgrades the release to the target version, component by component.
    OrderedUpgrade,
}

/// A value of a chart: its path from the root of the Milvus chart, and the value as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartPin {
    /// Path with dots, such as `standalone.messageQueue`.
    pub path: String,
    /// The value.
    pub value: String,
}

impl ChartPin {
    /// A pin.
    #[must_use]
    pub fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
        }
    }

    /// Reads `path=value`, as the tables write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split_once('=')
            .map(|(path, value)| Self::new(path, value))
    }
}

impl Remedy {
    /// Words only.
    pub fn words(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            cure: None,
        }
    }

    /// The same with more words behind.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        if !more.is_empty() {
            self.text.push(' ');
            self.text.push_str(more);
        }
        self
    }
}

impl<'a> Upgrade<'a> {
    /// Advice for this change, in the terms of its manager.
    #[must_use]
    pub fn advice(&self) -> Advice<'_, 'a> {
        let manager = self.before.map_or_else(
            || self.after.manager.clone(),
            |before| Manager::join(&before.manager, &self.after.manager),
        );
        Advice {
            upgrade: self,
            manager: with_facts(manager, self),
        }
    }
}

/// Where the cluster names a deployer that no mark in the manifests names.
fn with_facts(mut manager: Manager, upgrade: &Upgrade<'_>) -> Manager {
    let named = matches!(
        manager.tool,
        Tool::ArgoCd { .. } | Tool::FluxHelm { .. } | Tool::FluxKustomize { .. }
    );
    let name = &upgrade.before.unwrap_or(upgrade.after).name;
    if let Some(deployer) = upgrade
        .facts
        .deployers
        .iter()
        .flatten()
        .find(|deployer| deployer.release == *name)
        .filter(|_| !named)
    {
        let name = deployer.name.clone();
        manager.tool = if deployer.tool == "flux" {
            Tool::FluxHelm { name }
        } else {
            Tool::ArgoCd {
                application: Some(name),
            }
        };
    }
    manager
}

/// Advice for one change.
#[derive(Debug)]
pub struct Advice<'u, 'a> {
    upgrade: &'u Upgrade<'a>,
    manager: Manager,
}

impl Advice<'_, '_> {
    /// Who manages the release, by both sides of the change.
    #[must_use]
    pub const fn manager(&self) -> &Manager {
        &self.manager
    }

    fn before(&self) -> &Release {
        self.upgrade.before.unwrap_or(self.upgrade.after)
    }

    /// The chart and its version that the change wants.
    fn chart(&self) -> Option<(&ChartSource, Version)> {
        let version = self
            .upgrade
            .after
            .chart
            .as_ref()
            .or(self.before().chart.as_ref())?
            .version;
        Some((self.manager.chart()?, version))
    }

    /// Whether the wanted chart version reads a value.
    fn reads(&self, path: &str) -> bool {
        self.chart().is_some_and(|(chart, version)| {
            self.upgrade.catalogue.reads(chart.vendor, version, path)
        })
    }

    /// Keeps a key of Milvus' configuration at a value, such as `etcd.rootPath` at `by-dev`.
    #[must_use]
    pub fn keep_setting(&self, key: &str, value: &str) -> Remedy {
        let value = clean(value);
        if let Some((chart, version)) = self.chart()
            && let Some(row) =
                self.upgrade
                    .catalogue
                    .value_for(chart.vendor, version, key, self.is_external(key))
        {
            return self.set_values(
                &[ChartPin::new(&row.path, value)],
                &format!("{key} keeps its value"),
            );
        }
        self.configure(&[(key, value.as_ref())])
    }

    /// Sets keys of Milvus' configuration where this release has them.
    #[must_use]
    pub fn configure(&self, settings: &[(&str, &str)]) -> Remedy {
        let after = &self.upgrade.after.config;
        let open: Vec<(&str, &str)> = settings
            .iter()
            .copied()
            .filter(|(key, value)| after.value(key) != Some(*value))
            .collect();
        let settings = if open.is_empty() { settings } else { &open };
        let list = list(
            settings
                .iter()
                .map(|(key, value)| format!("{key}: {value}")),
        );
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                let list = list_of(
                    settings
                        .iter()
                        .map(|(key, value)| format!("spec.config.{key}: {value}")),
                );
                format!("Set {list} in the Milvus resource {resource}.")
            }
            Source::Chart(chart) => match chart.vendor {
                Vendor::Bitnami if self.reads("milvus.extraConfig") => {
                    format!(
                        "Set {list} under {} {}.",
                        self.path("milvus.extraConfig"),
                        self.values_place()
                    )
                }
                Vendor::Zilliz if self.reads("extraConfigFiles.user.yaml") => {
                    let path = self.path("extraConfigFiles");
                    format!(
                        "Set {list} in the text user.yaml under {path} {}. Keep the other lines of that text.",
                        self.values_place()
                    )
                }
                _ => format!(
                    "Set {list} in Milvus' configuration, {}.",
                    self.values_place()
                ),
            },
            Source::Manifests => {
                let first = settings
                    .first()
                    .and_then(|(key, _)| self.before().config.get(key));
                format!(
                    "Set {list} in {}.",
                    self.object_place(&self.config_object(first))
                )
            }
        })
    }

    /// Keeps the message queue that holds the data.
    #[must_use]
    pub fn keep_queue(&self) -> Remedy {
        let before = self.before();
        let queue = before.queue();
        let kind = queue.kind.value;
        let endpoints = clean(queue.endpoints.setting.map_or("", public)).into_owned();
        let name = kind.to_string();
        match &self.manager.source {
            Source::Operator { resource } => {
                let mut fields = vec![format!("spec.dependencies.msgStreamType: {name}")];
                if kind == QueueKind::Kafka
                    && self.is_external("kafka.brokerList")
                    && !endpoints.is_empty()
                {
                    fields.push("spec.dependencies.kafka.external: true".to_owned());
                    fields.push(format!(
                        "spec.dependencies.kafka.brokerList: [{}]",
                        spaced(&endpoints)
                    ));
                }
                let also = if kind == QueueKind::Pulsar {
                    " Do not change spec.dependencies.pulsar."
                } else {
                    ""
                };
                Remedy::words(format!(
                    "Set {} in the Milvus resource {resource}.{also}",
                    list_of(fields)
                ))
            }
            Source::Chart(chart) if chart.vendor == Vendor::Zilliz => {
                match self.queue_pins(kind, &endpoints) {
                    Some(pins) => self.set_values(&pins, &format!("Milvus stays on {name}")),
                    None => self.configure(&queue_settings(kind, &name, &endpoints)),
                }
            }
            Source::Chart(_) | Source::Manifests => {
                self.configure(&queue_settings(kind, &name, &endpoints))
            }
        }
    }

    /// The values with which a chart of the Milvus project keeps a queue; `None` if it has none for
    /// it. What the change has so already is left out.
    fn queue_pins(&self, kind: QueueKind, endpoints: &str) -> Option<Vec<ChartPin>> {
        let (before, after) = (self.before(), self.upgrade.after);
        let runs = |family| before.dependencies_of(family).next().is_some();
        let comes = |family| after.dependencies_of(family).next().is_some();
        let switches = after.queue().kind.value != kind;
        let mut pins = Vec::new();
        let mut add = |path: &str, value: &str| {
            if self.reads(path) {
                pins.push(ChartPin::new(path, value));
            }
        };
        let standalone = before.topology() == Topology::Standalone;
        if standalone && switches {
            add("standalone.messageQueue", &kind.to_string());
        }
        let (own, families): (bool, &[Family]) = match kind {
            QueueKind::RocksMq | QueueKind::NatsMq | QueueKind::Woodpecker if standalone => {
                (true, &[])
            }
            QueueKind::RocksMq | QueueKind::NatsMq | QueueKind::Woodpecker => return None,
            QueueKind::Pulsar => (
                runs(Family::PulsarV2) || runs(Family::PulsarV3),
                &[Family::PulsarV2, Family::PulsarV3],
            ),
            QueueKind::Kafka => (runs(Family::Kafka), &[Family::Kafka]),
        };
        for family in families
            .iter()
            .filter(|family| runs(**family) && !comes(**family))
        {
            add(switch(*family).unwrap_or_default(), "true");
        }
        if !own {
            let was_external = !switches && !families.iter().any(|family| comes(*family));
            match kind {
                _ if endpoints.is_empty() => return None,
                QueueKind::Pulsar => {
                    let (host, port) =
                        host_and_port(endpoints.split(',').next().unwrap_or_default());
                    if !was_external {
                        add("externalPulsar.enabled", "true");
                    }
                    add("externalPulsar.host", host);
                    add(
                        "externalPulsar.port",
                        port.or_else(|| before.config.value("pulsar.port"))
                            .unwrap_or("6650"),
                    );
                }
                _ => {
                    if !was_external {
                        add("externalKafka.enabled", "true");
                    }
                    add("externalKafka.brokerList", endpoints);
                }
            }
        }
        // An external queue goes before the one in the release.
        match after.queue().kind.value {
            QueueKind::Kafka if !comes(Family::Kafka) && (own || kind != QueueKind::Kafka) => {
                add("externalKafka.enabled", "false");
            }
            QueueKind::Pulsar
                if !comes(Family::PulsarV2)
                    && !comes(Family::PulsarV3)
                    && (own || kind != QueueKind::Pulsar) =>
            {
                add("externalPulsar.enabled", "false");
            }
            _ => {}
        }
        for family in [Family::PulsarV2, Family::PulsarV3, Family::Kafka] {
            if comes(family) && !runs(family) {
                add(switch(family).unwrap_or_default(), "false");
            }
        }
        (!pins.is_empty()).then_some(pins)
    }

    /// Keeps the etcd that holds the metadata.
    #[must_use]
    pub fn keep_etcd(&self) -> Remedy {
        let endpoints = clean(
            self.before()
                .metadata()
                .endpoints
                .setting
                .map_or("", public),
        )
        .into_owned();
        let list = format!("[{}]", spaced(&endpoints));
        if !endpoints.is_empty() && self.stays(Family::Etcd) {
            return self.configure(&[("etcd.endpoints", &list)]);
        }
        if !self.is_external("etcd.endpoints") || endpoints.is_empty() {
            return self.keep_dependency(Family::Etcd);
        }
        match &self.manager.source {
            Source::Operator { resource } => Remedy::words(format!(
                "Set spec.dependencies.etcd.external: true and spec.dependencies.etcd.endpoints: {list} in the Milvus resource {resource}."
            )),
            Source::Chart(_) if self.reads("externalEtcd.endpoints") => {
                let (on, to) = (
                    self.path("externalEtcd.enabled"),
                    self.path("externalEtcd.endpoints"),
                );
                Remedy::words(format!(
                    "Set {on}=true and {to}={list} {}.",
                    self.values_place()
                ))
            }
            Source::Chart(_) | Source::Manifests => self.configure(&[("etcd.endpoints", &list)]),
        }
    }

    /// Keeps the object storage that holds the data.
    #[must_use]
    pub fn keep_storage(&self) -> Remedy {
        let before = self.before();
        let address = clean(before.config.value("minio.address").unwrap_or_default()).into_owned();
        let (host, port) = host_and_port(&address);
        let port = port.or_else(|| before.config.value("minio.port"));
        if !host.is_empty() && self.stays(Family::Minio) {
            return self.configure(&[("minio.address", &address)]);
        }
        if !self.is_external("minio.address") || host.is_empty() {
            return self.keep_dependency(Family::Minio);
        }
        let whole = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        match &self.manager.source {
            Source::Operator { resource } => Remedy::words(format!(
                "Set spec.dependencies.storage.external: true and spec.dependencies.storage.endpoint: {whole} in the Milvus resource \
                 {resource}."
            )),
            Source::Chart(_) if self.reads("externalS3.host") => {
                let mut pins = vec![
                    ChartPin::new("externalS3.enabled", "true"),
                    ChartPin::new("externalS3.host", host),
                ];
                pins.extend(port.map(|port| ChartPin::new("externalS3.port", port)));
                pins.push(ChartPin::new("minio.enabled", "false"));
                self.set_values(&pins, "Milvus stays on its object storage")
            }
            Source::Chart(_) | Source::Manifests => self.configure(&[("minio.address", &address)]),
        }
    }

    /// Keeps a dependency that the release brings.
    #[must_use]
    pub fn keep_dependency(&self, family: Family) -> Remedy {
        // Kafka brings its ZooKeeper.
        let family = if family == Family::Zookeeper {
            Family::Kafka
        } else {
            family
        };
        let kind = self.before().queue().kind.value;
        let in_use = match family {
            Family::PulsarV2 | Family::PulsarV3 => kind == QueueKind::Pulsar,
            Family::Kafka => kind == QueueKind::Kafka,
            _ => false,
        };
        if in_use && self.before().has_config() && self.manager.is_chart() {
            return self.keep_queue();
        }
        let names = self.dependency_names(family);
        match (&self.manager.source, switch(family)) {
            (Source::Chart(_), Some(path)) if self.reads(path) && !self.stays(family) => {
                let mut pins = vec![ChartPin::new(path, "true")];
                pins.extend(
                    self.external_instead(family)
                        .map(|path| ChartPin::new(path, "false")),
                );
                self.set_values(&pins, &format!("{family} stays in the release"))
            }
            (Source::Chart(_), _) => Remedy::words(format!(
                "Keep {family} in the release, {}.",
                self.values_place()
            )),
            (Source::Operator { resource }, _) => {
                let field = operator_dependency(family).unwrap_or("spec.dependencies");
                Remedy::words(format!(
                    "Do not change {field} of the Milvus resource {resource}."
                ))
            }
            (Source::Manifests, _) => {
                Remedy::words(format!("Keep {} {}.", names, self.source_of_manifests()))
            }
        }
    }

    /// Leaves a dependency out that the change would add to the one in use.
    #[must_use]
    pub fn leave_out(&self, family: Family) -> Remedy {
        match (&self.manager.source, switch(family)) {
            (Source::Chart(_), Some(path)) if self.reads(path) => self.set_values(
                &[ChartPin::new(path, "false")],
                &format!("{family} stays out"),
            ),
            (Source::Chart(_), _) => {
                Remedy::words(format!("Do not add {family}, {}.", self.values_place()))
            }
            (Source::Operator { resource }, _) => {
                let kind = self.before().queue().kind.value;
                Remedy::words(format!(
                    "Keep spec.dependencies.msgStreamType: {kind} in the Milvus resource {resource}."
                ))
            }
            (Source::Manifests, _) => Remedy::words(format!(
                "Do not add {family} {}.",
                self.source_of_manifests()
            )),
        }
    }

    /// Keeps the image of a dependency at a tag.
    #[must_use]
    pub fn pin_image(&self, family: Family, object: &str, image: &ImageRef) -> Remedy {
        let tag = image.tag.clone().unwrap_or_default();
        let path = match family {
            Family::Minio => "minio.image.tag",
            Family::Etcd => "etcd.image.tag",
            Family::Kafka => "kafka.image.tag",
            _ => "",
        };
        match &self.manager.source {
            Source::Chart(_) if !path.is_empty() && !tag.is_empty() && self.reads(path) => self
                .set_values(
                    &[ChartPin::new(path, tag)],
                    &format!("{family} keeps its image"),
                ),
            Source::Chart(_) => Remedy::words(format!(
                "Keep the image {image} of {object}, {}.",
                self.values_place()
            )),
            Source::Operator { resource } => {
                let field = operator_dependency(family).unwrap_or("spec.dependencies");
                Remedy::words(format!(
                    "Keep the image {image} of {object} in {field}.inCluster.values of the Milvus resource {resource}."
                ))
            }
            Source::Manifests => Remedy::words(format!(
                "Keep the image {image} in {}.",
                self.object_place(object)
            )),
        }
    }

    /// Takes an image from where it is published now; `pin` is the chart's value that names its
    /// repository, as `path=value`.
    #[must_use]
    pub fn moved_image(&self, moved: &ImageRef, pin: Option<&str>) -> Remedy {
        let words = format!(
            "Use {moved}, or copy the image into your own registry from a node that still has it."
        );
        let pin = pin
            .and_then(ChartPin::parse)
            .filter(|pin| self.manager.is_chart() && self.reads(&pin.path));
        match pin {
            Some(pin) => Remedy::words(format!(
                "{words} Set {}={} {}.",
                self.path(&pin.path),
                pin.value,
                self.values_place()
            )),
            None => Remedy::words(words),
        }
    }

    /// Sets a field of a pod template, such as `securityContext.fsGroup`, on the workload of a
    /// component.
    #[must_use]
    pub fn workload_field(&self, object: &str, component: Component, field: &str) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                format!(
                    "Set {field} for spec.components.{} in the Milvus resource {resource}.",
                    operator_component(component)
                )
            }
            Source::Chart(_) => format!("Set {field} for {component}, {}.", self.values_place()),
            Source::Manifests => format!(
                "Set {field} in the pod template of {}.",
                self.object_place(object)
            ),
        })
    }

    /// Gives the group of a user the volumes of a workload.
    #[must_use]
    pub fn fs_group(&self, component: &ComponentWorkload, group: i64) -> Remedy {
        let object = &component.workload.meta.object;
        let remedy = if self
            .manager
            .chart()
            .is_some_and(|chart| chart.vendor == Vendor::Zilliz)
            && self.reads("securityContext")
        {
            Remedy::words(format!(
                "Set {}={group} {}.",
                self.path("securityContext.fsGroup"),
                self.values_place()
            ))
        } else {
            let field = format!("securityContext.fsGroup: {group}");
            self.workload_field(
                &format!("{} {}", object.kind, object.name),
                component.component,
                &field,
            )
        };
        remedy.and(&format!(
            "The CSI driver must apply fsGroup; if it does not, add an init container that runs chown -R {group}:{group}."
        ))
    }

    /// Switches components on and off.
    #[must_use]
    pub fn components(&self, on: &[Component], off: &[Component]) -> Remedy {
        // What is so already is not asked for.
        let after = self.upgrade.after;
        let on: &[Component] = &on
            .iter()
            .copied()
            .filter(|one| !after.runs(*one))
            .collect::<Vec<_>>();
        let off: &[Component] = &off
            .iter()
            .copied()
            .filter(|one| after.runs(*one))
            .collect::<Vec<_>>();
        match &self.manager.source {
            Source::Chart(_) => {
                let mut pins = Vec::new();
                for (components, wanted) in [(on, "true"), (off, "false")] {
                    for component in components {
                        let Some(path) =
                            component_switch(*component).filter(|path| self.reads(path))
                        else {
                            continue;
                        };
                        pins.push(ChartPin::new(path, wanted));
                        let replicas = "streamingNode.replicas";
                        if *component == Component::StreamingNode
                            && wanted == "true"
                            && self.reads(replicas)
                        {
                            pins.push(ChartPin::new(replicas, "1"));
                        }
                    }
                }
                if pins.len() < on.len() + off.len() {
                    let place = self.values_place();
                    return Remedy::words(format!("{}, {place}.", components_in_words(on, off)));
                }
                self.set_values(&pins, "the components fit")
            }
            Source::Operator { resource } => Remedy::words(format!(
                "{} under spec.components of the Milvus resource {resource}.",
                components_in_words(on, off)
            )),
            Source::Manifests => Remedy::words(format!(
                "{} {}.",
                components_in_words(on, off),
                self.source_of_manifests()
            )),
        }
    }

    /// Turns active-standby of a coordinator on, or asks for one replica.
    #[must_use]
    pub fn standby(&self, component: Component, keys: &[&str]) -> Remedy {
        let path = component_switch(component)
            .map(|path| path.replace(".enabled", ".activeStandby.enabled"));
        let config = &self.upgrade.after.config;
        let settings: Vec<(&str, &str)> = keys
            .iter()
            .filter(|key| !config.is_true(key))
            .map(|key| (*key, "true"))
            .collect();
        if self.manager.is_chart()
            && let Some(path) = path
            && self.reads(&path)
            && !self.is_set(&path, "true")
        {
            let set = self.set_values(&[ChartPin::new(&path, "true")], "one of them is active");
            return set.and(&format!("Or run one replica of {component}."));
        }
        self.configure(&settings)
            .and(&format!("Or run one replica of {component}."))
    }

    /// Takes a change that was made by hand over into the source of the release.
    #[must_use]
    pub fn take_over(&self) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                format!("Make the same change in the Milvus resource {resource}.")
            }
            Source::Chart(_) => format!(
                "Before the next upgrade, make the same change {}.",
                self.values_place()
            ),
            Source::Manifests => format!(
                "Before the next upgrade, make the same change {}.",
                self.source_of_manifests()
            ),
        })
    }

    /// Keeps names and mode of the release.
    #[must_use]
    pub fn keep_identity(&self) -> Remedy {
        let before = self.before();
        Remedy::words(match &self.manager.source {
            Source::Chart(chart) => {
                let name = format!("the Helm release name {}", before.name);
                let alias = chart
                    .alias
                    .as_ref()
                    .map(|alias| format!("the alias {alias}"));
                let paths = ["cluster.enabled", "nameOverride", "fullnameOverride"];
                let paths = paths
                    .into_iter()
                    .filter(|path| self.reads(path))
                    .map(|path| self.path(path));
                format!(
                    "Do not change {}.",
                    list_of([name].into_iter().chain(alias).chain(paths))
                )
            }
            Source::Operator { resource } => {
                format!("Do not change spec.mode and the name of the Milvus resource {resource}.")
            }
            Source::Manifests => {
                format!(
                    "Do not change the names and labels of the workloads, {}.",
                    self.source_of_manifests()
                )
            }
        })
    }

    /// Keeps the volumes of a workload.
    #[must_use]
    pub fn keep_volumes(&self, object: &str) -> Remedy {
        let rest = "If the data must move to another volume, copy it while Milvus is stopped.";
        Remedy::words(match &self.manager.source {
            Source::Chart(_) => {
                let of_milvus =
                    object.contains("standalone") && self.reads("standalone.persistence.enabled");
                let what = if of_milvus {
                    format!(
                        "{} and the claim",
                        self.path("standalone.persistence.enabled")
                    )
                } else {
                    "persistence and the claim".to_owned()
                };
                format!(
                    "Do not change {what} of {object}, {}. {rest}",
                    self.values_place()
                )
            }
            Source::Operator { resource } => {
                format!("Keep the volumes of {object} as in the Milvus resource {resource}. {rest}")
            }
            Source::Manifests => {
                format!("Keep the volumes of {}. {rest}", self.object_place(object))
            }
        })
    }

    /// Chooses another version of Milvus.
    #[must_use]
    pub fn set_version(&self, target: &str) -> Remedy {
        let field = match &self.manager.source {
            Source::Operator { resource } => {
                format!("spec.components.image of the Milvus resource {resource}")
            }
            Source::Chart(chart) => {
                let path = if chart.vendor == Vendor::Bitnami {
                    "milvus.image.tag"
                } else {
                    "image.all.tag"
                };
                if self.reads(path) {
                    format!("{} {}", self.path(path), self.values_place())
                } else {
                    format!("the image tag {}", self.values_place())
                }
            }
            Source::Manifests => format!("the images {}", self.source_of_manifests()),
        };
        Remedy::words(format!("Use {target} instead ({field})."))
    }

    /// Gives all components one image.
    #[must_use]
    pub fn one_version(&self) -> Remedy {
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => format!(
                "Set spec.components.image of the Milvus resource {resource}, and remove the images of single components from it."
            ),
            Source::Chart(chart) => {
                let path = if chart.vendor == Vendor::Bitnami {
                    "milvus.image.tag"
                } else {
                    "image.all.tag"
                };
                let path = if self.reads(path) {
                    self.path(path)
                } else {
                    "one tag for all".to_owned()
                };
                format!(
                    "Set {path} and remove the tags of single components, {}.",
                    self.values_place()
                )
            }
            Source::Manifests => format!(
                "Give all components the same image, {}.",
                self.source_of_manifests()
            ),
        })
    }

    /// Chooses another chart version.
    #[must_use]
    pub fn set_chart(&self, wanted: &str) -> Remedy {
        Remedy::words(match (self.manager.alias(), &self.manager.tool) {
            (Some(alias), _) => format!(
                "Use {wanted} as the version of the dependency {alias} in the parent chart."
            ),
            (None, Tool::ArgoCd { application }) => {
                format!(
                    "Use {wanted} as spec.source.targetRevision of {}.",
                    named("Application", application.as_deref())
                )
            }
            (None, Tool::FluxHelm { name }) => {
                format!("Use {wanted} as spec.chart.spec.version of HelmRelease {name}.")
            }
            (None, _) => format!("Use {wanted}."),
        })
    }

    /// Sets values of the wanted chart. What is set already is not asked for again.
    #[must_use]
    pub fn set_values(&self, pins: &[ChartPin], purpose: &str) -> Remedy {
        let open: Vec<ChartPin> = pins
            .iter()
            .filter(|pin| !self.is_set(&pin.path, &pin.value))
            .cloned()
            .collect();
        if open.is_empty() {
            let list = list_of(
                pins.iter()
                    .map(|pin| format!("{}={}", self.path(&pin.path), pin.value)),
            );
            let chart = self
                .chart()
                .map_or_else(String::new, |(_, version)| format!(" {version}"));
            return Remedy::words(format!(
                "{list} is already set, but chart{chart} renders another value: compare the \
                 rendered manifests, or use another chart version, so that {purpose}."
            ));
        }
        let list = list_of(
            open.iter()
                .map(|pin| format!("{}={}", self.path(&pin.path), pin.value)),
        );
        let flag = matches!(self.manager.tool, Tool::Helm | Tool::Rendered)
            && self.manager.alias().is_none();
        let how = if flag {
            " (with --set or in a values file)"
        } else {
            ""
        };
        Remedy {
            text: format!("Set {list} {}{how}.", self.values_place()),
            cure: Some(Cure::Values(open)),
        }
    }

    /// Whether the user's values of the wanted change are known to have a value.
    fn is_set(&self, path: &str, value: &str) -> bool {
        let Some(helm) = &self.upgrade.after.helm else {
            return false;
        };
        let prefix = self.manager.alias().map(str::to_owned);
        let keys = prefix.as_deref().into_iter().chain(path.split('.'));
        let mut node: &Tree<'_> = &helm.user_values;
        for key in keys {
            let Some(next) = node.get(key) else {
                return false;
            };
            node = next;
        }
        node.as_str() == Some(value)
    }

    /// Whether the change keeps a workload of a family that runs in the release.
    fn stays(&self, family: Family) -> bool {
        let runs = |release: &Release| release.dependencies_of(family).next().is_some();
        runs(self.before()) && runs(self.upgrade.after)
    }

    /// The chart value that points Milvus to a dependency outside the release, where the change
    /// does that.
    fn external_instead(&self, family: Family) -> Option<&'static str> {
        let (before, after) = (self.before(), self.upgrade.after);
        let (path, moves) = match family {
            Family::Etcd => {
                let (from, to) = (
                    before.metadata().endpoints.value,
                    after.metadata().endpoints.value,
                );
                (
                    "externalEtcd.enabled",
                    !to.is_empty() && from.is_disjoint(&to),
                )
            }
            Family::Minio => {
                let address =
                    |release: &Release| release.config.value("minio.address").map(str::to_owned);
                let to = address(after);
                ("externalS3.enabled", to.is_some() && to != address(before))
            }
            _ => return None,
        };
        Some(path).filter(|path| moves && self.reads(path))
    }

    /// Whether the dependency that a key is about lies outside the release.
    fn is_external(&self, key: &str) -> bool {
        let families: &[Family] = match key.split('.').next().unwrap_or_default() {
            "minio" => &[Family::Minio],
            "etcd" => &[Family::Etcd],
            "kafka" => &[Family::Kafka],
            "pulsar" => &[Family::PulsarV2, Family::PulsarV3],
            _ => return false,
        };
        !families
            .iter()
            .any(|family| self.before().dependencies_of(*family).next().is_some())
    }

    /// A value's path from the root of the chart that is installed.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        self.manager
            .alias()
            .map_or_else(|| path.to_owned(), |alias| format!("{alias}.{path}"))
    }

    /// Where the values of the chart stand, as an expression of place: "in the Helm values".
    #[must_use]
    pub fn values_place(&self) -> String {
        let umbrella = self
            .manager
            .chart()
            .and_then(|chart| chart.umbrella.as_deref());
        let values = match (self.manager.alias(), umbrella) {
            (Some(_), Some(umbrella)) => {
                format!("in the Helm values of the parent chart {umbrella}")
            }
            (Some(_), None) => "in the Helm values of the parent chart".to_owned(),
            (None, _) => "in the Helm values".to_owned(),
        };
        match &self.manager.tool {
            Tool::ArgoCd { application } => {
                format!(
                    "{values}, in the source of {}",
                    named("Application", application.as_deref())
                )
            }
            Tool::FluxHelm { name } => format!("in spec.values of HelmRelease {name}"),
            Tool::FluxKustomize { name } => {
                format!("{values}, in the source of Kustomization {name}")
            }
            Tool::Applied => format!("{values} from which the manifests are rendered"),
            Tool::Terraform => format!("{values}, in the Terraform source"),
            Tool::Helm | Tool::Rendered | Tool::Kustomize | Tool::Unknown => values,
        }
    }

    /// Where manifests come from, as an expression of place.
    fn source_of_manifests(&self) -> String {
        match &self.manager.tool {
            Tool::ArgoCd { application } => format!(
                "in the source of {}",
                named("Application", application.as_deref())
            ),
            Tool::FluxKustomize { name } => format!("in the source of Kustomization {name}"),
            Tool::FluxHelm { name } => format!("in the source of HelmRelease {name}"),
            Tool::Kustomize => "in the kustomize source".to_owned(),
            Tool::Terraform => "in the Terraform source".to_owned(),
            Tool::Helm | Tool::Rendered | Tool::Applied | Tool::Unknown => {
                "in the manifests".to_owned()
            }
        }
    }

    /// An object and where it is changed.
    fn object_place(&self, object: &str) -> String {
        match &self.manager.tool {
            Tool::Helm | Tool::Rendered | Tool::Applied | Tool::Unknown => object.to_owned(),
            _ => format!("{object}, {}", self.source_of_manifests()),
        }
    }

    /// The object that holds a setting of the running state, as `Kind name`.
    fn config_object(&self, setting: Option<Setting<'_>>) -> String {
        let before = self.before();
        if setting.is_some_and(|setting| setting.layer == Layer::Environment)
            && let Some(component) = before.components.first()
        {
            let object = &component.workload.meta.object;
            return format!("the environment of {} {}", object.kind, object.name);
        }
        let volumes = before
            .components
            .iter()
            .flat_map(|component| &component.workload.pod.volumes);
        let mut maps = volumes.flat_map(|volume| volume.source.config_maps());
        maps.next().map_or_else(
            || "the configuration of Milvus (milvus.yaml)".to_owned(),
            |name| format!("ConfigMap {name}"),
        )
    }

    /// The workloads of a dependency, as `Kind name`.
    fn dependency_names(&self, family: Family) -> String {
        let names = self.before().dependencies_of(family).map(|dependency| {
            let object = &dependency.workload.meta.object;
            format!("{} {}", object.kind, object.name)
        });
        let names = list_of(names);
        if names.is_empty() {
            family.to_string()
        } else {
            names
        }
    }

    /// A command of milvus-guard that only reads, on this release.
    #[must_use]
    pub fn guard(&self, verb: &str, more: &[String]) -> Option<String> {
        let before = self.before();
        let mut words = vec![
            "milvus-guard".to_owned(),
            verb.to_owned(),
            "-i".to_owned(),
            before.title(),
        ];
        if let Some(namespace) = &before.namespace {
            words.extend(["-n".to_owned(), namespace.clone()]);
        }
        words.extend(more.iter().cloned());
        command(&words)
    }

    /// A read-only command of kubectl on an object of the release.
    #[must_use]
    pub fn kubectl(&self, words: &[&str]) -> Option<String> {
        let mut all: Vec<String> = std::iter::once("kubectl")
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect();
        if let Some(namespace) = &self.before().namespace {
            all.extend(["-n".to_owned(), namespace.clone()]);
        }
        command(&all)
    }

    /// Why `milvus-guard upgrade` and `migrate` cannot work on this release; `None` if they can.
    #[must_use]
    pub fn cannot_run(&self) -> Option<&'static str> {
        let before = self.before();
        if !self.manager.is_chart()
            || before
                .manager
                .alias()
                .or(self.manager.alias())
                .is_some_and(|alias| alias != "milvus")
        {
            return Some("is not a release of the Milvus chart");
        }
        let deployments = before
            .components
            .iter()
            .all(|component| component.workload.meta.object.kind == "Deployment");
        (!deployments).then_some("does not run as Deployments")
    }

    /// The command for an ordered upgrade to what is wanted; `None` if it cannot be made, or not
    /// with the wanted image.
    #[must_use]
    pub fn ordered_upgrade(&self) -> Option<String> {
        let (before, to) = (self.upgrade.before?, self.upgrade.to()?);
        if self.cannot_run().is_some() || to.prerelease.is_some() {
            return None;
        }
        let mut more = vec!["-t".to_owned(), to.version.to_string()];
        more.extend(self.wanted_image(before, to.version)?);
        self.guard("upgrade", &more)
    }

    /// The flags for the wanted image: none where it is the running one at the wanted version, as
    /// the verbs derive it; `None` if the components want several images.
    fn wanted_image(&self, before: &Release, version: Version) -> Option<Vec<String>> {
        let image = self.new_image()?;
        let plain = Build::of(version);
        let derived = before
            .components
            .iter()
            .all(|component| component.image().at(&plain).to_string() == image);
        Some(if derived {
            Vec::new()
        } else {
            vec!["-w".to_owned(), image]
        })
    }

    /// The image that components get by this change, if they all get the same. Those that stay as
    /// they are wait for their turn, as at the workload gate, where one component changes at a
    /// time.
    fn new_image(&self) -> Option<String> {
        let is_new = |component: &&ComponentWorkload| {
            let pair = self
                .upgrade
                .pairs()
                .find(|(_, after)| Arc::ptr_eq(&after.workload, &component.workload));
            pair.is_none_or(|(before, after)| before.image() != after.image())
        };
        let mut images = self
            .upgrade
            .after
            .components
            .iter()
            .filter(is_new)
            .map(|component| component.image().to_string());
        let first = images.next()?;
        images.all(|image| image == first).then_some(first)
    }

    /// The command for a migration of the metadata; `None` if the release cannot be migrated by it.
    #[must_use]
    pub fn migrate(&self, landing: Version) -> Option<String> {
        let before = self.upgrade.before?;
        let from = self.upgrade.from()?;
        let metadata = before.metadata();
        if self.cannot_run().is_some()
            || before.topology() == Topology::Standalone
            || metadata.metastore.value != "etcd"
        {
            return None;
        }
        let mut more = vec![
            "-s".to_owned(),
            from.version.to_string(),
            "-t".to_owned(),
            landing.to_string(),
        ];
        if metadata.root_path.value != "by-dev" {
            more.extend(["-r".to_owned(), metadata.root_path.value.to_string()]);
        }
        if self.upgrade.to_version() == Some(landing) {
            more.extend(self.wanted_image(before, landing)?);
        }
        self.guard("migrate", &more)
    }

    /// The `helm upgrade` that makes the wanted change with these values on top; `None` unless
    /// everything that the change differs in from the running state is known: the user's values on
    /// both sides, the chart and the image.
    fn helm_upgrade(&self, pins: &[ChartPin]) -> Option<String> {
        let (before, after) = self.upgrade.both()?;
        let chart = self.manager.chart()?;
        if self.manager.tool != Tool::Helm || *chart != ChartSource::default() {
            return None;
        }
        let wanted = after
            .chart
            .as_ref()
            .filter(|chart| chart.name == "milvus")?;
        let published = self
            .upgrade
            .catalogue
            .chart(wanted.version)
            .is_some_and(|row| row.published == Published::Index);
        // Helm reuses the values of the revision that is deployed.
        let (old, new) = (before.helm.as_ref()?, after.helm.as_ref()?);
        let supported = self
            .upgrade
            .facts
            .helm
            .is_none_or(|helm| helm >= REUSES_VALUES);
        if !published || old.status != "deployed" || before.name != after.name || !supported {
            return None;
        }
        let images = image_values(&old.user_values, &new.user_values)?;
        let mut words: Vec<String> = [
            "helm",
            "upgrade",
            &after.name,
            CHART,
            "-n",
            after.namespace.as_deref()?,
        ]
        .map(str::to_owned)
        .into();
        words.extend([
            "--version".to_owned(),
            wanted.version.to_string(),
            "--reset-then-reuse-values".to_owned(),
        ]);
        for pin in images.iter().chain(pins) {
            words.extend([
                "--set".to_owned(),
                format!("{}={}", pin.path, escaped(&pin.value)),
            ]);
        }
        command(&words)
    }
}

/// The chart of the Milvus project, under the name that its documentation gives its repository.
pub const CHART: &str = "zilliztech/milvus";

/// The first Helm with `--reset-then-reuse-values` (Helm 3.14.0 release notes).
const REUSES_VALUES: Version = Version::new(3, 14, 0);

/// Makes the commands, once all rules have spoken. One command carries what all findings need;
/// where a denial would be left, no command is made.
pub(super) fn settle(upgrade: &Upgrade<'_>, findings: &mut [Finding]) {
    if !findings.iter().any(|finding| finding.cure.is_some()) {
        return;
    }
    let advice = upgrade.advice();
    let denies = |finding: &&Finding| finding.severity == Severity::Deny;
    let mut pins: Vec<ChartPin> = Vec::new();
    let mut fits = true;
    for finding in findings.iter() {
        match &finding.cure {
            Some(Cure::Values(values)) => {
                for value in values {
                    match pins.iter().find(|pin| pin.path == value.path) {
                        Some(pin) => fits &= pin == value,
                        None => pins.push(value.clone()),
                    }
                }
            }
            Some(Cure::OrderedUpgrade) | None => fits &= finding.severity != Severity::Deny,
        }
    }
    let helm = advice
        .helm_upgrade(&pins)
        .filter(|_| fits && !pins.is_empty());
    let barred = findings
        .iter()
        .filter(denies)
        .any(|finding| finding.rule.category == Category::Version);
    let ordered = advice.ordered_upgrade().filter(|_| !barred);
    for finding in findings.iter_mut() {
        match &finding.cure {
            Some(Cure::Values(_)) => finding.fix.command.clone_from(&helm),
            Some(Cure::OrderedUpgrade) => finding.fix.command.clone_from(&ordered),
            None => {}
        }
    }
}

/// The image values that differ between the user's values of both sides; `None` if anything else
/// differs, too.
fn image_values(old: &Tree<'_>, new: &Tree<'_>) -> Option<Vec<ChartPin>> {
    const IMAGE: [&str; 2] = ["image.all.repository", "image.all.tag"];
    let (before, after) = (leaves(old), leaves(new));
    let other = |leaves: &[(String, Cow<'_, str>)]| -> Vec<(String, String)> {
        leaves
            .iter()
            .filter(|(path, _)| !IMAGE.contains(&path.as_str()))
            .map(|(path, value)| (path.clone(), value.to_string()))
            .collect()
    };
    if other(&before) != other(&after) {
        return None;
    }
    let find = |leaves: &[(String, Cow<'_, str>)], path: &str| {
        leaves
            .iter()
            .find(|(name, _)| name == path)
            .map(|(_, value)| value.to_string())
    };
    let mut pins = Vec::new();
    for path in IMAGE {
        match (find(&before, path), find(&after, path)) {
            (old, Some(new)) if old.as_ref() != Some(&new) => pins.push(ChartPin::new(path, new)),
            // The chart's default is wanted again: no flag says that for sure.
            (Some(_), None) => return None,
            _ => {}
        }
    }
    Some(pins)
}

/// Every leaf of a tree of values with its path, ordered by path. Empty maps and lists count as
/// leaves.
fn leaves<'t>(root: &'t Tree<'_>) -> Vec<(String, Cow<'t, str>)> {
    fn walk<'t>(node: &'t Tree<'_>, path: &mut String, found: &mut Vec<(String, Cow<'t, str>)>) {
        let mut step = |key: &str, next: &'t Tree<'_>, path: &mut String| {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(key);
            walk(next, path, found);
            path.truncate(length);
        };
        match &node.kind {
            Kind::Mapping(entries) if !entries.is_empty() => {
                for (key, next) in entries {
                    step(key, next, path);
                }
            }
            Kind::Sequence(items) if !items.is_empty() => {
                for (at, next) in items.iter().enumerate() {
                    step(&at.to_string(), next, path);
                }
            }
            Kind::Mapping(_) if path.is_empty() => {}
            Kind::Mapping(_) => found.push((path.clone(), "{}".into())),
            Kind::Sequence(_) => found.push((path.clone(), "[]".into())),
            Kind::Scalar { .. } if path.is_empty() && node.is_null() => {}
            Kind::Scalar { .. } => {
                found.push((path.clone(), node.as_str().unwrap_or("null").into()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, &mut String::new(), &mut found);
    found.sort();
    found
}

/// The keys of Milvus' configuration that say which queue it uses.
fn queue_settings<'s>(
    kind: QueueKind,
    name: &'s str,
    endpoints: &'s str,
) -> Vec<(&'static str, &'s str)> {
    let mut settings = vec![("mq.type", name)];
    match kind {
        QueueKind::Kafka if !endpoints.is_empty() => settings.push(("kafka.brokerList", endpoints)),
        QueueKind::Pulsar if !endpoints.is_empty() => settings.push(("pulsar.address", endpoints)),
        _ => {}
    }
    settings
}

/// The value of a setting that may be in a command; that of a Secret may not.
fn public(setting: Setting<'_>) -> &str {
    if setting.is_secret { "" } else { setting.value }
}

/// The chart value that switches a dependency on.
const fn switch(family: Family) -> Option<&'static str> {
    Some(match family {
        Family::Etcd => "etcd.enabled",
        Family::Minio => "minio.enabled",
        Family::PulsarV2 => "pulsar.enabled",
        Family::PulsarV3 => "pulsarv3.enabled",
        Family::Kafka => "kafka.enabled",
        Family::Woodpecker => "woodpecker.enabled",
        Family::Zookeeper | Family::Mysql | Family::Tikv | Family::Silo => return None,
    })
}

/// The field of the operator's resource that describes a dependency.
const fn operator_dependency(family: Family) -> Option<&'static str> {
    Some(match family {
        Family::Etcd => "spec.dependencies.etcd",
        Family::Minio | Family::Silo => "spec.dependencies.storage",
        Family::PulsarV2 | Family::PulsarV3 => "spec.dependencies.pulsar",
        Family::Kafka => "spec.dependencies.kafka",
        Family::Zookeeper | Family::Mysql | Family::Tikv | Family::Woodpecker => return None,
    })
}

/// The name of a component in the operator's resource.
const fn operator_component(component: Component) -> &'static str {
    match component {
        Component::RootCoord => "rootCoord",
        Component::DataCoord => "dataCoord",
        Component::IndexCoord => "indexCoord",
        Component::QueryCoord => "queryCoord",
        Component::MixCoord => "mixCoord",
        Component::IndexNode => "indexNode",
        Component::DataNode => "dataNode",
        Component::QueryNode => "queryNode",
        Component::StreamingNode => "streamingNode",
        Component::Proxy => "proxy",
        Component::Standalone => "standalone",
        Component::Cdc => "cdc",
    }
}

/// The chart value that switches a component on.
const fn component_switch(component: Component) -> Option<&'static str> {
    Some(match component {
        Component::RootCoord => "rootCoordinator.enabled",
        Component::DataCoord => "dataCoordinator.enabled",
        Component::IndexCoord => "indexCoordinator.enabled",
        Component::QueryCoord => "queryCoordinator.enabled",
        Component::MixCoord => "mixCoordinator.enabled",
        Component::IndexNode => "indexNode.enabled",
        Component::DataNode => "dataNode.enabled",
        Component::QueryNode => "queryNode.enabled",
        Component::StreamingNode => "streaming.enabled",
        Component::Proxy => "proxy.enabled",
        Component::Standalone | Component::Cdc => return None,
    })
}

fn components_in_words(on: &[Component], off: &[Component]) -> String {
    let names = |components: &[Component]| list_of(components.iter().map(ToString::to_string));
    match (on.is_empty(), off.is_empty()) {
        (false, false) => format!("Run {} without {}", names(on), names(off)),
        (false, true) => format!("Run {}", names(on)),
        (true, _) => format!("Leave {} out", names(off)),
    }
}

fn named(kind: &str, name: Option<&str>) -> String {
    name.map_or_else(
        || format!("the Argo CD {kind}"),
        |name| format!("{kind} {name}"),
    )
}

fn list(parts: impl Iterator<Item = String>) -> String {
    list_of(parts)
}

/// `a`, `a and b`, `a, b and c`.
fn list_of(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn spaced(list: &str) -> String {
    list.split(',')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A value without credentials: what stands before `@` in an address is dropped.
fn clean(value: &str) -> Cow<'_, str> {
    if !value.contains('@') {
        return Cow::Borrowed(value);
    }
    let strip = |address: &str| match address.rsplit_once('@') {
        Some((before, host)) => before.split_once("://").map_or_else(
            || host.to_owned(),
            |(scheme, _)| format!("{scheme}://{host}"),
        ),
        None => address.to_owned(),
    };
    Cow::Owned(value.split(',').map(strip).collect::<Vec<_>>().join(","))
}

/// Host and port of an address, without its scheme.
fn host_and_port(address: &str) -> (&str, Option<&str>) {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or_default();
    match address.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (host, Some(port))
        }
        _ => (address, None),
    }
}

/// A value as `--set` reads it: commas, braces, brackets and backslashes lose their meaning.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ',' | '\\' | '{' | '}' | '[' | ']' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// A command line for a POSIX shell. Words come from manifests that anybody may have written, so
/// each is quoted where a shell would read more than the word. `None` if a word holds a control
/// character or looks like a flag where a name is meant.
#[must_use]
pub fn command(words: &[String]) -> Option<String> {
    let mut line = String::new();
    for (at, word) in words.iter().enumerate() {
        if word.is_empty() || word.chars().any(char::is_control) {
            return None;
        }
        if at > 0 {
            line.push(' ');
        }
        let safe = |c: char| c.is_ascii_alphanumeric() || "@%_+=:,./-".contains(c);
        if word.chars().all(safe) {
            line.push_str(word);
        } else {
            let _ = write!(line, "'{}'", word.replace('\'', r"'\''"));
        }
    }
    Some(line)
}
