//! Environment variables of a container, kept in one text.

use std::fmt;

use super::config_map::{SourceKind, SourceRef};
use crate::manifest::view::DocumentValue;

/// `valueFrom` of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueFrom {
    /// A key of a `ConfigMap` or a `Secret`.
    Key(SourceRef, String),
    /// A field of the pod or a resource of the container, such as `metadata.name`.
    Field(String),
}

/// Variables of a container in their order. Charts write hundreds of them, so all texts are in
/// one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    text: Box<str>,
    entries: Box<[Variable]>,
    /// `valueFrom`, with the position of the variable; ordered by position.
    references: Box<[(u32, ValueFrom)]>,
}

/// Where one variable ends; it begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Variable {
    name_end: u32,
    /// Absent where the value comes from elsewhere.
    value_end: Option<u32>,
}

impl Variables {
    /// Names and values; a value that comes from elsewhere is absent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        (0..self.entries.len()).filter_map(|at| self.get(at))
    }

    /// Whether the same names are in the same places, with values known in the same of them.
    #[must_use]
    pub fn has_names_of(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|((old, held), (new, holds))| old == new && held.is_some() == holds.is_some())
    }

    /// Whether both are the same but for the objects that they refer to, and `is_same` says of each
    /// two of these references that they are too.
    #[must_use]
    pub fn is_same_as(
        &self,
        other: &Self,
        is_same: impl Fn(&ValueFrom, &ValueFrom) -> bool,
    ) -> bool {
        self.text == other.text
            && self.entries == other.entries
            && self.references.len() == other.references.len()
            && self
                .references
                .iter()
                .zip(&other.references)
                .all(|((at, old), (place, new))| at == place && is_same(old, new))
    }

    /// The variable at a position.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&str, Option<&str>)> {
        let end = |entry: &Variable| entry.value_end.unwrap_or(entry.name_end) as usize;
        let entry = self.entries.get(at)?;
        let start = at
            .checked_sub(1)
            .and_then(|before| self.entries.get(before))
            .map_or(0, end);
        let name_end = entry.name_end as usize;
        let value = entry
            .value_end
            .and_then(|end| self.text.get(name_end..end as usize));
        Some((self.text.get(start..name_end)?, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take, give or take some.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + self.entries.len() * 12 + self.references.len() * 160
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every `valueFrom`.
    pub fn references(&self) -> impl Iterator<Item = &ValueFrom> {
        self.references.iter().map(|(_, reference)| reference)
    }

    /// `valueFrom` of the variable at a position.
    #[must_use]
    pub fn reference(&self, at: usize) -> Option<&ValueFrom> {
        let at = u32::try_from(at).ok()?;
        let found = self
            .references
            .binary_search_by_key(&at, |(position, _)| *position)
            .ok()?;
        self.references.get(found).map(|(_, reference)| reference)
    }

    pub(super) fn read<'t>(list: Option<impl DocumentValue<'t>>) -> Self {
        let count = list.map_or(0, |list| list.items().count());
        let mut references = Vec::new();
        let mut position = 0;
        let variables = list
            .into_iter()
            .flat_map(DocumentValue::items)
            .filter_map(|variable| {
                let [name, value, from] = variable.fields(["name", "value", "valueFrom"]);
                let name = name?.as_text()?;
                let reference = from.and_then(ValueFrom::read);
                // The API server refuses both at once. `value` without `valueFrom` may be absent:
                // then it is empty.
                let value = match &reference {
                    Some(_) => None,
                    None => Some(value.and_then(DocumentValue::as_text).unwrap_or_default()),
                };
                references.extend(reference.map(|reference| (position, reference)));
                position += 1;
                Some((name, value))
            });
        let mut all = Self::collect(variables, count);
        all.references = references.into();
        all
    }

    fn collect<T: AsRef<str>>(
        variables: impl Iterator<Item = (T, Option<T>)>,
        expected: usize,
    ) -> Self {
        // No input is larger than 4 GiB (see the limits of its reader).
        let end = |text: &String| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let (mut text, mut entries) = (
            String::with_capacity(expected * 32),
            Vec::with_capacity(expected),
        );
        for (name, value) in variables {
            text.push_str(name.as_ref());
            let name_end = end(&text);
            let value_end = value.map(|value| {
                text.push_str(value.as_ref());
                end(&text)
            });
            entries.push(Variable {
                name_end,
                value_end,
            });
        }
        Self {
            text: text.into(),
            entries: entries.into(),
            references: Box::default(),
        }
    }
}

impl ValueFrom {
    fn read<'t>(node: impl DocumentValue<'t>) -> Option<Self> {
        let key = |field: &str, kind| {
            let reference = node.get(field)?;
            let name = reference.text_at(&["name"])?.into_owned();
            Some(Self::Key(
                SourceRef { kind, name },
                reference.text_at(&["key"])?.into_owned(),
            ))
        };
        key("configMapKeyRef", SourceKind::ConfigMap)
            .or_else(|| key("secretKeyRef", SourceKind::Secret))
            .or_else(|| {
                node.text_at(&["fieldRef", "fieldPath"])
                    .map(|path| Self::Field(path.into_owned()))
            })
            .or_else(|| {
                node.text_at(&["resourceFieldRef", "resource"])
                    .map(|path| Self::Field(path.into_owned()))
            })
            .or_else(|| {
                node.entries()
                    .next()
                    .map(|(kind, _)| Self::Field(kind.into_owned()))
            })
    }
}

impl<T: AsRef<str>> FromIterator<(T, Option<T>)> for Variables {
    fn from_iter<I: IntoIterator<Item = (T, Option<T>)>>(variables: I) -> Self {
        Self::collect(variables.into_iter(), 0)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
