//! Reading the tables: the embedded ones, and a user's that add or override rows by id.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{manifest::documents, milvus::Day};

use super::{
    BadRelease, Catalogue, Chart, ChartValue, DefaultFlip, DependencyFacts, Downgrade, Hazard,
    Landing, Management, Mirrors, Order, Path, Released, RemovedValue, SettingFact, TargetUpdate,
    tables::{Layer, LayerTable},
};

/// A table that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table}: {message}")]
pub struct DataError {
    /// File or table.
    pub table: String,
    /// What is wrong, with its place.
    pub message: String,
}

/// Everything that a data file may hold; each part is optional. Public for its schema only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DataFile {
    pub(super) as_of: Option<Day>,
    pub(super) released: Vec<Released>,
    pub(super) paths: Vec<Path>,
    pub(super) downgrades: Vec<Downgrade>,
    pub(super) releases: Vec<BadRelease>,
    pub(super) landing: Vec<Landing>,
    pub(super) charts: Vec<Chart>,
    pub(super) hazards: Vec<Hazard>,
    pub(super) removed_values: Vec<RemovedValue>,
    pub(super) default_flips: Vec<DefaultFlip>,
    pub(super) chart_values: Vec<ChartValue>,
    pub(super) orders: Vec<Order>,
    pub(super) candidate_orders: Vec<Order>,
    pub(super) management: Vec<Management>,
    pub(super) target_updates: Vec<TargetUpdate>,
    pub(super) mirrors: Option<Mirrors>,
    pub(super) dependencies: Option<DependencyFacts>,
    pub(super) settings: Vec<SettingFact>,
}

/// Name and JSON of each embedded table, made of `data/*.yaml` by the build script.
pub(super) const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// The day of the embedded data, without reading the tables: `--version` has no time for them.
#[must_use]
pub fn embedded_day() -> Option<Day> {
    let dates = include_str!("data/dates.yaml");
    let text = dates.lines().find_map(|line| line.strip_prefix("asOf:"))?;
    text.trim().trim_matches('"').parse().ok()
}

/// Reads tables from JSON.
fn typed(table: &str, json: &str) -> Result<DataFile, DataError> {
    serde_json::from_str(json).map_err(|error| {
        let message = error.to_string();
        // The user has not seen the JSON, so its line and column do not help.
        let message = message
            .rsplit_once(" at line ")
            .map_or(&*message, |(what, _)| what);
        DataError {
            table: table.to_owned(),
            message: message.to_owned(),
        }
    })
}

impl Catalogue {
    pub(super) fn read_embedded() -> Result<Self, DataError> {
        let mut catalogue = Self::default();
        let mut tables = Vec::new();
        for (table, json) in EMBEDDED {
            let file = typed(table, json)?;
            catalogue.as_of = catalogue.as_of.max(file.as_of);
            catalogue.lay(file, &mut tables);
        }
        catalogue.layers = vec![Layer {
            source: "embedded".into(),
            as_of: catalogue.as_of,
            tables,
        }];
        Ok(catalogue)
    }

    /// A catalogue of the embedded tables with those of a file laid over: rows with a known id (or
    /// version, line, path, key) replace, others are added before the embedded ones.
    ///
    /// # Errors
    /// Where the text is not a data file; the message names the line or the field.
    pub fn with(name: &str, text: &str) -> Result<Self, DataError> {
        let mut catalogue = Self::read_embedded()?;
        catalogue.add(name, text)?;
        Ok(catalogue)
    }

    /// Lays a file's tables over what is there.
    ///
    /// # Errors
    /// Where the text is not a data file; the message names the line or the field.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), DataError> {
        let mut layer = Layer {
            source: name.to_owned(),
            as_of: None,
            tables: Vec::new(),
        };
        for document in documents(text) {
            let document = document.map_err(|error| DataError {
                table: name.to_owned(),
                message: error.to_string(),
            })?;
            // Through text: one reader of the tables is enough in the program.
            let tables = typed(name, &document.root.to_json().to_string())?;
            layer.as_of = layer.as_of.max(tables.as_of);
            self.lay(tables, &mut layer.tables);
        }
        self.as_of = self.as_of.max(layer.as_of);
        self.layers.push(layer);
        Ok(())
    }

    pub(super) fn lay(&mut self, tables: DataFile, brought: &mut Vec<LayerTable>) {
        let mut note = |table: &str, (added, replaced): (usize, usize)| {
            if added + replaced > 0 {
                brought.push(LayerTable {
                    table: table.to_owned(),
                    added,
                    replaced,
                });
            }
        };
        note(
            "released",
            merge(&mut self.released, tables.released, |row| row.version),
        );
        note(
            "paths",
            merge(&mut self.paths, tables.paths, |row| row.id.clone()),
        );
        note(
            "downgrades",
            merge(&mut self.downgrades, tables.downgrades, |row| {
                row.id.clone()
            }),
        );
        note(
            "releases",
            merge(&mut self.bad_releases, tables.releases, |row| {
                row.id.clone()
            }),
        );
        note(
            "landing",
            merge(&mut self.landing, tables.landing, |row| row.line),
        );
        note(
            "charts",
            merge(&mut self.charts, tables.charts, |row| row.version),
        );
        note(
            "hazards",
            merge(&mut self.hazards, tables.hazards, |row| row.id.clone()),
        );
        note(
            "removedValues",
            merge(&mut self.removed_values, tables.removed_values, |row| {
                row.path.clone()
            }),
        );
        note(
            "defaultFlips",
            merge(&mut self.default_flips, tables.default_flips, |row| row.at),
        );
        note(
            "chartValues",
            merge(&mut self.chart_values, tables.chart_values, |row| {
                (row.chart, row.path.clone())
            }),
        );
        note(
            "orders",
            merge(&mut self.orders, tables.orders, |row| row.id.clone()),
        );
        note(
            "candidateOrders",
            merge(&mut self.candidate_orders, tables.candidate_orders, |row| {
                row.id.clone()
            }),
        );
        note(
            "management",
            merge(&mut self.management, tables.management, |row| {
                row.id.clone()
            }),
        );
        note(
            "targetUpdates",
            merge(&mut self.target_updates, tables.target_updates, |row| {
                row.id.clone()
            }),
        );
        note(
            "settings",
            merge(&mut self.settings, tables.settings, |row| row.key.clone()),
        );
        if let Some(mirrors) = tables.mirrors {
            note(
                "mirrors",
                merge(&mut self.mirrors.mirrors, mirrors.mirrors, |row| {
                    row.repository.clone()
                }),
            );
            note(
                "suffixes",
                merge(&mut self.mirrors.suffixes, mirrors.suffixes, Clone::clone),
            );
            note(
                "devRepositories",
                merge(
                    &mut self.mirrors.dev_repositories,
                    mirrors.dev_repositories,
                    Clone::clone,
                ),
            );
        }
        if let Some(dependencies) = tables.dependencies {
            self.dependencies = dependencies;
            note("dependencies", (0, 1));
        }
    }
}

/// Rows that are new go first, so that the first match finds a user's row before an embedded one.
/// Returns how many rows were added and how many replaced another.
fn merge<T, K: PartialEq>(rows: &mut Vec<T>, new: Vec<T>, key: impl Fn(&T) -> K) -> (usize, usize) {
    let total = new.len();
    let mut added = Vec::new();
    for row in new {
        match rows.iter_mut().find(|old| key(old) == key(&row)) {
            Some(old) => *old = row,
            None => added.push(row),
        }
    }
    let count = added.len();
    if rows.is_empty() {
        *rows = added;
    } else {
        rows.splice(0..0, added);
    }
    (count, total - count)
}
