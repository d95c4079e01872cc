//! Objects that make pods: replicas, strategy, selector, status, and where a kind keeps the
//! template of its pods. What is inside of the template is read in `pod`.

use std::borrow::Cow;

use super::{
    claim::ClaimTemplate,
    meta::{Labels, Meta, labels},
    pod::PodTemplate,
};
use crate::manifest::view::DocumentValue;

/// An object with a pod template: a built-in kind, a bare Pod, or a custom kind such as
/// `InstanceSet` or `Rollout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`; absent means 1, or that an autoscaler decides.
    pub replicas: Option<i64>,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.strategy.type` or `spec.updateStrategy.type`.
    pub strategy: Option<String>,
    /// `spec.selector.matchLabels`. Empty for a Job: the API server generates its selector.
    pub selector: Labels,
    /// What only a StatefulSet has.
    pub stateful: Option<Stateful>,
    /// The pod template.
    pub pod: PodTemplate,
    /// `status`, where the object is live.
    pub status: Option<Status>,
}

/// The immutable part of a StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub struct Stateful {
    /// `spec.serviceName`.
    pub service_name: Option<String>,
    /// `spec.podManagementPolicy`, with the API's default filled in.
    pub pod_management_policy: String,
    /// `spec.volumeClaimTemplates`.
    pub claim_templates: Vec<ClaimTemplate>,
    /// `spec.persistentVolumeClaimRetentionPolicy`.
    pub retention: Retention,
}

/// Whether a StatefulSet's claims are deleted with what made them. The API's default is to keep
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `whenDeleted: Delete`: the claims go with the StatefulSet.
    pub delete_with_set: bool,
    /// `whenScaled: Delete`: a claim goes when its pod is scaled away.
    pub delete_when_scaled: bool,
}

/// Live state of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `status.replicas`.
    pub replicas: i64,
    /// `status.updatedReplicas`.
    pub updated: i64,
    /// `status.readyReplicas`.
    pub ready: i64,
    /// `status.availableReplicas`.
    pub available: i64,
}

impl Workload {
    pub(super) fn read<'t, V: DocumentValue<'t>>(node: V, meta: Meta, pod: Option<V>) -> Self {
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        let deletes = |when: &str| {
            node.text_at(&["spec", "persistentVolumeClaimRetentionPolicy", when])
                .as_deref()
                == Some("Delete")
        };
        // Custom kinds that replace StatefulSets have templates of claims too.
        let is_stateful = meta.object.kind == "StatefulSet"
            || node.at(&["spec", "volumeClaimTemplates"]).is_some();
        let stateful = is_stateful.then(|| Stateful {
            service_name: text(&["spec", "serviceName"]).filter(|name| !name.is_empty()),
            pod_management_policy: text(&["spec", "podManagementPolicy"])
                .unwrap_or_else(|| "OrderedReady".into()),
            claim_templates: node
                .items_at(&["spec", "volumeClaimTemplates"])
                .map(ClaimTemplate::read)
                .collect(),
            retention: Retention {
                delete_with_set: deletes("whenDeleted"),
                delete_when_scaled: deletes("whenScaled"),
            },
        });
        let status = node
            .get("status")
            .filter(|status| status.entries().next().is_some())
            .map(|_| Status {
                generation: node.i64_at(&["metadata", "generation"]).unwrap_or(0),
                observed_generation: node.i64_at(&["status", "observedGeneration"]).unwrap_or(0),
                replicas: node.i64_at(&["status", "replicas"]).unwrap_or(0),
                updated: node.i64_at(&["status", "updatedReplicas"]).unwrap_or(0),
                ready: node.i64_at(&["status", "readyReplicas"]).unwrap_or(0),
                available: node.i64_at(&["status", "availableReplicas"]).unwrap_or(0),
            });
        Self {
            replicas: node.i64_at(&["spec", "replicas"]),
            paused: node
                .at(&["spec", "paused"])
                .and_then(DocumentValue::as_bool)
                .unwrap_or(false),
            strategy: text(&["spec", "strategy", "type"])
                .or_else(|| text(&["spec", "updateStrategy", "type"])),
            selector: labels(
                node.at(&["spec", "selector", "matchLabels"])
                    .filter(|_| meta.object.kind != "Job"),
            ),
            stateful,
            pod: pod.map(PodTemplate::read).unwrap_or_default(),
            status,
            meta,
        }
    }

    /// Whether two states want the same: everything that a rule looks at but metadata and status.
    /// A field that is added does not compile before it stands here.
    #[must_use]
    pub fn has_same_spec(&self, other: &Self) -> bool {
        // Most reviews change one workload of many.
        if std::ptr::eq(self, other) {
            return true;
        }
        let Self {
            meta: _,
            status: _,
            pod,
            replicas,
            selector,
            stateful,
            strategy,
            paused,
        } = self;
        *pod == other.pod
            && *replicas == other.replicas
            && *selector == other.selector
            && *stateful == other.stateful
            && *strategy == other.strategy
            && *paused == other.paused
    }

    /// Whether another object makes this one, so that it is judged by that.
    #[must_use]
    pub fn is_made_by_a_controller(&self) -> bool {
        let made = matches!(
            self.meta.object.kind.as_str(),
            "Pod" | "ReplicaSet" | "Job" | "ReplicationController"
        );
        made && self.meta.owner_kind.as_deref().is_some_and(|owner| {
            matches!(
                owner,
                "ReplicaSet"
                    | "Deployment"
                    | "StatefulSet"
                    | "DaemonSet"
                    | "Job"
                    | "CronJob"
                    | "ReplicationController"
                    | "Node"
            )
        })
    }

    /// How many pods are wanted; absent means one.
    #[must_use]
    pub fn wanted_replicas(&self) -> i64 {
        self.replicas.unwrap_or(1)
    }
}

/// Where an object keeps the template of its pods: the mapping with `metadata` and `spec`.
pub(super) fn template<'t, V: DocumentValue<'t>>(node: V, kind: &str) -> Option<V> {
    match kind {
        "Pod" => Some(node),
        "PodTemplate" => node.get("template"),
        "CronJob" => node.at(&["spec", "jobTemplate", "spec", "template"]),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => node.at(&["spec", "template"]),
        // Lists of permissions, settings and similar ones; the search below would only cost time.
        "CustomResourceDefinition" | "Role" | "ClusterRole" | "ServiceAccount" | "Ingress" => None,
        _ => node
            .get("spec")
            .and_then(|spec| find_template(spec, MAX_TEMPLATE_DEPTH)),
    }
}

/// How deep below `spec` the template of a custom kind is searched:
/// `spec.leaderWorkerTemplate.workerTemplate` and similar ones.
const MAX_TEMPLATE_DEPTH: u8 = 4;

/// The first mapping below a custom kind's specification whose `spec` lists containers with images.
fn find_template<'t, V: DocumentValue<'t>>(node: V, depth: u8) -> Option<V> {
    if has_containers(node) {
        return Some(node);
    }
    if depth == 0 {
        return None;
    }
    node.entries()
        .filter(|(_, value)| value.is_mapping())
        .find_map(|(_, value)| find_template(value, depth - 1))
}

pub(super) fn has_containers<'t>(pod: impl DocumentValue<'t>) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        pod.items_at(&["spec", list])
            .any(|container| container.text_at(&["image"]).is_some())
    })
}
