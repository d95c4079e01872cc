//! The metadata of an object, read without the rest: most reviews are settled by it.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    manifest::{
        DocumentValue,
        object::{Labels, Workload, is_kept_annotation},
        tape::ValueRef,
    },
    milvus::dependency::may_be_ours,
};

use super::{
    envelope::{members, text},
    review::JsonObject,
};

/// An object up to its specification, and the text from there on.
#[derive(Debug)]
pub(super) struct PartialObject<'a> {
    metadata: Metadata<'a>,
    rest: &'a str,
}

/// What is read of an object's metadata.
#[derive(Debug, Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(borrow, default)]
    labels: Pairs<'a>,
    #[serde(borrow, default)]
    annotations: Pairs<'a>,
}

impl<'a> PartialObject<'a> {
    /// Reads the metadata of an object; `None` if it does not stand before the specification, as
    /// the API server writes it.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let mut found = Found::default();
        // It ends in an error on purpose: at the specification reading stops.
        let _ = Until {
            text,
            found: &mut found,
        }
        .deserialize(&mut serde_json::Deserializer::from_str(text));
        Some(Self {
            metadata: found.metadata?,
            rest: found.rest?,
        })
    }

    /// The same from a tape.
    pub(super) fn at(object: ValueRef<'_, 'a>) -> Option<Self> {
        let mut metadata = None;
        for (key, value) in object.pairs() {
            match &*key.string()? {
                "spec" => {
                    return Some(Self {
                        metadata: metadata?,
                        rest: object.written_from(key)?,
                    });
                }
                "metadata" if metadata.is_none() => metadata = Some(Metadata::at(value)?),
                "metadata" => return None,
                _ => {}
            }
        }
        None
    }

    /// Whether both want the same, to the letter: then only metadata changes.
    pub(super) fn has_same_rest(&self, other: &Self) -> bool {
        self.rest == other.rest
    }

    /// Whether the object may be Milvus or its dependencies. Neither its name nor its namespace
    /// makes it so.
    pub(super) fn may_be_ours(&self) -> bool {
        may_be_ours(self.rest)
            || self
                .metadata
                .labels
                .0
                .iter()
                .any(|(key, value)| may_be_ours(key) || may_be_ours(value))
    }

    /// An annotation.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata
            .annotations
            .0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| &**value)
    }

    /// Whether a workload that was seen before is this very state: the API server counts a
    /// generation for each change of the specification.
    pub(super) fn is_of(&self, known: &Workload) -> bool {
        let Metadata {
            uid,
            generation,
            labels,
            annotations,
        } = &self.metadata;
        let kept = annotations
            .0
            .iter()
            .filter(|(key, _)| is_kept_annotation(key));
        known.meta.uid.as_deref() == Some(&**uid)
            && generation.is_some_and(|generation| {
                known
                    .status
                    .is_some_and(|status| status.generation == generation)
            })
            && known.meta.labels
                == labels
                    .0
                    .iter()
                    .map(|(key, value)| (&**key, &**value))
                    .collect::<Labels>()
            && known.meta.annotations
                == kept
                    .map(|(key, value)| (&**key, &**value))
                    .collect::<Labels>()
    }
}

impl<'a> Metadata<'a> {
    fn at(metadata: ValueRef<'_, 'a>) -> Option<Self> {
        let [uid, generation, labels, annotations] =
            members(metadata, ["uid", "generation", "labels", "annotations"])?;
        let generation = match generation {
            Some(number) if !number.is_null() => Some(number.plain()?.parse().ok()?),
            _ => None,
        };
        Some(Self {
            uid: text(uid)?,
            generation,
            labels: Pairs::at(labels)?,
            annotations: Pairs::at(annotations)?,
        })
    }
}

/// Labels or annotations in their order.
#[derive(Debug, Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Pairs<'a> {
    fn at(pairs: Option<ValueRef<'_, 'a>>) -> Option<Self> {
        match pairs {
            Some(pairs) if !pairs.is_null() => DocumentValue::is_mapping(pairs).then(|| {
                pairs
                    .pairs()
                    .map(|(key, value)| Some((key.string()?, value.string()?)))
            })?,
            _ => return Some(Self::default()),
        }
        .collect::<Option<_>>()
        .map(Self)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by name")
            }

            fn visit_unit<E>(self) -> Result<Pairs<'de>, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Pairs<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some((Text(key), Text(value))) = entries.next_entry()? {
                    all.push((key, value));
                }
                Ok(Pairs(all))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Default)]
struct Found<'a> {
    metadata: Option<Metadata<'a>>,
    rest: Option<&'a str>,
}

/// Reads keys until the specification.
struct Until<'a, 'b> {
    text: &'a str,
    found: &'b mut Found<'a>,
}

impl<'de> DeserializeSeed<'de> for Until<'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Until<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = entries.next_key()? {
            if let Cow::Borrowed(key) = key
                && key == "spec"
            {
                let start = (key.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
                self.found.rest = start.and_then(|start| self.text.get(start..));
                return Err(A::Error::custom("far enough"));
            }
            if key == "metadata" {
                let JsonObject(metadata) = entries.next_value()?;
                self.found.metadata = Some(metadata);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::{Object, Origin, Tree, tape::Tape};

    const TEXT: &str = r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"milvus-a","namespace":"milvus","uid":"u1",
        "generation":3,"labels":{"app":"web"},"annotations":{"guard.milvus.io/accept":"MG201","kubectl.kubernetes.io/x":"y"}},
        "spec":{"replicas":1},"status":{"replicas":1,"observedGeneration":3}}"#;

    fn workload(text: &str) -> std::sync::Arc<Workload> {
        let node: Tree<'_> = serde_json::from_str(text).unwrap();
        let origin = Origin {
            source: "test".into(),
            document: 0,
            line: 0,
        };
        let Some(Object::Workload(workload)) = Object::read(&node, &origin, None) else {
            panic!()
        };
        workload
    }

    /// The text as the API server writes it: no spaces, and members in their order.
    fn tight(text: &str) -> String {
        text.split_inclusive('\n').map(str::trim).collect()
    }

    #[test]
    fn a_tape_gives_the_same_head() {
        let text = tight(TEXT);
        let tape = Tape::read(&text).unwrap();
        let (short, long) = (
            PartialObject::at(tape.root()).unwrap(),
            PartialObject::of(&text).unwrap(),
        );
        assert_eq!(format!("{short:?}"), format!("{long:?}"));
        assert!(short.has_same_rest(&long) && short.is_of(&workload(TEXT)));
    }

    #[test]
    fn reading_stops_at_the_specification() {
        let head = PartialObject::of(TEXT).unwrap();
        assert!(head.rest.starts_with(r#"spec":{"replicas":1}"#), "{head:?}");
        assert_eq!(head.annotation("guard.milvus.io/accept"), Some("MG201"));
        assert!(!head.may_be_ours(), "a name proves nothing");
        assert!(
            PartialObject::of(&TEXT.replace("web", "etcd"))
                .unwrap()
                .may_be_ours()
        );
        assert!(
            PartialObject::of(r#"{"metadata":{},"\u0073pec":{}}"#).is_none(),
            "an escaped key"
        );
        assert!(
            PartialObject::of(&TEXT.replace("replicas\":1}", "x\":\"mil\\u0076us\"}"))
                .unwrap()
                .may_be_ours()
        );
    }

    #[rstest]
    #[case("", "", true)]
    #[case(r#""uid":"u1""#, r#""uid":"u2""#, false)]
    #[case(r#""generation":3"#, r#""generation":4"#, false)]
    #[case(r#""app":"web""#, r#""app":"shop""#, false)]
    #[case("MG201", "MG205", false)]
    #[case(r#""y""#, r#""z""#, true)]
    fn a_state_is_known_by_its_generation(
        #[case] from: &str,
        #[case] to: &str,
        #[case] same: bool,
    ) {
        let changed = if from.is_empty() {
            TEXT.to_owned()
        } else {
            TEXT.replacen(from, to, 1)
        };
        assert_eq!(
            PartialObject::of(&changed).unwrap().is_of(&workload(TEXT)),
            same
        );
    }

    #[rstest]
    #[case("")]
    #[case("null")]
    #[case("[]")]
    #[case(r#"{"metadata":5,"spec":{}}"#)]
    #[case(r#"{"metadata":["u"],"spec":{}}"#)]
    #[case(r#"{"metadata":[],"spec":{}}"#)]
    #[case(r#"{"spec":{},"metadata":{}}"#)]
    #[case(r#"{"metadata":{"labels":{"a":1}},"spec":{}}"#)]
    #[case(r#"{"metadata":{}"#)]
    fn different_looking_texts_are_read_by_serde(#[case] text: &str) {
        assert!(PartialObject::of(text).is_none());
        assert!(Tape::read(text).is_none_or(|tape| PartialObject::at(tape.root()).is_none()));
    }
}
