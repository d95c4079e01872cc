//! From the mounts of a container to the files that Milvus reads.
//!
//! Milvus reads `milvus.yaml`, `default.yaml` and `user.yaml` of its configuration folder, lowest
//! first. The value there is decided by the paths of the mounts, never by the keys of the objects
//! behind them: a `ConfigMap` key `custom.yaml` may be mounted as `user.yaml`, and a whole
//! `milvus.yaml` of one's own is still the lowest of the three.

use std::{
    cell::{Cell, OnceCell},
    collections::HashMap,
    path::Path,
    sync::Arc,
};

use crate::{
    manifest::object::{
        ConfigMap, Container, Mount, SourceKind, SourceRef, Volume, VolumeSource, Workload,
        normal_path,
    },
    milvus::{
        build::Build,
        identify::{ContainerAt, bare},
    },
};

use super::{
    EffectiveConfig, Unknown,
    command::CommandLine,
    files::{Content, Edit, FileLayer, FileSettings, FileStack, Unread},
    folder::{Folder, below, reads_all_files},
    rendered::{Merged, Rendering},
};

/// The files that Milvus reads, lowest first (milvus `pkg/util/paramtable/base_table.go`).
const FILES: [&str; 3] = ["milvus.yaml", "default.yaml", "user.yaml"];

/// The folder below the configuration folder in which milvus-operator mounts its files
/// (milvus-operator `pkg/controllers/deployment_updater.go`).
const OPERATOR_FOLDER: &str = "operator";

/// Bytes of all files of one release that are read. Its components share one file of 60 KiB, or
/// have a few.
pub const MAX_RELEASE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of the values of variables of one release that are put together, or come from elsewhere.
pub const MAX_COPIED_BYTES: usize = 1024 * 1024;
/// Sources of volumes, and variables before a reference, that are looked at for one release.
const MAX_LOOKED_AT: usize = 5_000_000;
/// Words of a command line in which a script is looked for.
const MAX_WORDS: usize = 64;
/// From this many objects on, an index is made.
const FEW: usize = 32;

/// Files that were read, and what came of it, by object and key. Releases that mount the same file
/// share it.
#[derive(Default)]
pub struct Parsed(HashMap<(usize, Box<str>), Content>);

/// The objects that pods of one namespace refer to.
pub struct Sources<'a> {
    objects: &'a [Arc<ConfigMap>],
    namespace: Option<&'a str>,
    /// Objects by kind and name, where they are many.
    index: OnceCell<HashMap<(SourceKind, &'a str), &'a Arc<ConfigMap>>>,
    /// Files that were parsed before.
    parsed: &'a mut Parsed,
    /// Bytes of files that may still be read.
    left: usize,
    /// Bytes of values that may still be copied.
    copies_left: Cell<usize>,
    /// Sources and variables that may still be looked at.
    looks_left: Cell<usize>,
}

impl<'a> Sources<'a> {
    /// The objects of a namespace; those of another are passed over. `known` and `parsed` bring
    /// files that were parsed before.
    #[must_use]
    pub fn new(
        objects: &'a [Arc<ConfigMap>],
        namespace: Option<&'a str>,
        known: &EffectiveConfig,
        parsed: &'a mut Parsed,
    ) -> Self {
        for layer in known.parts.iter().flat_map(|part| &part.files.layers) {
            if let Content::Settings { of, key, .. } = &layer.content {
                parsed.0.insert(
                    (Arc::as_ptr(of) as usize, key.clone()),
                    layer.content.clone(),
                );
            }
        }
        Self {
            objects,
            namespace,
            index: OnceCell::new(),
            parsed,
            left: MAX_RELEASE_BYTES,
            copies_left: Cell::new(MAX_COPIED_BYTES),
            looks_left: Cell::new(MAX_LOOKED_AT),
        }
    }

    /// The object that a reference names. Of several the last counts.
    #[must_use]
    pub fn find(&self, source: &SourceRef) -> Option<&'a Arc<ConfigMap>> {
        if self.objects.len() > FEW {
            let index = || {
                let here = self.objects.iter().filter(|object| self.is_here(object));
                here.map(|object| ((object.kind, object.meta.object.name.as_str()), object))
                    .collect()
            };
            return self
                .index
                .get_or_init(index)
                .get(&(source.kind, source.name.as_str()))
                .copied();
        }
        self.objects.iter().rev().find(|object| {
            object.kind == source.kind
                && object.meta.object.name == source.name
                && self.is_here(object)
        })
    }

    /// Takes the room of a value of a variable that is not the written text; whether there is any
    /// left.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let left = self.copies_left.get().checked_sub(bytes);
        self.copies_left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Takes the time of a look at some sources or variables; whether there is any left.
    pub(super) fn may_look_at(&self, count: usize) -> bool {
        let left = self.looks_left.get().checked_sub(count);
        self.looks_left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn is_here(&self, object: &ConfigMap) -> bool {
        match (self.namespace, object.meta.object.namespace.as_deref()) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    /// The files that a container reads. `fallback` is the configuration that counts where the
    /// input shows no mount.
    pub(super) fn files(
        &mut self,
        workload: &Workload,
        at: ContainerAt,
        build: Option<&Build>,
        fallback: Option<&Arc<ConfigMap>>,
    ) -> FileStack {
        let Some(container) = at.of(&workload.pod) else {
            return FileStack::default();
        };
        let place = Folder::of(container);
        let script = self.script(workload, container);
        let line = CommandLine::of(container, script.map(|script| script.text));
        let is_assumed = container.mounts.is_empty();
        if let Some(layers) = self.rendered(workload, container, &place) {
            return FileStack { layers, is_assumed };
        }
        let mut layers = Vec::new();
        let mut renamed = Vec::new();
        for name in FILES {
            let path = match &place.lowest {
                Some(path) if name == "milvus.yaml" => path.clone(),
                _ => format!("{}/{name}", place.path),
            };
            let found = self.at(workload, container, &path);
            // milvus-operator mounts its files in a separate folder, and its start script
            // merges them.
            let found = match found {
                Found::Nothing => self.at(
                    workload,
                    container,
                    &format!("{}/{OPERATOR_FOLDER}/{name}", place.path),
                ),
                found => found,
            };
            let content = match found {
                // What a `ConfigMap` or a Secret mounts cannot be written.
                Found::Nothing if line.writes(&path) => {
                    Some(Content::Unknown(Unknown::new(format!(
                        "{path}, which the command line of container {} writes",
                        container.name
                    ))))
                }
                Found::Nothing => self.by_fallback(workload, container, name, fallback),
                Found::NoKey(object) => {
                    renamed.push(object);
                    None
                }
                Found::Key(object, key) => self.read(&object, &key),
                Found::Unknown(unknown) => Some(Content::Unknown(unknown)),
            };
            layers.extend(content.map(|content| FileLayer::of(name, content)));
        }
        // An object whose files have other names now, as from chart 3.3.2 on: the workload that
        // mounts those changes next, or has changed already. Until then its pods do not
        // start, so what the other files say is what counts.
        if layers.is_empty() && !renamed.is_empty() {
            let files = FILES.iter().map(|name| {
                (
                    *name,
                    renamed.iter().find(|object| object.file(name).is_some()),
                )
            });
            let files: Vec<_> = files
                .filter_map(|(name, object)| Some((name, Arc::clone(object?))))
                .collect();
            for (name, object) in files {
                layers.extend(
                    self.read(&object, name)
                        .map(|content| FileLayer::of(name, content)),
                );
            }
            return FileStack { layers, is_assumed };
        }
        if !reads_all_files(workload, container, build) {
            layers.retain(|layer| layer.name == "milvus.yaml");
        }
        FileStack { layers, is_assumed }
    }

    /// The layers of the file that an init container merges, where it is known how.
    fn rendered(
        &mut self,
        workload: &Workload,
        container: &Container,
        place: &Folder,
    ) -> Option<Vec<FileLayer>> {
        let file = format!("{}/milvus.yaml", place.path);
        if place.lowest.as_ref().is_some_and(|lowest| *lowest != file) {
            return None;
        }
        let mount = mount_at(container, &file).filter(|mount| !mount.is_computed)?;
        let volume = volume_of(workload, mount)?;
        if volume.source != VolumeSource::EmptyDir {
            return None;
        }
        if !self.may_look_at(Rendering::effort(workload)) {
            return None;
        }
        let rendering = Rendering::of(workload, mount)?;
        let removed: Arc<[String]> = rendering.removed().into();
        let mut layers = Vec::new();
        let merged = rendering.files(
            workload,
            |source| self.find(source),
            |count| self.may_look_at(count),
        );
        for one in merged {
            let content = match one {
                Merged::Key(object, key) => self.read(&object, &key),
                Merged::Unknown(unknown) => Some(Content::Unknown(unknown)),
            };
            let Some(content) = content else {
                continue;
            };
            let edit = match &content {
                Content::Settings { settings, .. } => {
                    Some(Edit::of(settings, &removed, rendering.by()))
                }
                _ => None,
            };
            layers.push(FileLayer {
                name: FILES[0],
                content,
                edit,
            });
        }
        let assigned = FileSettings::of(rendering.assigned(), &workload.meta.origin);
        let edit = Edit::of(&assigned, &Arc::default(), rendering.by());
        layers.push(FileLayer {
            name: FILES[0],
            content: Content::Scripted(Arc::new(assigned)),
            edit: Some(edit),
        });
        Some(layers)
    }

    /// The script of a `ConfigMap` or a Secret that the command line of a container starts or takes
    /// variables of, if the input holds it.
    pub(super) fn script(&self, workload: &Workload, container: &Container) -> Option<Script<'a>> {
        let words = container
            .command
            .iter()
            .flat_map(|text| text.split_whitespace());
        let mut paths = words.map(bare).take(MAX_WORDS).filter(|word| {
            let is_script = Path::new(word).extension().is_some_and(|end| end == "sh");
            word.starts_with('/') && is_script
        });
        paths.find_map(|path| {
            let Found::Key(object, key) = self.at(workload, container, &normal_path(path)) else {
                return None;
            };
            let file = self.find(&object.reference())?.file(&key)?;
            let text = file.text.as_deref().ok()?;
            self.has_room_for(text.len()).then(|| Script {
                path: path.to_owned(),
                text,
            })
        })
    }

    /// What is mounted at a path of a container.
    fn at(&self, workload: &Workload, container: &Container, path: &str) -> Found {
        let Some(mount) = mount_at(container, path) else {
            return Found::Nothing;
        };
        let volume = volume_of(workload, mount);
        let template = workload.stateful.as_ref().is_some_and(|set| {
            set.claim_templates
                .iter()
                .any(|one| one.name == mount.volume)
        });
        let inside = below(&mount.path, path).unwrap_or_default();
        let sub_path = normal_path(&mount.sub_path);
        let wanted = match (sub_path.trim_matches('/'), inside) {
            ("", inside) => inside.to_owned(),
            (sub_path, "") => sub_path.to_owned(),
            (sub_path, inside) => format!("{sub_path}/{inside}"),
        };
        match volume {
            _ if mount.is_computed => Found::Unknown(Unknown::new(format!(
                "{path}, whose subPathExpr decides at run time"
            ))),
            Some(volume) => self.in_volume(volume, &wanted, path),
            None if template => Found::Unknown(Unknown::new(format!(
                "{path} on the claim template {}",
                mount.volume
            ))),
            None => Found::Unknown(Unknown::new(format!(
                "{path} on the volume {}, which the pod does not define",
                mount.volume
            ))),
        }
    }

    fn in_volume(&self, volume: &Volume, wanted: &str, path: &str) -> Found {
        let elsewhere = |what: String| Found::Unknown(Unknown::new(format!("{path} on {what}")));
        match &volume.source {
            VolumeSource::Files(files) => {
                // A later source of a projected volume wins.
                let mut without = None;
                if !self.may_look_at(files.len()) {
                    return elsewhere(format!(
                        "the volume {}, one of too many sources",
                        volume.name
                    ));
                }
                for one in files.iter().rev() {
                    let Some(key) = one.key_at(wanted) else {
                        continue;
                    };
                    match self.find(&one.source) {
                        Some(object) if object.file(key).is_some() => {
                            return Found::Key(Arc::clone(object), key.into());
                        }
                        Some(object) => without = Some(Arc::clone(object)),
                        None => {
                            return Found::Unknown(Unknown::missing(
                                &format!("{path} from {}", one.source),
                                &one.source,
                            ));
                        }
                    }
                }
                // The folder is mounted and has no such file: Milvus does not see the image's own
                // either.
                without.map_or(Found::Nothing, Found::NoKey)
            }
            VolumeSource::Claim(claim) => elsewhere(format!("the volume claim {claim}")),
            VolumeSource::HostPath(host) => elsewhere(format!("the host path {host}")),
            VolumeSource::EmptyDir => Found::Unknown(Unknown::written(format!(
                "{path} on the volume {}, which is filled when the pod starts",
                volume.name
            ))),
            VolumeSource::Other(kind) => elsewhere(kind.clone()),
        }
    }

    /// Where the input shows no mount at all of a container, the `ConfigMap` volumes of its pod
    /// count, else the `ConfigMap` that is named as charts name it.
    fn by_fallback(
        &mut self,
        workload: &Workload,
        container: &Container,
        name: &str,
        fallback: Option<&Arc<ConfigMap>>,
    ) -> Option<Content> {
        if !container.mounts.is_empty() {
            return None;
        }
        for volume in &workload.pod.volumes {
            let VolumeSource::Files(files) = &volume.source else {
                continue;
            };
            for one in files {
                let Some(key) = one.key_at(name) else {
                    continue;
                };
                match self.find(&one.source).cloned() {
                    Some(object) if object.file(key).is_some() => return self.read(&object, key),
                    Some(_) => {}
                    None => {
                        return Some(Content::Unknown(Unknown::missing(
                            &format!("{name} from {}", one.source),
                            &one.source,
                        )));
                    }
                }
            }
        }
        let object = Arc::clone(fallback?);
        object
            .file(name)
            .is_some()
            .then(|| self.read(&object, name))?
    }

    fn read(&mut self, object: &Arc<ConfigMap>, key: &str) -> Option<Content> {
        let file = object.file(key)?;
        // All objects live as long as this, so an address means one of them.
        let known = (Arc::as_ptr(object) as usize, Box::from(key));
        if let Some(content) = self.parsed.0.get(&known) {
            return Some(content.clone());
        }
        let source = object.reference();
        let text = match file.text.as_deref() {
            Ok(text) => text,
            Err(reason) => {
                return Some(Content::Unknown(Unknown::new(format!(
                    "key {key} of {source}, {reason}"
                ))));
            }
        };
        let Some(left) = self.left.checked_sub(text.len()) else {
            let what = format!(
                "{source}, {key}: the files of the release have more than {} KiB",
                MAX_RELEASE_BYTES / 1024
            );
            return Some(Content::Unknown(Unknown::new(what)));
        };
        self.left = left;
        let content = match FileSettings::read(file, text, &object.meta.origin, object.kind) {
            Ok(settings) => Content::Settings {
                settings: Arc::new(settings),
                of: Arc::clone(object),
                key: key.into(),
            },
            Err(Unread::Damaged(origin, reason)) => {
                Content::Unreadable(origin, Unknown::new(format!("{source}, {reason}")))
            }
            Err(Unread::TooLarge(reason)) => {
                Content::Unknown(Unknown::new(format!("{source}, {reason}")))
            }
        };
        self.parsed.0.insert(known, content.clone());
        Some(content)
    }
}

/// The mount that shows a path of a container.
fn mount_at<'c>(container: &'c Container, path: &str) -> Option<&'c Mount> {
    let covers = |mount: &&Mount| below(&mount.path, path).is_some();
    let mounts = container.mounts.iter().filter(covers);
    mounts.max_by_key(|mount| normal_path(&mount.path).len())
}

fn volume_of<'w>(workload: &'w Workload, mount: &Mount) -> Option<&'w Volume> {
    let mut volumes = workload.pod.volumes.iter();
    volumes.find(|volume| volume.name == mount.volume)
}

/// A script that the command line of a container starts.
pub(super) struct Script<'a> {
    /// Its path in the container.
    pub(super) path: String,
    /// What it runs.
    pub(super) text: &'a str,
}

/// The value at a path.
#[derive(Debug)]
enum Found {
    /// What the image brings.
    Nothing,
    /// An object of the input that has no such key.
    NoKey(Arc<ConfigMap>),
    /// A key of an object of the input.
    Key(Arc<ConfigMap>, Box<str>),
    /// Something that the input does not hold.
    Unknown(Unknown),
}
