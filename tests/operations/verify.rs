//! `verify` on a real API server and a real etcd with the sessions of a Milvus 2.3. Answers of
//! Milvus itself are tested on real servers: `tests/real/milvus_verify.rs`.

use std::process::Command;

use crate::common::{
    Chart, guard,
    roll::{DEADLINE, RELEASE, Roll},
    run,
    sessions::Sessions,
};
use milvus_guard_core::verification::SCHEMA_VERSION;
use milvus_guard_testbed::{Etcd, Helm, expect_success, wait_until};
use serde_json::{Value, json};

const NAMESPACE: &str = "verify";

/// Fields are dropped in this order.
struct SilentRelease {
    _sessions: Sessions,
    roll: Roll,
    etcd: Etcd,
}

impl SilentRelease {
    /// Milvus 2.3.2 without a proxy that answers.
    fn start() -> Self {
        let (roll, etcd) = (Roll::start(), Etcd::start());
        let sessions = Sessions::start(roll.cluster.kubeconfig(), &etcd.endpoint(), 60);
        roll.install(
            Helm::V4,
            NAMESPACE,
            &Chart::compact("4.0.31"),
            "v2.3.2",
            &[],
        );
        let setup = Self {
            _sessions: sessions,
            roll,
            etcd,
        };
        let whole = || setup.outcomes(&["--milvus", "none"]).0 == 0;
        assert!(
            wait_until(DEADLINE, whole),
            "{:?}",
            setup.outcomes(&["--milvus", "none"])
        );
        setup
    }

    fn verify(&self, more: &[&str]) -> Command {
        let mut command = guard();
        command
            .args(["verify", "-i", RELEASE, "-n", NAMESPACE, "--kubeconfig"])
            .arg(self.roll.cluster.kubeconfig())
            .args(more);
        command
    }

    /// Exit code, and `check: outcome: first message` of each check, with etcd.
    fn outcomes(&self, more: &[&str]) -> (i32, Vec<String>) {
        let endpoint = self.etcd.endpoint();
        let more = [&["--format", "json", "--etcd", &endpoint], more].concat();
        let (code, stdout, stderr) = run(&mut self.verify(&more));
        let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
        assert_eq!(json["schemaVersion"], SCHEMA_VERSION);
        let checks = json["checks"].as_array().unwrap().iter().map(|check| {
            let text = |key: &str| check[key].as_str().unwrap().to_owned();
            let message = check["messages"][0].as_str().unwrap();
            format!("{}: {}: {message}", text("id"), text("outcome"))
        });
        (code, checks.collect())
    }

    fn put(&self, key: &str, host: &str) {
        let key = format!("by-dev/meta/session/{key}");
        let value = format!(r#"{{"ServerID":999,"HostName":"{host}","Version":"2.3.2"}}"#);
        assert!(self.etcd.etcdctl(["put", &key, &value]).status.success());
    }
}

fn has(checks: &[String], beginning: &str) -> bool {
    checks.iter().any(|check| check.starts_with(beginning))
}

#[test]
fn a_release_is_verified_against_the_cluster_and_etcd() {
    let setup = SilentRelease::start();
    let without_milvus = ["--milvus", "none"];
    let (code, checks) = setup.outcomes(&without_milvus);
    assert_eq!(code, 0, "{checks:#?}");
    for expected in [
        "workloads: passed: ",
        "run: passed: no run of this release is recorded",
        "versions: passed: ",
        "sessions: passed: ",
        "milvus: skipped: --milvus none",
        "collections: skipped: Milvus is not asked",
        "privileges: skipped: Milvus is not asked",
        "probe: skipped: ",
    ] {
        assert!(has(&checks, expected), "{expected}: {checks:#?}");
    }

    // Milvus does not answer at the Service: a check that could not be made does not pass.
    let (code, checks) = setup.outcomes(&["--probe"]);
    assert_eq!(code, 1, "{checks:#?}");
    for expected in [
        "milvus: unknown: ",
        "collections: unknown: Milvus did not answer",
        "privileges: unknown: Milvus did not answer",
        "probe: unknown: Milvus did not answer",
    ] {
        assert!(has(&checks, expected), "{expected}: {checks:#?}");
    }
    let (_, stdout, _) = run(&mut setup.verify(&[]));
    let tunnel = "run kubectl port-forward -n verify service/my-release-milvus 19530,";
    assert!(stdout.contains(tunnel), "{stdout}");
    assert_eq!(setup.outcomes(&["--fail-on", "failed"]).0, 0);

    // Without an address, etcd need not be reachable; with an address, it must be.
    let (code, stdout, _) = run(&mut setup.verify(&without_milvus));
    assert!(
        code == 0 && stdout.contains("skipped  sessions"),
        "{stdout}"
    );
    let away = ["--milvus", "none", "--etcd", "http://127.0.0.1:9"];
    let (code, stdout, _) = run(&mut setup.verify(&away));
    assert!(
        code == 1 && stdout.contains("unknown  sessions"),
        "{stdout}"
    );

    let (code, checks) = setup.outcomes(&["--milvus", "none", "-t", "2.3.5"]);
    assert!(
        code == 1 && has(&checks, "versions: failed: "),
        "{checks:#?}"
    );
    let (code, _, stderr) = run(&mut setup.verify(&["--record-to", "/dev/null"]));
    assert!(
        code == 3 && stderr.contains("the state was not recorded"),
        "{stderr}"
    );

    setup.put("proxy-999", "a-pod-of-yesterday");
    let (code, checks) = setup.outcomes(&without_milvus);
    assert!(
        code == 1
            && has(
                &checks,
                "sessions: failed: session proxy-999 of a-pod-of-yesterday is of a pod that does not"
            ),
        "{checks:#?}"
    );
    setup.put("rootcoord", "a-pod-of-yesterday");
    let (_, checks) = setup.outcomes(&without_milvus);
    assert!(has(&checks, "sessions: failed: "), "{checks:#?}");
}

#[test]
fn an_unhealthy_release_fails_the_verification() {
    let setup = SilentRelease::start();
    let roll = &setup.roll;
    let proxy = roll.deployment(NAMESPACE, "proxy")["metadata"]["name"].clone();
    let proxy = format!("deployment/{}", proxy.as_str().unwrap());
    let image = "proxy=milvusdb/milvus:v2.3.5-never-ready";
    expect_success(
        roll.cluster
            .kubectl(["set", "image", &proxy, image, "-n", NAMESPACE]),
    );
    let broken = || {
        let (code, checks) = setup.outcomes(&["--milvus", "none"]);
        code == 1 && has(&checks, "workloads: failed: ") && has(&checks, "versions: failed: ")
    };
    assert!(
        wait_until(DEADLINE, broken),
        "{:?}",
        setup.outcomes(&["--milvus", "none"])
    );

    let (code, _, stderr) = run(guard()
        .args(["verify", "-i", "other", "-n", NAMESPACE, "--kubeconfig"])
        .arg(roll.cluster.kubeconfig()));
    assert!(
        code == 3 && stderr.contains("Milvus other does not exist"),
        "{stderr}"
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.json");
    let record = r#"{"schemaVersion": "guard.milvus.io/verification-record/v1", "release": "other",
        "namespace": "verify", "at": "2026-01-01T00:00:00Z", "version": null, "collections": []}"#;
    std::fs::write(&file, record).unwrap();
    let (code, _, stderr) = run(setup.verify(&["--record"]).arg(&file));
    assert!(
        code == 2 && stderr.contains("it is of release other"),
        "{stderr}"
    );
}

/// The state during a run is not the state before it. A Job that resumes records again.
#[test]
fn while_a_run_is_in_progress_an_earlier_record_is_kept() {
    let setup = SilentRelease::start();
    let cluster = &setup.roll.cluster;
    let verify = |more: &[&str]| {
        let without_milvus = ["--milvus", "none", "--etcd", &setup.etcd.endpoint()];
        run(setup.verify(&without_milvus).args(more))
    };
    let (code, _, stderr) = verify(&["--record", "configmap/before"]);
    assert!(
        code == 2 && stderr.contains("ConfigMap before: there is no record"),
        "{stderr}"
    );
    let (code, _, stderr) = verify(&["--record", "configmap/before", "--fail-on", "failed"]);
    assert!(
        code == 0 && stderr.contains("ConfigMap before: there is no record"),
        "{stderr}"
    );
    cluster.apply(&format!(
        r#"{{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {{"name": "run-1", "namespace": "{NAMESPACE}"}},
        "spec": {{"kind": "Rolling", "release": "{RELEASE}", "namespace": "{NAMESPACE}", "from": "2.3.2", "to": "2.3.5", "plan": [],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}}}}"#
    ));
    let in_progress = format!("run {NAMESPACE}/run-1 is in progress");
    let (code, _, stderr) = verify(&["--record-to", "configmap/before"]);
    assert!(code == 3 && stderr.contains(&in_progress), "{stderr}");
    let (code, _, stderr) = verify(&["--record-to", "configmap/before", "--fail-on", "never"]);
    assert!(code == 0 && stderr.contains(&in_progress), "{stderr}");

    let record = json!({"schemaVersion": "guard.milvus.io/verification-record/v1", "release": RELEASE, "namespace": NAMESPACE,
        "at": "2026-01-01T00:00:00Z", "version": "2.3.2", "collections": []})
    .to_string();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "before", "namespace": NAMESPACE},
        "data": {"record.json": record}});
    cluster.apply(&map.to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("before.json");
    std::fs::write(&file, &record).unwrap();
    for place in ["configmap/before", file.to_str().unwrap()] {
        let (_, _, stderr) = verify(&["--record-to", place]);
        assert!(
            stderr.contains("the record of 2026-01-01T00:00:00Z in"),
            "{stderr}"
        );
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/before");
    assert_eq!(cluster.get_json(&path)["data"]["record.json"], record);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), record);
}
