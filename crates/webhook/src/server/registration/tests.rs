//! The registration that the leader writes.

use milvus_guard_core::policy::resolve::HOLD_SCOPE;

use super::*;
use serde_json::json;

const TEMPLATE: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {labels: {a: b}}
webhooks:
- name: workload
  clientConfig: {service: {name: g, namespace: n, path: /validate}}
- name: here
  clientConfig: {url: 'https://127.0.0.1:1/validate/'}
  namespaceSelector:
    matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: [n]}
    - {key: kubernetes.io/metadata.name, operator: In, values: ['@milvus-namespaces']}
- name: elsewhere
  clientConfig: {service: {name: g, namespace: n, path: /validate}, caBundle: eA==}
  namespaceSelector:
    matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [n, '@milvus-namespaces']}]
";

fn completed_with(namespaces: &[&str], bundle: Option<&str>) -> Value {
    let namespaces = namespaces.iter().map(ToString::to_string).collect();
    let additions = Additions {
        name: "g",
        owner: Some(("role", "uid-1")),
        bundle,
        token: "t0",
        namespaces: &namespaces,
        holds: &HoldScope::Everywhere,
    };
    completed(&parse(TEMPLATE).unwrap()[0], &additions)
}

#[test]
fn owner_path_authority_and_namespaces_are_added_to_the_template() {
    let object = completed_with(&["a", "n"], Some("Yg=="));
    assert_eq!(object["metadata"]["name"], "g");
    assert_eq!(object["metadata"]["annotations"][HOLD_SCOPE], "*");
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    assert_eq!(
        object["webhooks"][0]["clientConfig"]["service"]["path"],
        "/validate/t0"
    );
    assert_eq!(
        object["webhooks"][1]["clientConfig"]["url"],
        "https://127.0.0.1:1/validate/t0"
    );
    assert!(
        object["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|webhook| webhook["clientConfig"]["caBundle"] == "Yg==")
    );
    let values = |at: usize, expression: usize| {
        object["webhooks"][at]["namespaceSelector"]["matchExpressions"][expression]["values"]
            .clone()
    };
    assert_eq!(
        (values(1, 0), values(1, 1), values(2, 0)),
        (json!(["n"]), json!(["a", "n"]), json!(["n", "a"]))
    );
}

#[test]
fn without_milvus_the_webhook_for_milvus_namespaces_is_left_out() {
    let object = completed_with(&[], None);
    let names: Vec<_> = object["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|webhook| webhook["name"].clone())
        .collect();
    assert_eq!(names, ["workload", "elsewhere"]);
    assert_eq!(
        object["webhooks"][1]["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["n"])
    );
    assert_eq!(
        object["webhooks"][1]["clientConfig"]["caBundle"], "eA==",
        "the authority of the template stays"
    );
}

#[test]
fn a_template_must_contain_only_webhook_configurations_and_one_of_each_kind() {
    for (text, reason) in [
        ("", "not contain a webhook configuration"),
        ("kind: Secret", "'Secret'"),
        (
            "kind: MutatingWebhookConfiguration\n---\nkind: MutatingWebhookConfiguration",
            "more than one",
        ),
        ("a: [", "line"),
    ] {
        assert!(
            parse(text).unwrap_err().contains(reason),
            "{text}: {:?}",
            parse(text)
        );
    }
}

#[test]
fn fields_of_the_api_server_are_ignored_and_changes_by_others_are_detected() {
    let wanted = completed_with(&["a"], Some("Yg=="));
    let mut found = wanted.clone();
    found["metadata"]["resourceVersion"] = json!("7");
    found["webhooks"][0]["matchPolicy"] = json!("Equivalent");
    found["webhooks"].as_array_mut().unwrap().reverse();
    assert!(holds(&wanted, &found));
    let mut with_empty = wanted.clone();
    with_empty["webhooks"][0]["objectSelector"] = json!({});
    assert!(holds(&with_empty, &found));
    for (place, value) in [
        ("/webhooks/0/clientConfig/caBundle", json!("eA==")),
        (
            "/webhooks/2/clientConfig/service/path",
            json!("/validate/t1"),
        ),
        ("/metadata/ownerReferences", json!([])),
        ("/metadata/labels/a", json!("c")),
        (
            "/webhooks/1/namespaceSelector/matchExpressions/1/values",
            json!(["a", "b"]),
        ),
    ] {
        let mut changed = found.clone();
        *changed.pointer_mut(place).unwrap() = value;
        assert!(!holds(&wanted, &changed), "{place}");
    }
    let mut more = found.clone();
    more["webhooks"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "x"}));
    assert!(!holds(&wanted, &more));
}
