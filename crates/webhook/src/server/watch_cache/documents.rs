//! Policies and exceptions: the last valid version of each applies.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use milvus_guard_core::policy::{
    PolicyDocument, PolicySet,
    lint::{self, Lint},
    resolve::NamespaceLabels,
};
use milvus_guard_sources::kubernetes::guard;
use serde_json::Value;

use super::{WatchCache, watched::Watched};

/// A policy or an exception as it was last read.
#[derive(Clone, Debug)]
pub struct Document {
    /// The version that applies: the last valid one.
    pub good: Option<PolicyDocument>,
    /// Why the newest version does not apply.
    pub problem: Option<String>,
    /// Results of `policy lint` for the newest version.
    pub lints: Vec<Lint>,
    /// Generation of the newest version.
    pub generation: Option<i64>,
}

/// Policies and exceptions, by kind and name.
pub(super) type Documents = BTreeMap<(Watched, String), Document>;

impl WatchCache {
    /// The policies and exceptions that apply if these are all existing objects. For an invalid
    /// object the last valid version applies, as for watched objects.
    #[must_use]
    pub fn policies_of(&self, objects: Vec<Value>, now: Timestamp) -> PolicySet {
        let (mut documents, labels) = {
            let state = self.read();
            (state.documents.clone(), Arc::clone(&state.labels))
        };
        let mut there = HashSet::new();
        for mut object in objects {
            let kind = match object.get("kind").and_then(Value::as_str) {
                Some(kind) if kind == Watched::Policies.kind() => Watched::Policies,
                _ => Watched::Exceptions,
            };
            let name = object
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            take_document(&mut documents, kind, &name, &mut object, now);
            there.insert((kind, name));
        }
        documents.retain(|key, _| there.contains(key));
        compiled(&documents, labels)
    }

    /// Every policy and exception, by kind and name.
    #[must_use]
    pub fn documents(&self) -> Vec<((Watched, String), Document)> {
        self.read()
            .documents
            .iter()
            .map(|(key, document)| (key.clone(), document.clone()))
            .collect()
    }

    /// Seconds since the policies last changed.
    #[must_use]
    pub fn policy_age(&self) -> Option<f64> {
        self.read().compiled_at.map(|at| at.elapsed().as_secs_f64())
    }
}

/// Adds a policy or an exception.
pub(super) fn take_document(
    documents: &mut Documents,
    kind: Watched,
    name: &str,
    object: &mut Value,
    now: Timestamp,
) {
    let generation = object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64);
    let key = (kind, name.to_owned());
    let last_good = documents
        .get(&key)
        .and_then(|document| document.good.clone());
    let document = match guard::document(object, kind.kind()) {
        Err(error) => Document {
            good: last_good,
            problem: Some(error.message),
            lints: Vec::new(),
            generation,
        },
        Ok(read) => {
            let lints = lint::lint(std::slice::from_ref(&read), now);
            let error = lints
                .iter()
                .find(|lint| lint.severity == lint::Severity::Error)
                .map(|lint| lint.message.clone());
            let good = if error.is_some() {
                last_good
            } else {
                Some(read)
            };
            Document {
                good,
                problem: error,
                lints,
                generation,
            }
        }
    };
    documents.insert(key, document);
}

/// The policies and exceptions that apply by these documents.
pub(super) fn compiled(documents: &Documents, namespace_labels: Arc<NamespaceLabels>) -> PolicySet {
    let mut set = PolicySet {
        namespace_labels,
        ..PolicySet::default()
    };
    for document in documents
        .values()
        .filter_map(|document| document.good.clone())
    {
        set.add(document);
    }
    set
}
