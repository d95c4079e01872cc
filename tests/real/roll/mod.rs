//! Rolling upgrades of a distributed Milvus that serves searches and inserts all the while. Root
//! only, and slow: `make test-roll`, `make test-roll-short`.

mod load;
mod score;
mod table;
mod ways;

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use milvus_guard_testbed::{Helm, MilvusCluster, MilvusVersion, Node, expect_success, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::{
    load::{Load, Sampler},
    score::{Gap, Request, Span, What, gaps, lost},
    ways::{Way, now, wait_for_rollouts},
};
use crate::common::{Chart, install_definitions};

const RELEASE: &str = "my-release";
const NAMESPACE: &str = "milvus";
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
/// Seconds that are watched before a roll and after it. Sessions of Milvus 2.3.2 last 60 s, and
/// what depends on them fails that late.
const BEFORE: f64 = 10.0;
const AFTER: f64 = 75.0;
/// For the load to be so far.
const PATIENCE: Duration = Duration::from_secs(180);

/// A Milvus as it is installed, and the version that it is brought to.
struct Topology {
    name: &'static str,
    from: MilvusVersion,
    to: MilvusVersion,
    chart: &'static str,
    /// Copies of the data that are loaded, each on query nodes of its own.
    replicas: &'static str,
    values: fn() -> Value,
}

/// Within a minor version, with a standby of everything that can have one.
const WITHIN: Topology = Topology {
    name: "within",
    from: MilvusVersion::V2_3_2,
    to: MilvusVersion::V2_3_5,
    chart: "4.1.34",
    replicas: "2",
    values: || {
        // The charts that brought these versions, up to 4.1.21, had no other strategy.
        let coordinator = json!({
            "replicas": 2, "activeStandby": {"enabled": true}, "strategy": {"type": "Recreate"},
        });
        json!({
            "rootCoordinator": coordinator, "dataCoordinator": coordinator,
            "indexCoordinator": coordinator, "queryCoordinator": coordinator,
            "queryNode": {"replicas": 2}, "proxy": {"replicas": 2},
        })
    },
};

/// To the next minor version, with one pod of each component.
const ACROSS: Topology = Topology {
    name: "across",
    from: MilvusVersion::V2_2_16,
    to: MilvusVersion::V2_3_5,
    chart: "4.0.31",
    replicas: "1",
    values: || json!({}),
};

/// A Milvus that serves, with data.
struct Stand {
    topology: &'static Topology,
    chart: Chart,
    cluster: MilvusCluster,
    folder: TempDir,
}

impl Stand {
    fn start(topology: &'static Topology) -> Self {
        let stand = Self {
            topology,
            chart: Chart::real_or_compact(topology.chart),
            cluster: MilvusCluster::start(&[topology.from, topology.to]),
            folder: tempfile::tempdir().unwrap(),
        };
        install_definitions(stand.node());
        stand.install();
        let args = ["write", &milvus_address(&stand.cluster), topology.replicas];
        expect_success(stand.cluster.python(Path::new(SCRIPT), args));
        stand
    }

    fn install(&self) {
        let (services, own) = (
            self.folder.path().join("services.json"),
            self.folder.path().join("own.json"),
        );
        std::fs::write(&services, self.cluster.values()).unwrap();
        std::fs::write(&own, (self.topology.values)().to_string()).unwrap();
        let tag = format!("image.all.tag=v{}", self.topology.from.name());
        let args = [
            "install",
            RELEASE,
            self.chart.path(),
            "-n",
            NAMESPACE,
            "--create-namespace",
        ];
        let values = [
            "-f",
            services.to_str().unwrap(),
            "-f",
            own.to_str().unwrap(),
            "--set",
            &tag,
        ];
        expect_success(self.node().helm(Helm::V4, args.iter().chain(&values)));
        wait_for_rollouts(self.node());
    }

    fn node(&self) -> &Node {
        self.cluster.node()
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("requests.jsonl")
    }

    /// Waits until the load has seen this moment.
    fn watch_until(&self, moment: f64) {
        wait_for("the load to go on", PATIENCE, || {
            now() >= moment
                && score::read(&self.record())
                    .iter()
                    .any(|one| one.at >= moment)
        });
    }

    /// Upgrades under load.
    fn roll(&self, way: Way) -> Outcome {
        let (address, record) = (milvus_address(&self.cluster), self.record());
        let args: [&OsStr; 3] = ["load".as_ref(), address.as_ref(), record.as_ref()];
        let load = self.cluster.background("load", Path::new(SCRIPT), &args);
        let sampler = Sampler::start();
        let begin = now();
        self.watch_until(begin + BEFORE);
        let mut steps = vec![];
        let done = way.go(self);
        let end = now();
        self.watch_until(end + AFTER);
        load.stop();
        let first = done.first().map_or(end, |step| step.begin);
        steps.push(Span {
            name: "before".into(),
            begin,
            end: first,
        });
        steps.extend(done);
        steps.push(Span {
            name: "after".into(),
            begin: end,
            end: end + AFTER,
        });
        Outcome {
            topology: self.topology.name,
            way,
            requests: score::read(&record),
            watched: Span {
                name: "all".into(),
                begin,
                end: end + AFTER,
            },
            steps,
            load: sampler.stop(),
        }
    }

    /// Fails unless everything is there that was written or acknowledged, and is found.
    fn check(&self) {
        let (address, record) = (milvus_address(&self.cluster), self.record());
        let args: [&OsStr; 3] = ["check".as_ref(), address.as_ref(), record.as_ref()];
        let said = expect_success(self.cluster.python(Path::new(SCRIPT), args));
        eprintln!("    complete: {}", said.trim());
    }
}

/// Where clients of Milvus connect.
fn milvus_address(cluster: &MilvusCluster) -> String {
    cluster.service_address(NAMESPACE, &format!("{RELEASE}-milvus"), 19530)
}

/// A roll and what the load saw of it.
pub struct Outcome {
    topology: &'static str,
    way: Way,
    requests: Vec<Request>,
    watched: Span,
    steps: Vec<Span>,
    load: Load,
}

impl Outcome {
    fn gaps(&self, what: What) -> Vec<Gap> {
        gaps(&self.requests, what, &self.watched)
    }

    /// Seconds that the upgrade took.
    fn took(&self) -> f64 {
        self.watched.end - AFTER - self.steps[0].end
    }

    /// Seconds without a right answer, where something failed or was wrong.
    fn lost(&self, what: What) -> f64 {
        lost(&self.gaps(what))
    }
}

/// What a variable chooses by name, separated by commas; all without it.
fn chosen<T: Copy>(variable: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
    let Ok(wanted) = env::var(variable) else {
        return all.to_vec();
    };
    wanted
        .split(',')
        .map(|word| {
            let found = all.iter().find(|one| name(**one) == word);
            *found.unwrap_or_else(|| panic!("{variable}: there is no {word}"))
        })
        .collect()
}

fn roll(topology: &'static Topology, way: Way) -> Outcome {
    eprintln!(
        "{} {}: {} to {}",
        topology.name,
        way.name(),
        topology.from.name(),
        topology.to.name()
    );
    let stand = Stand::start(topology);
    let outcome = stand.roll(way);
    eprintln!("{}", table::steps(&outcome));
    stand.check();
    outcome
}

#[test]
#[ignore = "an hour, root and a container runtime: make test-roll"]
fn an_upgrade_loses_no_more_than_a_plain_helm_upgrade() {
    let topologies = chosen("ROLL", &[&WITHIN, &ACROSS], |topology| topology.name);
    let ways = chosen("WAYS", &Way::ALL, Way::name);
    let mut outcomes = Vec::new();
    for topology in &topologies {
        outcomes.extend(ways.iter().map(|way| roll(topology, *way)));
    }
    let table = table::rolls(&outcomes);
    eprintln!("\n{table}");
    let mut worse = Vec::new();
    for topology in topologies {
        let of = |way| {
            outcomes
                .iter()
                .find(|one| one.topology == topology.name && one.way == way)
        };
        let (Some(plain), Some(upgrade)) = (of(Way::Plain), of(Way::Upgrade)) else {
            continue;
        };
        for what in [What::Search, What::Insert] {
            let (before, after) = (plain.lost(what), upgrade.lost(what));
            if after > before {
                worse.push(format!(
                    "{}: {what:?} {after:.1} s against {before:.1} s",
                    topology.name
                ));
            }
        }
    }
    assert!(
        worse.is_empty(),
        "more is lost than in a plain upgrade: {worse:?}\n{table}"
    );
}

/// Seconds without a right answer that a roll within a minor version may cost, also on a slow and
/// busy machine. A bound for what breaks, not a measurement.
const BOUND: f64 = 240.0;

#[test]
#[ignore = "minutes, root and a container runtime: make test-roll-short"]
fn an_upgrade_within_a_minor_version_loses_no_data_and_little_time() {
    let outcome = roll(&WITHIN, Way::Upgrade);
    let table = table::rolls(std::slice::from_ref(&outcome));
    eprintln!("\n{table}");
    for what in [What::Search, What::Insert] {
        assert!(outcome.lost(what) < BOUND, "{table}");
    }
}
