//! Everything that a test started ends with it, even if the test process is killed and cannot clean
//! up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, io, thread};

use milvus_guard_testbed::{Etcd, wait_for};

/// Makes a copy of this test executable play the test that is killed.
const PLAY: &str = "TESTBED_PLAY_THE_KILLED_TEST";
const MARK: &str = "etcd runs as ";

/// For the test below: starts an etcd, prints its pid and directory, waits to be killed.
#[test]
fn play_the_killed_test() {
    if env::var_os(PLAY).is_none() {
        return;
    }
    let etcd = Etcd::start();
    let dir = etcd
        .data_dir()
        .parent()
        .expect("a directory around the data")
        .to_owned();
    // Not println: libtest would capture it.
    writeln!(
        io::stdout(),
        "\n{MARK}{} in {}",
        etcd.daemon().pid().expect("a pid"),
        dir.display()
    )
    .expect("standard output");
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_test_leaves_nothing() {
    let executable = env::current_exe().expect("the test executable");
    let mut test = Command::new(executable)
        .args(["--exact", "play_the_killed_test", "--nocapture"])
        .env(PLAY, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a copy of this test");
    let mut lines = BufReader::new(test.stdout.take().expect("its output"))
        .lines()
        .map_while(Result::ok);
    let told = lines
        .find_map(|line| line.strip_prefix(MARK).map(str::to_owned))
        .expect("the pid of its etcd");
    let (pid, dir) = told.split_once(" in ").expect("pid and directory");
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists());

    // SIGKILL, so nothing in that process is dropped.
    test.kill().expect("the copy is killed");
    test.wait().expect("the copy has ended");
    wait_for("the end of its etcd", Duration::from_secs(10), || {
        !Path::new(&process).exists()
    });
    wait_for("the end of its directory", Duration::from_secs(10), || {
        !Path::new(dir).exists()
    });
}

#[test]
fn a_panicking_test_leaves_nothing() {
    let (tell, told) = mpsc::channel();
    let test = thread::spawn(move || {
        let etcd = Etcd::start();
        tell.send((etcd.daemon().pid(), etcd.data_dir()))
            .expect("a listener");
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    let (pid, dir) = told.recv().expect("pid and directory");
    assert!(!Path::new(&format!("/proc/{}", pid.expect("a pid"))).exists() && !dir.exists());
}
