//! One file per step: what it does, what it waits for, how it is undone.

pub mod await_sessions;
pub mod backup;
pub mod check;
pub mod check_migrated;
pub mod clean_up;
pub mod hand_over;
pub mod migrate;
pub mod official_tool;
pub mod record;
pub mod record_evidence;
pub mod start;
pub mod start_by_helm;
pub mod stop;
pub mod verify;
