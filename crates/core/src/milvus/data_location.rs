//! Where the metadata of a release lies. Two releases with the same location work on the same data,
//! under any name and owner: the owners of their objects.

use std::{collections::BTreeSet, fmt};

use super::{
    endpoint::{Host, listed},
    release::{ComponentWorkload, Release},
    settings::cleaned,
    volume::DataVolume,
};

/// The place of a release's metadata, comparable across namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataLocation {
    /// A metadata store that is reached by address.
    Store {
        /// `etcd` or `tikv`.
        kind: String,
        /// Its addresses; a Service has its namespace.
        hosts: BTreeSet<Host>,
        /// The root path, without slashes at its ends.
        root_path: String,
    },
    /// An etcd inside the process of Milvus, on a volume claim.
    Volume {
        /// Namespace of the claim, where the input names one.
        namespace: Option<String>,
        /// Name of the claim.
        claim: String,
        /// Path on it.
        path: String,
    },
}

impl DataLocation {
    /// Whether both name the same data.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Store {
                    kind,
                    hosts,
                    root_path,
                },
                Self::Store {
                    kind: other_kind,
                    hosts: other_hosts,
                    root_path: other_path,
                },
            ) => {
                // One address in common is enough: it leads to one of the members.
                kind == other_kind && root_path == other_path && !hosts.is_disjoint(other_hosts)
            }
            _ => self == other,
        }
    }

    /// Texts of which two locations share one if and only if they are the same.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        match self {
            Self::Store {
                kind,
                hosts,
                root_path,
            } => hosts
                .iter()
                .map(|host| format!("{kind} {host} {root_path}"))
                .collect(),
            Self::Volume {
                namespace,
                claim,
                path,
            } => {
                vec![format!(
                    "volume {} {claim} {path}",
                    namespace.as_deref().unwrap_or_default()
                )]
            }
        }
    }

    /// Whether the data lies on volumes of the release, or in a store that is named after it.
    #[must_use]
    pub fn is_inside(&self, release: &Release) -> bool {
        match self {
            Self::Store { hosts, .. } => {
                let named = |host: &Host| {
                    let name = host.host();
                    name == release.name || name.starts_with(&format!("{}-", release.name))
                };
                hosts.iter().any(named)
            }
            Self::Volume { .. } => true,
        }
    }
}

impl fmt::Display for DataLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store {
                kind,
                hosts,
                root_path,
            } => write!(f, "{kind} {} under {root_path}", listed(hosts)),
            Self::Volume { claim, path, .. } => write!(f, "{path} on volume claim {claim}"),
        }
    }
}

impl Release {
    /// Where the metadata lies, by the first component whose configuration tells. `None` if no
    /// component tells, or if the data does not outlive its pod.
    #[must_use]
    pub fn data_location(&self) -> Option<DataLocation> {
        self.located().find_map(|located| {
            let (kind, keys) = match located.metastore_name()? {
                "embedded" => {
                    let (_, path) = located
                        .data_paths()
                        .into_iter()
                        .find(|(what, _)| *what == "embedded etcd")?;
                    let place = located.place(&path);
                    let DataVolume::Claim(claim) = place.volume else {
                        return None;
                    };
                    return Some(DataLocation::Volume {
                        namespace: self.namespace.clone(),
                        claim,
                        path: place.path,
                    });
                }
                "tikv" => ("tikv", ("tikv.endpoints", "tikv.rootPath")),
                "etcd" => ("etcd", ("etcd.endpoints", "etcd.rootPath")),
                _ => return None,
            };
            let hosts: BTreeSet<Host> = located
                .addresses(keys.0)?
                .into_iter()
                .filter(|host| !host.is_local())
                .collect();
            let root_path = cleaned(&located.root_path(keys.1)?);
            let hosts: BTreeSet<Host> = hosts
                .into_iter()
                .map(|host| host.in_namespace(self.namespace.as_deref()).of_store())
                .collect();
            (!hosts.is_empty()).then_some(DataLocation::Store {
                kind: kind.into(),
                hosts,
                root_path,
            })
        })
    }

    /// Whether both releases hold an object of the same kind and name in the same namespace.
    #[must_use]
    pub fn shares_objects_with(&self, other: &Self) -> bool {
        let names = |release: &Self| -> BTreeSet<(String, String)> {
            let workloads = release
                .components
                .iter()
                .map(|component| &component.workload.meta);
            let workloads = workloads.chain(
                release
                    .dependencies
                    .iter()
                    .map(|dependency| &dependency.workload.meta),
            );
            let metas = workloads.chain(release.claims.iter().map(|claim| &claim.meta));
            metas
                .map(|meta| (meta.object.kind.clone(), meta.object.name.clone()))
                .collect()
        };
        !self.is_elsewhere(other) && !names(self).is_disjoint(&names(other))
    }

    /// Whether both namespaces are known and differ.
    #[must_use]
    pub fn is_elsewhere(&self, other: &Self) -> bool {
        matches!((&self.namespace, &other.namespace), (Some(one), Some(other)) if one != other)
    }

    /// Whether a workload of Milvus is the same object in both: kind, name and namespace.
    #[must_use]
    pub fn shares_workloads_with(&self, other: &Self) -> bool {
        let is_there = |one: &ComponentWorkload| {
            let mut others = other.components.iter();
            others.any(|other| is_same_object(one, other))
        };
        !self.is_elsewhere(other) && self.components.iter().any(is_there)
    }

    /// Whether the workload of every component that `after` still has is the same object there:
    /// kind, name, namespace and selector. Labels and annotations do not count: they name no data.
    #[must_use]
    pub fn keeps_workloads_in(&self, after: &Self) -> bool {
        let mut stay = self
            .components
            .iter()
            .filter(|one| after.has(one.component))
            .peekable();
        let is_there = |one: &ComponentWorkload| {
            after.of(one.component).any(|other| {
                is_same_object(one, other) && one.workload.selector == other.workload.selector
            })
        };
        !self.is_elsewhere(after) && stay.peek().is_some() && stay.all(is_there)
    }

    /// The addresses of all stores and queues that components name, each Service with its
    /// namespace; `None` if one is not known.
    #[must_use]
    pub fn store_addresses(&self) -> Option<BTreeSet<Host>> {
        const KEYS: [&str; 5] = [
            "etcd.endpoints",
            "tikv.endpoints",
            "minio.address",
            "pulsar.address",
            "kafka.brokerList",
        ];
        let mut all = BTreeSet::new();
        for located in self.located() {
            for key in KEYS {
                let hosts = located.addresses(key)?.into_iter();
                all.extend(hosts.map(|host| host.in_namespace(self.namespace.as_deref())));
            }
        }
        Some(all)
    }
}

fn is_same_object(one: &ComponentWorkload, other: &ComponentWorkload) -> bool {
    let (one, other) = (&one.workload.meta.object, &other.workload.meta.object);
    one.kind == other.kind && one.name == other.name
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::{milvus::Release, rules::testing::Fixture};

    fn release(name: &str, namespace: &str, etcd: &str, root_path: &str) -> Release {
        let yaml = format!("etcd:\n  endpoints: [{etcd}]\n  rootPath: {root_path}\n");
        let mut release = Fixture::cluster("2.4.5")
            .named(name)
            .default_yaml(&yaml)
            .release();
        release.namespace = Some(namespace.into());
        release
    }

    #[rstest]
    #[case("etcd.example.com:2379", "etcd.example.com:2379", "by-dev", true)]
    #[case(
        "http://root:pw@etcd.example.com:2379",
        "a.example.com:2379,etcd.example.com:2379",
        "/by-dev/",
        true
    )]
    #[case(
        "etcd.example.com:2379",
        "https://ETCD.example.com.:2379",
        "x/../by-dev//.",
        true
    )]
    #[case("etcd.two:2379", "etcd-headless:2379", "./by-dev", true)]
    #[case("etcd.two:2379", "etcd-0.etcd-headless.two.svc:2379", "by-dev", true)]
    #[case("etcd.example.com:2379", "etcd.example.com:2379", "by-dev/x", false)]
    #[case("etcd.example.com:2379", "etcd.example.com:2379", "other", false)]
    #[case("etcd.example.com:2379", "etcd-2.example.com:2379", "by-dev", false)]
    // A Service without a namespace is that of the own namespace.
    #[case("etcd.one:2379", "etcd:2379", "by-dev", false)]
    #[case("etcd:2379", "etcd.one.svc.cluster.local:2379", "by-dev", true)]
    #[case("etcd:2379", "etcd:2379", "by-dev", false)]
    // Each asks its own pod.
    #[case("localhost:2379", "localhost:2379", "by-dev", false)]
    fn one_location_has_many_names(
        #[case] one: &str,
        #[case] other: &str,
        #[case] root_path: &str,
        #[case] same: bool,
    ) {
        let (one, other) = (
            release("a", "one", one, "by-dev"),
            release("b", "two", other, root_path),
        );
        let is_same = |one: &Release, other: &Release| {
            one.data_location()
                .zip(other.data_location())
                .is_some_and(|(one, other)| one.is_same(&other))
        };
        assert_eq!(is_same(&one, &other), same);
        assert_eq!(is_same(&other, &one), same);
        let keys = |release: &Release| {
            release
                .data_location()
                .map(|location| location.keys())
                .unwrap_or_default()
        };
        assert_eq!(
            keys(&one).iter().any(|key| keys(&other).contains(key)),
            same,
            "{:?} {:?}",
            keys(&one),
            keys(&other)
        );
    }
}
