//! The settings that the command line gives.

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
    /// Name of the release.
    pub release: ReleaseName,
    /// The version that every component must run, if given (`-t`).
    pub target: Option<Version>,
    /// The state before (`--record`).
    pub record: Option<Record>,
    /// The namespace of the runs, if given.
    pub run_namespace: Option<String>,
    /// How to connect to Milvus.
    pub milvus: MilvusAccess,
    /// How to connect to its etcd.
    pub etcd: EtcdAccess,
    /// Whether Milvus is probed.
    pub probe: Probe,
}
