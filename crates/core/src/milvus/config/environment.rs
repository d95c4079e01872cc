//! What the variables of one container say: its own, those of `envFrom` below them, and values that
//! come from elsewhere.

use std::sync::Arc;

use crate::manifest::{
    Origin,
    object::{ConfigMap, Container, EnvFrom, NoText, SourceKind, SourceRef, ValueFrom, Workload},
};

use super::{
    Layer, Lookup, Place, Setting, Unknown,
    command::CommandLine,
    key::{Key, hash, normalised, variable},
    sources::{MAX_COPIED_BYTES, Sources},
};
use crate::milvus::identify::ContainerAt;

/// The variables of one container that runs Milvus.
#[derive(Clone, Debug)]
pub struct Environment {
    workload: Arc<Workload>,
    at: ContainerAt,
    /// The container's own variables, ordered by the hash of the name and their position.
    index: Arc<[HashedName]>,
    /// A bit for each hash that is there, by its last six bits: most lookups end here.
    mask: u64,
    /// Own variables whose value is not the written text, by position.
    resolved: Vec<(u32, Resolved)>,
    /// `envFrom`, lowest first.
    imported: Vec<Imported>,
    /// Variables that the command line sets: they win.
    assigned: Vec<(Box<str>, Resolved)>,
    /// Why what is not set may be set: the command line takes variables of a file.
    sourced: Option<Unknown>,
}

/// A variable, and the hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HashedName {
    hash: u64,
    variable: u32,
}

/// A value that stands elsewhere.
#[derive(Clone, Debug, PartialEq)]
enum Resolved {
    Known {
        value: Box<str>,
        is_secret: bool,
        origin: Origin,
    },
    Unknown(Unknown),
}

/// The variables of one `ConfigMap` or `Secret`.
#[derive(Clone, Debug)]
struct Imported {
    prefix: Box<str>,
    content: Result<Arc<ConfigMap>, Unknown>,
}

impl Environment {
    /// The variables of a container, with what the sources hold.
    #[must_use]
    pub fn of(workload: &Arc<Workload>, at: ContainerAt, sources: &Sources<'_>) -> Self {
        let mut all = Self {
            workload: Arc::clone(workload),
            at,
            index: Arc::default(),
            mask: 0,
            resolved: Vec::new(),
            imported: Vec::new(),
            assigned: Vec::new(),
            sourced: None,
        };
        let Some(container) = at.of(&workload.pod) else {
            return all;
        };
        let script = sources.script(workload, container);
        let line = CommandLine::of(container, script.as_ref().map(|script| script.text));
        all.assigned = assigned(&line, container, workload, sources);
        let is_script = |file: &&str| {
            let script = script.as_ref();
            script.is_some_and(|script| script.path == *file)
        };
        all.sourced = line.sourced(is_script).map(|file| {
            Unknown::new(format!(
                "variables of {file}, which the command line of container {} reads",
                container.name
            ))
        });
        all.imported = container
            .env_from
            .iter()
            .map(|entry| Imported::read(entry, sources))
            .collect();
        let mut index: Vec<HashedName> = container
            .env
            .iter()
            .zip(0..)
            .map(|((name, _), at)| HashedName {
                hash: hash(variable(name)),
                variable: at,
            })
            .collect();
        index.sort_unstable();
        all.mask = index.iter().fold(0, |mask, place| mask | bit(place.hash));
        all.index = index.into();
        for position in 0..container.env.len() {
            all.resolve(container, position, sources);
        }
        for name in line.unset() {
            all.remove(&Key::of(variable(name)));
        }
        all
    }

    fn resolve(&mut self, container: &Container, position: usize, sources: &Sources<'_>) {
        let Some((_, value)) = container.env.get(position) else {
            return;
        };
        let resolved = match (value, container.env.reference(position)) {
            (Some(value), _) if value.contains("$(") => {
                self.expand(container, position, value, sources)
            }
            (Some(_), _) => return,
            (None, Some(ValueFrom::Key(source, key))) => key_of(sources, source, key),
            (None, Some(ValueFrom::Field(field))) => self.field(field),
            (None, None) => Resolved::Unknown(Unknown::new("a source that is not known".into())),
        };
        if let Ok(position) = u32::try_from(position) {
            self.resolved.push((position, resolved));
        }
    }

    /// The value of a field of the pod, if each pod of the workload has the same.
    fn field(&self, path: &str) -> Resolved {
        let (meta, pod) = (&self.workload.meta, &self.workload.pod);
        let label = |text: &str| {
            let key = text.strip_prefix("metadata.labels['")?.strip_suffix("']")?;
            pod.labels.get(key)
        };
        let value = match path {
            "metadata.namespace" => meta.object.namespace.as_deref(),
            "metadata.name" if meta.object.kind == "Pod" => Some(&*meta.object.name),
            path => label(path),
        };
        match value {
            Some(value) => Resolved::Known {
                value: value.into(),
                is_secret: false,
                origin: meta.origin.clone(),
            },
            None => Resolved::Unknown(Unknown::new(format!("the field {path} of the pod"))),
        }
    }

    /// `$(NAME)` stands for the value of a variable that was defined before; `$$` for a dollar
    /// sign. What is not defined stays as it is written.
    fn expand(
        &self,
        container: &Container,
        position: usize,
        text: &str,
        sources: &Sources<'_>,
    ) -> Resolved {
        let mut value = String::with_capacity(text.len());
        let mut is_any_secret = false;
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            value.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$$") {
                value.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = rest
                .strip_prefix("$(")
                .and_then(|inner| inner.split_once(')'))
            else {
                value.push('$');
                rest = &rest[1..];
                continue;
            };
            if !sources.may_look_at(position + 1) {
                return Resolved::Unknown(Unknown::new(
                    "more references between variables than are followed".into(),
                ));
            }
            match self.defined_before(container, position, name) {
                Lookup::Known(setting) => {
                    is_any_secret |= setting.is_secret;
                    value.push_str(setting.value);
                }
                Lookup::Unknown(unknown) => return Resolved::Unknown(unknown.clone()),
                Lookup::Absent => value.push_str(&format!("$({name})")),
            }
            if value.len() > MAX_VALUE {
                return Resolved::Unknown(Unknown::new("a value that is too long".into()));
            }
            rest = after;
        }
        value.push_str(rest);
        if !sources.has_room_for(value.len()) {
            return Resolved::Unknown(too_much());
        }
        Resolved::Known {
            value: value.into(),
            is_secret: is_any_secret,
            origin: self.workload.meta.origin.clone(),
        }
    }

    fn defined_before(&self, container: &Container, position: usize, name: &str) -> Lookup<'_> {
        let earlier = (0..position).rev().find(|at| {
            container
                .env
                .get(*at)
                .is_some_and(|(known, _)| known == name)
        });
        match earlier.and_then(|at| u32::try_from(at).ok()) {
            Some(at) => self.own(at),
            None => self.imported_by_name(name),
        }
    }

    pub(super) fn container(&self) -> Option<&Container> {
        self.at.of(&self.workload.pod)
    }

    fn own(&self, variable: u32) -> Lookup<'_> {
        let Some((key, value)) = self
            .container()
            .and_then(|container| container.env.get(variable as usize))
        else {
            return Lookup::Absent;
        };
        let resolved = self
            .resolved
            .iter()
            .find(|(position, _)| *position == variable)
            .map(|(_, resolved)| resolved);
        match (resolved, value) {
            (Some(resolved), _) => resolved.found(key),
            (None, Some(value)) => Lookup::Known(Setting {
                key,
                value,
                layer: Layer::Environment,
                origin: &self.workload.meta.origin,
                is_secret: false,
            }),
            (None, None) => Lookup::Absent,
        }
    }

    /// The variables of `envFrom` by their exact name, for `$(NAME)`.
    fn imported_by_name(&self, name: &str) -> Lookup<'_> {
        for layer in self.imported.iter().rev() {
            let Some(key) = name.strip_prefix(&*layer.prefix) else {
                continue;
            };
            match &layer.content {
                Ok(object) => {
                    if let Some(setting) = imported(object, |candidate| candidate == key) {
                        return Lookup::Known(setting);
                    }
                }
                Err(unknown) => return Lookup::Unknown(unknown),
            }
        }
        Lookup::Absent
    }

    /// The variable with this key, in any spelling. Of duplicates the last counts.
    pub(super) fn lookup(&self, key: &Key<'_>) -> Lookup<'_> {
        if let Some((name, resolved)) = self
            .assigned
            .iter()
            .rev()
            .find(|(name, _)| key.is(variable(name)))
        {
            return resolved.found(name);
        }
        if self.mask & bit(key.hash) != 0 {
            let start = self.index.partition_point(|place| place.hash < key.hash);
            let equal = self
                .index
                .get(start..)
                .unwrap_or_default()
                .iter()
                .take_while(|place| place.hash == key.hash);
            let mut last = Lookup::Absent;
            for place in equal {
                let is_same = self
                    .container()
                    .and_then(|container| container.env.get(place.variable as usize));
                if is_same.is_some_and(|(name, _)| key.is(variable(name))) {
                    last = self.own(place.variable);
                }
            }
            if !matches!(last, Lookup::Absent) {
                return last;
            }
        }
        for layer in self.imported.iter().rev() {
            match &layer.content {
                Ok(object) => {
                    let prefix = &layer.prefix;
                    if let Some(setting) = imported(object, |candidate| {
                        key.is(variable(&format!("{prefix}{candidate}")))
                    }) {
                        return Lookup::Known(setting);
                    }
                }
                Err(unknown) if key.may_begin_with(&layer.prefix) => {
                    return Lookup::Unknown(unknown);
                }
                Err(_) => {}
            }
        }
        Lookup::Absent
    }

    /// Why a key that is set nowhere may be set: the command line takes variables of a file.
    pub(super) fn sourced(&self) -> Option<&Unknown> {
        self.sourced.as_ref()
    }

    /// Every place that sets this key to something known, the one that counts first.
    pub(super) fn places(&self, key: &Key<'_>) -> Vec<Place> {
        let mut all = Vec::new();
        let lines = self.assigned.iter().rev().map(|(name, _)| &**name);
        all.extend(
            lines
                .filter(|name| key.is(name))
                .map(|name| Place::CommandLine(name.to_owned())),
        );
        let own = self.index.iter().filter(|place| place.hash == key.hash);
        let container = self.container();
        let names = own.filter_map(|place| container?.env.get(place.variable as usize));
        all.extend(
            names
                .filter(|(name, _)| key.is(name))
                .map(|(name, _)| Place::Variable(name.to_owned())),
        );
        for layer in self.imported.iter().rev() {
            let Ok(object) = &layer.content else { continue };
            let prefix = &layer.prefix;
            let names = object.files.iter().map(|file| &file.key);
            all.extend(
                names
                    .filter(|name| key.is(&format!("{prefix}{name}")))
                    .map(|name| Place::Imported {
                        name: name.clone(),
                        object: object.named(),
                    }),
            );
        }
        all.dedup();
        all
    }

    /// Takes every variable of a key away.
    pub(super) fn remove(&mut self, key: &Key<'_>) {
        self.assigned.retain(|(name, _)| !key.is(name));
        let rest: Vec<HashedName> = self
            .index
            .iter()
            .filter(|place| {
                let variable = self
                    .container()
                    .and_then(|container| container.env.get(place.variable as usize));
                !variable.is_some_and(|(name, _)| key.is(name))
            })
            .copied()
            .collect();
        self.index = rest.into();
        for layer in &mut self.imported {
            let prefix = &layer.prefix;
            if let Ok(object) = &mut layer.content
                && object
                    .files
                    .iter()
                    .any(|file| key.is(&format!("{prefix}{}", file.key)))
            {
                let mut rest = ConfigMap::clone(object);
                rest.files
                    .retain(|file| !key.is(&format!("{prefix}{}", file.key)));
                *object = Arc::new(rest);
            }
        }
    }

    /// Whether some value is not known.
    pub(super) fn has_unknown(&self) -> bool {
        let resolved = self.resolved.iter().map(|(_, resolved)| resolved);
        resolved
            .chain(self.assigned.iter().map(|(_, resolved)| resolved))
            .any(|resolved| matches!(resolved, Resolved::Unknown(_)))
            || self.sourced.is_some()
            || self.imported.iter().any(|layer| layer.content.is_err())
    }

    /// Why values are unknown, but for those of credentials.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Unknown> {
        let own = self
            .resolved
            .iter()
            .filter_map(|(position, resolved)| match resolved {
                Resolved::Unknown(unknown) => {
                    let (name, _) = self.container()?.env.get(*position as usize)?;
                    (!is_credential(name)).then_some(unknown)
                }
                Resolved::Known { .. } => None,
            });
        let assigned = self
            .assigned
            .iter()
            .filter_map(|(name, resolved)| match resolved {
                Resolved::Unknown(unknown) => (!is_credential(name)).then_some(unknown),
                Resolved::Known { .. } => None,
            });
        own.chain(assigned).chain(&self.sourced).chain(
            self.imported
                .iter()
                .filter_map(|layer| layer.content.as_ref().err()),
        )
    }

    /// Whether the same own variables are set, with any values, and none comes from elsewhere
    /// as a whole.
    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        let has_same_line = self
            .assigned
            .iter()
            .map(|(name, _)| name)
            .eq(other.assigned.iter().map(|(name, _)| name));
        has_same_line
            && self.sourced == other.sourced
            && (Arc::ptr_eq(&self.index, &other.index)
                || (self.imported.is_empty()
                    && other.imported.is_empty()
                    && self
                        .index
                        .iter()
                        .map(|place| place.hash)
                        .eq(other.index.iter().map(|place| place.hash))))
    }

    /// Whether no variable at all is set.
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
            && self.assigned.is_empty()
            && self.sourced.is_none()
            && self.imported.iter().all(|layer| {
                layer
                    .content
                    .as_ref()
                    .is_ok_and(|object| object.files.is_empty())
            })
    }

    /// The normal forms of all keys that are set, of `envFrom` too.
    pub(super) fn keys(&self) -> Vec<Box<str>> {
        let own = self
            .container()
            .into_iter()
            .flat_map(|container| container.env.iter())
            .map(|(name, _)| normalised(variable(name)));
        let imported = self.imported.iter().flat_map(|layer| {
            let files = layer
                .content
                .as_ref()
                .map(|object| object.files.as_slice())
                .unwrap_or_default();
            files
                .iter()
                .map(|file| normalised(variable(&format!("{}{}", layer.prefix, file.key))))
        });
        own.chain(imported)
            .chain(
                self.assigned
                    .iter()
                    .map(|(name, _)| normalised(variable(name))),
            )
            .collect()
    }
}

impl Resolved {
    fn found<'a>(&'a self, key: &'a str) -> Lookup<'a> {
        match self {
            Self::Known {
                value,
                is_secret,
                origin,
            } => Lookup::Known(Setting {
                key,
                value,
                layer: Layer::Environment,
                origin,
                is_secret: *is_secret,
            }),
            Self::Unknown(unknown) => Lookup::Unknown(unknown),
        }
    }
}

/// What the command line of a container sets.
fn assigned(
    line: &CommandLine<'_>,
    container: &Container,
    workload: &Workload,
    sources: &Sources<'_>,
) -> Vec<(Box<str>, Resolved)> {
    let all = line.assignments().into_iter();
    all.map(|(name, value)| {
        let resolved = match value {
            Some(value) if sources.has_room_for(name.len() + value.len()) => Resolved::Known {
                value: value.into(),
                is_secret: false,
                origin: workload.meta.origin.clone(),
            },
            Some(_) => Resolved::Unknown(too_much()),
            None => Resolved::Unknown(Unknown::new(format!(
                "the command line of container {}",
                container.name
            ))),
        };
        (name.into(), resolved)
    })
    .collect()
}

fn key_of(sources: &Sources<'_>, source: &SourceRef, key: &str) -> Resolved {
    let Some(object) = sources.find(source) else {
        return Resolved::Unknown(Unknown::missing(&format!("key {key} of {source}"), source));
    };
    match object.file(key).map(|file| file.text.as_deref()) {
        Some(Ok(text)) if !sources.has_room_for(text.len()) => Resolved::Unknown(too_much()),
        Some(Ok(text)) => Resolved::Known {
            value: text.into(),
            is_secret: source.kind == SourceKind::Secret,
            origin: object.meta.origin.clone(),
        },
        Some(Err(reason)) => {
            Resolved::Unknown(Unknown::new(format!("key {key} of {source}, {reason}")))
        }
        // `optional` leaves the variable out; without it the pod does not start.
        None => Resolved::Known {
            value: "".into(),
            is_secret: false,
            origin: object.meta.origin.clone(),
        },
    }
}

fn imported(object: &Arc<ConfigMap>, is: impl Fn(&str) -> bool) -> Option<Setting<'_>> {
    let file = object.files.iter().rev().find(|file| is(&file.key))?;
    Some(Setting {
        key: &file.key,
        value: file.text.as_deref().ok()?,
        layer: Layer::Environment,
        origin: &object.meta.origin,
        is_secret: object.kind == SourceKind::Secret,
    })
}

impl Imported {
    fn read(entry: &EnvFrom, sources: &Sources<'_>) -> Self {
        let content = match sources.find(&entry.source) {
            Some(object)
                if object
                    .files
                    .iter()
                    .any(|file| file.text == Err(NoText::LeftOut)) =>
            {
                Err(Unknown::new(format!(
                    "all variables of {}, {}",
                    entry.source,
                    NoText::LeftOut
                )))
            }
            Some(object) => Ok(Arc::clone(object)),
            None => Err(Unknown::missing(
                &format!("all variables of {}", entry.source),
                &entry.source,
            )),
        };
        Self {
            prefix: entry.prefix.as_str().into(),
            content,
        }
    }
}

/// Whether a variable holds a password or a key: such an object is not asked for.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "password", "secret", "token", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// A variable that grows beyond this by `$(NAME)` is not a setting of Milvus.
const MAX_VALUE: usize = 64 * 1024;

fn too_much() -> Unknown {
    Unknown::new(format!(
        "variables whose values are more than {} KiB in all",
        MAX_COPIED_BYTES / 1024
    ))
}

const fn bit(hash: u64) -> u64 {
    1 << (hash & 63)
}
