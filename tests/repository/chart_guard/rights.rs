//! Rights of the guard: by RBAC, and by the policy that restricts Hold.
#![allow(clippy::too_many_lines, reason = "tables of cases")]

use std::{process::Output, time::Duration};

use super::{
    ACCOUNT, EVERYTHING, FILES, NAMESPACE, apply_all, foreign_kinds, namespace, of_kind, one,
    registered, render, rendered, text,
};
use milvus_guard_testbed::{ControlPlane, Helm, expect_success, wait_for};
use serde_json::{Value, json};

const KINDS_OF_OTHERS: &str = "workloadGate.extraKinds[0].group=apps.kruise.io,workloadGate.\
                               extraKinds[0].version=v1beta1,workloadGate.extraKinds[0].\
                               resource=statefulsets";

#[test]
fn the_guard_may_read_only_its_own_secrets() {
    for values in [&[][..], &FILES, &EVERYTHING, &["hold.enabled=false"]] {
        let documents = rendered(values);
        let managed = values.is_empty() || values == ["hold.enabled=false"];
        let named = if managed {
            json!(["milvus-guard-tls", "milvus-guard-path"])
        } else {
            json!(["milvus-guard-path"])
        };
        let mut secrets = Vec::new();
        for role in of_kind(&documents, "ClusterRole")
            .into_iter()
            .chain(of_kind(&documents, "Role"))
        {
            for rule in role["rules"].as_array().unwrap() {
                let has = |field: &str, wanted: &str| {
                    rule[field]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|found| found.as_str().unwrap().starts_with(wanted))
                };
                assert!(
                    !has("apiGroups", "*") && !has("resources", "*") && !has("verbs", "*"),
                    "{rule}"
                );
                for verb in ["impersonate", "bind", "escalate"] {
                    assert!(!has("verbs", verb), "{rule}");
                }
                assert!(!has("resources", "serviceaccounts"), "{rule}");
                // Hold reads pods: a component is complete if no pod of its old template is left.
                // It deletes standbys of coordinators (see the test of the policy).
                if has("resources", "pods") {
                    assert_eq!(role["metadata"]["name"], "milvus-guard-hold");
                    assert_eq!(
                        (&rule["resources"], &rule["verbs"]),
                        (&json!(["pods"]), &json!(["get", "list", "watch", "delete"]))
                    );
                }
                // Read access to its own role, which owns the registration and the Reports.
                if has("apiGroups", "rbac") {
                    let own = role["metadata"]["name"].clone();
                    assert_eq!(
                        (&rule["verbs"], &rule["resourceNames"]),
                        (&json!(["get"]), &json!([own]))
                    );
                }
                if has("resources", "secrets") {
                    assert_eq!(role["kind"], "Role", "{rule}");
                    secrets.push((rule["verbs"].clone(), rule["resourceNames"].clone()));
                }
            }
        }
        let own = [
            (json!(["get", "update", "patch"]), named),
            (json!(["create"]), Value::Null),
        ];
        assert_eq!(secrets, own, "{values:?}");
        assert!(
            of_kind(&documents, "ClusterRoleBinding")
                .iter()
                .chain(&of_kind(&documents, "RoleBinding"))
                // The pod of `helm test` may create runs; the guard refuses them.
                .filter(|binding| text(binding, "/metadata/name") != "milvus-guard-test")
                .all(|binding| {
                    binding["subjects"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|subject| text(subject, "/name") == "milvus-guard")
                })
        );
        // The patch right of Hold requires the policy that restricts it.
        let holds = documents
            .iter()
            .any(|document| document.to_string().contains(r#""verbs":["patch"]"#));
        assert_eq!(holds, !values.contains(&"hold.enabled=false"));
        assert_eq!(of_kind(&documents, "ValidatingAdmissionPolicy").len(), 2);
        for binding in of_kind(&documents, "ValidatingAdmissionPolicyBinding") {
            assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        }
    }
}

/// Whether RBAC allows an account of the chart this verb on `resource.group/name`.
fn can(cluster: &ControlPlane, account: &str, verb: &str, what: &str, inside: &str) -> bool {
    let (resource, name) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{NAMESPACE}:{account}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{NAMESPACE}"), "system:authenticated"],
            "resourceAttributes": {"namespace": inside, "verb": verb, "group": group, "resource": resource, "name": name},
        },
    });
    let answer = cluster.post(
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        &review,
    );
    assert_eq!(answer.status, 201, "{}", answer.body);
    let review: Value = serde_json::from_str(&answer.body).unwrap();
    review["status"]["allowed"].as_bool().unwrap()
}

#[test]
fn a_real_api_server_accepts_all_objects_and_grants_only_these_rights() {
    let cluster = ControlPlane::builder().controller_manager(true).start();
    for name in [NAMESPACE, "milvus-a", "milvus-b", "restricted"] {
        namespace(&cluster, name);
    }
    foreign_kinds(&cluster);
    for values in [&FILES[..], &EVERYTHING, &[]] {
        // Helm also deletes the pod of its test before it creates it again.
        let test = [
            "delete",
            "pod/milvus-guard-test",
            "-n",
            NAMESPACE,
            "--force",
        ];
        expect_success(cluster.kubectl(test.into_iter().chain(["--ignore-not-found"])));
        expect_success(cluster.kubectl_with_input(
            [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "-f",
                "-",
            ],
            &render(Helm::V4, values),
        ));
    }

    // The API server checks the expressions of the policy.
    for name in ["hold", "uninstall"] {
        let policy = format!(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/milvus-guard-{name}"
        );
        wait_for(
            "the check of the policy's expressions",
            Duration::from_secs(60),
            || {
                cluster
                    .get_json(&policy)
                    .pointer("/status/typeChecking")
                    .is_some()
            },
        );
        let checked = cluster.get_json(&policy);
        assert_eq!(
            checked.pointer("/status/typeChecking/expressionWarnings"),
            None,
            "{checked:#}"
        );
    }
    // The whole registration, to check its expressions and selectors.
    for values in [
        &FILES[..],
        &EVERYTHING,
        &["workloadGate.secrets=true", KINDS_OF_OTHERS],
    ] {
        for configuration in registered(&rendered(values), &["milvus-a"]) {
            let apply = [
                "apply",
                "--server-side",
                "--force-conflicts",
                "--validate=strict",
                "--dry-run=server",
                "-f",
                "-",
            ];
            expect_success(cluster.kubectl_with_input(apply, &configuration.to_string()));
        }
    }

    // The guard's pods are allowed in a namespace that enforces the restricted profile.
    expect_success(cluster.kubectl([
        "label",
        "namespace",
        "restricted",
        "pod-security.kubernetes.io/enforce=restricted",
    ]));
    for values in [&[][..], &EVERYTHING] {
        let documents = rendered(values);
        let template = &one(&documents, "Deployment")["spec"]["template"];
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!("pod");
        let create = [
            "create",
            "-n",
            "restricted",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        expect_success(cluster.kubectl_with_input(create, &pod.to_string()));
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        assert!(
            !cluster
                .kubectl_with_input(create, &pod.to_string())
                .status
                .success(),
            "the namespace must enforce the restricted profile"
        );
    }

    // The rights of the guard, as the API server reports them. First without Hold.
    let without_hold = render(Helm::V4, &["hold.enabled=false"]);
    expect_success(cluster.kubectl([
        "delete",
        "clusterrolebinding",
        "milvus-guard-hold",
        "--ignore-not-found",
    ]));
    expect_success(
        cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &without_hold),
    );
    for (verb, what, inside, expected) in [
        ("get", "secrets/milvus-guard-tls", NAMESPACE, true),
        ("get", "secrets/milvus-guard-path", NAMESPACE, true),
        ("get", "secrets/other", NAMESPACE, false),
        ("list", "secrets", NAMESPACE, false),
        ("watch", "secrets", NAMESPACE, false),
        ("get", "secrets/milvus-guard-tls", "default", false),
        ("create", "secrets", "default", false),
        ("list", "deployments.apps", "default", true),
        ("patch", "deployments.apps", "default", false),
        ("update", "deployments.apps", "default", false),
        ("delete", "persistentvolumeclaims", "default", false),
        (
            "patch",
            "configmaps/milvus-guard-memory.milvus",
            NAMESPACE,
            true,
        ),
        (
            "delete",
            "configmaps/milvus-guard-memory.milvus",
            NAMESPACE,
            true,
        ),
        ("patch", "configmaps/other", "default", false),
        ("update", "leases.coordination.k8s.io", NAMESPACE, true),
        ("update", "leases.coordination.k8s.io", "kube-system", false),
        ("create", "upgraderuns.guard.milvus.io", NAMESPACE, true),
        ("create", "upgraderuns.guard.milvus.io", "default", false),
        ("list", "upgraderuns.guard.milvus.io", "default", true),
        (
            "patch",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "patch",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/other",
            "default",
            false,
        ),
        (
            "delete",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "delete",
            "validatingwebhookconfigurations.admissionregistration.k8s.io/other",
            "default",
            false,
        ),
        // RBAC cannot restrict `create` to a name.
        (
            "create",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "default",
            true,
        ),
        (
            "list",
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "default",
            false,
        ),
        (
            "get",
            "clusterroles.rbac.authorization.k8s.io/milvus-guard",
            "default",
            true,
        ),
        (
            "get",
            "clusterroles.rbac.authorization.k8s.io/cluster-admin",
            "default",
            false,
        ),
    ] {
        assert_eq!(
            can(&cluster, "milvus-guard", verb, what, inside),
            expected,
            "{verb} {what} in {inside}"
        );
        assert!(
            !can(&cluster, "milvus-guard-job", verb, what, inside),
            "the job's account: {verb} {what} in {inside}"
        );
    }

    // Hold in every namespace, and in some namespaces.
    for (value, expected) in [
        ("hold.enabled=true", [true, true, true]),
        ("hold.namespaces={milvus-a,milvus-b}", [true, true, false]),
    ] {
        let rendered = render(Helm::V4, &["hold.enabled=true", value]);
        expect_success(
            cluster.kubectl_with_input(["apply", "--server-side", "-f", "-"], &rendered),
        );
        for (inside, expected) in ["milvus-a", "milvus-b", "default"]
            .into_iter()
            .zip(expected)
        {
            assert_eq!(
                can(
                    &cluster,
                    "milvus-guard",
                    "patch",
                    "deployments.apps",
                    inside
                ),
                expected,
                "{value} in {inside}"
            );
        }
        expect_success(cluster.kubectl([
            "delete",
            "clusterrolebinding",
            "milvus-guard-hold",
            "--ignore-not-found",
        ]));
    }
}

const STRANGER: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {team: web}, annotations: {owner: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
"#;

#[test]
fn the_policy_of_hold_only_allows_to_pause_deployments() {
    let cluster = ControlPlane::start();
    for name in [NAMESPACE, "milvus"] {
        namespace(&cluster, name);
    }
    // Without the webhooks: this test is about the policy.
    let documents = rendered(&["hold.enabled=true"]);
    apply_all(&cluster, &documents);
    let create = ["create", "-n", "milvus", "-f", "-"];
    expect_success(cluster.kubectl_with_input(create, STRANGER));
    let stateful = STRANGER
        .replace("Deployment", "StatefulSet")
        .replace("spec:\n  replicas", "spec:\n  serviceName: web\n  replicas");
    expect_success(cluster.kubectl_with_input(create, &stateful));

    let kubeconfig = cluster.kubeconfig_for_service_account(NAMESPACE, "milvus-guard");
    let guard = |args: &[&str]| {
        cluster
            .kubectl_command()
            .env("KUBECONFIG", &kubeconfig)
            .args(["-n", "milvus"])
            .args(args)
            .output()
            .unwrap()
    };
    // RBAC allows the guard only to patch.
    let denied = guard(&["delete", "deployment", "web"]);
    assert!(
        String::from_utf8_lossy(&denied.stderr).contains("cannot delete resource"),
        "{denied:?}"
    );
    // A user grants the guard too many rights.
    expect_success(cluster.kubectl([
        "create",
        "clusterrolebinding",
        "too-well",
        "--clusterrole=cluster-admin",
        &format!("--user={ACCOUNT}"),
    ]));

    let patch =
        |kind: &str, patch: &str| guard(&["patch", kind, "web", "--type=merge", "-p", patch]);
    let is_denied = |output: &Output| {
        String::from_utf8_lossy(&output.stderr)
            .contains("ValidatingAdmissionPolicy 'milvus-guard-hold'")
    };
    let image = r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}}"#;
    wait_for("the policy to be in force", Duration::from_secs(30), || {
        let output = guard(&[
            "patch",
            "deployment",
            "web",
            "--type=merge",
            "--dry-run=server",
            "-p",
            image,
        ]);
        is_denied(&output)
    });

    for allowed in [
        r#"{"spec": {"paused": true}}"#,
        r#"{"spec": {"paused": false}}"#,
        r#"{"spec": {"paused": null}}"#,
        r#"{"spec": {"paused": true}, "metadata": {"annotations": {"guard.milvus.io/held": "1"}, "labels": {"guard.milvus.io/version": "2.5.5"}}}"#,
        r#"{"metadata": {"labels": {"app.kubernetes.io/version": "2.5.5"}}}"#,
        r#"{"spec": {"paused": null}, "metadata": {"annotations": {"guard.milvus.io/held": null}, "labels": {"guard.milvus.io/version": null}}}"#,
        r#"{"metadata": {"annotations": {"guard.milvus.io/held": "2"}}}"#,
    ] {
        let output = patch("deployment", allowed);
        assert!(output.status.success(), "{allowed}: {output:?}");
    }
    for denied in [
        image,
        r#"{"spec": {"paused": true, "replicas": 0}}"#,
        r#"{"spec": {"replicas": 0}}"#,
        r#"{"spec": {"minReadySeconds": 5}}"#,
        r#"{"spec": {"revisionHistoryLimit": 1}}"#,
        r#"{"spec": {"progressDeadlineSeconds": 9}}"#,
        r#"{"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}"#,
        r#"{"spec": {"template": {"metadata": {"annotations": {"guard.milvus.io/x": "1"}}}}}"#,
        r#"{"spec": {"template": {"spec": {"serviceAccountName": "milvus-guard-job"}}}}"#,
        r#"{"metadata": {"annotations": {"owner": "me"}}}"#,
        r#"{"metadata": {"annotations": {"owner": null}}}"#,
        r#"{"metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}}"#,
        r#"{"metadata": {"labels": {"team": "me"}}}"#,
        r#"{"metadata": {"labels": null}}"#,
        r#"{"metadata": {"labels": {"guard.milvus.iox/version": "1"}}}"#,
        r#"{"metadata": {"finalizers": ["guard.milvus.io/x"]}}"#,
    ] {
        let output = patch("deployment", denied);
        assert!(is_denied(&output), "{denied}: {output:?}");
    }
    for denied in [
        &["scale", "deployment/web", "--replicas=0"][..],
        &["delete", "deployment", "web"],
        &["delete", "statefulset", "web"],
        &[
            "patch",
            "statefulset",
            "web",
            "--type=merge",
            "-p",
            r#"{"metadata": {"annotations": {"guard.milvus.io/x": "1"}}}"#,
        ],
        &[
            "patch",
            "deployment",
            "web",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status": {"replicas": 9}}"#,
        ],
        &["create", "deployment", "other", "--image=nginx"],
    ] {
        let output = guard(denied);
        assert!(is_denied(&output), "{denied:?}: {output:?}");
    }
    may_delete_pods_of_coordinators_and_proxies(&cluster, &guard, &is_denied);
    // The policy does not restrict other accounts.
    expect_success(cluster.kubectl([
        "patch",
        "deployment",
        "web",
        "-n",
        "milvus",
        "--type=merge",
        "-p",
        image,
    ]));
    expect_success(cluster.kubectl(["scale", "deployment/web", "-n", "milvus", "--replicas=0"]));
}

/// The guard may delete pods of coordinators and proxies; it may not delete other pods, and not
/// change or create any.
fn may_delete_pods_of_coordinators_and_proxies(
    cluster: &ControlPlane,
    guard: &impl Fn(&[&str]) -> Output,
    is_denied: &impl Fn(&Output) -> bool,
) {
    let pod = |name: &str, labels: Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "namespace": "milvus"},
            "spec": {"containers": [{"name": "web", "image": "nginx:1"}]}});
        expect_success(cluster.kubectl_with_input(["create", "-f", "-"], &pod.to_string()));
    };
    pod("rootcoord", json!({"component": "rootcoord"}));
    pod(
        "mixcoord",
        json!({"app.kubernetes.io/component": "mixcoord"}),
    );
    pod("proxy", json!({"component": "proxy"}));
    pod("querynode", json!({"component": "querynode"}));
    pod("other", json!({"app": "rootcoord"}));
    pod("bare", Value::Null);
    for denied in [
        &[
            "delete",
            "pod",
            "querynode",
            "--grace-period=1",
            "--wait=false",
        ][..],
        &["delete", "pod", "other", "--wait=false"],
        &["delete", "pod", "bare", "--wait=false"],
        &["annotate", "pod", "rootcoord", "guard.milvus.io/x=1"],
        &["annotate", "pod", "proxy", "guard.milvus.io/x=1"],
        &["run", "more", "--image=nginx:1"],
    ] {
        let output = guard(denied);
        assert!(is_denied(&output), "{denied:?}: {output:?}");
    }
    for name in ["rootcoord", "mixcoord", "proxy"] {
        expect_success(guard(&[
            "delete",
            "pod",
            name,
            "--grace-period=1",
            "--wait=false",
        ]));
    }
}
