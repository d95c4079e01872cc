//! Facts that manifests of a running release (`kubectl get -o yaml`) contain: rollouts,
//! autoscalers, deployers.

use std::collections::BTreeMap;

use crate::kubernetes::evidence;
use milvus_guard_core::{evidence::Facts, milvus::Snapshot};

/// Adds the facts that a snapshot proves; existing facts stay.
pub fn complete(snapshot: &Snapshot, facts: &mut Facts) {
    let components = || {
        snapshot
            .releases
            .iter()
            .flat_map(|release| &release.components)
    };
    if facts.rollouts.is_none() && components().any(|component| component.workload.status.is_some())
    {
        let proven = components()
            .filter(|component| {
                component
                    .workload
                    .status
                    .is_some_and(|status| status.available > 0)
            })
            .map(|component| component.workload.meta.object.to_string())
            .collect();
        facts.rollouts = Some(evidence::rollouts(snapshot, &proven));
    }
    let autoscalers = evidence::autoscalers(snapshot);
    if facts.autoscalers.is_none() && !autoscalers.is_empty() {
        facts.autoscalers = Some(autoscalers);
    }
    if facts.deployers.is_none() && !snapshot.deployers.is_empty() {
        facts.deployers = Some(evidence::deployers(
            snapshot,
            &snapshot.deployers,
            &BTreeMap::new(),
        ));
    }
}
