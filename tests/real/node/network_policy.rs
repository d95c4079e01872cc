//! The `NetworkPolicy` of the chart, with a firewall that enforces it.
#![allow(clippy::too_many_lines)]

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use super::{DEADLINE, milvus_manifests};
use crate::common::{
    binary,
    installed::{build_guard_image, chart, context, install_guard},
    migration_cluster::NAMESPACE,
    webhook::GUARD,
};
use milvus_guard_testbed::{BuildImage, Helm, Node, NodeOptions, expect_success, wait_for};
use serde_json::{Value, json};

/// An image with bash, which is the TCP client, and the guard, which is the server.
fn build_client_image(node: &Node, tag: &str) {
    let context = context();
    let tools = ["bash", "sleep", "timeout"].map(|name| {
        let copy = context.path().join(name);
        std::fs::copy(Path::new("/bin").join(name), &copy).unwrap();
        copy
    });
    node.build_base_image(
        "localhost/client-base:1",
        &[&tools[0], &tools[1], &tools[2], &binary()],
    );
    let dockerfile = "FROM localhost/client-base:1\nCOPY bash sleep timeout milvus-guard /\nENTRYPOINT [\"/sleep\", \"3600\"]\n";
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    node.build_image(&BuildImage::new(tag, context.path()));
}

/// One namespace per pod `client`. The pod in the guard's namespace has the labels of a replica,
/// and serves on another port.
fn clients(image: &str) -> String {
    let client = json!({"name": "client", "image": image});
    let server = [
        "/milvus-guard",
        "serve",
        "--no-cluster",
        "--tls-self-signed",
        "--listen=0.0.0.0:7443",
        "--metrics-listen=0.0.0.0:7090",
    ];
    let server = json!({"name": "server", "image": image, "command": server});
    let labels = json!({"app.kubernetes.io/name": GUARD, "app.kubernetes.io/instance": GUARD});
    let pods = [
        ("monitoring", json!({}), json!([client])),
        ("elsewhere", json!({}), json!([client])),
        (GUARD, labels, json!([client, server])),
    ];
    let objects = pods.map(|(namespace, labels, containers)| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": namespace, "labels": labels},
            "spec": {"containers": containers},
        });
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        format!("---\n{namespace}\n---\n{pod}\n")
    });
    objects.concat()
}

/// The client of a connection.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// The pod `client` of this namespace.
    Pod(&'static str),
    /// This machine. For the node its address is neither a pod's nor a node's, as that of an API
    /// server may be.
    Machine,
}

/// Whether the connection succeeds. A connection that a policy does not allow is refused; any other
/// error fails the test.
fn reaches(node: &Node, from: Caller, to: SocketAddr) -> bool {
    match from {
        Caller::Pod(namespace) => {
            let script = format!(
                "/timeout 2 /bash -c 'exec 3<>/dev/tcp/{}/{}' 2>&1; echo $?",
                to.ip(),
                to.port()
            );
            let said = expect_success(node.kubectl([
                "exec", "-n", namespace, "client", "-c", "client", "--", "/bash", "-c", &script,
            ]));
            let refused = said.contains("Connection refused");
            assert!(said == "0\n" || refused, "{from:?} to {to}: {said}");
            !refused
        }
        Caller::Machine => match TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused,
                    "{to}: {error}"
                );
                false
            }
        },
    }
}

#[track_caller]
fn assert_reach(node: &Node, expected: bool, connections: &[(Caller, SocketAddr)]) {
    for (from, to) in connections {
        assert_eq!(
            reaches(node, *from, *to),
            expected,
            "{from:?} to {to} {}",
            node.describe(GUARD)
        );
    }
}

/// The pods of the guard's Deployment.
fn replicas(node: &Node) -> Vec<Value> {
    let list = node.get_json(&format!(
        "/api/v1/namespaces/{GUARD}/pods?labelSelector=pod-template-hash"
    ));
    list["items"].as_array().unwrap().clone()
}

fn address(pod: &Value, port: u16) -> SocketAddr {
    SocketAddr::new(
        pod["status"]["podIP"].as_str().unwrap().parse().unwrap(),
        port,
    )
}

/// When each lease that this pod holds was last renewed.
fn renewals(node: &Node, pod: &str) -> BTreeMap<String, String> {
    let leases = node.get_json(&format!(
        "/apis/coordination.k8s.io/v1/namespaces/{GUARD}/leases"
    ));
    let leases = leases["items"].as_array().unwrap().iter();
    let own = leases.filter(|lease| {
        lease["spec"]["holderIdentity"]
            .as_str()
            .is_some_and(|holder| holder.contains(pod))
    });
    own.map(|lease| {
        (
            lease["metadata"]["name"].to_string(),
            lease["spec"]["renewTime"].to_string(),
        )
    })
    .collect()
}

/// How many readiness probes of the kubelet to this pod had this result.
fn probes(node: &Node, pod: &str, result: &str) -> u64 {
    let labels = [
        format!("pod=\"{pod}\""),
        format!("result=\"{result}\""),
        "probe_type=\"Readiness\"".to_owned(),
    ];
    let text = node.get("/api/v1/nodes/testbed/proxy/metrics/probes").body;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("prober_probe_total{"));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_network_policy_allows_only_connections_that_the_guard_needs() {
    let node = Node::start_with(NodeOptions {
        network_policies: true,
    });
    build_guard_image(&node);
    build_client_image(&node, "localhost/client:1");
    node.apply(&clients("localhost/client:1"));
    expect_success(node.kubectl(["create", "namespace", NAMESPACE]));
    node.apply(&milvus_manifests("3.2.18", &[]));
    install_guard(&node, 1, &["networkPolicy.enabled=false"]);
    let (monitoring, elsewhere, twin) = (
        Caller::Pod("monitoring"),
        Caller::Pod("elsewhere"),
        Caller::Pod(GUARD),
    );
    for namespace in ["monitoring", "elsewhere", GUARD] {
        node.wait_for_phase(namespace, "client", "Running", DEADLINE);
    }
    let first = replicas(&node).remove(0);
    let (https, metrics) = (address(&first, 8443), address(&first, 9090));
    let other_port = address(
        &node.get_json(&format!("/api/v1/namespaces/{GUARD}/pods/client")),
        7443,
    );
    let api_server: SocketAddr = node
        .server()
        .trim_start_matches("https://")
        .parse()
        .unwrap();
    let kubernetes = node.get_json("/api/v1/namespaces/default/services/kubernetes");
    let kubernetes = SocketAddr::new(
        kubernetes["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        443,
    );
    let listener = TcpListener::bind((node.host(), 0)).unwrap();
    let outside = listener.local_addr().unwrap();

    // Without the policy every connection succeeds. Otherwise a refusal below would prove nothing.
    wait_for("the server on another port", DEADLINE, || {
        TcpStream::connect(other_port).is_ok()
    });
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, https)),
    );
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, metrics)),
    );
    assert_reach(
        &node,
        true,
        &[(elsewhere, other_port), (Caller::Machine, other_port)],
    );
    assert_reach(
        &node,
        true,
        &[
            (twin, api_server),
            (twin, kubernetes),
            (twin, outside),
            (elsewhere, outside),
        ],
    );

    // By default every pod may scrape metrics.
    let upgrade = |value: &str| {
        let chart = chart(GUARD);
        expect_success(node.helm(
            Helm::V4,
            [
                "upgrade",
                GUARD,
                &chart,
                "--namespace",
                GUARD,
                "--reuse-values",
                "--set",
                value,
            ],
        ));
    };
    upgrade("networkPolicy.enabled=true");
    wait_for("the policy", DEADLINE, || {
        !reaches(&node, Caller::Machine, metrics)
    });
    assert_reach(&node, true, &[(monitoring, metrics), (elsewhere, metrics)]);
    upgrade("networkPolicy.metricsNamespaces={monitoring}");
    wait_for("the policy to change", DEADLINE, || {
        !reaches(&node, elsewhere, metrics)
    });

    // A replica that starts under the policy becomes ready: it reaches the API server.
    expect_success(node.kubectl([
        "scale",
        "-n",
        GUARD,
        "--replicas=2",
        &format!("deployment/{GUARD}"),
    ]));
    node.wait_for_rollout(GUARD, GUARD, DEADLINE);
    let second = replicas(&node)
        .into_iter()
        .find(|pod| pod["metadata"]["uid"] != first["metadata"]["uid"])
        .unwrap();
    let (https, metrics) = (address(&second, 8443), address(&second, 9090));
    let name = second["metadata"]["name"].as_str().unwrap();
    let (passed, failed) = (
        probes(&node, name, "successful"),
        probes(&node, name, "failed"),
    );
    wait_for("the policy for the new replica", DEADLINE, || {
        !reaches(&node, elsewhere, metrics)
    });

    // Every client reaches the webhook, since API servers may be anywhere. Metrics, other ports and
    // egress are closed.
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, https)),
    );
    assert_reach(
        &node,
        true,
        &[
            (monitoring, metrics),
            (twin, api_server),
            (twin, kubernetes),
            (elsewhere, outside),
        ],
    );
    assert_reach(
        &node,
        false,
        &[
            (elsewhere, metrics),
            (twin, metrics),
            (Caller::Machine, metrics),
        ],
    );
    assert_reach(
        &node,
        false,
        &[
            (monitoring, other_port),
            (elsewhere, other_port),
            (Caller::Machine, other_port),
        ],
    );
    assert_reach(&node, false, &[(twin, outside)]);

    // The replica renews its lease, the API server calls the webhook, and the kubelet's probes
    // succeed.
    wait_for("a lease of the new replica", DEADLINE, || {
        !renewals(&node, name).is_empty()
    });
    let before = renewals(&node, name);
    wait_for("the lease to be renewed", DEADLINE, || {
        let now = renewals(&node, name);
        before
            .iter()
            .all(|(lease, time)| now.get(lease).is_some_and(|renewed| renewed > time))
    });
    let image = [
        "set",
        "image",
        "-n",
        NAMESPACE,
        "deployment/my-release-milvus-rootcoord",
        "*=milvusdb/milvus:v2.2.16",
    ];
    let output = node.kubectl(image);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success()
            && message.contains("denied the request")
            && message.contains("MG101"),
        "{message}"
    );
    wait_for("two probes", DEADLINE, || {
        probes(&node, name, "successful") >= passed + 2
    });
    assert_eq!(
        probes(&node, name, "failed"),
        failed,
        "{}",
        node.describe(GUARD)
    );
    let pods = replicas(&node);
    let status = pods
        .iter()
        .map(|pod| &pod["status"]["containerStatuses"][0]);
    let well = status.filter(|status| status["ready"] == true && status["restartCount"] == 0);
    assert_eq!(well.count(), 2, "{}", node.describe(GUARD));
}
