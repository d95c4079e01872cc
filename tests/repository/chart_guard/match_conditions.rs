//! Which changes real API servers send to which webhook.

use std::time::Duration;

use super::{
    NAMESPACE, namespace,
    objects::{
        MILVUS, NGINX, OTHER, RUNS_MILVUS, WRAPPER, claim, cron_job, deployment, job, pod, record,
        workload,
    },
    of_kind, registered, rendered, text,
};
use crate::common::{Chart, charts};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, wait_for};
use serde_json::{Value, json};

/// A change that is tried while every webhook is unavailable and fails closed, and the webhook that
/// must be called for it, if any.
struct Try<'a> {
    what: &'a str,
    by: By<'a>,
    input: String,
    noticed_by: Option<&'a str>,
}

/// How a change is tried.
enum By<'a> {
    /// The object is created in this namespace, as a dry run.
    Creation(&'a str),
    /// Runs kubectl with these arguments and the object on standard input.
    Kubectl(&'a [&'a str]),
}

impl By<'_> {
    /// The error of the API server; `None` if it accepts the change.
    fn objection(&self, cluster: &ControlPlane, object: &str) -> Option<String> {
        match self {
            Self::Creation(namespace) => {
                let object: Value = serde_json::from_str(object).unwrap();
                let path = format!(
                    "{}?dryRun=All&fieldValidation=Strict",
                    path_of(&object, namespace)
                );
                let answer = cluster.post(&path, &object);
                (answer.status != 201).then(|| answer.message())
            }
            Self::Kubectl(args) => {
                let output = cluster.kubectl_with_input(args.iter(), object);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                (!output.status.success()).then_some(said)
            }
        }
    }
}

/// The API path of objects of this kind. The built-in kinds of these tests have regular plurals.
fn path_of(object: &Value, namespace: &str) -> String {
    let version = text(object, "/apiVersion");
    let root = if version.contains('/') {
        "/apis"
    } else {
        "/api"
    };
    let plural = text(object, "/kind").to_lowercase();
    format!("{root}/{version}/namespaces/{namespace}/{plural}s")
}

/// Creates an object in the namespace of Milvus.
fn make<'a>(what: &'a str, object: String, noticed_by: Option<&'a str>) -> Try<'a> {
    Try {
        what,
        by: By::Creation("milvus"),
        input: object,
        noticed_by,
    }
}

/// Runs kubectl.
fn run<'a>(what: &'a str, args: &'a [&'a str], noticed_by: Option<&'a str>) -> Try<'a> {
    Try {
        what,
        by: By::Kubectl(args),
        input: String::new(),
        noticed_by,
    }
}

/// Registers the webhooks of these kinds at an address where no server listens; all fail closed.
fn deaf(cluster: &ControlPlane, documents: &[Value], kinds: &[&str]) {
    for mut configuration in registered(documents, &["milvus"]) {
        if !kinds.contains(&text(&configuration, "/kind")) {
            continue;
        }
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            webhook["failurePolicy"] = json!("Fail");
        }
        cluster.apply(&configuration.to_string());
    }
    // A new configuration is in force only after a moment, so wait until it is.
    let probe = deployment(
        "probe",
        "x",
        r#"{"app": "x"}"#,
        r#"{"name": "x", "image": "milvusdb/milvus:v2.5.5"}"#,
    );
    wait_for(
        "the webhooks to be in force",
        Duration::from_secs(60),
        || By::Creation("default").objection(cluster, &probe).is_some(),
    );
}

fn tried(cluster: &ControlPlane, tries: &[Try<'_>]) {
    let mut wrong = Vec::new();
    for Try {
        what,
        by,
        input,
        noticed_by,
    } in tries
    {
        let objection = by.objection(cluster, input);
        let seen = objection
            .as_ref()
            .and_then(|said| said.split_once("failed calling webhook \""))
            .and_then(|(_, rest)| rest.split('"').next());
        let seen = seen.map(|name| name.trim_end_matches(".guard.milvus.io"));
        // With some charts the values decide whether the object is of Milvus or of a dependency.
        let seen =
            if *noticed_by == Some("one") && matches!(seen, Some("workload" | "dependencies")) {
                *noticed_by
            } else {
                seen
            };
        if seen != *noticed_by || objection.is_none() != noticed_by.is_none() {
            wrong.push(format!(
                "{what}: wanted {noticed_by:?}, got {seen:?}: {objection:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A `ConfigMap` with one key.
fn config(name: &str, labels: &str, key: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}", "labels": {{{labels}}}}}, "data": {{"{key}": "a"}}}}"#
    )
}

#[test]
fn the_variables_of_the_chart_are_those_of_the_core() {
    let template = include_str!("../../../charts/milvus-guard/templates/_match.tpl");
    let begin = template.find("milvus-guard.cel.variables\" -}}").unwrap();
    let list = template[begin..].split(['[', ']']).nth(1).unwrap();
    let names: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
    assert_eq!(names, milvus_guard_core::milvus::may_configure::VARIABLES);
}

const CONTROLLED: &str = r#", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]"#;

const OWNED: &str = r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]}}"#;

const AS_CONTROLLER: &[&str] = &[
    "create",
    "-n",
    "milvus",
    "--dry-run=server",
    "--as=system:serviceaccount:kube-system:replicaset-controller",
    "--as-group=system:masters",
    "-f",
    "-",
];

/// An account of the namespace that does as if it were a controller.
const AS_OWN_ACCOUNT: &[&str] = &[
    "create",
    "-n",
    "milvus",
    "--dry-run=server",
    "--as=system:serviceaccount:milvus:default",
    "--as-group=system:masters",
    "-f",
    "-",
];

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_gates_are_called_only_for_milvus() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus", "sandbox", "elsewhere"] {
        namespace(&cluster, name);
    }
    expect_success(cluster.kubectl(["create", "-n", "milvus", "serviceaccount", "default"]));
    let vectors = r#"{"app.kubernetes.io/name": "vectors", "app.kubernetes.io/instance": "r", "component": "proxy"}"#;
    let standard = r#"{"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "r", "component": "proxy"}"#;
    let existing = [
        deployment("vectors-proxy", "milvus-4.2.40", vectors, MILVUS),
        deployment("r-milvus-proxy", "milvus-4.2.40", standard, MILVUS),
        deployment("web", "web-1", OTHER, NGINX),
        deployment("ingress", "ingress-1", r#"{"app.kubernetes.io/component": "controller"}"#, NGINX),
        workload(
            "StatefulSet",
            "r-etcd",
            "etcd-6",
            r#"{"app.kubernetes.io/name": "etcd"}"#,
            r#"{"name": "e", "image": "a/b:1"}"#,
        ),
        workload(
            "StatefulSet",
            "r-etcd2",
            "etcd-6",
            r#"{"app.kubernetes.io/name": "etcd"}"#,
            r#"{"name": "e", "image": "a/b:1"}"#,
        ),
        workload("StatefulSet", "db", "db-1", r#"{"app": "db"}"#, r#"{"name": "db", "image": "postgres:17"}"#),
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vectors"}, "data": {"user.yaml": "a: 1"}}"#.into(),
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"nginx.conf": "a"}}"#.into(),
        claim(r#""name": "vectors""#, r#"{"app.kubernetes.io/instance": "r"}"#),
        claim(r#""name": "data-r-etcd-0""#, "{}"),
        claim(r#""name": "scratch""#, "{}"),
        pod("bare", RUNS_MILVUS, ""),
        claim(r#""name": "bound""#, r#"{"release": "r"}"#).replace(r#""accessModes""#, r#""storageClassName": "grows", "volumeName": "pv", "accessModes""#),
        r#"{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "grows"}, "provisioner": "x", "allowVolumeExpansion": true}"#.into(),
    ];
    let create = ["create", "-n", "milvus", "-f", "-"];
    expect_success(cluster.kubectl_with_input(create, &existing.join("\n---\n")));
    let bound = r#"{"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}"#;
    expect_success(cluster.kubectl([
        "patch",
        "-n",
        "milvus",
        "pvc",
        "bound",
        "--subresource=status",
        "--type=merge",
        "-p",
        bound,
    ]));
    let documents = rendered(&["excludedNamespaces={sandbox}"]);
    for kind in of_kind(&documents, "CustomResourceDefinition") {
        cluster.apply(&kind.to_string());
    }
    deaf(&cluster, &documents, &["ValidatingWebhookConfiguration"]);

    let gate = Some("workload");
    let below = Some("dependencies");
    let release = Some("release");
    let secret = r#""type": "helm.sh/release.v1","#;
    let container = |rest: &str| format!(r#"{{"name": "c", {rest}}}"#);
    let long = format!(
        r#"{{"name": "c", "image": "acme/v:1", "args": ["{}", "milvus", "run", "proxy"]}}"#,
        "x ".repeat(200_000)
    );
    let tries = [
        // Deployments, by what they are.
        make("Milvus", existing[1].replace("r-milvus-proxy", "n"), gate),
        make("Milvus under another name", existing[0].replace("vectors-proxy", "n"), gate),
        make("image only", deployment("n", "x", OTHER, &container(r#""image": "milvusdb/milvus:v2.5.5""#)), gate),
        make("image of a registry with a port", deployment("n", "x", OTHER, &container(r#""image": "r:5000/x/milvus-gpu@sha256:0000000000000000000000000000000000000000000000000000000000000000""#)), gate),
        make("command only", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "command": ["/milvus/bin/milvus", "run", "proxy"]"#)), gate),
        make("command in a shell", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "command": ["sh", "-c", "exec milvus run standalone"]"#)), gate),
        make("wrapper of charts 3.3 to 4.1", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "args": ["/milvus/tools/run.sh", "x"]"#)), gate),
        make("selector only", deployment("n", "x", standard, NGINX), gate),
        make("chart only", deployment("n", "milvus-4.2.40", OTHER, NGINX), gate),
        make("a very long command", deployment("n", "x", OTHER, &long), gate),
        make("a sidecar", deployment("n", "x", OTHER, &format!("{NGINX}, {MILVUS}")), gate),
        make("etcd by image", workload("StatefulSet", "n", "x", OTHER, &container(r#""image": "docker.io/milvusdb/etcd:3.5.18-r1""#)), below),
        make("etcd by selector", existing[4].replace("r-etcd", "n"), below),
        make("MinIO", workload("StatefulSet", "n", "x", r#"{"app": "minio", "release": "r"}"#, NGINX), below),
        make("Pulsar", workload("StatefulSet", "n", "x", r#"{"app": "pulsarv3"}"#, NGINX), below),
        make("Kafka as a Deployment", deployment("n", "x", OTHER, &container(r#""image": "bitnami/kafka:3""#)), below),
        make("a web server", existing[2].replace("\"web\", \"labels", "\"n\", \"labels"), None),
        make("a database", existing[6].replace("\"db\", \"labels", "\"n\", \"labels"), None),
        make("Attu", deployment("n", "attu-1", r#"{"app": "attu"}"#, &container(r#""image": "zilliz/attu:v2.3.10""#)), None),
        make("a tool for Kafka", deployment("n", "x", r#"{"app": "kafka-ui"}"#, &container(r#""image": "provectuslabs/kafka-ui:1""#)), None),
        make("an exporter", deployment("n", "x", OTHER, &container(r#""image": "danielqsj/kafka-exporter:1""#)), None),
        make("a word with minio in it", deployment("n", "x", OTHER, &container(r#""image": "example.com/dominion-api:1""#)), None),
        make("a repository folder called kafka", deployment("n", "x", OTHER, &container(r#""image": "acme/kafka/ui:1""#)), None),
        make("a client that says milvus", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "args": ["--host=milvus", "running"]"#)), None),
        make("no command, no labels", r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "n"}, "spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}"#.into(), None),
        // Changes.
        run("a new image", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=milvusdb/milvus:v2.6.2"], gate),
        run("away from Milvus' image", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=acme/v:1"], gate),
        run("paused", &["rollout", "pause", "-n", "milvus", "deployment/vectors-proxy"], gate),
        run("an annotation", &["annotate", "-n", "milvus", "deployment/vectors-proxy", "a=b"], None),
        run("a label taken away", &["label", "-n", "milvus", "deployment/vectors-proxy", "helm.sh/chart-"], None),
        run("a new image after that", &["set", "image", "-n", "milvus", "deployment/vectors-proxy", "proxy=milvusdb/milvus:v2.6.2"], gate),
        run("status", &["patch", "-n", "milvus", "deployment", "vectors-proxy", "--subresource=status", "--type=merge", "-p", r#"{"status": {"observedGeneration": 1}}"#], None),
        run("etcd's image", &["set", "image", "-n", "milvus", "statefulset/r-etcd", "e=a/b:2"], below),
        run("a web server's image", &["set", "image", "-n", "milvus", "deployment/web", "web=nginx:2"], None),
        run("a database's image", &["set", "image", "-n", "milvus", "statefulset/db", "db=postgres:18"], None),
        // Scale.
        run("kubectl scale", &["scale", "-n", "milvus", "deployment/r-milvus-proxy", "--replicas=3"], gate),
        run("kubectl scale under another name", &["scale", "-n", "milvus", "deployment/vectors-proxy", "--replicas=3"], gate),
        run("scale of a web server", &["scale", "-n", "milvus", "deployment/web", "--replicas=3"], None),
        run("scale of another's component", &["scale", "-n", "milvus", "deployment/ingress", "--replicas=3"], None),
        // ConfigMaps.
        make("a configuration", existing[7].replace(r#""vectors""#, r#""n""#), below),
        make("an old one", existing[7].replace(r#""vectors""#, r#""n""#).replace("user.yaml", "milvus.yaml"), below),
        run("a changed configuration", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": {"user.yaml": "a: 2"}}"#], below),
        run("a configuration taken away", &["patch", "-n", "milvus", "configmap", "vectors", "--type=merge", "-p", r#"{"data": null}"#], below),
        run("a labelled configuration", &["label", "-n", "milvus", "configmap", "vectors", "a=b"], None),
        run("a deleted configuration", &["delete", "-n", "milvus", "configmap", "vectors", "--dry-run=server"], None),
        make("another's ConfigMap", existing[8].replace(r#""web""#, r#""n""#), None),
        make("variables", config("search-config", "", "ETCD_ENDPOINTS"), below),
        make("variables in another spelling", config("n", "", "milvus.etcd.root_Path"), below),
        make("a part that is merged", config("n", r#""app.kubernetes.io/part-of": "milvus""#, "03_proxy_default.yaml"), below),
        make("a part of Milvus' chart", config("n", r#""helm.sh/chart": "milvus-4.2.1""#, "tuning.yml"), below),
        make("a start script of Milvus", config("my-milvus-scripts", "", "start.sh"), below),
        make("variables by a name of Milvus", config("my-milvus-env", "", "endpoints"), below),
        make("variables of another application", config("n", "", "KAFKA_BOOTSTRAP_SERVERS"), None),
        make("files of another application", config("n", "", "prometheus.yml"), None),
        make("a dashboard", config("milvus-dashboard", "", "milvus.json"), None),
        make("a finished record in a ConfigMap", config("sh.helm.release.v1.milvus.v1", r#""owner": "helm", "status": "deployed""#, "release"), None),
        make("variables in a Secret", config("n", "", "ETCD_ENDPOINTS").replace("ConfigMap", "Secret").replace("data", "stringData").replace("metastringData", "metadata"), None),
        Try { what: "elsewhere: variables", by: By::Creation("elsewhere"), input: config("n", "", "ETCD_ENDPOINTS"), noticed_by: None },
        make("an empty ConfigMap", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}}"#.into(), None),
        make("a ConfigMap with a generated name", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "n-"}}"#.into(), None),
        run("another's changed ConfigMap", &["patch", "-n", "milvus", "configmap", "web", "--type=merge", "-p", r#"{"data": {"nginx.conf": "b"}}"#], None),
        // Claims.
        make("another's claim", claim(r#""name": "n""#, "{}"), None),
        make("a claim with a generated name", claim(r#""generateName": "n-""#, "{}"), None),
        make("a standalone's claim", claim(r#""name": "r-milvus""#, "{}"), gate),
        make("a claim that a StatefulSet's controller makes", claim(r#""name": "data-r-etcd-1""#, r#"{"app.kubernetes.io/instance": "r"}"#), None),
        run("a bigger claim", &["patch", "-n", "milvus", "pvc", "bound", "--type=merge", "-p", r#"{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}"#], below),
        run("a claim gets its volume", &["patch", "-n", "milvus", "pvc", "vectors", "--type=merge", "-p", r#"{"spec": {"volumeName": "pv"}, "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}"#], None),
        run("a deleted claim", &["delete", "-n", "milvus", "pvc", "vectors"], below),
        run("a deleted claim of etcd", &["delete", "-n", "milvus", "pvc", "data-r-etcd-0"], below),
        run("another's deleted claim", &["delete", "-n", "milvus", "pvc", "scratch", "--wait=false"], None),
        // Deletion.
        run("deleted by a person", &["delete", "-n", "milvus", "deployment", "vectors-proxy"], gate),
        run("etcd deleted by a person", &["delete", "-n", "milvus", "statefulset", "r-etcd"], below),
        run("all deleted by a person", &["delete", "-n", "milvus", "statefulset", "--all", "--dry-run=server"], below),
        run("a web server deleted", &["delete", "-n", "milvus", "deployment", "web"], None),
        run("collected", &["delete", "-n", "milvus", "statefulset", "r-etcd", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], None),
        run("its namespace ends", &["delete", "-n", "milvus", "deployment", "r-milvus-proxy", "--as=system:serviceaccount:kube-system:namespace-controller", "--as-group=system:masters"], None),
        run("changed by the collector", &["set", "image", "-n", "milvus", "statefulset/r-etcd2", "e=a/b:2", "--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters"], below),
        // Other kinds.
        make("a Service", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "milvus"}, "spec": {"ports": [{"port": 1}]}}"#.into(), None),
        make("a Job", job("n", RUNS_MILVUS), gate),
        make("a Job of another", job("n", NGINX), None),
        make("a CronJob", cron_job("n", RUNS_MILVUS), gate),
        make("a CronJob of another", cron_job("milvus-like", NGINX), None),
        make("a Pod", pod("n", RUNS_MILVUS, ""), gate),
        make("a Pod of another", pod("milvus-like", NGINX, ""), None),
        make("a Pod with a wrapper image that mounts Milvus' configuration", pod("n", WRAPPER, ""), gate),
        make("a person's Pod that names a controller", pod("n", RUNS_MILVUS, CONTROLLED), gate),
        Try { what: "a controller's Pod", by: By::Kubectl(AS_CONTROLLER), input: pod("n", RUNS_MILVUS, CONTROLLED), noticed_by: None },
        Try { what: "a Pod of an account of the namespace", by: By::Kubectl(AS_OWN_ACCOUNT), input: pod("n", RUNS_MILVUS, CONTROLLED), noticed_by: gate },
        Try { what: "an account's Pod without a controller", by: By::Kubectl(AS_CONTROLLER), input: pod("n", RUNS_MILVUS, ""), noticed_by: gate },
        run("the image of a running Pod", &["set", "image", "-n", "milvus", "pod/bare", "c=milvusdb/milvus:v2.6.2"], gate),
        run("the image of a running Pod away", &["set", "image", "-n", "milvus", "pod/bare", "c=acme/v:1"], gate),
        run("a running Pod's label", &["label", "-n", "milvus", "pod/bare", "a=b"], None),
        run("a running Pod deleted", &["delete", "-n", "milvus", "pod/bare", "--dry-run=server"], None),
        make("a DaemonSet", workload("DaemonSet", "n", "x", OTHER, RUNS_MILVUS).replace(r#""serviceName": "n", "#, ""), gate),
        make("a ReplicaSet", workload("ReplicaSet", "n", "x", OTHER, RUNS_MILVUS).replace(r#""serviceName": "n", "#, ""), gate),
        make("a ReplicationController", r#"{"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "n"}, "spec": {"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "milvusdb/milvus:v2.5.5"}]}}}}"#.into(), gate),
        make("a StatefulSet with a wrapper image", workload("StatefulSet", "n", "x", OTHER, WRAPPER), gate),
        make("a Deployment with bitnami's folder", deployment("n", "x", OTHER, &container(r#""image": "acme/v:1", "volumeMounts": [{"name": "m", "mountPath": "/opt/bitnami/milvus/configs"}]"#)), gate),
        make("an init container that stays", deployment("n", "x", OTHER, &format!("{NGINX}], \"initContainers\": [{MILVUS}")), gate),
        make("an operator of Milvus", deployment("n", "x", OTHER, &container(r#""image": "milvusdb/milvus-operator:1""#)), None),
        make("a backup of Milvus", job("n", &container(r#""image": "milvusdb/milvus-backup:1", "args": ["create"]"#)), None),
        run("scale of etcd", &["scale", "-n", "milvus", "statefulset/r-etcd2", "--replicas=0"], below),
        run("scale of a database", &["scale", "-n", "milvus", "statefulset/db", "--replicas=0"], None),
        run("what becomes of etcd's claims", &["patch", "-n", "milvus", "statefulset/r-etcd2", "--type=merge", "-p", r#"{"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}"#], below),
        run("an owner for etcd", &["patch", "-n", "milvus", "statefulset/r-etcd2", "--type=merge", "-p", OWNED], below),
        run("an owner for a claim", &["patch", "-n", "milvus", "pvc/data-r-etcd-0", "--type=merge", "-p", OWNED], below),
        run("an owner for Milvus", &["patch", "-n", "milvus", "deployment/vectors-proxy", "--type=merge", "-p", OWNED], gate),
        run("an owner for a web server", &["patch", "-n", "milvus", "deployment/ingress", "--type=merge", "--dry-run=server", "-p", OWNED], None),
        make("a configuration as bytes", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "binaryData": {"milvus.yaml": "YQ=="}}"#.into(), below),
        make("a Secret with a configuration", r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}, "stringData": {"milvus.yaml": "a: 1"}}"#.into(), None),
        // In a namespace without Milvus, only objects of Milvus.
        Try { what: "elsewhere: Milvus", by: By::Creation("elsewhere"), input: existing[1].clone(), noticed_by: gate },
        Try { what: "elsewhere: etcd", by: By::Creation("elsewhere"), input: existing[4].clone(), noticed_by: Some("elsewhere") },
        Try { what: "elsewhere: a configuration that says whose it is", by: By::Creation("elsewhere"), input: existing[7].replace(r#""vectors""#, r#""r-milvus""#), noticed_by: gate },
        Try { what: "elsewhere: a configuration that does not", by: By::Creation("elsewhere"), input: existing[7].clone(), noticed_by: None },
        Try { what: "elsewhere: Milvus' claim", by: By::Creation("elsewhere"), input: claim(r#""name": "r-milvus""#, "{}"), noticed_by: gate },
        // Helm's records.
        make("an upgrade begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-upgrade"), release),
        make("an installation begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-install"), release),
        make("a rollback begins", record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-rollback"), release),
        make("a record in a ConfigMap", record("ConfigMap", "sh.helm.release.v1.x.v1", "", "pending-upgrade"), release),
        make("an upgrade that is done", record("Secret", "sh.helm.release.v1.x.v1", secret, "deployed"), None),
        make("an uninstallation", record("Secret", "sh.helm.release.v1.x.v1", secret, "uninstalling"), None),
        make("a Secret that is none of Helm's", record("Secret", "n", r#""type": "Opaque","#, "pending-upgrade"), None),
        make("a ConfigMap that is none of Helm's", record("ConfigMap", "n", "", "pending-upgrade"), None),
        make("a Secret", r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}}"#.into(), None),
        // Namespaces that are left alone.
        Try { what: "the guard's namespace", by: By::Kubectl(&["create", "-n", NAMESPACE, "-f", "-"]), input: existing[1].clone(), noticed_by: None },
        Try { what: "kube-system", by: By::Kubectl(&["create", "-n", "kube-system", "-f", "-"]), input: existing[1].clone(), noticed_by: None },
        Try { what: "an excluded one", by: By::Kubectl(&["create", "-n", "sandbox", "-f", "-"]), input: existing[1].clone(), noticed_by: None },
        Try { what: "a record in the guard's namespace", by: By::Kubectl(&["create", "-n", NAMESPACE, "-f", "-"]), input: record("Secret", "sh.helm.release.v1.x.v1", secret, "pending-upgrade"), noticed_by: None },
        // Last, because it also deletes other objects.
        run("a whole collection deleted", &["delete", "--raw=/apis/apps/v1/namespaces/milvus/deployments"], gate),
        // The guard's own documents, in every namespace.
        Try { what: "a policy", by: By::Kubectl(&["create", "-f", "-"]), input: r#"{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "n"}, "spec": {"rules": [{"id": "MG201", "action": "Warn"}]}}"#.into(), noticed_by: Some("documents") },
    ];
    tried(&cluster, &tries);
}

#[test]
fn the_gates_are_called_for_every_relevant_object_of_the_charts() {
    let cluster = ControlPlane::start();
    namespace(&cluster, "milvus");
    let documents = rendered(&[]);
    deaf(&cluster, &documents, &["ValidatingWebhookConfiguration"]);
    let mut renderings = Vec::new();
    for set in charts() {
        for chart in &set {
            for values in [
                &[][..],
                &["cluster.enabled=false"],
                &["nameOverride=vectors", "fullnameOverride=vectors"],
            ] {
                renderings.push((chart.clone(), values, chart.render(Helm::V3, values)));
            }
        }
    }
    // Many objects are alike; the fields that the gate reads differ between the chart versions.
    for (chart, values, rendering) in renderings {
        let tries: Vec<(String, String, Option<&str>)> = manifests(&chart, &rendering)
            .into_iter()
            .map(|object| {
                let kind = text(&object, "/kind");
                let name = text(&object, "/metadata/name");
                let keys = |key: &str| object["data"].get(key).is_some();
                let noticed_by = match kind {
                    "Deployment" | "StatefulSet" if !name.ends_with("attu") => Some("one"),
                    "ConfigMap"
                        if ["milvus.yaml", "default.yaml", "user.yaml"]
                            .into_iter()
                            .any(keys) =>
                    {
                        Some("one")
                    }
                    "PersistentVolumeClaim" if name.contains("milvus") => Some("one"),
                    _ => None,
                };
                (
                    format!(
                        "{} {} {values:?}: {kind} {name}",
                        chart.version, chart.is_real
                    ),
                    object.to_string(),
                    noticed_by,
                )
            })
            .collect();
        assert!(
            tries
                .iter()
                .filter(|(_, _, noticed_by)| noticed_by.is_some())
                .count()
                >= 3,
            "{} {values:?}",
            chart.version
        );
        let tries: Vec<Try<'_>> = tries
            .iter()
            .map(|(what, input, noticed_by)| Try {
                what,
                by: By::Creation("milvus"),
                input: input.clone(),
                noticed_by: *noticed_by,
            })
            .collect();
        tried(&cluster, &tries);
    }
}

/// Workloads, configurations and claims of a rendering.
fn manifests(chart: &Chart, rendering: &str) -> Vec<Value> {
    rendering
        .split("\n---\n")
        .filter(|document| {
            [
                "Deployment",
                "StatefulSet",
                "ConfigMap",
                "PersistentVolumeClaim",
            ]
            .iter()
            .any(|kind| {
                document.contains(&format!("\nkind: {kind}\n"))
                    || document.starts_with(&format!("kind: {kind}\n"))
            })
        })
        .map(|document| {
            // Real charts render some keys twice.
            let mut options = serde_saphyr::Options::default();
            options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
            serde_saphyr::from_str_with_options(document, options)
                .unwrap_or_else(|error| panic!("{}: {error}", chart.version))
        })
        .collect()
}

#[test]
fn the_label_webhook_is_called_only_for_milvus() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    let old = deployment(
        "vectors-proxy",
        "milvus-4.2.40",
        r#"{"app": "vectors"}"#,
        MILVUS,
    );
    expect_success(cluster.kubectl_with_input(["create", "-n", "milvus", "-f", "-"], &old));
    deaf(&cluster, &rendered(&[]), &["MutatingWebhookConfiguration"]);
    let label = Some("label");
    tried(
        &cluster,
        &[
            make("Milvus", deployment("n", "x", OTHER, MILVUS), label),
            make("a web server", deployment("n", "x", OTHER, NGINX), None),
            make(
                "etcd",
                workload(
                    "StatefulSet",
                    "n",
                    "x",
                    OTHER,
                    r#"{"name": "e", "image": "a/etcd:1"}"#,
                ),
                None,
            ),
            run(
                "a label",
                &[
                    "label",
                    "-n",
                    "milvus",
                    "deployment/vectors-proxy",
                    "guard.milvus.io/version=x",
                ],
                label,
            ),
            run(
                "a scale",
                &[
                    "scale",
                    "-n",
                    "milvus",
                    "deployment/vectors-proxy",
                    "--replicas=2",
                ],
                None,
            ),
            run(
                "a deletion",
                &["delete", "-n", "milvus", "deployment/vectors-proxy"],
                None,
            ),
            Try {
                what: "the guard's namespace",
                by: By::Kubectl(&["create", "-n", NAMESPACE, "-f", "-"]),
                input: deployment("n", "x", OTHER, MILVUS),
                noticed_by: None,
            },
        ],
    );
}
