//! Options and outcome of a migration.

use std::{path::PathBuf, time::Duration};

use milvus_guard_core::evidence::MetadataState;
use serde::Serialize;

use crate::{
    executor::{backup::BackupFile, error::MetaError, summary::Summary},
    model::{
        Options, Plan, Root,
        journal::Journal,
        versions::{Transition, transition},
    },
};

/// Options of a migration.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    /// Version before, such as 2.1.4.
    pub source: String,
    /// Version after, such as 2.2.16.
    pub target: String,
    /// The backup to make, or to resume from; absent means a new file in the current folder, or the
    /// file that the record of the run names.
    pub backup: Option<PathBuf>,
    /// Whether to reproduce the end state of the official tool exactly, including its defects.
    pub strict_upstream: bool,
    /// Whether to plan without changing anything.
    pub dry_run: bool,
    /// How long to wait for sessions of Milvus to end; absent means no wait.
    pub wait_sessions: Option<Duration>,
    /// Refuse any plan except the one with this digest, which a person has approved.
    pub approved_plan: Option<String>,
}

impl MigrateOptions {
    /// The transition between the two versions.
    pub(super) fn transition(&self) -> Result<Transition, MetaError> {
        transition(&self.source, &self.target).map_err(|error| MetaError::Usage(error.to_string()))
    }
}

impl MigrateOptions {
    /// The options of the plan.
    #[must_use]
    pub fn plan_options(&self) -> Options {
        if self.strict_upstream {
            Options::strict_upstream()
        } else {
            Options::default()
        }
    }
}

/// How a migration ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The metadata is that of 2.2, written and verified.
    Migrated,
    /// The metadata was that of 2.2 already.
    AlreadyMigrated,
    /// The metadata is empty, or the migration changes none of its records.
    NothingToDo,
    /// Both versions have the same metadata.
    Compatible,
    /// It was a dry run.
    Planned,
}

/// A migration that ended without an error.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrated {
    /// The outcome.
    pub outcome: Outcome,
    /// The plan; absent if there was nothing to plan.
    pub plan: Option<Summary>,
    /// The backup; absent if nothing was changed.
    pub backup: Option<BackupFile>,
    /// The record of the run that migrated this metadata, now or before.
    pub run: Option<Journal>,
    /// Whether it resumed an earlier run.
    pub resumed: bool,
    /// Identity of the etcd cluster.
    #[serde(serialize_with = "crate::executor::hexadecimal")]
    pub cluster_id: u64,
    /// Root of the metadata.
    pub root: String,
    /// Seconds from the first write to the last verification.
    pub seconds: f64,
}

pub(super) fn without_plan(outcome: Outcome, root: &Root, cluster_id: u64) -> Migrated {
    Migrated {
        outcome,
        plan: None,
        backup: None,
        run: None,
        resumed: false,
        cluster_id,
        root: root.to_string(),
        seconds: 0.0,
    }
}

/// The outcome of an empty plan.
pub(super) fn nothing_to_do(plan: &Plan<'_>) -> Option<Outcome> {
    if !plan.is_empty() {
        return None;
    }
    Some(if *plan.state() == MetadataState::V22 {
        Outcome::AlreadyMigrated
    } else {
        Outcome::NothingToDo
    })
}
