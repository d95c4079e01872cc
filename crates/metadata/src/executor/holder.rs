//! Who holds the lock on the metadata.

use std::fmt;

use jiff::Timestamp;
use milvus_guard_core::error_text;
use serde::{Deserialize, Serialize};

use super::process::Process;

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Unlike any other.
    pub id: String,
    /// What it does: `migrate`, `restore`.
    pub verb: String,
    /// Which process.
    #[serde(flatten)]
    pub process: Process,
    /// Since when (RFC 3339).
    pub since: String,
    /// Seconds that the lock lasts if no one renews it.
    #[serde(skip)]
    pub seconds_left: Option<i64>,
    /// It is the official tool's session.
    #[serde(skip)]
    pub is_official_tool: bool,
}

impl Holder {
    pub(super) fn this(verb: &str) -> Self {
        let process = Process::this();
        let now = Timestamp::now();
        Self {
            id: format!("{}-{}-{}", process.host, process.pid, now.as_nanosecond()),
            verb: verb.into(),
            process,
            since: format!("{now:.0}"),
            seconds_left: None,
            is_official_tool: false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn next(&self) -> String {
        let ends = match self.seconds_left {
            Some(seconds) => {
                format!("if that process no longer runs, its lock expires within {seconds} seconds")
            }
            None => "its lock has no lease: if that process no longer runs, delete the key \
                     manually"
                .into(),
        };
        format!("wait for it to end, then run the same command again; {ends}.")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_official_tool {
            return write!(
                f,
                "the official migration tool ({})",
                error_text::line(&self.id)
            );
        }
        let line = error_text::line;
        write!(
            f,
            "{} by process {} on {}, since {}",
            line(&self.verb),
            self.process.pid,
            line(&self.process.host),
            line(&self.since)
        )
    }
}
