//! The result of `verify` for a release after an upgrade, and the record of the state before it.
//!
//! A check that could not look never counts as passed: it is unknown, with the reason.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::loaded::{Baseline, CollectionBaseline},
    report::Tool,
    text::{count, plain},
};

/// Version of the JSON form of a verification. Fields may be added to it, never renamed.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/verification/v1";
/// Version of a record.
pub const RECORD_VERSION: &str = "guard.milvus.io/verification-record/v1";
/// Lines of one check that text shows. JSON has all.
const SHOWN: usize = 10;

/// The result of `verify`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// What made it.
    pub tool: Tool,
    /// Name of the release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was made.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The version that every component runs; null if they differ or it is unknown.
    pub version: Option<String>,
    /// The worst result of all checks.
    pub result: Outcome,
    /// Each check and how it came out.
    pub checks: Vec<Check>,
}

/// How a check came out, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was not asked for, or does not apply.
    Skipped,
    /// Everything that was looked at is right.
    Passed,
    /// It could not be looked at.
    Unknown,
    /// Something is wrong.
    Failed,
}

impl Outcome {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::Unknown => "unknown",
            Self::Failed => "FAILED",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name: `workloads`, `versions`, `sessions`, `milvus`, `collections`, `privileges`, `probe`
    /// or `run`.
    pub id: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, why it could not be looked at, or what was looked at.
    pub messages: Vec<String>,
    /// What to do; null where nothing is to be done.
    pub next: Option<String>,
}

impl Check {
    fn new(id: &str, outcome: Outcome, messages: &[String]) -> Self {
        Self {
            id: id.to_owned(),
            outcome,
            messages: messages.iter().map(|message| plain(message)).collect(),
            next: None,
        }
    }

    /// Correct; `seen` names what was looked at.
    #[must_use]
    pub fn passed(id: &str, seen: impl Into<String>) -> Self {
        Self::new(id, Outcome::Passed, &[seen.into()])
    }

    /// It was not looked at, and need not be.
    #[must_use]
    pub fn skipped(id: &str, why: impl Into<String>) -> Self {
        Self::new(id, Outcome::Skipped, &[why.into()])
    }

    /// It could not be looked at.
    #[must_use]
    pub fn unknown(id: &str, why: impl Into<String>) -> Self {
        Self::new(id, Outcome::Unknown, &[why.into()])
    }

    /// Failed if anything was found, else passed.
    #[must_use]
    pub fn of(id: &str, found: &[String], seen: impl Into<String>) -> Self {
        if found.is_empty() {
            Self::passed(id, seen)
        } else {
            Self::new(id, Outcome::Failed, found)
        }
    }

    /// With what to do where it did not pass.
    #[must_use]
    pub fn or_else(mut self, next: impl Into<String>) -> Self {
        if matches!(self.outcome, Outcome::Failed | Outcome::Unknown) {
            self.next = Some(next.into());
        }
        self
    }

    /// With something else to know.
    #[must_use]
    pub fn noting(mut self, notes: &[String]) -> Self {
        self.messages
            .extend(notes.iter().map(|note| format!("note: {}", plain(note))));
        self
    }
}

impl Verification {
    /// The checks of a release.
    #[must_use]
    pub fn new(
        (release, namespace): (&str, &str),
        at: Timestamp,
        version: Option<String>,
        checks: Vec<Check>,
    ) -> Self {
        let outcomes = checks.iter().map(|check| check.outcome);
        Self {
            schema_version: SCHEMA_VERSION.into(),
            tool: Tool {
                name: "milvus-guard".into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            at,
            version,
            result: outcomes.max().unwrap_or(Outcome::Skipped),
            checks,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.headline());
        for check in &self.checks {
            let mut lines = check.messages.iter();
            let first = lines.next().map_or("", String::as_str);
            let _ = writeln!(text, "{:<8} {:<12} {first}", check.outcome.word(), check.id);
            for line in lines.by_ref().take(SHOWN - 1) {
                let _ = writeln!(text, "{:<21} {line}", "");
            }
            let more = check.messages.len().saturating_sub(SHOWN);
            if more > 0 {
                let _ = writeln!(text, "{:<21} and {more} more; --format json shows all", "");
            }
            if let Some(next) = &check.next {
                let _ = writeln!(text, "{:<21} next: {}", "", plain(next));
            }
        }
        text
    }

    fn headline(&self) -> String {
        let of = |outcome: Outcome| {
            let checks = self.checks.iter();
            checks.filter(|check| check.outcome == outcome).count()
        };
        let version = self
            .version
            .as_ref()
            .map_or_else(String::new, |version| format!(", Milvus {version}"));
        let found = match self.result {
            Outcome::Failed | Outcome::Unknown => {
                let failed = count(of(Outcome::Failed), "check");
                let unknown = count(of(Outcome::Unknown), "check");
                format!("not verified: {failed} failed, {unknown} could not be made")
            }
            Outcome::Passed => format!("verified: {} passed", count(of(Outcome::Passed), "check")),
            Outcome::Skipped => "not verified: no check was made".into(),
        };
        format!(
            "{} in namespace {}{version}: {found}",
            plain(&self.release),
            plain(&self.namespace)
        )
    }
}

/// The state of a release before an upgrade, to hold the state after it against
/// (`verify --record-to`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub schema_version: String,
    /// Name of the release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was made.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The version that every component ran; null if they differed or it was unknown.
    pub version: Option<String>,
    /// What was loaded.
    pub collections: Vec<CollectionBaseline>,
    /// Users of Milvus; null where they were not asked for.
    #[serde(default)]
    pub users: Option<BTreeSet<String>>,
    /// Roles; null where they were not asked for.
    #[serde(default)]
    pub roles: Option<BTreeSet<String>>,
}

/// Why a text is not the record that is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Something else, or damaged.
    #[error("it is not a record of verify: {0}")]
    NotARecord(String),
    /// A form that this version does not read.
    #[error("its schemaVersion is {0}, not {RECORD_VERSION}")]
    Form(String),
    /// The record of another release: name and namespace of each.
    #[error(
        "it is of release {} in namespace {}, not of {} in {}",
        .found[0], .found[1], .wanted[0], .wanted[1]
    )]
    OtherRelease {
        /// Of what it is.
        found: [String; 2],
        /// Of what it should be.
        wanted: [String; 2],
    },
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// Why it cannot be read, or is of another release or form.
    pub fn read(text: &str, release: &str, namespace: &str) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_str(text)
            .map_err(|error| RecordError::NotARecord(error.to_string()))?;
        if record.schema_version != RECORD_VERSION {
            return Err(RecordError::Form(plain(&record.schema_version)));
        }
        if (&*record.release, &*record.namespace) != (release, namespace) {
            return Err(RecordError::OtherRelease {
                found: [plain(&record.release), plain(&record.namespace)],
                wanted: [release.to_owned(), namespace.to_owned()],
            });
        }
        Ok(record)
    }

    /// The file's content.
    #[must_use]
    pub fn text(&self) -> String {
        // It holds only strings and numbers, which always serialise.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// To hold a later state against.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        Baseline {
            collections: self.collections.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(checks: Vec<Check>) -> Verification {
        let at = "2026-11-29T12:00:00Z".parse().unwrap();
        Verification::new(("my-release", "milvus"), at, Some("2.5.27".into()), checks)
    }

    #[test]
    fn what_could_not_be_looked_at_never_shows_as_passed() {
        let passed = Check::passed("versions", "8 components run 2.5.27");
        let skipped = Check::skipped("probe", "not asked for");
        let unknown = Check::unknown("collections", "Milvus did not answer");
        let failed = Check::of("sessions", &["session a is left".into()], "");
        let result = |checks: &[&Check]| of(checks.iter().copied().cloned().collect()).result;
        assert_eq!(result(&[]), Outcome::Skipped);
        assert_eq!(result(&[&passed, &skipped]), Outcome::Passed);
        assert_eq!(result(&[&passed, &unknown]), Outcome::Unknown);
        assert_eq!(result(&[&failed, &unknown]), Outcome::Failed);
        assert!(
            of(vec![skipped])
                .text()
                .starts_with("my-release in namespace milvus, Milvus 2.5.27: not verified: no"),
        );
    }

    #[test]
    fn text_is_safe_and_bounded() {
        let lines: Vec<String> = (0..12).map(|n| format!("line {n}\u{1b}[2J")).collect();
        let failed = Check::of("sessions", &lines, "").or_else("do this");
        let text = of(vec![failed]).text();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(
            text.contains("line 9") && !text.contains("line 10"),
            "{text}"
        );
        assert!(
            text.contains("and 2 more; --format json shows all"),
            "{text}"
        );
        assert!(text.contains("next: do this"), "{text}");
    }

    #[test]
    fn a_record_is_of_one_release() {
        let record = Record {
            schema_version: RECORD_VERSION.into(),
            release: "my-release".into(),
            namespace: "milvus".into(),
            at: "2026-11-29T12:00:00Z".parse().unwrap(),
            version: None,
            collections: vec![CollectionBaseline {
                name: "books".into(),
                newest: (1 << 53) + 1,
                ..CollectionBaseline::default()
            }],
            users: None,
            roles: None,
        };
        let read = |text: &str, name: &str| Record::read(text, name, "milvus");
        assert_eq!(read(&record.text(), "my-release"), Ok(record.clone()));
        assert!(
            read(&record.text(), "other")
                .unwrap_err()
                .to_string()
                .contains("not of other")
        );
        let later = Record {
            schema_version: "guard.milvus.io/verification-record/v2".into(),
            ..record
        };
        assert!(
            read(&later.text(), "my-release")
                .unwrap_err()
                .to_string()
                .contains("v2")
        );
        assert!(
            read("{}", "my-release")
                .unwrap_err()
                .to_string()
                .contains("not a record")
        );
    }
}
