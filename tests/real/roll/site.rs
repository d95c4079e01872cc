//! A node on which one roll after the other is made. Each starts with a new Milvus, empty services
//! and without the guard, so that no roll affects the next.

use std::time::Duration;

use milvus_guard_testbed::{Helm, MilvusCluster, Node, expect_success, wait_for};
use serde_json::Value;

use super::{
    outcome::Outcome,
    stand::{NAMESPACE, RELEASE, Stand},
    topology::Topology,
    ways::{Prepared, Way},
};
use crate::common::{
    install_definitions,
    installed::{build_guard_image, install_guard},
    webhook::GUARD,
};

/// Replicas of the guard: one leads, both answer.
const REPLICAS: usize = 2;
/// For objects to be deleted.
const DEADLINE: Duration = Duration::from_secs(180);

pub struct Site {
    cluster: MilvusCluster,
    has_guard_image: bool,
    is_used: bool,
}

impl Site {
    /// A node with the images of these topologies.
    pub fn start(topologies: &[&Topology]) -> Self {
        let mut versions = Vec::new();
        for version in topologies.iter().flat_map(|one| [one.from, one.to]) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        Self {
            cluster: MilvusCluster::start(&versions),
            has_guard_image: false,
            is_used: false,
        }
    }

    /// Installs a new Milvus and rolls it.
    pub fn roll(&mut self, topology: &'static Topology, way: Way) -> Outcome {
        let (from, to) = (topology.from.name(), topology.to.name());
        eprintln!("{} {}: {from} to {to}", topology.name, way.name());
        if self.is_used {
            self.clear();
        }
        self.is_used = true;
        match way.prepared() {
            Prepared::Nothing => {}
            Prepared::Definitions => install_definitions(self.cluster.node()),
            Prepared::Guard => {
                if !self.has_guard_image {
                    build_guard_image(self.cluster.node());
                    self.has_guard_image = true;
                }
                install_guard(self.cluster.node(), REPLICAS, &[]);
            }
        }
        Stand::start(&self.cluster, topology).roll(way)
    }

    /// Restores the state of the node before the first roll.
    fn clear(&mut self) {
        let node = self.cluster.node();
        // The guard first, since it judges deletions. Without hooks, because they would keep the
        // guard after a failed run.
        let uninstall = ["uninstall", GUARD, "-n", GUARD, "--ignore-not-found"];
        expect_success(node.helm(Helm::V4, uninstall.iter().chain(&["--no-hooks"])));
        wait_for("the registration to be removed", DEADLINE, || {
            ["validating", "mutating"].iter().all(|kind| {
                let path = "/apis/admissionregistration.k8s.io/v1";
                let list = node.get_json(&format!("{path}/{kind}webhookconfigurations"));
                list["items"].as_array().is_some_and(Vec::is_empty)
            })
        });
        end_pods(node, NAMESPACE);
        let delete = ["delete", "--ignore-not-found", "--timeout=180s"];
        let kubectl = |args: &[&str]| expect_success(node.kubectl(delete.iter().chain(args)));
        kubectl(&["namespace", NAMESPACE, GUARD]);
        kubectl(&["crd", "-l", "app.kubernetes.io/part-of=milvus-guard"]);
        let left = leftovers(node);
        assert!(left.is_empty(), "left from the previous roll: {left:?}");
        self.cluster.empty_services();
    }
}

/// Ends the pods of a namespace without the half minute for which some of them ignore SIGTERM. Only
/// the first deletion of a pod sets its grace period.
fn end_pods(node: &Node, namespace: &str) {
    let delete = |kind: &str, flags: &[&str]| {
        let all = ["-n", namespace, "delete", kind, "--all"];
        expect_success(node.kubectl(all.iter().chain(flags)));
    };
    for owner in ["deployments", "replicasets"] {
        delete(owner, &["--cascade=orphan"]);
    }
    delete("pods", &["--grace-period=1"]);
    // Uninstalled by Helm, so that the next installation can use the same name.
    let uninstall = ["uninstall", RELEASE, "-n", namespace, "--ignore-not-found"];
    expect_success(node.helm(Helm::V4, uninstall));
}

/// Namespaces and definitions that a new cluster does not have.
fn leftovers(node: &Node) -> Vec<String> {
    let names = |path: &str| -> Vec<String> {
        let list: Value = node.get_json(path);
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut all = names("/api/v1/namespaces");
    all.retain(|name| name != "default" && !name.starts_with("kube-"));
    all.extend(names(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ));
    all
}
