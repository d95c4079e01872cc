//! Where a value stands that Milvus takes before the file of a chart, and the configuration without
//! it.

use std::{mem, sync::Arc};

use super::{
    ComponentSettings, EffectiveConfig, Part,
    files::{Content, FileLayer, FileSettings},
    key::Key,
};

/// The file that Milvus takes before all others.
const USER_FILE: &str = "user.yaml";

/// A place of a value that Milvus takes before the file of a chart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The command line of the container sets this variable.
    CommandLine(String),
    /// A variable of the container.
    Variable(String),
    /// A variable that `envFrom` takes from an object.
    Imported {
        /// Name of the variable.
        name: String,
        /// The object, as `Kind name`.
        object: String,
    },
    /// A key of the file `user.yaml`.
    UserFile {
        /// The key as written.
        key: String,
        /// The object that holds the file, as `Kind name`.
        object: String,
        /// Whether the same object holds the other files, as that of a chart does.
        beside_others: bool,
    },
}

impl Place {
    /// Whether it is a variable of the process.
    #[must_use]
    pub fn is_variable(&self) -> bool {
        !matches!(self, Self::UserFile { .. })
    }
}

impl ComponentSettings<'_> {
    /// The places that set `key` before the file of a chart: all variables of it, else the file of
    /// the user. Empty where another file sets it, or nothing.
    #[must_use]
    pub fn upper_places(&self, key: &str) -> Vec<Place> {
        let key = Key::of(key);
        if self
            .dynamic
            .is_some_and(|dynamic| dynamic.get(&key).is_some())
        {
            return Vec::new();
        }
        let variables = self.part.environment.places(&key);
        if !variables.is_empty() {
            return variables;
        }
        self.part
            .files
            .layers
            .last()
            .filter(|layer| layer.name == USER_FILE)
            .and_then(|layer| user_file(layer, &key))
            .into_iter()
            .collect()
    }
}

fn user_file(layer: &FileLayer, key: &Key<'_>) -> Option<Place> {
    let Content::Settings { settings, of, .. } = &layer.content else {
        return None;
    };
    let setting = settings.get(key)?;
    Some(Place::UserFile {
        key: setting.key.to_owned(),
        object: of.named(),
        beside_others: ["default.yaml", "milvus.yaml"]
            .iter()
            .any(|name| of.file(name).is_some()),
    })
}

impl EffectiveConfig {
    /// The same without what stands at a place of `key`: all variables of it, or the user's file.
    #[must_use]
    pub fn without(&self, key: &str, variables: bool) -> Self {
        let key = Key::of(key);
        let mut edited: Vec<(Arc<FileSettings>, Arc<FileSettings>)> = Vec::new();
        let parts = self.parts.iter().map(|part| {
            let mut part = Part::clone(part);
            if variables {
                part.environment.remove(&key);
            } else if let Some(layer) = part
                .files
                .layers
                .last_mut()
                .filter(|layer| layer.name == USER_FILE)
                && let Content::Settings { settings, .. } = &mut layer.content
            {
                // Most components mount the same files.
                let known = edited.iter().find(|(old, _)| Arc::ptr_eq(old, settings));
                let new = known.map_or_else(
                    || Arc::new(settings.without(&key)),
                    |(_, new)| Arc::clone(new),
                );
                let old = mem::replace(settings, Arc::clone(&new));
                edited.push((old, new));
            }
            Arc::new(part)
        });
        Self {
            parts: parts.collect(),
            referred: self.referred.clone(),
            dynamic: self.dynamic.clone(),
        }
    }
}
