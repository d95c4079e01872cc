//! The formats of a report, and where each goes.

use std::{fmt, path::PathBuf, str::FromStr};

use anstyle::AnsiColor;

use crate::layout;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// For a person at a terminal.
    Text,
    /// For programs.
    Json,
    /// For programs that prefer it.
    Yaml,
    /// For a comment on a pull request.
    Markdown,
    /// For a change ticket: one page for a browser and for paper.
    Html,
    /// For test reports of pipelines.
    Junit,
    /// For code scanning.
    Sarif,
    /// For annotations in GitHub Actions.
    Github,
    /// For tools that show policy reports.
    OpenReports,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Json,
        Self::Yaml,
        Self::Markdown,
        Self::Html,
        Self::Junit,
        Self::Sarif,
        Self::Github,
        Self::OpenReports,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Junit => "junit",
            Self::Sarif => "sarif",
            Self::Github => "github",
            Self::OpenReports => "openreports",
        }
    }

    /// The names as one phrase: `text, json or yaml`.
    #[must_use]
    pub fn names() -> String {
        let names = Self::ALL.map(Self::name);
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        format!("{} or {last}", others.join(", "))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A format and where it goes: `sarif`, or `sarif=out.sarif`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The format.
    pub format: Format,
    /// A file; nothing means standard output.
    pub path: Option<PathBuf>,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, path) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("'{text}' does not name a file after the '='")),
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (text, None),
        };
        let format = Format::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| {
                let names = Format::names();
                format!("'{name}' is not a format; use {names}, each also as FORMAT=FILE")
            })?;
        Ok(Self { format, path })
    }
}

/// How much of a report the forms `text` and `sarif` show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Show {
    /// The releases and how many findings each has.
    Releases,
    /// Denials only.
    Deny,
    /// Denials and warnings.
    Warn,
    /// Every finding, and the result of every check.
    #[default]
    Audit,
    /// The same, with a line for each check that passed.
    All,
}

/// How the text form looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// With marks outside ASCII.
    pub unicode: bool,
    /// Columns.
    pub width: usize,
    /// Whether commands that are longer are continued on the next line. In a log or a file they
    /// stay whole.
    pub continues_commands: bool,
    /// How much is shown.
    pub show: Show,
}

impl Style {
    /// A command, ready to be copied.
    #[must_use]
    pub fn command(&self, first: &str, command: &str) -> String {
        let paint = if self.color {
            AnsiColor::Cyan.on_default()
        } else {
            anstyle::Style::new()
        };
        let width = self.continues_commands.then_some(self.width);
        layout::command(width, first, command, paint)
    }

    /// A text, in a colour where there are any.
    #[must_use]
    pub fn paint(&self, look: anstyle::Style, text: &str) -> String {
        if self.color {
            format!("{look}{text}{look:#}")
        } else {
            text.to_owned()
        }
    }
}

impl Default for Style {
    fn default() -> Self {
        Self {
            color: false,
            unicode: true,
            width: 100,
            continues_commands: true,
            show: Show::Audit,
        }
    }
}
