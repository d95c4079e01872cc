//! Notes and problems about single keys. Notes do not stop a migration, problems do.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::keys::shown;

/// Maximum number of notes and problems that are kept with their keys; the rest are only counted.
pub const KEPT: usize = 10_000;
/// Maximum number of problems that a message names.
const NAMED: usize = 10;

/// The kind of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// A tombstone among indexes, left by 2.0.0-rc7.
    IndexTombstone,
    /// An index record that no collection refers to.
    UnusedIndex,
    /// An index build that no segment refers to.
    UnusedBuild,
    /// A collection refers to an index without a record.
    MissingIndex,
    /// A segment refers to a build without a record, and no longer exists itself.
    OrphanedSegmentIndex,
    /// Two records describe the same object; the last one counts.
    Replaced,
    /// The key contradicts the value; the value counts.
    KeyMismatch,
    /// Partition names or times were missing and have been filled up.
    PaddedPartitions,
    /// A collection without partitions or fields.
    BareCollection,
    /// The collection differs from the newest record in its history in more than its indexes.
    DiffersFromHistory,
    /// An alias without a name in its record; the name in the key is used.
    NamelessAlias,
    /// Loaded in 2.1, but it has no index, so 2.2 cannot load it.
    LoadDropped,
    /// Load record with 0 replicas, set to 1.
    ReplicasMended,
    /// It was still loading; 2.2 releases it.
    StillLoading,
    /// The path of the index files has another version than the build record; 2.2 would look for
    /// them elsewhere.
    IndexVersionMismatch,
}

/// A note about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Relative key.
    pub key: Box<[u8]>,
    /// Its kind.
    pub kind: NoteKind,
}

impl NoteKind {
    /// The text for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::IndexTombstone => "is a tombstone of an old index; it is deleted",
            Self::UnusedIndex => "is an index that no collection uses; it is not migrated",
            Self::UnusedBuild => "is an index build that no segment uses; it is not migrated",
            Self::MissingIndex => "refers to an index without a record; it is not migrated",
            Self::OrphanedSegmentIndex => {
                "refers to an index build without a record, whose segment, index or collection was \
                 dropped; it is not migrated"
            }
            Self::Replaced => "describes the same as a later record, which is used",
            Self::KeyMismatch => "has a value that belongs to another key; the value is used",
            Self::PaddedPartitions => {
                "had fewer partition names or times than partitions; they were filled up"
            }
            Self::BareCollection => "is a collection without partitions or without fields",
            Self::DiffersFromHistory => {
                "differs from the newest record in its history; 2.2 may read either"
            }
            Self::NamelessAlias => {
                "is an alias without a name in its record; the name in the key \
                                    is used"
            }
            Self::LoadDropped => {
                "is loaded, but without an index 2.2 cannot load it; it will be released"
            }
            Self::ReplicasMended => "had 0 replicas, which 2.2 treats as released; it now has 1",
            Self::StillLoading => "was not loaded completely; in 2.2 it will be released",
            Self::IndexVersionMismatch => {
                "has index files under another version than its record names; 2.2 may not find them"
            }
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.key), self.kind.text())
    }
}

/// Notes, of which the first [`KEPT`] are kept with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    kept: Vec<Note>,
    counts: BTreeMap<NoteKind, u64>,
}

impl Notes {
    pub(super) fn add(&mut self, key: &[u8], kind: NoteKind) {
        *self.counts.entry(kind).or_default() += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Note {
                key: key.into(),
                kind,
            });
        }
    }

    /// The notes that are kept with their keys, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.kept.iter()
    }

    /// Number of notes of each kind, including those without keys.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<NoteKind, u64> {
        &self.counts
    }
}

/// Why a record cannot be migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Relative key.
    pub key: Box<[u8]>,
    /// What is wrong, as the end of a sentence that begins with the key.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", shown(&self.key), self.what)
    }
}

/// All problems that were found, of which the first [`KEPT`] are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    total: u64,
}

impl Problems {
    pub(super) fn add(&mut self, key: &[u8], what: impl Into<String>) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Problem {
                key: key.into(),
                what: what.into(),
            });
        }
    }

    /// The problems that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// Number of problems.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Whether there is no problem.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.kept.iter().take(NAMED).enumerate() {
            write!(f, "{}{problem}", if position == 0 { "" } else { "; " })?;
        }
        let named = self.kept.len().min(NAMED) as u64;
        if self.total > named {
            write!(f, "; and {} more", self.total - named)
        } else {
            Ok(())
        }
    }
}
