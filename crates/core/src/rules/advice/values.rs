//! Settings of Milvus and values of its chart. Which setting is meant is known by the caller.

use super::{
    Advice,
    remedy::{ChartPin, Cure, Remedy},
    wording::{clean, list_of},
};
use crate::{
    manifest::Tree,
    milvus::manager::{Source, Tool, Vendor},
};

impl Advice<'_, '_> {
    /// Keeps a key of Milvus' configuration at a value, such as `etcd.rootPath` at `by-dev`.
    #[must_use]
    pub fn keep_setting(&self, key: &str, value: &str) -> Remedy {
        let value = clean(value);
        if let Some((chart, version)) = self.chart()
            && let Some(row) =
                self.upgrade
                    .catalogue
                    .value_for(chart.vendor, version, key, self.is_external(key))
        {
            return self.set_values(
                &[ChartPin::new(&row.path, value)],
                &format!("{key} keeps its value"),
            );
        }
        self.configure(&[(key, value.as_ref())])
    }

    /// Sets keys of Milvus' configuration where this release has them.
    #[must_use]
    pub fn configure(&self, settings: &[(&str, &str)]) -> Remedy {
        let after = &self.upgrade.after.config;
        let open: Vec<(&str, &str)> = settings
            .iter()
            .copied()
            .filter(|(key, value)| after.value(key) != Some(*value))
            .collect();
        let settings = if open.is_empty() { settings } else { &open };
        // No file counts where a variable sets the key.
        let (words, below) = self.by_variables(settings);
        if !words.is_empty() {
            let words = Remedy::words(words.join(" "));
            return if below.is_empty() {
                words
            } else {
                words.and(&self.in_files(&below).text)
            };
        }
        self.in_files(settings)
    }

    fn in_files(&self, settings: &[(&str, &str)]) -> Remedy {
        let list = list_of(
            settings
                .iter()
                .map(|(key, value)| format!("{key}: {value}")),
        );
        Remedy::words(match &self.manager.source {
            Source::Operator { resource } => {
                let list = list_of(
                    settings
                        .iter()
                        .map(|(key, value)| format!("spec.config.{key}: {value}")),
                );
                format!("Set {list} in the Milvus resource {resource}.")
            }
            Source::Chart(chart) => match chart.vendor {
                Vendor::Bitnami if self.reads("milvus.extraConfig") => {
                    format!(
                        "Set {list} under {} {}.",
                        self.path("milvus.extraConfig"),
                        self.values_place()
                    )
                }
                Vendor::Zilliz if self.reads("extraConfigFiles.user.yaml") => {
                    let path = self.path("extraConfigFiles");
                    format!(
                        "Set {list} in the text user.yaml under {path} {}. Keep the other lines of that text.",
                        self.values_place()
                    )
                }
                _ => format!(
                    "Set {list} in Milvus' configuration, {}.",
                    self.values_place()
                ),
            },
            Source::Manifests => {
                let first = settings
                    .first()
                    .and_then(|(key, _)| self.before().config.get(key));
                format!(
                    "Set {list} in {}.",
                    self.object_place(&self.config_object(first))
                )
            }
        })
    }

    /// Sets values of the wanted chart. What is set already is not asked for again.
    #[must_use]
    pub fn set_values(&self, pins: &[ChartPin], purpose: &str) -> Remedy {
        let open: Vec<ChartPin> = pins
            .iter()
            .filter(|pin| !self.is_set(&pin.path, &pin.value))
            .cloned()
            .collect();
        if open.is_empty() {
            let list = list_of(
                pins.iter()
                    .map(|pin| format!("{}={}", self.path(&pin.path), pin.value)),
            );
            let chart = self
                .chart()
                .map_or_else(String::new, |(_, version)| format!(" {version}"));
            return Remedy::words(format!(
                "{list} is already set, but chart{chart} renders another value: compare the \
                 rendered manifests, or use another chart version, so that {purpose}."
            ));
        }
        let list = list_of(
            open.iter()
                .map(|pin| format!("{}={}", self.path(&pin.path), pin.value)),
        );
        let flag = matches!(self.manager.tool, Tool::Helm | Tool::Rendered)
            && self.manager.alias().is_none();
        let how = if flag {
            " (with --set or in a values file)"
        } else {
            ""
        };
        Remedy {
            text: format!("Set {list} {}{how}.", self.values_place()),
            cure: Some(Cure::Values(open)),
        }
    }

    /// Whether the user's values of the wanted change are known to have a value.
    pub(in crate::rules) fn is_set(&self, path: &str, value: &str) -> bool {
        let Some(helm) = &self.upgrade.after.helm else {
            return false;
        };
        let prefix = self.manager.values_key().unwrap_or_default();
        let above = prefix.split('.').filter(|key| !key.is_empty());
        let keys = above.chain(path.split('.'));
        let mut node: &Tree<'_> = &helm.user_values;
        for key in keys {
            let Some(next) = node.get(key) else {
                return false;
            };
            node = next;
        }
        node.as_str() == Some(value)
    }
}
