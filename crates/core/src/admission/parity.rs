//! One suite, two doors: every case of the validator's tests goes through the release gate too, as
//! the review that Helm would cause, and must come out the same.
//!
//! What only one door has: `check` may be given another release's name (MG204's rename), the
//! metadata's format from etcd (MG101 with `--etcd`), Helm's version (MG702), Argo CD's and Flux's
//! objects (MG704) and Helm's storage (MG504); in a cluster the webhook has runs, rollouts and
//! autoscalers like `check`, and what it remembers of uninstalled releases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "a fixture of tests says what is wrong by panicking"
)]

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Review, ReviewState, Task, review_state::Accounts};
use crate::{
    evidence::Facts,
    manifest::{Object, Origin, Tree, documents},
    milvus::NamespaceState,
    policy::Action,
    rules::testing::{Fixture, objects},
};

/// A review of Helm's record for a release.
pub fn review(
    before: Option<&Fixture>,
    after: &Fixture,
    status: &str,
    labels: &serde_json::Value,
) -> String {
    review_with_hooks(before, after, status, labels, &[])
}

/// The same, with these hooks in the revision.
fn review_with_hooks(
    before: Option<&Fixture>,
    after: &Fixture,
    status: &str,
    labels: &serde_json::Value,
    hooks: &[String],
) -> String {
    let hooks: Vec<_> = hooks.iter().map(|hook| json!({"manifest": hook})).collect();
    // Without its own values a revision has those of the one before (`--reuse-values`).
    let values = after
        .user_values()
        .or_else(|| before?.user_values())
        .map(|values| values.to_json());
    let release = json!({
        "name": after.release_name(), "namespace": "milvus", "version": 2, "info": {"status": status},
        "manifest": after.yaml(), "hooks": hooks, "config": values, "chart": after.stored_chart(),
    });
    let inner = BASE64_STANDARD.encode(release.to_string());
    let mut all =
        json!({"owner": "helm", "status": status, "name": after.release_name(), "version": "2"});
    all.as_object_mut()
        .unwrap()
        .extend(labels.as_object().cloned().unwrap_or_default());
    let record = format!("sh.helm.release.v1.{}.v2", after.release_name());
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "namespace": "milvus", "name": record,
            "resource": {"group": "", "version": "v1", "resource": "secrets"}, "userInfo": {"username": "someone"},
            "object": {"kind": "Secret", "type": "helm.sh/release.v1", "metadata": {"name": record, "labels": all},
                "data": {"release": BASE64_STANDARD.encode(inner)}},
        },
    })
    .to_string()
}

/// What is known where this runs.
pub fn state<'a>(
    before: Option<&Fixture>,
    facts: &Facts,
    accounts: &'a Accounts,
) -> ReviewState<'a> {
    let place = before.map(|before| NamespaceState::new(objects(before)));
    ReviewState {
        facts: facts.clone(),
        ..ReviewState::of(
            Arc::new(place.unwrap_or_default()),
            accounts,
            Timestamp::UNIX_EPOCH,
        )
    }
}

/// What the release gate finds, as rule and action; `None` if it could not see the same change.
pub fn found(
    before: Option<&Fixture>,
    after: &Fixture,
    facts: &Facts,
    is_rollback: bool,
) -> Option<Vec<(&'static str, Action)>> {
    if before.is_some_and(|before| before.release_name() != after.release_name()) {
        return None;
    }
    let status = match (before, is_rollback) {
        (_, true) => "pending-rollback",
        (Some(_), false) => "pending-upgrade",
        (None, false) => "pending-install",
    };
    let text = review(before, after, status, &json!({}));
    let review = Review::parse(text.as_bytes()).unwrap();
    let task = Task::of(&review);
    assert!(
        matches!(task, Task::Release(_)),
        "the release gate must see it"
    );
    let accounts = Accounts::default();
    Some(task.judge(&state(before, facts, &accounts)).rules)
}

/// The order in which a tool sends the objects that change.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    /// As the manifest lists them.
    InOrder,
    /// The other way round.
    Reversed,
}

/// What the workload gate finds when every object that changes is sent alone, as rule and action.
/// What it allows is in the cluster for the next; what is only missing after the change is
/// deleted last.
pub fn found_object_by_object(
    before: &Fixture,
    after: &Fixture,
    facts: &Facts,
    sent: Sent,
) -> Vec<(&'static str, Action)> {
    let accounts = Accounts::default();
    let (old, new) = (documents_of(before), documents_of(after));
    let mut changes: Vec<(Option<&Value>, Option<&Value>)> = new
        .iter()
        .map(|(key, object)| (old.get(key), Some(object)))
        .filter(|(old, new)| *old != *new)
        .collect();
    if matches!(sent, Sent::Reversed) {
        changes.reverse();
    }
    changes.extend(
        old.iter()
            .filter(|(key, _)| !new.contains_key(*key))
            .map(|(_, object)| (Some(object), None)),
    );
    let mut now = state(Some(before), facts, &accounts);
    // A StatefulSet whose Service stands is deleted on its own, not with its release.
    let services = old.values().filter_map(|object| {
        object
            .pointer("/spec/serviceName")?
            .as_str()
            .map(str::to_owned)
    });
    now.services = services.collect();
    let mut found = Vec::new();
    for (old, new) in changes {
        let text = object_review(old, new);
        let review = Review::parse(text.as_bytes()).unwrap();
        let ruling = Task::of(&review).judge(&now);
        let is_denied = ruling.response.denied.is_some();
        found.extend(ruling.rules);
        let origin = Origin {
            source: "x".into(),
            document: 0,
            line: 0,
        };
        let read = |object| Object::read(&Tree::from_json(object), &origin, Some("milvus"));
        if is_denied {
            continue;
        }
        now.place = match (new.and_then(read), old.and_then(read)) {
            (Some(new), _) => Arc::new(now.place.with(new)),
            (None, Some(gone)) => Arc::new(now.place.without(&gone.meta().object)),
            (None, None) => now.place,
        };
    }
    found
}

pub(super) fn documents_of(fixture: &Fixture) -> BTreeMap<(usize, String), Value> {
    let mut all: BTreeMap<(usize, String), Value> = BTreeMap::new();
    for (at, document) in documents(&fixture.yaml()).enumerate() {
        let mut object = document
            .expect("a fixture renders valid YAML")
            .root
            .to_json();
        object["metadata"]["namespace"] = json!("milvus");
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let name = format!("{}/{}", text("/kind"), text("/metadata/name"));
        all.retain(|(_, known), _| *known != name);
        all.insert((at, name), object);
    }
    // The same object has the same key on both sides, wherever it stands.
    all.into_iter()
        .map(|((_, name), object)| ((0, name), object))
        .collect()
}

pub(super) fn object_review(old: Option<&Value>, new: Option<&Value>) -> String {
    let object = new.or(old).expect("one of both");
    let kind = object["kind"].as_str().unwrap_or_default();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .map_or("", |(group, _)| group);
    let resource = format!("{}s", kind.to_ascii_lowercase());
    let operation = match (old, new) {
        (_, None) => "DELETE",
        (None, _) => "CREATE",
        _ => "UPDATE",
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": operation, "namespace": "milvus", "name": object["metadata"]["name"],
            "resource": {"group": group, "version": "v1", "resource": resource}, "userInfo": {"username": "someone"},
            "options": {"fieldManager": "kubectl"},
            "object": new, "oldObject": old,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::AcceptedBy,
        milvus::Component,
        policy::{PolicySet, read},
    };

    #[test]
    fn an_acceptance_by_label_counts_for_its_revision() {
        let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.5.12"));
        let accounts = Accounts::default();
        let state = state(
            Some(&before),
            &Facts {
                rollouts: Some(Vec::new()),
                ..Facts::default()
            },
            &accounts,
        );
        let judged = |label: &str| {
            let text = review(
                Some(&before),
                &after,
                "pending-upgrade",
                &json!({"guard.milvus.io/accept": label}),
            );
            Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state)
        };
        let denied = judged("MG201-r1").response.denied.unwrap();
        assert!(denied.contains("MG201 component-order"), "{denied}");
        assert!(
            denied.contains("--labels guard.milvus.io/accept=MG201-r2"),
            "{denied}"
        );
        let accepted = judged("MG201-r2");
        assert_eq!(
            (accepted.response.denied, accepted.accepted),
            (None, vec!["MG201"])
        );
        assert_eq!(accepted.decision.unwrap().accepted_rules[0].rule, "MG201");
    }

    /// Hooks as the chart `milvus-upgrade` has them, at these moments.
    fn order_hooks(moments: &[&str]) -> Vec<String> {
        let job = |moment: &&str| {
            let args = [
                "upgrade",
                "--instance=my-release",
                &format!("--helm-hook={moment}"),
            ];
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": moment, "annotations": {"helm.sh/hook": moment}},
                "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a", "args": args}]}}},
            })
            .to_string()
        };
        moments.iter().map(job).collect()
    }

    #[test]
    fn hooks_that_order_the_components_count_as_an_acceptance_of_the_order_alone() {
        let accounts = Accounts::default();
        let facts = Facts {
            rollouts: Some(Vec::new()),
            ..Facts::default()
        };
        let both = ["pre-upgrade", "post-upgrade"];
        let judged = |from: &str, to: &str, moments: &[&str], policy: &str| {
            let (before, after) = (Fixture::cluster(from), Fixture::cluster(to));
            let mut state = state(Some(&before), &facts, &accounts);
            let mut policies = PolicySet::default();
            let (documents, _) = read::read(policy, "policy");
            for one in documents {
                policies.add(one);
            }
            state.policies = Arc::new(policies);
            let hooks = order_hooks(moments);
            let text =
                review_with_hooks(Some(&before), &after, "pending-upgrade", &json!({}), &hooks);
            Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state)
        };
        let accepted = judged("2.4.5", "2.5.12", &both, "");
        assert_eq!(accepted.response.denied, None);
        let rules = accepted.decision.unwrap().accepted_rules;
        assert_eq!((&*rules[0].rule, rules[0].by), ("MG201", AcceptedBy::Hook));
        let denied = judged("2.4.5", "2.5.12", &both[..1], "").response.denied;
        assert!(denied.unwrap().contains("MG201 component-order"));
        let none = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\n\
                    spec: {selfAccept: []}\n";
        let forbidden = judged("2.4.5", "2.5.12", &both, none).response.denied;
        assert!(forbidden.unwrap().contains("MG201 component-order"));
        let skipped = judged("2.1.4", "2.2.16", &both, "").response.denied;
        assert!(skipped.unwrap().contains("MG101"));
    }

    #[test]
    fn data_is_never_accepted_by_label() {
        let accounts = Accounts::default();
        let state = state(
            Some(&Fixture::cluster("2.1.4")),
            &Facts::default(),
            &accounts,
        );
        let text = review(
            None,
            &Fixture::cluster("2.2.16"),
            "pending-upgrade",
            &json!({"guard.milvus.io/accept": "MG101-r2"}),
        );
        assert!(
            Task::of(&Review::parse(text.as_bytes()).unwrap())
                .judge(&state)
                .response
                .denied
                .is_some()
        );
    }

    #[test]
    fn several_milvus_of_one_release_are_judged_each() {
        let accounts = Accounts::default();
        let second = |version: &str| {
            Fixture::standalone(version)
                .fullname("second")
                .yaml()
                .replace(
                    "app.kubernetes.io/name: milvus",
                    "app.kubernetes.io/name: second",
                )
        };
        let both = |one: &str, two: &str| Fixture::cluster(one).object(&second(two));
        let state = state(Some(&both("2.4.5", "2.1.4")), &Facts::default(), &accounts);
        let judged = |after: &Fixture| {
            let text = review(None, after, "pending-upgrade", &json!({}));
            Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state)
        };
        assert_eq!(judged(&both("2.4.5", "2.1.4")).response.denied, None);
        let denied = judged(&both("2.4.5", "2.2.16")).response.denied.unwrap();
        assert!(
            denied.contains("MG101") && denied.contains("2.1.4 would become 2.2.16"),
            "{denied}"
        );
    }

    #[test]
    fn hooks_are_judged_like_the_rest() {
        let (before, after) = (Fixture::standalone("2.1.4"), Fixture::standalone("2.2.16"));
        let accounts = Accounts::default();
        let state = state(Some(&before), &Facts::default(), &accounts);
        let text = review(Some(&before), &after, "pending-upgrade", &json!({}));
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let payload = value["request"]["object"]["data"]["release"]
            .as_str()
            .unwrap()
            .to_owned();
        let inner = BASE64_STANDARD
            .decode(BASE64_STANDARD.decode(payload).unwrap())
            .unwrap();
        let mut release: serde_json::Value = serde_json::from_slice(&inner).unwrap();
        release["hooks"] = json!([{"name": "hidden", "manifest": release["manifest"]}]);
        release["manifest"] = json!("");
        let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(release.to_string()));
        value["request"]["object"]["data"]["release"] = json!(payload);
        let text = value.to_string();
        let ruling = Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state);
        assert!(ruling.response.denied.unwrap().contains("MG101"));
    }

    #[test]
    fn another_release_in_the_namespace_is_an_installation() {
        let accounts = Accounts::default();
        let state = state(
            Some(&Fixture::cluster("2.1.4")),
            &Facts::default(),
            &accounts,
        );
        let other = Fixture::standalone("2.5.12")
            .named("other")
            .default_yaml("etcd: {endpoints: [\"other-etcd:2379\"]}\n");
        let text = review(None, &other, "pending-install", &json!({}));
        let ruling = Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state);
        assert_eq!(ruling.response.denied, None);
    }

    #[test]
    fn a_rollback_is_barred_for_data_only() {
        let rules = |found: Vec<(&'static str, Action)>, wanted: Action| -> Vec<&'static str> {
            found
                .into_iter()
                .filter(|(_, action)| *action == wanted)
                .map(|(rule, _)| rule)
                .collect()
        };
        let before = Fixture::cluster("2.4.17");
        let broken = Fixture::cluster("2.4.5").tag_of(Component::Proxy, "v2.4.13");
        let found = found(Some(&before), &broken, &Facts::default(), true).unwrap();
        assert!(rules(found.clone(), Action::Deny).is_empty(), "{found:?}");
    }
}
