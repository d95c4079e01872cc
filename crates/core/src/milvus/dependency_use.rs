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
        if self.queue().ok()?.value != kind {
            return Some(DependencyUse::Unused);
        }
        match kind {
            QueueKind::Pulsar => self.leads_to("pulsar.address", dependency),
            QueueKind::Kafka => self.leads_to("kafka.brokerList", dependency),
            // No setting names the pods of Woodpecker's service.
            _ => None,
        }
    }

    fn uses_metastore(&self, name: &str) -> Option<DependencyUse> {
        Some(if self.metastore_name()? == name {
            DependencyUse::Unknown
        } else {
            DependencyUse::Unused
        })
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
        // An address may be that of a Service. A name outside of the cluster is another system.
        return if host.is_address() {
            DependencyUse::Unknown
        } else {
            DependencyUse::Unused
        };
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

/// Whether a Service is named after a workload, or the workload after the Service: charts add the
/// parts of a system to one name.
pub(super) fn names(service: &str, workload: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let (service, workload) = (stem(service), stem(workload));
    begins(service, workload) || begins(workload, service)
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
