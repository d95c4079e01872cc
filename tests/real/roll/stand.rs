//! A distributed Milvus with data, and a roll of it under load.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use milvus_guard_testbed::{Helm, MilvusCluster, Node, expect_success};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    load::Sampler,
    outcome::Outcome,
    quiet,
    score::{self, Span},
    topology::Topology,
    ways::{Done, Way, now, show},
};
use crate::common::{Chart, roll::is_complete};

pub const RELEASE: &str = "my-release";
pub const NAMESPACE: &str = "milvus";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milvus/roll.py");
/// The Deployments of a release, by the ends of their names.
const COMPONENTS: [&str; 8] = [
    "rootcoord",
    "datacoord",
    "indexcoord",
    "querycoord",
    "indexnode",
    "datanode",
    "querynode",
    "proxy",
];
/// Seconds of right answers that are recorded before a roll.
const BEFORE: f64 = 10.0;
/// For one component to complete its rollout.
const DEADLINE: Duration = Duration::from_secs(600);

/// A Milvus that serves, with data.
pub struct Stand<'a> {
    pub topology: &'static Topology,
    pub chart: Chart,
    pub cluster: &'a MilvusCluster,
    folder: TempDir,
}

impl<'a> Stand<'a> {
    pub fn start(cluster: &'a MilvusCluster, topology: &'static Topology) -> Self {
        let stand = Self {
            topology,
            chart: Chart::real_or_compact(topology.chart),
            cluster,
            folder: tempfile::tempdir().unwrap(),
        };
        stand.install();
        let replicas = OsStr::new(topology.replicas);
        expect_success(stand.python("write", replicas));
        stand
    }

    fn install(&self) {
        let file = |name: &str, values: String| {
            let path = self.folder.path().join(name);
            fs::write(&path, values).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let services = file("services.json", self.cluster.values());
        let own = file("own.json", (self.topology.values)().to_string());
        let tag = format!("image.all.tag=v{}", self.topology.from.name());
        let (chart, namespace) = (self.chart.path(), "--create-namespace");
        let args = ["install", RELEASE, chart, "-n", NAMESPACE, namespace];
        let values = ["-f", &services, "-f", &own, "--set", &tag];
        expect_success(self.node().helm(Helm::V4, args.iter().chain(&values)));
        self.wait_for_rollouts();
    }

    pub fn node(&self) -> &Node {
        self.cluster.node()
    }

    /// Waits until all pods of all components are of the current template and ready.
    pub fn wait_for_rollouts(&self) {
        for component in COMPONENTS {
            let deployment = format!("{RELEASE}-milvus-{component}");
            self.node()
                .wait_for_rollout(NAMESPACE, &deployment, DEADLINE);
        }
    }

    /// Where clients of Milvus connect: `<address>:<port>`.
    pub fn address(&self) -> String {
        self.cluster
            .service_address(NAMESPACE, &format!("{RELEASE}-milvus"), 19530)
    }

    fn python(&self, verb: &str, argument: &OsStr) -> Output {
        let address = self.address();
        let args: [&OsStr; 3] = [verb.as_ref(), address.as_ref(), argument];
        self.cluster.python(Path::new(SCRIPT), args)
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("requests.jsonl")
    }

    /// Upgrades under load, and checks afterwards that no data is lost.
    pub fn roll(&self, way: Way) -> Outcome {
        let (address, record) = (self.address(), self.record());
        let args: [&OsStr; 3] = ["load".as_ref(), address.as_ref(), record.as_ref()];
        let load = self.cluster.background("load", Path::new(SCRIPT), &args);
        let (sampler, start) = (Sampler::start(), now());
        let (begin, roll_begin) = quiet::wait(&record, start, BEFORE);
        let Done { steps, failure } = way.go(self);
        let roll_end = now();
        let failure = failure.or_else(|| self.check_workloads().err());
        let end = quiet::wait_after(self.cluster, &record, roll_end, self.topology.after);
        load.stop();
        let failure = failure
            .or_else(|| self.check().err())
            .or_else(|| way.verify(self).err());
        if failure.is_some() {
            self.show_unwell_pods();
        }
        let span = |name: &str, begin, end| Span {
            name: name.to_owned(),
            begin,
            end,
        };
        Outcome {
            topology: self.topology,
            way,
            requests: score::read(&record),
            before: span("before", begin, roll_begin),
            roll: span("roll", roll_begin, roll_end),
            after: span("after", roll_end, end),
            steps,
            load: sampler.stop(),
            failure,
        }
    }

    /// An error unless every component has the new image and none is paused.
    fn check_workloads(&self) -> Result<(), String> {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        let list = self.node().get_json(&path);
        let tag = format!(":v{}", self.topology.to.name());
        let is_done = |one: &Value| {
            let image = one["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
            let is_new = image.is_some_and(|image| image.ends_with(&tag));
            is_new && one["spec"]["paused"] != true && is_complete(one)
        };
        let all = list["items"].as_array().unwrap().iter();
        let left: Vec<&str> = all
            .filter(|one| !is_done(one))
            .filter_map(|one| one["metadata"]["name"].as_str())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the upgrade reported success, but pods of these are old or not ready: {left:?}"
        ))
    }

    /// Prints the end of the log of each pod that is not ready or was restarted, because a log is
    /// deleted with its pod.
    fn show_unwell_pods(&self) {
        let list = self
            .node()
            .get_json(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
        for pod in list["items"].as_array().into_iter().flatten() {
            let status = &pod["status"]["containerStatuses"][0];
            let has_crashed = status["restartCount"].as_u64() > Some(0);
            if status["ready"] == true && !has_crashed {
                continue;
            }
            let name = pod["metadata"]["name"].as_str().unwrap();
            let mut args = vec!["logs", "-n", NAMESPACE, name, "--tail=60"];
            if has_crashed {
                args.push("--previous");
            }
            eprintln!("    the end of the log of {name}:");
            let log = self.node().kubectl(&args);
            show(&String::from_utf8_lossy(&log.stdout));
        }
    }

    /// An error unless all written and acknowledged data exists and is found.
    fn check(&self) -> Result<(), String> {
        let output = self.python("check", self.record().as_os_str());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        eprintln!("    all data is there: {}", text(&output.stdout));
        Ok(())
    }
}
