//! Settings that must not change, or change with care, and how their values are compared.

use super::verdict::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::version::Range;

/// Keys that decide which queue, which metadata store and which storage Milvus uses.
pub(super) const DECIDING_KEYS: [&str; 12] = [
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
    "minio.cloudProvider",
];

/// A setting that must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingFact {
    /// Key of Milvus' configuration.
    pub key: String,
    /// Older spellings.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What Milvus takes where it is absent.
    #[serde(default)]
    pub default: Option<String>,
    /// What Milvus takes where a mounted `milvus.yaml` replaces the image's own and lacks the key;
    /// `default` if absent.
    #[serde(default)]
    pub default_without_file: Option<String>,
    /// Rule that reports it when it changes.
    pub rule: Option<String>,
    /// What that rule does.
    pub verdict: Verdict,
    /// What a change does.
    #[serde(default)]
    pub effect: String,
    /// How a message names it; the key if absent.
    #[serde(default)]
    pub called: Option<String>,
    /// Versions between which the rule reports it also if the setting stays, where it is not at its
    /// default.
    #[serde(default)]
    pub crossing: Option<Crossing>,
    /// Versions that do not read the setting.
    #[serde(default)]
    pub ignored: Option<Ignored>,
    /// For an address: the key of its port.
    #[serde(default)]
    pub port: Option<String>,
    /// For an address: the port that Milvus takes where none is written.
    #[serde(default)]
    pub default_port: Option<String>,
    /// For the port of an address: the key of the address, with which it is compared.
    #[serde(default)]
    pub of: Option<String>,
    /// Conditions under which the setting counts, all of them, before and after.
    #[serde(
        default,
        deserialize_with = "conditions",
        serialize_with = "written_conditions"
    )]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub when: Vec<SettingCondition>,
    /// How it is compared.
    pub compare: Compare,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// An upgrade from one range of versions to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Crossing {
    /// The running state.
    pub from: Range,
    /// What is wanted.
    pub to: Range,
    /// What goes wrong.
    pub effect: String,
}

/// Versions that take the default of a setting, for any value in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ignored {
    /// Which versions.
    pub versions: Range,
    /// What they do.
    pub why: String,
    /// What to do where one of them is wanted and another value counts now.
    pub fix: String,
}

impl SettingFact {
    /// How a message names the setting.
    #[must_use]
    pub fn called(&self) -> &str {
        self.called.as_deref().unwrap_or(&self.key)
    }
}

/// How two values of a setting are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// As text.
    Exact,
    /// As a truth value.
    Bool,
    /// As text without slashes at the ends.
    Path,
    /// The queue, metastore or storage that Milvus takes in the end.
    Kind,
    /// Members of one etcd.
    Etcd,
    /// Brokers of one Kafka.
    Brokers,
    /// Addresses of one Pulsar.
    Pulsar,
    /// Host names of one object store.
    Store,
    /// A path, by the place on a volume that it leads to.
    Volume,
    /// A number, of which only a lower value counts.
    Lower,
    /// Seconds until rows are deleted, of which only a shorter time counts; 0 and less mean for
    /// ever.
    Lifetime,
    /// The storage account of Azure, which is never shown.
    Account,
}

/// A condition under which a setting counts, each with the values that fulfil it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingCondition {
    /// Kind of the message queue.
    Queue(Vec<String>),
    /// `etcd`, `embedded`, `tikv` or `mysql`.
    Metastore(Vec<String>),
    /// `remote` or `local`.
    Storage(Vec<String>),
    /// Where Woodpecker keeps the log.
    Woodpecker(Vec<String>),
    /// Provider of the object storage.
    CloudProvider(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn conditions<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SettingCondition>, D::Error> {
    let written = std::collections::BTreeMap::<String, OneOrMore>::deserialize(deserializer)?;
    let read = |(key, values): (String, OneOrMore)| {
        let values = match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        };
        match key.as_str() {
            "queue" => Ok(SettingCondition::Queue(values)),
            "metastore" => Ok(SettingCondition::Metastore(values)),
            "storage" => Ok(SettingCondition::Storage(values)),
            "woodpecker" => Ok(SettingCondition::Woodpecker(values)),
            "cloudProvider" => Ok(SettingCondition::CloudProvider(values)),
            other => Err(serde::de::Error::unknown_field(
                other,
                &[
                    "queue",
                    "metastore",
                    "storage",
                    "woodpecker",
                    "cloudProvider",
                ],
            )),
        }
    };
    written.into_iter().map(read).collect()
}

fn written_conditions<S: serde::Serializer>(
    conditions: &[SettingCondition],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(conditions.iter().map(|condition| match condition {
        SettingCondition::Queue(values) => ("queue", values),
        SettingCondition::Metastore(values) => ("metastore", values),
        SettingCondition::Storage(values) => ("storage", values),
        SettingCondition::Woodpecker(values) => ("woodpecker", values),
        SettingCondition::CloudProvider(values) => ("cloudProvider", values),
    }))
}
