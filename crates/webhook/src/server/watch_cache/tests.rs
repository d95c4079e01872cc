//! The content of the cache after objects are added, changed and deleted.

use serde_json::json;

use super::views::MAX_VIEWS;
use super::*;
use crate::server::cache_budget;
use milvus_guard_core::milvus::catalogue::Catalogue;
use milvus_guard_core::policy::PolicyAction;

fn deployment(name: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "n"},
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": image, "args": ["milvus", "run", "proxy"]}]}}}})
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn objects_that_a_new_listing_lacks_are_deleted() {
    let store = WatchCache::new("guard");
    store.begin(Watched::Deployments);
    store.put(
        Watched::Deployments,
        deployment("r-proxy", "milvusdb/milvus:v2.4.5"),
        NOW,
    );
    store.put(
        Watched::Deployments,
        json!({"metadata": {"name": "other", "namespace": "n"}, "spec": {}}),
        NOW,
    );
    store.finish(Watched::Deployments);
    assert_eq!(store.picture("n").view.place.snapshot.releases.len(), 1);
    assert_eq!(
        store.health()[0].1,
        1,
        "only objects that rules read are kept"
    );
    assert!(!store.missing().contains(&"Deployment".to_owned()));
    store.begin(Watched::Deployments);
    assert_eq!(
        store.picture("n").view.place.snapshot.releases.len(),
        1,
        "a listing in progress deletes nothing"
    );
    store.finish(Watched::Deployments);
    assert!(store.picture("n").view.place.snapshot.releases.is_empty());
}

#[test]
fn a_bad_policy_leaves_the_last_good_one_in_force() {
    let policy = |action: &str| {
        json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "p", "uid": "x"},
            "spec": {"rules": [{"id": "MG201", "action": action}]}, "status": {"conditions": []}})
    };
    let store = WatchCache::new("guard");
    store.put(Watched::Policies, policy("Warn"), NOW);
    store.put(Watched::Policies, policy("Loud"), NOW);
    assert_eq!(store.picture("n").policies.policies.len(), 1);
    assert!(
        store.documents()[0]
            .1
            .problem
            .as_ref()
            .unwrap()
            .contains("Loud")
    );
    store.delete(Watched::Policies, "", "p");
    assert!(store.picture("n").policies.policies.is_empty());
}

#[test]
fn review_states_share_namespace_labels_until_one_changes() {
    let namespace = |name: &str, team: &str, phase: &str| json!({"metadata": {"name": name, "labels": {"team": team}}, "status": {"phase": phase}});
    let store = WatchCache::new("guard");
    store.begin(Watched::Namespaces);
    for number in 0..5000 {
        store.put(
            Watched::Namespaces,
            namespace(&format!("n-{number}"), "a", "Active"),
            NOW,
        );
    }
    store.finish(Watched::Namespaces);
    let labels = || store.picture("n-1").policies.at(NOW).namespace_labels;
    let first = labels();
    assert_eq!(first.len(), 5000);
    assert!(
        Arc::ptr_eq(&first, &labels()),
        "the state of a review copies none of them"
    );
    store.put(Watched::Namespaces, namespace("n-1", "a", "Odd"), NOW);
    assert!(
        Arc::ptr_eq(&first, &labels()),
        "a change of other fields copies nothing"
    );
    store.put(Watched::Namespaces, namespace("n-1", "b", "Active"), NOW);
    assert_eq!(
        (
            first["n-1"]["team"].as_str(),
            labels()["n-1"]["team"].as_str()
        ),
        ("a", "b")
    );
    store.delete(Watched::Namespaces, "", "n-1");
    assert!(!labels().contains_key("n-1"));
    let mut ending = namespace("n-2", "a", "Terminating");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    store.put(Watched::Namespaces, ending, NOW);
    assert!(store.picture("n-2").ending && !store.picture("n-3").ending);
}

#[test]
fn namespaces_with_milvus_are_known_without_their_views() {
    let store = WatchCache::new("guard");
    let put = |namespace: &str, name: &str, image: &str| {
        let mut object = deployment(name, image);
        object["metadata"]["namespace"] = json!(namespace);
        if !image.contains("milvus") {
            object["spec"]["template"]["spec"]["containers"][0]["args"] = json!([]);
        }
        store.put(Watched::Deployments, object, NOW);
    };
    let names = || {
        store
            .milvus_namespaces()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    };
    for number in 0..3 * MAX_VIEWS {
        put(
            &format!("milvus-{number}"),
            "my-release-milvus-proxy",
            "milvusdb/milvus:v2.4.5",
        );
    }
    put("web", "web", "nginx:1");
    assert_eq!(store.milvus_namespaces().len(), 3 * MAX_VIEWS);
    let kept = || store.views.lock().unwrap().kept.len();
    assert!(kept() <= MAX_VIEWS);
    // Nothing has changed, so no view is made again.
    store.views.lock().unwrap().kept.clear();
    assert_eq!(
        (store.milvus_namespaces().len(), kept()),
        (3 * MAX_VIEWS, 0)
    );
    for number in 1..3 * MAX_VIEWS {
        store.delete(
            Watched::Deployments,
            &format!("milvus-{number}"),
            "my-release-milvus-proxy",
        );
    }
    assert_eq!(names(), "milvus-0");
    put("web", "my-release-milvus-proxy", "milvusdb/milvus:v2.4.5");
    assert_eq!(names(), "milvus-0 web");
    store.delete(Watched::Deployments, "milvus-0", "my-release-milvus-proxy");
    assert_eq!(
        (
            names().as_str(),
            store.views.lock().unwrap().holds_milvus.len()
        ),
        ("web", 1)
    );
}

#[test]
fn a_history_equal_to_the_stored_one_is_kept_once() {
    let store = WatchCache::new("guard");
    let (own, stored) = (
        || Arc::clone(&store.read().memories["n"]),
        || Arc::clone(&store.read().stored["n"]),
    );
    let object = deployment("my-release-milvus-proxy", "milvusdb/milvus:v2.4.5");
    store.put(Watched::Deployments, object, NOW);
    let namespace = store.milvus_namespaces().pop_first().unwrap();
    let mut memory = ReleaseHistory::default();
    memory.see(
        &namespace,
        &store.picture(&namespace).view,
        Catalogue::embedded(),
        NOW,
    );
    store.remember("n", memory.clone());
    assert_eq!(store.unstored().len(), 1);
    store.stored("n", Arc::new(memory.clone()));
    assert!(store.unstored().is_empty() && Arc::ptr_eq(&own(), &stored()));
    let text = serde_json::to_string(&memory).unwrap();
    let map = json!({"metadata": {"name": memory_name("n"), "namespace": "guard"}, "data": {MEMORY_KEY: text}});
    store.put(Watched::ConfigMaps, map, NOW);
    assert!(store.unstored().is_empty() && Arc::ptr_eq(&own(), &stored()));
    assert!(
        store.take_changed().contains("n"),
        "stored objects are compared with the running state"
    );
    store.delete(Watched::ConfigMaps, "guard", &memory_name("n"));
    assert!(store.memory("n").is_empty() && store.unstored().is_empty());
}

#[test]
fn a_kind_that_is_not_watched_is_named() {
    let store = WatchCache::new("guard");
    assert_eq!(
        store.unwatched(&Watched::ALL),
        Some(Watched::Deployments),
        "nothing is watched yet"
    );
    for kind in Watched::ALL {
        store.connected(kind);
    }
    assert_eq!(store.unwatched(&Watched::ALL), None);
    store.ended(Watched::Runs);
    assert_eq!(
        store.unwatched(&Watched::ALL),
        None,
        "the next watch begins within a second"
    );
    store.broken(Watched::Runs, "no".into());
    assert_eq!(store.unwatched(&Watched::DECISIVE), Some(Watched::Runs));
    assert_eq!(store.unwatched(&[Watched::Policies]), None);
    store.contact(Watched::Runs);
    assert_eq!(
        store.unwatched(&Watched::DECISIVE),
        Some(Watched::Runs),
        "a listing is not a watch"
    );
    store.absent(Watched::Runs);
    assert_eq!(
        store.unwatched(&Watched::DECISIVE),
        None,
        "objects of an absent kind cannot change"
    );
}

/// A run of a kind whose definition was deleted while the watch was broken held its release until
/// the replica was restarted.
#[test]
fn an_absent_kind_has_no_objects() {
    let store = WatchCache::new("guard");
    let run = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "run", "namespace": "guard"},
        "spec": {"kind": "rolling", "release": "my-release", "namespace": "milvus", "from": "2.4.5",
            "to": "2.4.24", "plan": [], "planHash": "x"},
        "status": {"phase": "Running"}});
    store.put(Watched::Runs, run, NOW);
    assert_eq!(store.upgrade_runs().len(), 1);
    store.absent(Watched::Runs);
    assert_eq!(store.upgrade_runs().len(), 0);
}

#[test]
fn policies_from_a_live_reading_count_like_watched_ones() {
    let policy = |name: &str, action: &str| {
        json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": name},
            "spec": {"rules": [{"id": "MG201", "action": action}]}})
    };
    let store = WatchCache::new("guard");
    store.put(Watched::Policies, policy("kept", "Warn"), NOW);
    store.put(Watched::Policies, policy("gone", "Warn"), NOW);
    let set = store.policies_of(vec![policy("kept", "Loud"), policy("new", "Audit")], NOW);
    let seen: Vec<_> = set
        .policies
        .iter()
        .map(|policy| (&*policy.metadata.name, policy.spec.rules[0].action))
        .collect();
    assert_eq!(
        seen,
        [("kept", PolicyAction::Warn), ("new", PolicyAction::Audit)],
        "an invalid policy does not replace the last valid one"
    );
    assert_eq!(
        store.picture("n").policies.policies.len(),
        2,
        "a live reading does not change the cache"
    );
}

#[test]
fn an_old_condition_proves_nothing_about_a_restored_template() {
    let state = |image: &str, generation: i64, written: &str| {
        let mut object = deployment("r-proxy", image);
        object["metadata"]["generation"] = json!(generation);
        object["status"] = json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0,
            "conditions": [{"type": "Progressing", "reason": "NewReplicaSetAvailable", "lastUpdateTime": written}]});
        object
    };
    let store = WatchCache::new("guard");
    let ever = || store.picture("n").view.rollouts[0].ever_available;
    store.put(
        Watched::Deployments,
        state("milvusdb/milvus:v2.4.5", 1, "2026-01-01T00:00:00Z"),
        NOW,
    );
    assert!(ever());
    store.put(
        Watched::Deployments,
        state("milvusdb/milvus:v2.5.12", 2, "2026-01-01T00:00:00Z"),
        NOW,
    );
    assert!(!ever(), "the condition is about the previous template");
    store.put(
        Watched::Deployments,
        state("milvusdb/milvus:v2.5.12", 2, "2026-01-01T00:01:00Z"),
        NOW,
    );
    assert!(ever());
}

#[test]
fn a_template_that_was_once_available_stays_proven() {
    let status = |available: i64, reason: &str| {
        let mut object = deployment("r-proxy", "milvusdb/milvus:v2.4.5");
        object["metadata"]["generation"] = json!(1);
        object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
            "conditions": [{"type": "Progressing", "reason": reason}]});
        object
    };
    let store = WatchCache::new("guard");
    store.put(
        Watched::Deployments,
        status(1, "NewReplicaSetAvailable"),
        NOW,
    );
    store.put(Watched::Deployments, status(0, "ReplicaSetUpdated"), NOW);
    assert!(store.picture("n").view.rollouts[0].ever_available);
}

fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

/// A namespace with a Milvus that mounts its configuration.
fn milvus(store: &WatchCache) {
    store.put(
        Watched::ConfigMaps,
        config_map(
            "n",
            "settings",
            &json!({"user.yaml": "etcd: {rootPath: mine}\n"}),
        ),
        NOW,
    );
    let mut object = deployment("r-proxy", "milvusdb/milvus:v2.4.5");
    let pod = &mut object["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "c", "configMap": {"name": "settings"}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "c", "mountPath": "/milvus/configs"}]);
    store.put(Watched::Deployments, object, NOW);
}

fn root_path(store: &WatchCache) -> Option<String> {
    let view = store.picture("n").view;
    view.place.snapshot.releases[0]
        .config
        .value("etcd.rootPath")
        .map(str::to_owned)
}

#[test]
fn large_objects_do_not_displace_those_of_other_namespaces() {
    let store = WatchCache::new("guard");
    milvus(&store);
    let large = json!({"user.yaml": "x".repeat(1024 * 1024)});
    for number in 0..60 {
        store.put(
            Watched::ConfigMaps,
            config_map("foreign", &format!("c{number}"), &large),
            NOW,
        );
    }
    assert!(
        store.bytes_of("foreign") <= cache_budget::MAX_NAMESPACE_BYTES,
        "{}",
        store.bytes_of("foreign")
    );
    assert!(store.reductions()[&Watched::ConfigMaps] >= 50);
    // The same from many namespaces: the objects of the largest namespace are reduced.
    for number in 0..60 {
        store.put(
            Watched::ConfigMaps,
            config_map(&format!("f{number}"), "c", &large),
            NOW,
        );
    }
    let all: usize = (0..60)
        .map(|number| store.bytes_of(&format!("f{number}")))
        .sum::<usize>()
        + store.bytes_of("foreign");
    assert!(all <= cache_budget::MAX_BYTES, "{all}");
    assert_eq!(root_path(&store).as_deref(), Some("mine"));
    for number in 0..60 {
        store.delete(Watched::ConfigMaps, &format!("f{number}"), "c");
    }
    assert_eq!(store.bytes_of("f1"), 0);
}

#[test]
fn a_reduced_config_map_is_unknown_until_it_fits_again() {
    let store = WatchCache::new("guard");
    milvus(&store);
    let mut text = "etcd: {rootPath: mine}\n# ".to_owned();
    text.push_str(&"x".repeat(1000 * 1024));
    store.put(
        Watched::ConfigMaps,
        config_map("n", "settings", &json!({"user.yaml": text})),
        NOW,
    );
    for number in 0..20 {
        let other = json!({"user.yaml": "y".repeat(900 * 1024)});
        store.put(
            Watched::ConfigMaps,
            config_map("n", &format!("c{number}"), &other),
            NOW,
        );
    }
    let view = store.picture("n").view;
    let config = &view.place.snapshot.releases[0].config;
    assert_eq!(config.value("etcd.rootPath"), None);
    let reason = config
        .unknown("etcd.rootPath")
        .expect("the setting is unknown, not absent")
        .to_string();
    assert!(reason.contains("too large to keep"), "{reason}");
    for number in 0..20 {
        store.delete(Watched::ConfigMaps, "n", &format!("c{number}"));
    }
    store.put(
        Watched::ConfigMaps,
        config_map("n", "settings", &json!({"user.yaml": text})),
        NOW,
    );
    assert_eq!(root_path(&store).as_deref(), Some("mine"));
}

#[test]
fn workloads_claims_and_services_count_in_the_budget() {
    let store = WatchCache::new("guard");
    let padding = "x".repeat(900 * 1024);
    for number in 0..40 {
        let mut workload = deployment(&format!("w{number}"), "milvusdb/milvus:v2.4.5");
        workload["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "E", "value": padding}]);
        store.put(Watched::Deployments, workload, NOW);
        let labels: serde_json::Map<String, Value> = (0..10_000)
            .map(|n| (format!("l{n}"), json!("x".repeat(60))))
            .collect();
        for (kind, name) in [(Watched::Services, "s"), (Watched::Claims, "p")] {
            let object = json!({"metadata": {"name": format!("{name}{number}"), "namespace": "n", "labels": labels}, "spec": {}});
            store.put(kind, object, NOW);
        }
    }
    assert!(
        store.bytes_of("n") <= cache_budget::MAX_NAMESPACE_BYTES,
        "{}",
        store.bytes_of("n")
    );
    let view = store.picture("n").view;
    let components: usize = view
        .place
        .snapshot
        .releases
        .iter()
        .map(|release| release.components.len())
        .sum();
    assert_eq!(
        (components, view.services.len(), view.claims.len()),
        (40, 40, 40),
        "all of them are still known"
    );
    assert!(
        view.place
            .snapshot
            .releases
            .iter()
            .any(|release| release.config.unknown("etcd.rootPath").is_some())
    );
}
