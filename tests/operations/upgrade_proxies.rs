//! Proxies under `upgrade`: each leaves its Services before it ends, even after an interruption.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::common::{
    Chart,
    migration_cluster::Running,
    roll::{DEADLINE, RELEASE, Roll, Seen},
    run,
};
use milvus_guard_core::milvus::Component;
use milvus_guard_testbed::{Helm, expect_success, wait_until};
use rstest::rstest;
use serde_json::{Value, json};

const NAMESPACE: &str = "milvus";
/// Slightly less than the time that the run gives nodes to route new clients elsewhere.
const ROUTED: Duration = Duration::from_millis(3500);

fn installed(replicas: usize) -> Roll {
    let roll = Roll::start();
    let values = format!("proxy.replicas={replicas}");
    let chart = Chart::compact("4.1.34");
    roll.install(Helm::V4, NAMESPACE, &chart, "v2.4.5", &[&values]);
    roll
}

/// Pods of the proxy, by name.
fn proxies(roll: &Roll) -> Vec<Value> {
    let list = roll
        .cluster
        .get_json(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
    let mut pods = list["items"].as_array().unwrap().clone();
    let start = format!("{RELEASE}-milvus-proxy-");
    pods.retain(|pod| name(pod).starts_with(&start));
    pods
}

fn detached(roll: &Roll) -> Vec<Value> {
    let mut pods = proxies(roll);
    pods.retain(|pod| pod["metadata"]["labels"]["component"].is_null());
    pods
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Kills the run as soon as the condition is true.
fn killed_when(roll: &Roll, is_so: impl Fn() -> bool) {
    let mut running = Running::spawn(roll.upgrade(NAMESPACE, "2.4.24"));
    let there = wait_until(2 * DEADLINE, || is_so() || running.has_ended());
    assert!(there && !running.has_ended(), "{:#}", roll.run(NAMESPACE));
}

/// Kills a run while an old proxy is leaving its Services, and returns the name of that pod.
fn interrupted(roll: &Roll) -> String {
    killed_when(roll, || !detached(roll).is_empty());
    let left = detached(roll);
    assert_eq!(left.len(), 1, "{left:#?}");
    let owner = &left[0]["metadata"]["ownerReferences"][0];
    let deployment = roll.deployment(NAMESPACE, "proxy");
    assert_eq!(owner["uid"], deployment["metadata"]["uid"], "{left:#?}");
    name(&left[0])
}

fn assert_nothing_is_left(roll: &Roll, replicas: usize) {
    let pods = proxies(roll);
    assert_eq!(pods.len(), replicas, "{pods:#?}");
    assert_eq!(detached(roll), Vec::<Value>::new());
    let spec = roll.deployment(NAMESPACE, "proxy")["spec"].clone();
    assert_eq!(spec["minReadySeconds"].as_i64().unwrap_or(0), 0, "{spec:#}");
    assert_eq!(spec["progressDeadlineSeconds"], 600, "{spec:#}");
    assert_eq!(roll.owned_by_runs(NAMESPACE), Vec::<String>::new());
}

/// When each of these pods left its Services, and when it was deleted.
fn ways_out(events: &[Seen], names: &BTreeSet<String>) -> Vec<(Instant, Instant)> {
    let of = |name: &str, is: &dyn Fn(&Seen) -> bool| {
        let mut of_pod = events.iter().filter(|event| event.name == name);
        of_pod
            .find(|event| is(event))
            .unwrap_or_else(|| panic!("{name}: {events:#?}"))
            .at
    };
    let mut ways: Vec<(Instant, Instant)> = names
        .iter()
        .map(|name| {
            let left = of(name, &|event| !event.labels.contains_key("component"));
            (left, of(name, &|event| event.is_gone))
        })
        .collect();
    ways.sort();
    ways
}

#[test]
fn each_proxy_leaves_its_services_before_it_ends() {
    let roll = installed(3);
    let names: BTreeSet<String> = proxies(&roll).iter().map(name).collect();
    let watch = roll.watch(NAMESPACE);
    let (code, stdout, stderr) = run(&mut roll.upgrade(NAMESPACE, "2.4.24"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let events = watch.events();
    let ways = ways_out(&events, &names);
    for (left, gone) in &ways {
        assert!(*gone - *left >= ROUTED, "{:?}", *gone - *left);
    }
    for pair in ways.windows(2) {
        assert!(
            pair[0].1 <= pair[1].0,
            "the proxies must leave one after the other: {ways:?}"
        );
    }
    // A pod that the ReplicaSet starts as replacement ends while the proxy still serves.
    let old = events
        .iter()
        .filter(|event| event.component == Component::Proxy && event.image.ends_with(":v2.4.5"));
    let last = ways.last().unwrap().1;
    assert!(old.clone().all(|event| event.at <= last), "{events:#?}");
    for (left, gone) in &ways {
        let started = old.clone().filter(|event| {
            !names.contains(&event.name) && (*left..*gone).contains(&event.at) && !event.is_gone
        });
        for pod in started {
            let is_end = |event: &&Seen| event.name == pod.name && event.is_gone;
            let end = old.clone().find(is_end).unwrap();
            assert!(end.at - *left < ROUTED, "{pod:?} {end:?}");
        }
    }
    assert!(
        stderr.matches("leaves its Service").count() == 3,
        "{stderr}"
    );
    assert_nothing_is_left(&roll, 3);
}

/// What a user does with an interrupted run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again,
    Back,
    Abort,
}

#[rstest]
fn a_proxy_that_left_its_services_is_deleted_or_named_later(
    #[values(Next::Again, Next::Back, Next::Abort)] next: Next,
) {
    let roll = installed(2);
    let left = interrupted(&roll);
    let more: &[&str] = match next {
        // Another step timeout gives another `minReadySeconds`, which keeps old pods longer.
        Next::Again => &["--step-timeout", "7m"],
        Next::Back => &["-o", "rollback", "--step-timeout", "7m"],
        Next::Abort => &["-o", "abort"],
    };
    let (code, stdout, stderr) = run(roll.upgrade(NAMESPACE, "2.4.24").args(more));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let tag = match next {
        Next::Again => "v2.4.24",
        Next::Back => "v2.4.5",
        Next::Abort => {
            let command = format!("kubectl delete pod {left} -n {NAMESPACE}");
            assert!(stdout.contains(&command), "{stdout}{stderr}");
            expect_success(roll.cluster.kubectl(command.split(' ').skip(1)));
            assert_eq!(detached(&roll), Vec::<Value>::new());
            return;
        }
    };
    assert!(proxies(&roll).iter().all(|pod| name(pod) != left), "{left}");
    assert_eq!(roll.tag(NAMESPACE, "proxy"), tag);
    assert_nothing_is_left(&roll, 2);
}

#[test]
fn a_rollback_removes_a_surplus_proxy_from_its_services_first() {
    let roll = installed(2);
    killed_when(&roll, || proxies(&roll).len() == 3);
    assert_eq!(detached(&roll), Vec::<Value>::new());
    let is_new = |pod: &&Value| {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
        image.ends_with(":v2.4.24")
    };
    let all = proxies(&roll);
    let new = all.iter().find(is_new).unwrap();
    let names = BTreeSet::from([name(new)]);
    let watch = roll.watch(NAMESPACE);
    let (code, stdout, stderr) = run(roll.upgrade(NAMESPACE, "2.4.24").args(["-o", "rollback"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let (left, gone) = ways_out(&watch.events(), &names)[0];
    assert!(gone - left >= ROUTED, "{:?}", gone - left);
    assert_eq!(roll.tag(NAMESPACE, "proxy"), "v2.4.5");
    assert_nothing_is_left(&roll, 2);
}

#[test]
fn proxies_that_no_service_selects_are_deleted_without_delay() {
    let roll = installed(2);
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}-milvus");
    let nothing = json!({"spec": {"selector": {"component": "elsewhere"}}});
    roll.cluster.merge(&path, &nothing);
    let (code, stdout, stderr) = run(&mut roll.upgrade(NAMESPACE, "2.4.24"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(!stderr.contains("leaves its Service"), "{stderr}");
    assert_nothing_is_left(&roll, 2);
}

#[test]
fn a_pod_that_may_not_be_changed_is_reported_once_and_the_roll_continues() {
    let roll = installed(2);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "labels-stay"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
            ]},
            "validations": [{
                "expression": "!has(oldObject.metadata.labels.component) || has(object.metadata.labels.component)",
                "message": "labels of pods stay"
            }]
        }
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "labels-stay"},
        "spec": {"policyName": "labels-stay", "validationActions": ["Deny"]}
    });
    roll.cluster
        .apply(&format!("---\n{policy}\n---\n{binding}\n"));
    let pod = name(&proxies(&roll)[0]);
    let is_denied = wait_until(DEADLINE, || {
        let args = [
            "label",
            "--dry-run=server",
            "pod",
            &pod,
            "component-",
            "-n",
            NAMESPACE,
        ];
        !roll.cluster.kubectl(args).status.success()
    });
    assert!(is_denied, "the policy must be in force");
    let (code, stdout, stderr) = run(&mut roll.upgrade(NAMESPACE, "2.4.24"));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let said = stderr.matches("out of its Service before it ends").count();
    assert!(
        said == 1 && stderr.contains("labels of pods stay"),
        "{stderr}"
    );
    assert_nothing_is_left(&roll, 2);
}
