//! JSON Schemas of every document that people write or pipelines read, as published in
//! `docs/schemas`.

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value, json};

use crate::{
    api::{Kind, RELEASE_DECISION, ReleaseDecision, UPGRADE_RUN, UpgradeRun},
    evidence::Facts,
    milvus::catalogue::DataFile,
    report::{self, Report},
    upgrade_path::{self, Plan},
    verification::{self, Record, Verification},
};

use crate::api::policy::{API_VERSION, UpgradeException, UpgradePolicy};

/// A rule id in either case, as policies may name it.
const RULE_ID: &str = "^[Mm][Gg][0-9]{3}$";

/// A schema and the name under which it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// File in `docs/schemas`.
    pub file: &'static str,
    /// The schema (draft 2020-12).
    pub schema: Value,
}

impl Published {
    /// The file's content.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.schema)
    }
}

/// Every published schema, ordered by file.
#[must_use]
pub fn all() -> Vec<Published> {
    let entry = |file, schema| Published { file, schema };
    vec![
        entry(
            "data.json",
            read_form::<DataFile>("Data about Milvus releases (--data FILE)"),
        ),
        entry(
            "facts.json",
            read_form::<Facts>("Facts about an upgrade (--facts FILE)"),
        ),
        entry("plan.json", plan()),
        entry(
            "release-decision.json",
            written::<ReleaseDecision>(RELEASE_DECISION),
        ),
        entry("report.json", report()),
        entry("upgrade-exception.json", upgrade_exception()),
        entry("upgrade-policy.json", upgrade_policy()),
        entry("upgrade-run.json", written::<UpgradeRun>(UPGRADE_RUN)),
        entry("verification-record.json", verification_record()),
        entry("verification.json", verification()),
    ]
}

/// The schema of an `UpgradePolicy`.
#[must_use]
pub fn upgrade_policy() -> Value {
    let mut schema = read_form::<UpgradePolicy>("UpgradePolicy");
    head(&mut schema, "UpgradePolicy");
    narrow(
        &mut schema,
        "/$defs/RuleSetting/properties/id",
        &json!({"pattern": RULE_ID}),
    );
    narrow(
        &mut schema,
        "/$defs/PolicySpec/properties/selfAccept/items",
        &json!({"pattern": RULE_ID}),
    );
    schema
}

/// The schema of an `UpgradeException`.
#[must_use]
pub fn upgrade_exception() -> Value {
    let mut schema = read_form::<UpgradeException>("UpgradeException");
    head(&mut schema, "UpgradeException");
    let field = |name: &str| format!("/$defs/ExceptionSpec/properties/{name}");
    narrow(&mut schema, &field("rules"), &json!({"minItems": 1}));
    narrow(
        &mut schema,
        &field("rules/items"),
        &json!({"pattern": RULE_ID}),
    );
    for name in ["namespace", "release"] {
        narrow(
            &mut schema,
            &field(name),
            &json!({"pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}),
        );
    }
    for name in ["reason", "owner"] {
        narrow(&mut schema, &field(name), &json!({"pattern": "\\S"}));
    }
    narrow(
        &mut schema,
        &field("expires"),
        &json!({"format": "date-time"}),
    );
    schema
}

/// The schema of an object that the guard writes. Later versions may add fields, so it allows those
/// that it does not know.
fn written<T: JsonSchema>(kind: Kind) -> Value {
    let mut schema = read_form::<T>(kind.kind);
    head(&mut schema, kind.kind);
    narrow(
        &mut schema,
        "/$defs/ObjectMeta/properties/name",
        &json!({"minLength": 1}),
    );
    schema
}

/// The schema of a report in JSON or YAML. Fields may be added to reports, so it allows those that
/// it does not know.
#[must_use]
pub fn report() -> Value {
    printed::<Report>("Report of milvus-guard", report::SCHEMA_VERSION)
}

/// The schema of the JSON output of `plan`.
#[must_use]
pub fn plan() -> Value {
    let title = "Path from one version of Milvus to another, by milvus-guard";
    printed::<Plan>(title, upgrade_path::SCHEMA_VERSION)
}

/// The schema of the JSON output of `verify`.
#[must_use]
pub fn verification() -> Value {
    let title = "Verification of a release by milvus-guard";
    printed::<Verification>(title, verification::SCHEMA_VERSION)
}

/// The schema of what a verb prints in a version of its form.
fn printed<T: JsonSchema>(title: &str, version: &str) -> Value {
    let mut schema = titled::<T>(SchemaSettings::draft2020_12().for_serialize(), title);
    let version = json!({"const": version});
    narrow(&mut schema, "/properties/schemaVersion", &version);
    schema
}

/// The schema of the record of `verify`.
#[must_use]
pub fn verification_record() -> Value {
    let mut schema = read_form::<Record>("State of a release before an upgrade (verify --record)");
    let version = json!({"const": verification::RECORD_VERSION});
    narrow(&mut schema, "/properties/schemaVersion", &version);
    schema
}

/// What may be written: fields with a default may be absent.
fn read_form<T: JsonSchema>(title: &str) -> Value {
    titled::<T>(SchemaSettings::draft2020_12().for_deserialize(), title)
}

fn titled<T: JsonSchema>(settings: SchemaSettings, title: &str) -> Value {
    let mut schema = settings
        .with_transform(plain_words)
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    schema.to_value()
}

/// Takes the links of rustdoc out of descriptions: a reader of a schema has nothing to follow them
/// to.
fn plain_words(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`");
    }
    transform_subschemas(&mut plain_words, schema);
}

/// What every object of the API group begins with.
fn head(schema: &mut Value, kind: &str) {
    narrow(
        schema,
        "/properties/apiVersion",
        &json!({"const": API_VERSION}),
    );
    narrow(schema, "/properties/kind", &json!({"const": kind}));
    narrow(
        schema,
        "/$defs/Metadata/properties/name",
        &json!({"minLength": 1}),
    );
}

/// Adds conditions to the part of a schema at a JSON pointer.
fn narrow(schema: &mut Value, pointer: &str, conditions: &Value) {
    let part = schema.pointer_mut(pointer).and_then(Value::as_object_mut);
    if let (Some(part), Some(conditions)) = (part, conditions.as_object()) {
        part.extend(
            conditions
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Map<_, _>>(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_stand_where_they_should() {
        let policy = upgrade_policy();
        let at =
            |schema: &Value, pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at(&policy, "/properties/apiVersion/const"), API_VERSION);
        assert_eq!(at(&policy, "/properties/kind/const"), "UpgradePolicy");
        assert_eq!(at(&policy, "/$defs/Metadata/properties/name/minLength"), 1);
        assert_eq!(
            at(&policy, "/$defs/RuleSetting/properties/id/pattern"),
            RULE_ID
        );
        assert_eq!(
            at(
                &policy,
                "/$defs/PolicySpec/properties/selfAccept/items/pattern"
            ),
            RULE_ID
        );
        let exception = upgrade_exception();
        let field = |name: &str| {
            at(
                &exception,
                &format!("/$defs/ExceptionSpec/properties/{name}"),
            )
        };
        assert_eq!(field("rules/minItems"), 1);
        assert_eq!(field("rules/items/pattern"), RULE_ID);
        assert_eq!(field("expires/format"), "date-time");
        for name in ["namespace", "release", "reason", "owner"] {
            assert!(field(name).get("pattern").is_some(), "{name}");
        }
        assert_eq!(
            at(&report(), "/properties/schemaVersion/const"),
            report::SCHEMA_VERSION
        );
    }

    #[test]
    fn what_is_written_is_closed_and_what_is_printed_is_open() {
        for Published { file, schema } in all() {
            let closed = schema.get("additionalProperties") == Some(&json!(false));
            let written_by_us = [
                "plan.json",
                "release-decision.json",
                "report.json",
                "upgrade-run.json",
                "verification-record.json",
                "verification.json",
            ]
            .contains(&file);
            assert_eq!(closed, !written_by_us, "{file}");
            assert!(schema.get("title").is_some_and(Value::is_string), "{file}");
            assert!(
                !schema.to_string().contains("[`"),
                "{file} has links of rustdoc"
            );
        }
    }

    #[test]
    fn every_part_of_a_data_file_is_optional() {
        let data = read_form::<DataFile>("x");
        assert_eq!(data.get("required"), None);
        for part in [
            "paths", "releases", "charts", "orders", "settings", "mirrors",
        ] {
            assert!(
                data.pointer(&format!("/properties/{part}")).is_some(),
                "{part}"
            );
        }
    }
}
