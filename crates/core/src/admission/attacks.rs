//! Attacks on the gates, each in several variants: who has some rights must not get a "yes" that
//! the state of things does not give.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    Review, ReviewState, Ruling, Task,
    parity::{documents_of, object_review, review, state},
    review_state::Accounts,
};
use crate::{
    api::DecisionSpec,
    evidence::Facts,
    milvus::{Component, NamespaceState},
    rules::testing::{Fixture, objects},
};

pub(super) fn rule(text: &str, state: &ReviewState<'_>) -> Ruling {
    Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(state)
}

pub(super) fn denied(ruling: &Ruling, part: &str) {
    let text = ruling
        .response
        .denied
        .as_deref()
        .unwrap_or("it was allowed");
    assert!(text.contains(part), "{part:?} is not in: {text}");
    assert_eq!(ruling.decision, None, "a denial leaves no decision");
}

/// A record of Helm, changed after it was made: the object by the first function, the payload by
/// the second.
pub(super) fn record(
    after: &Fixture,
    status: &str,
    outside: impl Fn(&mut Value),
    inside: impl Fn(&mut Value),
) -> String {
    let mut value: Value = serde_json::from_str(&review(None, after, status, &json!({}))).unwrap();
    let payload = value["request"]["object"]["data"]["release"]
        .as_str()
        .unwrap()
        .to_owned();
    let unpacked = BASE64_STANDARD
        .decode(BASE64_STANDARD.decode(payload).unwrap())
        .unwrap();
    let mut release: Value = serde_json::from_slice(&unpacked).unwrap();
    inside(&mut release);
    value["request"]["object"]["data"]["release"] =
        json!(BASE64_STANDARD.encode(BASE64_STANDARD.encode(release.to_string())));
    outside(&mut value["request"]);
    value.to_string()
}

fn as_release(name: &'static str) -> (impl Fn(&mut Value), impl Fn(&mut Value)) {
    let outside = move |request: &mut Value| {
        let record = json!(format!("sh.helm.release.v1.{name}.v2"));
        request["name"] = record.clone();
        request["object"]["metadata"]["name"] = record;
        request["object"]["metadata"]["labels"]["name"] = json!(name);
    };
    (outside, move |release: &mut Value| {
        release["name"] = json!(name);
    })
}

#[test]
fn another_release_name_over_the_same_objects_is_no_installation() {
    let accounts = Accounts::default();
    let state = state(
        Some(&Fixture::cluster("2.1.4")),
        &Facts::default(),
        &accounts,
    );
    for status in ["pending-install", "pending-upgrade", "pending-rollback"] {
        let (outside, inside) = as_release("ghost");
        let text = record(&Fixture::cluster("2.2.16"), status, outside, inside);
        denied(&rule(&text, &state), "MG101");
    }
    // One object of the other release is enough, in addition to one's own Milvus.
    let (outside, inside) = as_release("ghost");
    let own = Fixture::standalone("2.2.16")
        .fullname("own")
        .yaml()
        .replace("my-release", "ghost");
    let taken = Fixture::of("2.2.16", &[Component::DataCoord]).object(&own);
    denied(
        &rule(&record(&taken, "pending-install", outside, inside), &state),
        "MG101",
    );
}

#[test]
fn another_name_over_the_same_data_is_no_installation() {
    let accounts = Accounts::default();
    let outside = |name: &str, version: &str, root_path: &str| {
        Fixture::cluster(version).named(name).default_yaml(&format!(
            "etcd: {{endpoints: [\"etcd.example.com:2379\"], rootPath: {root_path}}}\n"
        ))
    };
    let running = state(
        Some(&outside("my-release", "2.1.4", "by-dev")),
        &Facts::default(),
        &accounts,
    );
    let install = |after: &Fixture| review(None, after, "pending-install", &json!({}));
    denied(
        &rule(&install(&outside("ghost", "2.2.16", "by-dev")), &running),
        "MG101",
    );
    let text = "2.2.16 without evidence of a metadata migration (compared with release \
                milvus/my-release, whose data this release would use)";
    denied(
        &rule(&install(&outside("ghost", "2.2.16", "by-dev")), &running),
        text,
    );
    denied(
        &rule(&install(&outside("ghost", "2.0.2", "/by-dev/")), &running),
        "MG103",
    );
    assert_eq!(
        rule(&install(&outside("ghost", "2.2.16", "other")), &running)
            .response
            .denied,
        None,
        "separate data"
    );
    // The same by kubectl, object by object.
    let created = |after: &Fixture, kind: &str| {
        let all = documents_of(after);
        let object = all
            .values()
            .find(|object| object["kind"] == kind)
            .unwrap()
            .clone();
        object_review(None, Some(&object))
    };
    let with_config = |after: &Fixture| {
        let mut state = running.clone();
        let config = objects(after)
            .into_iter()
            .find(|object| matches!(object, crate::manifest::Object::Config(_)))
            .unwrap();
        state.place = Arc::new(state.place.with(config));
        state
    };
    let ghost = outside("ghost", "2.2.16", "by-dev");
    denied(
        &rule(&created(&ghost, "Deployment"), &with_config(&ghost)),
        "MG101",
    );
    // The running release is in another namespace.
    let mut far = running.clone();
    let one = running.place.snapshot.releases[0].clone();
    far.elsewhere = super::review_state::Elsewhere::new(move |location| {
        one.data_location()
            .filter(|own| own.is_same(location))
            .map(|_| one.clone())
            .into_iter()
            .collect()
    });
    far.place = Arc::default();
    denied(
        &rule(&install(&outside("ghost", "2.2.16", "by-dev")), &far),
        "MG101",
    );
    assert_eq!(
        rule(&install(&outside("ghost", "2.2.16", "other")), &far)
            .response
            .denied,
        None
    );
    far.place = with_config(&ghost).place;
    denied(&rule(&created(&ghost, "Deployment"), &far), "MG101");
    // Nothing runs any more, and the data is left.
    let mut left = running.clone();
    left.remembered = running.place.snapshot.releases.clone().into();
    left.place = Arc::default();
    denied(&rule(&install(&ghost), &left), "MG101");
    left.place = with_config(&ghost).place;
    denied(&rule(&created(&ghost, "Deployment"), &left), "MG101");
}

#[rstest]
#[case::name("the name", |request: &mut Value| request["object"]["metadata"]["name"] = json!("sh.helm.release.v1.other.v2"))]
#[case::revision("the name", |request: &mut Value| request["object"]["metadata"]["name"] = json!("sh.helm.release.v1.my-release.v3"))]
#[case::label_name("the label name", |request: &mut Value| request["object"]["metadata"]["labels"]["name"] = json!("other"))]
#[case::label_version("the label version", |request: &mut Value| request["object"]["metadata"]["labels"]["version"] = json!("7"))]
#[case::no_label("the label version", |request: &mut Value| {
    request["object"]["metadata"]["labels"].as_object_mut().unwrap().remove("version");
})]
#[case::label_status("the label status", |request: &mut Value| request["object"]["metadata"]["labels"]["status"] = json!("pending-install"))]
#[case::namespace("the namespace", |request: &mut Value| request["namespace"] = json!("foreign"))]
fn a_record_that_does_not_agree_with_its_payload_is_denied(
    #[case] what: &str,
    #[case] change: fn(&mut Value),
) {
    let accounts = Accounts::default();
    let text = record(
        &Fixture::cluster("2.4.5"),
        "pending-upgrade",
        change,
        |_| {},
    );
    denied(
        &rule(&text, &state(None, &Facts::default(), &accounts)),
        &format!("{what} is"),
    );
}

/// Both have other metadata.
#[rstest]
#[case::objects(
    "minio: {address: s3.example.com, bucketName: b, rootPath: r}",
    "",
    Some("MG303")
)]
#[case::another_root_path(
    "minio: {address: s3.example.com, bucketName: b, rootPath: NAME}",
    "",
    None
)]
#[case::channels(
    "mq: {type: kafka}\nkafka: {brokerList: \"kafka.example.com:9092\"}",
    "",
    Some("MG301")
)]
#[case::another_prefix(
    "mq: {type: kafka}\nkafka: {brokerList: \"kafka.example.com:9092\"}",
    "msgChannel: {chanNamePrefix: {cluster: NAME}}",
    None
)]
fn no_second_release_starts_on_the_objects_or_channels_of_one_that_runs(
    #[case] shared: &str,
    #[case] more: &str,
    #[case] denied_by: Option<&str>,
) {
    let accounts = Accounts::default();
    let fixture = |name: &str| {
        let yaml = format!("etcd: {{endpoints: [\"NAME.example.com:2379\"]}}\n{shared}\n{more}");
        Fixture::cluster("2.5.27")
            .named(name)
            .default_yaml(&yaml.replace("NAME", name))
    };
    let (running, second) = (fixture("my-release"), fixture("second"));
    let mut state = state(Some(&running), &Facts::default(), &accounts);
    let check = |text: &str, state: &ReviewState<'_>| {
        let ruling = rule(text, state);
        match denied_by {
            Some(id) => denied(&ruling, id),
            None => assert_eq!(ruling.response.denied, None),
        }
    };
    check(
        &review(None, &second, "pending-install", &json!({})),
        &state,
    );
    // Object by object, the coordinator last.
    let documents = documents_of(&second);
    let coordinator = documents
        .values()
        .find(|object| object["metadata"]["name"] == "second-milvus-mixcoord")
        .unwrap();
    let others = objects(&second)
        .into_iter()
        .filter(|object| object.meta().object.name != "second-milvus-mixcoord");
    let mut begun = state.clone();
    begun.place = Arc::new(NamespaceState::new(
        objects(&running).into_iter().chain(others),
    ));
    check(&object_review(None, Some(coordinator)), &begun);
    // Both run already: an upgrade of one is not stopped for it.
    state.place = Arc::new(NamespaceState::new(
        objects(&running).into_iter().chain(objects(&second)),
    ));
    let ruling = rule(
        &review(Some(&second), &second, "pending-upgrade", &json!({})),
        &state,
    );
    assert_eq!(ruling.response.denied, None);
}

#[test]
fn no_second_release_starts_on_the_data_of_one_that_runs() {
    let accounts = Accounts::default();
    let fixture = |name: &str, more: &str| {
        Fixture::cluster("2.5.27").named(name).default_yaml(&format!(
            "etcd: {{endpoints: [\"etcd.example.com:2379\"]}}\nmq: {{type: kafka}}\nkafka: {{brokerList: \"kafka:9092\"}}\n{more}"
        ))
    };
    let running = fixture("my-release", "");
    let mut state = state(Some(&running), &Facts::default(), &accounts);
    let install = |after: &Fixture| review(None, after, "pending-install", &json!({}));
    let text = "MG202 coordinator-layout: mixcoord would run at the same time as the coordinators \
                of milvus/my-release on the same metadata (compared with release \
                milvus/my-release, whose data this release would use)";
    denied(&rule(&install(&fixture("second", "")), &state), text);
    // Standbys, another root path, a stopped one.
    let standby = "rootCoord: {enableActiveStandby: true}\nqueryCoord: {enableActiveStandby: true}\ndataCoord: {enableActiveStandby: true}\n";
    let stopped = fixture("second", "").replicas(Component::MixCoord, 0);
    for other in [fixture("second", standby), stopped] {
        let ruling = rule(&install(&other), &state);
        assert_eq!(ruling.response.denied, None);
    }
    // Object by object, workers first.
    let second = documents_of(&fixture("second", ""));
    let coordinator = second
        .values()
        .find(|object| object["metadata"]["name"] == "second-milvus-mixcoord")
        .unwrap();
    let workers = objects(&fixture("second", ""))
        .into_iter()
        .filter(|object| object.meta().object.name != "second-milvus-mixcoord");
    let mut begun = state.clone();
    begun.place = Arc::new(NamespaceState::new(
        objects(&running).into_iter().chain(workers),
    ));
    denied(
        &rule(&object_review(None, Some(coordinator)), &begun),
        "MG202",
    );
    // Both run already: an upgrade of one is not stopped for it.
    let second = objects(&fixture("second", ""));
    state.place = Arc::new(NamespaceState::new(
        objects(&running).into_iter().chain(second),
    ));
    let upgrade = review(None, &fixture("second", ""), "pending-upgrade", &json!({}));
    assert_eq!(rule(&upgrade, &state).response.denied, None);
    // The other one is stopped.
    let stopped = fixture("my-release", "").replicas(Component::MixCoord, 0);
    state.place = Arc::new(NamespaceState::new(objects(&stopped)));
    assert_eq!(
        rule(&install(&fixture("second", "")), &state)
            .response
            .denied,
        None
    );
}

/// One component of a fixture before and after, with a field manager.
fn update(
    before: &Fixture,
    after: &Fixture,
    manager: &str,
    change: impl Fn(&mut Value, &mut Value),
) -> String {
    let find = |fixture: &Fixture| {
        documents_of(fixture)
            .into_values()
            .find(|object| object["metadata"]["name"] == "my-release-milvus-proxy")
            .unwrap()
    };
    let (mut old, mut new) = (find(before), find(after));
    change(&mut old, &mut new);
    let mut value: Value = serde_json::from_str(&object_review(Some(&old), Some(&new))).unwrap();
    value["request"]["options"]["fieldManager"] = json!(manager);
    value.to_string()
}

fn with_decision<'a>(
    before: &Fixture,
    after: &Fixture,
    release: &str,
    accounts: &'a Accounts,
) -> ReviewState<'a> {
    let mut state = state(
        Some(before),
        &Facts {
            rollouts: Some(Vec::new()),
            ..Facts::default()
        },
        accounts,
    );
    let labels = json!({"guard.milvus.io/accept": "MG201_MG106-r2"});
    let text = review(Some(before), after, "pending-upgrade", &labels);
    let ruling = rule(&text, &state);
    let decision = ruling
        .decision
        .unwrap_or_else(|| panic!("{:?}", ruling.response.denied));
    state.decisions = Arc::new([DecisionSpec {
        release: release.to_owned(),
        ..decision
    }]);
    state
}

#[test]
fn a_decision_counts_for_helm_and_its_own_release_alone() {
    let (before, after) = (Fixture::cluster("2.4.5"), Fixture::cluster("2.5.12"));
    let accounts = Accounts::default();
    let own = with_decision(&before, &after, "my-release", &accounts);
    let plain = |_: &mut Value, _: &mut Value| {};
    assert_eq!(
        rule(&update(&before, &after, "helm", plain), &own)
            .response
            .denied,
        None
    );
    assert_eq!(
        rule(&update(&before, &after, "helm-controller", plain), &own)
            .response
            .denied,
        None
    );
    for manager in [
        "kubectl-set",
        "lens",
        "argocd-controller",
        "k9s",
        "Go-http-client",
        "",
    ] {
        denied(
            &rule(&update(&before, &after, manager, plain), &own),
            "MG201",
        );
    }
    let foreign = with_decision(&before, &after, "ghost", &accounts);
    let ruling = rule(&update(&before, &after, "helm", plain), &foreign);
    assert!(
        ruling.response.denied.is_none() && ruling.rules.iter().any(|(id, _)| *id == "MG201"),
        "judged, as Helm's: {ruling:?}"
    );
    // Changed otherwise since.
    let moved = Fixture::cluster("2.4.17");
    let mut since = own.clone();
    since.place = Arc::new(NamespaceState::new(objects(&moved)));
    let ruling = rule(&update(&moved, &after, "helm", plain), &since);
    assert!(
        ruling.rules.iter().any(|(id, _)| *id == "MG201"),
        "{ruling:?}"
    );
    // Expired.
    let mut late = own;
    late.now = Timestamp::UNIX_EPOCH + crate::api::decision::LIFETIME;
    assert!(
        rule(&update(&before, &after, "helm", plain), &late)
            .rules
            .iter()
            .any(|(id, _)| *id == "MG201")
    );
}

#[test]
fn the_mark_of_helm_is_no_leniency_for_whoever_brings_it_along() {
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
    let rule_of = |manager: &str, old_mark: Option<&str>| {
        let text = update(&before, &after, manager, |old, _| match old_mark {
            Some(mark) => old["metadata"]["annotations"]["meta.helm.sh/release-name"] = json!(mark),
            None => old["metadata"]["annotations"] = json!({}),
        });
        rule(&text, &state)
    };
    assert_eq!(
        rule_of("helm", Some("my-release")).response.denied,
        None,
        "Helm is never stopped half-way for an order"
    );
    denied(&rule_of("helm", None), "MG201");
    denied(&rule_of("helm", Some("other")), "MG201");
    denied(&rule_of("lens", Some("my-release")), "MG201");
}

#[test]
fn a_configuration_that_is_deleted_and_created_again_is_compared_with_the_one_of_before() {
    let yaml =
        |root: &str| format!("etcd: {{endpoints: [\"my-release-etcd:2379\"], rootPath: {root}}}\n");
    let before = Fixture::cluster("2.4.5").default_yaml(&yaml("prod"));
    let accounts = Accounts::default();
    let mut state = state(Some(&before), &Facts::default(), &accounts);
    let last_known = state.place.snapshot.releases.clone();
    state.place =
        Arc::new(NamespaceState::new(objects(&before).into_iter().filter(
            |object| !matches!(object, crate::manifest::Object::Config(_)),
        )));
    state.last_known = last_known.into();
    let created = |root: &str| {
        let after = documents_of(&Fixture::cluster("2.4.5").default_yaml(&yaml(root)));
        object_review(
            None,
            after.values().find(|object| object["kind"] == "ConfigMap"),
        )
    };
    denied(&rule(&created("other"), &state), "MG302");
    assert_eq!(rule(&created("prod"), &state).response.denied, None);
    // The same by Helm, as a whole.
    let upgrade = |root: &str| {
        review(
            Some(&before),
            &Fixture::cluster("2.4.5").default_yaml(&yaml(root)),
            "pending-upgrade",
            &json!({}),
        )
    };
    denied(&rule(&upgrade("other"), &state), "MG302");
    assert_eq!(rule(&upgrade("prod"), &state).response.denied, None);
}

pub(super) const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data-my-release-etcd-0, labels: {app.kubernetes.io/instance: my-release}}\nspec: {resources: {requests: {storage: 1Gi}}}\n";

pub(super) fn with_etcd(more: &str) -> Fixture {
    let set = Fixture::cluster("2.4.5").stateful_set(
        "my-release-etcd",
        "app.kubernetes.io/name: etcd",
        "milvusdb/etcd:3.5.18",
    );
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, labels: {{app.kubernetes.io/instance: my-release}}}}\n"
        )
    };
    set.object(CLAIM)
        .object(&service("my-release-etcd"))
        .object(&service("my-release-milvus"))
        .object(more)
}

fn with_services<'a>(fixture: &Fixture, accounts: &'a Accounts) -> ReviewState<'a> {
    let mut state = state(Some(fixture), &Facts::default(), accounts);
    let services = documents_of(fixture)
        .into_values()
        .filter(|object| object["kind"] == "Service");
    state.services = services
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    state
}

#[rstest]
#[case("PersistentVolumeClaim", "MG305")]
#[case("StatefulSet", "MG401")]
fn a_new_owner_is_a_deletion_to_come(#[case] kind: &str, #[case] id: &str) {
    let accounts = Accounts::default();
    let fixture = with_etcd("");
    let state = with_services(&fixture, &accounts);
    let old = documents_of(&fixture)
        .into_values()
        .find(|object| object["kind"] == kind)
        .unwrap();
    let owned = |uids: &[&str]| {
        let mut object = old.clone();
        let owner = |uid: &&str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": uid});
        object["metadata"]["ownerReferences"] = uids.iter().map(owner).collect();
        object
    };
    let change = |old: &Value, new: &Value, user: &str| {
        let mut value: Value = serde_json::from_str(&object_review(Some(old), Some(new))).unwrap();
        value["request"]["userInfo"]["username"] = json!(user);
        rule(&value.to_string(), &state)
    };
    denied(&change(&old, &owned(&["a"]), "someone"), id);
    denied(&change(&owned(&["a"]), &owned(&["a", "b"]), "someone"), id);
    denied(
        &change(&owned(&["a"]), &owned(&["b"]), "someone"),
        "garbage collector",
    );
    let mut more = owned(&["a"]);
    more["metadata"]["labels"]["x"] = json!("y");
    denied(&change(&old, &more, "someone"), id);
    for (before, after) in [(owned(&["a"]), owned(&["a"])), (owned(&["a"]), old.clone())] {
        assert_eq!(change(&before, &after, "someone").response.denied, None);
    }
    let controller = "system:serviceaccount:kube-system:statefulset-controller";
    assert_eq!(
        change(&old, &owned(&["a"]), controller).response.denied,
        None
    );
}

#[test]
fn a_service_that_is_deleted_first_does_not_make_a_deletion_an_uninstallation() {
    let accounts = Accounts::default();
    let fixture = with_etcd("");
    let mut state = with_services(&fixture, &accounts);
    let set = documents_of(&fixture)
        .into_values()
        .find(|object| object["kind"] == "StatefulSet")
        .unwrap();
    let delete = object_review(Some(&set), None);
    denied(&rule(&delete, &state), "MG401");
    denied(&rule(&delete, &state), "do: Keep it, or stop Milvus first.");
    let without = |names: &[&str]| {
        let kept = objects(&fixture).into_iter().filter(|object| {
            !names.contains(&&*object.meta().object.name) || object.meta().object.kind != "Service"
        });
        Arc::new(NamespaceState::new(kept))
    };
    state.services = Arc::new(["my-release-milvus".to_owned()]);
    state.place = without(&["my-release-etcd"]);
    denied(&rule(&delete, &state), "MG401");
    // Helm deletes all Services of a release before the first StatefulSet.
    state.services = Arc::new([]);
    state.place = without(&["my-release-etcd", "my-release-milvus"]);
    assert_eq!(rule(&delete, &state).response.denied, None);
}

#[test]
fn a_dependency_that_deletes_its_claims_is_not_scaled_down() {
    let accounts = Accounts::default();
    let fixture = |policy: &str| {
        let text = with_etcd("").yaml().replace(
            "  serviceName: my-release-etcd\n",
            &format!("  serviceName: my-release-etcd\n{policy}"),
        );
        NamespaceState::new(crate::rules::testing::objects_of(&text))
    };
    let scaled = |policy: &str, subresource: &str| {
        let mut state = state(None, &Facts::default(), &accounts);
        state.place = Arc::new(fixture(policy));
        let text = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "1", "operation": "UPDATE", "namespace": "milvus", "name": "my-release-etcd", "subResource": subresource,
                "resource": {"group": "apps", "version": "v1", "resource": "statefulsets"}, "userInfo": {"username": "someone"},
                "object": {"kind": "Scale", "metadata": {"name": "my-release-etcd"}, "spec": {"replicas": 0}}},
        });
        rule(&text.to_string(), &state)
    };
    let deletes = "  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}\n";
    denied(&scaled(deletes, "scale"), "MG305");
}

#[test]
fn a_namespace_that_the_memory_cannot_hold_takes_no_new_release() {
    let accounts = Accounts::default();
    let mut state = state(None, &Facts::default(), &accounts);
    let after = Fixture::cluster("2.4.24");
    let install = review(None, &after, "pending-install", &json!({}));
    assert_eq!(rule(&install, &state).response.denied, None);
    state.forgets = true;
    denied(&rule(&install, &state), "does not know the version");
    let created = documents_of(&after)
        .into_values()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    denied(
        &rule(&object_review(None, Some(&created)), &state),
        "does not know the version",
    );
    state.place = Arc::new(NamespaceState::new(objects(&after)));
    assert_eq!(
        rule(&install, &state).response.denied,
        None,
        "the running state is known"
    );
}
