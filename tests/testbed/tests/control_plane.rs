//! Control planes: in parallel, with controllers, during outages, and for users with few rights.

#![expect(
    clippy::expect_used,
    reason = "functions that tests share fail the test as well"
)]

use std::process::Output;
use std::time::Duration;

use milvus_guard_testbed::{
    ControlPlane, EtcdOptions, KUBERNETES_VERSION, expect_success, wait_for,
};
use serde_json::json;

const SHORT: Duration = Duration::from_secs(30);

fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"of": name}})
        .to_string()
}

fn kubectl_as(cluster: &ControlPlane, kubeconfig: &std::path::Path, args: &[&str]) -> Output {
    cluster
        .kubectl_command()
        .env("KUBECONFIG", kubeconfig)
        .args(args)
        .output()
        .expect("kubectl runs")
}

#[test]
fn two_control_planes_run_in_parallel() {
    let clusters = std::thread::scope(|scope| {
        let starts = [
            scope.spawn(ControlPlane::start),
            scope.spawn(ControlPlane::start),
        ];
        starts.map(|start| start.join().expect("a control plane"))
    });
    assert_ne!(clusters[0].server(), clusters[1].server());
    for (cluster, name) in clusters.iter().zip(["one", "two"]) {
        assert_eq!(
            cluster.get_json("/version")["gitVersion"],
            KUBERNETES_VERSION
        );
        cluster.apply(&config_map(name));
    }
    for (cluster, (own, other)) in clusters.iter().zip([("one", "two"), ("two", "one")]) {
        let path = "/api/v1/namespaces/default/configmaps/";
        assert_eq!(cluster.get_json(&format!("{path}{own}"))["data"]["of"], own);
        assert_eq!(cluster.get(&format!("{path}{other}")).status, 404);
    }
    objects_need_no_kubectl(&clusters[0]);
}

fn objects_need_no_kubectl(cluster: &ControlPlane) {
    let path = "/api/v1/namespaces/default/configmaps";
    let object = json!({"metadata": {"name": "sent"}, "data": {"of": "sent", "text": "ä\r\n\r\n"}});
    let answer = cluster.post(path, &object);
    assert_eq!((answer.status, answer.message()), (201, String::new()));
    let again = cluster.post(path, &object);
    assert_eq!(again.status, 409);
    assert_eq!(again.message(), "configmaps \"sent\" already exists");
    let path = format!("{path}/sent");
    cluster.merge(&path, &json!({"data": {"of": "merged"}}));
    assert_eq!(
        cluster.get_json(&path)["data"],
        json!({"of": "merged", "text": "ä\r\n\r\n"})
    );
}

#[test]
fn controllers_and_scheduler_work() {
    let cluster = ControlPlane::builder()
        .controller_manager(true)
        .scheduler(true)
        .start();
    cluster.apply(
        r#"
apiVersion: v1
kind: Node
metadata: {name: invented}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: web, image: "web:1"}]
"#,
    );
    let ready = r#"{"status": {"allocatable": {"pods": "10"}, "conditions": [{"type": "Ready", "status": "True"}]}}"#;
    expect_success(cluster.kubectl([
        "patch",
        "node",
        "invented",
        "--subresource=status",
        "--patch",
        ready,
    ]));
    wait_for("two pods on the node", SHORT, || {
        let pods = cluster.get_json("/api/v1/namespaces/default/pods");
        pods["items"].as_array().is_some_and(|pods| {
            pods.len() == 2 && pods.iter().all(|pod| pod["spec"]["nodeName"] == "invented")
        })
    });
}

#[test]
fn users_may_do_what_rbac_lets_them() {
    let cluster = ControlPlane::start();
    cluster.apply(&config_map("one"));
    cluster.apply(
        r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: read, namespace: default}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: read}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: readers}
- {kind: ServiceAccount, name: robot, namespace: default}
",
    );
    let readers = [
        cluster.kubeconfig_for("ann", &["readers"]),
        cluster.kubeconfig_for("bob", &["devs", "readers"]),
        cluster.kubeconfig_for_service_account("default", "robot"),
    ];
    for kubeconfig in &readers {
        expect_success(kubectl_as(
            &cluster,
            kubeconfig,
            &["get", "configmap", "one"],
        ));
        let refused = kubectl_as(&cluster, kubeconfig, &["delete", "configmap", "one"]).stderr;
        assert!(String::from_utf8_lossy(&refused).contains("Forbidden"));
    }
    // A user in several groups is impersonated, with all groups.
    let bob = expect_success(kubectl_as(
        &cluster,
        &readers[1],
        &["auth", "whoami", "--output=json"],
    ));
    let bob: serde_json::Value = serde_json::from_str(&bob).expect("JSON");
    assert_eq!(bob["status"]["userInfo"]["username"], "bob");
    assert_eq!(
        bob["status"]["userInfo"]["groups"],
        json!(["devs", "readers", "system:authenticated"])
    );

    let nobody = cluster.kubeconfig_for("eve", &[]);
    assert!(
        !kubectl_as(&cluster, &nobody, &["get", "configmap", "one"])
            .status
            .success()
    );
}

#[test]
fn a_control_plane_survives_an_outage_of_etcd() {
    let etcd = EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    };
    let cluster = ControlPlane::builder()
        .etcd(etcd)
        .api_server_arg("--v=1")
        .start();
    cluster.apply(&config_map("one"));
    let path = "/api/v1/namespaces/default/configmaps/one";

    cluster.etcd().daemon().kill();
    wait_for("the API server to miss its etcd", SHORT, || {
        cluster.get("/readyz").status != 200
    });
    cluster.etcd().restart();
    wait_for("the API server's etcd", SHORT, || {
        cluster.get("/readyz").status == 200
    });

    cluster.api_server().restart();
    assert_eq!(cluster.get_json(path)["data"]["of"], "one");
    assert!(
        cluster
            .api_server()
            .log_tail(usize::MAX)
            .contains("FLAG: --v=\"1\"")
    );
}

#[test]
fn a_failed_start_shows_the_log() {
    let error = ControlPlane::builder()
        .api_server_arg("--no-such-flag=1")
        .try_start()
        .expect_err("the flag is refused")
        .to_string();
    assert!(
        error.contains("kube-apiserver ended") && error.contains("no-such-flag"),
        "{error}"
    );
}
