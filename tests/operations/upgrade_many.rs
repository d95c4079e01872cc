//! Many releases roll at the same time, each in a separate run: the load on the API server, and the
//! memory of each run.
#![allow(clippy::cast_precision_loss)]

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    Chart,
    faults::Faults,
    guard, is_full,
    migration_cluster::Running,
    roll::{RELEASE, Roll},
};
use milvus_guard_testbed::Helm;

/// Components of each release: 2.2 with separate coordinators.
const COMPONENTS: usize = 8;
/// Releases with `MILVUS_GUARD_FULL`: 200 components.
const MANY: usize = 25;
/// Releases without `MILVUS_GUARD_FULL`.
const SAMPLE: usize = 4;
/// Requests for each component, including watches and renewals of the lock.
const MAX_REQUESTS: usize = 100;
/// Peak anonymous memory in KiB: 64 MiB less the code of the released program (35 MB; without
/// optimization the code alone is larger).
const MAX_MEMORY: u64 = (64 - 35) * 1024;

/// Anonymous memory of a process in KiB; `None` if it has ended.
fn held(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

#[test]
fn many_releases_roll_at_once_with_few_requests_and_little_memory() {
    let (roll, chart, folder) = (
        Roll::start(),
        Chart::compact("4.0.31"),
        tempfile::tempdir().unwrap(),
    );
    let namespaces: Vec<String> = (0..if is_full() { MANY } else { SAMPLE })
        .map(|index| format!("many-{index}"))
        .collect();
    for namespace in &namespaces {
        roll.install(Helm::V4, namespace, &chart, "v2.2.9", &[]);
        assert_eq!(roll.deployments(namespace).len(), COMPONENTS);
    }
    let began = Instant::now();
    let mut runs: Vec<(Faults, Running, u64)> = namespaces
        .iter()
        .map(|namespace| {
            // Counts requests, and injects no fault.
            let counter = Faults::start(roll.cluster.kubeconfig(), folder.path());
            let mut command = guard();
            command
                .args(["upgrade", "--yes"])
                .arg("--kubeconfig")
                .arg(counter.kubeconfig());
            command.args([
                "-i",
                RELEASE,
                "-n",
                namespace,
                "-t",
                "2.2.16",
                "--local",
                "--progress",
                "plain",
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            (counter, Running(command.spawn().unwrap()), 0)
        })
        .collect();
    loop {
        let mut working = false;
        for (_, run, highest) in &mut runs {
            *highest = held(run.0.id()).unwrap_or(0).max(*highest);
            working |= !run.has_ended();
        }
        if !working {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(600),
            "the runs do not complete"
        );
        thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    for (namespace, (_, run, _)) in namespaces.iter().zip(&mut runs) {
        assert!(
            run.0.wait().unwrap().success(),
            "{namespace}: {:#}",
            roll.run(namespace)["status"]
        );
        assert!(
            roll.shape(namespace)
                .iter()
                .all(|line| line.contains(":v2.2.16 ")),
            "{namespace}"
        );
    }
    let requests = runs
        .iter()
        .map(|(counter, ..)| counter.requests())
        .max()
        .unwrap();
    let memory = runs.iter().map(|(.., highest)| *highest).max().unwrap();
    eprintln!(
        "{} components of {} releases in {took:.1?}: at most {:.1} requests for a component, {} \
         MiB of its own for a run",
        namespaces.len() * COMPONENTS,
        namespaces.len(),
        requests as f64 / COMPONENTS as f64,
        memory / 1024
    );
    assert!(
        requests <= MAX_REQUESTS * COMPONENTS,
        "{requests} requests for {COMPONENTS} components"
    );
    assert!((1..MAX_MEMORY).contains(&memory), "{memory} KiB");
}
