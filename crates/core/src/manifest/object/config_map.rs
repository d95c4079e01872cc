//! `ConfigMap`s and Secrets with their keys, and how pods refer to them. The content of a Secret
//! is compared and never shown.

use std::{collections::HashMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

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
    /// The text, or why it is missing.
    pub text: Result<Box<str>, NoText>,
    /// Line of the key's value in the source; 0 if the source has no line numbers.
    pub line: u32,
}

/// Why the text of a key is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// The content is not UTF-8 text.
    #[error("which is not text")]
    Binary(Fingerprint),
    /// There was no room to keep it.
    #[error("which was too large to keep")]
    LeftOut,
}

/// Part of the SHA-256 of content that is not kept: compared in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    fn of(content: &[u8]) -> Self {
        let mut part = [0; 16];
        for (to, from) in part.iter_mut().zip(Sha256::digest(content)) {
            *to = from;
        }
        Self(part)
    }

    /// Its bytes, for a digest of more than this content.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Nothing: the content may be secret.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
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

    /// Whether both have the same keys with the same content, under any name. Content that was not
    /// kept is not known to be the same.
    #[must_use]
    pub fn has_content_of(&self, other: &Self) -> bool {
        let sorted = |object: &'_ Self| -> Vec<usize> {
            let mut order: Vec<usize> = (0..object.files.len()).collect();
            order.sort_by(|one, other| {
                let key = |at: &usize| object.files.get(*at).map(|file| file.key.as_str());
                key(one).cmp(&key(other))
            });
            order
        };
        let is_same = |one: usize, at: usize| match (self.files.get(one), other.files.get(at)) {
            (Some(one), Some(other)) => one.key == other.key && one.has_text_of(other),
            _ => false,
        };
        std::ptr::eq(self, other)
            || self.files.len() == other.files.len()
                && sorted(self)
                    .into_iter()
                    .zip(sorted(other))
                    .all(|(one, other)| is_same(one, other))
    }

    /// Whether both have the same content under a key, or neither has the key.
    #[must_use]
    pub fn has_key_of(&self, other: &Self, key: &str) -> bool {
        std::ptr::eq(self, other)
            || match (self.file(key), other.file(key)) {
                (Some(one), Some(other)) => one.has_text_of(other),
                (None, None) => true,
                _ => false,
            }
    }

    /// Whether it has one of the names that Milvus' own configuration files have.
    #[must_use]
    pub fn is_milvus_configuration(&self) -> bool {
        self.files
            .iter()
            .any(|file| CONFIG_KEYS.contains(&file.key.as_str()))
    }
}

impl ConfigFile {
    /// Whether both have the same content; content that was not kept is not known to be.
    fn has_text_of(&self, other: &Self) -> bool {
        self.text != Err(NoText::LeftOut) && self.text == other.text
    }
}

impl ConfigMap {
    /// An object without keys; `None` if it is neither a `ConfigMap` nor a Secret.
    #[must_use]
    pub fn empty(meta: Meta) -> Option<Self> {
        let SourceRef { kind, .. } = SourceRef::of(&meta.object)?;
        Some(Self {
            meta,
            kind,
            is_immutable: false,
            files: Vec::new(),
        })
    }

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
                    decoded(&written).map_err(NoText::Binary)
                } else {
                    Ok(written.as_ref().into())
                };
                let file = ConfigFile {
                    key: key.into_owned(),
                    text,
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

/// The text behind base64; its fingerprint if it is not base64 or not UTF-8.
fn decoded(text: &str) -> Result<Box<str>, Fingerprint> {
    let compact: String = text
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    let bytes = BASE64_STANDARD
        .decode(&compact)
        .map_err(|_| Fingerprint::of(compact.as_bytes()))?;
    String::from_utf8(bytes)
        .map(Into::into)
        .map_err(|error| Fingerprint::of(error.as_bytes()))
}
