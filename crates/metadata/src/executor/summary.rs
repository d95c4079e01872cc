//! A plan in numbers, for reports.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{
    Plan,
    notes::NoteKind,
    plan::{Kind, Unloadable},
};
use milvus_guard_core::evidence::MetadataState;

/// Maximum number of notes in a summary; the rest are only counted.
const NOTES: usize = 50;

/// A plan in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// sha256 of all operations.
    pub digest: String,
    /// Format of the metadata that it was made from.
    pub state: MetadataState,
    /// Keys that are new.
    pub puts: u64,
    /// Keys whose value changes.
    pub rewrites: u64,
    /// Keys that are deleted.
    pub deletes: u64,
    /// Records of each kind.
    pub records: BTreeMap<Kind, u64>,
    /// Collections that 2.2 cannot load until they get an index.
    pub unloadable: Vec<Unloadable>,
    /// Notes of each kind.
    pub note_counts: BTreeMap<NoteKind, u64>,
    /// The first notes, each with its key.
    pub notes: Vec<String>,
}

impl Summary {
    /// The summary of this plan.
    #[must_use]
    pub fn of(plan: &Plan<'_>) -> Self {
        Self {
            digest: plan.digest(),
            state: plan.state().clone(),
            puts: plan.puts().len() as u64,
            rewrites: plan.rewrites().len() as u64,
            deletes: plan.deletes().len() as u64,
            records: plan.counts().clone(),
            unloadable: plan.unloadable().to_vec(),
            note_counts: plan.notes().counts().clone(),
            notes: plan
                .notes()
                .iter()
                .take(NOTES)
                .map(ToString::to_string)
                .collect(),
        }
    }
}
