//! The `ConfigMap`s and Secrets to which the pods of a release refer in any way. What an init
//! container makes of them is not followed, so a change compares them as they are.

use std::{collections::HashMap, sync::Arc};

use crate::{
    manifest::object::{ConfigMap, SourceRef},
    milvus::component_workload::ComponentWorkload,
};

use super::sources::Sources;

/// Objects by how pods refer to them; those that the input does not hold are not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Referred(Arc<HashMap<SourceRef, Arc<ConfigMap>>>);

impl Referred {
    pub(super) fn of(components: &[ComponentWorkload], sources: &Sources<'_>) -> Self {
        let mut found = HashMap::new();
        let mut last = None;
        for component in components {
            // Several containers of one pod are components one after the other.
            if last.replace(Arc::as_ptr(&component.workload))
                != Some(Arc::as_ptr(&component.workload))
            {
                gather(&mut found, component, sources);
            }
        }
        Self(Arc::new(found))
    }

    /// The same, with one component read again.
    pub(super) fn with(&self, component: &ComponentWorkload, sources: &Sources<'_>) -> Self {
        let mut found = HashMap::clone(&self.0);
        gather(&mut found, component, sources);
        Self(Arc::new(found))
    }

    pub(super) fn get(&self, source: &SourceRef) -> Option<&Arc<ConfigMap>> {
        self.0.get(source)
    }
}

fn gather(
    found: &mut HashMap<SourceRef, Arc<ConfigMap>>,
    component: &ComponentWorkload,
    sources: &Sources<'_>,
) {
    for source in component.workload.pod.sources() {
        if !found.contains_key(source)
            && let Some(object) = sources.find(source)
        {
            found.insert(source.clone(), Arc::clone(object));
        }
    }
}
