//! The keys of a tree of values. What the values are is not kept.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_PATH_BYTES;

/// The keys of a chart's values. A value without keys accepts everything below it.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    Map(BTreeMap<String, Shape>),
    Open,
}

impl Shape {
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        let left = Cell::new(MAX_KEYS);
        let shape = Reader(&left)
            .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
            .ok()?;
        (left.get() > 0 && shape != Self::Open).then_some(shape)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.get(key),
            Self::Open => None,
        }
    }

    /// Whether these are the values of Milvus' chart from 3.0 on, under any name.
    pub(super) fn is_milvus(&self) -> bool {
        self.get("cluster").is_some()
            && self
                .get("image")
                .is_some_and(|image| image.get("all").is_some())
    }

    /// Whether the values are those of the chart itself, and not only what an umbrella sets of
    /// them.
    pub(super) fn is_complete(&self) -> bool {
        const PARTS: [&str; 10] = [
            "dataNode",
            "etcd",
            "externalS3",
            "ingress",
            "log",
            "metrics",
            "minio",
            "proxy",
            "queryNode",
            "standalone",
        ];
        PARTS.iter().filter(|part| self.get(part).is_some()).count() >= PARTS.len() - 2
    }

    /// Every path, the shortest first; `None` if they are too long to be written out.
    pub(super) fn paths(&self) -> Option<Vec<String>> {
        let mut all = Vec::new();
        let mut left = MAX_PATH_BYTES;
        let mut level = vec![(String::new(), self)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (path, shape) in level {
                let Self::Map(entries) = shape else { continue };
                for (key, below) in entries {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    left = left.checked_sub(path.len())?;
                    all.push(path.clone());
                    next.push((path, below));
                }
            }
            level = next;
        }
        Some(all)
    }
}

/// Reads keys as long as some are left.
#[derive(Clone, Copy)]
struct Reader<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = BTreeMap::new();
        while self.0.get() > 0 {
            let Some(key) = map.next_key::<String>()? else {
                return Ok(if entries.is_empty() {
                    Shape::Open
                } else {
                    Shape::Map(entries)
                });
            };
            self.0.set(self.0.get() - 1);
            entries.insert(key, map.next_value_seed(self)?);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Open)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Open)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Open)
    }
}

/// Keys that are read of a chart's values. Charts with all their sub-charts have about three
/// thousand.
pub(super) const MAX_KEYS: usize = 20_000;
