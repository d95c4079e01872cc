//! The configuration of one component: single settings, as text.

use crate::milvus::{
    config::{ComponentSettings, Lookup, Place, Setting, Unknown},
    release::Release,
};

/// The configuration of one component of a release, with what decides which settings count.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    pub(super) release: &'a Release,
    pub(super) view: ComponentSettings<'a>,
}

/// A setting that is known and is not a secret.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plain<'a> {
    Absent,
    Text(&'a str),
}

impl<'a> Located<'a> {
    pub(in crate::milvus) fn release(&self) -> &'a Release {
        self.release
    }

    /// Position of the component in its release.
    #[must_use]
    pub fn component(&self) -> usize {
        self.view.component()
    }

    /// Whether some value is not known.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.view.has_unknown()
    }

    /// Whether both are one and the same configuration, unchanged.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.view.is_same(&other.view)
    }

    pub(super) fn lookup(&self, keys: impl IntoIterator<Item = &'a str>) -> Lookup<'a> {
        for key in keys {
            match self.view.lookup(key) {
                Lookup::Absent => {}
                found => return found,
            }
        }
        Lookup::Absent
    }

    pub(in crate::milvus) fn value(
        &self,
        key: &'a str,
    ) -> Result<Option<Setting<'a>>, &'a Unknown> {
        match self.view.lookup(key) {
            Lookup::Absent => Ok(None),
            Lookup::Known(setting) => Ok(Some(setting)),
            Lookup::Unknown(unknown) => Err(unknown),
        }
    }

    /// A setting as far as it may be kept; `None` if it is not known, or is a secret.
    pub(super) fn plain(&self, key: &str) -> Option<Plain<'a>> {
        match self.view.lookup(key) {
            Lookup::Absent => Some(Plain::Absent),
            Lookup::Known(setting) if !setting.is_secret => Some(Plain::Text(setting.value)),
            Lookup::Known(_) | Lookup::Unknown(_) => None,
        }
    }

    /// The places that set a key before the file of a chart.
    #[must_use]
    pub fn upper_places(&self, key: &str) -> Vec<Place> {
        self.view.upper_places(key)
    }

    /// A setting; `None` if it is absent or not known.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<Setting<'a>> {
        match self.view.lookup(key) {
            Lookup::Known(setting) => Some(setting),
            Lookup::Absent | Lookup::Unknown(_) => None,
        }
    }

    /// A setting; `None` if it is absent.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn flag(&self, key: &'a str) -> Result<Option<Setting<'a>>, &'a Unknown> {
        self.value(key)
    }
}
