//! Objects that tests create: of Milvus, of its dependencies, of other applications.

pub(super) const RUNS_MILVUS: &str = r#"{"name": "c", "image": "milvusdb/milvus:v2.5.5"}"#;

/// A container without the word `milvus` in its image, command and name.
pub(super) const WRAPPER: &str = r#"{"name": "c", "image": "acme/vectors:1", "command": ["/start"], "volumeMounts": [{"name": "m", "mountPath": "/milvus/configs/operator"}]}"#;

pub(super) const MILVUS: &str =
    r#"{"name": "proxy", "image": "milvusdb/milvus:v2.5.5", "args": ["milvus", "run", "proxy"]}"#;

pub(super) const NGINX: &str = r#"{"name": "web", "image": "nginx:1"}"#;

pub(super) const OTHER: &str = r#"{"app": "web"}"#;

pub(super) fn workload(
    kind: &str,
    name: &str,
    chart: &str,
    selector: &str,
    container: &str,
) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "{kind}", "metadata": {{"name": "{name}", "labels": {{"helm.sh/chart": "{chart}"}}}},
            "spec": {{"serviceName": "{name}", "selector": {{"matchLabels": {selector}}},
            "template": {{"metadata": {{"labels": {selector}}}, "spec": {{{}}}}}}}}}"#,
        with_mount(container)
    )
}

pub(super) fn deployment(name: &str, chart: &str, selector: &str, container: &str) -> String {
    workload("Deployment", name, chart, selector, container)
        .replace(&format!(r#""serviceName": "{name}", "#), "")
}

pub(super) fn claim(name: &str, labels: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {{{name}, "labels": {labels}}},
            "spec": {{"accessModes": ["ReadWriteOnce"], "resources": {{"requests": {{"storage": "1Gi"}}}}}}}}"#
    )
}

pub(super) fn record(kind: &str, name: &str, secret_type: &str, status: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "{kind}", {secret_type}
            "metadata": {{"name": "{name}", "labels": {{"owner": "helm", "status": "{status}", "name": "x", "version": "1"}}}}}}"#
    )
}

pub(super) fn pod(name: &str, container: &str, owners: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"{owners}}}, "spec": {{{spec}}}}}"#
    )
}

pub(super) fn job(name: &str, container: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "batch/v1", "kind": "Job", "metadata": {{"name": "{name}"}},
            "spec": {{"template": {{"spec": {{"restartPolicy": "Never", {spec}}}}}}}}}"#
    )
}

pub(super) fn cron_job(name: &str, container: &str) -> String {
    let spec = with_mount(container);
    format!(
        r#"{{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {{"name": "{name}"}}, "spec": {{"schedule": "0 0 * * *",
            "jobTemplate": {{"spec": {{"template": {{"spec": {{"restartPolicy": "Never", {spec}}}}}}}}}}}}}"#
    )
}

pub(super) fn with_mount(container: &str) -> String {
    let volumes = r#", "volumes": [{"name": "m", "emptyDir": {}}]"#;
    format!(
        r#""containers": [{container}]{}"#,
        if container.contains("volumeMounts") {
            volumes
        } else {
            ""
        }
    )
}
