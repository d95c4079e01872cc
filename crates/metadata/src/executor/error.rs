//! How a run can end other than as planned. Each end says what happened, state of the data and
//! what to do next.

use std::fmt;

use milvus_guard_sources::etcd::failure::Failure;

use super::holder::Holder;

/// Why a verb did not reach its end.
#[derive(Debug)]
pub enum MetaError {
    /// Wrong usage: nothing was looked at.
    Usage(String),
    /// Refused: nothing was changed.
    Refused {
        /// What happened, to what.
        why: String,
        /// What to do next.
        next: String,
    },
    /// etcd could not be read before anything was done: nothing was changed, and nothing is known.
    Unread {
        /// Why.
        why: String,
        /// What to do next.
        next: String,
    },
    /// Stopped on the way; it can go on.
    Stopped {
        /// What happened, to what.
        why: String,
        /// How the data stands.
        data: String,
        /// What to do next.
        next: String,
    },
    /// Another run is at work.
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

    /// Stopped on the way.
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

    /// How the data stands, in one sentence.
    #[must_use]
    pub fn data(&self) -> &str {
        match self {
            Self::Usage(_) | Self::Refused { .. } | Self::Unread { .. } => "Nothing was changed.",
            Self::Locked(_) => "This command changed nothing; the data is as that run leaves it.",
            Self::Stopped { data, .. } => data,
        }
    }

    /// What to do next; empty where the reason says it all.
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

    /// One word for programs.
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
