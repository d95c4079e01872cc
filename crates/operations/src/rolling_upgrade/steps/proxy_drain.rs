//! Proxies one by one: each is removed from its Services before it ends.
//!
//! Kubernetes tells a pod to end at the same time as it tells the nodes to route no client to it. A
//! proxy of Milvus 2.3 ends within 0.1 s, and a node routes new connections to it for up to 2 s more
//! (seen with kube-proxy on a busy node). A client that connects then gets no answer: seen for up to
//! 30 s, although another proxy was ready.
//!
//! So the run removes from the pod the labels by which its Services select it. The pod keeps its
//! current clients and gets no new ones. It also leaves its `ReplicaSet`; its owner is then the
//! Deployment itself. The `ReplicaSet` is scaled down at once: of its pods it ends the one that it
//! has just started as a replacement. 4 s later (`ROUTED`) the run deletes the pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ContainerPort, Pod, PodSpec, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::{
    engine::{ApiError, RetryingClient, StepError, originals},
    rolling_upgrade::context::{Direction, StepContext},
};
use milvus_guard_core::{
    api::{Original, UpgradeRun},
    milvus::Component,
};
use milvus_guard_sources::kubernetes::{
    rollout::Wanted,
    workloads::{Change, FIELD_MANAGER},
};

use super::{
    paced::{self, Turn},
    pod_deletion::{self, Ended},
    release::named,
    replica_set, temporary,
};

/// Time until every node routes new clients elsewhere: twice the measured time.
const ROUTED: Duration = Duration::from_secs(4);
/// Interval between two checks whether a pod still exists.
const PAUSE: Duration = Duration::from_millis(300);
/// Time for which a new proxy must be ready before an old one ends, if proxies are not removed from
/// their Services first: until then every node routes clients to the new one too. Measured with 2
/// proxies on a real Milvus: 0.3 s without an answer instead of 3.7 s. Must stay below
/// `progressDeadlineSeconds`.
const READY: i32 = 8;
/// Labels with the component of a pod. They are preferred, because nothing else of a pod depends on
/// them.
const COMPONENT: [&str; 2] = ["app.kubernetes.io/component", "component"];
/// Label that a Deployment gives to the pods of one template. No Service selects it.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The pace of a Deployment of proxies while it is replaced; the current pace is recorded. If its
/// template returns, new proxies that would end at once are removed from their Services first.
pub(crate) async fn begin(
    cx: &StepContext<'_>,
    original: &Original,
    deployment: &Deployment,
    turn: Turn,
) -> Result<Change, StepError> {
    temporary::remember_pace(cx, original, deployment).await?;
    let labels = labels(cx, deployment).await?;
    if labels.is_empty() {
        return Ok(at_kubernetes_pace(&paced::recorded(cx, original)));
    }
    if turn == Turn::Returns {
        let pods = paced::pods(cx, deployment).await?;
        for pod in &pods.new[..paced::surplus(deployment, &pods)] {
            if let Ended::Refused(reason) = detach(cx, original, pod, &labels).await? {
                warn_refused(cx, pod, &reason);
                return Ok(at_kubernetes_pace(&paced::recorded(cx, original)));
            }
        }
    }
    Ok(paced::keep(cx))
}

/// Replaces the pods of a Deployment of proxies one by one, if [`begin`] keeps the old ones. May be
/// called again at any point.
pub(crate) async fn through(
    cx: &StepContext<'_>,
    original: &Original,
    direction: Direction,
) -> Result<(), StepError> {
    end_all(cx, original).await?;
    let Some(recorded) = paced::kept(cx, original).await? else {
        return Ok(());
    };
    let own = temporary::own_pace(&recorded);
    let hopeless = cx.data.hopeless(direction);
    loop {
        let seen = paced::seen(cx, original).await?;
        let Some(pod) = seen.old.first() else {
            break;
        };
        originals::wait_for(cx, &seen.watched, seen.all_new(), hopeless).await?;
        let labels = labels(cx, &originals::live(cx, original).await?).await?;
        let mut ended = detach(cx, original, pod, &labels).await?;
        if ended == Ended::Yes {
            // At once, because the ReplicaSet starts a pod for the one that left.
            ended = replica_set::end(cx, Some(pod), &seen.old).await?;
        }
        if ended == Ended::Yes && seen.old.len() == 1 {
            // The new pods may count as available from now on.
            originals::set(cx, original, &own).await?;
        }
        end_all(cx, original).await?;
        if let Ended::Refused(reason) = ended {
            warn_refused(cx, pod, &reason);
            let pace = at_kubernetes_pace(&recorded);
            return originals::set(cx, original, &pace).await.map(drop);
        }
        let rest = seen.old.len() - 1;
        originals::wait_for(cx, &seen.watched, Wanted::Old(rest), hopeless).await?;
    }
    originals::set(cx, original, &own).await.map(drop)
}

fn warn_refused(cx: &StepContext<'_>, pod: &Pod, reason: &str) {
    cx.reporter().warn(format!(
        "may not take {} out of its Service before it ends: {reason}. Clients that connect at that \
         moment may wait for an answer",
        pod.name_any()
    ));
}

/// The pace at which Kubernetes ends old pods, [`READY`] seconds after a new pod is ready.
fn at_kubernetes_pace(recorded: &Original) -> Change {
    let own = temporary::own_pace(recorded);
    let longest = own
        .progress_deadline_seconds
        .map_or(i32::MAX, |all| all - 1);
    Change {
        min_ready_seconds: Some(READY.min(longest).max(own.min_ready_seconds.unwrap_or(0))),
        ..own
    }
}

/// Removes a pod from its Services and its `ReplicaSet`. Its labels and owner are the record of it.
async fn detach(
    cx: &StepContext<'_>,
    original: &Original,
    pod: &Pod,
    labels: &BTreeSet<String>,
) -> Result<Ended, StepError> {
    if labels.is_empty() {
        // No Service selects it any more.
        return Ok(Ended::Yes);
    }
    let (name, uid) = (pod.name_any(), pod.uid());
    let labels: Map<String, Value> = labels
        .iter()
        .map(|key| (key.clone(), Value::Null))
        .collect();
    let patch = Patch::Merge(json!({"metadata": {
        "uid": uid,
        "labels": labels,
        "ownerReferences": [owner(original)],
    }}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let what = format!("pod {name}");
    loop {
        let patched = cx.write(&what, async || {
            api.patch_metadata(&name, &params, &patch).await
        });
        match patched.await {
            Ok(_) => {
                cx.reporter().note(format!(
                    "{name} leaves its Service: clients keep their connections, and it ends in {} s",
                    ROUTED.as_secs()
                ));
                return Ok(Ended::Yes);
            }
            // Another pod may have the name, or another client wrote first.
            Err(ApiError::Conflict { .. }) if now(cx, pod.meta()).await?.is_some() => {}
            Err(ApiError::NotFound { .. } | ApiError::Conflict { .. }) => return Ok(Ended::Yes),
            Err(ApiError::Refused { reason, .. }) => return Ok(Ended::Refused(reason)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// This pod in its current state; `None` if it no longer exists.
async fn now(
    cx: &StepContext<'_>,
    pod: &ObjectMeta,
) -> Result<Option<PartialObjectMeta<Pod>>, StepError> {
    let found = named(cx, pod.name.as_deref().unwrap_or_default()).await?;
    Ok(found.filter(|found| found.metadata.uid == pod.uid))
}

/// The Deployment itself. A pod without a controller would count as another workload, and would not
/// be deleted when the release is uninstalled.
fn owner(deployment: &Original) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: deployment.kind.clone(),
        name: deployment.name.clone(),
        uid: deployment.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

/// Deletes the pods that left their Services, also in an earlier attempt, once the nodes route no
/// client to them, and waits until they no longer exist.
async fn end_all(cx: &StepContext<'_>, original: &Original) -> Result<(), StepError> {
    let namespace = &cx.data.settings.run.release.namespace;
    let owner: Vec<&str> = original.uid.as_deref().into_iter().collect();
    let detached = of(cx.client, namespace, &owner).await?;
    let names: Vec<String> = detached.iter().map(ResourceExt::name_any).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    cx.waiting(format!("the nodes to route no new client to {names}"));
    sleep(ROUTED).await;
    cx.going_on();
    for pod in &detached {
        let name = pod.name_any();
        while let Some(live) = now(cx, &pod.metadata).await? {
            if live.metadata.deletion_timestamp.is_none()
                && let Ended::Refused(reason) =
                    pod_deletion::end(cx, &name, pod.uid(), None).await?
            {
                let next = left_behind(&name, namespace);
                cx.reporter()
                    .warn(format!("may not delete a pod: {reason}. {next}"));
                break;
            }
            cx.waiting(format!("pod {name} to end"));
            sleep(PAUSE).await;
        }
        cx.going_on();
    }
    Ok(())
}

/// Names of the pods that left their Services in this run and still exist.
pub(crate) async fn of_run(
    client: &RetryingClient,
    run: &UpgradeRun,
) -> Result<Vec<String>, ApiError> {
    let originals = run.status.originals.iter();
    let owners: Vec<&str> = originals
        .filter(|original| original.component == Some(Component::Proxy))
        .filter_map(|original| original.uid.as_deref())
        .collect();
    let pods = of(client, &run.spec.namespace, &owners).await?;
    Ok(pods.iter().map(ResourceExt::name_any).collect())
}

/// The pods that left the Services of Deployments with these UIDs and still exist.
async fn of(
    client: &RetryingClient,
    namespace: &str,
    owners: &[&str],
) -> Result<Vec<PartialObjectMeta<Pod>>, ApiError> {
    let api: Api<Pod> = Api::namespaced(client.kube(), namespace);
    let listed = client.call("pods", async || {
        api.list_metadata(&ListParams::default()).await
    });
    let mut pods = listed.await?.items;
    pods.retain(|pod| {
        let mut owned_by = pod.owner_references().iter();
        owned_by.any(|owner| owner.controller == Some(true) && owners.contains(&&*owner.uid))
    });
    Ok(pods)
}

/// The warning about a pod that left its Services and was not deleted.
pub(crate) fn left_behind(name: &str, namespace: &str) -> String {
    format!(
        "Pod {name} has left its Service and its ReplicaSet; delete it: kubectl delete pod {name} \
         -n {namespace}"
    )
}

/// The labels to remove from a pod of this Deployment; none if it need not or cannot be removed.
async fn labels(
    cx: &StepContext<'_>,
    deployment: &Deployment,
) -> Result<BTreeSet<String>, StepError> {
    let api: Api<Service> =
        Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace);
    let listed = cx
        .client
        .call("services", async || api.list(&ListParams::default()).await)
        .await?;
    let template = &deployment.spec.template;
    let services: Vec<BTreeMap<String, String>> = listed
        .items
        .into_iter()
        .filter_map(|service| service.spec)
        .filter(|service| has_port(service, template.spec.as_ref()))
        .filter_map(|service| service.selector)
        .collect();
    let of_pods = template.metadata.as_ref();
    let of_pods = of_pods.and_then(|metadata| metadata.labels.clone());
    let own = deployment.spec.selector.match_labels.clone();
    Ok(to_take(
        &of_pods.unwrap_or_default(),
        &own.unwrap_or_default(),
        &services,
    ))
}

/// Whether a Service has a port that containers of a pod name or open. A Service that selects all
/// pods of a release, for another component, routes no client here.
fn has_port(service: &ServiceSpec, pod: Option<&PodSpec>) -> bool {
    let containers = pod.iter().flat_map(|pod| &pod.containers);
    let open: Vec<&ContainerPort> = containers
        .flat_map(|container| container.ports.iter().flatten())
        .collect();
    let is_open = |port: &ServicePort| match &port.target_port {
        Some(IntOrString::String(name)) => open.iter().any(|open| open.name.as_ref() == Some(name)),
        Some(IntOrString::Int(number)) => open.iter().any(|open| open.container_port == *number),
        None => open.iter().any(|open| open.container_port == port.port),
    };
    // Containers may open ports that they do not name.
    open.is_empty() || service.ports.iter().flatten().any(is_open)
}

/// The fewest labels without which none of these Services and no `ReplicaSet` selects a pod: only
/// the label of its component if that is enough. Empty if no Service selects the pod, or if the
/// `ReplicaSet` selects by nothing but the template.
fn to_take(
    of_pods: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    services: &[BTreeMap<String, String>],
) -> BTreeSet<String> {
    let selects = |selector: &&BTreeMap<String, String>| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| of_pods.get(key) == Some(value))
    };
    let mut selectors: Vec<&BTreeMap<String, String>> = services.iter().filter(selects).collect();
    if selectors.is_empty() {
        return BTreeSet::new();
    }
    selectors.push(own);
    let mut taken = BTreeSet::new();
    while let Some(left) = selectors
        .iter()
        .find(|selector| !selector.keys().any(|key| taken.contains(key)))
    {
        let keys = left.keys().filter(|key| *key != TEMPLATE_HASH);
        let selected_by = |key: &String| {
            let by = selectors.iter();
            by.filter(|selector| selector.contains_key(key)).count()
        };
        let is_component = |key: &String| COMPONENT.contains(&key.as_str());
        let Some(best) = keys.max_by_key(|key| (selected_by(key), is_component(key))) else {
            return BTreeSet::new();
        };
        taken.insert(best.clone());
    }
    taken
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[rstest]
    #[case::the_same_name(json!([{"port": 19530, "targetPort": "milvus"}]), true)]
    #[case::another_name(json!([{"port": 19530, "targetPort": "etcd"}]), false)]
    #[case::the_same_number(json!([{"port": 80, "targetPort": 19530}]), true)]
    #[case::another_number(json!([{"port": 19530, "targetPort": 2379}]), false)]
    #[case::no_target(json!([{"port": 19530}]), true)]
    #[case::no_target_and_another_port(json!([{"port": 2379}]), false)]
    #[case::the_second(json!([{"port": 2379}, {"port": 19530}]), true)]
    #[case::no_port(json!([]), false)]
    fn a_service_routes_to_a_pod_only_by_one_of_its_ports(
        #[case] ports: Value,
        #[case] leads: bool,
    ) {
        let service = serde_json::from_value(json!({"ports": ports})).unwrap();
        let pod = json!({"containers": [{"name": "proxy", "ports": [{"name": "milvus", "containerPort": 19530}]}]});
        let pod: PodSpec = serde_json::from_value(pod).unwrap();
        assert_eq!(has_port(&service, Some(&pod)), leads);
        let unnamed: PodSpec =
            serde_json::from_value(json!({"containers": [{"name": "proxy"}]})).unwrap();
        assert!(has_port(&service, Some(&unnamed)), "it may open any port");
    }

    #[rstest]
    #[case::the_component("i=r,component=proxy", &["i=r,component=proxy"], &["component"])]
    #[case::the_component_of_the_chart(
        "app.kubernetes.io/instance=r,app.kubernetes.io/name=milvus,component=proxy",
        &["app.kubernetes.io/instance=r,app.kubernetes.io/name=milvus,component=proxy"],
        &["component"]
    )]
    #[case::no_service("i=r,component=proxy", &[], &[])]
    #[case::a_service_of_other_pods("i=r,component=proxy", &["i=r,component=etcd"], &[])]
    #[case::a_service_without_a_selector("i=r,component=proxy", &[""], &[])]
    #[case::one_label_is_common("i=r,component=proxy", &["i=r", "i=r,component=proxy"], &["i"])]
    #[case::no_label_is_common(
        "i=r,component=proxy",
        &["role=edge", "component=proxy"],
        &["component", "role"]
    )]
    #[case::the_service_selects_by_another_label("component=proxy", &["role=edge"], &["component", "role"])]
    #[case::nothing_but_the_template("pod-template-hash=x", &["role=edge"], &[])]
    fn the_fewest_labels_are_removed(
        #[case] own: &str,
        #[case] services: &[&str],
        #[case] taken: &[&str],
    ) {
        let mut of_pods = labels(own);
        of_pods.extend(labels("role=edge,zone=a"));
        let services: Vec<_> = services.iter().map(|one| labels(one)).collect();
        let found = to_take(&of_pods, &labels(own), &services);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), taken);
        // Without these labels, no Service and no ReplicaSet selects the pod.
        if !found.is_empty() {
            of_pods.retain(|key, _| !found.contains(key));
            let selects = |selector: &BTreeMap<String, String>| {
                let is_there = |(key, value)| of_pods.get(key) == Some(value);
                !selector.is_empty() && selector.iter().all(is_there)
            };
            assert!(!services.iter().any(selects) && !selects(&labels(own)));
        }
    }
}
