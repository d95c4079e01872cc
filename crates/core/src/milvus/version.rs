//! Milvus versions, release lines and ranges of versions.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `major.minor.patch`, without what a tag may append to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Version {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
    /// Patch number.
    pub patch: u16,
}

/// A release line, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Line {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
}

/// Text that is neither a version nor a range of versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {expected}")]
pub struct VersionError {
    /// What was read.
    pub text: String,
    /// What was expected.
    pub expected: &'static str,
}

impl Version {
    /// A version from its three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The release line.
    #[must_use]
    pub const fn line(self) -> Line {
        Line {
            major: self.major,
            minor: self.minor,
        }
    }

    /// Reads `1.2.3`, `1.2` or `1` (missing numbers are 0), with an optional `v` before it.
    #[must_use]
    pub fn parse_lenient(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        // Every image of every review comes through here, some of them often.
        let (mut numbers, mut position, mut digits) = ([0u16; 3], 0, 0);
        for byte in text.bytes() {
            if byte == b'.' {
                if digits == 0 {
                    return None;
                }
                (position, digits) = (position + 1, 0);
                continue;
            }
            let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
            let number = numbers.get_mut(position)?;
            *number = number.checked_mul(10)?.checked_add(digit)?;
            digits += 1;
        }
        (digits > 0).then(|| Self::new(numbers[0], numbers[1], numbers[2]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_lenient(text).ok_or_else(|| VersionError {
            text: text.into(),
            expected: "version (like 2.5.27)",
        })
    }
}

impl FromStr for Line {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('.').count() {
            2 => Version::parse_lenient(text).map(Version::line),
            _ => None,
        }
        .ok_or_else(|| VersionError {
            text: text.into(),
            expected: "release line (like 2.5)",
        })
    }
}

/// Serde by text for types that have `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(super) use serde_as_text;
serde_as_text!(Version, Line, Range);

/// A conjunction of comparisons, such as `>=2.5.16,<2.6.0`; `*` holds every version.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Range(Vec<(Comparison, Version)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Range {
    /// Whether `version` satisfies every comparison.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        self.0.iter().all(|(comparison, bound)| match comparison {
            Comparison::Less => version < *bound,
            Comparison::LessOrEqual => version <= *bound,
            Comparison::Equal => version == *bound,
            Comparison::GreaterOrEqual => version >= *bound,
            Comparison::Greater => version > *bound,
        })
    }

    /// Whether no version at all is in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let bounds = self.0.iter().map(|(_, bound)| *bound);
        // Where a range holds anything, it holds a bound, the version just above one, or the lowest
        // of all.
        let above = bounds.clone().map(|bound| Version {
            patch: bound.patch.saturating_add(1),
            ..bound
        });
        !bounds
            .chain(above)
            .chain([Version::new(0, 0, 0)])
            .any(|version| self.contains(version))
    }

    /// Whether the range sets no bound at all.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Range {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || VersionError {
            text: text.into(),
            expected: "range of versions (like >=2.5.16,<2.6.0 or *)",
        };
        if text.trim() == "*" {
            return Ok(Self(Vec::new()));
        }
        let comparisons = text.split(',').map(|part| {
            let part = part.trim();
            let (comparison, rest) = [
                ("<=", Comparison::LessOrEqual),
                (">=", Comparison::GreaterOrEqual),
                ("<", Comparison::Less),
                (">", Comparison::Greater),
                ("=", Comparison::Equal),
            ]
            .into_iter()
            .find_map(|(sign, comparison)| part.strip_prefix(sign).map(|rest| (comparison, rest)))
            .ok_or_else(error)?;
            Ok((
                comparison,
                Version::parse_lenient(rest.trim()).ok_or_else(error)?,
            ))
        });
        comparisons
            .collect::<Result<Vec<_>, VersionError>>()
            .map(Self)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (position, (comparison, version)) in self.0.iter().enumerate() {
            let sign = match comparison {
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Equal => "=",
                Comparison::GreaterOrEqual => ">=",
                Comparison::Greater => ">",
            };
            write!(f, "{}{sign}{version}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_and_compare() {
        assert_eq!("v2.5.12".parse(), Ok(Version::new(2, 5, 12)));
        assert_eq!("2.2".parse(), Ok(Version::new(2, 2, 0)));
        assert!("2.5.x".parse::<Version>().is_err());
        assert!("2..5".parse::<Version>().is_err());
        assert!("70000.1.1".parse::<Version>().is_err());
        assert!(Version::new(2, 10, 0) > Version::new(2, 9, 9));
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let range: Range = ">=2.5.16, <2.6.0".parse().unwrap();
        assert!(range.contains(Version::new(2, 5, 16)) && !range.contains(Version::new(2, 6, 0)));
        assert_eq!(range.to_string(), ">=2.5.16,<2.6.0");
        assert!(
            "*".parse::<Range>()
                .unwrap()
                .contains(Version::new(0, 0, 1))
        );
        assert!("2.5".parse::<Range>().is_err());
        let empty = |text: &str| text.parse::<Range>().unwrap().is_empty();
        assert!(empty(">=2.5.3,<2.5.3") && empty(">2.6.0,<2.5.0") && empty("=2.5.3,=2.5.4"));
        assert!(
            !empty("*")
                && !empty("<2.0.0")
                && !empty(">2.5.3")
                && !empty("=2.5.3")
                && !empty(">2.5.3,<2.6.0")
        );
    }
}
