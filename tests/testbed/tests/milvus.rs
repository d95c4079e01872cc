//! Real Milvus servers on this machine, which are large downloads: `make test-milvus`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use milvus_guard_testbed::{Milvus, MilvusStore, MilvusVersion, expect_success, wait_for};

/// Makes a copy of this test executable play the test that is killed.
const PLAY: &str = "TESTBED_PLAY_THE_KILLED_MILVUS_TEST";
const MARK: &str = "Milvus runs as ";

fn ask(server: &Milvus, verb: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/milvus.py");
    expect_success(server.python(&script, [verb, &server.port().to_string()]))
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn data_of_one_version_is_served_by_the_next_one() {
    let server = MilvusStore::new().serve(MilvusVersion::V2_2_16);
    ask(&server, "write");
    let answer = ask(&server, "read");
    assert_eq!(
        answer.trim(),
        r#"{"rows": 2000, "nearest": 7, "distances": [0.0, 4.0, 4.0]}"#
    );
    let pid = server.daemon().pid().expect("it runs");
    let store = server.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let twin = store.twin();

    // Both at the same time: no server uses a fixed port or folder.
    let both = [
        store.serve(MilvusVersion::V2_3_5),
        twin.serve(MilvusVersion::V2_2_16),
    ];
    for server in &both {
        assert_eq!(ask(server, "read"), answer, "{}", server.version().name());
    }
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
fn two_servers_of_2_1_run_in_parallel() {
    let both = [
        MilvusStore::new().serve(MilvusVersion::V2_1_0),
        MilvusStore::new().serve(MilvusVersion::V2_1_0),
    ];
    ask(&both[0], "write");
    assert!(ask(&both[0], "read").contains("2000"));
    // The other server must not have this collection.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/milvus.py");
    let output = both[1].python(&script, ["read", &both[1].port().to_string()]);
    assert!(!output.status.success());
}

/// Only used by the test below: starts a Milvus, prints its pid and folder and waits to be killed.
#[test]
fn play_the_killed_test() {
    if env::var_os(PLAY).is_none() {
        return;
    }
    let server = MilvusStore::new().serve(MilvusVersion::V2_1_0);
    let folder = server
        .daemon()
        .log_path()
        .parent()
        .expect("a folder")
        .to_owned();
    // Not println: libtest would capture it.
    writeln!(
        io::stdout(),
        "\n{MARK}{} in {}",
        server.daemon().pid().expect("a pid"),
        folder.display()
    )
    .expect("stdout");
    loop {
        thread::park();
    }
}

#[test]
#[ignore = "downloads Milvus's servers: make test-milvus"]
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
        .expect("the pid of its Milvus");
    let (pid, folder) = told.split_once(" in ").expect("pid and folder");
    let process = format!("/proc/{pid}");
    assert!(Path::new(&process).exists());

    test.kill().expect("the copy is killed");
    test.wait().expect("the copy has ended");
    wait_for("the end of its Milvus", Duration::from_secs(10), || {
        !Path::new(&process).exists()
    });
    wait_for("the end of its folder", Duration::from_secs(10), || {
        !Path::new(folder).exists()
    });
}
