//! The settings that decide where Milvus' data lives, in comparable form.
//!
//! Charts spell the same thing in several ways over the years; comparing text would raise false alarms, so each
//! setting is brought into one form first. Defaults are those of Milvus itself where no file names a value.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use super::{
    component::Topology,
    config::{EffectiveConfig, Setting},
    release::Release,
};

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

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pulsar => "pulsar",
            Self::Kafka => "kafka",
            Self::RocksMq => "rocksmq",
            Self::NatsMq => "natsmq",
            Self::Woodpecker => "woodpecker",
        })
    }
}

/// A value in comparable form and the setting it came from (absent where a default applies).
#[derive(Clone, Debug, PartialEq)]
pub struct Known<'a, T> {
    /// The comparable value.
    pub value: T,
    /// Where it stood.
    pub setting: Option<Setting<'a>>,
}

/// A host without the spellings that mean the same: `a`, `a.ns.svc`, `a-0.a-headless.ns.svc.cluster.local` are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Brings an address (`scheme://host:port/path`) into its comparable form, with the port where one is written.
    #[must_use]
    pub fn parse(address: &str, namespace: Option<&str>) -> Self {
        let address = address.trim();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        let address = address.split('/').next().unwrap_or_default();
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
            _ => (address, None),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let labels: Vec<&str> = host.split('.').collect();
        let is_address = host.contains(':') || labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        let service = if is_address { host.clone() } else { service_of(&labels, namespace) };
        Self(port.map_or(service.clone(), |port| format!("{service}:{port}")))
    }
}

/// A Service's short name where the host names one inside the cluster, else the host.
fn service_of(labels: &[&str], namespace: Option<&str>) -> String {
    let cut = match labels.iter().position(|label| *label == "svc") {
        Some(position) => &labels[..position],
        None => labels,
    };
    let in_cluster = cut.len() < labels.len() || labels.len() <= 2;
    if !in_cluster {
        return labels.join(".");
    }
    // <pod>.<headless service>.<namespace>: the pod's name without its ordinal is the Service's.
    if let [pod, headless, rest @ ..] = cut
        && let Some((stem, ordinal)) = pod.rsplit_once('-')
        && ordinal.bytes().all(|byte| byte.is_ascii_digit())
        && headless.strip_suffix("-headless") == Some(stem)
    {
        return with_namespace(stem, rest.first().copied(), namespace);
    }
    with_namespace(cut.first().copied().unwrap_or_default(), cut.get(1).copied(), namespace)
}

fn with_namespace(service: &str, written: Option<&str>, own: Option<&str>) -> String {
    match written {
        Some(namespace) if Some(namespace) != own && namespace != "default" => format!("{service}.{namespace}"),
        _ => service.to_owned(),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The message queue with everything that decides which topics are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue<'a> {
    /// Which system.
    pub kind: Known<'a, QueueKind>,
    /// Its brokers; empty for embedded queues.
    pub endpoints: Known<'a, BTreeSet<Host>>,
    /// Pulsar tenant.
    pub tenant: Known<'a, Cow<'a, str>>,
    /// Pulsar namespace.
    pub namespace: Known<'a, Cow<'a, str>>,
    /// Prefix of channel names.
    pub prefix: Known<'a, Cow<'a, str>>,
}

/// Where the metadata lives.
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
    /// `etcd.kvSubPath`.
    pub kv_sub_path: Known<'a, Cow<'a, str>>,
}

/// Where the data lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage<'a> {
    /// `local`, `remote` (`minio` is its old name) or `opendal`.
    pub kind: Known<'a, Cow<'a, str>>,
    /// Address with port.
    pub endpoint: Known<'a, Option<Host>>,
    /// Bucket.
    pub bucket: Known<'a, Cow<'a, str>>,
    /// `minio.rootPath`.
    pub root_path: Known<'a, Cow<'a, str>>,
    /// `localStorage.path`.
    pub local_path: Known<'a, Cow<'a, str>>,
}

fn known<'a>(config: &'a EffectiveConfig, keys: &[&str], default: &'static str) -> Known<'a, Cow<'a, str>> {
    let setting = keys.iter().find_map(|key| config.get(key).filter(|setting| !setting.value.is_empty()));
    Known { value: Cow::Borrowed(setting.map_or(default, |setting| setting.value)), setting }
}

fn trimmed<'a>(known: Known<'a, Cow<'a, str>>) -> Known<'a, Cow<'a, str>> {
    let value = match &known.value {
        Cow::Borrowed(path) => Cow::Borrowed(path.trim_matches('/')),
        Cow::Owned(path) => Cow::Owned(path.trim_matches('/').to_owned()),
    };
    if value.is_empty() { known } else { Known { value, ..known } }
}

/// Keys of one list or address, joined with a port key where the address has none.
fn hosts<'a>(release: &'a Release, keys: &[&str], port: Option<&str>) -> Known<'a, BTreeSet<Host>> {
    let written = known(&release.config, keys, "");
    let port = port.and_then(|port| release.config.value(port));
    let value = written
        .value
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| match port {
            Some(port) if !has_port(address) => Host::parse(&format!("{address}:{port}"), release.namespace.as_deref()),
            _ => Host::parse(address, release.namespace.as_deref()),
        })
        .collect();
    Known { value, setting: written.setting }
}

fn has_port(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Release {
    /// Whether the input holds a configuration to judge; without one, only images and workloads can be compared.
    #[must_use]
    pub fn has_config(&self) -> bool {
        !self.config.is_empty()
    }

    /// The message queue. The type is `mq.type` or `messageQueue` where one is set (not `default`); charts up to 3.3.1
    /// write neither, and then Milvus takes RocksMQ in a standalone, and in a cluster Pulsar before Kafka.
    #[must_use]
    pub fn queue(&self) -> Queue<'_> {
        let config = &self.config;
        let named = ["mq.type", "messageQueue"].iter().find_map(|key| {
            let setting = config.get(key)?;
            let kind = match setting.value.to_ascii_lowercase().as_str() {
                "pulsar" => QueueKind::Pulsar,
                "kafka" => QueueKind::Kafka,
                "rocksmq" => QueueKind::RocksMq,
                "natsmq" => QueueKind::NatsMq,
                "woodpecker" => QueueKind::Woodpecker,
                _ => return None,
            };
            Some(Known { value: kind, setting: Some(setting) })
        });
        let kind = named.unwrap_or_else(|| {
            let value = match self.topology() {
                Topology::Standalone => QueueKind::RocksMq,
                Topology::Cluster if config.value("pulsar.address").is_none() && config.value("kafka.brokerList").is_some() => {
                    QueueKind::Kafka
                }
                Topology::Cluster => QueueKind::Pulsar,
            };
            Known { value, setting: None }
        });
        let endpoints = match kind.value {
            QueueKind::Pulsar => hosts(self, &["pulsar.address"], Some("pulsar.port")),
            QueueKind::Kafka => hosts(self, &["kafka.brokerList"], None),
            _ => Known { value: BTreeSet::new(), setting: None },
        };
        Queue {
            kind,
            endpoints,
            tenant: known(config, &["pulsar.tenant"], "public"),
            namespace: known(config, &["pulsar.namespace"], "default"),
            prefix: known(config, &["msgChannel.chanNamePrefix.cluster", "common.chanNamePrefix.cluster"], "by-dev"),
        }
    }

    /// Where the metadata lives.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        let config = &self.config;
        Metadata {
            metastore: known(config, &["metastore.type"], "etcd"),
            endpoints: hosts(self, &["etcd.endpoints"], None),
            root_path: trimmed(known(config, &["etcd.rootPath"], "by-dev")),
            meta_sub_path: trimmed(known(config, &["etcd.metaSubPath"], "meta")),
            kv_sub_path: trimmed(known(config, &["etcd.kvSubPath"], "kv")),
        }
    }

    /// Where the data lives.
    #[must_use]
    pub fn storage(&self) -> Storage<'_> {
        let config = &self.config;
        let mut kind = known(config, &["common.storageType"], "remote");
        if kind.value == "minio" {
            kind.value = "remote".into();
        }
        let endpoints = hosts(self, &["minio.address"], Some("minio.port"));
        Storage {
            kind,
            endpoint: Known { value: endpoints.value.into_iter().next(), setting: endpoints.setting },
            bucket: known(config, &["minio.bucketName"], "a-bucket"),
            root_path: trimmed(known(config, &["minio.rootPath"], "files")),
            local_path: known(config, &["localStorage.path"], "/var/lib/milvus/data/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("my-etcd:2379", "http://my-etcd-0.my-etcd-headless.milvus.svc.cluster.local:2379", true)]
    #[case("my-etcd:2379", "my-etcd.milvus:2379", true)]
    #[case("my-etcd:2379", "my-etcd.other.svc:2379", false)]
    #[case("my-pulsar-proxy:6650", "pulsar://my-pulsarv3-proxy:6650", false)]
    #[case("10.0.0.1:2379", "10.0.0.2:2379", false)]
    #[case("s3.eu-west-1.amazonaws.com:443", "s3.us-east-1.amazonaws.com:443", false)]
    #[case("a:2379", "a:2380", false)]
    fn hosts_compare_by_what_they_mean(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(Host::parse(one, Some("milvus")) == Host::parse(other, Some("milvus")), same);
    }
}
