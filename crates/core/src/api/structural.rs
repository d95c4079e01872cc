//! From the schema of a Rust type to a structural one, as Kubernetes wants it: every value has one
//! type, alternatives and references no longer exist, and what is not a condition on one value is
//! left out.

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value, json};

/// Keywords that an API server refuses, or that say nothing in it. Defaults too: the server would
/// write them into what people wrote.
const UNWANTED: [&str; 4] = ["$schema", "title", "default", "additionalItems"];

/// Widths of integers that JSON Schema knows nothing of, and those that Kubernetes has in their
/// place.
const FORMATS: [(&str, &str); 6] = [
    ("uint8", "int32"),
    ("uint16", "int32"),
    ("uint32", "int64"),
    ("uint64", "int64"),
    ("int8", "int32"),
    ("int16", "int32"),
];

/// The structural schema of what may be written as a `T`.
#[must_use]
pub fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_deserialize();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    rewrite(&mut schema);
    schema.to_value()
}

fn rewrite(schema: &mut Schema) {
    // From the leaves up, so that alternatives are already in their last form when they are merged.
    transform_subschemas(&mut rewrite, schema);
    let fields = schema.ensure_object();
    for keyword in UNWANTED {
        fields.remove(keyword);
    }
    if let Some(value) = fields.remove("const") {
        fields.insert("enum".into(), json!([value]));
    }
    nullable_type(fields);
    for keyword in ["anyOf", "oneOf"] {
        if let Some(Value::Array(alternatives)) = fields.remove(keyword) {
            merge(fields, alternatives);
        }
    }
    if fields.contains_key("properties") {
        // Unknown fields are cut off, or refused where the client asks for it (kubectl does).
        fields.remove("additionalProperties");
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        // `nullable` says it.
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::String(format)) = fields.get_mut("format")
        && let Some((_, known)) = FORMATS.iter().find(|(unknown, _)| unknown == format)
    {
        (*known).clone_into(format);
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        *description = description.replace("[`", "`").replace("`]", "`");
    }
    if !fields.contains_key("type") {
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
}

/// `type: [T, "null"]` is `type: T` and `nullable`.
fn nullable_type(fields: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = fields.get("type") else {
        return;
    };
    let mut types: Vec<Value> = types.clone();
    let all = types.len();
    types.retain(|r#type| r#type != "null");
    if types.len() < all {
        fields.insert("nullable".into(), true.into());
    }
    match types.as_slice() {
        [one] => fields.insert("type".into(), one.clone()),
        _ => fields.remove("type"),
    };
}

/// Makes one schema of alternatives: values that are listed become one list, null becomes
/// `nullable`, and other alternatives leave what they have in common.
fn merge(fields: &mut Map<String, Value>, alternatives: Vec<Value>) {
    let mut schemas: Vec<Map<String, Value>> = alternatives
        .into_iter()
        .filter_map(|schema| {
            if let Value::Object(schema) = schema {
                Some(schema)
            } else {
                None
            }
        })
        .collect();
    let all = schemas.len();
    schemas.retain(|schema| schema.get("type") != Some(&json!("null")));
    if schemas.len() < all {
        fields.insert("nullable".into(), true.into());
    }
    if let [only] = schemas.as_mut_slice() {
        // What is said in addition to the alternatives is nearer to the value.
        only.append(fields);
        fields.append(only);
        return;
    }
    let values: Option<Vec<&Value>> = schemas.iter().map(|schema| schema.get("enum")).collect();
    if let Some(lists) = values {
        let values: Vec<Value> = lists
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .cloned()
            .collect();
        fields.insert("enum".into(), values.into());
        describe_values(fields, &schemas);
    }
    let mut types = schemas.iter().map(|schema| schema.get("type"));
    if let Some(Some(first)) = types.next()
        && types.all(|other| other == Some(first))
    {
        fields.insert("type".into(), first.clone());
        fields.remove("x-kubernetes-preserve-unknown-fields");
    }
}

/// Says in the description of a list of values what each of them means: there is no other place for
/// it.
fn describe_values(fields: &mut Map<String, Value>, values: &[Map<String, Value>]) {
    let mut text = fields
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for value in values {
        let (Some(description), Some([name])) = (
            value.get("description").and_then(Value::as_str),
            value
                .get("enum")
                .and_then(Value::as_array)
                .map(Vec::as_slice),
        ) else {
            continue;
        };
        text += &format!(
            "\n{}: {description}",
            name.as_str()
                .map_or_else(|| name.to_string(), str::to_owned)
        );
    }
    if !text.is_empty() {
        fields.insert("description".into(), text.trim().into());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Whole.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Whole {
        required: u64,
        optional: Option<String>,
        /// See [`Choice`].
        choice: Choice,
        maybe_choice: Option<Choice>,
        maybe_plain: Option<Plain>,
        either: Either,
        part: Option<Part>,
        #[serde(default)]
        parts: Vec<Part>,
        labels: BTreeMap<String, String>,
        anything: Value,
        maybe_anything: Option<Value>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Part {
        /// Count.
        count: Option<u16>,
    }

    /// How.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Choice {
        /// To the left.
        Left,
        /// To the right.
        Right,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Plain {
        A,
        B,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Other(String),
    }

    #[test]
    fn schemas_become_structural() {
        let part = json!({
            "type": "object",
            "properties": {
                "count": {"type": "integer", "description": "Count.", "format": "int32", "minimum": 0, "maximum": 65535, "nullable": true},
            },
        });
        let mut maybe_part = part.clone();
        maybe_part["nullable"] = true.into();
        let expected = json!({
            "description": "Whole.",
            "type": "object",
            "required": ["required", "choice", "either", "labels", "anything"],
            "properties": {
                "required": {"type": "integer", "format": "int64", "minimum": 0},
                "optional": {"type": "string", "nullable": true},
                "choice": {
                    "type": "string", "enum": ["Left", "Right"],
                    "description": "See `Choice`.\nLeft: To the left.\nRight: To the right.",
                },
                "maybeChoice": {
                    "type": "string", "enum": ["Left", "Right"], "nullable": true,
                    "description": "How.\nLeft: To the left.\nRight: To the right.",
                },
                "maybePlain": {"type": "string", "enum": ["A", "B"], "nullable": true},
                "either": {"type": "string"},
                "part": maybe_part,
                "parts": {"type": "array", "items": part},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "anything": {"x-kubernetes-preserve-unknown-fields": true},
                "maybeAnything": {"x-kubernetes-preserve-unknown-fields": true},
            },
        });
        assert_eq!(
            structural::<Whole>(),
            expected,
            "{:#}",
            structural::<Whole>()
        );
    }
}
