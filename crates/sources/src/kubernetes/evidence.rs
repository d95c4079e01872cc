//! Derives facts from objects: rollouts, autoscalers, deployers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use milvus_guard_core::{
    evidence::{AutoscalerFact, DeployerFact, RolloutFact},
    manifest::{
        Tree,
        object::{Deployer, DeployerTool, Status, Workload},
    },
    milvus::Snapshot,
    text::count,
};

/// Workloads whose current template was completely rolled out at some time, as `Kind/name`.
pub type Proven = BTreeSet<String>;

/// Whether the Deployment's status shows that the current template was completely available at
/// some time. It still shows this if pods fail later.
#[must_use]
pub fn is_proven(workload: &Tree<'_>) -> bool {
    let observed = workload
        .at(&["status", "observedGeneration"])
        .and_then(Tree::as_i64);
    let generation = workload
        .at(&["metadata", "generation"])
        .and_then(Tree::as_i64);
    observed >= generation
        && workload
            .items_at(&["status", "conditions"])
            .any(|condition| {
                condition.text_at(&["type"]) == Some("Progressing")
                    && condition.text_at(&["reason"]) == Some("NewReplicaSetAvailable")
            })
}

/// The rollout state of every Milvus component.
#[must_use]
pub fn rollouts(snapshot: &Snapshot, proven: &Proven) -> Vec<RolloutFact> {
    let mut facts = Vec::new();
    for release in &snapshot.releases {
        for component in &release.components {
            let workload = &component.workload;
            let status = workload.status.unwrap_or_default();
            let wanted = workload.wanted_replicas();
            let missing = missing(workload, &status, wanted);
            facts.push(RolloutFact {
                release: release.name.clone(),
                component: component.component,
                workload: workload.meta.object.name.clone(),
                complete: missing.is_none(),
                ever_available: proven.contains(&workload.meta.object.to_string())
                    || has_new_pod(workload, &status),
                detail: missing.unwrap_or_else(|| match wanted {
                    0 => "scaled to zero".to_owned(),
                    wanted => format!("{wanted} of {wanted} pods available"),
                }),
            });
        }
    }
    facts
}

/// Whether more pods are available than the old template has, so at least one is of the new one.
fn has_new_pod(workload: &Workload, status: &Status) -> bool {
    status.updated > 0 && available(workload, status) > status.replicas - status.updated
}

/// `StatefulSets` report available pods only since Kubernetes 1.25; ready ones are the same without
/// `minReadySeconds`.
fn available(workload: &Workload, status: &Status) -> i64 {
    if workload.stateful.is_some() && status.available == 0 {
        status.ready
    } else {
        status.available
    }
}

fn missing(workload: &Workload, status: &Status, wanted: i64) -> Option<String> {
    let available = available(workload, status);
    let old = status.replicas - status.updated;
    if workload.status.is_none() || status.observed_generation < status.generation {
        Some("its controller has not seen the last change yet".to_owned())
    } else if status.updated < wanted {
        let paused = if workload.paused { " (paused)" } else { "" };
        Some(format!(
            "{} of {wanted} pods run the current template{paused}",
            status.updated
        ))
    } else if old > 0 {
        Some(format!("{} of the old template left", count(old, "pod")))
    } else if available < wanted {
        Some(format!("{available} of {wanted} pods available"))
    } else if status.replicas > wanted {
        Some(format!(
            "{} instead of {wanted}",
            count(status.replicas, "pod")
        ))
    } else {
        None
    }
}

/// The autoscalers of every Milvus component.
#[must_use]
pub fn autoscalers(snapshot: &Snapshot) -> Vec<AutoscalerFact> {
    snapshot
        .releases
        .iter()
        .flat_map(|release| {
            release.autoscalers.iter().map(|autoscaler| AutoscalerFact {
                release: release.name.clone(),
                name: autoscaler.meta.object.name.clone(),
                workload: autoscaler.target_name.clone(),
            })
        })
        .collect()
}

/// The tool that applies a workload, from its labels and annotations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Which tool.
    pub tool: &'static str,
    /// Name of its object.
    pub name: String,
    /// Namespace of its object, if the mark names it.
    pub namespace: Option<String>,
}

const ARGO_CD: &str = "argo-cd";
const FLUX: &str = "flux";

/// Reads the marks of Argo CD and Flux on an object. The label `app.kubernetes.io/instance`, which
/// Argo CD also uses, is not a mark because Helm sets it too.
#[must_use]
pub fn mark(object: &Tree<'_>) -> Option<Mark> {
    let label = |key: &str| {
        object
            .text_at(&["metadata", "labels", key])
            .map(str::to_owned)
    };
    if let Some(tracking) =
        object.text_at(&["metadata", "annotations", "argocd.argoproj.io/tracking-id"])
    {
        // [namespace_]application:group/Kind:namespace/name
        let application = tracking.split(':').next().unwrap_or_default();
        let (namespace, name) = match application.split_once('_') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, application),
        };
        return Some(Mark {
            tool: ARGO_CD,
            name: name.to_owned(),
            namespace,
        });
    }
    if let Some(name) = label("argocd.argoproj.io/instance") {
        return Some(Mark {
            tool: ARGO_CD,
            name,
            namespace: None,
        });
    }
    ["helm.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io"]
        .iter()
        .find_map(|group| {
            Some(Mark {
                tool: FLUX,
                name: label(&format!("{group}/name"))?,
                namespace: label(&format!("{group}/namespace")),
            })
        })
}

/// The deployers of every release: objects that name it, and marks on its workloads. If the object
/// of a mark was not read, the deployer counts as one that reverts changes: this is unknown.
#[must_use]
pub fn deployers(
    snapshot: &Snapshot,
    objects: &[Deployer],
    marks: &BTreeMap<String, Mark>,
) -> Vec<DeployerFact> {
    let mut facts: Vec<DeployerFact> = Vec::new();
    for release in &snapshot.releases {
        let own: BTreeSet<&Mark> = release
            .components
            .iter()
            .filter_map(|component| marks.get(&component.workload.meta.object.to_string()))
            .collect();
        for object in objects {
            let name = &object.meta.object.name;
            let marked = own.iter().any(|mark| fits(mark, object));
            let named = object.release.as_deref() == Some(&release.name)
                && (object.target_namespace.is_none()
                    || object.target_namespace == release.namespace);
            if marked || named {
                facts.push(DeployerFact {
                    release: release.name.clone(),
                    tool: tool(object.tool).to_owned(),
                    name: name.clone(),
                    self_heal: object.self_heal,
                    retry_limit: object.retry_limit,
                });
            }
        }
        for mark in own
            .iter()
            .filter(|mark| !objects.iter().any(|object| fits(mark, object)))
        {
            facts.push(DeployerFact {
                release: release.name.clone(),
                tool: mark.tool.to_owned(),
                name: mark.name.clone(),
                self_heal: true,
                retry_limit: None,
            });
        }
    }
    facts
}

fn fits(mark: &Mark, object: &Deployer) -> bool {
    mark.tool == tool(object.tool)
        && mark.name == object.meta.object.name
        && (mark.namespace.is_none() || mark.namespace == object.meta.object.namespace)
}

const fn tool(tool: DeployerTool) -> &'static str {
    match tool {
        DeployerTool::ArgoCd => ARGO_CD,
        DeployerTool::Flux => FLUX,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use milvus_guard_core::{
        manifest::{Object, Origin},
        milvus::snapshot::Builder,
    };

    fn origin() -> Origin {
        Origin {
            source: "cluster".into(),
            document: 0,
            line: 0,
        }
    }

    fn deployment(replicas: i64, status: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "r-milvus-proxy", "namespace": "milvus", "generation": 2, "labels": {"app.kubernetes.io/instance": "r"}},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [
                {"name": "proxy", "image": "milvusdb/milvus:v2.3.1", "args": ["milvus", "run", "proxy"]}]}}},
            "status": status,
        })
    }

    fn snapshot(objects: &[Value]) -> Snapshot {
        let mut builder = Builder::default();
        for object in objects {
            builder.add(Object::read(&Tree::from_json(object), &origin(), None).unwrap());
        }
        builder.build()
    }

    fn status(observed: i64, replicas: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available})
    }

    #[rstest]
    #[case(3, status(2, 3, 3, 3), None, true)]
    #[case(
        3,
        status(1, 3, 3, 3),
        Some("its controller has not seen the last change yet"),
        true
    )]
    #[case(
        3,
        status(2, 4, 1, 3),
        Some("1 of 3 pods run the current template"),
        false
    )]
    #[case(
        3,
        status(2, 4, 1, 4),
        Some("1 of 3 pods run the current template"),
        true
    )]
    #[case(3, status(2, 4, 3, 3), Some("1 pod of the old template left"), true)]
    #[case(3, status(2, 3, 3, 1), Some("1 of 3 pods available"), true)]
    #[case(1, status(2, 1, 1, 0), Some("0 of 1 pods available"), false)]
    #[case(1, status(2, 2, 2, 2), Some("2 pods instead of 1"), true)]
    #[case(0, status(2, 0, 0, 0), None, false)]
    #[case(
        1,
        Value::Null,
        Some("its controller has not seen the last change yet"),
        false
    )]
    fn rollouts_are_complete_or_incomplete_by_their_status(
        #[case] replicas: i64,
        #[case] status: Value,
        #[case] missing: Option<&str>,
        #[case] ever: bool,
    ) {
        let facts = rollouts(&snapshot(&[deployment(replicas, &status)]), &Proven::new());
        assert_eq!(facts.len(), 1);
        assert_eq!(
            (facts[0].complete, facts[0].ever_available),
            (missing.is_none(), ever),
            "{}",
            facts[0].detail
        );
        if let Some(missing) = missing {
            assert_eq!(facts[0].detail, missing);
        }
    }

    #[test]
    fn a_template_that_was_once_available_stays_proven() {
        let conditions = json!([{"type": "Available", "status": "False"}, {"type": "Progressing", "reason": "NewReplicaSetAvailable"}]);
        let mut crashed = deployment(1, &status(2, 1, 1, 0));
        crashed["status"]["conditions"] = conditions;
        assert!(is_proven(&Tree::from_json(&crashed)));
        crashed["metadata"]["generation"] = json!(3);
        assert!(
            !is_proven(&Tree::from_json(&crashed)),
            "the condition is about an older template"
        );
        let proven = Proven::from(["Deployment/r-milvus-proxy".to_owned()]);
        assert!(rollouts(&snapshot(&[crashed]), &proven)[0].ever_available);
    }

    #[test]
    fn autoscalers_of_components_are_facts() {
        let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "milvus"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "r-milvus-proxy"}}});
        let facts = autoscalers(&snapshot(&[deployment(1, &Value::Null), scaler]));
        assert_eq!(
            (
                facts[0].name.as_str(),
                facts[0].workload.as_str(),
                facts[0].release.as_str()
            ),
            ("h", "r-milvus-proxy", "r")
        );
    }

    #[rstest]
    #[case(json!({"annotations": {"argocd.argoproj.io/tracking-id": "app:apps/Deployment:milvus/x"}}), Some((ARGO_CD, "app", None)))]
    #[case(json!({"annotations": {"argocd.argoproj.io/tracking-id": "ns_app:apps/Deployment:milvus/x"}}), Some((ARGO_CD, "app", Some("ns"))))]
    #[case(json!({"labels": {"argocd.argoproj.io/instance": "app"}}), Some((ARGO_CD, "app", None)))]
    #[case(json!({"labels": {"helm.toolkit.fluxcd.io/name": "hr", "helm.toolkit.fluxcd.io/namespace": "f"}}), Some((FLUX, "hr", Some("f"))))]
    #[case(json!({"labels": {"app.kubernetes.io/instance": "r"}}), None)]
    fn marks_of_argo_cd_and_flux_are_read(
        #[case] metadata: Value,
        #[case] expected: Option<(&str, &str, Option<&str>)>,
    ) {
        let mark = mark(&Tree::from_json(&json!({"metadata": metadata})));
        assert_eq!(
            mark.as_ref()
                .map(|mark| (mark.tool, mark.name.as_str(), mark.namespace.as_deref())),
            expected
        );
    }

    fn application(name: &str, release: &str, target: &str) -> Deployer {
        let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name, "namespace": "argocd"},
            "spec": {"source": {"helm": {"releaseName": release}}, "destination": {"namespace": target}, "syncPolicy": {"retry": {"limit": 5}}}});
        match Object::read(&Tree::from_json(&object), &origin(), None) {
            Some(Object::Deployer(deployer)) => deployer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn deployers_are_found_by_name_and_by_mark() {
        let snapshot = snapshot(&[deployment(1, &Value::Null)]);
        let objects = [
            application("a", "r", "milvus"),
            application("b", "r", "other"),
            application("c", "x", "milvus"),
        ];
        let named = deployers(&snapshot, &objects, &BTreeMap::new());
        assert_eq!(
            named
                .iter()
                .map(|fact| (fact.name.as_str(), fact.self_heal, fact.retry_limit))
                .collect::<Vec<_>>(),
            [("a", false, Some(5))]
        );
        let mark = |name: &str| {
            BTreeMap::from([(
                "Deployment/r-milvus-proxy".to_owned(),
                Mark {
                    tool: ARGO_CD,
                    name: name.into(),
                    namespace: None,
                },
            )])
        };
        let marked = deployers(&snapshot, &objects[2..], &mark("c"));
        assert_eq!((marked[0].name.as_str(), marked[0].self_heal), ("c", false));
        let unread = deployers(&snapshot, &[], &mark("c"));
        assert_eq!(
            (unread[0].name.as_str(), unread[0].self_heal),
            ("c", true),
            "unknown, so it counts as reverting"
        );
    }
}
