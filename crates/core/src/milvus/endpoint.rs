//! Addresses of the dependencies of Milvus, compared by what they name.
//!
//! The same etcd, broker or bucket has many names: short and long forms of a Service, the pods
//! behind it, further members of a list, regional and private host names of one cloud provider.
//! Credentials in an address are dropped when it is read.

use std::{collections::BTreeSet, fmt};

/// One address: the thing that it names, and the port where one is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    pub(super) name: Name,
    pub(super) port: Option<String>,
}

/// What a host name names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    /// A Service of the cluster; `None` if it is the release's own namespace, or neither is known.
    Service(String, Option<String>),
    /// Anything else, in lower case.
    External(String),
}

impl Host {
    /// Reads an address (`scheme://user:password@host:port/path`) that pods of `namespace` use.
    #[must_use]
    pub fn parse(address: &str, namespace: Option<&str>) -> Self {
        let address = address.trim();
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        // A password may hold any character, so all before the last `@` is dropped
        // first.
        let address = address.rsplit_once('@').map_or(address, |(_, host)| host);
        let address = address.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                // Go reads `02379` as `2379`.
                (
                    host,
                    Some(port.trim_start_matches('0')).filter(|port| !port.is_empty()),
                )
            }
            _ => (address, None),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let host = address_of(&host).unwrap_or(host);
        let labels: Vec<&str> = host.split('.').collect();
        let is_address = host.contains(':')
            || labels
                .iter()
                .all(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        let name = if matches!(host.as_str(), "127.0.0.1" | "[::1]") {
            name_of(&["localhost"], namespace)
        } else if is_address {
            Name::External(host.clone())
        } else {
            name_of(&labels, namespace)
        };
        Self {
            name,
            port: port.map(str::to_owned),
        }
    }

    /// The same address with this port where none is written.
    #[must_use]
    pub fn or_port(mut self, port: Option<&str>) -> Self {
        self.port = self.port.or_else(|| port.map(str::to_owned));
        self
    }

    /// The same address with its namespace, where it is a Service of this namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: Option<&str>) -> Self {
        match self.name {
            Name::Service(name, None) => Self {
                name: Name::Service(name, namespace.map(str::to_owned)),
                port: self.port,
            },
            name => Self {
                name,
                port: self.port,
            },
        }
    }

    /// The host without its port.
    #[must_use]
    pub fn host(&self) -> String {
        self.name.to_string()
    }

    /// Name and namespace, if this is a Service of the cluster; no namespace if it is the release's
    /// own, or neither is known.
    pub(super) fn service(&self) -> Option<(&str, Option<&str>)> {
        match &self.name {
            Name::Service(name, namespace) => Some((name, namespace.as_deref())),
            Name::External(_) => None,
        }
    }

    /// Whether this is an IP address, which may be that of a Service.
    pub(super) fn is_address(&self) -> bool {
        let host = self.host();
        host.contains(':')
            || host
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    }

    /// Whether this is the pod itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(&self.name, Name::Service(name, None) if name == "localhost")
    }

    /// The same address where the Services of one etcd, for its members and for its clients, count
    /// as one.
    #[must_use]
    pub fn of_store(self) -> Self {
        match self.name {
            Name::Service(name, namespace) => {
                let name = STORE_SUFFIXES
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(&name)
                    .to_owned();
                Self {
                    name: Name::Service(name, namespace),
                    port: self.port,
                }
            }
            name @ Name::External(_) => Self {
                name,
                port: self.port,
            },
        }
    }

    /// The Pulsar behind the Service of its proxies, of its brokers, or a pod of these.
    fn pulsar(&self) -> Name {
        match &self.name {
            Name::Service(name, namespace) => {
                let rest = name.strip_suffix("-headless").unwrap_or(name);
                let rest = PULSAR_SUFFIXES
                    .iter()
                    .find_map(|suffix| rest.strip_suffix(suffix))
                    .unwrap_or(rest);
                Name::Service(rest.to_owned(), namespace.clone())
            }
            name @ Name::External(_) => name.clone(),
        }
    }

    /// The cluster of brokers behind a bootstrap address: pods and bootstrap Services of one Kafka,
    /// and the numbered brokers of one Amazon MSK. Ports only choose a listener.
    fn brokers(&self) -> Name {
        match &self.name {
            Name::Service(name, namespace) => {
                Name::Service(without_suffix(name), namespace.clone())
            }
            Name::External(host) if host.ends_with(".amazonaws.com") => {
                let (first, rest) = host.split_once('.').unwrap_or((host, ""));
                let is_numbered = first
                    .strip_prefix("b-")
                    .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
                Name::External(if is_numbered {
                    rest.to_owned()
                } else {
                    host.clone()
                })
            }
            Name::External(host) => Name::External(host.clone()),
        }
    }
}

/// Endings that charts and operators put behind the name of a Kafka cluster for its Services and
/// pods.
const BROKER_SUFFIXES: [&str; 8] = [
    "-external-bootstrap",
    "-headless",
    "-bootstrap",
    "-brokers",
    "-hl",
    "-svc",
    "-broker",
    "-controller",
];

/// Endings that the chart of Pulsar puts behind the name of a cluster for what clients connect to.
const PULSAR_SUFFIXES: [&str; 2] = ["-proxy", "-broker"];

/// Endings that charts and operators put behind the name of an etcd for its Services.
pub(super) const STORE_SUFFIXES: [&str; 3] = ["-headless", "-client", "-peer"];

fn without_suffix(name: &str) -> String {
    let mut rest = name;
    while let Some(shorter) = BROKER_SUFFIXES
        .iter()
        .find_map(|suffix| rest.strip_suffix(suffix))
        .filter(|rest| !rest.is_empty())
    {
        rest = shorter;
    }
    rest.to_owned()
}

/// An address of IP version 6 as it is written shortest, and as version 4 where it stands for one.
fn address_of(host: &str) -> Option<String> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    let address: core::net::Ipv6Addr = inner.parse().ok()?;
    Some(
        address
            .to_ipv4_mapped()
            .map_or_else(|| format!("[{address}]"), |address| address.to_string()),
    )
}

/// A Service's short name if the host names one inside the cluster, else the host.
fn name_of(labels: &[&str], own: Option<&str>) -> Name {
    let cut = match labels.iter().position(|label| *label == "svc") {
        Some(position) => &labels[..position],
        None => labels,
    };
    // <pod>.<headless service>.<namespace>: the pod's name without its ordinal is the Service's.
    let pod = match cut {
        [pod, headless, rest @ ..] => {
            stem_of(pod, headless).map(|stem| (stem, rest.first().copied()))
        }
        _ => None,
    };
    let in_cluster = cut.len() < labels.len()
        || labels.len() <= 2 && !is_public(labels)
        // The search path of a pod completes <pod>.<headless service>.<namespace> too.
        || matches!(labels, [_, headless, _]
            if pod.is_some_and(|(stem, _)| stem == *headless || is_headless(headless))
                && !is_public(&labels[1..]));
    if !in_cluster {
        return Name::External(labels.join("."));
    }
    if let Some((stem, namespace)) = pod {
        return service(stem, namespace, own);
    }
    service(
        cut.first().copied().unwrap_or_default(),
        cut.get(1).copied(),
        own,
    )
}

/// Whether a Service is named as charts name a headless one.
fn is_headless(service: &str) -> bool {
    ["-headless", "-hl", "-svc", "-brokers", "-peer"]
        .iter()
        .any(|suffix| service.ends_with(suffix))
}

/// The name of a pod of a StatefulSet without its ordinal, if this is its headless Service. The
/// pods of all node pools of a Strimzi cluster have one (`CLUSTER-POOL-0.CLUSTER-kafka-brokers`):
/// its name.
fn stem_of<'a>(pod: &'a str, headless: &'a str) -> Option<&'a str> {
    let (stem, ordinal) = pod.rsplit_once('-')?;
    if ordinal.is_empty() || !ordinal.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if headless.starts_with(stem) || stem.starts_with(without_suffix(headless).as_str()) {
        return Some(stem);
    }
    let cluster = headless.strip_suffix("-kafka-brokers")?;
    let pool = stem.strip_prefix(cluster)?.strip_prefix('-')?;
    (!pool.is_empty()).then_some(headless)
}

fn service(name: &str, written: Option<&str>, own: Option<&str>) -> Name {
    Name::Service(
        name.to_owned(),
        written
            .filter(|namespace| Some(*namespace) != own)
            .map(str::to_owned),
    )
}

/// Whether these are two labels of a public domain rather than a Service and its namespace.
fn is_public(labels: &[&str]) -> bool {
    // A single label is always a Service.
    matches!(
        labels,
        [
            _,
            "com" | "net" | "org" | "io" | "cloud" | "dev" | "local" | "internal" | "lan"
        ]
    )
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name, Some(namespace)) => write!(f, "{name}.{namespace}"),
            Self::Service(name, None) | Self::External(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl Name {
    /// Whether two names may be one thing. Where the release's own namespace is not known, a
    /// Service with a namespace may be the one without.
    fn is_same(&self, other: &Self, own_is_known: bool) -> bool {
        match (self, other) {
            (Self::Service(one, in_one), Self::Service(other, in_other)) => {
                one == other
                    && (in_one == in_other
                        || (!own_is_known && (in_one.is_none() || in_other.is_none())))
            }
            _ => self == other,
        }
    }
}

/// Several addresses as a person reads them.
#[must_use]
pub fn listed(hosts: &BTreeSet<Host>) -> String {
    if hosts.is_empty() {
        "none".into()
    } else {
        hosts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// Whether two lists are members of one etcd: a member more or fewer does not make it another
/// cluster.
#[must_use]
pub fn is_same_etcd(one: &BTreeSet<Host>, other: &BTreeSet<Host>, own_is_known: bool) -> bool {
    let stores = |hosts: &BTreeSet<Host>| {
        hosts
            .iter()
            .cloned()
            .map(Host::of_store)
            .collect::<Vec<_>>()
    };
    let (one, other) = (stores(one), stores(other));
    let same = |a: &Host, b: &Host| a.port == b.port && a.name.is_same(&b.name, own_is_known);
    one.iter().any(|a| other.iter().any(|b| same(a, b)))
}

/// Whether two lists lead to one cluster of brokers: a bootstrap list only starts the discovery.
#[must_use]
pub fn is_same_brokers(one: &BTreeSet<Host>, other: &BTreeSet<Host>, own_is_known: bool) -> bool {
    one.iter().any(|a| {
        other
            .iter()
            .any(|b| a.brokers().is_same(&b.brokers(), own_is_known))
    })
}

/// Whether two lists lead to one Pulsar. Its plain and its TLS port are two doors of one proxy, and
/// proxies and brokers serve the same topics.
#[must_use]
pub fn is_same_pulsar(one: &BTreeSet<Host>, other: &BTreeSet<Host>, own_is_known: bool) -> bool {
    let port = |host: &Host| {
        host.port
            .as_deref()
            .filter(|port| !matches!(*port, "6650" | "6651"))
            .map(str::to_owned)
    };
    one.iter().any(|a| {
        other
            .iter()
            .any(|b| port(a) == port(b) && a.pulsar().is_same(&b.pulsar(), own_is_known))
    })
}

/// A bucket of an object store.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    /// Address.
    pub host: &'a Host,
    /// Name of the bucket.
    pub name: &'a str,
}

/// Whether two addresses reach one bucket: the same server, or host names of one provider that do
/// not name two regions. Names of buckets are unique in a provider, so the region only decides
/// whether the request is answered.
#[must_use]
pub fn is_same_store(one: Bucket<'_>, other: Bucket<'_>, own_is_known: bool) -> bool {
    if one.host.port == other.host.port && one.host.name.is_same(&other.host.name, own_is_known) {
        return true;
    }
    match (provider(one), provider(other)) {
        (Some((a, in_a)), Some((b, in_b))) => {
            a == b && (in_a == in_b || in_a.is_none() || in_b.is_none())
        }
        _ => false,
    }
}

/// Cloud providers of object storage, as far as their host names differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    Aws,
    AwsChina,
    Google,
    Azure,
    Aliyun,
    Tencent,
    Huawei,
    Cloudflare,
}

/// The provider of an address, with the region (for Azure and Cloudflare the account) that it
/// names. Forms of host names: AWS "Amazon S3 endpoints", Google "Request endpoints", Aliyun "OSS
/// regions and endpoints", Tencent "COS regions and access endpoints", Huawei "OBS endpoints",
/// Cloudflare "R2 S3 API".
fn provider(bucket: Bucket<'_>) -> Option<(Provider, Option<String>)> {
    let Name::External(host) = &bucket.host.name else {
        return None;
    };
    let host = host
        .strip_prefix(&format!("{}.", bucket.name.to_ascii_lowercase()))
        .unwrap_or(host);
    let labels: Vec<&str> = host.split('.').collect();
    let ends = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    let region = |prefixes: &[&str]| {
        labels.iter().find_map(|label| {
            let label = label.strip_suffix("-internal").unwrap_or(label);
            let bare = prefixes
                .iter()
                .find_map(|prefix| label.strip_prefix(prefix))
                .unwrap_or(label);
            is_region(bare).then(|| bare.to_owned())
        })
    };
    let is_s3 = labels
        .iter()
        .any(|label| *label == "s3" || label.starts_with("s3-"));
    let first = || labels.first().map(|label| (*label).to_owned());
    let account = |own: usize| if labels.len() > own { first() } else { None };
    match () {
        () if ends("amazonaws.com.cn") && is_s3 => Some((Provider::AwsChina, region(&["s3-"]))),
        () if ends("amazonaws.com") && is_s3 => Some((Provider::Aws, region(&["s3-"]))),
        () if ends("storage.googleapis.com") => Some((Provider::Google, None)),
        () if ends("blob.core.windows.net") => Some((Provider::Azure, account(4))),
        () if ends("core.windows.net") => Some((Provider::Azure, None)),
        () if ends("aliyuncs.com") => Some((Provider::Aliyun, region(&["oss-"]))),
        () if ends("myqcloud.com") || ends("tencentcos.cn") => {
            Some((Provider::Tencent, region(&[])))
        }
        () if ends("myhuaweicloud.com") => Some((Provider::Huawei, region(&[]))),
        () if ends("r2.cloudflarestorage.com") => Some((Provider::Cloudflare, first())),
        () => None,
    }
}

/// Whether a label looks like a region: `eu-west-1`, `us-gov-east-1`, `cn-hangzhou`,
/// `ap-guangzhou`.
fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let is_area = parts
        .next()
        .is_some_and(|area| area.len() == 2 && area.bytes().all(|byte| byte.is_ascii_lowercase()));
    is_area
        && parts.next().is_some_and(|place| {
            !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_lowercase())
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_service_may_be_called_like_a_public_domain() {
        for name in ["io", "dev", "internal", "local"] {
            let short = Host::parse(&format!("{name}:2379"), Some("milvus"));
            let long = format!("{name}.milvus.svc.cluster.local:2379");
            assert_eq!(short, Host::parse(&long, Some("milvus")), "{name}");
        }
        let public = Host::parse("example.io:2379", Some("milvus"));
        assert!(matches!(public.name, Name::External(_)), "{public:?}");
    }

    fn hosts(list: &str) -> BTreeSet<Host> {
        list.split(',')
            .map(|one| Host::parse(one, Some("milvus")))
            .collect()
    }

    #[rstest]
    #[case(
        "my-etcd:2379",
        "http://my-etcd-0.my-etcd-headless.milvus.svc.cluster.local:2379",
        true
    )]
    #[case("my-etcd:2379", "my-etcd.milvus:2379", true)]
    #[case("my-etcd:2379", "my-etcd.milvus.svc.example.org:2379", true)]
    #[case("my-etcd:2379", "root:pw@my-etcd:2379", true)]
    #[case("my-etcd:2379", "https://root:p@ss@my-etcd:2379", true)]
    #[case("my-etcd:2379", "my-etcd.other.svc:2379", false)]
    #[case("my-etcd:2379", "my-etcd.default.svc:2379", false)]
    #[case("10.0.0.1:2379", "10.0.0.2:2379", false)]
    #[case("10.0.0.1:2379,10.0.0.2:2379", "10.0.0.2:2379,10.0.0.3:2379", true)]
    #[case("a:2379", "a:2380", false)]
    #[case("localhost:2379", "http://127.0.0.1:2379", true)]
    #[case("[::1]:2379", "127.0.0.1:2379", true)]
    #[case("localhost:2379", "10.0.0.1:2379", false)]
    #[case("a:2379", "A.:02379", true)]
    #[case("my-etcd:2379", "my-etcd-headless.milvus.svc:2379", true)]
    #[case("my-etcd-0.my-etcd-headless:2379", "http://my-etcd-client:2379", true)]
    #[case("my-etcd-0.my-etcd-headless.milvus:2379", "my-etcd.milvus:2379", true)]
    #[case("my-etcd-0.my-etcd-headless.other:2379", "my-etcd:2379", false)]
    #[case("etcd-0.etcd-headless.com:2379", "etcd:2379", false)]
    #[case("etcd-0.etcd.infra:2379", "etcd.infra.svc:2379", true)]
    #[case(
        "etcd-0.etcd.infra:2379",
        "etcd-2.etcd.infra.svc.cluster.local:2379",
        true
    )]
    #[case("etcd-0.etcd.infra:2379", "etcd:2379", false)]
    #[case("etcd-0.etcd.io:2379", "etcd.io.svc:2379", false)]
    #[case("my-etcd:2379", "my-etcd-2:2379", false)]
    #[case("[2001:db8:0:0::1]:2379", "http://[2001:DB8::1]:2379", true)]
    #[case("[::ffff:10.0.0.1]:2379", "10.0.0.1:2379", true)]
    #[case("[2001:db8::1]:2379", "[2001:db8::2]:2379", false)]
    #[case("etcd-1:2379,etcd-2:2379", "etcd-3:2379,etcd-4:2379", false)]
    #[case(
        "etcd-0.etcd-headless.db:2379",
        "etcd-1.etcd-headless.db.svc:2379",
        true
    )]
    #[case("etcd-0.etcd-headless.db:2379", "etcd.db:2379", true)]
    #[case(
        "etcd-0.etcd-headless.db:2379",
        "etcd-0.etcd-headless.other:2379",
        false
    )]
    #[case("etcd-0.etcd.com:2379", "etcd-1.etcd.com:2379", false)]
    fn etcd(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(is_same_etcd(&hosts(one), &hosts(other), true), same);
    }

    #[test]
    fn without_a_namespace_of_its_own_a_service_may_be_the_same() {
        let host = |text: &str| BTreeSet::from([Host::parse(text, None)]);
        assert!(is_same_etcd(
            &host("etcd:2379"),
            &host("etcd.milvus.svc:2379"),
            false
        ));
        assert!(!is_same_etcd(
            &host("etcd.a.svc:2379"),
            &host("etcd.b.svc:2379"),
            false
        ));
    }

    #[rstest]
    #[case(
        "b-1.c.x1.c2.kafka.eu-west-1.amazonaws.com:9092",
        "b-3.c.x1.c2.kafka.eu-west-1.amazonaws.com:9098",
        true
    )]
    #[case(
        "b-1.c.x1.c2.kafka.eu-west-1.amazonaws.com:9092",
        "b-1.c.x9.c2.kafka.eu-west-1.amazonaws.com:9092",
        false
    )]
    #[case("k-kafka-bootstrap:9092", "k-kafka-bootstrap.milvus.svc:9093", true)]
    #[case(
        "k-kafka-bootstrap:9092",
        "k-kafka-0.k-kafka-brokers.milvus.svc:9092",
        true
    )]
    #[case("k-0.k-brokers.mq:9092", "k-kafka-bootstrap.mq:9092", false)]
    #[case("k-kafka-0.k-kafka-brokers.mq:9092", "k-kafka-bootstrap.mq:9092", true)]
    #[case(
        "k-dual-role-0.k-kafka-brokers.mq:9092",
        "k-kafka-bootstrap.mq:9092",
        true
    )]
    #[case(
        "k-dual-role-0.k-kafka-brokers.mq.svc:9092",
        "k-broker-1.k-kafka-brokers.mq.svc:9092",
        true
    )]
    #[case(
        "k-kafka-bootstrap.mq:9092",
        "k-kafka-external-bootstrap.mq:9094",
        true
    )]
    #[case(
        "k-dual-role-0.k-kafka-brokers.mq.svc:9092",
        "l-dual-role-0.l-kafka-brokers.mq.svc:9092",
        false
    )]
    #[case(
        "k-dual-role-0.k-kafka-brokers.mq.svc:9092",
        "k-dual-role-0.k-kafka-brokers.other.svc:9092",
        false
    )]
    #[case(
        "my-release-kafka:9092",
        "my-release-kafka-controller-0.my-release-kafka-controller-headless.milvus.svc:9092",
        true
    )]
    #[case(
        "kafka-1.example.com:9092,kafka-2.example.com:9092",
        "kafka-2.example.com:9092",
        true
    )]
    #[case("kafka-1.example.com:9092", "kafka-9.example.com:9092", false)]
    #[case(
        "kafka-0.kafka-headless.mq:9092",
        "kafka-1.kafka-headless.mq:9092",
        true
    )]
    #[case("kafka-0.kafka-headless.mq:9092", "kafka.mq.svc:9092", true)]
    #[case(
        "kafka-0.kafka-headless.mq:9092",
        "other-0.other-headless.mq:9092",
        false
    )]
    #[case("my-pulsar-proxy:6650", "pulsar://my-pulsarv3-proxy:6650", false)]
    #[case("pulsar-proxy:6650", "pulsar+ssl://pulsar-proxy.milvus.svc:6651", true)]
    fn brokers(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(is_same_brokers(&hosts(one), &hosts(other), true), same);
    }

    #[rstest]
    #[case("p-proxy.mq:6650", "pulsar://p-broker.mq.svc:6650", true)]
    #[case("p-proxy:6650", "p-broker-0.p-broker-headless.milvus.svc:6650", true)]
    #[case("p-proxy:6650", "pulsar+ssl://p-proxy:6651", true)]
    #[case("p-pulsar-proxy:6650", "p-pulsarv3-proxy:6650", false)]
    #[case("p-proxy.mq:6650", "p-broker.other:6650", false)]
    #[case("p-proxy:6650", "p-broker:16650", false)]
    fn pulsar(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(is_same_pulsar(&hosts(one), &hosts(other), true), same);
    }

    #[rstest]
    #[case("s3.amazonaws.com:443", "s3.eu-west-1.amazonaws.com:443", true)]
    #[case(
        "s3-eu-west-1.amazonaws.com",
        "b.s3.dualstack.eu-west-1.amazonaws.com:443",
        true
    )]
    #[case(
        "b.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com:443",
        "s3.eu-west-1.amazonaws.com:443",
        true
    )]
    #[case(
        "s3.eu-west-1.amazonaws.com:443",
        "s3.us-east-1.amazonaws.com:443",
        false
    )]
    #[case("s3.cn-north-1.amazonaws.com.cn:443", "s3.amazonaws.com:443", false)]
    #[case("storage.googleapis.com:443", "b.storage.googleapis.com:443", true)]
    #[case(
        "oss-cn-hangzhou.aliyuncs.com:443",
        "oss-cn-hangzhou-internal.aliyuncs.com:80",
        true
    )]
    #[case(
        "oss-cn-hangzhou.aliyuncs.com:443",
        "oss-cn-beijing.aliyuncs.com:443",
        false
    )]
    #[case(
        "cos.ap-guangzhou.myqcloud.com:443",
        "cos-internal.ap-guangzhou.tencentcos.cn:443",
        true
    )]
    #[case(
        "one.blob.core.windows.net:443",
        "two.blob.core.windows.net:443",
        false
    )]
    #[case("core.windows.net:443", "one.blob.core.windows.net:443", true)]
    #[case(
        "a.r2.cloudflarestorage.com:443",
        "b.r2.cloudflarestorage.com:443",
        false
    )]
    #[case("storage.googleapis.com:443", "s3.amazonaws.com:443", false)]
    #[case(
        "my-release-minio:9000",
        "my-release-minio.milvus.svc.cluster.local:9000",
        true
    )]
    #[case(
        "my-release-minio:9000",
        "http://my-release-minio-0.my-release-minio-svc.milvus.svc:9000",
        true
    )]
    #[case("my-release-minio:9000", "other-minio:9000", false)]
    #[case("my-release-minio:9000", "s3.amazonaws.com:443", false)]
    fn buckets(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        let (one, other) = (
            Host::parse(one, Some("milvus")),
            Host::parse(other, Some("milvus")),
        );
        let bucket = |host| Bucket { host, name: "b" };
        assert_eq!(is_same_store(bucket(&one), bucket(&other), true), same);
        assert_eq!(is_same_store(bucket(&other), bucket(&one), true), same);
    }

    #[test]
    fn credentials_never_show() {
        for address in [
            "http://root:PW@etcd:2379",
            "root:PW@etcd:2379",
            "https://root:PW@etcd.example.com:2379/x?y=PW",
            "http://root:PW/PW@etcd:2379",
            "http://root:PW?PW#PW@etcd:2379",
            "root:PW@PW/PW@etcd:2379/x",
        ] {
            let host = Host::parse(address, Some("milvus"));
            assert_eq!(host.port.as_deref(), Some("2379"));
            assert!(
                !format!("{host} {host:?}")
                    .to_ascii_lowercase()
                    .contains("pw"),
                "{host:?}"
            );
        }
    }
}
