//! How a run ended.

use super::{
    ApiError, RunRecordError,
    home::{HomeError, INSTALL_DEFINITIONS},
};

/// How a run, or an attempt to start one, ended. Every text is in whole sentences: the state of the
/// data, then the next command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It completed what was requested: the plan, a rollback or an abort.
    Reached(String),
    /// It did what it could and waits for a person or another tool, as planned.
    Waits(String),
    /// Refused, and nothing was changed.
    Refused(String),
    /// Stopped; the same command resumes.
    Stopped(String),
    /// It failed and was rolled back, as requested with `--on-failure rollback`.
    RolledBack(String),
    /// Another run holds the lock.
    Locked(String),
}

impl End {
    /// The message for the user.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Reached(text)
            | Self::Waits(text)
            | Self::Refused(text)
            | Self::Stopped(text)
            | Self::RolledBack(text)
            | Self::Locked(text) => text,
        }
    }

    /// The name of the outcome, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reached(_) => "reached",
            Self::Waits(_) => "waits",
            Self::Refused(_) => "refused",
            Self::Stopped(_) => "stopped",
            Self::RolledBack(_) => "rolled-back",
            Self::Locked(_) => "locked",
        }
    }
}

/// The end of a command that could not begin because of this error.
impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Stopped(format!(
            "Stopped: {error}. Nothing was changed. Next: rerun the command once the cluster is \
             reachable and you have the required permissions."
        ))
    }
}

impl From<HomeError> for End {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::NoDefinitions => Self::Stopped(format!(
                "Stopped: {error}. Nothing was changed. Next: {INSTALL_DEFINITIONS}"
            )),
            HomeError::Api(error) => error.into(),
        }
    }
}

impl From<RunRecordError> for End {
    fn from(error: RunRecordError) -> Self {
        match error {
            RunRecordError::Api(error) => error.into(),
            other => Self::Stopped(format!(
                "Stopped: {other}. Nothing was changed. Next: milvus-guard status"
            )),
        }
    }
}
