//! The ways to bring a new version: what people do without the product, and the product.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Command,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::Value;

use super::{
    score::Span,
    stand::{NAMESPACE, RELEASE, Stand},
};
use crate::common::{guard, migration_cluster::Running};

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
    pub fn go(self, stand: &Stand) -> Done {
        match self {
            Self::Plain => plain(stand),
            Self::Upgrade => upgrade(stand),
        }
    }
}

/// An upgrade that was made.
pub struct Done {
    pub steps: Vec<Span>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Now, in seconds since 1970, as the load writes it.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}

fn plain(stand: &Stand) -> Done {
    let begin = now();
    let tag = format!("image.all.tag=v{}", stand.topology.to.name());
    let args = ["upgrade", RELEASE, stand.chart.path(), "-n", NAMESPACE];
    let more = ["--reuse-values", "--set", &tag];
    expect_success(stand.node().helm(Helm::V4, args.iter().chain(&more)));
    stand.wait_for_rollouts();
    let step = Span {
        name: "helm upgrade".into(),
        begin,
        end: now(),
    };
    Done {
        steps: vec![step],
        failure: None,
    }
}

/// The one place that knows how the product is called here.
fn upgrade_command(stand: &Stand) -> Command {
    let mut command = guard();
    command.args(["upgrade", "--local", "--yes", "--progress", "json"]);
    command.args(["-i", RELEASE, "-n", NAMESPACE]);
    command.args(["-t", stand.topology.to.name()]);
    command.arg("--kubeconfig").arg(stand.node().kubeconfig());
    command.args(["--etcd", &stand.cluster.etcd_endpoint()]);
    command.args(["--milvus", &stand.address()]);
    command
}

fn upgrade(stand: &Stand) -> Done {
    let mut running = Running::spawn(upgrade_command(stand));
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
            Ok(event) => {
                tell(&event);
                events.push(event);
            }
            Err(_) => eprintln!("    {line}"),
        }
    }
    let status = running.0.wait().unwrap();
    let said = reader.join().unwrap().unwrap();
    let failure = (!status.success()).then(|| format!("milvus-guard upgrade: {status}: {said}"));
    Done {
        steps: steps(&events),
        failure,
    }
}

/// What a person wants to know of an event in addition to the table.
fn tell(event: &Value) {
    if matches!(
        event["event"].as_str(),
        Some("StepBegan" | "StepFailed" | "Waiting" | "Warning" | "RunEnded")
    ) {
        let words = ["step", "text", "reason", "message", "on"].map(|key| event[key].as_str());
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
