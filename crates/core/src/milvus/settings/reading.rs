//! The effective value of a setting in comparable form, and how it differs after a change.

use std::collections::BTreeSet;

use super::{
    comparable::{Comparable, ComparableValue, Difference, Effective, cleaned, is_same, is_true},
    located::Located,
};
use crate::milvus::{
    catalogue::{Compare, SettingFact},
    config::{Lookup, Unknown},
    endpoint::Host,
    queue_kind::QueueKind,
    volume::{VolumePlace, place_of},
};

impl<'a> Located<'a> {
    /// The effective value of a row.
    #[must_use]
    pub fn effective(&self, row: &'a SettingFact) -> Effective<'a> {
        self.read(row).unwrap_or_else(Effective::Unknown)
    }

    fn read(&self, row: &'a SettingFact) -> Result<Effective<'a>, &'a Unknown> {
        if row.compare == Compare::Kind {
            return self.kind(row);
        }
        if row.compare == Compare::Account {
            let (account, setting) = self.account(&row.key)?;
            return Ok(Effective::Known(Comparable::Account(account), setting));
        }
        if self.ignores(row) {
            let default = row.default.as_deref().unwrap_or_default();
            return Ok(Effective::Known(Comparable::Text(default.into()), None));
        }
        let keys = std::iter::once(row.key.as_str()).chain(row.aliases.iter().map(String::as_str));
        let setting = match self.lookup(keys) {
            Lookup::Absent => None,
            Lookup::Known(setting) => Some(setting),
            Lookup::Unknown(unknown) => return Err(unknown),
        };
        let in_code = row.default_without_file.as_deref();
        let default = in_code
            .filter(|_| self.view.replaces_own_file())
            .or(row.default.as_deref());
        // Milvus takes spaces and line breaks as a part of the value.
        let text = setting.map_or(default.unwrap_or_default(), |setting| setting.value);
        let value = match row.compare {
            Compare::Kind
            | Compare::Exact
            | Compare::Lower
            | Compare::Lifetime
            | Compare::Account => Comparable::Text(text.into()),
            Compare::Path => Comparable::Text(cleaned(text).into()),
            Compare::Bool => Comparable::Flag(is_true(text)),
            Compare::Etcd | Compare::Brokers | Compare::Pulsar => Comparable::Hosts {
                hosts: self.hosts(text, self.port(row)?),
                is_default: setting.is_none(),
            },
            Compare::Store => {
                // The row of the bucket reports a bucket that is not known.
                let bucket = self.value("minio.bucketName").map_or("", |setting| {
                    setting.map_or("a-bucket", |setting| setting.value)
                });
                let host = self.hosts(text, self.port(row)?).into_iter().next();
                Comparable::Store {
                    host,
                    bucket: bucket.into(),
                    is_default: setting.is_none(),
                }
            }
            Compare::Volume => Comparable::Place {
                path: text.into(),
                place: self.place(text),
            },
        };
        Ok(Effective::Known(value, setting))
    }

    /// Whether the version of the component does not read a setting.
    #[must_use]
    pub fn ignores(&self, row: &SettingFact) -> bool {
        row.ignored.as_ref().is_some_and(|ignored| {
            let component = self.release.components.get(self.component());
            component
                .and_then(|component| component.version().into_build())
                .is_some_and(|build| ignored.versions.contains(build.version))
        })
    }

    fn kind(&self, row: &SettingFact) -> Result<Effective<'a>, &'a Unknown> {
        Ok(match row.rule.as_deref() {
            Some("MG301") => {
                let queue = self.queue()?;
                Effective::Known(Comparable::Text(queue.value.name().into()), queue.setting)
            }
            Some("MG302") => {
                let metastore = self.metastore()?;
                let value = if metastore.value == "embedded" {
                    "etcd".into()
                } else {
                    metastore.value
                };
                Effective::Known(Comparable::Text(value), metastore.setting)
            }
            _ => {
                let storage = self.storage()?;
                Effective::Known(Comparable::Text(storage.value), storage.setting)
            }
        })
    }

    fn port(&self, row: &'a SettingFact) -> Result<Option<&'a str>, &'a Unknown> {
        let Some(key) = row.port.as_deref() else {
            return Ok(None);
        };
        Ok(self
            .value(key)?
            .map(|setting| setting.value.trim())
            .filter(|port| !port.is_empty())
            .or(row.default_port.as_deref()))
    }

    pub(super) fn hosts(&self, text: &str, port: Option<&str>) -> BTreeSet<Host> {
        let addresses = text
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty());
        addresses
            .map(|address| Host::parse(address, self.release.namespace.as_deref()).or_port(port))
            .collect()
    }

    pub(super) fn written_hosts(
        &self,
        key: &'static str,
        port: Option<&'static str>,
    ) -> ComparableValue<'a, BTreeSet<Host>> {
        let setting = self.value(key).ok().flatten();
        let port = port
            .and_then(|port| self.value(port).ok().flatten())
            .map(|setting| setting.value);
        ComparableValue {
            value: self.hosts(setting.map_or("", |setting| setting.value), port),
            setting,
        }
    }

    /// The place of a path as the component sees it.
    #[must_use]
    pub fn place(&self, path: &str) -> VolumePlace {
        let component = self.release.components.get(self.component());
        let container = component.and_then(|component| Some((component, self.view.container()?)));
        match container {
            Some((component, container)) => place_of(&component.workload, container, path),
            None => VolumePlace {
                volume: crate::milvus::volume::DataVolume::Container,
                path: path.to_owned(),
            },
        }
    }

    /// Paths on which the component keeps data by its configuration, each with what it keeps there.
    /// Unknown settings leave their defaults, so that a volume counts rather than not.
    #[must_use]
    pub fn data_paths(&self) -> Vec<(&'static str, String)> {
        let path = |key: &'static str, default: &str| {
            let setting = self.value(key).ok().flatten();
            setting.map_or(default, |setting| setting.value).to_owned()
        };
        let mut paths = Vec::new();
        match self.queue().map(|queue| queue.value) {
            Ok(QueueKind::RocksMq) => {
                paths.push(("RocksMQ", path("rocksmq.path", "/var/lib/milvus/rdb_data")));
            }
            Ok(QueueKind::NatsMq) => paths.push((
                "NATS",
                path("natsmq.server.storeDir", "/var/lib/milvus/nats"),
            )),
            Ok(QueueKind::Woodpecker)
                if self.woodpecker().is_ok_and(|storage| storage == "local") =>
            {
                paths.push((
                    "Woodpecker",
                    path("woodpecker.storage.rootPath", "/var/lib/milvus/woodpecker"),
                ));
            }
            _ => {}
        }
        if self
            .metastore()
            .is_ok_and(|metastore| metastore.value == "embedded")
        {
            paths.push(("embedded etcd", path("etcd.data.dir", "default.etcd")));
        }
        if self.storage().is_ok_and(|storage| storage.value == "local") {
            paths.push((
                "local storage",
                path("localStorage.path", "/var/lib/milvus/data"),
            ));
        }
        paths
    }

    /// How the value of a row differs from what it was; `None` if it is the same.
    #[must_use]
    pub fn difference(
        &self,
        row: &SettingFact,
        before: &Effective<'_>,
        after: &Effective<'_>,
    ) -> Option<Difference> {
        let (old, new) = match (before, after) {
            (Effective::Known(old, _), Effective::Known(new, _)) => (old, new),
            (Effective::Known(..), Effective::Unknown(_)) => return Some(Difference::Lost),
            (Effective::Unknown(_), _) => return Some(Difference::Unclear),
        };
        let is_same = is_same(row.compare, old, new, self.release.namespace.is_some());
        (!is_same).then_some(Difference::Changed)
    }
}
