//! JSON as an API server writes it, in one pass and without a tree: every value in the order of the
//! text, each with the place where what follows it begins.
//!
//! Go writes JSON without spaces between values. Only such text is read here. Text of another form,
//! and invalid text, is read by `serde_json` instead. Both readers give the same values; a property
//! test and a fuzz target check that.

mod reader;
mod repeat;
mod scalar;

use std::{borrow::Cow, cell::Cell, mem};

use super::view::DocumentValue;

/// Containers inside each other, less than `serde_json` reads: what is deeper is read by
/// `serde_json`, and is refused there sooner or later.
const MAX_DEPTH: usize = 96;
/// Values on a tape (16 bytes each). What holds more is not an object that people write, and need
/// not be read fast.
const MAX_VALUES: usize = 1 << 18;

/// A text and its values.
#[derive(Debug)]
pub struct Tape<'a> {
    text: &'a str,
    values: Vec<Value>,
}

thread_local! {
    /// The room of the last tape: fetching it again takes a tenth of the time of a reading.
    static SPARE: Cell<Vec<Value>> = const { Cell::new(Vec::new()) };
}

/// Values whose room is kept (128 KiB).
const MAX_SPARE: usize = 1 << 13;

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        let mut values = mem::take(&mut self.values);
        if values.capacity() <= MAX_SPARE {
            values.clear();
            // A thread that ends has no use for it.
            let _ = SPARE.try_with(|spare| spare.set(values));
        }
    }
}

/// A value, or the key of one: keys stand before their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    /// Where it begins in the text; a string behind its quote.
    start: u32,
    /// Where it stops; a string before its quote.
    stop: u32,
    /// Position of what follows it and all that is in it.
    next: u32,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A string that means what is written.
    Text,
    /// A string with escapes, all of them valid.
    Escaped,
    /// A whole number, `true` or `false`.
    Plain,
    Null,
    List,
    Map,
}

/// One value on a tape.
#[derive(Clone, Copy, Debug)]
pub struct ValueRef<'t, 'a> {
    tape: &'t Tape<'a>,
    position: u32,
}

impl<'a> Tape<'a> {
    /// Reads a text; `None` if it is not written as an API server does.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        // Places take four bytes.
        u32::try_from(text.len()).ok()?;
        // Between values they would be spaces, in strings they are forbidden. One look at all of
        // them is a fast one.
        if text.bytes().fold(u8::MAX, u8::min) < b' ' {
            return None;
        }
        let mut tape = Self {
            text,
            values: SPARE.try_with(Cell::take).unwrap_or_default(),
        };
        reader::values(text.as_bytes(), &mut tape.values)?;
        Some(tape)
    }

    /// The whole.
    #[must_use]
    pub fn root(&self) -> ValueRef<'_, 'a> {
        self.at(0)
    }

    /// The value at a position.
    #[must_use]
    pub fn at(&self, position: u32) -> ValueRef<'_, 'a> {
        ValueRef {
            tape: self,
            position,
        }
    }
}

/// A place in a text or on a tape, both of which are shorter than 4 GiB.
#[allow(
    clippy::cast_possible_truncation,
    reason = "Tape::read looks at the length first"
)]
const fn short(at: usize) -> u32 {
    at as u32
}

impl<'t, 'a> ValueRef<'t, 'a> {
    #[inline]
    fn value(self) -> Option<&'t Value> {
        self.tape.values.get(self.position as usize)
    }

    #[inline]
    fn text(self, value: &Value) -> Option<&'a str> {
        self.tape
            .text
            .get(value.start as usize..value.stop as usize)
    }

    /// Its position on the tape.
    #[must_use]
    pub const fn position(self) -> u32 {
        self.position
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.value().is_some_and(|value| value.shape == Shape::Null)
    }

    /// A mapping or list as it is written.
    #[must_use]
    pub fn written(self) -> Option<&'a str> {
        self.value()
            .filter(|value| matches!(value.shape, Shape::Map | Shape::List))
            .and_then(|value| self.text(value))
    }

    /// What a string means; nothing for any other shape.
    #[must_use]
    pub fn string(self) -> Option<Cow<'a, str>> {
        let value = self.value()?;
        match value.shape {
            Shape::Text => self.text(value).map(Cow::Borrowed),
            Shape::Escaped => unescaped(self.text(value)?).map(Cow::Owned),
            _ => None,
        }
    }

    /// The text of a plain scalar: digits, `true` or `false`.
    #[must_use]
    pub fn plain(self) -> Option<&'a str> {
        self.value()
            .filter(|value| value.shape == Shape::Plain)
            .and_then(|value| self.text(value))
    }

    /// Keys and values of a mapping in their order, also those of null; nothing for any other
    /// shape.
    #[inline]
    pub fn pairs(self) -> impl Iterator<Item = (Self, Self)> {
        let mut children = self.children(Shape::Map);
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }

    /// The text that this mapping's text has from one of its keys on, the opening quote left out.
    #[must_use]
    pub fn written_from(self, key: Self) -> Option<&'a str> {
        self.tape
            .text
            .get(key.value()?.start as usize..self.value()?.stop as usize)
    }

    /// Its direct children.
    #[inline]
    fn children(self, shape: Shape) -> impl Iterator<Item = Self> {
        let container = self.value().filter(|value| value.shape == shape);
        let end = container.map_or(0, |container| container.next);
        let mut next = self.position + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(Self {
                tape: self.tape,
                position: next,
            })?;
            next = child.value()?.next;
            Some(child)
        })
    }

    /// Whether this is a string that means `text`.
    #[inline]
    fn means(self, text: &str) -> bool {
        self.value().is_some_and(|value| match value.shape {
            // Most keys differ in length, which takes no look at the text.
            Shape::Text => {
                (value.stop - value.start) as usize == text.len() && self.text(value) == Some(text)
            }
            Shape::Escaped => self.text(value).and_then(unescaped).as_deref() == Some(text),
            _ => false,
        })
    }
}

/// What a string with escapes means.
fn unescaped(text: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{text}\"")).ok()
}

impl<'t> DocumentValue<'t> for ValueRef<'t, '_> {
    fn line(self) -> u32 {
        0
    }

    #[inline]
    fn get(self, key: &str) -> Option<Self> {
        let held = self.pairs().filter(|(name, _)| name.means(key)).last();
        held.map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    #[inline]
    fn fields<const N: usize>(self, keys: [&str; N]) -> [Option<Self>; N] {
        let mut found = [None; N];
        for (name, value) in self.pairs() {
            if let Some(place) = keys
                .iter()
                .position(|key| name.means(key))
                .and_then(|position| found.get_mut(position))
            {
                *place = Some(value);
            }
        }
        found.map(|value: Option<Self>| value.filter(|value| !value.is_null()))
    }

    fn as_text(self) -> Option<Cow<'t, str>> {
        if self.is_null() {
            return Some(Cow::Borrowed(""));
        }
        self.plain().map(Cow::Borrowed).or_else(|| self.string())
    }

    fn items(self) -> impl Iterator<Item = Self> {
        self.children(Shape::List)
    }

    fn entries(self) -> impl Iterator<Item = (Cow<'t, str>, Self)> {
        self.pairs()
            .filter_map(|(key, value)| Some((key.string()?, value)))
    }

    fn is_mapping(self) -> bool {
        self.value().is_some_and(|value| value.shape == Shape::Map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::manifest::{Tree, node::Kind};

    /// Whether both ways read the same.
    fn same(at: ValueRef<'_, '_>, tree: &Tree<'_>) -> bool {
        match &tree.kind {
            Kind::Scalar { text, plain } => {
                let is_plain = at.is_null() || at.plain().is_some();
                at.as_text().as_ref() == Some(text)
                    && is_plain == *plain
                    && at.is_null() == tree.is_null()
            }
            Kind::Sequence(items) => {
                at.items().count() == items.len()
                    && at.items().zip(items).all(|(at, item)| same(at, item))
            }
            Kind::Mapping(entries) => {
                DocumentValue::is_mapping(at)
                    && DocumentValue::entries(at)
                        .all(|(key, _)| entries.iter().any(|(name, _)| *name == key))
                    && entries
                        .iter()
                        .all(|(key, value)| match DocumentValue::get(at, key) {
                            Some(at) => same(at, value),
                            None => value.is_null(),
                        })
            }
        }
    }

    #[rstest]
    #[case(r#"{"a":1,"b":[true,false,null,"x",-5],"c":{},"d":[],"e":{"f":""}}"#)]
    #[case(r#"{"k:{\"name\":\"proxy\"}":{"\u003c":"a\\b\/\b\f\n\r\t\u00e4"},"a\"":1}"#)]
    #[case(r#"{"a":1,"a":2,"b":{"x":1},"\u0062":{"y":2}}"#)]
    #[case(r#"{"a":1,"a":null}"#)]
    #[case(r#""text""#)]
    #[case("999999999999999999")]
    #[case(r#"{"long":"abcdefgh\"ijklmnopqrstuvwxyz","größe":"äöü\u20ac"}"#)]
    fn it_reads_what_serde_json_reads(#[case] text: &str) {
        let tape = Tape::read(text).unwrap();
        assert!(
            same(tape.root(), &serde_json::from_str(text).unwrap()),
            "{tape:?}"
        );
    }

    #[rstest]
    #[case("")]
    #[case(" {}")]
    #[case(r#"{"a": 1}"#)]
    #[case("{}\n")]
    #[case("{} {}")]
    #[case("{}x")]
    #[case("[1,]")]
    #[case(r#"{"a":1,}"#)]
    #[case(r#"{"a"}"#)]
    #[case("{a:1}")]
    #[case("[1")]
    #[case("[1}")]
    #[case(r#"{"a":[}"#)]
    #[case(r#"["a]"#)]
    #[case(r#"["\x"]"#)]
    #[case(r#"["\u12"]"#)]
    #[case(r#"["\ud83d\ude00"]"#)]
    #[case("[\"a\tb\"]")]
    #[case("[\"abcdefghijkl\nm\"]")]
    #[case("01")]
    #[case("-")]
    #[case("-0")]
    #[case("+1")]
    #[case("1.5")]
    #[case("1e3")]
    #[case("1234567890123456789")]
    #[case("tru")]
    #[case("trUe")]
    #[case("nul")]
    fn different_looking_texts_are_read_by_serde(#[case] text: &str) {
        assert!(Tape::read(text).is_none());
    }

    #[test]
    fn deep_text_goes_the_long_way() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Tape::read(&deep(MAX_DEPTH)).is_some());
        assert!(Tape::read(&deep(MAX_DEPTH + 1)).is_none());
        assert!(Tape::read(&deep(1_000_000)).is_none());
        let maps = format!(
            "{}1{}",
            r#"{"a":"#.repeat(MAX_DEPTH + 1),
            "}".repeat(MAX_DEPTH + 1)
        );
        assert!(Tape::read(&maps).is_none());
    }

    #[test]
    fn parts_are_found_as_they_are_written() {
        let text = r#"{"kind":"Deployment","spec":{"a":[1,2]},"status":{}}"#;
        let tape = Tape::read(text).unwrap();
        let spec = tape.root().get("spec").unwrap();
        assert_eq!(spec.written(), Some(r#"{"a":[1,2]}"#));
        let (key, _) = tape.root().pairs().nth(1).unwrap();
        assert_eq!(
            tape.root().written_from(key),
            Some(r#"spec":{"a":[1,2]},"status":{}}"#)
        );
        assert_eq!(
            tape.at(spec.position())
                .items_at(&["a"])
                .filter_map(DocumentValue::as_i64)
                .sum::<i64>(),
            3
        );
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i32>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
            "[ -~]{0,40}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-c\"\\\\é]{0,9}", inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_compactly_is_read(value in json()) {
            let text = value.to_string();
            let tape = Tape::read(&text).unwrap();
            prop_assert!(same(tape.root(), &serde_json::from_str(&text).unwrap()));
        }

        /// After any change of a text: where there is a tape, `serde_json` reads the same.
        #[test]
        fn damaged_text_is_read_by_both_or_by_neither(
            value in json(), cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\"\\\\{}\\[\\],:0-9a-eu\t ]{0,2}"), 1..4)
        ) {
            let mut text: Vec<char> = value.to_string().chars().collect();
            for (at, new) in cuts {
                if !text.is_empty() {
                    let at = at.index(text.len());
                    text.splice(at..=at, new.chars());
                }
            }
            let text: String = text.into_iter().collect();
            if let Some(tape) = Tape::read(&text) {
                let tree: Result<Tree<'_>, _> = serde_json::from_str(&text);
                prop_assert!(tree.is_ok_and(|tree| same(tape.root(), &tree)), "{}", text);
            }
        }
    }
}
