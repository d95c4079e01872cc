//! A document as a tree that remembers where each value stood.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    budget::{Exceeded, MAX_VALUES},
    view::DocumentValue,
};

/// From this many keys on, duplicates are found with a hash map instead of a scan.
const SMALL_MAPPING: usize = 16;

/// One value of a document with the line on which it begins (1-based; 0 where the text had no
/// lines, as from an API). Its texts are borrowed where the document allows it: a review is read
/// without copying it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree<'a> {
    /// Line in the file that held the document.
    pub line: u32,
    /// The value there.
    pub kind: Kind<'a>,
}

/// A tree that borrows nothing.
pub type Node = Tree<'static>;

/// The three shapes of a value. Scalars stay text and are read as what the caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind<'a> {
    /// A scalar; `plain` when it was not quoted, so that `true`, `1` and `null` mean what they say.
    Scalar {
        /// The text after unescaping.
        text: Cow<'a, str>,
        /// Whether the scalar was written without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Tree<'a>>),
    /// A mapping whose keys are unique: of duplicates the last one was kept.
    Mapping(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl Node {
    /// A quoted string without a line.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self {
            line: 0,
            kind: Kind::Scalar {
                text: Cow::Owned(text.to_owned()),
                plain: false,
            },
        }
    }

    /// A tree without lines from JSON, as an API server or a Helm release gives it.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let scalar = |text: String, plain| Kind::Scalar {
            text: Cow::Owned(text),
            plain,
        };
        let kind = match value {
            Value::Null => scalar(String::new(), true),
            Value::Bool(flag) => scalar(flag.to_string(), true),
            Value::Number(number) => scalar(number.to_string(), true),
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Kind::Sequence(items.iter().map(Self::from_json).collect()),
            Value::Object(entries) => Kind::Mapping(
                entries
                    .iter()
                    .map(|(key, value)| (Cow::Owned(key.clone()), Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { line: 0, kind }
    }
}

impl<'a> Tree<'a> {
    /// The value under `key`, where this is a mapping that holds it and it is not null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Mapping(entries) => entries
                .iter()
                .find(|(name, _)| &**name == key)
                .map(|(_, node)| node)
                .filter(|node| !node.is_null()),
            _ => None,
        }
    }

    /// The value at the end of a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text at the end of a path of keys.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Tree::as_str)
    }

    /// The list at the end of a path, empty where there is none.
    pub fn items_at(&self, path: &[&str]) -> std::slice::Iter<'_, Tree<'a>> {
        self.at(path).map_or([].iter(), Tree::items)
    }

    /// The text of a scalar of any type.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A whole number.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_str().and_then(|text| text.parse().ok())
    }

    /// A boolean in one of the spellings that Kubernetes' YAML reader and Milvus accept.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_str()? {
            "true" | "True" | "TRUE" | "yes" | "on" | "1" => Some(true),
            "false" | "False" | "FALSE" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    /// Whether this is an unquoted null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The same without what it was borrowed from.
    #[must_use]
    pub fn into_owned(self) -> Node {
        let kind = match self.kind {
            Kind::Scalar { text, plain } => Kind::Scalar {
                text: Cow::Owned(text.into_owned()),
                plain,
            },
            Kind::Sequence(items) => {
                Kind::Sequence(items.into_iter().map(Tree::into_owned).collect())
            }
            Kind::Mapping(entries) => Kind::Mapping(
                entries
                    .into_iter()
                    .map(|(key, node)| (Cow::Owned(key.into_owned()), node.into_owned()))
                    .collect(),
            ),
        };
        Tree {
            line: self.line,
            kind,
        }
    }

    /// The elements of a list; nothing for any other shape.
    pub fn items(&self) -> std::slice::Iter<'_, Tree<'a>> {
        match &self.kind {
            Kind::Sequence(items) => items.iter(),
            _ => [].iter(),
        }
    }

    /// The entries of a mapping; nothing for any other shape.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        match &self.kind {
            Kind::Mapping(entries) => entries.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|(key, node)| (&**key, node))
    }

    /// Whether this is a mapping.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        matches!(self.kind, Kind::Mapping(_))
    }

    /// The same data as JSON: unquoted `true`, `null` and numbers become what they look like.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => Value::Null,
            Kind::Scalar { text, plain: true } => plain_to_json(text),
            Kind::Scalar { text, .. } => Value::String(text.to_string()),
            Kind::Sequence(items) => items.iter().map(Tree::to_json).collect(),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|(key, node)| (key.to_string(), node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

impl<'t> DocumentValue<'t> for &'t Tree<'_> {
    fn line(self) -> u32 {
        self.line
    }

    fn get(self, key: &str) -> Option<Self> {
        Tree::get(self, key)
    }

    fn as_text(self) -> Option<Cow<'t, str>> {
        self.as_str().map(Cow::Borrowed)
    }

    fn items(self) -> impl Iterator<Item = Self> {
        Tree::items(self)
    }

    fn entries(self) -> impl Iterator<Item = (Cow<'t, str>, Self)> {
        Tree::entries(self).map(|(key, value)| (Cow::Borrowed(key), value))
    }

    fn is_mapping(self) -> bool {
        Tree::is_mapping(self)
    }
}

impl<'de> Deserialize<'de> for Tree<'de> {
    /// Reads JSON in one pass, without a value tree in between, and no more than [`MAX_VALUES`]
    /// values of it. Of duplicate keys the last one counts, as at the API server.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reader {
            left: &Cell::new(MAX_VALUES),
        }
        .deserialize(deserializer)
    }
}

/// Reads values as long as some are left.
#[derive(Clone, Copy)]
struct Reader<'c> {
    left: &'c Cell<usize>,
}

impl Reader<'_> {
    fn count<E: Error>(self, values: usize) -> Result<(), E> {
        let left = self
            .left
            .get()
            .checked_sub(values)
            .ok_or_else(|| E::custom(Exceeded::Values(MAX_VALUES)))?;
        self.left.set(left);
        Ok(())
    }
}

fn scalar<'de>(text: impl Into<Cow<'de, str>>, plain: bool) -> Tree<'de> {
    Tree {
        line: 0,
        kind: Kind::Scalar {
            text: text.into(),
            plain,
        },
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Tree<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree<'de>, D::Error> {
        self.count(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree<'de>, E> {
        Ok(scalar(flag.to_string(), true))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree<'de>, E> {
        Ok(scalar(number.to_string(), true))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree<'de>, E> {
        Ok(scalar(number.to_string(), true))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree<'de>, E> {
        Ok(scalar(number.to_string(), true))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Tree<'de>, E> {
        Ok(scalar(text, false))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree<'de>, E> {
        Ok(scalar(text.to_owned(), false))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree<'de>, E> {
        Ok(scalar(text, false))
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(scalar("", true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree<'de>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            all.push(item);
        }
        Ok(Tree {
            line: 0,
            kind: Kind::Sequence(all),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree<'de>, A::Error> {
        // Most mappings of a manifest have two: a name and a value.
        let mut all: Vec<(Cow<'de, str>, Tree<'de>)> = Vec::with_capacity(2);
        let mut seen: Option<HashMap<Cow<'de, str>, usize>> = None;
        while let Some(Key(key)) = entries.next_key::<Key<'de>>()? {
            self.count(1)?;
            let value = entries.next_value_seed(self)?;
            let known = if all.len() < SMALL_MAPPING {
                all.iter().position(|(name, _)| *name == key)
            } else {
                let index = || {
                    all.iter()
                        .enumerate()
                        .map(|(at, (name, _))| (name.clone(), at))
                        .collect()
                };
                match seen.get_or_insert_with(index).entry(key.clone()) {
                    Entry::Occupied(known) => Some(*known.get()),
                    Entry::Vacant(free) => {
                        free.insert(all.len());
                        None
                    }
                }
            };
            if let Some(at) = known {
                all[at].1 = value;
                continue;
            }
            all.push((key, value));
        }
        Ok(Tree {
            line: 0,
            kind: Kind::Mapping(all),
        })
    }
}

/// A key of a mapping. A plain `Cow` would always be copied.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn plain_to_json(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            if let Ok(number) = text.parse::<i64>() {
                Value::from(number)
            } else if text.starts_with(|first: char| {
                first.is_ascii_digit() || matches!(first, '-' | '+' | '.')
            }) {
                text.parse::<f64>()
                    .ok()
                    .and_then(serde_json::Number::from_f64)
                    .map_or_else(|| Value::from(text), Value::Number)
            } else {
                Value::from(text)
            }
        }
    }
}
