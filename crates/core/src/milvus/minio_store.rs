//! What a `MinIO` serves: its own disks, or the store behind a gateway.

use std::fmt;

use crate::{manifest::object::Container, text};

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

/// The server pools of MinIO, each as the servers and the numbers of its drives; domains, schemes,
/// ports and mount paths do not matter. Empty if this is another system, or if they are not
/// written. Folders that are listed without a range are the drives of one pool.
#[must_use]
pub fn server_pools(dependency: &Dependency) -> Vec<String> {
    if !matches!(dependency.family, Family::Minio | Family::Silo) {
        return Vec::new();
    }
    let containers = dependency.containers();
    let lines = containers.iter().flat_map(|container| {
        let variables = container
            .env
            .iter()
            .filter_map(|(name, value)| POOL_VARIABLES.contains(&name).then_some(value?));
        container
            .command
            .iter()
            .map(|word| &**word)
            .chain(variables)
    });
    let words = lines.flat_map(|line| line.split([' ', '\t', '\n', ',']));
    let mut pools: Vec<String> = words
        .filter(|word| word.contains("..."))
        .map(shape)
        .collect();
    if pools.is_empty() {
        pools = containers
            .iter()
            .filter_map(|container| listed(container))
            .collect();
    }
    pools.dedup();
    pools
}

/// The only pool of a server whose drives are listed one by one; `None` if no drive is written, or
/// if a shell fills in a part of the list.
fn listed(container: &Container) -> Option<String> {
    let variables = container.env.iter();
    let volumes = variables
        .filter(|(name, _)| POOL_VARIABLES.contains(name))
        .find_map(|(_, value)| value);
    let command = container
        .command
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|word| word.trim_matches(['"', '\'']))
        .skip_while(|word| *word != "server")
        .skip(1)
        .take_while(|word| !matches!(*word, "&" | "&&" | "|" | "||" | ";"));
    let words: Vec<&str> = match volumes {
        Some(volumes) => volumes.split([' ', ',']).collect(),
        None => command.collect(),
    };
    if words.iter().any(|word| word.contains('$')) {
        return None;
    }
    let is_drive = |at: &usize| {
        let is_value = at
            .checked_sub(1)
            .is_some_and(|flag| FOLDER_FLAGS.contains(&words[flag]));
        !is_value && (words[*at].starts_with('/') || words[*at].contains("://"))
    };
    let mut servers: Vec<String> = (0..words.len())
        .filter(is_drive)
        .map(|at| shape(words[at]))
        .collect();
    servers.sort_unstable();
    let count = servers.len();
    (count > 0).then(|| {
        servers.dedup();
        format!(
            "{} ({})",
            servers.join(" ").trim(),
            text::count(count, "drive")
        )
        .trim_start()
        .to_owned()
    })
}

/// The pool of a server with one folder.
pub const ONE_DRIVE: &str = "(1 drive)";

/// Flags of MinIO whose value is a folder without data.
const FOLDER_FLAGS: [&str; 5] = ["-S", "--certs-dir", "-C", "--config-dir", "--config"];

/// Variables in which images of MinIO take the server pools.
const POOL_VARIABLES: [&str; 2] = ["MINIO_DISTRIBUTED_NODES", "MINIO_VOLUMES"];

/// The shape of a server pool: the server's short name, and the numbers of its drives.
fn shape(pool: &str) -> String {
    let pool = pool.trim_matches(['"', '\'']);
    let (host, path) = match pool.split_once("://") {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None if pool.starts_with('/') => ("", pool),
        None => pool.split_once('/').unwrap_or((pool, "")),
    };
    let mut server = String::new();
    let mut is_in_range = false;
    for letter in host.chars() {
        match letter {
            '{' => is_in_range = true,
            '}' => is_in_range = false,
            '.' | ':' if !is_in_range => break,
            _ => {}
        }
        server.push(letter);
    }
    let drives = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(range, _)| format!("/{{{range}}}"));
    server + &drives.collect::<String>()
}
