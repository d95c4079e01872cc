//! The configuration that Milvus would really run with.
//!
//! Lowest to highest: the image's own `milvus.yaml` (its defaults are in the catalogue), `milvus.yaml` or
//! `default.yaml` of the `ConfigMap`, `user.yaml`, the environment. Milvus reads each file with the last of
//! duplicate keys winning, and finds a key without regard to case and separators.
//!
//! Files and the variables of each workload are layers of their own and shared: one workload changes, and only its
//! layer is made anew.

use std::{collections::BTreeMap, sync::Arc};

use crate::manifest::{
    Node, Origin, documents,
    node::Kind,
    object::{ConfigFile, Workload},
};

/// The effective settings of one Milvus release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectiveConfig {
    files: Arc<FileSettings>,
    /// One layer for each workload, lowest first.
    environment: Vec<Arc<Environment>>,
}

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSettings {
    settings: BTreeMap<Box<str>, Setting>,
    /// Files that could not be read, with the reason.
    unreadable: Vec<(Origin, String)>,
    /// Top-level sections that some file holds, as written.
    sections: Vec<String>,
}

/// What the variables of one workload say, ordered by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment(Box<[(Box<str>, Setting)]>);

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The key as written, such as `etcd.rootPath`.
    pub key: String,
    /// Its value as text; a list is joined with commas, as Milvus itself reads it.
    pub value: String,
    /// What won.
    pub layer: Layer,
    /// Where that stood.
    pub origin: Origin,
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// In a file.
    File,
    /// In a variable of a container.
    Environment,
}

impl FileSettings {
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
                self.put(path, joined, origin.at_line(line_in(file, node.line)));
            }
            Kind::Scalar { text, .. } => {
                let value = if node.is_null() { "" } else { text };
                self.put(path, value.to_owned(), origin.at_line(line_in(file, node.line)));
            }
        }
    }

    fn put(&mut self, key: &str, value: String, origin: Origin) {
        let setting = Setting { key: key.to_owned(), value, layer: Layer::File, origin };
        self.settings.insert(normal(key), setting);
    }
}

impl Environment {
    /// The variables of a workload; of duplicates the last counts. Values that come from elsewhere are unknown.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let variables = workload.pod.containers.iter().flat_map(|container| &container.env);
        let mut settings: Vec<(Box<str>, Setting)> = variables
            .filter_map(|(name, value)| {
                let origin = workload.meta.origin.clone();
                let setting = Setting { key: name.clone(), value: value.clone()?, layer: Layer::Environment, origin };
                Some((normal(name), setting))
            })
            .collect();
        // The sort keeps the order of equal keys; turned round, the last of them comes first and stays.
        settings.reverse();
        settings.sort_by(|(a, _), (b, _)| a.cmp(b));
        settings.dedup_by(|(a, _), (b, _)| a == b);
        Self(settings.into_boxed_slice())
    }

    fn has_keys_of(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.0.iter().map(|(key, _)| key).eq(other.0.iter().map(|(key, _)| key))
    }

    fn get(&self, normal: &str) -> Option<&Setting> {
        let position = self.0.binary_search_by(|(key, _)| (**key).cmp(normal)).ok()?;
        self.0.get(position).map(|(_, setting)| setting)
    }
}

impl EffectiveConfig {
    /// The layers in order: files, then one environment for each workload.
    #[must_use]
    pub fn new(files: Arc<FileSettings>, environment: Vec<Arc<Environment>>) -> Self {
        Self { files, environment }
    }

    /// The same files under other environments.
    pub fn lay_environment(&mut self, environment: Vec<Arc<Environment>>) {
        self.environment = environment;
    }

    /// The same, with the layer of one workload made anew.
    pub fn replace_environment(&mut self, at: usize, environment: Environment) {
        if let Some(layer) = self.environment.get_mut(at) {
            *layer = Arc::new(environment);
        }
    }

    /// Files that could not be read, with the reason.
    #[must_use]
    pub fn unreadable(&self) -> &[(Origin, String)] {
        &self.files.unreadable
    }

    /// The setting of `key`, in any spelling.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.get_normal(&normal(key))
    }

    fn get_normal(&self, key: &str) -> Option<&Setting> {
        self.environment.iter().rev().find_map(|layer| layer.get(key)).or_else(|| self.files.settings.get(key))
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
        self.files.sections.iter().any(|section| section == name)
    }

    /// Whether nothing at all was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.settings.is_empty() && self.environment.iter().all(|layer| layer.0.is_empty())
    }

    /// Every setting that counts, ordered by key.
    #[must_use]
    pub fn settings(&self) -> Vec<&Setting> {
        let files = self.files.settings.iter();
        let mut all: BTreeMap<&str, &Setting> = files.map(|(key, setting)| (&**key, setting)).collect();
        for (key, setting) in self.environment.iter().flat_map(|layer| &layer.0) {
            all.insert(key, setting);
        }
        all.into_values().collect()
    }

    /// Settings of files (not of the environment) that differ from, or are absent in, `other`.
    #[must_use]
    pub fn file_changes<'a>(&'a self, other: &'a Self) -> Vec<&'a Setting> {
        let overlaid = |key: &str| self.environment.iter().any(|layer| layer.get(key).is_some());
        let changed = |key: &str, setting: &Setting| other.get_normal(key).is_none_or(|old| old.value != setting.value);
        let files = &self.files.settings;
        if Arc::ptr_eq(&self.files, &other.files) || self.files == other.files {
            // Then only a variable that the other side has on top makes a difference.
            let mut changes: Vec<(&str, &Setting)> = self
                .variables_beyond(other)
                .filter(|key| !overlaid(key))
                .filter_map(|key| Some((key, files.get(key)?)))
                .filter(|(key, setting)| changed(key, setting))
                .collect();
            changes.sort_unstable_by_key(|(key, _)| *key);
            changes.dedup_by_key(|(key, _)| *key);
            return changes.into_iter().map(|(_, setting)| setting).collect();
        }
        let all = files.iter().filter(|(key, _)| !overlaid(key));
        all.filter(|(key, setting)| changed(key, setting)).map(|(_, setting)| setting).collect()
    }

    /// Keys of variables in a layer of `other` that the same layer here lacks.
    fn variables_beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        other.environment.iter().enumerate().flat_map(|(at, layer)| {
            let own = self.environment.get(at);
            let all = own.is_some_and(|own| own.has_keys_of(layer));
            let keys = if all { &[][..] } else { &layer.0 };
            keys.iter().map(|(key, _)| &**key).filter(move |key| own.is_none_or(|own| own.get(key).is_none()))
        })
    }
}

fn line_in(file: &ConfigFile, line: u32) -> u32 {
    if file.line == 0 { 0 } else { file.line + line }
}

/// Milvus compares keys in lower case without separators.
fn normal(key: &str) -> Box<str> {
    let mut normal = String::with_capacity(key.len());
    for letter in key.chars().filter(|letter| !matches!(letter, '.' | '_' | '/')) {
        if letter.is_ascii() { normal.push(letter.to_ascii_lowercase()) } else { normal.extend(letter.to_lowercase()) }
    }
    normal.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Object;

    fn origin() -> Origin {
        Origin { source: "values.yaml".into(), document: 1, line: 10 }
    }

    fn file(key: &str, text: &str) -> ConfigFile {
        ConfigFile { key: key.into(), text: text.into(), line: 20 }
    }

    fn with_variables(files: &FileSettings, variables: &[(&str, Option<&str>)]) -> EffectiveConfig {
        let env: serde_json::Value =
            variables.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
        let workload = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "env": env}]}}}});
        let Some(Object::Workload(workload)) = Object::read(&Node::from_json(&workload), &origin(), None) else { panic!() };
        EffectiveConfig::new(Arc::new(files.clone()), vec![Arc::new(Environment::of(&workload))])
    }

    #[test]
    fn layers_win_from_below() {
        let mut files = FileSettings::default();
        files.lay_file(&file("default.yaml", "etcd:\n  rootPath: by-dev\n  endpoints:\n    - a:2379\n    - b:2379\nmq:\n  type: pulsar\nmq:\n  type: rocksmq\n"), &origin());
        files.lay_file(&file("user.yaml", "etcd:\n  rootPath: mine\n"), &origin());
        let config = with_variables(&files, &[]);
        assert_eq!(config.value("etcd.rootPath"), Some("mine"));
        assert_eq!(config.get("etcd.rootPath").unwrap().origin.line, 22);
        assert_eq!(config.value("etcd.endpoints"), Some("a:2379,b:2379"));
        assert_eq!(config.value("mq.type"), Some("rocksmq"), "the last duplicate wins");
        let config =
            with_variables(&files, &[("ETCD_ROOTPATH", Some("first")), ("etcd.rootPath", Some("env")), ("MQ_TYPE", None)]);
        assert_eq!(config.value("etcd.rootPath"), Some("env"), "the last duplicate wins");
        assert_eq!(config.value("mq.type"), Some("rocksmq"), "a variable that comes from elsewhere is unknown");
        assert_eq!(config.settings().len(), 3);
    }

    #[test]
    fn a_variable_on_top_of_a_file_is_a_change_of_the_file() {
        let mut files = FileSettings::default();
        files.lay_file(&file("default.yaml", "etcd:\n  rootPath: by-dev\nmq:\n  type: pulsar\n"), &origin());
        let mut others = files.clone();
        let keys = |changes: Vec<&Setting>| changes.into_iter().map(|setting| setting.key.clone()).collect::<Vec<_>>();
        let plain = with_variables(&files, &[("A", Some("1"))]);
        let above = with_variables(&files, &[("A", Some("2")), ("ETCD_ROOT_PATH", Some("mine")), ("MQ_TYPE", Some("pulsar"))]);
        assert_eq!(keys(plain.file_changes(&above)), ["etcd.rootPath"], "the same value on top changes nothing");
        assert!(above.file_changes(&plain).is_empty());
        others.lay_file(&file("user.yaml", "mq:\n  type: kafka\n"), &origin());
        assert_eq!(keys(plain.file_changes(&with_variables(&others, &[("A", Some("1"))]))), ["mq.type"]);
    }

    #[test]
    fn a_broken_file_is_named() {
        let mut files = FileSettings::default();
        files.lay_file(&file("user.yaml", "etcd: {rootPath\n"), &origin());
        let config = EffectiveConfig::new(Arc::new(files), Vec::new());
        assert!(config.is_empty());
        assert!(config.unreadable()[0].1.starts_with("user.yaml: line "), "{:?}", config.unreadable());
    }
}
