//! Identity, origin, labels and annotations: what every object has. Annotations are kept by their
//! prefix; the specification of an object is not read here.

use std::{borrow::Cow, fmt, mem, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use crate::manifest::view::DocumentValue;

/// Where something was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Origin {
    /// A file, `stdin`, `cluster` or a Helm revision, as the user would name it.
    pub source: Arc<str>,
    /// Position of the document in the source, from 1.
    pub document: u32,
    /// Line in the source, from 1; 0 where the source has no lines.
    pub line: u32,
}

impl Origin {
    /// The same document, another line.
    #[must_use]
    pub fn at_line(&self, line: u32) -> Self {
        Self {
            line,
            ..self.clone()
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.source),
            line => write!(f, "{}:{line}", self.source),
        }
    }
}

/// An object's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct ObjectRef {
    /// `Deployment`, `ConfigMap` ...
    pub kind: String,
    /// The namespace, where the document or the input names one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Metadata that every object has.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Identity.
    pub object: ObjectRef,
    /// Where it was read.
    pub origin: Origin,
    /// All labels.
    pub labels: Labels,
    /// The annotations that tools of this field set (ours, Helm's, Argo CD's, Milvus').
    pub annotations: Labels,
    /// `metadata.uid` of a live object.
    pub uid: Option<String>,
    /// The kind of the controlling owner, such as `Milvus` of milvus-operator.
    pub owner_kind: Option<String>,
    /// The name of the controlling owner.
    pub owner_name: Option<String>,
}

impl Meta {
    pub(super) fn read<'t>(
        node: impl DocumentValue<'t>,
        kind: &str,
        origin: &Origin,
        default_namespace: Option<&str>,
    ) -> Option<Self> {
        let metadata = node.get("metadata")?;
        let name = metadata.text_at(&["name"])?;
        let owner = metadata.items_at(&["ownerReferences"]).find(|owner| {
            owner
                .get("controller")
                .and_then(DocumentValue::as_bool)
                .unwrap_or(false)
        });
        Some(Self {
            object: ObjectRef {
                kind: kind.to_owned(),
                namespace: metadata
                    .text_at(&["namespace"])
                    .map(Cow::into_owned)
                    .or_else(|| default_namespace.map(str::to_owned)),
                name: name.into_owned(),
            },
            origin: origin.at_line(node.line()),
            labels: labels(metadata.get("labels")),
            annotations: annotations(metadata.get("annotations")),
            uid: metadata.text_at(&["uid"]).map(Cow::into_owned),
            owner_kind: owner
                .and_then(|owner| owner.text_at(&["kind"]))
                .map(Cow::into_owned),
            owner_name: owner
                .and_then(|owner| owner.text_at(&["name"]))
                .map(Cow::into_owned),
        })
    }

    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    /// A kept annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)
    }
}

/// Labels or annotations, ordered by key. Clusters hold thousands of objects with a handful each,
/// so they are kept without the spare room of a map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let position = self
            .0
            .binary_search_by(|(name, _)| (**name).cmp(key))
            .ok()?;
        self.0.get(position).map(|(_, value)| &**value)
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl<T: AsRef<str>> FromIterator<(T, T)> for Labels {
    fn from_iter<I: IntoIterator<Item = (T, T)>>(pairs: I) -> Self {
        let mut ordered: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.as_ref().into(), value.as_ref().into()))
            .collect();
        ordered.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Of equal keys the last counts.
        ordered.dedup_by(|later, kept| {
            later.0 == kept.0 && {
                mem::swap(&mut later.1, &mut kept.1);
                true
            }
        });
        Self(ordered.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Prefixes of annotations worth keeping. Others (such as kubectl's copy of the whole object) are
/// large or may hold secrets.
const ANNOTATIONS: [&str; 6] = [
    "guard.milvus.io/",
    "milvus.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "argocd.argoproj.io/",
    "checksum/",
];

pub(super) fn labels<'t>(node: Option<impl DocumentValue<'t>>) -> Labels {
    node.into_iter()
        .flat_map(DocumentValue::entries)
        .filter_map(|(key, value)| Some((key, value.as_text()?)))
        .collect()
}

/// Whether an annotation is worth keeping.
#[must_use]
pub fn is_kept_annotation(key: &str) -> bool {
    ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix))
}

pub(super) fn annotations<'t>(node: Option<impl DocumentValue<'t>>) -> Labels {
    node.into_iter()
        .flat_map(DocumentValue::entries)
        .filter(|(key, _)| is_kept_annotation(key))
        .filter_map(|(key, value)| Some((key, value.as_text()?)))
        .collect()
}
