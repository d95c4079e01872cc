//! `upgrade` checks more than Kubernetes does: it reads the active coordinator from etcd, and warns
//! once about checks that it could not make. Releases with unusual names roll as well.

use std::io::Read as _;

use crate::common::{
    Chart,
    migration_cluster::Running,
    roll::{DEADLINE, Roll},
    run,
};
use milvus_guard_core::milvus::catalogue::{Catalogue, OrderTopology};
use milvus_guard_testbed::{Etcd, Helm, expect_success, wait_until};
use serde_json::{Value, json};

const CHART: &str = "4.1.34";

/// Registers this host in etcd as the active coordinator of a role, as Milvus does.
fn activate(etcd: &Etcd, role: &str, host: &str) {
    let value = json!({"ServerID": 7, "ServerName": role, "Address": "10.9.9.9:53100", "Exclusive": true, "HostName": host});
    expect_success(etcd.etcdctl([
        "put",
        &format!("by-dev/meta/session/{role}"),
        &value.to_string(),
    ]));
}

#[test]
fn a_new_coordinator_must_be_ready_and_active() {
    let (roll, etcd, namespace) = (Roll::start(), Etcd::start(), "active");
    roll.install(
        Helm::V4,
        namespace,
        &Chart::compact(CHART),
        "v2.4.5",
        &["mixCoordinator.enabled=true"],
    );
    for role in ["rootcoord", "datacoord", "querycoord"] {
        activate(&etcd, role, "the-pod-before");
    }
    let mut command = roll.upgrade(namespace, "2.4.24");
    command.args(["--etcd", &etcd.endpoint()]);
    let mut running = Running::spawn(command);
    let moved = || roll.tag(namespace, "mixcoord") == "v2.4.24" || running.has_ended();
    assert!(wait_until(DEADLINE, moved), "the coordinator must move");
    let waiting = || {
        let step = roll.run(namespace)["status"]["step"].clone();
        step["id"] == "update-mixcoord"
            && step["waitingFor"].as_str().is_some_and(|on| {
                on.starts_with("a new pod to become active: ")
                    && on.contains("is still the-pod-before")
            })
    };
    let there = wait_until(DEADLINE, || waiting() || running.has_ended());
    assert!(there && waiting(), "{:#}", roll.run(namespace)["status"]);
    assert_eq!(
        roll.tag(namespace, "querynode"),
        "v2.4.5",
        "no other component may move meanwhile"
    );
    let pods = roll.cluster.get_json(&format!(
        "/api/v1/namespaces/{namespace}/pods?labelSelector=component%3Dmixcoord"
    ));
    let name = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    for role in ["rootcoord", "datacoord", "querycoord"] {
        activate(&etcd, role, name);
    }
    assert!(
        wait_until(DEADLINE, || running.has_ended()),
        "{:#}",
        roll.run(namespace)["status"]
    );
    let mut stderr = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert!(running.0.wait().unwrap().success(), "{stderr}");
    for once in [
        "could not ask Milvus whether",
        "could not ask pods for /healthz",
    ] {
        assert_eq!(stderr.matches(once).count(), 1, "{once}: {stderr}");
    }
    assert!(!stderr.contains("could not ask etcd"), "{stderr}");
}

#[test]
fn a_release_may_have_any_name() {
    let roll = Roll::start();
    let chart = Chart::compact(CHART);
    for (release, namespace, full, more) in [
        ("vectors", "override", "search", "fullnameOverride=search"),
        (
            "milvus-milvus",
            "twice",
            "milvus-milvus",
            "querynode.replicas=2",
        ),
    ] {
        let values = ["mixCoordinator.enabled=true", more];
        roll.install_as(release, Helm::V4, namespace, &chart, "v2.4.5", &values);
        let (code, stdout, stderr) = run(&mut roll.upgrade_of(release, namespace, "2.4.24"));
        assert_eq!(code, 0, "{stdout}{stderr}");
        let shape = roll.shape(namespace);
        assert!(shape.len() > 4, "{shape:?}");
        for line in shape {
            assert!(
                line.starts_with(&format!("{full}-")) && line.contains(":v2.4.24 "),
                "{line}"
            );
        }
        assert!(
            stdout.contains(&format!(
                "helm upgrade {release} zilliztech/milvus -n {namespace} "
            )),
            "{stdout}"
        );
    }
}

#[test]
fn all_groups_of_query_nodes_move_at_the_same_place_in_the_order() {
    let (roll, namespace) = (Roll::start(), "groups");
    let values = ["mixCoordinator.enabled=true", "querynode.replicas=2"];
    roll.install(
        Helm::V4,
        namespace,
        &Chart::compact(CHART),
        "v2.4.5",
        &values,
    );
    // A separate Deployment for each resource group, as users add them to those of the chart.
    let model = roll.deployment(namespace, "querynode");
    for group in ["rg1", "rg2"] {
        let mut own = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": model["spec"]});
        let labels = |target: &mut Value| target["milvus.io/resource-group"] = json!(group);
        own["metadata"] = json!({"name": format!("my-release-milvus-querynode-{group}"), "namespace": namespace,
            "labels": model["metadata"]["labels"], "annotations": model["metadata"]["annotations"]});
        labels(&mut own["spec"]["selector"]["matchLabels"]);
        labels(&mut own["spec"]["template"]["metadata"]["labels"]);
        roll.cluster.apply(&own.to_string());
    }
    // Each selector must choose only the pods of its Deployment.
    roll.await_complete(namespace);
    let watch = roll.watch(namespace);
    let (code, stdout, stderr) = run(&mut roll.upgrade(namespace, "2.4.24"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let shape = roll.shape(namespace);
    assert_eq!(
        shape
            .iter()
            .filter(|line| line.contains("-querynode"))
            .count(),
        3,
        "{shape:?}"
    );
    assert!(
        shape.iter().all(|line| line.contains(":v2.4.24 ")),
        "{shape:?}"
    );
    let order = Catalogue::embedded()
        .order(
            "2.4.5".parse().unwrap(),
            "2.4.24".parse().unwrap(),
            OrderTopology::Mixed,
        )
        .unwrap();
    watch.assert_order(
        "milvusdb/milvus:v2.4.24",
        |component| order.before(component).collect(),
        &[],
    );
    assert_eq!(roll.owned_by_runs(namespace), [""; 0]);
}

#[test]
fn a_controller_that_lags_delays_the_next_component() {
    let (roll, namespace) = (Roll::start(), "lag");
    roll.install(
        Helm::V4,
        namespace,
        &Chart::compact(CHART),
        "v2.4.5",
        &["mixCoordinator.enabled=true"],
    );
    // Every status still shows the state before, in which all is well.
    let controllers = roll
        .cluster
        .controller_manager()
        .expect("the controller manager must run");
    controllers.pause();
    let mut running = Running::spawn(roll.upgrade(namespace, "2.4.24"));
    let waits = || {
        let runs = roll.runs(namespace);
        runs.last().is_some_and(|run| {
            run["status"]["step"]
                .to_string()
                .contains("its controller has not seen the last change yet")
        })
    };
    assert!(wait_until(DEADLINE, || waits() || running.has_ended()));
    assert_eq!(
        roll.tag(namespace, "indexnode"),
        "v2.4.24",
        "the first component must have the new image"
    );
    assert_eq!(
        roll.tag(namespace, "mixcoord"),
        "v2.4.5",
        "{:#}",
        roll.run(namespace)["status"]
    );
    controllers.resume();
    assert!(running.succeeds(), "{:#}", roll.run(namespace)["status"]);
    assert!(
        roll.shape(namespace)
            .iter()
            .all(|line| line.contains(":v2.4.24 "))
    );
}
