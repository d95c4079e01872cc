//! The definitions of the kinds in the form in which an API server takes them, made from the types.
//!
//! `milvus-guard crds` prints them, and `charts/milvus-guard/files/crds.yaml` holds them.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::policy::{ExceptionSpec, PolicySpec};

use super::{
    GROUP, KINDS, Kind, PolicyStatus, RELEASE_DECISION, ReleaseDecision, Scope, UPGRADE_EXCEPTION,
    UPGRADE_POLICY, UPGRADE_RUN, UpgradeRun, VERSION,
    constraints::{self, RULES},
    structural::structural,
};

/// A policy as an API server holds it. Files hold no status, so the type that reads them has none.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is wanted")]
struct StoredPolicy {
    /// What rules do, and where.
    spec: PolicySpec,
    /// What the guard says about it.
    #[serde(default)]
    status: PolicyStatus,
}

/// An exception as an API server holds it.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is wanted")]
struct StoredException {
    /// Which release is allowed, for what reason and until when.
    spec: ExceptionSpec,
    /// What the guard says about it.
    #[serde(default)]
    status: PolicyStatus,
}

/// What `kubectl explain` says about a kind.
const fn description(kind: Kind) -> &'static str {
    match kind.plural.as_bytes() {
        b"upgradepolicies" => {
            "Actions of milvus-guard rules, and the Milvus releases that they apply to."
        }
        b"upgradeexceptions" => {
            "Allows one Milvus release to violate some rules, for a reason and until a time."
        }
        b"upgraderuns" => {
            "A milvus-guard run: its plan, its progress, and the data that is needed to resume or \
             roll back. Written by milvus-guard."
        }
        _ => {
            "One revision of a Helm release that was checked and allowed. Written by milvus-guard; \
             valid for 30 minutes."
        }
    }
}

/// Columns of `kubectl get`: name, type, path, and whether only `-o wide` shows it.
type Column = (&'static str, &'static str, &'static str, bool);

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp", false);
const READY: Column = (
    "Ready",
    "string",
    ".status.conditions[?(@.type==\"Ready\")].status",
    false,
);

fn columns(kind: Kind) -> Vec<Column> {
    // Times to come are text: kubectl prints a date as how long ago it was, and `<invalid>` for
    // what is not yet.
    const EXPIRES: Column = ("Expires", "string", ".spec.expires", false);
    match kind {
        UPGRADE_POLICY => {
            vec![
                ("Priority", "integer", ".spec.priority", false),
                ("Rules", "string", ".status.rules", false),
                READY,
                AGE,
            ]
        }
        UPGRADE_EXCEPTION => vec![
            ("Release", "string", ".spec.release", false),
            ("Namespace", "string", ".spec.namespace", false),
            ("Rules", "string", ".spec.rules", false),
            ("Owner", "string", ".spec.owner", false),
            EXPIRES,
            (
                "State",
                "string",
                ".status.conditions[?(@.type==\"Ready\")].reason",
                false,
            ),
            AGE,
        ],
        UPGRADE_RUN => vec![
            ("Kind", "string", ".spec.kind", false),
            ("Release", "string", ".spec.release", false),
            ("From", "string", ".spec.from", false),
            ("To", "string", ".spec.to", false),
            ("Phase", "string", ".status.phase", false),
            ("Step", "string", ".status.step.id", false),
            ("Message", "string", ".status.message", true),
            AGE,
        ],
        _ => vec![
            ("Release", "string", ".spec.release", false),
            ("Revision", "integer", ".spec.revision", false),
            ("Verdict", "string", ".spec.verdict", false),
            EXPIRES,
        ],
    }
}

/// The schema of a whole object.
fn schema(kind: Kind) -> Value {
    let mut schema = match kind {
        UPGRADE_POLICY => structural::<StoredPolicy>(),
        UPGRADE_EXCEPTION => structural::<StoredException>(),
        UPGRADE_RUN => structural::<UpgradeRun>(),
        _ => structural::<ReleaseDecision>(),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".into(), description(kind).into());
        schema.insert("required".into(), json!(["spec"]));
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            // The API server knows these itself and lets nothing be said about them.
            properties.retain(|name, _| matches!(name.as_str(), "spec" | "status"));
        }
    }
    for (pointer, condition) in constraints::of(kind) {
        if let (Some(Value::Object(part)), Value::Object(condition)) =
            (schema.pointer_mut(&pointer), condition)
        {
            for (keyword, value) in condition {
                match (part.get_mut(&keyword), value) {
                    (_, Value::Null) => drop(part.remove(&keyword)),
                    // A value may have several rules.
                    (Some(Value::Array(there)), Value::Array(more)) if keyword == RULES => {
                        there.extend(more);
                    }
                    (_, value) => drop(part.insert(keyword, value)),
                }
            }
        }
    }
    schema
}

/// The definition of a kind.
#[must_use]
pub fn definition(kind: Kind) -> Value {
    let columns: Vec<Value> = columns(kind)
        .into_iter()
        .map(|(name, r#type, path, wide)| {
            let mut column = json!({"name": name, "type": r#type, "jsonPath": path});
            if wide {
                column["priority"] = 1.into();
            }
            column
        })
        .collect();
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema(kind)},
    });
    if kind != RELEASE_DECISION {
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", kind.plural),
            "labels": {"app.kubernetes.io/part-of": "milvus-guard"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": format!("{}List", kind.kind),
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["milvus-guard"],
            },
            "scope": if kind.scope == Scope::Cluster { "Cluster" } else { "Namespaced" },
            "versions": [version],
        },
    })
}

/// The definitions of all kinds as YAML.
#[must_use]
pub fn yaml() -> String {
    let documents =
        KINDS.map(|kind| serde_saphyr::to_string(&definition(kind)).unwrap_or_default());
    format!(
        "# Generated by `milvus-guard crds`; do not edit.\n---\n{}",
        documents.join("---\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(fields) => {
                visit(fields);
                fields.values().for_each(|value| walk(value, visit));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_constraint_finds_its_place() {
        for kind in KINDS {
            let schema = schema(kind);
            for (pointer, _) in constraints::of(kind) {
                assert!(
                    schema.pointer(&pointer).is_some(),
                    "{} has no {pointer}",
                    kind.kind
                );
            }
        }
    }

    #[test]
    fn lists_that_people_and_programs_fill_are_bounded() {
        for kind in KINDS {
            walk(&schema(kind), &mut |fields| {
                let is_list = fields.get("type") == Some(&json!("array"));
                assert!(
                    !is_list || fields.contains_key("maxItems"),
                    "{} has a list without a bound: {fields:?}",
                    kind.kind
                );
            });
        }
    }

    #[test]
    fn nothing_is_left_that_a_structural_schema_must_not_hold() {
        for kind in KINDS {
            walk(&schema(kind), &mut |fields| {
                for keyword in ["$ref", "$defs", "anyOf", "oneOf", "const", "$schema"] {
                    assert!(
                        !fields.contains_key(keyword),
                        "{} holds {keyword}: {fields:?}",
                        kind.kind
                    );
                }
                assert!(
                    !(fields.contains_key("properties")
                        && fields.contains_key("additionalProperties")),
                    "{} is open and closed: {fields:?}",
                    kind.kind
                );
            });
        }
    }

    #[test]
    fn rules_stand_at_their_values() {
        let run = schema(UPGRADE_RUN);
        let exception = schema(UPGRADE_EXCEPTION);
        assert!(
            run.pointer("/properties/spec/properties/release/pattern")
                .is_some_and(Value::is_string)
        );
        assert_eq!(
            run["properties"]["spec"]["properties"]["planHash"][RULES][0]["rule"],
            "self == oldSelf"
        );
        assert_eq!(
            exception["properties"]["spec"]["properties"]["owner"][RULES][0]["message"],
            "an owner must be given"
        );
        assert_eq!(exception["required"], json!(["spec"]));
    }

    #[test]
    fn off_is_quoted_for_readers_of_old_yaml() {
        let yaml = yaml();
        assert!(yaml.contains("- \"Off\"\n"), "{yaml}");
        assert_eq!(
            crate::manifest::documents(&yaml).flatten().count(),
            KINDS.len()
        );
    }
}
