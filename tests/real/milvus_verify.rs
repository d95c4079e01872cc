//! `verify` asks a real Milvus for loaded collections and users, and probes it. Nodes are
//! simulated: the server is not a pod of the cluster. The servers are large downloads: `make
//! test-milvus`.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    Chart, guard,
    migration_cluster::Running,
    roll::{DEADLINE, RELEASE, Roll},
    run,
};
use milvus_guard_core::verification::SCHEMA_VERSION;
use milvus_guard_testbed::{Helm, Milvus, MilvusStore, MilvusVersion, expect_success, wait_until};
use rstest::rstest;
use serde_json::Value;

const NAMESPACE: &str = "milvus";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milvus/books.py");
/// The initial password of `root`.
const PASSWORD: &str = "Milvus";
/// Prefix of the names of probe collections.
const PROBE: &str = "milvus_guard_probe_";

struct ServedRelease {
    roll: Roll,
    server: Milvus,
}

impl ServedRelease {
    fn start(wheel: MilvusVersion) -> Self {
        let server = MilvusStore::new().with_authorization().serve(wheel);
        let (roll, tag) = (Roll::start(), format!("v{}", wheel.name()));
        let authorization =
            "extraConfigFiles.user\\.yaml=common:\n  security:\n    authorizationEnabled: true\n";
        let chart = Chart::compact("4.0.31");
        roll.install(Helm::V4, NAMESPACE, &chart, &tag, &[authorization]);
        let setup = Self { roll, server };
        setup.script("write");
        setup
    }

    /// Runs the script, and returns its output.
    fn script(&self, verb: &str) -> String {
        let output = self.server.python(
            Path::new(SCRIPT),
            [verb, &self.server.port().to_string(), PASSWORD],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        expect_success(output);
        text
    }

    fn verify(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .args(["verify", "-i", RELEASE, "-n", NAMESPACE, "--kubeconfig"])
            .arg(self.roll.cluster.kubeconfig())
            .args(["--milvus", &self.server.endpoint()])
            .args(more)
            .env("MILVUS_GUARD_MILVUS_USER", "root")
            .env("MILVUS_GUARD_MILVUS_PASSWORD", PASSWORD);
        command
    }

    /// Exit code, and `check: outcome: messages` of each check.
    fn outcomes(&self, more: &[&str]) -> (i32, Vec<String>) {
        let (code, stdout, stderr) = run(&mut self.verify(&[&["--format", "json"], more].concat()));
        let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!(json["schemaVersion"], SCHEMA_VERSION);
        let checks = json["checks"].as_array().unwrap().iter().map(|check| {
            let text = |key: &str| check[key].as_str().unwrap().to_owned();
            format!("{}: {}: {}", text("id"), text("outcome"), check["messages"])
        });
        (code, checks.collect())
    }

    fn probes_left(&self) -> bool {
        self.script("list").contains(PROBE)
    }
}

fn has(checks: &[String], part: &str) -> bool {
    checks.iter().any(|check| check.contains(part))
}

#[rstest]
#[case(MilvusVersion::V2_2_16)]
#[case(MilvusVersion::V2_3_5)]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn a_milvus_is_compared_with_its_record_and_probed(#[case] wheel: MilvusVersion) {
    let setup = ServedRelease::start(wheel);
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("before.json");
    let record = record.to_str().unwrap();
    let whole = || setup.outcomes(&["--record-to", record]).0 == 0;
    assert!(wait_until(DEADLINE, whole), "{:?}", setup.outcomes(&[]));

    let began = Instant::now();
    let (code, checks) = setup.outcomes(&["--record", record, "--probe"]);
    eprintln!("{}: {checks:#?} in {:?}", wheel.name(), began.elapsed());
    assert_eq!(code, 0, "{checks:#?}");
    for expected in [
        "milvus: passed: ",
        "collections: passed: [\"3 collections are served as in the record",
        "privileges: passed: [\"2 users",
        "probe: passed: ",
        "versions: passed: ",
    ] {
        assert!(has(&checks, expected), "{expected}: {checks:#?}");
    }
    assert!(!setup.probes_left());

    // The same record, stored in the cluster.
    assert_eq!(setup.outcomes(&["--record-to", "configmap/before"]).0, 0);
    let (code, checks) = setup.outcomes(&["--record", "configmap/before"]);
    assert!(
        code == 0 && has(&checks, "served as in the record"),
        "{checks:#?}"
    );

    setup.script("release");
    let (code, checks) = setup.outcomes(&["--record", record]);
    let lost = "collections: failed: [\"collection books: was loaded before";
    assert!(code == 1 && has(&checks, lost), "{checks:#?}");
    // Without a record, `verify` cannot know that the collection was loaded.
    assert_eq!(setup.outcomes(&[]).0, 0);
    setup.script("drop");
    let (code, checks) = setup.outcomes(&["--record", record]);
    let lost = "collections: failed: [\"collection books: it does not exist any more";
    assert!(code == 1 && has(&checks, lost), "{checks:#?}");

    let mut stranger = setup.verify(&[]);
    stranger.env("MILVUS_GUARD_MILVUS_PASSWORD", "wrong-password");
    let (code, stdout, _) = run(&mut stranger);
    assert!(
        code == 1 && stdout.contains("unknown  milvus") && !stdout.contains("wrong-password"),
        "{stdout}"
    );
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn an_interrupted_probe_leaves_no_collection() {
    let setup = ServedRelease::start(MilvusVersion::V2_3_5);
    let mut running = Running::spawn(setup.verify(&["--probe"]));
    assert!(
        wait_until(DEADLINE, || setup.probes_left()),
        "the probe must create its collection"
    );
    let interrupt = Command::new("kill")
        .args(["-INT", &running.0.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let ended = wait_until(Duration::from_secs(60), || running.has_ended());
    assert!(ended, "it ends");
    assert!(
        !setup.probes_left(),
        "the collection of the probe must be dropped"
    );
}
