//! A release that Helm upgrades in the order of the data, and functions that inspect the release.

use std::{fs, path::Path, process::Command};

use crate::common::{
    Chart, guard,
    roll::{DEADLINE, RELEASE, Roll, Watch},
    run,
};
use milvus_guard_core::milvus::{Component, Version};
use milvus_guard_testbed::{Helm, expect_success, helm, wait_until};
use serde_json::{Value, json};

pub const NAMESPACE: &str = "milvus";
const MARK: &str = "guard.milvus.io/upgrade-run";
/// Values of a release like those of the real chart.
pub const VALUES: [&str; 2] = ["mixCoordinator.enabled=true", "componentServices=true"];

/// A release, and a Helm that upgrades it through the guard.
pub struct Site {
    pub roll: Roll,
    pub with: Helm,
    pub folder: tempfile::TempDir,
}

impl Site {
    pub fn new(with: Helm, chart: &Chart, tag: &str, values: &[&str]) -> Self {
        Self::on(Roll::start(), with, chart, tag, values)
    }

    pub fn on(roll: Roll, with: Helm, chart: &Chart, tag: &str, values: &[&str]) -> Self {
        let site = Self {
            roll,
            with,
            folder: tempfile::tempdir().unwrap(),
        };
        site.roll.install(with, NAMESPACE, chart, tag, values);
        site
    }

    /// Our command with the variables that Helm needs, and `helm upgrade` with its arguments.
    pub fn upgrade_by(&self, program: &Path, more: &[&str], upgrade: &[String]) -> Command {
        self.command(program, &[&["--local"], more].concat(), upgrade)
    }

    pub fn command(&self, program: &Path, more: &[&str], upgrade: &[String]) -> Command {
        let mut command = guard();
        let helm = self.roll.cluster.helm_command(self.with);
        for (name, value) in helm.get_envs() {
            if let Some(value) = value.filter(|_| name.to_str().unwrap().starts_with("HELM_")) {
                command.env(name, value);
            }
        }
        command
            .args(["upgrade", "--yes", "--kubeconfig"])
            .arg(self.roll.cluster.kubeconfig())
            .args(["-i", RELEASE, "-n", NAMESPACE])
            .args(["--lock-holds", "2s", "--progress", "plain"])
            .args(more)
            .arg("--")
            .arg(program)
            .args(["upgrade", RELEASE])
            .args(upgrade);
        command
    }

    pub fn upgrade(&self, chart: &Chart, tag: &str, values: &[&str]) -> Command {
        self.upgrade_by(&helm(self.with), &[], &words(chart, tag, values))
    }

    /// Ends the run by this operation: exit code, stdout, stderr.
    pub fn end(&self, operation: &str) -> (i32, String, String) {
        run(&mut self.roll.end(NAMESPACE, operation))
    }

    /// Only Helm can restore the old templates, and the run states the command.
    pub fn assert_rollback_waits_for_helm(&self) {
        let (code, _, stderr) = self.end("rollback");
        assert_eq!(code, 3, "{stderr}");
        assert!(
            stderr.contains("First run: helm rollback my-release 1 -n milvus"),
            "{stderr}"
        );
    }

    /// Runs that command, and rolls the run back.
    pub fn roll_back_by_helm(&self) {
        self.helm(&["rollback", RELEASE, "1"]);
        let (code, stdout, stderr) = self.end("rollback");
        assert_eq!(code, 0, "{stdout}\n{stderr}");
    }

    /// Runs Helm directly.
    pub fn helm(&self, args: &[&str]) -> String {
        let args = [args, &["-n", NAMESPACE]].concat();
        expect_success(self.roll.cluster.helm(self.with, args))
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let list = self.roll.cluster.get_json(path);
        let items = list["items"].as_array().unwrap().iter();
        let mut names: Vec<String> = items
            .map(|one| one["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    pub fn deployments(&self) -> Vec<String> {
        self.names(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"))
    }

    pub fn services(&self) -> Vec<String> {
        self.names(&format!("/api/v1/namespaces/{NAMESPACE}/services"))
    }

    /// The values at this JSON pointer in all pods that run Milvus, without duplicates.
    pub fn of_pods(&self, pointer: &str) -> Vec<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let pods = self.roll.cluster.get_json(&path);
        let of_milvus = |pod: &&Value| {
            let image = pod["spec"]["containers"][0]["image"].as_str();
            image.is_some_and(|image| image.contains("milvusdb/milvus:"))
        };
        let items = pods["items"].as_array().unwrap().iter();
        let mut values: Vec<String> = items
            .filter(of_milvus)
            .map(|pod| pod.pointer(pointer).unwrap().as_str().unwrap().to_owned())
            .collect();
        values.sort();
        values.dedup();
        values
    }

    pub fn pod_images(&self) -> Vec<String> {
        self.of_pods("/spec/containers/0/image")
    }

    /// Identities of the pods of Milvus.
    pub fn pods(&self) -> Vec<String> {
        self.of_pods("/metadata/uid")
    }

    /// No object of the release has a field or a mark of the run.
    pub fn assert_clean(&self) {
        assert_eq!(self.roll.owned_by_runs(NAMESPACE), [""; 0]);
        for one in self.roll.deployments(NAMESPACE) {
            assert_eq!(one["spec"]["paused"], Value::Null, "{one:#}");
            assert_eq!(one["metadata"]["annotations"][MARK], Value::Null, "{one:#}");
            let policy = &one["metadata"]["annotations"]["helm.sh/resource-policy"];
            assert_eq!(*policy, Value::Null, "{one:#}");
        }
    }

    /// Live Deployments are as Helm's manifest describes them.
    pub fn assert_as_manifest(&self) {
        let manifest = self.helm(&["get", "manifest", RELEASE]);
        let file = self.folder.path().join("manifest.yaml");
        fs::write(&file, manifest).unwrap();
        let file = file.to_str().unwrap();
        let diff = ["-n", NAMESPACE, "diff", "-f", file];
        let output = self.roll.cluster.kubectl(diff);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let changed = text.lines().filter(|line| {
            let is_change = line.starts_with(['+', '-']) && !line.starts_with("+++");
            is_change && !line.starts_with("---") && !is_bookkeeping(line)
        });
        assert_eq!(changed.collect::<Vec<_>>(), [""; 0], "{text}");
    }

    /// Waits until the run is in a step, which must last: see [`Roll::hold_up`].
    pub fn await_step(&self, id: &str) {
        let reached = wait_until(DEADLINE, || {
            let runs = self.roll.runs(NAMESPACE);
            runs.last()
                .is_some_and(|run| run["status"]["step"]["id"] == id)
        });
        assert!(reached, "{:#?}", self.roll.runs(NAMESPACE));
    }
}

/// Lines of a diff that `kubectl apply` itself causes.
fn is_bookkeeping(line: &str) -> bool {
    let line = line[1..].trim_start();
    [
        "generation:",
        "resourceVersion:",
        "kubectl.kubernetes.io/last-applied-configuration",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

/// The arguments of `helm upgrade RELEASE`.
pub fn words(chart: &Chart, tag: &str, values: &[&str]) -> Vec<String> {
    let mut words = vec![chart.path().to_owned()];
    let tag = format!("image.all.tag={tag}");
    for value in values.iter().chain([&&*tag]) {
        words.extend(["--set".to_owned(), (*value).to_owned()]);
    }
    words
}

pub fn image(tag: &str) -> String {
    format!("milvusdb/milvus:{tag}")
}

/// When a change happened first or last, as a position in the recording.
pub fn position(
    watch: &Watch,
    is: impl Fn(Component, &str, bool) -> bool,
    last: bool,
) -> Option<usize> {
    let events = watch.events();
    let mut events = events.iter().enumerate();
    let fits = |(_, seen): &(usize, &crate::common::roll::Seen)| {
        is(seen.component, &seen.image, seen.is_gone)
    };
    let found = if last {
        events.rfind(fits)
    } else {
        events.find(fits)
    };
    found.map(|(at, _)| at)
}

pub fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// A template with a Deployment that the API server refuses. Helm applies Deployments in the order of
/// their files, so it has changed others by then if this one has a late name.
pub fn write_refused(template: &Path) {
    let broken = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "broken"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}},
    });
    fs::write(template, broken.to_string()).unwrap();
}
