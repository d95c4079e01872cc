//! The template of the webhook configurations, and the values that the guard adds.

use std::{collections::BTreeSet, path::Path};

use milvus_guard_core::{
    manifest::documents,
    policy::resolve::{HOLD_SCOPE, HoldScope},
};
use serde_json::{Value, json};

/// The placeholder in the template for the namespaces that contain Milvus. No namespace can have
/// this name.
pub const MILVUS_NAMESPACES: &str = "@milvus-namespaces";

/// Both kinds of webhook configuration.
pub(super) const KINDS: [&str; 2] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

/// Largest template in bytes.
const MAX_TEMPLATE: u64 = 1 << 20;

/// The values that are added to the template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Additions<'a> {
    pub(super) name: &'a str,
    pub(super) owner: Option<(&'a str, &'a str)>,
    pub(super) bundle: Option<&'a str>,
    pub(super) token: &'a str,
    pub(super) namespaces: &'a BTreeSet<String>,
    /// In which namespaces changes are held, for clients that need it before a change.
    pub(super) holds: &'a HoldScope,
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(MAX_TEMPLATE)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// The configurations of a template.
///
/// # Errors
/// If it contains anything else, or no configuration.
pub(super) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for document in documents(text) {
        let object = document.map_err(|error| error.to_string())?.root.to_json();
        let kind = object["kind"].as_str().unwrap_or_default();
        if !KINDS.contains(&kind) {
            return Err(format!("'{kind}' is not a webhook configuration"));
        }
        if objects.iter().any(|known: &Value| known["kind"] == kind) {
            return Err(format!("it contains more than one {kind}"));
        }
        objects.push(object);
    }
    if objects.is_empty() {
        Err("it does not contain a webhook configuration".into())
    } else {
        Ok(objects)
    }
}

/// A configuration of the template with the values of the guard.
pub(super) fn completed(template: &Value, additions: &Additions<'_>) -> Value {
    let mut object = template.clone();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = json!(additions.name);
    object["metadata"]["annotations"][HOLD_SCOPE] = json!(additions.holds.to_string());
    if let Some((owner, uid)) = additions.owner {
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": owner, "uid": uid}]);
    }
    if let Some(webhooks) = object["webhooks"].as_array_mut() {
        webhooks.retain_mut(|webhook| fill(webhook, additions));
    }
    object
}

/// Adds the values to one webhook. Returns whether the webhook applies to any namespace.
fn fill(webhook: &mut Value, additions: &Additions<'_>) -> bool {
    let config = &mut webhook["clientConfig"];
    for place in ["/service/path", "/url"] {
        if let Some(Value::String(path)) = config.pointer_mut(place) {
            *path = format!("{}/{}", path.trim_end_matches('/'), additions.token);
        }
    }
    if let (Some(bundle), Value::Object(config)) = (additions.bundle, config) {
        config.insert("caBundle".into(), json!(bundle));
    }
    let expressions = webhook
        .pointer_mut("/namespaceSelector/matchExpressions")
        .and_then(Value::as_array_mut);
    expressions.into_iter().flatten().all(|expression| {
        let Some(values) = expression.get_mut("values").and_then(Value::as_array_mut) else {
            return true;
        };
        let Some(at) = values.iter().position(|value| value == MILVUS_NAMESPACES) else {
            return true;
        };
        values.remove(at);
        let held: Vec<Value> = additions
            .namespaces
            .iter()
            .map(|name| json!(name))
            .filter(|name| !values.contains(name))
            .collect();
        values.extend(held);
        !values.is_empty()
    })
}
