//! `policy lint`: finds mistakes in policies and exceptions.

use std::{collections::BTreeSet, path::PathBuf};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use milvus_guard_core::{
    policy::{
        lint::{Severity, lint},
        read::{NO_DOCUMENT, read},
    },
    text::{self, plain},
};
use milvus_guard_sources::files::read_named_text;

use crate::cli::{
    exit::{Done, Exit, Failure},
    output::{Screen, print},
    policies,
    structured::Structured,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LintFormat {
    /// For a person
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For annotations in GitHub Actions
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LintFailOn {
    /// Errors
    Error,
    /// Warnings too
    #[value(alias = "warn")]
    Warning,
    /// Nothing
    Never,
}

#[derive(Serialize)]
struct LintEntry {
    severity: &'static str,
    source: String,
    document: u32,
    line: u32,
    message: String,
}

pub(super) fn run(
    paths: &[PathBuf],
    format: LintFormat,
    fail_on: LintFailOn,
    now: Timestamp,
    screen: &Screen,
) -> Done {
    let mut all = Vec::new();
    let mut entries = Vec::new();
    let mut unread: BTreeSet<(String, u32)> = BTreeSet::new();
    for path in paths {
        for file in policies::expand(path)? {
            let (name, text) = read_named_text(&file).map_err(Failure::usage)?;
            let (read, errors) = read(&text, &name);
            all.extend(read);
            let documents = errors.iter().filter(|error| error.message != NO_DOCUMENT);
            unread.extend(
                documents.map(|error| (error.origin.source.to_string(), error.origin.document)),
            );
            entries.extend(errors.into_iter().map(|error| LintEntry {
                severity: "error",
                source: error.origin.source.to_string(),
                document: error.origin.document,
                line: error.origin.line,
                message: error.message,
            }));
        }
    }
    entries.extend(lint(&all, now).into_iter().map(|lint| LintEntry {
        severity: if lint.severity == Severity::Error {
            "error"
        } else {
            "warning"
        },
        source: lint.origin.source.to_string(),
        document: lint.origin.document,
        line: lint.origin.line,
        message: lint.message,
    }));
    entries.sort_by(|a, b| (&a.source, a.line).cmp(&(&b.source, b.line)));
    let count = |severity: &str| {
        entries
            .iter()
            .filter(|entry| entry.severity == severity)
            .count()
    };
    let (errors, warnings) = (count("error"), count("warning"));
    print(&match format {
        LintFormat::Json => Structured::Json.render(&entries)?,
        LintFormat::Yaml => Structured::Yaml.render(&entries)?,
        LintFormat::Github => entries
            .iter()
            .map(|entry| {
                let text = plain(&entry.message).replace('%', "%25");
                format!(
                    "::{} file={},line={},title=policy lint::{text}\n",
                    entry.severity,
                    github_property(&entry.source),
                    entry.line
                )
            })
            .collect(),
        LintFormat::Text => {
            let mut out: String = entries
                .iter()
                .map(|entry| {
                    format!(
                        "{}:{}: {}: {}\n",
                        plain(&entry.source),
                        entry.line,
                        entry.severity,
                        plain(&entry.message)
                    )
                })
                .collect();
            out += &format!(
                "{} checked: {}, {}\n",
                text::count(all.len() + unread.len(), "document"),
                text::count(errors, "error"),
                text::count(warnings, "warning"),
            );
            screen.lines(&out)
        }
    })?;
    let failed = match fail_on {
        LintFailOn::Error => errors > 0,
        LintFailOn::Warning => errors + warnings > 0,
        LintFailOn::Never => false,
    };
    Ok(if failed { Exit::Found } else { Exit::Clean })
}

/// A property of a workflow command of GitHub.
fn github_property(text: &str) -> String {
    plain(text)
        .replace('%', "%25")
        .replace(':', "%3A")
        .replace(',', "%2C")
}
