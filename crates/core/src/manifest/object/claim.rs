//! Claims and templates of claims: size, class, access modes.

use std::borrow::Cow;

use super::meta::{Labels, Meta};
use crate::manifest::{quantity, view::DocumentValue};

/// One volume claim template, as far as the API compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTemplate {
    /// Name.
    pub name: String,
    /// `accessModes`, sorted.
    pub access_modes: Vec<String>,
    /// Requested size as written.
    pub storage: Option<String>,
    /// Storage class as written.
    pub storage_class: Option<String>,
    /// Labels, annotations and all other fields, by their paths (`spec.volumeName`), without those
    /// that the API server sets; `None` if they were too large to keep.
    pub others: Option<Labels>,
}

impl ClaimTemplate {
    pub(super) fn read<'t>(node: impl DocumentValue<'t>) -> Self {
        let mut access_modes: Vec<_> = node
            .items_at(&["spec", "accessModes"])
            .filter_map(DocumentValue::as_text)
            .map(Cow::into_owned)
            .collect();
        access_modes.sort();
        Self {
            name: node
                .text_at(&["metadata", "name"])
                .unwrap_or_default()
                .into_owned(),
            access_modes,
            storage: node
                .text_at(&["spec", "resources", "requests", "storage"])
                .map(Cow::into_owned),
            storage_class: node
                .text_at(&["spec", "storageClassName"])
                .map(Cow::into_owned),
            others: Some(others(node)),
        }
    }

    /// Whether the API server takes two templates for the same. Sizes are compared by value
    /// (Kubernetes `ValidateStatefulSetUpdate`, which calls `apiequality.Semantic.DeepEqual`).
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            name,
            access_modes,
            storage,
            storage_class,
            others,
        } = self;
        *name == other.name
            && *access_modes == other.access_modes
            && is_same_size(storage.as_deref(), other.storage.as_deref())
            && *storage_class == other.storage_class
            && (others.is_none() || other.others.is_none() || *others == other.others)
    }
}

fn is_same_size(one: Option<&str>, other: Option<&str>) -> bool {
    let amount = |text: Option<&str>| text.and_then(quantity::thousandths);
    one == other || amount(one).is_some() && amount(one) == amount(other)
}

/// Fields of [`ClaimTemplate`] that are read one by one.
const OWN: [&str; 4] = [
    "metadata.name",
    "spec.accessModes",
    "spec.resources.requests.storage",
    "spec.storageClassName",
];
/// Fields that the API server sets in a template.
const SET_BY_SERVER: [&str; 4] = ["apiVersion", "kind", "metadata.creationTimestamp", "status"];

fn others<'t>(node: impl DocumentValue<'t>) -> Labels {
    let mut found = Vec::new();
    for (key, value) in node.entries() {
        flatten(&key, value, &mut found);
    }
    found.into_iter().collect()
}

/// Adds the values below a path.
fn flatten<'t>(path: &str, node: impl DocumentValue<'t>, found: &mut Vec<(String, String)>) {
    if OWN.contains(&path) || SET_BY_SERVER.contains(&path) {
        return;
    }
    for (key, value) in node.entries() {
        flatten(&format!("{path}.{key}"), value, found);
    }
    for (at, value) in node.items().enumerate() {
        flatten(&format!("{path}.{at}"), value, found);
    }
    let text = node.as_text().unwrap_or_default();
    let is_default = path == "spec.volumeMode" && text == "Filesystem";
    if !text.is_empty() && !is_default {
        found.push((path.to_owned(), text.into_owned()));
    }
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Metadata.
    pub meta: Meta,
    /// Requested size as written.
    pub storage: Option<String>,
    /// Storage class as written.
    pub storage_class: Option<String>,
    /// `accessModes`, sorted.
    pub access_modes: Vec<String>,
    /// `volumeName`: the volume behind it.
    pub volume_name: Option<String>,
}

impl Claim {
    pub(super) fn read<'t>(node: impl DocumentValue<'t>, meta: Meta) -> Self {
        let template = ClaimTemplate::read(node);
        Self {
            meta,
            storage: template.storage,
            storage_class: template.storage_class,
            access_modes: template.access_modes,
            volume_name: node
                .text_at(&["spec", "volumeName"])
                .map(Cow::into_owned)
                .filter(|name| !name.is_empty()),
        }
    }

    /// Whether two states want the same: everything that a rule looks at but metadata.
    #[must_use]
    pub fn has_same_spec(&self, other: &Self) -> bool {
        let Self {
            meta: _,
            storage,
            storage_class,
            access_modes,
            volume_name,
        } = self;
        *storage == other.storage
            && *storage_class == other.storage_class
            && *access_modes == other.access_modes
            && *volume_name == other.volume_name
    }
}
