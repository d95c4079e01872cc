//! What the command line asks for.

use crate::{
    engine::{EtcdAccess, ReleaseName},
    rolling_upgrade::MilvusAccess,
};
use milvus_guard_core::{milvus::Version, verification::Record};

/// Whether the write-search-drop probe is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Nothing is written.
    #[default]
    Off,
    /// A small collection is written, searched and dropped (`--probe`).
    On,
}

/// What is verified, and against what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which release.
    pub release: ReleaseName,
    /// The version that every component must run, where one is named (`-t`).
    pub target: Option<Version>,
    /// The state before (`--record`).
    pub record: Option<Record>,
    /// Where runs live, where it is named.
    pub run_namespace: Option<String>,
    /// How Milvus itself is asked.
    pub milvus: MilvusAccess,
    /// How its etcd is asked.
    pub etcd: EtcdAccess,
    /// Whether it is probed.
    pub probe: Probe,
}
