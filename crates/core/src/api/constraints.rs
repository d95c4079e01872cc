//! What the types cannot say: bounds, patterns, keys of lists, and what must not change.
//!
//! Bounds are far above what is real. They are there because an API server refuses rules (CEL)
//! whose cost it cannot bound, and because no one should fill etcd through these objects.

use serde_json::{Value, json};

use super::{
    Kind, UPGRADE_EXCEPTION, UPGRADE_POLICY, UPGRADE_RUN,
    loaded::{MAX_COLLECTIONS, MAX_LAGGING, MAX_NODES},
    progress::HISTORY_LIMIT,
    searches::{MAX_HITS, MAX_SEARCHES},
};

/// A rule id. In a cluster it is written one way, since it is the key of a list.
const RULE_ID: &str = "^MG[0-9]{3}$";
/// As many as ids of rules can be sensible in one document; there are about forty rules.
const MAX_RULES: u32 = 200;
/// A name as Kubernetes has it, so no wildcard.
const NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Longest name of an object in Kubernetes.
const MAX_NAME: u32 = 253;
/// Longest name of a namespace, and longest value of a label.
const MAX_LABEL: u32 = 63;
/// Query nodes that are suspended at once: one of each Deployment, and a few that were forgotten.
const MAX_SUSPENDED: usize = 100;
/// Entries of a list that people write: namespaces, releases, labels.
const MAX_LISTED: u32 = 1000;
/// A version or a range of versions, as `VersionMatch` reads it.
const VERSIONS: &str = r"^\s*(\*|v?[0-9]+(\.[0-9]+){0,2}|(<=|>=|<|>|=)\s*v?[0-9]+(\.[0-9]+){0,2}(\s*,\s*(<=|>=|<|>|=)\s*v?[0-9]+(\.[0-9]+){0,2})*)\s*$";
/// One version.
const VERSION: &str = r"^v?[0-9]+(\.[0-9]+){0,2}$";
/// Text of one line: titles, owners, images.
const MAX_LINE: u32 = 1024;
/// Text for people, as long as Kubernetes lets the message of a condition be.
const MAX_TEXT: u32 = 32_768;
/// As Kubernetes bounds the priorities that users may give (`PriorityClass`).
const MAX_PRIORITY: i64 = 1_000_000_000;
/// Steps of a plan: fifteen for each of the twelve components and room for as many again.
const MAX_STEPS: u32 = 400;
/// Objects that one release of Milvus may have, dependencies included; real ones have less than a
/// hundred.
const MAX_OBJECTS: u32 = 1000;
/// Keyword of rules in Kubernetes' expression language (CEL).
pub(super) const RULES: &str = "x-kubernetes-validations";
/// Hexadecimal SHA-256.
const SHA256: &str = "^[0-9a-f]{64}$";

/// Conditions on a part of a schema, by JSON pointer.
pub(super) type Constraint = (String, Value);

fn at(path: &str) -> String {
    // `spec.rules[].id` is shorter than the pointer, and reads as in a document.
    let mut pointer = String::new();
    for step in path.split('.').filter(|step| !step.is_empty()) {
        pointer += "/properties/";
        pointer += step.trim_end_matches("[]");
        if step.ends_with("[]") {
            pointer += "/items";
        }
    }
    pointer
}

/// A list that is written as a whole.
fn atomic(limit: usize) -> Value {
    json!({"maxItems": limit, "x-kubernetes-list-type": "atomic"})
}

fn put(path: &str, condition: Value) -> Constraint {
    (at(path), condition)
}

/// A list of different values.
fn set(max: u32) -> Value {
    json!({"maxItems": max, "x-kubernetes-list-type": "set"})
}

/// A list whose entries differ in these fields.
fn map(keys: &[&str], max: u32) -> Value {
    json!({"maxItems": max, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
}

/// A value that stays as it was first written.
fn fixed(name: &str) -> Value {
    said("self == oldSelf", &format!("{name} must not change"))
}

/// A rule with a separate message: what people write is refused with a message that helps, not by
/// a pattern that they must decipher.
fn said(rule: &str, message: &str) -> Value {
    json!({RULES: [{"rule": rule, "message": message}]})
}

fn matches(pattern: &str, max: u32, message: &str) -> Value {
    let mut condition = said(&format!("self.matches(r'{pattern}')"), message);
    condition["maxLength"] = max.into();
    condition
}

/// The id of a rule, as people write it.
fn rule_id() -> Value {
    matches(RULE_ID, MAX_LABEL, "name a rule by its id, such as MG201")
}

/// An exact name, as people write it.
fn exact(what: &str, max: u32) -> Value {
    matches(
        NAME,
        max,
        &format!("name a {what} exactly, without wildcards: lower case, digits, '-' and '.'"),
    )
}

/// Its type has two forms, and both are text.
fn versions() -> Value {
    let mut condition = matches(
        VERSIONS,
        MAX_LINE,
        "a version, such as 2.5.27, or a range of versions, such as >=2.5.16,<2.6.0",
    );
    condition["type"] = "string".into();
    for keyword in ["anyOf", "x-kubernetes-preserve-unknown-fields"] {
        condition[keyword] = Value::Null;
    }
    condition
}

fn not_blank(what: &str, max: u32) -> Value {
    let mut condition = said("self.trim() != ''", &format!("{what} must be given"));
    condition["maxLength"] = max.into();
    condition
}

fn name(max: u32) -> Value {
    json!({"pattern": NAME, "maxLength": max})
}

fn line() -> Value {
    json!({"minLength": 1, "maxLength": MAX_LINE})
}

fn text() -> Value {
    json!({"maxLength": MAX_TEXT})
}

/// All that is to be added to the schema of a kind.
pub(super) fn of(kind: Kind) -> Vec<Constraint> {
    match kind {
        UPGRADE_POLICY => [policy(), policy_status()].concat(),
        UPGRADE_EXCEPTION => [exception(), policy_status()].concat(),
        UPGRADE_RUN => [run(), run_status(), conditions()].concat(),
        _ => decision(),
    }
}

fn policy() -> Vec<Constraint> {
    vec![
        put(
            "spec.priority",
            json!({"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY, "default": 0}),
        ),
        put("spec.rules", map(&["id"], MAX_RULES)),
        put("spec.rules[].id", rule_id()),
        // kubectl reads an unquoted Off as YAML 1.1 does, as false, and says so nowhere; other
        // readers of the same file take it as text. So false is Off here too, and this
        // value has no single type.
        put("spec.rules[].action", off_or_false()),
        put("spec.selfAccept", set(MAX_RULES)),
        put("spec.selfAccept[]", rule_id()),
        put("spec.match.namespaces", set(MAX_LISTED)),
        put("spec.match.namespaces[]", exact("namespace", MAX_LABEL)),
        put("spec.match.releases", set(MAX_LISTED)),
        put("spec.match.releases[]", exact("release", MAX_NAME)),
        put(
            "spec.match.namespaceSelector.matchLabels",
            json!({"maxProperties": MAX_LISTED}),
        ),
        put(
            "spec.match.namespaceSelector.matchExpressions",
            json!({"maxItems": MAX_LISTED, "x-kubernetes-list-type": "atomic"}),
        ),
        put(
            "spec.match.namespaceSelector.matchExpressions[].values",
            set(MAX_LISTED),
        ),
    ]
}

fn off_or_false() -> Value {
    json!({
        "type": null,
        "x-kubernetes-preserve-unknown-fields": true,
        "enum": ["Enforce", "Hold", "Warn", "Audit", "Off", false],
    })
}

fn exception() -> Vec<Constraint> {
    let mut rules = set(MAX_RULES);
    rules["minItems"] = 1.into();
    vec![
        put("spec.rules", rules),
        put("spec.rules[]", rule_id()),
        put("spec.namespace", exact("namespace", MAX_LABEL)),
        put("spec.release", exact("release", MAX_NAME)),
        put("spec.from", versions()),
        put("spec.to", versions()),
        put("spec.reason", not_blank("a reason", MAX_TEXT)),
        put("spec.owner", not_blank("an owner", MAX_LINE)),
        put(
            "spec.expires",
            json!({
                "format": "date-time",
                "maxLength": MAX_LABEL,
                "description": "Until when (RFC 3339), at most 30 days ahead. The webhook refuses \
                                a later time, and an exception never applies for longer. This \
                                schema cannot check that, because its rules cannot use the current \
                                time.",
            }),
        ),
    ]
}

fn policy_status() -> Vec<Constraint> {
    let lints = vec![
        put(
            "status.lints",
            json!({"maxItems": MAX_LISTED, "x-kubernetes-list-type": "atomic"}),
        ),
        put("status.lints[].message", text()),
    ];
    [lints, conditions()].concat()
}

/// As Kubernetes limits the conditions of its built-in kinds.
fn conditions() -> Vec<Constraint> {
    vec![
        put("status.conditions", map(&["type"], 32)),
        put(
            "status.conditions[].type",
            json!({"minLength": 1, "maxLength": 316}),
        ),
        put(
            "status.conditions[].reason",
            json!({"minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"}),
        ),
        put("status.conditions[].message", text()),
    ]
}

fn run() -> Vec<Constraint> {
    let steps = json!({"maxItems": MAX_STEPS, "x-kubernetes-list-type": "atomic"});
    let image = "has(self.image) == has(oldSelf.image) && (!has(self.image) || self.image == oldSelf.image)";
    let mut all = vec![
        put("spec", said(image, "image must not change")),
        put("spec.release", name(MAX_NAME)),
        put("spec.namespace", name(MAX_LABEL)),
        put(
            "spec.from",
            json!({"pattern": VERSION, "maxLength": MAX_LABEL}),
        ),
        put(
            "spec.to",
            json!({"pattern": VERSION, "maxLength": MAX_LABEL}),
        ),
        put("spec.planHash", line()),
        put("spec.image", line()),
        put("spec.requestedBy", line()),
        // Order counts, so it is one value, not a list with keys.
        put("spec.plan", steps),
        put(
            "spec.plan[].id",
            json!({"minLength": 1, "maxLength": MAX_NAME}),
        ),
        put("spec.plan[].title", text()),
        put("spec.plan[].workload", json!({"maxLength": MAX_NAME})),
    ];
    all.extend(
        [
            "kind",
            "release",
            "namespace",
            "from",
            "to",
            "plan",
            "planHash",
        ]
        .map(|field| put(&format!("spec.{field}"), fixed(field))),
    );
    all
}

fn run_status() -> Vec<Constraint> {
    vec![
        put("status.helm.leaving", map(&["kind", "name"], MAX_OBJECTS)),
        put("status.helm.leaving[].apiVersion", line()),
        put("status.helm.leaving[].kind", line()),
        put("status.helm.leaving[].name", name(MAX_NAME)),
        put("status.originals", map(&["kind", "name"], MAX_OBJECTS)),
        put(
            "status.originals[].images",
            map(&["container"], MAX_OBJECTS),
        ),
        put("status.originals[].fields", map(&["path"], MAX_OBJECTS)),
        put("status.originals[].strategy", json!({"type": "object"})),
        put("status.pods", atomic(super::PODS_LIMIT)),
        put("status.loaded.replacedNodes", atomic(MAX_NODES)),
        put("status.loaded.collections", atomic(MAX_COLLECTIONS)),
        put("status.loaded.collections[].lagging", atomic(MAX_LAGGING)),
        put("status.searches", atomic(MAX_SEARCHES)),
        put("status.searches[].hits", atomic(MAX_HITS)),
        put("status.suspended", atomic(MAX_SUSPENDED)),
        put("status.backup.location", line()),
        put("status.backup.sha256", json!({"pattern": SHA256})),
        put("status.evidence.endpoints", set(MAX_LISTED)),
        put("status.evidence.workloadUids", set(MAX_LISTED)),
        put("status.history", atomic(HISTORY_LIMIT)),
        put("status.history[].message", text()),
        put("status.message", text()),
    ]
}

fn decision() -> Vec<Constraint> {
    let mut all = vec![
        put("spec.release", name(MAX_NAME)),
        put("spec.namespace", name(MAX_LABEL)),
        put("spec.revision", json!({"minimum": 1})),
        put(
            "spec.acceptedRules",
            json!({"maxItems": MAX_RULES, "x-kubernetes-list-type": "atomic"}),
        ),
        put(
            "spec.acceptedRules[].rule",
            json!({"pattern": RULE_ID, "maxLength": 5}),
        ),
        put(
            "spec.acceptedRules[].reference",
            json!({"maxLength": MAX_LINE}),
        ),
        put("spec.objects", map(&["kind", "name"], MAX_OBJECTS)),
        put("spec.objects[].digest", line()),
        put("spec.objects[].before", line()),
    ];
    // One object for each release: the newest revision takes the place of the one before.
    all.extend(["release", "namespace"].map(|field| put(&format!("spec.{field}"), fixed(field))));
    all
}
