#![no_main]
//! Any bytes as an admission review, and as the Deployment inside one: from text to the answer.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use milvus_guard_core::{admission::{Review, ReviewState, Task, mutate::mutate, review_state::Accounts}, milvus::NamespaceState};
use milvus_guard_sources::files::{Role, objects::Collector};
use serde_json::{Value, json};

static ACCOUNTS: LazyLock<Accounts> = LazyLock::new(Accounts::default);
static PLACE: LazyLock<Arc<NamespaceState>> = LazyLock::new(|| {
    let mut collector = Collector::new(Role::Before, Some("milvus"));
    collector.add_text(include_str!("../../examples/demo/1-skipped-migration/before.yaml"), "running").expect("a fixture");
    let content = collector.content("running").expect("a fixture");
    Arc::new(NamespaceState { snapshot: content.builder().build(), configs: content.configs() })
});

fn judge(body: &[u8]) {
    let Ok(review) = Review::parse(body) else { return };
    let context = ReviewState::of(Arc::clone(&PLACE), &ACCOUNTS, Timestamp::UNIX_EPOCH);
    let response = Task::of(&review).judge(&context).response;
    // A space at the end is enough for the other way of reading.
    let loose = [body, b" "].concat();
    let long = Review::parse(&loose).expect("the same review");
    assert_eq!(response, Task::of(&long).judge(&context).response);
    let answer: Value = serde_json::from_slice(&response.render(&review.uid)).expect("JSON");
    assert_eq!(answer["response"]["uid"], *review.uid);
    settles(&review);
}

/// The patch applies, and there is none after it.
fn settles(review: &Review<'_>) {
    // Read and written once, so that no key is there twice: the API server sends none twice.
    let Some(Ok(mut object)) = review.object.map(|raw| serde_json::from_str::<Value>(raw.get())) else { return };
    if !object["metadata"].is_object() {
        return;
    }
    let patch = patch(review, &object);
    json_patch::patch(&mut object, &patch).expect("the patch applies");
    assert!(self::patch(review, &object).is_empty(), "one patch is enough");
}

fn patch(review: &Review<'_>, object: &Value) -> json_patch::Patch {
    let body = json!({"apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u", "namespace": review.namespace, "operation": "UPDATE", "subResource": review.sub_resource,
        "resource": {"group": review.resource.group, "resource": review.resource.resource}, "object": object}})
    .to_string();
    let response = mutate(&Review::parse(body.as_bytes()).expect("a review"));
    serde_json::from_value(json!(response.patch)).expect("a patch")
}

fuzz_target!(|data: &[u8]| {
    judge(data);
    if let Ok(object) = serde_json::from_slice::<Value>(data) {
        let body = json!({"apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "namespace": "milvus", "operation": "UPDATE",
            "resource": {"group": "apps", "resource": "deployments"}, "object": object}});
        judge(body.to_string().as_bytes());
    }
});
