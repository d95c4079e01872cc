//! Ends one pod of an old `ReplicaSet` by scaling it down by one. The `ReplicaSet` chooses the pod:
//! pods that are not ready first, then by deletion cost (see `deletion_cost`).

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    engine::{ApiError, StepError},
    rolling_upgrade::context::StepContext,
};
use milvus_guard_sources::kubernetes::{pods::replica_set, workloads::FIELD_MANAGER};

use super::pod_deletion::Ended;

/// Ends one of these pods: `chosen`, which is marked to end first, else any.
pub(crate) async fn end(
    cx: &StepContext<'_>,
    chosen: Option<&Pod>,
    old: &[Pod],
) -> Result<Ended, StepError> {
    let Some((name, rest)) = next(chosen, old) else {
        return Ok(Ended::Yes);
    };
    let api: Api<ReplicaSet> =
        Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    // An absolute number, not a difference, because the request may be repeated.
    let patch = Patch::Merge(json!({"spec": {"replicas": rest}}));
    let what = format!("scale of ReplicaSet {name}");
    loop {
        let scaled = cx.write(&what, async || api.patch_scale(name, &params, &patch).await);
        match scaled.await {
            Ok(_) | Err(ApiError::NotFound { .. }) => return Ok(Ended::Yes),
            // The controller of the ReplicaSet writes it as well.
            Err(ApiError::Conflict { .. }) => {}
            Err(ApiError::Refused { reason, .. }) => return Ok(Ended::Refused(reason)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The `ReplicaSet` of which a pod ends, and the number of its pods afterwards: that of the chosen
/// pod, else the one with the fewest pods.
fn next<'p>(chosen: Option<&'p Pod>, old: &'p [Pod]) -> Option<(&'p str, usize)> {
    let mut sets: BTreeMap<&str, usize> = BTreeMap::new();
    for name in old.iter().filter_map(|pod| replica_set(&pod.metadata)) {
        *sets.entry(name).or_default() += 1;
    }
    let of_chosen = chosen.and_then(|pod| replica_set(&pod.metadata));
    let name = match of_chosen {
        Some(name) => name,
        None => sets.iter().min_by_key(|(_, pods)| **pods)?.0,
    };
    let pods = sets.get(name).copied().unwrap_or_default();
    Some((name, pods.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, set: &str) -> Pod {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": "u", "controller": true});
        serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [owner]}}))
            .unwrap()
    }

    #[test]
    fn the_chosen_pod_decides_which_replica_set_is_scaled() {
        let old = [pod("a", "q-1"), pod("b", "q-1"), pod("c", "q-2")];
        assert_eq!(next(Some(&old[0]), &old), Some(("q-1", 1)));
        assert_eq!(next(Some(&old[2]), &old), Some(("q-2", 0)));
        assert_eq!(
            next(None, &old),
            Some(("q-2", 0)),
            "the ReplicaSet with the fewest pods first"
        );
        assert_eq!(next(None, &old[..2]), Some(("q-1", 1)));
        assert_eq!(
            next(None, &[Pod::default()]),
            None,
            "no ReplicaSet is known"
        );
    }
}
