//! Calendar days: when a release was published, and of which day the data is.

use std::{fmt, str::FromStr};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::version::{VersionError, serde_as_text};

/// A day of the Gregorian calendar, written `2026-11-28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Day(Date);

impl Day {
    /// Reads `20261128`, as image tags write a day. A time of day may follow (12 or 14 digits).
    ///
    /// `None` if the text is not such a number, or not a day between 2015 and 2099: Milvus did not
    /// exist before, and other numbers of eight digits are hashes or build numbers.
    #[must_use]
    pub fn of_tag(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i8>().ok();
        if !matches!(text.len(), 8 | 12 | 14) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let year = text
            .get(..4)?
            .parse::<i16>()
            .ok()
            .filter(|year| (2015..2100).contains(year))?;
        Date::new(year, number(4..6)?, number(6..8)?).ok().map(Self)
    }

    /// The day as a tag writes it: `20261128`.
    #[must_use]
    pub fn tag(self) -> String {
        format!(
            "{:04}{:02}{:02}",
            self.0.year(),
            self.0.month(),
            self.0.day()
        )
    }

    /// The first moment of the day in UTC, in seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_or(0, |zoned| zoned.timestamp().as_second())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Day {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || VersionError {
            text: text.into(),
            expected: "day (like 2026-11-28)",
        };
        // jiff would also read a time behind the date.
        if text.len() != 10 {
            return Err(error());
        }
        text.parse().map(Self).map_err(|_| error())
    }
}

serde_as_text!(Day);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("20250410", Some("2025-04-10"))]
    #[case("202504101530", Some("2025-04-10"))]
    #[case("20250230", None)]
    #[case("19700101", None)]
    #[case("2025041", None)]
    #[case("2025041x", None)]
    fn days_in_tags(#[case] text: &str, #[case] day: Option<&str>) {
        assert_eq!(Day::of_tag(text).map(|day| day.to_string()).as_deref(), day);
    }

    #[test]
    fn days_in_data() {
        let day: Day = "2026-11-28".parse().unwrap();
        assert_eq!(
            (day.tag().as_str(), day.seconds()),
            ("20261128", 1_795_824_000)
        );
        assert!("2026-11-31".parse::<Day>().is_err() && "2026-11-28T00:00".parse::<Day>().is_err());
    }
}
