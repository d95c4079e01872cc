//! Nodes: in parallel, reached from outside, and what remains after a test is killed. Root only:
//! `make test-node`.

#![expect(
    clippy::expect_used,
    reason = "functions that tests share fail the test as well"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use milvus_guard_testbed::{Node, wait_for};

/// Makes a copy of this test executable play the test that is killed.
const PLAY: &str = "TESTBED_PLAY_THE_KILLED_NODE";
const MARK: &str = "node logs to ";

/// For the test below: starts a node with a pod, prints its directory, waits to be killed.
#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn play_the_killed_node() {
    if env::var_os(PLAY).is_none() {
        return;
    }
    let node = Node::start();
    run_pause(&node);
    writeln!(io::stdout(), "\n{MARK}{}", node.log_path().display()).expect("standard output");
    loop {
        thread::park();
    }
}

/// Runs a pod that does not end, with the image of every pod's first container.
fn run_pause(node: &Node) {
    node.apply(
        r"
apiVersion: v1
kind: Pod
metadata: {name: pause, namespace: default}
spec:
  containers: [{name: pause, image: 'localhost/testbed-pause:1'}]
",
    );
    node.wait_for_phase("default", "pause", "Running", Duration::from_secs(60));
}

/// Control groups, mounts and programs of this machine with `name` in their path or arguments.
fn traces(name: &str) -> Vec<String> {
    let mut traces = Vec::new();
    for controller in fs::read_dir("/sys/fs/cgroup")
        .expect("control groups")
        .flatten()
    {
        traces.extend(
            [controller.path(), controller.path().join(name)]
                .into_iter()
                .filter(|path| path.ends_with(name) && path.exists()),
        );
    }
    let mut traces: Vec<String> = traces
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    traces.extend(
        mounts
            .lines()
            .filter(|line| line.contains(name))
            .map(str::to_owned),
    );
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        traces.extend(arguments.contains(name).then_some(arguments));
    }
    traces
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn two_nodes_run_in_parallel_and_a_killed_one_leaves_nothing() {
    let mut test = Command::new(env::current_exe().expect("the test executable"))
        .args([
            "--exact",
            "play_the_killed_node",
            "--ignored",
            "--nocapture",
        ])
        .env(PLAY, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a copy of this test");
    let node = Node::start();
    run_pause(&node);
    let mut lines = BufReader::new(test.stdout.take().expect("its output"))
        .lines()
        .map_while(Result::ok);
    let log = lines
        .find_map(|line| line.strip_prefix(MARK).map(str::to_owned))
        .expect("the directory of its node");
    let dir = Path::new(&log)
        .parent()
        .expect("a directory around the log");
    let name = dir.file_name().expect("a name").to_string_lossy();
    assert!(traces(&name).len() > 10, "{:?}", traces(&name));

    // SIGKILL, so nothing in that process is dropped.
    test.kill().expect("the copy is killed");
    test.wait().expect("the copy has ended");
    let deadline = Duration::from_secs(20);
    wait_for("the end of its node", deadline, || traces(&name).is_empty());
    wait_for("the end of its directory", deadline, || !dir.exists());

    assert_eq!(
        node.get_json("/api/v1/namespaces/default/pods/pause")["status"]["phase"],
        "Running"
    );
    let (host, link) = (node.host(), node.link());
    assert!(host.to_string().starts_with("198.18."), "{host}");
    assert!(Path::new("/sys/class/net").join(&link).exists());
    let log = node.log_path().to_owned();
    let name = log
        .parent()
        .and_then(Path::file_name)
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    drop(node);
    assert_eq!(traces(&name), [""; 0]);
    assert!(!Path::new("/sys/class/net").join(link).exists() && !log.exists());
}
