//! The configuration that Milvus would really run with.
//!
//! Lowest to highest: the image's own `milvus.yaml` (its defaults are in the catalogue), the files
//! of the configuration folder, the environment, and what Milvus itself keeps in etcd (milvus
//! `pkg/config/manager.go`). Milvus reads each file with the last of duplicate keys winning, and
//! finds a key without regard to case and separators.
//!
//! A value is known, absent, or unknown with a reason. Unknown never counts as unchanged.

mod command;
mod environment;
mod files;
mod folder;
mod key;
mod place;
mod referred;
mod rendered;
mod sources;

pub use environment::Environment;
pub use files::{FileSettings, FileStack, MAX_FILE_BYTES, MAX_KEY_BYTES, MAX_SETTINGS, Unread};
pub(crate) use folder::below;
pub(crate) use key::is_variable_of;
pub use place::Place;
pub use sources::{MAX_COPIED_BYTES, MAX_RELEASE_BYTES, Parsed, Sources};

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::manifest::{
    Origin,
    object::{ConfigMap, Container, SourceRef},
};

use self::{
    key::{Key, normalised},
    referred::Referred,
};

use super::component_workload::ComponentWorkload;

/// The effective settings of one Milvus release.
#[derive(Clone, Debug, Default)]
pub struct EffectiveConfig {
    /// One part for each container that runs Milvus, in the order of the components.
    parts: Vec<Arc<Part>>,
    /// What Milvus keeps in etcd, which beats everything else; `None` if etcd was not read.
    dynamic: Option<Arc<FileSettings>>,
    /// What the pods of the components refer to.
    referred: Referred,
}

/// The settings of one container that runs Milvus.
#[derive(Clone, Debug)]
struct Part {
    /// Position of the component in its release.
    component: usize,
    files: FileStack,
    environment: Environment,
}

/// One effective setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting<'a> {
    /// The key as written, such as `etcd.rootPath`.
    pub key: &'a str,
    /// Its value as text; a list is joined with commas, as Milvus itself reads it. Not to be shown
    /// if `is_secret`.
    pub value: &'a str,
    /// What won.
    pub layer: Layer,
    /// Where that stood.
    pub origin: &'a Origin,
    /// Whether the value comes from a Secret.
    pub is_secret: bool,
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// In a file.
    File,
    /// In a variable of a container.
    Environment,
    /// In etcd, kept by Milvus itself.
    Etcd,
}

/// What is known about a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// It is not set: Milvus takes its default.
    Absent,
    /// It is set.
    Known(Setting<'a>),
    /// It may be set, to a value that the input does not hold.
    Unknown(&'a Unknown),
}

/// Why a value is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    reason: Box<str>,
    teller: Teller,
}

/// What would tell a value that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teller {
    /// An object that the input does not hold.
    Object(SourceRef),
    /// What an init container runs and reads.
    InitContainer,
    /// Nothing that manifests hold.
    Nothing,
}

impl Unknown {
    /// A value that no input can tell; `reason` names the place.
    #[must_use]
    pub fn new(reason: String) -> Self {
        Self {
            reason: reason.into(),
            teller: Teller::Nothing,
        }
    }

    /// A value that an init container writes; `reason` names the place.
    fn written(reason: String) -> Self {
        Self {
            reason: reason.into(),
            teller: Teller::InitContainer,
        }
    }

    fn missing(place: &str, source: &SourceRef) -> Self {
        Self {
            reason: format!("{place}, which the input does not contain").into(),
            teller: Teller::Object(source.clone()),
        }
    }

    /// What would tell the value.
    #[must_use]
    pub const fn teller(&self) -> &Teller {
        &self.teller
    }

    /// The object that the input would have to hold; `None` if no object tells.
    #[must_use]
    pub fn source(&self) -> Option<&SourceRef> {
        match &self.teller {
            Teller::Object(source) => Some(source),
            Teller::InitContainer | Teller::Nothing => None,
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl<'a> Setting<'a> {
    /// The value as it may be shown.
    #[must_use]
    pub fn shown(&self) -> &'a str {
        if self.is_secret { HIDDEN } else { self.value }
    }

    /// Whether the value is true, in one of Go's spellings.
    #[must_use]
    pub fn is_true(&self) -> bool {
        matches!(self.value, "1" | "t" | "T" | "true" | "TRUE" | "True")
    }
}

/// Shown in a report instead of a value of a Secret.
pub const HIDDEN: &str = "a value of a Secret";

/// The settings of one component.
#[derive(Clone, Copy, Debug)]
pub struct ComponentSettings<'a> {
    part: &'a Part,
    dynamic: Option<&'a FileSettings>,
}

impl<'a> ComponentSettings<'a> {
    /// Position of the component in its release.
    #[must_use]
    pub fn component(&self) -> usize {
        self.part.component
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> Option<&'a Container> {
        self.part.environment.container()
    }

    /// Whether some file or variable is not known.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.part.files.has_unknown() || self.part.environment.has_unknown()
    }

    /// Whether both are one and the same part, unchanged.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.part, other.part)
    }

    /// Whether a mounted file that could be read replaces the image's own `milvus.yaml`,
    /// so that a setting that is absent is not set at all.
    #[must_use]
    pub fn replaces_own_file(&self) -> bool {
        self.part.files.replaces_own_file()
    }

    /// The setting of `key`, in any spelling. An empty value counts as absent, as Milvus then takes
    /// its default.
    #[must_use]
    pub fn lookup(&self, key: &str) -> Lookup<'a> {
        let key = Key::of(key);
        if let Some(setting) = self.dynamic.and_then(|dynamic| dynamic.get(&key)) {
            return Lookup::Known(Setting {
                layer: Layer::Etcd,
                ..setting
            });
        }
        let found = match self.part.environment.lookup(&key) {
            Lookup::Absent => self.part.files.lookup(&key),
            found => found,
        };
        let found = match found {
            Lookup::Known(setting) if setting.value.is_empty() => Lookup::Absent,
            found => found,
        };
        match (found, self.part.environment.sourced()) {
            (Lookup::Absent, Some(unknown)) => Lookup::Unknown(unknown),
            (found, _) => found,
        }
    }
}

impl EffectiveConfig {
    /// The configuration of components, with the objects that their pods refer to. `known` and
    /// `parsed` bring files that were parsed before, as long as all these objects live.
    #[must_use]
    pub fn of(
        components: &[ComponentWorkload],
        objects: &[Arc<ConfigMap>],
        namespace: Option<&str>,
        fallback: Option<&Arc<ConfigMap>>,
        known: &Self,
        parsed: &mut Parsed,
    ) -> Self {
        let mut sources = Sources::new(objects, namespace, known, parsed);
        let parts = components
            .iter()
            .enumerate()
            .flat_map(|(at, component)| Part::all(at, component, &mut sources, fallback))
            .collect();
        Self {
            parts,
            dynamic: known.dynamic.clone(),
            referred: Referred::of(components, &sources),
        }
    }

    /// The same, with one component read again.
    #[must_use]
    pub fn with_component(
        &self,
        at: usize,
        component: &ComponentWorkload,
        objects: &[Arc<ConfigMap>],
        namespace: Option<&str>,
        fallback: Option<&Arc<ConfigMap>>,
    ) -> Self {
        let mut parsed = Parsed::default();
        let mut sources = Sources::new(objects, namespace, self, &mut parsed);
        let mut parts: Vec<Arc<Part>> = self
            .parts
            .iter()
            .filter(|part| part.component != at)
            .cloned()
            .collect();
        parts.extend(Part::all(at, component, &mut sources, fallback));
        parts.sort_by_key(|part| part.component);
        let referred = self.referred.with(component, &sources);
        Self {
            parts,
            dynamic: self.dynamic.clone(),
            referred,
        }
    }

    /// Whether a reference of a pod of this release and one of a pod of the other lead to the same
    /// content, under any name. Where the input holds neither object, the same name is the same
    /// content; where it holds one of them, nothing is known.
    #[must_use]
    pub fn is_same_object(&self, own: &SourceRef, other: &Self, others: &SourceRef) -> bool {
        match (self.referred.get(own), other.referred.get(others)) {
            (Some(own), Some(other)) => own.has_content_of(other),
            (None, None) => own == others,
            _ => false,
        }
    }

    /// The same for one key of the objects.
    #[must_use]
    pub fn is_same_key(
        &self,
        (own, key): (&SourceRef, &str),
        other: &Self,
        (others, others_key): (&SourceRef, &str),
    ) -> bool {
        key == others_key
            && match (self.referred.get(own), other.referred.get(others)) {
                (Some(own), Some(other)) => own.has_key_of(other, key),
                (None, None) => own == others,
                _ => false,
            }
    }

    /// Whether some container reads files that no mount shows.
    #[must_use]
    pub fn has_assumed_files(&self) -> bool {
        self.parts
            .iter()
            .any(|part| part.files.is_assumed && !part.files.layers.is_empty())
    }

    /// The same without files that no mount shows: such a container reads those of its image.
    #[must_use]
    pub fn without_assumed_files(&self) -> Self {
        let parts = self.parts.iter().map(|part| {
            if part.files.is_assumed {
                Arc::new(Part {
                    files: FileStack::default(),
                    ..Part::clone(part)
                })
            } else {
                Arc::clone(part)
            }
        });
        Self {
            parts: parts.collect(),
            dynamic: self.dynamic.clone(),
            referred: self.referred.clone(),
        }
    }

    /// Lays what Milvus keeps in etcd over everything else.
    pub fn lay_dynamic(&mut self, settings: FileSettings) {
        self.dynamic = Some(Arc::new(settings));
    }

    /// Whether etcd was read.
    #[must_use]
    pub fn has_dynamic(&self) -> bool {
        self.dynamic.is_some()
    }

    /// The settings of each container that runs Milvus, in the order of the components.
    pub fn views(&self) -> impl Iterator<Item = ComponentSettings<'_>> {
        self.parts.iter().map(|part| ComponentSettings {
            part,
            dynamic: self.dynamic.as_deref(),
        })
    }

    /// Files that could not be read, with the reason.
    #[must_use]
    pub fn unreadable(&self) -> Vec<(Origin, String)> {
        let mut all: Vec<(Origin, String)> = Vec::new();
        for layer in self.parts.iter().flat_map(|part| &part.files.layers) {
            if let files::Content::Unreadable(origin, reason) = &layer.content
                && !all.iter().any(|(known, _)| known == origin)
            {
                all.push((origin.clone(), reason.to_string()));
            }
        }
        all
    }

    /// The setting of `key`, in any spelling, of the first component that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Setting<'_>> {
        self.views().find_map(|view| match view.lookup(key) {
            Lookup::Known(setting) => Some(setting),
            Lookup::Absent | Lookup::Unknown(_) => None,
        })
    }

    /// The value of `key`; an empty one counts as absent, as Milvus then takes its default.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.get(key)
            .map(|setting| setting.value)
            .filter(|value| !value.is_empty())
    }

    /// Whether `key` is set to true, in one of Go's spellings.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|setting| setting.is_true())
    }

    /// Why `key` is unknown for some component; `None` if it is known or absent everywhere.
    #[must_use]
    pub fn unknown(&self, key: &str) -> Option<&Unknown> {
        let mut some = self.views().filter(ComponentSettings::has_unknown);
        some.find_map(|view| match view.lookup(key) {
            Lookup::Unknown(unknown) => Some(unknown),
            Lookup::Absent | Lookup::Known(_) => None,
        })
    }

    /// The objects that would tell what is not known: files, whole environments, and variables that
    /// are not credentials.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<SourceRef> {
        let files = self
            .parts
            .iter()
            .flat_map(|part| &part.files.layers)
            .filter_map(|layer| match &layer.content {
                files::Content::Unknown(unknown) => unknown.source(),
                files::Content::Settings { .. }
                | files::Content::Scripted(_)
                | files::Content::Unreadable(..) => None,
            });
        let variables = self
            .parts
            .iter()
            .flat_map(|part| part.environment.unknown())
            .filter_map(Unknown::source);
        files.chain(variables).cloned().collect()
    }

    /// Whether some file has the top-level section.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.files.has_section(name))
    }

    /// Whether no file and no variable was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts
            .iter()
            .all(|part| part.files.settings().next().is_none() && part.environment.is_empty())
    }

    /// Every setting that counts, ordered by key.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting<'_>> {
        let mut all: BTreeMap<Box<str>, Setting<'_>> = BTreeMap::new();
        let mut keys: BTreeSet<Box<str>> = BTreeSet::new();
        let mut seen: Vec<*const FileSettings> = Vec::new();
        for part in &self.parts {
            for file in part.files.settings() {
                // Most components mount the same files.
                if !seen.contains(&Arc::as_ptr(file)) {
                    seen.push(Arc::as_ptr(file));
                    keys.extend(file.iter().map(|setting| normalised(setting.key)));
                }
            }
            keys.extend(part.environment.keys());
        }
        for key in keys {
            if let Some(setting) = self.get(&key) {
                all.insert(key, setting);
            }
        }
        all.into_values().collect()
    }

    /// Settings of files (not of the environment) that differ from, or are absent in, `other`.
    #[must_use]
    pub fn file_changes<'a>(&'a self, other: &Self) -> Vec<Setting<'a>> {
        let mut changed: BTreeMap<Box<str>, Setting<'a>> = BTreeMap::new();
        let mut seen: Vec<&FileStack> = Vec::new();
        for view in self.views() {
            let counterpart = other
                .views()
                .find(|other| other.component() == view.component())
                .or_else(|| other.views().next());
            let stack = &view.part.files;
            let is_known = seen.iter().any(|known| known.is_same(stack));
            let is_unchanged = counterpart.is_some_and(|other| {
                // Then only a variable that the other side has on top could make a difference.
                other.part.files.is_same(stack)
                    && view.part.environment.has_keys_of(&other.part.environment)
            });
            if is_known || is_unchanged {
                continue;
            }
            seen.push(stack);
            for written in stack.settings().flat_map(|file| file.iter()) {
                let Lookup::Known(setting) = view.lookup(written.key) else {
                    continue;
                };
                let same = counterpart
                    .is_some_and(|other| matches!(other.lookup(written.key), Lookup::Known(old) if old.value == setting.value));
                if setting.layer == Layer::File
                    && setting.origin == written.origin
                    && !same
                    && !setting.value.is_empty()
                {
                    changed.insert(normalised(written.key), setting);
                }
            }
        }
        changed.into_values().collect()
    }
}

/// Two configurations are equal if every key has the same value for every component.
impl PartialEq for EffectiveConfig {
    fn eq(&self, other: &Self) -> bool {
        let values = |config: &Self| -> Vec<(String, String)> {
            config
                .settings()
                .into_iter()
                .map(|setting| (setting.key.to_owned(), setting.value.to_owned()))
                .collect()
        };
        values(self) == values(other)
    }
}

impl Part {
    fn all(
        at: usize,
        component: &ComponentWorkload,
        sources: &mut Sources<'_>,
        fallback: Option<&Arc<ConfigMap>>,
    ) -> Vec<Arc<Self>> {
        let build = component.version().into_build();
        let containers = component.containers();
        containers
            .map(|container| {
                let files = sources.files(&component.workload, container, build.as_ref(), fallback);
                let environment = Environment::of(&component.workload, container, sources);
                Arc::new(Self {
                    component: at,
                    files,
                    environment,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
