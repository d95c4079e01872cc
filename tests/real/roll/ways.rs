//! The ways to bring a new version: what people do without the product, and the product.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use milvus_guard_testbed::{Helm, MilvusCluster, expect_success};
use serde_json::Value;

use super::score::Span;
use super::{COMPONENTS, NAMESPACE, RELEASE, Stand, Topology};
use crate::common::{guard, stand::Running};

/// For one component to be new.
const DEADLINE: Duration = Duration::from_secs(600);

/// A way to upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `helm upgrade` with another image tag.
    Plain,
    /// `milvus-guard upgrade`.
    Upgrade,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Upgrade];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Upgrade => "upgrade",
        }
    }

    /// Upgrades, and says what was done when.
    pub fn go(self, stand: &Stand) -> Vec<Span> {
        match self {
            Self::Plain => plain(stand),
            Self::Upgrade => upgrade(stand),
        }
    }
}

/// Now, in seconds since 1970, as the load writes it.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}

fn plain(stand: &Stand) -> Vec<Span> {
    let begin = now();
    let tag = format!("image.all.tag=v{}", stand.topology.to.name());
    let args = ["upgrade", RELEASE, stand.chart.path(), "-n", NAMESPACE];
    let more = ["--reuse-values", "--set", &tag];
    expect_success(stand.node().helm(Helm::V4, args.iter().chain(&more)));
    wait_for_rollouts(stand.node());
    vec![Span {
        name: "helm upgrade".into(),
        begin,
        end: now(),
    }]
}

/// Waits until all pods of all components are new and ready.
pub fn wait_for_rollouts(node: &milvus_guard_testbed::Node) {
    for component in COMPONENTS {
        let deployment = format!("{RELEASE}-milvus-{component}");
        node.wait_for_rollout(NAMESPACE, &deployment, DEADLINE);
    }
}

/// The one place that knows how the product is called here.
fn upgrade_command(cluster: &MilvusCluster, topology: &Topology) -> Command {
    let mut command = guard();
    command.args(["upgrade", "--local", "--yes", "--progress", "json"]);
    command.args(["-i", RELEASE, "-n", NAMESPACE]);
    command.args(["-t", topology.to.name()]);
    command.arg("--kubeconfig").arg(cluster.node().kubeconfig());
    command.args(["--etcd", &cluster.etcd_endpoint()]);
    command.args(["--milvus", &super::milvus_address(cluster)]);
    command
}

fn upgrade(stand: &Stand) -> Vec<Span> {
    let mut running = Running::spawn(upgrade_command(&stand.cluster, stand.topology));
    let stderr = running.0.stderr.take().unwrap();
    let mut stdout = running.0.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let mut events: Vec<Value> = Vec::new();
    for line in BufReader::new(stderr).lines() {
        let line = line.unwrap();
        match serde_json::from_str(&line) {
            Ok(event) => events.push(event),
            Err(_) => eprintln!("{line}"),
        }
    }
    let status = running.0.wait().unwrap();
    let said = reader.join().unwrap().unwrap();
    let steps = steps(&events);
    for event in &events {
        tell(event);
    }
    assert!(
        status.success(),
        "{status}: {said}\n{}",
        stand.node().describe(NAMESPACE)
    );
    steps
}

/// What a person wants to know of an event beside the table.
fn tell(event: &Value) {
    if matches!(
        event["event"].as_str(),
        Some("Warning" | "StepFailed" | "RunEnded" | "Waiting")
    ) {
        let words = ["text", "reason", "message", "on"].map(|key| event[key].as_str());
        let text = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
        eprintln!(
            "    {} {} {text}",
            event["time"].as_str().unwrap_or_default(),
            event["event"].as_str().unwrap_or_default(),
        );
    }
}

/// The steps of a run from its events.
fn steps(events: &[Value]) -> Vec<Span> {
    let mut steps: Vec<Span> = Vec::new();
    for event in events {
        let time: Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        let at = time.as_duration().as_secs_f64();
        match event["event"].as_str() {
            Some("StepBegan") => steps.push(Span {
                name: event["step"].as_str().unwrap().to_owned(),
                begin: at,
                end: at,
            }),
            Some("StepDone" | "StepFailed" | "RunEnded") => {
                if let Some(last) = steps.last_mut() {
                    last.end = at;
                }
            }
            _ => {}
        }
    }
    steps
}

#[test]
fn steps_last_from_their_beginning_to_their_end() {
    let event = |event: &str, step: &str, second: u8| serde_json::json!({"event": event, "step": step, "time": format!("1970-01-01T00:00:{second:02}.500Z")});
    let events = [
        event("RunBegan", "", 0),
        event("StepBegan", "update-rootcoord", 1),
        event("Waiting", "", 2),
        event("StepDone", "update-rootcoord", 3),
        event("StepBegan", "update-proxy", 3),
        event("RunEnded", "", 9),
    ];
    let span = |name: &str, begin, end| Span {
        name: name.into(),
        begin,
        end,
    };
    assert_eq!(
        steps(&events),
        [
            span("update-rootcoord", 1.5, 3.5),
            span("update-proxy", 3.5, 9.5)
        ]
    );
}
