//! The configuration that Milvus would really run with.
//!
//! Lowest to highest: the image's own `milvus.yaml` (its defaults are in the catalogue), `milvus.yaml` or
//! `default.yaml` of the `ConfigMap`, `user.yaml`, the environment. Milvus reads each file with the last of
//! duplicate keys winning, and finds a key without regard to case and separators.
//!
//! Files and the variables of each workload are layers of their own and shared: one workload changes, and only its
//! layer is made anew.

use std::{collections::BTreeMap, mem, sync::Arc};

use crate::manifest::{
    Origin, Tree, documents,
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
    /// Ordered by the hash of the key and its normal form, each once: most lookups compare numbers alone.
    settings: Vec<Written>,
    /// Files that could not be read, with the reason.
    unreadable: Vec<(Origin, String)>,
    /// Top-level sections that some file holds, as written.
    sections: Vec<String>,
}

/// A setting of a file.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    hash: u64,
    normal: Box<str>,
    key: Box<str>,
    value: Box<str>,
    origin: Origin,
}

/// What the variables of one workload say: where each stands, ordered by the hash of its key.
#[derive(Clone, Debug)]
pub struct Environment {
    workload: Arc<Workload>,
    index: Arc<[Place]>,
    /// A bit for each hash that is there, by its last six bits: most lookups end here.
    mask: u64,
}

/// A variable of a workload, and the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    container: u32,
    variable: u32,
}

/// One effective setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting<'a> {
    /// The key as written, such as `etcd.rootPath`.
    pub key: &'a str,
    /// Its value as text; a list is joined with commas, as Milvus itself reads it.
    pub value: &'a str,
    /// What won.
    pub layer: Layer,
    /// Where that stood.
    pub origin: &'a Origin,
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
                self.settle();
            }
            Some(Err(error)) => self.unreadable.push((
                origin.at_line(if file.line == 0 { 0 } else { file.line + error.line }),
                format!("{}: line {}: {}", file.key, error.line, error.message),
            )),
            None => {}
        }
    }

    fn lay_node(&mut self, node: &Tree<'_>, path: &mut String, file: &ConfigFile, origin: &Origin) {
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
                let joined = items.iter().filter_map(Tree::as_str).collect::<Vec<_>>().join(",");
                self.put(path, &joined, origin.at_line(line_in(file, node.line)));
            }
            Kind::Scalar { text, .. } => {
                let value = if node.is_null() { "" } else { text };
                self.put(path, value, origin.at_line(line_in(file, node.line)));
            }
        }
    }

    fn put(&mut self, key: &str, value: &str, origin: Origin) {
        let (hash, normal) = (hash(key), normalised(key));
        self.settings.push(Written { hash, normal, key: key.into(), value: value.into(), origin });
    }

    /// Brings what was written into its order; of equal keys the last counts.
    fn settle(&mut self) {
        self.settings.sort_by(|one, other| (one.hash, &one.normal).cmp(&(other.hash, &other.normal)));
        self.settings.dedup_by(|later, kept| {
            let same = later.hash == kept.hash && later.normal == kept.normal;
            if same {
                mem::swap(later, kept);
            }
            same
        });
    }
}

impl FileSettings {
    fn get(&self, key: &Key<'_>) -> Option<&Written> {
        let start = self.settings.partition_point(|written| written.hash < key.hash);
        let mut equal = self.settings.get(start..)?.iter().take_while(|written| written.hash == key.hash);
        equal.find(|written| key.is(&written.key))
    }
}

impl Written {
    fn setting(&self) -> Setting<'_> {
        Setting { key: &self.key, value: &self.value, layer: Layer::File, origin: &self.origin }
    }
}

impl Environment {
    /// The variables of a workload. Values that come from elsewhere are unknown.
    #[must_use]
    pub fn of(workload: &Arc<Workload>) -> Self {
        let mut index = Vec::new();
        for (container, at) in workload.pod.containers.iter().zip(0..) {
            let known = container.env.iter().zip(0..).filter(|((_, value), _)| value.is_some());
            index.extend(known.map(|((name, _), variable)| Place { hash: hash(name), container: at, variable }));
        }
        index.sort_unstable();
        let mask = index.iter().fold(0, |mask, place| mask | bit(place.hash));
        Self { workload: Arc::clone(workload), index: index.into(), mask }
    }

    /// The variables of the same workload after a change. Most changes are of values, and then everything stands where it
    /// stood.
    fn renewed(&self, workload: &Arc<Workload>) -> Self {
        let (old, new) = (&self.workload.pod.containers, &workload.pod.containers);
        if old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.env.has_names_of(&new.env)) {
            return Self { workload: Arc::clone(workload), index: Arc::clone(&self.index), mask: self.mask };
        }
        Self::of(workload)
    }

    fn setting(&self, place: Place) -> Option<Setting<'_>> {
        let container = self.workload.pod.containers.get(place.container as usize)?;
        let (key, value) = container.env.get(place.variable as usize)?;
        Some(Setting { key, value: value?, layer: Layer::Environment, origin: &self.workload.meta.origin })
    }

    /// All places of a hash, in the order of the containers and their variables.
    fn places(&self, hash: u64) -> &[Place] {
        if self.mask & bit(hash) == 0 {
            return &[];
        }
        let start = self.index.partition_point(|place| place.hash < hash);
        let rest = self.index.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|place| place.hash == hash).count();
        rest.get(..count).unwrap_or_default()
    }

    /// Of duplicates the last counts.
    fn get(&self, key: &Key<'_>) -> Option<Setting<'_>> {
        let places = self.places(key.hash).iter().rev();
        places.filter_map(|place| self.setting(*place)).find(|setting| key.is(setting.key))
    }

    fn has_keys_of(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.index.iter().map(|place| place.hash).eq(other.index.iter().map(|place| place.hash))
    }

    fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        self.index.iter().filter_map(|place| self.setting(*place))
    }
}

impl PartialEq for Environment {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.settings().eq(other.settings())
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
    pub fn renew_environment(&mut self, at: usize, workload: &Arc<Workload>) {
        if let Some(layer) = self.environment.get_mut(at) {
            *layer = Arc::new(layer.renewed(workload));
        }
    }

    /// Files that could not be read, with the reason.
    #[must_use]
    pub fn unreadable(&self) -> &[(Origin, String)] {
        &self.files.unreadable
    }

    /// The setting of `key`, in any spelling.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Setting<'_>> {
        self.find(&Key::of(key))
    }

    fn find(&self, key: &Key<'_>) -> Option<Setting<'_>> {
        self.variable(key).or_else(|| self.files.get(key).map(Written::setting))
    }

    fn variable(&self, key: &Key<'_>) -> Option<Setting<'_>> {
        self.environment.iter().rev().find_map(|layer| layer.get(key))
    }

    /// The value of `key`; an empty one counts as absent, as Milvus then takes its default.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(|setting| setting.value).filter(|value| !value.is_empty())
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
        self.files.settings.is_empty() && self.environment.iter().all(|layer| layer.index.is_empty())
    }

    /// Every setting that counts, ordered by key.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting<'_>> {
        let files = self.files.settings.iter();
        let mut all: BTreeMap<Box<str>, Setting<'_>> = files.map(|written| (written.normal.clone(), written.setting())).collect();
        for setting in self.environment.iter().flat_map(|layer| layer.settings()) {
            // In order of hashes; equal keys have equal hashes and stand in their own order.
            all.insert(normalised(setting.key), setting);
        }
        all.into_values().collect()
    }

    /// Settings of files (not of the environment) that differ from, or are absent in, `other`.
    #[must_use]
    pub fn file_changes<'a>(&'a self, other: &Self) -> Vec<Setting<'a>> {
        let changed = |key: &str| {
            let key = Key::of(key);
            let written = self.files.get(&key).filter(|_| self.variable(&key).is_none())?;
            let differs = other.find(&key).is_none_or(|old| old.value != &*written.value);
            differs.then(|| written.setting())
        };
        let mut keys: Vec<Box<str>> = if Arc::ptr_eq(&self.files, &other.files) || self.files == other.files {
            // Then only a variable that the other side has on top makes a difference.
            self.variables_beyond(other).map(|setting| normalised(setting.key)).collect()
        } else {
            self.files.settings.iter().map(|written| written.normal.clone()).collect()
        };
        keys.sort_unstable();
        keys.dedup();
        keys.iter().filter_map(|key| changed(key)).collect()
    }

    /// Variables in a layer of `other` whose key the same layer here lacks.
    fn variables_beyond<'a>(&self, other: &'a Self) -> impl Iterator<Item = Setting<'a>> {
        other.environment.iter().enumerate().flat_map(|(at, layer)| {
            let own = self.environment.get(at);
            let same = own.is_some_and(|own| own.has_keys_of(layer));
            let places = if same { &[][..] } else { &layer.index };
            let missing = places.iter().filter(move |place| own.is_none_or(|own| own.places(place.hash).is_empty()));
            missing.filter_map(|place| layer.setting(*place))
        })
    }
}

fn line_in(file: &ConfigFile, line: u32) -> u32 {
    if file.line == 0 { 0 } else { file.line + line }
}

/// A key that is looked for, in any spelling.
struct Key<'a> {
    text: &'a str,
    hash: u64,
}

impl<'a> Key<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, hash: hash(text) }
    }

    fn is(&self, other: &str) -> bool {
        self.text == other || normal(self.text).eq(normal(other))
    }
}

/// The form in which Milvus compares keys.
fn normalised(key: &str) -> Box<str> {
    normal(key).collect::<String>().into()
}

/// Milvus compares keys in lower case without separators.
fn normal(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|letter| !is_separator(*letter)).flat_map(char::to_lowercase)
}

const fn is_separator(letter: char) -> bool {
    matches!(letter, '.' | '_' | '/')
}

const fn bit(hash: u64) -> u64 {
    1 << (hash & 63)
}

/// FNV-1a of the normal form. Whoever makes keys collide only makes his own lookup longer.
fn hash(key: &str) -> u64 {
    let step = |hash: u64, letter: char| (hash ^ u64::from(letter)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    if key.is_ascii() {
        let letters = key.bytes().filter(|byte| !is_separator(char::from(*byte)));
        return letters.fold(start, |hash, byte| step(hash, char::from(byte.to_ascii_lowercase())));
    }
    normal(key).fold(start, step)
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
        let Some(Object::Workload(workload)) = Object::read(&Tree::from_json(&workload), &origin(), None) else { panic!() };
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
        let keys = |changes: Vec<Setting<'_>>| changes.into_iter().map(|setting| setting.key.to_owned()).collect::<Vec<_>>();
        let plain = with_variables(&files, &[("A", Some("1"))]);
        let above = with_variables(&files, &[("A", Some("2")), ("ETCD_ROOT_PATH", Some("mine")), ("MQ_TYPE", Some("pulsar"))]);
        assert_eq!(keys(plain.file_changes(&above)), ["etcd.rootPath"], "the same value on top changes nothing");
        assert!(above.file_changes(&plain).is_empty());
        others.lay_file(&file("user.yaml", "mq:\n  type: kafka\n"), &origin());
        assert_eq!(keys(plain.file_changes(&with_variables(&others, &[("A", Some("1"))]))), ["mq.type"]);
    }

    #[test]
    fn variables_after_a_change_are_those_read_anew() {
        let layer = |variables: &[(&str, Option<&str>)]| {
            Environment::clone(&with_variables(&FileSettings::default(), variables).environment[0])
        };
        let old = layer(&[("ETCD_ROOTPATH", Some("a")), ("MQ_TYPE", Some("pulsar")), ("B", None)]);
        for changed in [
            &[("ETCD_ROOTPATH", Some("b")), ("MQ_TYPE", Some("pulsar")), ("B", None)][..],
            &[("ETCD_ROOTPATH", Some("a")), ("MQ_TYPE", None), ("B", None)],
            &[("MQ_TYPE", Some("kafka")), ("ETCD_ROOTPATH", Some("a")), ("B", None)],
            &[("ETCD_ROOTPATH", Some("a")), ("MQ_TYPE", Some("pulsar")), ("B", None), ("A", Some("1"))],
            &[],
        ] {
            let new = layer(changed);
            let renewed = old.renewed(&new.workload);
            assert_eq!((&renewed.index, renewed.mask), (&new.index, new.mask), "{changed:?}");
            assert_eq!(renewed, new);
        }
        assert!(Arc::ptr_eq(
            &old.index,
            &old.renewed(&layer(&[("ETCD_ROOTPATH", Some("")), ("MQ_TYPE", Some("")), ("B", None)]).workload).index
        ));
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
