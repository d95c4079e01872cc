//! What is wrong with a file of own rows, before anything is judged by it.

mod explanation;
mod rows;

use explanation::{did_you_mean, explained};
use serde::de::DeserializeOwned;

use crate::{
    manifest::{Tree, documents, node::Kind},
    milvus::{
        catalogue::{
            Catalogue, ChartValue, DataFile, DefaultFlip, DependencyFacts, Management, Mirrors,
            Order, RemovedValue, TargetUpdate,
        },
        version::Range,
    },
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
const PARTS: [&str; 18] = [
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
    "candidateOrders",
    "management",
    "targetUpdates",
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
                "candidateOrders" => {
                    tables.candidate_orders =
                        self.sourced("candidateOrders", node, |row: &Order| &row.source);
                }
                "management" => {
                    tables.management =
                        self.sourced("management", node, |row: &Management| &row.source);
                }
                "targetUpdates" => {
                    tables.target_updates =
                        self.sourced("targetUpdates", node, |row: &TargetUpdate| &row.source);
                }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::milvus::catalogue::load::EMBEDDED;

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
        for (table, text) in edited() {
            let flaws = validate(&text, Catalogue::embedded(), &ids);
            assert!(flaws.is_empty(), "{table}: {flaws:#?}");
        }
    }

    /// The build script reads YAML with another library than the program, which reads a user's
    /// files.
    #[test]
    fn the_embedded_rows_are_those_of_the_files() {
        for (table, text) in edited() {
            let documents: Result<Vec<_>, _> = crate::manifest::documents(&text).collect();
            let [document] = &documents.unwrap()[..] else {
                panic!("{table}: one document")
            };
            let embedded = EMBEDDED.iter().find(|(name, _)| *name == table);
            let embedded: serde_json::Value = serde_json::from_str(embedded.unwrap().1).unwrap();
            assert!(document.root.to_json() == embedded, "{table}");
        }
    }

    /// Name and text of the files that people edit.
    fn edited() -> Vec<(&'static str, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/milvus/catalogue/data");
        let read = |name| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        EMBEDDED
            .iter()
            .map(|(name, _)| (*name, read(name)))
            .collect()
    }
}
