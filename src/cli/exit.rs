//! Exit codes, the same in every format.

use std::{fmt, process::ExitCode};

/// The result of a verb, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Judging: nothing at or above `--fail-on`.
    Clean,
    /// Judging: something at or above `--fail-on`.
    Found,
    /// A bad flag, or input that cannot be read or parsed, or that holds no Milvus.
    Usage,
    /// Judging: no verdict could be formed: no cluster, no permission, or a cluster that holds
    /// nothing to judge.
    NoVerdict,
    /// Running: the plan was carried out.
    Reached,
    /// Running: refused, nothing was changed.
    Refused,
    /// Running: stopped, the same command resumes.
    Stopped,
    /// Running: stopped, and everything was restored.
    RolledBack,
    /// Running: another run holds the lock.
    Locked,
    /// The exit code of Helm.
    OfProgram(u8),
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean | Self::Reached => 0,
            Self::Found | Self::Refused => 1,
            Self::Usage => 2,
            Self::NoVerdict | Self::Stopped => 3,
            Self::RolledBack => 4,
            Self::Locked => 5,
            Self::OfProgram(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub(super) struct Failure {
    /// The message for the user.
    pub(super) message: String,
    /// The exit code of the process.
    pub(super) exit: Exit,
}

impl Failure {
    /// Wrong usage, or input that cannot be read.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: Exit::Usage,
        }
    }

    /// No cluster, no permission, or nothing there to judge.
    pub(super) fn no_verdict(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: Exit::NoVerdict,
        }
    }
}

pub(super) type Done = Result<Exit, Failure>;
