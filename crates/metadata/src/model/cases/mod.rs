//! The cases of the migration's specification, by their numbers. Cases that need a server are
//! tested with a real etcd.

mod collections;
mod indexes;
mod loads;
mod restores;
mod segments;
mod whole;

use std::collections::BTreeMap;

use prost::Message;

use super::{
    notes::NoteKind, options::Options, plan::PlanError, plan::Unloadable, sample::Sample,
    transform::plan,
};

pub(super) type State = BTreeMap<String, Vec<u8>>;

/// The effect of a migration on a sample.
pub(super) struct Outcome {
    pub(super) before: State,
    pub(super) after: State,
    pub(super) notes: Vec<(String, NoteKind)>,
    pub(super) unloadable: Vec<Unloadable>,
}

impl Outcome {
    pub(super) fn of(sample: &Sample, options: &Options) -> Result<Self, PlanError> {
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, options)?;
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        Ok(Self {
            before: dump
                .records()
                .iter()
                .filter(|record| record.is_metadata())
                .map(|record| (text(record.key()), record.value().to_vec()))
                .collect(),
            after: plan
                .end_state()
                .map(|(key, value)| (text(key), value.to_vec()))
                .collect(),
            notes: plan
                .notes()
                .iter()
                .map(|note| (text(&note.key), note.kind))
                .collect(),
            unloadable: plan.unloadable().to_vec(),
        })
    }

    /// Keys below a prefix after the migration, without the prefix.
    pub(super) fn keys(&self, prefix: &str) -> Vec<&str> {
        self.after
            .keys()
            .filter_map(|key| key.strip_prefix(prefix))
            .collect()
    }

    pub(super) fn message<M: Message + Default>(&self, key: &str) -> M {
        M::decode(&*self.after[key]).unwrap()
    }

    /// Keys that are new or have another value.
    pub(super) fn written(&self) -> Vec<&str> {
        self.after
            .iter()
            .filter(|(key, value)| self.before.get(*key) != Some(*value))
            .map(|(key, _)| key.as_str())
            .collect()
    }

    /// Keys that no longer exist.
    pub(super) fn gone(&self) -> Vec<&str> {
        self.before
            .keys()
            .filter(|key| !self.after.contains_key(*key))
            .map(String::as_str)
            .collect()
    }

    pub(super) fn has_note(&self, kind: NoteKind) -> bool {
        self.notes.iter().any(|(_, found)| *found == kind)
    }
}

pub(super) fn default(sample: &Sample) -> Outcome {
    Outcome::of(sample, &Options::default()).unwrap()
}

pub(super) fn strict(sample: &Sample) -> Outcome {
    Outcome::of(sample, &Options::strict_upstream()).unwrap()
}

/// The text of the error.
pub(super) fn failure(sample: &Sample, options: &Options) -> String {
    match Outcome::of(sample, options) {
        Err(error) => error.to_string(),
        Ok(outcome) => panic!("it was planned: {:?}", outcome.written()),
    }
}
