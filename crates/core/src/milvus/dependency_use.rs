//! Whether Milvus uses a dependency, by its configuration.
//!
//! A chart may leave an etcd, an object store or a queue in the release that Milvus was never
//! configured for. What removes it removes no data of Milvus.

use std::collections::BTreeSet;

use super::{
    dependency::{Dependency, Family},
    endpoint::Host,
    queue_kind::QueueKind,
    release::Release,
    settings::Located,
};

/// What the configuration of Milvus says about a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependencyUse {
    /// All components are configured for another system.
    Unused,
    /// The configuration is not known, or the address may lead to the dependency.
    Unknown,
    /// An address names the dependency.
    Named,
}

impl Release {
    /// Whether Milvus uses a dependency, by the configuration of all its components.
    #[must_use]
    pub fn uses(&self, dependency: &Dependency) -> DependencyUse {
        if !self.has_config() {
            return DependencyUse::Unknown;
        }
        self.located()
            .map(|located| located.uses(dependency))
            .max()
            .unwrap_or(DependencyUse::Unknown)
    }
}

impl Located<'_> {
    fn uses(&self, dependency: &Dependency) -> DependencyUse {
        let found = match dependency.family {
            Family::Etcd => self.uses_etcd(dependency),
            Family::Minio | Family::Silo => self.uses_store(dependency),
            Family::PulsarV2 | Family::PulsarV3 => self.uses_queue(dependency, QueueKind::Pulsar),
            Family::Kafka | Family::Zookeeper => self.uses_queue(dependency, QueueKind::Kafka),
            Family::Woodpecker => self.uses_queue(dependency, QueueKind::Woodpecker),
            Family::Mysql => self.uses_metastore("mysql"),
            Family::Tikv => self.uses_metastore("tikv"),
        };
        found.unwrap_or(DependencyUse::Unknown)
    }

    /// Milvus keeps its sessions in etcd with each metastore but the embedded one.
    fn uses_etcd(&self, dependency: &Dependency) -> Option<DependencyUse> {
        if self.metastore_name()? == "embedded" {
            return Some(DependencyUse::Unused);
        }
        self.leads_to("etcd.endpoints", dependency)
    }

    fn uses_store(&self, dependency: &Dependency) -> Option<DependencyUse> {
        if self.storage_name()? == "local" {
            return Some(DependencyUse::Unused);
        }
        self.leads_to("minio.address", dependency)
    }

    fn uses_queue(&self, dependency: &Dependency, kind: QueueKind) -> Option<DependencyUse> {
        let queue = self.queue().ok()?;
        let is_written = queue.setting.is_some()
            || self.has_any(["pulsar.address", "kafka.brokerList", "rocksmq.path"]);
        if queue.value != kind {
            // A default that nothing confirms may be that of a file which the input lacks.
            return is_written.then_some(DependencyUse::Unused);
        }
        match kind {
            QueueKind::Pulsar => self.leads_to("pulsar.address", dependency),
            QueueKind::Kafka => self.leads_to("kafka.brokerList", dependency),
            // No setting names the pods of Woodpecker's service.
            _ => None,
        }
    }

    fn uses_metastore(&self, name: &str) -> Option<DependencyUse> {
        let is_other = self.metastore_name()? != name && self.has_any(["metastore.type"]);
        is_other.then_some(DependencyUse::Unused)
    }

    fn has_any<const N: usize>(&self, keys: [&'static str; N]) -> bool {
        keys.into_iter()
            .any(|key| matches!(self.flag(key), Ok(Some(_))))
    }

    /// Whether the addresses of a setting lead to the dependency; `None` if they are not known.
    fn leads_to(&self, key: &'static str, dependency: &Dependency) -> Option<DependencyUse> {
        let hosts: BTreeSet<Host> = self.addresses(key)?;
        hosts
            .iter()
            .map(|host| leads_to(host, dependency, self.release()))
            .max()
    }
}

fn leads_to(host: &Host, dependency: &Dependency, release: &Release) -> DependencyUse {
    if host.is_local() {
        return DependencyUse::Unknown;
    }
    let Some((service, namespace)) = host.service() else {
        return leads_outside_to(host, dependency);
    };
    let own = dependency.workload.meta.object.namespace.as_deref();
    if let (Some(namespace), Some(own)) = (namespace, own.or(release.namespace.as_deref()))
        && namespace != own
    {
        return DependencyUse::Unused;
    }
    if names(service, &dependency.workload.meta.object.name) {
        return DependencyUse::Named;
    }
    // A Service may have any name. It leads elsewhere for certain if it is named as another workload.
    let is_of_another = release
        .dependencies
        .iter()
        .filter(|other| other.workload.meta.object.name != dependency.workload.meta.object.name)
        .any(|other| stem(service) == stem(&other.workload.meta.object.name));
    if is_of_another {
        DependencyUse::Unused
    } else {
        DependencyUse::Unknown
    }
}

/// An address may be that of a Service. A name that is not written as one of the cluster is another
/// system, if it does not begin with the name of the dependency, as pods do: `etcd-0.etcd.milvus`.
fn leads_outside_to(host: &Host, dependency: &Dependency) -> DependencyUse {
    if host.is_address() {
        return DependencyUse::Unknown;
    }
    let host = host.host();
    let of_a_pod = |label: &str| -> String {
        let (name, ordinal) = label.rsplit_once('-').unwrap_or((label, ""));
        let is_ordinal = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
        if is_ordinal { name } else { label }.to_owned()
    };
    let is_named = host
        .split('.')
        .take(2)
        .any(|label| names(&of_a_pod(label), &dependency.workload.meta.object.name));
    if is_named {
        DependencyUse::Named
    } else {
        DependencyUse::Unused
    }
}

/// Whether a Service is named after a workload, or the workload after the Service: charts add the
/// parts of a system to one name.
fn names(service: &str, workload: &str) -> bool {
    let (service, workload) = (stem(service), stem(workload));
    is_named_after(service, workload) || is_named_after(workload, service)
}

/// Whether a name is that of an owner, or begins with it.
pub(super) fn is_named_after(name: &str, owner: &str) -> bool {
    name.strip_prefix(owner)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A name without the part of a system, as charts of etcd, MinIO, Kafka and Pulsar append it.
fn stem(name: &str) -> &str {
    const PARTS: [&str; 12] = [
        "-headless",
        "-hl",
        "-svc",
        "-client",
        "-peer",
        "-proxy",
        "-broker",
        "-brokers",
        "-bootstrap",
        "-bookie",
        "-bookkeeper",
        "-zookeeper",
    ];
    PARTS
        .iter()
        .find_map(|part| name.strip_suffix(part))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::DependencyUse::{self, Named, Unknown, Unused};
    use crate::rules::testing::Fixture;

    #[rstest]
    #[case::service("my-release-etcd:2379", Named)]
    #[case::headless("my-release-etcd-headless:2379", Named)]
    #[case::pod("my-release-etcd-0.my-release-etcd-headless.milvus.svc:2379", Named)]
    #[case::pod_in_short("my-release-etcd-0.my-release-etcd-headless.milvus:2379", Named)]
    #[case::namespace("my-release-etcd.milvus:2379", Named)]
    #[case::any_service("metadata:2379", Unknown)]
    #[case::address("10.0.0.7:2379", Unknown)]
    #[case::own_pod("localhost:2379", Unknown)]
    #[case::other_namespace("my-release-etcd.other.svc:2379", Unused)]
    #[case::outside("etcd.example.com:2379", Unused)]
    #[case::other_workload("my-release-minio:2379", Unused)]
    fn an_etcd_by_the_address(#[case] address: &str, #[case] expected: DependencyUse) {
        let release = Fixture::cluster("2.5.5")
            .default_yaml(&format!("etcd: {{endpoints: [\"{address}\"]}}\n"))
            .stateful_set(
                "my-release-etcd",
                "app.kubernetes.io/name: etcd",
                "milvusdb/etcd:3.5.18-r1",
            )
            .stateful_set(
                "my-release-minio",
                "app: minio",
                "minio/minio:RELEASE.2024-12-18T13-15-44Z",
            )
            .release();
        let etcd = release
            .dependencies
            .iter()
            .find(|one| one.workload.meta.object.name == "my-release-etcd")
            .expect("an etcd");
        assert_eq!(release.uses(etcd), expected);
    }

    #[rstest]
    #[case::pulsar(
        "mq: {type: pulsar}\npulsar: {address: my-release-pulsar-proxy}",
        Named
    )]
    #[case::other_queue(
        "mq: {type: rocksmq}\npulsar: {address: my-release-pulsar-proxy}",
        Unused
    )]
    #[case::other_pulsar("mq: {type: pulsar}\npulsar: {address: pulsar.example.com}", Unused)]
    #[case::nothing_written("log: {level: info}", Unknown)]
    fn a_pulsar_by_the_queue(#[case] yaml: &str, #[case] expected: DependencyUse) {
        let release = Fixture::standalone("2.5.5")
            .default_yaml(yaml)
            .stateful_set(
                "my-release-pulsar-bookie",
                "app: pulsar",
                "apachepulsar/pulsar:2.9.5",
            )
            .release();
        assert_eq!(release.uses(&release.dependencies[0]), expected);
    }
}
