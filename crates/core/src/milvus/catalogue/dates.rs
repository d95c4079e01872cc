//! When releases were published, and of which day the data is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    day::Day,
    version::{Line, Version},
};

use super::Catalogue;

/// A release and the day on which it was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Released {
    /// Release.
    pub version: Version,
    /// Day of publication.
    pub date: Day,
    /// Where that is known from, where not from the release notes of its line.
    #[serde(default)]
    pub source: Vec<String>,
}

impl Catalogue {
    /// The day on which a release was published; `None` if it is not known.
    #[must_use]
    pub fn released(&self, version: Version) -> Option<Day> {
        self.released
            .iter()
            .find(|row| row.version == version)
            .map(|row| row.date)
    }

    /// The newest release of a line that was published on `day` or before; `None` if none is known.
    #[must_use]
    pub fn newest_on(&self, line: Line, day: Day) -> Option<Version> {
        let known = self
            .released
            .iter()
            .filter(|row| row.version.line() == line && row.date <= day);
        known.map(|row| row.version).max()
    }

    /// Of which day the data is: the newest day that one of its files names.
    #[must_use]
    pub fn as_of(&self) -> Option<Day> {
        self.as_of
    }
}
