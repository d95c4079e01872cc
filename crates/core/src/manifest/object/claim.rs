//! Claims and templates of claims: size, class, access modes.

use std::borrow::Cow;

use super::meta::Meta;
use crate::manifest::view::DocumentValue;

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
        }
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
