//! What is wrong with a file of own rows, before anything is judged by it.

use serde::de::DeserializeOwned;

use crate::{
    manifest::{Tree, documents, node::Kind},
    milvus::{image::Build, version::Range},
};

use super::{
    BadRelease, Catalogue, Chart, ChartValue, DataFile, DefaultFlip, DependencyFacts, Downgrade,
    Hazard, HazardKind, Landing, Mirrors, Order, Path, Released, RemovedValue, SettingFact,
    Verdict,
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Line in the file.
    pub line: u32,
    /// Row, such as `releases[2] (our-row)`; empty where the whole file is meant.
    pub row: String,
    /// What is wrong.
    pub message: String,
    /// Whether the file is not valid YAML, so that nothing in it could be looked at.
    pub unreadable: bool,
}

/// Names of a data file's parts.
const PARTS: [&str; 15] = [
    "asOf",
    "released",
    "paths",
    "downgrades",
    "releases",
    "landing",
    "charts",
    "hazards",
    "removedValues",
    "defaultFlips",
    "chartValues",
    "orders",
    "mirrors",
    "dependencies",
    "settings",
];

/// Everything that is wrong with a file. `rules` are the ids of the rules that a row may name;
/// `base` is what the file will be laid over.
#[must_use]
pub fn validate(text: &str, base: &Catalogue, rules: &[&str]) -> Vec<Flaw> {
    let mut check = Check {
        rules,
        flaws: Vec::new(),
    };
    for document in documents(text) {
        match document {
            Ok(document) => check.document(&document.root, base),
            Err(error) => {
                check.flaws.push(Flaw {
                    line: error.line,
                    row: String::new(),
                    message: error.message,
                    unreadable: true,
                });
            }
        }
    }
    check.flaws.sort_by_key(|flaw| flaw.line);
    check.flaws
}

struct Check<'a> {
    rules: &'a [&'a str],
    flaws: Vec<Flaw>,
}

/// A row that could be read, and where it stands.
struct At<T> {
    line: u32,
    row: String,
    value: T,
}

impl Check<'_> {
    fn add(&mut self, line: u32, row: &str, message: impl Into<String>) {
        self.flaws.push(Flaw {
            line,
            row: row.to_owned(),
            message: message.into(),
            unreadable: false,
        });
    }

    fn document(&mut self, root: &Tree<'_>, base: &Catalogue) {
        if !root.is_mapping() {
            if !root.is_null() {
                self.add(
                    root.line,
                    "",
                    format!("a data file is a mapping of tables: {}", PARTS.join(", ")),
                );
            }
            return;
        }
        let mut tables = DataFile::default();
        for (name, node) in root.entries() {
            match name {
                "asOf" => tables.as_of = self.one("asOf", node),
                "released" => tables.released = self.released(node),
                "paths" => tables.paths = self.paths(node, base),
                "downgrades" => tables.downgrades = self.downgrades(node),
                "releases" => tables.releases = self.releases(node, base),
                "landing" => tables.landing = self.landing(node),
                "charts" => tables.charts = self.charts(node),
                "hazards" => tables.hazards = self.hazards(node),
                "removedValues" => {
                    tables.removed_values =
                        self.sourced("removedValues", node, |row: &RemovedValue| &row.source);
                }
                "chartValues" => {
                    tables.chart_values =
                        self.sourced("chartValues", node, |row: &ChartValue| &row.source);
                }
                "defaultFlips" => {
                    tables.default_flips =
                        self.sourced("defaultFlips", node, |row: &DefaultFlip| &row.source);
                }
                "orders" => tables.orders = self.sourced("orders", node, |row: &Order| &row.source),
                "mirrors" => tables.mirrors = self.one::<Mirrors>("mirrors", node),
                "dependencies" => {
                    tables.dependencies = self.one::<DependencyFacts>("dependencies", node);
                }
                "settings" => tables.settings = self.settings(node),
                unknown => self.add(
                    node.line,
                    "",
                    format!(
                        "'{unknown}' is not a table{}",
                        did_you_mean(unknown, &PARTS)
                    ),
                ),
            }
        }
        let mut merged = base.clone();
        merged.lay(tables, &mut Vec::new());
        self.landings_are_good(&merged, root);
    }

    fn one<T: DeserializeOwned>(&mut self, table: &str, node: &Tree<'_>) -> Option<T> {
        match serde_path_to_error::deserialize(node.to_json()) {
            Ok(value) => Some(value),
            Err(error) => {
                let path = error.path().to_string();
                let line = line_of(node, &path);
                let place = if path == "." {
                    String::new()
                } else {
                    format!("{path}: ")
                };
                self.add(
                    line,
                    table,
                    format!("{place}{}", explained(&error.inner().to_string())),
                );
                None
            }
        }
    }

    /// The rows of a table, each read separately, so that one wrong row does not hide others.
    fn rows<T: DeserializeOwned>(&mut self, table: &str, node: &Tree<'_>) -> Vec<At<T>> {
        if node.is_null() {
            return Vec::new();
        }
        if !matches!(node.kind, Kind::Sequence(_)) {
            self.add(node.line, table, "the table must be a list of rows");
            return Vec::new();
        }
        // The values of several charts have the same paths.
        let chart = |item: &Tree<'_>| item.text_at(&["chart"]).unwrap_or_default().to_owned();
        let mut seen: Vec<String> = Vec::new();
        let mut rows = Vec::new();
        for (position, item) in node.items().enumerate() {
            let key = ["id", "version", "line", "path", "at", "key"]
                .iter()
                .find_map(|name| item.text_at(&[name]));
            let row = key.map_or(format!("{table}[{position}]"), |key| {
                format!("{table}[{position}] ({key})")
            });
            if let Some(key) = key {
                let key = if table == "chartValues" {
                    &format!("{key} {}", chart(item)).trim_end().to_owned()
                } else {
                    key
                };
                if seen.iter().any(|known| known == key) {
                    self.add(
                        item.line,
                        &row,
                        format!(
                            "'{key}' occurs twice in this file; the later row would take \
                                 precedence"
                        ),
                    );
                }
                seen.push(key.to_owned());
            }
            if let Some(value) = self.one(&row, item) {
                rows.push(At {
                    line: item.line,
                    row,
                    value,
                });
            }
        }
        rows
    }

    fn sourced<T: DeserializeOwned>(
        &mut self,
        table: &str,
        node: &Tree<'_>,
        source: impl Fn(&T) -> &Vec<String>,
    ) -> Vec<T> {
        let rows = self.rows(table, node);
        for row in &rows {
            self.source(row, source(&row.value));
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn source<T>(&mut self, row: &At<T>, source: &[String]) {
        if source.iter().all(|text| text.trim().is_empty()) {
            self.add(
                row.line,
                &row.row,
                "source is empty: name the source of the row",
            );
        }
    }

    fn range<T>(&mut self, row: &At<T>, field: &str, range: &Range) {
        if range.is_empty() {
            self.add(
                row.line,
                &row.row,
                format!(
                    "{field}: '{range}' does not contain any version, so the row never \
                         applies"
                ),
            );
        }
    }

    fn rule<T>(&mut self, row: &At<T>, rule: &str) {
        if !self.rules.contains(&rule) {
            let near = did_you_mean(rule, self.rules);
            self.add(
                row.line,
                &row.row,
                format!("rule: '{rule}' is not a rule{near}"),
            );
        }
    }

    fn released(&mut self, node: &Tree<'_>) -> Vec<Released> {
        self.rows("released", node)
            .into_iter()
            .map(|row: At<Released>| row.value)
            .collect()
    }

    fn downgrades(&mut self, node: &Tree<'_>) -> Vec<Downgrade> {
        let rows: Vec<At<Downgrade>> = self.rows("downgrades", node);
        for row in &rows {
            self.source(row, &row.value.source);
            self.range(row, "from", &row.value.from);
            self.range(row, "to", &row.value.to);
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn paths(&mut self, node: &Tree<'_>, base: &Catalogue) -> Vec<Path> {
        let rows: Vec<At<Path>> = self.rows("paths", node);
        for row in &rows {
            let path = &row.value;
            self.source(row, &path.source);
            self.range(row, "from", &path.from);
            self.range(row, "to", &path.to);
            self.rule(row, &path.rule);
            if !path.via.is_sorted_by(|one, next| one < next) {
                self.add(
                    row.line,
                    &row.row,
                    "via: the stops must be in ascending order",
                );
            }
            if path.verdict >= Verdict::Warn && (path.reason.is_empty() || path.fix.is_empty()) {
                self.add(
                    row.line,
                    &row.row,
                    "a row that warns or denies needs a reason and a fix",
                );
            }
            let contradicts = |other: &&Path| {
                other.id != path.id
                    && (&other.from, &other.to, &other.when) == (&path.from, &path.to, &path.when)
                    && other.verdict != path.verdict
            };
            if let Some(other) = base
                .paths
                .iter()
                .chain(rows.iter().map(|row| &row.value))
                .find(contradicts)
            {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "contradicts the row {}, which covers the same steps",
                        other.id
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn releases(&mut self, node: &Tree<'_>, base: &Catalogue) -> Vec<BadRelease> {
        let rows: Vec<At<BadRelease>> = self.rows("releases", node);
        for row in &rows {
            let bad = &row.value;
            self.source(row, &bad.source);
            self.range(row, "versions", &bad.versions);
            if let Some(from) = &bad.from {
                self.range(row, "from", from);
            }
            match bad.r#use {
                None if bad.fix.is_empty() => {
                    self.add(
                        row.line,
                        &row.row,
                        "needs either use (a release without the defect) or fix (what else to do)",
                    );
                }
                Some(better) if bad.versions.contains(better) => {
                    self.add(
                        row.line,
                        &row.row,
                        format!("use: {better} is itself in '{}'", bad.versions),
                    );
                }
                _ => {}
            }
            let contradicts = |other: &&BadRelease| {
                other.id != bad.id
                    && (
                        &other.versions,
                        &other.from,
                        &other.when,
                        other.rolling,
                        other.hotfix,
                        &other.variant,
                    ) == (
                        &bad.versions,
                        &bad.from,
                        &bad.when,
                        bad.rolling,
                        bad.hotfix,
                        &bad.variant,
                    )
                    && other.verdict != bad.verdict
            };
            if let Some(other) = base
                .bad_releases
                .iter()
                .chain(rows.iter().map(|row| &row.value))
                .find(contradicts)
            {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "contradicts the row {}, which covers the same releases",
                        other.id
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn landing(&mut self, node: &Tree<'_>) -> Vec<Landing> {
        let rows: Vec<At<Landing>> = self.rows("landing", node);
        for row in &rows {
            if row.value.version.line() != row.value.line {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "version: {} is not a release of {}",
                        row.value.version, row.value.line
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn charts(&mut self, node: &Tree<'_>) -> Vec<Chart> {
        let rows: Vec<At<Chart>> = self.rows("charts", node);
        for row in &rows {
            if Build::from_tag(&row.value.tag).is_none() {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "tag: no version of Milvus can be read from '{}'",
                        row.value.tag
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn hazards(&mut self, node: &Tree<'_>) -> Vec<Hazard> {
        let rows: Vec<At<Hazard>> = self.rows("hazards", node);
        for row in &rows {
            self.source(row, &row.value.source);
            if let Some(rule) = &row.value.rule {
                self.rule(row, rule);
            }
            match (row.value.kind, &row.value.charts, row.value.at) {
                (HazardKind::Range, None, _) => {
                    self.add(row.line, &row.row, "a row of kind range needs charts");
                }
                (HazardKind::Boundary, _, None) => {
                    self.add(row.line, &row.row, "a row of kind boundary needs at");
                }
                (HazardKind::Range, Some(charts), _) => self.range(row, "charts", charts),
                (HazardKind::Boundary, ..) => {}
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    fn settings(&mut self, node: &Tree<'_>) -> Vec<SettingFact> {
        let rows: Vec<At<SettingFact>> = self.rows("settings", node);
        for row in &rows {
            self.source(row, &row.value.source);
            if let Some(rule) = &row.value.rule {
                self.rule(row, rule);
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    /// A landing release that a row warns about in every situation would be recommended by no one.
    fn landings_are_good(&mut self, merged: &Catalogue, root: &Tree<'_>) {
        let known = super::Situation {
            woodpecker_storage: Some("minio".into()),
            ..super::Situation::default()
        };
        for item in root.items_at(&["landing"]) {
            let Some(version) = item
                .text_at(&["version"])
                .and_then(|text| text.parse().ok())
            else {
                continue;
            };
            let build = Build::of(version);
            let bad = merged
                .bad_releases(&build, None, &known, false)
                .find(|row| {
                    row.verdict >= Verdict::Warn
                        && row.when == super::Circumstances::default()
                        && row.variant.is_none()
                });
            if let Some(bad) = bad {
                self.add(
                    item.line,
                    "landing",
                    format!("{version} is a release to avoid (row {})", bad.id),
                );
            }
        }
    }
}

/// The line of a value inside a row: the deepest part of the path that is there.
fn line_of(node: &Tree<'_>, path: &str) -> u32 {
    let mut here = node;
    for step in path.split('.') {
        let name = step.split('[').next().unwrap_or_default();
        let Some(next) = (if name.is_empty() {
            Some(here)
        } else {
            here.get(name)
        }) else {
            break;
        };
        here = next;
    }
    here.line
}

/// serde's message, with the word that was most likely meant.
fn explained(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((unknown, expected)) if message.starts_with("unknown ") => {
            format!("{message}{}", did_you_mean(unknown, expected))
        }
        _ => message.to_owned(),
    }
}

/// `; did you mean 'x'?`, or nothing if no word is near.
fn did_you_mean(wrong: &str, words: &[&str]) -> String {
    // Longer texts are not a mistyped word.
    let near = words
        .iter()
        .filter(|_| wrong.len() <= 40)
        .map(|word| (distance(wrong, word), word))
        .min();
    near.filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .map_or_else(String::new, |(_, word)| format!("; did you mean '{word}'?"))
}

/// How many letters must be changed, added or taken away (Levenshtein), without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (
        one.to_ascii_lowercase().chars().collect(),
        other.to_ascii_lowercase().chars().collect(),
    );
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut above_left = at;
        row[0] = at + 1;
        for (position, wanted) in other.iter().enumerate() {
            let above = row[position + 1];
            row[position + 1] = (above_left + usize::from(letter != wanted))
                .min(above + 1)
                .min(row[position] + 1);
            above_left = above;
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn flaws(text: &str) -> Vec<String> {
        validate(text, Catalogue::embedded(), &["MG102", "MG501"])
            .into_iter()
            .map(|flaw| format!("{}: {}: {}", flaw.line, flaw.row, flaw.message))
            .collect()
    }

    #[rstest]
    #[case(
        "relases: []\n",
        "1: : 'relases' is not a table; did you mean 'releases'?"
    )]
    #[case(
        "releases:\n  - id: x\n    versions: '=2.5.1'\n    verdit: warn\n",
        "did you mean 'verdict'?"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '=2.5.1', verdict: wrn, why: y, use: '2.5.27', source: [z]}\n",
        "2: releases[0] (x): verdict: unknown variant `wrn`, expected one of `info`, `allow`, `warn`, `deny`; did you mean 'warn'?"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '2.5', verdict: warn, why: y, use: '2.5.27', source: [z]}\n",
        "releases[0] (x): versions: '2.5' is not a range of versions"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '>=2.5.3,<2.5.3', verdict: warn, why: y, use: '2.5.27', source: [z]}\n",
        "versions: '>=2.5.3,<2.5.3' does not contain any version, so the row never applies"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '=2.5.3', verdict: warn, why: y, use: '2.5.3', source: [z]}\n",
        "is itself in"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '=2.5.3', verdict: warn, why: y, source: [z]}\n",
        "needs either use"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '=2.5.3', verdict: warn, why: y, fix: z, source: []}\n",
        "source is empty"
    )]
    #[case(
        "releases:\n  - {id: x, versions: '=2.5.3', when: {queue: [kafak]}, verdict: warn, why: y, fix: z, source: [z]}\n",
        "'kafak' is not a message queue"
    )]
    #[case(
        "landing:\n  - {line: '2.5', version: '2.6.24'}\n",
        "2.6.24 is not a release of 2.5"
    )]
    #[case(
        "landing:\n  - {line: '2.5', version: '2.5.20'}\n",
        "2.5.20 is a release to avoid (row 2.5.20-unreleased)"
    )]
    #[case(
        "charts:\n  - {version: '5.0.99', appVersion: x, tag: latest, published: index}\n",
        "no version of Milvus can be read"
    )]
    #[case(
        "paths:\n  - {id: x, from: '>=2.4.0,<2.5.0', to: '>=2.6.0,<2.7.0', verdict: allow, rule: MG102, source: [z]}\n",
        "contradicts the row 2.4-to-2.6"
    )]
    #[case(
        "paths:\n  - {id: x, from: '=2.4.0', to: '=2.6.0', verdict: allow, rule: MG120, source: [z]}\n",
        "rule: 'MG120' is not a rule; did you mean 'MG102'?"
    )]
    #[case(
        "hazards:\n  - {id: x, kind: range, verdict: warn, effect: y, source: [z]}\n",
        "kind range needs charts"
    )]
    #[case(
        "asOf: yesterday\n",
        "1: asOf: 'yesterday' is not a day (like 2026-11-28)"
    )]
    #[case("- a\n", "a data file is a mapping of tables")]
    fn what_is_wrong_is_named(#[case] text: &str, #[case] expected: &str) {
        let flaws = flaws(text);
        assert!(
            flaws.iter().any(|flaw| flaw.contains(expected)),
            "{flaws:#?}"
        );
    }

    #[test]
    fn each_wrong_row_is_named_with_its_line() {
        let text = "releases:\n  - {id: a}\n  - {id: b, versions: '=2.5.1', verdict: warn, why: y, use: '2.5.27', source: [z]}\n  - {id: b}\n";
        let flaws = flaws(text);
        assert_eq!(flaws.len(), 3, "{flaws:#?}");
        assert!(
            flaws[0].starts_with("2: releases[0] (a): missing field")
                && flaws[1].starts_with("4: releases[2] (b)"),
            "{flaws:#?}"
        );
    }

    #[test]
    fn good_files_and_empty_ones_pass() {
        assert!(flaws("").is_empty() && flaws("releases: []\n").is_empty());
        let own = "asOf: '2026-12-01'\nreleased:\n  - {version: '2.6.25', date: '2026-10-02'}\nlanding:\n  - {line: '2.6', version: '2.6.25'}\n";
        assert!(flaws(own).is_empty(), "{:#?}", flaws(own));
        assert!(validate("a: [", Catalogue::embedded(), &[])[0].unreadable);
    }

    #[test]
    fn the_embedded_rows_have_no_flaws() {
        let ids: Vec<&str> = crate::rules::ALL.iter().map(|rule| rule.id).collect();
        for (table, text) in crate::milvus::catalogue::load::EMBEDDED {
            let flaws = validate(text, Catalogue::embedded(), &ids);
            assert!(flaws.is_empty(), "{table}: {flaws:#?}");
        }
    }
}
