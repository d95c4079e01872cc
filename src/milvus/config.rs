//! The configuration that Milvus would really run with.
//!
//! Lowest to highest: the image's own `milvus.yaml` (its defaults are in the catalogue), `milvus.yaml` or
//! `default.yaml` of the `ConfigMap`, `user.yaml`, the environment. Milvus reads each file with the last of
//! duplicate keys winning, and finds a key without regard to case and separators.

use std::collections::BTreeMap;

use crate::manifest::{Node, Origin, documents, node::Kind, object::ConfigFile};

/// Layer of settings that come from the environment of the containers.
const ENVIRONMENT: &str = "environment";

/// The effective settings of one Milvus release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectiveConfig {
    settings: BTreeMap<String, Setting>,
    /// Files that could not be read, with the reason.
    pub unreadable: Vec<(Origin, String)>,
    /// Top-level sections that some file holds, as written.
    sections: Vec<String>,
}

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key as written, such as `etcd.rootPath`.
    pub key: String,
    /// Its value as text; a list is joined with commas, as Milvus itself reads it.
    pub value: String,
    /// The file or the environment that won.
    pub layer: String,
    /// Where that stood.
    pub origin: Origin,
}

impl EffectiveConfig {
    /// Lays a file over what is there.
    pub fn lay_file(&mut self, file: &ConfigFile, origin: &Origin) {
        match documents(&file.text).next() {
            Some(Ok(document)) => {
                self.sections.extend(document.root.entries().map(|(key, _)| key.to_owned()));
                let mut path = String::new();
                self.lay_node(&document.root, &mut path, file, origin);
            }
            Some(Err(error)) => self.unreadable.push((
                origin.at_line(if file.line == 0 { 0 } else { file.line + error.line }),
                format!("{}: line {}: {}", file.key, error.line, error.message),
            )),
            None => {}
        }
    }

    fn lay_node(&mut self, node: &Node, path: &mut String, file: &ConfigFile, origin: &Origin) {
        match &node.kind {
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    self.lay_node(value, path, file, origin);
                    path.truncate(length);
                }
            }
            Kind::Sequence(items) => {
                let joined = items.iter().filter_map(Node::as_str).collect::<Vec<_>>().join(",");
                self.put(path, joined, &file.key, origin.at_line(line_in(file, node.line)));
            }
            Kind::Scalar { text, .. } => {
                let value = if node.is_null() { "" } else { text };
                self.put(path, value.to_owned(), &file.key, origin.at_line(line_in(file, node.line)));
            }
        }
    }

    /// Lays one environment variable over what is there.
    pub fn lay_env(&mut self, name: &str, value: &str, origin: &Origin) {
        self.put(name, value.to_owned(), ENVIRONMENT, origin.clone());
    }

    fn put(&mut self, key: &str, value: String, layer: &str, origin: Origin) {
        let setting = Setting { key: key.to_owned(), value, layer: layer.to_owned(), origin };
        self.settings.insert(normal(key), setting);
    }

    /// The setting of `key`, in any spelling.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(&normal(key))
    }

    /// The value of `key`; an empty one counts as absent, as Milvus then takes its default.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether `key` is set to true, in one of Go's spellings.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// Whether some file has the top-level section.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section == name)
    }

    /// Whether nothing at all was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Every setting, ordered by key.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// Settings of files (not of the environment) that differ from, or are absent in, `other`.
    pub fn file_changes<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Setting> {
        self.settings
            .iter()
            .filter(|(_, setting)| setting.layer != ENVIRONMENT)
            .filter(|(key, setting)| other.settings.get(*key).is_none_or(|old| old.value != setting.value))
            .map(|(_, setting)| setting)
    }
}

fn line_in(file: &ConfigFile, line: u32) -> u32 {
    if file.line == 0 { 0 } else { file.line + line }
}

/// Milvus compares keys in lower case without separators.
fn normal(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '.' | '_' | '/')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { source: "values.yaml".into(), document: 1, line: 10 }
    }

    fn file(key: &str, text: &str) -> ConfigFile {
        ConfigFile { key: key.into(), text: text.into(), line: 20 }
    }

    #[test]
    fn layers_win_from_below() {
        let mut config = EffectiveConfig::default();
        config.lay_file(&file("default.yaml", "etcd:\n  rootPath: by-dev\n  endpoints:\n    - a:2379\n    - b:2379\nmq:\n  type: pulsar\nmq:\n  type: rocksmq\n"), &origin());
        config.lay_file(&file("user.yaml", "etcd:\n  rootPath: mine\n"), &origin());
        assert_eq!(config.value("etcd.rootPath"), Some("mine"));
        assert_eq!(config.get("etcd.rootPath").unwrap().origin.line, 22);
        assert_eq!(config.value("etcd.endpoints"), Some("a:2379,b:2379"));
        assert_eq!(config.value("mq.type"), Some("rocksmq"), "the last duplicate wins");
        config.lay_env("ETCD_ROOTPATH", "env", &origin());
        assert_eq!(config.value("etcd.rootPath"), Some("env"));
    }

    #[test]
    fn a_broken_file_is_named() {
        let mut config = EffectiveConfig::default();
        config.lay_file(&file("user.yaml", "etcd: {rootPath\n"), &origin());
        assert!(config.is_empty());
        assert!(config.unreadable[0].1.starts_with("user.yaml: line "), "{:?}", config.unreadable);
    }
}
