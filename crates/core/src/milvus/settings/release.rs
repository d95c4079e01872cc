//! The settings of a release as a whole, where its components agree.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    comparable::{ComparableValue, trimmed},
    located::{Located, Plain},
    queue::{Queue, default_queue},
};
use crate::milvus::{
    catalogue::{Catalogue, Compare},
    endpoint::Host,
    queue_kind::QueueKind,
    release::Release,
};

/// Where the metadata lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata<'a> {
    /// `etcd`, `tikv` or `mysql`.
    pub metastore: ComparableValue<'a, Cow<'a, str>>,
    /// etcd's endpoints.
    pub endpoints: ComparableValue<'a, BTreeSet<Host>>,
    /// `etcd.rootPath`.
    pub root_path: ComparableValue<'a, Cow<'a, str>>,
    /// `etcd.metaSubPath`.
    pub meta_sub_path: ComparableValue<'a, Cow<'a, str>>,
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
                        endpoints: ComparableValue {
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
            kind: ComparableValue {
                value: default_queue(self.topology()),
                setting: None,
            },
            endpoints: ComparableValue {
                value: BTreeSet::new(),
                setting: None,
            },
        })
    }

    /// The settings that rules guard, and those on which they depend, by key; `None` if one is
    /// absent. A setting is missing if it is not known, is a secret or an account, or if components
    /// do not agree about it.
    #[must_use]
    pub fn guarded_settings(&self, catalogue: &Catalogue) -> BTreeMap<String, Option<String>> {
        let mut known = BTreeMap::new();
        let is_account = |key: &str| {
            let mut rows = catalogue.settings.iter();
            rows.any(|row| row.key == key && row.compare == Compare::Account)
        };
        for key in catalogue.guarded_keys() {
            if is_account(key) {
                continue;
            }
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
            ComparableValue {
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
                .unwrap_or(ComparableValue {
                    value: BTreeSet::new(),
                    setting: None,
                }),
            root_path: text("etcd.rootPath", "by-dev"),
            meta_sub_path: text("etcd.metaSubPath", "meta"),
        }
    }
}
