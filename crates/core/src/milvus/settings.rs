//! The settings that decide where Milvus' data lies, in comparable form.
//!
//! Charts and people spell the same thing in several ways; comparing text would raise false alarms,
//! so each setting is brought into one form first. Which settings count, how they are compared and
//! what Milvus takes where they are absent is data (`configuration.yaml`).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    catalogue::{Catalogue, Compare, SettingCondition, SettingFact},
    component::Topology,
    config::{HIDDEN, Lookup, Setting, Unknown, View},
    endpoint::{self, Bucket, Host, listed},
    release::Release,
    volume::{VolumePlace, place_of},
};

/// Keys that decide which queue, which metadata store and which storage Milvus uses.
pub(super) const DECIDING_KEYS: [&str; 11] = [
    "mq.type",
    "messageQueue",
    "pulsar.address",
    "pulsar.port",
    "kafka.brokerList",
    "metastore.type",
    "etcd.use.embed",
    "etcd.endpoints",
    "common.storageType",
    "woodpecker.storage.type",
    "minio.bucketName",
];

/// A message queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Milvus' own")]
pub enum QueueKind {
    Pulsar,
    Kafka,
    RocksMq,
    NatsMq,
    Woodpecker,
}

impl QueueKind {
    /// The name in Milvus' configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pulsar => "pulsar",
            Self::Kafka => "kafka",
            Self::RocksMq => "rocksmq",
            Self::NatsMq => "natsmq",
            Self::Woodpecker => "woodpecker",
        }
    }

    fn named(text: &str) -> Option<Self> {
        [
            Self::Pulsar,
            Self::Kafka,
            Self::RocksMq,
            Self::NatsMq,
            Self::Woodpecker,
        ]
        .into_iter()
        .find(|kind| text.trim().eq_ignore_ascii_case(kind.name()))
    }
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value in comparable form and the setting it came from (`None` if a default applies).
#[derive(Clone, Debug, PartialEq)]
pub struct Known<'a, T> {
    /// The comparable value; the default if the value is unknown.
    pub value: T,
    /// Where it stood.
    pub setting: Option<Setting<'a>>,
}

/// The message queue with everything that decides which topics are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue<'a> {
    /// Which system.
    pub kind: Known<'a, QueueKind>,
    /// Its brokers; empty for embedded queues.
    pub endpoints: Known<'a, BTreeSet<Host>>,
}

/// Where the metadata lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata<'a> {
    /// `etcd`, `tikv` or `mysql`.
    pub metastore: Known<'a, Cow<'a, str>>,
    /// etcd's endpoints.
    pub endpoints: Known<'a, BTreeSet<Host>>,
    /// `etcd.rootPath`.
    pub root_path: Known<'a, Cow<'a, str>>,
    /// `etcd.metaSubPath`.
    pub meta_sub_path: Known<'a, Cow<'a, str>>,
}

/// The effective value of a row of the data for one component.
#[derive(Clone, Debug, PartialEq)]
pub enum Effective<'a> {
    /// It is known, from a setting or as the default.
    Known(Comparable<'a>, Option<Setting<'a>>),
    /// It is not known.
    Unknown(&'a Unknown),
}

/// A value in the form in which it is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparable<'a> {
    /// Text, or the name of a kind.
    Text(Cow<'a, str>),
    /// A truth value.
    Flag(bool),
    /// Addresses.
    Hosts {
        /// What they name.
        hosts: BTreeSet<Host>,
        /// Whether none is written: Milvus asks its own pod.
        is_default: bool,
    },
    /// The address of an object store.
    Store {
        /// What it names.
        host: Option<Host>,
        /// The bucket in it.
        bucket: Cow<'a, str>,
        /// Whether none is written: Milvus asks its own pod.
        is_default: bool,
    },
    /// A path.
    Place {
        /// As it is written.
        path: Cow<'a, str>,
        /// Where it leads.
        place: VolumePlace,
    },
}

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_, Some(setting)) if setting.is_secret => f.write_str(HIDDEN),
            Self::Known(value, _) => write!(f, "{value}"),
            Self::Unknown(unknown) => write!(f, "unknown ({unknown})"),
        }
    }
}

impl fmt::Display for Comparable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.is_empty() => f.write_str("no value"),
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Hosts { hosts, .. } => f.write_str(&listed(hosts)),
            Self::Store {
                host: Some(host), ..
            } => write!(f, "{host}"),
            Self::Store { host: None, .. } => f.write_str("no address"),
            // Where the files do not outlive the pod, the place repeats the path.
            Self::Place { path, place } if !place.volume.is_persistent() => {
                write!(f, "{path} ({})", place.volume)
            }
            Self::Place { path, place } => write!(f, "{path} ({place})"),
        }
    }
}

/// How a value differs after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is another one.
    Changed,
    /// It was known and is not any more.
    Lost,
    /// It was not known, so no one can tell.
    Unclear,
}

/// A setting that is known and is not a secret.
#[derive(Clone, Copy, PartialEq)]
enum Plain<'a> {
    Absent,
    Text(&'a str),
}

/// The configuration of one component of a release, with what decides which settings count.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    release: &'a Release,
    view: View<'a>,
}

impl Release {
    /// The configuration of each container that runs Milvus.
    pub fn located(&self) -> impl Iterator<Item = Located<'_>> {
        self.config.views().map(|view| Located {
            release: self,
            view,
        })
    }

    /// Whether the input holds a configuration to judge; without one, only images and workloads can
    /// be compared.
    #[must_use]
    pub fn has_config(&self) -> bool {
        !self.config.is_empty()
    }

    /// Whether the configuration is known: some of it was read, or nothing is set and Milvus takes
    /// its defaults.
    #[must_use]
    pub fn is_config_known(&self) -> bool {
        let mut all = self.located().peekable();
        all.peek().is_some() && (self.has_config() || !all.any(|located| located.has_unknown()))
    }

    /// The message queue of the first component whose configuration tells.
    #[must_use]
    pub fn queue(&self) -> Queue<'_> {
        let known = self.located().find_map(|located| {
            let kind = located.queue().ok()?;
            let key = match kind.value {
                QueueKind::Pulsar => "pulsar.address",
                QueueKind::Kafka => "kafka.brokerList",
                _ => {
                    return Some(Queue {
                        kind,
                        endpoints: Known {
                            value: BTreeSet::new(),
                            setting: None,
                        },
                    });
                }
            };
            let port = (kind.value == QueueKind::Pulsar).then_some("pulsar.port");
            Some(Queue {
                kind,
                endpoints: located.written_hosts(key, port),
            })
        });
        known.unwrap_or_else(|| Queue {
            kind: Known {
                value: default_queue(self.topology(), false),
                setting: None,
            },
            endpoints: Known {
                value: BTreeSet::new(),
                setting: None,
            },
        })
    }

    /// The settings that rules guard, and those on which they depend, by key; `None` if one is
    /// absent. A setting is missing if it is not known, is a secret, or if components do not
    /// agree about it.
    #[must_use]
    pub fn guarded_settings(&self, catalogue: &Catalogue) -> BTreeMap<String, Option<String>> {
        let mut known = BTreeMap::new();
        for key in catalogue.guarded_keys() {
            let mut values = self.located().map(|located| located.plain(key));
            let Some(first) = values.next().flatten() else {
                continue;
            };
            if values.all(|value| value == Some(first)) {
                let text = match first {
                    Plain::Absent => None,
                    Plain::Text(text) => Some(text.to_owned()),
                };
                known.insert(key.to_owned(), text);
            }
        }
        known
    }

    /// Where the metadata lies, by the first component whose configuration tells.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        let text = |key: &str, default: &'static str| {
            let setting = self.config.get(key);
            Known {
                value: Cow::Borrowed(setting.map_or(default, |setting| trimmed(setting.value))),
                setting,
            }
        };
        let hosts = self
            .located()
            .map(|located| located.written_hosts("etcd.endpoints", None));
        Metadata {
            metastore: text("metastore.type", "etcd"),
            endpoints: hosts
                .into_iter()
                .find(|hosts| !hosts.value.is_empty())
                .unwrap_or(Known {
                    value: BTreeSet::new(),
                    setting: None,
                }),
            root_path: text("etcd.rootPath", "by-dev"),
            meta_sub_path: text("etcd.metaSubPath", "meta"),
        }
    }
}

fn default_queue(topology: Topology, has_kafka: bool) -> QueueKind {
    match topology {
        Topology::Standalone => QueueKind::RocksMq,
        Topology::Cluster if has_kafka => QueueKind::Kafka,
        Topology::Cluster => QueueKind::Pulsar,
    }
}

impl<'a> Located<'a> {
    /// Position of the component in its release.
    #[must_use]
    pub fn component(&self) -> usize {
        self.view.component()
    }

    /// Whether some value is not known.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.view.has_unknown()
    }

    /// Whether both are one and the same configuration, unchanged.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.view.is_same(&other.view)
    }

    fn lookup(&self, keys: impl IntoIterator<Item = &'a str>) -> Lookup<'a> {
        for key in keys {
            match self.view.lookup(key) {
                Lookup::Absent => {}
                found => return found,
            }
        }
        Lookup::Absent
    }

    fn value(&self, key: &'a str) -> Result<Option<Setting<'a>>, &'a Unknown> {
        match self.view.lookup(key) {
            Lookup::Absent => Ok(None),
            Lookup::Known(setting) => Ok(Some(setting)),
            Lookup::Unknown(unknown) => Err(unknown),
        }
    }

    /// A setting as far as it may be kept; `None` if it is not known, or is a secret.
    fn plain(&self, key: &str) -> Option<Plain<'a>> {
        match self.view.lookup(key) {
            Lookup::Absent => Some(Plain::Absent),
            Lookup::Known(setting) if !setting.is_secret => Some(Plain::Text(setting.value)),
            Lookup::Known(_) | Lookup::Unknown(_) => None,
        }
    }

    /// A setting; `None` if it is absent.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn flag(&self, key: &'a str) -> Result<Option<Setting<'a>>, &'a Unknown> {
        self.value(key)
    }

    /// The message queue. The type is `mq.type` or `messageQueue` where one is set (not `default`);
    /// charts up to 3.3.1 write neither, and then Milvus takes RocksMQ in a standalone, and in
    /// a cluster Pulsar before Kafka.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn queue(&self) -> Result<Known<'a, QueueKind>, &'a Unknown> {
        for key in ["mq.type", "messageQueue"] {
            if let Some(setting) = self.value(key)?
                && let Some(value) = QueueKind::named(setting.value)
            {
                return Ok(Known {
                    value,
                    setting: Some(setting),
                });
            }
        }
        let has_kafka = match self.release.topology() {
            Topology::Standalone => false,
            Topology::Cluster => {
                self.value("pulsar.address")?.is_none() && self.value("kafka.brokerList")?.is_some()
            }
        };
        Ok(Known {
            value: default_queue(self.release.topology(), has_kafka),
            setting: None,
        })
    }

    /// `etcd`, `embedded` (etcd in Milvus' own process), `tikv` or `mysql`.
    fn metastore(&self) -> Result<Known<'a, Cow<'a, str>>, &'a Unknown> {
        let setting = self.value("metastore.type")?;
        let named = setting.map_or("etcd", |setting| setting.value.trim());
        if named.eq_ignore_ascii_case("etcd")
            && let Some(embed) = self.value("etcd.use.embed")?.filter(Setting::is_true)
            && self.release.topology() == Topology::Standalone
        {
            return Ok(Known {
                value: "embedded".into(),
                setting: Some(embed),
            });
        }
        Ok(Known {
            value: named.to_ascii_lowercase().into(),
            setting,
        })
    }

    /// The name of the metadata store; `None` if it is not known.
    pub(super) fn metastore_name(&self) -> Option<&'static str> {
        let metastore = self.metastore().ok()?;
        ["etcd", "embedded", "tikv", "mysql"]
            .into_iter()
            .find(|name| *name == metastore.value)
    }

    /// The addresses of a setting; `None` if it is not known. An absent setting has none.
    pub(super) fn addresses(&self, key: &'a str) -> Option<BTreeSet<Host>> {
        let setting = self.value(key).ok()?;
        Some(self.hosts(setting.map_or("", |setting| setting.value), None))
    }

    /// A root path without slashes at its ends; `None` if it is not known.
    pub(super) fn root_path(&self, key: &'a str) -> Option<String> {
        let setting = self.value(key).ok()?;
        Some(trimmed(setting.map_or("by-dev", |setting| setting.value)).to_owned())
    }

    /// `remote` (`minio` is its old name), `local` or `opendal`.
    fn storage(&self) -> Result<Known<'a, Cow<'a, str>>, &'a Unknown> {
        let setting = self.value("common.storageType")?;
        let named = setting
            .map_or("remote", |setting| setting.value.trim())
            .to_ascii_lowercase();
        let value = if named == "minio" {
            "remote".to_owned()
        } else {
            named
        };
        Ok(Known {
            value: value.into(),
            setting,
        })
    }

    /// Where Woodpecker keeps the log: `minio`, `local` or `service`.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn woodpecker(&self) -> Result<Cow<'a, str>, &'a Unknown> {
        let setting = self.value("woodpecker.storage.type")?;
        Ok(setting.map_or("minio".into(), |setting| {
            setting.value.trim().to_ascii_lowercase().into()
        }))
    }

    /// Whether a condition of a row holds; `None` if that is not known.
    fn holds(&self, condition: &SettingCondition) -> Option<bool> {
        let is = |wanted: &[String], value: &str| wanted.iter().any(|one| one == value);
        match condition {
            SettingCondition::Queue(wanted) => self
                .queue()
                .ok()
                .map(|queue| is(wanted, queue.value.name())),
            SettingCondition::Metastore(wanted) => self
                .metastore()
                .ok()
                .map(|metastore| is(wanted, &metastore.value)),
            SettingCondition::Storage(wanted) => self
                .storage()
                .ok()
                .map(|storage| is(wanted, &storage.value)),
            SettingCondition::Woodpecker(wanted) => {
                self.woodpecker().ok().map(|storage| is(wanted, &storage))
            }
        }
    }

    /// Whether a row counts here: all its conditions hold, as far as they are known.
    #[must_use]
    pub fn counts(&self, row: &SettingFact) -> bool {
        row.of.is_none()
            && row
                .when
                .iter()
                .all(|condition| self.holds(condition) == Some(true))
    }

    /// The effective value of a row.
    #[must_use]
    pub fn effective(&self, row: &'a SettingFact) -> Effective<'a> {
        self.read(row).unwrap_or_else(Effective::Unknown)
    }

    fn read(&self, row: &'a SettingFact) -> Result<Effective<'a>, &'a Unknown> {
        if row.compare == Compare::Kind {
            return self.kind(row);
        }
        let keys = std::iter::once(row.key.as_str()).chain(row.aliases.iter().map(String::as_str));
        let setting = match self.lookup(keys) {
            Lookup::Absent => None,
            Lookup::Known(setting) => Some(setting),
            Lookup::Unknown(unknown) => return Err(unknown),
        };
        let text = setting.map_or(row.default.as_deref().unwrap_or_default(), |setting| {
            setting.value.trim()
        });
        let value = match row.compare {
            Compare::Kind | Compare::Exact | Compare::Lower => Comparable::Text(text.into()),
            Compare::Path => Comparable::Text(cleaned(text).into()),
            Compare::Bool => Comparable::Flag(is_true(text)),
            Compare::Etcd | Compare::Brokers | Compare::Pulsar => Comparable::Hosts {
                hosts: self.hosts(text, self.port(row)?),
                is_default: setting.is_none(),
            },
            Compare::Store => {
                let bucket = self
                    .value("minio.bucketName")?
                    .map_or("a-bucket", |setting| setting.value);
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
            .filter(|port| !port.is_empty()))
    }

    fn hosts(&self, text: &str, port: Option<&str>) -> BTreeSet<Host> {
        let addresses = text
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty());
        addresses
            .map(|address| Host::parse(address, self.release.namespace.as_deref()).or_port(port))
            .collect()
    }

    fn written_hosts(
        &self,
        key: &'static str,
        port: Option<&'static str>,
    ) -> Known<'a, BTreeSet<Host>> {
        let setting = self.value(key).ok().flatten();
        let port = port
            .and_then(|port| self.value(port).ok().flatten())
            .map(|setting| setting.value);
        Known {
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
                volume: super::volume::DataVolume::Container,
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

fn is_same(
    compare: Compare,
    old: &Comparable<'_>,
    new: &Comparable<'_>,
    own_is_known: bool,
) -> bool {
    match (old, new) {
        (Comparable::Text(old), Comparable::Text(new)) if compare == Compare::Lower => {
            // Text that is not a number has no order.
            match (old.parse::<f64>(), new.parse::<f64>()) {
                (Ok(old), Ok(new)) => new >= old,
                _ => old == new,
            }
        }
        // Nothing is written: Milvus asks the pod itself, where nothing of the cluster is. What
        // follows is a first address.
        (
            Comparable::Hosts {
                is_default: true, ..
            }
            | Comparable::Store {
                is_default: true, ..
            },
            _,
        ) => true,
        (Comparable::Hosts { hosts: old, .. }, Comparable::Hosts { hosts: new, .. }) => {
            match compare {
                Compare::Brokers => endpoint::is_same_brokers(old, new, own_is_known),
                Compare::Pulsar => endpoint::is_same_pulsar(old, new, own_is_known),
                _ => endpoint::is_same_etcd(old, new, own_is_known),
            }
        }
        (
            Comparable::Store {
                host: Some(old),
                bucket: in_old,
                ..
            },
            Comparable::Store {
                host: Some(new),
                bucket: in_new,
                ..
            },
        ) => endpoint::is_same_store(
            Bucket {
                host: old,
                name: in_old,
            },
            Bucket {
                host: new,
                name: in_new,
            },
            own_is_known,
        ),
        (Comparable::Store { host: None, .. }, Comparable::Store { .. }) => true,
        (
            Comparable::Place {
                path: old_path,
                place: old,
            },
            Comparable::Place {
                path: new_path,
                place: new,
            },
        ) => {
            // The same path on another volume is a matter of the volume.
            old == new || (trimmed(old_path) == trimmed(new_path) && old.volume != new.volume)
        }
        _ => old == new,
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// A path below a store, as Milvus joins it with its keys (Go `path.Join`).
pub(super) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A path without slashes at its ends; a path of slashes alone stays.
fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() { path } else { trimmed }
}
