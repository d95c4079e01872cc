//! Adapters: from what a user names to a snapshot. They read and never decide.

pub mod error;
pub mod evidence;
pub mod files;
pub mod objects;
mod record;

pub use error::InputError;
pub use files::{load, load_place, read_text_file};

use crate::{milvus::Snapshot, report::InputEntry};

/// Which side of a change an input describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What runs.
    Before,
    /// What is wanted.
    After,
}

impl Role {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// An input, read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it holds.
    pub snapshot: Snapshot,
    /// What the report says of it.
    pub entry: InputEntry,
}
