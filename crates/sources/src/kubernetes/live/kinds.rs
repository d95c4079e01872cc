//! The kinds of objects that are read from a cluster.

use crate::kubernetes::client::Resource;

/// Required kinds: without them there is nothing to judge.
pub(super) const WORKLOADS: [Resource; 2] = [
    Resource::new("apps/v1", "deployments", "Deployment"),
    Resource::new("apps/v1", "statefulsets", "StatefulSet"),
];

/// Other kinds that can run Milvus. Workloads of unlisted controllers are seen by their Pods.
pub(super) const OTHER_WORKLOADS: [Resource; 6] = [
    Resource::new("apps/v1", "daemonsets", "DaemonSet"),
    Resource::new("apps/v1", "replicasets", "ReplicaSet"),
    Resource::new("batch/v1", "cronjobs", "CronJob"),
    Resource::new("batch/v1", "jobs", "Job"),
    Resource::new("v1", "replicationcontrollers", "ReplicationController"),
    Resource::new("v1", "pods", "Pod"),
];

pub(super) const NAMESPACES: Resource = Resource::new("v1", "namespaces", "Namespace");

pub(super) const SECRETS: Resource = Resource::new("v1", "secrets", "Secret");

/// Optional kinds that improve a verdict.
pub(super) const AROUND: [Resource; 3] = [
    Resource::new("v1", "configmaps", "ConfigMap"),
    Resource::new("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource::new("v1", "services", "Service"),
];

/// Versions of the API, newest first; Kubernetes below 1.23 has only the second.
pub(super) const AUTOSCALERS: [Resource; 2] = [
    Resource::new(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    ),
    Resource::new(
        "autoscaling/v1",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    ),
];

pub(super) const KEDA: [Resource; 1] = [Resource::new(
    "keda.sh/v1alpha1",
    "scaledobjects",
    "ScaledObject",
)];

pub(super) const ARGO_CD: [Resource; 1] = [Resource::new(
    "argoproj.io/v1alpha1",
    "applications",
    "Application",
)];

pub(super) const FLUX: [Resource; 3] = [
    Resource::new("helm.toolkit.fluxcd.io/v2", "helmreleases", "HelmRelease"),
    Resource::new(
        "helm.toolkit.fluxcd.io/v2beta2",
        "helmreleases",
        "HelmRelease",
    ),
    Resource::new(
        "helm.toolkit.fluxcd.io/v2beta1",
        "helmreleases",
        "HelmRelease",
    ),
];

/// The default namespace of Argo CD's objects.
pub(super) const ARGO_CD_NAMESPACE: &str = "argocd";
