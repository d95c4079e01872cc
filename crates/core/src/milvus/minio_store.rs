//! What a `MinIO` serves: its own disks, or the store behind a gateway.

use std::fmt;

use super::{
    dependency::{Dependency, Family},
    endpoint::{Bucket, Host, is_same_store},
};

/// Where a `MinIO` has its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinioStore {
    /// On its own disks (`minio server`).
    Disks,
    /// In another store (`minio gateway`).
    Gateway {
        /// `s3`, `gcs`, `azure`, `nas` ...
        kind: String,
        /// The address, the project or the path, where the command names one.
        target: Option<String>,
    },
}

impl MinioStore {
    /// Reads it from the command line; `None` if it names neither.
    #[must_use]
    pub fn of(dependency: &Dependency) -> Option<Self> {
        if dependency.family != Family::Minio {
            return None;
        }
        let containers = dependency.containers();
        let mut words = containers
            .iter()
            .flat_map(|container| &container.command)
            .flat_map(|line| line.split_whitespace())
            .map(|word| word.trim_matches(['"', '\'']))
            .skip_while(|word| !matches!(*word, "server" | "gateway"));
        if words.next()? == "server" {
            return Some(Self::Disks);
        }
        let mut rest = words.take_while(|word| !matches!(*word, "&" | "&&" | "|" | "||" | ";"));
        let kind = rest.next().filter(|word| !word.starts_with('-'))?;
        let target = rest.next().filter(|word| !word.starts_with(['-', '$']));
        Some(Self::Gateway {
            kind: kind.to_owned(),
            target: target.map(str::to_owned),
        })
    }

    /// Whether both have the same objects. Names of buckets are unique in Google Cloud, so another
    /// project has the same ones.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Disks, Self::Disks) => true,
            (
                Self::Gateway { kind, target },
                Self::Gateway {
                    kind: other_kind,
                    target: other_target,
                },
            ) => {
                kind == other_kind
                    && match (target, other_target) {
                        (Some(one), Some(other)) => is_same_target(kind, one, other),
                        _ => true,
                    }
            }
            _ => false,
        }
    }
}

fn is_same_target(kind: &str, one: &str, other: &str) -> bool {
    match kind {
        "s3" => {
            let (one, other) = (Host::parse(one, None), Host::parse(other, None));
            let bucket = |host| Bucket { host, name: "" };
            is_same_store(bucket(&one), bucket(&other), false)
        }
        "nas" | "hdfs" => one.trim_end_matches('/') == other.trim_end_matches('/'),
        _ => true,
    }
}

impl fmt::Display for MinioStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disks => f.write_str("its own disks"),
            Self::Gateway {
                kind,
                target: Some(target),
            } => write!(f, "a gateway to {kind} ({})", without_credentials(target)),
            Self::Gateway { kind, target: None } => write!(f, "a gateway to {kind}"),
        }
    }
}

fn without_credentials(target: &str) -> &str {
    target.rsplit('@').next().unwrap_or(target)
}
