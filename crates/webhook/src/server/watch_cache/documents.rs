//! Policies and exceptions: what was good last stays in force.

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
    /// What is in force: what was good last.
    pub good: Option<PolicyDocument>,
    /// Why the newest is not in force.
    pub problem: Option<String>,
    /// What `policy lint` says of the newest.
    pub lints: Vec<Lint>,
    /// Generation of the newest.
    pub generation: Option<i64>,
}

/// Policies and exceptions, by kind and name.
pub(super) type Documents = BTreeMap<(Watched, String), Document>;

impl WatchCache {
    /// Policies and exceptions in force, where these objects are all that there are now. One of
    /// them that is bad leaves what was good last in force, as it does where it is watched.
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

/// Takes in a policy or an exception.
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

/// What is in force by these documents.
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
