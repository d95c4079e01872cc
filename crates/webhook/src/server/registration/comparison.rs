//! Compares a configuration in the cluster with the wanted one.

use serde_json::{Map, Value};

/// The last parts of the webhook paths in a configuration.
pub(super) fn shown(configuration: &Value) -> Vec<&str> {
    let webhooks = configuration["webhooks"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let path = |webhook| {
        let place = |place: &str| Value::pointer(webhook, place).and_then(Value::as_str);
        place("/clientConfig/service/path").or_else(|| place("/clientConfig/url"))
    };
    webhooks
        .iter()
        .map(|webhook| {
            path(webhook)
                .and_then(|path| path.rsplit('/').next())
                .unwrap_or_default()
        })
        .collect()
}

/// Whether an object has all wanted values. Fields that the API server adds do not count. The
/// list of webhooks must be exactly the wanted one.
pub(super) fn holds(wanted: &Value, found: &Value) -> bool {
    let count = |object: &Value| object["webhooks"].as_array().map_or(0, Vec::len);
    count(wanted) == count(found) && is_within(wanted, found)
}

fn is_within(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(key, wanted)| match found.get(key) {
                Some(found) => is_within(wanted, found),
                None => is_empty(wanted),
            })
        }
        (Value::Array(wanted), Value::Array(found))
            if wanted.iter().all(|item| item.get("name").is_some()) =>
        {
            wanted.iter().all(|item| {
                found
                    .iter()
                    .any(|found| found["name"] == item["name"] && is_within(item, found))
            })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(found)
                    .all(|(wanted, found)| is_within(wanted, found))
        }
        (wanted, found) => wanted == found,
    }
}

/// Whether the API server omits this value.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => Map::is_empty(fields),
        _ => false,
    }
}

pub(super) fn is_owned(object: &Value, uid: Option<&str>) -> bool {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    owners
        .into_iter()
        .flatten()
        .any(|owner| uid.is_some() && owner["uid"].as_str() == uid)
}
