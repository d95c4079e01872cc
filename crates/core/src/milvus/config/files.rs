//! What configuration files say: parsed once, shared by every component that mounts them.

use std::{mem, sync::Arc};

use crate::manifest::{
    Budget, Origin, Tree, documents_within,
    node::Kind,
    object::{ConfigFile, ConfigMap, SourceKind},
};

use super::{
    Layer, Lookup, Setting, Unknown,
    key::{Key, hash, order},
    rendered::lies_in,
};

/// Bytes of a file that is read. Milvus' own `milvus.yaml` has 60 KiB, and a whole object at most 1
/// MiB.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Settings of one file. Milvus' own has about 900.
pub const MAX_SETTINGS: usize = 20_000;
/// Bytes of the keys of one file, each written out with all sections that it is in. Those of
/// Milvus' own are 30 KiB.
pub const MAX_KEY_BYTES: usize = 2 * 1024 * 1024;

/// The settings of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSettings {
    /// Ordered by the hash of the key and its normal form, each once.
    settings: Vec<Written>,
    /// Their hashes, close together: most lookups see nothing else.
    hashes: Vec<u64>,
    /// Bytes of all keys.
    key_bytes: usize,
    /// Top-level sections, as written.
    sections: Vec<String>,
    /// Whether the file is in a Secret: its values are compared and never shown.
    is_secret: bool,
}

/// A setting of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub(super) hash: u64,
    pub(super) key: Box<str>,
    pub(super) value: Box<str>,
    pub(super) origin: Origin,
}

/// Why the settings of a file are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The text is not valid YAML: where in the source, and why.
    Damaged(Origin, String),
    /// It says more than is read of a file.
    TooLarge(String),
}

impl FileSettings {
    /// Reads a file. An empty file has no settings.
    ///
    /// # Errors
    /// Where the text is not valid YAML, or more than is read of a file. Settings beyond that are
    /// not known, so none of them is.
    pub fn read(
        file: &ConfigFile,
        text: &str,
        origin: &Origin,
        kind: SourceKind,
    ) -> Result<Self, Unread> {
        let too_large =
            |what: String| Unread::TooLarge(format!("{}: the file has more than {what}", file.key));
        if text.len() > MAX_FILE_BYTES {
            return Err(too_large(format!("{} KiB", MAX_FILE_BYTES / 1024)));
        }
        let mut settings = Self {
            is_secret: kind == SourceKind::Secret,
            ..Self::default()
        };
        let budget = Budget::default();
        match documents_within(text, &budget).next() {
            Some(Ok(document)) => {
                settings
                    .sections
                    .extend(document.root.entries().map(|(key, _)| key.to_owned()));
                let mut path = String::new();
                settings
                    .lay_node(&document.root, &mut path, file, origin)
                    .map_err(too_large)?;
                settings.settle();
                Ok(settings)
            }
            Some(Err(error)) => Err(match error.exceeded {
                Some(exceeded) => Unread::TooLarge(format!("{}: {exceeded}", file.key)),
                None => Unread::Damaged(
                    origin.at_line(if file.line == 0 {
                        0
                    } else {
                        file.line + error.line
                    }),
                    format!("{}: line {}: {}", file.key, error.line, error.message),
                ),
            }),
            None => Ok(settings),
        }
    }

    /// Settings that are known by name and value, such as those that Milvus itself keeps in etcd.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, origin: &Origin) -> Self {
        let mut settings = Self::default();
        for (key, value) in pairs {
            // Beyond the bound nothing of Milvus' own stands.
            if settings.put(key, value, origin.clone()).is_err() {
                break;
            }
        }
        settings.settle();
        settings
    }

    /// Lays a node and all below it; the bound that it breaks, if it does.
    fn lay_node(
        &mut self,
        node: &Tree<'_>,
        path: &mut String,
        file: &ConfigFile,
        origin: &Origin,
    ) -> Result<(), String> {
        match &node.kind {
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(key);
                    self.lay_node(value, path, file, origin)?;
                    path.truncate(length);
                }
                Ok(())
            }
            Kind::Sequence(items) => {
                let joined = items
                    .iter()
                    .filter_map(Tree::as_str)
                    .collect::<Vec<_>>()
                    .join(",");
                self.put(path, &joined, origin.at_line(line_in(file, node.line)))
            }
            Kind::Scalar { text, .. } => {
                let value = if node.is_null() { "" } else { text };
                self.put(path, value, origin.at_line(line_in(file, node.line)))
            }
        }
    }

    fn put(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), String> {
        self.key_bytes += key.len();
        if self.settings.len() >= MAX_SETTINGS {
            return Err(format!("{MAX_SETTINGS} settings"));
        }
        if self.key_bytes > MAX_KEY_BYTES {
            return Err(format!("{} KiB of keys", MAX_KEY_BYTES / 1024));
        }
        self.settings.push(Written {
            hash: hash(key),
            key: key.into(),
            value: value.into(),
            origin,
        });
        Ok(())
    }

    /// Brings what was written into its order; of equal keys the last counts.
    fn settle(&mut self) {
        let compare = |one: &Written, other: &Written| {
            one.hash
                .cmp(&other.hash)
                .then_with(|| order(&one.key, &other.key))
        };
        self.settings.sort_by(compare);
        self.settings.dedup_by(|later, kept| {
            let same = compare(later, kept).is_eq();
            if same {
                mem::swap(later, kept);
            }
            same
        });
        self.hashes = self.settings.iter().map(|written| written.hash).collect();
    }

    pub(super) fn get(&self, key: &Key<'_>) -> Option<Setting<'_>> {
        let start = self.hashes.partition_point(|hash| *hash < key.hash);
        if self.hashes.get(start) != Some(&key.hash) {
            return None;
        }
        let mut equal = self
            .settings
            .get(start..)?
            .iter()
            .take_while(|written| written.hash == key.hash);
        equal
            .find(|written| key.is(&written.key))
            .map(|written| self.setting(written))
    }

    /// The same without a key.
    pub(super) fn without(&self, key: &Key<'_>) -> Self {
        let mut rest = self.clone();
        rest.settings.retain(|written| !key.is(&written.key));
        rest.settle();
        rest
    }

    /// Whether a section in which the key lies is a value itself.
    fn replaces(&self, key: &Key<'_>) -> bool {
        key.sections()
            .any(|section| self.get(&Key::of(section)).is_some())
    }

    fn setting<'a>(&'a self, written: &'a Written) -> Setting<'a> {
        Setting {
            key: &written.key,
            value: &written.value,
            layer: Layer::File,
            origin: &written.origin,
            is_secret: self.is_secret,
        }
    }

    /// Every key as written, with its value.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|written| (&*written.key, &*written.value))
    }

    /// Every setting.
    pub(super) fn iter(&self) -> impl Iterator<Item = Setting<'_>> {
        self.settings.iter().map(|written| self.setting(written))
    }
}

fn line_in(file: &ConfigFile, line: u32) -> u32 {
    if file.line == 0 { 0 } else { file.line + line }
}

/// The files that one container reads, lowest first.
#[derive(Clone, Debug, Default)]
pub struct FileStack {
    pub(super) layers: Vec<FileLayer>,
    /// Whether no mount shows these files: the input shows no mount of the container, and they are
    /// taken for its own by their names.
    pub(super) is_assumed: bool,
}

/// One file that a container reads.
#[derive(Clone, Debug)]
pub(super) struct FileLayer {
    /// Name in the configuration folder, such as `user.yaml`.
    pub(super) name: &'static str,
    pub(super) content: Content,
    /// What an init container does to it before Milvus reads it; `None` if nothing.
    pub(super) edit: Option<Edit>,
}

impl FileLayer {
    /// A file that is read as it is.
    pub(super) const fn of(name: &'static str, content: Content) -> Self {
        Self {
            name,
            content,
            edit: None,
        }
    }
}

/// What an init container does to a file that it merges.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    /// Paths of sections that it removes.
    pub(super) removed: Arc<[String]>,
    /// Why values with a template in them are not known; `None` if the file has none.
    pub(super) template: Option<Arc<Unknown>>,
}

impl Edit {
    /// What is done to settings.
    pub(super) fn of(settings: &FileSettings, removed: &Arc<[String]>, by: &str) -> Self {
        let has_template = settings.iter().any(|setting| is_template(setting.value));
        let reason = || format!("a template that init container {by} fills in");
        Self {
            removed: Arc::clone(removed),
            template: has_template.then(|| Arc::new(Unknown::written(reason()))),
        }
    }

    fn found<'a>(&'a self, setting: Setting<'a>) -> Lookup<'a> {
        let is_removed = |section: &String| lies_in(setting.key, section);
        match &self.template {
            _ if self.removed.iter().any(is_removed) => Lookup::Absent,
            Some(unknown) if is_template(setting.value) => Lookup::Unknown(unknown),
            _ => Lookup::Known(setting),
        }
    }
}

fn is_template(value: &str) -> bool {
    value.contains("{{")
}

/// What a file says.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Its settings, and the object and key that they were read of.
    Settings {
        settings: Arc<FileSettings>,
        of: Arc<ConfigMap>,
        key: Box<str>,
    },
    /// Settings that the script of an init container names.
    Scripted(Arc<FileSettings>),
    /// It cannot be known.
    Unknown(Unknown),
    /// It is there and is not YAML.
    Unreadable(Origin, Unknown),
}

impl FileStack {
    pub(super) fn lookup(&self, key: &Key<'_>) -> Lookup<'_> {
        for layer in self.layers.iter().rev() {
            match &layer.content {
                Content::Settings { settings, .. } | Content::Scripted(settings) => {
                    let found = match (settings.get(key), &layer.edit) {
                        (Some(setting), Some(edit)) => edit.found(setting),
                        (Some(setting), None) => Lookup::Known(setting),
                        // A merge of trees replaces a section by a value.
                        (None, Some(_)) if settings.replaces(key) => return Lookup::Absent,
                        (None, _) => Lookup::Absent,
                    };
                    if !matches!(found, Lookup::Absent) {
                        return found;
                    }
                }
                Content::Unknown(unknown) | Content::Unreadable(_, unknown) => {
                    return Lookup::Unknown(unknown);
                }
            }
        }
        Lookup::Absent
    }

    pub(super) fn settings(&self) -> impl Iterator<Item = &Arc<FileSettings>> {
        self.layers.iter().filter_map(|layer| match &layer.content {
            Content::Settings { settings, .. } | Content::Scripted(settings) => Some(settings),
            Content::Unknown(_) | Content::Unreadable(..) => None,
        })
    }

    pub(super) fn has_unknown(&self) -> bool {
        self.layers.iter().any(|layer| {
            let edit = layer.edit.as_ref();
            matches!(layer.content, Content::Unknown(_) | Content::Unreadable(..))
                || edit.is_some_and(|edit| edit.template.is_some())
        })
    }

    /// Whether a mounted `milvus.yaml` that could be read replaces the image's own.
    pub(super) fn replaces_own_file(&self) -> bool {
        // What an init container merges lies over the image's own.
        let is_read = |layer: &FileLayer| {
            layer.edit.is_none() && matches!(layer.content, Content::Settings { .. })
        };
        !self.is_assumed
            && self
                .layers
                .iter()
                .any(|layer| layer.name == "milvus.yaml" && is_read(layer))
    }

    pub(super) fn has_section(&self, name: &str) -> bool {
        self.settings()
            .any(|settings| settings.sections.iter().any(|section| section == name))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.layers.len() == other.layers.len()
            && self.layers.iter().zip(&other.layers).all(|(one, other)| {
                let is_edited_alike = one.edit == other.edit;
                is_edited_alike
                    && match (&one.content, &other.content) {
                        (
                            Content::Settings { settings: one, .. },
                            Content::Settings {
                                settings: other, ..
                            },
                        ) => Arc::ptr_eq(one, other) || one.settings == other.settings,
                        (Content::Scripted(one), Content::Scripted(other)) => one == other,
                        (Content::Unknown(one), Content::Unknown(other))
                        | (Content::Unreadable(_, one), Content::Unreadable(_, other)) => {
                            one == other
                        }
                        _ => false,
                    }
            })
    }
}
