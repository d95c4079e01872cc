//! Whether everything is right: the load got right answers for a while, and etcd holds no session
//! of a pod that has ended, because the end of its lease would still have effects.

use std::{collections::BTreeSet, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use milvus_guard_testbed::{MilvusCluster, expect_success, wait_for};
use serde_json::Value;

use super::{
    score::{self, Answer, Request},
    stand::NAMESPACE,
    ways::now,
};

/// Prefix of the sessions of Milvus in etcd.
const SESSIONS: &str = "by-dev/meta/session/";
/// For the load to get right answers.
const PATIENCE: Duration = Duration::from_secs(240);
/// The longest watch after a roll, in seconds: more than twice the TTL of a session.
const LONGEST: f64 = 150.0;

/// Since when all requests were answered rightly: the time of the last wrong answer after `since`,
/// or `since` if there was none. `None` if one kind of request has no answer yet.
fn right_since(requests: &[Request], since: f64) -> Option<f64> {
    let mut kinds = BTreeSet::new();
    let mut right = since;
    for request in requests.iter().filter(|one| one.end() >= since) {
        kinds.insert(request.what);
        if request.result != Answer::Right {
            right = right.max(request.end());
        }
    }
    (kinds.len() == 2).then_some(right)
}

/// Waits until the load got only right answers for this many seconds, and returns when that began
/// and when the wait ended.
pub fn wait(record: &Path, since: f64, seconds: f64) -> (f64, f64) {
    let mut found = None;
    wait_for("the load to be right", PATIENCE, || {
        let right = right_since(&score::read(record), since);
        let moment = now();
        found = right
            .filter(|right| moment - right >= seconds)
            .map(|right| (right, moment));
        found.is_some()
    });
    found.unwrap()
}

/// Waits after a roll until everything was right for this many seconds, or until the longest watch
/// is over; returns the time of the end.
pub fn wait_after(cluster: &MilvusCluster, record: &Path, roll_end: f64, seconds: f64) -> f64 {
    let (mut tidy_since, mut end) = (roll_end, roll_end);
    let limit = Duration::from_secs_f64(LONGEST) + PATIENCE;
    wait_for("the end of the watch", limit, || {
        end = now();
        if !left_sessions(cluster).is_empty() {
            tidy_since = end;
        }
        let right = right_since(&score::read(record), tidy_since);
        let is_quiet = right.is_some_and(|right| end - right >= seconds);
        is_quiet || end - roll_end >= LONGEST
    });
    end
}

/// Sessions whose host is not a pod, or is a terminating pod.
fn left_sessions(cluster: &MilvusCluster) -> Vec<String> {
    let text = expect_success(cluster.etcdctl(["get", "--prefix", SESSIONS, "-w", "json"]));
    let sessions: Value = serde_json::from_str(&text).unwrap();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let pods = cluster.node().get_json(&path);
    let pods = pods["items"].as_array().unwrap().iter();
    let living: BTreeSet<&str> = pods
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .flat_map(|pod| [&pod["metadata"]["name"], &pod["status"]["podIP"]])
        .filter_map(Value::as_str)
        .collect();
    let entries = sessions["kvs"].as_array().into_iter().flatten();
    entries
        .filter_map(|entry| {
            let decoded = |key: &str| BASE64_STANDARD.decode(entry[key].as_str()?).ok();
            // The ID counter next to the sessions is a number.
            let session: Value = serde_json::from_slice(&decoded("value")?).ok()?;
            let address = session["Address"].as_str()?;
            let ip = address.rsplit_once(':').map_or(address, |(ip, _)| ip);
            let host = session["HostName"].as_str().filter(|host| !host.is_empty());
            let is_left = !living.contains(host.unwrap_or(ip));
            let key = String::from_utf8_lossy(&decoded("key")?).into_owned();
            is_left.then_some(key)
        })
        .collect()
}

fn request(what: score::What, end: f64, result: Answer) -> Request {
    Request {
        what,
        at: end - 0.1,
        took: 0.1,
        result,
        detail: String::new(),
    }
}

#[test]
fn right_since_returns_the_time_of_the_last_wrong_answer() {
    use score::What::{Insert, Search};
    let mut requests = vec![
        request(Search, 1.0, Answer::Empty),
        request(Search, 3.0, Answer::Right),
    ];
    assert_eq!(right_since(&requests, 2.0), None, "there was no insert");
    requests.push(request(Insert, 3.5, Answer::Right));
    assert_eq!(right_since(&requests, 2.0), Some(2.0));
    requests.push(request(Insert, 5.0, Answer::Failed));
    assert_eq!(right_since(&requests, 2.0), Some(5.0));
}
