//! The metadata migration on etcd: inspect, back up, migrate, verify, restore.
//!
//! [`crate::model`] decides what to do, [`milvus_guard_sources::etcd::connection`] connects to
//! etcd. This module has the order of operations that keeps data safe, and the messages for
//! interruptions. It does not depend on Kubernetes.
//!
//! ```text
//! lock, no sessions -- read -- plan -- backup -- record: Writing
//!    write -- check -- record: Deleting -- delete -- verify -- record: Verified
//! ```
//!
//! Every arrow after the backup is a transaction that succeeds only while this process holds the
//! lock, the record is unchanged and no component of Milvus has registered. After any end of a run,
//! the same call resumes from the record and the backup.

mod apply;
pub mod backup;
mod compare;
pub mod detect;
pub mod error;
pub mod events;
mod file;
mod guard;
mod holder;
pub mod inspect;
mod interruption;
pub mod lock;
pub mod migrate;
mod process;
mod record;
pub mod registry;
pub mod restore;
mod sessions;
pub mod summary;
pub mod target;
pub mod verify;

pub use backup::{BackupFile, Form, backup, readable};
pub use detect::detect;
pub use error::MetaError;
pub use events::{Event, Events, Stage};
pub use inspect::{Inspection, inspect};
pub use migrate::{MigrateOptions, Migrated, Outcome, migrate, preview};
pub use registry::{Registered, Registry};
pub use restore::{RestoreOptions, Restored, preview_restore, restore};
pub use sessions::{await_sessions, running};
pub use target::{Stop, Target};
pub use verify::{Verified, VerifyOptions, verify};

/// Ids of clusters as etcd prints them; as numbers they are too large for some JSON parsers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn hexadecimal<S: serde::Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{id:x}"))
}
