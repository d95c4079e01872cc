//! The version label: workloads show their actual version.
//!
//! Only metadata of the workload is touched, never the pod template. Our own key is always true;
//! the common key is filled where no one set it, and kept true as long as no one else owns it.
//! Applied twice it changes nothing.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    manifest::{DocumentValue, Object},
    milvus::{identify, release::ComponentWorkload},
};

use super::{
    object,
    review::{Operation, Patch, Response, Review},
};

/// Our label.
pub const VERSION: &str = "guard.milvus.io/version";
/// The common one.
pub const COMMON_VERSION: &str = "app.kubernetes.io/version";
/// Characters of a label's value.
const MAX_VALUE: usize = 63;

/// The labels that a workload should get.
#[must_use]
pub fn mutate(review: &Review<'_>) -> Response {
    let workload = review.resource.group == "apps"
        && matches!(&*review.resource.resource, "deployments" | "statefulsets")
        && review.sub_resource.is_empty()
        && matches!(review.operation, Operation::Create | Operation::Update);
    let Some(raw) = review.object.filter(|_| workload) else {
        return Response::allow();
    };
    if let Some(at) = review.object_at()
        && let Some(object) = object::object_at(at, &review.namespace)
    {
        return labelled(at, &object);
    }
    // What cannot be read gets no label; the validating gate says what is wrong.
    match object::object(raw.get(), &review.namespace) {
        Ok((node, Some(object))) => labelled(&node, &object),
        _ => Response::allow(),
    }
}

fn labelled<'t>(written: impl DocumentValue<'t>, object: &Object) -> Response {
    let Object::Workload(workload) = object else {
        return Response::allow();
    };
    let Some(component) = identify::component(workload) else {
        return Response::allow();
    };
    let workload = Arc::clone(workload);
    let true_version = ComponentWorkload::new(component, workload)
        .version()
        .build()
        .map(ToString::to_string);
    Response {
        patch: patch(
            written,
            true_version.as_deref().filter(|version| is_value(version)),
        ),
        ..Response::default()
    }
}

fn patch<'t>(object: impl DocumentValue<'t>, version: Option<&str>) -> Vec<Patch> {
    let labels = object
        .at(&["metadata", "labels"])
        .filter(|labels| labels.is_mapping());
    let label = |key: &str| labels.and_then(|labels| labels.text_at(&[key]));
    let (ours, common) = (label(VERSION), label(COMMON_VERSION));
    let (ours, common) = (ours.as_deref(), common.as_deref());
    let mut wanted: Vec<(&str, Option<&str>)> = Vec::new();
    if ours != version {
        wanted.push((VERSION, version));
    }
    // Filled by us where no one owns it; what we filled follows the image.
    if let Some(version) = version
        && (common.is_none()
            || (common == ours && common != Some(version) && !is_owned(object, COMMON_VERSION)))
    {
        wanted.push((COMMON_VERSION, Some(version)));
    }
    if labels.is_none() && wanted.iter().any(|(_, value)| value.is_some()) {
        let all = wanted
            .iter()
            .filter_map(|(key, value)| Some(((*key).to_owned(), Value::from((*value)?))))
            .collect();
        return vec![Patch::Add {
            path: "/metadata/labels".into(),
            value: Value::Object(all),
        }];
    }
    wanted
        .into_iter()
        .map(|(key, value)| {
            let path = format!(
                "/metadata/labels/{}",
                key.replace('~', "~0").replace('/', "~1")
            );
            match value {
                Some(value) => Patch::Add {
                    path,
                    value: value.into(),
                },
                None => Patch::Remove { path },
            }
        })
        .collect()
}

/// Whether some manager owns a label. What a webhook adds has no owner.
fn is_owned<'t>(object: impl DocumentValue<'t>, label: &str) -> bool {
    let field = format!("f:{label}");
    object
        .items_at(&["metadata", "managedFields"])
        .any(|manager| {
            manager
                .at(&["fieldsV1", "f:metadata", "f:labels", &field])
                .is_some()
        })
}

/// Whether a text may be the value of a label.
fn is_value(text: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_VALUE
        && end(bytes.first())
        && end(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut object: Value) -> (Value, usize) {
        let text = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "operation": "UPDATE",
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "object": object}})
        .to_string();
        let response = mutate(&Review::parse(text.as_bytes()).unwrap());
        let count = response.patch.len();
        let patch: json_patch::Patch =
            serde_json::from_value(serde_json::to_value(&response.patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        (object, count)
    }

    fn deployment(labels: &Value, image: &str) -> Value {
        json!({"kind": "Deployment", "metadata": {"name": "r-proxy", "labels": labels},
            "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": image, "args": ["milvus", "run", "proxy"]}]}}}})
    }

    #[rstest::rstest]
    #[case(&json!({}), "milvusdb/milvus:v2.4.5", &json!({"guard.milvus.io/version": "2.4.5", "app.kubernetes.io/version": "2.4.5"}))]
    #[case(&Value::Null, "milvusdb/milvus:v2.4.5", &json!({"guard.milvus.io/version": "2.4.5", "app.kubernetes.io/version": "2.4.5"}))]
    #[case(&json!({"app.kubernetes.io/version": "2.3.0"}), "milvusdb/milvus:v2.4.5",
        &json!({"app.kubernetes.io/version": "2.3.0", "guard.milvus.io/version": "2.4.5"}))]
    #[case(&json!({"app.kubernetes.io/version": "2.3.0", "guard.milvus.io/version": "2.3.0"}), "milvusdb/milvus:v2.4.5",
        &json!({"app.kubernetes.io/version": "2.4.5", "guard.milvus.io/version": "2.4.5"}))]
    #[case(&json!({"guard.milvus.io/version": "2.3.0"}), "milvusdb/milvus:latest", &json!({}))]
    fn labels_are_true_and_a_second_pass_changes_nothing(
        #[case] before: &Value,
        #[case] image: &str,
        #[case] after: &Value,
    ) {
        let (object, _) = patched(deployment(before, image));
        assert_eq!(&object["metadata"]["labels"], after);
        assert_eq!(patched(object.clone()), (object, 0));
    }

    #[test]
    fn what_the_chart_owns_is_left_to_it() {
        let mut object = deployment(
            &json!({"app.kubernetes.io/version": "2.3.0", "guard.milvus.io/version": "2.3.0"}),
            "milvusdb/milvus:v2.4.5",
        );
        object["metadata"]["managedFields"] = json!([{"manager": "helm", "fieldsV1": {"f:metadata": {"f:labels": {"f:app.kubernetes.io/version": {}}}}}]);
        assert_eq!(
            patched(object).0["metadata"]["labels"]["app.kubernetes.io/version"],
            "2.3.0"
        );
    }
}
