//! Data other than metadata that two releases must not share: objects, channels, volumes.

use std::collections::BTreeSet;

use super::{
    data_location::DataLocation,
    endpoint::{Bucket, Host, is_same_store},
    held_data::held_by,
    queue_kind::QueueKind,
    release::{ComponentWorkload, Release},
    settings::Located,
    volume::DataVolume,
};

/// What a release shares with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// Metadata: both are one database.
    Metadata,
    /// The root path of a bucket, with other metadata.
    Objects,
    /// The channels of a message queue, with other metadata.
    Channels,
    /// A folder on a volume claim.
    Volume,
}

/// Where the data of a release lies, as far as its configuration tells.
#[derive(Clone, Debug, Default)]
pub struct DataPlaces {
    metadata: Option<DataLocation>,
    objects: Option<Objects>,
    channels: Option<Channels>,
    /// Namespace, claim and path.
    claims: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Objects {
    host: Host,
    bucket: String,
    root_path: String,
}

#[derive(Clone, Debug)]
struct Channels {
    queue: QueueKind,
    hosts: BTreeSet<Host>,
    /// Tenant and namespace of Pulsar, and the prefix.
    prefix: String,
}

impl DataPlaces {
    /// Reads them.
    #[must_use]
    pub fn of(release: &Release) -> Self {
        Self {
            metadata: release.data_location(),
            objects: release
                .located()
                .find_map(|located| objects(release, &located)),
            channels: release
                .located()
                .find_map(|located| channels(release, &located)),
            claims: release
                .components
                .iter()
                .filter(|one| one.is_running())
                .flat_map(|one| claims(release, one))
                .collect(),
        }
    }

    /// Texts of which two releases have one in common if they may share data.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let objects = self
            .objects
            .iter()
            .map(|one| format!("objects {}/{}", one.bucket, one.root_path));
        let channels = self.channels.iter().flat_map(|one| {
            let hosts = one.hosts.iter();
            hosts.map(move |host| format!("channels {} {host} {}", one.queue, one.prefix))
        });
        let metadata = self.metadata.iter().flat_map(DataLocation::keys);
        metadata
            .chain(objects)
            .chain(channels)
            .chain(self.claims.iter().cloned())
            .collect()
    }

    /// What both use, the worst first; `None` if nothing is known to be shared.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Option<Shared> {
        let both = |one: bool, kind| one.then_some(kind);
        let metadata = self.metadata.as_ref().zip(other.metadata.as_ref());
        let objects = self.objects.as_ref().zip(other.objects.as_ref());
        let channels = self.channels.as_ref().zip(other.channels.as_ref());
        both(
            metadata.is_some_and(|(one, other)| one.is_same(other)),
            Shared::Metadata,
        )
        .or_else(|| {
            // Without both locations, what is shared may be one database.
            metadata?;
            both(
                objects.is_some_and(|(one, other)| one.is_same(other)),
                Shared::Objects,
            )
            .or_else(|| {
                both(
                    channels.is_some_and(|(one, other)| one.is_same(other)),
                    Shared::Channels,
                )
            })
        })
        .or_else(|| both(!self.claims.is_disjoint(&other.claims), Shared::Volume))
    }
}

impl Objects {
    fn bucket(&self) -> Bucket<'_> {
        Bucket {
            host: &self.host,
            name: &self.bucket,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.bucket == other.bucket
            && self.root_path == other.root_path
            && is_same_store(self.bucket(), other.bucket(), false)
    }
}

impl Channels {
    fn is_same(&self, other: &Self) -> bool {
        self.queue == other.queue
            && self.prefix == other.prefix
            && !self.hosts.is_disjoint(&other.hosts)
    }
}

/// The value of a setting; `None` if it is not known.
fn text<'a>(located: &Located<'a>, key: &'a str, default: &'a str) -> Option<&'a str> {
    let setting = located.value(key).ok()?;
    Some(setting.map_or(default, |setting| setting.value.trim()))
}

fn objects(release: &Release, located: &Located<'_>) -> Option<Objects> {
    if located.storage_name()? != "remote" {
        return None;
    }
    let port = text(located, "minio.port", "9000")?;
    let host = located.addresses("minio.address")?.into_iter().next()?;
    if host.is_local() {
        return None;
    }
    Some(Objects {
        host: host
            .or_port(Some(port))
            .in_namespace(release.namespace.as_deref()),
        bucket: text(located, "minio.bucketName", "a-bucket")?.to_owned(),
        root_path: located.objects_path()?,
    })
}

fn channels(release: &Release, located: &Located<'_>) -> Option<Channels> {
    let queue = located.queue().ok()?.value;
    let (key, place) = match queue {
        QueueKind::Pulsar => (
            "pulsar.address",
            format!(
                "{}/{}/",
                text(located, "pulsar.tenant", "public")?,
                text(located, "pulsar.namespace", "default")?
            ),
        ),
        QueueKind::Kafka => ("kafka.brokerList", String::new()),
        _ => return None,
    };
    let prefix = match text(located, "msgChannel.chanNamePrefix.cluster", "")? {
        "" => text(located, "common.chanNamePrefix.cluster", "by-dev")?,
        prefix => prefix,
    };
    let hosts: BTreeSet<Host> = located
        .addresses(key)?
        .into_iter()
        .filter(|host| !host.is_local())
        .map(|host| host.in_namespace(release.namespace.as_deref()).of_store())
        .collect();
    (!hosts.is_empty()).then(|| Channels {
        queue,
        hosts,
        prefix: format!("{place}{prefix}"),
    })
}

/// The claims with data of a component. A node's folder is not one: two pods may run on two nodes.
fn claims(release: &Release, component: &ComponentWorkload) -> Vec<String> {
    let namespace = release.namespace.as_deref().unwrap_or_default();
    held_by(release, component)
        .into_iter()
        .filter_map(|(place, _)| match place.volume {
            DataVolume::Claim(claim) => Some(format!("claim {namespace}/{claim}/{}", place.path)),
            _ => None,
        })
        .collect()
}
