//! `verify`: whether a release is complete after an upgrade, no matter which tool made it.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | the settings that the command line gives |
//! | [`checks`] | pure: turns what was read into checks |
//! | [`kept`] | the record of a state, kept in the cluster |
//! | [`mod@survey`] | queries Kubernetes, etcd and Milvus, and collects the checks |
//!
//! Only two parts write: the probe, which creates and drops its collection, and a record that is
//! kept.

pub mod checks;
pub mod kept;
pub mod settings;
pub mod survey;

pub use settings::{Probe, Settings};
pub use survey::{NoRecord, Surveyed, survey};
