//! More variants of the attacks: other shapes of records, other ways to set a setting, other ways
//! to lose a volume. Beside each stands an honest neighbour that must pass.

use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    ReviewState, Ruling,
    attacks::{CLAIM, denied, record, rule, with_etcd},
    parity::{documents_of, object_review, review, state},
    review_state::Accounts,
};
use crate::{
    evidence::Facts,
    manifest::Object,
    milvus::{Component, NamespaceState},
    rules::testing::{Fixture, objects},
};

/// The ruling on a record of Helm with this manifest.
fn by_helm(state: &ReviewState<'_>, manifest: &str, status: &str) -> Ruling {
    let inside = |release: &mut Value| release["manifest"] = json!(manifest);
    rule(
        &record(&Fixture::cluster("2.4.5"), status, |_| {}, inside),
        state,
    )
}

fn workload(fixture: &Fixture, name: &str) -> Value {
    let is = |object: &Value| {
        object["metadata"]["name"] == name && object.pointer("/spec/template").is_some()
    };
    documents_of(fixture).into_values().find(is).unwrap()
}

/// The ruling on one object that changes.
fn put(state: &ReviewState<'_>, old: &Value, new: &Value, manager: &str) -> Ruling {
    let mut value: Value = serde_json::from_str(&object_review(Some(old), Some(new))).unwrap();
    value["request"]["options"]["fieldManager"] = json!(manager);
    rule(&value.to_string(), state)
}

#[rstest]
#[case::list("List", "v1")]
#[case::typed_list("DeploymentList", "apps/v1")]
fn a_list_in_a_manifest_is_judged_like_its_objects(#[case] kind: &str, #[case] api: &str) {
    let accounts = Accounts::default();
    let state = state(
        Some(&Fixture::cluster("2.1.4")),
        &Facts::default(),
        &accounts,
    );
    let list = |version: &str| {
        let objects = documents_of(&Fixture::cluster(version)).into_values();
        let items: Vec<Value> = objects
            .filter(|object| kind == "List" || object["kind"] == "Deployment")
            .collect();
        json!({"apiVersion": api, "kind": kind, "items": items})
    };
    let nested = |version: &str| {
        (0..40).fold(
            list(version),
            |inner, _| json!({"apiVersion": "v1", "kind": "List", "items": [inner]}),
        )
    };
    for make in [&list as &dyn Fn(&str) -> Value, &nested] {
        denied(
            &by_helm(&state, &make("2.2.16").to_string(), "pending-upgrade"),
            "MG101",
        );
        let allowed = by_helm(&state, &make("2.1.4").to_string(), "pending-upgrade");
        assert_eq!(allowed.response.denied, None);
        assert!(
            allowed
                .decision
                .is_some_and(|decision| decision.objects.len() >= 8),
            "each object is covered"
        );
    }
}

#[test]
fn escapes_hide_no_word_from_the_release_gate() {
    let accounts = Accounts::default();
    let state = state(
        Some(&Fixture::cluster("2.1.4")),
        &Facts::default(),
        &accounts,
    );
    let all = |version: &str| {
        let items: Vec<Value> = documents_of(&Fixture::cluster(version))
            .into_values()
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    };
    for escape in [
        "\\u006dilvus",
        "m\\x69lvus",
        "mil\\\n  vus",
        "mil\\U00000076us",
    ] {
        denied(
            &by_helm(
                &state,
                &all("2.2.16").replace("milvus", escape),
                "pending-upgrade",
            ),
            "MG101",
        );
        assert_eq!(
            by_helm(
                &state,
                &all("2.1.4").replace("milvus", escape),
                "pending-upgrade"
            )
            .response
            .denied,
            None
        );
    }
    let other =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: \"w\\u0065b\"}\nspec: {}\n";
    let ruling = by_helm(&state, other, "pending-install");
    assert!(
        ruling.response.denied.is_none() && ruling.decision.is_none(),
        "another chart: {ruling:?}"
    );
}

#[test]
fn an_object_that_stands_twice_in_a_manifest_counts_twice() {
    let accounts = Accounts::default();
    let state = state(
        Some(&Fixture::cluster("2.1.4")),
        &Facts::default(),
        &accounts,
    );
    let twice = |one: &str, two: &str| {
        format!(
            "{}---\n{}",
            Fixture::cluster(one).yaml(),
            Fixture::cluster(two).yaml()
        )
    };
    denied(
        &by_helm(&state, &twice("2.1.4", "2.2.16"), "pending-upgrade"),
        "MG101",
    );
    denied(
        &by_helm(&state, &twice("2.2.16", "2.1.4"), "pending-upgrade"),
        "MG101",
    );
}

#[rstest]
#[case::install("pending-install")]
#[case::rollback("pending-rollback")]
fn a_forged_state_of_a_record_changes_nothing_about_data(#[case] status: &str) {
    let accounts = Accounts::default();
    let state = state(
        Some(&Fixture::cluster("2.1.4")),
        &Facts::default(),
        &accounts,
    );
    denied(
        &by_helm(&state, &Fixture::cluster("2.2.16").yaml(), status),
        "MG101",
    );
    // Objects that say that they go to another namespace.
    let elsewhere = Fixture::cluster("2.2.16").yaml().replace(
        "metadata:\n  name:",
        "metadata:\n  namespace: elsewhere\n  name:",
    );
    denied(&by_helm(&state, &elsewhere, status), "MG101");
}

#[test]
fn a_decision_does_not_cover_another_number_of_members() {
    let accounts = Accounts::default();
    let fixture = with_etcd("");
    let alone = state(Some(&fixture), &Facts::default(), &accounts);
    let decision = rule(
        &review(Some(&fixture), &fixture, "pending-upgrade", &json!({})),
        &alone,
    )
    .decision
    .unwrap();
    let mut decided = alone.clone();
    decided.decisions = Arc::new([decision]);
    let mut old = workload(&fixture, "my-release-etcd");
    old["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "my-release"});
    let mut none = old.clone();
    none["spec"]["replicas"] = json!(0);
    denied(&put(&decided, &old, &none, "helm"), "MG407");
    denied(&put(&alone, &old, &none, "helm"), "MG407");
    // Replicas of Milvus itself are an autoscaler's.
    let mut proxy = workload(&fixture, "my-release-milvus-proxy");
    let before = proxy.clone();
    proxy["spec"]["replicas"] = json!(3);
    assert_eq!(put(&decided, &before, &proxy, "helm").response.denied, None);
}

const ROOT: &str = "etcd: {endpoints: [\"my-release-etcd:2379\"], rootPath: prod}\n";

/// A change of the first container of a component of a release whose root path is `prod`.
fn changed(change: impl Fn(&mut Value)) -> Ruling {
    let accounts = Accounts::default();
    let fixture = Fixture::cluster("2.4.5").default_yaml(ROOT);
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    let old = workload(&fixture, "my-release-milvus-rootcoord");
    let mut new = old.clone();
    change(new.pointer_mut("/spec/template/spec/containers/0").unwrap());
    put(&state, &old, &new, "kubectl")
}

#[rstest]
#[case::assigned("MG302", json!(["sh", "-c", "ETCD_ROOTPATH=other exec milvus run rootcoord"]))]
#[case::exported("MG302", json!(["sh", "-c", "export ETCD_ROOTPATH='other'; exec milvus run rootcoord"]))]
#[case::by_a_shell("MG302", json!(["sh", "-c", "ETCD_ROOTPATH=$HOSTNAME exec milvus run rootcoord"]))]
#[case::by_env("MG302", json!(["env", "etcd.rootPath=other", "milvus", "run", "rootcoord"]))]
#[case::folder("MG302", json!(["sh", "-c", "MILVUSCONF=/tmp milvus run rootcoord"]))]
#[case::flag("MG302", json!(["milvus", "run", "rootcoord", "--config", "/etc/other"]))]
#[case::last_flag("MG302", json!(["milvus", "run", "rootcoord", "--config=/milvus/configs", "-config=/etc/other"]))]
#[case::same_value("", json!(["sh", "-c", "ETCD_ROOTPATH=prod exec milvus run rootcoord"]))]
#[case::another_variable("", json!(["sh", "-c", "export GOGC=50; exec milvus run rootcoord"]))]
#[case::same_folder("", json!(["milvus", "run", "rootcoord", "--config=/milvus/configs"]))]
fn a_command_line_that_leads_to_other_data_is_denied(#[case] id: &str, #[case] command: Value) {
    let ruling = changed(|container| container["args"] = command.clone());
    if id.is_empty() {
        assert_eq!(ruling.response.denied, None);
    } else {
        denied(&ruling, id);
    }
}

/// Removes what a pod mounts: the mounts, or the volumes too.
fn without_mounts(object: &mut Value, volumes: bool) {
    let pod = &mut object["spec"]["template"]["spec"];
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        container.as_object_mut().unwrap().remove("volumeMounts");
    }
    if volumes {
        pod.as_object_mut().unwrap().remove("volumes");
    }
}

#[rstest]
#[case::mounts(false)]
#[case::volumes_too(true)]
fn a_pod_that_loses_its_configuration_reads_the_defaults_of_its_image(#[case] volumes: bool) {
    let accounts = Accounts::default();
    let yaml = "etcd: {endpoints: [\"etcd.example.com:2379\"], rootPath: prod}\n";
    for fixture in [
        Fixture::standalone("2.4.5").default_yaml(yaml),
        Fixture::cluster("2.4.5").default_yaml(yaml),
    ] {
        let state = state(Some(&fixture), &Facts::default(), &accounts);
        let mut objects: Vec<Value> = documents_of(&fixture).into_values().collect();
        let same = Fixture::yaml(&fixture);
        assert_eq!(
            by_helm(&state, &same, "pending-upgrade").response.denied,
            None
        );
        for object in &mut objects {
            if object["kind"] != "Deployment" {
                continue;
            }
            let old = object.clone();
            without_mounts(object, volumes);
            denied(&put(&state, &old, object, "kubectl-edit"), "MG302");
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        denied(
            &by_helm(&state, &list.to_string(), "pending-upgrade"),
            "MG302",
        );
    }
}

#[rstest]
#[case::optional_secret("MG302", json!([{"name": "ETCD_ROOTPATH", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y", "optional": true}}}]))]
#[case::field("MG302", json!([{"name": "ETCD_ROOTPATH", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]))]
#[case::by_variable("MG302", json!([{"name": "A", "value": "other"}, {"name": "ETCD_ROOTPATH", "value": "$(A)"}]))]
#[case::twice("MG302", json!([{"name": "ETCD_ROOTPATH", "value": "prod"}, {"name": "ETCD_ROOT_PATH", "value": "other"}]))]
#[case::same_by_variable("", json!([{"name": "A", "value": "prod"}, {"name": "ETCD_ROOTPATH", "value": "$(A)"}]))]
#[case::credential("", json!([{"name": "MINIO_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]))]
fn a_variable_that_leads_to_other_data_is_denied(#[case] id: &str, #[case] variables: Value) {
    let ruling = changed(|container| container["env"] = variables.clone());
    if id.is_empty() {
        assert_eq!(ruling.response.denied, None);
    } else {
        denied(&ruling, id);
    }
}

#[test]
fn a_deleted_configuration_and_another_root_path_by_variable_are_compared_with_what_was_last_seen()
{
    let accounts = Accounts::default();
    let fixture = Fixture::cluster("2.4.5").default_yaml(ROOT);
    let mut state = state(Some(&fixture), &Facts::default(), &accounts);
    state.last_known = state.place.snapshot.releases.clone().into();
    state.place = Arc::new(NamespaceState::new(
        objects(&fixture)
            .into_iter()
            .filter(|object| !matches!(object, Object::Config(_))),
    ));
    let old = workload(&fixture, "my-release-milvus-rootcoord");
    let with = |root: &str| {
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "ETCD_ROOTPATH", "value": root}]);
        put(&state, &old, &new, "kubectl")
    };
    denied(&with("other"), "compared with the last known settings");
    assert_eq!(with("prod").response.denied, None);
}

#[rstest]
#[case::other_path("MG305", |pod: &mut Value| pod["containers"][0]["volumeMounts"][0]["mountPath"] = json!("/var/lib/other"))]
#[case::covered("MG305", |pod: &mut Value| {
    pod["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "tmp", "mountPath": "/var/lib/milvus/rdb_data"}));
    pod["volumes"].as_array_mut().unwrap().push(json!({"name": "tmp", "emptyDir": {}}));
})]
#[case::sub_path("MG301", |pod: &mut Value| pod["containers"][0]["volumeMounts"][0]["subPath"] = json!("other"))]
#[case::ephemeral("MG305", |pod: &mut Value| pod["volumes"][0] = json!({"name": "disk", "ephemeral": {"volumeClaimTemplate": {}}}))]
#[case::renamed("", |pod: &mut Value| {
    pod["volumes"][0]["name"] = json!("renamed");
    pod["containers"][0]["volumeMounts"][0]["name"] = json!("renamed");
})]
#[case::one_more("", |pod: &mut Value| {
    pod["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "tmp", "mountPath": "/tmp"}));
    pod["volumes"].as_array_mut().unwrap().push(json!({"name": "tmp", "emptyDir": {}}));
})]
fn the_data_of_a_standalone_stays_on_its_volume(#[case] id: &str, #[case] change: fn(&mut Value)) {
    let accounts = Accounts::default();
    let fixture = Fixture::standalone("2.4.5")
        .unmerged()
        .default_yaml("mq: {type: rocksmq}\n")
        .pod(Component::Standalone, "volumes:\n  - {name: disk, persistentVolumeClaim: {claimName: data-my-release-etcd-0}}")
        .container(Component::Standalone, "volumeMounts:\n  - {name: disk, mountPath: /var/lib/milvus}")
        .object(CLAIM);
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    let old = workload(&fixture, "my-release-milvus-standalone");
    let mut new = old.clone();
    let pod = &mut new["spec"]["template"]["spec"];
    let at = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .position(|one| one["name"] == "disk")
            .unwrap()
    };
    let (volume, mount) = (
        at(&pod["volumes"]),
        at(&pod["containers"][0]["volumeMounts"]),
    );
    pod["volumes"].as_array_mut().unwrap().swap(0, volume);
    pod["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .swap(0, mount);
    change(pod);
    let ruling = put(&state, &old, &new, "kubectl");
    if id.is_empty() {
        assert_eq!(ruling.response.denied, None);
    } else {
        denied(&ruling, id);
    }
}

#[rstest]
#[case::mirror("registry.example.com/mirror/milvusdb-milvus:v2.2.16")]
#[case::digest(
    "milvusdb/milvus@sha256:1111111111111111111111111111111111111111111111111111111111111111"
)]
#[case::tag_and_digest(
    "milvusdb/milvus:v2.2.16@sha256:1111111111111111111111111111111111111111111111111111111111111111"
)]
#[case::branch("milvusdb/milvus:2.2-latest")]
#[case::no_tag("milvusdb/milvus")]
#[case::another_name("corp/vectors:7")]
fn every_way_to_write_another_image_meets_the_rules(#[case] image: &str) {
    let accounts = Accounts::default();
    let fixture = Fixture::cluster("2.1.4");
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    let old = workload(&fixture, "my-release-milvus-rootcoord");
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    denied(&put(&state, &old, &new, "kubectl"), "MG101");
    // A second container, and an init container that stays.
    let mut neighbor = old.clone();
    let mut container = old["spec"]["template"]["spec"]["containers"][0].clone();
    container["image"] = json!(image);
    container["name"] = json!("neighbor");
    neighbor["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(container.clone());
    denied(&put(&state, &old, &neighbor, "kubectl"), "MG101");
    let mut first = old.clone();
    container["restartPolicy"] = json!("Always");
    first["spec"]["template"]["spec"]["initContainers"] = json!([container]);
    denied(&put(&state, &old, &first, "kubectl"), "MG101");
    // The same version from a mirror.
    let mut mirrored = old.clone();
    mirrored["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("registry.example.com/mirror/milvusdb/milvus:v2.1.4");
    assert_eq!(
        put(&state, &old, &mirrored, "kubectl").response.denied,
        None
    );
}

#[rstest]
#[case("etcd: {endpoints: [\"http://root:hunter2@other:2379\"]}\n")]
#[case("etcd: {endpoints: [\"http://root:hun/hunter2@other:2379\"]}\n")]
#[case("etcd: {endpoints: [\"http://root:hunter2?x@other:2379\"]}\n")]
#[case(
    "mq: {type: pulsar}\npulsar: {address: \"pulsar://u:hunter2/x@p:6650\", authParams: \"token:hunter2\"}\n"
)]
#[case("mq: {type: kafka}\nkafka: {brokerList: \"u:hunter2/x@k:9092\", saslPassword: hunter2}\n")]
#[case(
    "minio: {address: \"http://u:hunter2?@m:9000\", accessKeyID: hunter2, secretAccessKey: hunter2, bucketName: other}\n"
)]
#[case("minio: {secretAccessKey: \"hunter2\n")]
#[case("minio: hunter2\n  x: y\n")]
#[case("minio: *hunter2\n")]
#[case("- hunter2\n")]
fn no_password_of_a_configuration_is_told(#[case] yaml: &str) {
    let accounts = Accounts::default();
    let fixture = Fixture::cluster("2.4.5").default_yaml(ROOT);
    let after = Fixture::cluster("2.4.5").default_yaml(ROOT).user_yaml(yaml);
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    let whole = rule(
        &review(Some(&fixture), &after, "pending-upgrade", &json!({})),
        &state,
    );
    let config = |fixture: &Fixture| {
        documents_of(fixture)
            .into_values()
            .find(|object| object["kind"] == "ConfigMap")
            .unwrap()
    };
    let alone = put(&state, &config(&fixture), &config(&after), "kubectl");
    for ruling in [whole, alone] {
        let told = format!("{ruling:?}").to_ascii_lowercase();
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[rstest]
#[case::job("batch/v1", "Job", "/spec/template")]
#[case::cron_job("batch/v1", "CronJob", "/spec/jobTemplate/spec/template")]
#[case::daemon_set("apps/v1", "DaemonSet", "/spec/template")]
#[case::replica_set("apps/v1", "ReplicaSet", "/spec/template")]
#[case::stateful_set("apps/v1", "StatefulSet", "/spec/template")]
#[case::pod("v1", "Pod", "")]
#[case::rollout("argoproj.io/v1alpha1", "Rollout", "/spec/template")]
#[case::clone_set("apps.kruise.io/v1alpha1", "CloneSet", "/spec/template")]
fn no_other_kind_starts_another_version_on_the_same_data(
    #[case] api: &str,
    #[case] kind: &str,
    #[case] at: &str,
) {
    let accounts = Accounts::default();
    // A DaemonSet may have several pods.
    let standby = "rootCoord: {enableActiveStandby: true}\n";
    let state = state(
        Some(&Fixture::cluster("2.1.4").default_yaml(standby)),
        &Facts::default(),
        &accounts,
    );
    let created = |version: &str, name: &str| {
        let deployment = workload(&Fixture::cluster(version), "my-release-milvus-rootcoord");
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "milvus"}});
        object["metadata"]["labels"] = deployment["spec"]["selector"]["matchLabels"].clone();
        let template = deployment["spec"]["template"].clone();
        if at.is_empty() {
            object["spec"] = template["spec"].clone();
        } else {
            let nested = at
                .rsplit('/')
                .filter(|key| !key.is_empty())
                .fold(template, |inner, key| json!({key: inner}));
            object
                .as_object_mut()
                .unwrap()
                .extend(nested.as_object().unwrap().clone());
        }
        object
    };
    for name in ["my-release-milvus-rootcoord", "another-name"] {
        let create =
            |version: &str| rule(&object_review(None, Some(&created(version, name))), &state);
        denied(&create("2.2.16"), "MG101");
        assert_eq!(create("2.1.4").response.denied, None, "{name}");
        denied(
            &put(
                &state,
                &created("2.1.4", name),
                &created("2.2.16", name),
                "kubectl",
            ),
            "MG101",
        );
    }
}

/// The release refers to `name` with `from`; the object has `key` with the value `prod`.
fn referring(from: &str, name: &str, key: &str) -> (Fixture, impl Fn(&str) -> Value) {
    let fixture = Fixture::cluster("2.4.5")
        .container(Component::RootCoord, from)
        .default_yaml("etcd: {endpoints: [\"my-release-etcd:2379\"]}\n");
    let object = {
        let (name, key) = (name.to_owned(), key.to_owned());
        move |value: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "milvus"}, "data": {key.clone(): value}})
        }
    };
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: milvus}}\ndata: {{{key}: prod}}\n"
    );
    (fixture.object(&text), object)
}

#[rstest]
#[case::import("envFrom: [{configMapRef: {name: settings}}]", "ETCD_ROOTPATH")]
#[case::import_with_prefix(
    "envFrom: [{prefix: ETCD_, configMapRef: {name: settings}}]",
    "ROOTPATH"
)]
#[case::key(
    "env: [{name: ETCD_ROOTPATH, valueFrom: {configMapKeyRef: {name: settings, key: root}}}]",
    "root"
)]
fn a_change_of_variables_in_a_config_map_is_judged(#[case] from: &str, #[case] key: &str) {
    let accounts = Accounts::default();
    let (fixture, object) = referring(from, "settings", key);
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    denied(
        &put(&state, &object("prod"), &object("other"), "kubectl-edit"),
        "MG302",
    );
    // By Helm, whose decision is not known.
    denied(
        &put(&state, &object("prod"), &object("other"), "helm"),
        "MG302",
    );
    let mut more = object("prod");
    more["data"]["GOGC"] = json!("50");
    assert_eq!(
        put(&state, &object("prod"), &more, "kubectl")
            .response
            .denied,
        None
    );
    // All its keys are taken away.
    let mut none = object("prod");
    none.as_object_mut().unwrap().remove("data");
    denied(&put(&state, &object("prod"), &none, "kubectl"), "MG302");
    // Another object of the namespace that no pod of Milvus refers to.
    let unread = |value: &str| {
        let mut other = object(value);
        other["metadata"]["name"] = json!("of-another-application");
        other
    };
    let ruling = put(&state, &unread("prod"), &unread("other"), "kubectl");
    assert_eq!((ruling.response.denied, ruling.verdict), (None, None));
    assert_eq!(
        rule(&object_review(None, Some(&unread("x"))), &state).verdict,
        None
    );
}

#[test]
fn a_configuration_without_keys_is_another_configuration() {
    let accounts = Accounts::default();
    let fixture = Fixture::cluster("2.4.5").default_yaml(ROOT);
    let state = state(Some(&fixture), &Facts::default(), &accounts);
    let is_config = |object: &Value| object["kind"] == "ConfigMap";
    let old = documents_of(&fixture)
        .into_values()
        .find(is_config)
        .unwrap();
    let mut none = old.clone();
    none.as_object_mut().unwrap().remove("data");
    denied(&put(&state, &old, &none, "kubectl-patch"), "MG302");
    let mut renamed = old.clone();
    let data = renamed["data"].as_object_mut().unwrap();
    let yaml = data.remove("default.yaml").unwrap();
    data.insert("other.yaml".into(), yaml);
    denied(&put(&state, &old, &renamed, "kubectl-patch"), "MG302");
}

/// One of several Milvus in the release `umbrella` of Helm, with a claim.
fn alias(name: &str, claim: &str) -> String {
    let mark = "annotations: {meta.helm.sh/release-name: umbrella}";
    let labels = format!(
        "{{app.kubernetes.io/instance: umbrella, app.kubernetes.io/name: {name}, component: standalone}}"
    );
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: umbrella-{name}-standalone, namespace: milvus, labels: {labels}, {mark}}}
spec:
  selector: {{matchLabels: {labels}}}
  template:
    metadata: {{labels: {labels}}}
    spec:
      containers:
        - name: standalone
          image: "milvusdb/milvus:v2.5.27"
          args: [milvus, run, standalone]
          env: [{{name: ETCD_ENDPOINTS, value: "etcd:2379"}}, {{name: ETCD_ROOTPATH, value: {name}}}]
          volumeMounts: [{{name: disk, mountPath: /var/lib/milvus}}]
      volumes: [{{name: disk, persistentVolumeClaim: {{claimName: umbrella-{name}}}}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: umbrella-{name}, namespace: milvus, labels: {labels}, annotations: {{meta.helm.sh/release-name: umbrella{claim}}}}}
spec: {{resources: {{requests: {{storage: 1Gi}}}}}}
---
"#
    )
}

#[test]
fn one_of_several_milvus_that_an_upgrade_removes_is_told() {
    const KEPT: &str = ", helm.sh/resource-policy: keep";
    let accounts = Accounts::default();
    let upgrade = |before: &str, after: &str, status: &str| {
        let mut state = state(None, &Facts::default(), &accounts);
        state.place = Arc::new(NamespaceState::new(crate::rules::testing::objects_of(
            before,
        )));
        let outside = |request: &mut Value| {
            let name = json!("sh.helm.release.v1.umbrella.v2");
            request["name"] = name.clone();
            request["object"]["metadata"]["name"] = name;
            request["object"]["metadata"]["labels"]["name"] = json!("umbrella");
        };
        let inside = |release: &mut Value| {
            release["manifest"] = json!(after);
            release["name"] = json!("umbrella");
        };
        let text = record(&Fixture::cluster("2.4.5"), status, outside, inside);
        rule(&text, &state)
    };
    let both = |claim: &str| alias("one", "") + &alias("two", claim);
    let told = |ruling: &Ruling| ruling.response.warnings.join("\n");
    let kept = upgrade(&both(KEPT), &alias("one", ""), "pending-upgrade");
    assert_eq!(kept.response.denied, None);
    let text = "MG205 component-removed: Milvus umbrella-two would be removed";
    assert!(told(&kept).contains(text), "{kept:?}");
    for status in ["pending-upgrade", "pending-rollback"] {
        let lost = upgrade(&both(""), &alias("one", ""), status);
        denied(
            &lost,
            "the claim umbrella-two would be removed together with Milvus umbrella-two",
        );
    }
    // The claim stays in the manifest, or Milvus was stopped before.
    let claim = alias("two", "").split_once("---\n").unwrap().1.to_owned();
    let with_claim = upgrade(&both(""), &(alias("one", "") + &claim), "pending-upgrade");
    assert_eq!(with_claim.response.denied, None);
    let stopped = both("").replace("spec:\n  selector", "spec:\n  replicas: 0\n  selector");
    let ruling = upgrade(&stopped, &alias("one", ""), "pending-upgrade");
    assert_eq!(ruling.response.denied, None);
    assert!(!told(&ruling).contains("MG205"), "{ruling:?}");
    // Nothing is removed.
    let same = upgrade(&both(""), &both(""), "pending-upgrade");
    assert!(!told(&same).contains("would be removed"), "{same:?}");
}

#[test]
fn a_rollback_to_a_later_version_is_an_upgrade_unless_it_leads_out_of_a_failed_change() {
    let accounts = Accounts::default();
    let settled = |version: &str| Facts {
        settled: Some(vec![crate::evidence::SettledFact {
            release: "my-release".into(),
            namespace: "milvus".into(),
            version: version.parse().unwrap(),
        }]),
        ..Facts::default()
    };
    let rollback = |running: &str, facts: &Facts| {
        let state = state(Some(&Fixture::cluster(running)), facts, &accounts);
        let wanted = Fixture::cluster("2.6.20");
        by_helm(&state, &wanted.yaml(), "pending-rollback")
    };
    denied(&rollback("2.5.5", &settled("2.5.5")), "MG102");
    // The running version never was available: this is the way out.
    for facts in [settled("2.6.20"), Facts::default()] {
        assert_eq!(rollback("2.5.5", &facts).response.denied, None);
    }
    assert_eq!(rollback("2.6.20", &settled("2.6.20")).response.denied, None);
}
