//! Values in the form in which they are compared. Where a value comes from is not known here.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use crate::milvus::{
    catalogue::Compare,
    config::{HIDDEN, Setting, Unknown},
    endpoint::{self, Bucket, Host, listed},
    volume::VolumePlace,
};

/// A value in comparable form and the setting it came from (`None` if a default applies).
#[derive(Clone, Debug, PartialEq)]
pub struct ComparableValue<'a, T> {
    /// The comparable value; the default if the value is unknown.
    pub value: T,
    /// Where it stood.
    pub setting: Option<Setting<'a>>,
}

/// The effective value of a row of the data for one component.
#[derive(Clone, Debug, PartialEq)]
pub enum Effective<'a> {
    /// It is known, from a setting or as the default.
    Known(Comparable<'a>, Option<Setting<'a>>),
    /// It is not known.
    Unknown(&'a Unknown),
}

/// A value in the form in which it is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparable<'a> {
    /// Text, or the name of a kind.
    Text(Cow<'a, str>),
    /// An account, which is never shown.
    Account(String),
    /// A truth value.
    Flag(bool),
    /// Addresses.
    Hosts {
        /// What they name.
        hosts: BTreeSet<Host>,
        /// Whether none is written: Milvus asks its own pod.
        is_default: bool,
    },
    /// The address of an object store.
    Store {
        /// What it names.
        host: Option<Host>,
        /// The bucket in it.
        bucket: Cow<'a, str>,
        /// Whether none is written: Milvus asks its own pod.
        is_default: bool,
    },
    /// A path.
    Place {
        /// As it is written.
        path: Cow<'a, str>,
        /// Where it leads.
        place: VolumePlace,
    },
}

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_, Some(setting)) if setting.is_secret => f.write_str(HIDDEN),
            Self::Known(value, _) => write!(f, "{value}"),
            Self::Unknown(unknown) => write!(f, "unknown ({unknown})"),
        }
    }
}

impl fmt::Display for Comparable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.is_empty() => f.write_str("no value"),
            // What stands at the ends must be seen.
            Self::Text(text) if text.trim() != text => write!(f, "{text:?}"),
            Self::Text(text) => f.write_str(text),
            Self::Account(account) if account.is_empty() => f.write_str("no account"),
            Self::Account(_) => f.write_str("an account that is not shown"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Hosts { hosts, .. } => f.write_str(&listed(hosts)),
            Self::Store {
                host: Some(host), ..
            } => write!(f, "{host}"),
            Self::Store { host: None, .. } => f.write_str("no address"),
            // Where the files do not outlive the pod, the place repeats the path.
            Self::Place { path, place } if !place.volume.is_persistent() => {
                write!(f, "{path} ({})", place.volume)
            }
            Self::Place { path, place } => write!(f, "{path} ({place})"),
        }
    }
}

/// How a value differs after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is another one.
    Changed,
    /// It was known and is not any more.
    Lost,
    /// It was not known, so no one can tell.
    Unclear,
}

pub(super) fn is_same(
    compare: Compare,
    old: &Comparable<'_>,
    new: &Comparable<'_>,
    own_is_known: bool,
) -> bool {
    match (old, new) {
        (Comparable::Text(old), Comparable::Text(new)) if compare == Compare::Lower => {
            is_same_unless(old, new, |old, new| new < old)
        }
        (Comparable::Text(old), Comparable::Text(new)) if compare == Compare::Lifetime => {
            is_same_unless(old, new, |old, new| new > 0.0 && (old <= 0.0 || new < old))
        }
        // Nothing is written: Milvus asks the pod itself, where nothing of the cluster is. What
        // follows is a first address.
        (
            Comparable::Hosts {
                is_default: true, ..
            }
            | Comparable::Store {
                is_default: true, ..
            },
            _,
        ) => true,
        (Comparable::Hosts { hosts: old, .. }, Comparable::Hosts { hosts: new, .. }) => {
            match compare {
                Compare::Brokers => endpoint::is_same_brokers(old, new, own_is_known),
                Compare::Pulsar => endpoint::is_same_pulsar(old, new, own_is_known),
                _ => endpoint::is_same_etcd(old, new, own_is_known),
            }
        }
        (
            Comparable::Store {
                host: Some(old),
                bucket: in_old,
                ..
            },
            Comparable::Store {
                host: Some(new),
                bucket: in_new,
                ..
            },
        ) => {
            // Where one bucket is not known, the hosts are compared for the other one.
            let known =
                |own: &str, other: &str| if own.is_empty() { other } else { own }.to_owned();
            endpoint::is_same_store(
                Bucket {
                    host: old,
                    name: &known(in_old, in_new),
                },
                Bucket {
                    host: new,
                    name: &known(in_new, in_old),
                },
                own_is_known,
            )
        }
        (Comparable::Store { host: None, .. }, Comparable::Store { .. }) => true,
        (
            Comparable::Place {
                path: old_path,
                place: old,
            },
            Comparable::Place {
                path: new_path,
                place: new,
            },
        ) => {
            // The same path on another volume is a matter of the volume.
            old == new || (trimmed(old_path) == trimmed(new_path) && old.volume != new.volume)
        }
        _ => old == new,
    }
}

/// Whether two numbers are the same for a row that counts one direction only. Text that is not a
/// number has no order.
fn is_same_unless(old: &str, new: &str, counts: impl FnOnce(f64, f64) -> bool) -> bool {
    match (old.parse::<f64>(), new.parse::<f64>()) {
        (Ok(old), Ok(new)) => !counts(old, new),
        _ => old == new,
    }
}

pub(super) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// A path below a store, as Milvus joins it with its keys (Go `path.Join`).
pub(in crate::milvus) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A path without slashes at its ends; a path of slashes alone stays.
pub(super) fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() { path } else { trimmed }
}
