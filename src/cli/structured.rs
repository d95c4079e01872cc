//! Results for programs: the same value as JSON or YAML, for every verb.

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// `--format` of the verbs that print a result for a person or for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// For a person at a terminal
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
}

impl FormatArg {
    /// How programs get the result; `None` if it is text for a person.
    pub(super) const fn structured(self) -> Option<Structured> {
        match self {
            Self::Text => None,
            Self::Json => Some(Structured::Json),
            Self::Yaml => Some(Structured::Yaml),
        }
    }
}

/// A format that programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structured {
    Json,
    Yaml,
}

impl Structured {
    /// The value in this format, with a line feed at its end.
    ///
    /// # Errors
    /// A value that the format cannot hold.
    pub(super) fn render(self, value: &impl Serialize) -> Result<String, Failure> {
        match self {
            Self::Json => serde_json::to_string_pretty(value)
                .map(|text| text + "\n")
                .map_err(Failure::no_verdict),
            Self::Yaml => serde_saphyr::to_string(value).map_err(Failure::no_verdict),
        }
    }
}
