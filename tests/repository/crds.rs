//! The definitions of the guard's objects on a real API server: what it accepts, what it refuses
//! and with which message.
#![allow(clippy::too_many_lines)]

use crate::common::install_definitions;
use milvus_guard_core::{
    api::{ReleaseDecision, UpgradeRun},
    policy::{PolicyDocument, read::read},
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::{ControlPlane, expect_success};
use serde_json::{Value, json};

const API: &str = "/apis/guard.milvus.io/v1alpha1";

const POLICY: &str = r#"apiVersion: guard.milvus.io/v1alpha1
kind: UpgradePolicy
metadata: {name: careful, labels: {team: platform}, annotations: {note: x}}
spec:
  priority: 10
  match:
    namespaces: [prod]
    namespaceSelector:
      matchLabels: {stage: prod}
      matchExpressions: [{key: tier, operator: In, values: [gold]}, {key: old, operator: DoesNotExist}]
    releases: [my-release]
  selfAccept: [MG201]
  rules:
  - {id: MG207, action: Warn, params: {strict: true}}
  - {id: MG201, action: Hold}
  - {id: MG105, action: Off}
  - {id: MG106, action: "Off"}
  - {id: MG504, action: Audit}
"#;

const EXCEPTION: &str = r#"apiVersion: guard.milvus.io/v1alpha1
kind: UpgradeException
metadata: {name: ticket-7}
spec:
  rules: [MG201, MG206]
  namespace: prod
  release: my-release
  from: "2.5.4"
  to: ">=2.5.16, <2.6.0"
  reason: the window is short
  owner: platform
  expires: 2026-01-31T00:00:00Z
"#;

/// A run with all fields.
fn whole_run() -> Value {
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "my-release-1", "namespace": "default"},
        "spec": {
            "kind": "Migration", "release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16",
            "plan": [
                {"id": "stop", "title": "Stop all", "action": "Stop"},
                {"id": "update-querynode", "title": "Update the query nodes", "component": "querynode", "workload": "q-0", "action": "Update"},
            ],
            "planHash": "sha256:1", "image": "milvusdb/milvus:v2.2.16", "requestedBy": "me",
        },
        "status": {
            "phase": "RollingBack",
            "step": {"id": "stop", "index": 0, "stage": "Begun", "attempts": 2, "since": "2026-01-01T00:00:00.123456Z", "waitingFor": "sessions"},
            "observedGeneration": 1, "startedAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:01Z",
            "holder": "pod-uid", "fence": 3,
            "originals": [{
                "kind": "Deployment", "name": "my-release-proxy", "uid": "u-1", "component": "proxy", "replicas": 0,
                "images": [{"container": "proxy", "image": "milvusdb/milvus:v2.1.4"}, {"container": "config", "image": "x", "init": true}],
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "fields": [{"path": "/spec/minReadySeconds"}, {"path": "/spec/paused", "value": false}, {"path": "/x", "value": {"a": [1, "b"]}}],
            }],
            "backup": {"location": "pvc/b/1.bak", "sha256": "a".repeat(64), "revision": 9_007_199_254_740_993_i64, "records": 100_000},
            "conditions": [{"type": "MetadataMigrated", "status": "False", "reason": "RolledBack", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
            "evidence": {"release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16", "rootPath": "by-dev",
                "etcdClusterId": "cdf8", "endpoints": ["etcd:2379"], "workloadUids": ["u-1"]},
            "history": [{"time": "2026-01-01T00:00:00Z", "reason": "StepBegun", "step": "stop", "message": "m"}],
            "message": "rolling back",
        },
    })
}

fn decision() -> Value {
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "ReleaseDecision",
        "metadata": {"name": "milvus.my-release", "namespace": "default"},
        "spec": {
            "release": "my-release", "namespace": "milvus", "revision": 8, "driver": "secret", "verdict": "warn",
            "acceptedRules": [{"rule": "MG201", "by": "label", "reference": "MG201-r8"}, {"rule": "MG205", "by": "exception", "reference": "ticket-7"}],
            "objects": [{"kind": "Deployment", "name": "a", "digest": "sha256:1"}, {"kind": "ConfigMap", "name": "a", "digest": "sha256:2"}],
            "expires": "2026-01-01T00:30:00Z",
        },
    })
}

/// Applies one document; the error is the output of kubectl.
fn applied(cluster: &ControlPlane, document: &str) -> Result<(), String> {
    let output = cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], document);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn patched(cluster: &ControlPlane, what: &[&str], patch: &Value) -> Result<(), String> {
    let output = cluster.kubectl(["patch"].iter().chain(what).copied().chain([
        "--type=merge",
        "-p",
        &patch.to_string(),
    ]));
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn table(cluster: &ControlPlane, args: &[&str]) -> Vec<Vec<String>> {
    let output = cluster.kubectl(["get"].iter().chain(args));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    expect_success(output);
    text.lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .collect()
}

/// Runs a function with the guard's client.
fn connected<T>(cluster: &ControlPlane, job: impl AsyncFnOnce(Cluster) -> T) -> T {
    let access = Access {
        kubeconfig: Some(cluster.kubeconfig().to_owned()),
        context: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { job(Cluster::connect(&access).await.unwrap()).await })
}

/// Reads the policies from the cluster as the guard does.
fn policies(cluster: &ControlPlane) -> Vec<PolicyDocument> {
    let (documents, unusable) =
        connected(cluster, async |cluster| cluster.policies().await.unwrap());
    assert!(unusable.is_empty(), "{unusable:?}");
    documents
}

fn content(document: &PolicyDocument) -> Value {
    match document {
        PolicyDocument::Policy(policy, _) => serde_json::to_value(policy).unwrap(),
        PolicyDocument::Exception(exception, _) => serde_json::to_value(exception).unwrap(),
    }
}

#[test]
fn definitions_are_served_and_valid_documents_are_stored_unchanged() {
    let cluster = ControlPlane::start();
    install_definitions(&cluster);
    install_definitions(&cluster);
    let definitions = cluster.get_json("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    let definitions = definitions["items"].as_array().unwrap();
    assert_eq!(definitions.len(), 4);
    for definition in definitions {
        for condition in definition["status"]["conditions"].as_array().unwrap() {
            assert!(
                ["NamesAccepted", "Established"].contains(&condition["type"].as_str().unwrap())
                    && condition["status"] == "True",
                "{condition:#}"
            );
        }
    }

    for text in [POLICY, EXCEPTION] {
        applied(&cluster, text).unwrap();
    }
    // The status that the guard writes is not part of the document.
    let ready = |reason: &str| {
        json!({"status": {"observedGeneration": 1, "rules": "MG201=Hold MG105=Off",
            "conditions": [{"type": "Ready", "status": "True", "reason": reason, "message": "in force", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
            "lints": [{"severity": "Warning", "message": "strict changes nothing"}]}})
    };
    patched(
        &cluster,
        &["upol", "careful", "--subresource=status"],
        &ready("InForce"),
    )
    .unwrap();
    patched(
        &cluster,
        &["uex", "ticket-7", "--subresource=status"],
        &ready("InForce"),
    )
    .unwrap();
    let wanted: Vec<Value> = [POLICY, EXCEPTION]
        .iter()
        .flat_map(|text| read(text, "file").0)
        .map(|document| content(&document))
        .collect();
    let found: Vec<Value> = policies(&cluster).iter().map(content).collect();
    assert_eq!(found, wanted);

    let rows = table(&cluster, &["upol"]);
    assert_eq!(rows[0], ["NAME", "PRIORITY", "RULES", "READY", "AGE"]);
    assert_eq!(
        rows[1][..4],
        ["careful", "10", "MG201=Hold MG105=Off", "True"]
    );
    let rows = table(&cluster, &["uex"]);
    assert_eq!(
        rows[0],
        [
            "NAME",
            "RELEASE",
            "NAMESPACE",
            "RULES",
            "OWNER",
            "EXPIRES",
            "STATE",
            "AGE"
        ]
    );
    assert_eq!(
        rows[1][..7],
        [
            "ticket-7",
            "my-release",
            "prod",
            r#"["MG201","MG206"]"#,
            "platform",
            "2026-01-31T00:00:00Z",
            "InForce"
        ]
    );

    // Client-side apply works too.
    expect_success(cluster.kubectl_with_input(["apply", "-f", "-"], POLICY));
    let explained =
        String::from_utf8(cluster.kubectl(["explain", "uex.spec.expires"]).stdout).unwrap();
    assert!(explained.contains("at most 30 days ahead"), "{explained}");
}

#[test]
fn invalid_documents_are_refused_with_a_helpful_message() {
    let cluster = ControlPlane::start();
    install_definitions(&cluster);
    let exact = "exactly, without wildcards";
    let id = "name a rule by its id, such as MG201";
    for (what, document, old, new, says) in [
        (
            "an unknown action",
            POLICY,
            "action: Warn",
            "action: Deny",
            r#"supported values: "Enforce", "Hold", "Warn", "Audit", "Off""#,
        ),
        (
            "true",
            POLICY,
            "action: Warn",
            "action: yes",
            "spec.rules[0].action: Unsupported value: true",
        ),
        (
            "an action that is not a string",
            POLICY,
            "action: Warn",
            "action: {a: 1}",
            "spec.rules[0].action: Unsupported value",
        ),
        (
            "no action",
            POLICY,
            "action: Warn, ",
            "",
            "spec.rules[0].action: Required value",
        ),
        ("lower case", POLICY, "id: MG207", "id: mg207", id),
        (
            "the name of a rule",
            POLICY,
            "id: MG207",
            "id: graceful-stop",
            id,
        ),
        ("a pattern of rules", POLICY, "id: MG207", "id: MG2*", id),
        (
            "a rule set twice",
            POLICY,
            "id: MG207",
            "id: MG201",
            r#"duplicate entries for key [id="MG201"]"#,
        ),
        (
            "a pattern of namespaces",
            POLICY,
            "[prod]",
            "[\"prod-*\"]",
            exact,
        ),
        (
            "a pattern of releases",
            POLICY,
            "[my-release]",
            "[\"*\"]",
            exact,
        ),
        (
            "a pattern of acceptances",
            POLICY,
            "selfAccept: [MG201]",
            "selfAccept: [\"*\"]",
            id,
        ),
        (
            "a huge priority",
            POLICY,
            "priority: 10",
            "priority: 2000000000",
            "less than or equal to 1000000000",
        ),
        (
            "an unknown field",
            POLICY,
            "priority: 10",
            "prio: 10",
            ".spec.prio: field not declared in schema",
        ),
        (
            "an unknown parameter",
            POLICY,
            "strict: true",
            "strictly: true",
            "strictly: field not declared in schema",
        ),
        (
            "an unknown operator",
            POLICY,
            "operator: In",
            "operator: Is",
            r#"supported values: "In", "NotIn""#,
        ),
        ("no rule", EXCEPTION, "[MG201, MG206]", "[]", "spec.rules"),
        (
            "a pattern of rules",
            EXCEPTION,
            "[MG201, MG206]",
            "[\"MG*\"]",
            id,
        ),
        (
            "the same rule twice",
            EXCEPTION,
            "[MG201, MG206]",
            "[MG201, MG201]",
            "duplicate entries",
        ),
        (
            "a pattern of namespaces",
            EXCEPTION,
            "namespace: prod",
            "namespace: \"prod-*\"",
            exact,
        ),
        (
            "a pattern of releases",
            EXCEPTION,
            "release: my-release",
            "release: \"*\"",
            exact,
        ),
        (
            "no release",
            EXCEPTION,
            "  release: my-release\n",
            "",
            "spec.release: Required value",
        ),
        (
            "a blank reason",
            EXCEPTION,
            "the window is short",
            "\"  \"",
            "a reason must be given",
        ),
        (
            "an empty owner",
            EXCEPTION,
            "owner: platform",
            "owner: \"\"",
            "an owner must be given",
        ),
        (
            "no owner",
            EXCEPTION,
            "  owner: platform\n",
            "",
            "spec.owner: Required value",
        ),
        (
            "no end",
            EXCEPTION,
            "  expires: 2026-01-31T00:00:00Z\n",
            "",
            "spec.expires: Required value",
        ),
        (
            "a day as end",
            EXCEPTION,
            "2026-01-31T00:00:00Z",
            "2026-01-31",
            "must be of type date-time",
        ),
        (
            "a time without zone",
            EXCEPTION,
            "2026-01-31T00:00:00Z",
            "2026-01-31T00:00:00",
            "must be of type date-time",
        ),
        (
            "a version without quotes",
            EXCEPTION,
            "\"2.5.4\"",
            "2.5",
            "spec.from: expected string",
        ),
        (
            "a version with a wildcard",
            EXCEPTION,
            "\"2.5.4\"",
            "2.5.x",
            "a version, such as 2.5.27, or a range of versions",
        ),
    ] {
        let bad = document.replace(old, new);
        assert_ne!(bad, document, "{what}");
        let refusal = applied(&cluster, &bad).expect_err(what);
        assert!(refusal.contains(says), "{what}: {refusal}");
    }
    assert!(policies(&cluster).is_empty());
}

#[test]
fn runs_and_decisions_keep_all_their_fields() {
    let cluster = ControlPlane::start();
    install_definitions(&cluster);
    let run = whole_run();
    applied(&cluster, &run.to_string()).unwrap();
    let path = format!("{API}/namespaces/default/upgraderuns/my-release-1");
    let stored = cluster.get_json(&path);
    assert_eq!(
        stored.get("status"),
        None,
        "the status must only be written separately"
    );
    let pending: UpgradeRun = serde_json::from_value(stored).unwrap();
    assert!(pending.is_under_way());
    patched(
        &cluster,
        &["urun", "my-release-1", "--subresource=status"],
        &json!({"status": run["status"], "spec": {"planHash": "x"}}),
    )
    .unwrap();

    let stored: UpgradeRun = serde_json::from_value(cluster.get_json(&path)).unwrap();
    let wanted: UpgradeRun = serde_json::from_value(run.clone()).unwrap();
    assert_eq!(
        (&stored.spec, &stored.status),
        (&wanted.spec, &wanted.status)
    );
    let mut whole = serde_json::to_value(&stored).unwrap();
    whole["metadata"] = run["metadata"].clone();
    assert_eq!(whole, run, "every field of the example must be kept");

    let facts = connected(&cluster, async |cluster| cluster.runs().await.unwrap());
    let (runs, migrations) = (facts.runs.unwrap(), facts.migrations.unwrap());
    assert_eq!(
        (runs[0].run.as_str(), runs[0].phase.as_str()),
        ("default/my-release-1", "RollingBack")
    );
    assert_eq!(
        (migrations[0].root_path.as_str(), migrations[0].migrated),
        ("by-dev", false)
    );

    let rows = table(&cluster, &["urun"]);
    assert_eq!(
        rows[0],
        [
            "NAME", "KIND", "RELEASE", "FROM", "TO", "PHASE", "STEP", "AGE"
        ]
    );
    assert_eq!(
        rows[1][..7],
        [
            "my-release-1",
            "Migration",
            "my-release",
            "2.1.4",
            "2.2.16",
            "RollingBack",
            "stop"
        ]
    );

    for (field, other) in [
        ("planHash", json!("sha256:2")),
        ("release", json!("other")),
        ("namespace", json!("other")),
        ("kind", json!("Rolling")),
        ("from", json!("2.1.0")),
        ("to", json!("2.3.0")),
        (
            "plan",
            json!([{"id": "update-querynode", "title": "t", "action": "Update"}]),
        ),
        ("image", json!("other:v1")),
        ("image", Value::Null),
    ] {
        let refusal = patched(
            &cluster,
            &["urun", "my-release-1"],
            &json!({"spec": {field: other}}),
        )
        .expect_err(field);
        assert!(
            refusal.contains(&format!("{field} must not change")),
            "{field}: {refusal}"
        );
    }
    patched(
        &cluster,
        &["urun", "my-release-1"],
        &json!({"spec": {"requestedBy": "you"}, "status": {"phase": "Aborted"}}),
    )
    .unwrap();
    assert_eq!(
        cluster.get_json(&path)["status"]["phase"],
        "RollingBack",
        "the status must only be written by the subresource"
    );
    for (status, says) in [
        (
            json!({"phase": "Dreaming"}),
            r#"supported values: "Pending", "Running""#,
        ),
        (
            json!({"backup": {"sha256": "short"}}),
            "status.backup.sha256",
        ),
        (
            json!({"startedAt": "yesterday"}),
            "must be of type date-time",
        ),
    ] {
        let refusal = patched(
            &cluster,
            &["urun", "my-release-1", "--subresource=status"],
            &json!({"status": status}),
        )
        .unwrap_err();
        assert!(refusal.contains(says), "{says}: {refusal}");
    }

    applied(&cluster, &decision().to_string()).unwrap();
    let stored = cluster.get_json(&format!(
        "{API}/namespaces/default/releasedecisions/milvus.my-release"
    ));
    let stored: ReleaseDecision = serde_json::from_value(stored).unwrap();
    assert_eq!(
        serde_json::to_value(&stored.spec).unwrap(),
        decision()["spec"]
    );
    let rows = table(&cluster, &["releasedecisions"]);
    assert_eq!(
        rows[0],
        ["NAME", "RELEASE", "REVISION", "VERDICT", "EXPIRES"]
    );
    assert_eq!(
        rows[1],
        [
            "milvus.my-release",
            "my-release",
            "8",
            "warn",
            "2026-01-01T00:30:00Z"
        ]
    );
    patched(
        &cluster,
        &["releasedecision", "milvus.my-release"],
        &json!({"spec": {"revision": 9}}),
    )
    .unwrap();
    let refusal = patched(
        &cluster,
        &["releasedecision", "milvus.my-release"],
        &json!({"spec": {"release": "other"}}),
    )
    .unwrap_err();
    assert!(refusal.contains("release must not change"), "{refusal}");
}
