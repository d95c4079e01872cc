//! The ways to upgrade: `helm upgrade` without the product, and the ways that the product offers.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::Value;

use super::{
    follow::follow,
    score::Span,
    stand::{NAMESPACE, RELEASE, Stand},
};
use crate::common::{
    copy, guard,
    installed::{IMAGE_VALUES, chart},
    oldest_first,
    webhook::GUARD,
};

/// Helm's name of the chart `milvus-upgrade`.
const JOB: &str = "milvus-upgrade";

/// A way to upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `helm upgrade` with another image tag.
    Plain,
    /// `milvus-guard upgrade --local`.
    Upgrade,
    /// The same `helm upgrade` with the guard installed, which holds it.
    Hold,
    /// The Job of the chart `milvus-upgrade`, with the guard installed.
    Job,
    /// A `helm upgrade` of a chart with the hooks of the chart `milvus-upgrade`, with the guard
    /// installed.
    Hooks,
}

/// What must be in the cluster before Milvus is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    Nothing,
    /// The definitions of the guard's objects.
    Definitions,
    /// The guard, by its chart with its defaults.
    Guard,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::Upgrade,
        Self::Hold,
        Self::Job,
        Self::Hooks,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Upgrade => "upgrade",
            Self::Hold => "hold",
            Self::Job => "job",
            Self::Hooks => "hooks",
        }
    }

    pub const fn prepared(self) -> Prepared {
        match self {
            Self::Plain => Prepared::Nothing,
            Self::Upgrade => Prepared::Definitions,
            Self::Hold | Self::Job | Self::Hooks => Prepared::Guard,
        }
    }

    /// Upgrades, and returns the steps with their times.
    pub fn go(self, stand: &Stand<'_>) -> Done {
        match self {
            Self::Plain => plain(stand),
            Self::Upgrade => Done::of_run(stand, NAMESPACE, follow(upgrade_here(stand))),
            Self::Hold => Done::of_run(stand, GUARD, hold(stand)),
            Self::Job => Done::of_run(stand, GUARD, job(stand)),
            Self::Hooks => Done::of_run(stand, GUARD, hooks(stand)),
        }
    }

    /// Runs the check that the way itself offers after an upgrade.
    pub fn verify(self, stand: &Stand<'_>) -> Result<(), String> {
        if self != Self::Job {
            return Ok(());
        }
        let args = ["test", JOB, "-n", GUARD, "--logs"];
        said(&stand.node().helm(Helm::V4, args)).map(|text| show(&text))
    }
}

/// The result of an upgrade.
pub struct Done {
    pub steps: Vec<Span>,
    /// Why the upgrade failed; `None` if it succeeded.
    pub failure: Option<String>,
}

impl Done {
    /// The result, with the steps that the last run in this namespace has recorded.
    fn of_run(stand: &Stand<'_>, namespace: &str, result: Result<(), String>) -> Self {
        let path = format!("/apis/guard.milvus.io/v1alpha1/namespaces/{namespace}/upgraderuns");
        let list = stand.node().get_json(&path);
        let mut runs = list["items"].as_array().cloned().unwrap_or_default();
        oldest_first(&mut runs);
        let history = runs
            .pop()
            .map(|run| run["status"]["history"].clone())
            .unwrap_or_default();
        Self {
            steps: steps(history.as_array().map_or(&[], Vec::as_slice)),
            failure: result.err(),
        }
    }
}

/// Now, in seconds since 1970, as in the records of the load.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs_f64()
}

/// A plain `helm upgrade` as users run it without the guard; returns the output of Helm.
fn helm_upgrade(stand: &Stand<'_>) -> String {
    let tag = format!("image.all.tag=v{}", stand.topology.to.name());
    let args = ["upgrade", RELEASE, stand.chart.path(), "-n", NAMESPACE];
    let more = ["--reuse-values", "--set", &tag];
    let output = stand.node().helm(Helm::V4, args.iter().chain(&more));
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    expect_success(output) + &warnings
}

fn plain(stand: &Stand<'_>) -> Done {
    let begin = now();
    helm_upgrade(stand);
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

/// A command of the product for the release.
fn command(stand: &Stand<'_>, verb: &str) -> Command {
    let mut command = guard();
    command.args([verb, "-i", RELEASE, "-n", NAMESPACE]);
    command.arg("--kubeconfig").arg(stand.node().kubeconfig());
    command
}

/// Without a Job. Addresses of Milvus and etcd are given as for a machine outside of the cluster.
fn upgrade_here(stand: &Stand<'_>) -> Command {
    let mut command = command(stand, "upgrade");
    command.args(["--yes", "--progress", "json", "--local"]);
    command.args(["-t", stand.topology.to.name()]);
    command.args(["--etcd", &stand.cluster.etcd_endpoint()]);
    command.args(["--milvus", &stand.address()]);
    command
}

/// The chart as in its README, with only the required values. Names of Services are not resolved
/// here, so Milvus is given by its address.
fn job(stand: &Stand<'_>) -> Result<(), String> {
    let (chart, target) = (chart("milvus-upgrade"), stand.topology.to.name());
    let about = format!("verb=upgrade,instance={RELEASE},namespace={NAMESPACE}");
    let about = format!("{about},targetVersion={target}");
    let account = "serviceAccount.create=false,serviceAccount.name=milvus-guard-job";
    let milvus = format!("milvus.address={}", stand.address());
    let mut args = vec!["install", JOB, &chart, "-n", GUARD];
    args.extend(["--wait", "--wait-for-jobs", "--timeout", "20m"]);
    for value in [&*about, account, &*milvus].iter().chain(&IMAGE_VALUES) {
        args.extend(["--set", value]);
    }
    let result = said(&stand.node().helm(Helm::V4, args));
    let log = [
        "logs",
        "-n",
        GUARD,
        &format!("job/{JOB}-1"),
        "--all-containers",
    ];
    show(&String::from_utf8_lossy(&stand.node().kubectl(log).stdout));
    result.map(drop)
}

/// A plain `helm upgrade` of Milvus' chart, which has the chart of the hooks as a dependency.
fn hooks(stand: &Stand<'_>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    copy(Path::new(stand.chart.path()), folder.path());
    let place = folder.path().join("charts/milvus-upgrade");
    fs::create_dir_all(&place).unwrap();
    copy(Path::new(&chart("milvus-upgrade")), &place);
    let tag = format!("image.all.tag=v{}", stand.topology.to.name());
    let milvus = format!("milvus.address={}", stand.address());
    let own = [
        "hooks.enabled=true",
        "verb=upgrade",
        "namespaceOverride=milvus-guard",
        "serviceAccount.create=false",
        "serviceAccount.name=milvus-guard-job",
        &milvus,
    ];
    let own = own.iter().chain(&IMAGE_VALUES);
    let values: Vec<String> = own.map(|value| format!("milvus-upgrade.{value}")).collect();
    let mut args = vec!["upgrade", RELEASE, folder.path().to_str().unwrap()];
    args.extend(["-n", NAMESPACE, "--timeout", "20m", "--reuse-values"]);
    for value in [tag.as_str()]
        .into_iter()
        .chain(values.iter().map(String::as_str))
    {
        args.extend(["--set", value]);
    }
    said(&stand.node().helm(Helm::V4, args)).map(|text| show(&text))
}

/// The output of a command; as an error if the command failed.
fn said(output: &Output) -> Result<String, String> {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let text = text.concat();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

/// Prints text indented, below the line that names the roll.
pub fn show(text: &str) {
    for line in text.lines() {
        eprintln!("    {line}");
    }
}

/// `helm upgrade`, and the command that its warning recommends: `status --wait`.
fn hold(stand: &Stand<'_>) -> Result<(), String> {
    let said = helm_upgrade(stand);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("MG201")).collect();
    show(&warnings.join("\n"));
    let mut wait = command(stand, "status");
    wait.arg("--wait");
    let result = follow(wait);
    let log = ["logs", "-n", GUARD, "deployment/milvus-guard", "--all-pods"];
    show(&String::from_utf8_lossy(&stand.node().kubectl(log).stdout));
    result
}

/// The steps of a run from its history.
fn steps(history: &[Value]) -> Vec<Span> {
    let mut steps: Vec<Span> = Vec::new();
    for event in history {
        let time: Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        let at = time.as_duration().as_secs_f64();
        match event["reason"].as_str() {
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
fn steps_are_read_from_the_history_of_a_run() {
    let event = |reason: &str, step: &str, second: u8| serde_json::json!({"reason": reason, "step": step, "time": format!("1970-01-01T00:00:{second:02}.500Z")});
    let history = [
        event("RunBegan", "", 0),
        event("StepBegan", "update-rootcoord", 1),
        event("Warning", "", 2),
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
        steps(&history),
        [
            span("update-rootcoord", 1.5, 3.5),
            span("update-proxy", 3.5, 9.5)
        ]
    );
}
