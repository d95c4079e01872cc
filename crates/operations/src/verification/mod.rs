//! `verify`: whether a release is whole after an upgrade, whoever made it.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what the command line asks for |
//! | [`checks`] | pure: from what was read to checks |
//! | [`survey`] | asks Kubernetes, etcd and Milvus, and puts the checks together |
//!
//! Everything only reads but the probe, which works on a collection of its own.

pub mod checks;
pub mod settings;
pub mod survey;

pub use settings::{Probe, Settings};
pub use survey::{Surveyed, VerifyError, survey};
