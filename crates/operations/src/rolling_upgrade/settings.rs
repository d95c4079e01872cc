//! What the command line asks for.

use std::time::Duration;

use crate::engine::{EtcdAccess, Intent, RunSettings};
use milvus_guard_core::milvus::Version;
use milvus_guard_sources::{etcd::Tls, milvus::Login};

/// What to do with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Upgrade, or resume.
    Update,
    /// Put images and strategies back as the run recorded them, in the reverse order.
    Rollback,
    /// End the run where it stands.
    Abort,
}

impl Operation {
    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Rollback => "rollback",
            Self::Abort => "abort",
        }
    }

    /// What it does with its run.
    #[must_use]
    pub const fn intent(self) -> Intent {
        match self {
            Self::Update => Intent::Forward,
            Self::Rollback => Intent::Back,
            Self::Abort => Intent::End,
        }
    }
}

/// Where Milvus itself is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AskMilvus {
    /// At the Service of the release.
    #[default]
    AtService,
    /// At an address.
    At(String),
    /// Nowhere.
    Never,
}

impl AskMilvus {
    /// What is typed for [`Self::Never`].
    pub const NEVER: &'static str = "none";

    /// What was typed for it.
    #[must_use]
    pub fn typed_as(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::AtService,
            Some(Self::NEVER) => Self::Never,
            Some(address) => Self::At(address.to_owned()),
        }
    }

    /// As it is typed.
    #[must_use]
    pub fn typed(&self) -> Option<&str> {
        match self {
            Self::AtService => None,
            Self::At(address) => Some(address),
            Self::Never => Some(Self::NEVER),
        }
    }
}

/// How Milvus itself is asked.
#[derive(Clone, Debug, Default)]
pub struct MilvusAccess {
    /// Where (`--milvus`).
    pub ask: AskMilvus,
    /// The name in its certificate, where it is not the host of the address.
    pub server_name: Option<String>,
    /// Who asks.
    pub login: Login,
    /// TLS, where it takes more than the system's certificate authorities.
    pub tls: Option<Tls>,
}

/// Whether sessions of pods that have ended are removed from etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionHelp {
    /// As soon as the pod is proven to have ended.
    #[default]
    On,
    /// Never: they end with their lease (`--no-session-help`).
    Off,
}

/// Where a run is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunLocation {
    /// In the cluster.
    #[default]
    Job,
    /// In the process of the person who asked (`--local`).
    Local,
}

/// What an upgrade is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What all kinds of runs are told.
    pub run: RunSettings,
    /// Version after (`-t`).
    pub target: Version,
    /// Image of the new version (`-w`); absent means the running repository at `v<target>`.
    pub image: Option<String>,
    /// How Milvus itself is asked.
    pub milvus: MilvusAccess,
    /// How its etcd is asked.
    pub etcd: EtcdAccess,
    /// Whether sessions of pods that have ended are removed from it.
    pub session_help: SessionHelp,
    /// Where it is made.
    pub location: RunLocation,
    /// For a pod that cannot pull its image, or crashes again and again.
    pub hopeless: Duration,
}
