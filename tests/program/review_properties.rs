//! Properties of any review: nothing panics between its text and the answer, the version label is
//! set in one step, and a change of only metadata is allowed.

use std::sync::{Arc, LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use milvus_guard_core::{
    admission::{
        Response, Review, ReviewState, Ruling, Task, mutate::mutate, review_state::Accounts,
    },
    evidence::Facts,
    manifest::documents,
    milvus::NamespaceState,
    rules::Overdue,
};
use milvus_guard_sources::files::{Role, objects::Collector};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const RUNNING: &str = include_str!("../../examples/demo/1-skipped-migration/before.yaml");

static ACCOUNTS: LazyLock<Accounts> =
    LazyLock::new(|| Accounts::new("milvus-guard", "milvus-guard", "milvus-guard-job"));
static PLACE: LazyLock<Arc<NamespaceState>> = LazyLock::new(|| {
    let mut collector = Collector::new(Role::Before, Some("milvus"));
    collector.add_text(RUNNING, "running").unwrap();
    Arc::new(NamespaceState::new(
        collector.content("running").unwrap().objects,
    ))
});
/// The workloads of the running state: only Deployments and `StatefulSets`.
static WORKLOADS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let all = documents(RUNNING).map(|document| document.unwrap().root.to_json());
    all.filter(|object| object["kind"] == "Deployment" || object["kind"] == "StatefulSet")
        .collect()
});

fn context(overdue: Option<Overdue<'static>>) -> ReviewState<'static> {
    ReviewState {
        facts: Facts {
            runs: Some(Vec::new()),
            ..Facts::default()
        },
        overdue,
        ..ReviewState::of(Arc::clone(&PLACE), &ACCOUNTS, Timestamp::UNIX_EPOCH)
    }
}

fn review(operation: &str, object: &Value, old: &Value) -> String {
    let kind = if object["kind"] == "StatefulSet" || old["kind"] == "StatefulSet" {
        "statefulsets"
    } else {
        "deployments"
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "name": "some-name", "namespace": "milvus", "operation": operation,
        "resource": {"group": "apps", "version": "v1", "resource": kind}, "userInfo": {"username": "me"},
        "object": object, "oldObject": old}})
    .to_string()
}

/// The result of a review must be the same from the JSON tape and from `serde_json`, which reads
/// the text if it ends with a space.
fn both_ways<T: PartialEq + std::fmt::Debug>(text: &str, answer: impl Fn(&Review<'_>) -> T) -> T {
    let short = answer(&Review::parse(text.as_bytes()).unwrap());
    let loose = format!("{text} ");
    assert_eq!(
        short,
        answer(&Review::parse(loose.as_bytes()).unwrap()),
        "{text}"
    );
    short
}

fn judged(text: &str) -> Ruling {
    let ruling = |review: &Review<'_>| Task::of(review).judge(&context(None));
    both_ways(text, |review| ruling(review).response);
    ruling(&Review::parse(text.as_bytes()).unwrap())
}

fn mutated(text: &str) -> Response {
    both_ways(text, mutate)
}

/// The answer as the API server reads it.
fn answer(response: &Response) -> Value {
    let answer: Value = serde_json::from_slice(&response.render("u-1")).unwrap();
    assert_eq!(
        (&answer["apiVersion"], &answer["response"]["uid"]),
        (&json!("admission.k8s.io/v1"), &json!("u-1"))
    );
    answer["response"].clone()
}

/// Applies the patch of an answer to the object.
fn patched(object: &Value, answer: &Value) -> Value {
    let mut object = object.clone();
    if let Some(patch) = answer["patch"].as_str() {
        let patch: json_patch::Patch =
            serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch)
            .unwrap_or_else(|error| panic!("{error}: {patch} of {object}"));
    }
    object
}

/// A change at a place that a number selects.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, Value),
    Remove(usize),
    /// Replaces one part of the object by another part of it.
    Copy(usize, usize),
    Rename(usize, String),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        Just(json!(1.5)),
        Just(json!(true)),
        Just(json!([null, {}, [], "x"])),
        Just(json!("milvusdb/milvus:v2.6.0-rc1")),
        Just(json!("milvusdb/milvus:2.6-20260101-abcdef")),
        Just(json!("registry:5000/a/b@sha256:0000")),
        Just(json!("milvus")),
        Just(json!("9999999999999999999999999")),
        Just(json!("1e400")),
        ".{0,80}".prop_map(Value::from),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), value()).prop_map(|(at, value)| Change::Set(at, value)),
        2 => any::<usize>().prop_map(Change::Remove),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Copy(from, to)),
        1 => (any::<usize>(), ".{0,10}").prop_map(|(at, key)| Change::Rename(at, key)),
    ]
}

fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                pointers(
                    value,
                    &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
}

impl Change {
    fn apply(&self, object: &mut Value) {
        let mut all = Vec::new();
        pointers(object, "", &mut all);
        let pick = |at: usize| all[at % all.len()].clone();
        match self {
            Self::Set(at, value) => *object.pointer_mut(&pick(*at)).unwrap() = value.clone(),
            Self::Copy(from, to) => {
                let value = object.pointer(&pick(*from)).unwrap().clone();
                *object.pointer_mut(&pick(*to)).unwrap() = value;
            }
            Self::Remove(at) | Self::Rename(at, _) => {
                let pointer = pick(*at);
                let Some((parent, key)) = pointer.rsplit_once('/') else {
                    return;
                };
                let key = key.replace("~1", "/").replace("~0", "~");
                match (object.pointer_mut(parent), self) {
                    (Some(Value::Object(fields)), Self::Rename(_, new)) => {
                        let value = fields.shift_remove(&key).unwrap();
                        fields.insert(new.clone(), value);
                    }
                    (Some(Value::Object(fields)), _) => {
                        fields.shift_remove(&key);
                    }
                    (Some(Value::Array(items)), _) => {
                        items.remove(key.parse::<usize>().unwrap());
                    }
                    _ => {}
                }
            }
        }
    }
}

fn some_workload() -> impl Strategy<Value = Value> {
    (0..WORKLOADS.len()).prop_map(|index| WORKLOADS[index].clone())
}

fn labels() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        Just("app.kubernetes.io/version".to_owned()),
        Just("guard.milvus.io/version".to_owned()),
        Just("a~b/c~1d".to_owned()),
        "[a-z]{1,8}".prop_map(|key| key),
    ];
    let value = prop_oneof![
        Just("2.1.4".to_owned()),
        Just("2.6.0".to_owned()),
        "[a-z0-9.]{0,10}".prop_map(|text| text)
    ];
    proptest::collection::vec((key, value.prop_map(Value::from)), 0..4)
        .prop_map(|pairs| pairs.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn any_review_gets_an_answer(
        old in some_workload(),
        changes in proptest::collection::vec(change(), 1..6),
        operation in prop_oneof![Just("CREATE"), Just("UPDATE"), Just("DELETE"), Just("CONNECT")],
    ) {
        let mut new = old.clone();
        for change in &changes {
            change.apply(&mut new);
        }
        for text in [review(operation, &new, &old), review(operation, &old, &new), review(operation, &Value::Null, &new)] {
            let said = answer(&judged(&text).response);
            prop_assert!(said["allowed"].is_boolean());
            prop_assert!(said["patch"].is_null());
            answer(&mutated(&text));
        }
        // Changes to the envelope: every text that is still a valid review gets an answer.
        let mut envelope: Value = serde_json::from_str(&review(operation, &new, &old)).unwrap();
        for change in &changes {
            change.apply(&mut envelope);
        }
        let text = envelope.to_string();
        if let Ok(review) = Review::parse(text.as_bytes()) {
            let _ = Task::of(&review).judge(&context(None)).response.render(&review.uid);
            both_ways(&text, |review| Task::of(review).judge(&context(None)).response);
            both_ways(&text, mutate);
        } else {
            let loose = format!("{text} ");
            prop_assert!(Review::parse(loose.as_bytes()).is_err());
        }
    }

    #[test]
    fn the_version_label_is_set_in_one_step(
        mut object in some_workload(),
        labels in proptest::option::of(labels()),
        changes in proptest::collection::vec(change(), 0..3),
    ) {
        if let Some(labels) = labels {
            object["metadata"]["labels"] = Value::Object(labels);
        }
        let mut spec = object["spec"].take();
        for change in &changes {
            change.apply(&mut spec);
        }
        object["spec"] = spec;
        let old = Value::Null;
        let first = answer(&mutated(&review("CREATE", &object, &old)));
        let after = patched(&object, &first);
        let second = answer(&mutated(&review("CREATE", &after, &old)));
        prop_assert!(second["patch"].is_null(), "{first} {second}");
        let without = |object: &Value| {
            let mut labels = object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            labels.retain(|key, _| key != "app.kubernetes.io/version" && key != "guard.milvus.io/version");
            (labels, object["spec"].clone())
        };
        prop_assert_eq!(without(&object), without(&after), "only the two labels are touched");
    }

    #[test]
    fn a_change_of_only_metadata_is_allowed(
        old in some_workload(),
        annotations in proptest::collection::btree_map("[a-z]{1,8}", ".{0,40}", 0..4),
        generation in any::<u32>(),
    ) {
        let mut new = old.clone();
        new["metadata"]["annotations"] = json!(annotations);
        new["metadata"]["generation"] = json!(generation);
        new["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Update"}]);
        new["metadata"]["labels"]["team"] = json!("search");
        new["status"] = json!({"replicas": generation});
        let ruling = judged(&review("UPDATE", &new, &old));
        prop_assert_eq!(ruling.response.denied, None);
        prop_assert!(ruling.response.warnings.is_empty());
    }
}

#[test]
fn a_data_rule_that_ran_out_of_time_denies() {
    let old = WORKLOADS[0].clone();
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let text = review("UPDATE", &new, &old);
    let parsed = Review::parse(text.as_bytes()).unwrap();
    let late = Task::of(&parsed).judge(&context(Some(Overdue(&|| true))));
    assert!(late.response.denied.is_some(), "{late:?}");
    assert!(!late.failed.is_empty());
    // A rule without time reports neither the old nor the new state as checked, so even a harmless
    // change is denied until the next attempt.
    new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "GODEBUG", "value": "madvdontneed=0"}]);
    let text = review("UPDATE", &new, &old);
    let parsed = Review::parse(text.as_bytes()).unwrap();
    assert!(
        Task::of(&parsed)
            .judge(&context(Some(Overdue(&|| true))))
            .response
            .denied
            .is_some()
    );
    assert_eq!(
        Task::of(&parsed).judge(&context(None)).response.denied,
        None
    );
}

#[test]
fn a_duplicate_specification_is_denied() {
    let old = WORKLOADS[0].clone();
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let whole = review("UPDATE", &new, &old);
    let (spec, same) = (
        format!(r#""spec":{}"#, new["spec"]),
        format!(r#""spec":{}"#, old["spec"]),
    );
    assert!(whole.contains(&spec));
    for doubled in [format!("{same},{spec}"), format!("{spec},{same},{spec}")] {
        let ruling = judged(&whole.replacen(&spec, &doubled, 1));
        assert!(ruling.response.denied.is_some(), "{ruling:?}");
    }
}
