//! The tables by name: how many rows, of which day, from which file, and single rows for people.

use serde::Serialize;
use serde_json::Value;

use crate::milvus::{day::Day, version::Version};

use super::Catalogue;

/// Tables in the order in which they are listed, and what each holds.
pub const TABLES: [(&str, &str); 19] = [
    ("released", "the day on which each release was published"),
    ("releases", "releases to avoid, and what to use instead"),
    ("landing", "the recommended release of each line"),
    ("paths", "which version may follow which, and how"),
    ("downgrades", "what a downgrade does"),
    ("orders", "the order in which components are upgraded"),
    (
        "candidateOrders",
        "orders that are to be measured; a run uses one only if it is named",
    ),
    (
        "management",
        "calls that empty a query node, and the versions that have them",
    ),
    (
        "targetUpdates",
        "versions in which a new leader of a shard waits for the query coordinator",
    ),
    ("charts", "what each chart version ships"),
    ("hazards", "chart versions with defects"),
    ("removedValues", "Helm values that newer charts ignore"),
    ("defaultFlips", "chart defaults that changed"),
    (
        "chartValues",
        "Helm values that advice names, and the charts that read them",
    ),
    (
        "settings",
        "settings that must not change, and the rule of each",
    ),
    ("mirrors", "known forms of the repository milvusdb/milvus"),
    ("suffixes", "last path elements by which a mirror is known"),
    ("devRepositories", "repositories of development builds"),
    (
        "dependencies",
        "facts about images of etcd, MinIO and the queues",
    ),
];

/// One file of data, and what it brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// File, or `embedded`.
    pub source: String,
    /// Day that the file names.
    pub as_of: Option<Day>,
    /// Tables to which it brought rows.
    pub tables: Vec<LayerTable>,
}

/// What a file brought to one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerTable {
    /// Table.
    pub table: String,
    /// Rows that were not there before.
    pub added: usize,
    /// Rows that replaced an earlier one.
    pub replaced: usize,
}

/// One row with the table that it is in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Table.
    pub table: &'static str,
    /// What the row is found by: its id, version, line, path or key.
    pub key: String,
    /// The row as the data has it.
    pub row: Value,
}

fn rows<T: Serialize>(table: &'static str, of: &[T], key: impl Fn(&T) -> String) -> Vec<Row> {
    of.iter()
        .map(|row| Row {
            table,
            key: key(row),
            row: serde_json::to_value(row).unwrap_or_default(),
        })
        .collect()
}

impl Catalogue {
    /// The rows of a table. `None` if there is no table of that name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<Vec<Row>> {
        let (table, _) = TABLES.into_iter().find(|(table, _)| *table == name)?;
        Some(match table {
            "released" => rows(table, &self.released, |row| row.version.to_string()),
            "releases" => rows(table, &self.bad_releases, |row| row.id.clone()),
            "landing" => rows(table, &self.landing, |row| row.line.to_string()),
            "paths" => rows(table, &self.paths, |row| row.id.clone()),
            "downgrades" => rows(table, &self.downgrades, |row| row.id.clone()),
            "orders" => rows(table, &self.orders, |row| row.id.clone()),
            "candidateOrders" => rows(table, &self.candidate_orders, |row| row.id.clone()),
            "management" => rows(table, &self.management, |row| row.id.clone()),
            "targetUpdates" => rows(table, &self.target_updates, |row| row.id.clone()),
            "charts" => rows(table, &self.charts, |row| row.version.to_string()),
            "hazards" => rows(table, &self.hazards, |row| row.id.clone()),
            "removedValues" => rows(table, &self.removed_values, |row| row.path.clone()),
            "defaultFlips" => rows(table, &self.default_flips, |row| row.at.to_string()),
            "chartValues" => rows(table, &self.chart_values, |row| row.path.clone()),
            "settings" => rows(table, &self.settings, |row| row.key.clone()),
            "mirrors" => rows(table, &self.mirrors.mirrors, |row| row.repository.clone()),
            "suffixes" => rows(table, &self.mirrors.suffixes, Clone::clone),
            "devRepositories" => rows(table, &self.mirrors.dev_repositories, Clone::clone),
            _ => rows(table, std::slice::from_ref(&self.dependencies), |_| {
                "dependencies".into()
            }),
        })
    }

    /// The rows of every table that are found by this key.
    #[must_use]
    pub fn rows_by_key(&self, key: &str) -> Vec<Row> {
        let all = TABLES
            .into_iter()
            .filter_map(|(table, _)| self.table(table))
            .flatten();
        all.filter(|row| row.key == key).collect()
    }

    /// Every row that is about a release: its day, its landing row, what is bad about it, and the
    /// charts that ship it.
    #[must_use]
    pub fn rows_about(&self, release: Version) -> Vec<Row> {
        let build = crate::milvus::Build::of(release);
        let text = release.to_string();
        let of = |table: &str, test: &dyn Fn(&Row) -> bool| -> Vec<Row> {
            self.table(table)
                .unwrap_or_default()
                .into_iter()
                .filter(|row| test(row))
                .collect()
        };
        let bad = |row: &Row| {
            self.bad_releases
                .iter()
                .any(|bad| bad.id == row.key && bad.versions.contains(build.version))
        };
        let ships = |row: &Row| {
            let tag = row.row.get("tag").and_then(Value::as_str);
            tag.and_then(crate::milvus::Build::from_tag)
                .is_some_and(|shipped| shipped == build)
        };
        let mut found = of("released", &|row| row.key == text);
        found.extend(of("landing", &|row| {
            row.row.get("version").and_then(Value::as_str) == Some(text.as_str())
        }));
        found.extend(of("releases", &bad));
        found.extend(of("charts", &ships));
        found
    }
}
