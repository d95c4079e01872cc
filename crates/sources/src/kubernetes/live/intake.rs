//! Converts objects of a cluster for a snapshot.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use milvus_guard_core::{
    manifest::{Node, Object, Origin, Tree, object::Deployer},
    milvus::snapshot::Builder,
};

use super::SOURCE;
use crate::kubernetes::evidence::{self, Mark, Proven};

/// An object of a live cluster, and whether its current template was completely available once.
#[must_use]
pub fn seen(object: &Value) -> Option<(Object, bool)> {
    let node = Tree::from_json(object);
    let origin = Origin {
        source: SOURCE.into(),
        document: 0,
        line: 0,
    };
    let object = Object::read(&node, &origin, None)?;
    let proven = matches!(object, Object::Workload(_)) && evidence::is_proven(&node);
    Some((object, proven))
}

/// Collects objects for a snapshot.
pub(super) struct Intake {
    pub(super) builder: Builder,
    pub(super) objects: Vec<Object>,
    source: Arc<str>,
    pub(super) proven: Proven,
    pub(super) marks: BTreeMap<String, Mark>,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            builder: Builder::default(),
            objects: Vec::new(),
            source: SOURCE.into(),
            proven: Proven::new(),
            marks: BTreeMap::new(),
        }
    }

    pub(super) fn read(&self, object: &Value) -> Option<(Node, Object)> {
        let node = Tree::from_json(object);
        let origin = Origin {
            source: Arc::clone(&self.source),
            document: 0,
            line: 0,
        };
        Object::read(&node, &origin, None).map(|object| (node, object))
    }

    pub(super) fn add(&mut self, value: &Value) {
        let Some((node, object)) = self.read(value) else {
            return;
        };
        let name = object.meta().object.to_string();
        if let Object::Workload(_) = object {
            if evidence::is_proven(&node) {
                self.proven.insert(name.clone());
            }
            if let Some(mark) = evidence::mark(&node) {
                self.marks.insert(name, mark);
            }
        }
        self.objects.push(object.clone());
        self.builder.add(object);
    }

    pub(super) fn add_all(&mut self, values: &[Value]) {
        for value in values {
            self.add(value);
        }
    }

    /// Adds the deployers whose target is this namespace or unknown.
    pub(super) fn deployers(&mut self, objects: &[Value], namespace: &str) -> Vec<Deployer> {
        let mut deployers = Vec::new();
        for (_, object) in objects.iter().filter_map(|object| self.read(object)) {
            if let Object::Deployer(deployer) = object
                && deployer
                    .target_namespace
                    .as_deref()
                    .is_none_or(|target| target == namespace)
            {
                deployers.push(deployer);
            }
        }
        for deployer in &deployers {
            self.builder.add(Object::Deployer(deployer.clone()));
        }
        deployers
    }
}
