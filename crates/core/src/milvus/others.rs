//! What an input holds in addition to Milvus, for the sentence that says why nothing could be
//! judged.

use std::collections::BTreeMap;

use crate::{manifest::object::ObjectRef, text::count};

/// Kinds that are remembered; the rest is only counted.
const KINDS: usize = 24;
/// Names of a kind that are remembered.
const NAMES: usize = 3;
/// Characters of a kind or a name.
const LENGTH: usize = 63;

/// Objects of an input in which no Milvus was found, counted by kind, with the first names of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    kinds: BTreeMap<Box<str>, Kind>,
    more: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kind {
    count: usize,
    names: Vec<Box<str>>,
}

impl Others {
    /// Counts one object.
    pub fn add(&mut self, object: &ObjectRef) {
        let kind = cut(&object.kind);
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.more += 1;
            return;
        }
        let entry = self.kinds.entry(kind).or_default();
        entry.count += 1;
        if entry.names.len() < NAMES {
            entry.names.push(cut(&object.name));
        }
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.more + self.kinds.values().map(|kind| kind.count).sum::<usize>()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects as text, workloads first: "2 Deployments (attu, web), 1 Service (web)". `None`
    /// where there is none.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        const WORKLOADS: [&str; 8] = [
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "ReplicaSet",
            "Job",
            "CronJob",
            "Pod",
            "Milvus",
        ];
        let rank = |kind: &str| {
            WORKLOADS
                .iter()
                .position(|known| *known == kind)
                .unwrap_or(WORKLOADS.len())
        };
        let mut kinds: Vec<(&Box<str>, &Kind)> = self.kinds.iter().collect();
        kinds.sort_by_key(|(kind, _)| (rank(kind), *kind));
        let mut parts: Vec<String> = kinds
            .into_iter()
            .map(|(kind, entry)| {
                let more = if entry.count > entry.names.len() {
                    ", ..."
                } else {
                    ""
                };
                format!(
                    "{} ({}{more})",
                    count(entry.count, kind),
                    entry.names.join(", ")
                )
            })
            .collect();
        if self.more > 0 {
            parts.push(format!("{} of other kinds", count(self.more, "object")));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn cut(text: &str) -> Box<str> {
    text.chars().take(LENGTH).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str) -> ObjectRef {
        ObjectRef {
            kind: kind.into(),
            namespace: None,
            name: name.into(),
        }
    }

    #[test]
    fn workloads_come_first_and_names_are_few() {
        let mut others = Others::default();
        assert_eq!(others.describe(), None);
        for (kind, name) in [
            ("Service", "web"),
            ("Deployment", "attu"),
            ("Deployment", "web"),
            ("StatefulSet", "db"),
        ] {
            others.add(&object(kind, name));
        }
        assert_eq!(
            others.describe().unwrap(),
            "2 Deployments (attu, web), 1 StatefulSet (db), 1 Service (web)"
        );
        for name in ["a", "b"] {
            others.add(&object("Deployment", name));
        }
        assert_eq!(
            others.describe().unwrap(),
            "4 Deployments (attu, web, a, ...), 1 StatefulSet (db), 1 Service (web)"
        );
    }

    #[test]
    fn any_input_takes_little_room() {
        let mut others = Others::default();
        for number in 0..1000 {
            others.add(&object(&format!("Kind{number}"), &"n".repeat(5000)));
        }
        assert_eq!(others.len(), 1000);
        assert!(others.describe().unwrap().len() < 24 * 2 * 80);
    }
}
