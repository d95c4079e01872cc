//! `upgrade` and proxies that report no new tick to a new root coordinator, so that it sends no time
//! ticks and searches wait.

use std::{process::Command, sync::Arc};

use milvus_guard_testbed::{Etcd, Helm, wait_until};
use rstest::rstest;

use crate::common::{
    Chart,
    roll::{DEADLINE, Roll},
    run,
    sessions::Sessions,
    ticks::{Stuck, Ticks},
};

/// Session TTL in seconds. Longer than any test: a session that ends in time was released.
const FOREVER: i64 = 3600;

/// Fields are dropped in this order.
struct Milvus {
    sessions: Sessions,
    roll: Roll,
    etcd: Etcd,
    ticks: Arc<Ticks>,
}

impl Milvus {
    /// 2.3.2 in namespace `milvus`, whose first proxy reports no new tick to a root coordinator of
    /// 2.3.5, for ever or for this number of requests.
    fn start(how: Stuck, stuck_for: Option<u32>, values: &[&str]) -> Self {
        let ticks = Arc::new(Ticks::with_stuck_proxy(how, stuck_for));
        let etcd = Etcd::start();
        let roll = Roll::start_with(Arc::clone(&ticks));
        let sessions = Sessions::start(roll.cluster.kubeconfig(), &etcd.endpoint(), FOREVER);
        roll.install(
            Helm::V4,
            "milvus",
            &Chart::compact("4.0.31"),
            "v2.3.2",
            values,
        );
        let milvus = Self {
            sessions,
            roll,
            etcd,
            ticks,
        };
        let registered = || {
            let all = [
                "get",
                "--prefix",
                "by-dev/meta/session/proxy-",
                "--keys-only",
            ];
            let answer = milvus.etcd.etcdctl(all);
            !milvus.proxies().is_empty()
                && String::from_utf8_lossy(&answer.stdout)
                    .matches("proxy-")
                    .count()
                    == milvus.proxies().len()
        };
        assert!(wait_until(DEADLINE, registered));
        milvus
    }

    fn upgrade(&self) -> Command {
        let mut command = self.roll.upgrade("milvus", "2.3.5");
        command.args(["--etcd", &self.etcd.endpoint()]);
        command
    }

    fn proxies(&self) -> Vec<String> {
        let list = self.roll.cluster.get_json("/api/v1/namespaces/milvus/pods");
        let pods = list["items"].as_array().unwrap();
        pods.iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .filter(|name| name.contains("-proxy-"))
            .collect()
    }
}

#[rstest]
#[case::with_separate_coordinators(&["proxy.replicas=2"])]
#[case::with_a_mixed_coordinator(&["proxy.replicas=2", "mixCoordinator.enabled=true"])]
fn a_proxy_that_holds_up_time_ticks_is_replaced_and_its_session_released(#[case] values: &[&str]) {
    let milvus = Milvus::start(Stuck::Silent, None, values);
    let (code, stdout, stderr) = run(&mut milvus.upgrade());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let stuck = milvus.ticks.stuck().unwrap();
    let said = format!("proxy {stuck} reports no time tick");
    assert!(stderr.contains(&said), "{stderr}");
    assert_eq!(
        stderr.matches("reports no time tick").count(),
        1,
        "{stderr}"
    );
    let release = stderr.find("released session/proxy-").unwrap();
    let next = stderr.find("update-proxy").unwrap_or(usize::MAX);
    assert!(release < next, "before the proxies move: {stderr}");
    assert_eq!(milvus.sessions.story().robbed, [""; 0]);
}

// After the first proxy ends, the root coordinator sends one round of ticks. Then it waits for the
// second proxy.
#[test]
fn two_proxies_that_hold_up_time_ticks_are_replaced_one_after_the_other() {
    let milvus = Milvus::start(Stuck::AllSilent, None, &["proxy.replicas=2"]);
    let before = milvus.proxies();
    let (code, stdout, stderr) = run(&mut milvus.upgrade());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(before.len(), 2);
    for proxy in before {
        let said = format!("proxy {proxy} reports no time tick");
        assert!(stderr.contains(&said), "{proxy}: {stderr}");
    }
    assert_eq!(milvus.sessions.story().robbed, [""; 0]);
}

#[rstest]
#[case::it_is_the_only_proxy(Stuck::Silent, "proxy.replicas=1", 15)]
#[case::it_repeats_its_last_tick(Stuck::Repeating, "proxy.replicas=2", 30)]
#[case::it_reports_no_tick_for_two_requests(Stuck::Silent, "proxy.replicas=2", 2)]
fn a_proxy_is_not_replaced_if(#[case] how: Stuck, #[case] replicas: &str, #[case] questions: u32) {
    let milvus = Milvus::start(how, Some(questions), &[replicas]);
    let (code, stdout, stderr) = run(&mut milvus.upgrade());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(milvus.ticks.stuck().is_some());
    assert!(!stderr.contains("reports no time tick"), "{stderr}");
}
