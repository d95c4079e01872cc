//! The holder of the lock on the metadata.

use std::fmt;

use jiff::Timestamp;
use milvus_guard_core::error_text;
use serde::{Deserialize, Serialize};

use super::process::Process;

/// The holder of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Unique id.
    pub id: String,
    /// What it does: `migrate`, `restore`.
    pub verb: String,
    /// Process of the holder.
    #[serde(flatten)]
    pub process: Process,
    /// When it took the lock (RFC 3339).
    pub since: String,
    /// Seconds until the lock expires if it is not renewed.
    #[serde(skip)]
    pub seconds_left: Option<i64>,
    /// Whether it is a session of the official tool.
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

    /// What to do next.
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
