//! `ConfigMap`s and Secrets with their keys, and how pods refer to them. The content of a Secret
//! is compared and never shown.

use std::{collections::HashMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::meta::{Meta, ObjectRef};
use crate::manifest::view::DocumentValue;

/// A `ConfigMap` or a `Secret`, by name, in the namespace of the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRef {
    /// Which kind.
    pub kind: SourceKind,
    /// Name.
    pub name: String,
}

/// Kinds of objects that hold files and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum SourceKind {
    ConfigMap,
    Secret,
}

impl SourceKind {
    /// The kind as manifests write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl SourceRef {
    /// How pods refer to an object; `None` if it is neither a `ConfigMap` nor a Secret.
    #[must_use]
    pub fn of(object: &ObjectRef) -> Option<Self> {
        let kind = [SourceKind::ConfigMap, SourceKind::Secret]
            .into_iter()
            .find(|kind| kind.name() == object.kind)?;
        Some(Self {
            kind,
            name: object.name.clone(),
        })
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// A `ConfigMap` or a `Secret` with what Milvus may read of it.
#[derive(Clone, PartialEq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// Which of the two. The content of a Secret is compared and never shown.
    pub kind: SourceKind,
    /// `immutable: true`.
    pub is_immutable: bool,
    /// Every key, in the order of the object.
    pub files: Vec<ConfigFile>,
}

/// One key of a `ConfigMap` or a `Secret`.
#[derive(Clone, PartialEq)]
pub struct ConfigFile {
    /// The key.
    pub key: String,
    /// The text, or why it is not there.
    pub text: Result<Box<str>, NoText>,
    /// Line of the key's value in the source; 0 if the source has no line numbers.
    pub line: u32,
}

/// Why the text of a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// The content is not UTF-8 text.
    #[error("which is not text")]
    Binary,
    /// There was no room to keep it.
    #[error("which was too large to keep")]
    LeftOut,
}

impl fmt::Debug for ConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigMap")
            .field("object", &self.meta.object)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Only the key: the content may be secret.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ConfigMap {
    /// How pods refer to it.
    #[must_use]
    pub fn reference(&self) -> SourceRef {
        SourceRef {
            kind: self.kind,
            name: self.meta.object.name.clone(),
        }
    }

    /// `Kind name`.
    #[must_use]
    pub fn named(&self) -> String {
        format!("{} {}", self.kind.name(), self.meta.object.name)
    }

    /// The content of a key; `None` if it has no such key.
    #[must_use]
    pub fn file(&self, key: &str) -> Option<&ConfigFile> {
        self.files.iter().rev().find(|file| file.key == key)
    }

    /// Whether it has one of the names that Milvus' own configuration files have.
    #[must_use]
    pub fn is_milvus_configuration(&self) -> bool {
        self.files
            .iter()
            .any(|file| CONFIG_KEYS.contains(&file.key.as_str()))
    }
}

impl ConfigMap {
    /// Reads the keys of a `ConfigMap` or a `Secret`. An object without keys has no use here: its
    /// metadata is given back.
    pub(super) fn read<'t>(node: impl DocumentValue<'t>, meta: Meta) -> Result<Self, Box<Meta>> {
        let kind = if meta.object.kind == SourceKind::Secret.name() {
            SourceKind::Secret
        } else {
            SourceKind::ConfigMap
        };
        let mut files: Vec<ConfigFile> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let is_secret = kind == SourceKind::Secret;
        for (section, is_encoded) in [
            ("data", is_secret),
            ("binaryData", true),
            ("stringData", false),
        ] {
            for (key, value) in node
                .get(section)
                .into_iter()
                .flat_map(DocumentValue::entries)
            {
                let Some(written) = value.as_text() else {
                    continue;
                };
                let text = if is_encoded {
                    decoded(&written)
                } else {
                    Some(written.as_ref().into())
                };
                let file = ConfigFile {
                    key: key.into_owned(),
                    text: text.ok_or(NoText::Binary),
                    line: value.line(),
                };
                // `stringData` wins over `data`, as in the API server.
                if let Some(old) = known.get(&file.key).and_then(|at| files.get_mut(*at)) {
                    *old = file;
                } else {
                    known.insert(file.key.clone(), files.len());
                    files.push(file);
                }
            }
        }
        if files.is_empty() {
            return Err(Box::new(meta));
        }
        let is_immutable = node
            .get("immutable")
            .and_then(DocumentValue::as_bool)
            .unwrap_or(false);
        Ok(Self {
            meta,
            kind,
            is_immutable,
            files,
        })
    }
}

/// Keys of a `ConfigMap` that make it Milvus' configuration.
pub const CONFIG_KEYS: [&str; 3] = ["milvus.yaml", "default.yaml", "user.yaml"];

/// The text behind base64; `None` if it is not base64 or not UTF-8.
fn decoded(text: &str) -> Option<Box<str>> {
    let compact: String = text
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    let bytes = BASE64_STANDARD.decode(compact).ok()?;
    String::from_utf8(bytes).ok().map(Into::into)
}
