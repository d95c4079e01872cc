//! Errors of a run. Each contains what happened, the state of the data and what to do next.

use std::fmt;

use milvus_guard_sources::etcd::failure::Failure;

use super::holder::Holder;

/// Why a verb did not complete.
#[derive(Debug)]
pub enum MetaError {
    /// Wrong usage: nothing was read.
    Usage(String),
    /// Refused: nothing was changed.
    Refused {
        /// What happened, and to which object.
        why: String,
        /// What to do next.
        next: String,
    },
    /// etcd could not be read before the run began: nothing was changed, and the state is unknown.
    Unread {
        /// What happened.
        why: String,
        /// What to do next.
        next: String,
    },
    /// Stopped in between; the run can be resumed.
    Stopped {
        /// What happened, and to which object.
        why: String,
        /// The state of the data.
        data: String,
        /// What to do next.
        next: String,
    },
    /// Another run is in progress.
    Locked(Box<Holder>),
}

impl MetaError {
    /// Refused: nothing was changed.
    pub(super) fn refused(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused {
            why: why.into(),
            next: next.into(),
        }
    }

    /// etcd could not be read.
    pub(super) fn unread(failure: Failure) -> Self {
        Self::Unread {
            why: failure.reason,
            next: "run the same command again.".into(),
        }
    }

    /// Stopped in between.
    pub(super) fn stopped(
        why: impl Into<String>,
        data: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::Stopped {
            why: why.into(),
            data: data.into(),
            next: next.into(),
        }
    }

    /// What happened.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Usage(why)
            | Self::Refused { why, .. }
            | Self::Unread { why, .. }
            | Self::Stopped { why, .. } => why.clone(),
            Self::Locked(holder) => format!("another run holds the lock: {holder}"),
        }
    }

    /// The state of the data in one sentence.
    #[must_use]
    pub fn data(&self) -> &str {
        match self {
            Self::Usage(_) | Self::Refused { .. } | Self::Unread { .. } => "Nothing was changed.",
            Self::Locked(_) => "This command changed nothing; the data is as that run leaves it.",
            Self::Stopped { data, .. } => data,
        }
    }

    /// What to do next; empty if the reason contains it.
    #[must_use]
    pub fn next(&self) -> String {
        match self {
            Self::Usage(_) => String::new(),
            Self::Refused { next, .. } | Self::Unread { next, .. } | Self::Stopped { next, .. } => {
                next.clone()
            }
            Self::Locked(holder) => holder.next(),
        }
    }

    /// The outcome as one word for programs.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            // A verb that changes the metadata is refused, so `outcome` keeps this word.
            Self::Refused { .. } | Self::Unread { .. } => "refused",
            Self::Stopped { .. } => "stopped",
            Self::Locked(_) => "locked",
        }
    }
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why())?;
        if !matches!(self, Self::Usage(_)) {
            write!(f, "\n{}", self.data())?;
        }
        let next = self.next();
        if next.is_empty() {
            Ok(())
        } else {
            write!(f, "\nnext: {next}")
        }
    }
}

impl std::error::Error for MetaError {}
