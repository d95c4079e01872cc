//! What the nodes have left, and what the Deployments request that start a new pod before an old
//! one ends.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, Node, Pod, PodSpec},
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    engine::{ApiError, RetryingClient},
    rolling_upgrade::{
        capacity::{Resources, Surge, warning},
        plan::{MoveKind, Rollout},
    },
};
use milvus_guard_core::milvus::Release;

/// Objects in one response: the pods of a large cluster do not fit into the memory of a run.
const PAGE: u32 = 500;

/// A warning if no node has room; a note if we have no right to list nodes.
///
/// # Errors
/// If the API server does not answer.
pub(crate) async fn look(
    client: &RetryingClient,
    release: &Release,
    rollout: &Rollout,
) -> Result<Option<String>, ApiError> {
    let surges = surges(client, release, rollout).await?;
    match rooms(client).await {
        Ok(rooms) => Ok(warning(&surges, &rooms)),
        Err(ApiError::Refused { reason, .. }) => {
            client.reporter.note(format!(
                "could not check whether nodes have room for new pods in addition to the old \
                 ones: {reason}"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn surges(
    client: &RetryingClient,
    release: &Release,
    rollout: &Rollout,
) -> Result<Vec<Surge>, ApiError> {
    let api: Api<Deployment> = Api::namespaced(client.kube(), &rollout.release.namespace);
    let live = client
        .call("Deployments", async || {
            api.list(&ListParams::default()).await
        })
        .await?;
    let moves = |name: &str| {
        rollout
            .moves
            .iter()
            .filter(|one| one.kind == MoveKind::Update)
            .any(|one| {
                one.workload.as_deref().is_none_or(|own| own == name)
                    && release
                        .of(one.component)
                        .any(|component| component.workload.meta.object.name == name)
            })
    };
    let surging = live
        .items
        .iter()
        .filter(|one| moves(&one.name_any()) && makes_first(one));
    Ok(surging
        .map(|one| Surge {
            deployment: one.name_any(),
            asks: asks(one.spec.template.spec.as_ref()),
        })
        .collect())
}

/// Whether a Deployment starts a new pod before an old one ends, which is the default.
fn makes_first(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    let recreates = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
    let surge = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.as_ref());
    let none = match surge {
        Some(IntOrString::Int(count)) => *count == 0,
        Some(IntOrString::String(text)) => text == "0%" || text == "0",
        None => false,
    };
    !recreates && !none && deployment.spec.replicas != Some(0)
}

/// What the scheduler counts of a pod: containers and sidecars together, or, if it is more, an init
/// container with the sidecars that start before it
/// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>).
fn asks(pod: Option<&PodSpec>) -> Resources {
    let Some(pod) = pod else {
        return Resources::default();
    };
    let of = |container: &Container| {
        read(
            container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref()),
        )
    };
    let (mut sidecars, mut first) = (Resources::default(), Resources::default());
    for init in pod.init_containers.iter().flatten() {
        if init.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.plus(of(init));
        } else {
            first = first.max(sidecars.plus(of(init)));
        }
    }
    let all = pod.containers.iter().map(of);
    all.fold(sidecars, Resources::plus)
        .max(first)
        .plus(read(pod.overhead.as_ref()))
}

fn read(quantities: Option<&BTreeMap<String, Quantity>>) -> Resources {
    let of = |key: &str| {
        quantities
            .and_then(|all| all.get(key))
            .map(|quantity| quantity.0.as_str())
    };
    Resources::read(of("cpu"), of("memory"))
}

/// What each node has left, for nodes on which any pod may be placed.
async fn rooms(client: &RetryingClient) -> Result<Vec<Resources>, ApiError> {
    let nodes: Api<Node> = Api::all(client.kube());
    let nodes = client
        .call("nodes", async || nodes.list(&ListParams::default()).await)
        .await?;
    let mut rooms: BTreeMap<String, Resources> = nodes
        .items
        .iter()
        .filter(|node| is_open(node))
        .map(|node| {
            (
                node.name_any(),
                read(
                    node.status
                        .as_ref()
                        .and_then(|status| status.allocatable.as_ref()),
                ),
            )
        })
        .collect();
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let pods: Api<Pod> = Api::all(client.kube());
    let mut params = ListParams::default()
        .limit(PAGE)
        .fields("status.phase!=Succeeded,status.phase!=Failed");
    loop {
        let page = client
            .call("pods of all nodes", async || pods.list(&params).await)
            .await?;
        for pod in &page.items {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            if let Some(room) = node.and_then(|node| rooms.get_mut(node)) {
                *room = room.minus(asks(pod.spec.as_ref()));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(rooms.into_values().collect()),
        }
    }
}

fn is_open(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let closed = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    let tainted = spec
        .into_iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .any(|taint| taint.effect != "PreferNoSchedule");
    !closed && !tainted
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::containers("[]", 2)]
    #[case::a_larger_init_container("[{name: i, resources: {requests: {cpu: '5'}}}]", 5)]
    #[case::a_sidecar(
        "[{name: s, restartPolicy: Always, resources: {requests: {cpu: '1'}}}]",
        3
    )]
    #[case::an_init_container_after_a_sidecar(
        "[{name: s, restartPolicy: Always, resources: {requests: {cpu: '1'}}}, {name: i, resources: {requests: {cpu: '5'}}}]",
        6
    )]
    #[case::an_init_container_before_a_sidecar(
        "[{name: i, resources: {requests: {cpu: '5'}}}, {name: s, restartPolicy: Always, resources: {requests: {cpu: '1'}}}]",
        5
    )]
    fn a_pod_asks_for_its_containers_and_sidecars(#[case] inits: &str, #[case] cores: i64) {
        let text = format!(
            "{{containers: [{{name: a, resources: {{requests: {{cpu: '2'}}}}}}], initContainers: {inits}}}"
        );
        let pod = milvus_guard_core::manifest::documents(&text)
            .next()
            .unwrap();
        let pod: PodSpec = serde_json::from_value(pod.unwrap().root.to_json()).unwrap();
        let expected = format!("{cores}");
        let expected = BTreeMap::from([("cpu".to_owned(), Quantity(expected))]);
        assert_eq!(asks(Some(&pod)), read(Some(&expected)));
    }
}
