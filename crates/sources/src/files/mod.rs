//! Adapters: read the inputs that a user names into objects and snapshots. They never judge.

pub mod encoding;
pub mod error;
pub mod evidence;
pub mod foreign;
mod helm_output;
pub mod objects;
pub mod part;
mod patch;
pub mod read;
mod record;
mod terraform;

pub use error::InputError;
pub use objects::{Content, Form};
pub use read::{Reading, load, load_place, load_text, read_named_text, read_text_file, reason};

use milvus_guard_core::{milvus::Snapshot, report::InputEntry};

/// Which side of a change an input describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The running state.
    Before,
    /// The desired state.
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
#[derive(Debug, Default)]
pub struct Loaded {
    /// Its content.
    pub content: Content,
    /// The same, grouped. After a change: once it is merged into the running state.
    pub snapshot: Snapshot,
    /// Its entry in the report.
    pub entry: InputEntry,
}
