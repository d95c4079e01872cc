//! Objects that are kept for the rules, within the memory budget.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use milvus_guard_core::{
    manifest::Object,
    milvus::{identify, release::HELD_FROM, service_names::ServiceTarget},
};
use milvus_guard_sources::kubernetes::live::seen;
use serde_json::Value;

use super::{State, WatchCache, relevance::is_kept, watched::Watched};
use crate::server::cache_budget;

/// An object that is kept.
pub(super) struct Kept {
    pub(super) object: Object,
    /// Whether its current template was completely available once since this cache has watched
    /// it.
    pub(super) proven: bool,
    /// Time of the condition that would prove it, from when the template last changed: after a
    /// change back to an earlier template, a Deployment still has the old condition for some
    /// time, which proves nothing about the new pods.
    stale: Option<String>,
    /// Memory of the object, in bytes.
    weight: usize,
    /// Whether its large parts were dropped.
    is_reduced: bool,
}

/// Whether the webhook has paused a Deployment that is not released yet.
pub(super) fn is_held(deployment: &Value) -> bool {
    let is_paused = deployment.pointer("/spec/paused") == Some(&Value::Bool(true));
    let annotations = deployment.pointer("/metadata/annotations");
    is_paused && annotations.is_some_and(|annotations| annotations.get(HELD_FROM).is_some())
}

impl WatchCache {
    /// How many Deployments are held.
    #[must_use]
    pub fn held_deployments(&self) -> usize {
        self.read().held.len()
    }

    /// How often objects of each kind were too large to keep in full.
    #[must_use]
    pub fn reductions(&self) -> BTreeMap<Watched, u64> {
        self.read().reductions.clone()
    }

    /// Memory of the objects of a namespace, in bytes.
    #[must_use]
    pub fn bytes_of(&self, namespace: &str) -> usize {
        self.read().budget.of(namespace)
    }
}

impl State {
    /// Records a Service; `None` if it no longer exists.
    pub(super) fn put_service(&mut self, namespace: &str, name: &str, service: Option<&Value>) {
        let target = service.and_then(ServiceTarget::read);
        if !self.service_names.holds(namespace, name, target.as_ref()) {
            Arc::make_mut(&mut self.service_names).set(namespace, name, target);
        }
    }

    pub(super) fn keep(
        &mut self,
        kind: Watched,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> bool {
        if kind == Watched::Services {
            self.put_service(namespace, name, Some(&object));
        }
        if let Value::Object(fields) = &mut object {
            fields.insert("kind".into(), kind.kind().into());
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                metadata.remove("managedFields");
            }
        }
        let written = progress_written(&object);
        let key = (kind, name.to_owned());
        let Some((object, says_proven)) = seen(&object).filter(|(object, _)| is_kept(object))
        else {
            return self.drop_object(namespace, &key);
        };
        let weight = object.weight();
        let objects = self.objects.entry(namespace.to_owned()).or_default();
        let old = objects.get(&key);
        let same = old.is_some_and(|old| match reduced(&object) {
            Some(small) if old.is_reduced => same_template(&old.object, &small),
            _ => same_template(&old.object, &object),
        });
        let stale = match old {
            Some(old) if same => old.stale.clone(),
            Some(_) => written.clone(),
            None => None,
        };
        let proven = (says_proven && (stale.is_none() || written != stale))
            || old.is_some_and(|old| same && old.proven);
        let old = objects.insert(
            key,
            Kept {
                object,
                proven,
                stale,
                weight,
                is_reduced: false,
            },
        );
        self.budget
            .change(namespace, old.map_or(0, |old| old.weight), weight);
        true
    }

    /// Removes an object. Returns whether it existed.
    pub(super) fn drop_object(&mut self, namespace: &str, key: &(Watched, String)) -> bool {
        let Some(objects) = self.objects.get_mut(namespace) else {
            return false;
        };
        let old = objects.remove(key);
        if objects.is_empty() {
            self.objects.remove(namespace);
        }
        if let Some(old) = &old {
            self.budget.change(namespace, old.weight, 0);
        }
        old.is_some()
    }

    /// Drops large parts of objects until everything fits, after a namespace grew. Returns the
    /// namespaces of these objects. The rules treat dropped parts as unknown, never as
    /// absent.
    pub(super) fn fit(&mut self, grown: &str) -> BTreeSet<String> {
        let mut done = BTreeSet::new();
        while let Some(namespace) = self.budget.too_full(grown) {
            let objects = self.objects.get(&namespace).into_iter().flatten();
            let large =
                objects.filter(|(_, kept)| !kept.is_reduced && kept.weight > cache_budget::SMALL);
            let Some(key) = large
                .max_by_key(|(_, kept)| kept.weight)
                .map(|(key, _)| key.clone())
            else {
                break;
            };
            let (kind, name) = (key.0.kind(), &key.1);
            if done.insert(namespace.clone()) {
                tracing::warn!(
                    namespace,
                    kind,
                    name,
                    "objects are too large to keep in full; the parts that were left out are \
                     unknown"
                );
            } else {
                tracing::debug!(namespace, kind, name, "too large to keep in full");
            }
            *self.reductions.entry(key.0).or_default() += 1;
            let Some(kept) = self
                .objects
                .get_mut(&namespace)
                .and_then(|objects| objects.get_mut(&key))
            else {
                break;
            };
            match reduced(&kept.object) {
                Some(object) => {
                    let weight = object.weight();
                    self.budget.change(&namespace, kept.weight, weight);
                    (kept.object, kept.weight, kept.is_reduced) = (object, weight, true);
                }
                None => {
                    self.drop_object(&namespace, &key);
                }
            }
        }
        done
    }

    pub(super) fn note_held(&mut self, namespace: &str, name: &str, is_held: bool) {
        let key = (namespace.to_owned(), name.to_owned());
        if is_held {
            self.held.insert(key);
        } else {
            self.held.remove(&key);
        }
    }
}

/// An object without its large parts; `None` if that would be useless.
fn reduced(object: &Object) -> Option<Object> {
    object.reduced(identify::may_run_milvus)
}

/// When the Deployment's controller last updated the progress of the rollout.
fn progress_written(object: &Value) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let progress = conditions
        .iter()
        .find(|condition| condition["type"] == "Progressing")?;
    progress["lastUpdateTime"].as_str().map(str::to_owned)
}

/// Whether two states of a workload have the same pod template.
fn same_template(old: &Object, new: &Object) -> bool {
    match (old, new) {
        (Object::Workload(old), Object::Workload(new)) => old.pod == new.pod,
        _ => false,
    }
}
