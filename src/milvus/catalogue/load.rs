//! Reading the tables: the embedded ones, and a user's that add or override rows by id.

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};

use crate::manifest::{Tree, documents};

use super::{
    BadRelease, Catalogue, Chart, ChartValue, DefaultFlip, DependencyFacts, Downgrade, Hazard, Landing, Mirrors, Order, Path,
    RemovedValue, SettingFact,
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
    paths: Vec<Path>,
    downgrades: Vec<Downgrade>,
    releases: Vec<BadRelease>,
    landing: Vec<Landing>,
    charts: Vec<Chart>,
    hazards: Vec<Hazard>,
    removed_values: Vec<RemovedValue>,
    default_flips: Vec<DefaultFlip>,
    chart_values: Vec<ChartValue>,
    orders: Vec<Order>,
    mirrors: Option<Mirrors>,
    dependencies: Option<DependencyFacts>,
    settings: Vec<SettingFact>,
}

const EMBEDDED: [(&str, &str); 9] = [
    ("paths.yaml", include_str!("data/paths.yaml")),
    ("bad-releases.yaml", include_str!("data/bad-releases.yaml")),
    ("charts.yaml", include_str!("data/charts.yaml")),
    ("chart-values.yaml", include_str!("data/chart-values.yaml")),
    ("hazards.yaml", include_str!("data/hazards.yaml")),
    ("orders.yaml", include_str!("data/orders.yaml")),
    ("mirrors.yaml", include_str!("data/mirrors.yaml")),
    ("dependencies.yaml", include_str!("data/dependencies.yaml")),
    ("configuration.yaml", include_str!("data/configuration.yaml")),
];

fn typed<T: DeserializeOwned>(table: &str, root: &Tree<'_>) -> Result<T, DataError> {
    serde_json::from_value(root.to_json()).map_err(|error| DataError { table: table.to_owned(), message: error.to_string() })
}

impl Catalogue {
    pub(super) fn read_embedded() -> Result<Self, DataError> {
        let mut catalogue = Self::default();
        for (table, text) in EMBEDDED {
            catalogue.add(table, text)?;
        }
        Ok(catalogue)
    }

    /// A catalogue of the embedded tables with those of a file laid over: rows with a known id (or version, line,
    /// path, key) replace, others are added before the embedded ones.
    ///
    /// # Errors
    /// Where the text is no data file; the message names the line or the field.
    pub fn with(name: &str, text: &str) -> Result<Self, DataError> {
        let mut catalogue = Self::read_embedded()?;
        catalogue.add(name, text)?;
        Ok(catalogue)
    }

    /// Lays a file's tables over what is there.
    ///
    /// # Errors
    /// Where the text is no data file; the message names the line or the field.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), DataError> {
        for document in documents(text) {
            let document = document.map_err(|error| DataError { table: name.to_owned(), message: error.to_string() })?;
            let tables: DataFile = typed(name, &document.root)?;
            merge(&mut self.paths, tables.paths, |row| row.id.clone());
            merge(&mut self.downgrades, tables.downgrades, |row| row.id.clone());
            merge(&mut self.bad_releases, tables.releases, |row| row.id.clone());
            merge(&mut self.landing, tables.landing, |row| row.line);
            merge(&mut self.charts, tables.charts, |row| row.version);
            merge(&mut self.hazards, tables.hazards, |row| row.id.clone());
            merge(&mut self.removed_values, tables.removed_values, |row| row.path.clone());
            merge(&mut self.default_flips, tables.default_flips, |row| row.at);
            merge(&mut self.chart_values, tables.chart_values, |row| (row.chart, row.path.clone()));
            merge(&mut self.orders, tables.orders, |row| row.id.clone());
            merge(&mut self.settings, tables.settings, |row| row.key.clone());
            if let Some(mirrors) = tables.mirrors {
                merge(&mut self.mirrors.mirrors, mirrors.mirrors, |row| row.repository.clone());
                merge(&mut self.mirrors.suffixes, mirrors.suffixes, Clone::clone);
                merge(&mut self.mirrors.dev_repositories, mirrors.dev_repositories, Clone::clone);
            }
            if let Some(dependencies) = tables.dependencies {
                self.dependencies = dependencies;
            }
        }
        Ok(())
    }
}

/// Rows that are new go first, so that the first match finds a user's row before an embedded one.
fn merge<T, K: PartialEq>(rows: &mut Vec<T>, new: Vec<T>, key: impl Fn(&T) -> K) {
    let mut added = Vec::new();
    for row in new {
        match rows.iter_mut().find(|old| key(old) == key(&row)) {
            Some(old) => *old = row,
            None => added.push(row),
        }
    }
    if rows.is_empty() {
        *rows = added;
    } else {
        rows.splice(0..0, added);
    }
}
