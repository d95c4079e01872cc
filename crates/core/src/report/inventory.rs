//! The releases of an audit as a table: version, newest release of the line, release to move to,
//! findings by action, last run.

use anstyle::Style as Ansi;
use schemars::JsonSchema;
use serde::Serialize;
use textwrap::core::display_width;

use crate::{
    inventory::{self, LastRun, Standing},
    policy::Action,
    text::plain,
};

use super::{FindingEntry, ReleaseEntry, Report, format::Style};

/// How many findings of a release do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingCounts {
    /// Denials; problems of an audit.
    pub deny: usize,
    /// Held changes.
    pub hold: usize,
    /// Warnings.
    pub warn: usize,
    /// Notes.
    pub audit: usize,
    /// What could not be evaluated.
    pub not_evaluated: usize,
}

impl FindingCounts {
    pub(super) const fn add(&mut self, finding: &FindingEntry) {
        *match finding.action {
            _ if finding.not_evaluated => &mut self.not_evaluated,
            Action::Deny => &mut self.deny,
            Action::Hold => &mut self.hold,
            Action::Warn => &mut self.warn,
            Action::Audit => &mut self.audit,
        } += 1;
    }
}

/// The standing of a running release among the releases of Milvus.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandingEntry {
    /// Newest release of its line that the data knows.
    pub newest_of_line: Option<String>,
    /// Day on which that was published (`2026-02-27`).
    pub newest_of_line_published: Option<String>,
    /// The release that `plan --to latest` leads to.
    pub target: Option<String>,
}

impl StandingEntry {
    pub(super) fn of(standing: &Standing) -> Self {
        Self {
            newest_of_line: standing
                .newest_of_line
                .map(|newest| newest.version.to_string()),
            newest_of_line_published: standing
                .newest_of_line
                .map(|newest| newest.published.to_string()),
            target: standing.target.map(|version| version.to_string()),
        }
    }
}

/// The last run of a release.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRunEntry {
    /// `namespace/name` of the `UpgradeRun`.
    pub run: String,
    /// What it did: `migration`, `rolling upgrade`, `held change`.
    pub kind: String,
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// Its phase.
    pub phase: String,
    /// When it began (RFC 3339).
    pub started: Option<String>,
}

impl LastRunEntry {
    fn of(run: &LastRun) -> Self {
        Self {
            run: run.run.clone(),
            kind: inventory::words(run.kind).to_owned(),
            from: run.from.to_string(),
            to: run.to.to_string(),
            phase: run.phase.name().to_owned(),
            started: run.started.map(|at| at.to_string()),
        }
    }

    /// The day on which it began.
    fn day(&self) -> Option<&str> {
        self.started.as_ref().and_then(|at| at.get(..10))
    }
}

impl Report {
    /// Adds the last run of each release.
    pub fn add_last_runs(&mut self, runs: &[LastRun]) {
        for release in &mut self.releases {
            let namespace = release.namespace.as_deref();
            let mut runs = runs.iter();
            let last = runs.find(|run| run.is_of(&release.name, namespace));
            release.last_run = last.map(LastRunEntry::of);
        }
    }
}

/// The severity of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Everything.
    Full,
    /// What fits into a table of 120 columns.
    Table,
    /// What fits into a table of 80 columns.
    Narrow,
}

/// The columns after namespace and release.
pub(super) const COLUMNS: [&str; 7] = [
    "Version",
    "Newest of line",
    "Target",
    "Deny",
    "Warn",
    "Note",
    "Last run",
];

/// The cells of a release in [`COLUMNS`]; `-` where nothing is known.
pub(super) fn cells(release: &ReleaseEntry) -> [String; 7] {
    detailed(release, Detail::Full)
}

fn detailed(release: &ReleaseEntry, detail: Detail) -> [String; 7] {
    let standing = release.standing.as_ref();
    let target = standing.and_then(|standing| standing.target.clone());
    let counts = release.findings;
    let or_dash = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| plain(&text));
    [
        version(release, detail),
        or_dash(standing.and_then(|standing| newest(standing, detail))),
        or_dash(target),
        counts.deny.to_string(),
        (counts.hold + counts.warn).to_string(),
        counts.audit.to_string(),
        or_dash(release.last_run.as_ref().map(|run| last_run(run, detail))),
    ]
}

/// The version that runs; two where the components differ.
fn version(release: &ReleaseEntry, detail: Detail) -> String {
    let known =
        |text: Option<&String>| text.map_or_else(|| "unknown".to_owned(), |text| plain(text));
    let (from, to) = (known(release.from.as_ref()), known(release.to.as_ref()));
    match detail {
        _ if release.from == release.to => to,
        Detail::Full => format!("{from} to {to}, mixed"),
        Detail::Table | Detail::Narrow => format!("{from} to {to}"),
    }
}

fn newest(standing: &StandingEntry, detail: Detail) -> Option<String> {
    let version = standing.newest_of_line.as_deref()?;
    match (&standing.newest_of_line_published, detail) {
        (Some(day), Detail::Full | Detail::Table) => Some(format!("{version} ({day})")),
        _ => Some(version.to_owned()),
    }
}

fn last_run(run: &LastRunEntry, detail: Detail) -> String {
    let day = run.day().map_or_else(String::new, |day| format!(" {day}"));
    match detail {
        Detail::Full => format!("{} to {}: {}{day}", run.kind, run.to, run.phase),
        Detail::Table => format!("{} {}{day}", run.to, run.phase),
        Detail::Narrow => run.phase.clone(),
    }
}

/// The table that fits the screen, or a block for each release where none does.
pub(super) fn text(releases: &[ReleaseEntry], style: &Style) -> String {
    [Detail::Table, Detail::Narrow]
        .into_iter()
        .find_map(|detail| table(releases, detail, style))
        .unwrap_or_else(|| blocks(releases, style))
}

fn rows(releases: &[ReleaseEntry], detail: Detail) -> Vec<Vec<String>> {
    let row = |release: &ReleaseEntry| {
        let namespace = release
            .namespace
            .as_deref()
            .map_or_else(|| "-".to_owned(), plain);
        let mut row = vec![namespace, plain(&release.name)];
        row.extend(detailed(release, detail));
        row
    };
    releases.iter().map(row).collect()
}

/// `None` if it is wider than the screen.
fn table(releases: &[ReleaseEntry], detail: Detail, style: &Style) -> Option<String> {
    let mut titles: Vec<String> = ["Namespace", "Release"]
        .into_iter()
        .chain(COLUMNS)
        .map(str::to_uppercase)
        .collect();
    if detail == Detail::Narrow {
        // Above a version alone, the whole title would take the room of another column.
        "NEWEST".clone_into(&mut titles[3]);
    }
    let rows = rows(releases, detail);
    let widest = |column: usize| {
        let cells = rows.iter().chain([&titles]);
        cells
            .map(|row| display_width(&row[column]))
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(widest).collect();
    if widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1) > style.width {
        return None;
    }
    let mut out = bold(&line(&titles, &widths), style) + "\n";
    for row in &rows {
        out += &(line(row, &widths) + "\n");
    }
    Some(out)
}

/// Between two columns.
const GAP: &str = "  ";

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        format!(
            "{cell}{}",
            " ".repeat(width.saturating_sub(display_width(cell)))
        )
    });
    padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

fn bold(text: &str, style: &Style) -> String {
    if style.color {
        let bold = Ansi::new().bold();
        format!("{bold}{text}{bold:#}")
    } else {
        text.to_owned()
    }
}

/// For each release its name, then a line for each column.
fn blocks(releases: &[ReleaseEntry], style: &Style) -> String {
    let names = COLUMNS.map(str::to_lowercase);
    let widest = names.iter().map(String::len).max().unwrap_or_default();
    let mut out = String::new();
    for release in releases {
        out += &(bold(&plain(&release.label()), style) + "\n");
        for (name, cell) in names.iter().zip(cells(release)) {
            let first = format!("  {name:<widest$}{GAP}");
            let rest = " ".repeat(first.len());
            let options = textwrap::Options::new(style.width.max(40))
                .initial_indent(&first)
                .subsequent_indent(&rest)
                .break_words(false)
                .word_separator(textwrap::WordSeparator::AsciiSpace)
                .word_splitter(textwrap::WordSplitter::NoHyphenation);
            out += &(textwrap::fill(&cell, options) + "\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Show, sample};

    fn at(width: usize) -> String {
        let style = Style {
            width,
            show: Show::Audit,
            ..Style::default()
        };
        text(&sample::audit().releases, &style)
    }

    #[test]
    fn a_wide_screen_shows_a_table_and_a_narrow_one_blocks() {
        insta::assert_snapshot!(at(120));
        insta::assert_snapshot!(at(95));
        insta::assert_snapshot!(at(60));
        for width in [40, 60, 80, 95, 100, 120] {
            for line in at(width).lines() {
                assert!(display_width(line) <= width, "{line}");
            }
        }
    }

    #[test]
    fn findings_are_counted_for_each_release() {
        let report = sample::audit();
        let total = |pick: fn(&FindingCounts) -> usize| -> usize {
            report
                .releases
                .iter()
                .map(|release| pick(&release.findings))
                .sum()
        };
        assert_eq!(
            total(|counts| counts.deny),
            report.acting(Action::Deny).count()
        );
        assert_eq!(
            total(|counts| counts.warn),
            report.acting(Action::Warn).count()
        );
        assert!(total(|counts| counts.warn) > 0, "the sample has warnings");
    }
}
