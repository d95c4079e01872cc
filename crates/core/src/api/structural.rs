//! From the schema of a Rust type to a structural one, as Kubernetes wants it. kube's rewriter does
//! most of it. What it does not do is here: the API server must not write defaults into documents of
//! people, and `kubectl explain` should say what each value of an enumeration means.

use kube_core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value};

/// Widths of integers that Kubernetes does not know, and those that it has in their place.
const FORMATS: [(&str, &str); 8] = [
    ("uint8", "int32"),
    ("uint16", "int32"),
    ("uint32", "int64"),
    ("uint64", "int64"),
    ("uint", "int64"),
    ("int8", "int32"),
    ("int16", "int32"),
    ("int", "int64"),
];

/// The structural schema of what may be written as a `T`.
#[must_use]
pub fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(describe_values)
        .with_transform(StructuralSchemaRewriter)
        .with_transform(keep_description)
        .with_transform(OptionalEnum)
        .with_transform(tidy)
        .into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// Says in the description of an enumeration what each value means: a structural schema has no other
/// place for it.
fn describe_values(schema: &mut Schema) {
    transform_subschemas(&mut describe_values, schema);
    let Some(values) = schema.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let mut lines = Vec::from_iter(description(schema.as_object()).map(str::to_owned));
    for value in values.iter().filter_map(Value::as_object) {
        let name = value.get("enum").and_then(|names| names[0].as_str());
        if let (Some(name), Some(meaning)) = (name, description(Some(value))) {
            lines.push(format!("{name}: {meaning}"));
        }
    }
    if !lines.is_empty() {
        schema.insert("description".into(), lines.join("\n").into());
    }
}

fn description(schema: Option<&Map<String, Value>>) -> Option<&str> {
    schema?.get("description")?.as_str()
}

/// [`OptionalEnum`] puts what is said of the type above what is said of the field.
fn keep_description(schema: &mut Schema) {
    transform_subschemas(&mut keep_description, schema);
    if description(schema.as_object()).is_some()
        && let Some(Value::Array(alternatives)) = schema.get_mut("anyOf")
    {
        for alternative in alternatives.iter_mut().filter_map(Value::as_object_mut) {
            alternative.remove("description");
        }
    }
}

fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    let fields = schema.ensure_object();
    fields.remove("default");
    fields.remove("title");
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

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
            "required": ["anything", "choice", "labels", "required"],
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
