//! The output of a dry run: every key that changes, its value before and after, decoded.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    key_outcome::{KeyOutcome, KeyOutcomes},
    keys::{self, shown},
    messages,
    plan::Plan,
};

impl<'d> Plan<'d> {
    /// Every key that changes, sorted, for a dry run.
    #[must_use]
    pub fn diff(&self) -> Diff<'_, 'd> {
        Diff::new(self)
    }
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The key is new.
    Add,
    /// Its value changes.
    Change,
    /// The key is deleted.
    Remove,
}

/// One key that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'p> {
    /// What happens to the key.
    pub action: Action,
    /// Key, relative to the root.
    pub key: &'p [u8],
    /// Value before.
    pub before: Option<&'p [u8]>,
    /// Value after.
    pub after: Option<&'p [u8]>,
}

/// All keys that change, sorted. Each is decoded when it is printed, so that a million keys need no
/// memory.
#[derive(Clone)]
pub struct Diff<'p, 'd> {
    fates: KeyOutcomes<'p, 'd>,
}

impl<'p, 'd> Diff<'p, 'd> {
    pub(super) fn new(plan: &'p Plan<'d>) -> Self {
        Self {
            fates: plan.fates(),
        }
    }
}

impl<'p, 'd: 'p> Iterator for Diff<'p, 'd> {
    type Item = Change<'p>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fates.find_map(|(key, fate)| {
            Some(match fate {
                KeyOutcome::Keep(_) => return None,
                KeyOutcome::Put { new, .. } => Change {
                    action: Action::Add,
                    key,
                    before: None,
                    after: Some(new),
                },
                KeyOutcome::Rewrite { old, new, .. } => Change {
                    action: Action::Change,
                    key,
                    before: Some(old),
                    after: Some(new),
                },
                KeyOutcome::Delete { old, .. } => Change {
                    action: Action::Remove,
                    key,
                    before: Some(old),
                    after: None,
                },
            })
        })
    }
}

/// Lines of a diff: `+` or `-`, the key, and the value as JSON if its format is known.
impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |sign: char, value: Option<&[u8]>| {
            let value = value
                .map(|value| format!(" {}", describe(self.key, value)))
                .unwrap_or_default();
            format!("{sign} {}{value}", shown(self.key))
        };
        match (self.action, self.before) {
            (Action::Add, _) | (Action::Change, None) => f.write_str(&line('+', self.after)),
            (Action::Remove, before) => f.write_str(&line('-', before)),
            (Action::Change, before) => {
                write!(f, "{}\n{}", line('-', before), line('+', self.after))
            }
        }
    }
}

impl Serialize for Change<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            action: Action,
            key: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            before: Option<Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            after: Option<Value>,
        }
        let describe = |value: Option<&[u8]>| value.map(|value| describe(self.key, value));
        Shown {
            action: self.action,
            key: shown(self.key),
            before: describe(self.before),
            after: describe(self.after),
        }
        .serialize(serializer)
    }
}

/// Decodes the message at a key.
type Decode = fn(&[u8]) -> Option<Value>;

/// A value as JSON: its message if the key determines the type, else its text, else base64.
/// Credentials are hidden.
#[must_use]
pub fn describe(key: &[u8], value: &[u8]) -> Value {
    if key.starts_with(keys::CREDENTIAL.as_bytes()) {
        return Value::String("(hidden)".into());
    }
    if value == keys::TOMBSTONE {
        return Value::String("(dropped)".into());
    }
    let decoders: [(&str, Decode); 14] = [
        (keys::COLLECTION, message::<messages::CollectionInfo>),
        (
            keys::COLLECTION_HISTORY,
            message::<messages::CollectionInfo>,
        ),
        (keys::OLD_ALIAS, message::<messages::CollectionInfo>),
        (keys::OLD_ALIAS_HISTORY, message::<messages::CollectionInfo>),
        (keys::ALIAS, message::<messages::AliasInfo>),
        (keys::ALIAS_HISTORY, message::<messages::AliasInfo>),
        (keys::OLD_INDEX, message::<messages::OldIndex>),
        (
            keys::OLD_SEGMENT_INDEX,
            message::<messages::OldSegmentIndex>,
        ),
        (keys::BUILD, message::<messages::Build>),
        (keys::INDEX, message::<messages::FieldIndex>),
        (keys::SEGMENT_INDEX, message::<messages::SegmentIndex>),
        (keys::OLD_LOAD, message::<messages::OldLoad>),
        (keys::COLLECTION_LOAD, message::<messages::CollectionLoad>),
        (keys::PARTITION_LOAD, message::<messages::PartitionLoad>),
    ];
    decoders
        .iter()
        .find(|(prefix, _)| key.starts_with(prefix.as_bytes()))
        .and_then(|(_, decode)| decode(value))
        .or_else(|| {
            std::str::from_utf8(value)
                .ok()
                .map(|text| Value::String(text.into()))
        })
        .unwrap_or_else(|| serde_json::json!({ "base64": STANDARD.encode(value) }))
}

fn message<M: Message + Default + Serialize>(value: &[u8]) -> Option<Value> {
    serde_json::to_value(M::decode(value).ok()?).ok()
}
