//! The metadata migration from Milvus 2.1 to 2.2, without etcd: makes a plan from records.
//!
//! ```text
//! Dump (one revision) -- plan --> Plan -- batches --> guarded transactions
//!    |                             |----- diff ----> what a dry run shows
//!    `-- backup --> file           `-- comparison -> what is left after a crash; nothing, if it was verified
//!                     `-- restore (compared with etcd) --> back again
//! ```
//!
//! The order keeps data safe: everything is planned and saved before the first write, and what 2.1
//! needs is deleted last. The official tool deletes first.

pub mod backup;
pub mod batch;
#[cfg(test)]
mod cases;
pub mod compare;
pub mod diff;
pub mod format;
pub mod journal;
mod key_outcome;
pub mod keys;
pub mod loss;
pub mod messages;
pub mod notes;
pub mod options;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod record;
pub mod restore;
#[doc(hidden)]
pub mod sample;
pub mod sessions;
pub mod spans;
mod transform;
pub mod versions;
mod wire;

pub use batch::{Batch, Expect, Operation, Phase};
pub use keys::Root;
pub use options::{Deviation, Options};
pub use plan::{Plan, PlanError};
pub use record::{Dump, Record, StoredRecord};
pub use transform::plan;

use milvus_guard_core::text::hexadecimal;
