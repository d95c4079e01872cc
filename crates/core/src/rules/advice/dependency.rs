//! Dependencies that the release brings (etcd, MinIO, Pulsar, Kafka) or that are outside of it.

use super::{
    Advice,
    remedy::{ChartPin, Remedy},
    wording::{clean, host_and_port, public, spaced},
};
use crate::milvus::{ImageRef, Release, dependency::Family, manager::Source, settings::QueueKind};

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

/// The chart value that switches a dependency on.
pub(super) const fn switch(family: Family) -> Option<&'static str> {
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

impl Advice<'_, '_> {
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
        if let Some(pin) = self.etcd_members() {
            return self.set_values(&[pin], "etcd keeps its members");
        }
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
        // Milvus stays on it: only the separate service is new.
        if family == Family::Woodpecker && self.before().queue().kind.value == QueueKind::Woodpecker
        {
            return self.keep_log();
        }
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

    /// The value of the chart that says how many members its etcd has, where a change of it leaves
    /// Milvus without an endpoint: the chart lists one for each.
    fn etcd_members(&self) -> Option<ChartPin> {
        let after = self.upgrade.after;
        let path = "etcd.replicaCount";
        if !after.metadata().endpoints.value.is_empty() || !self.reads(path) {
            return None;
        }
        let members = |release: &Release| {
            let mut all = release.dependencies_of(Family::Etcd);
            let first = all.next()?;
            all.next().is_none().then(|| {
                let workload = &first.workload;
                (
                    workload.meta.object.name.clone(),
                    workload.wanted_replicas(),
                )
            })
        };
        let (old, new) = (members(self.before())?, members(after)?);
        (old.0 == new.0 && old.1 > new.1).then(|| ChartPin::new(path, old.1.to_string()))
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
    pub(super) fn is_external(&self, key: &str) -> bool {
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
}
