//! What is read of a document, however the document is kept: as a [`Tree`](super::Tree) or on a
//! [`Tape`](super::tape::Tape).

use std::borrow::Cow;

/// One value of a document that lives for `'t`.
pub trait DocumentValue<'t>: Copy {
    /// The line on which it begins, from 1; 0 where the document has no lines.
    fn line(self) -> u32;

    /// The value under `key`, where this is a mapping that holds it and it is not null. Of
    /// duplicate keys the last counts.
    fn get(self, key: &str) -> Option<Self>;

    /// The text of a scalar of any type; that of null is empty.
    fn as_text(self) -> Option<Cow<'t, str>>;

    /// The elements of a list; nothing for any other shape.
    fn items(self) -> impl Iterator<Item = Self>;

    /// The entries of a mapping, keys unescaped; nothing for any other shape.
    fn entries(self) -> impl Iterator<Item = (Cow<'t, str>, Self)>;

    /// Whether this is a mapping.
    fn is_mapping(self) -> bool;

    /// The values under these keys, as [`DocumentValue::get`] finds them.
    fn fields<const N: usize>(self, keys: [&str; N]) -> [Option<Self>; N] {
        keys.map(|key| self.get(key))
    }

    /// The value at the end of a path of keys.
    fn at(self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The text at the end of a path of keys.
    fn text_at(self, path: &[&str]) -> Option<Cow<'t, str>> {
        self.at(path).and_then(Self::as_text)
    }

    /// The list at the end of a path, empty where there is none.
    fn items_at(self, path: &[&str]) -> impl Iterator<Item = Self> {
        self.at(path).into_iter().flat_map(Self::items)
    }

    /// The whole number at the end of a path of keys.
    fn i64_at(self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Self::as_i64)
    }

    /// A whole number.
    fn as_i64(self) -> Option<i64> {
        self.as_text()?.parse().ok()
    }

    /// A boolean in one of the spellings that Kubernetes' YAML reader and Milvus accept.
    fn as_bool(self) -> Option<bool> {
        match &*self.as_text()? {
            "true" | "True" | "TRUE" | "yes" | "on" | "1" => Some(true),
            "false" | "False" | "FALSE" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }
}
