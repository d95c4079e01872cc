use std::fmt;

/// Why a part of the test bed could not be built, started or called. The text is for developers and
/// contains the last log lines of a program that failed.
#[derive(Debug)]
pub struct Error {
    message: String,
    port_clash: bool,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            port_clash: false,
        }
    }

    /// An error of `source` with the action that failed.
    pub(crate) fn doing(what: impl fmt::Display, source: impl fmt::Display) -> Self {
        Self::new(format!("{what}: {source}"))
    }

    /// Another program has taken the port that was found free: a retry with other ports may
    /// succeed.
    pub(crate) fn with_port_clash(mut self, clash: bool) -> Self {
        self.port_clash = clash;
        self
    }

    pub(crate) fn is_port_clash(&self) -> bool {
        self.port_clash
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Ends the test with the error's own text instead of its `Debug` form.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("test bed: {error}"),
    }
}
