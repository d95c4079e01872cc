//! Exit codes, the same in every format.

use std::{fmt, process::ExitCode};

/// How a verb ended. Judging verbs (`check`, `audit`, `plan`, `policy`) end with the first four; running verbs (`migrate`,
/// `upgrade`, `meta`) give the same numbers their own meaning, see the constants, and add the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nothing at or above `--fail-on`.
    Clean = 0,
    /// Something at or above `--fail-on`.
    Found = 1,
    /// A bad flag, or input that cannot be read or parsed.
    Usage = 2,
    /// No verdict could be formed: no cluster, or no permission.
    NoVerdict = 3,
    /// A running verb stopped and put things back as they were.
    RolledBack = 4,
    /// Another run holds the lock.
    Locked = 5,
}

impl Exit {
    /// A running verb reached its plan.
    pub const REACHED: Self = Self::Clean;
    /// A running verb refused; nothing was changed.
    pub const REFUSED: Self = Self::Found;
    /// A running verb stopped; the same command goes on.
    pub const STOPPED: Self = Self::NoVerdict;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub(super) struct Failure {
    /// For the person who called it.
    pub(super) message: String,
    /// With which code the process ends.
    pub(super) exit: Exit,
}

impl Failure {
    /// Wrong usage, or input that cannot be read.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit: Exit::Usage }
    }

    /// No cluster, or no permission.
    #[allow(dead_code, reason = "used by the verbs that talk to a cluster")]
    pub(super) fn no_verdict(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit: Exit::NoVerdict }
    }
}

pub(super) type Done = Result<Exit, Failure>;
